//! The store with a memory in front: what it accepts is read back at once and written by a task of its own.
//!
//! Invariants: while the store is well, [`WriteBuffer::accept`] returns when the batch is written, and nothing is said or
//! delivered before; while it is away (full, locked, read-only, deleted, replaced, damaged, slow), it returns at once,
//! and what was accepted is held within bounds and written when the store is back. What was written is held until
//! another connection has seen it. A store that turns out to be another file is given all that is known. A row that the
//! store refuses for ever is set aside, and counted; the rest of its batch is written.

mod backlog;
mod outbox;
mod positions;
mod reading;
mod writer;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use prometheus::{IntCounter, IntGauge, Opts, Registry};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use self::backlog::Backlog;
use self::outbox::Outbox;
use super::{Batch, Database, Identity, Result, StoreError, StoreFault, WorkingSet};
use crate::names::metric;

pub use writer::Writer;

/// How long whoever writes waits for a store that seems well. A store that needs longer is not waited for.
const WRITE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long something may wait to be written before the store counts as stalled.
pub const STALLED_AFTER: Duration = Duration::from_secs(10);
/// How long a start waits for a store that another process has locked: before it begins with what can be read of it, and
/// where nothing can.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
const OPEN_TIMEOUT: Duration = Duration::from_secs(60);
/// How long is waited between two attempts to open or write.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// How long a store that turned out to be another file is not written to before alerting has handed over all its state: a
/// file with a part of it would make an agent that starts with it forget the rest.
const STATE_TIMEOUT: Duration = Duration::from_secs(10);

/// Opens the database that is written to, at the start and whenever it has to be opened again.
#[async_trait]
pub trait Opener: Send + Sync {
    /// Opens the database; makes it where there is none.
    async fn open(&self) -> Result<Arc<dyn Database>>;

    /// Opens a database that cannot be written (full disk, read-only file system, lock) to be read only, so that an agent
    /// can start with what it held. An error says that it cannot be read either, or that no agent has written it.
    async fn open_to_read(&self) -> Result<Arc<dyn Database>>;

    /// Moves a damaged database out of the way, so that the next [`Opener::open`] makes a new one. Returns where it is.
    async fn set_aside(&self) -> Result<String>;

    /// Takes what can still be read of a damaged database that was set aside into the one that was opened in its place.
    /// Returns the names of what could not be read whole.
    async fn salvage(&self, from: &str) -> Result<Vec<String>>;
}

/// Figures of the store.
#[derive(Clone, Debug)]
pub struct Metrics {
    available: IntGauge,
    waiting: IntGauge,
    refused: IntCounter,
    dropped: IntCounter,
}

impl Metrics {
    /// Registers them. `dropped` counts outcomes that memory had no room for.
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

/// How the store is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Health {
    /// Since when nothing is written, and why; `None` while the store takes what is written.
    pub away: Option<(DateTime<Utc>, String)>,
    /// How many times the store turned out to be another file than before.
    pub replaced: u64,
}

#[derive(Debug)]
struct State {
    pending: Backlog,
    /// What is being written.
    in_flight: Option<Arc<Batch>>,
    /// What was written and was not seen by another connection yet, oldest first.
    unverified: Vec<Arc<Batch>>,
    outbox: Outbox,
    identity: Identity,
    /// How many batches were accepted.
    accepted: u64,
    /// The last number up to which nothing can come any more.
    last_seq: u64,
    /// Since when something waits to be written.
    waiting_since: Option<Instant>,
    /// Nothing is written before alerting has handed over its state for a new file: which of the replacements that was for,
    /// and until when at most.
    held: Option<(u64, Instant)>,
}

/// What a start found.
struct Start {
    database: Arc<dyn Database>,
    set: WorkingSet,
    /// Why the database can only be read; `None` for one that is written.
    unwritable: Option<StoreError>,
}

struct Shared {
    opener: Arc<dyn Opener>,
    state: Mutex<State>,
    database: RwLock<Option<Arc<dyn Database>>>,
    /// There is something to write.
    work: Notify,
    /// How many accepted batches are written.
    written: watch::Sender<u64>,
    health: watch::Sender<Health>,
    metrics: Metrics,
}

/// Takes over what a damaged database still holds, and says what it does not.
async fn salvage(opener: &dyn Opener, from: &str) {
    match opener.salvage(from).await {
        Ok(incomplete) if incomplete.is_empty() => tracing::info!("all that alerting goes on from was taken over"),
        Ok(incomplete) => {
            tracing::error!(tables = ?incomplete, "what alerting goes on from was taken over, but for damaged pages");
        }
        Err(error) => tracing::error!(%error, "nothing can be read from the damaged store: alerting begins anew"),
    }
}

/// The store with a memory in front. Cheap to clone.
#[derive(Clone)]
pub struct WriteBuffer {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for WriteBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WriteBuffer").field("health", &*self.shared.health.borrow()).finish_non_exhaustive()
    }
}

impl WriteBuffer {
    /// Opens the store and reads what deliveries need. A damaged store is set aside. One that cannot be written now is
    /// only read: what is accepted waits in memory until it can be written. The [`Writer`] has to run for anything to be
    /// written.
    pub async fn open(opener: Arc<dyn Opener>, metrics: Metrics) -> Result<(Self, Writer)> {
        let Start { database, set, unwritable } = Self::start(&*opener).await?;
        let (identity, last_seq) = (set.identity.clone(), set.last_seq);
        let state = State {
            pending: Backlog::default(),
            in_flight: None,
            unverified: Vec::new(),
            outbox: Outbox::new(set),
            identity,
            accepted: 0,
            last_seq,
            waiting_since: None,
            held: None,
        };
        let shared = Arc::new(Shared {
            opener,
            state: Mutex::new(state),
            database: RwLock::new(Some(database)),
            work: Notify::new(),
            written: watch::Sender::new(0),
            health: watch::Sender::default(),
            metrics,
        });
        let writer = match unwritable {
            None => Writer::new(Arc::clone(&shared)),
            Some(error) => Writer::of_unwritable(Arc::clone(&shared), &error),
        };
        Ok((Self { shared }, writer))
    }

