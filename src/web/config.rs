//! The agent's file, `web:`.

use std::net::SocketAddr;

/// Where the agent listens, and how others reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// What links in notices begin with.
    pub external_url: Option<url::Url>,
}

impl Default for Config {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 9815)), external_url: None }
    }
}
