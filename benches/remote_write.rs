//! What remote write costs an agent: CPU time and bytes of a run, with a receiver on loopback that takes everything.
//!
//! No limits: look at the figures, and at what docs/sinks.md says of them.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use nix::sys::resource::{UsageWho, getrusage};
use serde_json::json;
use wachta::names::metric::Detail;
use wachta::outcome::{Outcome, RunId};
use wachta::scenario::{Lookup, LookupError, Scenario, ScenarioId, load};
use wachta::sink::prometheus::Prometheus;
use wachta::sink::remote_write::Config;
use wachta::sink::{Context, Event, Finished, Sent};
use wachta::store::evidence::EvidenceFolder;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const CHECKS: usize = 1_000;
const ROUNDS: usize = 20;
const BATCH: usize = 200;

struct Nothing;

impl Lookup for Nothing {
    fn env(&self, name: &str) -> std::result::Result<String, LookupError> {
        Err(LookupError::Missing(name.to_owned()))
    }
    fn file(&self, path: &Path, _: &str) -> std::result::Result<Vec<u8>, LookupError> {
        Err(LookupError::Missing(path.display().to_string()))
    }
}

/// CPU time of this thread.
fn cpu() -> Result<Duration> {
    let used = getrusage(UsageWho::RUSAGE_THREAD)?;
    let of = |time: nix::sys::time::TimeVal| {
        Duration::new(time.tv_sec().unsigned_abs(), 0) + Duration::from_micros(time.tv_usec().unsigned_abs())
    };
    Ok(of(used.user_time()) + of(used.system_time()))
}

fn scenarios() -> BTreeMap<ScenarioId, Arc<Scenario>> {
    let check = |n| format!("  shop {n}: {{http: \"https://shop-{n}.example.com/health\", status: 200}}\n");
    let text = format!("checks:\n{}", (0..CHECKS).map(check).collect::<String>());
    let loaded = load("checks.yaml", &text, &Nothing);
    loaded.scenarios.into_iter().map(|scenario| (scenario.id.value.clone(), scenario)).collect()
}

/// Every fiftieth run fails.
fn outcome(scenario: &Scenario, n: usize, at: DateTime<Utc>) -> Result<Outcome> {
    let is_bad = n.is_multiple_of(50);
    let (verdict, status) = if is_bad { ("failed", "failed") } else { ("passed", "passed") };
    let took = 0.015 + n as f64 % 997.0 / 1e5;
    Ok(serde_json::from_value(json!({
        "run": RunId::new(), "seq": n + 1, "scenario": scenario.id.value, "name": scenario.name, "kind": scenario.kind,
        "location": "waw-1", "due_at": at, "started_at": at, "ended_at": at, "duration": took, "verdict": verdict,
        "reason": is_bad.then_some("status"), "evidence": [],
        "steps": [{
            "name": scenario.step_names()[0], "span_id": "0123456789abcdef", "offset": 0.0, "duration": took,
            "status": status, "place": "checks.yaml:1:1"
        }]
    }))?)
}

async fn measure(url: &str, detail: Detail, bytes: &AtomicUsize) -> Result<()> {
    let known = Arc::new(scenarios());
    let config = Config { detail: Some(detail), ..Config::to(url.parse()?) };
    let mut sink = config.build(&Context {
        location: "waw-1".into(),
        agent_state: Arc::new(|| json!({})),
        http_client: Arc::new(|_| reqwest::Client::builder().build().map_err(|error| error.to_string())),
        evidence: EvidenceFolder::new(std::env::temp_dir().join("wachta-no-evidence")),
        prometheus: Arc::new(Prometheus::new(prometheus::Registry::new(), "waw-1")),
    })?;
    sink.set_scenarios(&known, &[]);
    let all: Vec<_> = known.values().collect();
    let (mut used, mut runs) = (Duration::ZERO, 0);
    for round in 0..ROUNDS {
        let at = Utc::now() - Duration::from_secs(60 * (ROUNDS - round) as u64);
        let events = all.iter().enumerate().map(|(n, scenario)| {
            let outcome = Arc::new(outcome(scenario, round * CHECKS + n, at)?);
            Ok(Event::Finished(Finished { scenario: Some(Arc::clone(scenario)), outcome }))
        });
        let events: Vec<Event> = events.collect::<Result<_>>()?;
        // The first round has the beginnings of all counters.
        if round == 1 {
            (used, runs) = (Duration::ZERO, 0);
            bytes.store(0, Ordering::Relaxed);
        }
        let before = cpu()?;
        for batch in events.chunks(BATCH) {
            let sent = sink.send(batch).await;
            if sent != Sent::Taken {
                return Err(format!("{sent:?}").into());
            }
        }
        used += cpu()?.saturating_sub(before);
        runs += events.len();
    }
    println!(
        "{:<6} {runs} runs in batches of {BATCH}: {:.1} µs of CPU and {} bytes a run",
        detail.as_str(),
        used.as_secs_f64() * 1e6 / runs as f64,
        bytes.load(Ordering::Relaxed) / runs
    );
    Ok(())
}

fn main() -> Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let bytes = Arc::new(AtomicUsize::new(0));
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let url = format!("http://{}/api/v1/write", listener.local_addr()?);
    let counted = Arc::clone(&bytes);
    // On a thread of its own, so that the sink's thread is measured alone.
    std::thread::spawn(move || -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async move {
            let router = Router::new().fallback(move |body: Bytes| async move {
                counted.fetch_add(body.len(), Ordering::Relaxed);
                (StatusCode::NO_CONTENT, [("X-Prometheus-Remote-Write-Samples-Written", "1")])
            });
            axum::serve(tokio::net::TcpListener::from_std(listener)?, router).await?;
            Ok(())
        })
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for detail in [Detail::Basic, Detail::Full] {
        runtime.block_on(measure(&url, detail, &bytes))?;
    }
    Ok(())
}
