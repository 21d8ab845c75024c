//! The state machine of alerting. Pure: state and outcome in, state and decision out.
//!
//! Advancing is idempotent by run id: an outcome that was judged is not judged again.

use std::collections::{BTreeMap, VecDeque};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::flapping::Flapping;
use crate::incident::{Decision, Event, Incident, Subject, Why};
use crate::names::Reason;
use crate::outcome::{EvidenceKind, Outcome, RunId, Verdict};
use crate::scenario::{AlertPolicy, Scenario, Severity};

/// What is remembered of a scenario between its runs. Kept in the store, written with each outcome.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Watch {
    /// The last conclusive runs, oldest first, as many as `alert.after` looks at.
    window: VecDeque<Mark>,
    /// Good runs in a row.
    good: u32,
    /// Counted unknown runs in a row.
    pub unknown: u32,
    /// The run that was judged last.
    last_run: Option<RunId>,
    /// How many incidents there were.
    openings: u64,
    /// The incident that is open.
    pub open: Option<Incident>,
    /// When the last conclusive run began.
    #[serde(default)]
    pub looked_at: Option<DateTime<Utc>>,
    /// How its incidents came and went.
    #[serde(default)]
    pub flapping: Flapping,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mark {
    Passed,
    Degraded,
    Failed,
}

impl Mark {
    /// What is remembered of a conclusive run. Whether it was bad is the policy's, which a reload may change.
    fn of(verdict: Verdict) -> Option<Self> {
        match verdict {
            Verdict::Passed => Some(Self::Passed),
            Verdict::Degraded => Some(Self::Degraded),
            Verdict::Failed => Some(Self::Failed),
            Verdict::Unknown => None,
        }
    }

    fn is_bad(self, policy: &AlertPolicy) -> bool {
        let verdict = match self {
            Self::Passed => return false,
            Self::Degraded => Verdict::Degraded,
            Self::Failed => Verdict::Failed,
        };
        policy.verdicts.contains(&verdict)
    }
}

/// What one outcome led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// Why.
    pub decision: Decision,
    /// What receivers are told, with the incident as it is now. One that resolved is nowhere else.
    pub told: Option<(Event, Incident)>,
}

impl Watch {
    /// Advances by an outcome of its scenario. None when this run was judged before.
    pub fn advance(&mut self, scenario: &Scenario, outcome: &Outcome) -> Option<Judgement> {
        if self.last_run == Some(outcome.run) {
            return None;
        }
        self.last_run = Some(outcome.run);
        let policy = &scenario.alert;
        let Some(mark) = Mark::of(outcome.verdict) else {
            if counts_against_agent(outcome) {
                self.unknown += 1;
            }
            let reason = outcome.reason.map_or("unknown", Reason::as_str);
            let detail = format!("the target was not tested: {reason}");
            return Some(self.judged(outcome, Why::OwnFault, detail, None));
        };
        self.unknown = 0;
        self.looked_at = Some(outcome.started_at);
        self.window.push_back(mark);
        while self.window.len() > policy.of as usize {
            self.window.pop_front();
        }
        Some(match mark {
            mark if mark.is_bad(policy) => self.bad(scenario, outcome),
            // Neither bad nor good: no step towards an incident, and none out of it.
            Mark::Failed => {
                self.good = 0;
                let detail = "failed runs are not in `alert.verdicts`".to_owned();
                self.judged(outcome, Why::Ignored, detail, None)
            }
            _ => self.good(policy, outcome),
        })
    }

    /// Whether its incident is open, or its last conclusive run was bad.
    pub fn is_down(&self, policy: &AlertPolicy) -> bool {
        self.open.is_some() || self.window.back().is_some_and(|mark| mark.is_bad(policy))
    }

    fn bad(&mut self, scenario: &Scenario, outcome: &Outcome) -> Judgement {
        self.good = 0;
        let policy = &scenario.alert;
        let bad = u32::try_from(self.window.iter().filter(|mark| mark.is_bad(policy)).count()).unwrap_or(u32::MAX);
        let failed = self.window.iter().any(|mark| *mark == Mark::Failed && mark.is_bad(policy));
        let severity = if failed { policy.severity } else { policy.severity.min(Severity::Warning) };
        if let Some(open) = &mut self.open {
            note_bad_run(open, outcome);
            if severity > open.severity {
                let detail = format!("{} became {severity}", open.severity);
                open.severity = severity;
                return self.judged(outcome, Why::Raised, detail, Some(Event::Updated));
            }
            let detail = open.since();
            return self.judged(outcome, Why::Repeat, detail, None);
        }
        let detail = format!("{bad} bad of the last {}, {} needed", self.window.len(), policy.after);
        if bad < policy.after {
            return self.judged(outcome, Why::Count, detail, None);
        }
        self.openings += 1;
        let mut incident = Incident {
            subject: Subject::from(&outcome.scenario),
            opening: self.openings,
            name: scenario.name.clone(),
            tags: scenario.tags.clone(),
            kind: scenario.kind.as_str().to_owned(),
            severity,
            location: outcome.location.clone(),
            opened_at: outcome.ended_at,
            opened_by: outcome.run,
            resolved_at: None,
            resolved_by: None,
            verdict: outcome.verdict,
            last_run: outcome.run,
            reason: None,
            message: None,
            step: None,
            place: None,
            screenshot: None,
            runbook: policy.runbook.clone(),
            bad_runs: 0,
            events: 0,
            receivers: Vec::new(),
        };
        note_bad_run(&mut incident, outcome);
        self.open = Some(incident);
        self.judged(outcome, Why::Opened, detail, Some(Event::Opened))
    }

