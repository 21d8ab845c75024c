//! Delivery of queued notifications: one task per receiver, restarted when its settings change.
//!
//! Delivery is at least once: an attempt is recorded before it starts and after it ends. After a crash in between, the
//! notification is sent again under the same dedup key, marked as a repeat. The queue is the outbox of the store, so
//! nothing is stored here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::Utc;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::delivery_metrics::Metrics;
use super::delivery_task::{DeliveryTask, Failing};
use super::feedback::{Feedback, FeedbackChannel};
use super::{LOG, Links, NotifierServices, Receiver, ends, notifier};
use crate::store::{AttemptChange, Batch, DeliveryStatus, Store, undelivered};
use crate::tasks::Tasks;

/// Maximum time that a reload waits for the end of an attempt.
const RETIRE_TIMEOUT: Duration = Duration::from_secs(2);

/// A delivery task, with the settings it was started with.
struct Running {
    receiver: Receiver,
    links: Links,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// Service that runs the delivery tasks.
pub struct DeliveryService {
    store: Arc<dyn Store>,
    metrics: Metrics,
    tasks: Tasks,
    stop: CancellationToken,
    tools: NotifierServices,
    /// Incremented by every commit with new notifications.
    wake: watch::Sender<u64>,
    running: HashMap<String, Running>,
    failing: Failing,
    /// Channel for the actions of operators at receivers.
    feedback: Option<mpsc::Sender<Feedback>>,
}

impl DeliveryService {
    /// Creates a service without receivers, which are set by [`DeliveryService::serve`].
    pub fn new(
        store: Arc<dyn Store>,
        metrics: Metrics,
        tools: NotifierServices,
        tasks: &Tasks,
        stop: &CancellationToken,
    ) -> Self {
        Self {
            store,
            metrics,
            tasks: tasks.clone(),
            stop: stop.clone(),
            tools,
            wake: watch::Sender::new(0),
            running: HashMap::new(),
            failing: Failing::default(),
            feedback: None,
        }
    }

    /// Sets the channel for the actions of operators at receivers. Without it, no receiver is polled for them.
    #[must_use]
    pub fn with_feedback(mut self, feedback: mpsc::Sender<Feedback>) -> Self {
        self.feedback = Some(feedback);
        self
    }

    /// Starts the task that receives the actions of operators at a receiver, if its notifier supports it.
    fn receive_feedback(&self, receiver: &Receiver, links: &Links, stop: &CancellationToken) {
        let Some(sender) = self.feedback.clone() else { return };
        if !notifier(receiver, links, &self.tools).has_feedback() {
            return;
        }
        let (store, until) = (Arc::clone(&self.store), stop.clone());
        let (receiver, links, tools) = (receiver.clone(), links.clone(), self.tools.clone());
        let name = format!("feedback of {}", receiver.name);
        self.tasks.restarted(&name, &Handle::current(), stop.clone(), move || {
            let notifier = notifier(&receiver, &links, &tools);
            let (receiver, store) = (receiver.name.clone(), Arc::clone(&store));
            let channel = FeedbackChannel { receiver, store, sender: sender.clone() };
            let until = until.clone();
            async move {
                let _ = until.run_until_cancelled(notifier.receive(&channel)).await;
            }
        });
    }

    /// Returns a function that lists the receivers without a successful delivery for five minutes: name and
    /// description.
    pub fn failing(&self) -> impl Fn() -> Vec<(String, String)> + Send + Sync + 'static {
        let failing = Arc::clone(&self.failing);
        move || {
            let failing = failing.lock().unwrap_or_else(PoisonError::into_inner);
            failing.iter().map(|(name, (_, why))| (name.clone(), why.clone())).collect()
        }
    }

