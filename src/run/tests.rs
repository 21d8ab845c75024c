//! Complete runs against local servers: each expectation with both results, and every way in which a target or wachta
//! itself fails.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Redirect};
use axum::routing::{any, delete, get};
use base64::Engine as _;
use chrono::Utc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::demo::{Demo, DemoLookup, FAULTS, Fault};
use crate::outcome::{StepStatus, Verdict};
use crate::scenario::{Lookup, LookupError, load};
use crate::store::evidence::EvidenceFolder;
use crate::wire::tls;

mod addresses;
mod checks;
mod history;

/// Lookup with the values of a test and nothing else. `PANIC` simulates a defect of wachta.
#[derive(Default)]
struct Given {
    env: HashMap<&'static str, String>,
    files: HashMap<&'static str, String>,
}

impl Lookup for Given {
    fn env(&self, name: &str) -> Result<String, LookupError> {
        assert!(name != "PANIC", "the lookup broke");
        self.env.get(name).cloned().ok_or_else(|| LookupError::Missing(format!("the variable {name} is not set")))
    }
    fn file(&self, path: &Path, _: &str) -> Result<Vec<u8>, LookupError> {
        let text = path.to_str().and_then(|path| self.files.get(path));
        text.map(|text| text.clone().into_bytes())
            .ok_or_else(|| LookupError::Missing(format!("{} is not there", path.display())))
    }
}

/// Lookup that finds everything while files are loaded, so that missing values are missing at run time.
struct Anything;

impl Lookup for Anything {
    fn env(&self, _: &str) -> Result<String, LookupError> {
        Ok("http://anything.invalid".into())
    }
    fn file(&self, _: &Path, _: &str) -> Result<Vec<u8>, LookupError> {
        Ok(b"anything".to_vec())
    }
}

/// A folder for evidence that is removed with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("wachta-run-{}", RunId::new())))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn tools(lookup: impl Lookup + 'static, evidence: &Folder) -> RunServices {
    RunServices {
        dialer: crate::wire::Dialer::default(),
        limits: crate::wire::limits::Limits::default(),
        tokens: Tokens::default(),
        line: ConnectivityMonitor::default(),
        tls: tls::Trusted::system(),
        browsers: None,
        lookup: Arc::new(lookup),
        evidence: EvidenceFolder::new(&evidence.0),
        beats: None,
        baseline: None,
        footprints: None,
        clock: None,
        location: "here".into(),
    }
}

fn scenarios(text: &str) -> Vec<Arc<Scenario>> {
    let loaded = load("t.yaml", text, &Anything);
    assert!(!loaded.is_refused(), "{text}\n{:#?}", loaded.diagnostics);
    loaded.scenarios
}

async fn run_with(text: &str, lookup: Given) -> Outcome {
    let folder = Folder::new();
    run(&scenarios(text)[0], &tools(lookup, &folder), RunRequest::default()).await
}

async fn run_text(text: &str) -> Outcome {
    run_with(text, Given::default()).await
}

/// Returns the verdict and all that is reported about the step that decided it.
fn shown(outcome: &Outcome) -> String {
    let mut line = outcome.verdict.to_string();
    if let Some(failure) = outcome.deciding_step().and_then(|step| step.failure.as_ref()) {
        line.push_str(&format!(" {}: {}", failure.reason, failure.message));
        if let (Some(expected), Some(seen)) = (&failure.expected, &failure.seen) {
            line.push_str(&format!("; expected {expected}, got {seen}"));
        }
    } else if let Some(message) = &outcome.message {
        line.push_str(&format!(" {}: {message}", outcome.reason.map_or("", Reason::as_str)));
    }
    line
}

/// Returns the results of the steps, one letter each.
fn steps(outcome: &Outcome) -> String {
    let letter = |status| match status {
        StepStatus::Passed => 'P',
        StepStatus::Failed => 'F',
        StepStatus::Unknown => 'U',
        StepStatus::Skipped => 'S',
    };
    outcome.steps.iter().map(|step| letter(step.status)).collect()
}

/// Requests received by the test site.
#[derive(Default)]
struct Asked {
    cleanups: AtomicUsize,
    /// Number of requests for `/third`, which succeeds from the third one on.
    thirds: AtomicUsize,
    /// Whether `/orders` returns an error.
    broken: std::sync::atomic::AtomicBool,
    hanging: Notify,
    secret: std::sync::Mutex<String>,
}

struct Site {
    address: SocketAddr,
    asked: Arc<Asked>,
}

impl Site {
    async fn open() -> Self {
        let asked = Arc::new(Asked::default());
        let json = r#"{"status":"ok","items":[{"sku":"MUG","n":1},{"sku":"POT","n":2}],"n":7.5,"none":null}"#;
        let router = Router::new()
            .route(
                "/json",
                get(move || async move { ([(header::CONTENT_TYPE, "application/json"), (header::VIA, "one")], json) }),
            )
            .route("/text", get(|| async { "Hello wörld" }))
            .route("/missing", get(|| async { (StatusCode::NOT_FOUND, "nothing here") }))
            .route("/none", delete(cleanup).get(|| async { StatusCode::NO_CONTENT }))
            .route("/loop", get(|| async { Redirect::temporary("/loop") }))
            .route("/there", get(|| async { Redirect::temporary("/json") }))
            .route("/large", get(|| async { vec![b'x'; (10 << 20) + 1] }))
            .route("/gzip", get(|| async { ([(header::CONTENT_ENCODING, "gzip")], GZIP) }))
            .route("/hang", get(hang))
            .route("/third", get(third))
            .route("/orders", get(orders))
            .route("/whole/{*path}", any(whole))
            .route("/secret/{*path}", any(secret))
            .with_state(Arc::clone(&asked));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, asked }
    }

    /// Returns a scenario for this site. The steps start in line 4.
    fn flow(&self, steps: &str) -> String {
        format!("scenario: Test\nbase_url: http://{}\nsteps:\n{steps}", self.address)
    }
}

