//! Section `web:` of the agent configuration.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::notify::credential::Credential;

/// Settings of the web server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Address and port to listen on.
    pub listen: SocketAddr,
    /// Base URL of the links in notifications.
    pub external_url: Option<url::Url>,
    /// Additional host names of the agent, without ports.
    pub hosts: Vec<String>,
    /// File with TLS settings and users, relative to the agent configuration.
    pub config_file: Option<PathBuf>,
    /// Whether other machines may access the server without credentials.
    pub insecure: bool,
    /// Token that check-ins must contain.
    pub beat_token: Option<Credential>,
}

impl Config {
    /// Returns whether credentials are required: other machines can reach the server, and the configuration does not
    /// permit access without credentials.
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
