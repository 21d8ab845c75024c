//! Alert states of all subjects: scenarios, their objectives, and the agent. Pure.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::Value as Json;

use super::agent::AgentAlertState;
use super::budgets::Budgets;
use super::effects::Effects;
use super::evaluation::Evaluation;
use super::receiver_names::rename_in;
use super::slo::SloAlertState;
use super::stages::evaluate::AlertState;
use super::timers::{Timer, Timers};
use crate::incident::{Incident, Subject};
use crate::scenario::{Scenario, ScenarioId, Severity};

/// Alert states of all subjects, with the number of open incidents.
#[derive(Debug, Default)]
pub struct AlertStates {
    /// Location of the agent.
    pub location: String,
    /// States of scenarios.
    pub scenarios: HashMap<ScenarioId, AlertState>,
    /// Error budgets of scenarios.
    pub budgets: Budgets,
    /// State of the agent.
    pub agent: AgentAlertState,
    /// States of this agent under former names of its location: a store belongs to one agent.
    pub former: HashMap<Arc<str>, AgentAlertState>,
    /// Number of open incidents by severity.
    counts: BTreeMap<Severity, usize>,
}

impl Timers for AlertStates {
    fn timers(&mut self, visit: &mut dyn FnMut(Timer<'_>)) {
        self.scenarios.values_mut().for_each(|state| state.timers(visit));
        self.agent.timers(visit);
        self.former.values_mut().for_each(|state| state.timers(visit));
        self.budgets.alert_states.values_mut().for_each(|state| state.timers(visit));
    }
}

impl AlertStates {
    /// Creates the states of an agent without history.
    pub fn new(location: &str) -> Self {
        let counts = Severity::ALL.map(|severity| (severity, 0)).into();
        Self { location: location.to_owned(), counts, ..Self::default() }
    }

    /// Restores the state of a subject.
    pub fn restore(&mut self, subject: Subject, body: Json) -> Result<(), serde_json::Error> {
        let severity = |open: Option<&Incident>| open.map(|open| open.severity);
        let open = match subject {
            Subject::Scenario(id) => {
                let state: AlertState = serde_json::from_value(body)?;
                let open = severity(state.open());
                self.scenarios.insert(id, state);
                open
            }
            Subject::Objective(id) => {
                let state: SloAlertState = serde_json::from_value(body)?;
                let open = severity(state.open.as_ref());
                self.budgets.alert_states.insert(id, state);
                open
            }
            Subject::Agent(location) => {
                let state: AgentAlertState = serde_json::from_value(body)?;
                let open = severity(state.open.as_ref());
                if *location == *self.location {
                    self.agent = state;
                } else {
                    self.former.insert(location, state);
                }
                open
            }
            Subject::Test(_) => None,
        };
        self.count(None, open);
        Ok(())
    }

    /// Adopts an open incident whose alert state was lost.
    pub fn adopt(&mut self, incident: Incident) {
        let severity = incident.severity;
        match incident.subject.clone() {
            Subject::Scenario(id) => drop(self.scenarios.insert(id, AlertState::adopted(incident))),
            Subject::Objective(id) => drop(self.budgets.alert_states.insert(id, SloAlertState::adopted(incident))),
            Subject::Agent(location) if *location == *self.location => self.agent = AgentAlertState::adopted(incident),
            Subject::Agent(_) | Subject::Test(_) => return,
        }
        self.count(None, Some(severity));
    }

    /// Returns the state of a subject, to be stored.
    pub fn to_json(&self, subject: &Subject) -> Json {
        let body = match subject {
            Subject::Scenario(id) => serde_json::to_value(self.scenarios.get(id)),
            Subject::Objective(id) => serde_json::to_value(self.budgets.alert_states.get(id)),
            Subject::Agent(location) => serde_json::to_value(self.former.get(location).unwrap_or(&self.agent)),
            Subject::Test(_) => return Json::Null,
        };
        body.expect("plain data becomes JSON")
    }

    /// Returns the subjects whose states are stored.
    pub fn subjects(&self) -> impl Iterator<Item = Subject> {
        let scenarios = self.scenarios.keys().map(Subject::from);
        let objectives = self.budgets.alert_states.keys().cloned().map(Subject::Objective);
        scenarios.chain(objectives).chain([self.agent_subject()])
    }

    /// Returns the subject of the agent.
    pub fn agent_subject(&self) -> Subject {
        Subject::agent(&self.location)
    }

