//! History that runs are compared with. It is kept in memory per scenario, read from the store when a scenario first
//! needs it after a start, and updated with each outcome.
//!
//! Only what a scenario compares is kept: its runs, and those of its steps that have a comparison. If the store does
//! not respond in time, nothing is compared and the next run queries it again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::duration_baseline::{DurationBaseline, DurationWindow};
use crate::outcome::{Outcome, StepStatus, Verdict};
use crate::scenario::{Scenario, ScenarioId};
use crate::store::{DurationQuery, History, StoreError};

/// Maximum number of runs of a scenario that are read from the store, newest first.
const MOST_RUNS: u32 = 5000;
/// Maximum time that a run waits for the store.
const PATIENCE: Duration = Duration::from_secs(2);

/// Duration windows of one scenario.
type Kept = Vec<(Key, DurationWindow)>;

/// Subject of a comparison: the run (`None`) or the step of this name, and the length of the window.
type Key = (Option<String>, Duration);

/// Duration history of all scenarios.
#[derive(Clone)]
pub struct BaselineStore {
    history: Arc<dyn History>,
    location: Arc<str>,
    kept: Arc<Mutex<HashMap<ScenarioId, Kept>>>,
}

/// Duration baselines of a scenario at the start of a run.
#[derive(Debug, Clone, Default)]
pub struct RunBaselines(Vec<(Key, DurationBaseline)>);

impl RunBaselines {
    /// Returns the baseline of the run or of one of its steps, or `None` if there are too few past runs.
    pub fn of(&self, step: Option<&str>, over: Duration) -> Option<DurationBaseline> {
        self.0.iter().find(|((name, far), _)| name.as_deref() == step && *far == over).map(|(_, usual)| *usual)
    }
}

impl BaselineStore {
    /// Creates an empty baseline store that reads this history, limited to runs of this location.
    pub fn new(history: Arc<dyn History>, location: &str) -> Self {
        Self { history, location: location.into(), kept: Arc::default() }
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<ScenarioId, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the baselines of a scenario at time `now`.
    pub async fn usual(&self, scenario: &Scenario, now: DateTime<Utc>) -> RunBaselines {
        let mut wanted: Vec<Key> = Vec::new();
        for (step, usual, _) in scenario.comparisons() {
            let key = (step.map(|step| step.name.clone()), usual.over);
            if !wanted.contains(&key) {
                wanted.push(key);
            }
        }
        if wanted.is_empty() {
            return RunBaselines::default();
        }
        let id = &scenario.id.value;
        let is_known = self.kept().get(id).is_some_and(|kept| kept.iter().map(|(key, _)| key).eq(&wanted));
        if !is_known {
            match tokio::time::timeout(PATIENCE, self.read(id, wanted, now)).await {
                Ok(Ok(kept)) => drop(self.kept().insert(id.clone(), kept)),
                Ok(Err(error)) => {
                    tracing::warn!(scenario = %id, %error, "cannot read the run history: comparison skipped");
                }
                Err(_) => tracing::warn!(scenario = %id, "reading the run history timed out: comparison skipped"),
            }
        }
        let kept = self.kept();
        let known = kept.get(id).into_iter().flatten();
        RunBaselines(known.filter_map(|(key, sketch)| Some((key.clone(), sketch.usual(now)?))).collect())
    }

    async fn read(&self, id: &ScenarioId, wanted: Vec<Key>, now: DateTime<Utc>) -> Result<Kept, StoreError> {
        let mut kept = Vec::with_capacity(wanted.len());
        for (step, over) in wanted {
            let since = now - TimeDelta::from_std(over).unwrap_or_default();
            let asked = DurationQuery {
                scenario: id.as_str(),
                location: &self.location,
                step: step.as_deref(),
                since,
                limit: MOST_RUNS,
            };
            let mut sketch = DurationWindow::new(over);
            for (at, took) in self.history.durations(&asked).await?.into_iter().rev() {
                sketch.add(at, took);
            }
            kept.push(((step, over), sketch));
        }
        Ok(kept)
    }

    /// Adds the durations of a finished run.
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

    /// Drops every scenario that no longer exists.
    pub fn retain(&self, is_there: impl Fn(&ScenarioId) -> bool) {
        self.kept().retain(|id, _| is_there(id));
    }
}
