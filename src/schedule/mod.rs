//! Scheduling: due times, and the dispatcher that starts runs at them.
//!
//! This module does not contain the execution of scenarios or the destination of outcomes, which `app` provides as
//! [`Hooks`].

mod clock_change;
mod diff;
mod dispatcher;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use crate::outcome::RunId;
use crate::scenario::{Scenario, ScenarioId};

pub use diff::{Changes, diff};
pub use dispatcher::{Dispatcher, Metrics};

/// All scenarios to run, by id.
pub type Scenarios = Arc<BTreeMap<ScenarioId, Arc<Scenario>>>;

/// A scenario that is due.
#[derive(Debug, Clone)]
pub struct DueRun {
    /// Scenario to run.
    pub scenario: Arc<Scenario>,
    /// Id of the run.
    pub run: RunId,
    /// Due time.
    pub due_at: DateTime<Utc>,
}

/// Hook that runs a scenario to its end and passes on the outcome.
pub type RunHook = Arc<dyn Fn(DueRun) -> Running + Send + Sync>;

/// A run in progress.
pub type Running = BoxFuture<'static, ()>;

/// Hook that stores a planned run.
pub type PlanHook = Arc<dyn Fn(&DueRun) -> Written + Send + Sync>;

/// Receiver that is notified once a planned run is stored.
pub type Written = oneshot::Receiver<()>;

/// Hooks of the dispatcher.
#[derive(Clone)]
pub struct Hooks {
    /// Runs a scenario to its end and passes on the outcome.
    pub run: RunHook,
    /// Stores a planned run.
    pub plan: PlanHook,
    /// Cancels a planned run.
    pub withdraw: Arc<dyn Fn(RunId) + Send + Sync>,
    /// Returns the time of the wall clock.
    pub now: Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>,
    /// Returns the time elapsed since an arbitrary moment, independent of changes of the clock.
    pub elapsed: Arc<dyn Fn() -> Duration + Send + Sync>,
}
