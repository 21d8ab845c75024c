//! What bad destinations do to an agent that does 1,000 HTTP checks a second: how late its runs start, and how far behind
//! a good destination is, a minute with that one alone and a minute beside one that accepts and never answers, one that
//! answers after two seconds, one that is gone, and one that refuses the documents of one scenario for ever.
//!
//! No limits: both rows are to be the same. The good destination is a file of ECS documents; its delay is the age of the
//! youngest run in it, looked at ten times a second.

mod agent;

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::time::Duration;

use axum::Router;
use axum::routing::any;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::Instant;

use agent::{Agent, Outcome, RATE};

const PHASE: Duration = Duration::from_secs(60);
/// In which everything has run a few times, and sinks are started.
const WARM: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(100);
/// How long the slow destination takes.
const SLOW: Duration = Duration::from_secs(2);
/// More than the longest document.
const TAIL: i64 = 16 << 10;

async fn listen(router: Router) -> Outcome<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(address)
}

/// An answer to `_bulk` in which the documents of the first scenario do not fit.
async fn choosy(body: String) -> axum::Json<Value> {
    let items: Vec<Value> = body
        .lines()
        .skip(1)
        .step_by(2)
        .map(|document| {
            if document.contains("\"id\":\"c0\"") {
                json!({"create": {"status": 400, "error": {"type": "mapper_parsing_exception", "reason": "does not fit"}}})
            } else {
                json!({"create": {"status": 201}})
            }
        })
        .collect();
    axum::Json(json!({"errors": true, "items": items}))
}

/// When the youngest run in the file ended.
fn youngest(file: &Path) -> Outcome<Option<DateTime<Utc>>> {
    let mut file = std::fs::File::open(file)?;
    let length = i64::try_from(file.metadata()?.len())?;
    file.seek(SeekFrom::End(-length.min(TAIL)))?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    // What stands before the first end of a line may be a piece, and so may what stands after the last one.
    let text = String::from_utf8_lossy(&text);
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let line = whole.rsplit('\n').next().unwrap_or_default();
    let Ok(document) = serde_json::from_str::<Value>(line) else { return Ok(None) };
    Ok(document["@timestamp"].as_str().and_then(|text| text.parse().ok()))
}

async fn phase(agent: &Agent, name: &str) -> Outcome<()> {
    tokio::time::sleep(WARM).await;
    let (before, end) = (agent.lag().await?, Instant::now() + PHASE);
    let mut delays = Vec::new();
    while Instant::now() < end {
        tokio::time::sleep(LOOK).await;
        if let Some(youngest) = youngest(&agent.folder.join("outcomes.ndjson"))? {
            delays.push((Utc::now() - youngest).as_seconds_f64() * 1e3);
        }
    }
    let lag = agent.lag().await?.since(&before);
    delays.sort_by(f64::total_cmp);
    let of = |percent: usize| delays.get(delays.len() * percent / 100).copied().unwrap_or(f64::NAN);
    println!(
        "{name:<26} {:>8} {:>8.2} {:>8.2} {:>12.0} {:>12.0} {:>8.0}",
        lag.runs(),
        lag.quantile(0.5),
        lag.quantile(0.99),
        of(50),
        of(99),
        agent.memory()?
    );
    Ok(())
}

#[tokio::main]
async fn main() -> Outcome<()> {
    // `cargo test --benches` only wants to know that it builds.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let _ = rustls::crypto::ring::default_provider().install_default();
    let target = listen(Router::new().fallback(|| async { "all is well" })).await?;
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let silent_address = silent.local_addr()?;
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((connection, _)) = silent.accept().await {
            kept.push(connection);
        }
    });
    let slow = listen(Router::new().fallback(|| async { tokio::time::sleep(SLOW).await })).await?;
    let gone = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    let bulk = Router::new().route("/_bulk", any(choosy)).fallback(|| async { "{}" });
    let choosy = listen(bulk.layer(axum::extract::DefaultBodyLimit::disable())).await?;
    let good = "ecs: {file: outcomes.ndjson, max_size: 2GB}\n";
    let bad = format!(
        "zabbix: {{server: \"{silent_address}\", host: here}}\notlp: {{endpoint: \"http://{slow}\"}}\n\
         sentry: {{dsn: \"http://key@{gone}/1\", monitors: true}}\nelasticsearch: {{url: \"http://{choosy}\"}}\n"
    );
    let agent = Agent::start(&target, RATE, good)?;
    println!(
        "{:<26} {:>8} {:>8} {:>8} {:>12} {:>12} {:>8}",
        "destinations", "runs", "p50 ms", "p99 ms", "file p50 ms", "file p99 ms", "RSS MiB"
    );
    phase(&agent, "a good one").await?;
    agent.reload(&format!("{good}{bad}"))?;
    phase(&agent, "the same and four bad ones").await?;
    let status: Value = reqwest::get(agent.url("/api/v1/status")).await?.json().await?;
    for sink in status["sinks"].as_array().into_iter().flatten() {
        let (name, waiting, error) = (&sink["name"], &sink["waiting"], &sink["last_error"]["error"]);
        println!("{name}: {waiting} wait, last error: {error}");
    }
    Ok(())
}
