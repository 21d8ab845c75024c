//! One HTTP request on a connection of its own.

use std::sync::Arc;

use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use rustls::ClientConfig;
use url::Url;

use super::{AlpnOffer, Connection, DialOptions, Dialer, Proxy, ResponseHead, Route, Stage, set_target};
use crate::outcome::Failure;

/// Settings of a request on a connection of its own.
#[derive(Debug, Clone)]
pub struct FetchOptions<'a> {
    /// Trusted certificates and client certificate for `https`.
    pub tls: Arc<ClientConfig>,
    /// Addresses of the host that are used.
    pub dial: DialOptions,
    /// Proxy to connect to. `None` for a direct connection.
    pub proxy: Option<&'a Proxy>,
    /// Maximum size of the response body, in bytes.
    pub limit: usize,
}

impl Dialer {
    /// Sends one request to a URL and reads the response. Redirects are not followed, and the body is not decoded.
    pub async fn fetch(
        &self,
        url: &Url,
        mut request: Request<Full<Bytes>>,
        options: &FetchOptions<'_>,
        on: impl FnMut(Stage<'_>) + Send,
    ) -> Result<(ResponseHead, Vec<u8>), Failure> {
        let route = Route::of_url(url, &options.tls, AlpnOffer::Http, options.proxy);
        let route = Route { dial: options.dial, ..route };
        let opened = self.open(&route, on).await.map_err(|refused| refused.failure)?;
        let protocol = opened.protocol();
        let forward = options.proxy.filter(|_| route.tls.is_none());
        set_target(&mut request, url, protocol, forward)?;
        let mut connection = Connection::begin(opened.stream, protocol).await?;
        let mut answer = connection.exchange(request).await.map_err(|unanswered| unanswered.failure)?;
        if let Some(failure) = forward.and_then(|proxy| proxy.rejection(answer.head.status, url)) {
            return Err(failure);
        }
        let mut body = Vec::new();
        answer.read(&mut body, options.limit).await?;
        Ok((answer.head, body))
    }
}
