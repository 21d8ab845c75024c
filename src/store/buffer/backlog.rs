//! What was accepted and is not written yet. Pure: rows in, batches out, within stated bounds.
//!
//! Rows of one kind that replace each other (the state of a subject, an incident) are held once, the newest; lists keep
//! their order.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::Value as Json;

use crate::incident::{Change, Decision, Incident, Notice, Subject};
use crate::outcome::{Outcome, RunId};
use crate::store::{AttemptChange, Batch, Beat, Identity, Intent, MemoChange};

/// How many bytes of outcomes wait at most, by [`Outcome::approximate_bytes`].
pub(super) const MAX_OUTCOME_BYTES: usize = 128 << 20;
/// How many decisions wait at most: they explain what happened, and nothing depends on them.
pub(super) const MAX_DECISIONS: usize = 50_000;
/// How many changes of incidents wait at most; sinks have the newest in memory as well.
pub(super) const MAX_CHANGES: usize = 20_000;

/// Rows that wait to be written.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    intents: HashMap<RunId, Intent>,
    withdrawn: Vec<RunId>,
    pub(super) outcomes: VecDeque<Arc<Outcome>>,
    bytes: usize,
    watches: HashMap<Subject, Json>,
    memory: BTreeMap<String, Option<Json>>,
    pub(super) incidents: BTreeMap<String, Incident>,
    pub(super) changes: VecDeque<Arc<Change>>,
    pub(super) decisions: VecDeque<Decision>,
    pub(super) notices: VecDeque<Notice>,
    pub(super) attempts: VecDeque<(String, AttemptChange, DateTime<Utc>)>,
    memos: BTreeMap<(String, String), MemoChange>,
    /// By name, and whether it is the end of some work.
    check_ins: BTreeMap<(String, bool), (Beat, DateTime<Utc>)>,
    positions: BTreeMap<String, Option<u64>>,
    identity: Option<Identity>,
}

impl Backlog {
    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.intents.is_empty()
            && self.withdrawn.is_empty()
            && self.outcomes.is_empty()
            && self.watches.is_empty()
            && self.memory.is_empty()
            && self.incidents.is_empty()
            && self.changes.is_empty()
            && self.decisions.is_empty()
            && self.notices.is_empty()
            && self.attempts.is_empty()
            && self.memos.is_empty()
            && self.check_ins.is_empty()
            && self.positions.is_empty()
            && self.identity.is_none()
    }

    /// Adds what is newer than all that waits. Returns how many outcomes had to go, the oldest first.
    pub(super) fn absorb(&mut self, batch: Batch) -> u64 {
        for run in batch.outcomes.iter().map(|outcome| &outcome.run).chain(&batch.withdrawn) {
            self.intents.remove(run);
        }
        self.withdrawn.extend(batch.withdrawn);
        self.intents.extend(batch.intents.into_iter().map(|intent| (intent.run, intent)));
        self.bytes += batch.outcomes.iter().map(|outcome| outcome.approximate_bytes()).sum::<usize>();
        self.outcomes.extend(batch.outcomes);
        self.watches.extend(batch.watches);
        self.memory.extend(batch.memory);
        self.incidents.extend(batch.incidents.into_iter().map(|incident| (incident.dedup_key(), incident)));
        self.changes.extend(batch.changes);
        self.decisions.extend(batch.decisions);
        self.notices.extend(batch.notices);
        self.attempts.extend(batch.attempts);
        self.memos.extend(batch.memos.into_iter().map(|memo| ((memo.receiver.clone(), memo.key.clone()), memo)));
        for (name, beat, at) in batch.check_ins {
            self.check_ins.insert((name, matches!(beat, Beat::Ended(_))), (beat, at));
        }
        self.positions.extend(batch.positions);
        self.identity = batch.identity.or(self.identity.take());
        self.shed()
    }

    /// Puts back what was taken and not written: it is older than all that waits. Returns how many outcomes had to go.
    pub(super) fn put_back(&mut self, batch: Batch) -> u64 {
        let over: HashSet<&RunId> =
            self.withdrawn.iter().chain(self.outcomes.iter().map(|outcome| &outcome.run)).collect();
        let planned: Vec<Intent> = batch.intents.into_iter().filter(|intent| !over.contains(&intent.run)).collect();
        for intent in planned {
            self.intents.entry(intent.run).or_insert(intent);
        }
        self.withdrawn.extend(batch.withdrawn);
        self.bytes += batch.outcomes.iter().map(|outcome| outcome.approximate_bytes()).sum::<usize>();
        prepend(&mut self.outcomes, batch.outcomes);
        for (subject, watch) in batch.watches {
            self.watches.entry(subject).or_insert(watch);
        }
        for (key, body) in batch.memory {
            self.memory.entry(key).or_insert(body);
        }
        for incident in batch.incidents {
            self.incidents.entry(incident.dedup_key()).or_insert(incident);
        }
        prepend(&mut self.changes, batch.changes);
        prepend(&mut self.decisions, batch.decisions);
        prepend(&mut self.notices, batch.notices);
        prepend(&mut self.attempts, batch.attempts);
        for memo in batch.memos {
            self.memos.entry((memo.receiver.clone(), memo.key.clone())).or_insert(memo);
        }
        for (name, beat, at) in batch.check_ins {
            self.check_ins.entry((name, matches!(beat, Beat::Ended(_)))).or_insert((beat, at));
        }
        for (sink, seq) in batch.positions {
            self.positions.entry(sink).or_insert(seq);
        }
        self.identity = self.identity.take().or(batch.identity);
        self.shed()
    }

    /// The entries of alerting that wait.
    pub(super) fn memory(&self) -> impl Iterator<Item = (&String, &Option<Json>)> {
        self.memory.iter()
    }

    /// Keeps the bounds.
    fn shed(&mut self) -> u64 {
        let mut shed = 0;
        while self.bytes > MAX_OUTCOME_BYTES
            && let Some(outcome) = self.outcomes.pop_front()
        {
            self.bytes -= outcome.approximate_bytes();
            shed += 1;
        }
        let excess = self.decisions.len().saturating_sub(MAX_DECISIONS);
        self.decisions.drain(..excess);
        let excess = self.changes.len().saturating_sub(MAX_CHANGES);
        self.changes.drain(..excess);
        shed
    }

    /// Takes what is to be written next: the state of alerting and the outbox first, so that a crash between two commits
    /// loses history at most; of each other kind so many rows.
    pub(super) fn take(&mut self, rows: usize) -> Batch {
        let outcomes: Vec<_> = self.outcomes.drain(..rows.min(self.outcomes.len())).collect();
        self.bytes -= outcomes.iter().map(|outcome| outcome.approximate_bytes()).sum::<usize>();
        Batch {
            intents: std::mem::take(&mut self.intents).into_values().collect(),
            withdrawn: std::mem::take(&mut self.withdrawn),
            outcomes,
            watches: std::mem::take(&mut self.watches).into_iter().collect(),
            memory: std::mem::take(&mut self.memory).into_iter().collect(),
            incidents: std::mem::take(&mut self.incidents).into_values().collect(),
            changes: std::mem::take(&mut self.changes).into(),
            decisions: self.decisions.drain(..rows.min(self.decisions.len())).collect(),
            notices: std::mem::take(&mut self.notices).into(),
            attempts: std::mem::take(&mut self.attempts).into(),
            memos: std::mem::take(&mut self.memos).into_values().collect(),
            check_ins: std::mem::take(&mut self.check_ins)
                .into_iter()
                .map(|((name, _), (beat, at))| (name, beat, at))
                .collect(),
            positions: std::mem::take(&mut self.positions),
            identity: self.identity.take(),
            number: 0,
        }
    }
}

