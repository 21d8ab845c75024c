//! Tasks of the agent: spawned in one place, monitored until they end, awaited on shutdown.
//!
//! Invariant: no task ends unnoticed. If an essential one ends, the agent stops with an error, so that its service
//! manager restarts it; any other is restarted and counted.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::{IntCounterVec, Opts, Registry};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::names::metric;

/// Delay before a task is restarted.
const RESTART_INTERVAL: Duration = Duration::from_secs(1);

/// Spawns and monitors tasks. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tasks {
    tracker: TaskTracker,
    /// Cancelled when the agent begins to stop; from then on tasks may end.
    stop: CancellationToken,
    restarts: IntCounterVec,
    failure: watch::Sender<Option<String>>,
    running: Arc<Mutex<BTreeMap<String, AbortHandle>>>,
}

impl Tasks {
    /// Creates the task set and registers the restart counter. After `stop` is cancelled, tasks may end.
    pub fn new(registry: &Registry, stop: CancellationToken) -> prometheus::Result<Self> {
        let tasks = Self::unregistered(stop);
        registry.register(Box::new(tasks.restarts.clone()))?;
        Ok(tasks)
    }

    /// Creates a task set whose restart counter is not registered.
    pub fn unregistered(stop: CancellationToken) -> Self {
        let counter = &metric::TASK_RESTARTS;
        let restarts = IntCounterVec::new(Opts::new(counter.name, counter.help), counter.labels);
        Self {
            tracker: TaskTracker::new(),
            stop,
            restarts: restarts.expect("the metric is well formed"),
            failure: watch::Sender::new(None),
            running: Arc::default(),
        }
    }

    /// Spawns an essential task. The returned handle ends with it.
    pub fn essential(
        &self,
        name: &str,
        on: &Handle,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        let (tasks, name) = (self.clone(), name.to_owned());
        let task = self.spawn(&name, on, work);
        self.tracker.spawn(async move {
            let ended = task.await;
            if !tasks.stop.is_cancelled() {
                let how = how(ended);
                tracing::error!(task = name, "a required task {how}");
                // The first failure is the cause; other tasks may end as a consequence.
                tasks.failure.send_if_modified(|failure| {
                    let first = failure.is_none();
                    failure.get_or_insert_with(|| format!("the task `{name}` {how}"));
                    first
                });
            }
            tasks.forget(&name);
        })
    }

    /// Spawns a task that is restarted if it ends before the agent stops and before its own `until`.
    pub fn restarted<W>(
        &self,
        name: &str,
        on: &Handle,
        until: CancellationToken,
        work: impl Fn() -> W + Send + 'static,
    ) -> JoinHandle<()>
    where
        W: Future<Output = ()> + Send + 'static,
    {
        let (tasks, name, on) = (self.clone(), name.to_owned(), on.clone());
        self.restarts.with_label_values(&[&name]);
        self.tracker.spawn(async move {
            loop {
                let ended = tasks.spawn(&name, &on, work()).await;
                if tasks.stop.is_cancelled() || until.is_cancelled() {
                    break;
                }
                tracing::error!(task = name, "a task {}: restarting it", how(ended));
                tasks.restarts.with_label_values(&[&name]).inc();
                tokio::select! {
                    () = until.cancelled() => break,
                    () = tokio::time::sleep(RESTART_INTERVAL) => {}
                }
            }
            tasks.forget(&name);
        })
    }

    fn spawn(&self, name: &str, on: &Handle, work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        let task = on.spawn(work);
        self.running.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), task.abort_handle());
        task
    }

    fn forget(&self, name: &str) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        // Another task with the same name may be running already.
        if running.get(name).is_some_and(AbortHandle::is_finished) {
            running.remove(name);
        }
    }

    /// Returns the running tasks by name, each with its abort handle.
    pub fn running(&self) -> BTreeMap<String, AbortHandle> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until an essential task ends, and returns a description of it.
    pub async fn failed(&self) -> String {
        let mut failure = self.failure.subscribe();
        match failure.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            // Unreachable while a sender exists, and this object is one.
            Err(_) => std::future::pending().await,
        }
    }

    /// Closes the task set, and returns when all tasks have ended.
    pub async fn ended(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// Returns the number of tasks.
    pub fn len(&self) -> usize {
        self.tracker.len()
    }

    /// Returns whether there are no tasks.
    pub fn is_empty(&self) -> bool {
        self.tracker.is_empty()
    }
}

fn how(ended: Result<(), JoinError>) -> String {
    match ended {
        Ok(()) => "ended".to_owned(),
        Err(error) if error.is_cancelled() => "was cancelled".to_owned(),
        Err(error) => {
            let panic = error.into_panic();
            let text =
                panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
            format!("panicked: {}", text.unwrap_or("without a message"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn tasks() -> (Tasks, CancellationToken) {
        let stop = CancellationToken::new();
        (Tasks::new(&Registry::new(), stop.clone()).unwrap(), stop)
    }

    #[tokio::test(start_paused = true)]
    async fn an_essential_task_that_ends_is_a_failure() {
        for (is_defect, expected) in [(false, "the task `one` ended"), (true, "the task `one` panicked: a defect")] {
            let (tasks, _) = tasks();
            tasks.essential("one", &Handle::current(), async move { assert!(!is_defect, "a defect") });
            assert_eq!(tasks.failed().await, expected);
        }
        let (tasks, _) = tasks();
        tasks.essential("one", &Handle::current(), std::future::pending());
        tasks.running()["one"].abort();
        assert_eq!(tasks.failed().await, "the task `one` was cancelled");
        assert!(tasks.running().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn any_other_task_is_started_again_and_counted() {
        let (tasks, stop) = tasks();
        let starts = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&starts);
        tasks.restarted("two", &Handle::current(), CancellationToken::new(), move || {
            let start = counted.fetch_add(1, Ordering::SeqCst);
            async move {
                assert!(start > 1, "a defect");
                std::future::pending::<()>().await;
            }
        });
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(starts.load(Ordering::SeqCst), 3);
        assert_eq!(tasks.restarts.with_label_values(&["two"]).get(), 2);
        assert_eq!(*tasks.failure.borrow(), None);
        // After the stop, the task may end.
        stop.cancel();
        tasks.running()["two"].abort();
        tasks.ended().await;
        assert_eq!(starts.load(Ordering::SeqCst), 3);
    }
}