    async fn start(opener: &dyn Opener) -> Result<Start> {
        let begun = Instant::now();
        let (mut damaged, mut aside) = (0, None::<String>);
        loop {
            let opened = async {
                let database = opener.open().await?;
                if let Some(from) = aside.take() {
                    salvage(opener, &from).await;
                }
                database.check().await?;
                let set = database.working_set().await?;
                Ok((database, set))
            };
            let error: StoreError = match opened.await {
                Ok((database, set)) => return Ok(Start { database, set, unwritable: None }),
                Err(error) => error,
            };
            match error.fault {
                StoreFault::Corrupt if damaged == 0 => damaged = 1,
                StoreFault::Corrupt if damaged == 1 => {
                    damaged = 2;
                    let place = opener.set_aside().await?;
                    tracing::error!(%error, place, "the store is damaged: set aside, and a new one is made");
                    aside = Some(place);
                }
                StoreFault::Locked if begun.elapsed() < LOCK_TIMEOUT => {
                    tracing::error!(%error, "another process has locked the store; trying again");
                    tokio::time::sleep(RETRY_INTERVAL).await;
                }
                StoreFault::Locked | StoreFault::Unavailable => {
                    let is_locked = error.fault == StoreFault::Locked;
                    match Self::start_to_read(opener, error).await {
                        // Whoever has it for itself alone may let it go.
                        Err(_) if is_locked && begun.elapsed() < OPEN_TIMEOUT => {
                            tokio::time::sleep(RETRY_INTERVAL).await;
                        }
                        done => return done,
                    }
                }
                _ => return Err(error),
            }
        }
    }

    /// Starts with what the database holds although it cannot be written. Where it cannot be read either, the start fails
    /// with the first error: that is what there is to mend.
    async fn start_to_read(opener: &dyn Opener, error: StoreError) -> Result<Start> {
        let opened = async {
            let database = opener.open_to_read().await?;
            let set = database.working_set().await?;
            Ok((database, set))
        };
        match opened.await {
            Ok((database, set)) => Ok(Start { database, set, unwritable: Some(error) }),
            Err::<_, StoreError>(unreadable) => {
                tracing::error!(error = %unreadable, "the store cannot be read either");
                Err(error)
            }
        }
    }

    /// Accepts a batch. Returns when it is written, or when it is held in memory because the store is away or slow.
    pub async fn accept(&self, batch: Batch) {
        if batch.is_empty() {
            return;
        }
        let number = self.shared.accept(batch);
        let mut health = self.shared.health.subscribe();
        let mut written = self.shared.written.subscribe();
        let done = async {
            tokio::select! {
                _ = written.wait_for(|written| *written >= number) => {}
                _ = health.wait_for(|health| health.away.is_some()) => {}
            }
        };
        let _ = tokio::time::timeout(WRITE_TIMEOUT, done).await;
    }

    /// Says that all state of alerting was accepted since the store was replaced for the `replaced`th time
    /// ([`Health::replaced`]): the new file may be written.
    pub fn handed_over(&self, replaced: u64) {
        let released = self.shared.state().held.take_if(|(asked, _)| replaced >= *asked);
        if released.is_some() {
            self.shared.work.notify_one();
        }
    }

    /// Which store it is.
    pub fn identity(&self) -> Identity {
        self.shared.state().identity.clone()
    }

    /// How the store is, now and as it changes.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.shared.health.subscribe()
    }

    /// Returns since when nothing has moved, when that is too long for an agent that works.
    pub fn stalled(&self) -> Option<Duration> {
        let waiting = self.shared.state().waiting_since.map(|since| since.elapsed());
        waiting.filter(|waiting| *waiting >= STALLED_AFTER)
    }

    /// Returns when all that was accepted is written. Does not return while the store is away.
    pub async fn flushed(&self) {
        let number = self.shared.state().accepted;
        let _ = self.shared.written.subscribe().wait_for(|written| *written >= number).await;
    }

    fn database(&self) -> Option<Arc<dyn Database>> {
        self.shared.database()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // What panicked while it held the lock left rows behind that are whole one by one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn database(&self) -> Option<Arc<dyn Database>> {
        self.database.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_database(&self, database: Option<Arc<dyn Database>>) {
        *self.database.write().unwrap_or_else(PoisonError::into_inner) = database;
    }

    /// Takes a batch into memory and returns its number.
    fn accept(&self, mut batch: Batch) -> u64 {
        let mut state = self.state();
        let given_way = state.outbox.apply(&batch);
        if !given_way.attempts.is_empty() {
            let notices = given_way.attempts.len();
            tracing::error!(notices, "too many notices are queued: the oldest were given up");
            batch.attempts.extend(given_way.attempts);
            batch.memos.extend(given_way.memos);
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

    fn shed(&self, outcomes: u64) {
        if outcomes > 0 {
            self.metrics.dropped.inc_by(outcomes);
            tracing::error!(outcomes, "the store is away and memory is full: the oldest outcomes were dropped");
        }
    }
}

#[cfg(test)]
mod tests;
