//! What runs notice when the store goes: the schedule's lag of an agent with 1,000 HTTP checks, each every second, in one
//! call: a minute with the store, a minute while another process holds its lock, a minute after that.
//!
//! No limits: the three rows are to be the same. The lag is exported in buckets; a percentile is taken by straight lines
//! within one, as Prometheus does.

use std::error::Error;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::net::TcpListener;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const CHECKS: usize = 1000;
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
    fn start(target: &str) -> Outcome<Self> {
        let folder = std::env::temp_dir().join(format!("wachta-bench-store-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("scenarios"))?;
        let mut text = "checks:\n".to_owned();
        for n in 0..CHECKS {
            writeln!(
                text,
                "  c{n}: {{http: \"http://{target}/{n}\", status: 200, contains: well, every: 1s, timeout: 900ms}}"
            )?;
        }
        std::fs::write(folder.join("scenarios/all.yaml"), text)?;
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
    let agent = Agent::start(&target)?;
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
        let now = agent.lag().await?;
        let lag = now.since(&before);
        let (p50, p99) = (lag.quantile(0.5), lag.quantile(0.99));
        println!("{phase:<34} {:>8} {p50:>10.2} {p99:>10.2} {:>10.0}", lag.runs(), agent.memory()?);
        before = now;
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
