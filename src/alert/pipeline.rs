//! The alert pipeline: every stage from an outcome to a notification, in order. Pure: state, an outcome or tick, and
//! the current time go in; the data to store and to send come out. The same outcomes and ticks give the same
//! notifications.
//!
//! | stage | file | decision |
//! |---|---|---|
//! | agent fault | `state_machine`, `agent` | whether the outcome is conclusive |
//! | quorum of locations | `quorum` | whether enough locations agree |
//! | n of m | `state_machine` | whether an incident opens or resolves |
//! | flapping | `flapping` | whether openings and resolutions are notified |
//! | dependencies, maintenance, silences | `suppression`, `mute` | whether the incident is suppressed, and until when |
//! | route | `routing` | which receivers are notified |
//! | fingerprint, group, change, reminder | `fingerprint`, `group` | with which other incidents, and when |
//! | rate limit | `rate_limit` | whether the receiver had too many notifications |

mod budgets;
mod clock;
mod idle;
mod presence;
mod receivers;
mod requests;
mod slo;
mod upkeep;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::Value as Json;

use super::agent::AgentAlertState;
use super::effects::Effects;
use super::fingerprint::FailureFingerprint;
use super::group::Join;
use super::groups::{self, Groups};
use super::mute::{self, Muted};
use super::rate_limit::RateLimiter;
use super::slo::SloAlertState;
use super::state_machine::{AlertState, Evaluation};
use super::suppression::{self, SuppressedIncident, Suppression, SuppressionDetail};
use super::{flapping, routing};
use crate::incident::{DecisionReason, Event, Incident, Mute, Subject};
use crate::names::suppressed;
use crate::notify::Alerting;
use crate::outcome::{Outcome, Verdict};
use crate::scenario::{Parents, Scenario, ScenarioId, Severity, parents};

pub use idle::Idle;
pub(super) use receivers::readdressed;
pub use slo::runs_within;

/// Store key of the names of the receivers, with hashes that identify their addresses.
const RECEIVERS: &str = "receivers";

/// Store key of the location that last wrote to the store.
const LOCATION: &str = "location";

/// All loaded scenarios, by id.
pub type Scenarios = Arc<BTreeMap<ScenarioId, Arc<Scenario>>>;

/// State of alerting.
#[derive(Debug)]
pub struct Pipeline {
    location: String,
    scenarios: Scenarios,
    alerting: Arc<Alerting>,
    alert_states: HashMap<Subject, AlertState>,
    agent: AgentAlertState,
    /// Alert states of this agent under former names of its location: a store belongs to one agent.
    former: HashMap<Subject, AgentAlertState>,
    /// Location that last wrote to the store.
    known_location: Option<String>,
    /// Hash that identifies the address of each receiver, by name.
    addresses: BTreeMap<String, String>,
    budgets: budgets::Budgets,
    groups: Groups,
    limits: RateLimiter,
    parents: Parents,
    mutes: BTreeMap<String, Mute>,
    /// Incidents that are open and suppressed.
    held: HashMap<Subject, SuppressedIncident>,
    /// Suppressed incidents that wait for a run of a parent, by parent.
    children: HashMap<Subject, BTreeSet<Subject>>,
    /// Times at which subjects and mutes have to be checked again. Outdated entries are harmless.
    timers: BTreeSet<(DateTime<Utc>, TimerKey)>,
    /// Whether the configuration was loaded. Nothing can be notified before, because the receivers are unknown.
    ready: bool,
    open: BTreeMap<Severity, usize>,
    /// Keys of mutes and suppressed incidents that changed since the last write.
    touched: BTreeSet<String>,
    effects: Effects,
}

/// What has to be checked at the time of a timer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum TimerKey {
    /// Flapping and suppression of a subject.
    Subject(Subject),
    /// End of the mute with this id.
    Mute(String),
}

