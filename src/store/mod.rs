//! What is remembered: runs, history, incidents, notices and evidence.
//!
//! Narrow traits, so that a second database is one more file and a test can stand in between. Everything that one
//! round of judging decides is written by one [`Runs::commit`], or nothing of it is.

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

use crate::incident::{Change, Decision, Incident, Notice, Subject};
use crate::names::Reason;
use crate::outcome::{Outcome, RunId, Verdict};
use crate::scenario::{Kind, ScenarioId};

pub use buffer::{Health, Metrics, Opener, STALLED_AFTER, WriteBuffer, Writer};
pub use sqlite::{Sqlite, SqliteFile};

/// Who has to change something before a failed call to the store can succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreFault {
    /// The surroundings: a full or read-only disk, a lock, a database that does not answer. The same call may succeed
    /// later.
    Unavailable,
    /// Another process, which holds a lock on the database.
    Locked,
    /// The database itself: it is damaged, or is no database.
    Corrupt,
    /// The data of the call: the database refuses it, and will refuse it again.
    Refused,
}

/// Why a call to the store failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreError {
    /// What has to change before the call can succeed.
    pub fault: StoreFault,
    /// What the database said.
    pub message: String,
}

impl StoreError {
    /// Describes data that the store cannot read or write.
    pub fn refused(message: impl Into<String>) -> Self {
        Self { fault: StoreFault::Refused, message: message.into() }
    }

    /// Describes a store that cannot be reached, or cannot write, at present.
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

/// What the store's calls give.
pub type Result<T> = std::result::Result<T, StoreError>;

/// A run that is planned: written ahead of its due time, gone when its outcome is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// The run it will be.
    pub run: RunId,
    /// Of which scenario.
    pub scenario: ScenarioId,
    /// The scenario's name, to close the run with if the agent goes away.
    pub name: String,
    /// What the scenario mainly is, for the same use.
    pub kind: Kind,
    /// Where the agent looks from.
    pub location: String,
    /// When it is due.
    pub due_at: DateTime<Utc>,
}

/// A change of the delivery of a queued notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptChange {
    /// An attempt begins: until its end is written it may have reached the receiver.
    Started,
    /// An attempt ended.
    Finished(Delivery),
}

/// A change of what is kept for a receiver under a dedup key; without a value it is deleted.
#[derive(Debug, Clone, PartialEq)]
pub struct MemoChange {
    /// The receiver's name.
    pub receiver: String,
    /// The dedup key.
    pub key: String,
    /// The new value.
    pub memo: Option<Json>,
    /// When it changed.
    pub at: DateTime<Utc>,
}

/// Prefix of the keys under which is noted, for a receiver, of which incidents nothing was delivered to it.
pub const UNDELIVERED: &str = "undelivered/";

/// Returns the notes that a notice was given up which surely did not arrive, of the incidents that it would have opened.
pub fn undelivered(notice: &Notice, at: DateTime<Utc>) -> impl Iterator<Item = MemoChange> {
    notice.opened_keys().map(move |key| MemoChange {
        receiver: notice.receiver.clone(),
        key: format!("{UNDELIVERED}{key}"),
        memo: Some(Json::Bool(true)),
        at,
    })
}

/// Which store this is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// A short random text, chosen when the store was made.
    pub id: String,
    /// Dedup keys that receivers know without the identity, since they were notified before the store had one.
    pub unqualified: BTreeSet<String>,
}

impl Identity {
    /// Returns the store's part of a dedup key; empty for keys that receivers know without one.
    pub fn of_key(&self, key: &str) -> &str {
        if self.unqualified.contains(key) { "" } else { &self.id }
    }
}

