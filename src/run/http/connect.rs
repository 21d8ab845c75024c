//! Opens connections, and decides which of them a request can reuse.

use std::sync::Arc;
use std::time::Instant;

use url::Url;

use super::hop::HopRequest;
use super::link::{PooledConnection, port_of};
use super::plan::RequestPlan;
use super::{RequestPhase, Session};
use crate::names::Reason;
use crate::outcome::Failure;
use crate::scenario::HttpVersion;
use crate::wire::{self, AlpnOffer, Connection, DialOptions, Protocol, Stream};

impl PooledConnection {
    /// Returns whether a request for a URL can reuse this connection.
    pub(super) fn can_reuse_for(&self, plan: &RequestPlan, url: &Url) -> bool {
        let trust = match (&self.secure, url.scheme()) {
            (Some(config), "https") => Arc::ptr_eq(config, &plan.config),
            (None, "http") => true,
            _ => false,
        };
        trust
            && url.host_str() == Some(self.host.as_str())
            && port_of(url) == self.port
            && self.version == plan.version
            && self.proxy == plan.proxy
            && self.route == plan.route(url)
    }
}

impl Session {
    /// Opens a new connection and records its times in the hop.
    pub(super) async fn open(&mut self, plan: &RequestPlan, ask: &HopRequest) -> Result<PooledConnection, Failure> {
        let (url, route) = (&ask.url, plan.route(&ask.url));
        let host = url.host_str().unwrap_or_default();
        let port = port_of(url);
        let is_secure = url.scheme() == "https";
        if plan.version == Some(HttpVersion::Two) && !is_secure && plan.proxy.is_some() {
            let message = "HTTP/2 without TLS does not go through a proxy";
            return Err(Failure::new(Reason::Configuration, message));
        }
        let began = Instant::now();
        let (to, at, by) = match &plan.proxy {
            None => (host, port, route),
            Some(proxy) => (proxy.host.as_str(), proxy.port, DialOptions::default()),
        };
        self.stage = RequestPhase::Resolve(began, to.to_owned());
        let dialer = self.dialer.clone();
        let dialed = async {
            if plan.proxy.is_some() {
                dialer.check_behind_proxy(host, port).await?;
            }
            let resolved = dialer.resolve(to, &by).await?;
            let hop = self.trail.last_mut().expect("a hop is noted before its connection is opened");
            hop.phases.resolve = resolved.took;
            self.stage = RequestPhase::Connect(Instant::now());
            dialer.connect(resolved, at, &by).await
        };
        let mut dialed = match dialed.await {
            Ok(dialed) => dialed,
            Err(failure) => {
                self.account_for_the_rest();
                return Err(failure);
            }
        };
        if let (Some(proxy), true) = (&plan.proxy, is_secure) {
            let authority = format!("{host}:{port}");
            wire::tunnel(&mut dialed.stream, &authority, proxy.authorization.as_deref(), &[]).await?;
            dialed.connect = began.elapsed().saturating_sub(dialed.resolve);
        }
        let hop = self.trail.last_mut().expect("a hop is noted before its connection is opened");
        hop.phases.resolve = dialed.resolve;
        hop.phases.connect = dialed.connect;
        hop.address = Some(dialed.peer);
        let mut agreed = None;
        let (stream, protocol) = if is_secure {
            self.stage = RequestPhase::Handshake(Instant::now());
            let offer = match plan.version {
                None => AlpnOffer::Http,
                Some(HttpVersion::One) => AlpnOffer::Http1,
                Some(HttpVersion::Two) => AlpnOffer::Http2,
            };
            let name = wire::server_name(host)?;
            match wire::secure(dialed.stream, Arc::clone(&plan.config), name, offer).await {
                Ok(secured) => {
                    hop.phases.tls = Some(secured.took);
                    let protocol = if secured.is_http2() { Protocol::Http2 } else { Protocol::Http1 };
                    if plan.version == Some(HttpVersion::Two) && protocol != Protocol::Http2 {
                        return Err(Failure::new(Reason::Protocol, "the server does not speak HTTP/2"));
                    }
                    agreed = secured.version.zip(secured.cipher);
                    self.chain = secured.chain;
                    (Stream::Tls(Box::new(secured.stream)), protocol)
                }
                Err(refused) => {
                    self.chain = refused.chain;
                    self.account_for_the_rest();
                    return Err(refused.failure);
                }
            }
        } else {
            let prior = plan.version == Some(HttpVersion::Two);
            (Stream::Plain(dialed.stream), if prior { Protocol::Http2 } else { Protocol::Http1 })
        };
        Ok(PooledConnection {
            connection: Connection::begin(stream, protocol).await?,
            peer: dialed.peer,
            chain: self.chain.clone(),
            agreed,
            secure: is_secure.then(|| Arc::clone(&plan.config)),
            host: host.to_owned(),
            port,
            route,
            proxy: plan.proxy.clone(),
            version: plan.version,
            kept_at: Instant::now(),
        })
    }
}
