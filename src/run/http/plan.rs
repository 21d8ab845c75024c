//! Prepared requests with resolved names, and the settings for sending them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hyper::Method;
use hyper::body::Bytes;
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
    USER_AGENT,
};
use rustls::ClientConfig;
use url::Url;

use super::body;
use super::fields::{fill, hidden, pairs};
use super::hop::HopRequest;
use super::link::port_of;
use super::response::LARGEST_BODY;
use super::tokens::OAuth2Client;
use crate::names::Reason;
use crate::outcome::Failure;
use crate::scenario::{Authentication, HttpVersion, Request, address_of, proxy_url};
use crate::values::Values;
use crate::wire::authorization::{basic, bearer, take_login};
use crate::wire::tls;
use crate::wire::{DialOptions, FetchOptions, Proxy};

/// User agent that is sent unless the scenario sets another one.
const AGENT: HeaderValue = HeaderValue::from_static(concat!("wachta/", env!("CARGO_PKG_VERSION")));
/// Content encodings that [`crate::wire::encoding`] supports.
const ENCODINGS: HeaderValue = HeaderValue::from_static("gzip, deflate, br, zstd");

/// A prepared request with its connection settings.
pub(super) struct RequestPlan {
    /// First request.
    pub(super) ask: HopRequest,
    /// Authentication that answers a challenge of the server.
    pub(super) proof: ChallengeAuth,
    /// Whether redirects are followed.
    pub(super) follow: bool,
    pub(super) config: Arc<ClientConfig>,
    pub(super) version: Option<HttpVersion>,
    pub(super) proxy: Option<Proxy>,
    /// Whether requests to the origin named in the scenario carry a `traceparent` (W3C Trace Context).
    pub(super) traceparent: bool,
    pinned: Option<(IpAddr, Option<u16>)>,
    home: Url,
}

/// Authentication whose header depends on a challenge or a token.
pub(super) enum ChallengeAuth {
    None,
    Digest { user: String, password: String },
    OAuth2(Box<OAuth2Client>),
}

impl RequestPlan {
    pub(super) fn new(request: &Request, values: &Values, trusted: &tls::Trusted) -> Result<Self, Failure> {
        let mut url = values.url(&request.url).map_err(|failure| failure.at(request.url.span))?;
        if !matches!(url.scheme(), "http" | "https") {
            let message = format!("`{}://` is not HTTP: write http:// or https://", url.scheme());
            return Err(Failure::new(Reason::Configuration, message).at(request.url.span));
        }
        if !request.query.is_empty() {
            url.query_pairs_mut().extend_pairs(pairs(&request.query, values)?);
        }
        url.set_fragment(None);
        let method = Method::from_bytes(request.method.as_bytes())
            .map_err(|e| Failure::new(Reason::Configuration, format!("`{}` is not a method: {e}", request.method)))?;
        let mut headers = HeaderMap::with_capacity(8 + request.headers.len());
        let body = match &request.body {
            None => Bytes::new(),
            Some(body) => {
                let (bytes, media_type) = body::of(body, values)?;
                headers.extend(media_type.map(|media_type| (CONTENT_TYPE, media_type)));
                bytes
            }
        };
        let in_url = take_login(&mut url)?;
        let proof = match &request.login {
            None => {
                headers.extend(in_url.map(|value| (AUTHORIZATION, value)));
                ChallengeAuth::None
            }
            Some(Authentication::Basic { user, password, digest: false }) => {
                headers.insert(AUTHORIZATION, basic(&fill(user, values)?, &hidden(password, values)?)?);
                ChallengeAuth::None
            }
            Some(Authentication::Basic { user, password, digest: true }) => {
                ChallengeAuth::Digest { user: fill(user, values)?, password: hidden(password, values)? }
            }
            Some(Authentication::Bearer(token)) => {
                headers.insert(AUTHORIZATION, bearer(&hidden(token, values)?).map_err(|f| f.at(token.span))?);
                ChallengeAuth::None
            }
            Some(Authentication::OAuth2(oauth2)) => ChallengeAuth::OAuth2(Box::new(OAuth2Client::new(oauth2, values)?)),
        };
        own_headers(&mut headers, request, values)?;
        for (name, value) in
            [(ACCEPT, HeaderValue::from_static("*/*")), (USER_AGENT, AGENT), (ACCEPT_ENCODING, ENCODINGS)]
        {
            headers.entry(name).or_insert(value);
        }
        if body.is_empty() && matches!(method, Method::POST | Method::PUT | Method::PATCH) {
            headers.entry(CONTENT_LENGTH).or_insert(HeaderValue::from_static("0"));
        }
        let pinned = match &request.resolve {
            None => None,
            Some(resolve) => {
                let text = fill(resolve, values)?;
                Some(address_of(&text).ok_or_else(|| {
                    Failure::new(Reason::Configuration, "`resolve` is not an IP address, perhaps with a port")
                        .at(resolve.span)
                })?)
            }
        };
        let proxy = match &request.proxy {
            None => None,
            Some(proxy) => {
                let wrong = |why: String| Failure::new(Reason::Configuration, why).at(proxy.span);
                Some(Proxy::of(&proxy_url(&fill(proxy, values)?).map_err(wrong)?)?)
            }
        };
        Ok(Self {
            home: url.clone(),
            ask: HopRequest { method, url, headers, body, withheld: Vec::new() },
            proof,
            follow: request.redirect,
            config: trusted.config(&request.trust, |path| values.file(path))?,
            version: request.http_version,
            proxy,
            traceparent: false,
            pinned,
        })
    }

    /// Returns the settings for requesting a token: the TLS settings and the proxy of this request.
    pub(super) fn token_options(&self) -> FetchOptions<'_> {
        FetchOptions {
            tls: Arc::clone(&self.config),
            dial: DialOptions::default(),
            proxy: self.proxy.as_ref(),
            limit: LARGEST_BODY,
        }
    }

    /// Returns whether a URL has the same origin as the one in the scenario.
    pub(super) fn is_same_origin(&self, url: &Url) -> bool {
        self.home.origin() == url.origin()
    }

    /// Returns the dial options for a URL. The address of `resolve` applies to the host named in the scenario.
    pub(super) fn dial_options(&self, url: &Url) -> DialOptions {
        let pinned = self.pinned.filter(|_| url.host_str() == self.home.host_str()).map(|(address, port)| {
            let own = port_of(url);
            let port = port.filter(|_| own == port_of(&self.home)).unwrap_or(own);
            SocketAddr::new(address, port)
        });
        DialOptions { pinned, ..DialOptions::default() }
    }
}

/// Applies the scenario's headers, which replace the default ones. A header that is named twice is sent twice.
fn own_headers(headers: &mut HeaderMap, request: &Request, values: &Values) -> Result<(), Failure> {
    let mut own = HeaderMap::with_capacity(request.headers.len());
    for (name, value) in &request.headers {
        let bad = |e: &dyn std::fmt::Display| {
            Failure::new(Reason::Configuration, format!("header `{name}`: {e}")).at(value.span)
        };
        let text = fill(value, values)?;
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|e| bad(&e))?;
        own.append(key, HeaderValue::from_str(&text).map_err(|e| bad(&e))?);
    }
    // `extend` replaces all values of the same name.
    headers.extend(own);
    Ok(())
}
