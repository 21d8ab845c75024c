//! Shutdown: no new runs start, runs in progress finish or are cancelled, queues are flushed, and no process is left
//! behind.

use std::future::Future;
use std::time::Duration;

use super::App;
use super::parts::Parts;
use crate::store::Outbox as _;

/// Maximum time for runs in progress to finish after a stop was requested.
const FINISH_RUNS: Duration = Duration::from_secs(15);
/// Maximum time for cancelled runs to end.
const CANCEL_RUNS: Duration = Duration::from_secs(10);
/// Maximum time for notifications and sinks to send what is queued, and for the store to write it.
const FLUSH: Duration = Duration::from_secs(5);

impl App {
    /// Stops the agent. Takes at most [`FINISH_RUNS`], [`CANCEL_RUNS`] and ten times [`FLUSH`], even if parts hang;
    /// otherwise as long as the runs in progress.
    pub async fn stop(self) {
        let Self {
            parts,
            reloads,
            tasks,
            tracker,
            writing,
            runs,
            stop,
            cancel_runs,
            finish,
            committing,
            dispatching,
            intake,
            lanes,
            lock,
            ..
        } = self;
        tracing::info!("shutting down: waiting for runs to finish");
        stop.cancel();
        // No runs are added after the dispatcher has ended.
        within(FLUSH, "the scheduler", dispatching).await;
        runs.close();
        if tokio::time::timeout(FINISH_RUNS, runs.wait()).await.is_err() {
            tracing::warn!(runs = runs.len(), "runs take too long: cancelling them");
            cancel_runs.cancel();
            if tokio::time::timeout(CANCEL_RUNS, runs.wait()).await.is_err() {
                tracing::error!(runs = runs.len(), "runs did not end: they are closed at the next start");
            }
        }
        within(FLUSH * 2, "the browsers", parts.browsers.shutdown()).await;
        drop((reloads, intake));
        // The committer ends when its last sender is dropped; after that, no notifications are queued.
        within(FLUSH, "the committer", committing).await;
        within(FLUSH, "the delivery of notifications", parts.delivered()).await;
        // The positions of sinks are stored with the remaining data.
        within(FLUSH * 2, "the sinks", parts.sinks.stop()).await;
        within(FLUSH, "the store", parts.store.flushed()).await;
        finish.cancel();
        within(FLUSH, "the store's connections", writing).await;
        tracker.close();
        let all = async {
            tracker.wait().await;
            tasks.ended().await;
        };
        if tokio::time::timeout(FLUSH, all).await.is_err() {
            tracing::warn!(tasks = tracker.len() + tasks.len(), "some tasks did not end in time");
        }
        drop((lanes, lock));
        tracing::info!("stopped");
    }
}

/// Awaits a future up to a time limit.
async fn within<T>(limit: Duration, what: &str, end: impl Future<Output = T>) {
    if tokio::time::timeout(limit, end).await.is_err() {
        tracing::warn!(seconds = limit.as_secs(), "{what} did not end in time: no longer waiting");
    }
}

impl Parts {
    /// Waits until no notifications are queued.
    async fn delivered(&self) {
        while self
            .store
            .receivers_with_queued()
            .await
            .is_ok_and(|receivers_with_queued| !receivers_with_queued.is_empty())
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
