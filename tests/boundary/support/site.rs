//! A small site for what the demo shop has no page for: the pages of a folder, and a few answers that need a server. It
//! writes down what it was asked and what it answered.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::{Form, Path as In, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Map, Value};

/// The user of `/guarded`, and the password.
pub const USER: &str = "anna";
pub const PASSWORD: &str = "open-sesame";

/// The seed of `/code`, in base32.
pub const SEED: &str = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP";

/// A line of the access log.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Access {
    pub method: String,
    /// With its query.
    pub path: String,
    pub status: u16,
}

/// A site that is up until the test ends.
pub struct Site {
    pub address: SocketAddr,
    log: Arc<Mutex<Vec<Access>>>,
}

impl Site {
    /// Serves the files of a folder.
    pub async fn open(pages: &Path) -> Self {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let site = Self { address: listener.local_addr().unwrap(), log: Arc::default() };
        let router = Router::new()
            .route("/echo", get(echo))
            .route("/echo.json", get(echo_json))
            .route("/guarded", get(guarded))
            .route("/code", get(code_form).post(code))
            .route("/cookies", get(cookies))
            .route("/report.csv", get(report))
            .route("/status/{code}", get(status))
            .fallback(get(file).post(posted))
            .layer(middleware::from_fn_with_state(Arc::clone(&site.log), write_down))
            .with_state(pages.to_owned());
        tokio::spawn(async move { axum::serve(listener, router).await });
        site
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The same site under another name, which makes it another origin.
    pub fn other_url(&self) -> String {
        format!("http://localhost:{}", self.address.port())
    }

    /// What was asked so far.
    pub fn log(&self) -> Vec<Access> {
        self.log.lock().unwrap().clone()
    }
}

async fn write_down(State(log): State<Arc<Mutex<Vec<Access>>>>, request: Request, next: Next) -> Response {
    let (method, path) = (request.method().to_string(), request.uri().to_string());
    let answer = next.run(request).await;
    log.lock().unwrap().push(Access { method, path, status: answer.status().as_u16() });
    answer
}

async fn file(State(pages): State<PathBuf>, request: Request) -> Response {
    let name = request.uri().path().trim_start_matches('/');
    let kind = match name.rsplit_once('.').map(|(_, kind)| kind) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css",
        Some("js") => "text/javascript",
        Some("svg") => "image/svg+xml",
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    match std::fs::read(pages.join(name)) {
        Ok(bytes) if !name.contains("..") => ([(header::CONTENT_TYPE, kind)], bytes).into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

fn page(title: &str, body: &str) -> Html<String> {
    Html(format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><link rel=icon href=data:,>\
         <main><h1>{title}</h1>{body}</main>"
    ))
}

async fn posted(body: String) -> Html<String> {
    page("Posted", &format!("<p data-testid=body>{}</p>", body.replace('<', "&lt;")))
}

fn named(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
}

/// The headers of the request.
async fn echo(headers: HeaderMap) -> Html<String> {
    let rows: String = named(&headers)
        .map(|(name, value)| format!("<li data-testid=\"{name}\">{}</li>", value.replace('<', "&lt;")))
        .collect();
    page("Echo", &format!("<ul>{rows}</ul>"))
}

/// The same for scripts of every origin.
async fn echo_json(headers: HeaderMap) -> Response {
    let all: Map<String, Value> = named(&headers).map(|(name, value)| (name.to_owned(), value.into())).collect();
    ([(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*")], Json(all)).into_response()
}

async fn guarded(headers: HeaderMap) -> Response {
    use base64::Engine as _;
    let wanted = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Basic "));
    if given == Some(&wanted) {
        return page("Welcome", &format!("<p data-testid=user>{USER}</p>")).into_response();
    }
    let ask = [(header::WWW_AUTHENTICATE, "Basic realm=\"suite\"")];
    (StatusCode::UNAUTHORIZED, ask, page("Who are you?", "")).into_response()
}

async fn code_form() -> Html<String> {
    page(
        "Code",
        "<form method=post><label>Code <input name=code inputmode=numeric></label><button>Sign in</button></form>",
    )
}

#[derive(serde::Deserialize)]
struct Code {
    code: String,
}

/// Takes the codes of this half minute and of the one before, as sites do.
async fn code(Form(given): Form<Code>) -> Response {
    let seed = totp_rs::Secret::try_from_base32(SEED).unwrap();
    let totp = totp_rs::Builder::new()
        .with_algorithm(totp_rs::Algorithm::SHA1)
        .with_digits(6)
        .with_step_duration(30)
        .with_secret(seed)
        .build_noncompliant();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    if [now, now - 30].into_iter().any(|at| totp.generate(at).to_string() == given.code) {
        page("Signed in", "").into_response()
    } else {
        (StatusCode::FORBIDDEN, page("Wrong code", "")).into_response()
    }
}

async fn cookies(headers: HeaderMap) -> Response {
    let sent = headers.get(header::COOKIE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let page = page("Cookies", &format!("<p data-testid=sent>{sent}</p>"));
    let set = [(header::SET_COOKIE, "session=abc-123; Path=/; HttpOnly"), (header::SET_COOKIE, "theme=dark; Path=/")];
    (axum::response::AppendHeaders(set), page).into_response()
}

async fn report() -> Response {
    let headers =
        [(header::CONTENT_TYPE, "text/csv"), (header::CONTENT_DISPOSITION, "attachment; filename=\"report.csv\"")];
    (headers, format!("number,total\n1234,56.00\n{}", "7,8.00\n".repeat(200))).into_response()
}

async fn status(In(code): In<u16>) -> Response {
    (StatusCode::from_u16(code).unwrap(), page(&format!("Status {code}"), "")).into_response()
}
