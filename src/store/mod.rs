//! The stored data of the agent: planned runs, outcomes, incidents, notifications and evidence.
//!
//! The traits are narrow, so that a second database needs only one more file and a test can wrap a store. Everything
//! that one evaluation decides is written by one [`Runs::commit`], completely or not at all.

mod buffer;
pub mod evidence;
mod sqlite;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::Value as Json;

use crate::incident::{Change, Decision, Incident, Notification, Subject};
use crate::names::Reason;
use crate::outcome::{Outcome, RunId, Verdict};
use crate::scenario::{ScenarioId, ScenarioKind};

pub use buffer::{Health, Metrics, Opener, STALLED_AFTER, WriteBuffer, Writer};
pub use sqlite::{Sqlite, SqliteFile};

/// The party that has to change something before a failed call to the store can succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreFault {
    /// The environment: a full or read-only disk, a lock, a database that does not respond. The same call may succeed
    /// later.
    Unavailable,
    /// Another process that holds a lock on the database.
    Locked,
    /// The database itself: it is damaged, or the file is not a database.
    Corrupt,
    /// The data of the call: the database rejects it now and at every repetition.
    Refused,
}

/// Error of a call to the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreError {
    /// Cause of the error, which determines whether a repetition of the call can succeed.
    pub fault: StoreFault,
    /// Error message of the database.
    pub message: String,
}

impl StoreError {
    /// Creates the error for data that the store cannot read or write.
    pub fn refused(message: impl Into<String>) -> Self {
        Self { fault: StoreFault::Refused, message: message.into() }
    }

    /// Creates the error for a store that is unreachable or cannot write at present.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self { fault: StoreFault::Unavailable, message: message.into() }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "store: {}", self.message)
    }
}

impl std::error::Error for StoreError {}

/// Result of a call to the store.
pub type Result<T> = std::result::Result<T, StoreError>;

/// A planned run: stored ahead of its due time and deleted when its outcome is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedRun {
    /// Id of the run.
    pub run: RunId,
    /// Id of the scenario to run.
    pub scenario: ScenarioId,
    /// Name of the scenario, needed to close the run if the agent stops during it.
    pub name: String,
    /// Kind of the scenario, needed for the same purpose.
    pub kind: ScenarioKind,
    /// Location of the agent.
    pub location: String,
    /// Due time of the run.
    pub due_at: DateTime<Utc>,
}

/// A change in the delivery of a queued notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptChange {
    /// An attempt started. Until its end is written, it may have reached the receiver.
    Started,
    /// An attempt ended.
    Finished(DeliveryStatus),
}

/// A change of the receiver state stored under a dedup key.
#[derive(Debug, Clone, PartialEq)]
pub struct ReceiverStateChange {
    /// Name of the receiver.
    pub receiver: String,
    /// Dedup key.
    pub key: String,
    /// New receiver state, or `None` to delete it.
    pub receiver_state: Option<Json>,
    /// Time of the change.
    pub at: DateTime<Utc>,
}

/// Prefix of the receiver state keys that mark incidents of which no notification was delivered to a receiver.
pub const UNDELIVERED: &str = "undelivered/";

/// Returns the marks to store when `notification` is given up and surely did not arrive: one for each incident of which
/// it would have been the first notification.
pub fn undelivered(notification: &Notification, at: DateTime<Utc>) -> impl Iterator<Item = ReceiverStateChange> {
    notification.opened_keys().map(move |key| ReceiverStateChange {
        receiver: notification.receiver.clone(),
        key: format!("{UNDELIVERED}{key}"),
        receiver_state: Some(Json::Bool(true)),
        at,
    })
}

/// Identity of a store, which distinguishes its dedup keys from those of other stores.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// Short random text, chosen when the store was created.
    pub id: String,
    /// Dedup keys without the identity, because receivers were notified under them before the store had one.
    pub unqualified: BTreeSet<String>,
}

