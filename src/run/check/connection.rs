//! Connections of checks: resolves names, tries addresses in parallel and adds TLS where required.

use std::net::SocketAddr;
use std::sync::PoisonError;

use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use url::{Position, Url};

use super::connection_plan::ConnectionPlan;
use super::context::CheckContext;
use crate::names::Reason;
use crate::outcome::Failure;
use crate::scenario::check::connection::ConnectionSettings;
use crate::wire::{AlpnOffer, Connection, DialOptions, OpenError, Opened, Protocol, ResponseHead, Route, Stage};

pub use crate::wire::failure::connection_lost as broken;

impl CheckContext<'_> {
    /// Stores what the check is waiting for, for the message on timeout.
    pub(super) fn waits_for(&self, what: String) {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some(what);
    }

    /// Resolves a host and tries its addresses until one attempt succeeds.
    pub(super) async fn first<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        host: &str,
        port: u16,
        dial: &DialOptions,
        attempt: impl Fn(SocketAddr) -> F,
    ) -> Result<T, Failure> {
        self.waits_for(format!("resolving `{host}`"));
        let resolved = self.tools.dialer.resolve(host, dial).await?;
        self.waits_for(format!("waiting for `{host}`"));
        let port = dial.pinned.map_or(port, |pinned| pinned.port());
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
