//! Error budgets in the pipeline: counts of their windows, and their incidents, which pass the same stages.
//!
//! Outcomes are counted from the time at which the windows of their scenario were read from the store. Earlier outcomes
//! are in the store by then. So no outcome is counted twice, and none is missed.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use super::idle::Idle;
use super::{Failure, Pipeline};
use crate::alert::burn_rate::{BurnRateWindows, HistoryRange};
use crate::alert::fingerprint::FailureFingerprint;
use crate::alert::suppression::{Suppression, SuppressionDetail};
use crate::incident::{DecisionReason, Ending, Incident, Subject};
use crate::outcome::{Outcome, Verdict};
use crate::scenario::{Scenario, ScenarioId, Schedule};
use crate::store::SlotCount;

/// Returns the number of scheduled runs within the window of a scenario's objective, or 0 if they would have to be
/// counted one by one.
fn planned(scenario: &Scenario) -> u64 {
    match (&scenario.slo, &scenario.schedule) {
        (Some(slo), Schedule::Every(every)) => {
            u64::try_from(slo.window.as_nanos() / every.as_nanos().max(1)).unwrap_or(u64::MAX)
        }
        _ => 0,
    }
}

impl Pipeline {
    /// Updates the error budgets after scenarios were added, removed or changed.
    pub(super) fn objectives(&mut self, idle: &Idle, now: DateTime<Utc>) {
        let with_slo = |id: &ScenarioId| self.scenarios.get(id).filter(|scenario| scenario.slo.is_some());
        self.budgets.burns.retain(|id, _| with_slo(id).is_some());
        self.budgets.unread.retain(|id| with_slo(id).is_some());
        for (id, scenario) in self.scenarios.iter() {
            let Some(slo) = &scenario.slo else { continue };
            match self.budgets.burns.get_mut(id).filter(|burn| burn.is_for(slo)) {
                Some(burn) => burn.plan(planned(scenario)),
                None => {
                    self.budgets.burns.remove(id);
                    self.budgets.unread.insert(id.clone());
                }
            }
        }
        let ending = |subject: &Subject| {
            let id = subject.scenario()?;
            match self.scenarios.get(id) {
                Some(scenario) => scenario.slo.is_none().then_some(Ending::Removed),
                None => self.ending(id, idle),
            }
        };
        let open = self.budgets.alert_states.iter().filter(|(_, watch)| watch.open.is_some());
        let gone = open.filter_map(|(subject, _)| Some((subject.clone(), ending(subject)?)));
        for (subject, ending) in gone.collect::<BTreeMap<_, _>>() {
            let Some(watch) = self.budgets.alert_states.get_mut(&subject) else { continue };
            let before = watch.open.as_ref().map(|open| open.severity);
            let judgement = watch.remove(ending, now);
            self.count(before, None);
            self.effects.alert_states.insert(subject);
            if let Some(judgement) = judgement {
                self.take(judgement, None, now);
            }
        }
    }

    /// Returns a scenario whose history has yet to be read, with the ranges to read, or `None` if all were read.
    pub fn unread(&self, now: DateTime<Utc>) -> Option<(ScenarioId, Vec<HistoryRange>)> {
        let id = self.budgets.unread.first()?;
        let slo = self.scenarios.get(id)?.slo.as_ref()?;
        Some((id.clone(), BurnRateWindows::new(slo, 0).spans(now)))
    }

    /// Returns whether there is history to be read.
    pub fn is_unread(&self) -> bool {
        !self.budgets.unread.is_empty()
    }

    /// Adds the history of a scenario, by the index of the window. Its outcomes are counted from here. Returns the
    /// remaining share of the budget.
    pub fn read(&mut self, id: &ScenarioId, history: &[(usize, Vec<SlotCount>)]) -> Option<f64> {
        self.budgets.unread.remove(id);
        let scenario = self.scenarios.get(id)?;
        let slo = scenario.slo.as_ref()?;
        let mut burn = BurnRateWindows::new(slo, planned(scenario));
        for (window, slot_counts) in history {
            for tally in slot_counts {
                burn.restore(*window, tally.slot, tally.runs, tally.failed);
            }
        }
        let remaining = 1.0 - burn.budget(slo).used();
        self.budgets.burns.insert(id.clone(), burn);
        Some(remaining)
    }

    /// Counts the outcome of a run that was not evaluated before.
    pub(super) fn burn(&mut self, scenario: &Scenario, outcome: &Outcome, now: DateTime<Utc>) {
        let Some(slo) = scenario.slo.as_ref().filter(|_| outcome.verdict.is_conclusive()) else { return };
        let Some(burn) = self.budgets.burns.get_mut(&outcome.scenario) else { return };
        burn.add(outcome.ended_at, outcome.verdict == Verdict::Failed);
        self.effects.budgets.insert(outcome.scenario.clone(), 1.0 - burn.budget(slo).used());
        let subject = Subject::Objective(outcome.scenario.clone());
        let watch = self.budgets.alert_states.entry(subject.clone()).or_default();
        let before = watch.open.as_ref().map(|open| open.severity);
        let (changed, judgement) = watch.advance(scenario, slo, burn, outcome);
        let after = watch.open.as_ref().map(|open| open.severity);
        if before != after {
            self.count(before, after);
        }
        if changed {
            self.effects.alert_states.insert(subject);
        }
        if let Some(judgement) = judgement {
            let failure = judgement.bad.then(|| Failure {
                cause: FailureFingerprint::of_budget(scenario),
                print: 0,
                scenario,
                began: outcome.started_at,
            });
            self.take(judgement, failure, now);
        }
    }

    /// Suppresses the incident of an error budget while the scenario's own incident is open with at least the same
    /// severity.
    pub(super) fn is_told_by_scenario(&self, incident: &Incident) -> Option<SuppressionDetail> {
        let Subject::Objective(id) = &incident.subject else { return None };
        let parent = Subject::from(id);
        let detail = self.told_by(incident, &parent)?;
        Some(SuppressionDetail { hold: Suppression::ParentFailing { parent }, why: DecisionReason::Dependency, detail })
    }

    /// Describes the open incident of a parent that makes the incident of an error budget redundant.
    pub(super) fn told_by(&self, incident: &Incident, parent: &Subject) -> Option<String> {
        let own = self.alert_states.get(parent)?.open.as_ref()?;
        (own.severity >= incident.severity).then(|| format!("`{parent}` itself is failing as {}", own.dedup_key()))
    }
}

/// Returns the number of scheduled runs of a scenario within a period that starts at `from`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of runs, scaled up")]
pub fn runs_within(scenario: &Scenario, span: TimeDelta, from: DateTime<Utc>) -> u64 {
    /// Maximum number of due times that are counted one by one.
    const MOST: u64 = 50_000;
    if let Schedule::Every(every) = &scenario.schedule {
        let span = span.to_std().unwrap_or_default();
        return u64::try_from(span.as_nanos() / every.as_nanos().max(1)).unwrap_or(u64::MAX);
    }
    let (mut at, mut runs) = (from, 0);
    while let Some(next) = scenario.schedule.next_after(&scenario.id.value, at).filter(|next| *next <= from + span) {
        (at, runs) = (next, runs + 1);
        if runs == MOST {
            // The rest is extrapolated.
            let share = span.num_seconds() as f64 / (at - from).num_seconds().max(1) as f64;
            return (runs as f64 * share) as u64;
        }
    }
    runs
}
