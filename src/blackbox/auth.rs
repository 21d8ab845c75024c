//! Values of the `Authorization` header, and tokens for them.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use base64::Engine as _;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request};
use serde::Deserialize;
use url::Url;
use url::form_urlencoded::{Serializer, byte_serialize};

use super::module::{Authorization, Oauth2, Tls};
use super::probe::{Probe, ProbeAborted};
use super::tls::Prepared;
use crate::wire::{AlpnOffer, Connection, DialOptions, Protocol, Stream, secure, server_name};

/// Maximum size of a token response, in bytes.
const LARGEST_ANSWER: usize = 1 << 20;
/// Time before its expiry at which a token is no longer used.
const MARGIN: Duration = Duration::from_secs(10);

/// Returns the value of `Authorization` for a request to a URL, or `None` without credentials.
pub(super) async fn authorization(
    probe: &mut Probe<'_>,
    wanted: Option<&Authorization>,
    url: &Url,
) -> Result<Option<String>, ProbeAborted> {
    match wanted {
        None => Ok(of_url(url)),
        Some(Authorization::Basic { username, password }) => {
            let username = username.as_ref().map(|hidden| probe.reveal(hidden)).transpose()?.unwrap_or_default();
            let password = password.as_ref().map(|hidden| probe.reveal(hidden)).transpose()?.unwrap_or_default();
            Ok(Some(basic(&username, &password)))
        }
        Some(Authorization::Token { kind, credentials }) => {
            let credentials = credentials.as_ref().map(|hidden| probe.reveal(hidden)).transpose()?.unwrap_or_default();
            Ok(Some(format!("{kind} {credentials}")))
        }
        Some(Authorization::Oauth2(oauth2)) => token(probe, oauth2).await.map(Some),
    }
}

/// Returns the credentials contained in a URL.
pub(super) fn of_url(url: &Url) -> Option<String> {
    let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    let (user, password) = (url.username(), url.password());
    (!user.is_empty() || password.is_some()).then(|| basic(&decoded(user), &decoded(password.unwrap_or_default())))
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

/// Token response (RFC 6749 section 5.1).
#[derive(Deserialize)]
struct Granted {
    access_token: String,
    token_type: Option<String>,
    expires_in: Option<f64>,
}

async fn token(probe: &mut Probe<'_>, oauth2: &Oauth2) -> Result<String, ProbeAborted> {
    let module = probe.module;
    let kept = module.token.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some((value, until)) = kept.filter(|(_, until)| Instant::now() < *until) {
        let _ = until;
        return Ok(value);
    }
    let granted = match ask(probe, oauth2).await {
        Ok(granted) => granted,
        Err(why) => return Err(probe.stop("Error getting a token", &[("err", &why)])),
    };
    module.masker.add(&granted.access_token);
    let kind = granted.token_type.unwrap_or_default();
    let kind = if kind.is_empty() || kind.eq_ignore_ascii_case("bearer") { "Bearer".to_owned() } else { kind };
    let value = format!("{kind} {}", granted.access_token);
    // A token is used for at most a day. One without a lifetime is requested for every probe.
    let lasts = granted.expires_in.unwrap_or(0.0).clamp(0.0, 86_400.0);
    let until = Instant::now() + Duration::from_secs_f64(lasts).saturating_sub(MARGIN);
    *module.token.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((value.clone(), until));
    Ok(value)
}

/// Returns the body of the token request.
fn form(oauth2: &Oauth2) -> String {
    let mut form = Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials");
    if !oauth2.scopes.is_empty() {
        form.append_pair("scope", &oauth2.scopes.join(" "));
    }
    for (name, value) in &oauth2.endpoint_params {
        form.append_pair(name, value.expose());
    }
    form.finish()
}

async fn ask(probe: &mut Probe<'_>, oauth2: &Oauth2) -> Result<Granted, String> {
    let form = form(oauth2);
    let unreadable = |ProbeAborted| "cannot read the client secret".to_owned();
    let secret = oauth2.client_secret.as_ref().map(|hidden| probe.reveal(hidden)).transpose().map_err(unreadable)?;
    let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
    // Section 2.3.1: both parts are form-encoded.
    let credentials = basic(&encoded(&oauth2.client_id), &encoded(&secret.unwrap_or_default()));

    let url = &oauth2.token_url;
    let (host, port) = (url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or(443));
    let dialed = probe.dialer.dial(host, port, &DialOptions::default()).await.map_err(|failure| failure.message)?;
    let stream = if url.scheme() == "https" {
        let ready = Prepared::default().get(&Tls::default(), &probe.module.folder, &probe.files, probe.authorities)?;
        let name = server_name(host).map_err(|failure| failure.message)?;
        let secured = secure(dialed.stream, ready.config.clone(), name, AlpnOffer::Http1).await;
        Stream::Tls(Box::new(secured.map_err(|refused| refused.failure.message)?.stream))
    } else {
        Stream::Plain(dialed.stream)
    };
    let mut connection = Connection::begin(stream, Protocol::Http1).await.map_err(|failure| failure.message)?;
    let header = |value: &str| HeaderValue::try_from(value).map_err(|error| error.to_string());
    let named = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let mut request = Request::new(Full::new(Bytes::from(form)));
    *request.method_mut() = Method::POST;
    let path = &url[url::Position::BeforePath..url::Position::AfterQuery];
    *request.uri_mut() = path.parse().map_err(|error| format!("`token_url`: {error}"))?;
    for (name, value) in [
        (HOST, named.as_str()),
        (CONTENT_TYPE, "application/x-www-form-urlencoded"),
        (ACCEPT, "application/json"),
        (AUTHORIZATION, credentials.as_str()),
    ] {
        request.headers_mut().insert(name, header(value)?);
    }
    let mut answer = connection.exchange(request).await.map_err(|unanswered| unanswered.failure.message)?;
    let status = answer.head.status;
    let mut text = Vec::new();
    answer.read(&mut text, LARGEST_ANSWER).await.map_err(|failure| failure.message)?;
    if !status.is_success() {
        return Err(format!("{host} returned status {}", status.as_u16()));
    }
    serde_json::from_slice(&text).map_err(|error| format!("{host} returned no token: {error}"))
}
