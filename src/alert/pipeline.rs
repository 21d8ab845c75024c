//! The pipeline: every stage from an outcome to a notice, in order. Pure: state, outcome or tick, and now in; what is
//! to be written and told out. The same outcomes and ticks give the same notices.
//!
//! | stage | file | what it decides |
//! |---|---|---|
//! | own fault | `machine`, `agent` | whether it says anything of the target |
//! | quorum of locations | `quorum` | whether enough of them see it |
//! | n of m | `machine` | whether an incident opens or resolves |
//! | flapping | `flapping` | whether its coming and going is told |
//! | dependencies, maintenance, silences | `hold`, `mute` | whether it is held back, and until when |
//! | route | `policy` | who is told of it |
//! | cause, group, change, reminder | `cause`, `group` | with which others, and when |
//! | limit | `limit` | whether the receiver has had enough for now |

mod clock;
mod presence;
mod receivers;
mod requests;
mod slo;
mod upkeep;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::agent::AgentWatch;
use super::cause::Cause;
use super::effects::Effects;
use super::group::Join;
use super::groups::{self, Groups};
use super::hold::{self, Held, Hold, Waiting};
use super::limit::Limits;
use super::machine::{Judgement, Watch};
use super::mute::{self, Mute, Muted};
use super::slo::SloWatch;
use super::{flapping, policy};
use crate::incident::{Event, Incident, Matchers, Subject, Why};
use crate::names::suppressed;
use crate::notify::Alerting;
use crate::outcome::{Outcome, Verdict};
use crate::scenario::{Parents, Scenario, ScenarioId, Severity, parents};

pub use presence::Idle;
pub(super) use receivers::{readdressed, rename_in};
pub use slo::runs_within;

/// The key in memory under which the receivers stand, with what stands for their addresses.
const RECEIVERS: &str = "receivers";

/// The key in memory under which the location stands that the store was last written from.
const LOCATION: &str = "location";

/// Every scenario that is there, by id.
pub type Scenarios = Arc<BTreeMap<ScenarioId, Arc<Scenario>>>;

/// The state of alerting.
#[derive(Debug)]
pub struct Pipeline {
    location: String,
    scenarios: Scenarios,
    alerting: Arc<Alerting>,
    watches: HashMap<Subject, Watch>,
    agent: AgentWatch,
    /// Agents that this one was before its location was renamed: a store has one agent.
    former: HashMap<Subject, AgentWatch>,
    /// The location that the store was last written from.
    known_location: Option<String>,
    /// What stands for the address of each receiver, by name.
    addresses: BTreeMap<String, String>,
    budgets: slo::Budgets,
    groups: Groups,
    limits: Limits,
    parents: Parents,
    mutes: BTreeMap<String, Mute>,
    /// Incidents that are open and held back.
    held: HashMap<Subject, Waiting>,
    /// Who is held until a parent is looked at.
    children: HashMap<Subject, BTreeSet<Subject>>,
    /// When a subject is to be looked at again. What is no longer so does no harm.
    timers: BTreeSet<(DateTime<Utc>, Subject)>,
    /// Whether the files were heard of. Before, nothing can be told: who is to hear of it is not known.
    ready: bool,
    open: BTreeMap<Severity, usize>,
    /// Keys in memory, of mutes and held incidents, that are no longer as they were written.
    touched: BTreeSet<String>,
    effects: Effects,
}

/// What people ask of alerting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Request {
    /// Tell nothing for a while.
    Mute(Mute),
    /// End a mute now.
    Expire {
        /// Its id.
        id: String,
    },
    /// Say what a match is meant for at present.
    Preview {
        /// What would be silenced.
        matches: Matchers,
    },
    /// Somebody works on an incident.
    Acknowledge {
        /// The key of the incident or of its notice.
        key: String,
        /// Name of the person who asks.
        author: String,
        /// For how long; none: until it is over.
        #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
        length: Option<std::time::Duration>,
    },
    /// Nobody works on an incident any longer.
    Unacknowledge {
        /// The key of the incident or of its notice.
        key: String,
        /// Who says so.
        author: String,
        /// The author of the acknowledgement that is meant; without it, any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        of: Option<String>,
    },
    /// A person resolves an incident, which stays so until its scenario was good and is bad again.
    Resolve {
        /// The key of the incident or of its notice.
        key: String,
        /// Name of the person who asks.
        author: String,
        /// Why.
        reason: String,
    },
    /// A person resolves all open incidents of a notification.
    ResolveGroup {
        /// The key of the notification.
        key: String,
        /// Name of the person who asks.
        author: String,
        /// Why.
        reason: String,
    },
}

