//! Evaluations: results of the first stages, and the changes of the open incident that they make. Pure.

use chrono::{DateTime, Utc};

use super::fingerprint::FailureFingerprint;
use crate::incident::{Decision, DecisionReason, Ending, Event, Incident};
use crate::outcome::{EvidenceKind, Outcome, StepResult};
use crate::scenario::Scenario;

/// Result of the evaluation of one outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evaluation {
    /// Decision to record.
    pub decision: Decision,
    /// Whether the run was bad.
    pub bad: bool,
    /// Event to notify, with the current incident. A resolved incident is stored nowhere else.
    pub event: Option<(Event, Incident)>,
}

/// A bad run of an open incident.
#[derive(Debug)]
pub struct Failure<'a> {
    /// Failure fingerprint of the run.
    pub cause: FailureFingerprint,
    /// Quick hash of the values behind the fingerprint.
    pub print: u64,
    /// Scenario of the run.
    pub scenario: &'a Scenario,
    /// Start of the run.
    pub began: DateTime<Utc>,
}

/// Ends an open incident because its subject is no longer monitored.
pub fn ended(open: &mut Option<Incident>, ending: Ending, now: DateTime<Utc>) -> Option<Evaluation> {
    let incident = open.as_mut()?;
    incident.resolved_at = Some(now);
    incident.ending = Some(ending);
    incident.unwatched = None;
    let why = if ending == Ending::Paused { DecisionReason::Paused } else { DecisionReason::Removed };
    let decision = Decision {
        subject: incident.subject.clone(),
        reason: why,
        detail: ending.meaning().into(),
        run: None,
        at: now,
    };
    Some(Evaluation { decision, bad: false, event: take_event(open, Event::Resolved) })
}

/// Ends an open incident on behalf of a person.
pub fn closed(open: &mut Option<Incident>, by: &str, now: DateTime<Utc>) -> Option<Evaluation> {
    let incident = open.as_mut()?;
    incident.resolved_at = Some(now);
    incident.ending = Some(Ending::ByHand);
    incident.ending_reason = Some(by.to_owned());
    let detail = format!("resolved by hand by {by}");
    let decision =
        Decision { subject: incident.subject.clone(), reason: DecisionReason::ByHand, detail, run: None, at: now };
    Some(Evaluation { decision, bad: false, event: take_event(open, Event::Resolved) })
}

/// Returns an event of the open incident for its notification. A resolved incident is taken out of `open`.
pub fn take_event(open: &mut Option<Incident>, event: Event) -> Option<(Event, Incident)> {
    let incident = open.as_mut()?;
    incident.events += 1;
    let incident = if incident.is_open() { incident.clone() } else { open.take()? };
    Some((event, incident))
}

/// Updates an open incident with a bad run.
pub fn note_bad_run(incident: &mut Incident, outcome: &Outcome) {
    incident.bad_runs += 1;
    incident.verdict = outcome.verdict;
    incident.last_run = outcome.run;
    incident.reason = outcome.reason;
    incident.unwatched = None;
    let step = outcome.deciding_step();
    keep(&mut incident.target, step.and_then(target_of));
    if incident.message != outcome.message {
        incident.message.clone_from(&outcome.message);
    }
    let difference = outcome.differences.first().map(|difference| &difference.text);
    if incident.difference.as_ref() != difference {
        incident.difference = difference.cloned();
    }
    keep(&mut incident.step, step.map(|step| step.name.as_str()));
    keep(&mut incident.place, step.map(|step| step.place.as_str()));
    let pictures = || outcome.evidence.iter().rev().filter(|piece| piece.kind == EvidenceKind::Screenshot);
    let picture = pictures().find(|picture| picture.step == outcome.failed_step).or_else(|| pictures().next());
    keep(&mut incident.screenshot, picture.map(|picture| picture.path.as_str()));
}

/// Returns the URL of a step.
fn target_of(step: &StepResult) -> Option<&str> {
    let url = match (&step.http, &step.page) {
        (Some(http), _) => http.hops.last().map_or(http.url.as_str(), |hop| hop.url.as_str()),
        (None, Some(page)) => page.url.as_str(),
        (None, None) => step.name.split_whitespace().find(|word| word.contains("://"))?,
    };
    Some(url.split(['?', '#']).next().unwrap_or(url))
}

/// Replaces a value only if it changed, because most bad runs resemble the one before and nothing has to be copied.
fn keep(known: &mut Option<String>, now: Option<&str>) {
    if known.as_deref() != now {
        *known = now.map(ToOwned::to_owned);
    }
}
