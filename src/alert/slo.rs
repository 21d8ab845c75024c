//! Incident of a scenario's error budget, from opening to resolving, as determined by the burn rates. Pure.
//!
//! It opens, and its severity is raised, with a failed run. It resolves with a good run once no rule has held for the
//! length of the short window of the rule that held last. After a critical incident that was notified and has resolved,
//! the slow rule would continue to hold: for three days it counts only if it has enough failures since then.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::burn_rate::{BurnRateRule, BurnRateWindows, RULES};
use super::evaluation::{Evaluation, closed, ended, take_event};
use super::timers::{Timer, Timers};
use crate::incident::{Decision, DecisionReason, Ending, Event, Incident, Subject};
use crate::outcome::{Outcome, Verdict};
use crate::scenario::{HumanDuration, Scenario, Severity, Slo};
use crate::secret::Masked;

/// Alert state of an error budget between runs. The counts are not included, because the stored outcomes contain them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SloAlertState {
    /// Number of incidents so far.
    openings: u64,
    /// The open incident.
    pub open: Option<Incident>,
    /// Earliest time at which the incident may resolve.
    until: Option<DateTime<Utc>>,
    /// Whether the incident was resolved by hand while a rule held. It does not open again until no rule holds.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    closed: bool,
    /// Last resolved critical incident, which may be the reason why the slow rule still holds.
    #[serde(rename = "over")]
    resolved_critical: Option<ResolvedCritical>,
}

/// Resolved critical incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct ResolvedCritical {
    /// Time of resolving.
    at: DateTime<Utc>,
    /// Number of failed runs since then.
    failed: u64,
}

impl Timers for SloAlertState {
    fn timers(&mut self, visit: &mut dyn FnMut(Timer<'_>)) {
        self.until.iter_mut().for_each(|at| visit(Timer::Due(at)));
        self.resolved_critical.iter_mut().for_each(|resolved| visit(Timer::Since(&mut resolved.at)));
        self.open.timers(visit);
    }
}

impl SloAlertState {
    /// Creates the state of a subject of which only the open incident is available.
    pub fn adopted(incident: Incident) -> Self {
        Self { openings: incident.sequence, open: Some(incident), ..Self::default() }
    }

    /// Evaluates a conclusive outcome that `burn` has counted. Returns whether the state changed, and the evaluation if
    /// there is one.
    pub fn advance(
        &mut self,
        scenario: &Scenario,
        slo: &Slo,
        burn: &BurnRateWindows,
        outcome: &Outcome,
    ) -> (bool, Option<Evaluation>) {
        let failed = outcome.verdict == Verdict::Failed;
        let until = self.until;
        let mut holds = burn.holds(slo);
        let covered = self.cover(&mut holds, outcome, failed);
        let rule = RULES.iter().zip(holds).find_map(|(rule, holds)| holds.then_some(rule));
        let was_closed = self.closed;
        self.closed &= rule.is_some();
        let rule = rule.filter(|_| !self.closed);
        let covered = covered || was_closed != self.closed;
        let evaluation = match (&self.open, rule) {
            (None, Some(rule)) if failed => Some(self.opens(scenario, slo, burn, rule, outcome)),
            (None, _) => None,
            (Some(open), rule) => {
                let rule = rule.filter(|rule| rule.severity >= open.severity);
                self.goes_on(slo, burn, rule, outcome)
            }
        };
        (covered || evaluation.is_some() || self.until != until, evaluation)
    }

    /// Ignores the slow rule after a resolved critical incident until there are enough failures since then. Returns
    /// whether the state changed.
    fn cover(&mut self, holds: &mut [bool; 3], outcome: &Outcome, failed: bool) -> bool {
        let Some(resolved) = &mut self.resolved_critical else { return false };
        let slow = &RULES[2];
        if outcome.ended_at >= resolved.at + slow.long() {
            self.resolved_critical = None;
            return true;
        }
        resolved.failed += u64::from(failed);
        holds[2] &= resolved.failed >= slow.least;
        failed
    }

    fn opens(
        &mut self,
        scenario: &Scenario,
        slo: &Slo,
        burn: &BurnRateWindows,
        rule: &BurnRateRule,
        outcome: &Outcome,
    ) -> Evaluation {
        self.openings += 1;
        self.resolved_critical = None;
        self.until = Some(outcome.ended_at + rule.short());
        let incident = Incident {
            name: scenario.name.clone(),
            tags: scenario.tags.clone(),
            kind: "slo".into(),
            severity: rule.severity,
            reason: outcome.reason,
            message: Some(Masked::own_words(burn_summary(slo, burn, rule))),
            place: Some(scenario.source.place(scenario.id.span)),
            runbook: scenario.alert.runbook.clone(),
            bad_runs: 1,
            ..Incident::opened(Subject::Objective(scenario.id.value.clone()), self.openings, outcome)
        };
        let detail = burn_summary(slo, burn, rule);
        self.open = Some(incident);
        self.evaluation(outcome, DecisionReason::Opened, detail, Some(Event::Opened))
    }

