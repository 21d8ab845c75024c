//! Error budgets in the pipeline: counts of their windows, and their incidents, which pass the same stages.
//!
//! Outcomes are counted from the time at which the windows of their scenario were read from the store. Earlier outcomes
//! are in the store by then. So no outcome is counted twice, and none is missed.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use super::Pipeline;
use crate::alert::burn_rate::{BurnRateWindows, HistoryRange};
use crate::alert::evaluation::Failure;
use crate::alert::fingerprint::FailureFingerprint;
use crate::alert::idle::Idle;
use crate::incident::{Ending, Subject};
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
    pub(super) fn update_objectives(&mut self, idle: &Idle, now: DateTime<Utc>) {
        let with_slo = |id: &ScenarioId| self.context.scenarios.get(id).filter(|scenario| scenario.slo.is_some());
        self.states.budgets.burns.retain(|id, _| with_slo(id).is_some());
        self.states.budgets.unread.retain(|id| with_slo(id).is_some());
        for (id, scenario) in self.context.scenarios.iter() {
            let Some(slo) = &scenario.slo else { continue };
            match self.states.budgets.burns.get_mut(id).filter(|burn| burn.is_for(slo)) {
                Some(burn) => burn.plan(planned(scenario)),
                None => {
                    self.states.budgets.burns.remove(id);
                    self.states.budgets.unread.insert(id.clone());
                }
            }
        }
        let ending = |id: &ScenarioId| match self.context.scenarios.get(id) {
            Some(scenario) => scenario.slo.is_none().then_some(Ending::Removed),
            None => self.ending(id, idle),
        };
        let open = self.states.budgets.alert_states.iter().filter(|(_, state)| state.open.is_some());
        let gone = open.filter_map(|(id, _)| Some((id.clone(), ending(id)?)));
        for (id, ending) in gone.collect::<BTreeMap<_, _>>() {
            let Some(state) = self.states.budgets.alert_states.get_mut(&id) else { continue };
            let before = state.open.as_ref().map(|open| open.severity);
            let evaluation = state.remove(ending, now);
            self.states.count(before, None);
            self.context.effects.alert_states.insert(Subject::Objective(id));
            if let Some(evaluation) = evaluation {
                self.pass(evaluation, None, now);
            }
        }
    }

    /// Returns a scenario whose history has yet to be read, with the ranges to read, or `None` if all were read.
    pub fn unread(&self, now: DateTime<Utc>) -> Option<(ScenarioId, Vec<HistoryRange>)> {
        let id = self.states.budgets.unread.first()?;
        let slo = self.context.scenarios.get(id)?.slo.as_ref()?;
        Some((id.clone(), BurnRateWindows::new(slo, 0).spans(now)))
    }

    /// Returns whether there is history to be read.
    pub fn is_unread(&self) -> bool {
        !self.states.budgets.unread.is_empty()
    }

    /// Adds the history of a scenario, by the index of the window. Its outcomes are counted from here. Returns the
    /// remaining share of the budget.
    pub fn read(&mut self, id: &ScenarioId, history: &[(usize, Vec<SlotCount>)]) -> Option<f64> {
        self.states.budgets.unread.remove(id);
        let scenario = self.context.scenarios.get(id)?;
        let slo = scenario.slo.as_ref()?;
        let mut burn = BurnRateWindows::new(slo, planned(scenario));
        for (window, slot_counts) in history {
            for tally in slot_counts {
                burn.restore(*window, tally.slot, tally.runs, tally.failed);
            }
        }
        let remaining = 1.0 - burn.budget(slo).used();
        self.states.budgets.burns.insert(id.clone(), burn);
        Some(remaining)
    }

    /// Counts the outcome of a run that was not evaluated before.
    pub(super) fn evaluate_objective(&mut self, scenario: &Scenario, outcome: &Outcome, now: DateTime<Utc>) {
        let Some(slo) = scenario.slo.as_ref().filter(|_| outcome.verdict.is_conclusive()) else { return };
        let Some(burn) = self.states.budgets.burns.get_mut(&outcome.scenario) else { return };
        burn.add(outcome.ended_at, outcome.verdict == Verdict::Failed);
        self.context.effects.budgets.insert(outcome.scenario.clone(), 1.0 - burn.budget(slo).used());
        let state = self.states.budgets.alert_states.entry(outcome.scenario.clone()).or_default();
        let before = state.open.as_ref().map(|open| open.severity);
        let (changed, evaluation) = state.advance(scenario, slo, burn, outcome);
        let after = state.open.as_ref().map(|open| open.severity);
        if before != after {
            self.states.count(before, after);
        }
        if changed {
            self.context.effects.alert_states.insert(Subject::Objective(outcome.scenario.clone()));
        }
        if let Some(evaluation) = evaluation {
            let failure = evaluation.bad.then(|| Failure {
                cause: FailureFingerprint::of_budget(scenario),
                print: 0,
                scenario,
                began: outcome.started_at,
            });
            self.pass(evaluation, failure, now);
        }
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
