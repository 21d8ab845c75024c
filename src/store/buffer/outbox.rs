//! Data that deliveries and heartbeats keep in memory: queued notifications, receiver states, check-ins, and the
//! positions of sinks. The store holds a copy of it, so that an unavailable store does not delay deliveries.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use serde_json::Value as Json;

use crate::incident::{Event, Notification};
use crate::store::{
    AttemptChange, Batch, CheckIn, CheckInEnd, CheckInState, DeliveryStatus, ReceiverStateChange, UNDELIVERED,
    Uncertainty, WorkingSet, undelivered,
};

/// Maximum number of queued notifications. Rate limits and groups keep real agents far below. Beyond it, the oldest
/// notifications without a delivery attempt are given up; resolutions of delivered incidents are given up last.
pub(super) const MAX_QUEUED: usize = 20_000;

#[derive(Debug)]
struct Queued {
    notification: Notification,
    uncertainty: Uncertainty,
}

/// The working set.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Queued notifications by receiver, in the order of queuing.
    queued: HashMap<String, BTreeMap<u64, Queued>>,
    places: HashMap<String, (String, u64)>,
    next: u64,
    receiver_states: BTreeMap<(String, String), (Json, DateTime<Utc>)>,
    check_ins: HashMap<String, CheckInState>,
    /// Positions by sink.
    positions: BTreeMap<String, u64>,
}

impl Outbox {
    /// Creates the outbox from the contents of a store.
    pub(super) fn new(set: WorkingSet) -> Self {
        let mut outbox = Self {
            receiver_states: set
                .receiver_states
                .into_iter()
                .map(|(receiver, key, receiver_state, at)| ((receiver, key), (receiver_state, at)))
                .collect(),
            check_ins: set.check_ins.into_iter().collect(),
            positions: set.positions,
            ..Self::default()
        };
        for (notification, uncertainty) in set.queued {
            outbox.queue(notification, uncertainty);
        }
        outbox
    }

    fn queue(&mut self, notification: Notification, uncertainty: Uncertainty) {
        if self.places.contains_key(&notification.id) {
            return;
        }
        self.next += 1;
        self.places.insert(notification.id.clone(), (notification.receiver.clone(), self.next));
        let of_receiver = self.queued.entry(notification.receiver.clone()).or_default();
        of_receiver.insert(self.next, Queued { notification, uncertainty });
    }

    fn remove(&mut self, id: &str) -> Option<Queued> {
        let (receiver, place) = self.places.remove(id)?;
        let of_receiver = self.queued.get_mut(&receiver)?;
        let queued = of_receiver.remove(&place);
        if of_receiver.is_empty() {
            self.queued.remove(&receiver);
        }
        queued
    }

    /// Applies a batch. Returns the changes for notifications that were given up.
    pub(super) fn apply(&mut self, batch: &Batch) -> Batch {
        for notification in &batch.notifications {
            self.queue(notification.clone(), Uncertainty::None);
        }
        for (id, change, _) in &batch.attempts {
            match change {
                AttemptChange::Finished(DeliveryStatus::Delivered | DeliveryStatus::Failed(_)) => drop(self.remove(id)),
                change => {
                    let place = self.places.get(id);
                    let queued = place.and_then(|(receiver, place)| self.queued.get_mut(receiver)?.get_mut(place));
                    if let Some(queued) = queued {
                        queued.uncertainty = queued.uncertainty.after(change);
                    }
                }
            }
        }
        self.apply_memos(&batch.receiver_states);
        for (name, beat, at) in &batch.check_ins {
            let state = self.check_ins.entry(name.clone()).or_default();
            match *beat {
                CheckIn::Started => state.started_at = Some(*at),
                CheckIn::CheckInEnd(code) => state.ended = Some(CheckInEnd { at: *at, code }),
            }
        }
        for (sink, seq) in &batch.positions {
            match seq {
                Some(seq) => drop(self.positions.insert(sink.clone(), *seq)),
                None => drop(self.positions.remove(sink)),
            }
        }
        self.give_way()
    }

    fn apply_memos(&mut self, changes: &[ReceiverStateChange]) {
        for change in changes {
            let key = (change.receiver.clone(), change.key.clone());
            match &change.receiver_state {
                Some(receiver_state) => drop(self.receiver_states.insert(key, (receiver_state.clone(), change.at))),
                None => drop(self.receiver_states.remove(&key)),
            }
        }
    }

    fn give_way(&mut self) -> Batch {
        let mut changes = Batch::default();
        let excess = self.places.len().saturating_sub(MAX_QUEUED);
        if excess == 0 {
            return changes;
        }
        let untried = self.queued.values().flatten().filter(|(_, queued)| queued.uncertainty == Uncertainty::None);
        // A receiver that was notified of an incident must not show it forever.
        let is_end = |notification: &Notification| {
            let note = (notification.receiver.clone(), format!("{UNDELIVERED}{}", notification.key));
            notification.event == Event::Resolved && !self.receiver_states.contains_key(&note)
        };
        let mut oldest: Vec<(bool, u64, String)> = untried
            .map(|(place, queued)| (is_end(&queued.notification), *place, queued.notification.id.clone()))
            .collect();
        oldest.sort_unstable();
        for (_, _, id) in oldest.into_iter().take(excess) {
            let Some(Queued { notification, .. }) = self.remove(&id) else { continue };
            changes.receiver_states.extend(undelivered(&notification, notification.queued_at));
            let given_up = DeliveryStatus::Failed("dropped: too many queued notifications".into());
            changes.attempts.push((id, AttemptChange::Finished(given_up), notification.queued_at));
        }
        self.apply_memos(&changes.receiver_states);
        changes
    }

