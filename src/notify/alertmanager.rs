//! Prometheus Alertmanager: its API, version 2 (`api/v2/openapi.yaml` and `docs/alerts_api.md` of Alertmanager).
//!
//! The protocol requires of a client to notify every peer, to resend firing alerts in time, with an end in the future,
//! so that the alerts of a stopped client resolve by themselves, and to resend resolved alerts for five minutes. The
//! data for resending is stored as receiver state, so that it continues after a restart.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value as Json, json};

use super::alerts::{self, time};
use super::config::Alertmanager;
use super::exchange::exchange;
use super::message::{Message, MessageRenderer};
use super::{DeliveryResult, Notifier};
use crate::incident::{Event, Notification};
use crate::store::DeliveryStatus;

/// Time for which resolved alerts are resent.
const RESOLVED: TimeDelta = TimeDelta::minutes(5);
/// Number of missing resends after which a firing alert ends, with an interval of at least one minute: the rule of
/// Prometheus itself (`endsAt = now + 4 × max(interval, 1m)`).
const RESENDS: u32 = 4;
/// Maximum number of alerts in one request.
const BATCH: usize = 200;

/// Notifier for all peers of an Alertmanager.
pub(super) struct AlertmanagerNotifier {
    pub(super) client: reqwest::Client,
    pub(super) config: Alertmanager,
    pub(super) wording: MessageRenderer,
}

/// Returns the receiver state of a notification: its alert without the end, and former label sets of it.
pub(super) fn receiver_state(
    notification: &Notification,
    message: &Message,
    wording: &MessageRenderer,
    before: Option<&Json>,
    now: DateTime<Utc>,
) -> Json {
    let mut labels = json!(alerts::labels(notification));
    // Two incidents of one scenario are two alerts, so that a late end of the first never ends the second.
    labels["dedup_key"] = notification.dedup_key().into();
    let mut outgrown: Vec<Json> = Vec::new();
    if let Some(before) = before {
        // A raised severity changes the labels and therefore creates a new alert; the former one is resolved.
        let last = json!({"labels": before["labels"], "endsAt": time(now)});
        outgrown = before["outgrown"].as_array().into_iter().flatten().cloned().chain([last]).collect();
        outgrown.retain(|old| old["labels"] != labels && !is_over(old, now));
    }
    json!({
        "labels": labels,
        "annotations": alerts::annotations(notification, message),
        "startsAt": time(notification.incident.opened_at),
        "generatorURL": wording.links.incident(notification).unwrap_or_default(),
        "endsAt": notification.incident.resolved_at.filter(|_| matches!(notification.event, Event::Resolved | Event::Digest)).map(time),
        "outgrown": outgrown,
    })
}

/// Returns whether an alert ended so long ago that it is not resent.
fn is_over(receiver_state: &Json, now: DateTime<Utc>) -> bool {
    let end = receiver_state["endsAt"].as_str().and_then(|end| DateTime::parse_from_rfc3339(end).ok());
    end.is_some_and(|end| now - end.to_utc() > RESOLVED)
}

/// Returns the alerts of a receiver state as of `now`.
pub(super) fn of_memo(receiver_state: &Json, now: DateTime<Utc>, resend: Duration) -> Vec<Json> {
    let ahead = TimeDelta::from_std(resend.max(Duration::from_mins(1)) * RESENDS).unwrap_or(TimeDelta::minutes(4));
    let outgrown = receiver_state["outgrown"].as_array().into_iter().flatten().filter(|old| !is_over(old, now));
    let all = std::iter::once(receiver_state).chain(outgrown).map(|alert| {
        json!({
            "labels": alert["labels"],
            "annotations": receiver_state["annotations"],
            "startsAt": receiver_state["startsAt"],
            "endsAt": alert["endsAt"].as_str().map_or_else(|| time(now + ahead), ToOwned::to_owned),
            "generatorURL": receiver_state["generatorURL"],
        })
    });
    all.collect()
}

impl AlertmanagerNotifier {
    /// Sends alerts to all peers in parallel. They count as delivered when one peer accepted them, because the next
    /// resend reaches the others.
    async fn post(&self, alerts: &[Json]) -> DeliveryResult {
        let posts = self.config.urls.iter().map(async |peer| {
            let url = match peer.url().await {
                Ok(url) => url,
                Err(problem) => return DeliveryResult::retryable(problem),
            };
            let base = url.as_str().trim_end_matches('/').to_owned();
            match exchange(self.client.post(format!("{base}/api/v2/alerts")).json(alerts)).await {
                Ok(reply) => reply.judge(),
                Err(tried) => tried,
            }
        });
        let tries = futures_util::future::join_all(posts).await;
        let response: Vec<String> = tries.iter().map(|tried| tried.response.clone()).collect();
        let rank = |tried: &DeliveryResult| match tried.delivery {
            DeliveryStatus::Delivered => 0,
            // Accepted in part: the rest is invalid and remains so. It is not sent again.
            DeliveryStatus::Failed(_) => 1,
            DeliveryStatus::Retryable(_) => 2,
            DeliveryStatus::Uncertain(_) => 3,
        };
        let best = tries.into_iter().min_by_key(rank);
        let mut best = best.unwrap_or_else(|| DeliveryResult::failed("no Alertmanager is configured"));
        best.response = response.join("; ");
        best
    }
}

#[async_trait]
impl Notifier for AlertmanagerNotifier {
    async fn notify(&self, notification: &Notification, before: Option<&Json>) -> DeliveryResult {
        let now = Utc::now();
        let receiver_state =
            receiver_state(notification, &self.wording.message(notification), &self.wording, before, now);
        let tried = self.post(&of_memo(&receiver_state, now, self.config.resend)).await;
        if tried.delivery == DeliveryStatus::Delivered { tried.remember(receiver_state) } else { tried }
    }

    fn keeps_state(&self) -> bool {
        true
    }

    fn resend_interval(&self) -> Option<Duration> {
        Some(self.config.resend)
    }

    async fn resend(&self, receiver_states: &[(String, Json)], now: DateTime<Utc>) -> Vec<String> {
        let (mut over, mut all) = (Vec::new(), Vec::new());
        for (key, receiver_state) in receiver_states {
            if is_over(receiver_state, now) {
                over.push(key.clone());
            } else {
                all.extend(of_memo(receiver_state, now, self.config.resend));
            }
        }
        for batch in all.chunks(BATCH) {
            let tried = self.post(batch).await;
            if tried.delivery != DeliveryStatus::Delivered {
                let problem = tried.response;
                tracing::warn!(alerts = batch.len(), problem, "cannot resend open incidents to Alertmanager");
            }
        }
        over
    }
}
