//! Rendering of templates and error pages.

use std::sync::LazyLock;

use axum::http::{HeaderName, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use minijinja::{Environment, Value, context};
use serde::Serialize;

use super::view::TimeView;
use crate::store::StoreError;
use crate::web::State;

/// Templates, compiled once. Those with names that end in `.html` escape their values.
static TEMPLATES: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut env = Environment::new();
    for (name, text) in [
        ("style.css", include_str!("templates/style.css")),
        ("base.html", include_str!("templates/base.html")),
        ("parts.html", include_str!("templates/parts.html")),
        ("overview.html", include_str!("templates/overview.html")),
        ("scenario.html", include_str!("templates/scenario.html")),
        ("run.html", include_str!("templates/run.html")),
        ("incident.html", include_str!("templates/incident.html")),
        ("problem.html", include_str!("templates/problem.html")),
    ] {
        env.add_template(name, text).expect("the templates are part of the program, and a test renders each");
    }
    env.add_filter("sign", sign);
    env
});

/// Returns the symbol of a verdict or step status, which is always shown next to the word.
fn sign(word: &str) -> &'static str {
    match word {
        "passed" => "✓",
        "degraded" => "~",
        "failed" => "✗",
        "unknown" => "?",
        "skipped" => "–",
        _ => "·",
    }
}

/// Data shown on every page around its content.
#[derive(Debug, Serialize)]
pub(super) struct PageLayout {
    version: &'static str,
    location: String,
    loaded: Option<TimeView>,
    now: String,
}

impl PageLayout {
    /// Creates the layout data for the present state.
    pub(super) fn new(state: &State) -> Self {
        let overview = state.overview.borrow();
        let now = chrono::Utc::now();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            location: overview.location.clone(),
            loaded: overview.loaded_at.map(|at| TimeView::new(at, now)),
            now: now.format("%Y-%m-%d %H:%M:%S UTC").to_string(),
        }
    }
}

/// Converts a view to a template value.
pub(super) fn shown(view: impl Serialize) -> Value {
    Value::from(minijinja::value::Serde(view))
}

/// Renders a template.
pub(super) fn page(status: StatusCode, template: &str, frame: &PageLayout, content: Value) -> Response {
    let rendered = TEMPLATES
        .get_template(template)
        .and_then(|template| template.render(context! { frame => shown(frame), ..content }));
    match rendered {
        Ok(html) => (
            status,
            [(header::CACHE_CONTROL, "no-store"), (HeaderName::from_static("content-language"), "en")],
            Html(html),
        )
            .into_response(),
        Err(error) => {
            tracing::error!(template, error = %error, "cannot render the page");
            (StatusCode::INTERNAL_SERVER_ERROR, "cannot render the page; see the log\n").into_response()
        }
    }
}

/// Reason for not rendering a page.
#[derive(Debug)]
pub(super) enum PageError {
    /// The requested object does not exist; the text describes it.
    Unknown(String),
    /// The store returned an error.
    Store(StoreError),
    /// The action of a form is rejected, with a status, the reason and the path of its page.
    Refused(StatusCode, String, String),
}

impl From<StoreError> for PageError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl PageError {
    /// Renders the error page.
    pub(super) fn page(self, frame: &PageLayout) -> Response {
        let (status, title, text, back) = match self {
            Self::Unknown(text) => (StatusCode::NOT_FOUND, "Not found", text, None),
            Self::Refused(status, text, back) => (status, "Request failed", text, Some(back)),
            Self::Store(error) => {
                tracing::error!(error = %error, "cannot read the store for the page");
                let text = format!("The store is not responding, so history cannot be shown ({error}).");
                (StatusCode::SERVICE_UNAVAILABLE, "No history", text, None)
            }
        };
        page(status, "problem.html", frame, context! { title, text, back })
    }
}
