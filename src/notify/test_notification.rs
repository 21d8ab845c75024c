//! `wachta alerts test`: a notification marked as a test, followed by its resolution.

use chrono::{DateTime, Utc};
use serde_json::Value as Json;

use super::{Links, NotifierServices, Receiver, masker, notifier};
use crate::incident::{Event, Incident, Notification, Subject};
use crate::outcome::{RunId, Verdict};
use crate::scenario::Severity;
use crate::store::DeliveryStatus;

/// Result of one test notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestNotification {
    /// Event of the notification.
    pub event: Event,
    /// Result of the attempt, with secrets masked.
    pub delivery: DeliveryStatus,
    /// Response of the receiver, with secrets masked.
    pub response: String,
}

/// Returns whether an incident is a test.
pub(super) fn is_trial(incident: &Incident) -> bool {
    matches!(incident.subject, Subject::Test(_))
}

/// Returns the headline of a test notification.
pub(super) fn headline(notification: &Notification) -> String {
    let (name, place) = (&notification.incident.name, &notification.incident.location);
    match notification.event {
        Event::Resolved => format!("[TEST] {name} at {place} resolved"),
        _ => format!("[TEST] {name} at {place}: no real incident"),
    }
}

/// Sends a test incident and its resolution to a receiver, one attempt each.
pub async fn send_test(
    receiver: &Receiver,
    links: &Links,
    tools: &NotifierServices,
    location: &str,
    now: DateTime<Utc>,
) -> Vec<TestNotification> {
    let notifier = notifier(receiver, links, tools);
    let masker = masker(receiver).await;
    let mut incident = incident(&receiver.name, location, now);
    let mut receiver_state: Option<Json> = None;
    let mut trials = Vec::new();
    for event in [Event::Opened, Event::Resolved] {
        if event == Event::Resolved {
            incident.resolved_at = Some(Utc::now());
            incident.events += 1;
        }
        let note = "test notification; there is no incident";
        let notification =
            Notification { note: Some(note.into()), ..Notification::new(&incident, event, &receiver.name, Utc::now()) };
        let tried = notifier.notify(&notification, receiver_state.as_ref()).await.masked(&masker);
        receiver_state = tried.receiver_state.or(receiver_state);
        let taken = tried.delivery == DeliveryStatus::Delivered;
        trials.push(TestNotification { event, delivery: tried.delivery, response: tried.response });
        if !taken {
            break;
        }
        notifier.after_delivery(&notification, receiver_state.as_ref()).await;
        tokio::time::sleep(notifier.min_interval()).await;
    }
    trials
}

fn incident(receiver: &str, location: &str, now: DateTime<Utc>) -> Incident {
    Incident {
        subject: Subject::Test(receiver.into()),
        // Each test is a separate incident.
        sequence: u64::try_from(now.timestamp_millis()).unwrap_or_default(),
        name: format!("test of the receiver `{receiver}`"),
        tags: std::collections::BTreeMap::new(),
        kind: "test".into(),
        severity: Severity::Info,
        location: location.to_owned(),
        opened_at: now,
        began_at: None,
        opened_by: RunId(uuid::Uuid::nil()),
        resolved_at: None,
        resolved_by: None,
        verdict: Verdict::Failed,
        last_run: RunId(uuid::Uuid::nil()),
        reason: None,
        message: None,
        step: None,
        place: None,
        difference: None,
        screenshot: None,
        runbook: None,
        bad_runs: 1,
        events: 1,
        receivers: vec![receiver.to_owned()],
        target: None,
        ending: None,
        ending_reason: None,
        unwatched: None,
        acknowledged: None,
    }
}
