//! What runs notice when the store goes, and when very many checks are scraped: the schedule's lag of an agent that does 1,000
//! HTTP checks a second. With 1,000 checks, each every second: a minute with the store, a minute while another process holds
//! its lock, a minute after that. With 100,000 checks (`WACHTA_BENCH_CHECKS`): a minute without scrapes, and one with a scrape
//! every ten seconds.
//!
//! No limits: the rows of an agent are to be the same. The lag is exported in buckets; a percentile is taken by straight lines
//! within one, as Prometheus does.

use std::error::Error;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::net::TcpListener;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Runs a second.
const RATE: usize = 1000;
/// How many checks are loaded where they are scraped, when nothing else is said.
const MANY: usize = 100_000;
const SCRAPE_INTERVAL: Duration = Duration::from_secs(10);
const PHASE: Duration = Duration::from_secs(60);
/// In which the agent starts and everything has run a few times.
const WARM: Duration = Duration::from_secs(10);

/// An agent in a folder of its own; both end with it.
struct Agent {
    child: Child,
    address: String,
    folder: PathBuf,
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Agent {
    fn start(target: &str, checks: usize) -> Outcome<Self> {
        let folder = std::env::temp_dir().join(format!("wachta-bench-store-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("scenarios"))?;
        let every = checks / RATE;
        for first in (0..checks).step_by(RATE) {
            let mut text = "checks:\n".to_owned();
            for n in first..checks.min(first + RATE) {
                let url = format!("http://{target}/{n}");
                writeln!(
                    text,
                    "  c{n}: {{http: \"{url}\", status: 200, contains: well, every: {every}s, timeout: 900ms}}"
                )?;
            }
            std::fs::write(folder.join(format!("scenarios/{first}.yaml")), text)?;
        }
        let config = "location: here\nscenarios: [scenarios/]\nstore: sqlite:w.db\nweb: {listen: \"127.0.0.1:0\"}\n";
        std::fs::write(folder.join("wachta.yaml"), config)?;
        let mut child = Command::new(env!("CARGO_BIN_EXE_wachta"))
            .args(["serve", "--config", "wachta.yaml"])
            .current_dir(&folder)
            .env("WACHTA_LOG", "wachta::cli=info,warn")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut log = BufReader::new(child.stderr.take().ok_or("no log")?).lines();
        let mut agent = Self { child, address: String::new(), folder };
        for line in log.by_ref() {
            let line: serde_json::Value = serde_json::from_str(&line?)?;
            if let Some(address) = line["address"].as_str() {
                address.clone_into(&mut agent.address);
                break;
            }
        }
        std::thread::spawn(move || log.for_each(drop));
        if agent.address.is_empty() { Err("the agent does not listen".into()) } else { Ok(agent) }
    }

    async fn lag(&self) -> Outcome<Lag> {
        let text = reqwest::get(format!("http://{}/metrics", self.address)).await?.text().await?;
        let mut buckets = Vec::new();
        for line in text.lines() {
            let Some(rest) = line.strip_prefix("wachta_schedule_lag_seconds_bucket{le=\"") else { continue };
            let (bound, count) = rest.split_once("\"} ").ok_or("a bucket does not read")?;
            buckets.push((bound.parse::<f64>().unwrap_or(f64::INFINITY), count.parse::<f64>()?));
        }
        Ok(Lag(buckets))
    }

    async fn outcomes(&self) -> Outcome<i64> {
        let store = sqlx::SqlitePool::connect(&self.store()).await?;
        let count = sqlx::query_scalar("SELECT count(*) FROM outcomes").fetch_one(&store).await?;
        store.close().await;
        Ok(count)
    }

    fn store(&self) -> String {
        format!("sqlite:{}", self.folder.join("w.db").display())
    }

    /// Resident memory in MiB.
    fn memory(&self) -> Outcome<f64> {
        let status = std::fs::read_to_string(Path::new("/proc").join(self.child.id().to_string()).join("status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
    }
}

/// How many runs were at most so late, by bucket.
struct Lag(Vec<(f64, f64)>);

impl Lag {
    fn since(&self, before: &Self) -> Self {
        Self(self.0.iter().zip(&before.0).map(|(now, then)| (now.0, now.1 - then.1)).collect())
    }

    fn runs(&self) -> f64 {
        self.0.last().map_or(0.0, |last| last.1)
    }

    /// In milliseconds.
    fn quantile(&self, quantile: f64) -> f64 {
        let wanted = quantile * self.runs();
        let (mut bound, mut below) = (0.0, 0.0);
        for (upper, count) in &self.0 {
            if *count >= wanted {
                let part = (wanted - below) / (count - below).max(1.0);
                return 1e3 * if upper.is_finite() { bound + (upper - bound) * part } else { bound };
            }
            (bound, below) = (*upper, *count);
        }
        1e3 * bound
    }
}

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
    store_goes(&Agent::start(&target, RATE)?).await?;
    let checks = std::env::var("WACHTA_BENCH_CHECKS").ok().and_then(|text| text.parse().ok()).unwrap_or(MANY);
    scraped(&Agent::start(&target, checks)?, checks).await
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
        let asked = client.get(format!("http://{}/metrics", agent.address)).header("Accept-Encoding", "gzip");
        let bytes = asked.send().await?.bytes().await?.len();
        longest = longest.max(since.elapsed());
        if bytes == 0 {
            return Err("a scrape was empty".into());
        }
    }
    tokio::time::sleep_until(end).await;
    row(agent, "scraped every ten seconds", &mut before).await?;
    println!("the longest scrape took {longest:.2?}");
    Ok(())
}