/// What one group commit writes, in one transaction.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Runs that were planned.
    pub intents: Vec<Intent>,
    /// Planned runs that will not take place.
    pub withdrawn: Vec<RunId>,
    /// Runs that ended; their intents go.
    pub outcomes: Vec<Arc<Outcome>>,
    /// What alerting remembers, by subject.
    pub watches: Vec<(Subject, Json)>,
    /// What else alerting remembers, by key: groups, silences; none: no longer.
    pub memory: Vec<(String, Option<Json>)>,
    /// Incidents that opened, changed or resolved.
    pub incidents: Vec<Incident>,
    /// What became of incidents, with numbers, in order.
    pub changes: Vec<Arc<Change>>,
    /// What was decided, in order.
    pub decisions: Vec<Decision>,
    /// What is owed, in order.
    pub notices: Vec<Notice>,
    /// Changes of deliveries: the notice's id, what happened, and when; in order.
    pub attempts: Vec<(String, AttemptChange, DateTime<Utc>)>,
    /// Changes of what is kept for receivers, in order.
    pub memos: Vec<MemoChange>,
    /// Check-ins: name, signal and time, in order.
    pub check_ins: Vec<(String, Beat, DateTime<Utc>)>,
    /// How far the destinations of sinks have the outcomes, by the sink's name; without a number the sink is forgotten.
    pub positions: BTreeMap<String, Option<u64>>,
    /// The identity that the store takes on, where it replaces another one.
    pub identity: Option<Identity>,
    /// The number of the commit, by which another connection recognises it; 0 for one without a number.
    pub number: i64,
}

impl Batch {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
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
            && self.number == 0
    }
}

/// Runs: planned and ended.
#[async_trait]
pub trait Runs: Send + Sync {
    /// Writes all of it or nothing. Writing an outcome or a notice that is there already changes nothing.
    async fn commit(&self, batch: &Batch) -> Result<()>;

    /// Planned runs without an outcome.
    async fn open_intents(&self, location: &str) -> Result<Vec<Intent>>;

    /// Forgets outcomes that ended before, and incidents that resolved before, with all that belongs to them.
    /// Gives the runs whose evidence goes with them.
    async fn prune(&self, before: DateTime<Utc>) -> Result<Vec<RunId>>;
}

/// A run in few words: what a list or a chart of many runs needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Recent {
    /// The run.
    pub run: RunId,
    /// Of which scenario.
    pub scenario: ScenarioId,
    /// When it ended.
    pub ended_at: DateTime<Utc>,
    /// How long it took.
    pub duration: Duration,
    /// How it ended.
    pub verdict: Verdict,
    /// Why it is not `passed`.
    pub reason: Option<Reason>,
}

/// Which durations are asked for.
#[derive(Debug, Clone, Copy)]
pub struct Durations<'a> {
    /// Of which scenario.
    pub scenario: &'a str,
    /// Where the agent looked from.
    pub location: &'a str,
    /// Of which of its steps; none: of the runs as a whole.
    pub step: Option<&'a str>,
    /// Of runs that ended since then.
    pub since: DateTime<Utc>,
    /// So many runs at most, the newest.
    pub limit: u32,
}

/// Which runs are counted.
#[derive(Debug, Clone, Copy)]
pub struct Tallies<'a> {
    /// Of which scenario.
    pub scenario: &'a str,
    /// Those that ended since then.
    pub since: DateTime<Utc>,
    /// In slots of so many seconds, at least one.
    pub slot: i64,
}

/// How many runs of a slot said something of their target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// The slot's number: seconds since 1970 by its length.
    pub slot: i64,
    /// All that passed, were degraded or failed.
    pub runs: u64,
    /// Those that failed.
    pub failed: u64,
}

/// What happened before.
#[async_trait]
pub trait History: Send + Sync {
    /// The last outcome of each scenario.
    async fn latest(&self) -> Result<Vec<Outcome>>;

    /// The last conclusive outcome of each scenario whose last one is not.
    async fn latest_conclusive(&self) -> Result<Vec<Outcome>>;

    /// Outcomes, newest first: of one scenario, or of all.
    async fn recent(&self, scenario: Option<&str>, limit: u32) -> Result<Vec<Outcome>>;

    /// The last outcomes of each scenario, newest first within a scenario: one query for all of them.
    async fn recent_of_each(&self, limit: u32) -> Result<Vec<Recent>>;

    /// When and how long runs of a scenario took that passed or were degraded, newest first: those of one location that
    /// ended since then. With the name of a step that step in them, where it passed.
    async fn durations(&self, asked: &Durations<'_>) -> Result<Vec<(DateTime<Utc>, Duration)>>;

    /// Counts runs in slots, the oldest first; a slot without any is left out.
    async fn tallies(&self, asked: &Tallies<'_>) -> Result<Vec<Tally>>;

    /// One run.
    async fn run(&self, run: RunId) -> Result<Option<Outcome>>;
}

/// A decision as it is kept: with how often it was made in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptDecision {
    /// The last of them.
    pub decision: Decision,
    /// When it was first made.
    pub first_at: DateTime<Utc>,
    /// How often in a row.
    pub count: u64,
}

/// Incidents and what led to them.
#[async_trait]
pub trait Incidents: Send + Sync {
    /// What alerting remembers, by subject.
    async fn watches(&self) -> Result<Vec<(Subject, Json)>>;

