//! Task of one sink: sends what [`super::queue`] selects, within the deadline of the sink, and records the result.
//!
//! Waiting events belong to [`Waiting`], which outlives the task: a task that is restarted, or started with another
//! configuration, continues where the previous one stopped. A sink that panics is created again, and the event at which
//! it panicked is set aside.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::FutureExt as _;
use serde::Serialize;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::queue::{Next, Queue, READ, SetAside};
use super::{Absence, Counts, Event, Finished, Limits, Scenarios, Sent, Sink, Size, Timing};
use crate::incident::Subject;
use crate::outcome::RunId;
use crate::store::{Positions, Recorded};

/// Timeout of reading the store.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// Interval of attempts to create a sink that cannot be created, for example because a file is missing.
const BUILD_INTERVAL: Duration = Duration::from_secs(30);
/// Maximum number of rejected events in the status, the newest ones.
const MAX_SHOWN: usize = 20;
/// Maximum length of a stored reason, in characters.
const MAX_REASON: usize = 500;

/// Event that a destination has rejected permanently.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// Id of the run; for a change of an incident, that of its last bad run.
    pub run: RunId,
    /// Id of the scenario, or subject of the incident.
    pub about: Subject,
    /// Time of the event.
    pub at: DateTime<Utc>,
    /// Reason given by the destination.
    pub reason: String,
}

/// Status of a sink.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// Name of the sink.
    pub name: Arc<str>,
    /// Description of the destination.
    pub destination: String,
    /// Number of outcomes not yet delivered to the destination.
    pub waiting: u64,
    /// End of the oldest waiting run that is in memory.
    pub oldest: Option<DateTime<Utc>>,
    /// Number of outcomes delivered since the start of the agent.
    pub sent: u64,
    /// Number of outcomes given up since the start of the agent, including rejected ones.
    pub dropped: u64,
    /// Time since which every attempt has failed, or `None` if the last one succeeded.
    pub failing_since: Option<DateTime<Utc>>,
    /// Last error with its time.
    pub last_error: Option<(DateTime<Utc>, String)>,
    /// Events that the destination has rejected permanently, newest last.
    pub refused: Vec<Refused>,
}

#[derive(Debug, Default)]
struct Health {
    failing_since: Option<DateTime<Utc>>,
    last_error: Option<(DateTime<Utc>, String)>,
    refused: VecDeque<Refused>,
}

#[derive(Debug, Default)]
struct News {
    scenarios: Scenarios,
    absent: Vec<Absence>,
    is_new: bool,
}

