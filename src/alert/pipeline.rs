//! The alert pipeline: every stage from an outcome to a notification, in order. Pure: state, an outcome or tick, and
//! the current time go in; the data to store and to send come out. The same outcomes and ticks give the same
//! notifications.
//!
//! | stage | state | decision |
//! |---|---|---|
//! | [`evaluate`](super::stages::evaluate) | `AlertState`, `AgentAlertState` | whether the outcome is conclusive |
//! | [`quorum`](super::stages::quorum) | `LocationVotes` | whether enough locations agree |
//! | [`threshold`](super::stages::threshold) | `Threshold`, `SloAlertState` | whether an incident opens or resolves |
//! | [`flapping`](super::stages::flapping) | `Flapping` | whether openings and resolutions are notified |
//! | [`suppress`](super::stages::suppress) | `Suppressions` | whether dependencies, maintenance or silences suppress the incident, and until when |
//! | [`group`](super::stages::group) | `Groups` | which receivers are notified, with which other incidents, and when |
//! | [`limit`](super::stages::limit) | `RateLimiter` | whether the receiver had too many notifications |
//!
//! The states of the stages up to flapping belong to one subject each and are stored together, in [`AlertStates`].
//! [`Pipeline::evaluate`] runs the stages up to the threshold, [`Pipeline::pass`] the others; the limit applies to the
//! notifications of all that happened at one time, in [`Pipeline::limit`].

mod absence;
mod clock;
mod commands;
mod objectives;
mod receivers;
mod upkeep;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::context::{Context, Scenarios, TimerKey};
use super::effects::Effects;
use super::evaluation::{Evaluation, Failure};
use super::fingerprint::FailureFingerprint;
use super::idle::Idle;
use super::routing;
use super::stages::flapping::FlapDecision;
use super::stages::group::{self, Groups};
use super::stages::limit::RateLimiter;
use super::stages::mute;
use super::stages::suppress::{ReleasedIncident, Suppressions};
use super::stages::suppression::{SuppressedIncident, Suppression};
use super::states::AlertStates;
use crate::incident::{DecisionReason, Event, Incident, Mute, Subject};
use crate::names::suppressed;
use crate::notify::Alerting;
use crate::outcome::{Outcome, Verdict};
use crate::scenario::{Scenario, Severity};

pub use objectives::runs_within;
pub(super) use receivers::readdressed;

/// Store key of the names of the receivers, with hashes that identify their addresses.
const RECEIVERS: &str = "receivers";

/// Store key of the location that last wrote to the store.
const LOCATION: &str = "location";

/// State of alerting: the states of the stages in order, and what they share.
#[derive(Debug)]
pub struct Pipeline {
    /// Stages evaluate, quorum, threshold and flapping, by subject.
    states: AlertStates,
    /// Stage suppress.
    suppressions: Suppressions,
    /// Stage group.
    groups: Groups,
    /// Stage limit.
    limits: RateLimiter,
    context: Context,
    /// Location that last wrote to the store.
    known_location: Option<String>,
    /// Hash that identifies the address of each receiver, by name.
    addresses: BTreeMap<String, String>,
    /// Whether the configuration was loaded. Nothing can be notified before, because the receivers are unknown.
    ready: bool,
}

/// An event of an incident, or a bad run of an open one, on its way through the stages.
struct Passage<'a> {
    subject: Subject,
    /// Event to notify, with the incident.
    event: Option<(Event, Incident)>,
    /// The bad run; absent for other runs, and for the agent.
    failure: Option<Failure<'a>>,
    /// Note of the flapping stage.
    note: Option<String>,
    /// Data for the notification of an incident that opened and is not suppressed.
    joins: Option<SuppressedIncident>,
}

impl Pipeline {
    /// Creates a pipeline without stored state.
    pub fn new(location: &str) -> Self {
        Self {
            states: AlertStates::new(location),
            suppressions: Suppressions::default(),
            groups: Groups::default(),
            limits: RateLimiter::default(),
            context: Context::default(),
            known_location: None,
            addresses: BTreeMap::new(),
            ready: false,
        }
    }

    /// Sets the alerting configuration.
    pub fn set_alerting(&mut self, alerting: Arc<Alerting>) {
        self.limits.set_alerting(&alerting);
        self.context.alerting = alerting;
    }

    /// Sets the loaded scenarios. `idle` has the reasons why others do not run.
    pub fn set_scenarios(&mut self, scenarios: Scenarios, idle: &Idle, now: DateTime<Utc>) {
        self.context.scenarios = scenarios;
        self.ready = true;
        self.suppressions.set_dependencies(&self.context);
        self.rename_location(now);
        self.remove_absent(idle, now);
        self.update_objectives(idle, now);
        self.mark_unwatched(idle, now);
        for subject in self.suppressions.subjects() {
            self.recheck(&subject, now);
        }
        self.limit(now);
    }

