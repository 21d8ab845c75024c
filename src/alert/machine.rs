//! The state machine of alerting. Pure: state and outcome in, state and decision out.
//!
//! Advancing is idempotent by run id: an outcome that was judged is not judged again.

use std::collections::VecDeque;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::agent::counts_against_agent;
use super::flapping::Flapping;
use super::quorum::Locations;
use super::timers::{Timer, Timers};
use crate::incident::{Decision, Ending, Event, Incident, Subject, Why};
use crate::names::Reason;
use crate::outcome::{EvidenceKind, Outcome, RunId, StepResult, Verdict};
use crate::scenario::{AlertPolicy, Scenario, Severity};

/// What is remembered of a scenario between its runs. Kept in the store, written with each outcome.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Watch {
    /// The last conclusive runs, or rounds of several locations, oldest first, as many as `alert.after` looks at.
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
    /// What each location saw last.
    #[serde(default)]
    pub locations: Locations,
    /// The file that its scenario was last run from. Nothing once the scenario was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Box<str>>,
    /// Its incident was resolved by hand, and it has not been good since: it does not open again before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    closed: Option<String>,
}

/// What is remembered of a conclusive run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mark {
    /// All that was expected held.
    Passed,
    /// It works, but not as it should.
    Degraded,
    /// It does not.
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

    /// Whether it is bad by this policy.
    pub fn is_bad(self, policy: &AlertPolicy) -> bool {
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
    /// Whether the run was bad.
    pub bad: bool,
    /// What receivers are told, with the incident as it is now. One that resolved is nowhere else.
    pub told: Option<(Event, Incident)>,
}

impl Timers for Watch {
    fn timers(&mut self, visit: &mut dyn FnMut(Timer<'_>)) {
        self.looked_at.iter_mut().for_each(|at| visit(Timer::Since(at)));
        self.flapping.timers(visit);
        self.locations.timers(visit);
        self.open.timers(visit);
    }
}

/// Of an incident only the end of its acknowledgement is a timer.
impl Timers for Option<Incident> {
    fn timers(&mut self, visit: &mut dyn FnMut(Timer<'_>)) {
        let acknowledged = self.as_mut().and_then(|open| open.acknowledged.as_mut());
        acknowledged.and_then(|who| who.until.as_mut()).into_iter().for_each(|at| visit(Timer::Due(at)));
    }
}

impl Watch {
    /// The state of a subject of which nothing is known but the incident that is open.
    pub fn adopted(incident: Incident) -> Self {
        Self { openings: incident.opening, open: Some(incident), ..Self::default() }
    }

    /// Advances by an outcome of its scenario. `quorum`: how many locations must agree, where it is not a majority. None
    /// when this run was judged before.
    pub fn advance(&mut self, scenario: &Scenario, outcome: &Outcome, quorum: Option<u32>) -> Option<Judgement> {
        if self.last_run == Some(outcome.run) {
            return None;
        }
        self.last_run = Some(outcome.run);
        if self.source.as_deref() != Some(scenario.source.path.as_str()) {
            self.source = Some(scenario.source.path.as_str().into());
        }
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
        Some(Judgement { bad, ..judgement })
    }

    /// A run that the locations have not voted with yet: all stays as it is.
    fn unmarked(&mut self, policy: &AlertPolicy, outcome: &Outcome, bad: bool, by_vote: bool) -> Judgement {
        let (why, detail) = match &mut self.open {
            Some(open) if by_vote => {
                if bad {
                    note_bad_run(open, outcome);
                }
                (Why::Repeat, open.since())
            }
            None if by_vote => (Why::Count, self.counted(policy).1),
            Some(_) if !bad => (Why::Recovering, self.recovering(policy)),
            _ => (Why::Good, String::new()),
        };
        self.judged(outcome, why, detail, None)
    }

    /// How many of the last were bad, and that in words.
    fn counted(&self, policy: &AlertPolicy) -> (u32, String) {
        let bad = u32::try_from(self.window.iter().filter(|mark| mark.is_bad(policy)).count()).unwrap_or(u32::MAX);
        (bad, format!("{bad} bad of the last {}, {} needed", self.window.len(), policy.after))
    }

    fn recovering(&self, policy: &AlertPolicy) -> String {
        format!("{} good in a row, {} needed", self.good, policy.recover_after)
    }

    /// A run that counts, or a round of several locations. `location` is that of the incident if one opens.
    fn marked(&mut self, scenario: &Scenario, outcome: &Outcome, mark: Mark, location: &str) -> Judgement {
        let policy = &scenario.alert;
        self.window.push_back(mark);
        while self.window.len() > policy.of as usize {
            self.window.pop_front();
        }
        match mark {
            mark if mark.is_bad(policy) => self.bad(scenario, outcome, location),
            // Neither bad nor good: no step towards an incident, and none out of it.
            Mark::Failed => {
                self.good = 0;
                let detail = "failed runs are not in `alert.verdicts`".to_owned();
                self.judged(outcome, Why::Ignored, detail, None)
            }
            _ => self.good(policy, outcome),
        }
    }

