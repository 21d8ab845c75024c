//! Incidents of scenarios that do not run. Those of removed and paused scenarios end as such. Those of unreadable
//! scenarios stay open while the incident `agent/<location>` states that they are not monitored.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::{LOCATION, Pipeline};
use crate::alert::agent::Ticked;
use crate::alert::idle::Idle;
use crate::alert::stages::evaluate::AlertState;
use crate::alert::stages::flapping::Flapping;
use crate::incident::{DecisionReason, Ending, Incident, Subject, Unwatched};
use crate::scenario::ScenarioId;

/// Topic of the agent's incident while files are unusable.
const FILES: &str = "files";
/// Maximum number of unmonitored scenarios that are named.
const NAMED: usize = 5;

impl Pipeline {
    /// Removes the votes and the incident that belong to a former name of the agent's location.
    pub(super) fn rename_location(&mut self, now: DateTime<Utc>) {
        let known = self.known_location.replace(self.states.location.clone());
        if known.as_ref() != Some(&self.states.location) {
            self.context.touched.insert(LOCATION.to_owned());
            let former = self.states.former.keys().map(ToString::to_string);
            for location in former.chain(known).collect::<BTreeSet<_>>() {
                for (id, state) in &mut self.states.scenarios {
                    if state.locations.forget(&location) {
                        self.context.effects.alert_states.insert(Subject::from(id));
                    }
                }
            }
        }
        let open = self.states.former.iter().filter(|(_, state)| state.open.is_some());
        for location in open.map(|(location, _)| Arc::clone(location)).collect::<BTreeSet<_>>() {
            let Some(state) = self.states.former.get_mut(&location) else { continue };
            let before = state.open.as_ref().map(|open| open.severity);
            let evaluation = state.remove(now);
            self.states.count(before, None);
            self.context.effects.alert_states.insert(Subject::Agent(location));
            if let Some(evaluation) = evaluation {
                self.pass(evaluation, None, now);
            }
        }
    }

    /// Returns the cause of the end for the incident of a missing scenario, or `None` if the scenario is only
    /// unreadable. State stored by an earlier version contains no file name, so that any rejected file may be the one
    /// of the scenario.
    pub(super) fn ending(&self, id: &ScenarioId, idle: &Idle) -> Option<Ending> {
        if idle.paused.contains(id) {
            return Some(Ending::Paused);
        }
        let source = self.states.scenarios.get(id).and_then(|state| state.source.as_deref());
        let unreadable =
            idle.why_refused(id.as_str(), source).is_some() || (source.is_none() && !idle.refused.is_empty());
        (!unreadable).then_some(Ending::Removed)
    }

    /// Ends the open incidents of scenarios that were removed or paused.
    pub(super) fn remove_absent(&mut self, idle: &Idle, now: DateTime<Utc>) {
        let is_known = |state: &AlertState| state.open().is_some() || state.flapping.is_on() || state.source.is_some();
        let absent = self.states.scenarios.iter().filter(|(_, state)| is_known(state));
        let absent = absent.filter(|(id, _)| !self.context.scenarios.contains_key(*id));
        let absent: BTreeMap<ScenarioId, Ending> =
            absent.filter_map(|(id, _)| Some((id.clone(), self.ending(id, idle)?))).collect();
        for (id, ending) in absent {
            let Some(state) = self.states.scenarios.get_mut(&id) else { continue };
            let subject = Subject::Scenario(id);
            let before = state.open().map(|open| open.severity);
            let flapped = state.flapping.is_on();
            let evaluation = state.remove(ending, now);
            state.flapping = Flapping::default();
            self.states.count(before, None);
            self.context.effects.alert_states.insert(subject.clone());
            match evaluation {
                Some(evaluation) => self.pass(evaluation, None, now),
                // The scenario flapped, and its incident had just resolved.
                None if flapped => self.groups.resolve(&subject, None, now, &mut self.context.effects),
                None => {}
            }
        }
    }

    /// Marks open incidents whose scenarios are not monitored, and lists these scenarios in the agent's own incident.
    pub(super) fn mark_unwatched(&mut self, idle: &Idle, now: DateTime<Utc>) {
        let mut unwatched: BTreeMap<&(String, String), Vec<&str>> = BTreeMap::new();
        let anyone = ("files that cannot be loaded".to_owned(), "see the log".to_owned());
        let mut marks: Vec<(ScenarioId, Option<Unwatched>)> = Vec::new();
        for (id, state) in &self.states.scenarios {
            let known = state.open().and_then(|open| open.unwatched.as_ref());
            if self.context.scenarios.contains_key(id) {
                if known.is_some() {
                    marks.push((id.clone(), None));
                }
                continue;
            }
            let refused = match idle.why_refused(id.as_str(), state.source.as_deref()) {
                Some(refused) => refused,
                None if state.open().is_some() && state.source.is_none() => &anyone,
                None => continue,
            };
            unwatched.entry(refused).or_default().push(id.as_str());
            let since = state.looked_at.unwrap_or(now);
            let mark = Unwatched { since, reason: format!("{}: {}", refused.0, refused.1) };
            if state.open().is_some() && known != Some(&mark) {
                marks.push((id.clone(), Some(mark)));
            }
        }
        let message = unwatched.into_iter().map(|((what, why), mut ids)| {
            ids.sort_unstable();
            let more = ids.len().saturating_sub(NAMED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let (named, verb) = (ids[..ids.len().min(NAMED)].join(", "), if ids.len() == 1 { "is" } else { "are" });
            format!("{named}{more} {verb} not monitored: {what}: {why}")
        });
        let message = message.collect::<Vec<_>>().join("; ");
        if self.states.agent.trouble(FILES, (!message.is_empty()).then_some(message), now) {
            self.context.effects.alert_states.insert(self.states.agent_subject());
        }
        for (id, mark) in marks {
            self.mark(&id, mark.as_ref(), now);
        }
    }

    fn mark(&mut self, id: &ScenarioId, mark: Option<&Unwatched>, now: DateTime<Utc>) {
        let detail = match mark {
            Some(mark) => format!("no runs since {}: {}", mark.since.format("%F %T"), mark.reason),
            None => "monitored again".to_owned(),
        };
        let own = self.states.scenarios.get_mut(id).and_then(|state| state.threshold.open.as_mut());
        let of_budget = self.states.budgets.alert_states.get_mut(id).and_then(|state| state.open.as_mut());
        for open in own.into_iter().chain(of_budget) {
            open.unwatched = mark.cloned();
            self.context.effects.alert_states.insert(open.subject.clone());
            self.context.effects.decide(&open.subject, DecisionReason::Unwatched, detail.clone(), now);
        }
    }

    /// Runs the timers of the agent's own incident.
    pub(super) fn tick_agent(&mut self, now: DateTime<Utc>) {
        let subject = self.states.agent_subject();
        loop {
            let severity = |open: &Option<Incident>| open.as_ref().map(|open| open.severity);
            let before = severity(&self.states.agent.open);
            let Some(ticked) = self.states.agent.tick(&self.states.location, now) else { return };
            self.states.count(before, severity(&self.states.agent.open));
            self.context.effects.alert_states.insert(subject.clone());
            match ticked {
                Ticked::Evaluated(evaluation) => self.pass(*evaluation, None, now),
                Ticked::Also(news) => self.groups.add_note(&subject, news, now),
            }
        }
    }
}
