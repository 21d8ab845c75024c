//! The agent's file, `web:`.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::notify::credential::Credential;

/// Where the agent listens, and how others reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// What links in notices begin with.
    pub external_url: Option<url::Url>,
    /// Further names under which the agent is reached, without ports.
    pub hosts: Vec<String>,
    /// The file that sets TLS and users, relative to the agent's file.
    pub config_file: Option<PathBuf>,
    /// Whether others than this machine may reach it although nobody is asked for credentials.
    pub insecure: bool,
    /// What calls of heartbeats must carry.
    pub beat_token: Option<Credential>,
}

impl Config {
    /// Whether others than this machine can reach it, and nothing says that they may without credentials.
    pub fn must_ask(&self) -> bool {
        !self.listen.ip().is_loopback() && !self.insecure
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9815)),
            external_url: None,
            hosts: Vec::new(),
            config_file: None,
            insecure: false,
            beat_token: None,
        }
    }
}
