//! What deliveries and heartbeats need at hand, in memory: queued notices, what is kept for receivers, check-ins, and the
//! positions of sinks. The
//! store holds a copy of it, so a store that is away holds up no delivery.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use serde_json::Value as Json;

use crate::incident::Notice;
use crate::store::{AttemptChange, Batch, Beat, Delivery, Ended, Heard, MemoChange, Uncertainty, WorkingSet};

/// How many notices are queued at most. Rate limits and groups keep real agents far below; beyond it, the oldest notices
/// that no attempt was made for give way.
pub(super) const MAX_QUEUED: usize = 20_000;

#[derive(Debug)]
struct Queued {
    notice: Notice,
    uncertainty: Uncertainty,
}

/// The working set.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// By receiver, in the order in which they were queued.
    queued: HashMap<String, BTreeMap<u64, Queued>>,
    places: HashMap<String, (String, u64)>,
    next: u64,
    memos: BTreeMap<(String, String), (Json, DateTime<Utc>)>,
    check_ins: HashMap<String, Heard>,
    /// By sink.
    positions: BTreeMap<String, u64>,
}

impl Outbox {
    /// Takes over what a store holds.
    pub(super) fn new(set: WorkingSet) -> Self {
        let mut outbox = Self {
            memos: set.memos.into_iter().map(|(receiver, key, memo, at)| ((receiver, key), (memo, at))).collect(),
            check_ins: set.check_ins.into_iter().collect(),
            positions: set.positions,
            ..Self::default()
        };
        for (notice, uncertainty) in set.queued {
            outbox.queue(notice, uncertainty);
        }
        outbox
    }

    fn queue(&mut self, notice: Notice, uncertainty: Uncertainty) {
        if self.places.contains_key(&notice.id) {
            return;
        }
        self.next += 1;
        self.places.insert(notice.id.clone(), (notice.receiver.clone(), self.next));
        let of_receiver = self.queued.entry(notice.receiver.clone()).or_default();
        of_receiver.insert(self.next, Queued { notice, uncertainty });
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

    /// Applies a batch. Returns the ids of notices that had to give way.
    pub(super) fn apply(&mut self, batch: &Batch) -> Vec<String> {
        for notice in &batch.notices {
            self.queue(notice.clone(), Uncertainty::None);
        }
        for (id, change, _) in &batch.attempts {
            match change {
                AttemptChange::Finished(Delivery::Sent | Delivery::Failed(_)) => drop(self.remove(id)),
                change => {
                    let place = self.places.get(id);
                    let queued = place.and_then(|(receiver, place)| self.queued.get_mut(receiver)?.get_mut(place));
                    if let Some(queued) = queued {
                        queued.uncertainty = queued.uncertainty.after(change);
                    }
                }
            }
        }
        for change in &batch.memos {
            let key = (change.receiver.clone(), change.key.clone());
            match &change.memo {
                Some(memo) => drop(self.memos.insert(key, (memo.clone(), change.at))),
                None => drop(self.memos.remove(&key)),
            }
        }
        for (name, beat, at) in &batch.check_ins {
            let heard = self.check_ins.entry(name.clone()).or_default();
            match *beat {
                Beat::Started => heard.started_at = Some(*at),
                Beat::Ended(code) => heard.ended = Some(Ended { at: *at, code }),
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

    fn give_way(&mut self) -> Vec<String> {
        let excess = self.places.len().saturating_sub(MAX_QUEUED);
        if excess == 0 {
            return Vec::new();
        }
        let untried = |queued: &&Queued| queued.uncertainty == Uncertainty::None;
        let mut oldest: Vec<(u64, String)> = Vec::new();
        for of_receiver in self.queued.values() {
            let untried = of_receiver.iter().filter(|(_, queued)| untried(queued));
            oldest.extend(untried.map(|(place, queued)| (*place, queued.notice.id.clone())));
        }
        oldest.sort_unstable();
        let ids: Vec<String> = oldest.into_iter().take(excess).map(|(_, id)| id).collect();
        for id in &ids {
            self.remove(id);
        }
        ids
    }

    /// Returns the notices that are queued for a receiver, oldest first.
    pub(super) fn owed(&self, receiver: &str, limit: u32) -> Vec<Notice> {
        let of_receiver = self.queued.get(receiver).into_iter().flat_map(BTreeMap::values);
        let notice =
            |queued: &Queued| Notice { repeat: queued.uncertainty > Uncertainty::None, ..queued.notice.clone() };
        of_receiver.take(limit as usize).map(notice).collect()
    }

    /// Returns the receivers with queued notices.
    pub(super) fn creditors(&self) -> Vec<String> {
        self.queued.keys().cloned().collect()
    }

    pub(super) fn memo(&self, receiver: &str, key: &str) -> Option<Json> {
        self.memos.get(&(receiver.to_owned(), key.to_owned())).map(|(memo, _)| memo.clone())
    }

    pub(super) fn memos(&self, receiver: &str) -> Vec<(String, Json)> {
        let of_receiver = self.memos.iter().filter(|((name, _), _)| name == receiver);
        of_receiver.map(|((_, key), (memo, _))| (key.clone(), memo.clone())).collect()
    }

    pub(super) fn check_in(&self, name: &str) -> Option<Heard> {
        self.check_ins.get(name).cloned()
    }

    /// Returns the positions of sinks.
    pub(super) fn positions(&self) -> BTreeMap<String, u64> {
        self.positions.clone()
    }

    /// Forgets what was kept for receivers before.
    pub(super) fn prune(&mut self, before: DateTime<Utc>) {
        self.memos.retain(|_, (_, at)| *at >= before);
    }

    /// Returns all of it as rows, for a store that has none of it.
    pub(super) fn rows(&self) -> Batch {
        let mut queued: Vec<(&u64, &Queued)> = self.queued.values().flatten().collect();
        queued.sort_unstable_by_key(|(place, _)| **place);
        let mut batch = Batch::default();
        for (_, queued) in queued {
            batch.notices.push(queued.notice.clone());
            if queued.uncertainty > Uncertainty::None {
                batch.attempts.push((queued.notice.id.clone(), AttemptChange::Started, queued.notice.owed_at));
            }
        }
        for ((receiver, key), (memo, at)) in &self.memos {
            batch.memos.push(MemoChange {
                receiver: receiver.clone(),
                key: key.clone(),
                memo: Some(memo.clone()),
                at: *at,
            });
        }
        for (name, heard) in &self.check_ins {
            batch.check_ins.extend(heard.started_at.map(|at| (name.clone(), Beat::Started, at)));
            batch.check_ins.extend(heard.ended.as_ref().map(|end| (name.clone(), Beat::Ended(end.code), end.at)));
        }
        batch.positions = self.positions.iter().map(|(sink, seq)| (sink.clone(), Some(*seq))).collect();
        batch
    }
}
