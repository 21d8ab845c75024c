//! Difference of the scenarios before and after a reload. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::scenario::{Scenario, ScenarioId};

/// Difference of two sets of scenarios.
#[derive(Debug, Default, PartialEq)]
pub struct Changes {
    /// Scenarios to plan: new ones, and those whose schedule changed.
    pub plan: Vec<Arc<Scenario>>,
    /// Scenarios that changed but keep their schedule: the next run uses the new version.
    pub replace: Vec<Arc<Scenario>>,
    /// Scenarios whose planned runs are to be cancelled: removed ones, and those whose schedule changed.
    pub withdraw: Vec<ScenarioId>,
}

/// Returns the difference from `old` to `new`. Unchanged scenarios are omitted, so that their phase and run continue.
pub fn diff(old: &BTreeMap<ScenarioId, Arc<Scenario>>, new: &BTreeMap<ScenarioId, Arc<Scenario>>) -> Changes {
    let mut changes = Changes::default();
    for (id, scenario) in new {
        match old.get(id) {
            None => changes.plan.push(Arc::clone(scenario)),
            Some(before) if Arc::ptr_eq(before, scenario) => {}
            Some(before) if before.schedule == scenario.schedule => changes.replace.push(Arc::clone(scenario)),
            Some(_) => {
                changes.withdraw.push(id.clone());
                changes.plan.push(Arc::clone(scenario));
            }
        }
    }
    changes.withdraw.extend(old.keys().filter(|id| !new.contains_key(*id)).cloned());
    changes
}
