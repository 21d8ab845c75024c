//! Targets of redirects (RFC 9110, section 15.4), and the headers that are not sent there.

use hyper::Method;
use hyper::body::Bytes;
use hyper::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_TYPE, COOKIE, HOST,
    HeaderMap, HeaderValue, LOCATION,
};

use super::hop::HopRequest;
use crate::names::Reason;
use crate::outcome::Failure;
use crate::values::Values;

/// Returns whether a response is a redirect with a target.
pub(super) fn leads_on(status: u16, headers: &HeaderMap) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308) && headers.contains_key(LOCATION)
}

/// Returns the request that follows a redirect, or `None` if the response is not one. Secrets are not sent to another
/// origin.
pub(super) fn next(
    ask: &HopRequest,
    status: u16,
    headers: &HeaderMap,
    values: &Values,
) -> Result<Option<HopRequest>, Failure> {
    if !leads_on(status, headers) {
        return Ok(None);
    }
    let location = headers.get(LOCATION).map(|value| String::from_utf8_lossy(value.as_bytes())).unwrap_or_default();
    let nowhere = |why: &dyn std::fmt::Display| {
        let shown: String = location.chars().take(200).collect();
        Failure::new(Reason::Protocol, format!("the redirect to `{shown}` is invalid: {why}"))
    };
    let mut url = ask.url.join(&location).map_err(|error| nowhere(&error))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(nowhere(&format_args!("`{}://` is not HTTP", url.scheme())));
    }
    if !url.username().is_empty() || url.password().is_some() {
        // A page must not choose the credentials of the next request.
        let _ = url.set_username("");
        let _ = url.set_password(None);
    }
    url.set_fragment(None);
    let mut next = ask.clone();
    let becomes_get = match status {
        303 => ask.method != Method::HEAD,
        301 | 302 => ask.method == Method::POST,
        _ => false,
    };
    if becomes_get {
        next.method = Method::GET;
        next.body = Bytes::new();
        for name in [CONTENT_TYPE, CONTENT_LENGTH, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LOCATION] {
            next.headers.remove(name);
        }
    }
    if url.origin() != ask.url.origin() {
        next.headers.remove(HOST);
        for name in [AUTHORIZATION, COOKIE] {
            if next.headers.remove(&name).is_some() {
                next.withheld.push(format!("`{name}`"));
            }
        }
        let masker = values.masker();
        let is_secret = |value: &hyper::header::HeaderValue| {
            value.is_sensitive() || value.to_str().is_ok_and(|text| masker.is_secret(text))
        };
        let secret: Vec<_> =
            next.headers.iter().filter(|(_, value)| is_secret(value)).map(|(name, _)| name.clone()).collect();
        for name in secret {
            if next.headers.remove(&name).is_some() {
                next.withheld.push(format!("`{name}`"));
            }
        }
        if !next.body.is_empty() && masker.is_secret_in(&next.body) {
            next.body = Bytes::new();
            for name in [CONTENT_TYPE, CONTENT_LENGTH, CONTENT_ENCODING] {
                next.headers.remove(name);
            }
            next.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
            next.withheld.push("the body".to_owned());
        }
    }
    next.url = url;
    Ok(Some(next))
}
