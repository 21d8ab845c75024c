//! The task that evaluates outcomes and stores them. Alerting does not subscribe to outcomes: the effects of an outcome
//! are stored in the same transaction as the outcome itself.
//!
//! Invariants: while the store is healthy, nothing is delivered or confirmed before it is stored. While the store is
//! unavailable, evaluation and delivery continue from the memory of the [`WriteBuffer`]. The queue is bounded: when it
//! is full, runs continue, and messages that do not fit are dropped, counted and logged.

mod handle;
mod metrics;
mod restore;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use super::changes::Changes;
use super::pipeline::{Pipeline, readdressed};
use super::timers::ClockChanges;
use crate::clock::elapsed;
use crate::incident::{AlertCommand, Change, Notification, Subject};
use crate::names::REQUESTS;
use crate::scenario::ScenarioId;
use crate::store::{
    AttemptChange, Batch, DeliveryStatus, Health, History as _, Identity, Incidents as _, Outbox as _,
    ReceiverStateChange, SlotCountQuery, StoreError, WriteBuffer,
};

use handle::Message;
use restore::{restore, skip};

pub use handle::CommitterHandle;
pub use metrics::Metrics;
pub use restore::deferred_commands;

/// Maximum number of queued messages, enough for some minutes of a large agent.
const QUEUE: usize = 20_000;
/// Maximum number of messages in one commit.
pub(super) const BATCH: usize = 500;
/// Time that the first message of a batch waits for others, so that many runs share one disk write.
pub(super) const GATHER: Duration = Duration::from_millis(200);
/// Topic of problems with the store in the agent's own incident.
const STORE: &str = "store";
/// Delay before the next attempt after the store did not respond.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// Callback that numbers a change of an incident and passes it to the sinks.
type Recorder = Box<dyn Fn(Change) -> Arc<Change> + Send + Sync>;

/// Callback that receives the remaining share of a scenario's error budget.
type Remaining = Box<dyn Fn(&ScenarioId, f64) + Send + Sync>;

/// Task that evaluates outcomes and stores the results.
pub struct Committer {
    store: WriteBuffer,
    /// Identity of the store, a part of the dedup keys at receivers.
    identity: Identity,
    health: watch::Receiver<Health>,
    /// Number of times that the store was replaced by another file.
    replaced: u64,
    queue: mpsc::Receiver<Message>,
    metrics: Metrics,
    /// Called after each commit with new notifications.
    wake: Box<dyn Fn() + Send + Sync>,
    /// Called to run scenarios that the suppression of others depends on.
    run_now: Box<dyn Fn(ScenarioId) + Send + Sync>,
    /// Called with the remaining share of an error budget.
    budget: Remaining,
    /// Numbers the changes of incidents; absent if nothing records them.
    recorder: Option<Recorder>,
    changes: Changes,
    /// Runtime of the tasks that wait for a commit, if they share one.
    reply_runtime: Option<Handle>,
    pipeline: Pipeline,
    clock: ClockChanges,
    /// Signals changes of the clock, after which everything based on wall time is checked again.
    clock_set: Option<watch::Receiver<TimeDelta>>,
    /// Deferred commands by key, stored while no agent was running.
    deferred_commands: Vec<(String, AlertCommand)>,
}