    fn good(&mut self, policy: &AlertPolicy, outcome: &Outcome) -> Judgement {
        self.good = self.good.saturating_add(1);
        let Some(open) = &mut self.open else {
            return self.judged(outcome, Why::Good, String::new(), None);
        };
        let detail = format!("{} good in a row, {} needed", self.good, policy.recover_after);
        if self.good < policy.recover_after {
            return self.judged(outcome, Why::Recovering, detail, None);
        }
        open.resolved_at = Some(outcome.ended_at);
        open.resolved_by = Some(outcome.run);
        // What led to the incident that is over must not help to open the next one.
        self.window.clear();
        self.judged(outcome, Why::Resolved, detail, Some(Event::Resolved))
    }

    /// The scenario was removed: its incident, if one is open, resolves.
    pub fn remove(&mut self, now: DateTime<Utc>) -> Option<Judgement> {
        let open = self.open.as_mut()?;
        open.resolved_at = Some(now);
        let decision = Decision {
            subject: open.subject.clone(),
            why: Why::Removed,
            detail: "the scenario is no longer there".into(),
            run: None,
            at: now,
        };
        self.good = 0;
        self.unknown = 0;
        self.window.clear();
        Some(Judgement { decision, told: tell(&mut self.open, Event::Resolved) })
    }

    fn judged(&mut self, outcome: &Outcome, why: Why, detail: String, event: Option<Event>) -> Judgement {
        let subject = Subject::from(&outcome.scenario);
        let decision = Decision { subject, why, detail, run: Some(outcome.run), at: outcome.ended_at };
        Judgement { decision, told: event.and_then(|event| tell(&mut self.open, event)) }
    }
}

/// An event of the incident that is open, as it is told. One that has resolved is taken out.
pub fn tell(open: &mut Option<Incident>, event: Event) -> Option<(Event, Incident)> {
    let incident = open.as_mut()?;
    incident.events += 1;
    let incident = if incident.is_open() { incident.clone() } else { open.take()? };
    Some((event, incident))
}

fn note_bad_run(incident: &mut Incident, outcome: &Outcome) {
    incident.bad_runs += 1;
    incident.verdict = outcome.verdict;
    incident.last_run = outcome.run;
    incident.reason = outcome.reason;
    let step = outcome.deciding_step();
    keep(&mut incident.message, outcome.message.as_deref());
    keep(&mut incident.step, step.map(|step| step.name.as_str()));
    keep(&mut incident.place, step.map(|step| step.place.as_str()));
    let pictures = || outcome.evidence.iter().rev().filter(|piece| piece.kind == EvidenceKind::Screenshot);
    let picture = pictures().find(|picture| picture.step == outcome.failed_step).or_else(|| pictures().next());
    keep(&mut incident.screenshot, picture.map(|picture| picture.path.as_str()));
}

/// One bad run is mostly like the one before: what is the same is not copied.
fn keep(known: &mut Option<String>, now: Option<&str>) {
    if known.as_deref() != now {
        *known = now.map(ToOwned::to_owned);
    }
}

/// Of an agent's incident the message says how much could not be tested.
fn note_untested(incident: &mut Incident, outcome: &Outcome, detail: &str) {
    note_bad_run(incident, outcome);
    incident.message = Some(match &outcome.message {
        Some(message) => format!("{detail}: {message}"),
        None => detail.to_owned(),
    });
}

/// Whether an unknown outcome speaks against this agent. What was lost by a restart, and a heartbeat not seen yet, do not.
fn counts_against_agent(outcome: &Outcome) -> bool {
    outcome.verdict == Verdict::Unknown && !matches!(outcome.reason, Some(Reason::Lost | Reason::NotSeen))
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
            return Some(Judgement { decision: decision(Why::Repeat), told: None });
        }
        if in_a_row < AGENT_IN_A_ROW && self.recent.len() < tenth {
            return None;
        }
        self.openings += 1;
        let mut incident = Incident {
            subject: subject.clone(),
            opening: self.openings,
            name: format!("wachta at {}", outcome.location),
            tags: BTreeMap::new(),
            kind: "agent".into(),
            severity: Severity::Warning,
            location: outcome.location.clone(),
            opened_at: now,
            opened_by: outcome.run,
            resolved_at: None,
            resolved_by: None,
            verdict: outcome.verdict,
            last_run: outcome.run,
            reason: None,
            message: None,
            step: None,
            place: None,
            screenshot: None,
            runbook: None,
            bad_runs: 0,
            events: 0,
            receivers: Vec::new(),
        };
        note_untested(&mut incident, outcome, &detail);
        self.open = Some(incident);
        Some(Judgement { decision: decision(Why::Opened), told: tell(&mut self.open, Event::Opened) })
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
        Some(Judgement { decision, told: tell(&mut self.open, Event::Resolved) })
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
