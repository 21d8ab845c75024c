//! The incident of the agent itself, opened when so many runs are unknown that the agent must be at fault. Pure.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::evaluation::{Evaluation, closed, ended, note_bad_run, take_event};
use super::stages::evaluate::counts_against_agent;
use super::timers::{Timer, Timers};
use crate::incident::{Decision, DecisionReason, Ending, Event, Incident, Subject};
use crate::names::Reason;
use crate::outcome::{Outcome, RunId};
use crate::secret::Masked;

/// Adds an unknown run to the agent's incident, with a message that states how much could not be tested.
fn note_untested(incident: &mut Incident, outcome: &Outcome, detail: &str) {
    note_bad_run(incident, outcome);
    let detail = Masked::own_words(detail);
    incident.message = Some(match &outcome.message {
        Some(message) => detail.followed_by(": ", message),
        None => detail,
    });
}

/// Period in which unknown outcomes are counted, and duration without any after which the incident resolves.
const AGENT_WINDOW: TimeDelta = TimeDelta::minutes(5);
/// Number of consecutive unknown outcomes of one scenario that opens the incident.
const AGENT_IN_A_ROW: u32 = 3;
/// Minimum number of unknown scenarios for their share of all scenarios to open the incident.
const AGENT_AT_LEAST: usize = 3;

/// Minimum duration of a problem with the files before it is notified, because an editor, a checkout or a mount may
/// still be in progress.
const TROUBLE_GRACE: TimeDelta = TimeDelta::seconds(15);

/// Problem with the agent itself, until it is withdrawn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Trouble {
    since: DateTime<Utc>,
    /// Text for people: what is wrong, where, and the consequence.
    message: String,
    /// Whether the problem was notified.
    #[serde(rename = "told")]
    notified: bool,
}

/// Alert state of the agent itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AgentAlertState {
    /// Time of the last unknown outcome of each scenario within the window.
    recent: BTreeMap<String, DateTime<Utc>>,
    last_run: Option<RunId>,
    openings: u64,
    /// The open incident.
    pub open: Option<Incident>,
    /// Whether the incident was resolved by hand. Unknown runs open none until there were five minutes without any.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    closed: bool,
    /// Message about what could not be tested, as long as it counts.
    #[serde(default)]
    untested: Option<Masked>,
    /// Other problems, by topic.
    #[serde(default)]
    troubles: BTreeMap<String, Trouble>,
    /// Time at which the last of these problems was withdrawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    settled_at: Option<DateTime<Utc>>,
}

/// Result of a tick.
#[derive(Debug)]
pub enum Ticked {
    /// The incident opens or resolves.
    Evaluated(Box<Evaluation>),
    /// The incident is already open, and there is a further problem.
    Also(String),
}

impl Timers for AgentAlertState {
    fn timers(&mut self, visit: &mut dyn FnMut(Timer<'_>)) {
        self.recent.values_mut().for_each(|at| visit(Timer::Since(at)));
        self.troubles.values_mut().for_each(|trouble| visit(Timer::Since(&mut trouble.since)));
        self.settled_at.iter_mut().for_each(|at| visit(Timer::Since(at)));
        self.open.timers(visit);
    }
}

impl AgentAlertState {
    /// Creates the state of a subject of which only the open incident is available.
    pub fn adopted(incident: Incident) -> Self {
        let settled_at = Some(incident.opened_at);
        Self { openings: incident.sequence, open: Some(incident), settled_at, ..Self::default() }
    }

