//! A WebSocket check: opens the connection and optionally sends a message and checks a received one.

use std::time::Instant;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use super::connection_plan::ConnectionPlan;
use super::context::{CheckContext, configuration, faster_than};
use crate::names::Reason;
use crate::outcome::Failure;
use crate::scenario::check;
use crate::scenario::check::connection::NEEDS_TLS;
use crate::scenario::check::websocket::{WebsocketCheck, url};
use crate::values::expect::{Actual, ResolvedMatcher};
use crate::wire::AlpnOffer;
use crate::wire::websocket::{CloseReason, Received, WebSocket};

/// Runs the check.
pub async fn check(check: &WebsocketCheck, around: &CheckContext<'_>) -> Result<(), Failure> {
    let began = Instant::now();
    let receive = check
        .receive
        .as_ref()
        .map(|one| Ok((ResolvedMatcher::new(&one.matcher, around.values)?, one.span)))
        .transpose()?;
    let mut heard = None;
    let mut listening = false;
    let conversation = async {
        let mut socket = connect(check, around).await?;
        if let Some(send) = &check.send {
            socket.send_text(around.values.fill(send)?).await?;
        }
        let Some((matcher, _)) = &receive else { return Ok(None) };
        listening = true;
        loop {
            let seen = match socket.receive().await? {
                Received::Text(text) => Actual::text(text),
                Received::Binary(bytes) => Actual::text(String::from_utf8_lossy(&bytes)),
                Received::Close(reason) => return Ok(Some(reason)),
            };
            let fits = matcher.holds(&seen);
            heard = Some(seen);
            if fits {
                return Ok(None);
            }
        }
    };
    let ended: Result<Result<Option<CloseReason>, Failure>, _> =
        tokio::time::timeout(around.timeout, conversation).await;
    let took = began.elapsed();
    let Some((matcher, span)) = receive.as_ref().filter(|_| listening) else {
        ended.map_err(|_| around.out_of_time())??;
        return faster_than(check.faster_than.as_ref(), took);
    };
    let failure = match ended {
        Ok(Ok(None)) => return faster_than(check.faster_than.as_ref(), took),
        Ok(Ok(Some(reason))) => Failure::new(Reason::Assertion, reason.to_string()),
        Ok(Err(failure)) => return Err(failure),
        Err(_) => Failure::new(Reason::Timeout, "the expected message was not received"),
    };
    let seen = heard.map_or("nothing".to_owned(), |heard| heard.show());
    Err(failure.compared(matcher.show(), seen).waited(took).at(*span))
}

async fn connect(check: &WebsocketCheck, around: &CheckContext<'_>) -> Result<WebSocket, Failure> {
    let text = around.values.fill(&check.url)?;
    let url = url(&text).map_err(|problem| configuration("`websocket`", &check.url, &problem))?;
    let mut headers = HeaderMap::with_capacity(check.headers.len());
    for (name, value) in &check.headers {
        let problem =
            |error: &dyn std::fmt::Display| configuration(&format!("header `{name}`"), value, &error.to_string());
        let filled = around.values.fill(value)?;
        let name = HeaderName::try_from(name.as_str()).map_err(|error| problem(&error))?;
        headers.insert(name, HeaderValue::try_from(filled).map_err(|error| problem(&error))?);
    }
    let host = check::host_of(&url).expect("checked when the URL was read");
    let port = url.port_or_known_default().expect("ws and wss have one");
    let is_secure = url.scheme() == "wss";
    if check.connection.trust.is_some() && !is_secure {
        return Err(configuration("`websocket`", &check.url, &format!("`trust` {NEEDS_TLS}")));
    }
    let plan = ConnectionPlan::new(&check.connection, around)?;
    let route = if is_secure { plan.tls_route(&host, port, AlpnOffer::Http1) } else { plan.route(&host, port) };
    let stream = around.open(&route).await.map_err(|refused| refused.failure)?.stream;
    WebSocket::open(stream, &url, headers).await.map_err(|rejected| rejected.failure)
}
