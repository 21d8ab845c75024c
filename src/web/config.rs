//! The agent's file, `web:`.

use std::net::SocketAddr;

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
    /// Whether others than this machine may reach it although it has no users.
    pub insecure: bool,
    /// What calls of heartbeats must carry.
    pub beat_token: Option<Credential>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9815)),
            external_url: None,
            hosts: Vec::new(),
            insecure: false,
            beat_token: None,
        }
    }
}
