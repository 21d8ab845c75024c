//! `wachta alerts test`: a notice that says it is a test, and the end of what it opened.

use chrono::{DateTime, Utc};
use serde_json::Value as Json;

use super::{Links, Receiver, Tools, masker, notifier};
use crate::incident::{Event, Incident, Notice, Subject};
use crate::outcome::{RunId, Verdict};
use crate::scenario::Severity;
use crate::store::Delivery;

/// What no scenario's id and no agent begins with.
const SUBJECT: &str = "test/";

/// How one notice of a trial fared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// What was told.
    pub event: Event,
    /// How the try ended; secrets masked.
    pub delivery: Delivery,
    /// What the receiver said; secrets masked.
    pub said: String,
}

/// Whether an incident is none.
pub(super) fn is_trial(incident: &Incident) -> bool {
    incident.subject.0.starts_with(SUBJECT)
}

/// One line for people.
pub(super) fn headline(notice: &Notice) -> String {
    let (name, place) = (&notice.incident.name, &notice.incident.location);
    match notice.event {
        Event::Resolved => format!("[TEST] {name} at {place} is over"),
        _ => format!("[TEST] {name} at {place}: nothing is wrong"),
    }
}

/// Tells a receiver of an incident that is none, and of its end, once each.
pub async fn trial(
    receiver: &Receiver,
    links: &Links,
    tools: &Tools,
    location: &str,
    now: DateTime<Utc>,
) -> Vec<Trial> {
    let notifier = notifier(receiver, links, tools);
    let masker = masker(receiver).await;
    let mut incident = incident(&receiver.name, location, now);
    let mut memo: Option<Json> = None;
    let mut trials = Vec::new();
    for event in [Event::Opened, Event::Resolved] {
        if event == Event::Resolved {
            incident.resolved_at = Some(Utc::now());
            incident.events += 1;
        }
        let note = "this is a test of the receiver; nothing is wrong";
        let notice = Notice { note: Some(note.into()), ..Notice::new(&incident, event, &receiver.name, Utc::now()) };
        let tried = notifier.notify(&notice, memo.as_ref()).await.masked(&masker);
        memo = tried.memo.or(memo);
        let taken = tried.delivery == Delivery::Sent;
        trials.push(Trial { event, delivery: tried.delivery, said: tried.said });
        if !taken {
            break;
        }
        notifier.embellish(&notice, memo.as_ref()).await;
        tokio::time::sleep(notifier.gap()).await;
    }
    trials
}

fn incident(receiver: &str, location: &str, now: DateTime<Utc>) -> Incident {
    Incident {
        subject: Subject(format!("{SUBJECT}{receiver}").into()),
        // Each trial is one of its own.
        opening: u64::try_from(now.timestamp_millis()).unwrap_or_default(),
        name: format!("test of the receiver `{receiver}`"),
        tags: std::collections::BTreeMap::new(),
        kind: "test".into(),
        severity: Severity::Info,
        location: location.to_owned(),
        opened_at: now,
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
