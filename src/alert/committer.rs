//! The task that evaluates outcomes and stores them. Alerting does not subscribe to outcomes: the effects of an outcome
//! are stored in the same transaction as the outcome itself.
//!
//! Invariants: while the store is healthy, nothing is delivered or confirmed before it is stored. While the store is
//! unavailable, evaluation and delivery continue from the memory of the [`WriteBuffer`]. The queue is bounded: when it
//! is full, runs continue, and messages that do not fit are dropped, counted and logged.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use prometheus::{IntCounterVec, IntGaugeVec};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};

use super::changes::Changes;
use super::pipeline::{Idle, Pipeline, Scenarios, readdressed};
use super::timers::ClockChanges;
use crate::clock::elapsed;
use crate::incident::{AlertCommand, Change, CommandResult, Incident, Notification, Subject};
use crate::names::{REQUESTS, metric, suppressed};
use crate::notify::Alerting;
use crate::outcome::{Outcome, RunId};
use crate::scenario::ScenarioId;
use crate::store::{
    AttemptChange, Batch, DeliveryStatus, Health, History as _, Identity, Incidents as _, Outbox as _, PlannedRun,
    ReceiverStateChange, SlotCountQuery, StoreError, WriteBuffer,
};

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

/// Metrics of alerting.
#[derive(Clone, Debug)]
pub struct Metrics {
    open: IntGaugeVec,
    suppressed: IntCounterVec,
    dropped: prometheus::IntCounter,
}

impl Metrics {
    /// Registers the metrics. `dropped` counts the messages that did not fit into the queue to the store.
    pub fn new(registry: &prometheus::Registry, dropped: prometheus::IntCounter) -> prometheus::Result<Self> {
        let opts = |metric: &crate::names::Metric| prometheus::Opts::new(metric.name, metric.help);
        let open = IntGaugeVec::new(opts(&metric::INCIDENTS_OPEN), metric::INCIDENTS_OPEN.labels)?;
        let counter =
            IntCounterVec::new(opts(&metric::NOTIFICATIONS_SUPPRESSED), metric::NOTIFICATIONS_SUPPRESSED.labels)?;
        registry.register(Box::new(open.clone()))?;
        registry.register(Box::new(counter.clone()))?;
        for reason in suppressed::ALL {
            counter.with_label_values(&[reason]);
        }
        Ok(Self { open, suppressed: counter, dropped })
    }
}

enum Message {
    Plan(PlannedRun, oneshot::Sender<()>),
    Withdraw(RunId),
    Outcome(Arc<Outcome>, oneshot::Sender<()>),
    Scenarios(Scenarios, Idle),
    Alerting(Arc<Alerting>, BTreeMap<String, String>, oneshot::Sender<()>),
    Command(AlertCommand, oneshot::Sender<CommandResult>),
    Pulse(oneshot::Sender<()>),
    Trouble(String, Option<String>),
}

/// Handle that sends messages to the [`Committer`]. Cheap to clone; when the last one is dropped, the committer stores
/// what is left and ends.
#[derive(Clone)]
pub struct CommitterHandle {
    queue: mpsc::Sender<Message>,
    dropped: prometheus::IntCounter,
}

impl CommitterHandle {
    /// Adds a planned run. The receiver is notified once it is stored.
    pub fn plan(&self, intent: PlannedRun) -> oneshot::Receiver<()> {
        let (done, heard) = oneshot::channel();
        self.push(Message::Plan(intent, done));
        heard
    }

    /// Cancels a planned run.
    pub fn withdraw(&self, run: RunId) {
        self.push(Message::Withdraw(run));
    }

    /// Adds the outcome of a run. The receiver is notified once it is evaluated and stored.
    pub fn outcome(&self, outcome: Arc<Outcome>) -> oneshot::Receiver<()> {
        let (done, heard) = oneshot::channel();
        self.push(Message::Outcome(outcome, done));
        heard
    }

    /// Sets the loaded scenarios. `idle` has the reasons why others do not run.
    pub async fn scenarios(&self, scenarios: Scenarios, idle: Idle) {
        let _ = self.queue.send(Message::Scenarios(scenarios, idle)).await;
    }

    /// Sets the alerting configuration. The receiver is notified once it is stored. By then, notifications for a
    /// renamed receiver are queued under its new name.
    pub async fn alerting(&self, alerting: Arc<Alerting>) -> oneshot::Receiver<()> {
        let of = async |receiver: &crate::notify::Receiver| (receiver.name.clone(), receiver.address().await);
        let addresses = futures_util::future::join_all(alerting.receivers.iter().map(of)).await;
        let addresses = addresses.into_iter().collect();
        let (done, heard) = oneshot::channel();
        let _ = self.queue.send(Message::Alerting(alerting, addresses, done)).await;
        heard
    }

