//! Each page, rendered from a store in memory that contains the output of a malicious target.

use std::collections::BTreeMap;
use std::future::IntoFuture as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{mpsc, watch};

use crate::blackbox::Prober;
use crate::incident::{AlertCommand, Decision, DecisionReason, Event, Incident, Mute, Notification, Subject};
use crate::names::Reason;
use crate::outcome::{
    BrowserResult, EvidenceKind, Failure, HttpResult, Outcome, PageResult, PageTiming, RunId, StepResult, StepStatus,
    Verdict,
};
use crate::scenario::{Engine, Lookup, LookupError, ScenarioKind, Severity, load};
use crate::secret::{Masked, Masker};
use crate::sink::prometheus::Prometheus;
use crate::store::evidence::EvidenceFolder;
use crate::store::{Batch, DeliveryStatus, History as _, Outbox as _, Runs as _, Sqlite};
use crate::web::{Overview, Probes, State, router};
use crate::wire::tls::Trusted;

const EVIL: &str = "<script>alert(\"1\")</script> & 'it'";
const FILE: &str = "scenario: \"Shop <script>alert(1)</script>\"\nid: shop\nevery: 1m\nsteps:\n  - GET: http://127.0.0.1/a?b=\"<i>\"\n    expect: {status: 200}\n  - GET: http://127.0.0.1/c\nfinally:\n  - DELETE: http://127.0.0.1/d\n";

struct Nothing;

impl Lookup for Nothing {
    fn env(&self, name: &str) -> Result<String, LookupError> {
        Err(LookupError::Missing(name.into()))
    }
    fn file(&self, path: &Path, _: &str) -> Result<Vec<u8>, LookupError> {
        Err(LookupError::Missing(path.display().to_string()))
    }
}

fn now() -> DateTime<Utc> {
    Utc::now()
}

fn outcome(scenario: &str, verdict: Verdict, ended_at: DateTime<Utc>) -> Outcome {
    let failed = verdict == Verdict::Failed;
    let step = |name: &str, depth, status, failure| StepResult {
        name: name.into(),
        depth,
        finally: false,
        optional: false,
        span_id: "0".repeat(16),
        offset: Duration::from_millis(10),
        duration: Duration::from_millis(300),
        status,
        place: "shop.yaml:5:5".into(),
        failure,
        http: Some(HttpResult { method: "GET".into(), url: EVIL.into(), status: 500, bytes: 1, hops: Vec::new() }),
        certificate_expires_at: Some(ended_at),
        earlier_requests: Vec::new(),
        notes: Vec::new(),
        snippet: failed.then(|| Masked::own_words(format!("{EVIL}\n  ^^^"))),
        retried: false,
        page: None,
    };
    let failure = Failure::new(Reason::Status, EVIL).compared(EVIL, EVIL).waited(Duration::from_secs(1)).into();
    let name = load("shop.yaml", FILE, &Nothing).scenarios[0].steps[0].name.clone();
    Outcome {
        run: RunId::new(),
        seq: 0,
        streak: None,
        scenario: scenario.into(),
        name: EVIL.into(),
        kind: ScenarioKind::Api,
        location: "<b>waw".into(),
        due_at: ended_at - TimeDelta::seconds(2),
        started_at: ended_at - TimeDelta::seconds(1),
        ended_at,
        duration: Duration::from_secs(1),
        verdict,
        reason: failed.then_some(Reason::Status),
        message: failed.then(|| EVIL.into()),
        failed_step: failed.then_some(0),
        steps: vec![
            step(&name, 0, if failed { StepStatus::Failed } else { StepStatus::Passed }, failed.then_some(failure)),
            step(EVIL, 1, StepStatus::Skipped, None),
        ],
        evidence: Vec::new(),
        browser: None,
        differences: Vec::new(),
    }
}

