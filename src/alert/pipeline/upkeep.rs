//! Consistency of the pipeline's state with the store: writing all of it to an empty store, and continuing after the
//! state of a subject was lost.

use super::super::agent::AgentAlertState;
use super::super::slo::SloAlertState;
use super::super::state_machine::AlertState;
use super::super::{mute, suppression};
use chrono::{DateTime, Utc};

use super::Pipeline;
use crate::incident::{Incident, Subject};

impl Pipeline {
    /// Marks all state as changed, so that it is stored with the next batch.
    pub fn touch_all(&mut self) {
        self.effects.alert_states.extend(self.alert_states.keys().cloned());
        self.effects.alert_states.extend(self.budgets.alert_states.keys().cloned());
        self.effects.alert_states.insert(Subject::agent(&self.location));
        self.touched.extend(self.mutes.keys().map(|id| format!("{}{id}", mute::PREFIX)));
        self.touched.extend(self.held.keys().map(|subject| format!("{}{subject}", suppression::PREFIX)));
        self.groups.touch_all();
        self.limits.touch_all();
    }

    /// Records a problem with the agent itself, or its end if `message` is `None`; `about` is its topic. A problem that
    /// persists is reported by the agent's own incident.
    pub fn trouble(&mut self, about: &str, message: Option<String>, now: DateTime<Utc>) {
        if self.agent.trouble(about, message, now) {
            self.effects.alert_states.insert(Subject::agent(&self.location));
        }
    }

    /// Adopts an open incident whose alert state was lost.
    pub fn adopt(&mut self, incident: Incident) {
        let (subject, severity) = (incident.subject.clone(), incident.severity);
        match &subject {
            Subject::Agent(location) if **location == *self.location => {
                self.agent = AgentAlertState::adopted(incident);
            }
            Subject::Agent(_) | Subject::Test(_) => return,
            Subject::Objective(_) => {
                self.budgets.alert_states.insert(subject, SloAlertState::adopted(incident));
            }
            Subject::Scenario(_) => {
                self.alert_states.insert(subject, AlertState::adopted(incident));
            }
        }
        self.count(None, Some(severity));
    }

    /// Creates a group for each open incident whose receivers were notified and whose group was lost, so that they are
    /// notified of its resolution. Returns the subjects of these incidents.
    pub fn regroup(&mut self, now: DateTime<Utc>) -> Vec<Subject> {
        let open = self.alert_states.values().filter_map(|watch| watch.open.as_ref());
        let open = open.chain(self.budgets.alert_states.values().filter_map(|watch| watch.open.as_ref()));
        let open = open.chain(&self.agent.open).filter(|incident| !incident.receivers.is_empty());
        let lost = |it: &&Incident| !self.held.contains_key(&it.subject) && self.groups.of(&it.subject).is_none();
        let lost: Vec<Incident> = open.filter(lost).cloned().collect();
        for incident in &lost {
            self.groups.adopt(incident, now);
        }
        lost.into_iter().map(|incident| incident.subject).collect()
    }
}
