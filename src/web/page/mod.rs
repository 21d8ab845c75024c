//! The page: server-rendered, without scripts, readable by a person who was woken up.
//!
//! `handlers` reads the store, `view` puts it into words, `form` takes what is asked for, `svg` draws, `templates` lays out. Everything that comes
//! from a target or a file is escaped; only what `svg` made is markup.

mod detail;
mod form;
mod handlers;
mod render;
mod svg;
mod view;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::routing::get;

use super::State;
use crate::names::path;

/// Every path of the page.
pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route(path::PAGE, get(handlers::overview))
        .route(&format!("{}{{id}}", path::SCENARIO), get(handlers::scenario))
        .route(&format!("{}{{id}}", path::RUN), get(handlers::run))
        // The dedup key of an agent's incident has a slash.
        .route(&format!("{}{{*key}}", path::INCIDENT), get(handlers::incident).post(form::asked))
        .route(&format!("{}{{run}}/{{name}}", path::EVIDENCE), get(handlers::evidence))
}
