//! `wachta serve` in a process of its own.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use wachta::demo::{Demo, DemoLookup};

use super::until;

/// An agent that runs. Ended with the test.
pub struct Agent {
    child: Child,
    address: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
    http: reqwest::Client,
}

impl Agent {
    /// Starts `wachta serve` in a folder that has a `wachta.yaml`, with the shop's variables in its environment.
    pub async fn serve(folder: &Path, shop: &Demo) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wachta"));
        command.args(["serve", "--config", "wachta.yaml"]);
        Self::start(command, folder, shop).await
    }

    /// Starts any command that logs as `wachta serve` does.
    pub async fn start(command: Command, folder: &Path, shop: &Demo) -> Self {
        match Self::try_start(command, folder, shop).await {
            Ok(agent) => agent,
            Err(log) => panic!("the agent ended at once: {log:#?}"),
        }
    }

    /// As [`Agent::start`]; gives the log when it ended before it listened.
    pub async fn try_start(mut command: Command, folder: &Path, shop: &Demo) -> Result<Self, Vec<String>> {
        std::fs::write(folder.join("ca.pem"), shop.authority.pem()).unwrap();
        command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        for (name, value) in DemoLookup::new(shop).variables() {
            command.env(name, value);
        }
        command.env("SHOP_CA", folder.join("ca.pem")).env("WACHTA_LOG", "info");
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&log);
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).for_each(|line| lines.lock().unwrap().push(line));
        });
        let address = until("the agent listens", Duration::from_secs(20), async || {
            if child.try_wait().unwrap().is_some() {
                return Some(None);
            }
            let log = log.lock().unwrap();
            let line = log.iter().find(|line| line.contains("agent started"))?;
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            Some(Some(line["address"].as_str()?.parse().ok()?))
        })
        .await;
        let Some(address) = address else { return Err(log.lock().unwrap().clone()) };
        // Plain HTTP, but the client wants to know how it would do TLS.
        _ = rustls::crypto::ring::default_provider().install_default();
        Ok(Self { child, address, log, http: reqwest::Client::new() })
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// Where a path of it is.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub async fn get(&self, path: &str) -> String {
        let url = format!("http://{}{path}", self.address);
        match self.http.get(url).send().await {
            Ok(answer) => answer.text().await.unwrap_or_default(),
            Err(_) => String::new(),
        }
    }

    pub async fn post(&self, path: &str) -> (u16, String) {
        let answer = self.http.post(format!("http://{}{path}", self.address)).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// The value of a series with these labels among its own.
    pub async fn sample(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        sample(&self.get("/metrics").await, name, labels)
    }

    /// The status of an answer; none when nobody answers.
    pub async fn status(&self, path: &str) -> Option<u16> {
        self.http.get(format!("http://{}{path}", self.address)).send().await.ok().map(|answer| answer.status().as_u16())
    }

    /// Whether it has ended, by whatever.
    pub fn ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// SIGKILL, as the kernel or an operator would.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, and waits for the end; gives the exit code.
    pub async fn stop(self) -> Option<i32> {
        self.signal(Signal::SIGTERM);
        self.ends().await
    }

    /// Waits for the end after SIGTERM; gives the exit code.
    pub async fn ends(mut self) -> Option<i32> {
        let child = &mut self.child;
        until("the agent ends after SIGTERM", Duration::from_secs(40), async || child.try_wait().unwrap()).await.code()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The value of a series with these labels among its own, out of a scrape.
pub fn sample(scrape: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let labels: Vec<String> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
    scrape.lines().find_map(|line| {
        let (series, value) = line.strip_prefix(name)?.rsplit_once(' ')?;
        let fits = series.is_empty() || series.starts_with('{');
        (fits && labels.iter().all(|label| series.contains(label))).then(|| value.parse().ok())?
    })
}
