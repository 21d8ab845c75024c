//! State machine of alerting. Pure: state and outcome in, state and decision out.
//!
//! Idempotent by run id: an outcome that was already evaluated is ignored.

use std::collections::VecDeque;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::flapping::Flapping;
use super::quorum::LocationVotes;
use super::timers::{Timer, Timers};
use crate::incident::{Decision, DecisionReason, Ending, Event, Incident, Subject};
use crate::names::Reason;
use crate::outcome::{EvidenceKind, Outcome, RunId, StepResult, Verdict};
use crate::scenario::{AlertPolicy, Scenario, Severity};

pub use super::conclusive_verdict::ConclusiveVerdict;

/// Alert state of a scenario between its runs, stored with each outcome.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AlertState {
    /// Last conclusive runs, or rounds of several locations, oldest first. The length is the m of `alert.after`.
    window: VecDeque<ConclusiveVerdict>,
    /// Number of consecutive good runs.
    good: u32,
    /// Number of consecutive unknown runs that count against the agent.
    pub unknown: u32,
    /// Last evaluated run.
    last_run: Option<RunId>,
    /// Number of incidents so far.
    openings: u64,
    /// The open incident.
    pub open: Option<Incident>,
    /// Start of the last conclusive run.
    #[serde(default)]
    pub looked_at: Option<DateTime<Utc>>,
    /// History of openings and resolutions.
    #[serde(default)]
    pub flapping: Flapping,
    /// Last conclusive verdict of each location.
    #[serde(default)]
    pub locations: LocationVotes,
    /// File of the scenario at its last run. Absent once the scenario was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Box<str>>,
    /// Author and reason if the incident was resolved by hand and there was no good run since. No incident opens before
    /// that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    closed: Option<String>,
}

/// Result of the evaluation of one outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evaluation {
    /// Decision to record.
    pub decision: Decision,
    /// Whether the run was bad.
    pub bad: bool,
    /// Event to notify, with the current incident. A resolved incident is stored nowhere else.
    pub told: Option<(Event, Incident)>,
}

impl Timers for AlertState {
    fn timers(&mut self, visit: &mut dyn FnMut(Timer<'_>)) {
        self.looked_at.iter_mut().for_each(|at| visit(Timer::Since(at)));
        self.flapping.timers(visit);
        self.locations.timers(visit);
        self.open.timers(visit);
    }
}

/// The expiry of an acknowledgement is the only timer of an incident.
impl Timers for Option<Incident> {
    fn timers(&mut self, visit: &mut dyn FnMut(Timer<'_>)) {
        let acknowledged = self.as_mut().and_then(|open| open.acknowledged.as_mut());
        acknowledged.and_then(|who| who.until.as_mut()).into_iter().for_each(|at| visit(Timer::Due(at)));
    }
}

impl AlertState {
    /// Creates the state of a subject of which only the open incident is available.
    pub fn adopted(incident: Incident) -> Self {
        Self { openings: incident.opening, open: Some(incident), ..Self::default() }
    }

    /// Evaluates an outcome of the scenario. `quorum` is the number of locations that must agree, or `None` for a
    /// majority. Returns `None` if this run was already evaluated.
    pub fn advance(&mut self, scenario: &Scenario, outcome: &Outcome, quorum: Option<u32>) -> Option<Evaluation> {
        if self.last_run == Some(outcome.run) {
            return None;
        }
        self.last_run = Some(outcome.run);
        if self.source.as_deref() != Some(scenario.source.path.as_str()) {
            self.source = Some(scenario.source.path.as_str().into());
        }
        let policy = &scenario.alert;
        let Some(mark) = ConclusiveVerdict::of(outcome.verdict) else {
            if counts_against_agent(outcome) {
                self.unknown += 1;
            }
            let reason = outcome.reason.map_or("unknown", Reason::as_str);
            let detail = format!("the target could not be tested: {reason}");
            return Some(self.evaluation(outcome, DecisionReason::AgentFault, detail, None));
        };
        self.unknown = 0;
        self.looked_at = Some(outcome.started_at);
        self.locations.report(scenario, outcome, mark);
        let bad = mark.is_bad(policy);
        let judgement = match self.locations.vote(policy, quorum, bad) {
            None => self.marked(scenario, outcome, mark, &outcome.location),
            Some(vote) => {
                let mut judgement = match vote.round {
                    Some(mark) => self.marked(scenario, outcome, mark, &vote.places),
                    None => self.unmarked(policy, outcome, bad, vote.is_bad()),
                };
                vote.explain(&mut judgement.decision);
                judgement
            }
        };
        Some(Evaluation { bad, ..judgement })
    }