    /// Returns a function to call after new notifications were queued.
    pub fn waker(&self) -> impl Fn() + Send + Sync + 'static {
        let wake = self.wake.clone();
        move || wake.send_modify(|n| *n += 1)
    }

    /// Ends the delivery to removed receiver names, before their queued notifications are moved to new names. Returns
    /// when no attempt for them is in progress, or after a timeout, in which case the attempt counts as uncertain.
    pub async fn retire(&mut self, receivers: &[Receiver]) {
        let named = |name: &String| name == LOG || receivers.iter().any(|receiver| receiver.name == *name);
        let gone: Vec<String> = self.running.keys().filter(|name| !named(name)).cloned().collect();
        for name in gone {
            let Some(running) = self.running.remove(&name) else { continue };
            running.stop.cancel();
            self.failing.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
            let _ = tokio::time::timeout(RETIRE_TIMEOUT, running.task).await;
        }
    }

    /// Sets the receivers to deliver to, in addition to the log. Notifications queued for other receivers are given up.
    pub async fn serve(&mut self, receivers: &[Receiver], links: &Links) {
        let mut wanted: Vec<Receiver> = receivers.to_vec();
        if !wanted.iter().any(|receiver| receiver.name == LOG) {
            wanted.push(Receiver { name: LOG.to_owned(), ..Receiver::default() });
        }
        let mut ending = HashMap::new();
        let stays = |running: &Running| wanted.contains(&running.receiver) && running.links == *links;
        let (kept, changed) = std::mem::take(&mut self.running).into_iter().partition(|(_, running)| stays(running));
        self.running = kept;
        for (name, running) in changed as HashMap<String, Running> {
            running.stop.cancel();
            self.failing.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
            ending.insert(name, running.task);
        }
        for receiver in &wanted {
            if self.running.contains_key(&receiver.name) {
                continue;
            }
            for counter in [&self.metrics.sent, &self.metrics.failed] {
                counter.with_label_values(&[&receiver.name]);
            }
            let stop = self.stop.child_token();
            // Two tasks must not deliver the same notification in parallel.
            let before = Arc::new(Mutex::new(ending.remove(&receiver.name)));
            let (store, metrics, wake) = (Arc::clone(&self.store), self.metrics.clone(), self.wake.clone());
            let (tools, links_of, named, until) = (self.tools.clone(), links.clone(), receiver.clone(), stop.clone());
            let failing = Arc::clone(&self.failing);
            let name = format!("delivery to {}", receiver.name);
            let task = self.tasks.restarted(&name, &Handle::current(), stop.clone(), move || {
                let delivering = DeliveryTask {
                    receiver: named.clone(),
                    notifier: notifier(&named, &links_of, &tools),
                    store: Arc::clone(&store),
                    metrics: metrics.clone(),
                    wake: wake.subscribe(),
                    stop: until.clone(),
                    failing: Arc::clone(&failing),
                    wake_all: Box::new({
                        let wake = wake.clone();
                        move || wake.send_modify(|n| *n += 1)
                    }),
                    seed: Utc::now().timestamp_subsec_nanos().into(),
                };
                let before = before.lock().unwrap_or_else(PoisonError::into_inner).take();
                async move {
                    if let Some(before) = before {
                        let _ = before.await;
                    }
                    delivering.run().await;
                }
            });
            self.receive_feedback(receiver, links, &stop);
            let running = Running { receiver: receiver.clone(), links: links.clone(), stop, task };
            self.running.insert(receiver.name.clone(), running);
        }
        self.drop_removed_receivers(&wanted).await;
    }

    /// Gives up the notifications queued for receivers that are no longer configured.
    async fn drop_removed_receivers(&self, wanted: &[Receiver]) {
        let receivers_with_queued = self.store.receivers_with_queued().await.unwrap_or_default();
        for name in
            receivers_with_queued.into_iter().filter(|name| !wanted.iter().any(|receiver| receiver.name == *name))
        {
            for notification in self.store.queued(&name, u32::MAX).await.unwrap_or_default() {
                tracing::warn!(
                    receiver = name,
                    notification = notification.id,
                    "receiver removed from the configuration; notification dropped"
                );
                let given_up = DeliveryStatus::Failed("the receiver was removed from the configuration".into());
                let mut batch = Batch::default();
                if !notification.repeat {
                    batch.receiver_states.extend(undelivered(&notification, Utc::now()));
                }
                ends::end_at_fallback(&*self.store, &notification, &mut batch).await;
                batch.attempts.push((notification.id, AttemptChange::Finished(given_up), Utc::now()));
                if let Err(error) = self.store.commit(&batch).await {
                    tracing::error!(receiver = name, %error, "cannot record the result of the delivery attempt");
                }
            }
        }
    }
}
