//! Webhook: POST request with JSON. The format is described in `docs/webhook.md`.

use std::collections::BTreeSet;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::{Value as Json, json};

use super::alerts::{self, time};
use super::config::{Webhook, WebhookFormat};
use super::exchange::exchange;
use super::message::{Message, MessageRenderer};
use super::{DeliveryResult, Links, Notifier};
use crate::incident::{Ending, Event, Notification};
use crate::store::DeliveryStatus;

/// Notifier that posts to a URL.
pub(super) struct WebhookNotifier {
    pub(super) client: reqwest::Client,
    pub(super) config: Webhook,
    pub(super) wording: MessageRenderer,
}

/// Returns the cause of a resolved incident's end.
fn ending(ending: Option<Ending>) -> &'static str {
    ending.map_or("recovered", Ending::as_str)
}

/// Returns the request body.
pub(super) fn body(notification: &Notification, message: &Message, links: &Links) -> Json {
    let incident = &notification.incident;
    let others = notification.others.iter().map(|other| {
        json!({
            "subject": other.subject,
            "name": other.name,
            "severity": other.severity,
            "location": other.location,
            "step": other.step,
            "message": other.message,
            "opened_at": time(other.opened_at),
            "resolved_at": other.resolved_at.map(time),
            "run": other.last_run,
            "ending": other.resolved_at.map(|_| ending(other.ending)),
        })
    });
    json!({
        "version": 1,
        "notification": notification.id,
        "dedup_key": notification.dedup_key(),
        "event": notification.event.as_str(),
        "repeat": notification.repeat,
        "receiver": notification.receiver,
        "text": message.title,
        "description": message.text,
        "note": notification.note,
        "severity": incident.severity,
        "subject": incident.subject,
        "name": incident.name,
        "kind": incident.kind,
        "tags": incident.tags,
        "location": incident.location,
        "verdict": incident.verdict,
        "reason": incident.reason,
        "message": incident.message,
        "difference": incident.difference,
        "step": incident.step,
        "place": incident.place,
        "run": incident.last_run,
        "bad_runs": incident.bad_runs,
        "began_at": time(incident.began()),
        "opened_at": time(incident.opened_at),
        "resolved_at": incident.resolved_at.map(time),
        "target": incident.target,
        "ending": incident.resolved_at.map(|_| ending(incident.ending)),
        "ending_reason": incident.ending_reason,
        "unwatched": incident.unwatched.as_ref().map(|it| json!({"since": time(it.since), "reason": it.reason})),
        "acknowledged": incident.acknowledged.as_ref().map(|it| {
            json!({"author": it.author, "at": time(it.at), "until": it.until.map(time)})
        }),
        "others": others.collect::<Vec<_>>(),
        "omitted": notification.uncounted,
        "runbook": incident.runbook,
        "links": {
            "incident": links.incident(notification),
            "run": links.run(notification),
            "silence": links.silence(notification),
            "screenshot": links.screenshot(notification),
        },
    })
}

