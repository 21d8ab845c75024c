//! Where scenarios with pages run: a browser of this machine, or one at an endpoint.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use futures_util::StreamExt as _;
use wachta::app::lookup::Environment;
use wachta::browser::{BrowserPool, Config, Metrics};
use wachta::outcome::{Outcome, RunId, Verdict};
use wachta::run::{RunRequest, RunServices, Tokens, run};
use wachta::scenario::{Engine, Headless, Scenario, load};
use wachta::store::evidence::EvidenceFolder;
use wachta::wire::tls;

use super::Folder;
use super::grid::Grid;

/// How many scenarios of a place run at the same time.
pub const AT_ONCE: usize = 2;

/// A place with its sessions.
pub struct Place {
    pub name: String,
    tools: RunServices,
    browsers: BrowserPool,
    folder: Folder,
}

impl Place {
    pub fn new(engine: Engine, grid: Option<&Grid>, environment: Environment) -> Self {
        Self::with(engine, Headless::Shell, grid, environment)
    }

    /// A place with one of Chromium's programs.
    pub fn with(engine: Engine, headless: Headless, grid: Option<&Grid>, environment: Environment) -> Self {
        let which = match (grid, headless) {
            (Some(_), _) => " of the Grid",
            (None, Headless::Full) => ", full",
            (None, Headless::Shell) => "",
        };
        let name = format!("{engine}{which}");
        let config = Config {
            max_sessions: AT_ONCE,
            engine: Some(engine),
            headless,
            webdriver: grid.map(|grid| grid.url.clone()),
            capabilities: match (grid, engine) {
                (Some(_), Engine::Chromium) => Grid::capabilities(),
                _ => serde_json::Map::new(),
            },
            loopback_only: true,
            ..Config::default()
        };
        let folder = Folder::new(&RunId::new().0.simple().to_string());
        let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
        let agent = PathBuf::from(env!("CARGO_BIN_EXE_wachta"));
        let browsers = BrowserPool::new(config, folder.path().join("browsers"), agent, metrics);
        let tools = RunServices {
            dialer: wachta::wire::Dialer::default(),
            limits: wachta::wire::limits::Limits::default(),
            tokens: Tokens::default(),
            line: wachta::run::ConnectivityMonitor::default(),
            tls: tls::Trusted::system(),
            browsers: Some(browsers.clone()),
            lookup: Arc::new(environment),
            evidence: EvidenceFolder::new(folder.path().join("evidence")),
            beats: None,
            baseline: None,
            footprints: None,
            clock: None,
            location: "here".into(),
        };
        Self { name, tools, browsers, folder }
    }

    /// Runs scenarios, some at the same time; gives the outcomes with how long each took, in the order given.
    pub async fn run(&self, scenarios: &[Arc<Scenario>]) -> Vec<Outcome> {
        let since = Instant::now();
        let runs = scenarios.iter().map(|scenario| async {
            let outcome = run(scenario, &self.tools, RunRequest::default()).await;
            eprintln!(
                "{:>8.2?} {:>8.2?} {}: {}: {}",
                since.elapsed(),
                outcome.duration,
                self.name,
                outcome.scenario,
                outcome.verdict
            );
            if outcome.verdict != Verdict::Passed {
                eprintln!("{}", told(&outcome));
            }
            outcome
        });
        futures_util::stream::iter(runs).buffered(AT_ONCE).collect().await
    }

    /// Runs one scenario, which can be ended early.
    pub async fn run_with(&self, scenario: &Arc<Scenario>, ticket: RunRequest) -> Outcome {
        run(scenario, &self.tools, ticket).await
    }

    /// What its connections are made by.
    pub fn dialer(&self) -> &wachta::wire::Dialer {
        &self.tools.dialer
    }

    /// A file that a run left.
    pub fn evidence(&self, path: &str) -> Vec<u8> {
        std::fs::read(self.folder.path().join("evidence").join(path)).unwrap()
    }

    /// Where its browsers and evidence are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Ends its sessions.
    pub async fn close(self) {
        self.browsers.shutdown().await;
    }
}

/// The scenarios of a folder of this repository, by the names of their files. `WACHTA_ONLY` names those that run.
pub fn scenarios(folder: &str, environment: &Environment) -> Vec<(String, Arc<Scenario>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| Path::new(name).extension().is_some_and(|ending| ending == "yaml"))
        .filter(|name| {
            std::env::var("WACHTA_ONLY").map_or(true, |only| only.split(',').any(|only| name.contains(only)))
        })
        .collect();
    names.sort();
    let mut found = Vec::new();
    for name in names {
        let path = folder.join(&name);
        let loaded = load(&path.display().to_string(), &std::fs::read_to_string(&path).unwrap(), environment);
        let told: Vec<_> = loaded.diagnostics.iter().map(|diagnostic| diagnostic.render(false)).collect();
        assert!(told.is_empty(), "{}", told.join("\n"));
        found.extend(loaded.scenarios.into_iter().map(|scenario| (name.clone(), scenario)));
    }
    found
}

/// What a person needs to see of an outcome that is not the expected one.
pub fn told(outcome: &Outcome) -> String {
    let mut text = format!("{} {} {}", outcome.scenario, outcome.verdict, outcome.message.as_deref().unwrap_or(""));
    for step in outcome.steps.iter().filter(|step| step.failure.is_some()) {
        text.push_str(&format!("\n    {} ({}): {:?}", step.name, step.place, step.failure));
    }
    text
}
