//! PagerDuty's Events API, version 2 (its developer docs, `events-API-v2`).
//!
//! One alert per dedup key: what is told again of an open one is laid over it, and a resolve for one that is not open is
//! dropped there, so that a repeat does no harm. What is laid over an open alert pages nobody; so what becomes louder is
//! an alert of its own, whose key says how loud, and the quieter one is resolved after it.
//! An incident that somebody has acknowledged is acknowledged there as well, and with a token of the REST API the other
//! way round (`pagerduty_poll`). The Events API has no event that takes this back, and
//! an end has no words: why an incident ended (removed, paused, by hand) is not shown there.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value as Json, json};

use super::alerts::time;
use super::config::PagerDuty;
use super::exchange::{Reply, exchange};
use super::feedback::{AT_RECEIVER, FeedbackChannel};
use super::message::{Message, Wording};
use super::{Notifier, Tried, cut, pagerduty_poll};
use crate::incident::{Event, Notice};
use crate::names::Reason;
use crate::scenario::Severity;
use crate::store::Delivery;

/// Characters of a dedup key.
const KEY: usize = 255;
/// Characters of a summary.
const SUMMARY: usize = 1024;
/// Bytes of a whole event: 512 KB, as Alertmanager counts it.
const EVENT: usize = 512_000;
/// How long to leave it alone when it says that it is too much, and not for how long: "a few minutes".
const TOO_MUCH: Duration = Duration::from_mins(2);
/// Bytes of one text among the details.
const DETAIL: usize = 16 << 10;

/// Posts events.
pub(super) struct Pager {
    pub(super) client: reqwest::Client,
    pub(super) config: PagerDuty,
    pub(super) wording: Wording,
}

/// The end of an alert, without the routing key.
fn end(key: &str) -> Json {
    json!({"event_action": "resolve", "dedup_key": key})
}

/// The events of a notice, without the routing key, and what is to be remembered once all of them are taken.
pub(super) fn events(
    notice: &Notice,
    memo: Option<&Json>,
    message: &Message,
    wording: &Wording,
) -> (Vec<Json>, Option<Json>) {
    let first = cut::key(&notice.dedup_key(), KEY);
    let known = memo.and_then(|memo| Some((memo["key"].as_str()?, Severity::named(memo["severity"].as_str()?)?)));
    let (key, was) = known.unwrap_or((&first, notice.incident.severity));
    let is = notice.incident.severity;
    if notice.event == Event::Resolved {
        return (vec![end(key)], Some(json!({"key": key, "severity": was.as_str(), "over": true})));
    }
    // A digest of what is over already: nobody has to get up for it.
    if notice.event == Event::Digest && !notice.incident.is_open() {
        return (Vec::new(), None);
    }
    if is <= was {
        let mut events = vec![event(notice, key, message, wording)];
        let mut memo_after = json!({"key": key, "severity": was.as_str()});
        if notice.incident.acknowledged.is_some() {
            // What a person has acknowledged there is so already.
            let there = memo.map(|memo| &memo[AT_RECEIVER]);
            let is_from_there = there.is_some_and(|there| there["alert"] == *key);
            if !is_from_there && memo.is_none_or(|memo| memo["acknowledged"] != true) {
                events.push(json!({"event_action": "acknowledge", "dedup_key": key}));
            }
            memo_after["acknowledged"] = true.into();
        }
        return (events, Some(memo_after));
    }
    let louder = cut::key(&format!("{} {is}", notice.dedup_key()), KEY);
    let events = vec![event(notice, &louder, message, wording), end(key)];
    (events, Some(json!({"key": louder, "severity": is.as_str()})))
}

/// What is to be shown of a notice under a key.
fn event(notice: &Notice, key: &str, message: &Message, wording: &Wording) -> Json {
    let incident = &notice.incident;
    let severity = match incident.severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    };
    let links: Vec<Json> = message.links.iter().map(|(name, url)| json!({"href": url, "text": name})).collect();
    // Only what PagerDuty can fetch by itself (its docs: HTTPS).
    let screenshot = wording.links.screenshot(notice).filter(|url| url.starts_with("https://"));
    let images: Vec<Json> =
        screenshot.iter().map(|url| json!({"src": url, "href": url, "alt": "the page when it failed"})).collect();
    let others = notice.others.iter().map(|other| match &other.step {
        Some(step) => cut::chars(&format!("{}: {step}", other.name), 300),
        None => cut::chars(&other.name, 300),
    });
    let text = |text: &str| cut::bytes(text, DETAIL);
    let mut event = json!({
        "event_action": "trigger",
        "dedup_key": key,
        "client": "wachta",
        "payload": {
            "summary": cut::chars(&message.title, SUMMARY),
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
                "note": notice.note.as_deref().map(text),
                "also_affected": others.collect::<Vec<_>>(),
                "not_listed": notice.uncounted,
            },
        },
        "links": links,
        "images": images,
    });
    if let Some(url) = wording.links.incident(notice) {
        event["client_url"] = url.into();
    }
    // Each text is bounded, and so is their number; should they ever be too much together, the summary says enough.
    if event.to_string().len() > EVENT - 4096 {
        event["payload"]["custom_details"] = json!({"description": "the details were too large and are left out"});
    }
    event
}

/// What an answer means: any good status is taken unless the body says otherwise, since a proxy may change 202 to 200 and
/// leave the body out; and too much means minutes.
fn judge(reply: &Reply) -> Tried {
    let tried = reply.judge();
    if reply.status == 429 {
        return tried.holds_all(reply.retry_after.or(Some(TOO_MUCH)));
    }
    if !reply.status.is_success() {
        return tried;
    }
    match reply.json().as_ref().and_then(|body| body["status"].as_str()) {
        Some("success") | None => reply.taken(),
        Some(_) => Tried::unsure(format!("the receiver did not say `success`: {}", reply.said())),
    }
}

#[async_trait]
impl Notifier for Pager {
    async fn notify(&self, notice: &Notice, memo: Option<&Json>) -> Tried {
        let routing_key = match self.config.routing_key.read().await {
            Ok(key) => key,
            Err(problem) => return Tried::refused(problem),
        };
        let (events, memo) = events(notice, memo, &self.wording.message(notice), &self.wording);
        let mut tried = Tried::sent("all of it is over: nobody is paged");
        for mut event in events {
            event["routing_key"] = routing_key.as_str().into();
            tried = match exchange(self.client.post(self.config.url.clone()).json(&event)).await {
                Ok(reply) => judge(&reply),
                Err(tried) => tried,
            };
            // A try that is made again sends all of them again, which does no harm.
            if tried.delivery != Delivery::Sent {
                return tried;
            }
        }
        tried.memo = memo;
        tried
    }

    fn remembers(&self) -> bool {
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