struct Fixture {
    state: State,
    store: Arc<Sqlite>,
    overview: watch::Sender<Arc<Overview>>,
    _reload: mpsc::Receiver<crate::web::ReloadRequest>,
    folder: std::path::PathBuf,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

async fn fixture() -> Fixture {
    let store = Arc::new(Sqlite::open("sqlite::memory:").await.unwrap());
    let loaded = load("shop.yaml", FILE, &Nothing);
    let scenarios: BTreeMap<_, _> =
        loaded.scenarios.into_iter().map(|scenario| (scenario.id.value.clone(), scenario)).collect();
    assert_eq!(scenarios.len(), 1, "{:?}", loaded.diagnostics);
    let overview = Overview {
        location: "<b>waw".into(),
        scenarios: Arc::new(scenarios),
        refused: Vec::new(),
        paused: Vec::new(),
        maintenance: Vec::new(),
        problems: Vec::new(),
        notes: Vec::new(),
        loaded_at: Some(now()),
    };
    let (sender, receiver) = watch::channel(Arc::new(overview));
    let (reload, requests) = mpsc::channel(1);
    let folder = std::env::temp_dir().join(format!("wachta-page-{}", RunId::new()));
    let state = State {
        probes: Arc::new(Probes::new(
            Prober::new(Trusted::system(), crate::wire::Dialer::default(), crate::wire::limits::Limits::default()),
            prometheus::Registry::new(),
        )),
        store: store.clone(),
        evidence: EvidenceFolder::new(&folder),
        prometheus: Arc::new(Prometheus::new(prometheus::Registry::new(), "waw")),
        overview: receiver,
        reload,
        alerts: mpsc::channel(1).0,
        works: watch::Sender::default().subscribe(),
        sinks: Arc::new(Vec::new),
        run_now: Arc::new(|_| {}),
        stopping: tokio_util::sync::CancellationToken::new(),
    };
    Fixture { state, store, overview: sender, _reload: requests, folder }
}

impl Fixture {
    /// Sends a request over a real connection, with the path unchanged.
    async fn get(&self, path: &str) -> (StatusCode, BTreeMap<String, String>, String) {
        self.ask(&format!("GET {path} HTTP/1.0\r\nHost: wachta\r\n\r\n")).await
    }

    /// Sends a form to the page of an incident, with a header.
    async fn send(&self, key: &str, header: &str, form: &str) -> (StatusCode, BTreeMap<String, String>, String) {
        let kind = "application/x-www-form-urlencoded";
        let length = form.len();
        self.ask(&format!(
            "POST /incident/{key} HTTP/1.0\r\nHost: wachta:9815\r\n{header}\r\nContent-Type: {kind}\r\n\
             Content-Length: {length}\r\n\r\n{form}"
        ))
        .await
    }

    async fn ask(&self, request: &str) -> (StatusCode, BTreeMap<String, String>, String) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(axum::serve(listener, router(self.state.clone())).into_future());
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        server.abort();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines.filter_map(|line| line.split_once(": ")).map(|(k, v)| (k.to_lowercase(), v.to_owned()));
        (status, headers.collect(), body.to_owned())
    }

    /// Gets a page, which must be well-formed and must not contain text of a target as markup.
    async fn page(&self, path: &str, expected: StatusCode) -> String {
        let (status, headers, body) = self.get(path).await;
        assert_eq!(status, expected, "{path}: {body}");
        assert_eq!(headers["content-type"], "text/html; charset=utf-8");
        assert!(headers["content-security-policy"].contains("default-src 'none'"));
        assert!(!body.contains("<script") && !body.contains("<b>waw") && !body.contains("<i>\""), "{path}: {body}");
        well_formed(&body);
        body
    }