impl Request {
    /// The key of the incident that it is about, if it is about one.
    pub fn key_mut(&mut self) -> Option<&mut String> {
        match self {
            Self::Acknowledge { key, .. }
            | Self::Unacknowledge { key, .. }
            | Self::Resolve { key, .. }
            | Self::ResolveGroup { key, .. } => Some(key),
            Self::Mute(_) | Self::Expire { .. } | Self::Preview { .. } => None,
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mute(mute) => {
                let (id, until, author) = (&mute.id, mute.until.format("%F %TZ"), &mute.author);
                let what = if mute.maintenance { "maintenance" } else { "silence" };
                write!(f, "{what} {id} of {} until {until}", mute.matches)?;
                if let Some(during) = &mute.during {
                    write!(f, ", {during}")?;
                }
                write!(f, ", by {author}")
            }
            Self::Expire { id } => write!(f, "the end of {id}"),
            Self::Preview { matches } => write!(f, "what {matches} is meant for"),
            Self::Acknowledge { key, author, .. } => write!(f, "{key} is acknowledged by {author}"),
            Self::Unacknowledge { key, author, .. } => write!(f, "{key} is no longer acknowledged, says {author}"),
            Self::Resolve { key, author, reason } => write!(f, "{key} is resolved by {author}: {reason}"),
            Self::ResolveGroup { key, author, reason } => {
                write!(f, "all of {key} is resolved by {author}: {reason}")
            }
        }
    }
}

