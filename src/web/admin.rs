//! Handlers for health, readiness and reload.

use std::sync::Arc;

use axum::extract::State as With;
use axum::http::{HeaderMap, StatusCode};

use super::{ReloadRequest, State};

/// Returns success as long as the process is running.
pub(super) async fn healthy() -> &'static str {
    "wachta is healthy.\n"
}

/// Returns whether the agent is ready: the files are loaded, it works, and it is not stopping.
pub(super) async fn ready(With(state): With<Arc<State>>) -> (StatusCode, String) {
    let problem = if state.stopping.is_cancelled() {
        Some("the agent is stopping".to_owned())
    } else if state.overview.borrow().loaded_at.is_none() {
        Some("no files are loaded yet".to_owned())
    } else {
        state.works.borrow().problem()
    };
    match problem {
        None => (StatusCode::OK, "wachta is ready.\n".to_owned()),
        Some(problem) => (StatusCode::SERVICE_UNAVAILABLE, format!("wachta is not ready: {problem}\n")),
    }
}

/// Reloads the files. Returns status 200 if everything was accepted, otherwise 500 with the problems.
pub(super) async fn reload(With(state): With<Arc<State>>, headers: HeaderMap) -> (StatusCode, String) {
    // Another site must not be able to make a visitor's browser reload the agent.
    if headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none") {
        return (StatusCode::FORBIDDEN, "cross-site request rejected\n".into());
    }
    let (request, report) = ReloadRequest::new();
    if state.reload.send(request).await.is_err() {
        return (StatusCode::SERVICE_UNAVAILABLE, "wachta is stopping\n".into());
    }
    let report = report.await.unwrap_or_default();
    let mut text = format!("{} scenarios loaded, {} problems\n", report.scenarios, report.problems.len());
    for problem in &report.problems {
        text.push('\n');
        text.push_str(problem);
    }
    (if report.successful { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR }, text)
}
