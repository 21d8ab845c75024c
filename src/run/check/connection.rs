//! Connections of checks: resolves names, tries addresses in parallel and adds TLS where required.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, PoisonError};

use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UdpSocket};
use url::{Position, Url};

use super::connection_plan::ConnectionPlan;
use super::context::CheckContext;
use crate::names::Reason;
use crate::outcome::Failure;
use crate::scenario::check::connection::ConnectionSettings;
use crate::wire::{
    self, AlpnOffer, Connection, DialOptions, HandshakeError, OpenError, Opened, Protocol, Resolved, ResponseHead,
    Route, Stage, TlsConnection, of_io, server_name,
};

/// A bidirectional byte stream.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection, over TLS or not.
pub type Stream = Box<dyn Duplex>;

impl CheckContext<'_> {
    /// Stores what the check is waiting for, for the message on timeout.
    pub(super) fn waits_for(&self, what: String) {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some(what);
    }

    async fn resolve(&self, host: &str) -> Result<Resolved, Failure> {
        self.waits_for(format!("resolving `{host}`"));
        let resolved = self.tools.dialer.resolve(host, &DialOptions::default()).await?;
        self.waits_for(format!("connecting to `{host}`"));
        Ok(resolved)
    }

    /// Resolves a host and connects to it.
    pub(super) async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, Failure> {
        let resolved = self.resolve(host).await?;
        let dialed = self.tools.dialer.connect(resolved, port, &DialOptions::default()).await?;
        self.waits_for(format!("waiting for {}", dialed.peer));
        Ok(dialed.stream)
    }

    /// Resolves a host and tries its addresses until one attempt succeeds.
    pub(super) async fn first<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        host: &str,
        port: u16,
        attempt: impl Fn(SocketAddr) -> F,
    ) -> Result<T, Failure> {
        let resolved = self.resolve(host).await?;
        self.waits_for(format!("waiting for `{host}`"));
        self.tools.dialer.first(resolved, port, attempt).await.map(|(done, _)| done)
    }

    /// Opens a connection.
    pub(super) async fn open(&self, route: &Route<'_>) -> Result<Opened, OpenError> {
        let host = route.host;
        self.tools
            .dialer
            .open(route, |stage| {
                self.waits_for(match stage {
                    Stage::Resolving(name) => format!("resolving `{name}`"),
                    Stage::Connecting(_) => format!("connecting to `{host}`"),
                    Stage::Connected(peer, _) => format!("waiting for {peer}"),
                    Stage::Handshake => format!("waiting for the TLS handshake of `{host}`"),
                });
            })
            .await
    }

    /// Sends one HTTP request with the default connection settings, as [`Self::fetch_over`] does.
    pub(super) async fn fetch(
        &self,
        url: &Url,
        request: Request<Full<Bytes>>,
        limit: usize,
    ) -> Result<(ResponseHead, Vec<u8>), Failure> {
        let plan = ConnectionPlan::new(&ConnectionSettings::default(), self)?;
        self.fetch_over(&plan, url, request, limit).await
    }

    /// Sends one HTTP request to the path and host of a URL and reads the response body up to a limit. Redirects are
    /// not followed.
    pub(super) async fn fetch_over(
        &self,
        plan: &ConnectionPlan,
        url: &Url,
        mut request: Request<Full<Bytes>>,
        limit: usize,
    ) -> Result<(ResponseHead, Vec<u8>), Failure> {
        let host = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default().unwrap_or(443);
        let is_secure = url.scheme() == "https";
        let route = if is_secure { plan.tls_route(host, port, AlpnOffer::Http) } else { plan.route(host, port) };
        let opened = self.open(&route).await.map_err(|refused| refused.failure)?;
        let protocol = opened.protocol();
        let unsendable = |error: &dyn std::fmt::Display| {
            Failure::new(Reason::Configuration, format!("the URL cannot be sent: {error}"))
        };
        let authority = &url[Position::BeforeHost..Position::AfterPort];
        let path = &url[Position::BeforePath..Position::AfterQuery];
        let uri = match protocol {
            Protocol::Http1 => {
                let host = authority.parse().map_err(|error| unsendable(&error))?;
                request.headers_mut().insert(hyper::header::HOST, host);
                path.parse()
            }
            Protocol::Http2 => format!("{}://{authority}{path}", url.scheme()).parse(),
        };
        *request.uri_mut() = uri.map_err(|error: hyper::http::uri::InvalidUri| unsendable(&error))?;
        let mut connection = Connection::begin(opened.stream, protocol).await?;
        let mut answer = connection.exchange(request).await.map_err(|unanswered| unanswered.failure)?;
        let mut body = Vec::new();
        answer.read(&mut body, limit).await?;
        Ok((answer.head, body))
    }
}

/// Starts TLS on a connection. The certificate must be valid for `host`.
pub async fn secure<S: Duplex>(
    stream: S,
    host: &str,
    config: Arc<ClientConfig>,
) -> Result<TlsConnection<S>, HandshakeError> {
    let name = server_name(host).map_err(|failure| HandshakeError { failure, chain: Vec::new() })?;
    wire::secure(stream, config, name, AlpnOffer::Nothing).await
}

/// Opens a UDP socket that exchanges packets with one address only.
pub async fn packets(to: SocketAddr) -> Result<UdpSocket, Failure> {
    let any = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await.map_err(|error| {
        // No specific port was requested, so all of them are taken.
        let taken = error.kind() == std::io::ErrorKind::AddrInUse;
        let message = format!("cannot send a packet to {to}: {error}");
        if taken { Failure::new(Reason::Resources, message) } else { unanswered(to, &error) }
    })?;
    socket.connect(to).await.map_err(|error| unanswered(to, &error))?;
    Ok(socket)
}

/// Returns the failure for an error of a UDP socket.
pub fn unanswered(from: SocketAddr, error: &std::io::Error) -> Failure {
    of_io(error, Reason::Connect, format!("no response from {from}: {error}"))
}

/// Returns the failure for a broken connection.
pub fn broken(error: &std::io::Error) -> Failure {
    of_io(error, Reason::Protocol, format!("connection lost: {error}"))
}
