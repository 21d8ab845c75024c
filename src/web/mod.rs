//! Web page, metrics and administration over HTTP.
//!
//! The handlers read the store and prepared views. Changes are requested by messages to `app`. No engine is called from
//! here, with the exception of `/probe`, which consists of one request and its response.

mod admin;
mod alert_request;
mod api;
mod config;
mod guard;
mod headers;
mod heartbeat;
mod metrics;
pub mod page;
mod probe;
mod probes;
mod reload;
mod security;
mod server;
mod state;

use std::sync::Arc;

use axum::Router;
use axum::middleware;
use axum::response::Response;
use axum::routing::{delete, get, post};

use crate::names::path;
use headers::harden;

pub use alert_request::AlertRequest;
pub use api::{
    WhyQuery, acknowledge_asked, decisions_in, incidents_in, mutes_in, resolve_asked, silence_asked,
    unacknowledge_asked,
};
pub use config::Config;
pub use guard::Guard;
pub use probes::Probes;
pub use reload::{ReloadReport, ReloadRequest};
pub use security::{Loaded, Security};
pub use server::{Limits, Server};
pub use state::{Overview, SinkStatus, State, Work};

/// Creates the router with all paths.
pub fn router(state: State) -> Router {
    Router::new()
        .merge(page::routes())
        .route(path::METRICS, get(metrics::metrics))
        .route(path::HEALTHY, get(admin::healthy))
        .route(path::READY, get(admin::ready))
        .route(path::RELOAD, post(admin::reload))
        .route(&format!("{}{{name}}", path::BEAT), get(heartbeat::success).post(heartbeat::success))
        .route(&format!("{}{{name}}/{{what}}", path::BEAT), get(heartbeat::check_in).post(heartbeat::check_in))
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
