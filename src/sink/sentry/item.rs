//! Conversion of incidents, runs and errors of the agent to Sentry items. Pure.
//!
//! Item types and their fields are defined in <https://develop.sentry.dev/sdk/data-model/envelopes/> and
//! <https://develop.sentry.dev/sdk/telemetry/check-ins/>. Ids are derived from the content, so that an item that is
//! sent again has the same id.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use sentry_types::protocol::v7::{
    Breadcrumb, ClientSdkInfo, Context, Event, Exception, Frame, Level, Map, MonitorCheckIn, MonitorCheckInStatus,
    MonitorConfig, MonitorIntervalUnit, MonitorSchedule, Request, Stacktrace, TraceContext, Value,
};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::incident::{Change, Incident};
use crate::names::Reason;
use crate::outcome::{Outcome, StepResult, StepStatus, Verdict};
use crate::own_errors::OwnError;
use crate::scenario::{Scenario, Schedule, Severity};

/// Tag with the failure fingerprint of an issue, used to search for the issue.
pub(super) const CAUSE: &str = "wachta.cause";

/// Maximum length of a tag value, in characters.
const MAX_TAG: usize = 200;
/// Maximum length of a monitor name, in characters.
const MAX_SLUG: usize = 50;

/// Configured properties of all events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Labels {
    /// Location of the agent.
    pub location: String,
    /// Environment, unless the scenario has a tag `environment`.
    pub environment: String,
    /// Release of the target, unless the scenario has a tag `release`.
    pub release: Option<String>,
}

/// Hashes a failure fingerprint to 16 hexadecimal digits, because tags cannot contain arbitrary text.
pub(super) fn cause_id(cause: &str) -> String {
    Sha256::digest(cause).iter().take(8).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn id_of(parts: &[&str]) -> Uuid {
    let digest = Sha256::digest(parts.join("\n"));
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    Uuid::from_bytes(bytes)
}

/// Creates the event for an incident that was opened or whose failure fingerprint or severity has changed. `outcome` is
/// the last bad run, if it is known.
pub(super) fn event(change: &Change, outcome: Option<&Outcome>, labels: &Labels) -> Event<'static> {
    let Change { incident, cause, .. } = change;
    let tag = |name: &str| incident.tags.get(name).cloned();
    Event {
        event_id: id_of(&[
            &incident.dedup_key(),
            &incident.opened_by.to_string(),
            change.transition.as_str(),
            &change.at.timestamp_micros().to_string(),
        ]),
        level: match incident.severity {
            Severity::Info => Level::Info,
            Severity::Warning => Level::Warning,
            Severity::Critical => Level::Error,
        },
        fingerprint: Cow::Owned(vec![cause.clone().into()]),
        transaction: Some(incident.subject.to_string()),
        logger: Some("wachta".into()),
        timestamp: change.at.into(),
        server_name: Some(incident.location.clone().into()),
        release: tag("release").or_else(|| labels.release.clone()).map(Into::into),
        environment: Some(tag("environment").unwrap_or_else(|| labels.environment.clone()).into()),
        request: incident
            .target
            .as_deref()
            .and_then(|url| url.parse().ok())
            .map(|url| Request { url: Some(url), ..Request::default() }),
        contexts: Map::from([("trace".into(), trace(incident, outcome))]),
        breadcrumbs: outcome.map(breadcrumbs).unwrap_or_default().into(),
        exception: vec![Exception {
            ty: incident.reason.map_or(incident.verdict.as_str(), Reason::as_str).to_owned(),
            value: incident.message.as_ref().map(ToString::to_string),
            module: Some(incident.name.clone()),
            stacktrace: incident
                .place
                .as_deref()
                .map(|place| Stacktrace { frames: vec![frame(place, incident.step.clone())], ..Stacktrace::default() }),
            ..Exception::default()
        }]
        .into(),
        tags: tags(change),
        extra: extra(incident),
        sdk: Some(Cow::Owned(sdk())),
        ..Event::default()
    }
}

