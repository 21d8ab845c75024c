//! What the engines cost beside what they are made of: pairs measured in turn within one run, as ratios.
//!
//! No limits: a number that depends on the machine would fail by chance. Look at the ratios.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use tokio::net::TcpListener;
use wachta::outcome::{Outcome, RunId, Verdict};
use wachta::run::{ConnectivityMonitor, RunRequest, RunServices, Tokens, run};
use wachta::scenario::{Lookup, LookupError, ScenarioKind, load};
use wachta::store::evidence::EvidenceFolder;
use wachta::store::{Batch, Runs as _, Sqlite};
use wachta::wire::tls;

struct Nothing;

impl Lookup for Nothing {
    fn env(&self, name: &str) -> Result<String, LookupError> {
        Err(LookupError::Missing(name.to_owned()))
    }
    fn file(&self, path: &Path, _: &str) -> Result<Vec<u8>, LookupError> {
        Err(LookupError::Missing(path.display().to_string()))
    }
}

/// The middle of several measurements.
fn middle(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn row(what: &str, ours: Vec<Duration>, plain: Vec<Duration>) {
    let (ours, plain) = (middle(ours), middle(plain));
    let ratio = ours.as_secs_f64() / plain.as_secs_f64();
    println!("{what:<58} {ours:>12.3?} {plain:>12.3?} {ratio:>8.2}");
}

fn loading() {
    let mut text = "defaults: {every: 1m, timeout: 10s}\nchecks:\n".to_owned();
    for n in 0..1000 {
        text.push_str(&format!(
            "  shop {n}: {{http: \"https://shop-{n}.example.com/health\", status: 200, contains: ok, faster_than: 800ms, tags: {{team: t{}}}}}\n",
            n % 10
        ));
    }
    let (mut ours, mut plain) = (Vec::new(), Vec::new());
    for _ in 0..7 {
        let began = Instant::now();
        let loaded = load("checks.yaml", &text, &Nothing);
        ours.push(began.elapsed());
        assert_eq!((loaded.scenarios.len(), loaded.diagnostics.len()), (1000, 0));
        let began = Instant::now();
        let parsed: serde_json::Value = serde_saphyr::from_str(&text).expect("parses");
        plain.push(began.elapsed());
        assert!(parsed["checks"].is_object());
    }
    row("load 1,000 checks / parse the same YAML", ours, plain);
}

async fn requests() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    let router = axum::Router::new().route("/", axum::routing::get(|| async { "all is well" }));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let text = format!("checks:\n  a: {{http: \"http://{address}/\", status: 200, contains: well}}\n");
    let scenario = Arc::clone(&load("checks.yaml", &text, &Nothing).scenarios[0]);
    let tools = RunServices {
        dialer: wachta::wire::Dialer::default(),
        limits: wachta::wire::limits::Limits::default(),
        line: ConnectivityMonitor::default(),
        tokens: Tokens::default(),
        tls: tls::Trusted::system(),
        browsers: None,
        lookup: Arc::new(Nothing),
        evidence: EvidenceFolder::new(std::env::temp_dir().join("wachta-bench")),
        beats: None,
        baseline: None,
        footprints: None,
        clock: None,
        location: "here".into(),
    };
    let config = (*tools.tls.client_config()).clone();
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(config)
        .pool_max_idle_per_host(0)
        .no_proxy()
        .build()
        .expect("a client");
    let (mut ours, mut plain) = (Vec::new(), Vec::new());
    for _ in 0..200 {
        let began = Instant::now();
        let outcome = run(&scenario, &tools, RunRequest::default()).await;
        ours.push(began.elapsed());
        assert_eq!(outcome.verdict, Verdict::Passed);
        let began = Instant::now();
        let answer = client.get(format!("http://{address}/")).send().await.expect("answers");
        let body = answer.text().await.expect("is whole");
        plain.push(began.elapsed());
        assert!(body.contains("well"));
    }
    row("one HTTP check / one GET with a fresh connection", ours, plain);
}

fn batch(outcomes: impl IntoIterator<Item = Arc<Outcome>>) -> Batch {
    Batch { outcomes: outcomes.into_iter().collect(), ..Batch::default() }
}

fn outcomes() -> Vec<Arc<Outcome>> {
    let now = Utc::now();
    let outcome = |_| {
        Arc::new(Outcome {
            run: RunId::new(),
            seq: 0,
            streak: None,
            scenario: "shop".into(),
            name: "Shop".into(),
            kind: ScenarioKind::Http,
            location: "here".into(),
            due_at: now,
            started_at: now,
            ended_at: now,
            duration: Duration::from_millis(12),
            verdict: Verdict::Passed,
            reason: None,
            message: None,
            failed_step: None,
            steps: Vec::new(),
            evidence: Vec::new(),
            browser: None,
            differences: Vec::new(),
        })
    };
    (0..500).map(outcome).collect()
}

async fn commits() {
    let path = std::env::temp_dir().join(format!("wachta-bench-{}.db", RunId::new()));
    let store = Sqlite::open(&format!("sqlite:{}", path.display())).await.expect("opens");
    let (mut ours, mut plain) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let began = Instant::now();
        store.commit(&batch(outcomes())).await.expect("written");
        ours.push(began.elapsed());
        let began = Instant::now();
        for outcome in outcomes() {
            store.commit(&batch([outcome])).await.expect("written");
        }
        plain.push(began.elapsed());
    }
    store.close().await;
    for end in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{end}", path.display()));
    }
    row("one commit of 500 outcomes / 500 commits of one", ours, plain);
}

fn main() {
    // `cargo test --benches` only asks whether it starts.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    println!("{:<58} {:>12} {:>12} {:>8}", "", "wachta", "plain", "ratio");
    loading();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        requests().await;
        commits().await;
    });
}
