//! Exported scenarios with their states.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::state::{Full, Rules, State};
use crate::names::metric::Detail;
use crate::scenario::{Scenario, ScenarioId};

/// Exported scenarios.
pub(super) struct Catalog {
    /// Entries sorted by id.
    pub(super) entries: Vec<Arc<Entry>>,
    pub(super) rules: Rules,
    /// Labels of `wachta_scenario_info` that come from tags, with the keys of the tags.
    pub(super) tags: Vec<(String, String)>,
}

/// Exported scenario.
pub(super) struct Entry {
    pub(super) id: ScenarioId,
    current: Mutex<Current>,
}

pub(super) struct Current {
    pub(super) scenario: Arc<Scenario>,
    pub(super) state: Arc<State>,
    /// Number of the last scrape before the scenario appeared, and the time of its appearance in seconds since 1970.
    pub(super) appeared: (u32, f64),
}

impl Entry {
    pub(super) fn new(id: ScenarioId, scenario: Arc<Scenario>, now: f64) -> Self {
        let current = Current { scenario, state: Arc::default(), appeared: (0, now) };
        Self { id, current: Mutex::new(current) }
    }

    /// Updates the scenario. Returns whether the series of `full` begin now.
    pub(super) fn load(&self, scenario: &Arc<Scenario>, detail: Detail, now: f64) -> bool {
        let mut current = self.current();
        if !Arc::ptr_eq(&current.scenario, scenario) {
            let before = std::mem::replace(&mut current.scenario, Arc::clone(scenario));
            Arc::make_mut(&mut current.state).adapt(&before, scenario);
        }
        let is_full = detail == Detail::Full;
        let begins = is_full && current.state.full.is_none();
        if is_full != current.state.full.is_some() {
            Arc::make_mut(&mut current.state).full = begins.then(|| Box::new(Full::new(now)));
        }
        begins
    }

    /// Locks the present state. The lock is held only to change the state or to share it with a scrape.
    pub(super) fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Catalog {
    pub(super) fn get(&self, id: &ScenarioId) -> Option<&Entry> {
        self.entries.binary_search_by(|entry| entry.id.cmp(id)).ok().map(|at| &*self.entries[at])
    }
}
