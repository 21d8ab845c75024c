//! The threshold stage: whether an incident opens, continues or resolves, by n bad of the last m runs, or rounds of
//! several locations. Pure.

use std::collections::VecDeque;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::alert::conclusive_verdict::ConclusiveVerdict;
use crate::alert::evaluation::{Evaluation, closed, ended, note_bad_run, take_event};
use crate::incident::{Decision, DecisionReason, Ending, Event, Incident, Subject};
use crate::outcome::Outcome;
use crate::scenario::{AlertPolicy, Scenario, Severity};

/// Recent runs of a scenario and its open incident.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Threshold {
    /// Last conclusive runs, or rounds of several locations, oldest first. The length is the m of `alert.after`.
    window: VecDeque<ConclusiveVerdict>,
    /// End of the first bad run since the window had none. `None` if it has none now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bad_since: Option<DateTime<Utc>>,
    /// Number of consecutive good runs.
    good: u32,
    /// Number of incidents so far.
    openings: u64,
    /// The open incident.
    pub open: Option<Incident>,
    /// Author and reason if the incident was resolved by hand and there was no good run since. No incident opens before
    /// that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    closed: Option<String>,
}

impl Threshold {
    /// Creates the state of a scenario of which only the open incident is available.
    pub fn adopted(incident: Incident) -> Self {
        Self { openings: incident.sequence, open: Some(incident), ..Self::default() }
    }

    /// Evaluates a run that does not complete a round of the locations, and therefore does not change the window.
    pub fn within_round(&mut self, policy: &AlertPolicy, outcome: &Outcome, bad: bool, by_vote: bool) -> Evaluation {
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

    /// Evaluates a single run or a round of several locations. `location` becomes the location of an incident that
    /// opens.
    pub fn count(
        &mut self,
        scenario: &Scenario,
        outcome: &Outcome,
        verdict: ConclusiveVerdict,
        location: &str,
    ) -> Evaluation {
        let policy = &scenario.alert;
        self.window.push_back(verdict);
        while self.window.len() > policy.of as usize {
            self.window.pop_front();
        }
        if !self.window.iter().any(|verdict| verdict.is_bad(policy)) {
            self.bad_since = None;
        } else if verdict.is_bad(policy) {
            self.bad_since.get_or_insert(outcome.ended_at);
        }
        match verdict {
            verdict if verdict.is_bad(policy) => self.bad(scenario, outcome, location),
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
        self.open.is_some() || self.window.back().is_some_and(|verdict| verdict.is_bad(policy))
    }

    /// Returns the number of bad runs in the window, and a text with it.
    fn counted(&self, policy: &AlertPolicy) -> (u32, String) {
        let bad = self.window.iter().filter(|verdict| verdict.is_bad(policy)).count();
        let bad = u32::try_from(bad).unwrap_or(u32::MAX);
        (bad, format!("{bad} bad of the last {}, {} needed", self.window.len(), policy.after))
    }

    fn recovering(&self, policy: &AlertPolicy) -> String {
        format!("{} good in a row, {} needed", self.good, policy.recover_after)
    }

    fn bad(&mut self, scenario: &Scenario, outcome: &Outcome, location: &str) -> Evaluation {
        self.good = 0;
        let policy = &scenario.alert;
        let is_failed = |verdict: &ConclusiveVerdict| *verdict == ConclusiveVerdict::Failed && verdict.is_bad(policy);
        let failed = self.window.iter().any(is_failed);
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
            began_at: self.bad_since.filter(|at| *at < outcome.ended_at),
            // The run that opens it is counted below.
            bad_runs: u64::from(bad.saturating_sub(1)),
            ..Incident::opened(Subject::from(&outcome.scenario), self.openings, outcome)
        };
        note_bad_run(&mut incident, outcome);
        self.open = Some(incident);
        self.evaluation(outcome, DecisionReason::Opened, detail, Some(Event::Opened))
    }

    fn good(&mut self, policy: &AlertPolicy, outcome: &Outcome) -> Evaluation {
        self.good = self.good.saturating_add(1);
        if self.closed.take().is_some() {
            self.forget_runs();
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
        self.forget_runs();
        self.evaluation(outcome, DecisionReason::Resolved, detail, Some(Event::Resolved))
    }

    fn forget_runs(&mut self) {
        self.window.clear();
        self.bad_since = None;
    }

    /// Resolves the open incident on behalf of a person.
    pub fn close(&mut self, by: &str, now: DateTime<Utc>) -> Option<Evaluation> {
        let evaluation = closed(&mut self.open, by, now)?;
        self.closed = Some(by.to_owned());
        self.good = 0;
        Some(evaluation)
    }

    /// Ends the open incident because the scenario was removed or paused.
    pub fn remove(&mut self, ending: Ending, now: DateTime<Utc>) -> Option<Evaluation> {
        self.closed = None;
        let evaluation = ended(&mut self.open, ending, now)?;
        self.good = 0;
        self.forget_runs();
        Some(evaluation)
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
        Evaluation { decision, bad: false, event: event.and_then(|event| take_event(&mut self.open, event)) }
    }
}
