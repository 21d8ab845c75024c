//! The websocket prober: an upgrade followed by the `query_response` dialogue.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use url::Url;

use super::metric;
use super::module::Websocket;
use super::permit::Target;
use super::probe::{Probe, ProbeAborted, Verdict};
use crate::wire::websocket::{Received, WebSocket};
use crate::wire::{self, AlpnOffer, DialOptions, Route, TlsOptions, Via};

/// Probes a WebSocket server.
pub(super) async fn websocket(probe: &mut Probe<'_>, websocket: &Websocket, time: Duration) -> Verdict {
    for phase in [metric::RESOLVE, metric::CONNECT, metric::PROCESSING, metric::TRANSFER] {
        probe.samples.add_phase(metric::WEBSOCKET_DURATION, phase, 0.0);
    }
    for metric in [metric::WEBSOCKET_STATUS_CODE, metric::WEBSOCKET_UPGRADED, metric::WEBSOCKET_FAILED_DUE_TO_REGEX] {
        probe.samples.set(metric, 0.0);
    }
    let done = tokio::time::timeout(time, converse(probe, websocket)).await;
    done.unwrap_or_else(|_| Err(probe.stop("The probe's time ran out", &[])))
}

async fn converse(probe: &mut Probe<'_>, websocket: &Websocket) -> Verdict {
    let written = match probe.target {
        with_scheme if with_scheme.contains("://") => with_scheme.to_owned(),
        without => format!("ws://{without}"),
    };
    let url = Url::parse(&written).map_err(|error| probe.stop("Could not parse target URL", &[("err", &error)]))?;
    if !matches!(url.scheme(), "ws" | "wss") || !url.has_host() {
        return Err(probe.stop("Could not parse target URL", &[("err", &"write it as ws://HOST/ or wss://HOST/")]));
    }
    let mut socket = upgrade(probe, websocket, &url).await?;
    let began = Instant::now();
    let verdict = talk(probe, websocket, &mut socket).await;
    probe.samples.add_phase(metric::WEBSOCKET_DURATION, metric::TRANSFER, began.elapsed().as_secs_f64());
    // Closes the connection properly, but does not wait long for the response.
    let _ = tokio::time::timeout(Duration::from_millis(100), socket.close()).await;
    verdict
}

async fn upgrade(probe: &mut Probe<'_>, websocket: &Websocket, url: &Url) -> Result<WebSocket, ProbeAborted> {
    let failed = |probe: &mut Probe<'_>, why: &str| probe.stop("Error dialing websocket", &[("err", &why)]);
    let is_secure = url.scheme() == "wss";
    let host = wire::host::bare(url.host_str().unwrap_or_default());
    let port = url.port_or_known_default().unwrap_or(80);
    let target = Target { scheme: url.scheme(), host, port: Some(port) };
    let (address, took) = probe.choose(websocket.addresses, &target).await?;
    probe.samples.add_phase(metric::WEBSOCKET_DURATION, metric::RESOLVE, took.as_secs_f64());

    let mut as_http = url.clone();
    // `ws` and `wss` are special schemes like `http` and `https`, so one can be replaced by the other.
    let _ = as_http.set_scheme(if is_secure { "https" } else { "http" });
    let proxy = websocket.client.proxy.for_url(&as_http);
    let proxy = proxy.map_err(|failure| failed(probe, &failure.message))?;
    let ready = if is_secure { Some(probe.tls(&websocket.client.tls)?) } else { None };
    let address = SocketAddr::new(address, port);
    let tls = ready.as_ref().map(|ready| TlsOptions {
        config: Arc::clone(&ready.config),
        name: websocket.client.tls.server_name.as_deref(),
        offer: AlpnOffer::Http1,
    });
    let proxy = proxy.as_ref().map(|proxy| Via { proxy, tunnel: Some(address.to_string()) });
    let dial = DialOptions { pinned: Some(address), ..DialOptions::default() };
    let route = Route { dial, proxy, tls, ..Route::to(host, port) };
    let began = Instant::now();
    let opened = probe.dialer.open(&route, |_| ()).await;
    let stream = opened.map_err(|refused| failed(probe, &refused.failure.message))?.stream;
    probe.samples.add_phase(metric::WEBSOCKET_DURATION, metric::CONNECT, began.elapsed().as_secs_f64());

    let began = Instant::now();
    let headers = headers(probe, websocket, url).await?;
    let done = WebSocket::open(stream, url, headers).await;
    probe.samples.add_phase(metric::WEBSOCKET_DURATION, metric::PROCESSING, began.elapsed().as_secs_f64());
    match done {
        Ok(socket) => {
            probe.samples.set(metric::WEBSOCKET_STATUS_CODE, 101.0);
            probe.samples.set(metric::WEBSOCKET_UPGRADED, 1.0);
            Ok(socket)
        }
        Err(rejected) => {
            let message = match rejected.status {
                Some(status) => {
                    probe.samples.set(metric::WEBSOCKET_STATUS_CODE, f64::from(status.as_u16()));
                    format!("{} (status {})", rejected.failure.message, status.as_u16())
                }
                None => rejected.failure.message,
            };
            Err(failed(probe, &message))
        }
    }
}