    /// Returns the notifications queued for a receiver, oldest first.
    pub(super) fn queued(&self, receiver: &str, limit: u32) -> Vec<Notification> {
        let of_receiver = self.queued.get(receiver).into_iter().flat_map(BTreeMap::values);
        let notification = |queued: &Queued| Notification {
            repeat: queued.uncertainty > Uncertainty::None,
            ..queued.notification.clone()
        };
        of_receiver.take(limit as usize).map(notification).collect()
    }

    /// Returns the receivers with queued notifications.
    pub(super) fn receivers_with_queued(&self) -> Vec<String> {
        self.queued.keys().cloned().collect()
    }

    pub(super) fn receiver_state(&self, receiver: &str, key: &str) -> Option<Json> {
        self.receiver_states
            .get(&(receiver.to_owned(), key.to_owned()))
            .map(|(receiver_state, _)| receiver_state.clone())
    }

    pub(super) fn receiver_states(&self, receiver: &str) -> Vec<(String, Json)> {
        let of_receiver = self.receiver_states.iter().filter(|((name, _), _)| name == receiver);
        of_receiver.map(|((_, key), (receiver_state, _))| (key.clone(), receiver_state.clone())).collect()
    }

    pub(super) fn check_in(&self, name: &str) -> Option<CheckInState> {
        self.check_ins.get(name).cloned()
    }

    /// Returns the positions of sinks.
    pub(super) fn positions(&self) -> BTreeMap<String, u64> {
        self.positions.clone()
    }

    /// Removes the receiver states that were last changed before a time.
    pub(super) fn prune(&mut self, before: DateTime<Utc>) {
        self.receiver_states.retain(|_, (_, at)| *at >= before);
    }

    /// Returns all data as rows, for an empty store.
    pub(super) fn rows(&self) -> Batch {
        let mut queued: Vec<(&u64, &Queued)> = self.queued.values().flatten().collect();
        queued.sort_unstable_by_key(|(place, _)| **place);
        let mut batch = Batch::default();
        for (_, queued) in queued {
            batch.notifications.push(queued.notification.clone());
            if queued.uncertainty > Uncertainty::None {
                batch.attempts.push((
                    queued.notification.id.clone(),
                    AttemptChange::Started,
                    queued.notification.queued_at,
                ));
            }
        }
        for ((receiver, key), (receiver_state, at)) in &self.receiver_states {
            batch.receiver_states.push(ReceiverStateChange {
                receiver: receiver.clone(),
                key: key.clone(),
                receiver_state: Some(receiver_state.clone()),
                at: *at,
            });
        }
        for (name, state) in &self.check_ins {
            batch.check_ins.extend(state.started_at.map(|at| (name.clone(), CheckIn::Started, at)));
            batch
                .check_ins
                .extend(state.ended.as_ref().map(|end| (name.clone(), CheckIn::CheckInEnd(end.code), end.at)));
        }
        batch.positions = self.positions.iter().map(|(sink, seq)| (sink.clone(), Some(*seq))).collect();
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance::incident;

    fn notification(opening: u64, event: Event) -> Notification {
        let incident = incident("shop", opening, 0, None);
        Notification {
            id: format!("{opening} {}", event.as_str()),
            ..Notification::new(&incident, event, "a", incident.opened_at)
        }
    }

    #[test]
    fn what_gives_way_has_no_end_and_ends_give_way_last() {
        let mut outbox = Outbox::default();
        let most = u64::try_from(MAX_QUEUED).unwrap();
        // The resolution of a delivered incident, an opening with its resolution, and as many others as there is space
        // for.
        let first =
            vec![notification(1, Event::Resolved), notification(2, Event::Opened), notification(2, Event::Resolved)];
        let others = (3..most).map(|opening| notification(opening, Event::Opened));
        let batch = Batch { notifications: first.into_iter().chain(others).collect(), ..Batch::default() };
        assert!(outbox.apply(&batch).is_empty(), "there is room");
        let more = Batch { notifications: vec![notification(most, Event::Opened)], ..Batch::default() };
        let changes = outbox.apply(&more);
        let given_up: Vec<&str> = changes.attempts.iter().map(|(id, ..)| id.as_str()).collect();
        assert_eq!(given_up, ["2 opened"]);
        assert_eq!(outbox.receiver_state("a", "undelivered/shop:2"), Some(Json::Bool(true)));
        assert_eq!(changes.receiver_states.len(), 1);
        // The resolution of an incident that was given up is given up as well, before newer notifications.
        let more = Batch { notifications: vec![notification(most + 1, Event::Opened)], ..Batch::default() };
        let changes = outbox.apply(&more);
        assert_eq!((changes.attempts[0].0.as_str(), changes.receiver_states.len()), ("2 resolved", 0));
        assert_eq!(outbox.queued("a", 1)[0].id, "1 resolved");
    }
}