    /// Processes the outcome of a run.
    pub fn process_outcome(&mut self, outcome: &Outcome, now: DateTime<Utc>) {
        let Some(scenario) = self.context.scenarios.get(&outcome.scenario).cloned() else { return };
        let is_new = self.evaluate(&scenario, outcome, now);
        // This outcome decides whether incidents of dependent scenarios are explained by this one.
        if outcome.verdict != Verdict::Unknown {
            for child in self.suppressions.children(&Subject::from(&outcome.scenario)) {
                self.recheck(&child, now);
            }
        }
        if is_new {
            self.evaluate_objective(&scenario, outcome, now);
        }
        if outcome.verdict == Verdict::Unknown {
            self.evaluate_agent(outcome, now);
        }
        self.limit(now);
    }

    /// Runs the stages evaluate, quorum and threshold for an outcome, and passes on the result. Returns whether the
    /// outcome was not evaluated before.
    fn evaluate(&mut self, scenario: &Scenario, outcome: &Outcome, now: DateTime<Utc>) -> bool {
        let subject = Subject::from(&outcome.scenario);
        let state = self.states.scenarios.entry(outcome.scenario.clone()).or_default();
        let severity = |open: Option<&Incident>| open.map(|open| open.severity);
        let before = severity(state.open());
        let evaluation = state.advance(scenario, outcome, self.context.alerting.quorum);
        let after = severity(state.open());
        self.states.count(before, after);
        self.context.effects.alert_states.insert(subject.clone());
        let Some(evaluation) = evaluation else { return false };
        let reason = evaluation.decision.reason;
        let bad = evaluation.bad
            && matches!(reason, DecisionReason::Opened | DecisionReason::AlreadyOpen | DecisionReason::SeverityRaised);
        let print = if bad { FailureFingerprint::quick_hash(outcome) } else { 0 };
        // A run that fails like the run before it has no news, unless a suppressed incident waits for a further run.
        let has_news = reason != DecisionReason::AlreadyOpen
            || self.suppressions.get(&subject).is_some()
            || !self.groups.has_print(&subject, print);
        let failure = (bad && has_news).then(|| Failure {
            cause: FailureFingerprint::of(scenario, outcome),
            print,
            scenario,
            began: outcome.started_at,
        });
        self.pass(evaluation, failure, now);
        true
    }

    /// Runs the evaluate stage of the agent itself for an unknown outcome, and passes on the result.
    fn evaluate_agent(&mut self, outcome: &Outcome, now: DateTime<Utc>) {
        let states = &mut self.states;
        let unknown_in_a_row = states.scenarios.get(&outcome.scenario).map_or(0, |state| state.unknown);
        let before = states.agent.open.as_ref().map(|open| open.severity);
        let evaluation = states.agent.advance(outcome, unknown_in_a_row, self.context.scenarios.len());
        let after = states.agent.open.as_ref().map(|open| open.severity);
        states.count(before, after);
        self.context.effects.alert_states.insert(states.agent_subject());
        if let Some(evaluation) = evaluation {
            self.pass(evaluation, None, now);
        }
    }

    /// Records an evaluation, and passes its event or bad run through the stages flapping, suppress and group.
    fn pass(&mut self, evaluation: Evaluation, failure: Option<Failure<'_>>, now: DateTime<Utc>) {
        let mut passage = self.record(evaluation, failure);
        if self.flapping(&mut passage, now) && self.suppress(&mut passage, now) {
            self.group(&mut passage, now);
        }
        if let Some((Event::Resolved, incident)) = passage.event {
            self.context.effects.resolved_incidents.push(incident);
        }
    }