fn sdk() -> ClientSdkInfo {
    ClientSdkInfo {
        name: "wachta".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        integrations: Vec::new(),
        packages: Vec::new(),
    }
}

/// Creates the trace context: the run as the trace, and the deciding step as the span.
fn trace(incident: &Incident, outcome: Option<&Outcome>) -> Context {
    let span = outcome.and_then(Outcome::deciding_step).map(|step| step.span_id.as_str());
    let span = span.and_then(|id| id.parse().ok());
    TraceContext {
        trace_id: incident.last_run.0.simple().to_string().parse().unwrap_or_default(),
        span_id: span.unwrap_or_default(),
        op: Some("wachta.run".into()),
        ..TraceContext::default()
    }
    .into()
}

fn tags(change: &Change) -> Map<String, String> {
    let incident = &change.incident;
    let mut tags: Map<String, String> = incident.tags.iter().map(|(name, value)| (name.clone(), cut(value))).collect();
    for (name, value) in [
        ("wachta.scenario", incident.subject.monitor_id().into_owned()),
        ("wachta.incident", incident.dedup_key()),
        ("wachta.location", incident.location.clone()),
        ("wachta.kind", incident.kind.clone()),
        ("wachta.verdict", incident.verdict.as_str().to_owned()),
        ("wachta.severity", incident.severity.as_str().to_owned()),
        ("wachta.run", incident.last_run.to_string()),
        (CAUSE, cause_id(&change.cause)),
    ] {
        tags.insert(name.to_owned(), cut(&value));
    }
    tags
}

/// Shortens a text to a valid tag value without line breaks.
fn cut(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_TAG).collect()
}

fn extra(incident: &Incident) -> Map<String, Value> {
    let mut extra = Map::from([
        ("opened_at".to_owned(), json!(incident.opened_at)),
        ("bad_runs".to_owned(), json!(incident.bad_runs)),
    ]);
    let optional = [("runbook", &incident.runbook), ("step", &incident.step), ("place", &incident.place)];
    extra.extend(optional.into_iter().filter_map(|(name, text)| Some((name.to_owned(), json!(text.as_ref()?)))));
    extra
}

/// Converts a position `file.yaml:LINE:COLUMN` to a stack frame.
fn frame(place: &str, step: Option<String>) -> Frame {
    let mut parts = place.rsplitn(3, ':');
    let (column, line) = (parts.next(), parts.next());
    let file = parts.next();
    let number = |part: Option<&str>| part.and_then(|part| part.parse().ok());
    Frame {
        function: step,
        filename: Some(file.unwrap_or(place).to_owned()),
        lineno: file.and_then(|_| number(line)),
        colno: file.and_then(|_| number(column)),
        in_app: Some(true),
        ..Frame::default()
    }
}

/// Converts the steps of the run to breadcrumbs.
fn breadcrumbs(outcome: &Outcome) -> Vec<Breadcrumb> {
    let reached = outcome.steps.iter().filter(|step| step.status != StepStatus::Skipped);
    reached.map(|step| breadcrumb(outcome, step)).collect()
}

fn breadcrumb(outcome: &Outcome, step: &StepResult) -> Breadcrumb {
    let mut data = Map::from([("duration".to_owned(), json!(step.duration.as_secs_f64()))]);
    data.insert("place".to_owned(), json!(step.place));
    if let Some(http) = &step.http {
        data.insert("url".to_owned(), json!(http.url));
        data.insert("status_code".to_owned(), json!(http.status));
    } else if let Some(page) = &step.page {
        data.insert("url".to_owned(), json!(page.url));
        data.extend(page.status.map(|status| ("status_code".to_owned(), json!(status))));
    }
    let failure = step.failure.as_ref().map(|failure| failure.message.as_str());
    Breadcrumb {
        timestamp: SystemTime::from(outcome.started_at) + step.offset + step.duration,
        ty: if step.http.is_some() { "http" } else { "default" }.into(),
        category: Some("step".into()),
        level: if step.status == StepStatus::Passed { Level::Info } else { Level::Error },
        message: Some(failure.map_or_else(|| step.name.clone(), |failure| format!("{}: {failure}", step.name))),
        data,
    }
}