/// Events waiting for one destination, with their delivery status.
#[derive(Debug)]
pub(super) struct Waiting {
    name: Arc<str>,
    queue: Mutex<Queue>,
    wake: Notify,
    counts: Counts,
    health: Mutex<Health>,
    news: Mutex<News>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Continuing after a panic is safe because each entry behind the lock is consistent by itself.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Waiting {
    pub(super) fn new(name: Arc<str>, queue: Queue, counts: Counts) -> Self {
        let waiting = Self {
            name,
            queue: Mutex::new(queue),
            wake: Notify::new(),
            counts,
            health: Mutex::default(),
            news: Mutex::default(),
        };
        waiting.report(&mut lock(&waiting.queue));
        waiting
    }

    /// Adds an event to the queue. Never blocks.
    pub(super) fn push(&self, event: Event) {
        let mut queue = lock(&self.queue);
        queue.push(event, Instant::now().into_std());
        self.report(&mut queue);
        drop(queue);
        self.wake.notify_one();
    }

    /// Stores the scenarios that are loaded now.
    pub(super) fn set_scenarios(&self, scenarios: &Scenarios, absent: &[Absence]) {
        let mut news = lock(&self.news);
        news.scenarios = Arc::clone(scenarios);
        news.absent.extend_from_slice(absent);
        news.is_new = true;
        drop(news);
        self.wake.notify_one();
    }

    /// Returns the sequence number up to which everything is delivered.
    pub(super) fn position(&self) -> u64 {
        lock(&self.queue).position()
    }

    /// Returns the number of outcomes not yet delivered.
    pub(super) fn len(&self) -> u64 {
        lock(&self.queue).waiting()
    }

    /// Discards all waiting events, and returns their number.
    pub(super) fn give_up(&self) -> u64 {
        let waiting = self.len();
        self.counts.dropped.inc_by(waiting);
        self.counts.queue_length.set(0);
        waiting
    }

    pub(super) fn status(&self, destination: String) -> Status {
        let (waiting, oldest) = {
            let queue = lock(&self.queue);
            (queue.waiting(), queue.oldest())
        };
        let health = lock(&self.health);
        Status {
            name: Arc::clone(&self.name),
            destination,
            waiting,
            oldest,
            sent: self.counts.sent.get(),
            dropped: self.counts.dropped.get(),
            failing_since: health.failing_since,
            last_error: health.last_error.clone(),
            refused: health.refused.iter().cloned().collect(),
        }
    }

    fn report(&self, queue: &mut Queue) {
        self.counts.queue_length.set(i64::try_from(queue.waiting()).unwrap_or(i64::MAX));
        let dropped = queue.take_dropped();
        if dropped > 0 {
            self.counts.dropped.inc_by(dropped);
            tracing::error!(
                sink = &*self.name,
                outcomes = dropped,
                "outcomes dropped: too many waiting, or lost by the store"
            );
        }
    }

    /// Records a failed attempt, and logs it if it is the first in a row.
    fn failed(&self, error: &str) {
        self.counts.failed.inc();
        let error: String = error.chars().take(MAX_REASON).collect();
        let mut health = lock(&self.health);
        if health.failing_since.is_none() {
            health.failing_since = Some(Utc::now());
            tracing::warn!(
                sink = &*self.name,
                error,
                "the destination does not accept outcomes: keeping them for later"
            );
        }
        health.last_error = Some((Utc::now(), error));
    }

    /// Records that the destination has responded.
    fn succeeded(&self) {
        if lock(&self.health).failing_since.take().is_some() {
            tracing::info!(sink = &*self.name, "the destination accepts outcomes again");
        }
    }

    /// Counts rows that were set aside, stores the newest for the status, and logs the first of them.
    fn set_aside(&self, rows: Vec<SetAside>) {
        let count = rows.len() as u64;
        let Some(first) = rows.first() else { return };
        self.counts.refused.inc_by(count);
        self.counts.dropped.inc_by(count);
        tracing::error!(
            sink = &*self.name, about = %first.event.about(), reason = first.reason, outcomes = count,
            "the destination rejected outcomes: set aside"
        );
        let mut health = lock(&self.health);
        for SetAside { event, reason } in rows {
            health.refused.push_back(Refused {
                run: event.run(),
                about: event.about(),
                at: event.at(),
                reason: reason.chars().take(MAX_REASON).collect(),
            });
        }
        let excess = health.refused.len().saturating_sub(MAX_SHOWN);
        health.refused.drain(..excess);
    }
}

/// Function that creates a sink. It may be called repeatedly.
pub(super) type Build = Arc<dyn Fn() -> Result<Box<dyn Sink>, String> + Send + Sync>;

/// Task of one sink.
#[derive(Clone)]
pub(super) struct Driver {
    pub(super) waiting: Arc<Waiting>,
    pub(super) build: Build,
    pub(super) store: Arc<dyn Positions>,
    pub(super) timing: Timing,
}

impl Driver {
    /// Runs until `replaced` is cancelled, which ends the task at once, or until `stop` is cancelled, after which
    /// events in memory are still sent for at most [`Timing::flush`].
    pub(super) async fn run(self, replaced: CancellationToken, stop: CancellationToken) {
        // Stopping the agent also cancels `replaced`, so `stop` must be checked first.
        let built = tokio::select! {
            biased;
            () = stop.cancelled() => {
                let built = tokio::time::timeout(self.timing.flush, self.build()).await;
                built.ok().and_then(Result::ok).map(Running::new)
            }
            () = replaced.cancelled() => return,
            running = self.sink() => Some(running),
        };
        let Some(mut running) = built else { return };
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = replaced.cancelled() => return,
            () = self.work(&mut running) => return,
        }
        // The events of an interrupted batch are still in the queue, and sending them again is harmless.
        let _ = tokio::time::timeout(self.timing.flush, self.flush(&mut running)).await;
    }

