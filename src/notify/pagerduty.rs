//! PagerDuty's Events API, version 2 (its developer docs, `events-API-v2`).
//!
//! One alert per dedup key: what is told again of an open one is laid over it, and a resolve for one that is not open is
//! dropped there, so that a repeat does no harm.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value as Json, json};

use super::alerts::time;
use super::config::PagerDuty;
use super::exchange::{Reply, exchange};
use super::message::{Message, Wording};
use super::{Notifier, Tried, cut};
use crate::incident::{Event, Notice};
use crate::names::Reason;
use crate::scenario::Severity;

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

/// The event of a notice, without the routing key.
pub(super) fn event(notice: &Notice, message: &Message, wording: &Wording) -> Json {
    let incident = &notice.incident;
    let key = cut::key(&notice.key, KEY);
    if notice.event == Event::Resolved {
        return json!({"event_action": "resolve", "dedup_key": key});
    }
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

/// What an answer means: what was taken says so (202, `"status": "success"`), and too much means minutes.
fn judge(reply: &Reply) -> Tried {
    let tried = reply.judge();
    if reply.status == 429 {
        return tried.holds_all(reply.retry_after.or(Some(TOO_MUCH)));
    }
    let is_taken = reply.body.trim().is_empty() || reply.json().is_some_and(|body| body["status"] == "success");
    if reply.status.is_success() && !is_taken {
        return Tried::unsure(format!("the receiver did not say `success`: {}", reply.said()));
    }
    tried
}

#[async_trait]
impl Notifier for Pager {
    async fn notify(&self, notice: &Notice, _memo: Option<&Json>) -> Tried {
        let routing_key = match self.config.routing_key.read() {
            Ok(key) => key,
            Err(problem) => return Tried::refused(problem),
        };
        let mut event = event(notice, &self.wording.message(notice), &self.wording);
        event["routing_key"] = routing_key.into();
        match exchange(self.client.post(self.config.url.clone()).json(&event)).await {
            Ok(reply) => judge(&reply),
            Err(tried) => tried,
        }
    }
}