/// Returns the request body in Alertmanager's format (`docs/configuration.md` of Alertmanager, `webhook_config`,
/// version 4).
///
/// `firing` contains the alerts left firing by the last notification with this key. If one of them is missing in this
/// notification, by its labels (its severity was raised), it is reported as resolved, so that no alert stays firing
/// under labels that are no longer used.
pub(super) fn alertmanager_body(
    notification: &Notification,
    message: &Message,
    links: &Links,
    firing: &[Json],
    now: DateTime<Utc>,
) -> Json {
    const NEVER: &str = "0001-01-01T00:00:00Z";
    let state = |is_resolved| if is_resolved { "resolved" } else { "firing" };
    let incident = &notification.incident;
    let is_over = notification.event == Event::Resolved;
    let mut sets = vec![alerts::labels(notification)];
    let mut all = vec![json!({
        "status": state(is_over),
        "labels": sets[0],
        "annotations": alerts::annotations(notification, message),
        "startsAt": time(incident.opened_at),
        "endsAt": incident.resolved_at.filter(|_| is_over).map_or_else(|| NEVER.to_owned(), time),
        "generatorURL": links.run(notification).unwrap_or_default(),
        "fingerprint": alerts::fingerprint(&sets[0]),
    })];
    for other in &notification.others {
        let labels = alerts::own(&other.subject, other.severity.as_str(), &other.location);
        let texts =
            [("name", Some(&*other.name)), ("step", other.step.as_deref()), ("message", other.message.as_deref())];
        let annotations: Json = texts.into_iter().filter_map(|(name, text)| Some((name, text?))).collect();
        all.push(json!({
            "status": state(is_over || other.resolved_at.is_some()),
            "labels": labels,
            "annotations": annotations,
            "startsAt": time(other.opened_at),
            "endsAt": other.resolved_at.map_or_else(|| NEVER.to_owned(), time),
            "generatorURL": links.run_of(other.last_run).unwrap_or_default(),
            "fingerprint": alerts::fingerprint(&labels),
        }));
        sets.push(labels);
    }
    let current: BTreeSet<String> = sets.iter().map(alerts::fingerprint).collect();
    for old in firing.iter().filter(|old| old["fingerprint"].as_str().is_some_and(|print| !current.contains(print))) {
        let mut over = old.clone();
        over["status"] = state(true).into();
        over["endsAt"] = notification.incident.resolved_at.filter(|_| is_over).map_or_else(|| time(now), time).into();
        all.push(over);
    }
    let mut common = sets[0].clone();
    common.retain(|name, value| sets.iter().all(|labels| labels.get(name) == Some(value)));
    let reason = match notification.event {
        Event::Opened => "first notification",
        Event::Updated => "new alerts added",
        Event::Resolved => "all alerts resolved",
        Event::Reminder | Event::Digest => "repeat interval elapsed",
    };
    json!({
        "version": "4",
        "groupKey": notification.dedup_key(),
        "truncatedAlerts": notification.uncounted,
        "status": state(is_over),
        "receiver": notification.receiver,
        "groupLabels": {},
        "commonLabels": common,
        "commonAnnotations": if all.len() == 1 { all[0]["annotations"].clone() } else { json!({}) },
        "externalURL": links.base().map(|base| base.as_str().trim_end_matches('/')).unwrap_or_default(),
        "notification_reason": reason,
        "alerts": all,
    })
}

/// Encodes a text for a header: everything except printable ASCII is percent-encoded.
fn header_text(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::CONTROLS).to_string()
}

#[async_trait]
impl Notifier for WebhookNotifier {
    async fn notify(&self, notification: &Notification, receiver_state: Option<&Json>) -> DeliveryResult {
        let url = match self.config.url.url().await {
            Ok(url) => url,
            Err(problem) => return DeliveryResult::retryable(problem),
        };
        let message = self.wording.message(notification);
        let body = match self.config.format {
            WebhookFormat::Wachta => body(notification, &message, &self.wording.links),
            WebhookFormat::Alertmanager => {
                let firing = receiver_state.and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
                alertmanager_body(notification, &message, &self.wording.links, firing, Utc::now())
            }
        };
        let mut request = self.client.post(url).header("idempotency-key", header_text(&notification.id)).json(&body);
        for (name, value) in &self.config.headers {
            match value.read().await {
                Ok(value) => request = request.header(name, value),
                Err(problem) => return DeliveryResult::retryable(problem),
            }
        }
        let tried = match exchange(request).await {
            Ok(reply) => reply.judge(),
            Err(tried) => tried,
        };
        if !self.keeps_state() || tried.delivery != DeliveryStatus::Delivered {
            return tried;
        }
        let firing = body["alerts"].as_array().into_iter().flatten().filter(|alert| alert["status"] == "firing");
        let firing: Vec<Json> = firing.cloned().collect();
        tried.remember(firing.into())
    }

    fn keeps_state(&self) -> bool {
        self.config.format == WebhookFormat::Alertmanager
    }
}