    /// Evaluates a run that does not complete a round of the locations, and therefore does not change the window.
    fn unmarked(&mut self, policy: &AlertPolicy, outcome: &Outcome, bad: bool, by_vote: bool) -> Evaluation {
        let (why, detail) = match &mut self.open {
            Some(open) if by_vote => {
                if bad {
                    note_bad_run(open, outcome);
                }
                (DecisionReason::AlreadyOpen, open.since())
            }
            None if by_vote => (DecisionReason::BelowThreshold, self.counted(policy).1),
            Some(_) if !bad => (DecisionReason::Recovering, self.recovering(policy)),
            _ => (DecisionReason::Good, String::new()),
        };
        self.evaluation(outcome, why, detail, None)
    }

    /// Returns the number of bad runs in the window, and a text with it.
    fn counted(&self, policy: &AlertPolicy) -> (u32, String) {
        let bad = u32::try_from(self.window.iter().filter(|mark| mark.is_bad(policy)).count()).unwrap_or(u32::MAX);
        (bad, format!("{bad} bad of the last {}, {} needed", self.window.len(), policy.after))
    }

    fn recovering(&self, policy: &AlertPolicy) -> String {
        format!("{} good in a row, {} needed", self.good, policy.recover_after)
    }

    /// Evaluates a single run or a round of several locations. `location` becomes the location of an incident that
    /// opens.
    fn marked(
        &mut self,
        scenario: &Scenario,
        outcome: &Outcome,
        mark: ConclusiveVerdict,
        location: &str,
    ) -> Evaluation {
        let policy = &scenario.alert;
        self.window.push_back(mark);
        while self.window.len() > policy.of as usize {
            self.window.pop_front();
        }
        match mark {
            mark if mark.is_bad(policy) => self.bad(scenario, outcome, location),
            // Neither bad nor good: no step towards an incident, and none out of it.
            ConclusiveVerdict::Failed => {
                self.good = 0;
                let detail = "failed runs are not in `alert.verdicts`".to_owned();
                self.evaluation(outcome, DecisionReason::Ignored, detail, None)
            }
            _ => self.good(policy, outcome),
        }
    }

    /// Returns whether the incident is open or the last conclusive run was bad.
    pub fn is_down(&self, policy: &AlertPolicy) -> bool {
        self.open.is_some() || self.window.back().is_some_and(|mark| mark.is_bad(policy))
    }