impl Identity {
    /// Returns the part of a dedup key that identifies the store, empty for keys that receivers have without it.
    pub fn of_key(&self, key: &str) -> &str {
        if self.unqualified.contains(key) { "" } else { &self.id }
    }
}

/// Contents of one group commit, written in one transaction.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Newly planned runs.
    pub intents: Vec<PlannedRun>,
    /// Planned runs that will not take place.
    pub withdrawn: Vec<RunId>,
    /// Outcomes of finished runs; their planned runs are deleted.
    pub outcomes: Vec<Arc<Outcome>>,
    /// Alert states by subject.
    pub alert_states: Vec<(Subject, Json)>,
    /// Other alerting entries by key, such as notification groups and silences. `None` deletes an entry.
    pub alerting_entries: Vec<(String, Option<Json>)>,
    /// Incidents that opened, changed or resolved.
    pub incidents: Vec<Incident>,
    /// Numbered changes of incidents, in order.
    pub changes: Vec<Arc<Change>>,
    /// Decisions of the alert pipeline, in order.
    pub decisions: Vec<Decision>,
    /// Notifications to queue, in order.
    pub notifications: Vec<Notification>,
    /// Changes of deliveries, in order: id of the notification, change and time.
    pub attempts: Vec<(String, AttemptChange, DateTime<Utc>)>,
    /// Changes of receiver states, in order.
    pub receiver_states: Vec<ReceiverStateChange>,
    /// Check-ins in order: name, signal and time.
    pub check_ins: Vec<(String, CheckIn, DateTime<Utc>)>,
    /// Numbers of the last outcomes that the destinations of sinks have, by the name of the sink. `None` deletes the
    /// sink's position.
    pub positions: BTreeMap<String, Option<u64>>,
    /// New identity of the store, if it replaces the current one.
    pub identity: Option<Identity>,
    /// Number of the commit, by which another connection recognizes it; 0 for a commit without a number.
    pub number: i64,
}

impl Batch {
    /// Returns whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
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
            && self.number == 0
    }
}

/// Planned and finished runs.
#[async_trait]
pub trait Runs: Send + Sync {
    /// Writes the whole batch or nothing. Outcomes and notifications that are already stored are not changed.
    async fn commit(&self, batch: &Batch) -> Result<()>;

    /// Returns the planned runs of a location that have no outcome.
    async fn open_planned_runs(&self, location: &str) -> Result<Vec<PlannedRun>>;

    /// Deletes the outcomes that ended and the incidents that resolved before the given time, with everything that
    /// belongs to them. Returns the runs whose evidence is to be deleted as well.
    async fn prune(&self, before: DateTime<Utc>) -> Result<Vec<RunId>>;
}

/// Summary of a run: the values that a list or a chart of many runs needs.
#[derive(Debug, Clone, PartialEq)]
pub struct RunSummary {
    /// Id of the run.
    pub run: RunId,
    /// Id of the scenario.
    pub scenario: ScenarioId,
    /// End of the run.
    pub ended_at: DateTime<Utc>,
    /// Duration of the run.
    pub duration: Duration,
    /// Verdict of the run.
    pub verdict: Verdict,
    /// Reason of a verdict other than `passed`.
    pub reason: Option<Reason>,
}

/// Query for the durations of past runs.
#[derive(Debug, Clone, Copy)]
pub struct DurationQuery<'a> {
    /// Id of the scenario.
    pub scenario: &'a str,
    /// Location of the runs.
    pub location: &'a str,
    /// Name of the step to measure, or `None` to measure whole runs.
    pub step: Option<&'a str>,
    /// Earliest end of the runs.
    pub since: DateTime<Utc>,
    /// Maximum number of runs; the newest are returned.
    pub limit: u32,
}

/// Query that counts runs in time slots.
#[derive(Debug, Clone, Copy)]
pub struct SlotCountQuery<'a> {
    /// Id of the scenario.
    pub scenario: &'a str,
    /// Earliest end of the runs.
    pub since: DateTime<Utc>,
    /// Length of a slot in seconds, at least 1.
    pub slot: i64,
}

