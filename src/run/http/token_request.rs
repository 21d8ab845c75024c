//! Requests for access tokens.

use std::time::{Duration, Instant};

use hyper::Method;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::Value as Json;
use url::{Url, form_urlencoded};

use super::Session;
use super::hop::HopRequest;
use super::plan::RequestPlan;
use super::response::LARGEST_BODY;
use super::tokens::{OAuth2Client, Token, TokenKey, Tokens};
use crate::names::Reason;
use crate::outcome::Failure;
use crate::secret::Secret;
use crate::values::Values;
use crate::wire::authorization::basic;

/// Lifetime of a token whose expiry the server does not state.
const DEFAULT_TOKEN_TTL: Duration = Duration::from_secs(300);
/// Time before its expiry at which a token is renewed. A tenth of its lifetime is used if that is shorter.
const RENEW_BEFORE: Duration = Duration::from_secs(30);

impl TokenKey {
    fn ask(&self) -> Result<HopRequest, Failure> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        for (name, value) in [("scope", &self.scope), ("audience", &self.audience)] {
            if let Some(value) = value {
                form.append_pair(name, value);
            }
        }
        if self.in_body {
            form.append_pair("client_id", &self.id).append_pair("client_secret", self.secret.expose());
        } else {
            // Both values are form-encoded first (RFC 6749, section 2.3.1).
            let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            headers.insert(AUTHORIZATION, basic(&encoded(&self.id), &encoded(self.secret.expose()))?);
        }
        let url = Url::parse(&self.token_url)
            .map_err(|error| Failure::new(Reason::Configuration, format!("`token_url` is not a URL: {error}")))?;
        Ok(HopRequest { method: Method::POST, url, headers, body: form.finish().into(), withheld: Vec::new() })
    }
}

impl Tokens {
    /// Returns the token of a client, either a stored or a new one.
    pub(super) async fn get(
        &self,
        client: &OAuth2Client,
        plan: &RequestPlan,
        // A separate session, because cookies of the token server belong to no other request.
        mut session: Session,
        values: &Values,
    ) -> Result<String, Failure> {
        let slot = self.slot(&client.who);
        let mut kept = slot.lock().await;
        if let Some(token) = kept.as_ref().filter(|token| Instant::now() < token.until) {
            return masked(token.value.expose(), client, values);
        }
        let began = Instant::now();
        let ask = client.who.ask()?;
        let answer = Box::pin(session.hop(&plan.aside(ask.clone()), &ask, values)).await;
        let (value, life) = match answer {
            Ok(()) => read(&mut session).await,
            Err(failure) => Err(failure),
        }
        .map_err(|failure| Failure { message: format!("no token: {}", failure.message), ..failure }.at(client.at))?;
        masked(&value, client, values)?;
        let ahead = RENEW_BEFORE.min(life / 10);
        *kept = Some(Token { value: Secret::new(value.clone()), until: began + life.saturating_sub(ahead) });
        Ok(value)
    }
}

/// Returns the token and masks it for the rest of the run.
fn masked(token: &str, client: &OAuth2Client, values: &Values) -> Result<String, Failure> {
    if values.masker().add(token) {
        return Ok(token.to_owned());
    }
    let message = format!("no token: it is shorter than {} characters", crate::secret::SHORTEST);
    Err(Failure::new(Reason::Protocol, message).at(client.at))
}

/// Reads the token and its lifetime from a response (RFC 6749, section 5.1).
async fn read(session: &mut Session) -> Result<(String, Duration), Failure> {
    let answer = session.last.as_mut().expect("a hop that succeeds leaves its answer");
    answer.decode(LARGEST_BODY).await?;
    let body: Option<Json> = serde_json::from_str(&answer.text()).ok();
    if answer.status != 200 {
        let code = body.as_ref().and_then(|body| body["error"].as_str()).map(|code| format!(" ({code})"));
        let message = format!("`token_url` returned status {}{}", answer.status, code.unwrap_or_default());
        return Err(Failure::new(Reason::Status, message).compared("status 200", answer.status.to_string()));
    }
    let body = body.ok_or_else(|| Failure::new(Reason::Protocol, "the response of `token_url` is not JSON"))?;
    let token = body["access_token"].as_str().filter(|token| !token.is_empty());
    let token =
        token.ok_or_else(|| Failure::new(Reason::Protocol, "the response of `token_url` has no `access_token`"))?;
    if body["token_type"].as_str().is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
        return Err(Failure::new(Reason::Protocol, format!("the token's type is {}, not Bearer", body["token_type"])));
    }
    // Some servers write the number as a string.
    let seconds = body["expires_in"].as_f64().or_else(|| body["expires_in"].as_str()?.parse().ok());
    let life =
        seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds.min(1e9)).ok()).unwrap_or(DEFAULT_TOKEN_TTL);
    Ok((token.to_owned(), life))
}
