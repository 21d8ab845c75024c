//! Reason why an agent did not start.

use std::fmt;
use std::net::SocketAddr;

use crate::diagnostic::Diagnostic;
use crate::store::StoreError;

/// Reason why an agent did not start.
#[derive(Debug)]
pub enum StartError {
    /// The agent cannot listen on the address.
    Listen(SocketAddr, std::io::Error),
    /// The store is unavailable.
    Store(StoreError),
    /// The file with TLS and users of the web server is unusable.
    Web(Vec<Diagnostic>),
    /// Any other problem of the setup.
    Other(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen(address, error) => {
                write!(f, "cannot listen on {address}: {error}; set another address as `web.listen`")
            }
            Self::Store(error) => error.fmt(f),
            Self::Web(found) => {
                f.write_str("`web.config_file` cannot be used")?;
                found.iter().try_for_each(|found| write!(f, "\n{}", found.render(false).trim_end()))
            }
            Self::Other(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for StartError {}

impl From<StoreError> for StartError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<prometheus::Error> for StartError {
    fn from(error: prometheus::Error) -> Self {
        Self::Other(format!("metrics: {error}"))
    }
}
