//! The agent's own incident: when so much could not be tested that it must be its own fault. Pure.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::machine::{Judgement, note_bad_run, tell};
use crate::incident::{Decision, Event, Incident, Subject, Why};
use crate::names::Reason;
use crate::outcome::{Outcome, RunId, Verdict};

/// Of an agent's incident the message says how much could not be tested.
fn note_untested(incident: &mut Incident, outcome: &Outcome, detail: &str) {
    note_bad_run(incident, outcome);
    incident.message = Some(match &outcome.message {
        Some(message) => format!("{detail}: {message}"),
        None => detail.to_owned(),
    });
}

/// Whether an unknown outcome speaks against this agent. What was lost by a restart, a heartbeat not seen yet, and
/// time in which the agent was stopped do not.
pub fn counts_against_agent(outcome: &Outcome) -> bool {
    outcome.verdict == Verdict::Unknown
        && !matches!(outcome.reason, Some(Reason::Lost | Reason::NotSeen | Reason::Asleep))
}

/// How long the agent's own unknown outcomes are looked back at, and how long it must be quiet to be well again.
const AGENT_WINDOW: TimeDelta = TimeDelta::minutes(5);
/// So many unknown outcomes of one scenario in a row speak against the agent.
const AGENT_IN_A_ROW: u32 = 3;
/// At least so many scenarios must be unknown for the share of all to count.
const AGENT_AT_LEAST: usize = 3;

/// What is remembered of the agent itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AgentWatch {
    /// When each scenario was last unknown, within the window.
    recent: BTreeMap<String, DateTime<Utc>>,
    last_run: Option<RunId>,
    openings: u64,
    /// The incident that is open.
    pub open: Option<Incident>,
}

impl AgentWatch {
    /// The state of a subject of which nothing is known but the incident that is open.
    pub fn adopted(incident: Incident) -> Self {
        Self { openings: incident.opening, open: Some(incident), ..Self::default() }
    }

    /// Advances by an outcome: `in_a_row` is how often its scenario was unknown in a row by now, `scenarios` how
    /// many there are.
    pub fn advance(&mut self, outcome: &Outcome, in_a_row: u32, scenarios: usize) -> Option<Judgement> {
        if !counts_against_agent(outcome) || self.last_run == Some(outcome.run) {
            return None;
        }
        self.last_run = Some(outcome.run);
        let now = outcome.ended_at;
        self.recent.insert(outcome.scenario.to_string(), now);
        self.recent.retain(|_, at| now - *at < AGENT_WINDOW);
        let subject = Subject::agent(&outcome.location);
        let reason = outcome.reason.map_or("unknown", Reason::as_str);
        let tenth = scenarios.div_ceil(10).max(AGENT_AT_LEAST);
        let detail = if in_a_row >= AGENT_IN_A_ROW {
            format!("{} could not be tested {in_a_row} times in a row: {reason}", outcome.scenario)
        } else {
            format!("{} of {scenarios} scenarios could not be tested within five minutes: {reason}", self.recent.len())
        };
        let decision =
            |why| Decision { subject: subject.clone(), why, detail: detail.clone(), run: Some(outcome.run), at: now };
        if let Some(open) = &mut self.open {
            note_untested(open, outcome, &detail);
            return Some(Judgement { decision: decision(Why::Repeat), bad: true, told: None });
        }
        if in_a_row < AGENT_IN_A_ROW && self.recent.len() < tenth {
            return None;
        }
        self.openings += 1;
        let mut incident = Incident {
            name: format!("wachta at {}", outcome.location),
            kind: "agent".into(),
            ..Incident::opened(subject.clone(), self.openings, outcome)
        };
        note_untested(&mut incident, outcome, &detail);
        self.open = Some(incident);
        let told = tell(&mut self.open, Event::Opened);
        Some(Judgement { decision: decision(Why::Opened), bad: true, told })
    }

    /// When an open incident resolves if nothing more happens.
    pub fn quiet_at(&self) -> Option<DateTime<Utc>> {
        let open = self.open.as_ref()?;
        Some(self.recent.values().max().copied().unwrap_or(open.opened_at) + AGENT_WINDOW)
    }

    /// Resolves the incident after five minutes without a counted unknown outcome.
    pub fn tick(&mut self, now: DateTime<Utc>) -> Option<Judgement> {
        if self.quiet_at().is_none_or(|at| now < at) {
            return None;
        }
        let open = self.open.as_mut()?;
        open.resolved_at = Some(now);
        let decision = Decision {
            subject: open.subject.clone(),
            why: Why::Resolved,
            detail: "five minutes in which everything could be tested".into(),
            run: None,
            at: now,
        };
        Some(Judgement { decision, bad: false, told: tell(&mut self.open, Event::Resolved) })
    }
}
