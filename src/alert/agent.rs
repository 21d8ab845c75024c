//! The agent's own incident: when so much could not be tested that it must be its own fault. Pure.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::machine::{Judgement, closed, ended, note_bad_run, tell};
use super::timers::{Timer, Timers};
use crate::incident::{Decision, Ending, Event, Incident, Subject, Why};
use crate::names::Reason;
use crate::outcome::{Outcome, RunId, Verdict};
use crate::secret::Masked;

/// Of an agent's incident the message says how much could not be tested.
fn note_untested(incident: &mut Incident, outcome: &Outcome, detail: &str) {
    note_bad_run(incident, outcome);
    let detail = Masked::own_words(detail);
    incident.message = Some(match &outcome.message {
        Some(message) => detail.followed_by(": ", message),
        None => detail,
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

/// How long something must be wrong with the files before anyone is told: an editor, a checkout or a mount may still be
/// at it.
const TROUBLE_GRACE: TimeDelta = TimeDelta::seconds(15);

/// Something that is wrong with the agent itself until it is taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Trouble {
    since: DateTime<Utc>,
    /// For people: what is wrong, where, and what follows.
    message: String,
    /// Whether people were told.
    told: bool,
}

/// What is remembered of the agent itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AgentWatch {
    /// When each scenario was last unknown, within the window.
    recent: BTreeMap<String, DateTime<Utc>>,
    last_run: Option<RunId>,
    openings: u64,
    /// The incident that is open.
    pub open: Option<Incident>,
    /// Its incident was resolved by hand: unknown runs open none until five minutes had none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    closed: bool,
    /// What could not be tested, for as long as it counts.
    #[serde(default)]
    untested: Option<Masked>,
    /// What else is wrong, by what it is about.
    #[serde(default)]
    troubles: BTreeMap<String, Trouble>,
    /// When the last of these was taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    settled_at: Option<DateTime<Utc>>,
}

/// What time brings about.
#[derive(Debug)]
pub enum Ticked {
    /// The incident opens or resolves.
    Judged(Box<Judgement>),
    /// It is open already, and this is wrong as well.
    Also(String),
}

impl Timers for AgentWatch {
    fn timers(&mut self, visit: &mut dyn FnMut(Timer<'_>)) {
        self.recent.values_mut().for_each(|at| visit(Timer::Since(at)));
        self.troubles.values_mut().for_each(|trouble| visit(Timer::Since(&mut trouble.since)));
        self.settled_at.iter_mut().for_each(|at| visit(Timer::Since(at)));
        self.open.timers(visit);
    }
}

impl AgentWatch {
    /// The state of a subject of which nothing is known but the incident that is open.
    pub fn adopted(incident: Incident) -> Self {
        let settled_at = Some(incident.opened_at);
        Self { openings: incident.opening, open: Some(incident), settled_at, ..Self::default() }
    }

    /// Something is wrong with the agent itself, or no longer: `about` says what it is about, `message` what is wrong.
    /// Gives whether something changed. [`AgentWatch::tick`] makes an incident of it.
    pub fn trouble(&mut self, about: &str, message: Option<String>, now: DateTime<Utc>) -> bool {
        let changed = match (self.troubles.get_mut(about), message) {
            (None, None) => false,
            (Some(_), None) => {
                self.settled_at = Some(now);
                self.troubles.remove(about).is_some()
            }
            (Some(known), Some(message)) if known.message == message => false,
            (Some(known), Some(message)) => {
                known.message = message;
                true
            }
            (None, Some(message)) => {
                self.troubles.insert(about.to_owned(), Trouble { since: now, message, told: false });
                true
            }
        };
        if changed {
            self.describe();
        }
        changed
    }

    /// Puts all that is wrong into the message of the incident that is open.
    fn describe(&mut self) {
        let Some(open) = &mut self.open else { return };
        let told = self.troubles.values().filter(|trouble| trouble.told);
        let told = told.map(|trouble| Masked::own_words(&trouble.message));
        let all = self.untested.iter().cloned().chain(told).reduce(|all, next| all.followed_by("; ", &next));
        if all.is_some() {
            open.message = all;
        }
    }

    /// When a trouble is to be told.
    fn due_at(&self) -> Option<DateTime<Utc>> {
        self.troubles.values().filter(|trouble| !trouble.told).map(|trouble| trouble.since + TROUBLE_GRACE).min()
    }

    /// When [`AgentWatch::tick`] has something to do next.
    pub fn next(&self) -> Option<DateTime<Utc>> {
        [self.due_at(), self.quiet_at()].into_iter().flatten().min()
    }

    /// Advances by an outcome: `in_a_row` is how often its scenario was unknown in a row by now, `scenarios` how
    /// many there are.
    pub fn advance(&mut self, outcome: &Outcome, in_a_row: u32, scenarios: usize) -> Option<Judgement> {
        if !counts_against_agent(outcome) || self.last_run == Some(outcome.run) {
            return None;
        }
        self.last_run = Some(outcome.run);
        let now = outcome.ended_at;
        self.closed &= self.recent.values().any(|at| now - *at < AGENT_WINDOW);
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
            self.untested.clone_from(&open.message);
            self.describe();
            return Some(Judgement { decision: decision(Why::Repeat), bad: true, told: None });
        }
        if self.closed || in_a_row < AGENT_IN_A_ROW && self.recent.len() < tenth {
            return None;
        }
        self.openings += 1;
        let mut incident = Incident {
            name: format!("wachta at {}", outcome.location),
            kind: "agent".into(),
            ..Incident::opened(subject.clone(), self.openings, outcome)
        };
        note_untested(&mut incident, outcome, &detail);
        self.untested.clone_from(&incident.message);
        self.open = Some(incident);
        let told = tell(&mut self.open, Event::Opened);
        Some(Judgement { decision: decision(Why::Opened), bad: true, told })
    }

    /// When an open incident resolves if nothing more happens.
    fn quiet_at(&self) -> Option<DateTime<Utc>> {
        let open = self.open.as_ref().filter(|_| self.troubles.is_empty())?;
        // What opened for another reason than runs ends with that.
        Some(self.recent.values().max().map_or(self.settled_at.unwrap_or(open.opened_at), |last| *last + AGENT_WINDOW))
    }

    /// Opens the incident for what has been wrong for a while, and resolves it after five minutes without a counted
    /// unknown outcome, once nothing else is wrong.
    pub fn tick(&mut self, location: &str, now: DateTime<Utc>) -> Option<Ticked> {
        if self.due_at().is_some_and(|at| at <= now) {
            return Some(self.tell_trouble(location, now));
        }
        if self.quiet_at().is_none_or(|at| now < at) {
            return None;
        }
        self.untested = None;
        self.recent.clear();
        let open = self.open.as_mut()?;
        open.resolved_at = Some(now);
        let decision = Decision {
            subject: open.subject.clone(),
            why: Why::Resolved,
            detail: "five minutes in which everything could be tested, and nothing else is wrong".into(),
            run: None,
            at: now,
        };
        Some(Ticked::Judged(Box::new(Judgement { decision, bad: false, told: tell(&mut self.open, Event::Resolved) })))
    }

    fn tell_trouble(&mut self, location: &str, now: DateTime<Utc>) -> Ticked {
        let mut news = Vec::new();
        for trouble in self.troubles.values_mut().filter(|trouble| !trouble.told) {
            trouble.told = true;
            news.push(trouble.message.clone());
        }
        let news = news.join("; ");
        if self.open.is_some() {
            self.describe();
            return Ticked::Also(news);
        }
        self.openings += 1;
        let subject = Subject::agent(location);
        self.open = Some(Incident::of_agent(subject.clone(), self.openings, location, now));
        self.describe();
        let decision = Decision { subject, why: Why::Opened, detail: news, run: None, at: now };
        let told = tell(&mut self.open, Event::Opened);
        Ticked::Judged(Box::new(Judgement { decision, bad: true, told }))
    }

    /// A person resolves the incident that is open. What is wrong is not told again unless it changes.
    pub fn close(&mut self, by: &str, now: DateTime<Utc>) -> Option<Judgement> {
        let judgement = closed(&mut self.open, by, now)?;
        self.closed = !self.recent.is_empty();
        self.untested = None;
        Some(judgement)
    }

    /// The location is no longer called so: its incident, if one is open, ends as removed.
    pub fn remove(&mut self, now: DateTime<Utc>) -> Option<Judgement> {
        *self = Self { openings: self.openings, open: self.open.take(), ..Self::default() };
        ended(&mut self.open, Ending::Removed, now)
    }
}
