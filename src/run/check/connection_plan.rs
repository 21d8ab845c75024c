//! Connection settings of a check with the values of a run, and the routes that follow from them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use percent_encoding::percent_decode_str;
use rustls::ClientConfig;
use url::Url;

use super::context::{CheckContext, configuration};
use crate::diagnostic::Spanned;
use crate::outcome::Failure;
use crate::scenario::check::connection::ConnectionSettings;
use crate::scenario::{Template, address_of, proxy_url};
use crate::wire::{AlpnOffer, DialOptions, FetchOptions, Proxy, Route};

/// Connection settings with the values of a run.
pub(super) struct ConnectionPlan {
    /// Trusted certificates and client certificate.
    pub(super) config: Arc<ClientConfig>,
    proxy: Option<Proxy>,
    pinned: Option<(IpAddr, Option<u16>)>,
}

impl ConnectionPlan {
    /// Resolves the names in the settings. Fails if a value is not valid, or a file cannot be read.
    pub(super) fn new(settings: &ConnectionSettings, around: &CheckContext<'_>) -> Result<Self, Failure> {
        let values = around.values;
        let fill = |text: &Spanned<Template>| values.fill(text).map_err(|failure| failure.at(text.span));
        let config = match &settings.trust {
            Some(trust) => around.tools.tls.config(trust, |path| values.file(path))?,
            None => around.tools.tls.client_config(),
        };
        let pinned = match &settings.resolve {
            None => None,
            Some(resolve) => {
                let problem = "not an IP address, perhaps with a port";
                let address = address_of(&fill(resolve)?);
                Some(address.ok_or_else(|| configuration("`resolve`", resolve, problem))?)
            }
        };
        let proxy = match &settings.proxy {
            None => None,
            Some(proxy) => {
                let text = fill(proxy)?;
                values.masker().in_url(&text);
                let url = proxy_url(&text).map_err(|problem| configuration("`proxy`", proxy, &problem))?;
                around.hide(&percent_decode_str(url.password().unwrap_or_default()).decode_utf8_lossy());
                Some(Proxy::of(&url).map_err(|failure| failure.at(proxy.span))?)
            }
        };
        Ok(Self { config, proxy, pinned })
    }

    /// Returns the route to a host without TLS.
    pub(super) fn route<'a>(&'a self, host: &'a str, port: u16) -> Route<'a> {
        Route { dial: self.dial_options(port), ..Route::to(host, port).through(self.proxy.as_ref()) }
    }

    /// Returns the route to a host with TLS.
    pub(super) fn tls_route<'a>(&'a self, host: &'a str, port: u16, offer: AlpnOffer) -> Route<'a> {
        self.route(host, port).with_tls(Some(Arc::clone(&self.config)), offer)
    }

    /// Returns the settings of one HTTP request to a URL.
    pub(super) fn fetch_options(&self, url: &Url, limit: usize) -> FetchOptions<'_> {
        FetchOptions {
            tls: Arc::clone(&self.config),
            dial: self.dial_options(url.port_or_known_default().unwrap_or(443)),
            proxy: self.proxy.as_ref(),
            limit,
        }
    }

    /// Returns the options for connecting to a host directly.
    pub(super) fn dial_options(&self, port: u16) -> DialOptions {
        let pinned = self.pinned.map(|(address, own)| SocketAddr::new(address, own.unwrap_or(port)));
        DialOptions { pinned, ..DialOptions::default() }
    }
}
