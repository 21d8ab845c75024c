//! The `browser:` section of the agent configuration.

use std::time::Duration;

use serde_json::{Map, Value as Json};

use crate::scenario::{Engine, Headless};

/// Source, number and maximum age of browser sessions.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Maximum number of sessions; further runs wait.
    pub max_sessions: usize,
    /// External WebDriver endpoint. `None` means that wachta starts chromedriver or geckodriver itself.
    pub webdriver: Option<url::Url>,
    /// Roots for the endpoint's certificate, in addition to those of the system.
    pub roots: Vec<rustls::pki_types::CertificateDer<'static>>,
    /// Browser for every scenario, overriding its own choice. `None` means the choice of the scenario (default:
    /// Chromium).
    pub engine: Option<Engine>,
    /// Chromium program for scenarios that do not choose one.
    pub headless: Headless,
    /// Capabilities that are merged into those requested by wachta. A null removes one.
    pub capabilities: Map<String, Json>,
    /// Whether sessions are kept and each run gets a user context of its own. Otherwise each run starts a browser.
    pub warm: bool,
    /// Maximum runs per session before it is replaced.
    pub max_runs: u32,
    /// Maximum age of a session before it is replaced.
    pub max_age: Duration,
    /// Maximum private memory of a session's processes, in bytes. Above it, an idle session is replaced and a busy one
    /// is ended.
    pub max_memory: u64,
    /// Minimum free memory for starting a browser, in bytes.
    pub min_free_memory: u64,
    /// Whether the window is shown. Not part of the agent configuration.
    pub headed: bool,
    /// Whether browsers can only connect to this machine. Not part of the agent configuration; for the demo and tests.
    pub loopback_only: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_sessions: 2,
            webdriver: None,
            roots: Vec::new(),
            engine: None,
            headless: Headless::default(),
            capabilities: Map::new(),
            warm: true,
            max_runs: 200,
            max_age: Duration::from_secs(3600),
            max_memory: 2 << 30,
            min_free_memory: 400 << 20,
            headed: false,
            loopback_only: false,
        }
    }
}
