//! The gRPC health check (`grpc.health.v1.Health/Check`). Its messages, which have a single field, are encoded and
//! decoded by hand.

use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue, TE, USER_AGENT};
use hyper::{Request, StatusCode};

use super::Connection;
use crate::names::Reason;
use crate::outcome::Failure;

/// Maximum size of a response, in bytes.
const MAX_RESPONSE_BYTES: usize = 64 << 10;

/// Names of the service states, by number.
pub const STATES: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];

/// Names of the status codes, by number.
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

/// Status code of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code(pub u16);

impl Code {
    /// The call succeeded.
    pub const OK: Self = Self(0);
    /// The cause is not known.
    pub const UNKNOWN: Self = Self(2);
    /// The deadline expired before the call ended.
    pub const DEADLINE_EXCEEDED: Self = Self(4);
    /// The requested entity was not found.
    pub const NOT_FOUND: Self = Self(5);
    /// The server does not implement the method.
    pub const UNIMPLEMENTED: Self = Self(12);
    /// An internal error occurred.
    pub const INTERNAL: Self = Self(13);
    /// The server cannot be reached.
    pub const UNAVAILABLE: Self = Self(14);

    /// Returns the status code for an HTTP status of a response without a gRPC status, as in the gRPC specification.
    fn of_http(status: StatusCode) -> Self {
        match status.as_u16() {
            400 => Self::INTERNAL,
            401 => Self(16),
            403 => Self(7),
            404 => Self::UNIMPLEMENTED,
            429 | 502..=504 => Self::UNAVAILABLE,
            _ => Self::UNKNOWN,
        }
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match CODES.get(usize::from(self.0)) {
            Some(name) => f.write_str(name),
            None => self.0.fmt(f),
        }
    }
}

/// Response of a health service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthResponse {
    /// HTTP status.
    pub http_status: StatusCode,
    /// Status code as sent. `None` if the response has none.
    pub sent_code: Option<Code>,
    /// Message that accompanies the status code.
    pub message: String,
    /// Number of the service's state. `None` if the body is not a valid message.
    pub state: Option<usize>,
}

impl HealthResponse {
    /// Returns the status code: as sent, or else derived from the HTTP status.
    pub fn code(&self) -> Code {
        self.sent_code.unwrap_or_else(|| Code::of_http(self.http_status))
    }
}

/// Calls the health service on an HTTP/2 connection. An empty `service` stands for the whole server, and `authority` is
/// `host:port`. The server gets the timeout, but the caller must enforce it.
pub async fn check_health(
    connection: &mut Connection,
    is_secure: bool,
    authority: &str,
    service: &str,
    timeout: Duration,
) -> Result<HealthResponse, Failure> {
    let scheme = if is_secure { "https" } else { "http" };
    let mut request = Request::post(format!("{scheme}://{authority}/grpc.health.v1.Health/Check"))
        .body(Full::new(request_message(service)))
        .map_err(|error| Failure::new(Reason::Configuration, format!("`{authority}` is not an address: {error}")))?;
    let millis = format!("{}m", timeout.as_millis().clamp(1, 99_999_999));
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert("grpc-timeout", HeaderValue::from_str(&millis).expect("it consists of digits and a letter"));
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("wachta/", env!("CARGO_PKG_VERSION"))));
    let mut answer = connection.exchange(request).await.map_err(|unanswered| unanswered.failure)?;
    let mut body = Vec::new();
    answer.read(&mut body, MAX_RESPONSE_BYTES).await?;
    // A server that fails at once sends its status in the headers.
    let head = &answer.head;
    let of_trailers = answer.trailers.as_ref().filter(|trailers| trailers.contains_key("grpc-status"));
    let fields = of_trailers.unwrap_or(&head.headers);
    Ok(HealthResponse {
        http_status: head.status,
        sent_code: sent_code(fields),
        message: message(fields),
        state: state(&body),
    })
}

fn sent_code(headers: &HeaderMap) -> Option<Code> {
    let sent = headers.get("grpc-status")?;
    Some(sent.to_str().ok().and_then(|code| code.parse().ok()).map_or(Code::UNKNOWN, Code))
}

fn message(headers: &HeaderMap) -> String {
    let encoded = headers.get("grpc-message").map(|value| String::from_utf8_lossy(value.as_bytes()));
    let encoded = encoded.unwrap_or_default();
    percent_encoding::percent_decode_str(&encoded).decode_utf8_lossy().into_owned()
}

/// Encodes a `HealthCheckRequest` (field 1 is the service), preceded by the gRPC header of five bytes.
fn request_message(service: &str) -> Bytes {
    let mut inner = Vec::with_capacity(service.len() + 8);
    if !service.is_empty() {
        inner.push(0x0a);
        let mut length = service.len();
        while length > 0x7f {
            inner.push(length.to_le_bytes()[0] | 0x80);
            length >>= 7;
        }
        inner.push(length.to_le_bytes()[0]);
        inner.extend_from_slice(service.as_bytes());
    }
    let mut framed = Vec::with_capacity(inner.len() + 5);
    framed.push(0);
    framed.extend_from_slice(&u32::try_from(inner.len()).unwrap_or(u32::MAX).to_be_bytes());
    framed.extend_from_slice(&inner);
    framed.into()
}

/// Decodes the state, field 1 of a `HealthCheckResponse`. A missing field counts as 0.
fn state(body: &[u8]) -> Option<usize> {
    let (&[compressed, a, b, c, d], rest) = body.split_first_chunk()?;
    if compressed != 0 {
        return None;
    }
    match rest.get(..usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?)? {
        [] => Some(0),
        [0x08, number, ..] if *number < 0x80 => Some(usize::from(*number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_those_of_the_protocol() {
        assert_eq!(&request_message("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&request_message("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        let long = request_message(&"x".repeat(200));
        assert_eq!(&long[..8], [0, 0, 0, 0, 203, 0x0a, 0xc8, 0x01]);
        for (body, expected) in [
            (&[0, 0, 0, 0, 0][..], Some(0)),
            (&[0, 0, 0, 0, 2, 8, 1], Some(1)),
            (&[0, 0, 0, 0, 2, 8, 2], Some(2)),
            (&[0, 0, 0, 0, 2, 8, 9], Some(9)),
            (&[0, 0, 0, 0, 2, 8, 0xff], None),
            (&[0, 0, 0, 0, 3, 8, 1], None),
            (&[1, 0, 0, 0, 2, 8, 1], None),
            (&[0, 0], None),
        ] {
            assert_eq!(state(body), expected, "{body:?}");
        }
    }

    #[test]
    fn codes_are_sent_or_derived_from_the_http_status() {
        let check = |http: u16, sent: Option<&str>, expected: (u16, &str)| {
            let mut headers = HeaderMap::new();
            headers.extend(
                sent.map(|sent| (hyper::header::HeaderName::from_static("grpc-status"), sent.parse().unwrap())),
            );
            let response = HealthResponse {
                http_status: StatusCode::from_u16(http).unwrap(),
                sent_code: sent_code(&headers),
                message: String::new(),
                state: None,
            };
            let code = response.code();
            assert_eq!((code.0, code.to_string().as_str()), expected, "{http} {sent:?}");
        };
        check(200, Some("0"), (0, "OK"));
        check(200, Some("99"), (99, "99"));
        check(200, Some("x"), (2, "UNKNOWN"));
        check(503, Some("5"), (5, "NOT_FOUND"));
        check(200, None, (2, "UNKNOWN"));
        check(404, None, (12, "UNIMPLEMENTED"));
        check(503, None, (14, "UNAVAILABLE"));
    }
}