/// Returns the headers that the module adds to the handshake.
async fn headers(probe: &mut Probe<'_>, websocket: &Websocket, url: &Url) -> Result<HeaderMap, ProbeAborted> {
    let mut all: Vec<(String, String)> = websocket.headers.clone();
    for (name, values) in &websocket.client.http_headers {
        for value in values {
            all.push((name.clone(), probe.reveal(value)?));
        }
    }
    let mut headers = HeaderMap::with_capacity(all.len() + 1);
    for (name, value) in all {
        match (HeaderName::try_from(&name), HeaderValue::try_from(value)) {
            (Ok(name), Ok(value)) if name == header::HOST => {
                headers.insert(name, value);
            }
            (Ok(name), Ok(value)) => {
                headers.append(name, value);
            }
            _ => return Err(probe.stop("Error dialing websocket: invalid header", &[("header", &name)])),
        }
    }
    let wanted = websocket.client.authorization.as_ref();
    if let Some(value) = super::auth::authorization(probe, wanted, url).await? {
        headers.append(header::AUTHORIZATION, value);
    }
    Ok(headers)
}

async fn talk(probe: &mut Probe<'_>, websocket: &Websocket, socket: &mut WebSocket) -> Verdict {
    for turn in &websocket.dialogue {
        let mut send = turn.send.as_ref().map(|send| send.expose().clone());
        if turn.expect.is_some() || turn.expect_bytes.is_some() {
            let message = next(probe, socket).await?;
            if let Some(regex) = &turn.expect {
                let Some(groups) = regex.captures(&message) else {
                    probe.samples.set(metric::WEBSOCKET_FAILED_DUE_TO_REGEX, 1.0);
                    return Err(probe.stop("Regexp did not match", &[("regexp", regex)]));
                };
                let mut filled = Vec::new();
                groups.expand(send.as_deref().unwrap_or_default(), &mut filled);
                send = Some(filled);
            }
            if turn.expect_bytes.as_ref().is_some_and(|expected| *expected != message) {
                return Err(probe.stop("Bytes did not match", &[]));
            }
        }
        if let Some(send) = send.filter(|send| !send.is_empty()) {
            probe.log.debug("Sending message", &[("bytes", &send.len())]);
            let sent = match String::from_utf8(send) {
                Ok(text) => socket.send_text(text).await,
                Err(bytes) => socket.send_binary(bytes.into_bytes()).await,
            };
            sent.map_err(|failure| probe.stop("Error sending message", &[("err", &failure.message)]))?;
        }
    }
    Ok(true)
}

/// Returns the next message with content.
async fn next(probe: &mut Probe<'_>, socket: &mut WebSocket) -> Result<Vec<u8>, ProbeAborted> {
    match socket.receive().await {
        Ok(Received::Text(text)) => Ok(text.into_bytes()),
        Ok(Received::Binary(bytes)) => Ok(bytes),
        Ok(Received::Close(reason)) => Err(probe.stop("Error reading message", &[("err", &reason)])),
        Err(failure) => Err(probe.stop("Error reading message", &[("err", &failure.message)])),
    }
}
