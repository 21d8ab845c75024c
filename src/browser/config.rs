//! The agent's file, `browser:`.

use std::time::Duration;

use serde_json::{Map, Value as Json};

use crate::scenario::{Engine, Headless};

/// Where browser sessions come from, how many there may be, and when one is replaced.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// How many sessions may exist at once; runs above it wait.
    pub max_sessions: usize,
    /// A WebDriver endpoint; none: wachta finds and runs chromedriver or geckodriver itself.
    pub webdriver: Option<url::Url>,
    /// Roots that the endpoint's certificate may come from, besides the system's.
    pub roots: Vec<rustls::pki_types::CertificateDer<'static>>,
    /// The browser for every scenario, whatever it says itself; none: its own choice, else Chromium.
    pub engine: Option<Engine>,
    /// Which program of Chromium runs where a scenario says nothing.
    pub headless: Headless,
    /// Laid over the capabilities that wachta asks for; a null takes one away.
    pub capabilities: Map<String, Json>,
    /// Whether sessions are kept and each run gets a user of its own in one; else each run starts a browser.
    pub warm: bool,
    /// So many runs, then a session is replaced.
    pub max_runs: u32,
    /// So old, then a session is replaced.
    pub max_age: Duration,
    /// So many bytes the processes of a session may have for themselves: an idle one above it is replaced, a busy one
    /// is ended.
    pub max_memory: u64,
    /// So many bytes must be free before a browser is started.
    pub min_free_memory: u64,
    /// Whether the window is shown. Not read from the agent's file.
    pub headed: bool,
    /// Whether browsers may talk to this machine alone. Not read from the agent's file: for the demo and tests.
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
