//! The evaluate stage: whether an outcome is conclusive. A conclusive outcome passes on to the quorum and the threshold;
//! an unknown one is an agent fault. Pure: state and outcome in, state and decision out.
//!
//! Idempotent by run id: an outcome that was already evaluated is ignored.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::flapping::Flapping;
use super::quorum::LocationVotes;
use super::threshold::Threshold;
use crate::alert::conclusive_verdict::ConclusiveVerdict;
use crate::alert::evaluation::Evaluation;
use crate::alert::timers::{Timer, Timers};
use crate::incident::{Decision, DecisionReason, Ending, Incident, Subject};
use crate::names::Reason;
use crate::outcome::{Outcome, RunId, Verdict};
use crate::scenario::Scenario;

/// Alert state of a scenario between its runs, stored with each outcome: the states of the stages up to flapping.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AlertState {
    /// Number of consecutive unknown runs that count against the agent.
    pub unknown: u32,
    /// Last evaluated run.
    last_run: Option<RunId>,
    /// Start of the last conclusive run.
    #[serde(default)]
    pub looked_at: Option<DateTime<Utc>>,
    /// File of the scenario at its last run. Absent once the scenario was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Box<str>>,
    /// State of the quorum stage: the last conclusive verdict of each location.
    #[serde(default)]
    pub locations: LocationVotes,
    /// State of the threshold stage, with the open incident.
    #[serde(flatten)]
    pub threshold: Threshold,
    /// State of the flapping stage: the history of openings and resolutions.
    #[serde(default)]
    pub flapping: Flapping,
}

impl Timers for AlertState {
    fn timers(&mut self, visit: &mut dyn FnMut(Timer<'_>)) {
        self.looked_at.iter_mut().for_each(|at| visit(Timer::Since(at)));
        self.flapping.timers(visit);
        self.locations.timers(visit);
        self.threshold.open.timers(visit);
    }
}

impl AlertState {
    /// Creates the state of a scenario of which only the open incident is available.
    pub fn adopted(incident: Incident) -> Self {
        Self { threshold: Threshold::adopted(incident), ..Self::default() }
    }

    /// Returns the open incident.
    pub fn open(&self) -> Option<&Incident> {
        self.threshold.open.as_ref()
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
        let Some(verdict) = ConclusiveVerdict::of(outcome.verdict) else {
            return Some(self.agent_fault(outcome));
        };
        self.unknown = 0;
        self.looked_at = Some(outcome.started_at);
        self.locations.report(scenario, outcome, verdict);
        let bad = verdict.is_bad(policy);
        let evaluation = match self.locations.vote(policy, quorum, bad) {
            None => self.threshold.count(scenario, outcome, verdict, &outcome.location),
            Some(vote) => {
                let mut evaluation = match vote.round {
                    Some(verdict) => self.threshold.count(scenario, outcome, verdict, &vote.places),
                    None => self.threshold.within_round(policy, outcome, bad, vote.is_bad()),
                };
                vote.explain(&mut evaluation.decision);
                evaluation
            }
        };
        Some(Evaluation { bad, ..evaluation })
    }

    /// Evaluates an unknown outcome.
    fn agent_fault(&mut self, outcome: &Outcome) -> Evaluation {
        if counts_against_agent(outcome) {
            self.unknown += 1;
        }
        let reason = outcome.reason.map_or("unknown", Reason::as_str);
        let decision = Decision {
            subject: Subject::from(&outcome.scenario),
            reason: DecisionReason::AgentFault,
            detail: format!("the target could not be tested: {reason}"),
            run: Some(outcome.run),
            at: outcome.ended_at,
        };
        Evaluation { decision, bad: false, event: None }
    }

    /// Ends the open incident because the scenario was removed or paused.
    pub fn remove(&mut self, ending: Ending, now: DateTime<Utc>) -> Option<Evaluation> {
        self.source = None;
        let evaluation = self.threshold.remove(ending, now)?;
        self.unknown = 0;
        self.locations = LocationVotes::default();
        Some(evaluation)
    }
}

/// Returns whether an outcome counts against the agent: any unknown one, except runs lost by a restart, heartbeats that
/// were not seen yet, and time in which the agent was suspended.
pub fn counts_against_agent(outcome: &Outcome) -> bool {
    outcome.verdict == Verdict::Unknown
        && !matches!(outcome.reason, Some(Reason::Lost | Reason::NotSeen | Reason::Asleep))
}

#[cfg(test)]
#[path = "evaluate_tests.rs"]
mod tests;
