//! The pipeline: every stage from an outcome to a notice, in order. Pure: state, outcome or tick, and now in; what is
//! to be written and told out. The same outcomes and ticks give the same notices.
//!
//! | stage | file | what it decides |
//! |---|---|---|
//! | own fault, n of m | `machine` | whether an incident opens or resolves |
//! | route | `policy` | who is told of it |
//! | cause, group, change, reminder | `cause`, `group` | with which others, and when |

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::Value as Json;

use super::cause::Cause;
use super::effects::Effects;
use super::group::Join;
use super::groups::{self, Groups};
use super::machine::{AgentWatch, Judgement, Watch};
use super::policy;
use crate::incident::{Event, Incident, Subject, Why};
use crate::names::suppressed;
use crate::notify::Alerting;
use crate::outcome::{Outcome, Verdict};
use crate::scenario::{Scenario, ScenarioId, Severity};

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
    groups: Groups,
    open: BTreeMap<Severity, usize>,
    effects: Effects,
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
            groups: Groups::default(),
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
            } else if !subject.is_agent() {
                let watch: Watch = serde_json::from_value(body).map_err(unread)?;
                self.count(None, watch.open.as_ref().map(|open| open.severity));
                self.watches.insert(subject, watch);
            }
        }
        for (key, body) in memory {
            if let Some(id) = key.strip_prefix(groups::PREFIX) {
                let unread = |e: serde_json::Error| format!("what alerting remembers under {key} does not read: {e}");
                self.groups.restore(id, body).map_err(unread)?;
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
        self.alerting = alerting;
    }

    /// These scenarios are there from now on. Those of the second list are known but cannot run now: their incidents
    /// stay, while those of scenarios in neither resolve.
    pub fn scenarios(&mut self, scenarios: Scenarios, refused: &[ScenarioId], now: DateTime<Utc>) {
        self.scenarios = scenarios;
        let refused: BTreeSet<&str> = refused.iter().map(ScenarioId::as_str).collect();
        let gone = |subject: &Subject| {
            !refused.contains(subject.0.as_str())
                && !self.scenarios.contains_key(&ScenarioId::from(subject.0.as_str()))
        };
        let open = self.watches.iter().filter(|(_, watch)| watch.open.is_some());
        let gone: BTreeSet<Subject> =
            open.map(|(subject, _)| subject).filter(|subject| gone(subject)).cloned().collect();
        for subject in gone {
            let Some(watch) = self.watches.get_mut(&subject) else { continue };
            let before = watch.open.as_ref().map(|open| open.severity);
            let judgement = watch.remove(now);
            self.count(before, None);
            self.effects.watches.insert(subject);
            if let Some(judgement) = judgement {
                self.take(judgement, None, now);
            }
        }
    }

    /// A run ended.
    pub fn outcome(&mut self, outcome: &Outcome, now: DateTime<Utc>) {
        let Some(scenario) = self.scenarios.get(&outcome.scenario).cloned() else { return };
        let subject = Subject(outcome.scenario.to_string());
        let watch = self.watches.entry(subject.clone()).or_default();
        let before = watch.open.as_ref().map(|open| open.severity);
        let judgement = watch.advance(&scenario, outcome);
        let (unknown_in_a_row, after) = (watch.unknown, watch.open.as_ref().map(|open| open.severity));
        if before != after {
            self.count(before, after);
        }
        self.effects.watches.insert(subject);
        if let Some(judgement) = judgement {
            let bad = matches!(judgement.decision.why, Why::Opened | Why::Repeat | Why::Raised);
            let cause = bad.then(|| Cause::of(&scenario, outcome));
            self.take(judgement, cause.map(|cause| (cause, &*scenario)), now);
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
    }

    /// Time passes: what is due by now is told.
    pub fn tick(&mut self, now: DateTime<Utc>) {
        let before = self.agent.open.as_ref().map(|open| open.severity);
        if let Some(judgement) = self.agent.tick(now) {
            self.count(before, None);
            self.effects.watches.insert(Subject::agent(&self.location));
            self.take(judgement, None, now);
        }
        let find = find(&self.watches, &self.agent);
        self.groups.tick(now, find, &mut self.effects);
    }

    /// The agent stops: what still gathers is told now, since nobody knows when it starts again.
    pub fn stop(&mut self, now: DateTime<Utc>) {
        self.tick(now);
        self.groups.tell_gathering(now, find(&self.watches, &self.agent), &mut self.effects);
    }

    /// When [`Pipeline::tick`] has something to do next, if nothing happens before.
    pub fn next(&self) -> Option<DateTime<Utc>> {
        [self.agent.quiet_at(), self.groups.next()].into_iter().flatten().min()
    }

    /// What is to be written and told since this was last asked.
    pub fn effects(&mut self) -> Effects {
        std::mem::take(&mut self.effects)
    }

    /// What these subjects' watches are like, to be written.
    pub fn watch(&self, subject: &Subject) -> Json {
        let watch = if subject.is_agent() {
            serde_json::to_value(&self.agent)
        } else {
            serde_json::to_value(self.watches.get(subject))
        };
        watch.expect("plain data becomes JSON")
    }

    /// What else changed since this was last asked, to be written; none: to be forgotten.
    pub fn memory(&mut self) -> Vec<(String, Option<Json>)> {
        self.groups.take_touched()
    }

    /// Takes a judgement of the machine through the rest of the stages.
    fn take(&mut self, judgement: Judgement, cause: Option<(Cause, &Scenario)>, now: DateTime<Utc>) {
        let suppressed = match judgement.decision.why {
            Why::OwnFault => Some(suppressed::OWN_FAULT),
            Why::Count => Some(suppressed::COUNT),
            Why::Repeat => Some(suppressed::REPEAT),
            _ => None,
        };
        if let Some(reason) = suppressed {
            self.effects.suppress(reason, 1);
        }
        let subject = judgement.decision.subject.clone();
        self.effects.decisions.push(judgement.decision);
        if let Some(incident) = judgement.incident {
            self.effects.incidents.insert(incident.dedup_key(), incident);
        }
        let (cause, scenario) = cause.unzip();
        match judgement.told {
            Some((Event::Opened, incident)) => {
                let cause = cause.unwrap_or_else(Cause::of_agent);
                self.opened(incident, cause, scenario.and_then(|scenario| scenario.alert.remind), now);
            }
            Some((Event::Resolved, incident)) => self.groups.resolve(&incident, now, &mut self.effects),
            Some((_, incident)) => {
                let routed = policy::route(&self.alerting, &incident);
                self.remember_receivers(&incident, &routed.receivers);
                self.groups.raise(&incident, &routed, now);
                self.failed(&subject, cause, scenario, now);
            }
            None => self.failed(&subject, cause, scenario, now),
        }
    }

    fn failed(&mut self, subject: &Subject, cause: Option<Cause>, scenario: Option<&Scenario>, now: DateTime<Utc>) {
        // A change must be seen as often as a failure, at most twice.
        if let (Some(cause), Some(scenario)) = (cause, scenario) {
            self.groups.fail(subject, cause, scenario.alert.after.min(2), now);
        }
    }

    fn opened(
        &mut self,
        incident: Incident,
        cause: Cause,
        remind: Option<std::time::Duration>,
        now: DateTime<Utc>,
    ) {
        let routed = policy::route(&self.alerting, &incident);
        let id = groups::id(&routed, &cause);
        self.remember_receivers(&incident, &routed.receivers);
        let join = Join { receivers: routed.receivers, wait: routed.wait, cause, remind };
        self.groups.open(&id, &incident, join, now, &mut self.effects);
    }

    /// Puts the receivers into the incident: who hears of the opening hears of the rest.
    fn remember_receivers(&mut self, incident: &Incident, receivers: &[String]) {
        let open = if incident.subject.is_agent() {
            self.agent.open.as_mut()
        } else {
            self.watches.get_mut(&incident.subject).and_then(|watch| watch.open.as_mut())
        };
        for known in open.into_iter().chain(self.effects.incidents.get_mut(&incident.dedup_key())) {
            for receiver in receivers {
                if !known.receivers.contains(receiver) {
                    known.receivers.push(receiver.clone());
                }
            }
        }
    }
}

/// Finds the incident of a subject that is open.
fn find<'a>(
    watches: &'a HashMap<Subject, Watch>,
    agent: &'a AgentWatch,
) -> impl Fn(&Subject) -> Option<&'a Incident> {
    |subject| {
        if subject.is_agent() { agent.open.as_ref() } else { watches.get(subject).and_then(|watch| watch.open.as_ref()) }
    }
}