/// `{"ok":true}`
const GZIP: [u8; 31] = [
    31, 139, 8, 0, 0, 0, 0, 0, 2, 3, 171, 86, 202, 207, 86, 178, 42, 41, 42, 77, 173, 5, 0, 144, 95, 212, 167, 11, 0,
    0, 0,
];

async fn cleanup(State(asked): State<Arc<Asked>>) -> StatusCode {
    asked.cleanups.fetch_add(1, Ordering::Relaxed);
    StatusCode::NO_CONTENT
}

async fn third(State(asked): State<Arc<Asked>>) -> StatusCode {
    if asked.thirds.fetch_add(1, Ordering::Relaxed) < 2 { StatusCode::CONFLICT } else { StatusCode::OK }
}

async fn orders(State(asked): State<Arc<Asked>>) -> StatusCode {
    if asked.broken.load(Ordering::Relaxed) { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK }
}

async fn hang(State(asked): State<Arc<Asked>>) -> StatusCode {
    asked.hanging.notify_one();
    std::future::pending().await
}

/// Returns the request: method, path and query, some headers, body.
async fn whole(method: axum::http::Method, uri: axum::http::Uri, headers: HeaderMap, body: String) -> String {
    let header = |name| headers.get(name).map_or("", |value| value.to_str().unwrap_or("?")).to_owned();
    format!("{method} {uri} {}|{}|{body}", header("content-type"), header("x-kind"))
}

/// Exposes the secret in every form, and at positions where texts are truncated.
async fn secret(State(asked): State<Arc<Asked>>) -> axum::response::Response {
    let secret = asked.secret.lock().unwrap().clone();
    let body = format!("{}{secret} {}{}", "x".repeat(292), betrayals(&secret).join("\n"), "y".repeat(64 << 10));
    let body = format!("{}{secret}", &body[..(64 << 10) - 5]);
    ([("x-echo", betrayals(&secret)[1].clone())], body).into_response()
}

fn betrayals(secret: &str) -> Vec<String> {
    let base64 = base64::engine::general_purpose::STANDARD;
    let ascii: String =
        secret.chars().map(|c| if c.is_ascii() { c.to_string() } else { format!("\\u{:04x}", c as u32) }).collect();
    vec![
        secret.to_owned(),
        percent_encoding::utf8_percent_encode(secret, percent_encoding::NON_ALPHANUMERIC).to_string(),
        url::form_urlencoded::byte_serialize(secret.as_bytes()).collect(),
        base64.encode(format!("user:{secret}")),
        base64.encode(format!("u:{secret}:more")),
        base64.encode(secret),
        serde_json::json!({ "password": secret }).to_string(),
        ascii.replace('"', "\\\""),
        format!("http://h/{secret}").parse::<url::Url>().unwrap().to_string(),
    ]
}

#[tokio::test]
async fn values_and_lists_in_requests() {
    let site = Site::open().await;
    let check = async |steps: &str, expected: &str| {
        let text =
            format!("scenario: Test\nbase_url: http://{}\nvars: {{v: 'a b/c?d&e#f%'}}\nsteps:\n{steps}", site.address);
        let outcome = run_text(&format!("{text}    expect: {{body: {{starts_with: \"{expected}\"}}}}\n")).await;
        assert_eq!(shown(&outcome), "passed", "{steps}");
    };
    check("  - GET: /whole/${vars.v}/x\n", "GET /whole/a%20b%2Fc%3Fd%26e%23f%25/x ").await;
    check("  - GET: /whole/x?q=${vars.v}&r=1\n", "GET /whole/x?q=a%20b%2Fc%3Fd%26e%23f%25&r=1 ").await;
    check(
        "  - GET: /whole/x\n    query: {a: [1, \"${vars.v}\"], b: 2}\n",
        "GET /whole/x?a=1&a=a+b%2Fc%3Fd%26e%23f%25&b=2 ",
    )
    .await;
    check(
        "  - POST: /whole/x\n    form: {a: [1, 2], b: x}\n",
        "POST /whole/x application/x-www-form-urlencoded||a=1&a=2&b=x",
    )
    .await;
}