impl Pipeline {
    /// Creates a pipeline without stored state.
    pub fn new(location: &str) -> Self {
        Self {
            location: location.to_owned(),
            scenarios: Arc::default(),
            alerting: Arc::default(),
            alert_states: HashMap::new(),
            agent: AgentAlertState::default(),
            former: HashMap::new(),
            known_location: None,
            addresses: BTreeMap::new(),
            budgets: budgets::Budgets::default(),
            groups: Groups::default(),
            limits: RateLimiter::default(),
            parents: Parents::default(),
            mutes: BTreeMap::new(),
            held: HashMap::new(),
            children: HashMap::new(),
            timers: BTreeSet::new(),
            ready: false,
            touched: BTreeSet::new(),
            open: Severity::ALL.map(|severity| (severity, 0)).into(),
            effects: Effects::default(),
        }
    }

    /// Restores the stored state. The error names the entry that cannot be read.
    pub fn restore(&mut self, alert_states: Vec<(Subject, Json)>, memory: Vec<(String, Json)>) -> Result<(), String> {
        for (subject, body) in alert_states {
            let unread = |e: serde_json::Error| format!("cannot read the alerting state of {subject}: {e}");
            match &subject {
                Subject::Agent(location) if **location == *self.location => {
                    self.agent = serde_json::from_value(body).map_err(unread)?;
                    self.count(None, self.agent.open.as_ref().map(|open| open.severity));
                }
                Subject::Agent(_) => {
                    let watch: AgentAlertState = serde_json::from_value(body).map_err(unread)?;
                    self.count(None, watch.open.as_ref().map(|open| open.severity));
                    self.former.insert(subject, watch);
                }
                Subject::Objective(_) => {
                    let watch: SloAlertState = serde_json::from_value(body).map_err(unread)?;
                    self.count(None, watch.open.as_ref().map(|open| open.severity));
                    self.budgets.alert_states.insert(subject, watch);
                }
                Subject::Scenario(_) => {
                    let watch: AlertState = serde_json::from_value(body).map_err(unread)?;
                    self.count(None, watch.open.as_ref().map(|open| open.severity));
                    let steady_at = watch.flapping.steady_at();
                    self.timers.extend(steady_at.map(|at| (at, TimerKey::Subject(subject.clone()))));
                    self.alert_states.insert(subject, watch);
                }
                Subject::Test(_) => {}
            }
        }
        for (key, body) in memory {
            let unread = |e: serde_json::Error| format!("cannot read the alerting entry {key}: {e}");
            if let Some(id) = key.strip_prefix(groups::PREFIX) {
                self.groups.restore(id, body).map_err(unread)?;
            } else if let Some(id) = key.strip_prefix(mute::PREFIX) {
                let mute: Mute = serde_json::from_value(body).map_err(unread)?;
                self.timers.insert((mute.until, TimerKey::Mute(id.to_owned())));
                self.mutes.insert(id.to_owned(), mute);
            } else if let Some(subject) = key.strip_prefix(suppression::PREFIX) {
                self.wait(&Subject::from(subject), serde_json::from_value(body).map_err(unread)?);
            } else if key == LOCATION {
                self.known_location = serde_json::from_value(body).map_err(unread)?;
            } else if key == RECEIVERS {
                self.addresses = serde_json::from_value(body).map_err(unread)?;
            } else {
                self.limits.restore(&key, body).map_err(unread)?;
            }
        }
        Ok(())
    }

    /// Returns the number of open incidents by severity.
    pub fn open(&self) -> &BTreeMap<Severity, usize> {
        &self.open
    }

    fn count(&mut self, before: Option<Severity>, after: Option<Severity>) {
        if let Some(count) = before.and_then(|before| self.open.get_mut(&before)) {
            *count = count.saturating_sub(1);
        }
        if let Some(count) = after.and_then(|after| self.open.get_mut(&after)) {
            *count += 1;
        }
    }

    /// Sets the alerting configuration.
    pub fn alerting(&mut self, alerting: Arc<Alerting>) {
        self.limits.alerting(&alerting);
        self.alerting = alerting;
    }

    /// Runs the rate limit stage: passes notifications on or suppresses them.
    fn limit(&mut self, now: DateTime<Utc>) {
        self.show_attention();
        for notification in std::mem::take(&mut self.effects.told) {
            self.limits.pass(notification, now, &mut self.effects);
        }
    }