    /// Executes an operator command. Returns once the result is stored.
    pub async fn request(&self, request: AlertCommand) -> CommandResult {
        let stopping = || Err("the agent stops".to_owned());
        let (answer, heard) = oneshot::channel();
        match self.queue.send(Message::Command(request, answer)).await {
            Ok(()) => heard.await.unwrap_or_else(|_| stopping()),
            Err(_) => stopping(),
        }
    }

    /// Checks whether the committer still works. The receiver is notified once all earlier messages are processed.
    pub fn pulse(&self) -> oneshot::Receiver<()> {
        let (done, heard) = oneshot::channel();
        self.push(Message::Pulse(done));
        heard
    }

    /// Reports a problem with the agent itself, or its end if `message` is `None`, for the agent's own incident.
    pub fn trouble(&self, about: &str, message: Option<String>) {
        self.push(Message::Trouble(about.to_owned(), message));
    }

    fn push(&self, message: Message) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.queue.try_send(message) {
            self.dropped.inc();
            tracing::error!("the queue to the store is full: outcome or planned run dropped");
        }
    }
}

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
    look: Box<dyn Fn(ScenarioId) + Send + Sync>,
    /// Called with the remaining share of an error budget.
    budget: Remaining,
    /// Numbers the changes of incidents; absent if nothing records them.
    recorder: Option<Recorder>,
    changes: Changes,
    /// Runtime of the tasks that wait for a commit, if they share one.
    answers: Option<Handle>,
    pipeline: Pipeline,
    clock: ClockChanges,
    /// Signals changes of the clock, after which everything based on wall time is checked again.
    clock_set: Option<watch::Receiver<TimeDelta>>,
    /// Deferred commands by key, stored while no agent was running.
    left: Vec<(String, AlertCommand)>,
}

/// Returns the deferred commands among the stored alerting entries, in the order in which they were stored.
pub fn requests(memory: &[(String, serde_json::Value)]) -> Result<Vec<(String, AlertCommand)>, StoreError> {
    let of = |(key, body): &(String, serde_json::Value)| {
        let unread = |e| StoreError::refused(format!("cannot read the alerting entry {key}: {e}"));
        serde_json::from_value(body.clone()).map(|request| (key.clone(), request)).map_err(unread)
    };
    memory.iter().filter(|(key, _)| key.starts_with(REQUESTS)).map(of).collect()
}

fn left_out(error: &StoreError) {
    tracing::error!(%error, "cannot read a row: skipped");
}

