//! The grpc prober: a health check (`grpc.health.v1`), implemented by hand over HTTP/2, because it is only one message
//! in each direction.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TE, USER_AGENT};
use hyper::{Method, Request};

use super::metric;
use super::module::Grpc;
use super::permit::{Target, split_port};
use super::probe::{Probe, ProbeAborted, Verdict};
use super::tls::Seen;
use crate::wire::{AlpnOffer, Connection, DialOptions, Protocol, Stream, secure, server_name};

/// Names of the service states, by number.
const STATES: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];
/// Maximum size of a response, in bytes.
const LARGEST: usize = 64 << 10;

/// gRPC status codes that the prober itself assigns.
const OK: u16 = 0;
const UNKNOWN: u16 = 2;
const DEADLINE_EXCEEDED: u16 = 4;
const INTERNAL: u16 = 13;
const UNAVAILABLE: u16 = 14;

/// Result of a health check.
struct Checked {
    status: u16,
    state: Option<usize>,
}

/// Probes the health of a service.
pub(super) async fn grpc(probe: &mut Probe<'_>, grpc: &Grpc, time: Duration) -> Verdict {
    probe.samples.add_phase(metric::GRPC_DURATION, metric::RESOLVE, 0.0);
    for metric in [metric::GRPC_SSL, metric::GRPC_STATUS_CODE, metric::SSL_EARLIEST_CERT_EXPIRY] {
        probe.samples.set(metric, 0.0);
    }
    let began = std::time::Instant::now();
    let without_scheme = probe.target.split_once("://").map_or(probe.target, |(_, rest)| rest);
    let authority = without_scheme.split('/').next().unwrap_or_default();
    let Some((host, port)) = split_port(authority).filter(|(host, _)| !host.is_empty()) else {
        return Err(probe.stop("Could not parse target URL", &[("err", &"write it as HOST:PORT")]));
    };
    let port = port.unwrap_or(if grpc.tls { 443 } else { 80 });
    let target = Target { scheme: "grpc", host, port: Some(port) };
    let chosen = tokio::time::timeout(time, probe.choose(grpc.addresses, &target)).await;
    let (address, took) = chosen.unwrap_or_else(|_| Err(probe.stop("Error resolving address", &[])))?;
    probe.samples.add_phase(metric::GRPC_DURATION, metric::RESOLVE, took.as_secs_f64());

    let check_began = std::time::Instant::now();
    let left = time.saturating_sub(began.elapsed());
    let checked = tokio::time::timeout(left, check(probe, grpc, host, SocketAddr::new(address, port))).await;
    let checked = checked.unwrap_or_else(|_| {
        probe.log.error("The probe's time ran out", &[]);
        Checked { status: DEADLINE_EXCEEDED, state: None }
    });
    probe.samples.add_phase(metric::GRPC_DURATION, metric::CHECK, check_began.elapsed().as_secs_f64());
    for (number, state) in STATES.iter().enumerate() {
        let value = f64::from(u8::from(checked.state == Some(number)));
        probe.samples.set_with(metric::GRPC_HEALTHCHECK_RESPONSE, &[("serving_status", state)], value);
    }
    probe.samples.set(metric::GRPC_STATUS_CODE, f64::from(checked.status));
    let serving = checked.status == OK && checked.state == Some(1);
    if !serving {
        let state = checked.state.map_or("none", |number| STATES[number]);
        probe.log.error("The service does not serve", &[("status", &checked.status), ("state", &state)]);
    }
    Ok(serving)
}

async fn check(probe: &mut Probe<'_>, grpc: &Grpc, host: &str, address: SocketAddr) -> Checked {
    match attempt(probe, grpc, host, address).await {
        Ok(checked) => checked,
        Err(status) => Checked { status, state: None },
    }
}

