//! Prepared requests with resolved names, and the settings for sending them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use cookie_store::CookieStore;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, HeaderMap, HeaderName,
    HeaderValue, PROXY_AUTHORIZATION, USER_AGENT,
};
use hyper::{Method, Uri};
use percent_encoding::percent_decode_str;
use rustls::ClientConfig;
use url::{Position, Url};

use super::link::Link;
use super::tokens::Client;
use super::{bearer, body};
use crate::diagnostic::Spanned;
use crate::names::Reason;
use crate::outcome::Failure;
use crate::scenario::{HttpVersion, Login, Request, Template, address_of, proxy_url};
use crate::values::Values;
use crate::wire::tls;
use crate::wire::{Protocol, Route};

/// User agent that is sent unless the scenario sets another one.
const AGENT: HeaderValue = HeaderValue::from_static(concat!("wachta/", env!("CARGO_PKG_VERSION")));
/// Content encodings that [`super::decode`] supports.
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
    OAuth2(Box<Client>),
}

/// A proxy server.
#[derive(Clone, PartialEq)]
pub(super) struct Proxy {
    pub(super) host: String,
    pub(super) port: u16,
    /// Value of `Proxy-Authorization`.
    pub(super) authorization: Option<String>,
}

/// One request to be sent.
#[derive(Clone)]
pub(super) struct HopRequest {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// Parts of the request that were omitted after a redirect to another origin because they may be secret: header
    /// names, or the body. 289 Result of one query in the page.
    pub(super) withheld: Vec<String>,
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
            Some(Login::Basic { user, password, digest: false }) => {
                headers.insert(AUTHORIZATION, basic(&fill(user, values)?, &hidden(password, values)?)?);
                ChallengeAuth::None
            }
            Some(Login::Basic { user, password, digest: true }) => {
                ChallengeAuth::Digest { user: fill(user, values)?, password: hidden(password, values)? }
            }
            Some(Login::Bearer(token)) => {
                headers.insert(AUTHORIZATION, bearer(&hidden(token, values)?).map_err(|f| f.at(token.span))?);
                ChallengeAuth::None
            }
            Some(Login::OAuth2(oauth2)) => ChallengeAuth::OAuth2(Box::new(Client::new(oauth2, values)?)),
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
                Some(Proxy::of(proxy_url(&fill(proxy, values)?).map_err(wrong)?)?)
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

    /// Creates the plan for requesting a token, with the TLS settings and proxy of this request.
    pub(super) fn aside(&self, ask: HopRequest) -> Self {
        Self {
            home: ask.url.clone(),
            ask,
            proof: ChallengeAuth::None,
            follow: false,
            config: Arc::clone(&self.config),
            version: None,
            proxy: self.proxy.clone(),
            traceparent: false,
            pinned: None,
        }
    }

    /// Returns whether a URL has the same origin as the one in the scenario.
    pub(super) fn is_same_origin(&self, url: &Url) -> bool {
        self.home.origin() == url.origin()
    }

    /// Returns the dial options for a URL. The address of `resolve` applies to the host named in the scenario.
    pub(super) fn route(&self, url: &Url) -> Route {
        let pinned = self.pinned.filter(|_| url.host_str() == self.home.host_str()).map(|(address, port)| {
            let own = port_of(url);
            let port = port.filter(|_| own == port_of(&self.home)).unwrap_or(own);
            SocketAddr::new(address, port)
        });
        Route { pinned, ..Route::default() }
    }
}

impl Proxy {
    fn of(mut url: Url) -> Result<Self, Failure> {
        let authorization = take_login(&mut url)?;
        let authorization = authorization.as_ref().and_then(|value| value.to_str().ok()).map(ToOwned::to_owned);
        Ok(Self {
            host: url.host_str().unwrap_or_default().to_owned(),
            port: url.port_or_known_default().unwrap_or(80),
            authorization,
        })
    }
}

