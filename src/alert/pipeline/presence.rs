//! Incidents of scenarios that do not run. Those of removed and paused scenarios end as such. Those of unreadable
//! scenarios stay open while the incident `agent/<location>` states that they are not monitored.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use super::idle::Idle;
use super::{LOCATION, Pipeline};
use crate::alert::agent::Ticked;
use crate::alert::flapping;
use crate::incident::{DecisionReason, Ending, Incident, Subject, Unwatched};
use crate::scenario::ScenarioId;

/// Topic of the agent's incident while files are unusable.
const FILES: &str = "files";
/// Maximum number of unmonitored scenarios that are named.
const NAMED: usize = 5;

impl Pipeline {
    /// Removes the votes and the incident that belong to a former name of the agent's location.
    pub(super) fn rename_location(&mut self, now: DateTime<Utc>) {
        let known = self.known_location.replace(self.location.clone());
        if known.as_ref() != Some(&self.location) {
            self.touched.insert(LOCATION.to_owned());
            let former = self.former.keys().filter_map(|subject| match subject {
                Subject::Agent(location) => Some(location.to_string()),
                Subject::Scenario(_) | Subject::Objective(_) | Subject::Test(_) => None,
            });
            for location in former.chain(known).collect::<BTreeSet<_>>() {
                for (subject, watch) in &mut self.alert_states {
                    if watch.locations.forget(&location) {
                        self.effects.alert_states.insert(subject.clone());
                    }
                }
            }
        }
        let open = self.former.iter().filter(|(_, watch)| watch.open.is_some()).map(|(subject, _)| subject.clone());
        for subject in open.collect::<BTreeSet<_>>() {
            let Some(watch) = self.former.get_mut(&subject) else { continue };
            let before = watch.open.as_ref().map(|open| open.severity);
            let judgement = watch.remove(now);
            self.count(before, None);
            self.effects.alert_states.insert(subject);
            if let Some(judgement) = judgement {
                self.take(judgement, None, now);
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
        let source = self.alert_states.get(&Subject::from(id)).and_then(|watch| watch.source.as_deref());
        let unreadable =
            idle.why_refused(id.as_str(), source).is_some() || (source.is_none() && !idle.refused.is_empty());
        (!unreadable).then_some(Ending::Removed)
    }

    /// Ends the open incidents of scenarios that were removed or paused.
    pub(super) fn remove_absent(&mut self, idle: &Idle, now: DateTime<Utc>) {
        let absent = self
            .alert_states
            .iter()
            .filter(|(_, watch)| watch.open.is_some() || watch.flapping.is_on() || watch.source.is_some());
        let absent = absent.filter_map(|(subject, _)| Some((subject, subject.scenario()?)));
        let absent = absent.filter(|(_, id)| !self.scenarios.contains_key(*id));
        let absent: BTreeMap<Subject, Ending> =
            absent.filter_map(|(subject, id)| Some((subject.clone(), self.ending(id, idle)?))).collect();
        for (subject, ending) in absent {
            let Some(watch) = self.alert_states.get_mut(&subject) else { continue };
            let before = watch.open.as_ref().map(|open| open.severity);
            let flapped = watch.flapping.is_on();
            let judgement = watch.remove(ending, now);
            watch.flapping = flapping::Flapping::default();
            self.count(before, None);
            self.effects.alert_states.insert(subject.clone());
            match judgement {
                Some(judgement) => self.take(judgement, None, now),
                // The scenario flapped, and its incident had just resolved.
                None if flapped => self.groups.resolve(&subject, None, now, &mut self.effects),
                None => {}
            }
        }
    }

    /// Marks open incidents whose scenarios are not monitored, and lists these scenarios in the agent's own incident.
    pub(super) fn mark_unwatched(&mut self, idle: &Idle, now: DateTime<Utc>) {
        let mut unwatched: BTreeMap<&(String, String), Vec<&str>> = BTreeMap::new();
        let anyone = ("files that cannot be loaded".to_owned(), "see the log".to_owned());
        let mut marks: Vec<(Subject, Option<Unwatched>)> = Vec::new();
        for (subject, watch) in &self.alert_states {
            let Some(id) = subject.scenario() else { continue };
            let known = watch.open.as_ref().and_then(|open| open.unwatched.as_ref());
            if self.scenarios.contains_key(id) {
                if known.is_some() {
                    marks.push((subject.clone(), None));
                }
                continue;
            }
            let refused = match idle.why_refused(id.as_str(), watch.source.as_deref()) {
                Some(refused) => refused,
                None if watch.open.is_some() && watch.source.is_none() => &anyone,
                None => continue,
            };
            unwatched.entry(refused).or_default().push(id.as_str());
            let since = watch.looked_at.unwrap_or(now);
            let mark = Unwatched { since, reason: format!("{}: {}", refused.0, refused.1) };
            if watch.open.is_some() && known != Some(&mark) {
                marks.push((subject.clone(), Some(mark)));
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
        if self.agent.trouble(FILES, (!message.is_empty()).then_some(message), now) {
            self.effects.alert_states.insert(Subject::agent(&self.location));
        }
        for (subject, mark) in marks {
            self.mark(&subject, mark.as_ref(), now);
        }
    }

    fn mark(&mut self, subject: &Subject, mark: Option<&Unwatched>, now: DateTime<Utc>) {
        let detail = match mark {
            Some(mark) => format!("no runs since {}: {}", mark.since.format("%F %T"), mark.reason),
            None => "monitored again".to_owned(),
        };
        let Some(budget) = subject.scenario().cloned().map(Subject::Objective) else { return };
        let own = self.alert_states.get_mut(subject).and_then(|watch| watch.open.as_mut());
        let of_budget = self.budgets.alert_states.get_mut(&budget).and_then(|watch| watch.open.as_mut());
        for open in own.into_iter().chain(of_budget) {
            open.unwatched = mark.cloned();
            self.effects.alert_states.insert(open.subject.clone());
            self.effects.decide(&open.subject, DecisionReason::Unwatched, detail.clone(), now);
        }
    }

    /// Runs the timers of the agent's own incident.
    pub(super) fn tick_agent(&mut self, now: DateTime<Utc>) {
        let subject = Subject::agent(&self.location);
        loop {
            let severity = |open: &Option<Incident>| open.as_ref().map(|open| open.severity);
            let before = severity(&self.agent.open);
            let Some(ticked) = self.agent.tick(&self.location, now) else { return };
            self.count(before, severity(&self.agent.open));
            self.effects.alert_states.insert(subject.clone());
            match ticked {
                Ticked::Judged(judgement) => self.take(*judgement, None, now),
                Ticked::Also(news) => self.groups.remark(&subject, news, now),
            }
        }
    }
}