#[tokio::test]
async fn expectations_on_an_answer() {
    let site = Site::open().await;
    let check = async |path: &str, expect: &str, expected: &str| {
        let outcome = run_text(&site.flow(&format!("  - GET: {path}\n    expect: {expect}\n"))).await;
        assert_eq!(shown(&outcome), expected, "{path}: {expect}");
        if outcome.verdict == Verdict::Failed {
            let place = &outcome.steps[0].place;
            assert!(place.starts_with("t.yaml:5:"), "{expect}: {place}");
        }
    };
    check("/json", "{status: 200}", "passed").await;
    check("/json", "{status: 201}", "failed status: the status is 200; expected 201, got 200").await;
    check("/missing", "{status: {one_of: [404, 410]}}", "passed").await;
    check(
        "/missing",
        "{status: {between: [500, 599]}}",
        "failed status: the status is 404; expected between 500 and 599, got 404",
    )
    .await;
    check("/json", "{headers: {Content-Type: {contains: json}, Via: one}}", "passed").await;
    check("/json", "{headers: {Via: two}}", r#"failed assertion: header `via`; expected "two", got "one""#).await;
    check(
        "/json",
        "{headers: {X-None: {exists: true}}}",
        "failed assertion: header `x-none`; expected exists, got nothing",
    )
    .await;
    check("/json", "{headers: {X-None: {exists: false}}}", "passed").await;
    check(
        "/json",
        "{json: {$.status: ok, $.n: {greater_than: 7}, $.items: {count: 2}, $.gone: {exists: false}}}",
        "passed",
    )
    .await;
    check("/json", "{json: {$.none: {exists: true}, \"$.items[*].sku\": {contains: POT}}}", "passed").await;
    check(
        "/json",
        "{json: {$.status: {not: ok}}}",
        r#"failed assertion: `$.status` in the body; expected not "ok", got "ok""#,
    )
    .await;
    check("/json", "{json: {$.n: \"7.5\"}}", r#"failed assertion: `$.n` in the body; expected "7.5", got 7.5"#).await;
    check(
        "/json",
        "{json: {$.items: {count: 3}}}",
        r#"failed assertion: `$.items` in the body; expected count 3, got [{"sku":"MUG","n":1},{"sku":"POT","n":2}]"#,
    )
    .await;
    check("/json", "{json: {$.gone: 1}}", "failed assertion: `$.gone` in the body; expected 1, got nothing").await;
    check("/text", "{json: {$.a: 1}}", r#"failed assertion: the body is not JSON (expected value at line 1 column 1); expected a JSON body, got "Hello wörld""#).await;
    check("/text", "{body: {matches: \"^Hello w.rld$\"}}", "passed").await;
    check(
        "/text",
        "{body: {starts_with: World}}",
        r#"failed assertion: the body; expected starts with "World", got "Hello wörld""#,
    )
    .await;
    check("/text", "{contains: wörld}", "passed").await;
    check("/text", "{contains: moon}", r#"failed assertion: the body; expected contains "moon", got "Hello wörld""#)
        .await;
    check("/text", "{faster_than: 1m}", "passed").await;
    check("/gzip", "{json: {$.ok: true}}", "passed").await;
    check("/there", "{status: 200, json: {$.status: ok}}", "passed").await;
}

#[tokio::test]
async fn without_a_status_success_is_expected() {
    let site = Site::open().await;
    let outcome = run_text(&site.flow("  - GET: /missing\n")).await;
    assert_eq!(shown(&outcome), "failed status: GET returned status 404; expected a status from 200 to 299, got 404");
    assert_eq!(outcome.steps[0].place, "t.yaml:4:5");
    let http = outcome.steps[0].http.as_ref().unwrap();
    assert_eq!((http.status, http.bytes, http.method.as_str()), (404, 12, "GET"));
    assert_eq!(shown(&run_text(&site.flow("  - GET: /none\n")).await), "passed");
}

#[tokio::test]
async fn requests_say_what_they_are_told_to() {
    let site = Site::open().await;
    let check = async |step: &str, expected: &str| {
        let flow =
            site.flow(&format!("  - {step}\n    expect: {{body: {{equals: {}}}}}\n", serde_json::json!(expected)));
        assert_eq!(shown(&run_text(&flow.replace("steps:", "vars: {kind: mug}\nsteps:")).await), "passed", "{step}");
    };
    check("GET: /whole/a\n    query: {q: \"a b&c\", kind: \"${vars.kind}\"}", "GET /whole/a?q=a+b%26c&kind=mug ||")
        .await;
    check(
        "POST: /whole/a\n    json: {n: 7, t: \"n=${vars.kind}\", l: [1, true, null]}",
        r#"POST /whole/a application/json||{"n":7,"t":"n=mug","l":[1,true,null]}"#,
    )
    .await;
    check(
        "PUT: /whole/a\n    form: {a: x y, b: \"${vars.kind}\"}",
        "PUT /whole/a application/x-www-form-urlencoded||a=x+y&b=mug",
    )
    .await;
    check(
        "PATCH: /whole/a\n    body: plain\n    headers: {X-Kind: \"${vars.kind}\", Content-Type: text/x}",
        "PATCH /whole/a text/x|mug|plain",
    )
    .await;
}

#[tokio::test]
async fn values_are_kept_from_step_to_step() {
    let site = Site::open().await;
    let flow = "  - GET: /json\n    save: {sku: {json: \"$.items[1].sku\"}, n: {json: $.n}, via: {header: Via}, b: {body: {matches: '\"n\":([0-9])'}}}\n\
                \x20 - POST: /whole/${sku}\n    json: {n: \"${n}\", via: \"${via}\", b: \"${b}\"}\n    expect: {contains: '/POT application/json||{\"n\":7.5,\"via\":\"one\",\"b\":\"1\"}'}\n";
    assert_eq!(shown(&run_text(&site.flow(flow)).await), "passed");
    let flow = "  - GET: /json\n    save: {x: {json: $.gone}}\n";
    let outcome = run_text(&site.flow(flow)).await;
    assert_eq!(shown(&outcome), "failed assertion: nothing to save as `x`; expected `$.gone` in the body, got nothing");
    assert_eq!(outcome.steps[0].place, "t.yaml:5:12");
}

#[tokio::test]
async fn a_used_file_fails_at_its_own_lines() {
    struct Parts;
    impl Lookup for Parts {
        fn env(&self, name: &str) -> Result<String, LookupError> {
            Err(LookupError::Missing(name.to_owned()))
        }
        fn file(&self, path: &Path, _: &str) -> Result<Vec<u8>, LookupError> {
            assert_eq!(path, Path::new("parts/text.yaml"));
            Ok(b"parameters: [path]\nsteps:\n  - GET: ${path}\n    expect:\n      body: no\n".to_vec())
        }
    }
    let site = Site::open().await;
    let flow =
        "  - GET: /json\n  - group: All\n    steps:\n      - use: parts/text.yaml\n        with: {path: /text}\n";
    let loaded = load("s/t.yaml", &site.flow(flow), &Parts);
    assert_eq!(loaded.diagnostics, []);
    let folder = Folder::new();
    let outcome = run(&loaded.scenarios[0], &tools(Parts, &folder), RunRequest::default()).await;
    assert_eq!(shown(&outcome), r#"failed assertion: the body; expected "no", got "Hello wörld""#);
    let places: Vec<_> = outcome.steps.iter().map(|step| (step.name.as_str(), step.place.as_str())).collect();
    let inner = "s/parts/text.yaml:5:7";
    assert_eq!(
        places,
        [("GET /json", "s/t.yaml:4:5"), ("All", inner), ("use parts/text.yaml", inner), ("GET /text", inner)]
    );
    assert_eq!(loaded.scenarios[0].source_of(inner).line(5), "      body: no");
}

/// A lookup with a file that hangs while read until it is released; other files are available.
struct Hanging(std::sync::Mutex<std::sync::mpsc::Receiver<()>>);

impl Lookup for Hanging {
    fn env(&self, _: &str) -> Result<String, LookupError> {
        Ok("a secret".into())
    }
    fn file(&self, path: &Path, _: &str) -> Result<Vec<u8>, LookupError> {
        if path == Path::new("hangs") {
            let _ = self.0.lock().unwrap().recv();
        }
        Ok(b"a secret in a file".to_vec())
    }
}

/// Runs everything on one thread, so that a blocked thread would block all runs.
#[tokio::test]
async fn a_file_that_hangs_holds_up_only_the_run_that_needs_it() {
    let site = Site::open().await;
    let folder = Folder::new();
    let hangs = "cannot read the file `hangs`: the file system did not respond within ";
    let again = "cannot read the file `hangs`: an earlier read of it has not ended";
    let with_secret = |flow: &str| site.flow(flow).replacen("steps:", "secrets: {word: {file: hangs}}\nsteps:", 1);
    for text in [
        with_secret("  - GET: /json\n    headers: {x-own: \"${secret.word}\"}\n"),
        site.flow("  - GET: /json\n    trust: {ca: hangs}\n"),
        site.flow("  - GET: /json\n    trust: {cert: hangs, key: good}\n"),
        site.flow("  - GET: /json\n    trust: {cert: good, key: hangs}\n"),
        site.flow("  - POST: /json\n    multipart: {a: {file: hangs}}\n"),
        site.flow("  - GET: /json\n    expect: {json: {$: {schema: hangs}}}\n"),
        format!("checks: {{a: {{tls: \"{}\", trust: {{ca: hangs}}}}}}\n", site.address),
        format!("checks: {{a: {{grpc: \"{}\", trust: {{ca: hangs}}}}}}\n", site.address),
    ] {
        let (hold, held) = std::sync::mpsc::channel();
        let tools = tools(Hanging(std::sync::Mutex::new(held)), &folder);
        let with_timeout = |text: &str| {
            if text.starts_with("checks") {
                format!("defaults: {{timeout: 1s}}\n{text}")
            } else {
                text.replacen("steps:", "timeout: 1s\nsteps:", 1)
            }
        };
        let needs_it = &scenarios(&with_timeout(&text))[0];
        // A run with another file continues and ends long before the first one.
        let other = site.flow("  - GET: /json\n    headers: {x-own: \"${secret.word}\"}\n");
        let other = &scenarios(&other.replacen("steps:", "secrets: {word: {file: good}}\nsteps:", 1))[0];
        let hung = run(needs_it, &tools, RunRequest::default());
        let good = run(other, &tools, RunRequest::default());
        let (mut hung, good) = (std::pin::pin!(hung), std::pin::pin!(good));
        let outcome = tokio::select! {
            biased;
            outcome = hung.as_mut() => panic!("{text}: it was not waited for: {outcome:?}"),
            outcome = good => outcome,
        };
        assert_eq!(shown(&outcome), "passed", "{text}");
        let outcome = hung.await;
        assert_eq!(outcome.verdict, Verdict::Unknown, "{text}");
        assert!(shown(&outcome).contains(hangs), "{text}: {}", shown(&outcome));
        // Another run does not start a second thread for the file.
        let second = run(needs_it, &tools, RunRequest::default()).await;
        assert!(shown(&second).ends_with(again), "{text}: {}", shown(&second));
        drop(hold);
    }
}

#[tokio::test]
async fn flows() {
    let site = Site::open().await;
    // Columns: steps and `finally`, the verdict, the results of the steps, and the number of cleanups of the site.
    let check = async |flow: &str, expected: &str, ended: &str, cleanups: usize| {
        site.asked.cleanups.store(0, Ordering::Relaxed);
        let outcome = run_text(&site.flow(flow)).await;
        assert_eq!((shown(&outcome).as_str(), steps(&outcome).as_str()), (expected, ended), "{flow}");
        assert_eq!(site.asked.cleanups.load(Ordering::Relaxed), cleanups, "{flow}");
    };
    let not_found = "failed status: GET returned status 404; expected a status from 200 to 299, got 404";
    check("  - GET: /json\n  - GET: /text\n", "passed", "PP", 0).await;
    check("  - GET: /missing\n  - GET: /text\n", not_found, "F", 0).await;
    check("  - GET: /missing\n    optional: true\n  - GET: /text\n", "passed", "FP", 0).await;
    // With `continue`, the following steps run, and the first failure decides.
    check("  - GET: /missing\n    continue: true\n  - GET: /text\n", not_found, "FP", 0).await;
    check(
        "  - GET: /missing\n    continue: true\n  - GET: /text\n    expect: {body: no}\n  - GET: /text\n",
        not_found,
        "FF",
        0,
    )
    .await;
    let within = "  - group: Pay\n    steps:\n      - GET: /missing\n        continue: true\n      - GET: /text\n  - GET: /text\n";
    check(within, not_found, "FFPP", 0).await;
    check(&within.replace("Pay\n", "Pay\n    optional: true\n"), "passed", "FFPP", 0).await;
    let whole =
        "  - group: Pay\n    continue: true\n    steps:\n      - GET: /missing\n      - GET: /text\n  - GET: /text\n";
    check(whole, not_found, "FFP", 0).await;
    // Groups: a failed step fails the group. A failure in an optional group does not count.
    check(
        "  - group: Pay\n    steps:\n      - GET: /text\n      - GET: /missing\n      - GET: /text\n  - GET: /text\n",
        not_found,
        "FPF",
        0,
    )
    .await;
    check(
        "  - group: Pay\n    optional: true\n    steps:\n      - GET: /missing\n      - GET: /text\n  - GET: /text\n",
        "passed",
        "FFP",
        0,
    )
    .await;
    // A group is repeated from its first step; the last attempt counts.
    check("  - group: Pay\n    retry: 1\n    steps:\n      - GET: /missing\n", not_found, "FFF", 0).await;
    // `finally` runs whatever the result of the steps. Its failures only degrade the run, and all of its steps are
    // tried.
    let finally = "finally:\n  - DELETE: /none\n  - DELETE: /missing\n  - DELETE: /none\n";
    let degraded = "degraded status: DELETE returned status 405; expected a status from 200 to 299, got 405";
    check(&format!("  - GET: /json\n{finally}"), degraded, "PPFP", 2).await;
    check(&format!("  - GET: /missing\n{finally}"), not_found, "FPFP", 2).await;
    // A value that this run did not save: skipped in `finally`, missing elsewhere.
    let unsaved = "  - GET: /missing\n    optional: true\n    save: {id: {json: $.id}}\n";
    let finally = "finally:\n  - DELETE: /orders/${id}\n  - group: Both\n    steps:\n      - DELETE: /orders/${id}\n      - DELETE: /none\n";
    check(&format!("{unsaved}{finally}"), "passed", "FSPSP", 1).await;
    check(
        &format!("{unsaved}  - GET: /orders/${{id}}\n"),
        "failed missing_value: `${id}` was not saved in this run",
        "FF",
        0,
    )
    .await;
    // Values of a response are saved even if an expectation does not hold, because `finally` needs them.
    let slow = "  - GET: /json\n    expect: {status: 201}\n    save: {sku: {json: \"$.items[0].sku\"}, gone: {json: $.gone}}\n";
    let finally =
        "finally:\n  - {DELETE: /none, query: {sku: \"${sku}\"}}\n  - {DELETE: /none, query: {gone: \"${gone}\"}}\n";
    check(&format!("{slow}{finally}"), "failed status: the status is 200; expected 201, got 200", "FPS", 1).await;
    // A reason of the outcome applies to the run, not to the step.
    let outcome = run_text(&site.flow("  - GET: /json\nfinally:\n  - GET: /missing\n")).await;
    assert_eq!(
        (outcome.verdict, outcome.reason, outcome.failed_step),
        (Verdict::Degraded, Some(Reason::Finally), Some(1))
    );
    assert!(
        outcome.message.as_ref().unwrap().starts_with("cleaning up failed: GET returned status 404"),
        "{:?}",
        outcome.message
    );
    assert!(outcome.steps[1].finally && !outcome.steps[0].finally);
}

#[tokio::test]
async fn every_try_of_a_group_is_told_and_the_last_one_counts() {
    let site = Site::open().await;
    let flow = "  - group: Pay\n    retry: 3\n    steps:\n      - GET: /text\n      - GET: /third\n  - GET: /text\n";
    let outcome = run_text(&site.flow(flow)).await;
    assert_eq!((shown(&outcome).as_str(), steps(&outcome).as_str()), ("passed", "PPFPFPPP"));
    let notes: Vec<&str> = outcome.steps[0].notes.iter().map(|note| &**note).collect();
    let told = |number| format!("attempt {number} failed at GET /third: GET returned status 409");
    assert_eq!(notes, [told(1), told(2)]);
    let retried: String = outcome.steps.iter().map(|step| if step.retried { 'r' } else { '.' }).collect();
    assert_eq!(retried, ".rrrr...");
    // Metrics and Zabbix contain each step once.
    let names: Vec<&str> = outcome.steps_of_file().map(|step| step.name.as_str()).collect();
    assert_eq!(names, ["Pay", "GET /text", "GET /third", "GET /text (2)"]);
}

#[tokio::test]
async fn what_differs_from_the_last_good_run_is_told() {
    let (site, folder) = (Site::open().await, Folder::new());
    let scenario = &scenarios(&site.flow("  - GET: /text\n  - GET: /orders\n"))[0];
    let footprints = Some(crate::run::Footprints::new(folder.0.join("good")));
    let tools = RunServices { footprints, ..tools(Given::default(), &folder) };
    let text = |outcome: &Outcome| {
        outcome.differences.iter().map(|difference| difference.text.to_string()).collect::<Vec<_>>()
    };
    site.asked.broken.store(true, Ordering::Relaxed);
    // There is no good run yet.
    assert_eq!(text(&run(scenario, &tools, RunRequest::default()).await), [""; 0]);
    site.asked.broken.store(false, Ordering::Relaxed);
    let good = run(scenario, &tools, RunRequest::default()).await;
    assert_eq!((good.verdict, text(&good).len()), (Verdict::Passed, 0));
    site.asked.broken.store(true, Ordering::Relaxed);
    let bad = run(scenario, &tools, RunRequest::default()).await;
    assert_eq!((bad.verdict, text(&bad)), (Verdict::Failed, vec!["GET /orders returns 500, was 200".to_owned()]));
}

#[tokio::test]
async fn time_is_bounded() {
    let site = Site::open().await;
    let began = Instant::now();
    let outcome = run_text(&site.flow("  - GET: /hang\n    timeout: 100ms\n  - GET: /text\n")).await;
    assert_eq!(shown(&outcome), "failed timeout: timed out after 100ms: still waiting for the response");
    assert_eq!(steps(&outcome), "F");
    let outcome = run_text(&format!("timeout: 150ms\n{}", site.flow("  - GET: /hang\n"))).await;
    assert!(shown(&outcome).ends_with("(the 150ms timeout of the scenario expired)"), "{}", shown(&outcome));
    let flow = site.flow("  - GET: /hang\n    optional: true\n  - GET: /text\n");
    let outcome = run_text(&format!("timeout: 150ms\n{flow}")).await;
    assert_eq!(shown(&outcome), "failed timeout: the 150ms timeout of the scenario expired");
    let group =
        "  - group: Pay\n    timeout: 150ms\n    steps:\n      - {GET: /hang, optional: true}\n      - GET: /text\n";
    let outcome = run_text(&site.flow(group)).await;
    assert_eq!(shown(&outcome), "failed timeout: the 150ms timeout of the group expired");
    assert_eq!(steps(&outcome), "FFF");
    assert!(began.elapsed() < Duration::from_secs(8), "took {:?}", began.elapsed());
}

#[tokio::test]
async fn a_defect_of_ours_is_unknown_and_still_an_outcome() {
    let site = Site::open().await;
    let outcome = run_text(&site.flow("  - GET: /text\n  - GET: /text/${env.PANIC}\n  - GET: /text\n")).await;
    assert_eq!(shown(&outcome), "unknown panic: wachta itself failed: the lookup broke");
    assert_eq!(steps(&outcome), "PU");
    let outcome = run_text(&site.flow("  - GET: /text/${env.NONE}\n")).await;
    assert_eq!(shown(&outcome), "unknown configuration: the variable NONE is not set");
    assert_eq!(steps(&outcome), "U");
    let outcome = run_text(&site.flow("  - goto: /\n")).await;
    assert_eq!(shown(&outcome), "unknown browser: browsers are disabled here");
}

#[tokio::test]
async fn a_run_that_is_stopped_is_lost() {
    let site = Site::open().await;
    for optional in ["", "    optional: true\n"] {
        let text = site.flow(&format!("  - GET: /hang\n{optional}finally:\n  - DELETE: /none\n"));
        let (folder, ticket) = (Folder::new(), RunRequest::default());
        let cancel = ticket.cancel.clone();
        let scenario = &scenarios(&text)[0];
        let tools = tools(Given::default(), &folder);
        let began = Instant::now();
        let (outcome, ()) = tokio::join!(run(scenario, &tools, ticket), async {
            site.asked.hanging.notified().await;
            cancel.cancel();
        });
        assert_eq!(shown(&outcome), "unknown lost: the agent was stopped during the run");
        assert_eq!((steps(&outcome).as_str(), site.asked.cleanups.load(Ordering::Relaxed)), ("U", 0));
        assert!(began.elapsed() < Duration::from_secs(5));
    }
}

/// Starts a server that treats every connection in the same way.
async fn server<F: Future<Output = ()> + Send>(
    serve: impl Fn(TcpStream) -> F + Send + Sync + Copy + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move { serve(stream).await });
        }
    });
    address
}

#[tokio::test]
async fn how_a_target_breaks() {
    let check = async |text: String, expected: &str| {
        let began = Instant::now();
        let seen = shown(&run_text(&text).await);
        assert!(seen.starts_with(expected), "{text}: {seen}");
        assert!(began.elapsed() < Duration::from_secs(8), "{text} took {:?}", began.elapsed());
    };
    let get = |address: SocketAddr| format!("checks:\n  a: {{http: \"http://{address}/\", timeout: 300ms}}\n");
    let site = Site::open().await;
    let path = |path: &str| format!("checks:\n  a: {{http: \"http://{}{path}\"}}\n", site.address);
    // A bound socket that does not listen refuses connections.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let refused = socket.local_addr().unwrap();
    check(get(refused), "failed connect: no connection to 127.0.0.1:").await;
    check(format!("checks:\n  a: {{tcp: \"{refused}\"}}\n"), "failed connect: no connection to 127.0.0.1:").await;
    check(format!("checks:\n  a: {{tls: \"{refused}\"}}\n"), "failed connect: ").await;
    // Labels longer than 63 characters are invalid, so no name server is needed.
    let long = "a".repeat(64);
    check(format!("checks:\n  a: {{http: \"http://{long}.invalid/\"}}\n"), "failed dns: `aaa").await;
    check(format!("checks:\n  a: {{tcp: \"{long}.invalid:80\"}}\n"), "failed dns: `aaa").await;
    let reset = server(|mut stream| async move {
        let _ = stream.read(&mut [0; 1024]).await;
        let _ = stream.set_zero_linger();
    });
    check(get(reset.await), "failed protocol: the response ended early: ").await;
    let closed = server(|mut stream| async move {
        let _ = stream.read(&mut [0; 1024]).await;
    });
    check(get(closed.await), "failed protocol: the connection was closed before the response was complete").await;
    let garbage = server(|mut stream| async move {
        let _ = stream.write_all(b"SSH-2.0-OpenSSH\r\n\r\n").await;
        let _ = stream.read(&mut [0; 1024]).await;
    });
    check(get(garbage.await), "failed protocol: the response is not HTTP: ").await;
    let short = server(|mut stream| async move {
        let _ = stream.read(&mut [0; 1024]).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await;
    });
    check(get(short.await), "failed protocol: the response ended early: ").await;
    // A slow response is limited by the timeout for the whole response.
    let drip = server(|mut stream| async move {
        let _ = stream.read(&mut [0; 1024]).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n").await;
        let mut beat = tokio::time::interval(Duration::from_millis(20));
        loop {
            beat.tick().await;
            if stream.write_all(b"x").await.is_err() {
                return;
            }
        }
    });
    check(get(drip.await), "failed timeout: timed out after ").await;
    check(path("/large"), "failed too_large: the response body is larger than 10 MiB").await;
    check(path("/loop"), "failed protocol: too many redirects (more than 10)").await;
    let plain = site.address;
    check(format!("checks:\n  a: {{tls: \"{plain}\"}}\n"), "failed tls: the TLS handshake failed: ").await;
}

/// Starts a TLS server with its own certificate for these names, which expires in a number of days.
async fn tls_server(names: &[&str], days: i64) -> (SocketAddr, String) {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = ca.self_signed(&ca_key).unwrap().pem();
    let key = KeyPair::generate().unwrap();
    let mut leaf = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
    let day = |days: i64| {
        let at = std::time::UNIX_EPOCH + Duration::from_secs((Utc::now().timestamp() + days * 86_400).unsigned_abs());
        at.into()
    };
    (leaf.not_before, leaf.not_after) = (day(days - 30), day(days));
    let certificate = leaf.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.serialize_der().try_into().unwrap())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let _ = stream.read(&mut [0; 2048]).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok").await;
                let _ = stream.shutdown().await;
            });
        }
    });
    (address, pem)
}