    /// Returns the number of open incidents by severity.
    pub fn counts(&self) -> &BTreeMap<Severity, usize> {
        &self.counts
    }

    /// Updates the number of open incidents after one of them changed its severity, opened or resolved.
    pub fn count(&mut self, before: Option<Severity>, after: Option<Severity>) {
        if before == after {
            return;
        }
        if let Some(count) = before.and_then(|before| self.counts.get_mut(&before)) {
            *count = count.saturating_sub(1);
        }
        if let Some(count) = after.and_then(|after| self.counts.get_mut(&after)) {
            *count += 1;
        }
    }

    /// Returns the open incident of a subject.
    pub fn incident(&self, subject: &Subject) -> Option<&Incident> {
        match subject {
            Subject::Scenario(id) => self.scenarios.get(id)?.open(),
            Subject::Objective(id) => self.budgets.alert_states.get(id)?.open.as_ref(),
            Subject::Agent(_) => self.agent.open.as_ref(),
            Subject::Test(_) => None,
        }
    }

    /// Returns the open incident of a subject for a change, after which the alert state has to be stored.
    pub fn incident_mut(&mut self, subject: &Subject) -> Option<&mut Incident> {
        match subject {
            Subject::Scenario(id) => self.scenarios.get_mut(id)?.threshold.open.as_mut(),
            Subject::Objective(id) => self.budgets.alert_states.get_mut(id)?.open.as_mut(),
            Subject::Agent(_) => self.agent.open.as_mut().filter(|open| open.subject == *subject),
            Subject::Test(_) => None,
        }
    }

    /// Returns the open incidents of all subjects.
    pub fn open_incidents(&self) -> impl Iterator<Item = &Incident> {
        let scenarios = self.scenarios.values().filter_map(AlertState::open);
        let objectives = self.budgets.alert_states.values().filter_map(|state| state.open.as_ref());
        scenarios.chain(objectives).chain(&self.agent.open)
    }

    /// Resolves the open incident of a subject on behalf of a person.
    pub fn close(&mut self, subject: &Subject, by: &str, now: chrono::DateTime<chrono::Utc>) -> Option<Evaluation> {
        let before = self.incident(subject).map(|open| open.severity);
        let evaluation = match subject {
            Subject::Scenario(id) => self.scenarios.get_mut(id)?.threshold.close(by, now),
            Subject::Objective(id) => self.budgets.alert_states.get_mut(id)?.close(by, now),
            Subject::Agent(_) => self.agent.close(by, now),
            Subject::Test(_) => None,
        }?;
        self.count(before, None);
        Some(evaluation)
    }

    /// Adds the receivers to the incident of a subject: those notified of the opening receive all further
    /// notifications.
    pub fn add_receivers(&mut self, subject: &Subject, receivers: &[String], effects: &mut Effects) {
        let Some(open) = self.incident_mut(subject) else { return };
        for receiver in receivers {
            if !open.receivers.contains(receiver) {
                open.receivers.push(receiver.clone());
            }
        }
        effects.alert_states.insert(subject.clone());
    }

    /// Renames a receiver in all open incidents.
    pub fn rename_receiver(&mut self, old: &str, new: &str, effects: &mut Effects) {
        let scenarios = self.scenarios.values_mut().map(|state| &mut state.threshold.open);
        let objectives = self.budgets.alert_states.values_mut().map(|state| &mut state.open);
        let open = scenarios.chain(objectives).chain([&mut self.agent.open]).filter_map(Option::as_mut);
        for incident in open.filter(|incident| incident.receivers.iter().any(|name| name == old)) {
            rename_in(&mut incident.receivers, old, new);
            effects.alert_states.insert(incident.subject.clone());
        }
    }

    /// Returns a description of a scenario's failure, or `None` if it does not fail.
    pub fn failure_of(&self, scenario: &Scenario) -> Option<String> {
        let state = self.scenarios.get(&scenario.id.value)?;
        state.threshold.is_down(&scenario.alert).then(|| match state.open() {
            Some(open) => format!("is failing as {}", open.dedup_key()),
            None => "failed in its last run".to_owned(),
        })
    }

    /// Describes the open incident of a scenario that makes the incident of its error budget redundant: one with at
    /// least the same severity.
    pub fn covers_budget(&self, scenario: &ScenarioId, budget: &Incident) -> Option<String> {
        let own = self.scenarios.get(scenario)?.open()?;
        (own.severity >= budget.severity).then(|| format!("`{scenario}` itself is failing as {}", own.dedup_key()))
    }
}