    /// What else alerting remembers, by key.
    async fn memory(&self) -> Result<Vec<(String, Json)>>;

    /// Incidents, newest first; the open ones come first.
    async fn incidents(&self, limit: u32) -> Result<Vec<Incident>>;

    /// One incident, by its dedup key.
    async fn incident(&self, key: &str) -> Result<Option<Incident>>;

    /// Decisions about a subject, newest first.
    async fn decisions(&self, subject: &Subject, limit: u32) -> Result<Vec<KeptDecision>>;
}

/// How a notice stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoticeState {
    /// The notice.
    pub notice: Notice,
    /// `owed`, `sent` or `failed`.
    pub state: String,
    /// When it was sent or given up.
    pub done_at: Option<DateTime<Utc>>,
    /// Why it was given up, or why the last try failed.
    pub problem: Option<String>,
}

/// How a try to send a notice ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// The receiver took it.
    Sent,
    /// The receiver surely did not take it; it stays owed.
    Refused(String),
    /// It may have taken it or not; it stays owed.
    Unsure(String),
    /// It never will; given up.
    Failed(String),
}

/// Notices that are owed.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// What a receiver is owed, oldest first.
    async fn owed(&self, receiver: &str, limit: u32) -> Result<Vec<Notice>>;

    /// Everyone who is owed something.
    async fn creditors(&self) -> Result<Vec<String>>;

    /// A try begins: from now until [`Outbox::delivered`] it may have reached the receiver.
    async fn trying(&self, notice: &str) -> Result<()>;

    /// A try ended.
    async fn delivered(&self, notice: &str, delivery: &Delivery, at: DateTime<Utc>) -> Result<()>;

    /// The notices of an incident, oldest first.
    async fn notices(&self, incident: &str) -> Result<Vec<NoticeState>>;

    /// What has to be remembered of a key to tell a receiver more of it, such as the message that it stands in.
    async fn memo(&self, receiver: &str, key: &str) -> Result<Option<Json>>;

    /// All that is remembered for a receiver, by key.
    async fn memos(&self, receiver: &str) -> Result<Vec<(String, Json)>>;

    /// Remembers it anew; none: forgets it.
    async fn keep_memo(&self, receiver: &str, key: &str, memo: Option<&Json>, at: DateTime<Utc>) -> Result<()>;
}

/// The code of a call that says no more than that it failed.
pub const FAILED: u8 = u8::MAX;

/// A call of someone who must call in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    /// The work begins.
    Started,
    /// It has ended with this exit code; 0 is success.
    Ended(u8),
}

/// What was heard of a name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Heard {
    /// When the work last began.
    pub started_at: Option<DateTime<Utc>>,
    /// How it last ended.
    pub ended: Option<Ended>,
}

/// The end of some work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// When.
    pub at: DateTime<Utc>,
    /// Its exit code; 0 is success.
    pub code: u8,
}

/// Who called in.
#[async_trait]
pub trait Beats: Send + Sync {
    /// Someone calls in.
    async fn beat(&self, name: &str, beat: Beat, at: DateTime<Utc>) -> Result<()>;

    /// What was heard of a name; none: nothing yet.
    async fn beats(&self, name: &str) -> Result<Option<Heard>>;
}

/// What has a number: outcomes, and changes of incidents.
#[derive(Debug, Clone, PartialEq)]
pub enum Recorded {
    /// A run ended.
    Outcome(Arc<Outcome>),
    /// An incident changed.
    Change(Arc<Change>),
}

impl Recorded {
    /// Its number.
    pub fn seq(&self) -> u64 {
        match self {
            Self::Outcome(outcome) => outcome.seq,
            Self::Change(change) => change.seq,
        }
    }
}

/// What was recorded of a range of numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Numbered {
    /// Outcomes and changes in the order of their numbers, which are their `seq`.
    pub records: Vec<Recorded>,
    /// The last number for which this is complete: what is absent up to here is not stored. One less than the first number
    /// of the range where nothing can be said yet.
    pub through: u64,
}