impl Committer {
    /// Creates a committer with the stored state of alerting. [`Committer::run`] does the work.
    pub async fn new(
        store: WriteBuffer,
        location: &str,
        metrics: Metrics,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Result<(Self, CommitterHandle), StoreError> {
        let (sender, queue) = mpsc::channel(QUEUE);
        let handle = CommitterHandle { queue: sender, dropped: metrics.dropped.clone() };
        let mut pipeline = Pipeline::new(location);
        let memory = store.alerting_entries().await?;
        let (deferred, memory): (Vec<_>, Vec<_>) = memory.into_iter().partition(|(key, _)| key.starts_with(REQUESTS));
        let readable = |row| deferred_commands(&[row]).inspect_err(skip).ok();
        let deferred_commands = deferred.into_iter().filter_map(readable).flatten().collect();
        let changes = restore(&mut pipeline, &store, memory).await?;
        let now = Utc::now();
        if let Some(by) = pipeline.restored(now) {
            let seconds = by.as_seconds_f64();
            tracing::warn!(
                seconds,
                "the clock was set back while the agent was not running: alerting continues from its last state"
            );
        }
        let (wake, run_now, budget) = (Box::new(wake), Box::new(|_| {}), Box::new(|_: &ScenarioId, _| {}));
        let (identity, health) = (store.identity(), store.health());
        let committer = Self {
            store,
            identity,
            health,
            replaced: 0,
            queue,
            metrics,
            wake,
            run_now,
            budget,
            recorder: None,
            changes,
            reply_runtime: None,
            pipeline,
            clock: ClockChanges::new(now, elapsed()),
            clock_set: None,
            deferred_commands,
        };
        committer.metrics.set_open(committer.pipeline.open());
        Ok((committer, handle))
    }

    /// Sets the callback that runs a scenario at once because decisions about others depend on it.
    #[must_use]
    pub fn on_run_now(mut self, run_now: impl Fn(ScenarioId) + Send + Sync + 'static) -> Self {
        self.run_now = Box::new(run_now);
        self
    }

    /// Sets the callback that receives the remaining share of an error budget.
    #[must_use]
    pub fn on_error_budget(mut self, budget: impl Fn(&ScenarioId, f64) + Send + Sync + 'static) -> Self {
        self.budget = Box::new(budget);
        self
    }

    /// Sets the callback that numbers and records the changes of incidents.
    #[must_use]
    pub fn recording(mut self, recorder: impl Fn(Change) -> Arc<Change> + Send + Sync + 'static) -> Self {
        self.recorder = Some(Box::new(recorder));
        self
    }

    /// Sets the runtime of the tasks that wait for a commit. They are notified on it, because a notification from
    /// another thread costs a system call per task.
    #[must_use]
    pub fn reply_runtime(mut self, runtime: Handle) -> Self {
        self.reply_runtime = Some(runtime);
        self
    }

    /// Sets the signal for changes of the clock.
    #[must_use]
    pub fn watching_clock(mut self, clock_set: watch::Receiver<TimeDelta>) -> Self {
        self.clock_set = Some(clock_set);
        self
    }

    /// Returns the current time. If the clock was set since the last call, the timers of alerting are moved first.
    fn now(&mut self) -> DateTime<Utc> {
        let now = Utc::now();
        if let Some(by) = self.clock.observe(now, elapsed()) {
            self.pipeline.clock_set(by, now);
        }
        now
    }

    /// Processes messages until every [`CommitterHandle`] is dropped and all messages are stored.
    pub async fn run(mut self) {
        self.run_deferred_commands().await;
        loop {
            let now = self.now();
            let next = self.pipeline.next().map(|at| (at - now).to_std().unwrap_or_default());
            let next = if self.pipeline.is_unread() { Some(Duration::ZERO) } else { next };
            let first = tokio::select! {
                message = self.queue.recv() => match message {
                    Some(message) => Some(message),
                    None => break,
                },
                changed = self.health.changed() => {
                    if changed.is_ok() {
                        self.store_changed();
                    }
                    None
                }
                () = changed(self.clock_set.as_mut()) => None,
                () = tokio::time::sleep(next.unwrap_or_default()), if next.is_some() => None,
            };
            let mut messages: Vec<Message> = first.into_iter().collect();
            if !messages.is_empty() && self.queue.len() < BATCH {
                tokio::time::sleep(GATHER).await;
            }
            while messages.len() < BATCH
                && let Ok(message) = self.queue.try_recv()
            {
                messages.push(message);
            }
            self.commit(messages).await;
            self.read_history().await;
        }
        let now = self.now();
        self.pipeline.stop(now);
        self.write(Batch::default()).await;
    }

    /// Runs the deferred commands and deletes them in the same commit.
    async fn run_deferred_commands(&mut self) {
        let mut batch = Batch::default();
        for (key, command) in std::mem::take(&mut self.deferred_commands) {
            let description = command.to_string();
            let now = self.now();
            match self.pipeline.execute(command, now) {
                Ok(_) => tracing::info!("executed deferred command: {description}"),
                Err(problem) => tracing::warn!("cannot execute deferred command: {description}: {problem}"),
            }
            batch.alerting_entries.push((key, None));
        }
        if !batch.alerting_entries.is_empty() {
            self.write(batch).await;
        }
    }

    /// Reads the history of one scenario with an objective whose history was not read yet. Between two commits no
    /// outcome is in transit: earlier ones are in the store, and later ones are counted.
    async fn read_history(&mut self) {
        let Some((scenario, spans)) = self.pipeline.unread(Utc::now()) else { return };
        let mut history = Vec::new();
        for span in spans {
            let asked = SlotCountQuery { scenario: scenario.as_str(), since: span.since, slot: span.slot };
            match self.store.slot_counts(&asked).await {
                Ok(slot_counts) => history.push((span.window, slot_counts)),
                Err(error) => {
                    tracing::error!(%error, %scenario, "cannot read the runs of an error budget; retrying");
                    tokio::time::sleep(RETRY_INTERVAL).await;
                    return;
                }
            }
        }
        let remaining = self.pipeline.read(&scenario, &history);
        if let Some(remaining) = remaining {
            (self.budget)(&scenario, remaining);
        }
    }

    async fn commit(&mut self, messages: Vec<Message>) {
        let now = self.now();
        let mut batch = Batch::default();
        let (mut stored, mut results) = (Vec::new(), Vec::new());
        for message in messages {
            match message {
                Message::Plan(intent, reply) => {
                    batch.intents.push(intent);
                    stored.push(reply);
                }
                Message::Withdraw(run) => {
                    batch.intents.retain(|intent| intent.run != run);
                    batch.withdrawn.push(run);
                }
                Message::Outcome(outcome, reply) => {
                    batch.intents.retain(|intent| intent.run != outcome.run);
                    let present = self.clock.in_present_time(&outcome);
                    self.pipeline.process_outcome(present.as_ref().unwrap_or(&outcome), now);
                    batch.outcomes.push(outcome);
                    stored.push(reply);
                }
                Message::Scenarios(scenarios, idle) => self.pipeline.set_scenarios(scenarios, &idle, now),
                Message::Alerting(alerting, addresses, reply) => {
                    for (old, new) in self.pipeline.set_receivers(addresses) {
                        tracing::info!(
                            old,
                            new,
                            "receiver renamed: its queued notifications and open incidents are kept"
                        );
                        self.move_deliveries(&old, &new, &mut batch, now).await;
                    }
                    self.pipeline.set_alerting(alerting);
                    stored.push(reply);
                }
                Message::Pulse(reply) => stored.push(reply),
                Message::Trouble(about, message) => self.pipeline.trouble(&about, message, now),
                Message::Command(mut command, reply) => {
                    // Keys at receivers include the identity of the store, which is the same for all incidents here.
                    if let Some(key) = command.key_mut()
                        && let Some(short) = key.strip_suffix(&format!("@{}", self.identity.id))
                    {
                        *key = short.to_owned();
                    }
                    results.push((reply, self.pipeline.execute(command, now)));
                }
            }
        }
        // The whole batch is evaluated before any notification, so that an alert storm in one commit becomes one
        // notification.
        self.pipeline.tick(now);
        self.write(batch).await;
        let replies = async move {
            for reply in stored {
                // The receiver may have been dropped.
                let _ = reply.send(());
            }
        };
        match &self.reply_runtime {
            Some(runtime) => drop(runtime.spawn(replies)),
            None => replies.await,
        }
        for (reply, result) in results {
            let _ = reply.send(result);
        }
    }

    /// Moves the queued notifications and the receiver state of a renamed receiver to its new name.
    async fn move_deliveries(&self, old: &str, new: &str, batch: &mut Batch, now: DateTime<Utc>) {
        let queued = self.store.queued(old, u32::MAX).await.unwrap_or_default();
        for notification in queued {
            let end = DeliveryStatus::Failed(format!("its receiver was renamed; queued for `{new}`"));
            batch.attempts.push((notification.id.clone(), AttemptChange::Finished(end), now));
            let repeat = notification.repeat;
            let notification = readdressed(notification, old, new);
            if repeat {
                batch.attempts.push((notification.id.clone(), AttemptChange::Started, now));
            }
            batch.notifications.push(notification);
        }
        for (key, receiver_state) in self.store.receiver_states(old).await.unwrap_or_default() {
            let change = |receiver: &str, receiver_state| ReceiverStateChange {
                receiver: receiver.to_owned(),
                key: key.clone(),
                receiver_state,
                at: now,
            };
            batch.receiver_states.extend([change(old, None), change(new, Some(receiver_state.clone()))]);
        }
    }

    /// Stores a batch together with its effects, however long the store takes to recover.
    async fn write(&mut self, mut batch: Batch) {
        let effects = self.pipeline.effects();
        let state = |subject: Subject| (subject.clone(), self.pipeline.alert_state(&subject));
        batch.incidents = effects.resolved_incidents;
        batch
            .incidents
            .extend(effects.alert_states.iter().filter_map(|subject| self.pipeline.incident(subject).cloned()));
        batch.alert_states = effects.alert_states.into_iter().map(state).collect();
        if let Some(recorder) = &self.recorder {
            let now = Utc::now();
            let pipeline = &self.pipeline;
            let changes = batch
                .incidents
                .iter()
                .flat_map(|incident| self.changes.of(incident, &pipeline.cause_of(incident).key, now));
            batch.changes = changes.map(recorder).collect();
        }
        batch.alerting_entries.extend(self.pipeline.take_changes());
        batch.decisions = effects.decisions;
        batch.notifications.extend(effects.notifications);
        for notification in &mut batch.notifications {
            notification.qualify(self.identity.of_key(&notification.key));
        }
        let notifications: Vec<Notification> = batch.notifications.clone();
        self.store.accept(batch).await;
        self.store.handed_over(self.replaced);
        for (reason, count) in effects.suppressed {
            self.metrics.add_suppressed(reason, count);
        }
        self.metrics.set_open(self.pipeline.open());
        for notification in &notifications {
            let (event, note) = (notification.event.as_str(), &notification.note);
            tracing::info!(
                notification = notification.id,
                severity = notification.incident.severity.as_str(),
                event,
                note,
                "notification queued"
            );
        }
        if !notifications.is_empty() {
            (self.wake)();
        }
        for (scenario, remaining) in &effects.budgets {
            (self.budget)(scenario, *remaining);
        }
        for scenario in effects.run_now {
            (self.run_now)(scenario);
        }
    }

    /// Reports whether the store is unavailable. If it was replaced by another file, all state of alerting is stored
    /// again.
    fn store_changed(&mut self) {
        let (away, replaced) = {
            let health = self.health.borrow_and_update();
            (health.away.clone(), health.replaced)
        };
        let message = away.map(|(since, _)| {
            let since = since.format("%FT%TZ");
            format!("the store is unavailable since {since}: outcomes and notifications are kept in memory until it is available again")
        });
        let now = self.now();
        self.pipeline.trouble(STORE, message, now);
        if std::mem::replace(&mut self.replaced, replaced) != replaced {
            self.pipeline.touch_all();
        }
    }
}

/// Waits until the clock is set, forever if no signal is configured.
async fn changed(clock_set: Option<&mut watch::Receiver<TimeDelta>>) {
    if let Some(clock_set) = clock_set
        && clock_set.changed().await.is_ok()
    {
        return;
    }
    std::future::pending::<()>().await;
}

#[cfg(test)]
mod tests;