/// Number of conclusive runs in a time slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotCount {
    /// Number of the slot: seconds since 1970 divided by the slot length.
    pub slot: i64,
    /// Number of runs that passed, were degraded or failed.
    pub runs: u64,
    /// Number of runs that failed.
    pub failed: u64,
}

/// Outcomes of past runs.
#[async_trait]
pub trait History: Send + Sync {
    /// Returns the last outcome of each scenario.
    async fn latest(&self) -> Result<Vec<Outcome>>;

    /// Returns the last conclusive outcome of each scenario whose last outcome is not conclusive.
    async fn latest_conclusive(&self) -> Result<Vec<Outcome>>;

    /// Returns the last outcomes of one scenario, or of all if `scenario` is `None`, newest first.
    async fn recent(&self, scenario: Option<&str>, limit: u32) -> Result<Vec<Outcome>>;

    /// Returns the last `limit` runs of each scenario, newest first within a scenario, in a single query.
    async fn run_summaries(&self, limit: u32) -> Result<Vec<RunSummary>>;

    /// Returns the end times and durations of the passed and degraded runs that match the query, newest first. For a
    /// step, the durations are those of the runs in which the step passed.
    async fn durations(&self, asked: &DurationQuery<'_>) -> Result<Vec<(DateTime<Utc>, Duration)>>;

    /// Counts runs in slots, oldest first. Slots without runs are omitted.
    async fn slot_counts(&self, asked: &SlotCountQuery<'_>) -> Result<Vec<SlotCount>>;

    /// Returns the outcome of a run, or `None` if it is not stored.
    async fn run(&self, run: RunId) -> Result<Option<Outcome>>;
}

/// Stored decision, with the number of times in a row that it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecisionRecord {
    /// Last of these decisions.
    pub decision: Decision,
    /// Time of the first of these decisions.
    pub first_at: DateTime<Utc>,
    /// Number of consecutive equal decisions.
    pub count: u64,
}

/// Incidents and the decisions about them.
#[async_trait]
pub trait Incidents: Send + Sync {
    /// Returns the alert states by subject.
    async fn alert_states(&self) -> Result<Vec<(Subject, Json)>>;

    /// Returns the other alerting entries by key.
    async fn alerting_entries(&self) -> Result<Vec<(String, Json)>>;

    /// Returns up to `limit` incidents: open ones first, newest first.
    async fn incidents(&self, limit: u32) -> Result<Vec<Incident>>;

    /// Returns the incident with a dedup key.
    async fn incident(&self, key: &str) -> Result<Option<Incident>>;

    /// Returns up to `limit` decisions about a subject, newest first.
    async fn decisions(&self, subject: &Subject, limit: u32) -> Result<Vec<DecisionRecord>>;
}

/// A notification and the state of its delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotificationRecord {
    /// The notification.
    pub notification: Notification,
    /// State of the delivery: `queued`, `sent` or `failed`.
    pub state: String,
    /// Time of the delivery, or of giving up.
    pub done_at: Option<DateTime<Utc>>,
    /// Reason for giving up, or error of the last attempt.
    pub problem: Option<String>,
}

/// Result of a delivery attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeliveryStatus {
    /// The receiver accepted the notification.
    Delivered,
    /// The receiver surely did not accept the notification, which stays queued for another attempt.
    Retryable(String),
    /// The receiver may or may not have accepted the notification, which stays queued for another attempt.
    Uncertain(String),
    /// The notification cannot be delivered and was given up.
    Failed(String),
}

