//! Delivery to one receiver: the queued notifications, in the order given by [`RetryScheduler`], until each is delivered or has
//! finally failed.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value as Json;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::credential::Credential;
use super::delivery_metrics::Metrics;
use super::ends::{self, AT_FALLBACK, HANDED_OVER};
use super::feedback::{AT_RECEIVER, FEEDBACK};
use super::retry::{Next, RetryScheduler};
use super::{DeliveryResult, Notifier, Receiver, masker};
use crate::bounded::{SmallFile, Stamp};
use crate::incident::{Event, Notification};
use crate::store::{AttemptChange, Batch, DeliveryStatus, ReceiverStateChange, Store, UNDELIVERED};

/// Age at which an undelivered notification is given up, because it would only confuse.
const GIVE_UP: chrono::TimeDelta = chrono::TimeDelta::days(2);
/// Age from which a notification states the time of its event.
const LATE: chrono::TimeDelta = chrono::TimeDelta::minutes(5);
/// Time without a successful delivery after which a receiver is reported in the agent's own incident, and its fallback
/// is notified.
const FAILING_AFTER: Duration = Duration::from_mins(5);
/// Interval at which the files of credentials are checked while attempts fail.
const CREDENTIALS_INTERVAL: Duration = Duration::from_secs(1);
/// Number of notifications read at once, in addition to those that are held back.
const READ: u32 = 100;
/// Interval at which the receiver state of resent incidents is stored again.
const REFRESH: chrono::TimeDelta = chrono::TimeDelta::days(1);
/// Delay before the next attempt after the store did not respond.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// Receivers without a successful delivery for a while, each with the start of this time and a description.
pub(super) type Failing = Arc<Mutex<BTreeMap<String, (DateTime<Utc>, String)>>>;

/// State of the attempts of a delivery task.
pub(super) struct Progress {
    begun: Instant,
    /// Age of each notification when it was first read, and the time of reading.
    seen: HashMap<String, (TimeDelta, Instant)>,
    /// Start of the time without a successful attempt.
    failing_since: Option<(Instant, DateTime<Utc>)>,
}

impl Progress {
    /// Creates the state before the first attempt.
    pub(super) fn new() -> Self {
        Self { begun: Instant::now(), seen: HashMap::new(), failing_since: None }
    }

    /// Records the age of new notifications by the wall clock. Later ages are derived from the elapsed time.
    fn see(&mut self, queued: &[Notification], now: DateTime<Utc>) {
        let mut before = std::mem::take(&mut self.seen);
        for notification in queued {
            let seen = before.remove(&notification.id);
            let seen = seen.unwrap_or_else(|| ((now - notification.queued_at).max(TimeDelta::zero()), Instant::now()));
            self.seen.insert(notification.id.clone(), seen);
        }
    }

    /// Returns the age of a notification, independent of changes of the clock.
    fn age(&self, notification: &Notification) -> TimeDelta {
        let Some((age, since)) = self.seen.get(&notification.id) else { return TimeDelta::zero() };
        age.checked_add(&TimeDelta::from_std(since.elapsed()).unwrap_or(TimeDelta::MAX)).unwrap_or(TimeDelta::MAX)
    }
}

/// Task that delivers to one receiver.
pub(super) struct DeliveryTask {
    pub(super) receiver: Receiver,
    pub(super) notifier: Box<dyn Notifier>,
    pub(super) store: Arc<dyn Store>,
    pub(super) metrics: Metrics,
    pub(super) wake: watch::Receiver<u64>,
    pub(super) stop: CancellationToken,
    /// Receivers without a successful delivery, shared by all tasks.
    pub(super) failing: Failing,
    /// Wakes all delivery tasks.
    pub(super) wake_all: Box<dyn Fn() + Send + Sync>,
    /// Seed of the jitter of delays.
    pub(super) seed: u64,
}

