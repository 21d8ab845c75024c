//! One HTTP request to a receiver and its response, limited in time and size, with a default interpretation of the
//! response for receivers without rules of their own.

use std::time::Duration;

use chrono::Utc;
use reqwest::StatusCode;
use serde_json::Value as Json;

use super::{DeliveryResult, truncate};
use crate::bounded::answer::{self, root};

/// Maximum duration of a request.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum number of bytes read from a response body.
const LARGEST: usize = 64 << 10;
/// Maximum delay that a receiver may ask for, so that a wrong value does not silence it forever.
const LONGEST_WAIT: Duration = Duration::from_hours(1);

/// Response of a receiver.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    /// Delay that the receiver asked for.
    pub(super) retry_after: Option<Duration>,
    /// Time until the rate limit is reset, if given in seconds.
    pub(super) rate_limit_reset: Option<Duration>,
    /// The received part of the body.
    pub(super) body: String,
}

impl Reply {
    /// Parses the body as JSON.
    pub(super) fn json(&self) -> Option<Json> {
        serde_json::from_str(&self.body).ok()
    }

    /// Returns the status and the start of the body, in one line.
    pub(super) fn response(&self) -> String {
        let body = truncate::chars(&truncate::line(&self.body), 300);
        if body.is_empty() { self.status.to_string() } else { format!("{}: {body}", self.status) }
    }

    /// Interprets a response with a good status whose body may contradict it: an unexpected web page comes from a proxy
    /// or a login, which did not accept anything.
    pub(super) fn taken(&self) -> DeliveryResult {
        if self.body.trim_start().starts_with('<') {
            let problem = format!("got a web page instead of the receiver's response: {}", self.response());
            return DeliveryResult::retryable(problem).blocks_receiver(None);
        }
        DeliveryResult::sent(self.response())
    }

    /// Interprets a response by its status alone.
    pub(super) fn judge(&self) -> DeliveryResult {
        let problem = || format!("the receiver returned status {}", self.response());
        match self.status.as_u16() {
            200..=299 => DeliveryResult::sent(self.response()),
            // A wrong URL or credential can be corrected in the configuration; the notification stays queued until
            // then.
            300..=399 => {
                DeliveryResult::retryable(format!("{}; redirects are not followed", problem())).blocks_receiver(None)
            }
            401..=405 | 407 | 410 => {
                DeliveryResult::retryable(format!("{}; check its URL and credential", problem())).blocks_receiver(None)
            }
            // Rate limited or unreachable: this affects all other notifications as well.
            429 | 502..=504 => DeliveryResult::retryable(problem()).blocks_receiver(self.retry_after),
            // The problem may be limited to this notification.
            408 | 425 | 500..=599 => match self.retry_after {
                Some(wait) => DeliveryResult::retryable(problem()).blocks_receiver(Some(wait)),
                None => DeliveryResult::retryable(problem()),
            },
            _ => DeliveryResult::failed(problem()),
        }
    }
}

/// Sends a request. Without a response, the error is the result of the delivery attempt.
pub(super) async fn exchange(request: reqwest::RequestBuilder) -> Result<Reply, DeliveryResult> {
    exchange_within(request, LARGEST).await
}

/// Sends a request like [`exchange`] and reads up to `max_bytes` of the response body.
pub(super) async fn exchange_within(
    request: reqwest::RequestBuilder,
    max_bytes: usize,
) -> Result<Reply, DeliveryResult> {
    match request.timeout(TIMEOUT).send().await {
        Ok(mut answer) => {
            let status = answer.status();
            let header = |name: &str| {
                let value = answer.headers().get(name).and_then(|value| value.to_str().ok());
                value.and_then(|text| answer::retry_after(text, Utc::now())).map(bounded)
            };
            let (retry_after, rate_limit_reset) = (header("retry-after"), header("ratelimit-reset"));
            // The status is already received and decides; a truncated body is sufficient.
            let body = answer::body(&mut answer, max_bytes).await.bytes;
            Ok(Reply { status, retry_after, rate_limit_reset, body: String::from_utf8_lossy(&body).into_owned() })
        }
        // Without a connection the notification cannot have arrived; after any other error it may have. The URL is
        // omitted, because it may contain a token.
        Err(error) if error.is_connect() => {
            Err(DeliveryResult::retryable(format!("no connection: {}", root(&error.without_url())))
                .blocks_receiver(None))
        }
        Err(error) if error.is_builder() => {
            Err(DeliveryResult::failed(format!("cannot build the request: {}", root(&error.without_url()))))
        }
        Err(error) => {
            Err(DeliveryResult::uncertain(format!("no response: {}", root(&error.without_url()))).blocks_receiver(None))
        }
    }
}

/// Limits a delay that a receiver asked for.
pub(super) fn bounded(wait: Duration) -> Duration {
    wait.min(LONGEST_WAIT)
}
