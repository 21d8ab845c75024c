//! HTTP responses and their representation for users.

use std::time::Duration;

use hyper::header::HeaderMap;
use url::Url;

use crate::outcome::{Failure, Hop};
use crate::secret::Masker;
use crate::values::text;
use crate::wire::encoding;

/// Maximum size of a response body, both encoded and decoded.
pub(super) const LARGEST_BODY: usize = 10 << 20;
/// Maximum size of a body that is stored as evidence, in bytes.
const EVIDENCE_BODY: usize = 64 << 10;
/// Headers that may contain session data; evidence contains only their names.
const PRIVATE_HEADERS: [&str; 4] = ["set-cookie", "cookie", "authorization", "proxy-authorization"];

/// An HTTP response.
pub(super) struct HttpResponse {
    pub(super) method: String,
    pub(super) url: Url,
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    /// Body as received, decoded only for the last response.
    pub(super) body: Vec<u8>,
    /// Time from sending to the last byte, including redirects.
    pub(super) took: Duration,
}

impl HttpResponse {
    /// Decodes the body up to a maximum size.
    pub(super) fn decode(&mut self, limit: usize) -> Result<(), Failure> {
        encoding::decode(&self.headers, &mut self.body, limit)
    }

    /// Returns the body as text, decoded with its character encoding.
    pub(super) fn text(&self) -> String {
        text::decode(&self.body, self.header("content-type").as_deref()).into_owned()
    }

    /// Returns a header. Several headers of the same name are joined.
    pub(super) fn header(&self, name: &str) -> Option<String> {
        let all: Vec<_> =
            self.headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        if all.is_empty() { None } else { Some(all.join(", ")) }
    }
}

/// Formats the hops, one per line, and the head and the start of the body of the last response. Returns `None` if
/// nothing was sent.
pub(super) fn evidence(trail: &[Hop], last: Option<&HttpResponse>, masker: &Masker) -> Option<Vec<u8>> {
    if trail.is_empty() {
        return None;
    }
    let mut text: String = trail.iter().map(line).collect();
    let Some(answer) = last else { return Some(text.into_bytes()) };
    text.push_str(&format!("\nHTTP {}\n", answer.status));
    for (name, value) in &answer.headers {
        let value = if PRIVATE_HEADERS.contains(&name.as_str()) {
            "***".into()
        } else {
            String::from_utf8_lossy(value.as_bytes())
        };
        text.push_str(&format!("{name}: {value}\n"));
    }
    text.push('\n');
    let mut bytes = text.into_bytes();
    // The body is truncated after masking, so that no part of a secret remains.
    bytes.extend_from_slice(masker.masked_bytes(answer.body.clone()).truncated(EVIDENCE_BODY).as_bytes());
    Some(bytes)
}

/// Formats a hop: `GET http://… 302 from 10.0.0.1:80, HTTP/1.1: resolve 1.2ms, connect …`
fn line(hop: &Hop) -> String {
    let mut line = format!("{} {}", hop.method, hop.url);
    match hop.status {
        Some(status) => line.push_str(&format!(" {status}")),
        None => line.push_str(" no response"),
    }
    if let Some(address) = hop.address {
        line.push_str(&format!(" from {address}"));
    }
    if let Some(version) = &hop.http_version {
        line.push_str(&format!(", HTTP/{version}"));
    }
    let phases = hop.phases.named().into_iter().filter_map(|(name, took)| Some((name, took?)));
    let phases: Vec<_> = phases.map(|(name, took)| format!("{name} {:.1}ms", took.as_secs_f64() * 1e3)).collect();
    line.push_str(&format!(": {}", phases.join(", ")));
    if !hop.withheld.is_empty() {
        line.push_str(&format!("; not sent to this origin, because it is secret: {}", hop.withheld.join(", ")));
    }
    line.push('\n');
    line
}
