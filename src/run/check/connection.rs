//! Connections of checks: resolves names, tries addresses in parallel and adds TLS where required.

use std::net::SocketAddr;
use std::sync::PoisonError;

use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use url::Url;

use super::connection_plan::ConnectionPlan;
use super::context::CheckContext;
use crate::outcome::Failure;
use crate::wire::{DialOptions, OpenError, Opened, ResponseHead, Route, Stage};

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
        self.tools.dialer.open(route, |stage| self.waits_in(stage, route.host)).await
    }

    /// Sends one HTTP request to a URL and reads the response body up to a limit. Redirects are not followed.
    pub(super) async fn fetch_over(
        &self,
        plan: &ConnectionPlan,
        url: &Url,
        request: Request<Full<Bytes>>,
        limit: usize,
    ) -> Result<(ResponseHead, Vec<u8>), Failure> {
        let host = url.host_str().unwrap_or_default();
        let options = plan.fetch_options(url, limit);
        self.tools.dialer.fetch(url, request, &options, |stage| self.waits_in(stage, host)).await
    }

    /// Records the stage of opening a connection to `host`, for the message on timeout.
    fn waits_in(&self, stage: Stage<'_>, host: &str) {
        self.waits_for(match stage {
            Stage::Resolving(name) => format!("resolving `{name}`"),
            Stage::Connecting(_) => format!("connecting to `{host}`"),
            Stage::Connected(peer, _) => format!("waiting for {peer}"),
            Stage::Handshake => format!("waiting for the TLS handshake of `{host}`"),
        });
    }
}
