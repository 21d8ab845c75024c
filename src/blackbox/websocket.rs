//! The websocket prober: an upgrade followed by the `query_response` dialogue.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};
use url::Url;

use super::metric;
use super::module::Websocket;
use super::permit::Target;
use super::probe::{Probe, ProbeAborted, Verdict};
use crate::wire::{AlpnOffer, DialOptions, Stream, secure, server_name, tunnel};

/// Maximum size of a message, in bytes.
const LARGEST: usize = 1 << 20;

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
    let mut stream = upgrade(probe, websocket, &url).await?;
    let began = Instant::now();
    let verdict = talk(probe, websocket, &mut stream).await;
    probe.samples.add_phase(metric::WEBSOCKET_DURATION, metric::TRANSFER, began.elapsed().as_secs_f64());
    // Closes the connection properly, but does not wait long for the response.
    let _ = tokio::time::timeout(Duration::from_millis(100), stream.close(None)).await;
    verdict
}

async fn upgrade(
    probe: &mut Probe<'_>,
    websocket: &Websocket,
    url: &Url,
) -> Result<WebSocketStream<Stream>, ProbeAborted> {
    let failed = |probe: &mut Probe<'_>, why: &str| probe.stop("Error dialing websocket", &[("err", &why)]);
    let secure_wanted = url.scheme() == "wss";
    let host = url.host_str().unwrap_or_default();
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let port = url.port_or_known_default().unwrap_or(80);
    let target = Target { scheme: url.scheme(), host: bare, port: Some(port) };
    let (address, took) = probe.choose(websocket.addresses, &target).await?;
    probe.samples.add_phase(metric::WEBSOCKET_DURATION, metric::RESOLVE, took.as_secs_f64());

    let began = Instant::now();
    let mut as_http = url.clone();
    // `ws` and `wss` are special schemes like `http` and `https`, so one can be replaced by the other.
    let _ = as_http.set_scheme(if secure_wanted { "https" } else { "http" });
    let proxy = websocket.client.proxy.for_url(&as_http);
    let stream = match &proxy {
        None => {
            let route = DialOptions { pinned: Some(SocketAddr::new(address, port)), ..DialOptions::default() };
            probe.dialer.dial(bare, port, &route).await.map_err(|failure| failed(probe, &failure.message))?.stream
        }
        Some(proxy) => {
            let (name, proxy_port) = (proxy.host_str().unwrap_or_default(), proxy.port_or_known_default());
            let dialed = probe.dialer.dial(name, proxy_port.unwrap_or(80), &DialOptions::default()).await;
            let mut stream = dialed.map_err(|failure| failed(probe, &failure.message))?.stream;
            let credentials = super::auth::of_url(proxy);
            let headers = &websocket.client.proxy.connect_headers;
            let headers: Vec<_> = headers.iter().map(|(name, value)| (name.clone(), value.expose().clone())).collect();
            let authority = SocketAddr::new(address, port).to_string();
            let made = tunnel(&mut stream, &authority, credentials.as_deref(), &headers).await;
            made.map_err(|failure| failed(probe, &failure.message))?;
            stream
        }
    };
    let stream = if secure_wanted {
        let ready = probe.tls(&websocket.client.tls)?;
        let name = server_name(websocket.client.tls.server_name.as_deref().unwrap_or(bare));
        let name = name.map_err(|failure| failed(probe, &failure.message))?;
        let secured = secure(stream, ready.config.clone(), name, AlpnOffer::Http1).await;
        Stream::Tls(Box::new(secured.map_err(|refused| failed(probe, &refused.failure.message))?.stream))
    } else {
        Stream::Plain(stream)
    };
    probe.samples.add_phase(metric::WEBSOCKET_DURATION, metric::CONNECT, began.elapsed().as_secs_f64());

    let began = Instant::now();
    let mut request = url.as_str().into_client_request().map_err(|error| failed(probe, &error.to_string()))?;
    let mut headers: Vec<(String, String)> = websocket.headers.clone();
    for (name, values) in &websocket.client.http_headers {
        for value in values {
            headers.push((name.clone(), probe.reveal(value)?));
        }
    }
    let wanted = websocket.client.authorization.as_ref();
    if let Some(value) = super::auth::authorization(probe, wanted, url).await? {
        headers.push(("authorization".into(), value));
    }
    for (name, value) in headers {
        match (HeaderName::try_from(&name), HeaderValue::try_from(value)) {
            (Ok(name), Ok(value)) if name == header::HOST => {
                request.headers_mut().insert(name, value);
            }
            (Ok(name), Ok(value)) => {
                request.headers_mut().append(name, value);
            }
            _ => return Err(probe.stop("Error dialing websocket: invalid header", &[("header", &name)])),
        }
    }
    let config = WebSocketConfig::default().max_message_size(Some(LARGEST)).max_frame_size(Some(LARGEST));
    let done = client_async_with_config(request, stream, Some(config)).await;
    probe.samples.add_phase(metric::WEBSOCKET_DURATION, metric::PROCESSING, began.elapsed().as_secs_f64());
    match done {
        Ok((stream, answer)) => {
            probe.samples.set(metric::WEBSOCKET_STATUS_CODE, f64::from(answer.status().as_u16()));
            probe.samples.set(metric::WEBSOCKET_UPGRADED, 1.0);
            Ok(stream)
        }
        Err(error) => {
            if let Error::Http(answer) = &error {
                probe.samples.set(metric::WEBSOCKET_STATUS_CODE, f64::from(answer.status().as_u16()));
            }
            Err(failed(probe, &error.to_string()))
        }
    }
}

async fn talk(probe: &mut Probe<'_>, websocket: &Websocket, stream: &mut WebSocketStream<Stream>) -> Verdict {
    for turn in &websocket.dialogue {
        let mut send = turn.send.as_ref().map(|send| send.expose().clone());
        if turn.expect.is_some() || turn.expect_bytes.is_some() {
            let message = next(probe, stream).await?;
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
            let message = match String::from_utf8(send) {
                Ok(text) => Message::text(text),
                Err(bytes) => Message::binary(bytes.into_bytes()),
            };
            let sent = stream.send(message).await;
            sent.map_err(|error| probe.stop("Error sending message", &[("err", &error)]))?;
        }
    }
    Ok(true)
}

/// Returns the next message with content.
async fn next(probe: &mut Probe<'_>, stream: &mut WebSocketStream<Stream>) -> Result<Vec<u8>, ProbeAborted> {
    loop {
        match stream.next().await {
            Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => return Ok(message.into_data().to_vec()),
            Some(Ok(Message::Close(_))) | None => {
                return Err(probe.stop("Error reading message", &[("err", &"the server closed the connection")]));
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(probe.stop("Error reading message", &[("err", &error)])),
        }
    }
}