fn prepend<T>(to: &mut VecDeque<T>, older: Vec<T>) {
    for row in older.into_iter().rev() {
        to.push_front(row);
    }
}

/// Halves a batch; `None` for a single row. What of two halves belongs together still holds one after the other.
pub(super) fn halve(batch: &Batch) -> Option<(Batch, Batch)> {
    let (mut first, mut second) = (Batch::default(), Batch::default());
    let total = rows(batch);
    if total < 2 {
        return None;
    }
    let mut left = total / 2;
    macro_rules! share {
        ($($field:ident)*) => {$(
            let at = left.min(batch.$field.len());
            first.$field = batch.$field[..at].to_vec();
            second.$field = batch.$field[at..].to_vec();
            left -= at;
        )*};
    }
    share!(intents withdrawn watches memory incidents changes notices attempts memos check_ins decisions outcomes);
    let _ = left;
    // The database takes every position.
    first.positions.clone_from(&batch.positions);
    second.identity.clone_from(&batch.identity);
    Some((first, second))
}

/// How many rows a batch has.
pub(super) fn rows(batch: &Batch) -> usize {
    batch.intents.len()
        + batch.withdrawn.len()
        + batch.outcomes.len()
        + batch.watches.len()
        + batch.memory.len()
        + batch.incidents.len()
        + batch.changes.len()
        + batch.decisions.len()
        + batch.notices.len()
        + batch.attempts.len()
        + batch.memos.len()
        + batch.check_ins.len()
        + usize::from(batch.identity.is_some())
}

/// Names the only row of a batch, for the log.
pub(super) fn name(batch: &Batch) -> String {
    if let Some(intent) = batch.intents.first() {
        format!("the plan of run {}", intent.run)
    } else if let Some(run) = batch.withdrawn.first() {
        format!("the cancelled plan of run {run}")
    } else if let Some(outcome) = batch.outcomes.first() {
        format!("the outcome of run {} of `{}`", outcome.run, outcome.scenario)
    } else if let Some((subject, _)) = batch.watches.first() {
        format!("the alerting state of `{subject}`")
    } else if let Some((key, _)) = batch.memory.first() {
        format!("the alerting entry `{key}`")
    } else if let Some(incident) = batch.incidents.first() {
        format!("the incident {}", incident.dedup_key())
    } else if let Some(change) = batch.changes.first() {
        format!("a change of the incident {}", change.incident.dedup_key())
    } else if let Some(decision) = batch.decisions.first() {
        format!("a decision about `{}`", decision.subject)
    } else if let Some(notice) = batch.notices.first() {
        format!("the notice {}", notice.id)
    } else if let Some((notice, ..)) = batch.attempts.first() {
        format!("an attempt to deliver {notice}")
    } else if let Some(memo) = batch.memos.first() {
        format!("the state of receiver `{}` for {}", memo.receiver, memo.key)
    } else if let Some((name, ..)) = batch.check_ins.first() {
        format!("a check-in of `{name}`")
    } else {
        "the store's identity, or positions of sinks".to_owned()
    }
}