impl Pipeline {
    /// A pipeline that remembers nothing.
    pub fn new(location: &str) -> Self {
        Self {
            location: location.to_owned(),
            scenarios: Arc::default(),
            alerting: Arc::default(),
            watches: HashMap::new(),
            agent: AgentWatch::default(),
            former: HashMap::new(),
            known_location: None,
            addresses: BTreeMap::new(),
            budgets: slo::Budgets::default(),
            groups: Groups::default(),
            limits: Limits::default(),
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

    /// Takes back what was written. An error names what does not read.
    pub fn restore(&mut self, watches: Vec<(Subject, Json)>, memory: Vec<(String, Json)>) -> Result<(), String> {
        for (subject, body) in watches {
            let unread = |e: serde_json::Error| format!("what alerting remembers of {subject} does not read: {e}");
            if subject == Subject::agent(&self.location) {
                self.agent = serde_json::from_value(body).map_err(unread)?;
                self.count(None, self.agent.open.as_ref().map(|open| open.severity));
            } else if subject.slo_of().is_some() {
                let watch: SloWatch = serde_json::from_value(body).map_err(unread)?;
                self.count(None, watch.open.as_ref().map(|open| open.severity));
                self.budgets.watches.insert(subject, watch);
            } else if subject.is_agent() {
                let watch: AgentWatch = serde_json::from_value(body).map_err(unread)?;
                self.count(None, watch.open.as_ref().map(|open| open.severity));
                self.former.insert(subject, watch);
            } else {
                let watch: Watch = serde_json::from_value(body).map_err(unread)?;
                self.count(None, watch.open.as_ref().map(|open| open.severity));
                self.timers.extend(watch.flapping.steady_at().map(|at| (at, subject.clone())));
                self.watches.insert(subject, watch);
            }
        }
        for (key, body) in memory {
            let unread = |e: serde_json::Error| format!("what alerting remembers under {key} does not read: {e}");
            if let Some(id) = key.strip_prefix(groups::PREFIX) {
                self.groups.restore(id, body).map_err(unread)?;
            } else if let Some(id) = key.strip_prefix(mute::PREFIX) {
                let mute: Mute = serde_json::from_value(body).map_err(unread)?;
                self.timers.insert((mute.until, Subject(key.as_str().into())));
                self.mutes.insert(id.to_owned(), mute);
            } else if let Some(subject) = key.strip_prefix(hold::PREFIX) {
                self.wait(&Subject(subject.into()), serde_json::from_value(body).map_err(unread)?);
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

    /// How many incidents are open, by severity.
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

    /// These are told from now on.
    pub fn alerting(&mut self, alerting: Arc<Alerting>) {
        self.limits.alerting(&alerting);
        self.alerting = alerting;
    }

    /// The stage of the limit: takes what is told further, or holds it.
    fn limit(&mut self, now: DateTime<Utc>) {
        self.show_attention();
        for notice in std::mem::take(&mut self.effects.told) {
            self.limits.pass(notice, now, &mut self.effects);
        }
    }

    /// These scenarios are there from now on; of others it is known why they do not run.
    pub fn scenarios(&mut self, scenarios: Scenarios, idle: &Idle, now: DateTime<Utc>) {
        self.scenarios = scenarios;
        self.ready = true;
        // What is wrong with them was told when the files were loaded.
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

    /// A run ended.
    pub fn outcome(&mut self, outcome: &Outcome, now: DateTime<Utc>) {
        let Some(scenario) = self.scenarios.get(&outcome.scenario).cloned() else { return };
        let subject = Subject::from(&outcome.scenario);
        let watch = self.watches.entry(subject.clone()).or_default();
        let before = watch.open.as_ref().map(|open| open.severity);
        let judgement = watch.advance(&scenario, outcome, self.alerting.quorum);
        let (unknown_in_a_row, after) = (watch.unknown, watch.open.as_ref().map(|open| open.severity));
        if before != after {
            self.count(before, after);
        }
        self.effects.watches.insert(subject.clone());
        let is_new = judgement.is_some();
        if let Some(judgement) = judgement {
            let why = judgement.decision.why;
            let bad = judgement.bad && matches!(why, Why::Opened | Why::Repeat | Why::Raised);
            let print = if bad { Cause::print(outcome) } else { 0 };
            // What fails as it did in the run before says nothing new, unless something waits for a further run.
            let new = why != Why::Repeat || self.held.contains_key(&subject) || !self.groups.knows(&subject, print);
            let failure = (bad && new).then(|| Failure {
                cause: Cause::of(&scenario, outcome),
                print,
                scenario: &scenario,
                began: outcome.started_at,
            });
            self.take(judgement, failure, now);
        }
        // Whoever waits for this one learns now whether it explains them.
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
            self.effects.watches.insert(Subject::agent(&self.location));
            if let Some(judgement) = judgement {
                self.take(judgement, None, now);
            }
        }
        self.limit(now);
    }

    /// Time passes: what is due by now is told.
    pub fn tick(&mut self, now: DateTime<Utc>) {
        if !self.ready {
            return;
        }
        self.tick_agent(now);
        while let Some((at, subject)) = self.timers.first().filter(|(at, _)| *at <= now).cloned() {
            self.timers.remove(&(at, subject.clone()));
            self.wake(&subject, now);
        }
        // What has waited for long goes before what is new.
        self.limits.tick(now, &mut self.effects);
        let (find, alerting, mutes) = (find(&self.watches, &self.budgets, &self.agent), &self.alerting, &self.mutes);
        let muted = |incident: &Incident| mute::muted(alerting, mutes, incident, now);
        self.groups.tick(now, find, muted, &mut self.effects);
        self.limit(now);
    }

    /// The agent stops: what still gathers is told now, since nobody knows when it starts again.
    pub fn stop(&mut self, now: DateTime<Utc>) {
        if !self.ready {
            return;
        }
        self.tick(now);
        let (find, alerting, mutes) = (find(&self.watches, &self.budgets, &self.agent), &self.alerting, &self.mutes);
        let muted = |incident: &Incident| mute::muted(alerting, mutes, incident, now);
        self.groups.tell_gathering(now, find, muted, &mut self.effects);
        self.limit(now);
    }

    /// When [`Pipeline::tick`] has something to do next, if nothing happens before.
    pub fn next(&self) -> Option<DateTime<Utc>> {
        if !self.ready {
            return None;
        }
        let timer = self.timers.first().map(|(at, _)| *at);
        [self.agent.next(), self.groups.next(), self.limits.next(), timer].into_iter().flatten().min()
    }

    /// What is to be written and told since this was last asked.
    pub fn effects(&mut self) -> Effects {
        std::mem::take(&mut self.effects)
    }

    /// What these subjects' watches are like, to be written.
    pub fn watch(&self, subject: &Subject) -> Json {
        let watch = if let Some(former) = self.former.get(subject) {
            serde_json::to_value(former)
        } else if subject.is_agent() {
            serde_json::to_value(&self.agent)
        } else if subject.slo_of().is_some() {
            serde_json::to_value(self.budgets.watches.get(subject))
        } else {
            serde_json::to_value(self.watches.get(subject))
        };
        watch.expect("plain data becomes JSON")
    }

    /// The incident of a subject that is open.
    pub fn incident(&self, subject: &Subject) -> Option<&Incident> {
        find(&self.watches, &self.budgets, &self.agent)(subject)
    }

    /// The cause that an incident was last seen to have.
    pub fn cause_of(&self, incident: &Incident) -> Cow<'_, Cause> {
        let subject = &incident.subject;
        let held = self.held.get(subject).map(|waiting| &waiting.cause);
        let known = held.or_else(|| self.groups.of(subject)?.cause_of(subject));
        known.map_or_else(|| Cow::Owned(Cause::of_incident(incident)), Cow::Borrowed)
    }

    /// What else changed since this was last asked, to be written; none: to be forgotten.
    pub fn memory(&mut self) -> Vec<(String, Option<Json>)> {
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
                let subject = key.strip_prefix(hold::PREFIX).unwrap_or(&key);
                self.held.get(&Subject(subject.into())).map(serde_json::to_value)
            };
            memory.push((key, body.map(|body| body.expect("plain data becomes JSON"))));
        }
        memory
    }

    /// What people asked for and has not ended.
    pub fn mutes(&self) -> impl Iterator<Item = &Mute> {
        self.mutes.values()
    }

    /// Takes a judgement of the machine through the rest of the stages.
    fn take(&mut self, judgement: Judgement, failure: Option<Failure>, now: DateTime<Utc>) {
        let Judgement { decision, bad, told } = judgement;
        let (subject, why) = (decision.subject.clone(), decision.why);
        let suppressed = match why {
            Why::OwnFault => Some(suppressed::OWN_FAULT),
            Why::Quorum if bad => Some(suppressed::QUORUM),
            Why::Count if bad => Some(suppressed::COUNT),
            Why::Repeat if bad => Some(suppressed::REPEAT),
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
                    let routed = policy::route(&self.alerting, &incident, now);
                    self.remember_receivers(&incident, &routed.receivers);
                    self.groups.raise(&incident, &routed, now);
                }
                self.failed(&subject, failure, now);
            }
            None => self.failed(&subject, failure, now),
        }
    }