    /// Sets the loaded scenarios. `idle` has the reasons why others do not run.
    pub fn scenarios(&mut self, scenarios: Scenarios, idle: &Idle, now: DateTime<Utc>) {
        self.scenarios = scenarios;
        self.ready = true;
        // Problems with dependencies were already reported when the files were loaded.
        (self.parents, _) = parents(&self.scenarios, |_| true);
        self.rename_location(now);
        self.remove_absent(idle, now);
        self.objectives(idle, now);
        self.mark_unwatched(idle, now);
        let held: Vec<Subject> = self.held.keys().cloned().collect();
        for subject in held {
            self.reconsider(&subject, now);
        }
        self.limit(now);
    }

    /// Processes the outcome of a run.
    pub fn outcome(&mut self, outcome: &Outcome, now: DateTime<Utc>) {
        let Some(scenario) = self.scenarios.get(&outcome.scenario).cloned() else { return };
        let subject = Subject::from(&outcome.scenario);
        let watch = self.alert_states.entry(subject.clone()).or_default();
        let before = watch.open.as_ref().map(|open| open.severity);
        let judgement = watch.advance(&scenario, outcome, self.alerting.quorum);
        let (unknown_in_a_row, after) = (watch.unknown, watch.open.as_ref().map(|open| open.severity));
        if before != after {
            self.count(before, after);
        }
        self.effects.alert_states.insert(subject.clone());
        let is_new = judgement.is_some();
        if let Some(judgement) = judgement {
            let why = judgement.decision.reason;
            let bad = judgement.bad
                && matches!(why, DecisionReason::Opened | DecisionReason::AlreadyOpen | DecisionReason::SeverityRaised);
            let print = if bad { FailureFingerprint::quick_hash(outcome) } else { 0 };
            // A run that fails like the run before it has no news, unless a suppressed incident waits for a further
            // run.
            let new = why != DecisionReason::AlreadyOpen
                || self.held.contains_key(&subject)
                || !self.groups.knows(&subject, print);
            let failure = (bad && new).then(|| Failure {
                cause: FailureFingerprint::of(&scenario, outcome),
                print,
                scenario: &scenario,
                began: outcome.started_at,
            });
            self.take(judgement, failure, now);
        }
        // This outcome decides whether incidents of dependent scenarios are explained by this one.
        let children = self.children.get(&subject).filter(|_| outcome.verdict != Verdict::Unknown);
        for child in children.cloned().unwrap_or_default() {
            self.reconsider(&child, now);
        }
        if is_new {
            self.burn(&scenario, outcome, now);
        }
        if outcome.verdict == Verdict::Unknown {
            let before = self.agent.open.as_ref().map(|open| open.severity);
            let judgement = self.agent.advance(outcome, unknown_in_a_row, self.scenarios.len());
            self.count(before, self.agent.open.as_ref().map(|open| open.severity));
            self.effects.alert_states.insert(Subject::agent(&self.location));
            if let Some(judgement) = judgement {
                self.take(judgement, None, now);
            }
        }
        self.limit(now);
    }

    /// Sends everything that is due at `now`.
    pub fn tick(&mut self, now: DateTime<Utc>) {
        if !self.ready {
            return;
        }
        self.tick_agent(now);
        while self.timers.first().is_some_and(|(at, _)| *at <= now) {
            match self.timers.pop_first() {
                Some((_, TimerKey::Subject(subject))) => self.wake(&subject, now),
                Some((_, TimerKey::Mute(id))) => self.end_mute(&id, now),
                None => break,
            }
        }
        // Digests go first: their notifications have waited longest.
        self.limits.tick(now, &mut self.effects);
        let (find, alerting, mutes) =
            (find(&self.alert_states, &self.budgets, &self.agent), &self.alerting, &self.mutes);
        let muted = |incident: &Incident| mute::muted(alerting, mutes, incident, now);
        self.groups.tick(now, find, muted, &mut self.effects);
        self.limit(now);
    }

