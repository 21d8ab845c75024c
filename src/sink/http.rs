//! What sinks that speak HTTP share: how their clients are made, and when a destination wants to be asked again.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

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

/// `Retry-After`: seconds, or a date (RFC 9110, 10.2.3).
pub fn retry_after(text: &str, now: DateTime<Utc>) -> Option<Duration> {
    let text = text.trim();
    match text.parse::<u64>() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => Some((DateTime::parse_from_rfc2822(text).ok()?.to_utc() - now).to_std().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now: DateTime<Utc> = "2026-11-22T12:00:00Z".parse().unwrap();
        let check = |text: &str, seconds: Option<u64>| {
            assert_eq!(retry_after(text, now), seconds.map(Duration::from_secs), "{text}");
        };
        check(" 30 ", Some(30));
        check("Sun, 22 Nov 2026 12:01:00 GMT", Some(60));
        check("Sun, 22 Nov 2026 11:00:00 GMT", Some(0));
        check("soon", None);
    }
}