/// The outbox: stored notifications and the state of their delivery.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// Returns up to `limit` notifications queued for a receiver, oldest first.
    async fn queued(&self, receiver: &str, limit: u32) -> Result<Vec<Notification>>;

    /// Returns the names of all receivers with queued notifications.
    async fn receivers_with_queued(&self) -> Result<Vec<String>>;

    /// Records the start of an attempt. From here until [`Outbox::delivered`], the notification may have reached the
    /// receiver.
    async fn attempt_started(&self, notification: &str) -> Result<()>;

    /// Records the end of an attempt.
    async fn attempt_finished(&self, notification: &str, delivery: &DeliveryStatus, at: DateTime<Utc>) -> Result<()>;

    /// Returns the notifications of an incident, oldest first.
    async fn notifications(&self, incident: &str) -> Result<Vec<NotificationRecord>>;

    /// Returns the receiver state of a dedup key, such as the id of the message to update.
    async fn receiver_state(&self, receiver: &str, key: &str) -> Result<Option<Json>>;

    /// Returns all receiver states of a receiver, by dedup key.
    async fn receiver_states(&self, receiver: &str) -> Result<Vec<(String, Json)>>;

    /// Replaces the receiver state of a dedup key, or deletes it if `receiver_state` is `None`.
    async fn set_receiver_state(
        &self,
        receiver: &str,
        key: &str,
        receiver_state: Option<&Json>,
        at: DateTime<Utc>,
    ) -> Result<()>;
}

/// Exit code of a check-in that reports a failure without an exit code.
pub const FAILED: u8 = u8::MAX;

/// Signal of a check-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckIn {
    /// The job started.
    Started,
    /// The job ended with this exit code; 0 is success.
    CheckInEnd(u8),
}

/// Latest check-ins of a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckInState {
    /// Last start of the job.
    pub started_at: Option<DateTime<Utc>>,
    /// Last end of the job.
    pub ended: Option<CheckInEnd>,
}

/// End of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckInEnd {
    /// Time of the end.
    pub at: DateTime<Utc>,
    /// Exit code; 0 is success.
    pub code: u8,
}

/// Check-ins of heartbeats.
#[async_trait]
pub trait CheckIns: Send + Sync {
    /// Records a check-in.
    async fn check_in(&self, name: &str, beat: CheckIn, at: DateTime<Utc>) -> Result<()>;

    /// Returns the latest check-ins of a heartbeat, or `None` if there were none yet.
    async fn check_in_state(&self, name: &str) -> Result<Option<CheckInState>>;
}

/// A numbered record: an outcome, or a change of an incident.
#[derive(Debug, Clone, PartialEq)]
pub enum Recorded {
    /// Outcome of a run.
    Outcome(Arc<Outcome>),
    /// Change of an incident.
    Change(Arc<Change>),
}

impl Recorded {
    /// Returns the number of the record.
    pub fn seq(&self) -> u64 {
        match self {
            Self::Outcome(outcome) => outcome.seq,
            Self::Change(change) => change.seq,
        }
    }
}

/// Records of a range of numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Numbered {
    /// Outcomes and changes in the order of their numbers (`seq`).
    pub records: Vec<Recorded>,
    /// Last number for which `records` is complete: a number up to here that is absent is not stored. One less than the
    /// first number of the range if nothing is certain yet.
    pub through: u64,
}

/// The data that sinks continue from: numbered outcomes and changes, and the position of each destination.
#[async_trait]
pub trait Positions: Send + Sync {
    /// Returns the first `limit` records with numbers from `from` to `to`, both included.
    async fn numbered(&self, from: u64, to: u64, limit: u32) -> Result<Numbered>;

    /// Returns the position of every sink, by name.
    async fn positions(&self) -> Result<BTreeMap<String, u64>>;

    /// Returns the last number given to an outcome or a change, 0 if there was none.
    async fn last_seq(&self) -> Result<u64>;

    /// Writes positions. `None` deletes the position of a sink.
    async fn set_positions(&self, positions: BTreeMap<String, Option<u64>>) -> Result<()>;
}

/// Part of the archive to read.
#[derive(Debug, Clone, Copy)]
pub struct TimeRange {
    /// Start of the range, included.
    pub since: DateTime<Utc>,
    /// End of the range, included.
    pub until: DateTime<Utc>,
    /// Maximum number of rows to return.
    pub limit: u32,
}