impl DeliveryTask {
    /// Delivers until the task is stopped.
    pub(super) async fn run(mut self) {
        let mut progress = Progress::new();
        let mut credentials = self.credentials().await;
        for credential in self.receiver.kind.credentials() {
            if let Err(problem) = credential.read().await {
                tracing::error!(receiver = self.receiver.name, problem, "cannot send to the receiver");
            }
        }
        let mut pace = RetryScheduler::new(self.seed, self.notifier.min_interval());
        let mut refreshed = Utc::now();
        let mut resends = self.notifier.resend_interval().map(tokio::time::interval);
        loop {
            self.wake.mark_unchanged();
            let wait = self.deliver(&mut pace, &mut progress).await;
            self.report(&progress).await;
            let mut wake = self.wake.clone();
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = tick(resends.as_mut()) => self.resend(&mut refreshed).await,
                () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {}
                changed = self.changed_credentials(&credentials), if wait.is_some() => {
                    tracing::info!(receiver = self.receiver.name, "credential changed: retrying immediately");
                    credentials = changed;
                    pace.reset();
                }
                changed = wake.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Delivers the queued notifications that are not held back. Returns the time until the next attempt, or `None` to
    /// wait for a new notification.
    pub(super) async fn deliver(&self, pace: &mut RetryScheduler, progress: &mut Progress) -> Option<Duration> {
        let begun = progress.begun;
        loop {
            let limit = READ.saturating_add(u32::try_from(pace.held()).unwrap_or(u32::MAX).saturating_mul(READ));
            let mut queued = match self.store.queued(&self.receiver.name, limit).await {
                Ok(queued) => queued,
                Err(error) => {
                    tracing::error!(receiver = self.receiver.name, %error, "cannot read queued notifications");
                    return Some(STORE_PAUSE);
                }
            };
            if queued.len() < limit as usize {
                pace.retain(queued.iter().map(|notification| notification.key.as_str()));
            }
            progress.see(&queued, Utc::now());
            if queued.is_empty() {
                return None;
            }
            loop {
                if self.stop.is_cancelled() {
                    return None;
                }
                let next = pace.next(queued.iter().map(|notification| notification.key.as_str()), begun.elapsed());
                let at = match next {
                    Next::Try(at) => at,
                    Next::Wait(Some(wait)) => return Some(wait),
                    // All notifications read so far are done; there may be more.
                    Next::Wait(None) => break,
                };
                if queued[at].event == Event::Resolved && ends::is_undelivered(&*self.store, &queued[at]).await {
                    if !self.pass_over(&queued.remove(at)).await {
                        return Some(STORE_PAUSE);
                    }
                    continue;
                }
                let Some(tried) = self.try_one(&queued[at], progress).await else { return Some(STORE_PAUSE) };
                let key = queued[at].key.clone();
                match tried.delivery {
                    DeliveryStatus::Delivered => progress.failing_since = None,
                    _ => drop(progress.failing_since.get_or_insert_with(|| (Instant::now(), Utc::now()))),
                }
                match tried.delivery {
                    DeliveryStatus::Delivered | DeliveryStatus::Failed(_) => {
                        pace.done(&key, begun.elapsed());
                        queued.remove(at);
                    }
                    DeliveryStatus::Retryable(_) | DeliveryStatus::Uncertain(_) => {
                        pace.failed(&key, tried.blocks_receiver, tried.wait, begun.elapsed());
                        // The result of this attempt is part of the next one.
                        queued[at].repeat |= matches!(tried.delivery, DeliveryStatus::Uncertain(_));
                    }
                }
            }
        }
    }

    /// Makes one attempt, recorded before and after. Returns `None` if the store does not respond.
    async fn try_one(&self, notification: &Notification, progress: &Progress) -> Option<DeliveryResult> {
        let receiver = &self.receiver.name;
        let age = progress.age(notification);
        if let Err(error) = self.store.attempt_started(&notification.id).await {
            tracing::error!(receiver, %error, "cannot record the delivery attempt");
            return None;
        }
        let unknown = ends::is_undelivered(&*self.store, notification).await;
        let mut receiver_state = None;
        if self.notifier.keeps_state() {
            match self.store.receiver_state(receiver, &notification.key).await {
                Ok(found) => receiver_state = self.with_feedback(notification, found).await,
                Err(error) => tracing::error!(receiver, %error, "cannot read receiver state"),
            }
        }
        let mut sent = notification.clone();
        if age > LATE {
            sent = late(sent);
        }
        if unknown && sent.event != Event::Digest {
            // The first notification to a receiver has to be an opening.
            sent.event = Event::Opened;
        }
        let mut tried = self.notifier.notify(&sent, receiver_state.as_ref()).await;
        let was_uncertain = matches!(tried.delivery, DeliveryStatus::Uncertain(_));
        let too_old = age > GIVE_UP;
        if let (true, DeliveryStatus::Retryable(problem) | DeliveryStatus::Uncertain(problem)) =
            (too_old, &tried.delivery)
        {
            tried.delivery = DeliveryStatus::Failed(format!("given up after two days: {problem}"));
        }
        if tried.delivery != DeliveryStatus::Delivered {
            tried = tried.masked(&masker(&self.receiver).await);
        }
        match &tried.delivery {
            DeliveryStatus::Delivered => self.metrics.sent.with_label_values(&[receiver]).inc(),
            DeliveryStatus::Failed(problem)
            | DeliveryStatus::Retryable(problem)
            | DeliveryStatus::Uncertain(problem) => {
                self.metrics.failed.with_label_values(&[receiver]).inc();
                tracing::warn!(receiver, notification = notification.id, problem, "notification not delivered");
            }
        }
        // Stored before the end of the attempt is recorded: after a crash in between, the existing message is updated
        // instead of sending a second one.
        let forgotten = notification.event == Event::Resolved && matches!(tried.delivery, DeliveryStatus::Failed(_));
        if self.notifier.keeps_state() && (tried.receiver_state.is_some() || forgotten) {
            let kept = self
                .store
                .set_receiver_state(receiver, &notification.key, tried.receiver_state.as_ref(), Utc::now())
                .await;
            if let Err(error) = kept {
                tracing::error!(receiver, %error, "cannot store receiver state");
            }
        }
        let attempts = vec![(notification.id.clone(), AttemptChange::Finished(tried.delivery.clone()), Utc::now())];
        let mut batch = Batch { attempts, ..Batch::default() };
        batch.receiver_states = ends::notes(notification, &tried, unknown, notification.repeat || was_uncertain);
        let is_final = matches!(tried.delivery, DeliveryStatus::Delivered | DeliveryStatus::Failed(_));
        let is_handed_over = is_final && ends::end_at_fallback(&*self.store, notification, &mut batch).await;
        // Repeated until it succeeds, so that the same notification is not sent repeatedly while the store is
        // unavailable.
        while let Err(error) = self.store.commit(&batch).await {
            tracing::error!(receiver, %error, "cannot record the result of the delivery attempt");
            tokio::select! {
                () = self.stop.cancelled() => return None,
                () = tokio::time::sleep(STORE_PAUSE) => {}
            }
        }
        if is_handed_over {
            (self.wake_all)();
        }
        if tried.delivery == DeliveryStatus::Delivered {
            self.notifier.after_delivery(notification, tried.receiver_state.as_ref().or(receiver_state.as_ref())).await;
        }
        Some(tried)
    }

    /// Adds the actions of operators at the receiver to the receiver state of a notification's dedup key.
    async fn with_feedback(&self, notification: &Notification, state: Option<Json>) -> Option<Json> {
        if !self.notifier.has_feedback() {
            return state;
        }
        let note = self.store.receiver_state(&self.receiver.name, &format!("{FEEDBACK}{}", notification.key)).await;
        match (state, note.ok().flatten()) {
            (Some(mut state), Some(note)) if state.is_object() => {
                state[AT_RECEIVER] = note;
                Some(state)
            }
            (state, _) => state,
        }
    }

    /// Completes the resolution of an incident without an attempt, because no notification of the incident was
    /// delivered. Returns whether it could be stored.
    async fn pass_over(&self, notification: &Notification) -> bool {
        let receiver = self.receiver.name.clone();
        tracing::info!(
            receiver,
            notification = notification.id,
            "resolution not sent: no notification of the incident was delivered"
        );
        let end =
            DeliveryStatus::Failed("not sent: no notification of the incident was delivered to this receiver".into());
        let forgotten = ReceiverStateChange {
            receiver: receiver.clone(),
            key: format!("{UNDELIVERED}{}", notification.key),
            receiver_state: None,
            at: Utc::now(),
        };
        let mut batch = Batch {
            attempts: vec![(notification.id.clone(), AttemptChange::Finished(end), Utc::now())],
            receiver_states: vec![forgotten],
            ..Batch::default()
        };
        let is_handed_over = ends::end_at_fallback(&*self.store, notification, &mut batch).await;
        let written = self.store.commit(&batch).await;
        if is_handed_over {
            (self.wake_all)();
        }
        written
            .inspect_err(|error| tracing::error!(receiver, %error, "cannot record the result of the delivery attempt"))
            .is_ok()
    }

    /// Reports the receiver if it is failing, and passes queued notifications to its fallback.
    async fn report(&self, progress: &Progress) {
        let name = &self.receiver.name;
        let failing = progress.failing_since.filter(|(since, _)| since.elapsed() >= FAILING_AFTER);
        {
            let mut all = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
            match failing {
                Some((_, since)) => {
                    let why = format!(
                        "receiver `{name}` has accepted no notification since {}; its notifications stay queued",
                        since.format("%FT%TZ")
                    );
                    all.insert(name.clone(), (since, why));
                }
                None => drop(all.remove(name)),
            }
        }
        if let (Some((_, since)), Some(fallback)) = (failing, &self.receiver.fallback) {
            self.hand_over(fallback, since).await;
        }
    }

    /// Queues the queued notifications for the fallback as well.
    pub(super) async fn hand_over(&self, fallback: &str, since: DateTime<Utc>) {
        let receiver = &self.receiver.name;
        let mut batch = Batch::default();
        let handed = ends::hand_over(&*self.store, receiver, fallback, since, &mut batch).await;
        if handed.is_ok() && batch.notifications.is_empty() {
            return;
        }
        let written = match handed {
            Ok(()) => self.store.commit(&batch).await,
            Err(error) => Err(error),
        };
        match written {
            Ok(()) => {
                tracing::warn!(
                    receiver,
                    fallback,
                    notifications = batch.notifications.len(),
                    "notifications moved to the fallback receiver"
                );
            }
            Err(error) => {
                tracing::error!(receiver, %error, "cannot move queued notifications to the fallback receiver");
            }
        }
        (self.wake_all)();
    }

    /// Returns the stamps of the credential files, by which changes are detected.
    async fn credentials(&self) -> Vec<Option<Stamp>> {
        let files = self.receiver.kind.credentials().into_iter().filter_map(Credential::file);
        futures_util::future::join_all(files.map(SmallFile::stamp)).await
    }

    /// Waits until a credential file has changed. Returns the new stamps.
    async fn changed_credentials(&self, known: &Vec<Option<Stamp>>) -> Vec<Option<Stamp>> {
        loop {
            tokio::time::sleep(CREDENTIALS_INTERVAL).await;
            let now = self.credentials().await;
            if now != *known {
                return now;
            }
        }
    }

    /// Sends all open incidents to the receiver again.
    async fn resend(&self, refreshed: &mut DateTime<Utc>) {
        let receiver = &self.receiver.name;
        let receiver_states = match self.store.receiver_states(receiver).await {
            Ok(receiver_states) => {
                receiver_states.into_iter().filter(|(key, _)| is_of_notifier(key)).collect::<Vec<_>>()
            }
            Err(error) => return tracing::error!(receiver, %error, "cannot read receiver state"),
        };
        if receiver_states.is_empty() {
            return;
        }
        let now = Utc::now();
        let over = self.notifier.resend(&receiver_states, now).await;
        // The store deletes receiver state that is not updated for long, but this is still needed.
        if now - *refreshed > REFRESH {
            *refreshed = now;
            for (key, receiver_state) in receiver_states.iter().filter(|(key, _)| !over.contains(key)) {
                if let Err(error) = self.store.set_receiver_state(receiver, key, Some(receiver_state), now).await {
                    tracing::error!(receiver, %error, "cannot renew receiver state");
                }
            }
        }
        for key in over {
            if let Err(error) = self.store.set_receiver_state(receiver, &key, None, Utc::now()).await {
                tracing::error!(receiver, %error, "cannot delete receiver state");
            }
        }
    }
}

/// Returns whether a receiver state belongs to the notifier itself.
fn is_of_notifier(key: &str) -> bool {
    ![HANDED_OVER, AT_FALLBACK, UNDELIVERED, FEEDBACK].iter().any(|prefix| key.starts_with(prefix))
}

/// Adds the time of the event to a notification that is delivered late.
fn late(notification: Notification) -> Notification {
    let when = format!("delivered late: true at {}", notification.queued_at.format("%FT%TZ"));
    let note = notification.note.as_ref().map_or_else(|| when.clone(), |response| format!("{response}; {when}"));
    Notification { note: Some(note), ..notification }
}

/// Awaits the next tick of an interval. Never completes without an interval.
async fn tick(interval: Option<&mut tokio::time::Interval>) {
    match interval {
        Some(interval) => {
            interval.tick().await;
        }
        None => std::future::pending().await,
    }
}