    /// A bad run of an incident that is open.
    fn failed(&mut self, subject: &Subject, failure: Option<Failure>, now: DateTime<Utc>) {
        let Some(failure) = failure else { return };
        let Some(waiting) = self.held.get_mut(subject) else {
            // A change must be seen as often as a failure, at most twice.
            let needed = failure.scenario.alert.after.min(2);
            self.groups.fail(subject, (failure.cause, failure.print), needed, now);
            return;
        };
        let again = matches!(waiting.hold, Hold::Since { at } if failure.began >= at);
        if waiting.cause != failure.cause {
            waiting.cause = failure.cause;
            self.touched.insert(format!("{}{subject}", hold::PREFIX));
        }
        if again {
            self.admit(subject, now, now);
        }
    }

    fn opened(&mut self, incident: &Incident, failure: Option<Failure>, now: DateTime<Utc>) {
        let subject = &incident.subject;
        let opened_at = incident.opened_at;
        let Some(failure) = failure else {
            let (hold, cause) = (Hold::Since { at: now }, Cause::of_agent());
            let waiting = Waiting { hold, began: opened_at, cause, remind: None, note: None };
            return self.join(incident, opened_at, waiting, now);
        };
        let alert = &failure.scenario.alert;
        let note = match self.change(incident, failure.scenario, now) {
            Change::Quiet => return,
            Change::Told(note) => note,
        };
        let waiting = Waiting {
            hold: Hold::Since { at: now },
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
        let scenario = self.scenarios.get(&ScenarioId::from(subject.as_str())).cloned();
        if let Some(scenario) = scenario.filter(|_| incident.ending.is_none())
            && matches!(self.change(incident, &scenario, now), Change::Quiet)
        {
            return;
        }
        if self.release(subject).is_some() {
            self.effects.decide(subject, Why::Brief, "over while it was held: nobody was told", now);
        } else {
            self.groups.resolve(subject, Some(incident), now, &mut self.effects);
        }
    }

    /// The stage of flapping: an incident opened or resolved.
    fn change(&mut self, incident: &Incident, scenario: &Scenario, now: DateTime<Utc>) -> Change {
        let subject = &incident.subject;
        let Some(watch) = self.watches.get_mut(subject) else { return Change::Told(None) };
        let was_on = watch.flapping.is_on();
        let cycle = flapping::cycle(&scenario.alert, scenario.schedule.shortest_gap(now));
        let begins = watch.flapping.change(incident.is_open(), cycle, now);
        let steady_at = watch.flapping.steady_at();
        self.timers.extend(steady_at.map(|at| (at, subject.clone())));
        if let (true, Some(_)) = (was_on, self.groups.of(subject)) {
            let what = if incident.is_open() { "opened" } else { "resolved" };
            let until = steady_at.unwrap_or(now).format("%T");
            self.effects.suppress(suppressed::FLAPPING, 1);
            let detail = format!("{what} again; quiet until it is steady, at {until} at the earliest");
            self.effects.decide(subject, Why::Flapping, detail, now);
            return Change::Quiet;
        }
        if let Some(note) = &begins {
            self.effects.decide(subject, Why::Flapping, note.clone(), now);
        }
        Change::Told(begins)
    }

    /// The stage of groups: nothing holds the incident any longer.
    fn join(&mut self, incident: &Incident, opened_at: DateTime<Utc>, waiting: Waiting, now: DateTime<Utc>) {
        let routed = policy::route(&self.alerting, incident, now);
        self.remember_receivers(incident, &routed.receivers);
        let (receivers, escalate) = (routed.receivers.clone(), routed.escalate.clone());
        let Waiting { cause, remind, note, .. } = waiting;
        let join = Join { opened_at, receivers, wait: routed.wait, cause, remind, note, escalate };
        self.groups.open(incident, &routed, join, now, &mut self.effects);
    }

    /// The stage of dependencies, maintenance and silences: what holds an incident back, if anything does. `patience`:
    /// until when parents that were not looked at are waited for; none: they have still to be asked for.
    fn holds(
        &mut self,
        incident: &Incident,
        began: DateTime<Utc>,
        patience: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Option<Held> {
        let by_scenario = self.is_told_by_scenario(incident);
        if by_scenario.is_some() {
            return by_scenario;
        }
        let mut unseen = Vec::new();
        for id in self.ancestors(&incident.subject) {
            let parent = Subject::from(&id);
            if let Some(why) = self.is_down(&id) {
                let detail = format!("`{id}`, which it depends on, {why}");
                return Some(Held { hold: Hold::Down { parent }, why: Why::Dependency, detail });
            }
            let looked_at = self.watches.get(&parent).and_then(|watch| watch.looked_at);
            if looked_at < Some(began) {
                unseen.push(id);
            }
        }
        if let Some(first) = unseen.first()
            && patience.is_none_or(|until| until > now)
        {
            let (parent, until) = (Subject::from(first), patience.unwrap_or(now + hold::LOOK));
            let detail = format!("`{first}`, which it depends on, is looked at first, until {}", until.format("%T"));
            if patience.is_none() {
                self.effects.look.extend(unseen);
            }
            return Some(Held { hold: Hold::Look { parent, until }, why: Why::Dependency, detail });
        }
        let Muted { id, until, why, detail } = mute::muted(&self.alerting, &self.mutes, incident, now)?;
        Some(Held { hold: Hold::Muted { mute: id, until }, why, detail })
    }

    /// All that a subject depends on, the nearest first.
    fn ancestors(&self, subject: &Subject) -> Vec<ScenarioId> {
        let mut all: Vec<ScenarioId> = Vec::new();
        let of = |id: &ScenarioId| self.parents.get(id).map(Vec::as_slice).unwrap_or_default();
        all.extend_from_slice(of(&ScenarioId::from(subject.scenario())));
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

    /// Whether a parent fails, and how.
    fn is_down(&self, id: &ScenarioId) -> Option<String> {
        let watch = self.watches.get(&Subject::from(id))?;
        let down = self.scenarios.get(id).is_some_and(|scenario| watch.is_down(&scenario.alert));
        down.then(|| match &watch.open {
            Some(open) => format!("is down as {}", open.dedup_key()),
            None => "failed in its last run".to_owned(),
        })
    }

    fn hold(&mut self, subject: &Subject, mut waiting: Waiting, held: Held, now: DateTime<Utc>) {
        waiting.hold = held.hold;
        self.effects.decide(subject, held.why, held.detail, now);
        self.wait(subject, waiting);
        self.touched.insert(format!("{}{subject}", hold::PREFIX));
    }

    fn wait(&mut self, subject: &Subject, waiting: Waiting) {
        self.timers.extend(waiting.hold.until().map(|at| (at, subject.clone())));
        if let Some(parent) = waiting.hold.parent() {
            self.children.entry(parent.clone()).or_default().insert(subject.clone());
        }
        self.held.insert(subject.clone(), waiting);
    }

    fn release(&mut self, subject: &Subject) -> Option<Waiting> {
        let waiting = self.held.remove(subject)?;
        if let Some(parent) = waiting.hold.parent()
            && let Some(children) = self.children.get_mut(parent)
        {
            children.remove(subject);
            if children.is_empty() {
                self.children.remove(parent);
            }
        }
        self.touched.insert(format!("{}{subject}", hold::PREFIX));
        Some(waiting)
    }

    /// What holds an incident may be over.
    fn reconsider(&mut self, subject: &Subject, now: DateTime<Utc>) {
        let Some(hold) = self.held.get(subject).map(|waiting| waiting.hold.clone()) else { return };
        match hold {
            Hold::Look { until, .. } => self.admit(subject, until, now),
            Hold::Down { parent } => {
                let id = ScenarioId::from(parent.as_str());
                if subject.slo_of() == Some(parent.as_str()) {
                    if self.incident(subject).is_some_and(|open| self.told_by(open, &parent).is_none()) {
                        self.recovered(subject, &format!("`{id}` itself is no longer down"), now);
                    }
                } else if !self.ancestors(subject).contains(&id) {
                    self.recovered(subject, &format!("it does not depend on `{id}` any more"), now);
                } else if self.is_down(&id).is_none() {
                    self.recovered(subject, &format!("`{id}` is well again"), now);
                }
            }
            Hold::Muted { mute, until } => {
                let muted = self.incident(subject).and_then(|open| mute::muted(&self.alerting, &self.mutes, open, now));
                if until <= now || muted.is_none_or(|muted| muted.id != mute) {
                    self.unmuted(subject, now);
                }
            }
            // Its next run decides.
            Hold::Since { .. } => {}
        }
    }

    /// Tells of an incident that was held, unless something else holds it. Parents that were not looked at are waited
    /// for until `patience`.
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
                // When it opened is as the clock showed then; when its run began is a timer.
                self.join(&incident, waiting.began, waiting, now);
            }
        }
    }

