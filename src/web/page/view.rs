//! Text representations for the templates. Pure; `now` is an argument.

use chrono::{DateTime, TimeDelta, Utc};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::Serialize;
use std::time::Duration;

use super::svg;
use crate::incident::{Incident, Subject};
use crate::names::path;
use crate::outcome::{Outcome, Verdict};
use crate::scenario::{HumanDuration, Scenario};
use crate::secret::Masked;
use crate::store::{DecisionRecord, NotificationRecord, RunSummary};

pub use super::duration::{seconds_text, spent};

/// Characters that must be percent-encoded in a path.
pub(super) const PATH: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'?').add(b'#').add(b'%').add(b'`');

/// Time in readable and in machine-readable form.
#[derive(Debug, Clone, Serialize)]
pub struct TimeView {
    iso: String,
    text: String,
    ago: String,
}

impl TimeView {
    /// Formats a time, including its distance from now.
    pub fn new(at: DateTime<Utc>, now: DateTime<Utc>) -> Self {
        Self {
            iso: at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
            text: at.format("%Y-%m-%d %H:%M:%S UTC").to_string(),
            ago: relative(at - now),
        }
    }
}

/// Formats a time relative to now, such as `12 s ago` or `in 3 min`.
pub fn relative(from_now: TimeDelta) -> String {
    let seconds = from_now.num_seconds();
    let amount = match seconds.abs() {
        0 => return "now".into(),
        s @ 1..60 => format!("{s} s"),
        s @ 60..3600 => format!("{} min", s / 60),
        s @ 3600..172_800 => format!("{} h", s / 3600),
        s => format!("{} d", s / 86_400),
    };
    if seconds < 0 { format!("{amount} ago") } else { format!("in {amount}") }
}

/// Formats a duration in whole seconds.
fn lasted(delta: TimeDelta) -> String {
    HumanDuration(Duration::from_secs(delta.num_seconds().max(0).unsigned_abs())).to_string()
}

/// Returns the path of the page of an incident.
pub fn incident_path(key: &str) -> String {
    format!("{}{}", path::INCIDENT, utf8_percent_encode(key, PATH))
}

/// Run in a table.
#[derive(Debug, Serialize)]
pub struct RunRow {
    run: String,
    scenario: String,
    name: String,
    verdict: &'static str,
    reason: Option<&'static str>,
    message: Option<Masked>,
    step: Option<String>,
    ended: TimeView,
    duration: String,
}

impl RunRow {
    /// Creates the row of a run.
    pub fn new(outcome: &Outcome, now: DateTime<Utc>) -> Self {
        Self {
            run: outcome.run.to_string(),
            scenario: outcome.scenario.to_string(),
            name: outcome.name.clone(),
            verdict: outcome.verdict.as_str(),
            reason: outcome.reason.map(crate::names::Reason::as_str),
            message: outcome.message.clone(),
            step: outcome.deciding_step().map(|step| step.name.clone()),
            ended: TimeView::new(outcome.ended_at, now),
            duration: spent(outcome.duration),
        }
    }
}

/// Sink in a list.
#[derive(Debug, Serialize)]
pub struct SinkRow {
    name: String,
    destination: String,
    waiting: u64,
    oldest: Option<TimeView>,
    failing_since: Option<TimeView>,
    error: Option<(TimeView, String)>,
    refused: Vec<RefusedRow>,
}

#[derive(Debug, Serialize)]
struct RefusedRow {
    scenario: String,
    run: String,
    ended: TimeView,
    reason: String,
}

impl SinkRow {
    /// Creates the row of a sink.
    pub fn new(status: &crate::sink::Status, now: DateTime<Utc>) -> Self {
        let moment = |at: &DateTime<Utc>| TimeView::new(*at, now);
        let refused = status.refused.iter().rev().map(|refused| RefusedRow {
            scenario: refused.about.to_string(),
            run: refused.run.to_string(),
            ended: moment(&refused.at),
            reason: refused.reason.clone(),
        });
        Self {
            name: status.name.to_string(),
            destination: status.destination.clone(),
            waiting: status.waiting,
            oldest: status.oldest.as_ref().map(moment),
            failing_since: status.failing_since.as_ref().map(moment),
            error: status.last_error.as_ref().map(|(at, error)| (moment(at), error.clone())),
            refused: refused.collect(),
        }
    }
}

/// Probe in a table.
#[derive(Debug, Serialize)]
pub struct ProbeRow {
    target: String,
    module: String,
    verdict: &'static str,
    duration: String,
    at: TimeView,
    log: String,
}