    /// Updates the open incident. `rule` is the rule that holds with at least the severity of the incident.
    fn goes_on(
        &mut self,
        slo: &Slo,
        burn: &BurnRateWindows,
        rule: Option<&BurnRateRule>,
        outcome: &Outcome,
    ) -> Option<Evaluation> {
        let open = self.open.as_mut()?;
        let failed = outcome.verdict == Verdict::Failed;
        if failed {
            open.bad_runs += 1;
            open.unwatched = None;
            open.last_run = outcome.run;
            open.reason = outcome.reason;
        }
        if let Some(rule) = rule {
            self.until = Some(outcome.ended_at + rule.short());
            let detail = burn_summary(slo, burn, rule);
            if rule.severity > open.severity && failed {
                let before = std::mem::replace(&mut open.severity, rule.severity);
                open.message = Some(Masked::own_words(detail));
                let detail = format!("severity raised from {before} to {}", rule.severity);
                return Some(self.evaluation(outcome, DecisionReason::SeverityRaised, detail, Some(Event::Updated)));
            }
            // A reminder contains the current figures.
            open.message = Some(Masked::own_words(detail.clone()));
            return failed.then(|| self.evaluation(outcome, DecisionReason::AlreadyOpen, detail, None));
        }
        if failed {
            let detail = open.since();
            return Some(self.evaluation(outcome, DecisionReason::AlreadyOpen, detail, None));
        }
        if self.until.is_some_and(|until| outcome.ended_at < until) {
            return None;
        }
        open.resolved_at = Some(outcome.ended_at);
        open.resolved_by = Some(outcome.run);
        let budget = burn.budget(slo);
        let detail = format!(
            "burn rate is back to normal; {} of the error budget of {} is used",
            share(budget.used()),
            window(slo)
        );
        open.message = Some(Masked::own_words(detail.clone()));
        self.resolved_critical =
            (open.severity == Severity::Critical).then_some(ResolvedCritical { at: outcome.ended_at, failed: 0 });
        self.until = None;
        Some(self.evaluation(outcome, DecisionReason::Resolved, detail, Some(Event::Resolved)))
    }

    /// Resolves the open incident on behalf of a person.
    pub fn close(&mut self, by: &str, now: DateTime<Utc>) -> Option<Evaluation> {
        let evaluation = closed(&mut self.open, by, now)?;
        (self.until, self.closed) = (None, true);
        Some(evaluation)
    }

    /// Ends the open incident because the scenario or its objective was removed or paused.
    pub fn remove(&mut self, ending: Ending, now: DateTime<Utc>) -> Option<Evaluation> {
        (self.until, self.resolved_critical, self.closed) = (None, None, false);
        ended(&mut self.open, ending, now)
    }

    fn evaluation(
        &mut self,
        outcome: &Outcome,
        why: DecisionReason,
        detail: String,
        event: Option<Event>,
    ) -> Evaluation {
        let subject = Subject::Objective(outcome.scenario.clone());
        let decision = Decision { subject, reason: why, detail, run: Some(outcome.run), at: outcome.ended_at };
        let bad = outcome.verdict == Verdict::Failed;
        Evaluation { decision, bad, event: event.and_then(|event| take_event(&mut self.open, event)) }
    }
}

/// Describes the failures in both windows, the used share of the budget, and the time of its exhaustion.
fn burn_summary(slo: &Slo, burn: &BurnRateWindows, rule: &BurnRateRule) -> String {
    let [long, short] = burn.counts(rule);
    let budget = burn.budget(slo);
    let rate = long.failed as f64 / long.runs as f64 / slo.allowed();
    let gone = match burn.lasts(slo, rule) {
        None => "it is exhausted".to_owned(),
        Some(left) => format!("at this rate it is exhausted in {}", time(left)),
    };
    format!(
        "{} of {} runs failed within {} ({} of {} within {}), {} the rate that {}% allows; {} of the error budget of {} is used, {gone}",
        long.failed,
        long.runs,
        time(rule.long()),
        short.failed,
        short.runs,
        time(rule.short()),
        times(rate),
        slo.percent,
        share(budget.used()),
        window(slo),
    )
}

fn times(rate: f64) -> String {
    if rate < 10.0 { format!("{rate:.1} times") } else { format!("{rate:.0} times") }
}

/// Formats a share like `7%`. A share above 0 is never shown as 0.
fn share(used: f64) -> String {
    match used * 100.0 {
        percent if percent > 0.0 && percent < 1.0 => "less than 1%".into(),
        percent => format!("{percent:.0}%"),
    }
}

fn window(slo: &Slo) -> HumanDuration {
    HumanDuration(slo.window)
}

fn time(span: TimeDelta) -> HumanDuration {
    // Long durations are rounded to minutes.
    let seconds = span.num_seconds().unsigned_abs();
    let rounded = if seconds >= 3600 { seconds / 60 * 60 } else { seconds };
    HumanDuration(std::time::Duration::from_secs(rounded))
}
