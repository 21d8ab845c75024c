//! Values of `Authorization` headers.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::header::HeaderValue;
use percent_encoding::percent_decode_str;
use url::Url;

use crate::names::Reason;
use crate::outcome::Failure;

/// Returns the `Authorization` value for a token.
pub fn bearer(token: &str) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| Failure::new(Reason::Configuration, "the token is not valid in a header"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Returns the `Authorization` value for a user and password (RFC 7617).
pub fn basic(user: &str, password: &str) -> Result<HeaderValue, Failure> {
    if user.contains(':') {
        return Err(Failure::new(Reason::Configuration, "`basic_auth`: there cannot be a `:` in the user's name"));
    }
    let encoded = BASE64_STANDARD.encode(format!("{user}:{password}"));
    let mut value = HeaderValue::from_str(&format!("Basic {encoded}")).expect("base64 is visible ASCII");
    value.set_sensitive(true);
    Ok(value)
}

/// Returns the `Authorization` value for the user and password in a URL, if there are any.
pub fn of_url(url: &Url) -> Result<Option<HeaderValue>, Failure> {
    if url.username().is_empty() && url.password().is_none() {
        return Ok(None);
    }
    let plain = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    basic(&plain(url.username()), &plain(url.password().unwrap_or_default())).map(Some)
}

/// Removes user and password from a URL and returns the `Authorization` value for them.
pub fn take_login(url: &mut Url) -> Result<Option<HeaderValue>, Failure> {
    let value = of_url(url)?;
    // These calls fail only without a host, and then there is no user either.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    Ok(value)
}
