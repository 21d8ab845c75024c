//! What benchmarks of a whole agent share: the agent, with HTTP checks of one server, and how late its runs start.

#![allow(dead_code, reason = "each benchmark uses some of it")]

use std::error::Error;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// What can go wrong in a benchmark.
pub type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Runs a second.
pub const RATE: usize = 1000;

/// An agent in a folder of its own; both end with it.
pub struct Agent {
    child: Child,
    address: String,
    /// Its configuration, its scenarios and its store.
    pub folder: PathBuf,
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Agent {
    /// Starts one with so many checks, [`RATE`] of them a second. `sinks`: what its configuration says besides.
    pub fn start(target: &str, checks: usize, sinks: &str) -> Outcome<Self> {
        let folder = std::env::temp_dir().join(format!("wachta-bench-agent-{}", std::process::id()));
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
        std::fs::write(folder.join("wachta.yaml"), config(sinks))?;
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

    /// How late the runs so far have started.
    pub async fn lag(&self) -> Outcome<Lag> {
        let text = reqwest::get(self.url("/metrics")).await?.text().await?;
        let mut buckets = Vec::new();
        for line in text.lines() {
            let Some(rest) = line.strip_prefix("wachta_schedule_lag_seconds_bucket{le=\"") else { continue };
            let (bound, count) = rest.split_once("\"} ").ok_or("a bucket does not read")?;
            buckets.push((bound.parse::<f64>().unwrap_or(f64::INFINITY), count.parse::<f64>()?));
        }
        Ok(Lag(buckets))
    }

    /// How many outcomes are in its store.
    pub async fn outcomes(&self) -> Outcome<i64> {
        let store = sqlx::SqlitePool::connect(&self.store()).await?;
        let count = sqlx::query_scalar("SELECT count(*) FROM outcomes").fetch_one(&store).await?;
        store.close().await;
        Ok(count)
    }

    /// Where its store is.
    pub fn store(&self) -> String {
        format!("sqlite:{}", self.folder.join("w.db").display())
    }

    /// Gives it other sinks.
    pub fn reload(&self, sinks: &str) -> Outcome<()> {
        std::fs::write(self.folder.join("wachta.yaml"), config(sinks))?;
        Ok(kill(Pid::from_raw(i32::try_from(self.child.id())?), Signal::SIGHUP)?)
    }

    /// The URL of a page of its.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Resident memory in MiB.
    pub fn memory(&self) -> Outcome<f64> {
        let status = std::fs::read_to_string(Path::new("/proc").join(self.child.id().to_string()).join("status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
    }
}

/// How many runs were at most so late, by bucket.
pub struct Lag(Vec<(f64, f64)>);

impl Lag {
    /// Those of the runs since then.
    pub fn since(&self, before: &Self) -> Self {
        Self(self.0.iter().zip(&before.0).map(|(now, then)| (now.0, now.1 - then.1)).collect())
    }

    /// How many runs there were.
    pub fn runs(&self) -> f64 {
        self.0.last().map_or(0.0, |last| last.1)
    }

    /// In milliseconds.
    pub fn quantile(&self, quantile: f64) -> f64 {
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

fn config(sinks: &str) -> String {
    format!("location: here\nscenarios: [scenarios/]\nstore: sqlite:w.db\nweb: {{listen: \"127.0.0.1:0\"}}\n{sinks}")
}
