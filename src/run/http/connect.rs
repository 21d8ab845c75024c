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
use crate::wire::{AlpnOffer, Connection, Protocol, Route, Stage};

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
            && self.dial == plan.dial_options(url)
    }
}

impl Session {
    /// Opens a new connection and records its times in the hop.
    pub(super) async fn open(&mut self, plan: &RequestPlan, ask: &HopRequest) -> Result<PooledConnection, Failure> {
        let (url, dial) = (&ask.url, plan.dial_options(&ask.url));
        let host = url.host_str().unwrap_or_default();
        let port = port_of(url);
        let is_secure = url.scheme() == "https";
        if plan.version == Some(HttpVersion::Two) && !is_secure && plan.proxy.is_some() {
            let message = "HTTP/2 without TLS does not go through a proxy";
            return Err(Failure::new(Reason::Configuration, message));
        }
        let offer = match plan.version {
            None => AlpnOffer::Http,
            Some(HttpVersion::One) => AlpnOffer::Http1,
            Some(HttpVersion::Two) => AlpnOffer::Http2,
        };
        let route = Route { dial, ..Route::of_url(url, &plan.config, offer, plan.proxy.as_ref()) };
        let dialer = self.dialer.clone();
        let (stage, hop) = (&mut self.stage, self.trail.last_mut().expect("a hop is noted before its connection"));
        let opened = dialer.open(&route, |at| match at {
            Stage::Resolving(host) => *stage = RequestPhase::Resolve(Instant::now(), host.to_owned()),
            Stage::Connecting(took) => {
                hop.phases.resolve = took;
                *stage = RequestPhase::Connect(Instant::now());
            }
            Stage::Connected(peer, took) => {
                hop.phases.connect = took;
                hop.address = Some(peer);
            }
            Stage::Handshake => *stage = RequestPhase::Handshake(Instant::now()),
        });
        let mut opened = match opened.await {
            Ok(opened) => opened,
            Err(refused) => {
                self.chain = refused.chain;
                self.account_for_the_rest();
                return Err(refused.failure);
            }
        };
        let mut protocol = opened.protocol();
        let mut agreed = None;
        match &mut opened.tls {
            Some(session) => {
                hop.phases.tls = Some(session.took);
                if plan.version == Some(HttpVersion::Two) && protocol != Protocol::Http2 {
                    return Err(Failure::new(Reason::Protocol, "the server does not speak HTTP/2"));
                }
                agreed = session.version.zip(session.cipher);
                self.chain = std::mem::take(&mut session.chain);
            }
            None if plan.version == Some(HttpVersion::Two) => protocol = Protocol::Http2,
            None => {}
        }
        Ok(PooledConnection {
            connection: Connection::begin(opened.stream, protocol).await?,
            peer: opened.peer,
            chain: self.chain.clone(),
            agreed,
            secure: is_secure.then(|| Arc::clone(&plan.config)),
            host: host.to_owned(),
            port,
            dial,
            proxy: plan.proxy.clone(),
            version: plan.version,
            kept_at: Instant::now(),
        })
    }
}
