//! Access tokens for client credentials (RFC 6749, section 4.4), reused across runs until shortly before they expire.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::fields::fill;
use crate::diagnostic::Span;
use crate::outcome::Failure;
use crate::scenario::OAuth2;
use crate::secret::Secret;
use crate::values::Values;

/// Maximum number of stored tokens; all of them are dropped when it is exceeded.
const KEPT: usize = 4096;

/// An OAuth 2.0 client, and the place in the scenario where it is defined.
pub(super) struct OAuth2Client {
    pub(super) who: TokenKey,
    pub(super) at: Span,
}

/// Parameters of a token request. Equal parameters share a token.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct TokenKey {
    scenario: String,
    pub(super) token_url: String,
    pub(super) id: String,
    pub(super) secret: Secret<String>,
    pub(super) scope: Option<String>,
    pub(super) audience: Option<String>,
    pub(super) in_body: bool,
}

/// Tokens of all scenarios. Only one request per client runs at a time, and all waiting runs share its token.
#[derive(Clone, Default)]
pub struct Tokens(Arc<Mutex<HashMap<TokenKey, Slot>>>);

pub(super) type Slot = Arc<tokio::sync::Mutex<Option<Token>>>;

pub(super) struct Token {
    pub(super) value: Secret<String>,
    pub(super) until: Instant,
}

impl OAuth2Client {
    pub(super) fn new(oauth2: &OAuth2, values: &Values) -> Result<Self, Failure> {
        let optional = |text: &Option<_>| text.as_ref().map(|text| fill(text, values)).transpose();
        let who = TokenKey {
            scenario: values.scenario().id.value.to_string(),
            token_url: values.url(&oauth2.token_url).map_err(|failure| failure.at(oauth2.token_url.span))?.to_string(),
            id: fill(&oauth2.client_id, values)?,
            secret: Secret::new(fill(&oauth2.client_secret, values)?),
            scope: optional(&oauth2.scope)?,
            audience: optional(&oauth2.audience)?,
            in_body: oauth2.in_body,
        };
        Ok(Self { who, at: oauth2.token_url.span })
    }
}

impl Tokens {
    pub(super) fn slot(&self, who: &TokenKey) -> Slot {
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