/// What sinks go on from: numbered outcomes and changes, and how far each destination has them.
#[async_trait]
pub trait Positions: Send + Sync {
    /// Returns what has the numbers from `from` to `to`, both included, at most `limit` records, the first ones.
    async fn numbered(&self, from: u64, to: u64, limit: u32) -> Result<Numbered>;

    /// Returns the position of every sink, by its name.
    async fn positions(&self) -> Result<BTreeMap<String, u64>>;

    /// Returns the last number that was given to an outcome or a change; 0 where there was none.
    async fn last_seq(&self) -> Result<u64>;

    /// Writes positions; a sink without a number is forgotten.
    async fn set_positions(&self, positions: BTreeMap<String, Option<u64>>) -> Result<()>;
}

/// Which part of the archive is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// From then on.
    pub since: DateTime<Utc>,
    /// Until then, itself included.
    pub until: DateTime<Utc>,
    /// So many at most.
    pub limit: u32,
}

/// What happened within a span of time, page by page: whoever looks back reads no more at once than it can hold.
/// No part of [`Store`], since no agent needs it.
#[async_trait]
pub trait Archive: Send + Sync {
    /// Runs in the order of their ends, those that ended at once in that of their ids; after the last one of the page
    /// before.
    async fn ended(&self, page: &Page, after: Option<&Outcome>) -> Result<Vec<Outcome>>;

    /// Notices by when they became owed, in the order in which they were written, each with its number; after that of
    /// the last one of the page before, which begins with 0.
    async fn told(&self, page: &Page, after: i64) -> Result<Vec<(i64, NoticeState)>>;

    /// When the first of those incidents opened that were open at this point in time and opened before.
    async fn open_at(&self, at: DateTime<Utc>) -> Result<Option<DateTime<Utc>>>;

    /// Counts runs in slots as [`History::tallies`] does, but only those that ended before.
    async fn tallies_before(&self, asked: &Tallies<'_>, before: DateTime<Utc>) -> Result<Vec<Tally>>;
}

/// What deliveries and heartbeats need at hand, read once when a store is opened.
#[derive(Debug, Default)]
pub struct WorkingSet {
    /// Which store it is.
    pub identity: Identity,
    /// Queued notices in the order in which they were queued, each with its [`Uncertainty`].
    pub queued: Vec<(Notice, Uncertainty)>,
    /// What is kept for receivers: receiver, dedup key, value, and when it was kept.
    pub memos: Vec<(String, String, Json, DateTime<Utc>)>,
    /// Who checked in.
    pub check_ins: Vec<(String, Heard)>,
    /// How far the destinations of sinks have the outcomes.
    pub positions: BTreeMap<String, u64>,
    /// The last number that was given to an outcome.
    pub last_seq: u64,
}

/// Whether attempts to deliver a notice may have reached the receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Uncertainty {
    /// None did.
    #[default]
    None,
    /// One is under way.
    Attempt,
    /// An earlier one may have, which no later refusal undoes.
    Earlier,
}

impl Uncertainty {
    /// Returns what follows from a change of the delivery. The end of a delivery leaves it as it is.
    #[must_use]
    pub fn after(self, change: &AttemptChange) -> Self {
        match change {
            AttemptChange::Started if self == Self::None => Self::Attempt,
            AttemptChange::Started | AttemptChange::Finished(Delivery::Unsure(_)) => Self::Earlier,
            AttemptChange::Finished(Delivery::Refused(_)) if self != Self::Earlier => Self::None,
            AttemptChange::Finished(_) => self,
        }
    }
}

/// A database that a [`WriteBuffer`] writes to.
#[async_trait]
pub trait Database: Store + Positions {
    /// Reads what deliveries and heartbeats need at hand. Rows that cannot be read are logged and left out.
    async fn working_set(&self) -> Result<WorkingSet>;

    /// Reads all pages that alerting goes on from, by a connection that is opened for it, so that damage is found.
    async fn check(&self) -> Result<()>;

    /// Reads the number of the last commit by a connection that is opened for it, so that a commit which only its own
    /// connection can see is noticed.
    async fn last_commit(&self) -> Result<i64>;

    /// Returns whether the database is still where it was opened: not deleted, moved or replaced.
    fn is_in_place(&self) -> bool;

    /// Closes all connections.
    async fn close(&self);
}

/// All that is remembered.
pub trait Store: Runs + History + Incidents + Outbox + Beats {}

impl<T: Runs + History + Incidents + Outbox + Beats> Store for T {}

#[cfg(test)]
mod conformance;
