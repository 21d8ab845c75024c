//! One request to be sent.

use http_body_util::Full;
use hyper::Method;
use hyper::body::Bytes;
use hyper::header::{COOKIE, HeaderMap};
use url::{Position, Url};

use super::link::PooledConnection;
use crate::outcome::Failure;
use crate::wire::cookies::Cookies;
use crate::wire::set_target;

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
        cookies: &Cookies,
    ) -> Result<hyper::Request<Full<Bytes>>, Failure> {
        let mut headers = self.headers.clone();
        if !headers.contains_key(COOKIE) {
            headers.extend(cookies.header(&self.url).map(|value| (COOKIE, value)));
        }
        let mut request = hyper::Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.headers_mut() = headers;
        set_target(&mut request, &self.url, link.connection.protocol(), link.forward_proxy())?;
        Ok(request)
    }

    /// Returns the request target for the request line.
    pub(super) fn target(&self) -> &str {
        &self.url[Position::BeforePath..Position::AfterQuery]
    }
}
