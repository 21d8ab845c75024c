//! The task of one sink: it sends what [`super::queue`] says, within the sink's deadline, and notes what came of it.
//!
//! What waits belongs to [`Waiting`], which outlives the task: one that is started again, or with another configuration,
//! goes on where it was. A sink that panics is made anew, and the event that it panicked at is set aside.

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
use crate::outcome::RunId;
use crate::store::{Positions, Recorded};

/// How long the store may take to be read.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the task waits before it tries again to make a sink that cannot be made, because a file is missing for example.
const BUILD_INTERVAL: Duration = Duration::from_secs(30);
/// How many events that were set aside are shown, the newest.
const MAX_SHOWN: usize = 20;
/// The longest reason that is kept, in characters.
const MAX_REASON: usize = 500;

/// An event that a destination refuses for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// The run; of a change of an incident the last bad one.
    pub run: RunId,
    /// The id of the scenario, or the subject of the incident.
    pub about: Arc<str>,
    /// When it happened.
    pub at: DateTime<Utc>,
    /// Why the destination refuses it, in its own words.
    pub reason: String,
}

/// How a sink is.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// Its name.
    pub name: Arc<str>,
    /// Where it sends to.
    pub destination: String,
    /// How many outcomes the destination does not have yet.
    pub waiting: u64,
    /// When the oldest of these ended that is in memory.
    pub oldest: Option<DateTime<Utc>>,
    /// How many outcomes the destination took since the agent started.
    pub sent: u64,
    /// How many outcomes were given up since the agent started, those that were refused included.
    pub dropped: u64,
    /// Since when no attempt has succeeded; `None` while the last one did.
    pub failing_since: Option<DateTime<Utc>>,
    /// The last error, and when it happened.
    pub last_error: Option<(DateTime<Utc>, String)>,
    /// What the destination refused for good, the newest last.
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

/// What waits for one destination, and how that stands.
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
    // What panicked while it held the lock left entries behind that are whole one by one.
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

    /// Takes an event. Never blocks.
    pub(super) fn push(&self, event: Event) {
        let mut queue = lock(&self.queue);
        queue.push(event, Instant::now().into_std());
        self.report(&mut queue);
        drop(queue);
        self.wake.notify_one();
    }

    /// Takes note of the scenarios that are loaded now.
    pub(super) fn set_scenarios(&self, scenarios: &Scenarios, absent: &[Absence]) {
        let mut news = lock(&self.news);
        news.scenarios = Arc::clone(scenarios);
        news.absent.extend_from_slice(absent);
        news.is_new = true;
        drop(news);
        self.wake.notify_one();
    }

    /// The number up to which the destination has everything.
    pub(super) fn position(&self) -> u64 {
        lock(&self.queue).position()
    }

    /// How many outcomes the destination does not have yet.
    pub(super) fn len(&self) -> u64 {
        lock(&self.queue).waiting()
    }

    /// Gives up everything that waits, and returns how much that was.
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
                "outcomes were given up: too many wait, or the store lost them"
            );
        }
    }

    /// Notes that an attempt failed, and says so in the log when it is the first.
    fn failed(&self, error: &str) {
        self.counts.failed.inc();
        let error: String = error.chars().take(MAX_REASON).collect();
        let mut health = lock(&self.health);
        if health.failing_since.is_none() {
            health.failing_since = Some(Utc::now());
            tracing::warn!(sink = &*self.name, error, "the destination does not take outcomes; they are kept for it");
        }
        health.last_error = Some((Utc::now(), error));
    }

    /// Notes that the destination answered.
    fn succeeded(&self) {
        if lock(&self.health).failing_since.take().is_some() {
            tracing::info!(sink = &*self.name, "the destination takes outcomes again");
        }
    }

    /// Counts what was set aside, keeps the newest to be shown, and logs the first of them.
    fn set_aside(&self, rows: Vec<SetAside>) {
        let count = rows.len() as u64;
        let Some(first) = rows.first() else { return };
        self.counts.refused.inc_by(count);
        self.counts.dropped.inc_by(count);
        tracing::error!(
            sink = &*self.name, about = %first.event.about(), reason = first.reason, outcomes = count,
            "the destination refuses outcomes; they are set aside"
        );
        let mut health = lock(&self.health);
        for SetAside { event, reason } in rows {
            health.refused.push_back(Refused {
                run: event.run(),
                about: Arc::clone(event.about()),
                at: event.at(),
                reason: reason.chars().take(MAX_REASON).collect(),
            });
        }
        let excess = health.refused.len().saturating_sub(MAX_SHOWN);
        health.refused.drain(..excess);
    }
}