    /// Records a problem with the agent itself, or its end if `message` is `None`; `about` is its topic. Returns
    /// whether something changed. [`AgentAlertState::tick`] opens the incident.
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
                self.troubles.insert(about.to_owned(), Trouble { since: now, message, notified: false });
                true
            }
        };
        if changed {
            self.describe();
        }
        changed
    }

    /// Updates the message of the open incident with all problems.
    fn describe(&mut self) {
        let Some(open) = &mut self.open else { return };
        let notified = self.troubles.values().filter(|trouble| trouble.notified);
        let notified = notified.map(|trouble| Masked::own_words(&trouble.message));
        let all = self.untested.iter().cloned().chain(notified).reduce(|all, next| all.followed_by("; ", &next));
        if all.is_some() {
            open.message = all;
        }
    }

    /// Returns the time at which the next problem has to be notified.
    fn due_at(&self) -> Option<DateTime<Utc>> {
        self.troubles.values().filter(|trouble| !trouble.notified).map(|trouble| trouble.since + TROUBLE_GRACE).min()
    }

    /// Returns the time at which [`AgentAlertState::tick`] has to be called next.
    pub fn next(&self) -> Option<DateTime<Utc>> {
        [self.due_at(), self.quiet_at()].into_iter().flatten().min()
    }

    /// Processes an outcome. `in_a_row` is the number of consecutive unknown outcomes of its scenario, including this
    /// one; `scenarios` is the number of all scenarios.
    pub fn advance(&mut self, outcome: &Outcome, in_a_row: u32, scenarios: usize) -> Option<Evaluation> {
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
            format!("{} could not be tested in {in_a_row} consecutive runs: {reason}", outcome.scenario)
        } else {
            format!("{} of {scenarios} scenarios could not be tested within five minutes: {reason}", self.recent.len())
        };
        let decision = |why| Decision {
            subject: subject.clone(),
            reason: why,
            detail: detail.clone(),
            run: Some(outcome.run),
            at: now,
        };
        if let Some(open) = &mut self.open {
            note_untested(open, outcome, &detail);
            self.untested.clone_from(&open.message);
            self.describe();
            return Some(Evaluation { decision: decision(DecisionReason::AlreadyOpen), bad: true, event: None });
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
        let event = take_event(&mut self.open, Event::Opened);
        Some(Evaluation { decision: decision(DecisionReason::Opened), bad: true, event })
    }

    /// Returns the time at which the open incident resolves unless something happens before.
    fn quiet_at(&self) -> Option<DateTime<Utc>> {
        let open = self.open.as_ref().filter(|_| self.troubles.is_empty())?;
        // An incident that was opened by another problem than unknown runs ends with that problem.
        Some(self.recent.values().max().map_or(self.settled_at.unwrap_or(open.opened_at), |last| *last + AGENT_WINDOW))
    }

    /// Opens the incident for problems that persist, and resolves it after five minutes without a counted unknown
    /// outcome, if there is no other problem.
    pub fn tick(&mut self, location: &str, now: DateTime<Utc>) -> Option<Ticked> {
        if self.due_at().is_some_and(|at| at <= now) {
            return Some(self.notify_trouble(location, now));
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
            reason: DecisionReason::Resolved,
            detail: "all scenarios could be tested for five minutes, and there is no other problem".into(),
            run: None,
            at: now,
        };
        Some(Ticked::Evaluated(Box::new(Evaluation {
            decision,
            bad: false,
            event: take_event(&mut self.open, Event::Resolved),
        })))
    }

    fn notify_trouble(&mut self, location: &str, now: DateTime<Utc>) -> Ticked {
        let mut news = Vec::new();
        for trouble in self.troubles.values_mut().filter(|trouble| !trouble.notified) {
            trouble.notified = true;
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
        let decision = Decision { subject, reason: DecisionReason::Opened, detail: news, run: None, at: now };
        let event = take_event(&mut self.open, Event::Opened);
        Ticked::Evaluated(Box::new(Evaluation { decision, bad: true, event }))
    }

    /// Resolves the open incident on behalf of a person. Problems are not notified again unless they change.
    pub fn close(&mut self, by: &str, now: DateTime<Utc>) -> Option<Evaluation> {
        let evaluation = closed(&mut self.open, by, now)?;
        self.closed = !self.recent.is_empty();
        self.untested = None;
        Some(evaluation)
    }

    /// Ends the open incident as removed, because the location was renamed.
    pub fn remove(&mut self, now: DateTime<Utc>) -> Option<Evaluation> {
        *self = Self { openings: self.openings, open: self.open.take(), ..Self::default() };
        ended(&mut self.open, Ending::Removed, now)
    }
}
