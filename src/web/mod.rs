//! The page, metrics and administration over HTTP.
//!
//! Reads the store and views; asks for things by messages that `app` answers. No engine is called from here, but for
//! `/probe`, which is a question and its answer.

mod admin;
mod api;
mod beat;
mod config;
mod guard;
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
    AlertRequest, Asked, WhyQuery, acknowledge_asked, decisions_in, incidents_in, mutes_in, resolve_asked,
    silence_asked, unacknowledge_asked,
};
pub use config::Config;
pub use guard::Guard;
pub use probe::Probes;
pub use security::{Loaded, Security};
pub use server::{Limits, Server};

/// What is loaded.
#[derive(Debug, Clone, Default)]
pub struct Overview {
    /// Where the agent looks from.
    pub location: String,
    /// Every scenario that runs.
    pub scenarios: Scenarios,
    /// Scenarios that cannot run here, and why.
    pub refused: Vec<(String, String)>,
    /// Scenarios with `enabled: false`.
    pub paused: Vec<Arc<crate::scenario::Scenario>>,
    /// When nothing is told, and of what, by the agent's file.
    pub maintenance: Vec<crate::notify::Window>,
    /// Every problem of the last load, as text.
    pub problems: Vec<String>,
    /// What is not as safe as it could be about the way in which the agent runs.
    pub notes: Vec<String>,
    /// When the files were last loaded.
    pub loaded_at: Option<DateTime<Utc>>,
}

/// What a reload led to.
#[derive(Debug, Clone, Default)]
pub struct ReloadReport {
    /// Whether everything was taken.
    pub successful: bool,
    /// How many scenarios run now.
    pub scenarios: usize,
    /// Every problem, as text.
    pub problems: Vec<String>,
}

/// Asks for a reload.
pub struct ReloadRequest(oneshot::Sender<ReloadReport>);

impl ReloadRequest {
    /// A request, and where its report arrives.
    pub fn new() -> (Self, oneshot::Receiver<ReloadReport>) {
        let (sender, receiver) = oneshot::channel();
        (Self(sender), receiver)
    }

    /// Answers it.
    pub fn answer(self, report: ReloadReport) {
        // Who asked may have gone.
        let _ = self.0.send(report);
    }
}

/// Whether the agent does its work, as the watchdog saw it last.
#[derive(Debug, Clone, Default)]
pub struct Work {
    /// What does not move; empty while everything does.
    pub problems: Vec<String>,
    /// When it looked.
    pub at: Option<tokio::time::Instant>,
}

impl Work {
    /// Says what is wrong, if anything is. A watchdog that has not looked for ten seconds is wrong as well.
    pub fn problem(&self) -> Option<String> {
        if self.at.is_some_and(|at| at.elapsed() >= crate::store::STALLED_AFTER) {
            return Some("the watchdog has not moved for 10s".to_owned());
        }
        (!self.problems.is_empty()).then(|| self.problems.join("; "))
    }
}

/// What the handlers read.
#[derive(Clone)]
pub struct State {
    /// History, incidents and notices.
    pub store: Arc<dyn Store>,
    /// Evidence of runs.
    pub evidence: EvidenceFolder,
    /// What `/metrics` exports.
    pub prometheus: Arc<Prometheus>,
    /// What is loaded.
    pub overview: watch::Receiver<Arc<Overview>>,
    /// What `/probe` needs.
    pub probes: Arc<Probes>,
    /// Where reloads are asked for.
    pub reload: mpsc::Sender<ReloadRequest>,
    /// Where silences, maintenance and taking over are asked for.
    pub alerts: mpsc::Sender<AlertRequest>,
    /// Whether the agent does its work.
    pub works: watch::Receiver<Work>,
    /// How the sinks are.
    pub sinks: SinkStatus,
    /// Cancelled once the agent stops: from then on it is not ready.
    pub stopping: CancellationToken,
}

/// Returns how each sink is at present.
pub type SinkStatus = Arc<dyn Fn() -> Vec<sink::Status> + Send + Sync>;

/// Every path there is.
pub fn router(state: State) -> Router {
    Router::new()
        .merge(page::routes())
        .route(path::METRICS, get(metrics::metrics))
        .route(path::HEALTHY, get(admin::healthy))
        .route(path::READY, get(admin::ready))
        .route(path::RELOAD, post(admin::reload))
        .route(&format!("{}{{name}}", path::BEAT), get(beat::success).post(beat::success))
        .route(&format!("{}{{name}}/{{what}}", path::BEAT), get(beat::told).post(beat::told))
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
        // Below the layer, which costs as much as a part of a probe: it does the same by itself.
        .route(path::PROBE, get(probe::probe))
        .with_state(Arc::new(state))
}

/// The page runs no script and shows nothing from elsewhere; evidence of other people's sites must not either.
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