impl HopRequest {
    /// Creates the HTTP request to be sent on a connection.
    pub(super) fn request(&self, link: &Link, cookies: &CookieStore) -> Result<hyper::Request<Full<Bytes>>, Failure> {
        let mut headers = self.headers.clone();
        if !headers.contains_key(COOKIE) {
            let pairs: Vec<String> =
                cookies.get_request_values(&self.url).map(|(name, value)| format!("{name}={value}")).collect();
            if !pairs.is_empty()
                && let Ok(mut value) = HeaderValue::from_str(&pairs.join("; "))
            {
                value.set_sensitive(true);
                headers.insert(COOKIE, value);
            }
        }
        let host = match headers.remove(HOST) {
            Some(host) => host,
            None => HeaderValue::from_str(&self.url[Position::BeforeHost..Position::AfterPort])
                .map_err(|error| not_a_uri(&error))?,
        };
        let path = &self.url[Position::BeforePath..Position::AfterQuery];
        let uri = match link.connection.protocol() {
            Protocol::Http2 => {
                let authority = host.to_str().map_err(|error| not_a_uri(&error))?;
                Uri::try_from(format!("{}://{authority}{path}", self.url.scheme()))
            }
            Protocol::Http1 if link.is_to_proxy() => {
                let whole = &self.url[..Position::AfterQuery];
                headers.insert(HOST, host);
                if let Some(value) = link.proxy_authorization() {
                    let value = HeaderValue::from_str(value).map_err(|error| not_a_uri(&error))?;
                    headers.insert(PROXY_AUTHORIZATION, value);
                }
                Uri::try_from(whole)
            }
            Protocol::Http1 => {
                headers.insert(HOST, host);
                Uri::try_from(path)
            }
        };
        let mut request = hyper::Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri.map_err(|error| not_a_uri(&error))?;
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// Returns the request target for the request line.
    pub(super) fn target(&self) -> &str {
        &self.url[Position::BeforePath..Position::AfterQuery]
    }
}

/// Returns the port of a URL, explicit or by default.
pub(super) fn port_of(url: &Url) -> u16 {
    url.port_or_known_default().unwrap_or(443)
}

fn not_a_uri(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Reason::Configuration, format!("the URL cannot be sent: {error}"))
}

pub(super) fn fill(template: &Spanned<Template>, values: &Values) -> Result<String, Failure> {
    values.fill(template).map_err(|failure| failure.at(template.span))
}

/// Resolves the names in a password or token and masks it from then on, whether or not it was declared as a secret.
fn hidden(template: &Spanned<Template>, values: &Values) -> Result<String, Failure> {
    let text = fill(template, values)?;
    // A value too short to be masked was not declared as a secret.
    values.masker().add(&text);
    Ok(text)
}

/// Resolves the names in a list of names and values.
pub(super) fn pairs(list: &[(String, Spanned<Template>)], values: &Values) -> Result<Vec<(String, String)>, Failure> {
    list.iter().map(|(name, value)| Ok((name.clone(), fill(value, values)?))).collect()
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

/// Returns the `Authorization` value for a user and password (RFC 7617).
pub(super) fn basic(user: &str, password: &str) -> Result<HeaderValue, Failure> {
    if user.contains(':') {
        return Err(Failure::new(Reason::Configuration, "`basic_auth`: there cannot be a `:` in the user's name"));
    }
    let encoded = BASE64_STANDARD.encode(format!("{user}:{password}"));
    let mut value = HeaderValue::from_str(&format!("Basic {encoded}")).expect("base64 is visible ASCII");
    value.set_sensitive(true);
    Ok(value)
}

/// Removes user and password from a URL.
fn take_login(url: &mut Url) -> Result<Option<HeaderValue>, Failure> {
    if url.username().is_empty() && url.password().is_none() {
        return Ok(None);
    }
    let plain = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let value = basic(&plain(url.username()), &plain(url.password().unwrap_or_default()))?;
    // These calls fail only without a host, and then there is no user either.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    Ok(Some(value))
}
