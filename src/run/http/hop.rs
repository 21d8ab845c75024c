//! One request to be sent.

use cookie_store::CookieStore;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{COOKIE, HOST, HeaderMap, HeaderValue, PROXY_AUTHORIZATION};
use hyper::{Method, Uri};
use url::{Position, Url};

use super::link::PooledConnection;
use crate::names::Reason;
use crate::outcome::Failure;
use crate::wire::Protocol;

/// One request to be sent.
#[derive(Clone)]
pub(super) struct HopRequest {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// Parts of the request that were omitted after a redirect to another origin because they may be secret: header
    /// names, or the body.
    pub(super) withheld: Vec<String>,
}

impl HopRequest {
    /// Creates the HTTP request to be sent on a connection.
    pub(super) fn request(
        &self,
        link: &PooledConnection,
        cookies: &CookieStore,
    ) -> Result<hyper::Request<Full<Bytes>>, Failure> {
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

fn not_a_uri(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Reason::Configuration, format!("the URL cannot be sent: {error}"))
}
