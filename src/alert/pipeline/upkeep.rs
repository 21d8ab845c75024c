//! Consistency of the pipeline's state with the store: restoring it, writing what changed or all of it, and continuing
//! after the state of a subject was lost.

use chrono::{DateTime, Utc};
use serde_json::Value as Json;

use super::{LOCATION, Pipeline, RECEIVERS, group};
use crate::incident::{Incident, Subject};

impl Pipeline {
    /// Restores the stored state. The error names the entry that cannot be read.
    pub fn restore(&mut self, alert_states: Vec<(Subject, Json)>, entries: Vec<(String, Json)>) -> Result<(), String> {
        for (subject, body) in alert_states {
            let unread = |e: serde_json::Error| format!("cannot read the alerting state of {subject}: {e}");
            self.states.restore(subject.clone(), body).map_err(unread)?;
            if let Subject::Scenario(id) = &subject {
                let state = self.states.scenarios.get(id);
                self.context.wake_at(state.and_then(|state| state.flapping.steady_at()), &subject);
            }
        }
        for (key, body) in entries {
            self.restore_entry(&key, body).map_err(|e| format!("cannot read the alerting entry {key}: {e}"))?;
        }
        Ok(())
    }

    fn restore_entry(&mut self, key: &str, body: Json) -> Result<(), serde_json::Error> {
        if let Some(id) = key.strip_prefix(group::PREFIX) {
            self.groups.restore(id, body)?;
        } else if key == LOCATION {
            self.known_location = serde_json::from_value(body)?;
        } else if key == RECEIVERS {
            self.addresses = serde_json::from_value(body)?;
        } else if !self.suppressions.restore(key, &body, &mut self.context)? {
            self.limits.restore(key, body)?;
        }
        Ok(())
    }

    /// Returns the alert state of a subject, to be stored.
    pub fn alert_state(&self, subject: &Subject) -> Json {
        self.states.to_json(subject)
    }

    /// Takes the other alerting entries that changed since the last call, to be stored. `None` stands for an entry to
    /// delete.
    pub fn take_changes(&mut self) -> Vec<(String, Option<Json>)> {
        let mut entries = self.groups.take_touched();
        entries.extend(self.limits.take_touched());
        for key in std::mem::take(&mut self.context.touched) {
            let body = match key.as_str() {
                LOCATION => self.known_location.clone().map(Json::from),
                RECEIVERS => Some(serde_json::to_value(&self.addresses).expect("plain data becomes JSON")),
                key => self.suppressions.to_json(key),
            };
            entries.push((key, body));
        }
        entries
    }

    /// Marks all state as changed, so that it is stored with the next batch.
    pub fn touch_all(&mut self) {
        self.context.effects.alert_states.extend(self.states.subjects());
        self.suppressions.touch_all(&mut self.context);
        self.groups.touch_all();
        self.limits.touch_all();
    }

    /// Records a problem with the agent itself, or its end if `message` is `None`; `about` is its topic. A problem that
    /// persists is reported by the agent's own incident.
    pub fn trouble(&mut self, about: &str, message: Option<String>, now: DateTime<Utc>) {
        if self.states.agent.trouble(about, message, now) {
            self.context.effects.alert_states.insert(self.states.agent_subject());
        }
    }

    /// Adopts an open incident whose alert state was lost.
    pub fn adopt(&mut self, incident: Incident) {
        self.states.adopt(incident);
    }

    /// Creates a group for each open incident whose receivers were notified and whose group was lost, so that they are
    /// notified of its resolution. Returns the subjects of these incidents.
    pub fn regroup(&mut self, now: DateTime<Utc>) -> Vec<Subject> {
        let open = self.states.open_incidents().filter(|incident| !incident.receivers.is_empty());
        let is_lost = |incident: &&Incident| {
            self.suppressions.get(&incident.subject).is_none() && self.groups.of(&incident.subject).is_none()
        };
        let lost: Vec<Incident> = open.filter(is_lost).cloned().collect();
        for incident in &lost {
            self.groups.adopt(incident, now);
        }
        lost.into_iter().map(|incident| incident.subject).collect()
    }
}
