//! What runs notice when the store goes, and when very many checks are scraped: the schedule's lag of an agent that does 1,000
//! HTTP checks a second. With 1,000 checks, each every second: a minute with the store, a minute while another process holds
//! its lock, a minute after that. With 100,000 checks (`WACHTA_BENCH_CHECKS`): a minute without scrapes, and one with a scrape
//! every ten seconds.
//!
//! No limits: the rows of an agent are to be the same. The lag is exported in buckets; a percentile is taken by straight lines
//! within one, as Prometheus does.

mod agent;

use std::time::Duration;

use tokio::net::TcpListener;

use agent::{Agent, Lag, Outcome, RATE};

/// How many checks are loaded where they are scraped, when nothing else is said.
const MANY: usize = 100_000;
const SCRAPE_INTERVAL: Duration = Duration::from_secs(10);
const PHASE: Duration = Duration::from_secs(60);
/// In which the agent starts and everything has run a few times.
const WARM: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> Outcome<()> {
    // `cargo test --benches` only wants to know that it builds.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let target = listener.local_addr()?.to_string();
    let router = axum::Router::new().fallback(|| async { "all is well" });
    tokio::spawn(async move { axum::serve(listener, router).await });
    store_goes(&Agent::start(&target, RATE, "")?).await?;
    let checks = std::env::var("WACHTA_BENCH_CHECKS").ok().and_then(|text| text.parse().ok()).unwrap_or(MANY);
    scraped(&Agent::start(&target, checks, "")?, checks).await
}

/// A row: how late runs were since `before`, which becomes now.
async fn row(agent: &Agent, name: &str, before: &mut Lag) -> Outcome<()> {
    let now = agent.lag().await?;
    let lag = now.since(before);
    let (p50, p99) = (lag.quantile(0.5), lag.quantile(0.99));
    println!("{name:<34} {:>8} {p50:>10.2} {p99:>10.2} {:>10.0}", lag.runs(), agent.memory()?);
    *before = now;
    Ok(())
}

async fn store_goes(agent: &Agent) -> Outcome<()> {
    tokio::time::sleep(WARM).await;
    println!("{:<34} {:>8} {:>10} {:>10} {:>10}", "the store", "runs", "p50 ms", "p99 ms", "RSS MiB");
    let mut before = agent.lag().await?;
    for phase in ["takes what is written", "is locked by another process", "is back"] {
        let mut lock = None;
        if phase.contains("locked") {
            let other = sqlx::SqlitePool::connect(&agent.store()).await?;
            let mut connection = other.acquire().await?;
            while sqlx::raw_sql("BEGIN EXCLUSIVE").execute(&mut *connection).await.is_err() {}
            lock = Some((other, connection));
        }
        tokio::time::sleep(PHASE).await;
        row(agent, phase, &mut before).await?;
        if let Some((other, mut connection)) = lock {
            sqlx::raw_sql("ROLLBACK").execute(&mut *connection).await?;
            drop(connection);
            other.close().await;
        }
    }
    let (runs, written) = (agent.lag().await?.runs(), agent.outcomes().await?);
    println!("{runs} runs were started, and {written} outcomes are in the store");
    Ok(())
}

async fn scraped(agent: &Agent, checks: usize) -> Outcome<()> {
    // Every check has run once: then it has all its series.
    let all = Duration::from_secs((checks / RATE) as u64);
    tokio::time::sleep(all + 3 * WARM).await;
    println!("{:<34} {:>8} {:>10} {:>10} {:>10}", format!("{checks} checks"), "runs", "p50 ms", "p99 ms", "RSS MiB");
    let mut before = agent.lag().await?;
    tokio::time::sleep(PHASE).await;
    row(agent, "without scrapes", &mut before).await?;
    let end = tokio::time::Instant::now() + PHASE;
    let mut ticks = tokio::time::interval(SCRAPE_INTERVAL);
    let client = reqwest::Client::builder().build()?;
    let mut longest = Duration::ZERO;
    while tokio::time::Instant::now() < end {
        ticks.tick().await;
        let since = std::time::Instant::now();
        // It is taken as a scraper takes it, compressed and not read by this program: that would cost more than making it.
        let asked = client.get(agent.url("/metrics")).header("Accept-Encoding", "gzip");
        let bytes = asked.send().await?.bytes().await?.len();
        longest = longest.max(since.elapsed());
        if bytes == 0 {
            return Err("a scrape was empty".into());
        }
    }
    tokio::time::sleep_until(end).await;
    row(agent, "scraped every ten seconds", &mut before).await?;
    println!("the longest scrape took {longest:.2?}");
    let checked = format!("curl -sS {} | promtool check metrics", agent.url("/metrics"));
    let checked = std::process::Command::new("sh").args(["-c", &checked]).output()?;
    let said = String::from_utf8_lossy(&checked.stderr);
    let silent = checked.status.success() && said.is_empty() && checked.stdout.is_empty();
    println!("promtool check metrics {}", if silent { "has nothing to say" } else { &said });
    Ok(())
}