#[tokio::test]
async fn certificates() {
    let check = async |names: &[&str], days: i64, trusted: bool, more: &str, expected: &str| {
        let (address, pem) = tls_server(names, days).await;
        let trust = if trusted { "trust: {ca: ca.pem}" } else { "timeout: 9s" };
        let port = address.port();
        for (kind, text) in [
            ("tls", format!("checks:\n  a: {{tls: \"localhost:{port}\", {trust}{more}}}\n")),
            ("http", format!("checks:\n  a: {{http: \"https://localhost:{port}/\", {trust}}}\n")),
        ] {
            if kind == "http" && !more.is_empty() {
                continue;
            }
            let lookup = Given { files: HashMap::from([("ca.pem", pem.clone())]), ..Given::default() };
            let outcome = run_with(&text, lookup).await;
            let seen = shown(&outcome);
            assert!(seen.starts_with(expected), "{kind} {names:?} {days}: {seen}");
            // The expiry of a rejected certificate is reported too.
            assert!(outcome.steps[0].certificate_expires_at.is_some(), "{kind}: {seen}");
        }
    };
    let local = &["localhost"];
    check(local, 20, true, "", "passed").await;
    check(local, 20, false, "", "failed certificate: the certificate is not trusted: it is self-signed").await;
    check(local, -1, true, "", "failed certificate: the certificate is not trusted: it expired 1 day ago (").await;
    check(local, 40, true, "", "failed certificate: the certificate is not trusted: it is not valid before ").await;
    let expected = "failed certificate: the certificate is not trusted: it is for `other.test`, not for `localhost`";
    check(&["other.test"], 20, true, "", expected).await;
    check(local, 20, true, ", expires_after: 19d", "passed").await;
    check(local, 20, true, ", expires_after: 21d", "failed certificate: the certificate of CN=rcgen self signed cert is about to expire; expected valid for more than 21d, got 19d23h left, until ").await;
}

