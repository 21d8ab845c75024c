//! Proxy server of a request.

use url::Url;

use super::authorization::take_login;
use crate::outcome::Failure;

/// A proxy server.
#[derive(Clone, PartialEq)]
pub(super) struct Proxy {
    pub(super) host: String,
    pub(super) port: u16,
    /// Value of `Proxy-Authorization`.
    pub(super) authorization: Option<String>,
}

impl Proxy {
    pub(super) fn of(mut url: Url) -> Result<Self, Failure> {
        let authorization = take_login(&mut url)?;
        let authorization = authorization.as_ref().and_then(|value| value.to_str().ok()).map(ToOwned::to_owned);
        Ok(Self {
            host: url.host_str().unwrap_or_default().to_owned(),
            port: url.port_or_known_default().unwrap_or(80),
            authorization,
        })
    }
}
