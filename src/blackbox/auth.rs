//! Values of the `Authorization` header, and tokens for them.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use hyper::header::HeaderValue;
use url::Url;

use super::module::{Authorization, Oauth2, Tls};
use super::probe::{Probe, ProbeAborted};
use super::tls::Prepared;
use crate::outcome::Failure;
use crate::wire::oauth2::ClientCredentials;
use crate::wire::{DialOptions, FetchOptions, authorization};

/// Maximum size of a token response, in bytes.
const LARGEST_ANSWER: usize = 1 << 20;
/// Time before its expiry at which a token is no longer used.
const MARGIN: Duration = Duration::from_secs(10);

/// Returns the value of `Authorization` for a request to a URL, or `None` without credentials.
pub(super) async fn authorization(
    probe: &mut Probe<'_>,
    wanted: Option<&Authorization>,
    url: &Url,
) -> Result<Option<HeaderValue>, ProbeAborted> {
    match wanted {
        None => of_url(probe, url),
        Some(Authorization::Basic { username, password }) => {
            let username = username.as_ref().map(|hidden| probe.reveal(hidden)).transpose()?.unwrap_or_default();
            let password = password.as_ref().map(|hidden| probe.reveal(hidden)).transpose()?.unwrap_or_default();
            authorization::basic(&username, &password).map(Some).map_err(|failure| invalid(probe, &failure))
        }
        Some(Authorization::Token { kind, credentials }) => {
            let credentials = credentials.as_ref().map(|hidden| probe.reveal(hidden)).transpose()?.unwrap_or_default();
            header(probe, &format!("{kind} {credentials}")).map(Some)
        }
        Some(Authorization::Oauth2(oauth2)) => {
            let value = token(probe, oauth2).await?;
            header(probe, &value).map(Some)
        }
    }
}

/// Returns the credentials contained in a URL.
pub(super) fn of_url(probe: &mut Probe<'_>, url: &Url) -> Result<Option<HeaderValue>, ProbeAborted> {
    authorization::of_url(url).map_err(|failure| invalid(probe, &failure))
}

fn invalid(probe: &mut Probe<'_>, failure: &Failure) -> ProbeAborted {
    probe.stop("Error creating request", &[("err", &failure.message)])
}

fn header(probe: &mut Probe<'_>, value: &str) -> Result<HeaderValue, ProbeAborted> {
    let value = HeaderValue::try_from(value);
    value.map_err(|_| probe.stop("Error creating request: invalid header", &[("header", &"authorization")]))
}

/// Returns the token of the module with its type, either a stored or a new one.
async fn token(probe: &mut Probe<'_>, oauth2: &Oauth2) -> Result<String, ProbeAborted> {
    let module = probe.module;
    let kept = module.token.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some((value, _)) = kept.filter(|(_, until)| Instant::now() < *until) {
        return Ok(value);
    }
    let secret = oauth2.client_secret.as_ref().map(|hidden| probe.reveal(hidden)).transpose()?.unwrap_or_default();
    // The token server is reached with the default TLS settings, not with those of the module.
    let ready = Prepared::default().get(&Tls::default(), &module.folder, &probe.files, probe.authorities);
    let ready = ready.map_err(|why| probe.stop("Error creating TLS configuration", &[("err", &why)]))?;
    let scopes = oauth2.scopes.join(" ");
    let scope = (!scopes.is_empty()).then_some(("scope", scopes.as_str()));
    let further = oauth2.endpoint_params.iter().map(|(name, value)| (name.as_str(), value.expose().as_str()));
    let client = ClientCredentials {
        token_url: &oauth2.token_url,
        id: &oauth2.client_id,
        secret: &secret,
        in_body: false,
        parameters: scope.into_iter().chain(further).collect(),
    };
    let options =
        FetchOptions { tls: ready.config.clone(), dial: DialOptions::default(), proxy: None, limit: LARGEST_ANSWER };
    let granted = client.request_token(probe.dialer, &options).await;
    let granted = granted.map_err(|failure| probe.stop("Error getting a token", &[("err", &failure.message)]))?;
    module.masker.add(&granted.token);
    let kind = if granted.is_bearer() { "Bearer" } else { granted.kind.as_deref().unwrap_or_default() };
    let value = format!("{kind} {}", granted.token);
    // A token is used for at most a day. One without a lifetime is requested for every probe.
    let lifetime = granted.lifetime.unwrap_or_default().min(Duration::from_secs(86_400));
    let until = Instant::now() + lifetime.saturating_sub(MARGIN);
    *module.token.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((value.clone(), until));
    Ok(value)
}
