//! Check of every request before it is routed.
//!
//! The agent is protected against web pages open in a user's browser by headers that browsers send and that no page can
//! change: the host name used and the origin of the request. Other programs send none of these headers except `Host`,
//! and their requests are accepted. Users are checked afterwards ([`super::security`]).

use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use axum::http::{HeaderMap, Method, StatusCode, Uri, Version, header};
use sha2::{Digest as _, Sha256};

use super::Config;
use crate::names::path;
use crate::notify::credential::Credential;

/// Maximum length of the path and query of a request, in bytes.
const MAX_TARGET_BYTES: usize = 16 << 10;

/// Criteria for requests. Clones share them; a reload replaces them.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    settings: Arc<RwLock<Settings>>,
}

#[derive(Debug, Default)]
struct Settings {
    /// Host names of this agent, in lower case and without ports.
    names: Vec<String>,
    /// Origin of `web.external_url`.
    origin: Option<String>,
    beat_token: Option<Credential>,
}

/// Rejection of a request: a status and a message of one line.
pub type Refusal = (StatusCode, String);

impl Guard {
    /// Applies the agent configuration.
    pub fn load(&self, config: &Config) {
        let mut names = vec!["localhost".to_owned()];
        names.extend(config.hosts.iter().map(|name| name.to_ascii_lowercase()));
        names.extend(config.external_url.as_ref().and_then(|url| url.host_str()).map(str::to_ascii_lowercase));
        // The host name of this machine cannot be assigned by an attacker.
        let own = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        names.extend(Some(own.trim().to_ascii_lowercase()).filter(|name| !name.is_empty()));
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Settings {
            names,
            origin: config.external_url.as_ref().map(|url| url.origin().ascii_serialization()),
            beat_token: config.beat_token.clone(),
        };
    }

    /// Checks whether a request may be processed.
    pub fn check(&self, method: &Method, uri: &Uri, version: Version, headers: &HeaderMap) -> Result<(), Refusal> {
        if uri.path_and_query().is_some_and(|target| target.as_str().len() > MAX_TARGET_BYTES) {
            return Err((StatusCode::URI_TOO_LONG, format!("the path is longer than {} KiB", MAX_TARGET_BYTES >> 10)));
        }
        let settings = self.settings.read().unwrap_or_else(PoisonError::into_inner);
        let host = settings.host(uri, version, headers)?;
        let is_beat = uri.path().starts_with(path::BEAT);
        if is_beat || !matches!(*method, Method::GET | Method::HEAD) {
            settings.origin_is_ours(host, headers)?;
        }
        if is_beat {
            // Over plain HTTP to a host name, browsers do not send the origin of a request.
            let is_browser = headers.contains_key(header::ACCEPT_LANGUAGE) && !headers.contains_key("sec-fetch-site");
            if is_browser && matches!(*method, Method::GET | Method::HEAD) && !headers.contains_key(header::ORIGIN) {
                return Err((StatusCode::FORBIDDEN, "requests from web pages are not allowed".into()));
            }
        }
        Ok(())
    }

    /// Checks the token of a check-in: `Authorization: Bearer TOKEN`, or `?token=TOKEN`. Returns `None` if no token is
    /// configured.
    pub async fn check_beat_token(&self, uri: &Uri, headers: &HeaderMap) -> Option<Result<(), Refusal>> {
        let credential = self.settings.read().unwrap_or_else(PoisonError::into_inner).beat_token.clone()?;
        let wanted = match credential.read().await {
            Ok(wanted) => wanted,
            Err(error) => {
                tracing::error!(error, "`web.beat_token` cannot be read");
                return Some(Err((StatusCode::SERVICE_UNAVAILABLE, "the token cannot be checked".to_owned())));
            }
        };
        let in_header = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let in_header = in_header
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let query = uri.query().unwrap_or_default();
        let in_query = url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "token");
        let given =
            in_header.map(|(_, token)| token.trim().to_owned()).or(in_query.map(|(_, token)| token.into_owned()));
        // Digests are compared, so that the duration does not reveal anything about the token.
        let digest = |token: &str| Sha256::digest(token.as_bytes());
        Some(match given {
            Some(given) if digest(&given) == digest(&wanted) => Ok(()),
            _ => Err((StatusCode::UNAUTHORIZED, "the token of `web.beat_token` is missing or wrong".into())),
        })
    }
}

impl Settings {
    /// Returns the host of a request as written in it.
    fn host<'a>(&self, uri: &'a Uri, version: Version, headers: &'a HeaderMap) -> Result<Option<&'a str>, Refusal> {
        let bad = |text: &str| Err((StatusCode::BAD_REQUEST, text.to_owned()));
        let mut named = headers.get_all(header::HOST).iter();
        let host = match (named.next(), named.next()) {
            (Some(_), Some(_)) => return bad("more than one Host header"),
            (Some(host), None) => match host.to_str() {
                Ok(host) => Some(host),
                Err(_) => return bad("the Host header is not a valid name"),
            },
            (None, _) if version >= Version::HTTP_11 && uri.host().is_none() => {
                return bad("the Host header is missing");
            }
            (None, _) => None,
        };
        for name in [host, uri.authority().map(axum::http::uri::Authority::as_str)].into_iter().flatten() {
            if !self.is_own_name(name) {
                let shown: String = name.chars().filter(|c| !c.is_control()).take(100).collect();
                let text = format!("`{shown}` is not a host name of this agent; add it to `web.hosts` to allow it");
                return Err((StatusCode::MISDIRECTED_REQUEST, text));
            }
        }
        Ok(host.or(uri.authority().map(axum::http::uri::Authority::as_str)))
    }

    /// Returns whether a host name, with or without a port, belongs to this agent. Addresses always do, because only a
    /// name can be pointed at this agent by an attacker.
    fn is_own_name(&self, host: &str) -> bool {
        let Some(name) = without_port(host) else { return false };
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok() || self.names.contains(&name)
    }

    fn origin_is_ours(&self, host: Option<&str>, headers: &HeaderMap) -> Result<(), Refusal> {
        let foreign = || Err((StatusCode::FORBIDDEN, "cross-site request rejected".to_owned()));
        if headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none") {
            return foreign();
        }
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let Some(origin) = origins.next() else { return Ok(()) };
        let Ok(origin) = origin.to_str() else { return foreign() };
        let is_ours = self.origin.as_deref() == Some(origin)
            || origin.split_once("://").is_some_and(|(_, place)| Some(place) == host && self.is_own_name(place));
        if is_ours && origins.next().is_none() { Ok(()) } else { foreign() }
    }
}

/// Returns a host without its port, or `None` if the text is not a host.
fn without_port(host: &str) -> Option<&str> {
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    if host.starts_with('[') {
        let end = host.find(']')?;
        let rest = &host[end + 1..];
        return (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port)).then_some(&host[..=end]);
    }
    match host.split_once(':') {
        None => (!host.is_empty()).then_some(host),
        Some((name, port)) => (!name.is_empty() && is_port(port)).then_some(name),
    }
}
