//! Tests of the engine with a real Chromium and pages of a local server.

mod accname;
mod actions;
mod fields;
mod frames;
mod goto;
mod hostile;
mod leases;
mod locating;
mod pictures;
mod pointing;
mod pool;
mod surroundings;
mod trust;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{Html, IntoResponse, Response};
use chrono::Utc;

use super::{BrowserPool, Config, ContextOptions, Metrics, Page};
use crate::diagnostic::{Source, Span, Spanned};
use crate::outcome::{Failure, RunId};
use crate::scenario::{
    AlertPolicy, Locator, LocatorStrategy, Lookup, LookupError, Matcher, PageAction, PageExpectation, PageFact,
    Scenario, ScenarioKind, Schedule, Template, Value,
};
use crate::values::Values;

/// Timeout of steps in seconds, where their speed is not tested.
const PATIENCE: f64 = 60.0;

/// Returns the number of rounds in soak tests.
fn rounds() -> usize {
    std::env::var("WACHTA_SOAK_RUNS").ok().and_then(|n| n.parse().ok()).unwrap_or(6)
}

/// A folder that is removed with the test.
struct Temporary(PathBuf);

impl Temporary {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("wachta-test-{}", uuid::Uuid::now_v7().simple()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn browsers(folder: &Temporary, max_sessions: usize) -> BrowserPool {
    configured(folder, Config { max_sessions, ..Config::default() })
}

fn configured(folder: &Temporary, config: Config) -> BrowserPool {
    let config = Config { loopback_only: true, ..config };
    let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
    // Unit tests have no guard executable; the integration tests do.
    BrowserPool::new(config, folder.0.clone(), PathBuf::from("/nonexistent/wachta"), metrics)
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

/// Starts a server with these pages.
async fn site(pages: &[(&str, &str)]) -> String {
    async fn page(State(pages): State<Arc<HashMap<String, String>>>, uri: Uri) -> Response {
        match uri.path() {
            "/500" => (StatusCode::INTERNAL_SERVER_ERROR, Html("<h1>broken</h1>")).into_response(),
            "/503-empty" => StatusCode::SERVICE_UNAVAILABLE.into_response(),
            "/download" => ([("content-disposition", "attachment; filename=a.bin")], "x").into_response(),
            "/no-content" => StatusCode::NO_CONTENT.into_response(),
            "/hang" => std::future::pending().await,
            "/sandboxed" => {
                let html = pages.get("/sandboxed").cloned().unwrap_or_default();
                ([("content-security-policy", "sandbox allow-forms")], Html(format!("<!doctype html>{html}")))
                    .into_response()
            }
            path => match pages.get(path) {
                Some(html) => Html(format!("<!doctype html><meta charset=utf-8>{html}")).into_response(),
                None => (StatusCode::NOT_FOUND, Html("<h1>not found</h1>")).into_response(),
            },
        }
    }
    let pages: HashMap<String, String> = pages.iter().map(|(path, html)| ((*path).into(), (*html).into())).collect();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = Router::new().fallback(page).with_state(Arc::new(pages));
    tokio::spawn(async move { axum::serve(listener, app).await });
    format!("http://{address}/")
}

struct Nothing;

impl Lookup for Nothing {
    fn env(&self, name: &str) -> Result<String, LookupError> {
        Err(LookupError::Missing(name.into()))
    }
    fn file(&self, path: &std::path::Path, _: &str) -> Result<Vec<u8>, LookupError> {
        match path.to_str() {
            Some("files/a.txt") => Ok(b"A".to_vec()),
            Some("files/b.txt") => Ok(b"B".to_vec()),
            _ => Err(LookupError::Missing(format!("{} is not there", path.display()))),
        }
    }
}

fn values(base: &str) -> Values {
    let scenario = Scenario {
        id: Spanned::new("test".into(), Span::default()),
        name: "test".into(),
        source: Source::new("test.yaml", ""),
        kind: ScenarioKind::Browser,
        tags: std::collections::BTreeMap::new(),
        enabled: true,
        schedule: Schedule::Every(Duration::from_secs(60)),
        grace: Duration::ZERO,
        timeout: Duration::from_secs(60),
        base_url: Some(Spanned::new(Template::literal(base), Span::default())),
        browser: crate::scenario::BrowserSettings::default(),
        overlays: Vec::new(),
        evidence: crate::scenario::EvidencePolicy::default(),
        budget: Vec::new(),
        totp: std::collections::BTreeMap::new(),
        secrets: std::collections::BTreeMap::new(),
        vars: std::collections::BTreeMap::new(),
        alert: AlertPolicy::default(),
        slo: None,
        steps: Vec::new(),
        finally: Vec::new(),
    };
    let lookup: Arc<dyn Lookup> = Arc::new(Nothing);
    Values::new(&Arc::new(scenario), &lookup, crate::secret::Masker::default(), RunId::new(), Utc::now(), "here")
}

fn at(text: &str) -> Spanned<Template> {
    Spanned::new(Template::literal(text), Span::default())
}

fn span(line: u32) -> Span {
    Span { line, column: 1, start: 0, end: 0 }
}

fn target(how: LocatorStrategy) -> Locator {
    Locator { how, nth: None, within: None, span: span(7) }
}

fn role(role: &str, name: &str) -> Locator {
    target(LocatorStrategy::Role { role: role.into(), name: Some(Matcher::text(name)) })
}

fn css(selector: &str) -> Locator {
    target(LocatorStrategy::Css(Template::literal(selector)))
}

fn label(text: &str) -> Locator {
    target(LocatorStrategy::Label(Matcher::text(text)))
}

fn goto(url: &str) -> PageAction {
    PageAction::Goto { url: at(url), status: None }
}

fn click(target: Locator) -> PageAction {
    PageAction::Click { target, button: crate::scenario::MouseButton::Left, position: None, force: false }
}

fn fill(target: Locator, with: &str) -> PageAction {
    PageAction::Fill { target, with: at(with), append: false, becomes: None }
}

fn expect(what: PageFact) -> PageAction {
    PageAction::Expect(vec![PageExpectation { span: span(9), what }])
}

fn number(n: i64) -> Value {
    Value::Number(n.into())
}

use surroundings::counting;

/// A page of one site with the values of its run.
struct Bench {
    browsers: BrowserPool,
    page: Page,
    values: Values,
    folder: Temporary,
}

impl Bench {
    async fn new(pages: &[(&str, &str)]) -> Self {
        Self::of(crate::scenario::Engine::Chromium, pages).await
    }

    async fn of(engine: crate::scenario::Engine, pages: &[(&str, &str)]) -> Self {
        let folder = Temporary::new();
        let browsers = configured(&folder, Config { max_sessions: 1, engine: Some(engine), ..Config::default() });
        let page = browsers.open(ContextOptions::default(), soon()).await.unwrap();
        let values = values(&site(pages).await);
        Self { browsers, page, values, folder }
    }

    async fn within(&mut self, seconds: f64, action: &PageAction) -> Result<(), Failure> {
        self.page.act(action, &[], &self.values, Duration::from_secs_f64(seconds)).await.map(drop)
    }

    async fn act(&mut self, action: &PageAction) {
        self.within(PATIENCE, action).await.unwrap_or_else(|failure| panic!("{action:?}: {failure:?}"));
    }

    async fn fail(&mut self, action: &PageAction) -> Failure {
        self.within(0.6, action).await.expect_err("it should fail")
    }

    /// Returns the result of a script in the page.
    async fn js(&mut self, body: &str) -> serde_json::Value {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
        let found = self.page.evaluate(body, &[], deadline).await.unwrap();
        assert!(found["threw"].is_null(), "{body}: {found}");
        found["value"].clone()
    }

    async fn end(self) {
        self.page.close().await;
        self.browsers.shutdown().await;
        assert_eq!(std::fs::read_dir(&self.folder.0).unwrap().count(), 0, "nothing is left in the folder");
    }
}

/// Actions must be usable in spawned runs.
#[allow(dead_code)]
fn futures_can_move_between_threads(page: &mut Page, browsers: &BrowserPool, action: &PageAction, values: &Values) {
    fn can_move<T: Send>(_: T) {}
    can_move(page.act(action, &[], values, Duration::ZERO));
    can_move(page.evidence());
    can_move(browsers.open(ContextOptions::default(), Instant::now()));
}
