//! Opens connections: resolves the host, connects to it or to a proxy, and performs the TLS handshake.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use url::Url;

use super::secure::{AlpnOffer, TlsSession, secure, server_name};
use super::{DialOptions, Dialer, Protocol, Proxy, Stream, host, starttls, tunnel};
use crate::outcome::Failure;
use crate::scenario::check::tcp::StartTls;

/// Destination of a connection, and the way to it.
#[derive(Debug, Clone)]
pub struct Route<'a> {
    /// Host name or IP address, an IPv6 address with or without brackets.
    pub host: &'a str,
    /// Port.
    pub port: u16,
    /// Addresses of the host that are used. Ignored behind a proxy, which resolves the name itself.
    pub dial: DialOptions,
    /// Proxy to connect to. `None` for a direct connection.
    pub proxy: Option<Via<'a>>,
    /// TLS settings. `None` for a plain connection.
    pub tls: Option<TlsOptions<'a>>,
    /// Protocol in which TLS is negotiated before the handshake. Applies to connections with TLS settings.
    pub starttls: Option<StartTls>,
}

/// A proxy, and what is requested from it.
#[derive(Debug, Clone)]
pub struct Via<'a> {
    /// The proxy.
    pub proxy: &'a Proxy,
    /// Destination of the tunnel, as `host:port`. `None` if the proxy receives the requests itself (HTTP without TLS).
    pub tunnel: Option<String>,
}

/// Settings of a TLS handshake.
#[derive(Debug, Clone)]
pub struct TlsOptions<'a> {
    /// Trusted certificates and client certificate, from [`super::tls`].
    pub config: Arc<ClientConfig>,
    /// Name that the certificate must be valid for (default: the host).
    pub name: Option<&'a str>,
    /// Protocols to offer in the ALPN extension.
    pub offer: AlpnOffer,
}

/// Progress of opening a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage<'a> {
    /// Resolution of this host begins.
    Resolving(&'a str),
    /// The host was resolved in this time; connecting begins.
    Connecting(Duration),
    /// A connection, including a tunnel, was established with this peer in this time.
    Connected(SocketAddr, Duration),
    /// The TLS handshake begins.
    Handshake,
}

/// An open connection.
#[derive(Debug)]
pub struct Opened {
    /// The connection.
    pub stream: Stream,
    /// Address of the peer: of the host, or of the proxy.
    pub peer: SocketAddr,
    /// Duration of the name resolution.
    pub resolve: Duration,
    /// Duration of connecting, including the request for a tunnel.
    pub connect: Duration,
    /// Part of `connect` that the request for a tunnel took; zero without a tunnel.
    pub tunnel: Duration,
    /// Parameters of the TLS session. `None` for a plain connection.
    pub tls: Option<TlsSession>,
}

/// A connection that could not be opened.
#[derive(Debug)]
pub struct OpenError {
    /// Failure for the outcome.
    pub failure: Failure,
    /// Certificates of the server if it was rejected because of them, its own first. Otherwise empty.
    pub chain: Vec<CertificateDer<'static>>,
}

impl From<Failure> for OpenError {
    fn from(failure: Failure) -> Self {
        Self { failure, chain: Vec::new() }
    }
}

impl Opened {
    /// Returns the HTTP version that was negotiated. Without TLS, this is HTTP/1.1.
    pub fn protocol(&self) -> Protocol {
        let is_http2 = self.tls.as_ref().is_some_and(|tls| tls.alpn.as_deref() == Some(b"h2"));
        if is_http2 { Protocol::Http2 } else { Protocol::Http1 }
    }
}

impl<'a> Route<'a> {
    /// Creates a direct route without TLS.
    pub fn to(host: &'a str, port: u16) -> Self {
        Self { host, port, dial: DialOptions::default(), proxy: None, tls: None, starttls: None }
    }

    /// Creates the route for an HTTP request to a URL: with TLS and through a tunnel for `https`, and otherwise directly
    /// or to a proxy that reads the request.
    pub fn of_url(url: &'a Url, config: &Arc<ClientConfig>, offer: AlpnOffer, proxy: Option<&'a Proxy>) -> Self {
        let is_secure = url.scheme() == "https";
        let (host, port) = (url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or(443));
        let tunnel = is_secure.then(|| host::authority(host, port));
        let direct = Self::to(host, port).with_tls(is_secure.then(|| Arc::clone(config)), offer);
        Self { proxy: proxy.map(|proxy| Via { proxy, tunnel }), ..direct }
    }

    /// Adds TLS, if there is a configuration.
    #[must_use]
    pub fn with_tls(self, config: Option<Arc<ClientConfig>>, offer: AlpnOffer) -> Self {
        Self { tls: config.map(|config| TlsOptions { config, name: None, offer }), ..self }
    }

    /// Leads through a tunnel of a proxy, if there is one.
    #[must_use]
    pub fn through(self, proxy: Option<&'a Proxy>) -> Self {
        // A name that is not valid fails when the connection is opened.
        let tunnel = || Some(host::authority(&host::ascii(self.host).unwrap_or(self.host.into()), self.port));
        Self { proxy: proxy.map(|proxy| Via { proxy, tunnel: tunnel() }), ..self }
    }
}

impl Dialer {
    /// Opens a connection and reports its progress to `on`.
    pub async fn open(&self, route: &Route<'_>, mut on: impl FnMut(Stage<'_>) + Send) -> Result<Opened, OpenError> {
        let (to, port, dial) = match &route.proxy {
            None => (route.host, route.port, route.dial),
            Some(via) => (via.proxy.host.as_str(), via.proxy.port, DialOptions::default()),
        };
        on(Stage::Resolving(to));
        if route.proxy.is_some() {
            let host = host::ascii(route.host)?;
            self.check_behind_proxy(&host, route.port).await?;
        }
        let of_proxy = |failure: Failure| match &route.proxy {
            None => failure,
            Some(via) => via.proxy.name_in(failure),
        };
        let resolved = self.resolve(to, &dial).await.map_err(of_proxy)?;
        on(Stage::Connecting(resolved.took));
        let mut dialed = self.connect(resolved, port, &dial).await.map_err(of_proxy)?;
        let mut tunnel_took = Duration::ZERO;
        if let Some(Via { proxy, tunnel: Some(authority) }) = &route.proxy {
            let began = Instant::now();
            tunnel(&mut dialed.stream, authority, proxy.authorization.as_deref(), &proxy.headers)
                .await
                .map_err(of_proxy)?;
            tunnel_took = began.elapsed();
            dialed.connect += tunnel_took;
        }
        on(Stage::Connected(dialed.peer, dialed.connect));
        let (stream, tls) = match &route.tls {
            None => (Stream::Plain(dialed.stream), None),
            Some(options) => {
                if let Some(protocol) = route.starttls {
                    starttls::negotiate(&mut dialed.stream, protocol, route.host).await?;
                }
                on(Stage::Handshake);
                let name = server_name(options.name.unwrap_or(route.host))?;
                let secured = secure(dialed.stream, Arc::clone(&options.config), name, options.offer).await;
                let secured =
                    secured.map_err(|refused| OpenError { failure: refused.failure, chain: refused.chain })?;
                (Stream::Tls(Box::new(secured.stream)), Some(secured.session))
            }
        };
        let (peer, resolve, connect) = (dialed.peer, dialed.resolve, dialed.connect);
        Ok(Opened { stream, peer, resolve, connect, tunnel: tunnel_took, tls })
    }
}
