//! The store with a write buffer in memory: accepted data can be read back at once and is written by a separate task.
//!
//! Invariants: while the store is healthy, [`WriteBuffer::accept`] returns when the batch is written, and nothing is
//! confirmed or delivered before. While the store is unavailable (full, locked, read-only, deleted, replaced, damaged,
//! slow), it returns at once, and accepted data is held within limits and written when the store is available again.
//! Written data is held until another connection has seen it. A store that was replaced by another file is filled with
//! all data in memory. A row that the store rejects permanently is set aside and counted, and the rest of its batch is
//! written.

mod backlog;
mod opener;
mod outbox;
mod positions;
mod reading;
mod shared;
mod writer;

use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use self::backlog::Backlog;
use self::outbox::Outbox;
use super::{Batch, Database, Identity, Result, StoreError, StoreFault, WorkingSet};
use opener::RETRY_INTERVAL;
use shared::{Shared, State};

pub use opener::Opener;
pub use shared::{Health, Metrics};
pub use writer::Writer;

/// Maximum time that a caller waits for a write while the store seems healthy.
const WRITE_TIMEOUT: Duration = Duration::from_secs(1);
/// Time that data may wait to be written before the store counts as stalled.
pub const STALLED_AFTER: Duration = Duration::from_secs(10);
/// Maximum time that a start waits for a store locked by another process: before it continues with a readable store,
/// and before it fails with an unreadable one.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
const OPEN_TIMEOUT: Duration = Duration::from_secs(60);

/// Result of a start.
struct Start {
    database: Arc<dyn Database>,
    set: WorkingSet,
    /// Reason why the database can only be read; `None` if it can be written.
    unwritable: Option<StoreError>,
}

/// Copies the readable contents of a damaged database, and logs what is missing.
async fn salvage(opener: &dyn Opener, from: &str) {
    match opener.salvage(from).await {
        Ok(incomplete) if incomplete.is_empty() => tracing::info!("alerting state recovered from the damaged store"),
        Ok(incomplete) => {
            tracing::error!(tables = ?incomplete, "alerting state recovered from the damaged store, except from damaged pages");
        }
        Err(error) => tracing::error!(%error, "cannot read the damaged store: alerting starts without state"),
    }
}

/// The store with a write buffer. Cheap to clone.
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
    /// Opens the store and reads the data for deliveries. A damaged store is set aside. A store that cannot be written
    /// at present is only read, and accepted data waits in memory. The [`Writer`] has to run for anything to be
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
                    tracing::error!(%error, place, "the store is damaged: moved aside, creating a new one");
                    aside = Some(place);
                }
                StoreFault::Locked if begun.elapsed() < LOCK_TIMEOUT => {
                    tracing::error!(%error, "another process has locked the store: retrying");
                    tokio::time::sleep(RETRY_INTERVAL).await;
                }
                StoreFault::Locked | StoreFault::Unavailable => {
                    let is_locked = error.fault == StoreFault::Locked;
                    match Self::start_to_read(opener, error).await {
                        // The process with the exclusive lock may release it.
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

    /// Opens a database that cannot be written for reading, and starts with its contents. If it cannot be read either,
    /// the start fails with the first error, which is the one to solve.
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

    /// Accepts a batch. Returns when it is written, or when it is held in memory because the store is unavailable or
    /// slow.
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

    /// Ends the wait for alerting: all its state was accepted after the replacement with number `replaced`
    /// ([`Health::replaced`]), so that the new file may be written.
    pub fn handed_over(&self, replaced: u64) {
        let released = self.shared.state().held.take_if(|(asked, _)| replaced >= *asked);
        if released.is_some() {
            self.shared.work.notify_one();
        }
    }

    /// Returns the identity of the store.
    pub fn identity(&self) -> Identity {
        self.shared.state().identity.clone()
    }

    /// Returns a channel with the health of the store.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.shared.health.subscribe()
    }

    /// Returns the time without any write if it is too long for a working agent.
    pub fn stalled(&self) -> Option<Duration> {
        let waiting = self.shared.state().waiting_since.map(|since| since.elapsed());
        waiting.filter(|waiting| *waiting >= STALLED_AFTER)
    }

    /// Waits until all accepted data is written, which does not happen while the store is unavailable.
    pub async fn flushed(&self) {
        let number = self.shared.state().accepted;
        let _ = self.shared.written.subscribe().wait_for(|written| *written >= number).await;
    }

    fn database(&self) -> Option<Arc<dyn Database>> {
        self.shared.database()
    }
}

#[cfg(test)]
mod tests;
