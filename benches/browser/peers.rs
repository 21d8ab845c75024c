//! The other tools: one long-lived program each, which runs a flow for each line it reads.

use std::collections::HashSet;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value as Json;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// How long a flow may take.
const LONGEST: Duration = Duration::from_secs(60);

/// A running peer.
pub struct Peer {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    /// Whether it has not yet said that it has closed what the last flow used.
    closing: bool,
}

impl Peer {
    /// Starts `script` of `benches/peers/`.
    pub async fn start(folder: &Path, script: &str, arguments: &[String]) -> Result<Self, String> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers").join(script);
        let mut child = Command::new(folder.join("venv/bin/python"))
            .arg(script)
            .args(arguments)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("SE_OFFLINE", "true")
            .env("SE_AVOID_STATS", "true")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| error.to_string())?;
        let input = child.stdin.take().ok_or("no standard input")?;
        let output = BufReader::new(child.stdout.take().ok_or("no standard output")?).lines();
        let mut peer = Self { child, input, output, closing: false };
        peer.line().await?;
        Ok(peer)
    }

    async fn line(&mut self) -> Result<Json, String> {
        let line = timeout(LONGEST, self.output.next_line()).await.map_err(|_| "no response in time")?;
        let line = line.map_err(|error| error.to_string())?.ok_or("it has ended")?;
        serde_json::from_str(&line).map_err(|error| format!("{error}: {line}"))
    }

    async fn write(&mut self, line: &str) -> Result<(), String> {
        let wrote = async {
            self.input.write_all(line.as_bytes()).await?;
            self.input.flush().await
        };
        wrote.await.map_err(|error: std::io::Error| error.to_string())
    }

    /// Runs one flow and returns when its last expectation holds. Closing goes on afterwards; the next flow waits for
    /// it. `hold`: it goes on after [`Peer::go_on`] only.
    pub async fn run(&mut self, hold: bool) -> Result<(), String> {
        self.write(if hold { "hold\n" } else { "run\n" }).await?;
        self.settle().await?;
        let answer = self.line().await?;
        match answer["failed"].as_str() {
            Some(failed) => Err(failed.to_owned()),
            None => {
                self.closing = true;
                Ok(())
            }
        }
    }

    /// After a flow that was held.
    pub async fn go_on(&mut self) -> Result<(), String> {
        self.write("\n").await
    }

    /// Waits until everything is closed.
    pub async fn settle(&mut self) -> Result<(), String> {
        if self.closing {
            self.line().await?;
            self.closing = false;
        }
        Ok(())
    }

    /// Its process.
    pub fn roots(&self) -> HashSet<i32> {
        self.child.id().and_then(|id| i32::try_from(id).ok()).into_iter().collect()
    }

    /// Lets it end by itself.
    pub async fn stop(self) {
        let Self { mut child, input, .. } = self;
        drop(input);
        let _ = timeout(Duration::from_secs(10), child.wait()).await;
    }
}