    /// Records the decision of an evaluation.
    fn record<'a>(&mut self, evaluation: Evaluation, failure: Option<Failure<'a>>) -> Passage<'a> {
        let Evaluation { decision, bad, event } = evaluation;
        let suppressed = match decision.reason {
            DecisionReason::AgentFault => Some(suppressed::AGENT_FAULT),
            DecisionReason::Quorum if bad => Some(suppressed::QUORUM),
            DecisionReason::BelowThreshold if bad => Some(suppressed::BELOW_THRESHOLD),
            DecisionReason::AlreadyOpen if bad => Some(suppressed::ALREADY_OPEN),
            _ => None,
        };
        if let Some(reason) = suppressed {
            self.context.effects.suppress(reason, 1);
        }
        let subject = decision.subject.clone();
        self.context.effects.decisions.push(decision);
        Passage { subject, event, failure, note: None, joins: None }
    }

    /// Runs the flapping stage for an incident of a scenario that opened, or resolved by good runs. Returns whether the
    /// passage continues.
    fn flapping(&mut self, passage: &mut Passage<'_>, now: DateTime<Utc>) -> bool {
        let (Some((event, incident)), Subject::Scenario(id)) = (&passage.event, &passage.subject) else { return true };
        let is_change = match event {
            Event::Opened => passage.failure.is_some(),
            Event::Resolved => incident.ending.is_none(),
            Event::Updated | Event::Reminder | Event::Digest => false,
        };
        let scenario = self.context.scenarios.get(id).filter(|_| is_change).cloned();
        let (Some(scenario), Some(state)) = (scenario, self.states.scenarios.get_mut(id)) else { return true };
        let is_grouped = self.groups.of(&passage.subject).is_some();
        match state.flapping.pass(&scenario, incident, is_grouped, &mut self.context, now) {
            FlapDecision::Suppress => false,
            FlapDecision::Notify(note) => {
                passage.note = note;
                true
            }
        }
    }

    /// Runs the suppress stage. Returns whether the passage continues.
    fn suppress(&mut self, passage: &mut Passage<'_>, now: DateTime<Utc>) -> bool {
        let subject = &passage.subject;
        match &passage.event {
            Some((Event::Opened, incident)) => {
                let hold = Suppression::Released { at: now };
                let Some(failure) = passage.failure.take() else {
                    // The incident of the agent itself is never suppressed here.
                    let (began, cause) = (incident.opened_at, FailureFingerprint::of_agent());
                    passage.joins = Some(SuppressedIncident { hold, began, cause, remind: None, note: None });
                    return true;
                };
                let data = SuppressedIncident {
                    hold,
                    began: failure.began,
                    cause: failure.cause,
                    remind: failure.scenario.alert.remind,
                    note: passage.note.take(),
                };
                passage.joins = self.suppressions.pass(incident, data, &self.states, &mut self.context, now);
                passage.joins.is_some()
            }
            Some((Event::Resolved, _)) => {
                let released = self.suppressions.release(subject, &mut self.context);
                if released.is_some() {
                    let detail = "resolved while suppressed; no notification was sent";
                    self.context.effects.decide(subject, DecisionReason::ResolvedEarly, detail, now);
                }
                released.is_none()
            }
            _ if self.suppressions.get(subject).is_some() => {
                if let Some(failure) = passage.failure.take() {
                    let released = self.suppressions.fail(subject, failure, &self.states, &mut self.context, now);
                    self.join_released(released, now);
                }
                false
            }
            _ => true,
        }
    }

    /// Runs the group stage.
    fn group(&mut self, passage: &mut Passage<'_>, now: DateTime<Utc>) {
        let subject = &passage.subject;
        match &passage.event {
            Some((Event::Opened, incident)) => {
                if let Some(data) = passage.joins.take() {
                    self.join(incident, incident.opened_at, data, now);
                }
            }
            Some((Event::Resolved, incident)) => {
                self.groups.resolve(subject, Some(incident), now, &mut self.context.effects);
            }
            Some((_, incident)) => {
                let routed = routing::route(&self.context.alerting, incident, now);
                self.states.add_receivers(subject, &routed.receivers, &mut self.context.effects);
                self.groups.raise(incident, &routed, now);
            }
            None => {}
        }
        if let Some(failure) = passage.failure.take() {
            // A change has to be confirmed by as many runs as a failure, but at most two.
            let needed = failure.scenario.alert.after.min(2);
            self.groups.fail(subject, (failure.cause, failure.print), needed, now);
        }
    }

    /// Adds an incident to a notification group.
    fn join(&mut self, incident: &Incident, opened_at: DateTime<Utc>, data: SuppressedIncident, now: DateTime<Utc>) {
        let routed = routing::route(&self.context.alerting, incident, now);
        self.states.add_receivers(&incident.subject, &routed.receivers, &mut self.context.effects);
        let (receivers, escalate) = (routed.receivers.clone(), routed.escalate.clone());
        let SuppressedIncident { cause, remind, note, .. } = data;
        let join = group::Join { opened_at, receivers, wait: routed.wait, cause, remind, note, escalate };
        self.groups.open(incident, &routed, join, now, &mut self.context.effects);
    }

    /// Adds an incident whose suppression has ended to a notification group.
    fn join_released(&mut self, released: Option<ReleasedIncident>, now: DateTime<Utc>) {
        let Some(ReleasedIncident { incident, data }) = released else { return };
        // `opened_at` is a wall clock time of the past, but the start of the run is a timer, adjusted after a clock
        // change.
        self.join(&incident, data.began, data, now);
    }

    /// Checks whether the suppression of an incident has ended.
    fn recheck(&mut self, subject: &Subject, now: DateTime<Utc>) {
        let released = self.suppressions.recheck(subject, &self.states, &mut self.context, now);
        self.join_released(released, now);
    }

    /// Runs the limit stage: passes notifications on or suppresses them.
    fn limit(&mut self, now: DateTime<Utc>) {
        self.update_attention();
        let effects = &mut self.context.effects;
        for notification in std::mem::take(&mut effects.before_limit) {
            self.limits.pass(notification, now, effects);
        }
    }

    /// Updates the receivers beyond the routes and the acknowledgements of open incidents.
    fn update_attention(&mut self) {
        let effects = &mut self.context.effects;
        for (subject, receivers) in std::mem::take(&mut effects.reached) {
            self.states.add_receivers(&subject, &receivers, effects);
        }
        for (subject, who) in std::mem::take(&mut effects.acknowledged) {
            if let Some(open) = self.states.incident_mut(&subject) {
                open.acknowledged = who;
                effects.alert_states.insert(subject);
            }
        }
    }

    /// Sends everything that is due at `now`.
    pub fn tick(&mut self, now: DateTime<Utc>) {
        if !self.ready {
            return;
        }
        self.tick_agent(now);
        while self.context.timers.first().is_some_and(|(at, _)| *at <= now) {
            match self.context.timers.pop_first() {
                Some((_, TimerKey::Subject(subject))) => self.on_timer(&subject, now),
                Some((_, TimerKey::Mute(id))) => self.suppressions.end_mute(&id, &mut self.context, now),
                None => break,
            }
        }
        // Digests go first: their notifications have waited longest.
        self.limits.tick(now, &mut self.context.effects);
        let (states, alerting, mutes) = (&self.states, &self.context.alerting, self.suppressions.mutes());
        let muted = |incident: &Incident| mute::muted(alerting, mutes, incident, now);
        self.groups.tick(now, |subject| states.incident(subject), muted, &mut self.context.effects);
        self.limit(now);
    }

    /// Handles a due timer of a subject.
    fn on_timer(&mut self, subject: &Subject, now: DateTime<Utc>) {
        if let Subject::Scenario(id) = subject
            && let Some(state) = self.states.scenarios.get_mut(id)
            && state.flapping.settle(now)
        {
            let open = state.open().is_some();
            let effects = &mut self.context.effects;
            effects.alert_states.insert(subject.clone());
            let state = if open { "failing" } else { "well" };
            effects.decide(subject, DecisionReason::Flapping, format!("stable again: {state}"), now);
            if open {
                self.groups.add_note(subject, "no longer flapping, still failing".into(), now);
            } else {
                self.groups.resolve(subject, None, now, effects);
            }
        }
        let released = self.suppressions.on_timer(subject, &self.states, &mut self.context, now);
        self.join_released(released, now);
    }

    /// Sends the notifications of all groups in their group wait, because the time of the next start is unknown.
    pub fn stop(&mut self, now: DateTime<Utc>) {
        if !self.ready {
            return;
        }
        self.tick(now);
        let (states, alerting, mutes) = (&self.states, &self.context.alerting, self.suppressions.mutes());
        let muted = |incident: &Incident| mute::muted(alerting, mutes, incident, now);
        self.groups.flush_pending(now, |subject| states.incident(subject), muted, &mut self.context.effects);
        self.limit(now);
    }

    /// Returns the time at which [`Pipeline::tick`] has to be called next, unless something happens before.
    pub fn next(&self) -> Option<DateTime<Utc>> {
        if !self.ready {
            return None;
        }
        let timer = self.context.timers.first().map(|(at, _)| *at);
        [self.states.agent.next(), self.groups.next(), self.limits.next(), timer].into_iter().flatten().min()
    }

    /// Takes the effects since the last call, to be stored and sent.
    pub fn effects(&mut self) -> Effects {
        std::mem::take(&mut self.context.effects)
    }

    /// Returns the number of open incidents by severity.
    pub fn open(&self) -> &BTreeMap<Severity, usize> {
        self.states.counts()
    }

    /// Returns the open incident of a subject.
    pub fn incident(&self, subject: &Subject) -> Option<&Incident> {
        self.states.incident(subject)
    }

    /// Returns the latest failure fingerprint of an incident.
    pub fn cause_of(&self, incident: &Incident) -> Cow<'_, FailureFingerprint> {
        let subject = &incident.subject;
        let held = self.suppressions.get(subject).map(|held| &held.cause);
        let known = held.or_else(|| self.groups.of(subject)?.cause_of(subject));
        known.map_or_else(|| Cow::Owned(FailureFingerprint::of_incident(incident)), Cow::Borrowed)
    }

    /// Returns the mutes by operators that have not ended.
    pub fn mutes(&self) -> impl Iterator<Item = &Mute> {
        self.suppressions.mutes().values()
    }
}
