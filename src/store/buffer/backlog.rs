//! Accepted data that is not yet written. Pure: rows in, batches out, within stated limits.
//!
//! Rows that replace each other (the state of a subject, an incident) are held once, in their newest version; lists
//! keep their order.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::Value as Json;

use crate::incident::{Change, Decision, Incident, Notification, Subject};
use crate::outcome::{Outcome, RunId};
use crate::store::{AttemptChange, Batch, CheckIn, Identity, PlannedRun, ReceiverStateChange};

/// Maximum total size of waiting outcomes in bytes, by [`Outcome::approximate_bytes`].
pub(super) const MAX_OUTCOME_BYTES: usize = 128 << 20;
/// Maximum number of waiting decisions. They only explain events, and nothing depends on them.
pub(super) const MAX_DECISIONS: usize = 50_000;
/// Maximum number of waiting changes of incidents. Sinks have the newest in memory as well.
pub(super) const MAX_CHANGES: usize = 20_000;

/// Rows that wait to be written.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    intents: HashMap<RunId, PlannedRun>,
    withdrawn: Vec<RunId>,
    pub(super) outcomes: VecDeque<Arc<Outcome>>,
    bytes: usize,
    alert_states: HashMap<Subject, Json>,
    alerting_entries: BTreeMap<String, Option<Json>>,
    pub(super) incidents: BTreeMap<String, Incident>,
    pub(super) changes: VecDeque<Arc<Change>>,
    pub(super) decisions: VecDeque<Decision>,
    pub(super) notifications: VecDeque<Notification>,
    pub(super) attempts: VecDeque<(String, AttemptChange, DateTime<Utc>)>,
    receiver_states: BTreeMap<(String, String), ReceiverStateChange>,
    /// Check-ins by name, and whether the check-in is the end of a job.
    check_ins: BTreeMap<(String, bool), (CheckIn, DateTime<Utc>)>,
    positions: BTreeMap<String, Option<u64>>,
    identity: Option<Identity>,
}

impl Backlog {
    /// Returns whether there are no waiting rows.
    pub(super) fn is_empty(&self) -> bool {
        self.intents.is_empty()
            && self.withdrawn.is_empty()
            && self.outcomes.is_empty()
            && self.alert_states.is_empty()
            && self.alerting_entries.is_empty()
            && self.incidents.is_empty()
            && self.changes.is_empty()
            && self.decisions.is_empty()
            && self.notifications.is_empty()
            && self.attempts.is_empty()
            && self.receiver_states.is_empty()
            && self.check_ins.is_empty()
            && self.positions.is_empty()
            && self.identity.is_none()
    }

    /// Adds a batch that is newer than all waiting rows. Returns the number of outcomes that were dropped, oldest
    /// first.
    pub(super) fn absorb(&mut self, batch: Batch) -> u64 {
        for run in batch.outcomes.iter().map(|outcome| &outcome.run).chain(&batch.withdrawn) {
            self.intents.remove(run);
        }
        self.withdrawn.extend(batch.withdrawn);
        self.intents.extend(batch.intents.into_iter().map(|intent| (intent.run, intent)));
        self.bytes += batch.outcomes.iter().map(|outcome| outcome.approximate_bytes()).sum::<usize>();
        self.outcomes.extend(batch.outcomes);
        self.alert_states.extend(batch.alert_states);
        self.alerting_entries.extend(batch.alerting_entries);
        self.incidents.extend(batch.incidents.into_iter().map(|incident| (incident.dedup_key(), incident)));
        self.changes.extend(batch.changes);
        self.decisions.extend(batch.decisions);
        self.notifications.extend(batch.notifications);
        self.attempts.extend(batch.attempts);
        self.receiver_states.extend(
            batch
                .receiver_states
                .into_iter()
                .map(|receiver_state| ((receiver_state.receiver.clone(), receiver_state.key.clone()), receiver_state)),
        );
        for (name, beat, at) in batch.check_ins {
            self.check_ins.insert((name, matches!(beat, CheckIn::CheckInEnd(_))), (beat, at));
        }
        self.positions.extend(batch.positions);
        self.identity = batch.identity.or(self.identity.take());
        self.shed()
    }

