//! When what runs: due times, and the dispatcher that starts runs at them.
//!
//! Knows neither how to run a scenario nor where outcomes go: `app` gives it [`Hooks`].

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

/// Every scenario that is to run, by id.
pub type Scenarios = Arc<BTreeMap<ScenarioId, Arc<Scenario>>>;

/// A scenario that is due.
#[derive(Debug, Clone)]
pub struct Due {
    /// What to run.
    pub scenario: Arc<Scenario>,
    /// Under which id.
    pub run: RunId,
    /// Since when it is due.
    pub due_at: DateTime<Utc>,
}

/// Runs a scenario to its end, its outcome handed on.
pub type RunHook = Arc<dyn Fn(Due) -> Running + Send + Sync>;

/// A run that goes on.
pub type Running = BoxFuture<'static, ()>;

/// Hears of a planned run; gives what is heard when that is written.
pub type PlanHook = Arc<dyn Fn(&Due) -> Written + Send + Sync>;

/// Is heard when something is written.
pub type Written = oneshot::Receiver<()>;

/// What the dispatcher calls.
#[derive(Clone)]
pub struct Hooks {
    /// Runs a scenario to its end, its outcome handed on.
    pub run: RunHook,
    /// A run is planned; what it gives is heard when that is written.
    pub plan: PlanHook,
    /// A planned run will not take place.
    pub withdraw: Arc<dyn Fn(RunId) + Send + Sync>,
    /// What time the wall clock shows.
    pub now: Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>,
    /// How much time has passed since any one moment; never set.
    pub elapsed: Arc<dyn Fn() -> Duration + Send + Sync>,
}
