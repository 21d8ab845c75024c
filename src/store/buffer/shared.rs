//! State that a write buffer shares with the task that writes it, its metrics and its health.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use chrono::{DateTime, Utc};
use prometheus::{IntCounter, IntGauge, Opts, Registry};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::backlog::Backlog;
use super::opener::Opener;
use super::outbox::Outbox;
use crate::names::metric;
use crate::store::{Batch, Database, Identity};

/// Metrics of the store.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(super) available: IntGauge,
    pub(super) waiting: IntGauge,
    pub(super) refused: IntCounter,
    pub(super) dropped: IntCounter,
}

impl Metrics {
    /// Registers the metrics. `dropped` counts the outcomes that did not fit into memory.
    pub fn new(registry: &Registry, dropped: IntCounter) -> prometheus::Result<Self> {
        let opts = |metric: &crate::names::Metric| Opts::new(metric.name, metric.help);
        let metrics = Self {
            available: IntGauge::with_opts(opts(&metric::STORE_AVAILABLE))?,
            waiting: IntGauge::with_opts(opts(&metric::STORE_WAITING))?,
            refused: IntCounter::with_opts(opts(&metric::STORE_ROWS_REFUSED))?,
            dropped,
        };
        registry.register(Box::new(metrics.available.clone()))?;
        registry.register(Box::new(metrics.waiting.clone()))?;
        registry.register(Box::new(metrics.refused.clone()))?;
        metrics.available.set(1);
        Ok(metrics)
    }
}

/// Health of the store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Health {
    /// Start and reason of the present unavailability; `None` while the store accepts writes.
    pub away: Option<(DateTime<Utc>, String)>,
    /// Number of times that the store was replaced by another file.
    pub replaced: u64,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) pending: Backlog,
    /// Batch that is being written.
    pub(super) in_flight: Option<Arc<Batch>>,
    /// Batches that were written but not yet seen by another connection, oldest first.
    pub(super) unverified: Vec<Arc<Batch>>,
    pub(super) outbox: Outbox,
    pub(super) identity: Identity,
    /// Number of accepted batches.
    pub(super) accepted: u64,
    /// Last number up to which no further record can arrive.
    pub(super) last_seq: u64,
    /// Start of the time that data has been waiting to be written.
    pub(super) waiting_since: Option<Instant>,
    /// Set while nothing is written to a new file, because alerting has yet to store its state: the number of the
    /// replacement, and the end of the wait.
    pub(super) held: Option<(u64, Instant)>,
}

pub(super) struct Shared {
    pub(super) opener: Arc<dyn Opener>,
    pub(super) state: Mutex<State>,
    pub(super) database: RwLock<Option<Arc<dyn Database>>>,
    /// Signals that there is data to write.
    pub(super) work: Notify,
    /// Number of accepted batches that are written.
    pub(super) written: watch::Sender<u64>,
    pub(super) health: watch::Sender<Health>,
    pub(super) metrics: Metrics,
}

impl Shared {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // A panic while the lock was held leaves only complete rows behind.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn database(&self) -> Option<Arc<dyn Database>> {
        self.database.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_database(&self, database: Option<Arc<dyn Database>>) {
        *self.database.write().unwrap_or_else(PoisonError::into_inner) = database;
    }

    /// Adds a batch to the data in memory and returns its number.
    pub(super) fn accept(&self, mut batch: Batch) -> u64 {
        let mut state = self.state();
        let given_way = state.outbox.apply(&batch);
        if !given_way.attempts.is_empty() {
            let notifications = given_way.attempts.len();
            tracing::error!(notifications, "too many queued notifications: dropping the oldest");
            batch.attempts.extend(given_way.attempts);
            batch.receiver_states.extend(given_way.receiver_states);
        }
        let newest = batch.outcomes.iter().map(|outcome| outcome.seq).max().unwrap_or_default();
        state.last_seq = state.last_seq.max(newest);
        let shed = state.pending.absorb(batch);
        state.accepted += 1;
        state.waiting_since.get_or_insert_with(Instant::now);
        let (number, waiting) = (state.accepted, state.pending.outcomes.len());
        drop(state);
        self.shed(shed);
        self.metrics.waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        self.work.notify_one();
        number
    }

    pub(super) fn shed(&self, outcomes: u64) {
        if outcomes > 0 {
            self.metrics.dropped.inc_by(outcomes);
            tracing::error!(outcomes, "the store is unavailable and memory is full: dropping the oldest outcomes");
        }
    }
}
