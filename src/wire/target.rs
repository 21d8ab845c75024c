//! Request target and host of a request (RFC 9112, section 3.2, and RFC 9113, section 8.3.1).

use hyper::header::{HOST, HeaderValue, PROXY_AUTHORIZATION};
use hyper::{Request, Uri};
use url::{Position, Url};

use super::{Protocol, Proxy};
use crate::names::Reason;
use crate::outcome::Failure;

/// Sets the request target and the host in the form that the connection requires: the path with HTTP/1, a full URL for
/// a proxy that reads the request, and the pseudo-headers with HTTP/2. A `Host` header that is already set replaces the
/// host of the URL. A proxy also gets its credentials.
pub fn set_target<B>(
    request: &mut Request<B>,
    url: &Url,
    protocol: Protocol,
    proxy: Option<&Proxy>,
) -> Result<(), Failure> {
    let authority = &url[Position::BeforeHost..Position::AfterPort];
    let path = &url[Position::BeforePath..Position::AfterQuery];
    let headers = request.headers_mut();
    let uri = match protocol {
        Protocol::Http2 => {
            let host = headers.remove(HOST);
            let host = match &host {
                Some(host) => host.to_str().map_err(|error| unsendable(&error))?,
                None => authority,
            };
            Uri::try_from(format!("{}://{host}{path}", url.scheme()))
        }
        Protocol::Http1 => {
            if !headers.contains_key(HOST) {
                headers.insert(HOST, HeaderValue::from_str(authority).map_err(|error| unsendable(&error))?);
            }
            match proxy {
                None => Uri::try_from(path),
                Some(proxy) => {
                    if let Some(value) = &proxy.authorization {
                        let mut value = HeaderValue::from_str(value).map_err(|error| unsendable(&error))?;
                        value.set_sensitive(true);
                        headers.insert(PROXY_AUTHORIZATION, value);
                    }
                    Uri::try_from(format!("{}://{authority}{path}", url.scheme()))
                }
            }
        }
    };
    *request.uri_mut() = uri.map_err(|error| unsendable(&error))?;
    Ok(())
}

fn unsendable(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Reason::Configuration, format!("the URL cannot be sent: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_have_the_form_that_the_connection_requires() {
        let proxy = Proxy::of(&Url::parse("http://u:p@proxy.test:3128").unwrap()).unwrap();
        let check = |url: &str, host: Option<&str>, protocol, proxy: Option<&Proxy>, expected: (&str, Option<&str>)| {
            let mut request = Request::new(());
            if let Some(host) = host {
                request.headers_mut().insert(HOST, host.parse().unwrap());
            }
            set_target(&mut request, &Url::parse(url).unwrap(), protocol, proxy).unwrap();
            let host = request.headers().get(HOST).map(|host| host.to_str().unwrap());
            assert_eq!((request.uri().to_string().as_str(), host), expected, "{url} {protocol:?}");
            assert_eq!(request.headers().contains_key(PROXY_AUTHORIZATION), proxy.is_some());
        };
        let url = "http://u:p@grün.test:8080/a%20b?c=d#e";
        let host = "xn--grn-ioa.test:8080";
        check(url, None, Protocol::Http1, None, ("/a%20b?c=d", Some(host)));
        check(url, Some("x"), Protocol::Http1, None, ("/a%20b?c=d", Some("x")));
        check(url, None, Protocol::Http2, None, ("http://xn--grn-ioa.test:8080/a%20b?c=d", None));
        check(url, Some("x"), Protocol::Http2, None, ("http://x/a%20b?c=d", None));
        let whole = "http://xn--grn-ioa.test:8080/a%20b?c=d";
        check(url, None, Protocol::Http1, Some(&proxy), (whole, Some(host)));
        check(url, Some("x"), Protocol::Http1, Some(&proxy), (whole, Some("x")));
        check("https://[::1]", None, Protocol::Http1, None, ("/", Some("[::1]")));
        check("https://[::1]:443", None, Protocol::Http2, None, ("https://[::1]/", None));
    }
}
