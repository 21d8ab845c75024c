//! PagerDuty Events API, version 2 (developer documentation, `events-API-v2`).
//!
//! There is one alert per dedup key: a further trigger of an open alert updates it, and a resolve of an alert that is
//! not open is ignored, so that a repeat has no effect. Updates of an open alert page nobody. Therefore a raised
//! severity creates a new alert, with the severity in its key, and then resolves the former one. An incident
//! acknowledged here is acknowledged there as well, and vice versa with a token of the REST API (`pagerduty_poll`). The
//! Events API has no event that withdraws an acknowledgement, and a resolve has no text, so the cause of the end
//! (removed, paused, by hand) is not shown there.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value as Json, json};

use super::alerts::time;
use super::config::PagerDuty;
use super::exchange::{Reply, exchange};
use super::feedback::{AT_RECEIVER, FeedbackChannel};
use super::message::{Message, MessageRenderer};
use super::{DeliveryResult, Notifier, pagerduty_poll, truncate};
use crate::incident::{Event, Notification};
use crate::names::Reason;
use crate::scenario::Severity;
use crate::store::DeliveryStatus;

/// Maximum number of characters of a dedup key.
const KEY: usize = 255;
/// Maximum number of characters of a summary.
const SUMMARY: usize = 1024;
/// Maximum number of bytes of an event: 512 KB, as counted by Alertmanager.
const EVENT: usize = 512_000;
/// Delay after a rate limit response without a time: "a few minutes".
const TOO_MUCH: Duration = Duration::from_mins(2);
/// Maximum number of bytes of one text in the details.
const DETAIL: usize = 16 << 10;

/// Notifier that sends events.
pub(super) struct PagerDutyNotifier {
    pub(super) client: reqwest::Client,
    pub(super) config: PagerDuty,
    pub(super) wording: MessageRenderer,
}

/// Returns the event that resolves an alert, without the routing key.
fn end(key: &str) -> Json {
    json!({"event_action": "resolve", "dedup_key": key})
}

/// Returns the events of a notification, without the routing key, and the receiver state to store once all of them are
/// accepted.
pub(super) fn events(
    notification: &Notification,
    receiver_state: Option<&Json>,
    message: &Message,
    wording: &MessageRenderer,
) -> (Vec<Json>, Option<Json>) {
    let first = truncate::key(&notification.dedup_key(), KEY);
    let known = receiver_state.and_then(|receiver_state| {
        Some((receiver_state["key"].as_str()?, Severity::named(receiver_state["severity"].as_str()?)?))
    });
    let (key, was) = known.unwrap_or((&first, notification.incident.severity));
    let is = notification.incident.severity;
    if notification.event == Event::Resolved {
        return (vec![end(key)], Some(json!({"key": key, "severity": was.as_str(), "over": true})));
    }
    // A digest of resolved incidents does not have to page anyone.
    if notification.event == Event::Digest && !notification.incident.is_open() {
        return (Vec::new(), None);
    }
    if is <= was {
        let mut events = vec![event(notification, key, message, wording)];
        let mut memo_after = json!({"key": key, "severity": was.as_str()});
        if notification.incident.acknowledged.is_some() {
            // An acknowledgement made at PagerDuty is already in effect there.
            let there = receiver_state.map(|receiver_state| &receiver_state[AT_RECEIVER]);
            let is_from_there = there.is_some_and(|there| there["alert"] == *key);
            if !is_from_there && receiver_state.is_none_or(|receiver_state| receiver_state["acknowledged"] != true) {
                events.push(json!({"event_action": "acknowledge", "dedup_key": key}));
            }
            memo_after["acknowledged"] = true.into();
        }
        return (events, Some(memo_after));
    }
    let louder = truncate::key(&format!("{} {is}", notification.dedup_key()), KEY);
    let events = vec![event(notification, &louder, message, wording), end(key)];
    (events, Some(json!({"key": louder, "severity": is.as_str()})))
}

