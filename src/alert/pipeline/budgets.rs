//! Windows and alert states of all error budgets. Pure.

use std::collections::{BTreeSet, HashMap};

use chrono::TimeDelta;

use crate::alert::burn_rate::BurnRateWindows;
use crate::alert::slo::SloAlertState;
use crate::incident::{Incident, Subject};
use crate::scenario::ScenarioId;

/// All error budgets.
#[derive(Debug, Default)]
pub(super) struct Budgets {
    /// Windows of the scenarios whose history was read.
    pub(super) burns: HashMap<ScenarioId, BurnRateWindows>,
    pub(super) alert_states: HashMap<Subject, SloAlertState>,
    /// Scenarios whose history has yet to be read.
    pub(super) unread: BTreeSet<ScenarioId>,
}

impl Budgets {
    /// Adjusts the windows after a change of the clock.
    pub(super) fn clock_set(&mut self, by: TimeDelta) {
        self.burns.values_mut().for_each(|burn| burn.clock_set(by));
    }

    /// Returns the open incident of a subject.
    pub(super) fn open(&self, subject: &Subject) -> Option<&Incident> {
        self.alert_states.get(subject)?.open.as_ref()
    }
}
