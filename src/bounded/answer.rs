//! Bounded reading of HTTP response bodies, `Retry-After` headers, and root causes of HTTP client errors.

use std::time::Duration;

use chrono::{DateTime, Utc};
use rustls::pki_types::UnixTime;

/// Body as far as it was read.
#[derive(Debug)]
pub struct Body {
    /// Bytes of the body, at most as many as the caller allows.
    pub bytes: Vec<u8>,
    /// Cause of the end.
    pub end: End,
}

/// Cause of the end of a body.
#[derive(Debug)]
pub enum End {
    /// The body is complete.
    Whole,
    /// The limit was reached.
    Cut,
    /// The connection was closed in the middle of the body.
    Broken(reqwest::Error),
}

/// Reads the body of a response, at most `max_bytes` of it.
pub async fn body(answer: &mut reqwest::Response, max_bytes: usize) -> Body {
    let mut bytes = Vec::new();
    let end = loop {
        match answer.chunk().await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            Ok(None) => break End::Whole,
            Err(error) => break End::Broken(error),
        }
        if bytes.len() > max_bytes {
            bytes.truncate(max_bytes);
            break End::Cut;
        }
    };
    Body { bytes, end }
}

/// Returns the innermost cause of an error, because the outer ones only report that a request failed. For a
/// certificate, the text contains the reason of its rejection.
pub fn root(error: &(dyn std::error::Error + 'static)) -> String {
    if let Some(rustls::Error::InvalidCertificate(problem)) = rustls_error(error) {
        return format!("the certificate is not trusted: {}", certificate_problem(problem));
    }
    let mut last = error.to_string();
    let mut next = error.source();
    while let Some(inner) = next {
        last = inner.to_string();
        next = inner.source();
    }
    last
}

/// Describes the reason for rejecting a certificate.
pub fn certificate_problem(problem: &rustls::CertificateError) -> String {
    use rustls::CertificateError as E;
    match problem {
        E::Expired => "it has expired".into(),
        E::ExpiredContext { time, not_after } => format!("it expired {}", since(*not_after, *time)),
        E::NotValidYet => "it is not valid yet".into(),
        E::NotValidYetContext { not_before, .. } => format!("it is not valid before {}", date(*not_before)),
        E::UnknownIssuer => "its issuer is not trusted".into(),
        E::NotValidForName => "it is for another name".into(),
        E::NotValidForNameContext { expected, presented } => {
            format!("it is {}, not for `{}`", names(presented), expected.to_str())
        }
        E::Revoked => "it was revoked".into(),
        E::BadSignature => "it is not signed by the trusted CA: the trusted CA of the same name has another key".into(),
        E::BadEncoding => "it cannot be read".into(),
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => "it is not for a server".into(),
        other => other.to_string(),
    }
}

/// Maximum number of names of a certificate in a message.
const SHOWN_NAMES: usize = 5;

/// Formats the names that a certificate is for, as rustls lists them: `DnsName("a.example")`.
fn names(presented: &[String]) -> String {
    let plain = |name: &String| match name.split_once('(') {
        Some((_, inner)) => inner.trim_end_matches(')').trim_matches('"').to_owned(),
        None => name.clone(),
    };
    let shown: Vec<String> = presented.iter().take(SHOWN_NAMES).map(|name| format!("`{}`", plain(name))).collect();
    match (shown.is_empty(), presented.len().saturating_sub(SHOWN_NAMES)) {
        (true, _) => "for no name".to_owned(),
        (false, 0) => format!("for {}", shown.join(", ")),
        (false, more) => format!("for {} and {more} more", shown.join(", ")),
    }
}

/// Formats the expiry of a certificate: `3 days ago (2026-11-27 08:00:00 UTC)`.
fn since(at: UnixTime, now: UnixTime) -> String {
    let seconds = now.as_secs().saturating_sub(at.as_secs());
    let (count, unit) = match seconds {
        0..60 => (seconds, "second"),
        60..3600 => (seconds / 60, "minute"),
        3600..86_400 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{count} {unit}{} ago ({})", if count == 1 { "" } else { "s" }, date(at))
}

fn date(at: UnixTime) -> String {
    let at = i64::try_from(at.as_secs()).ok().and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    at.map_or_else(|| "an unknown date".to_owned(), |at| at.format("%F %T UTC").to_string())
}

/// Returns the rustls error in a chain of errors, if there is one.
pub fn rustls_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        // `source` of an `io::Error` does not return the error that it wraps.
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(found) = inner.and_then(|inner| rustls_error(inner)) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// Parses the value of `Retry-After`: seconds, or a date (RFC 9110, 10.2.3). The result is not limited.
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
        check("0", Some(0));
        check("18446744073709551615", Some(u64::MAX));
        check("Sun, 22 Nov 2026 12:01:00 GMT", Some(60));
        check("Sun, 22 Nov 2026 11:00:00 GMT", Some(0));
        check("soon", None);
        check("-1", None);
    }
}
