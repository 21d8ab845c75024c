//! HTTP proxies.

use hyper::StatusCode;
use url::{Position, Url};

use super::authorization::of_url;
use super::host;
use crate::names::Reason;
use crate::outcome::Failure;

/// An HTTP proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Host name or IP address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Value of `Proxy-Authorization`.
    pub authorization: Option<String>,
    /// Additional headers of a request for a tunnel.
    pub headers: Vec<(String, String)>,
}

impl Proxy {
    /// Reads a proxy from its URL, with the credentials that the URL contains. Fails if the user name contains a colon.
    pub fn of(url: &Url) -> Result<Self, Failure> {
        let authorization = of_url(url)?;
        let authorization = authorization.as_ref().and_then(|value| value.to_str().ok()).map(ToOwned::to_owned);
        Ok(Self {
            host: url.host_str().unwrap_or_default().to_owned(),
            port: url.port_or_known_default().unwrap_or(80),
            authorization,
            headers: Vec::new(),
        })
    }

    /// Returns a failure with the address of the proxy in its message.
    pub fn name_in(&self, failure: Failure) -> Failure {
        let message = format!("proxy {}: {}", host::authority(&self.host, self.port), failure.message);
        Failure { message, ..failure }
    }

    /// Returns the failure for a response in which the proxy itself rejects a request that it read. Only the status 407
    /// certainly comes from the proxy.
    pub fn rejection(&self, status: StatusCode, url: &Url) -> Option<Failure> {
        if status != StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            return None;
        }
        let authority = &url[Position::BeforeHost..Position::AfterPort];
        Some(self.name_in(status_failure(status.as_u16(), authority)))
    }
}

/// Returns the failure for a status with which a proxy rejects a request for a destination.
pub(super) fn status_failure(status: u16, authority: &str) -> Failure {
    Failure::new(Reason::Connect, format!("the proxy returned status {status} for {authority}"))
}