    /// Creates the sink on a separate thread, because reading its files may hang.
    async fn build(&self) -> Result<Box<dyn Sink>, String> {
        let build = Arc::clone(&self.build);
        let built = tokio::task::spawn_blocking(move || build()).await;
        built.unwrap_or_else(|error| Err(format!("internal error of this sink while starting: {error}")))
    }

    /// Creates the sink, with retries until it succeeds, and passes the scenarios to it.
    async fn sink(&self) -> Running {
        loop {
            match self.build().await {
                Ok(sink) => {
                    lock(&self.waiting.news).is_new = true;
                    lock(&self.waiting.queue).set_limits(sink.limits());
                    return Running::new(sink);
                }
                Err(error) => {
                    self.waiting.failed(&error);
                    tokio::time::sleep(BUILD_INTERVAL).await;
                }
            }
        }
    }

    async fn work(&self, running: &mut Running) {
        loop {
            if let Step::Wait(until) = self.step(running).await {
                tokio::select! {
                    () = sleep_until(until) => {}
                    () = self.waiting.wake.notified() => {}
                }
            }
        }
    }

    /// Sends everything that can be sent immediately. Ends at the first failure.
    async fn flush(&self, running: &mut Running) {
        lock(&self.waiting.queue).hurry();
        while self.step(running).await == Step::Again {}
    }

    /// Performs the next action.
    async fn step(&self, running: &mut Running) -> Step {
        let waiting = &self.waiting;
        self.show_scenarios(running);
        // The times are read first, because a sink may return the present time to request immediate upkeep.
        let (upkeep_at, refresh_at) = (running.sink.upkeep_at(), running.sink.refresh_at());
        let now = Instant::now();
        let is_away = lock(&waiting.queue).away_until(now.into_std()).is_some();
        if !is_away && upkeep_at.is_some_and(|at| at <= now) {
            return self.maintain(running, Work::Upkeep).await;
        }
        let complete_until = lock(&waiting.queue).complete_until(Utc::now());
        let refresh_at = refresh_at.filter(|_| complete_until.is_some());
        if let Some(until) = complete_until
            && !is_away
            && refresh_at.is_some_and(|at| at <= now)
        {
            return self.maintain(running, Work::Refresh(until)).await;
        }
        let next = {
            let mut queue = lock(&waiting.queue);
            waiting.set_aside(queue.expired(now.into_std()));
            let next = queue.next(now.into_std(), |event| running.measure(event));
            waiting.report(&mut queue);
            next
        };
        match next {
            Next::Send(batch) => {
                let answer = self.attempt(running, Work::Batch(&batch)).await;
                self.answered(answer);
                Step::Again
            }
            Next::Read(from, to) => {
                self.read(from, to).await;
                Step::Again
            }
            Next::Wait(until) => {
                let until = until.map(Instant::from_std);
                // While the destination is unavailable, upkeep is delayed as well.
                Step::Wait(if is_away { until } else { [until, upkeep_at, refresh_at].into_iter().flatten().min() })
            }
        }
    }

    /// Sends data that belongs to no event.
    async fn maintain(&self, running: &mut Running, work: Work<'_>) -> Step {
        let answer = self.attempt(running, work).await;
        match answer {
            Sent::Retry { ref reason, .. } => {
                self.waiting.failed(reason);
                lock(&self.waiting.queue).answered(answer, Instant::now().into_std(), chance());
            }
            _ => self.waiting.succeeded(),
        }
        Step::Again
    }

    fn show_scenarios(&self, running: &mut Running) {
        let mut news = lock(&self.waiting.news);
        if !std::mem::take(&mut news.is_new) {
            return;
        }
        let (scenarios, absent) = (Arc::clone(&news.scenarios), std::mem::take(&mut news.absent));
        drop(news);
        running.sink.set_scenarios(&scenarios, &absent);
        lock(&self.waiting.queue).forgive();
    }

