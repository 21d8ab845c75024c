//! Stopping: nothing new starts, what runs finishes or is cancelled, queues flush, no process stays behind.

use std::time::Duration;

use super::App;

/// How long runs may go on after a stop was asked for.
const FINISH_RUNS: Duration = Duration::from_secs(15);
/// How long cancelled runs may take to end.
const CANCEL_RUNS: Duration = Duration::from_secs(10);
/// How long notices and sinks may take to send what waits.
const FLUSH: Duration = Duration::from_secs(5);

impl App {
    /// Stops the agent. Takes half a minute at most.
    pub async fn stop(self) {
        let Self {
            parts,
            reloads,
            tasks,
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
        let _ = dispatching.await;
        runs.close();
        if tokio::time::timeout(FINISH_RUNS, runs.wait()).await.is_err() {
            tracing::warn!(runs = runs.len(), "runs take too long and are cancelled");
            cancel_runs.cancel();
            if tokio::time::timeout(CANCEL_RUNS, runs.wait()).await.is_err() {
                tracing::error!(runs = runs.len(), "runs did not end; they will be closed at the next start");
            }
        }
        parts.browsers.shutdown().await;
        drop((reloads, intake));
        tasks.close();
        // The committer ends when the last one that may bring it something is gone; then nothing new is owed.
        let _ = tokio::time::timeout(FLUSH, committing).await;
        let _ = tokio::time::timeout(FLUSH, parts.delivered()).await;
        finish.cancel();
        if tokio::time::timeout(FLUSH * 2, tasks.wait()).await.is_err() {
            tracing::warn!(tasks = tasks.len(), "not all tasks ended in time");
        }
        drop((lanes, lock));
        tracing::info!("stopped");
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
