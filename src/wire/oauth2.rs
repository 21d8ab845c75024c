//! Access tokens for client credentials (RFC 6749, section 4.4).

use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use hyper::{Request, StatusCode};
use serde_json::Value as Json;
use url::form_urlencoded::{Serializer, byte_serialize};
use url::{Position, Url};

use super::authorization::basic;
use super::{Dialer, FetchOptions, encoding};
use crate::names::Reason;
use crate::outcome::Failure;

/// Maximum length of an error of the token server in a message, in characters.
const MAX_ERROR_CHARS: usize = 200;

/// A client, and the token that it requests.
#[derive(Debug, Clone)]
pub struct ClientCredentials<'a> {
    /// URL of the token endpoint.
    pub token_url: &'a Url,
    /// Client id.
    pub id: &'a str,
    /// Client secret.
    pub secret: &'a str,
    /// Whether id and secret are sent in the form instead of the `Authorization` header.
    pub in_body: bool,
    /// Additional form fields, such as `scope`.
    pub parameters: Vec<(&'a str, &'a str)>,
}

/// A token as granted by the server (RFC 6749, section 5.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Access token.
    pub token: String,
    /// Type of the token, as sent by the server.
    pub kind: Option<String>,
    /// Lifetime, if the server states it.
    pub lifetime: Option<Duration>,
}

impl Grant {
    /// Returns whether it is a bearer token, which is assumed if the server does not state the type.
    pub fn is_bearer(&self) -> bool {
        self.kind.as_ref().is_none_or(|kind| kind.is_empty() || kind.eq_ignore_ascii_case("bearer"))
    }
}

impl ClientCredentials<'_> {
    /// Requests a token. The message of a failure names the token server, so that it cannot be confused with the request
    /// for which the token is needed.
    pub async fn request_token(&self, dialer: &Dialer, options: &FetchOptions<'_>) -> Result<Grant, Failure> {
        let granted = async {
            let (head, mut body) = dialer.fetch(self.token_url, self.request()?, options, |_| ()).await?;
            encoding::decode(&head.headers, &mut body, options.limit)?;
            read(head.status, &body)
        };
        granted.await.map_err(|failure| self.named(failure))
    }

    /// Returns a failure with the URL of the token server in its message, without the query.
    pub fn named(&self, failure: Failure) -> Failure {
        let url = self.token_url;
        let (host, path) =
            (&url[Position::BeforeHost..Position::AfterPort], &url[Position::BeforePath..Position::AfterPath]);
        let message = format!("no token from `{}://{host}{path}`: {}", url.scheme(), failure.message);
        Failure { message, ..failure }
    }

    fn request(&self) -> Result<Request<Full<Bytes>>, Failure> {
        let mut form = Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials").extend_pairs(&self.parameters);
        if self.in_body {
            form.append_pair("client_id", self.id).append_pair("client_secret", self.secret);
        }
        let mut request = Request::post("/").body(Full::new(Bytes::from(form.finish()))).expect("it is valid");
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("wachta/", env!("CARGO_PKG_VERSION"))));
        if !self.in_body {
            // Both values are form-encoded first (RFC 6749, section 2.3.1).
            let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
            headers.insert(AUTHORIZATION, basic(&encoded(self.id), &encoded(self.secret))?);
        }
        Ok(request)
    }
}

/// Reads the response of the token server (RFC 6749, sections 5.1 and 5.2).
fn read(status: StatusCode, body: &[u8]) -> Result<Grant, Failure> {
    let body = serde_json::from_slice::<Json>(body).ok();
    if !status.is_success() {
        let told = |key: &str| body.as_ref().and_then(|body| body[key].as_str());
        let texts: Vec<&str> = [told("error"), told("error_description")].into_iter().flatten().collect();
        let text: String = texts.join(": ").chars().take(MAX_ERROR_CHARS).collect();
        let text = if text.is_empty() { text } else { format!(" ({text})") };
        let message = format!("status {}{text}", status.as_u16());
        return Err(Failure::new(Reason::Status, message).compared("status 200", status.as_str()));
    }
    let wrong = |message: &str| Failure::new(Reason::Protocol, message);
    let body = body.ok_or_else(|| wrong("the response is not JSON"))?;
    let token = body["access_token"].as_str().filter(|token| !token.is_empty());
    let token = token.ok_or_else(|| wrong("the response has no `access_token`"))?;
    // Some servers write the number as a string.
    let seconds = body["expires_in"].as_f64().or_else(|| body["expires_in"].as_str()?.parse().ok());
    Ok(Grant {
        token: token.to_owned(),
        kind: body["token_type"].as_str().map(ToOwned::to_owned),
        lifetime: seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds.min(1e9)).ok()),
    })
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn requests_authenticate_by_header_or_body() {
        let url = Url::parse("https://login.test/token").unwrap();
        let check = async |in_body, authorization: Option<&str>, form: &str| {
            let parameters = vec![("scope", "a b")];
            let client = ClientCredentials { token_url: &url, id: "us:er", secret: "p w", in_body, parameters };
            let request = client.request().unwrap();
            assert_eq!(request.headers().get(AUTHORIZATION).map(|value| value.to_str().unwrap()), authorization);
            assert_eq!(request.into_body().collect().await.unwrap().to_bytes(), form);
        };
        // The credentials are `us%3Aer:p+w`.
        check(false, Some("Basic dXMlM0FlcjpwK3c="), "grant_type=client_credentials&scope=a+b").await;
        let form = "grant_type=client_credentials&scope=a+b&client_id=us%3Aer&client_secret=p+w";
        check(true, None, form).await;
    }

    #[test]
    fn responses_have_a_token_or_say_why_not() {
        let check = |status: u16, body: &str, expected: Result<(&str, Option<u64>, bool), &str>| {
            let read = read(StatusCode::from_u16(status).unwrap(), body.as_bytes());
            let read = read.as_ref().map(|grant| {
                (grant.token.as_str(), grant.lifetime.map(|lifetime| lifetime.as_secs()), grant.is_bearer())
            });
            assert_eq!(read.map_err(|failure| failure.message.as_str()), expected, "{body}");
        };
        check(200, r#"{"access_token":"t","token_type":"bearer","expires_in":60}"#, Ok(("t", Some(60), true)));
        check(200, r#"{"access_token":"t","expires_in":"60"}"#, Ok(("t", Some(60), true)));
        check(201, r#"{"access_token":"t","token_type":"mac","expires_in":-1}"#, Ok(("t", None, false)));
        check(200, r#"{"access_token":""}"#, Err("the response has no `access_token`"));
        check(200, "<html>", Err("the response is not JSON"));
        check(503, "<html>", Err("status 503"));
        check(
            401,
            r#"{"error":"invalid_client","error_description":"no such client"}"#,
            Err("status 401 (invalid_client: no such client)"),
        );
    }

    #[test]
    fn failures_name_the_token_server() {
        let url = Url::parse("https://u:p@login.test:8443/token?key=secret").unwrap();
        let client = ClientCredentials { token_url: &url, id: "", secret: "", in_body: false, parameters: Vec::new() };
        let failure = client.named(Failure::new(Reason::Status, "status 503"));
        assert_eq!(failure.message, "no token from `https://login.test:8443/token`: status 503");
    }
}