    /// Puts back a batch that was taken but not written, and is therefore older than all waiting rows. Returns the
    /// number of outcomes that were dropped.
    pub(super) fn put_back(&mut self, batch: Batch) -> u64 {
        let over: HashSet<&RunId> =
            self.withdrawn.iter().chain(self.outcomes.iter().map(|outcome| &outcome.run)).collect();
        let planned: Vec<PlannedRun> = batch.intents.into_iter().filter(|intent| !over.contains(&intent.run)).collect();
        for intent in planned {
            self.intents.entry(intent.run).or_insert(intent);
        }
        self.withdrawn.extend(batch.withdrawn);
        self.bytes += batch.outcomes.iter().map(|outcome| outcome.approximate_bytes()).sum::<usize>();
        prepend(&mut self.outcomes, batch.outcomes);
        for (subject, watch) in batch.alert_states {
            self.alert_states.entry(subject).or_insert(watch);
        }
        for (key, body) in batch.alerting_entries {
            self.alerting_entries.entry(key).or_insert(body);
        }
        for incident in batch.incidents {
            self.incidents.entry(incident.dedup_key()).or_insert(incident);
        }
        prepend(&mut self.changes, batch.changes);
        prepend(&mut self.decisions, batch.decisions);
        prepend(&mut self.notifications, batch.notifications);
        prepend(&mut self.attempts, batch.attempts);
        for receiver_state in batch.receiver_states {
            self.receiver_states
                .entry((receiver_state.receiver.clone(), receiver_state.key.clone()))
                .or_insert(receiver_state);
        }
        for (name, beat, at) in batch.check_ins {
            self.check_ins.entry((name, matches!(beat, CheckIn::CheckInEnd(_)))).or_insert((beat, at));
        }
        for (sink, seq) in batch.positions {
            self.positions.entry(sink).or_insert(seq);
        }
        self.identity = self.identity.take().or(batch.identity);
        self.shed()
    }

    /// Returns the waiting entries of alerting.
    pub(super) fn alerting_entries(&self) -> impl Iterator<Item = (&String, &Option<Json>)> {
        self.alerting_entries.iter()
    }

    /// Enforces the limits.
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

    /// Takes the rows to write next. The state of alerting and the outbox are taken completely, so that a crash between
    /// two commits can only lose history; of each other kind, up to `rows` rows are taken.
    pub(super) fn take(&mut self, rows: usize) -> Batch {
        let outcomes: Vec<_> = self.outcomes.drain(..rows.min(self.outcomes.len())).collect();
        self.bytes -= outcomes.iter().map(|outcome| outcome.approximate_bytes()).sum::<usize>();
        Batch {
            intents: std::mem::take(&mut self.intents).into_values().collect(),
            withdrawn: std::mem::take(&mut self.withdrawn),
            outcomes,
            alert_states: std::mem::take(&mut self.alert_states).into_iter().collect(),
            alerting_entries: std::mem::take(&mut self.alerting_entries).into_iter().collect(),
            incidents: std::mem::take(&mut self.incidents).into_values().collect(),
            changes: std::mem::take(&mut self.changes).into(),
            decisions: self.decisions.drain(..rows.min(self.decisions.len())).collect(),
            notifications: std::mem::take(&mut self.notifications).into(),
            attempts: std::mem::take(&mut self.attempts).into(),
            receiver_states: std::mem::take(&mut self.receiver_states).into_values().collect(),
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

/// Splits a batch into halves, or returns `None` for a single row. Related rows remain valid if the halves are written
/// in this order.
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
    share!(intents withdrawn alert_states alerting_entries incidents changes notifications attempts receiver_states check_ins decisions outcomes);
    let _ = left;
    // The database never rejects a position.
    first.positions.clone_from(&batch.positions);
    second.identity.clone_from(&batch.identity);
    Some((first, second))
}

/// Returns the number of rows of a batch.
pub(super) fn rows(batch: &Batch) -> usize {
    batch.intents.len()
        + batch.withdrawn.len()
        + batch.outcomes.len()
        + batch.alert_states.len()
        + batch.alerting_entries.len()
        + batch.incidents.len()
        + batch.changes.len()
        + batch.decisions.len()
        + batch.notifications.len()
        + batch.attempts.len()
        + batch.receiver_states.len()
        + batch.check_ins.len()
        + usize::from(batch.identity.is_some())
}

/// Describes the only row of a batch, for the log.
pub(super) fn name(batch: &Batch) -> String {
    if let Some(intent) = batch.intents.first() {
        format!("the plan of run {}", intent.run)
    } else if let Some(run) = batch.withdrawn.first() {
        format!("the cancelled plan of run {run}")
    } else if let Some(outcome) = batch.outcomes.first() {
        format!("the outcome of run {} of `{}`", outcome.run, outcome.scenario)
    } else if let Some((subject, _)) = batch.alert_states.first() {
        format!("the alerting state of `{subject}`")
    } else if let Some((key, _)) = batch.alerting_entries.first() {
        format!("the alerting entry `{key}`")
    } else if let Some(incident) = batch.incidents.first() {
        format!("the incident {}", incident.dedup_key())
    } else if let Some(change) = batch.changes.first() {
        format!("a change of the incident {}", change.incident.dedup_key())
    } else if let Some(decision) = batch.decisions.first() {
        format!("a decision about `{}`", decision.subject)
    } else if let Some(notification) = batch.notifications.first() {
        format!("the notification {}", notification.id)
    } else if let Some((notification, ..)) = batch.attempts.first() {
        format!("an attempt to deliver {notification}")
    } else if let Some(receiver_state) = batch.receiver_states.first() {
        format!("the state of receiver `{}` for {}", receiver_state.receiver, receiver_state.key)
    } else if let Some((name, ..)) = batch.check_ins.first() {
        format!("a check-in of `{name}`")
    } else {
        "the store's identity, or positions of sinks".to_owned()
    }
}
