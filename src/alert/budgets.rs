//! Windows and alert states of all error budgets. Pure.

use std::collections::{BTreeSet, HashMap};

use chrono::TimeDelta;

use super::burn_rate::BurnRateWindows;
use super::slo::SloAlertState;
use crate::scenario::ScenarioId;

/// All error budgets, by scenario.
#[derive(Debug, Default)]
pub struct Budgets {
    /// Windows of the scenarios whose history was read.
    pub burns: HashMap<ScenarioId, BurnRateWindows>,
    /// Alert states.
    pub alert_states: HashMap<ScenarioId, SloAlertState>,
    /// Scenarios whose history has yet to be read.
    pub unread: BTreeSet<ScenarioId>,
}

impl Budgets {
    /// Adjusts the windows after a change of the clock.
    pub fn clock_set(&mut self, by: TimeDelta) {
        self.burns.values_mut().for_each(|burn| burn.clock_set(by));
    }
}
