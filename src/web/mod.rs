//! Web page, metrics and administration over HTTP.
//!
//! The handlers read the store and prepared views. Changes are requested by messages to `app`. No engine is called from
//! here, with the exception of `/probe`, which consists of one request and its response.

mod admin;
mod api;
mod config;
mod guard;
mod heartbeat;
mod metrics;
pub mod page;
mod probe;
mod security;
mod server;

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware;
use axum::response::Response;
use axum::routing::{delete, get, post};
use chrono::{DateTime, Utc};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::names::path;
use crate::schedule::Scenarios;
use crate::sink::{self, prometheus::Prometheus};
use crate::store::Store;
use crate::store::evidence::EvidenceFolder;

pub use api::{
    AlertAction, AlertRequest, WhyQuery, acknowledge_asked, decisions_in, incidents_in, mutes_in, resolve_asked,
    silence_asked, unacknowledge_asked,
};
pub use config::Config;
pub use guard::Guard;
pub use probe::Probes;
pub use security::{Loaded, Security};
pub use server::{Limits, Server};

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

/// Result of a reload.
#[derive(Debug, Clone, Default)]
pub struct ReloadReport {
    /// Whether everything was accepted.
    pub successful: bool,
    /// Number of scenarios that run now.
    pub scenarios: usize,
    /// Problems of the reload.
    pub problems: Vec<String>,
}

/// Request for a reload.
pub struct ReloadRequest(oneshot::Sender<ReloadReport>);

impl ReloadRequest {
    /// Creates a request and the receiver of its report.
    pub fn new() -> (Self, oneshot::Receiver<ReloadReport>) {
        let (sender, receiver) = oneshot::channel();
        (Self(sender), receiver)
    }

    /// Sends the report.
    pub fn answer(self, report: ReloadReport) {
        // The sender of the request may be gone.
        let _ = self.0.send(report);
    }
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
    /// Health of the agent.
    pub works: watch::Receiver<Work>,
    /// Source of the sink status.
    pub sinks: SinkStatus,
    /// Cancelled when the agent begins to stop and is no longer ready.
    pub stopping: CancellationToken,
}

/// Function that returns the present status of every sink.
pub type SinkStatus = Arc<dyn Fn() -> Vec<sink::Status> + Send + Sync>;

/// Creates the router with all paths.
pub fn router(state: State) -> Router {
    Router::new()
        .merge(page::routes())
        .route(path::METRICS, get(metrics::metrics))
        .route(path::HEALTHY, get(admin::healthy))
        .route(path::READY, get(admin::ready))
        .route(path::RELOAD, post(admin::reload))
        .route(&format!("{}{{name}}", path::BEAT), get(heartbeat::success).post(heartbeat::success))
        .route(&format!("{}{{name}}/{{what}}", path::BEAT), get(heartbeat::told).post(heartbeat::told))
        .route(path::CONFIG, get(probe::config))
        .route(path::LOGS, get(probe::logs))
        .route(path::API_INCIDENTS, get(api::incidents))
        .route(&format!("{}/{{key}}/ack", path::API_INCIDENTS), post(api::acknowledge))
        .route(&format!("{}/{{key}}/unack", path::API_INCIDENTS), post(api::unacknowledge))
        .route(&format!("{}/{{key}}/resolve", path::API_INCIDENTS), post(api::resolve))
        .route(&format!("{}/{{id}}", path::API_WHY), get(api::why))
        .route(path::API_SILENCES, get(api::silences).post(api::silence))
        .route(&format!("{}/{{id}}", path::API_SILENCES), delete(api::expire))
        .route(path::API_MAINTENANCE, post(api::maintain))
        .route(path::API_STATUS, get(api::status))
        .layer(middleware::map_response(|response: Response| std::future::ready(harden(response))))
        // Added after the layer, which would cost as much as part of a probe; the handler sets the same headers.
        .route(path::PROBE, get(probe::probe))
        .with_state(Arc::new(state))
}

/// Sets security headers: the pages run no scripts and load nothing from other sites, and evidence of tested sites must
/// not either.
fn harden(mut response: Response) -> Response {
    const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("x-frame-options"), "DENY"),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}
