//! Shared parts of HTTP sinks: the creation of clients, and configurable headers.

use std::path::Path;
use std::sync::Arc;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use crate::bounded::credential::Credential;
use crate::scenario::reader::Reader;
use crate::scenario::tree::{Node, NodeKind};

/// Settings of an HTTP client.
#[derive(Debug, Clone, Copy, Default)]
pub struct HttpSettings<'a> {
    /// PEM file with root certificates trusted in addition to those of the system.
    pub roots: Option<&'a Path>,
    /// Whether only HTTP/2 is used, even without TLS, as gRPC requires.
    pub only_http2: bool,
}

/// Function that creates an HTTP client.
pub type HttpClient = Arc<dyn Fn(HttpSettings<'_>) -> Result<reqwest::Client, String> + Send + Sync>;

/// Names and values of headers.
pub type Headers = Vec<(String, Credential)>;

/// Reads `headers:`. A reserved header is an error.
pub(super) fn read_headers(r: &mut Reader, node: &Node, is_reserved: impl Fn(&HeaderName) -> bool) -> Headers {
    let mut headers = Vec::new();
    for entry in r.entries(node, "`headers`").unwrap_or_default() {
        match HeaderName::from_bytes(entry.key.as_bytes()) {
            Err(_) => r.fail(entry.key_span, format!("`{}` is not the name of a header", entry.key)),
            Ok(name) if is_reserved(&name) => {
                r.fail(entry.key_span, format!("`{name}` is the protocol's own header"));
            }
            Ok(_) => {
                // Short literal values, such as a tenant, are not secrets.
                let is_short = |node: &Node| node.scalar().is_some_and(|scalar| scalar.text.chars().count() < 4);
                let value = if !matches!(entry.value.kind, NodeKind::Map(_)) && is_short(&entry.value) {
                    r.text(&entry.value, &format!("`{}`", entry.key)).map(|text| Credential::text(text.value))
                } else {
                    Credential::from_config(r, &entry.value, &format!("`{}`", entry.key))
                };
                headers.extend(value.map(|value| (entry.key.clone(), value)));
            }
        }
    }
    headers
}

/// Returns the headers of a request. Credentials are read for each request, so that a renewed one takes effect at once.
///
/// # Errors
///
/// A credential cannot be read, or contains characters that are not permitted in a header.
pub(super) async fn header_map(headers: &Headers) -> Result<HeaderMap, String> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let bad = |_| format!("header `{name}`: {} is not valid in a header", value.place());
        let mut filled = HeaderValue::from_str(&value.read().await?).map_err(bad)?;
        filled.set_sensitive(true);
        map.insert(HeaderName::from_bytes(name.as_bytes()).map_err(|error| error.to_string())?, filled);
    }
    Ok(map)
}
