//! Access tokens for client credentials, reused across runs until shortly before they expire.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use url::Url;

use super::fields::fill;
use crate::diagnostic::Span;
use crate::names::Reason;
use crate::outcome::Failure;
use crate::scenario::OAuth2;
use crate::secret::Secret;
use crate::values::Values;
use crate::wire::oauth2::ClientCredentials;
use crate::wire::{Dialer, FetchOptions};

/// Maximum number of stored tokens; all of them are dropped when it is exceeded.
const KEPT: usize = 4096;
/// Lifetime of a token whose expiry the server does not state.
const DEFAULT_TOKEN_TTL: Duration = Duration::from_secs(300);
/// Time before its expiry at which a token is renewed. A tenth of its lifetime is used if that is shorter.
const RENEW_BEFORE: Duration = Duration::from_secs(30);

/// An OAuth 2.0 client, and the place in the scenario where it is defined.
pub(super) struct OAuth2Client {
    who: TokenKey,
    at: Span,
}

/// Parameters of a token request. Equal parameters share a token.
#[derive(Clone, PartialEq, Eq, Hash)]
struct TokenKey {
    scenario: String,
    token_url: Url,
    id: String,
    secret: Secret<String>,
    scope: Option<String>,
    audience: Option<String>,
    in_body: bool,
}

/// Tokens of all scenarios. Only one request per client runs at a time, and all waiting runs share its token.
#[derive(Clone, Default)]
pub struct Tokens(Arc<Mutex<HashMap<TokenKey, Slot>>>);

type Slot = Arc<tokio::sync::Mutex<Option<Token>>>;

struct Token {
    value: Secret<String>,
    until: Instant,
}

impl OAuth2Client {
    pub(super) fn new(oauth2: &OAuth2, values: &Values) -> Result<Self, Failure> {
        let optional = |text: &Option<_>| text.as_ref().map(|text| fill(text, values)).transpose();
        let who = TokenKey {
            scenario: values.scenario().id.value.to_string(),
            token_url: values.url(&oauth2.token_url).map_err(|failure| failure.at(oauth2.token_url.span))?,
            id: fill(&oauth2.client_id, values)?,
            secret: Secret::new(fill(&oauth2.client_secret, values)?),
            scope: optional(&oauth2.scope)?,
            audience: optional(&oauth2.audience)?,
            in_body: oauth2.in_body,
        };
        Ok(Self { who, at: oauth2.token_url.span })
    }

    fn credentials(&self) -> ClientCredentials<'_> {
        let TokenKey { token_url, id, secret, scope, audience, in_body, .. } = &self.who;
        let parameters = [("scope", scope), ("audience", audience)];
        ClientCredentials {
            token_url,
            id,
            secret: secret.expose(),
            in_body: *in_body,
            parameters: parameters.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?))).collect(),
        }
    }

    /// Returns a failure of the token request, with the place of the client in the scenario.
    fn failure(&self, message: impl Into<String>) -> Failure {
        self.credentials().named(Failure::new(Reason::Protocol, message)).at(self.at)
    }
}

impl Tokens {
    /// Returns the token of a client, either a stored or a new one.
    pub(super) async fn get(
        &self,
        client: &OAuth2Client,
        options: &FetchOptions<'_>,
        dialer: &Dialer,
        values: &Values,
    ) -> Result<String, Failure> {
        let slot = self.slot(&client.who);
        let mut kept = slot.lock().await;
        if let Some(token) = kept.as_ref().filter(|token| Instant::now() < token.until) {
            return masked(token.value.expose(), client, values);
        }
        let began = Instant::now();
        let granted = Box::pin(client.credentials().request_token(dialer, options)).await;
        let granted = granted.map_err(|failure| failure.at(client.at))?;
        if !granted.is_bearer() {
            let kind = granted.kind.unwrap_or_default();
            return Err(client.failure(format!("the type of the token is {kind}, not Bearer")));
        }
        let value = masked(&granted.token, client, values)?;
        let lifetime = granted.lifetime.unwrap_or(DEFAULT_TOKEN_TTL);
        let ahead = RENEW_BEFORE.min(lifetime / 10);
        *kept = Some(Token { value: Secret::new(value.clone()), until: began + lifetime.saturating_sub(ahead) });
        Ok(value)
    }

    fn slot(&self, who: &TokenKey) -> Slot {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= KEPT && !slots.contains_key(who) {
            slots.clear();
        }
        Arc::clone(slots.entry(who.clone()).or_default())
    }

    /// Drops a rejected token, so that the next run requests a new one, unless it was already replaced.
    pub(super) fn forget(&self, client: &OAuth2Client, token: &str) {
        // If the lock is held, a new token is already being requested.
        if let Ok(mut kept) = self.slot(&client.who).try_lock()
            && kept.as_ref().is_some_and(|kept| kept.value.expose() == token)
        {
            *kept = None;
        }
    }
}

/// Returns the token and masks it for the rest of the run.
fn masked(token: &str, client: &OAuth2Client, values: &Values) -> Result<String, Failure> {
    if values.masker().add(token) {
        return Ok(token.to_owned());
    }
    Err(client.failure(format!("it is shorter than {} characters", crate::secret::SHORTEST)))
}