impl ProbeRow {
    /// Creates the row of a probe.
    pub fn new(kept: &crate::web::probes::ProbeResult, now: DateTime<Utc>) -> Self {
        let verdict = if kept.success { Verdict::Passed } else { Verdict::Failed };
        Self {
            target: kept.target.clone(),
            module: kept.name.clone(),
            verdict: verdict.as_str(),
            duration: spent(kept.took),
            at: TimeView::new(kept.at, now),
            log: format!("{}?id={}", path::LOGS, kept.id),
        }
    }
}

/// Scenario in the table of all scenarios.
#[derive(Debug, Serialize)]
pub struct ScenarioRow {
    id: String,
    name: String,
    kind: &'static str,
    schedule: String,
    severity: &'static str,
    tags: Vec<String>,
    verdict: Option<&'static str>,
    reason: Option<&'static str>,
    run: Option<String>,
    last: Option<TimeView>,
    duration: Option<String>,
    strip: String,
    next: Option<TimeView>,
    incident: Option<String>,
    #[serde(skip)]
    rank: u8,
}

impl ScenarioRow {
    /// Creates the row of a scenario. Its runs are given newest first.
    pub fn new(scenario: &Scenario, runs: &[RunSummary], incident: Option<&Incident>, now: DateTime<Utc>) -> Self {
        let last = runs.first();
        let points: Vec<svg::Point> = runs
            .iter()
            .rev()
            .map(|run| svg::Point {
                verdict: run.verdict,
                seconds: run.duration.as_secs_f64(),
                at: run.ended_at,
                link: String::new(),
            })
            .collect();
        Self {
            id: scenario.id.to_string(),
            name: scenario.name.clone(),
            kind: scenario.kind.as_str(),
            schedule: scenario.schedule.to_string(),
            severity: scenario.alert.severity.as_str(),
            tags: tags(scenario),
            verdict: last.map(|run| run.verdict.as_str()),
            reason: last.and_then(|run| run.reason).map(crate::names::Reason::as_str),
            run: last.map(|run| run.run.to_string()),
            last: last.map(|run| TimeView::new(run.ended_at, now)),
            duration: last.map(|run| spent(run.duration)),
            strip: svg::strip(&points),
            next: scenario.next_after(now).map(|due| TimeView::new(due, now)),
            incident: incident.map(|incident| incident_path(&incident.dedup_key())),
            rank: match (incident, last.map(|run| run.verdict)) {
                (Some(_), _) => 0,
                (None, Some(Verdict::Failed)) => 1,
                (None, Some(Verdict::Unknown)) => 2,
                (None, Some(Verdict::Degraded)) => 3,
                (None, None) => 4,
                (None, Some(Verdict::Passed)) => 5,
            },
        }
    }

    /// Returns the sort key of the row: worst state first.
    pub fn order(&self) -> (u8, String) {
        (self.rank, self.name.to_lowercase())
    }

    /// Returns the last verdict of the scenario.
    pub fn verdict(&self) -> Option<&'static str> {
        self.verdict
    }
}

/// Formats every tag as `key: value`.
pub fn tags(scenario: &Scenario) -> Vec<String> {
    scenario.tags.iter().map(|(key, value)| format!("{key}: {value}")).collect()
}

/// Incident with its texts.
#[derive(Debug, Serialize)]
pub struct IncidentView {
    key: String,
    path: String,
    subject: String,
    scenario: Option<String>,
    name: String,
    kind: String,
    location: String,
    severity: &'static str,
    open: bool,
    opened: TimeView,
    opened_by: String,
    resolved: Option<TimeView>,
    resolved_by: Option<String>,
    lasted: String,
    verdict: &'static str,
    reason: Option<&'static str>,
    message: Option<Masked>,
    difference: Option<Masked>,
    step: Option<String>,
    place: Option<String>,
    last_run: String,
    bad_runs: u64,
    receivers: Vec<String>,
    tags: Vec<String>,
    target: Option<String>,
    ending: Option<String>,
    unwatched: Option<(TimeView, String)>,
    acknowledged: Option<(String, TimeView, Option<TimeView>)>,
}