/// Makes a sink, as often as one is needed.
pub(super) type Build = Arc<dyn Fn() -> Result<Box<dyn Sink>, String> + Send + Sync>;

/// The task of one sink.
#[derive(Clone)]
pub(super) struct Driver {
    pub(super) waiting: Arc<Waiting>,
    pub(super) build: Build,
    pub(super) store: Arc<dyn Positions>,
    pub(super) timing: Timing,
}

impl Driver {
    /// Works until `replaced`, when it ends at once, or until `stop`, when it goes on with what is in memory for as long as
    /// [`Timing::flush`] allows.
    pub(super) async fn run(self, replaced: CancellationToken, stop: CancellationToken) {
        // Whatever stops the agent replaces the sink as well.
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
        // An interrupted batch waits still, and is harmless to repeat.
        let _ = tokio::time::timeout(self.timing.flush, self.flush(&mut running)).await;
    }

    /// Makes the sink on a thread of its own, since the files that it needs may not answer.
    async fn build(&self) -> Result<Box<dyn Sink>, String> {
        let build = Arc::clone(&self.build);
        let built = tokio::task::spawn_blocking(move || build()).await;
        built.unwrap_or_else(|error| Err(format!("making it ended by a defect of this sink: {error}")))
    }

    /// Makes the sink, however long that takes, and shows it the scenarios.
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

    /// Sends what does not have to wait; ends at the first failure.
    async fn flush(&self, running: &mut Running) {
        lock(&self.waiting.queue).hurry();
        while self.step(running).await == Step::Again {}
    }

    /// Does one thing.
    async fn step(&self, running: &mut Running) -> Step {
        let waiting = &self.waiting;
        self.show_scenarios(running);
        // A sink that wants something at once may say "now": that is over when it is compared.
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
                // Upkeep waits for a destination that is away as everything else does.
                Step::Wait(if is_away { until } else { [until, upkeep_at, refresh_at].into_iter().flatten().min() })
            }
        }
    }

    /// Sends what is of no event.
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

    /// Sends a batch, or what is of no event. A sink that panics is made again.
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
                    Work::Batch(_) => Sent::Refused("sending it ended by a defect of this sink".into()),
                    Work::Upkeep | Work::Refresh(_) => {
                        Sent::Retry { after: None, reason: "upkeep ended by a defect of this sink".into() }
                    }
                }
            }
            Err(_) => Sent::Retry { after: None, reason: format!("no answer within {} s", deadline.as_secs_f64()) },
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

    /// Reads outcomes from the store; while it does not answer, what is in memory goes on alone.
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

/// What a sink is asked to send.
#[derive(Clone, Copy)]
enum Work<'a> {
    Batch(&'a [Event]),
    Upkeep,
    Refresh(DateTime<Utc>),
}

/// What follows a step.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// There may be more to do.
    Again,
    /// There is nothing to do until then, or, without a time, until something comes.
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

    /// How large an event is; one that the sink panics at is as large as a batch, so that it is sent alone.
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

/// A number from 0 to 1 by chance, so that agents that lost a destination together do not come back together.
fn chance() -> f64 {
    f64::from(u32::try_from(RandomState::new().hash_one(0) >> 32).unwrap_or_default()) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests;
