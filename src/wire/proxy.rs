//! HTTP proxies.

use url::Url;

use super::authorization::take_login;
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
    pub fn of(mut url: Url) -> Result<Self, Failure> {
        let authorization = take_login(&mut url)?;
        let authorization = authorization.as_ref().and_then(|value| value.to_str().ok()).map(ToOwned::to_owned);
        Ok(Self {
            host: url.host_str().unwrap_or_default().to_owned(),
            port: url.port_or_known_default().unwrap_or(80),
            authorization,
            headers: Vec::new(),
        })
    }
}