#[tokio::test]
async fn a_ca_that_is_not_one_is_our_fault() {
    let check = async |ca: Option<&str>, expected: &str| {
        let files = ca.map(|ca| ("ca.pem", ca.to_owned())).into_iter().collect();
        let outcome = run_with(
            "checks:\n  a: {tls: \"127.0.0.1:1\", trust: {ca: ca.pem}}\n",
            Given { files, ..Given::default() },
        )
        .await;
        assert!(shown(&outcome).starts_with(expected), "{}", shown(&outcome));
    };
    check(None, "unknown configuration: ca.pem is not there").await;
    check(Some("no PEM"), "unknown configuration: `trust.ca`: no certificate in the file").await;
}

#[tokio::test]
async fn tcp_checks() {
    let banner = server(|mut stream| async move {
        let _ = stream.write_all(b"220 mail ").await;
        let mut line = [0; 64];
        let n = stream.read(&mut line).await.unwrap_or(0);
        let _ = stream.write_all(&[b"250 ", &line[..n]].concat()).await;
        // The connection stays open, so a step that expects more waits until its timeout.
        let _ = stream.read(&mut line).await;
    })
    .await;
    let check = async |keys: &str, expected: &str| {
        let outcome = run_text(&format!("checks:\n  a: {{tcp: \"{banner}\", timeout: 300ms{keys}}}\n")).await;
        assert_eq!(shown(&outcome), expected, "{keys}");
    };
    check("", "passed").await;
    check(", receive: {starts_with: \"220 \"}", "passed").await;
    check(", send: HELO, receive: {contains: \"250 HELO\"}, faster_than: 1m", "passed").await;
    check(", receive: {starts_with: \"550\"}", r#"failed timeout: the expected data was not received (the 300ms timeout of the scenario expired); expected starts with "550", got "220 mail ""#).await;
    let closes = server(|mut stream| async move {
        let _ = stream.write_all(b"busy").await;
    })
    .await;
    let outcome = run_text(&format!("checks:\n  a: {{tcp: \"{closes}\", receive: {{contains: ready}}}}\n")).await;
    assert_eq!(
        shown(&outcome),
        r#"failed assertion: the expected data was not received; expected contains "ready", got "busy""#
    );
}

#[tokio::test]
async fn a_secret_never_leaves() {
    let site = Site::open().await;
    let secret = "pä\"ss w/rd-1_&<x>";
    *site.asked.secret.lock().unwrap() = secret.to_owned();
    for steps in [
        "  - GET: /secret/${secret.pw}\n    headers: {Authorization: \"Bearer ${secret.pw}\"}\n    expect: {contains: nothing like it}\n",
        "  - GET: /secret/a\n    query: {q: \"${secret.pw}\"}\n    expect: {status: 500}\n",
        "  - GET: /secret/a\n    query: {q: \"${secret.pw}\"}\n    expect: {body: \"${secret.pw}\"}\n",
        "  - GET: /secret/a\n    json: {q: \"${secret.pw}\"}\n    expect: {json: {$.a: \"${secret.pw}\"}}\n",
        "  - GET: /secret/a\n    expect: {headers: {X-Echo: \"${secret.pw}\"}}\n",
        "  - GET: /secret/a\n    name: Step of ${secret.pw}\n    form: {a: \"${secret.pw}\"}\n    save: {x: {json: $.a}}\n",
    ] {
        let text =
            site.flow(steps).replace("steps:\n", "secrets: {pw: {env: PW}}\nsteps:\n  - GET: /text?${secret.pw}\n");
        let folder = Folder::new();
        let lookup = Given { env: HashMap::from([("PW", secret.to_owned())]), ..Given::default() };
        let told = Arc::new(std::sync::Mutex::new(String::new()));
        let heard = Arc::clone(&told);
        let progress: Progress = Arc::new(move |stage| heard.lock().unwrap().push_str(&format!("{stage:?}\n")));
        let ticket = RunRequest { progress: Some(progress), ..RunRequest::default() };
        let outcome = run(&scenarios(&text)[0], &tools(lookup, &folder), ticket).await;
        assert_eq!(outcome.verdict, Verdict::Failed, "{steps}");
        let evidence = &outcome.evidence[0];
        let kept = std::fs::read(folder.0.join(&evidence.path)).unwrap();
        assert_eq!((evidence.bytes, evidence.step), (kept.len() as u64, Some(1)));
        let kept = String::from_utf8_lossy(&kept).into_owned();
        assert!(kept.contains("***") && kept.starts_with("GET http://127.0.0.1"), "{kept}");
        let report = serde_json::to_string(&outcome).unwrap();
        for (place, text) in [("evidence", &kept), ("outcome", &report), ("progress", &*told.lock().unwrap())] {
            // The first characters are sufficient, because a truncated secret is a leak too.
            for form in betrayals(secret).iter().map(String::as_str).chain(["pä\"s", "p%C3%A4", "ss w/rd", "ss%20w"]) {
                assert!(!text.contains(form), "{steps}: {form} in {place}: {}", &text[..text.len().min(3000)]);
            }
        }
    }
}

#[tokio::test]
async fn a_secret_that_is_saved_is_masked_from_then_on() {
    let site = Site::open().await;
    let flow = "  - GET: /json\n    save: {token: {json: \"$.items[0].sku\", secret: true}}\n  - GET: /json\n    expect: {status: 500}\n";
    let outcome = run_text(&site.flow(flow)).await;
    assert_eq!(
        shown(&outcome),
        "failed assertion: the value saved as `token` is shorter than 4 characters and cannot be kept secret"
    );
    let flow = "  - GET: /text\n    save: {token: {body: {matches: Hello}, secret: true}}\n  - GET: /text\n    expect: {body: no}\n";
    let outcome = run_text(&site.flow(flow)).await;
    assert_eq!(shown(&outcome), r#"failed assertion: the body; expected "no", got "*** wörld""#);
    // Also if an expectation on the response with the value does not hold.
    let flow = "  - GET: /text\n    expect: {body: no}\n    save: {token: {body: {matches: Hello}, secret: true}}\n";
    let outcome = run_text(&site.flow(flow)).await;
    assert_eq!(shown(&outcome), r#"failed assertion: the body; expected "no", got "*** wörld""#);
}

#[tokio::test]
async fn each_fault_of_the_shop_is_found_by_its_scenarios_and_no_others() {
    let stop = CancellationToken::new();
    let demo = Demo::open(0, 0, &stop).await.unwrap();
    let folder = Folder::new();
    let surroundings = DemoLookup::new(&demo);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut known = Vec::new();
    for file in ["checks.yaml", "orders-api.yaml"] {
        let loaded = load(file, &std::fs::read_to_string(root.join(file)).unwrap(), &surroundings);
        assert_eq!(loaded.diagnostics, []);
        known.extend(loaded.scenarios);
    }
    let tools = tools(surroundings, &folder);
    let failing = async || {
        // Twice, because a flapping fault only appears every other time.
        let mut failed = std::collections::BTreeSet::new();
        for _ in 0..2 {
            let runs = known.iter().map(|scenario| run(scenario, &tools, RunRequest::default()));
            for outcome in futures_util::future::join_all(runs).await {
                assert!(outcome.verdict.is_conclusive(), "{}", shown(&outcome));
                if outcome.verdict == Verdict::Failed {
                    failed.insert(outcome.scenario.to_string());
                }
            }
        }
        failed.into_iter().collect::<Vec<_>>()
    };
    assert_eq!(failing().await, [""; 0]);
    for row in FAULTS.iter().filter(|row| row.fault != Fault::MissingButton) {
        demo.shop.set(row.fault, true);
        let expected: Vec<&str> =
            row.opens.iter().copied().filter(|id| known.iter().any(|scenario| scenario.id.as_str() == *id)).collect();
        assert_eq!(failing().await, expected, "{}", row.name);
        demo.shop.set(row.fault, false);
    }
    assert_eq!(demo.shop.orders(), 0, "orders were left behind");
    stop.cancel();
}