/// Restores the stored state entry by entry. Entries that cannot be read are skipped, and the open incidents of their
/// subjects are adopted from the stored incidents.
async fn restore(
    pipeline: &mut Pipeline,
    store: &WriteBuffer,
    alerting_entries: Vec<(String, serde_json::Value)>,
) -> Result<Changes, StoreError> {
    let mut restored = HashSet::new();
    for (subject, body) in store.alert_states().await? {
        match pipeline.restore(vec![(subject.clone(), body)], Vec::new()) {
            Ok(()) => drop(restored.insert(subject)),
            Err(error) => left_out(&StoreError::refused(error)),
        }
    }
    for row in alerting_entries {
        pipeline.restore(Vec::new(), vec![row]).map_err(StoreError::refused).unwrap_or_else(|error| left_out(&error));
    }
    let open: Vec<_> = store.incidents(u32::MAX).await?.into_iter().filter(Incident::is_open).collect();
    for incident in &open {
        if !restored.contains(&incident.subject) {
            tracing::warn!(
                incident = incident.dedup_key(),
                "alerting state is lost: continuing from the open incident"
            );
            pipeline.adopt(incident.clone());
        }
    }
    for subject in pipeline.regroup(Utc::now()) {
        tracing::warn!(%subject, "the notification group of an incident is lost: its receivers are notified of the resolution");
    }
    Ok(Changes::new(open.iter().map(|incident| (incident, pipeline.cause_of(incident).key.clone()))))
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
        let intake = CommitterHandle { queue: sender, dropped: metrics.dropped.clone() };
        let mut pipeline = Pipeline::new(location);
        let memory = store.alerting_entries().await?;
        let (left, memory): (Vec<_>, Vec<_>) = memory.into_iter().partition(|(key, _)| key.starts_with(REQUESTS));
        let left = left.into_iter().filter_map(|row| requests(&[row]).inspect_err(left_out).ok()).flatten().collect();
        let changes = restore(&mut pipeline, &store, memory).await?;
        let now = Utc::now();
        if let Some(by) = pipeline.restored(now) {
            let seconds = by.as_seconds_f64();
            tracing::warn!(
                seconds,
                "the clock was set back while the agent was not running: alerting continues from its last state"
            );
        }
        let (wake, look, budget) = (Box::new(wake), Box::new(|_| {}), Box::new(|_: &ScenarioId, _| {}));
        let (identity, health) = (store.identity(), store.health());
        let committer = Self {
            store,
            identity,
            health,
            replaced: 0,
            queue,
            metrics,
            wake,
            look,
            budget,
            recorder: None,
            changes,
            answers: None,
            pipeline,
            clock: ClockChanges::new(now, elapsed()),
            clock_set: None,
            left,
        };
        committer.count_open();
        Ok((committer, intake))
    }

    /// Sets the callback that runs a scenario at once because decisions about others depend on it.
    #[must_use]
    pub fn on_run_now(mut self, look: impl Fn(ScenarioId) + Send + Sync + 'static) -> Self {
        self.look = Box::new(look);
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
    pub fn reply_runtime(mut self, answers: Handle) -> Self {
        self.answers = Some(answers);
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
        self.carry_out().await;
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
    async fn carry_out(&mut self) {
        let mut batch = Batch::default();
        for (key, request) in std::mem::take(&mut self.left) {
            let asked = request.to_string();
            let now = self.now();
            match self.pipeline.request(request, now) {
                Ok(_) => tracing::info!("executed deferred command: {asked}"),
                Err(problem) => tracing::warn!("cannot execute deferred command: {asked}: {problem}"),
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
        let (mut done, mut answers) = (Vec::new(), Vec::new());
        for message in messages {
            match message {
                Message::Plan(intent, heard) => {
                    batch.intents.push(intent);
                    done.push(heard);
                }
                Message::Withdraw(run) => {
                    batch.intents.retain(|intent| intent.run != run);
                    batch.withdrawn.push(run);
                }
                Message::Outcome(outcome, heard) => {
                    batch.intents.retain(|intent| intent.run != outcome.run);
                    let present = self.clock.in_present_time(&outcome);
                    self.pipeline.outcome(present.as_ref().unwrap_or(&outcome), now);
                    batch.outcomes.push(outcome);
                    done.push(heard);
                }
                Message::Scenarios(scenarios, idle) => self.pipeline.scenarios(scenarios, &idle, now),
                Message::Alerting(alerting, addresses, heard) => {
                    for (old, new) in self.pipeline.receivers(addresses) {
                        tracing::info!(
                            old,
                            new,
                            "receiver renamed: its queued notifications and open incidents are kept"
                        );
                        self.move_deliveries(&old, &new, &mut batch, now).await;
                    }
                    self.pipeline.alerting(alerting);
                    done.push(heard);
                }
                Message::Pulse(heard) => done.push(heard),
                Message::Trouble(about, message) => self.pipeline.trouble(&about, message, now),
                Message::Command(mut request, heard) => {
                    // Keys at receivers include the identity of the store, which is the same for all incidents here.
                    if let Some(key) = request.key_mut()
                        && let Some(short) = key.strip_suffix(&format!("@{}", self.identity.id))
                    {
                        *key = short.to_owned();
                    }
                    answers.push((heard, self.pipeline.request(request, now)));
                }
            }
        }
        // The whole batch is evaluated before any notification, so that an alert storm in one commit becomes one
        // notification.
        self.pipeline.tick(now);
        self.write(batch).await;
        let tell = async move {
            for heard in done {
                // The receiver may have been dropped.
                let _ = heard.send(());
            }
        };
        match &self.answers {
            Some(there) => drop(there.spawn(tell)),
            None => tell.await,
        }
        for (heard, answer) in answers {
            let _ = heard.send(answer);
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
        let watch = |subject: Subject| (subject.clone(), self.pipeline.watch(&subject));
        batch.incidents = effects.over;
        batch
            .incidents
            .extend(effects.alert_states.iter().filter_map(|subject| self.pipeline.incident(subject).cloned()));
        batch.alert_states = effects.alert_states.into_iter().map(watch).collect();
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
            self.metrics.suppressed.with_label_values(&[reason]).inc_by(count);
        }
        self.count_open();
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
        for scenario in effects.look {
            (self.look)(scenario);
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

    fn count_open(&self) {
        for (severity, count) in self.pipeline.open() {
            let count = i64::try_from(*count).unwrap_or(i64::MAX);
            self.metrics.open.with_label_values(&[severity.as_str()]).set(count);
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
