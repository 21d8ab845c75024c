//! Stopping: nothing new starts, what runs finishes or is cancelled, queues flush, no process stays behind.

use std::future::Future;
use std::time::Duration;

use super::App;
use crate::store::Outbox as _;

/// How long runs may go on after a stop was asked for.
const FINISH_RUNS: Duration = Duration::from_secs(15);
/// How long cancelled runs may take to end.
const CANCEL_RUNS: Duration = Duration::from_secs(10);
/// How long notices and sinks may take to send what waits, and the store to write it.
const FLUSH: Duration = Duration::from_secs(5);

impl App {
    /// Stops the agent. Takes [`FINISH_RUNS`], [`CANCEL_RUNS`] and ten times [`FLUSH`] at most, whatever hangs; without
    /// anything that hangs, as long as the runs that go on.
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
        tracing::info!("stopping: runs may finish");
        stop.cancel();
        // Once the dispatcher has ended nothing is added to the runs any more.
        within(FLUSH, "the scheduler", dispatching).await;
        runs.close();
        if tokio::time::timeout(FINISH_RUNS, runs.wait()).await.is_err() {
            tracing::warn!(runs = runs.len(), "runs take too long and are cancelled");
            cancel_runs.cancel();
            if tokio::time::timeout(CANCEL_RUNS, runs.wait()).await.is_err() {
                tracing::error!(runs = runs.len(), "runs did not end; they will be closed at the next start");
            }
        }
        within(FLUSH * 2, "the browsers", parts.browsers.shutdown()).await;
        drop((reloads, intake));
        // The committer ends when the last one that may bring it something is gone; then nothing new is owed.
        within(FLUSH, "the committer", committing).await;
        within(FLUSH, "the delivery of notifications", parts.delivered()).await;
        // What sinks have by then is written with the rest.
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
            tracing::warn!(tasks = tracker.len() + tasks.len(), "not all tasks ended in time");
        }
        drop((lanes, lock));
        tracing::info!("stopped");
    }
}

/// Waits for something for so long at most.
async fn within<T>(limit: Duration, what: &str, end: impl Future<Output = T>) {
    if tokio::time::timeout(limit, end).await.is_err() {
        tracing::warn!(seconds = limit.as_secs(), "{what} did not end in time; not waited for any longer");
    }
}

impl super::Parts {
    /// Comes back when nobody is owed anything.
    async fn delivered(&self) {
        while self.store.creditors().await.is_ok_and(|creditors| !creditors.is_empty()) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