    async fn incident(&self, run: &Outcome) -> Incident {
        let incident = Incident {
            subject: Subject::from("shop"),
            sequence: 1,
            name: EVIL.into(),
            tags: BTreeMap::from([("team".into(), EVIL.into())]),
            kind: "api".into(),
            severity: Severity::Critical,
            location: "<b>waw".into(),
            opened_at: run.ended_at,
            began_at: None,
            opened_by: run.run,
            resolved_at: None,
            resolved_by: None,
            verdict: Verdict::Failed,
            last_run: run.run,
            reason: run.reason,
            message: run.message.clone(),
            step: Some(EVIL.into()),
            place: Some("shop.yaml:5:5".into()),
            difference: Some(Masked::own_words(format!("{EVIL} is new"))),
            screenshot: None,
            runbook: None,
            bad_runs: 2,
            events: 1,
            receivers: vec![EVIL.into()],
            target: None,
            ending: None,
            ending_reason: None,
            unwatched: None,
            acknowledged: None,
        };
        let decision = |why| Decision {
            subject: incident.subject.clone(),
            reason: why,
            detail: EVIL.into(),
            run: Some(run.run),
            at: run.ended_at,
        };
        let notification = Notification::new(&incident, Event::Opened, EVIL, run.ended_at);
        let batch = Batch {
            incidents: vec![incident.clone()],
            decisions: vec![decision(DecisionReason::Opened), decision(DecisionReason::SeverityRaised)],
            notifications: vec![notification.clone()],
            ..Batch::default()
        };
        self.store.commit(&batch).await.unwrap();
        self.store.attempt_finished(&notification.id, &DeliveryStatus::Failed(EVIL.into()), now()).await.unwrap();
        incident
    }

    async fn write(&self, outcomes: Vec<Outcome>) {
        let outcomes = outcomes.into_iter().map(Arc::new).collect();
        self.store.commit(&Batch { outcomes, ..Batch::default() }).await.unwrap();
    }
}

