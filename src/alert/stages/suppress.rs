//! The suppress stage: whether an open incident is not notified because of a dependency, silence or maintenance window,
//! and until when. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use serde::Deserialize as _;
use serde_json::Value as Json;

use super::mute::{self, Muted};
use super::suppression::{PARENT_RUN_TIMEOUT, PREFIX, SuppressedIncident, Suppression, SuppressionDetail};
use crate::alert::context::{Context, TimerKey};
use crate::alert::evaluation::Failure;
use crate::alert::states::AlertStates;
use crate::alert::timers::{Timer, Timers};
use crate::incident::{DecisionReason, Incident, Mute, Subject};
use crate::scenario::{Parents, ScenarioId, parents};

/// Suppressed incidents, and what may suppress others.
#[derive(Debug, Default)]
pub struct Suppressions {
    parents: Parents,
    mutes: BTreeMap<String, Mute>,
    /// Incidents that are open and suppressed.
    held: HashMap<Subject, SuppressedIncident>,
    /// Suppressed incidents that wait for a run of a parent, by parent.
    children: HashMap<Subject, BTreeSet<Subject>>,
}

/// Incident whose suppression has ended, for the group stage.
#[derive(Debug)]
pub struct ReleasedIncident {
    /// The open incident.
    pub incident: Incident,
    /// Data for its notification.
    pub data: SuppressedIncident,
}