    /// Sends the notifications of all groups in their group wait, because the time of the next start is unknown.
    pub fn stop(&mut self, now: DateTime<Utc>) {
        if !self.ready {
            return;
        }
        self.tick(now);
        let (find, alerting, mutes) =
            (find(&self.alert_states, &self.budgets, &self.agent), &self.alerting, &self.mutes);
        let muted = |incident: &Incident| mute::muted(alerting, mutes, incident, now);
        self.groups.flush_pending(now, find, muted, &mut self.effects);
        self.limit(now);
    }

    /// Returns the time at which [`Pipeline::tick`] has to be called next, unless something happens before.
    pub fn next(&self) -> Option<DateTime<Utc>> {
        if !self.ready {
            return None;
        }
        let timer = self.timers.first().map(|(at, _)| *at);
        [self.agent.next(), self.groups.next(), self.limits.next(), timer].into_iter().flatten().min()
    }

    /// Takes the effects since the last call, to be stored and sent.
    pub fn effects(&mut self) -> Effects {
        std::mem::take(&mut self.effects)
    }

    /// Returns the alert state of a subject, to be stored.
    pub fn watch(&self, subject: &Subject) -> Json {
        let watch = match subject {
            Subject::Agent(_) => match self.former.get(subject) {
                Some(former) => serde_json::to_value(former),
                None => serde_json::to_value(&self.agent),
            },
            Subject::Objective(_) => serde_json::to_value(self.budgets.alert_states.get(subject)),
            Subject::Scenario(_) => serde_json::to_value(self.alert_states.get(subject)),
            Subject::Test(_) => return Json::Null,
        };
        watch.expect("plain data becomes JSON")
    }

    /// Returns the open incident of a subject.
    pub fn incident(&self, subject: &Subject) -> Option<&Incident> {
        find(&self.alert_states, &self.budgets, &self.agent)(subject)
    }

