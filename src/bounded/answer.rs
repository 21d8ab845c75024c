//! Bounded reading of HTTP response bodies, `Retry-After` headers, and root causes of HTTP client errors.

use std::time::Duration;

use chrono::{DateTime, Utc};

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
        E::Expired | E::ExpiredContext { .. } => "it has expired".into(),
        E::NotValidYet | E::NotValidYetContext { .. } => "it is not valid yet".into(),
        E::UnknownIssuer => "its issuer is not trusted".into(),
        E::NotValidForName | E::NotValidForNameContext { .. } => "it is for another name".into(),
        E::Revoked => "it was revoked".into(),
        E::BadSignature => "it is not signed by the trusted CA: the trusted CA of the same name has another key".into(),
        E::BadEncoding => "it cannot be read".into(),
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => "it is not for a server".into(),
        other => other.to_string(),
    }
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
