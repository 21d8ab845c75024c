//! Reusable connections to a server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use rustls::pki_types::CertificateDer;
use rustls::{CipherSuite, ClientConfig, ProtocolVersion};
use url::Url;

use crate::scenario::HttpVersion;
use crate::wire::Proxy;
use crate::wire::{Connection, DialOptions};

/// Negotiated TLS parameters.
pub(super) type NegotiatedTls = (ProtocolVersion, CipherSuite);

/// An HTTP connection with the properties that determine whether it can be reused.
pub(super) struct PooledConnection {
    pub(super) connection: Connection,
    pub(super) peer: SocketAddr,
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) agreed: Option<NegotiatedTls>,
    pub(super) secure: Option<Arc<ClientConfig>>,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) dial: DialOptions,
    pub(super) proxy: Option<Proxy>,
    pub(super) version: Option<HttpVersion>,
    /// Time of the last use.
    pub(super) kept_at: Instant,
}

impl PooledConnection {
    /// Returns the proxy at the other end if it reads the requests.
    pub(super) fn forward_proxy(&self) -> Option<&Proxy> {
        self.proxy.as_ref().filter(|_| self.secure.is_none())
    }
}

/// Returns the port of a URL, explicit or by default.
pub(super) fn port_of(url: &Url) -> u16 {
    url.port_or_known_default().unwrap_or(443)
}