    /// Returns the latest failure fingerprint of an incident.
    pub fn cause_of(&self, incident: &Incident) -> Cow<'_, FailureFingerprint> {
        let subject = &incident.subject;
        let held = self.held.get(subject).map(|waiting| &waiting.cause);
        let known = held.or_else(|| self.groups.of(subject)?.cause_of(subject));
        known.map_or_else(|| Cow::Owned(FailureFingerprint::of_incident(incident)), Cow::Borrowed)
    }

    /// Takes the other alerting entries that changed since the last call, to be stored. `None` stands for an entry to
    /// delete.
    pub fn take_changes(&mut self) -> Vec<(String, Option<Json>)> {
        let mut memory = self.groups.take_touched();
        memory.extend(self.limits.take_touched());
        for key in std::mem::take(&mut self.touched) {
            let body = if let Some(id) = key.strip_prefix(mute::PREFIX) {
                self.mutes.get(id).map(serde_json::to_value)
            } else if key == LOCATION {
                self.known_location.as_ref().map(serde_json::to_value)
            } else if key == RECEIVERS {
                Some(serde_json::to_value(&self.addresses))
            } else {
                let subject = key.strip_prefix(suppression::PREFIX).unwrap_or(&key);
                self.held.get(&Subject::from(subject)).map(serde_json::to_value)
            };
            memory.push((key, body.map(|body| body.expect("plain data becomes JSON"))));
        }
        memory
    }

    /// Returns the mutes by operators that have not ended.
    pub fn mutes(&self) -> impl Iterator<Item = &Mute> {
        self.mutes.values()
    }

    /// Passes an evaluation of the state machine through the remaining stages.
    fn take(&mut self, judgement: Evaluation, failure: Option<Failure>, now: DateTime<Utc>) {
        let Evaluation { decision, bad, told } = judgement;
        let (subject, why) = (decision.subject.clone(), decision.reason);
        let suppressed = match why {
            DecisionReason::AgentFault => Some(suppressed::AGENT_FAULT),
            DecisionReason::Quorum if bad => Some(suppressed::QUORUM),
            DecisionReason::BelowThreshold if bad => Some(suppressed::BELOW_THRESHOLD),
            DecisionReason::AlreadyOpen if bad => Some(suppressed::ALREADY_OPEN),
            _ => None,
        };
        if let Some(reason) = suppressed {
            self.effects.suppress(reason, 1);
        }
        self.effects.decisions.push(decision);
        match told {
            Some((Event::Opened, incident)) => self.opened(&incident, failure, now),
            Some((Event::Resolved, incident)) => {
                self.resolved(&incident, now);
                self.effects.over.push(incident);
            }
            Some((_, incident)) => {
                if !self.held.contains_key(&subject) {
                    let routed = routing::route(&self.alerting, &incident, now);
                    self.remember_receivers(&incident, &routed.receivers);
                    self.groups.raise(&incident, &routed, now);
                }
                self.failed(&subject, failure, now);
            }
            None => self.failed(&subject, failure, now),
        }
    }

    /// Processes a bad run of an open incident.
    fn failed(&mut self, subject: &Subject, failure: Option<Failure>, now: DateTime<Utc>) {
        let Some(failure) = failure else { return };
        let Some(waiting) = self.held.get_mut(subject) else {
            // A change has to be confirmed by as many runs as a failure, but at most two.
            let needed = failure.scenario.alert.after.min(2);
            self.groups.fail(subject, (failure.cause, failure.print), needed, now);
            return;
        };
        let again = matches!(waiting.hold, Suppression::Released { at } if failure.began >= at);
        if waiting.cause != failure.cause {
            waiting.cause = failure.cause;
            self.touched.insert(format!("{}{subject}", suppression::PREFIX));
        }
        if again {
            self.admit(subject, now, now);
        }
    }

    fn opened(&mut self, incident: &Incident, failure: Option<Failure>, now: DateTime<Utc>) {
        let subject = &incident.subject;
        let opened_at = incident.opened_at;
        let Some(failure) = failure else {
            let (hold, cause) = (Suppression::Released { at: now }, FailureFingerprint::of_agent());
            let waiting = SuppressedIncident { hold, began: opened_at, cause, remind: None, note: None };
            return self.join(incident, opened_at, waiting, now);
        };
        let alert = &failure.scenario.alert;
        let note = match self.change(incident, failure.scenario, now) {
            FlapDecision::Suppress => return,
            FlapDecision::Notify(note) => note,
        };
        let waiting = SuppressedIncident {
            hold: Suppression::Released { at: now },
            began: failure.began,
            cause: failure.cause,
            remind: alert.remind,
            note,
        };
        match self.holds(incident, failure.began, None, now) {
            Some(held) => {
                self.effects.suppress(held.suppressed(), 1);
                self.hold(subject, waiting, held, now);
            }
            None => self.join(incident, opened_at, waiting, now),
        }
    }

    fn resolved(&mut self, incident: &Incident, now: DateTime<Utc>) {
        let subject = &incident.subject;
        let scenario = match subject {
            Subject::Scenario(id) => self.scenarios.get(id).cloned(),
            Subject::Objective(_) | Subject::Agent(_) | Subject::Test(_) => None,
        };
        if let Some(scenario) = scenario.filter(|_| incident.ending.is_none())
            && matches!(self.change(incident, &scenario, now), FlapDecision::Suppress)
        {
            return;
        }
        if self.release(subject).is_some() {
            self.effects.decide(
                subject,
                DecisionReason::ResolvedEarly,
                "resolved while suppressed; no notification was sent",
                now,
            );
        } else {
            self.groups.resolve(subject, Some(incident), now, &mut self.effects);
        }
    }

    /// Runs the flapping stage for an incident that opened or resolved.
    fn change(&mut self, incident: &Incident, scenario: &Scenario, now: DateTime<Utc>) -> FlapDecision {
        let subject = &incident.subject;
        let Some(watch) = self.alert_states.get_mut(subject) else { return FlapDecision::Notify(None) };
        let was_on = watch.flapping.is_on();
        let cycle = flapping::cycle(&scenario.alert, scenario.schedule.shortest_gap(now));
        let begins = watch.flapping.change(incident.is_open(), cycle, now);
        let steady_at = watch.flapping.steady_at();
        self.timers.extend(steady_at.map(|at| (at, TimerKey::Subject(subject.clone()))));
        if let (true, Some(_)) = (was_on, self.groups.of(subject)) {
            let what = if incident.is_open() { "opened" } else { "resolved" };
            let until = steady_at.unwrap_or(now).format("%T");
            self.effects.suppress(suppressed::FLAPPING, 1);
            let detail = format!("{what} again; no notifications until it is stable, at {until} at the earliest");
            self.effects.decide(subject, DecisionReason::Flapping, detail, now);
            return FlapDecision::Suppress;
        }
        if let Some(note) = &begins {
            self.effects.decide(subject, DecisionReason::Flapping, note.clone(), now);
        }
        FlapDecision::Notify(begins)
    }

    /// Runs the group stage for an incident that is not suppressed.
    fn join(&mut self, incident: &Incident, opened_at: DateTime<Utc>, waiting: SuppressedIncident, now: DateTime<Utc>) {
        let routed = routing::route(&self.alerting, incident, now);
        self.remember_receivers(incident, &routed.receivers);
        let (receivers, escalate) = (routed.receivers.clone(), routed.escalate.clone());
        let SuppressedIncident { cause, remind, note, .. } = waiting;
        let join = Join { opened_at, receivers, wait: routed.wait, cause, remind, note, escalate };
        self.groups.open(incident, &routed, join, now, &mut self.effects);
    }

    /// Runs the stage of dependencies, maintenance and silences. Returns the suppression of an incident, if any.
    /// `patience` is the end of the wait for parents without a recent run, or `None` if their runs have yet to be
    /// requested.
    fn holds(
        &mut self,
        incident: &Incident,
        began: DateTime<Utc>,
        patience: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Option<SuppressionDetail> {
        let by_scenario = self.is_told_by_scenario(incident);
        if by_scenario.is_some() {
            return by_scenario;
        }
        let mut unseen = Vec::new();
        for id in self.ancestors(&incident.subject) {
            let parent = Subject::from(&id);
            if let Some(why) = self.is_down(&id) {
                let detail = format!("its dependency `{id}` {why}");
                return Some(SuppressionDetail {
                    hold: Suppression::ParentFailing { parent },
                    why: DecisionReason::Dependency,
                    detail,
                });
            }
            let looked_at = self.alert_states.get(&parent).and_then(|watch| watch.looked_at);
            if looked_at < Some(began) {
                unseen.push(id);
            }
        }
        if let Some(first) = unseen.first()
            && patience.is_none_or(|until| until > now)
        {
            let (parent, until) = (Subject::from(first), patience.unwrap_or(now + suppression::PARENT_RUN_TIMEOUT));
            let detail = format!("waiting until {} for a run of its dependency `{first}`", until.format("%T"));
            if patience.is_none() {
                self.effects.look.extend(unseen);
            }
            return Some(SuppressionDetail {
                hold: Suppression::ParentPending { parent, until },
                why: DecisionReason::Dependency,
                detail,
            });
        }
        let Muted { id, until, why, detail } = mute::muted(&self.alerting, &self.mutes, incident, now)?;
        Some(SuppressionDetail { hold: Suppression::Muted { mute: id, until }, why, detail })
    }

    /// Returns all direct and indirect parents of a subject, nearest first.
    fn ancestors(&self, subject: &Subject) -> Vec<ScenarioId> {
        let mut all: Vec<ScenarioId> = Vec::new();
        let of = |id: &ScenarioId| self.parents.get(id).map(Vec::as_slice).unwrap_or_default();
        all.extend_from_slice(subject.scenario().map(of).unwrap_or_default());
        let mut at = 0;
        while let Some(id) = all.get(at).cloned() {
            for parent in of(&id) {
                if !all.contains(parent) {
                    all.push(parent.clone());
                }
            }
            at += 1;
        }
        all
    }

    /// Returns a description of a parent's failure, or `None` if the parent does not fail.
    fn is_down(&self, id: &ScenarioId) -> Option<String> {
        let watch = self.alert_states.get(&Subject::from(id))?;
        let down = self.scenarios.get(id).is_some_and(|scenario| watch.is_down(&scenario.alert));
        down.then(|| match &watch.open {
            Some(open) => format!("is failing as {}", open.dedup_key()),
            None => "failed in its last run".to_owned(),
        })
    }

    fn hold(
        &mut self,
        subject: &Subject,
        mut waiting: SuppressedIncident,
        held: SuppressionDetail,
        now: DateTime<Utc>,
    ) {
        waiting.hold = held.hold;
        self.effects.decide(subject, held.why, held.detail, now);
        self.wait(subject, waiting);
        self.touched.insert(format!("{}{subject}", suppression::PREFIX));
    }

    fn wait(&mut self, subject: &Subject, waiting: SuppressedIncident) {
        self.timers.extend(waiting.hold.until().map(|at| (at, TimerKey::Subject(subject.clone()))));
        if let Some(parent) = waiting.hold.parent() {
            self.children.entry(parent.clone()).or_default().insert(subject.clone());
        }
        self.held.insert(subject.clone(), waiting);
    }

    fn release(&mut self, subject: &Subject) -> Option<SuppressedIncident> {
        let waiting = self.held.remove(subject)?;
        if let Some(parent) = waiting.hold.parent()
            && let Some(children) = self.children.get_mut(parent)
        {
            children.remove(subject);
            if children.is_empty() {
                self.children.remove(parent);
            }
        }
        self.touched.insert(format!("{}{subject}", suppression::PREFIX));
        Some(waiting)
    }

    /// Checks whether the suppression of an incident has ended.
    fn reconsider(&mut self, subject: &Subject, now: DateTime<Utc>) {
        let Some(hold) = self.held.get(subject).map(|waiting| waiting.hold.clone()) else { return };
        match hold {
            Suppression::ParentPending { until, .. } => self.admit(subject, until, now),
            Suppression::ParentFailing { parent } => {
                let Subject::Scenario(id) = &parent else { return };
                if matches!(subject, Subject::Objective(own) if own == id) {
                    if self.incident(subject).is_some_and(|open| self.told_by(open, &parent).is_none()) {
                        self.recovered(subject, &format!("`{id}` itself no longer fails"), now);
                    }
                } else if !self.ancestors(subject).contains(id) {
                    self.recovered(subject, &format!("it no longer depends on `{id}`"), now);
                } else if self.is_down(id).is_none() {
                    self.recovered(subject, &format!("`{id}` has recovered"), now);
                }
            }
            Suppression::Muted { mute, until } => {
                let muted = self.incident(subject).and_then(|open| mute::muted(&self.alerting, &self.mutes, open, now));
                if until <= now || muted.is_none_or(|muted| muted.id != mute) {
                    self.unmuted(subject, now);
                }
            }
            // The next run decides.
            Suppression::Released { .. } => {}
        }
    }

    /// Passes a suppressed incident on to its group, unless something else suppresses it. `patience` is the end of the
    /// wait for parents without a recent run.
    fn admit(&mut self, subject: &Subject, patience: DateTime<Utc>, now: DateTime<Utc>) {
        let Some(waiting) = self.held.get(subject).cloned() else { return };
        let Some(incident) = self.incident(subject).cloned() else { return };
        match self.holds(&incident, waiting.began, Some(patience), now) {
            Some(held) if held.hold == waiting.hold => {}
            Some(held) => {
                self.release(subject);
                self.hold(subject, waiting, held, now);
            }
            None => {
                self.release(subject);
                // `opened_at` is a wall clock time of the past, but the start of the run is a timer, adjusted after a
                // clock change.
                self.join(&incident, waiting.began, waiting, now);
            }
        }
    }

    /// Marks the suppression of an incident as ended: the next bad run causes a notification.
    fn recovered(&mut self, subject: &Subject, why: &str, now: DateTime<Utc>) {
        let Some(waiting) = self.release(subject) else { return };
        let detail = format!("{why}; notified if its next run is bad");
        self.hold(
            subject,
            waiting,
            SuppressionDetail { hold: Suppression::Released { at: now }, why: DecisionReason::Released, detail },
            now,
        );
    }

    fn unmuted(&mut self, subject: &Subject, now: DateTime<Utc>) {
        self.recovered(subject, "the silence or maintenance window has ended", now);
    }

    /// Removes a mute that has ended.
    fn end_mute(&mut self, id: &str, now: DateTime<Utc>) {
        if self.mutes.get(id).is_some_and(|mute| mute.until <= now) {
            self.mutes.remove(id);
            self.touched.insert(format!("{}{id}", mute::PREFIX));
        }
    }

    /// Handles a due timer of a subject.
    fn wake(&mut self, subject: &Subject, now: DateTime<Utc>) {
        if let Some(watch) = self.alert_states.get_mut(subject)
            && watch.flapping.settle(now)
        {
            let open = watch.open.is_some();
            self.effects.alert_states.insert(subject.clone());
            let state = if open { "failing" } else { "well" };
            self.effects.decide(subject, DecisionReason::Flapping, format!("stable again: {state}"), now);
            if open {
                self.groups.remark(subject, "no longer flapping, still failing".into(), now);
            } else {
                self.groups.resolve(subject, None, now, &mut self.effects);
            }
        }
        if self.held.get(subject).and_then(|waiting| waiting.hold.until()).is_some_and(|until| until <= now) {
            self.reconsider(subject, now);
        }
    }

    /// Returns the open incident of a subject for a change, after which the alert state has to be stored.
    fn incident_mut(&mut self, subject: &Subject) -> Option<&mut Incident> {
        match subject {
            Subject::Agent(_) => self.agent.open.as_mut().filter(|open| open.subject == *subject),
            Subject::Objective(_) => self.budgets.alert_states.get_mut(subject)?.open.as_mut(),
            Subject::Scenario(_) => self.alert_states.get_mut(subject)?.open.as_mut(),
            Subject::Test(_) => None,
        }
    }

    /// Adds the receivers to the incident: those notified of the opening receive all further notifications.
    fn remember_receivers(&mut self, incident: &Incident, receivers: &[String]) {
        let Some(open) = self.incident_mut(&incident.subject) else { return };
        for receiver in receivers {
            if !open.receivers.contains(receiver) {
                open.receivers.push(receiver.clone());
            }
        }
        self.effects.alert_states.insert(incident.subject.clone());
    }

    /// Updates the receivers beyond the routes and the acknowledgements of open incidents.
    fn show_attention(&mut self) {
        for (subject, receivers) in std::mem::take(&mut self.effects.reached) {
            if let Some(incident) = self.incident(&subject).cloned() {
                self.remember_receivers(&incident, &receivers);
            }
        }
        for (subject, who) in std::mem::take(&mut self.effects.acknowledged) {
            if let Some(open) = self.incident_mut(&subject) {
                open.acknowledged = who;
                self.effects.alert_states.insert(subject);
            }
        }
    }
}

/// A bad run of an open incident.
struct Failure<'a> {
    cause: FailureFingerprint,
    /// Quick hash of the values behind the fingerprint.
    print: u64,
    scenario: &'a Scenario,
    began: DateTime<Utc>,
}

/// Decision of the flapping stage about an opening or a resolution.
enum FlapDecision {
    /// Notify, with a note.
    Notify(Option<String>),
    /// Suppress.
    Suppress,
}

/// Returns a function that finds the open incident of a subject.
fn find<'a>(
    alert_states: &'a HashMap<Subject, AlertState>,
    budgets: &'a budgets::Budgets,
    agent: &'a AgentAlertState,
) -> impl Fn(&Subject) -> Option<&'a Incident> {
    |subject| match subject {
        Subject::Agent(_) => agent.open.as_ref(),
        Subject::Objective(_) => budgets.open(subject),
        Subject::Scenario(_) => alert_states.get(subject)?.open.as_ref(),
        Subject::Test(_) => None,
    }
}
