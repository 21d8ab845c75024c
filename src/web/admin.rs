//! Health and reload.

use std::sync::Arc;

use axum::extract::State as With;
use axum::http::{HeaderMap, StatusCode};

use super::{ReloadRequest, State};

/// The process runs.
pub(super) async fn healthy() -> &'static str {
    "wachta is healthy.\n"
}

/// Files are loaded, the agent does its work, and it does not stop.
pub(super) async fn ready(With(state): With<Arc<State>>) -> (StatusCode, String) {
    let problem = if state.stopping.is_cancelled() {
        Some("it is stopping".to_owned())
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

/// Loads the files anew; 200 when everything was taken, else 500 with what was not.
pub(super) async fn reload(With(state): With<Arc<State>>, headers: HeaderMap) -> (StatusCode, String) {
    // A page elsewhere must not be able to make a visitor's browser reload the agent.
    if headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none") {
        return (StatusCode::FORBIDDEN, "asked for by another site\n".into());
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
