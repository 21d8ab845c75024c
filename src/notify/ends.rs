//! Who was sent the beginning of an incident is sent its end, and nobody else is.
//!
//! Of what a receiver surely was not given a note is kept for it ([`UNDELIVERED`]): the end of that is passed over, and what
//! is delivered of it first is an opening. Of what was handed to a fallback a note is kept as well: the end is queued for the
//! fallback too, also when the receiver itself takes it.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde_json::Value as Json;

use super::Tried;
use crate::incident::{Event, Notice};
use crate::store::{Batch, Delivery, MemoChange, Result, Store, UNDELIVERED, undelivered};

/// Prefix of the keys under which is noted which notices were handed to the fallback, by their ids.
pub(super) const HANDED_OVER: &str = "fallback/";
/// Prefix of the keys under which is noted which incidents the fallback knows, by the keys of their notices.
pub(super) const AT_FALLBACK: &str = "at_fallback/";

/// Whether nothing of the incident was delivered to the receiver, since what said that it opened was given up.
pub(super) async fn is_undelivered(store: &dyn Store, notice: &Notice) -> bool {
    matches!(store.memo(&notice.receiver, &format!("{UNDELIVERED}{}", notice.key)).await, Ok(Some(_)))
}

/// What changes of the notes on the receiver with a final attempt; `was_undelivered` says what [`is_undelivered`] did.
pub(super) fn notes(notice: &Notice, tried: &Tried, was_undelivered: bool, may_have_arrived: bool) -> Vec<MemoChange> {
    match &tried.delivery {
        Delivery::Failed(_) if !may_have_arrived => undelivered(notice, Utc::now()).collect(),
        Delivery::Sent => {
            let own = was_undelivered.then_some(&notice.key);
            own.into_iter().chain(&notice.opens).map(|key| note(notice, UNDELIVERED, key, None)).collect()
        }
        _ => Vec::new(),
    }
}

fn note(notice: &Notice, prefix: &str, key: &str, memo: Option<Json>) -> MemoChange {
    MemoChange { receiver: notice.receiver.clone(), key: format!("{prefix}{key}"), memo, at: Utc::now() }
}

/// Queues the end of an incident for the fallback as well, if it knows the incident. Returns whether it does.
pub(super) async fn end_at_fallback(store: &dyn Store, notice: &Notice, batch: &mut Batch) -> bool {
    if notice.event != Event::Resolved {
        return false;
    }
    let stored = store.memo(&notice.receiver, &format!("{AT_FALLBACK}{}", notice.key)).await;
    let Ok(Some(Json::String(fallback))) = stored else { return false };
    batch.memos.push(note(notice, AT_FALLBACK, &notice.key, None));
    batch.notices.push(for_fallback(notice.clone(), &fallback));
    true
}

/// The same notice for another receiver.
fn for_fallback(notice: Notice, fallback: &str) -> Notice {
    Notice { id: format!("{}>{fallback}", notice.id), receiver: fallback.to_owned(), ..notice }
}

/// Queues what is queued for a receiver for its fallback as well, once: of an incident that the fallback does not know, an
/// opening and no end.
pub(super) async fn hand_over(
    store: &dyn Store,
    receiver: &str,
    fallback: &str,
    since: DateTime<Utc>,
    batch: &mut Batch,
) -> Result<()> {
    let stored = store.memos(receiver).await?;
    let handed: BTreeSet<&str> = stored.iter().filter_map(|(key, _)| key.strip_prefix(HANDED_OVER)).collect();
    let known = stored.iter().filter(|(_, memo)| memo == fallback);
    let mut known: BTreeSet<String> =
        known.filter_map(|(key, _)| key.strip_prefix(AT_FALLBACK).map(ToOwned::to_owned)).collect();
    for notice in store.owed(receiver, u32::MAX).await? {
        if handed.contains(notice.id.as_str()) {
            continue;
        }
        let is_known = known.contains(&notice.key);
        let event = match notice.event {
            Event::Resolved if !is_known => continue,
            Event::Resolved | Event::Digest => notice.event,
            _ if is_known => notice.event,
            _ => Event::Opened,
        };
        batch.memos.push(note(&notice, HANDED_OVER, &notice.id, Some(fallback.into())));
        if event == Event::Resolved {
            known.remove(&notice.key);
            batch.memos.push(note(&notice, AT_FALLBACK, &notice.key, None));
        } else {
            let keys: Vec<&String> = std::iter::once(&notice.key).chain(&notice.opens).collect();
            for key in keys.into_iter().filter(|key| known.insert((*key).clone())) {
                batch.memos.push(note(&notice, AT_FALLBACK, key, Some(fallback.into())));
            }
        }
        let why = format!("for `{receiver}`, which has taken nothing since {}", since.format("%T"));
        let why = notice.note.as_ref().map_or_else(|| why.clone(), |said| format!("{said}; {why}"));
        batch.notices.push(for_fallback(Notice { event, note: Some(why), ..notice }, fallback));
    }
    Ok(())
}
