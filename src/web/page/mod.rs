//! The page: server-rendered, without scripts.

use axum::Router;

use super::State;

/// Every path of the page.
pub fn routes() -> Router<State> {
    Router::new()
}
