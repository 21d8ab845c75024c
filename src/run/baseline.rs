//! The history that a run is compared with: kept in memory, by scenario, read from the store when a scenario first needs
//! it after a start, and advanced by each outcome.
//!
//! Only what some scenario compares is kept: its runs, and those of its steps that say so. Where the store does not answer
//! soon, nothing is compared; the next run asks again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::usual::{Sketch, Usual};
use crate::outcome::{Outcome, StepStatus, Verdict};
use crate::scenario::{Scenario, ScenarioId};
use crate::store::{Durations, History, StoreError};

/// So many runs of a scenario are read from the store, the newest.
const MOST_RUNS: u32 = 5000;
/// So long a run waits for the store.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is kept of one scenario.
type Kept = Vec<(Key, Sketch)>;

/// What is compared: the run, or the step of this name; and how far back.
type Key = (Option<String>, Duration);

/// The history that runs are compared with.
#[derive(Clone)]
pub struct Baseline {
    history: Arc<dyn History>,
    location: Arc<str>,
    kept: Arc<Mutex<HashMap<ScenarioId, Kept>>>,
}

/// What is usual for a scenario at the start of a run.
#[derive(Debug, Clone, Default)]
pub struct Usuals(Vec<(Key, Usual)>);

impl Usuals {
    /// What is usual for the run or one of its steps; none where too little is known.
    pub fn of(&self, step: Option<&str>, over: Duration) -> Option<Usual> {
        self.0.iter().find(|((name, far), _)| name.as_deref() == step && *far == over).map(|(_, usual)| *usual)
    }
}

impl Baseline {
    /// Nothing is known yet; it will be read from this history, of runs from this location.
    pub fn new(history: Arc<dyn History>, location: &str) -> Self {
        Self { history, location: location.into(), kept: Arc::default() }
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<ScenarioId, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is usual for a scenario now.
    pub async fn usual(&self, scenario: &Scenario, now: DateTime<Utc>) -> Usuals {
        let mut wanted: Vec<Key> = Vec::new();
        for (step, usual, _) in scenario.comparisons() {
            let key = (step.map(|step| step.name.clone()), usual.over);
            if !wanted.contains(&key) {
                wanted.push(key);
            }
        }
        if wanted.is_empty() {
            return Usuals::default();
        }
        let id = &scenario.id.value;
        let is_known = self.kept().get(id).is_some_and(|kept| kept.iter().map(|(key, _)| key).eq(&wanted));
        if !is_known {
            match tokio::time::timeout(PATIENCE, self.read(id, wanted, now)).await {
                Ok(Ok(kept)) => drop(self.kept().insert(id.clone(), kept)),
                Ok(Err(error)) => {
                    tracing::warn!(scenario = %id, %error, "its history was not read: nothing is compared");
                }
                Err(_) => tracing::warn!(scenario = %id, "its history was not read in time: nothing is compared"),
            }
        }
        let kept = self.kept();
        let known = kept.get(id).into_iter().flatten();
        Usuals(known.filter_map(|(key, sketch)| Some((key.clone(), sketch.usual(now)?))).collect())
    }

    async fn read(&self, id: &ScenarioId, wanted: Vec<Key>, now: DateTime<Utc>) -> Result<Kept, StoreError> {
        let mut kept = Vec::with_capacity(wanted.len());
        for (step, over) in wanted {
            let since = now - TimeDelta::from_std(over).unwrap_or_default();
            let asked = Durations {
                scenario: id.as_str(),
                location: &self.location,
                step: step.as_deref(),
                since,
                limit: MOST_RUNS,
            };
            let mut sketch = Sketch::new(over);
            for (at, took) in self.history.durations(&asked).await?.into_iter().rev() {
                sketch.add(at, took);
            }
            kept.push(((step, over), sketch));
        }
        Ok(kept)
    }

    /// A run has ended.
    pub fn outcome(&self, outcome: &Outcome) {
        if !matches!(outcome.verdict, Verdict::Passed | Verdict::Degraded) {
            return;
        }
        let mut kept = self.kept();
        for ((step, _), sketch) in kept.get_mut(&outcome.scenario).into_iter().flatten() {
            let took = match step {
                None => Some(outcome.duration),
                Some(name) => {
                    let passed = outcome.steps.iter().filter(|step| step.status == StepStatus::Passed);
                    passed.into_iter().find(|step| step.name == *name).map(|step| step.duration)
                }
            };
            if let Some(took) = took {
                sketch.add(outcome.ended_at, took);
            }
        }
    }

    /// Forgets every scenario that is not there any more.
    pub fn retain(&self, is_there: impl Fn(&ScenarioId) -> bool) {
        self.kept().retain(|id, _| is_there(id));
    }
}