async fn attempt(probe: &mut Probe<'_>, grpc: &Grpc, host: &str, address: SocketAddr) -> Result<Checked, u16> {
    let failed = |probe: &mut Probe<'_>, why: &str| {
        probe.log.error("can't connect grpc server", &[("err", &why)]);
        UNAVAILABLE
    };
    let route = DialOptions { pinned: Some(address), ..DialOptions::default() };
    let dialed =
        probe.dialer.dial(host, address.port(), &route).await.map_err(|failure| failed(probe, &failure.message))?;
    let stream = if grpc.tls {
        let ready = probe.tls(&grpc.tls_config).map_err(|ProbeAborted| UNAVAILABLE)?;
        let name = grpc.tls_config.server_name.as_deref().unwrap_or(host);
        let name = server_name(name).map_err(|failure| failed(probe, &failure.message))?;
        let secured = secure(dialed.stream, ready.config.clone(), name, AlpnOffer::Http2).await;
        let secured = secured.map_err(|refused| failed(probe, &refused.failure.message))?;
        probe.samples.set(metric::GRPC_SSL, 1.0);
        Seen::of(&secured.session, &ready).write(&mut probe.samples);
        Stream::Tls(Box::new(secured.stream))
    } else {
        Stream::Plain(dialed.stream)
    };
    let mut connection =
        Connection::begin(stream, Protocol::Http2).await.map_err(|failure| failed(probe, &failure.message))?;
    let scheme = if grpc.tls { "https" } else { "http" };
    let shown = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let uri = format!("{scheme}://{shown}:{}/grpc.health.v1.Health/Check", address.port());
    let mut request = Request::new(Full::new(message(&grpc.service)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri.parse().map_err(|_| failed(probe, "the target is not a host"))?;
    for (name, value) in [
        (CONTENT_TYPE, "application/grpc"),
        (TE, "trailers"),
        (USER_AGENT, concat!("wachta/", env!("CARGO_PKG_VERSION"))),
    ] {
        request.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    let mut answer =
        connection.exchange(request).await.map_err(|unanswered| failed(probe, &unanswered.failure.message))?;
    let http = answer.head.status;
    let mut body = Vec::new();
    if let Err(failure) = answer.read(&mut body, LARGEST).await {
        probe.log.error("can't read the response", &[("err", &failure.message)]);
        return Err(INTERNAL);
    }
    // A response without a body carries its status in the headers.
    let status = answer.trailers.as_ref().and_then(grpc_status).or_else(|| grpc_status(&answer.head.headers));
    let status = status.unwrap_or_else(|| of_http(http.as_u16()));
    if status != OK {
        let said = HeaderName::from_static("grpc-message");
        let trailers = answer.trailers.as_ref().unwrap_or(&answer.head.headers);
        let said = trailers.get(said).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        probe
            .log
            .error("The server rejected the request", &[("code", &status), ("message", &said.unwrap_or_default())]);
        return Err(status);
    }
    let state = state(&body).ok_or(INTERNAL)?;
    Ok(Checked { status, state: Some(state) })
}

/// Returns the gRPC status for an HTTP status of a response that has no gRPC status.
fn of_http(code: u16) -> u16 {
    match code {
        400 => INTERNAL,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => UNAVAILABLE,
        _ => UNKNOWN,
    }
}

fn grpc_status(headers: &HeaderMap) -> Option<u16> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// Encodes a `HealthCheckRequest` (field 1 is the service), preceded by the gRPC header of five bytes.
fn message(service: &str) -> Bytes {
    let mut inner = Vec::with_capacity(service.len() + 8);
    if !service.is_empty() {
        inner.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            inner.push(u8::try_from(length & 0x7f).unwrap_or(0) | 0x80);
            length >>= 7;
        }
        inner.push(u8::try_from(length).unwrap_or(0));
        inner.extend_from_slice(service.as_bytes());
    }
    let mut framed = vec![0];
    framed.extend(u32::try_from(inner.len()).unwrap_or(u32::MAX).to_be_bytes());
    framed.extend(inner);
    Bytes::from(framed)
}

/// Decodes the state, field 1 of a `HealthCheckResponse`. A missing field counts as 0.
fn state(body: &[u8]) -> Option<usize> {
    let (head, rest) = body.split_at_checked(5)?;
    if head[0] != 0 {
        return None;
    }
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    match rest.get(..usize::try_from(length).ok()?)? {
        [] => Some(0),
        [0x08, number, ..] if usize::from(*number) < STATES.len() => Some(usize::from(*number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_those_of_the_protocol() {
        assert_eq!(&message("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&message("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        let long = message(&"x".repeat(200));
        assert_eq!(&long[..8], [0, 0, 0, 0, 203, 0x0a, 0xc8, 0x01]);
        for (body, expected) in [
            (&[0, 0, 0, 0, 0][..], Some(0)),
            (&[0, 0, 0, 0, 2, 8, 1], Some(1)),
            (&[0, 0, 0, 0, 2, 8, 2], Some(2)),
            (&[0, 0, 0, 0, 2, 8, 9], None),
            (&[0, 0, 0, 0, 3, 8, 1], None),
            (&[1, 0, 0, 0, 2, 8, 1], None),
            (&[0, 0], None),
        ] {
            assert_eq!(state(body), expected, "{body:?}");
        }
    }
}
