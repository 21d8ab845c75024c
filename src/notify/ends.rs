//! Resolutions: every receiver that was notified of an incident's opening is notified of its resolution, and no other
//! one.
//!
//! If a notification surely did not arrive, a mark is stored for the receiver ([`UNDELIVERED`]): the resolution is then
//! skipped, and the first delivered notification becomes an opening. If a notification was passed to a fallback, a mark
//! is stored as well: the resolution is then queued for the fallback too, even if the receiver itself accepts it.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde_json::Value as Json;

use super::DeliveryResult;
use crate::incident::{Event, Notification};
use crate::store::{Batch, DeliveryStatus, ReceiverStateChange, Result, Store, UNDELIVERED, undelivered};

/// Prefix of the receiver state keys that mark notifications passed to the fallback, by notification id.
pub(super) const HANDED_OVER: &str = "fallback/";
/// Prefix of the receiver state keys that mark incidents of which the fallback was notified, by dedup key.
pub(super) const AT_FALLBACK: &str = "at_fallback/";

/// Returns whether no notification of the incident was delivered to the receiver, because the opening was given up.
pub(super) async fn is_undelivered(store: &dyn Store, notification: &Notification) -> bool {
    matches!(
        store.receiver_state(&notification.receiver, &format!("{UNDELIVERED}{}", notification.key)).await,
        Ok(Some(_))
    )
}

/// Returns the changes of the receiver's marks after a final attempt. `was_undelivered` is the result of
/// [`is_undelivered`].
pub(super) fn notes(
    notification: &Notification,
    tried: &DeliveryResult,
    was_undelivered: bool,
    may_have_arrived: bool,
) -> Vec<ReceiverStateChange> {
    match &tried.delivery {
        DeliveryStatus::Failed(_) if !may_have_arrived => undelivered(notification, Utc::now()).collect(),
        DeliveryStatus::Delivered => {
            let own = was_undelivered.then_some(&notification.key);
            own.into_iter().chain(&notification.opens).map(|key| note(notification, UNDELIVERED, key, None)).collect()
        }
        _ => Vec::new(),
    }
}

fn note(notification: &Notification, prefix: &str, key: &str, receiver_state: Option<Json>) -> ReceiverStateChange {
    ReceiverStateChange {
        receiver: notification.receiver.clone(),
        key: format!("{prefix}{key}"),
        receiver_state,
        at: Utc::now(),
    }
}

/// Queues the resolution of an incident for the fallback as well, if the fallback was notified of the incident. Returns
/// whether it was.
pub(super) async fn end_at_fallback(store: &dyn Store, notification: &Notification, batch: &mut Batch) -> bool {
    if notification.event != Event::Resolved {
        return false;
    }
    let stored = store.receiver_state(&notification.receiver, &format!("{AT_FALLBACK}{}", notification.key)).await;
    let Ok(Some(Json::String(fallback))) = stored else { return false };
    batch.receiver_states.push(note(notification, AT_FALLBACK, &notification.key, None));
    batch.notifications.push(for_fallback(notification.clone(), &fallback));
    true
}

/// Returns the same notification for another receiver.
fn for_fallback(notification: Notification, fallback: &str) -> Notification {
    Notification { id: format!("{}>{fallback}", notification.id), receiver: fallback.to_owned(), ..notification }
}

/// Queues the notifications of a receiver for its fallback as well, each once. For an incident that the fallback was
/// not notified of, an opening is queued and resolutions are skipped.
pub(super) async fn hand_over(
    store: &dyn Store,
    receiver: &str,
    fallback: &str,
    since: DateTime<Utc>,
    batch: &mut Batch,
) -> Result<()> {
    let stored = store.receiver_states(receiver).await?;
    let handed: BTreeSet<&str> = stored.iter().filter_map(|(key, _)| key.strip_prefix(HANDED_OVER)).collect();
    let known = stored.iter().filter(|(_, receiver_state)| receiver_state == fallback);
    let mut known: BTreeSet<String> =
        known.filter_map(|(key, _)| key.strip_prefix(AT_FALLBACK).map(ToOwned::to_owned)).collect();
    for notification in store.queued(receiver, u32::MAX).await? {
        if handed.contains(notification.id.as_str()) {
            continue;
        }
        let is_known = known.contains(&notification.key);
        let event = match notification.event {
            Event::Resolved if !is_known => continue,
            Event::Resolved | Event::Digest => notification.event,
            _ if is_known => notification.event,
            _ => Event::Opened,
        };
        batch.receiver_states.push(note(&notification, HANDED_OVER, &notification.id, Some(fallback.into())));
        if event == Event::Resolved {
            known.remove(&notification.key);
            batch.receiver_states.push(note(&notification, AT_FALLBACK, &notification.key, None));
        } else {
            let keys: Vec<&String> = std::iter::once(&notification.key).chain(&notification.opens).collect();
            for key in keys.into_iter().filter(|key| known.insert((*key).clone())) {
                batch.receiver_states.push(note(&notification, AT_FALLBACK, key, Some(fallback.into())));
            }
        }
        let why = format!("fallback for `{receiver}`, which has accepted no notification since {}", since.format("%T"));
        let why = notification.note.as_ref().map_or_else(|| why.clone(), |response| format!("{response}; {why}"));
        batch.notifications.push(for_fallback(Notification { event, note: Some(why), ..notification }, fallback));
    }
    Ok(())
}
