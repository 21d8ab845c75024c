//! A POST of JSON. The body's shape is in `docs/webhook.md`.

use std::time::Duration;

use async_trait::async_trait;
use chrono::SecondsFormat;
use serde_json::{Value as Json, json};

use super::{Links, Notifier, headline};
use crate::incident::Notice;
use crate::store::Delivery;

/// How long a receiver may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Posts notices to a URL.
pub(super) struct Webhook {
    pub(super) client: reqwest::Client,
    pub(super) url: url::Url,
    pub(super) links: Links,
}

/// What is posted.
pub(super) fn body(notice: &Notice, links: &Links) -> Json {
    let incident = &notice.incident;
    let time = |at: chrono::DateTime<chrono::Utc>| at.to_rfc3339_opts(SecondsFormat::Millis, true);
    json!({
        "version": 1,
        "notice": notice.id,
        "dedup_key": incident.dedup_key(),
        "event": notice.event.as_str(),
        "repeat": notice.repeat,
        "receiver": notice.receiver,
        "text": headline(notice),
        "severity": incident.severity,
        "subject": incident.subject,
        "name": incident.name,
        "kind": incident.kind,
        "tags": incident.tags,
        "location": incident.location,
        "verdict": incident.verdict,
        "reason": incident.reason,
        "message": incident.message,
        "step": incident.step,
        "place": incident.place,
        "run": incident.last_run,
        "bad_runs": incident.bad_runs,
        "opened_at": time(incident.opened_at),
        "resolved_at": incident.resolved_at.map(time),
        "links": {"incident": links.incident(notice), "run": links.run(notice)},
    })
}

#[async_trait]
impl Notifier for Webhook {
    async fn notify(&self, notice: &Notice) -> Delivery {
        let sent = self
            .client
            .post(self.url.clone())
            .timeout(TIMEOUT)
            .header("idempotency-key", &notice.id)
            .json(&body(notice, &self.links))
            .send()
            .await;
        match sent {
            Ok(answer) if answer.status().is_success() => Delivery::Sent,
            Ok(answer) => {
                let status = answer.status();
                let retry = status.is_server_error() || status == 429 || status == 408;
                let problem = format!("the receiver answered {status}");
                if retry { Delivery::Refused(problem) } else { Delivery::Failed(problem) }
            }
            // Without a connection nothing can have arrived; any other error leaves a doubt. The URL may hold a
            // token, so it is not repeated.
            Err(error) if error.is_connect() => {
                Delivery::Refused(format!("no connection: {}", root(&error.without_url())))
            }
            Err(error) => Delivery::Unsure(format!("no answer: {}", root(&error.without_url()))),
        }
    }
}

fn root(error: &reqwest::Error) -> String {
    let mut last = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(inner) = next {
        last = inner.to_string();
        next = inner.source();
    }
    last
}
