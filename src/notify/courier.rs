//! Delivers what is owed: one task per receiver, in order, until each notice is taken or surely never will be.
//!
//! At least once: a try is noted before it begins and its end after; a crash in between sends again under the same
//! dedup key, marked as a repeat. The queue is the store's outbox, so nothing is kept here.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use prometheus::IntCounterVec;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{LOG, Links, Notifier, Receiver, ReceiverKind, log, webhook};
use crate::names::metric;
use crate::store::{Delivery, Store};

/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// A notice that nobody took for so long is given up: it would only confuse.
const GIVE_UP: chrono::TimeDelta = chrono::TimeDelta::days(2);

/// Figures of notices.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(super) sent: IntCounterVec,
    pub(super) failed: IntCounterVec,
}

impl Metrics {
    /// Registers them.
    pub fn new(registry: &prometheus::Registry) -> prometheus::Result<Self> {
        let counter = |m: &crate::names::Metric| {
            let counter = IntCounterVec::new(prometheus::Opts::new(m.name, m.help), m.labels)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        Ok(Self { sent: counter(&metric::NOTICES_SENT)?, failed: counter(&metric::NOTICES_FAILED)? })
    }
}

/// Owns the tasks that deliver.
pub struct Courier {
    store: Arc<dyn Store>,
    metrics: Metrics,
    tracker: TaskTracker,
    stop: CancellationToken,
    client: reqwest::Client,
    /// Goes up with every commit that owes something.
    wake: watch::Sender<u64>,
    running: HashMap<String, (Receiver, CancellationToken)>,
}

impl Courier {
    /// A courier without receivers; [`Courier::serve`] names them. `client` is for webhooks.
    pub fn new(
        store: Arc<dyn Store>,
        metrics: Metrics,
        client: reqwest::Client,
        tracker: &TaskTracker,
        stop: &CancellationToken,
    ) -> Self {
        Self {
            store,
            metrics,
            tracker: tracker.clone(),
            stop: stop.clone(),
            client,
            wake: watch::Sender::new(0),
            running: HashMap::new(),
        }
    }

    /// What to call when something new is owed.
    pub fn waker(&self) -> impl Fn() + Send + Sync + 'static {
        let wake = self.wake.clone();
        move || wake.send_modify(|n| *n += 1)
    }

    /// Delivers to these receivers, and to the log, from now on. What is owed to others is given up.
    pub async fn serve(&mut self, receivers: &[Receiver], links: &Links) {
        let mut wanted: Vec<Receiver> = receivers.to_vec();
        if !wanted.iter().any(|receiver| receiver.name == LOG) {
            wanted.push(Receiver { name: LOG.to_owned(), kind: ReceiverKind::Log });
        }
        self.running.retain(|_, (receiver, stop)| {
            let stays = wanted.contains(receiver);
            if !stays {
                stop.cancel();
            }
            stays
        });
        for receiver in &wanted {
            if self.running.contains_key(&receiver.name) {
                continue;
            }
            for counter in [&self.metrics.sent, &self.metrics.failed] {
                counter.with_label_values(&[&receiver.name]);
            }
            let notifier: Box<dyn Notifier> = match &receiver.kind {
                ReceiverKind::Log => Box::new(log::Log { links: links.clone() }),
                ReceiverKind::Webhook { url } => {
                    Box::new(webhook::Webhook { client: self.client.clone(), url: url.clone(), links: links.clone() })
                }
            };
            let stop = self.stop.child_token();
            self.running.insert(receiver.name.clone(), (receiver.clone(), stop.clone()));
            let round = Delivering {
                name: receiver.name.clone(),
                notifier,
                store: Arc::clone(&self.store),
                metrics: self.metrics.clone(),
                wake: self.wake.subscribe(),
                stop,
            };
            self.tracker.spawn(round.run());
        }
        self.give_up_strangers(&wanted).await;
    }

    /// What is owed to a receiver that is no longer named can never be delivered.
    async fn give_up_strangers(&self, wanted: &[Receiver]) {
        let creditors = self.store.creditors().await.unwrap_or_default();
        for name in creditors.into_iter().filter(|name| !wanted.iter().any(|receiver| receiver.name == *name)) {
            for notice in self.store.owed(&name, u32::MAX).await.unwrap_or_default() {
                tracing::warn!(
                    receiver = name,
                    notice = notice.id,
                    "the receiver is no longer there; the notice is given up"
                );
                let _ = self
                    .store
                    .delivered(&notice.id, &Delivery::Failed("the receiver is no longer there".into()), Utc::now())
                    .await;
            }
        }
    }
}

/// The delivery to one receiver.
struct Delivering {
    name: String,
    notifier: Box<dyn Notifier>,
    store: Arc<dyn Store>,
    metrics: Metrics,
    wake: watch::Receiver<u64>,
    stop: CancellationToken,
}

impl Delivering {
    async fn run(mut self) {
        let mut pause = Duration::ZERO;
        loop {
            self.wake.mark_unchanged();
            pause = if self.deliver_all().await {
                Duration::ZERO
            } else {
                (pause * 2).clamp(Duration::from_secs(1), LONGEST_PAUSE)
            };
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(pause), if !pause.is_zero() => {}
                changed = self.wake.changed(), if pause.is_zero() => if changed.is_err() { return },
            }
        }
    }

    /// Delivers what is owed, in order. False when a try failed and the rest has to wait.
    async fn deliver_all(&self) -> bool {
        loop {
            let owed = match self.store.owed(&self.name, 100).await {
                Ok(owed) => owed,
                Err(error) => {
                    tracing::error!(receiver = self.name, %error, "what is owed could not be read");
                    return false;
                }
            };
            if owed.is_empty() {
                return true;
            }
            for notice in owed {
                if self.stop.is_cancelled() {
                    return true;
                }
                if let Err(error) = self.store.trying(&notice.id).await {
                    tracing::error!(receiver = self.name, %error, "a try could not be noted");
                    return false;
                }
                let mut delivery = self.notifier.notify(&notice).await;
                let too_old = Utc::now() - notice.owed_at > GIVE_UP;
                if let (true, Delivery::Refused(problem) | Delivery::Unsure(problem)) = (too_old, &delivery) {
                    delivery = Delivery::Failed(format!("given up after two days: {problem}"));
                }
                match &delivery {
                    Delivery::Sent => self.metrics.sent.with_label_values(&[&self.name]).inc(),
                    Delivery::Failed(problem) | Delivery::Refused(problem) | Delivery::Unsure(problem) => {
                        self.metrics.failed.with_label_values(&[&self.name]).inc();
                        tracing::warn!(receiver = self.name, notice = notice.id, problem, "a notice was not delivered");
                    }
                }
                // Marked in any case; while the store is away, the same notice is not sent over and over.
                while let Err(error) = self.store.delivered(&notice.id, &delivery, Utc::now()).await {
                    tracing::error!(receiver = self.name, %error, "the end of a try could not be noted");
                    tokio::select! {
                        () = self.stop.cancelled() => return true,
                        () = tokio::time::sleep(Duration::from_secs(1)) => {}
                    }
                }
                if matches!(delivery, Delivery::Refused(_) | Delivery::Unsure(_)) {
                    return false;
                }
            }
        }
    }
}