    /// Sends a batch, or data that belongs to no event. A sink that panics is created again.
    async fn attempt(&self, running: &mut Running, work: Work<'_>) -> Sent {
        let deadline = running.limits.deadline;
        let sending = async {
            match work {
                Work::Batch(batch) => running.sink.send(batch).await,
                Work::Upkeep => running.sink.upkeep().await,
                Work::Refresh(until) => running.sink.refresh(until).await,
            }
        };
        let sent = tokio::time::timeout(deadline, AssertUnwindSafe(sending).catch_unwind()).await;
        match sent {
            Ok(Ok(sent)) => sent,
            Ok(Err(_)) => {
                *running = self.sink().await;
                match work {
                    Work::Batch(_) => Sent::Refused("internal error of this sink while sending".into()),
                    Work::Upkeep | Work::Refresh(_) => {
                        Sent::Retry { after: None, reason: "internal error of this sink during maintenance".into() }
                    }
                }
            }
            Err(_) => Sent::Retry { after: None, reason: format!("no response within {} s", deadline.as_secs_f64()) },
        }
    }

    fn answered(&self, answer: Sent) {
        let waiting = &self.waiting;
        match &answer {
            Sent::Taken => waiting.succeeded(),
            Sent::Retry { reason, .. } => waiting.failed(reason),
            Sent::Partial(refusals) => {
                waiting.succeeded();
                if let Some(refusal) = refusals.first() {
                    waiting.counts.failed.inc();
                    lock(&waiting.health).last_error =
                        Some((Utc::now(), refusal.reason.chars().take(MAX_REASON).collect()));
                }
            }
            Sent::Refused(reason) => {
                waiting.succeeded();
                waiting.counts.failed.inc();
                lock(&waiting.health).last_error = Some((Utc::now(), reason.chars().take(MAX_REASON).collect()));
            }
        }
        let mut queue = lock(&waiting.queue);
        let done = queue.answered(answer, Instant::now().into_std(), chance());
        waiting.counts.sent.inc_by(done.sent);
        waiting.report(&mut queue);
        drop(queue);
        waiting.set_aside(done.set_aside);
    }

    /// Reads outcomes from the store. If the store does not respond, only the events in memory are sent for the time
    /// being.
    async fn read(&self, from: u64, to: u64) {
        let read = tokio::time::timeout(READ_TIMEOUT, self.store.numbered(from, to, READ)).await;
        let scenarios = Arc::clone(&lock(&self.waiting.news).scenarios);
        let mut queue = lock(&self.waiting.queue);
        let now = Instant::now().into_std();
        match read {
            Ok(Ok(found)) => {
                let event = |record| match record {
                    Recorded::Outcome(outcome) => {
                        Event::Finished(Finished { scenario: scenarios.get(&outcome.scenario).cloned(), outcome })
                    }
                    Recorded::Change(change) => Event::Changed(change),
                };
                queue.read(found.records.into_iter().map(event).collect(), found.through, now);
            }
            Ok(Err(error)) => {
                tracing::debug!(sink = &*self.waiting.name, %error, "older outcomes cannot be read now");
                queue.unreadable(now);
            }
            Err(_) => queue.unreadable(now),
        }
        self.waiting.report(&mut queue);
    }
}

/// Data for a sink to send.
#[derive(Clone, Copy)]
enum Work<'a> {
    Batch(&'a [Event]),
    Upkeep,
    Refresh(DateTime<Utc>),
}

/// Continuation after a step.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// More work may be pending.
    Again,
    /// Wait until this time or, without a time, until an event arrives.
    Wait(Option<Instant>),
}

struct Running {
    sink: Box<dyn Sink>,
    limits: Limits,
}

impl Running {
    fn new(sink: Box<dyn Sink>) -> Self {
        Self { limits: sink.limits(), sink }
    }

    /// Returns the size of an event. One at which the sink panics has the size of a whole batch, so that it is sent
    /// separately.
    fn measure(&self, event: &Event) -> Size {
        let whole = Size { rows: self.limits.rows, bytes: self.limits.bytes };
        std::panic::catch_unwind(AssertUnwindSafe(|| self.sink.measure(event))).unwrap_or(whole)
    }
}

async fn sleep_until(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

/// Returns a random number from 0 to 1, so that agents that lost a destination at the same time do not return at the
/// same time.
fn chance() -> f64 {
    f64::from(u32::try_from(RandomState::new().hash_one(0) >> 32).unwrap_or_default()) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests;
