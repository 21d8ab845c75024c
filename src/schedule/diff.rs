//! What a reload changes. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::scenario::{Scenario, ScenarioId};

/// The difference between two sets of scenarios.
#[derive(Debug, Default, PartialEq)]
pub struct Changes {
    /// New ones, and those whose times changed: to be planned.
    pub plan: Vec<Arc<Scenario>>,
    /// Those that changed but keep their times: the next run takes the new version.
    pub replace: Vec<Arc<Scenario>>,
    /// Those that are gone, and those whose times changed: their planned runs are withdrawn.
    pub withdraw: Vec<ScenarioId>,
}

/// What leads from `old` to `new`. A scenario that did not change is not mentioned: its phase and run go on.
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