    /// What held an incident is over: it is told if it is bad once more.
    fn recovered(&mut self, subject: &Subject, why: &str, now: DateTime<Utc>) {
        let Some(waiting) = self.release(subject) else { return };
        let detail = format!("{why}; told if its next run is bad");
        self.hold(subject, waiting, Held { hold: Hold::Since { at: now }, why: Why::Released, detail }, now);
    }

    fn unmuted(&mut self, subject: &Subject, now: DateTime<Utc>) {
        self.recovered(subject, "maintenance or silence is over", now);
    }

    /// A timer of a subject has come, or that of a mute.
    fn wake(&mut self, subject: &Subject, now: DateTime<Utc>) {
        if let Some(id) = subject.as_str().strip_prefix(mute::PREFIX) {
            if self.mutes.get(id).is_some_and(|mute| mute.until <= now) {
                self.mutes.remove(id);
                self.touched.insert(subject.to_string());
            }
            return;
        }
        if let Some(watch) = self.watches.get_mut(subject)
            && watch.flapping.settle(now)
        {
            let open = watch.open.is_some();
            self.effects.watches.insert(subject.clone());
            let state = if open { "failing" } else { "well" };
            self.effects.decide(subject, Why::Flapping, format!("steady again: {state}"), now);
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

    /// The incident of a subject that is open, to be changed; its watch is then to be written.
    fn incident_mut(&mut self, subject: &Subject) -> Option<&mut Incident> {
        if subject.is_agent() {
            self.agent.open.as_mut().filter(|open| open.subject == *subject)
        } else if subject.slo_of().is_some() {
            self.budgets.watches.get_mut(subject).and_then(|watch| watch.open.as_mut())
        } else {
            self.watches.get_mut(subject).and_then(|watch| watch.open.as_mut())
        }
    }

    /// Puts the receivers into the incident: who hears of the opening hears of the rest.
    fn remember_receivers(&mut self, incident: &Incident, receivers: &[String]) {
        let Some(open) = self.incident_mut(&incident.subject) else { return };
        for receiver in receivers {
            if !open.receivers.contains(receiver) {
                open.receivers.push(receiver.clone());
            }
        }
        self.effects.watches.insert(incident.subject.clone());
    }

    /// Puts into incidents who was told of them beside their routes, and who works on them.
    fn show_attention(&mut self) {
        for (subject, receivers) in std::mem::take(&mut self.effects.reached) {
            if let Some(incident) = self.incident(&subject).cloned() {
                self.remember_receivers(&incident, &receivers);
            }
        }
        for (subject, who) in std::mem::take(&mut self.effects.acknowledged) {
            if let Some(open) = self.incident_mut(&subject) {
                open.acknowledged = who;
                self.effects.watches.insert(subject);
            }
        }
    }
}

/// A bad run of an incident that is open.
struct Failure<'a> {
    cause: Cause,
    /// Of what the cause was made of.
    print: u64,
    scenario: &'a Scenario,
    began: DateTime<Utc>,
}

/// What the stage of flapping makes of an opening or a resolving.
enum Change {
    /// It goes on, with what is to be said of it.
    Told(Option<String>),
    /// It says nothing new.
    Quiet,
}

/// Finds the incident of a subject that is open.
fn find<'a>(
    watches: &'a HashMap<Subject, Watch>,
    budgets: &'a slo::Budgets,
    agent: &'a AgentWatch,
) -> impl Fn(&Subject) -> Option<&'a Incident> {
    |subject| {
        if subject.is_agent() {
            agent.open.as_ref()
        } else if subject.slo_of().is_some() {
            budgets.open(subject)
        } else {
            watches.get(subject).and_then(|watch| watch.open.as_ref())
        }
    }
}