/// Checks the markup: every opened tag is closed, in order; attributes are quoted; ampersands are escaped.
fn well_formed(html: &str) {
    let body = html.strip_prefix("<!DOCTYPE html>").expect("a document type");
    let tag = regex::Regex::new(r#"^<(/?)([a-zA-Z][a-zA-Z0-9]*)((?:\s+[a-zA-Z:-]+="[^"<]*")*)\s*(/?)>"#).unwrap();
    let reference = regex::Regex::new(r"^&(?:[a-z]+|#[0-9]+|#x[0-9a-f]+);").unwrap();
    let mut open: Vec<&str> = Vec::new();
    let mut rest = body;
    while let Some(at) = rest.find(['<', '&']) {
        rest = &rest[at..];
        if rest.starts_with('&') {
            assert!(reference.is_match(rest), "{}", &rest.chars().take(60).collect::<String>());
            rest = &rest[1..];
            continue;
        }
        let found =
            tag.captures(rest).unwrap_or_else(|| panic!("no tag: {}", rest.chars().take(120).collect::<String>()));
        let name = found.get(2).unwrap().as_str();
        match (&found[1], &found[4]) {
            ("/", _) => assert_eq!(open.pop(), Some(name), "{}", rest.chars().take(120).collect::<String>()),
            (_, "/") => {}
            _ => open.push(name),
        }
        rest = &rest[found[0].len()..];
    }
    assert!(open.is_empty(), "{open:?}");
}

#[tokio::test]
async fn all_is_well_is_said_and_only_then() {
    let fixture = fixture().await;
    assert!(fixture.page("/", StatusCode::OK).await.contains("Waiting for first runs"));
    fixture.write(vec![outcome("shop", Verdict::Passed, now() - TimeDelta::seconds(9))]).await;
    let page = fixture.page("/", StatusCode::OK).await;
    assert!(page.contains("All scenarios pass") && page.contains("1 scenario, 1 passed"), "{page}");
    fixture.overview.send_modify(|overview| {
        let mut changed = Overview::clone(overview);
        changed.problems = vec![format!("error: {EVIL}\n --> a.yaml:1:1\n")];
        changed.refused = vec![(EVIL.into(), EVIL.into())];
        *overview = Arc::new(changed);
    });
    let page = fixture.page("/", StatusCode::OK).await;
    assert!(!page.contains("All scenarios pass") && page.contains("some files were rejected"), "{page}");
    assert!(page.contains("a.yaml:1:1"), "{page}");
    fixture.write(vec![outcome("shop", Verdict::Unknown, now())]).await;
    assert!(fixture.page("/", StatusCode::OK).await.contains("some scenarios do not pass"));
}

#[tokio::test]
async fn an_incident_comes_first_and_every_page_escapes() {
    let fixture = fixture().await;
    let good = outcome("shop", Verdict::Passed, now() - TimeDelta::seconds(60));
    let mut bad = outcome("shop", Verdict::Failed, now() - TimeDelta::seconds(30));
    for (kind, name, bytes) in [
        (EvidenceKind::Screenshot, "screenshot.png", b"\x89PNG\r\n\x1a\nrest".to_vec()),
        (EvidenceKind::Source, "source.html", b"<html><script>alert(1)</script>".to_vec()),
    ] {
        let piece = fixture.state.evidence.keep(bad.run, kind, name, Masked::picture(bytes)).await.unwrap();
        bad.evidence.push(piece);
    }
    fixture.write(vec![good.clone(), bad.clone()]).await;
    let incident = fixture.incident(&bad).await;

    let page = fixture.page("/", StatusCode::OK).await;
    let at = |text: &str| page.find(text).unwrap_or_else(|| panic!("{text}: {page}"));
    assert!(at("1 open incident") < at("id=\"scenarios\""), "{page}");
    assert!(page.contains("http-equiv=\"refresh\" content=\"10\""));
    assert!(page.contains("last 2 runs: 1 passed, 1 failed"), "{page}");

    let page = fixture.page("/scenario/shop", StatusCode::OK).await;
    assert!(page.contains("Duration of the last 2 runs") && page.contains("shop.yaml:2:5"), "{page}");

    let page = fixture.page(&format!("/run/{}", bad.run), StatusCode::OK).await;
    assert!(page.contains("Failure") && page.contains("^^^") && page.contains("expected"), "{page}");
    assert!(page.contains("screenshot.png\" alt="), "{page}");
    fixture.page(&format!("/run/{}", good.run), StatusCode::OK).await;

    let page = fixture.page("/incident/shop:1", StatusCode::OK).await;
    assert!(page.contains("Since the last good run:") && page.contains(" is new</p>"), "{page}");
    assert!(
        page.contains("Still open") && page.contains("Severity raised") && page.contains("Failed</span>"),
        "{page}"
    );
    // The page is found with any encoding of the dedup key.
    assert!(fixture.page("/incident/shop%3A1", StatusCode::OK).await.contains("Still open"));
    assert_eq!(incident.dedup_key(), "shop:1");
}

#[tokio::test]
async fn forms_of_an_incident_ask_and_those_of_other_pages_do_not() {
    const OWN: &str = "Sec-Fetch-Site: same-origin";
    let mut fixture = fixture().await;
    let bad = outcome("shop", Verdict::Failed, now());
    fixture.write(vec![bad.clone()]).await;
    let incident = fixture.incident(&bad).await;
    let (tag, value) = incident.tags.first_key_value().unwrap();
    let encoded =
        |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
    let (sender, mut asked) = mpsc::channel(4);
    fixture.state.alerts = sender;
    let received = Arc::new(std::sync::Mutex::new(Vec::new()));
    let list = Arc::clone(&received);
    tokio::spawn(async move {
        while let Some(request) = asked.recv().await {
            let known = request.asked != AlertCommand::Expire { id: "gone".into() };
            let asked = match request.asked.clone() {
                // The id and the times of a mute depend on the time of the request.
                AlertCommand::Mute(mute) => {
                    assert_eq!(mute.id.len(), 12, "{mute:?}");
                    let until = DateTime::UNIX_EPOCH + (mute.until - mute.from);
                    AlertCommand::Mute(Mute { id: String::new(), from: DateTime::UNIX_EPOCH, until, ..mute })
                }
                other => other,
            };
            list.lock().unwrap().push(asked);
            request.answer(if known { Ok("done".into()) } else { Err("there is none".into()) });
        }
    });

    let silence = "ask=silence&what=scenario&for=2h&reason=known+%26+old&author=ania";
    let of_tag = format!("ask=silence&what={}&for=30m&reason=r&author=a", encoded(tag));
    for (header, form) in [
        (OWN, silence),
        // Headers of a browser that uses plain HTTP.
        ("Origin: http://wachta:9815", "ask=ack&author=ania"),
        (OWN, of_tag.as_str()),
        (OWN, "ask=end&id=abc"),
    ] {
        let (status, headers, body) = fixture.send("shop:1", header, form).await;
        assert_eq!(status, StatusCode::SEE_OTHER, "{form}: {body}");
        assert_eq!(headers["location"], "/incident/shop:1#silence");
    }
    let mute = |key: &str, value: &str, length: TimeDelta, author: &str, reason: &str| {
        AlertCommand::Mute(Mute {
            id: String::new(),
            maintenance: false,
            matches: [(key.to_owned(), value.to_owned())].into(),
            from: DateTime::UNIX_EPOCH,
            until: DateTime::UNIX_EPOCH + length,
            during: None,
            author: author.into(),
            reason: reason.into(),
            confirmed: true,
        })
    };
    let expected = [
        mute("scenario", "shop", TimeDelta::hours(2), "ania", "known & old"),
        AlertCommand::Acknowledge { key: "shop:1".into(), author: "ania".into(), length: None },
        mute(tag, value, TimeDelta::minutes(30), "a", "r"),
        AlertCommand::Expire { id: "abc".into() },
    ];
    assert_eq!(*received.lock().unwrap(), expected);

    for (header, form, status, part) in [
        ("Sec-Fetch-Site: cross-site", silence, 403, "cross-site request rejected"),
        ("Sec-Fetch-Site: same-site", silence, 403, "cross-site request rejected"),
        ("Sec-Fetch-Site: none", silence, 403, "cross-site request rejected"),
        ("Origin: http://elsewhere.example", silence, 403, "cross-site request rejected"),
        ("Origin: null", silence, 403, "cross-site request rejected"),
        ("X-Nothing: said", silence, 403, "cross-site request rejected"),
        (OWN, "ask=silence&what=scenario&for=2h&reason=r", 400, "needs `author` and `reason`"),
        (OWN, "ask=silence&what=scenario&for=2&reason=r&author=a", 400, "has no unit"),
        (OWN, "ask=silence&what=none&for=2h&reason=r&author=a", 400, "the incident has no tag `none`"),
        (OWN, "ask=ack&author=", 400, "`author` must have"),
        (OWN, "ask=restart", 400, "restart"),
        (OWN, "", 400, "ask"),
        (OWN, "ask=end&id=gone", 404, "there is none"),
    ] {
        let (is, _, body) = fixture.send("shop:1", header, form).await;
        assert_eq!(is.as_u16(), status, "{header} {form}: {body}");
        assert!(
            body.contains(part) && body.contains("Request failed") && body.contains("Back to the incident"),
            "{form}: {body}"
        );
    }
    assert_eq!(received.lock().unwrap().len(), expected.len() + 1);
    assert_eq!(fixture.send("none:1", OWN, silence).await.0, StatusCode::BAD_REQUEST);

    // Mutes that match are shown with a form to end them; others are not shown.
    let kept = |id: &str, key: &str, value: &str| {
        let body = serde_json::json!({
            "id": id, "maintenance": false, "match": {key: value}, "from": now(), "until": now() + TimeDelta::hours(1),
            "author": EVIL, "reason": EVIL,
        });
        (format!("{}{id}", crate::names::MUTES), Some(body))
    };
    let memory = vec![kept("mine", "scenario", "shop"), kept("other", "scenario", "blog"), kept("tagged", tag, value)];
    fixture.store.commit(&Batch { alerting_entries: memory, ..Batch::default() }).await.unwrap();
    let (_, headers, _) = fixture.get("/incident/shop:1").await;
    assert_eq!(headers["referrer-policy"], "same-origin", "else a form would come from nowhere");
    let page = fixture.page("/incident/shop:1", StatusCode::OK).await;
    for part in ["value=\"mine\"", "value=\"tagged\"", "Expire now", "Acknowledge", "id=\"silence\""] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(!page.contains("value=\"other\""), "{page}");
}

#[tokio::test]
async fn evidence_is_never_markup_and_stays_in_its_folder() {
    let fixture = fixture().await;
    let run = RunId::new();
    let masker = Masker::default();
    for (kind, name, bytes) in [
        (EvidenceKind::Screenshot, "screenshot.png", &b"\x89PNG\r\n\x1a\n"[..]),
        (EvidenceKind::Source, "source.html", b"<script>alert(1)</script>"),
        (EvidenceKind::Screenshot, "fake.png", b"<html>"),
    ] {
        fixture.state.evidence.keep(run, kind, name, masker.masked_bytes(bytes.to_vec())).await.unwrap();
    }
    for (name, kind) in [
        ("screenshot.png", "image/png"),
        ("source.html", "text/plain; charset=utf-8"),
        ("fake.png", "text/plain; charset=utf-8"),
    ] {
        let (status, headers, _) = fixture.get(&format!("/evidence/{run}/{name}")).await;
        assert_eq!((status, headers["content-type"].as_str()), (StatusCode::OK, kind), "{name}");
        assert!(headers["content-security-policy"].contains("sandbox"));
        assert_eq!(headers["x-content-type-options"], "nosniff");
    }
    std::fs::write(fixture.folder.join("outside.txt"), "outside").unwrap();
    for name in ["..%2Foutside.txt", "..%5Coutside.txt", "%2e%2e", ".", "none.png", "a%00b"] {
        let (status, _, body) = fixture.get(&format!("/evidence/{run}/{name}")).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{name}: {body}");
    }
    assert_eq!(fixture.get("/evidence/..%2F../outside.txt").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_is_not_there_is_said_plainly() {
    let fixture = fixture().await;
    let run = RunId::new();
    for path in ["/scenario/none", "/run/none", &format!("/run/{run}"), "/incident/none:1", "/scenario/%3Cscript%3E"] {
        let page = fixture.page(path, StatusCode::NOT_FOUND).await;
        assert!(page.contains("There is no"), "{path}: {page}");
    }
    fixture.store.close().await;
    for path in ["/", "/scenario/shop", &format!("/run/{run}"), "/incident/shop:1"] {
        let page = fixture.page(path, StatusCode::SERVICE_UNAVAILABLE).await;
        assert!(page.contains("The store is not responding"), "{path}: {page}");
    }
}

#[tokio::test]
async fn the_last_runs_of_each_scenario_are_one_query() {
    let fixture = fixture().await;
    let start = now();
    let mut outcomes = Vec::new();
    for scenario in ["a", "b"] {
        for second in 0..5 {
            let verdict = if second == 4 { Verdict::Failed } else { Verdict::Passed };
            outcomes.push(outcome(scenario, verdict, start + TimeDelta::seconds(second)));
        }
    }
    outcomes.push(outcome("c", Verdict::Unknown, start));
    fixture.write(outcomes.clone()).await;
    let found = fixture.store.run_summaries(2).await.unwrap();
    let ids: Vec<_> = found.iter().map(|run| (run.scenario.as_str(), run.run)).collect();
    let expected = [("a", 4), ("a", 3), ("b", 9), ("b", 8), ("c", 10)];
    assert_eq!(ids, expected.map(|(scenario, index): (&str, usize)| (scenario, outcomes[index].run)));
    assert_eq!((found[0].verdict, found[0].reason), (Verdict::Failed, Some(Reason::Status)));
    assert_eq!((found[0].duration, found[1].reason), (Duration::from_secs(1), None));
    assert_eq!(found[0].ended_at.timestamp_micros(), outcomes[4].ended_at.timestamp_micros());
}

#[tokio::test]
async fn a_browser_run_shows_what_the_browser_saw() {
    let fixture = fixture().await;
    let mut run = outcome("shop", Verdict::Degraded, now());
    let message = "lcp 3.1s is above the budget of 2.5s";
    (run.reason, run.message, run.failed_step) = (Some(Reason::Budget), Some(message.into()), Some(0));
    run.browser = Some(BrowserResult { engine: Engine::Firefox, version: EVIL.into(), warm: true });
    let timing = PageTiming { ttfb: Some(0.042), lcp: Some(3.1), ..PageTiming::default() };
    let page =
        PageResult { url: EVIL.into(), status: Some(200), timing, requests: 12, bytes: 2048, ..PageResult::default() };
    run.steps[0].page = Some(Box::new(page));
    run.steps[0].failure = Some(Failure::new(Reason::Budget, message).compared("at most 2.5s", "3.1s").into());
    let told = serde_json::json!({
        "url": EVIL, "title": EVIL,
        "console": [{"level": "error", "message": EVIL}, {"level": "warn", "message": "only a warning"}],
        "failed_requests": [{"method": "GET", "url": EVIL, "status": 404}, {"method": "GET", "url": "b", "error": "net::ERR"}, 7],
    });
    for (kind, name, bytes) in [
        (EvidenceKind::Page, "000-page.json", told.to_string().into_bytes()),
        (EvidenceKind::Page, "001-page.json", b"no json".to_vec()),
        (EvidenceKind::Har, "requests.har", b"{}".to_vec()),
        (EvidenceKind::Accessibility, "000-aria.txt", b"button".to_vec()),
        (EvidenceKind::Frame, "frame-001500ms.jpg", b"\xff\xd8\xff\xe0".to_vec()),
        (EvidenceKind::Frame, "frame-000500ms.jpg", b"\xff\xd8\xff\xe0".to_vec()),
        (EvidenceKind::Frame, "odd.jpg", b"".to_vec()),
    ] {
        run.evidence.push(fixture.state.evidence.keep(run.run, kind, name, Masked::picture(bytes)).await.unwrap());
    }
    fixture.write(vec![run.clone()]).await;
    let page = fixture.page(&format!("/run/{}", run.run), StatusCode::OK).await;
    for text in [
        "42 ms",
        "3.1 s",
        "2 KiB",
        "firefox &lt;script",
        "Failure",
        message,
        "at most 2.5s",
        "status 404",
        "net::ERR",
        "requests.har",
        "000-aria.txt",
        "Full page log",
        "Filmstrip",
    ] {
        assert!(page.contains(text), "{text}: {page}");
    }
    assert!(!page.contains("only a warning") && !page.contains("odd.jpg"), "{page}");
    let at = |name: &str| page.find(name).unwrap();
    assert!(at("frame-000500ms.jpg") < at("frame-001500ms.jpg"), "{page}");
    let (_, headers, _) = fixture.get(&format!("/evidence/{}/frame-000500ms.jpg", run.run)).await;
    assert_eq!(headers["content-type"], "image/jpeg");
}

#[tokio::test]
async fn sinks_are_shown_with_what_is_wrong() {
    let mut fixture = fixture().await;
    let overview = fixture.page("/", StatusCode::OK).await;
    assert!(!overview.contains(">Sinks<"), "there is none");
    let failing = crate::sink::Status {
        name: "zabbix".into(),
        destination: "host <b>waw at 10.0.0.1:10051".into(),
        waiting: 1234,
        oldest: Some(now()),
        sent: 5,
        dropped: 1,
        failing_since: Some(now()),
        last_error: Some((now(), "no <answer>".into())),
        refused: vec![crate::sink::Refused {
            run: RunId::new(),
            about: "shop".into(),
            at: now(),
            reason: "too <long>".into(),
        }],
    };
    let status = vec![failing];
    fixture.state.sinks = Arc::new(move || status.clone());
    let overview = fixture.page("/", StatusCode::OK).await;
    for part in ["host &lt;b&gt;waw", "Failing since", "1234", "no &lt;answer&gt;", "too &lt;long&gt;"] {
        assert!(overview.contains(part), "{part} in {overview}");
    }
    let (code, _, body) = fixture.get("/api/v1/status").await;
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    let sink = &body["sinks"][0];
    assert_eq!(code, StatusCode::OK);
    assert_eq!((&sink["name"], &sink["waiting"]), (&"zabbix".into(), &1234.into()));
    assert_eq!(sink["last_error"]["error"], "no <answer>");
    assert_eq!((&sink["refused"][0]["about"], &body["scenarios"]["loaded"]), (&"shop".into(), &1.into()));
}
