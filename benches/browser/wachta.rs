//! wachta itself, as the agent uses it: warm sessions, or a fresh browser for each run.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use wachta::browser::{BrowserPool, Config, Metrics};
use wachta::outcome::{Outcome, Verdict};
use wachta::run::{ConnectivityMonitor, Progress, RunRequest, RunServices, Tokens, run};
use wachta::scenario::{Engine, Headless, Lookup, Scenario};
use wachta::store::evidence::EvidenceFolder;
use wachta::wire::tls;

use crate::processes;

const DRIVERS: [&str; 2] = ["chromedriver", "geckodriver"];

/// One way to use wachta.
pub struct Agent {
    tools: RunServices,
    browsers: BrowserPool,
    warm: bool,
    folder: PathBuf,
    driver: &'static str,
}

impl Agent {
    /// `folder`: for its state.
    pub fn new(engine: Engine, headless: Headless, warm: bool, folder: &Path, lookup: Arc<dyn Lookup>) -> Self {
        // Only one browser, as the peers have: a run waits until the session is ready for it.
        let max_sessions = 1;
        let config =
            Config { engine: Some(engine), headless, warm, max_sessions, loopback_only: true, ..Config::default() };
        let metrics = Metrics::new(&prometheus::Registry::new()).expect("an empty registry");
        let program = PathBuf::from(env!("CARGO_BIN_EXE_wachta"));
        let browsers = BrowserPool::new(config, folder.to_owned(), program, metrics);
        let tools = RunServices {
            dialer: wachta::wire::Dialer::default(),
            limits: wachta::wire::limits::Limits::default(),
            line: ConnectivityMonitor::default(),
            tokens: Tokens::default(),
            tls: tls::Trusted::system(),
            browsers: Some(browsers.clone()),
            lookup,
            evidence: EvidenceFolder::new(folder.join("evidence")),
            beats: None,
            baseline: None,
            footprints: Some(wachta::run::Footprints::new(folder.join("good"))),
            clock: None,
            location: "here".into(),
        };
        let driver = if engine == Engine::Chromium { DRIVERS[0] } else { DRIVERS[1] };
        Self { tools, browsers, warm, folder: folder.to_owned(), driver }
    }

    /// Runs a scenario once and returns with its outcome.
    pub async fn run(&self, scenario: &Arc<Scenario>, progress: Option<Progress>) -> Result<Outcome, String> {
        let outcome = Box::pin(run(scenario, &self.tools, RunRequest { progress, ..RunRequest::default() })).await;
        if outcome.verdict == Verdict::Passed {
            Ok(outcome)
        } else {
            Err(format!("{}: {}", outcome.verdict.as_str(), outcome.message.unwrap_or_default()))
        }
    }

    /// Runs it and returns the memory of its processes just before the last of its `steps` ends.
    pub async fn weigh(&self, scenario: &Arc<Scenario>) -> Result<(f64, f64), String> {
        let (driver, folder, steps) = (self.driver, self.folder.clone(), scenario.steps.len());
        let found: Arc<Mutex<(usize, f64)>> = Arc::default();
        let (into, ended) = (Arc::clone(&found), wachta_ended(steps));
        let progress: Progress = Arc::new(move |stage| {
            if ended(&stage) {
                let roots = drivers(driver, &folder);
                *into.lock().expect("nobody panics") = (steps, processes::pss(&processes::trees(&roots)));
            }
        });
        Box::pin(self.run(scenario, Some(progress))).await?;
        let (_, browser) = *found.lock().expect("nobody panics");
        Ok((processes::own_pss(), browser))
    }

    /// Waits until the session is ready for the next run, or gone.
    pub async fn settle(&self) {
        let count = |state: &str| self.browsers.metrics().sessions.with_label_values(&[state]).get();
        while count("busy") > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// The drivers that are there between runs.
    pub fn roots(&self) -> HashSet<i32> {
        // Of a fresh browser nothing is left between runs; what is there is of the warm one.
        if self.warm { drivers(self.driver, &self.folder) } else { HashSet::new() }
    }

    /// Ends its browsers.
    pub async fn stop(self) {
        self.browsers.shutdown().await;
    }
}

/// Whether a stage is the end of the last step.
fn wachta_ended(steps: usize) -> impl Fn(&wachta::run::ProgressEvent<'_>) -> bool {
    let seen = std::sync::atomic::AtomicUsize::new(0);
    move |stage| {
        matches!(stage, wachta::run::ProgressEvent::StepFinished(_))
            && seen.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1 == steps
    }
}

/// Returns the drivers of the agent with this folder: the other agents of the benchmark have warm sessions as well.
fn drivers(name: &str, folder: &Path) -> HashSet<i32> {
    let is_own = |pid: &i32| processes::lease(*pid).is_some_and(|lease| folder.join(lease).exists());
    processes::children(&[name]).into_iter().filter(is_own).collect()
}
