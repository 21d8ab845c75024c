//! One request to a receiver and its answer, bounded in time and size, and what the answer means where the receiver has
//! no rules of its own.

use std::time::Duration;

use chrono::Utc;
use reqwest::StatusCode;
use serde_json::Value as Json;

use super::{Tried, cut};
use crate::bounded::answer::{self, root};

/// How long a receiver may take to answer.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);
/// No more of an answer is read.
const LARGEST: usize = 64 << 10;
/// A receiver that asks for more is asked again after this: a wrong figure must not silence it for ever.
const LONGEST_WAIT: Duration = Duration::from_hours(1);

/// An answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    /// How long the receiver wants to be left alone.
    pub(super) retry_after: Option<Duration>,
    /// The time after which its rate limit begins again, where it is given in seconds.
    pub(super) rate_limit_reset: Option<Duration>,
    /// As much of the body as came.
    pub(super) body: String,
}

impl Reply {
    /// The body as JSON, when it is.
    pub(super) fn json(&self) -> Option<Json> {
        serde_json::from_str(&self.body).ok()
    }

    /// The status and the beginning of the body, on one line.
    pub(super) fn said(&self) -> String {
        let body = cut::chars(&cut::line(&self.body), 300);
        if body.is_empty() { self.status.to_string() } else { format!("{}: {body}", self.status) }
    }

    /// What an answer with a good status means whose body may say otherwise: a web page where none belongs is that of a
    /// proxy or a login, which took nothing.
    pub(super) fn taken(&self) -> Tried {
        if self.body.trim_start().starts_with('<') {
            let problem = format!("a web page answered, not the receiver: {}", self.said());
            return Tried::refused(problem).holds_all(None);
        }
        Tried::sent(self.said())
    }

    /// What an answer means by its status alone.
    pub(super) fn judge(&self) -> Tried {
        let problem = || format!("the receiver answered {}", self.said());
        match self.status.as_u16() {
            200..=299 => Tried::sent(self.said()),
            // Where it is, and as whom it is spoken to, is ours to set right: it stays queued until somebody has.
            300..=399 => Tried::refused(format!("{}; redirects are not followed", problem())).holds_all(None),
            401..=405 | 407 | 410 => {
                Tried::refused(format!("{}; check its URL and credential", problem())).holds_all(None)
            }
            // Too much, or not there at all: whatever else is owed would fare no better.
            429 | 502..=504 => Tried::refused(problem()).holds_all(self.retry_after),
            // It may be this notice that it stumbles over.
            408 | 425 | 500..=599 => match self.retry_after {
                Some(wait) => Tried::refused(problem()).holds_all(Some(wait)),
                None => Tried::refused(problem()),
            },
            _ => Tried::failed(problem()),
        }
    }
}

/// Sends a request. Without an answer, what that means for the notice.
pub(super) async fn exchange(request: reqwest::RequestBuilder) -> Result<Reply, Tried> {
    exchange_within(request, LARGEST).await
}

/// As [`exchange`], with up to `max_bytes` of the answer's body.
pub(super) async fn exchange_within(request: reqwest::RequestBuilder, max_bytes: usize) -> Result<Reply, Tried> {
    match request.timeout(TIMEOUT).send().await {
        Ok(mut answer) => {
            let status = answer.status();
            let header = |name: &str| {
                let value = answer.headers().get(name).and_then(|value| value.to_str().ok());
                value.and_then(|text| answer::retry_after(text, Utc::now())).map(bounded)
            };
            let (retry_after, rate_limit_reset) = (header("retry-after"), header("ratelimit-reset"));
            // The status has come and counts; a body that is cut off is as good as its beginning.
            let body = answer::body(&mut answer, max_bytes).await.bytes;
            Ok(Reply { status, retry_after, rate_limit_reset, body: String::from_utf8_lossy(&body).into_owned() })
        }
        // Without a connection nothing can have arrived; any other error leaves a doubt. The URL may hold a token, so it
        // is not repeated.
        Err(error) if error.is_connect() => {
            Err(Tried::refused(format!("no connection: {}", root(&error.without_url()))).holds_all(None))
        }
        Err(error) if error.is_builder() => {
            Err(Tried::failed(format!("no request can be made: {}", root(&error.without_url()))))
        }
        Err(error) => Err(Tried::unsure(format!("no answer: {}", root(&error.without_url()))).holds_all(None)),
    }
}

/// A wait that somebody asks for, within reason.
pub(super) fn bounded(wait: Duration) -> Duration {
    wait.min(LONGEST_WAIT)
}