/// Creates the event for an error of the agent itself.
pub(super) fn own_error(error: &OwnError, labels: &Labels) -> Event<'static> {
    let kind = if error.is_panic() { "panic" } else { "error" };
    let at = error.at.timestamp_micros().to_string();
    Event {
        event_id: id_of(&[error.target, &error.message, &labels.location, &at]),
        level: if error.is_panic() { Level::Fatal } else { Level::Error },
        fingerprint: Cow::Owned(vec!["wachta".into(), error.target.into(), error.message.clone().into()]),
        logger: Some(error.target.to_owned()),
        timestamp: error.at.into(),
        server_name: Some(labels.location.clone().into()),
        release: Some(concat!("wachta@", env!("CARGO_PKG_VERSION")).into()),
        environment: Some(labels.environment.clone().into()),
        exception: vec![Exception {
            ty: format!("wachta {kind}"),
            value: Some(error.message.clone()),
            module: Some(error.target.to_owned()),
            ..Exception::default()
        }]
        .into(),
        tags: Map::from([("wachta.location".into(), cut(&labels.location)), ("wachta.own".into(), kind.into())]),
        extra: Map::from([("values".into(), json!(error.values)), ("count".into(), json!(error.count))]),
        sdk: Some(Cow::Owned(sdk())),
        ..Event::default()
    }
}

/// Creates the check-in of a run. Returns `None` if the run could not test its target, so that it counts as missed, and
/// if Sentry does not support the schedule, because its intervals are whole minutes.
pub(super) fn check_in(scenario: &Scenario, outcome: &Outcome, labels: &Labels) -> Option<MonitorCheckIn> {
    let status = match outcome.verdict {
        Verdict::Passed | Verdict::Degraded => MonitorCheckInStatus::Ok,
        Verdict::Failed => MonitorCheckInStatus::Error,
        Verdict::Unknown => return None,
    };
    let (schedule, timezone) = match &scenario.schedule {
        Schedule::Every(every) => {
            let minutes = every.as_secs() / 60;
            if minutes == 0 || *every != Duration::from_mins(minutes) {
                return None;
            }
            (MonitorSchedule::Interval { value: minutes, unit: MonitorIntervalUnit::Minute }, None)
        }
        Schedule::Cron { expression, timezone } => {
            (MonitorSchedule::from_crontab(expression).ok()?, Some(timezone.name().to_owned()))
        }
    };
    // The check-in is sent at the end of the run.
    let margin = 1 + (scenario.timeout + scenario.grace).as_secs().div_ceil(60);
    Some(MonitorCheckIn {
        check_in_id: outcome.run.0,
        monitor_slug: slug(&format!("{}-{}", outcome.scenario, outcome.location)),
        status,
        environment: Some(scenario.tags.get("environment").unwrap_or(&labels.environment).clone()),
        duration: Some(outcome.duration.as_secs_f64()),
        monitor_config: Some(MonitorConfig {
            schedule,
            checkin_margin: Some(margin),
            max_runtime: None,
            timezone,
            failure_issue_threshold: Some(scenario.alert.after.into()),
            recovery_threshold: Some(scenario.alert.recover_after.into()),
        }),
    })
}

/// Derives the name of a monitor: lower-case letters, digits, `-` and `_`. A name that must be changed for this gets a
/// number, so that two scenarios never share a monitor.
fn slug(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if name.len() <= MAX_SLUG && name.chars().all(allowed) {
        return name.to_owned();
    }
    let lower = name.to_lowercase();
    let mut plain: String = lower.chars().map(|c| if allowed(c) { c } else { '-' }).take(MAX_SLUG - 9).collect();
    plain.push('-');
    plain.push_str(&cause_id(name)[..8]);
    plain
}