impl IncidentView {
    /// Creates the view of an incident at the present time.
    pub fn new(incident: &Incident, now: DateTime<Utc>) -> Self {
        Self {
            key: incident.dedup_key(),
            path: incident_path(&incident.dedup_key()),
            subject: incident.subject.to_string(),
            scenario: incident.subject.scenario().map(ToString::to_string),
            name: incident.name.clone(),
            kind: incident.kind.clone(),
            location: incident.location.clone(),
            severity: incident.severity.as_str(),
            open: incident.is_open(),
            opened: TimeView::new(incident.began(), now),
            opened_by: incident.opened_by.to_string(),
            resolved: incident.resolved_at.map(|at| TimeView::new(at, now)),
            resolved_by: incident.resolved_by.map(|run| run.to_string()),
            lasted: lasted(incident.resolved_at.unwrap_or(now) - incident.began()),
            verdict: incident.verdict.as_str(),
            reason: incident.reason.map(crate::names::Reason::as_str),
            message: incident.message.clone(),
            difference: incident.difference.clone(),
            step: incident.step.clone(),
            place: incident.place.clone(),
            last_run: incident.last_run.to_string(),
            bad_runs: incident.bad_runs,
            receivers: incident.receivers.clone(),
            tags: incident.tags.iter().map(|(key, value)| format!("{key}: {value}")).collect(),
            target: incident.target.clone(),
            ending: incident.ending.map(|ending| match &incident.ending_reason {
                Some(by) => format!("{} by {by}", ending.meaning()),
                None => ending.meaning().to_owned(),
            }),
            unwatched: incident.unwatched.as_ref().map(|it| (TimeView::new(it.since, now), it.reason.clone())),
            acknowledged: incident.acknowledged.as_ref().filter(|_| incident.is_open()).map(|it| {
                (it.author.clone(), TimeView::new(it.at, now), it.until.map(|until| TimeView::new(until, now)))
            }),
        }
    }
}

/// Decision in a table.
#[derive(Debug, Serialize)]
pub struct DecisionRow {
    why: &'static str,
    detail: String,
    first: TimeView,
    last: TimeView,
    count: u64,
    run: Option<String>,
}

impl DecisionRow {
    /// Creates the row of a decision.
    pub fn new(kept: &DecisionRecord, now: DateTime<Utc>) -> Self {
        Self {
            why: kept.decision.reason.as_str(),
            detail: kept.decision.detail.clone(),
            first: TimeView::new(kept.first_at, now),
            last: TimeView::new(kept.decision.at, now),
            count: kept.count,
            run: kept.decision.run.map(|run| run.to_string()),
        }
    }
}

/// Notification in a table, with its delivery status.
#[derive(Debug, Serialize)]
pub struct NotificationRow {
    receiver: String,
    event: &'static str,
    state: String,
    queued: TimeView,
    done: Option<TimeView>,
    problem: Option<String>,
}

impl NotificationRow {
    /// Creates the row of a notification.
    pub fn new(state: &NotificationRecord, now: DateTime<Utc>) -> Self {
        Self {
            receiver: state.notification.receiver.clone(),
            event: state.notification.event.as_str(),
            state: state.state.clone(),
            queued: TimeView::new(state.notification.queued_at, now),
            done: state.done_at.map(|at| TimeView::new(at, now)),
            problem: state.problem.clone(),
        }
    }
}

/// Describes the alert threshold of a scenario in words.
pub fn alert_text(scenario: &Scenario) -> String {
    let alert = &scenario.alert;
    let after = match (alert.after, alert.of) {
        (1, 1) => "one bad run".to_owned(),
        (n, m) if n == m => format!("{n} bad runs in a row"),
        (n, m) => format!("{n} bad of the last {m} runs"),
    };
    let again = match alert.recover_after {
        1 => "one good run".to_owned(),
        n => format!("{n} good runs in a row"),
    };
    let bad: Vec<&str> = alert.verdicts.iter().map(|verdict| verdict.as_str()).collect();
    format!("opens after {after}, resolves after {again}; bad verdicts: {}", bad.join(", "))
}

/// Returns whether an outcome relates to the subject of an incident.
pub fn concerns(outcome: &Outcome, subject: &Subject) -> bool {
    match subject {
        Subject::Agent(_) => outcome.verdict == Verdict::Unknown,
        Subject::Scenario(id) | Subject::Objective(id) => outcome.scenario == *id,
        Subject::Test(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_people_say_them() {
        for (seconds, text) in
            [(0, "now"), (-12, "12 s ago"), (90, "in 1 min"), (-7200, "2 h ago"), (-200_000, "2 d ago")]
        {
            assert_eq!(relative(TimeDelta::seconds(seconds)), text);
        }
    }

    #[test]
    fn durations_have_a_unit_and_three_digits() {
        for (seconds, text) in [
            (0.0, "0 s"),
            (0.0004, "< 1 ms"),
            (0.1234, "123 ms"),
            (1.0, "1 s"),
            (1.234, "1.23 s"),
            (20.0, "20 s"),
            (31.25, "31.2 s"),
            (150.0, "2m30s"),
        ] {
            assert_eq!(seconds_text(seconds), text);
        }
    }

    #[test]
    fn keys_are_safe_in_links() {
        assert_eq!(incident_path("agent/waw 1?:2"), "/incident/agent/waw%201%3F:2");
    }
}
