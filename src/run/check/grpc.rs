//! A gRPC health check: one call of `grpc.health.v1.Health/Check` over HTTP/2. Each message has a single field, so
//! messages are encoded and decoded by hand.

use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderMap;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::context::{CheckContext, configuration, faster_than};
use crate::names::Reason;
use crate::outcome::Failure;
use crate::scenario::check::grpc::{GrpcCheck, address};
use crate::values::expect::cut;
use crate::wire::{AlpnOffer, Route, of_io};

/// Maximum size of a response of the health service, in bytes.
const LARGEST: usize = 4 << 10;

/// Names of the service states, by number.
const STATES: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];

/// Names of the gRPC status codes, by number.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Runs the check.
pub async fn check(check: &GrpcCheck, around: &CheckContext<'_>) -> Result<(), Failure> {
    let (state, took) = around.bounded(call(check, around)).await?;
    if state != "SERVING" {
        return Err(Failure::new(Reason::Assertion, "service is not SERVING").compared("SERVING", state));
    }
    faster_than(check.faster_than.as_ref(), took)
}

/// Calls the health service and returns the state of the service.
async fn call(check: &GrpcCheck, around: &CheckContext<'_>) -> Result<String, Failure> {
    let text = around.values.fill(&check.address)?;
    let bad = |problem: String| configuration("`grpc`", &check.address, &problem);
    let (host, port, tls) = address(&text).map_err(bad)?;
    let service = match &check.service {
        Some(service) => around.values.fill(service)?,
        None => String::new(),
    };
    let config = match (&check.trust, tls) {
        (Some(trust), _) => Some(around.tools.tls.config(trust, |path| around.values.file(path))?),
        (None, true) => Some(around.tools.tls.client_config()),
        (None, false) => None,
    };
    let scheme = if config.is_some() { "https" } else { "http" };
    let route = Route::to(&host, port).with_tls(config, AlpnOffer::Http2);
    let stream = around.open(&route).await.map_err(|refused| refused.failure)?.stream;
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .map_err(|error| protocol(&error))?;
    let shown = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let request = Request::post(format!("{scheme}://{shown}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", format!("{}m", around.timeout.as_millis().clamp(1, 99_999_999)))
        .header("user-agent", concat!("wachta/", env!("CARGO_PKG_VERSION")))
        .body(Full::new(Bytes::from(message(&service))))
        .map_err(|error| bad(error.to_string()))?;
    let answer = async {
        let answer = sender.send_request(request).await.map_err(|error| protocol(&error))?;
        read(answer).await
    };
    tokio::pin!(answer);
    // The connection is driven only while the response is awaited, so no task is left behind. Once the connection has
    // ended, either the response or the error has arrived.
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        _ = connection => answer.await,
    }
}

/// Encodes a `HealthCheckRequest` in a gRPC frame.
fn message(service: &str) -> Vec<u8> {
    let mut body = Vec::new();
    if !service.is_empty() {
        body.push(0x0a);
        let mut length = service.len();
        while length > 0x7f {
            body.push(length.to_le_bytes()[0] | 0x80);
            length >>= 7;
        }
        body.push(length.to_le_bytes()[0]);
        body.extend_from_slice(service.as_bytes());
    }
    let mut frame = vec![0];
    frame.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes());
    frame.extend_from_slice(&body);
    frame
}

async fn read(answer: hyper::Response<Incoming>) -> Result<String, Failure> {
    let (head, mut body) = answer.into_parts();
    if head.status != 200 {
        return Err(Failure::new(Reason::Status, "not a gRPC response").compared("status 200", head.status.as_str()));
    }
    // A server that fails at once sends its status in the response head.
    status(&head.headers)?;
    let mut message = Vec::new();
    let mut ended = head.headers.contains_key("grpc-status");
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| protocol(&error))?;
        match frame.into_data() {
            Ok(data) => message.extend_from_slice(&data),
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                status(&trailers)?;
                ended |= trailers.contains_key("grpc-status");
            }
        }
        if message.len() > LARGEST {
            return Err(Failure::new(Reason::TooLarge, "the response is too large for a health status"));
        }
    }
    if !ended {
        return Err(Failure::new(Reason::Protocol, "the response has no grpc-status"));
    }
    state(&message).ok_or_else(|| Failure::new(Reason::Protocol, "the response is not a HealthCheckResponse"))
}

/// Decodes the state from a frame with a `HealthCheckResponse`. An omitted field counts as 0.
fn state(frame: &[u8]) -> Option<String> {
    let (&[compressed, a, b, c, d], body) = frame.split_first_chunk()?;
    if compressed != 0 || u32::from_be_bytes([a, b, c, d]) as usize != body.len() {
        return None;
    }
    let number = match body {
        [] => 0,
        [0x08, number] if *number < 0x80 => usize::from(*number),
        _ => return None,
    };
    Some(STATES.get(number).map_or_else(|| number.to_string(), |name| (*name).to_owned()))
}

fn status(headers: &HeaderMap) -> Result<(), Failure> {
    let Some(code) = headers.get("grpc-status").and_then(|value| value.to_str().ok()) else { return Ok(()) };
    if code == "0" {
        return Ok(());
    }
    let name = code.parse::<usize>().ok().and_then(|code| CODES.get(code)).copied().unwrap_or(code);
    let told = headers.get("grpc-message").map(|value| String::from_utf8_lossy(value.as_bytes()));
    let told = told.map(|text| percent_encoding::percent_decode_str(&text).decode_utf8_lossy().into_owned());
    let message = match name {
        "NOT_FOUND" => "unknown service",
        "UNIMPLEMENTED" => "the server has no health service",
        _ => "the health service returned an error",
    };
    let seen = told.filter(|told| !told.is_empty()).map(|told| format!("{name}: {}", cut(&told, 200)));
    Err(Failure::new(Reason::Status, message).compared("OK", seen.unwrap_or_else(|| name.to_owned())))
}

fn protocol(error: &hyper::Error) -> Failure {
    let mut text = error.to_string();
    if let Some(cause) = std::error::Error::source(error) {
        text.push_str(&format!(": {cause}"));
    }
    of_io(error, Reason::Protocol, format!("HTTP/2 error: {text}"))
}
