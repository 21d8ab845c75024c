//! Web page: rendered on the server, without scripts, readable under stress at night.
//!
//! `handlers` reads the store, `view` converts data to text, `form` processes the forms, `svg` draws charts,
//! `templates` contains the layout. All text from a target or a file is escaped; only the output of `svg` is inserted
//! as markup.

mod detail;
mod duration;
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

/// Creates the routes of the page.
pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route(path::PAGE, get(handlers::overview))
        .route(&format!("{}{{id}}", path::SCENARIO), get(handlers::scenario))
        .route(&format!("{}{{id}}", path::RUN), get(handlers::run))
        // The dedup key of an agent incident contains a slash.
        .route(&format!("{}{{*key}}", path::INCIDENT), get(handlers::incident).post(form::asked))
        .route(&format!("{}{{run}}/{{name}}", path::EVIDENCE), get(handlers::evidence))
}