    fn bad(&mut self, scenario: &Scenario, outcome: &Outcome, location: &str) -> Evaluation {
        self.good = 0;
        let policy = &scenario.alert;
        let failed = self.window.iter().any(|mark| *mark == ConclusiveVerdict::Failed && mark.is_bad(policy));
        let severity = if failed { policy.severity } else { policy.severity.min(Severity::Warning) };
        if let Some(open) = &mut self.open {
            note_bad_run(open, outcome);
            if severity > open.severity {
                let detail = format!("severity raised from {} to {severity}", open.severity);
                open.severity = severity;
                return self.evaluation(outcome, DecisionReason::SeverityRaised, detail, Some(Event::Updated));
            }
            let detail = open.since();
            return self.evaluation(outcome, DecisionReason::AlreadyOpen, detail, None);
        }
        if let Some(by) = &self.closed {
            let detail = format!("resolved by hand by {by}; no new incident before a good run");
            return self.evaluation(outcome, DecisionReason::ByHand, detail, None);
        }
        let (bad, detail) = self.counted(policy);
        if bad < policy.after {
            return self.evaluation(outcome, DecisionReason::BelowThreshold, detail, None);
        }
        self.openings += 1;
        let mut incident = Incident {
            name: scenario.name.clone(),
            tags: scenario.tags.clone(),
            kind: scenario.kind.as_str().to_owned(),
            severity,
            location: location.to_owned(),
            runbook: policy.runbook.clone(),
            ..Incident::opened(Subject::from(&outcome.scenario), self.openings, outcome)
        };
        note_bad_run(&mut incident, outcome);
        self.open = Some(incident);
        self.evaluation(outcome, DecisionReason::Opened, detail, Some(Event::Opened))
    }

    fn good(&mut self, policy: &AlertPolicy, outcome: &Outcome) -> Evaluation {
        self.good = self.good.saturating_add(1);
        if self.closed.take().is_some() {
            self.window.clear();
        }
        if self.open.is_none() {
            return self.evaluation(outcome, DecisionReason::Good, String::new(), None);
        }
        let detail = self.recovering(policy);
        if self.good < policy.recover_after {
            return self.evaluation(outcome, DecisionReason::Recovering, detail, None);
        }
        if let Some(open) = &mut self.open {
            open.resolved_at = Some(outcome.ended_at);
            open.resolved_by = Some(outcome.run);
        }
        // Runs that led to the resolved incident must not help to open the next one.
        self.window.clear();
        self.evaluation(outcome, DecisionReason::Resolved, detail, Some(Event::Resolved))
    }

    /// Resolves the open incident on behalf of a person.
    pub fn close(&mut self, by: &str, now: DateTime<Utc>) -> Option<Evaluation> {
        let judgement = closed(&mut self.open, by, now)?;
        self.closed = Some(by.to_owned());
        self.good = 0;
        Some(judgement)
    }

    /// Ends the open incident because the scenario was removed or paused.
    pub fn remove(&mut self, ending: Ending, now: DateTime<Utc>) -> Option<Evaluation> {
        self.source = None;
        self.closed = None;
        let judgement = ended(&mut self.open, ending, now)?;
        self.good = 0;
        self.unknown = 0;
        self.window.clear();
        self.locations = LocationVotes::default();
        Some(judgement)
    }

    fn evaluation(
        &mut self,
        outcome: &Outcome,
        why: DecisionReason,
        detail: String,
        event: Option<Event>,
    ) -> Evaluation {
        let subject = Subject::from(&outcome.scenario);
        let decision = Decision { subject, reason: why, detail, run: Some(outcome.run), at: outcome.ended_at };
        Evaluation { decision, bad: false, told: event.and_then(|event| tell(&mut self.open, event)) }
    }
}

/// Returns whether an outcome counts against the agent: any unknown one, except runs lost by a restart, heartbeats that
/// were not seen yet, and time in which the agent was suspended.
pub fn counts_against_agent(outcome: &Outcome) -> bool {
    outcome.verdict == Verdict::Unknown
        && !matches!(outcome.reason, Some(Reason::Lost | Reason::NotSeen | Reason::Asleep))
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
    Some(Evaluation { decision, bad: false, told: tell(open, Event::Resolved) })
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
    Some(Evaluation { decision, bad: false, told: tell(open, Event::Resolved) })
}

/// Returns an event of the open incident for its notification. A resolved incident is taken out of `open`.
pub fn tell(open: &mut Option<Incident>, event: Event) -> Option<(Event, Incident)> {
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

#[cfg(test)]
#[path = "state_machine_tests.rs"]
mod tests;
