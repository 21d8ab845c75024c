//! State shared by the handlers.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::alert_request::AlertRequest;
use super::probes::Probes;
use super::reload::ReloadRequest;
use crate::scenario::ScenarioId;
use crate::schedule::Scenarios;
use crate::sink;
use crate::sink::prometheus::Prometheus;
use crate::store::Store;
use crate::store::evidence::EvidenceFolder;

/// Overview of the loaded configuration.
#[derive(Debug, Clone, Default)]
pub struct Overview {
    /// Location of the agent.
    pub location: String,
    /// Scenarios that run.
    pub scenarios: Scenarios,
    /// Scenarios that cannot run here, with the reason.
    pub refused: Vec<(String, String)>,
    /// Scenarios with `enabled: false`.
    pub paused: Vec<Arc<crate::scenario::Scenario>>,
    /// Maintenance windows of the agent configuration.
    pub maintenance: Vec<crate::notify::Window>,
    /// Problems of the last load.
    pub problems: Vec<String>,
    /// Security remarks on the way the agent is run.
    pub notes: Vec<String>,
    /// Time of the last load.
    pub loaded_at: Option<DateTime<Utc>>,
}

/// Health of the agent according to the last check of the watchdog.
#[derive(Debug, Clone, Default)]
pub struct Work {
    /// Parts of the agent that make no progress; empty if the agent is healthy.
    pub problems: Vec<String>,
    /// Time of the last check.
    pub at: Option<tokio::time::Instant>,
}

impl Work {
    /// Returns the problem, if there are any. A watchdog without a check in the last ten seconds is a problem as well.
    pub fn problem(&self) -> Option<String> {
        if self.at.is_some_and(|at| at.elapsed() >= crate::store::STALLED_AFTER) {
            return Some("the watchdog has not responded for 10s".to_owned());
        }
        (!self.problems.is_empty()).then(|| self.problems.join("; "))
    }
}

/// State shared by the handlers.
#[derive(Clone)]
pub struct State {
    /// History, incidents and notifications.
    pub store: Arc<dyn Store>,
    /// Evidence of runs.
    pub evidence: EvidenceFolder,
    /// Metrics exported by `/metrics`.
    pub prometheus: Arc<Prometheus>,
    /// Overview of the loaded configuration.
    pub overview: watch::Receiver<Arc<Overview>>,
    /// State of `/probe`.
    pub probes: Arc<Probes>,
    /// Channel for reload requests.
    pub reload: mpsc::Sender<ReloadRequest>,
    /// Channel for operator commands: silences, maintenance and acknowledgements.
    pub alerts: mpsc::Sender<AlertRequest>,
    /// Function that runs a scenario now, apart from its schedule.
    pub run_now: RunNow,
    /// Health of the agent.
    pub works: watch::Receiver<Work>,
    /// Source of the sink status.
    pub sinks: SinkStatus,
    /// Cancelled when the agent begins to stop and is no longer ready.
    pub stopping: CancellationToken,
}

/// Function that runs the scenario with this id now, unless too many such runs are waiting.
pub type RunNow = Arc<dyn Fn(&ScenarioId) + Send + Sync>;

/// Function that returns the present status of every sink.
pub type SinkStatus = Arc<dyn Fn() -> Vec<sink::Status> + Send + Sync>;