/// Access to past outcomes and notifications page by page, so that a reader never has to hold more than one page in
/// memory. Not part of [`Store`], because the agent does not need it.
#[async_trait]
pub trait Archive: Send + Sync {
    /// Returns outcomes in the order of their ends, and by run id where several ended at the same time. Starts after
    /// `after`, the last outcome of the previous page.
    async fn outcomes_between(&self, page: &TimeRange, after: Option<&Outcome>) -> Result<Vec<Outcome>>;

    /// Returns the notifications queued in the range in the order in which they were written, each with its row number.
    /// Starts after the row number `after`: that of the last row of the previous page, or 0.
    async fn notifications_between(&self, page: &TimeRange, after: i64) -> Result<Vec<(i64, NotificationRecord)>>;

    /// Returns the earliest opening time of the incidents that were open at `at`, or `None` if there were none.
    async fn earliest_open_at(&self, at: DateTime<Utc>) -> Result<Option<DateTime<Utc>>>;

    /// Counts runs in slots like [`History::slot_counts`], limited to runs that ended before `before`.
    async fn slot_counts_before(&self, asked: &SlotCountQuery<'_>, before: DateTime<Utc>) -> Result<Vec<SlotCount>>;
}

/// Data that deliveries and heartbeats keep in memory, read once when a store is opened.
#[derive(Debug, Default)]
pub struct WorkingSet {
    /// Identity of the store.
    pub identity: Identity,
    /// Queued notifications in the order of queuing, each with its [`Uncertainty`].
    pub queued: Vec<(Notification, Uncertainty)>,
    /// Receiver states: receiver, dedup key, value and time of the last change.
    pub receiver_states: Vec<(String, String, Json, DateTime<Utc>)>,
    /// Latest check-ins by name of the heartbeat.
    pub check_ins: Vec<(String, CheckInState)>,
    /// Number of the last outcome that the destination of each sink has.
    pub positions: BTreeMap<String, u64>,
    /// Last number given to an outcome or a change.
    pub last_seq: u64,
}

/// Whether delivery attempts of a notification may have reached the receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Uncertainty {
    /// No attempt did.
    #[default]
    None,
    /// The attempt in progress may have.
    Attempt,
    /// An earlier attempt may have; a later rejection does not undo that.
    Earlier,
}

impl Uncertainty {
    /// Returns the uncertainty after a change of the delivery. The final end of a delivery leaves it unchanged.
    #[must_use]
    pub fn after(self, change: &AttemptChange) -> Self {
        match change {
            AttemptChange::Started if self == Self::None => Self::Attempt,
            AttemptChange::Started | AttemptChange::Finished(DeliveryStatus::Uncertain(_)) => Self::Earlier,
            AttemptChange::Finished(DeliveryStatus::Retryable(_)) if self != Self::Earlier => Self::None,
            AttemptChange::Finished(_) => self,
        }
    }
}

/// Database that a [`WriteBuffer`] writes to.
#[async_trait]
pub trait Database: Store + Positions {
    /// Reads the data that deliveries and heartbeats keep in memory. Rows that cannot be read are logged and skipped.
    async fn working_set(&self) -> Result<WorkingSet>;

    /// Reads all database pages that alerting depends on through a new connection, to detect damage.
    async fn check(&self) -> Result<()>;

    /// Reads the number of the last commit through a new connection, to detect a commit that only its own connection
    /// can see.
    async fn last_commit(&self) -> Result<i64>;

    /// Returns whether the database is still at the path where it was opened: not deleted, moved or replaced.
    fn is_in_place(&self) -> bool;

    /// Closes all connections.
    async fn close(&self);
}

/// All stored data of the agent.
pub trait Store: Runs + History + Incidents + Outbox + CheckIns {}

impl<T: Runs + History + Incidents + Outbox + CheckIns> Store for T {}

#[cfg(test)]
mod conformance;
