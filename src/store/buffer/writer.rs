//! The task that writes the contents of the buffer.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::opener::RETRY_INTERVAL;
use super::shared::{Shared, State};
use crate::store::buffer::backlog;
use crate::store::{Batch, Database, Result, StoreError, StoreFault};

/// Interval at which written data is verified through another connection.
const VERIFY_INTERVAL: Duration = Duration::from_secs(2);
/// Interval at which the pages that alerting depends on are read again, and the maximum share of time for this, as a
/// divisor.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);
const CHECK_SHARE: u32 = 100;
/// Maximum number of rows of one kind in a commit, so that no commit locks the database for long.
const MAX_ROWS: usize = 2_000;
/// Minimum number of rows of one kind in a commit after failures.
const MIN_ROWS: usize = 16;
/// Number of consecutive failures after which the database is reopened.
const REOPEN_AFTER: u32 = 4;

/// Maximum time that a new file in place of the store is not written to before alerting has stored all its state,
/// because an agent started with a partial file would lose the rest.
const STATE_TIMEOUT: Duration = Duration::from_secs(10);

/// Task that writes the data accepted by a [`super::WriteBuffer`].
pub struct Writer {
    shared: Arc<Shared>,
    /// Number of the last commit.
    number: i64,
    verified_at: Instant,
    /// Time of the next check of the pages.
    check_at: Instant,
    rows: usize,
    failures: u32,
    damaged: u32,
    /// Whether the database was opened for reading only, because it could not be written.
    unwritable: bool,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            number: Utc::now().timestamp_micros(),
            verified_at: Instant::now(),
            check_at: Instant::now() + CHECK_INTERVAL,
            rows: MAX_ROWS,
            failures: 0,
            damaged: 0,
            unwritable: false,
        }
    }

    /// Creates a writer for a database that can only be read, with the reason.
    pub(super) fn of_unwritable(shared: Arc<Shared>, error: &StoreError) -> Self {
        let mut writer = Self { unwritable: true, ..Self::new(shared) };
        writer.note_failure(error);
        writer
    }

    /// Writes until stopped, and closes the database.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let wait = self.turn().await;
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = tokio::time::sleep(wait) => {}
                () = self.shared.work.notified(), if self.failures == 0 || self.held().is_some() => {}
            }
        }
        if let Some(database) = self.shared.database() {
            database.close().await;
        }
    }

    /// Processes all available work, and returns the time to wait for more.
    async fn turn(&mut self) -> Duration {
        loop {
            let step = self.step().await;

            match step {
                Ok(true) => {}
                Ok(false) => return self.held().unwrap_or(VERIFY_INTERVAL),
                Err(error) => {
                    self.failed(&error).await;
                    return RETRY_INTERVAL;
                }
            }
        }
    }

    /// Writes one batch, or verifies written data. Returns whether there is more to do at once.
    async fn step(&mut self) -> Result<bool> {
        let database = self.ready().await?;
        if self.held().is_some() {
            return Ok(false);
        }
        let Some((batch, through)) = self.take() else {
            if self.verified_at.elapsed() >= VERIFY_INTERVAL || self.failures > 0 {
                self.verify(&*database).await?;
                self.recovered();
            }
            return Ok(false);
        };
        match self.write(&*database, &batch).await {
            Ok(()) => {
                let done = self.wrote(batch, through);
                self.rows = (self.rows * 2).min(MAX_ROWS);
                if self.failures > 0 || self.verified_at.elapsed() >= VERIFY_INTERVAL {
                    self.verify(&*database).await?;
                    self.recovered();
                }
                if done {
                    self.shared.written.send_replace(through);
                }
                Ok(true)
            }
            Err(error) => {
                let mut state = self.shared.state();
                state.in_flight = None;
                let shed = state.pending.put_back(Arc::unwrap_or_clone(batch));
                drop(state);
                self.shared.shed(shed);
                Err(error)
            }
        }
    }

    /// Returns the remaining time of the wait for alerting to store its state in a new file.
    fn held(&self) -> Option<Duration> {
        let (_, until) = self.shared.state().held?;
        Some(until.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
    }

    /// Marks a batch as written. Returns whether everything is written.
    fn wrote(&self, batch: Arc<Batch>, through: u64) -> bool {
        let mut state = self.shared.state();
        state.in_flight = None;
        state.unverified.push(batch);
        let done = state.pending.is_empty();
        state.waiting_since = (!done).then(Instant::now);
        let waiting = state.pending.outcomes.len();
        debug_assert!(!done || state.accepted == through, "what waits was accepted later");
        drop(state);
        self.shared.metrics.waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        done
    }

    /// Takes the batch to write next, with the number of accepted batches that are written with it.
    fn take(&mut self) -> Option<(Arc<Batch>, u64)> {
        let mut state = self.shared.state();
        if state.pending.is_empty() {
            return None;
        }
        self.number += 1;
        let batch = Arc::new(Batch { number: self.number, ..state.pending.take(self.rows) });
        state.in_flight = Some(Arc::clone(&batch));
        Some((batch, state.accepted))
    }

    /// Returns the database, reopened if necessary.
    async fn ready(&mut self) -> Result<Arc<dyn Database>> {
        if let Some(database) = self.shared.database() {
            let in_place = database.is_in_place();
            if in_place && !self.unwritable {
                return Ok(database);
            }
            if in_place {
                return self.make_writable(database).await;
            }
            tracing::error!("the store file was deleted, moved or replaced: reopening it and writing all known state");
            let message = "its file was deleted, moved or replaced".to_owned();
            self.note_failure(&StoreError { fault: StoreFault::Unavailable, message });
            self.replaced(Some(database));
        }
        let database = self.shared.opener.open().await?;
        self.unwritable = false;
        self.shared.set_database(Some(Arc::clone(&database)));
        Ok(database)
    }

    /// Reopens a database for writing that could only be read so far. It stays readable until this succeeds.
    async fn make_writable(&mut self, readable: Arc<dyn Database>) -> Result<Arc<dyn Database>> {
        let database = self.shared.opener.open().await?;
        self.unwritable = false;
        self.shared.set_database(Some(Arc::clone(&database)));
        tokio::spawn(async move { readable.close().await });
        Ok(database)
    }

    /// Prepares a new database in place of the old one: it will receive the working set, and alerting is asked for its
    /// state.
    fn replaced(&self, old: Option<Arc<dyn Database>>) {
        self.shared.set_database(None);
        if let Some(old) = old {
            // Remaining readers keep the old database open for as long as they need it.
            tokio::spawn(async move { old.close().await });
        }
        {
            let mut state = self.shared.state();
            state.held = Some((self.shared.health.borrow().replaced + 1, Instant::now() + STATE_TIMEOUT));
            self.rewind(&mut state);
            let mut all = state.outbox.rows();
            all.identity = Some(state.identity.clone());
            // Rows that are already waiting are newer.
            let shed = state.pending.put_back(all);
            drop(state);
            self.shared.shed(shed);
        }
        self.shared.health.send_modify(|health| health.replaced += 1);
    }

    /// Puts back the written batches that were not yet seen by another connection, so that they are written again.
    fn rewind(&self, state: &mut State) {
        let mut shed = 0;
        for batch in std::mem::take(&mut state.unverified).into_iter().rev() {
            shed += state.pending.put_back(Arc::unwrap_or_clone(batch));
        }
        self.shared.shed(shed);
    }

    /// Verifies through another connection that written data is visible, and periodically that older data is readable.
    async fn verify(&mut self, database: &dyn Database) -> Result<()> {
        let expected = self.shared.state().unverified.last().map(|batch| batch.number);
        let seen = database.last_commit().await?;
        if let Some(expected) = expected.filter(|expected| seen < *expected) {
            return Err(StoreError {
                fault: StoreFault::Corrupt,
                message: format!("commit {expected} succeeded, but another connection reads {seen}"),
            });
        }
        let begun = Instant::now();
        if begun >= self.check_at || self.damaged > 0 {
            database.check().await?;
            self.check_at = begun + CHECK_INTERVAL.max(begun.elapsed() * CHECK_SHARE);
        }
        if let Some(expected) = expected {
            self.shared.state().unverified.retain(|batch| batch.number > expected);
        }
        self.verified_at = Instant::now();
        Ok(())
    }

    /// Writes a batch. A batch that the database rejects is split until the rejected rows are found.
    async fn write(&mut self, database: &dyn Database, batch: &Batch) -> Result<()> {
        match database.commit(batch).await {
            Err(error) if error.fault == StoreFault::Refused => {
                // A database that rejects even an empty batch has a problem of its own.
                let empty = Batch { number: batch.number - 1, ..Batch::default() };
                database
                    .commit(&empty)
                    .await
                    .map_err(|error| StoreError { fault: StoreFault::Unavailable, ..error })?;
                self.take_apart(database, batch).await
            }
            other => other,
        }
    }

    async fn take_apart(&mut self, database: &dyn Database, batch: &Batch) -> Result<()> {
        let mut parts = vec![batch.clone()];
        while let Some(part) = parts.pop() {
            let number = if parts.is_empty() { batch.number } else { 0 };
            match database.commit(&Batch { number, ..part.clone() }).await {
                Ok(()) => {}
                Err(error) if error.fault == StoreFault::Refused => match backlog::halve(&part) {
                    Some((first, second)) => parts.extend([second, first]),
                    None => {
                        self.shared.metrics.refused.inc();
                        tracing::error!(%error, "the store rejected {}: set aside", backlog::name(&part));
                        if number != 0 {
                            database.commit(&Batch { number, ..Batch::default() }).await?;
                        }
                    }
                },
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn recovered(&mut self) {
        self.damaged = 0;
        if std::mem::take(&mut self.failures) == 0 {
            return;
        }
        self.shared.metrics.available.set(1);
        let waiting = self.shared.state().pending.outcomes.len();
        tracing::info!(waiting, "the store is available again: writing the outcomes and notifications in memory");
        self.shared.health.send_modify(|health| health.away = None);
    }

    /// Counts a failure, and logs the first one.
    fn note_failure(&mut self, error: &StoreError) {
        self.failures += 1;
        self.rows = (self.rows / 2).max(MIN_ROWS);
        self.shared.metrics.available.set(0);
        let first = self.shared.health.send_if_modified(|health| {
            let first = health.away.is_none();
            let why = error.message.clone();
            match &mut health.away {
                Some((_, said)) => *said = why,
                None => health.away = Some((Utc::now(), why)),
            }
            first
        });
        if first {
            tracing::error!(%error, "the store is unavailable: outcomes and notifications are kept in memory until it is available again");
        }
    }

    async fn failed(&mut self, error: &StoreError) {
        self.note_failure(error);
        // `None` if it was already closed and could not be reopened.
        let database = self.shared.database();
        if error.fault == StoreFault::Corrupt {
            self.damaged += 1;
            self.rewind(&mut self.shared.state());
            if self.damaged > 1 {
                self.damaged = 0;
                self.replaced(database);
                match self.shared.opener.set_aside().await {
                    Ok(place) => {
                        tracing::error!(%error, place, "the store is damaged: moved aside, creating a new one");
                    }
                    Err(error) => tracing::error!(%error, "cannot move the damaged store aside"),
                }
            } else if let Some(database) = database {
                self.reopen(database);
            }
        } else if let Some(database) = database
            && self.failures.is_multiple_of(REOPEN_AFTER)
            && !self.unwritable
        {
            self.reopen(database);
        }
    }

    /// Closes the connections; the next attempt opens new ones.
    fn reopen(&self, database: Arc<dyn Database>) {
        self.shared.set_database(None);
        tokio::spawn(async move { database.close().await });
    }
}