impl Timers for Suppressions {
    fn timers(&mut self, visit: &mut dyn FnMut(Timer<'_>)) {
        self.mutes.values_mut().for_each(|mute| mute.timers(visit));
        self.held.values_mut().for_each(|held| held.timers(visit));
    }
}

fn key_of(subject: &Subject) -> String {
    format!("{PREFIX}{subject}")
}

fn key_of_mute(id: &str) -> String {
    format!("{}{id}", mute::PREFIX)
}

impl Suppressions {
    /// Restores a mute or a suppressed incident from the store. Returns whether the key belongs to one.
    pub fn restore(&mut self, key: &str, body: &Json, context: &mut Context) -> Result<bool, serde_json::Error> {
        if let Some(id) = key.strip_prefix(mute::PREFIX) {
            let mute = Mute::deserialize(body)?;
            context.timers.insert((mute.until, TimerKey::Mute(id.to_owned())));
            self.mutes.insert(id.to_owned(), mute);
        } else if let Some(subject) = key.strip_prefix(PREFIX) {
            self.wait(&Subject::from(subject), SuppressedIncident::deserialize(body)?, context);
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// Returns the entry of the store with this key, to be written, or `None` if it has to be deleted.
    pub fn to_json(&self, key: &str) -> Option<Json> {
        let body = match key.strip_prefix(mute::PREFIX) {
            Some(id) => self.mutes.get(id).map(serde_json::to_value),
            None => self.held.get(&Subject::from(key.strip_prefix(PREFIX)?)).map(serde_json::to_value),
        };
        body.map(|body| body.expect("plain data becomes JSON"))
    }

    /// Marks all mutes and suppressed incidents as changed.
    pub fn touch_all(&self, context: &mut Context) {
        context.touched.extend(self.mutes.keys().map(|id| key_of_mute(id)));
        context.touched.extend(self.held.keys().map(key_of));
    }

    /// Updates the dependencies after scenarios were added, removed or changed.
    pub fn set_dependencies(&mut self, context: &Context) {
        // Problems with dependencies were already reported when the files were loaded.
        (self.parents, _) = parents(&context.scenarios, |_| true);
    }

    /// Returns the mutes by operators that have not ended.
    pub fn mutes(&self) -> &BTreeMap<String, Mute> {
        &self.mutes
    }

    /// Adds a mute.
    pub fn add_mute(&mut self, mute: Mute, context: &mut Context) {
        context.timers.insert((mute.until, TimerKey::Mute(mute.id.clone())));
        context.touched.insert(key_of_mute(&mute.id));
        self.mutes.insert(mute.id.clone(), mute);
    }

    /// Removes a mute. Returns whether there was one.
    pub fn remove_mute(&mut self, id: &str, context: &mut Context) -> bool {
        let found = self.mutes.remove(id).is_some();
        if found {
            context.touched.insert(key_of_mute(id));
        }
        found
    }

    /// Removes a mute that has ended.
    pub fn end_mute(&mut self, id: &str, context: &mut Context, now: DateTime<Utc>) {
        if self.mutes.get(id).is_some_and(|mute| mute.until <= now) {
            self.remove_mute(id, context);
        }
    }

    /// Releases the incidents that a removed mute suppressed.
    pub fn release_muted_by(&mut self, id: &str, context: &mut Context, now: DateTime<Utc>) {
        let by_it = |held: &SuppressedIncident| matches!(&held.hold, Suppression::Muted { mute, .. } if mute == id);
        let held = self.held.iter().filter(|(_, held)| by_it(held)).map(|(subject, _)| subject.clone());
        for subject in held.collect::<Vec<_>>() {
            self.unmuted(&subject, context, now);
        }
    }

    /// Returns the suppressed incident of a subject.
    pub fn get(&self, subject: &Subject) -> Option<&SuppressedIncident> {
        self.held.get(subject)
    }

    /// Returns the subjects of all suppressed incidents.
    pub fn subjects(&self) -> Vec<Subject> {
        self.held.keys().cloned().collect()
    }

    /// Returns the subjects of the incidents that wait for a run of a scenario.
    pub fn children(&self, parent: &Subject) -> Vec<Subject> {
        self.children.get(parent).into_iter().flatten().cloned().collect()
    }

    /// Decides about an incident that opened. Returns the data for its notification, or `None` if it is suppressed.
    pub fn pass(
        &mut self,
        incident: &Incident,
        data: SuppressedIncident,
        states: &AlertStates,
        context: &mut Context,
        now: DateTime<Utc>,
    ) -> Option<SuppressedIncident> {
        let Some(found) = self.find(incident, data.began, None, states, context, now) else { return Some(data) };
        context.effects.suppress(found.suppressed(), 1);
        self.hold(&incident.subject, data, found, context, now);
        None
    }

    /// Processes a bad run of an incident that is suppressed. Returns the incident if it is to be notified now.
    pub fn fail(
        &mut self,
        subject: &Subject,
        failure: Failure<'_>,
        states: &AlertStates,
        context: &mut Context,
        now: DateTime<Utc>,
    ) -> Option<ReleasedIncident> {
        let held = self.held.get_mut(subject)?;
        let again = matches!(held.hold, Suppression::Released { at } if failure.began >= at);
        if held.cause != failure.cause {
            held.cause = failure.cause;
            context.touched.insert(key_of(subject));
        }
        if again { self.admit(subject, now, states, context, now) } else { None }
    }

    /// Returns the suppression of an incident, if any. `patience` is the end of the wait for parents without a recent
    /// run, or `None` if their runs have yet to be requested.
    fn find(
        &self,
        incident: &Incident,
        began: DateTime<Utc>,
        patience: Option<DateTime<Utc>>,
        states: &AlertStates,
        context: &mut Context,
        now: DateTime<Utc>,
    ) -> Option<SuppressionDetail> {
        let by_dependency = |hold, detail| SuppressionDetail { hold, reason: DecisionReason::Dependency, detail };
        if let Subject::Objective(id) = &incident.subject
            && let Some(detail) = states.covers_budget(id, incident)
        {
            return Some(by_dependency(Suppression::ParentFailing { parent: Subject::from(id) }, detail));
        }
        let mut unseen = Vec::new();
        for id in self.ancestors(&incident.subject) {
            if let Some(why) = failure_of(&id, states, context) {
                let detail = format!("its dependency `{id}` {why}");
                return Some(by_dependency(Suppression::ParentFailing { parent: Subject::from(&id) }, detail));
            }
            let last_run_at = states.scenarios.get(&id).and_then(|state| state.looked_at);
            if last_run_at < Some(began) {
                unseen.push(id);
            }
        }
        if let Some(first) = unseen.first()
            && patience.is_none_or(|until| until > now)
        {
            let (parent, until) = (Subject::from(first), patience.unwrap_or(now + PARENT_RUN_TIMEOUT));
            let detail = format!("waiting until {} for a run of its dependency `{first}`", until.format("%T"));
            if patience.is_none() {
                context.effects.run_now.extend(unseen);
            }
            return Some(by_dependency(Suppression::ParentPending { parent, until }, detail));
        }
        let Muted { id, until, reason, detail } = mute::muted(&context.alerting, &self.mutes, incident, now)?;
        Some(SuppressionDetail { hold: Suppression::Muted { mute: id, until }, reason, detail })
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

    /// Suppresses an incident, or changes its suppression.
    fn hold(
        &mut self,
        subject: &Subject,
        mut data: SuppressedIncident,
        found: SuppressionDetail,
        context: &mut Context,
        now: DateTime<Utc>,
    ) {
        data.hold = found.hold;
        context.effects.decide(subject, found.reason, found.detail, now);
        self.wait(subject, data, context);
        context.touched.insert(key_of(subject));
    }

    fn wait(&mut self, subject: &Subject, data: SuppressedIncident, context: &mut Context) {
        context.wake_at(data.hold.until(), subject);
        if let Some(parent) = data.hold.parent() {
            self.children.entry(parent.clone()).or_default().insert(subject.clone());
        }
        self.held.insert(subject.clone(), data);
    }

    /// Ends the suppression of an incident. Returns its data if it was suppressed.
    pub fn release(&mut self, subject: &Subject, context: &mut Context) -> Option<SuppressedIncident> {
        let data = self.held.remove(subject)?;
        if let Some(parent) = data.hold.parent()
            && let Some(children) = self.children.get_mut(parent)
        {
            children.remove(subject);
            if children.is_empty() {
                self.children.remove(parent);
            }
        }
        context.touched.insert(key_of(subject));
        Some(data)
    }

    /// Checks whether the suppression of an incident has ended. Returns the incident if it is to be notified now.
    pub fn recheck(
        &mut self,
        subject: &Subject,
        states: &AlertStates,
        context: &mut Context,
        now: DateTime<Utc>,
    ) -> Option<ReleasedIncident> {
        match self.held.get(subject)?.hold.clone() {
            Suppression::ParentPending { until, .. } => return self.admit(subject, until, states, context, now),
            Suppression::ParentFailing { parent } => {
                let id = parent.scenario()?;
                if matches!(subject, Subject::Objective(own) if own == id) {
                    if states.incident(subject).is_some_and(|open| states.covers_budget(id, open).is_none()) {
                        self.recovered(subject, &format!("`{id}` itself no longer fails"), context, now);
                    }
                } else if !self.ancestors(subject).contains(id) {
                    self.recovered(subject, &format!("it no longer depends on `{id}`"), context, now);
                } else if failure_of(id, states, context).is_none() {
                    self.recovered(subject, &format!("`{id}` has recovered"), context, now);
                }
            }
            Suppression::Muted { mute, until } => {
                let open = states.incident(subject);
                let muted = open.and_then(|open| mute::muted(&context.alerting, &self.mutes, open, now));
                if until <= now || muted.is_none_or(|muted| muted.id != mute) {
                    self.unmuted(subject, context, now);
                }
            }
            // The next run decides.
            Suppression::Released { .. } => {}
        }
        None
    }

    /// Checks the suppression of a subject if it ends now.
    pub fn on_timer(
        &mut self,
        subject: &Subject,
        states: &AlertStates,
        context: &mut Context,
        now: DateTime<Utc>,
    ) -> Option<ReleasedIncident> {
        let until = self.held.get(subject)?.hold.until()?;
        if until <= now { self.recheck(subject, states, context, now) } else { None }
    }

    /// Releases a suppressed incident unless something else suppresses it. `patience` is the end of the wait for
    /// parents without a recent run.
    fn admit(
        &mut self,
        subject: &Subject,
        patience: DateTime<Utc>,
        states: &AlertStates,
        context: &mut Context,
        now: DateTime<Utc>,
    ) -> Option<ReleasedIncident> {
        let data = self.held.get(subject).cloned()?;
        let incident = states.incident(subject).cloned()?;
        match self.find(&incident, data.began, Some(patience), states, context, now) {
            Some(found) if found.hold == data.hold => None,
            Some(found) => {
                self.release(subject, context);
                self.hold(subject, data, found, context, now);
                None
            }
            None => {
                self.release(subject, context);
                Some(ReleasedIncident { incident, data })
            }
        }
    }

    /// Marks the suppression of an incident as ended: the next bad run causes a notification.
    fn recovered(&mut self, subject: &Subject, why: &str, context: &mut Context, now: DateTime<Utc>) {
        let Some(data) = self.release(subject, context) else { return };
        let detail = format!("{why}; notified if its next run is bad");
        let released =
            SuppressionDetail { hold: Suppression::Released { at: now }, reason: DecisionReason::Released, detail };
        self.hold(subject, data, released, context, now);
    }

    fn unmuted(&mut self, subject: &Subject, context: &mut Context, now: DateTime<Utc>) {
        self.recovered(subject, "the silence or maintenance window has ended", context, now);
    }

    /// Updates the ends of mutes after the timers were moved by a change of the clock, and sets all timers again.
    pub fn timers_moved(&mut self, states: &AlertStates, context: &mut Context, now: DateTime<Utc>) {
        for (id, mute) in &self.mutes {
            context.timers.insert((mute.until, TimerKey::Mute(id.clone())));
        }
        for (subject, held) in &mut self.held {
            if let Suppression::Muted { mute, until } = &mut held.hold
                && let Some(incident) = states.incident(subject)
                && let Some(muted) = mute::muted(&context.alerting, &self.mutes, incident, now)
                && *mute == muted.id
            {
                *until = muted.until;
            }
            context.wake_at(held.hold.until(), subject);
        }
    }

    /// Returns the subjects of the incidents that a mute suppresses.
    pub fn muted_subjects(&self) -> Vec<Subject> {
        let muted = self.held.iter().filter(|(_, held)| matches!(held.hold, Suppression::Muted { .. }));
        muted.map(|(subject, _)| subject.clone()).collect()
    }
}

/// Returns a description of a scenario's failure, or `None` if it does not fail or is not loaded.
fn failure_of(id: &ScenarioId, states: &AlertStates, context: &Context) -> Option<String> {
    states.failure_of(context.scenarios.get(id)?)
}
