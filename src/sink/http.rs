//! What sinks that speak HTTP share: how their clients are made.

use std::path::Path;
use std::sync::Arc;

/// What an HTTP client is to be like.
#[derive(Debug, Clone, Copy, Default)]
pub struct HttpSettings<'a> {
    /// A PEM file with roots that are trusted besides the system's.
    pub roots: Option<&'a Path>,
    /// Whether HTTP/2 alone is spoken, without TLS as well, as gRPC needs it.
    pub only_http2: bool,
}

/// Makes an HTTP client.
pub type HttpClient = Arc<dyn Fn(HttpSettings<'_>) -> Result<reqwest::Client, String> + Send + Sync>;