    /// Whether its incident is open, or its last conclusive run was bad.
    pub fn is_down(&self, policy: &AlertPolicy) -> bool {
        self.open.is_some() || self.window.back().is_some_and(|mark| mark.is_bad(policy))
    }

    fn bad(&mut self, scenario: &Scenario, outcome: &Outcome, location: &str) -> Judgement {
        self.good = 0;
        let policy = &scenario.alert;
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
        if let Some(by) = &self.closed {
            let detail = format!("resolved by hand by {by}; stays so until it was good");
            return self.judged(outcome, Why::ByHand, detail, None);
        }
        let (bad, detail) = self.counted(policy);
        if bad < policy.after {
            return self.judged(outcome, Why::Count, detail, None);
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
        self.judged(outcome, Why::Opened, detail, Some(Event::Opened))
    }

    fn good(&mut self, policy: &AlertPolicy, outcome: &Outcome) -> Judgement {
        self.good = self.good.saturating_add(1);
        if self.closed.take().is_some() {
            self.window.clear();
        }
        if self.open.is_none() {
            return self.judged(outcome, Why::Good, String::new(), None);
        }
        let detail = self.recovering(policy);
        if self.good < policy.recover_after {
            return self.judged(outcome, Why::Recovering, detail, None);
        }
        if let Some(open) = &mut self.open {
            open.resolved_at = Some(outcome.ended_at);
            open.resolved_by = Some(outcome.run);
        }
        // What led to the incident that is over must not help to open the next one.
        self.window.clear();
        self.judged(outcome, Why::Resolved, detail, Some(Event::Resolved))
    }

    /// A person resolves the incident that is open.
    pub fn close(&mut self, by: &str, now: DateTime<Utc>) -> Option<Judgement> {
        let judgement = closed(&mut self.open, by, now)?;
        self.closed = Some(by.to_owned());
        self.good = 0;
        Some(judgement)
    }

    /// The scenario was removed or paused: its incident, if one is open, ends so.
    pub fn remove(&mut self, ending: Ending, now: DateTime<Utc>) -> Option<Judgement> {
        self.source = None;
        self.closed = None;
        let judgement = ended(&mut self.open, ending, now)?;
        self.good = 0;
        self.unknown = 0;
        self.window.clear();
        self.locations = Locations::default();
        Some(judgement)
    }

    fn judged(&mut self, outcome: &Outcome, why: Why, detail: String, event: Option<Event>) -> Judgement {
        let subject = Subject::from(&outcome.scenario);
        let decision = Decision { subject, why, detail, run: Some(outcome.run), at: outcome.ended_at };
        Judgement { decision, bad: false, told: event.and_then(|event| tell(&mut self.open, event)) }
    }
}

/// Ends an incident that is open because nobody looks any longer.
pub fn ended(open: &mut Option<Incident>, ending: Ending, now: DateTime<Utc>) -> Option<Judgement> {
    let incident = open.as_mut()?;
    incident.resolved_at = Some(now);
    incident.ending = Some(ending);
    incident.unwatched = None;
    let why = if ending == Ending::Paused { Why::Paused } else { Why::Removed };
    let decision =
        Decision { subject: incident.subject.clone(), why, detail: ending.meaning().into(), run: None, at: now };
    Some(Judgement { decision, bad: false, told: tell(open, Event::Resolved) })
}

/// Ends an incident that is open because a person says so.
pub fn closed(open: &mut Option<Incident>, by: &str, now: DateTime<Utc>) -> Option<Judgement> {
    let incident = open.as_mut()?;
    incident.resolved_at = Some(now);
    incident.ending = Some(Ending::ByHand);
    incident.ending_reason = Some(by.to_owned());
    let detail = format!("resolved by hand by {by}");
    let decision = Decision { subject: incident.subject.clone(), why: Why::ByHand, detail, run: None, at: now };
    Some(Judgement { decision, bad: false, told: tell(open, Event::Resolved) })
}

/// An event of the incident that is open, as it is told. One that has resolved is taken out.
pub fn tell(open: &mut Option<Incident>, event: Event) -> Option<(Event, Incident)> {
    let incident = open.as_mut()?;
    incident.events += 1;
    let incident = if incident.is_open() { incident.clone() } else { open.take()? };
    Some((event, incident))
}

/// A bad run of an incident that is open.
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

/// The URL that a step was about.
fn target_of(step: &StepResult) -> Option<&str> {
    let url = match (&step.http, &step.page) {
        (Some(http), _) => http.hops.last().map_or(http.url.as_str(), |hop| hop.url.as_str()),
        (None, Some(page)) => page.url.as_str(),
        (None, None) => step.name.split_whitespace().find(|word| word.contains("://"))?,
    };
    Some(url.split(['?', '#']).next().unwrap_or(url))
}

/// One bad run is mostly like the one before: what is the same is not copied.
fn keep(known: &mut Option<String>, now: Option<&str>) {
    if known.as_deref() != now {
        *known = now.map(ToOwned::to_owned);
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