/// Returns the event that triggers or updates an alert.
fn event(notification: &Notification, key: &str, message: &Message, wording: &MessageRenderer) -> Json {
    let incident = &notification.incident;
    let severity = match incident.severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    };
    let links: Vec<Json> = message.links.iter().map(|(name, url)| json!({"href": url, "text": name})).collect();
    // Only images that PagerDuty can fetch itself, which requires HTTPS according to its documentation.
    let screenshot = wording.links.screenshot(notification).filter(|url| url.starts_with("https://"));
    let images: Vec<Json> =
        screenshot.iter().map(|url| json!({"src": url, "href": url, "alt": "the page when it failed"})).collect();
    let others = notification.others.iter().map(|other| match &other.step {
        Some(step) => truncate::chars(&format!("{}: {step}", other.name), 300),
        None => truncate::chars(&other.name, 300),
    });
    let text = |text: &str| truncate::bytes(text, DETAIL);
    let mut event = json!({
        "event_action": "trigger",
        "dedup_key": key,
        "client": "wachta",
        "payload": {
            "summary": truncate::chars(&message.title, SUMMARY),
            "source": incident.location,
            "severity": severity,
            "timestamp": time(incident.opened_at),
            "component": incident.subject,
            "group": incident.tags.get("service").map(|tag| text(tag)),
            "class": incident.reason.map(Reason::as_str),
            "custom_details": {
                "description": text(&message.text),
                "step": incident.step.as_deref().map(text),
                "message": incident.message.as_deref().map(text),
                "place": incident.place.as_deref().map(text),
                "note": notification.note.as_deref().map(text),
                "also_affected": others.collect::<Vec<_>>(),
                "not_listed": notification.uncounted,
            },
        },
        "links": links,
        "images": images,
    });
    if let Some(url) = wording.links.incident(notification) {
        event["client_url"] = url.into();
    }
    // Each text is limited, and so is their number. If they are still too large together, the summary is sufficient.
    if event.to_string().len() > EVENT - 4096 {
        event["payload"]["custom_details"] = json!({"description": "the details were too large and are omitted"});
    }
    event
}

/// Interprets a response. Any good status counts as accepted unless the body contradicts it, because a proxy may change
/// 202 to 200 and remove the body. A rate limit lasts for minutes.
fn judge(reply: &Reply) -> DeliveryResult {
    let tried = reply.judge();
    if reply.status == 429 {
        return tried.blocks_receiver(reply.retry_after.or(Some(TOO_MUCH)));
    }
    if !reply.status.is_success() {
        return tried;
    }
    match reply.json().as_ref().and_then(|body| body["status"].as_str()) {
        Some("success") | None => reply.taken(),
        Some(_) => DeliveryResult::uncertain(format!(
            "the receiver's response does not contain `success`: {}",
            reply.response()
        )),
    }
}

#[async_trait]
impl Notifier for PagerDutyNotifier {
    async fn notify(&self, notification: &Notification, receiver_state: Option<&Json>) -> DeliveryResult {
        let routing_key = match self.config.routing_key.read().await {
            Ok(key) => key,
            Err(problem) => return DeliveryResult::retryable(problem),
        };
        let (events, receiver_state) =
            events(notification, receiver_state, &self.wording.message(notification), &self.wording);
        let mut tried = DeliveryResult::sent("all incidents are resolved: no page sent");
        for mut event in events {
            event["routing_key"] = routing_key.as_str().into();
            tried = match exchange(self.client.post(self.config.url.clone()).json(&event)).await {
                Ok(reply) => judge(&reply),
                Err(tried) => tried,
            };
            // A further attempt sends all events again, which has no effect on those already accepted.
            if tried.delivery != DeliveryStatus::Delivered {
                return tried;
            }
        }
        tried.receiver_state = receiver_state;
        tried
    }

    fn keeps_state(&self) -> bool {
        true
    }

    fn has_feedback(&self) -> bool {
        self.config.api.is_some()
    }

    async fn receive(&self, channel: &FeedbackChannel) {
        match &self.config.api {
            Some(api) => pagerduty_poll::watch(&self.client, api, channel).await,
            None => std::future::pending().await,
        }
    }
}
