//! The dispatcher starts each scenario when it is due.
//!
//! Invariants: a scenario never overlaps itself in one agent; a due time is started at most once; a run that is not
//! started is counted with its cause. A run is planned (and stored) as soon as the previous one was due, so that
//! storing adds no lag; it starts at its due time even if it is not yet stored. When the wall clock is set, due times
//! keep their remaining time, or come sooner.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use prometheus::{Histogram, HistogramOpts, IntCounterVec, Opts};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::clock_change::{due_after_change, last_due};
use super::{DueRun, Hooks, Scenarios, diff};
use crate::clock;
use crate::names::{metric, skipped};
use crate::outcome::RunId;
use crate::scenario::{Scenario, ScenarioId};

/// Maximum time that a run that was not planned ahead waits for its plan to be stored.
const PLAN_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum sleep, so that a change of the clock is noticed.
const MAX_SLEEP: Duration = Duration::from_secs(5);
/// Maximum number of missed due times that are counted one by one.
const MAX_MISSED: u64 = 10_000;

/// Metrics of the schedule.
#[derive(Clone, Debug)]
pub struct Metrics {
    lag: Histogram,
    skipped: IntCounterVec,
}

impl Metrics {
    /// Registers the metrics.
    pub fn new(registry: &prometheus::Registry) -> prometheus::Result<Self> {
        let lag = &metric::SCHEDULE_LAG;
        let lag = Histogram::with_opts(HistogramOpts::new(lag.name, lag.help).buckets(metric::LAG_BUCKETS.to_vec()))?;
        let counter = &metric::SCHEDULE_SKIPPED;
        let counter = IntCounterVec::new(Opts::new(counter.name, counter.help), counter.labels)?;
        registry.register(Box::new(lag.clone()))?;
        registry.register(Box::new(counter.clone()))?;
        for cause in skipped::ALL {
            counter.with_label_values(&[cause]);
        }
        Ok(Self { lag, skipped: counter })
    }
}

/// Task that starts due scenarios.
pub struct Dispatcher {
    hooks: Hooks,
    metrics: Metrics,
    tracker: TaskTracker,
    /// Runs planned before a restart whose due time is in the future.
    resumed: HashMap<(ScenarioId, DateTime<Utc>), RunId>,
    known: BTreeMap<ScenarioId, Arc<Scenario>>,
    entries: HashMap<ScenarioId, Entry>,
    /// Whether a run of a scenario is in progress, including removed scenarios, which may be added again before their
    /// run ends.
    running: HashMap<ScenarioId, Arc<AtomicBool>>,
    queue: BinaryHeap<Reverse<(DateTime<Utc>, ScenarioId)>>,
    /// Channel of scenarios to run at once.
    asked: Option<mpsc::Receiver<ScenarioId>>,
    /// Channel of liveness requests.
    pulse: Option<LivenessRequests>,
    /// Wall clock and elapsed time when they were last compared.
    clocks: (DateTime<Utc>, Duration),
}

/// Liveness requests, which the dispatcher answers as long as it works.
pub type LivenessRequests = mpsc::Receiver<oneshot::Sender<()>>;

struct Entry {
    scenario: Arc<Scenario>,
    due_at: DateTime<Utc>,
    run: RunId,
    written: Option<oneshot::Receiver<()>>,
    running: Arc<AtomicBool>,
}

impl Dispatcher {
    /// Creates a dispatcher without scenarios. Runs are spawned on the tracker.
    pub fn new(
        hooks: Hooks,
        metrics: Metrics,
        tracker: &TaskTracker,
        resumed: HashMap<(ScenarioId, DateTime<Utc>), RunId>,
    ) -> Self {
        let clocks = ((hooks.now)(), (hooks.elapsed)());
        Self {
            clocks,
            hooks,
            metrics,
            tracker: tracker.clone(),
            resumed,
            known: BTreeMap::new(),
            entries: HashMap::new(),
            running: HashMap::new(),
            queue: BinaryHeap::new(),
            asked: None,
            pulse: None,
        }
    }

    /// Sets the channel of scenarios to run at once, unless they are already running. Their due times do not change.
    #[must_use]
    pub fn asked(mut self, asked: mpsc::Receiver<ScenarioId>) -> Self {
        self.asked = Some(asked);
        self
    }

    /// Sets the channel of liveness requests.
    #[must_use]
    pub fn pulse(mut self, pulse: LivenessRequests) -> Self {
        self.pulse = Some(pulse);
        self
    }

    /// Starts due runs until stopped, then cancels the planned ones. Runs in progress belong to the tracker.
    pub async fn run(mut self, mut scenarios: watch::Receiver<Scenarios>, stop: CancellationToken) {
        let first = Arc::clone(&scenarios.borrow_and_update());
        self.apply(&first);
        let (mut asked, mut pulse) = (self.asked.take(), self.pulse.take());
        for (_, run) in std::mem::take(&mut self.resumed) {
            (self.hooks.withdraw)(run);
        }
        loop {
            self.compare_clocks();
            let sleep = self.queue.peek().map_or(MAX_SLEEP, |Reverse((due_at, _))| {
                (*due_at - (self.hooks.now)()).to_std().unwrap_or_default().min(MAX_SLEEP)
            });
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                changed = scenarios.changed() => match changed {
                    Ok(()) => {
                        let new = Arc::clone(&scenarios.borrow_and_update());
                        self.apply(&new);
                    }
                    Err(_) => break,
                },
                Some(heard) = async { pulse.as_mut()?.recv().await } => {
                    // The sender of the request may have given up.
                    let _ = heard.send(());
                }
                Some(id) = async { asked.as_mut()?.recv().await } => self.start_now(&id),
                () = tokio::time::sleep(sleep) => {
                    self.compare_clocks();
                    self.start_due();
                }
            }
        }
        for entry in self.entries.values() {
            (self.hooks.withdraw)(entry.run);
        }
    }

    fn apply(&mut self, new: &BTreeMap<ScenarioId, Arc<Scenario>>) {
        let changes = diff(&self.known, new);
        for id in changes.withdraw {
            if let Some(entry) = self.entries.remove(&id) {
                (self.hooks.withdraw)(entry.run);
            }
        }
        for scenario in changes.replace {
            if let Some(entry) = self.entries.get_mut(&scenario.id.value) {
                entry.scenario = scenario;
            }
        }
        let now = (self.hooks.now)();
        for scenario in changes.plan {
            self.plan(scenario, now);
        }
        self.running.retain(|id, running| new.contains_key(id) || running.load(Ordering::Acquire));
        self.known.clone_from(new);
    }

    /// Adjusts the due times after the wall clock was set: each keeps its remaining time, or comes sooner.
    fn compare_clocks(&mut self) {
        let clocks = ((self.hooks.now)(), (self.hooks.elapsed)());
        let (wall, passed) = std::mem::replace(&mut self.clocks, clocks);
        let now = clocks.0;
        let Some(drift) = clock::drift(now - wall, clocks.1.saturating_sub(passed)) else { return };
        let mut moved = Vec::new();
        for (id, entry) in &self.entries {
            let due_at = due_after_change(&entry.scenario, entry.due_at, drift, now);
            if due_at != entry.due_at {
                moved.push((id.clone(), due_at));
            }
        }
        for (id, due_at) in moved {
            let Some(entry) = self.entries.remove(&id) else { continue };
            (self.hooks.withdraw)(entry.run);
            self.plan_at(entry.scenario, due_at);
        }
    }

    /// Plans the next run of a scenario after a given time.
    fn plan(&mut self, scenario: Arc<Scenario>, after: DateTime<Utc>) {
        let id = scenario.id.value.clone();
        let Some(due_at) = scenario.next_after(after) else {
            tracing::warn!(scenario = %id, "never due again");
            self.entries.remove(&id);
            return;
        };
        self.plan_at(scenario, due_at);
    }

    fn plan_at(&mut self, scenario: Arc<Scenario>, due_at: DateTime<Utc>) {
        let id = scenario.id.value.clone();
        let (run, written) = if let Some(run) = self.resumed.remove(&(id.clone(), due_at)) {
            (run, None)
        } else {
            let run = RunId::new();
            let due = DueRun { scenario: Arc::clone(&scenario), run, due_at };
            (run, Some((self.hooks.plan)(&due)))
        };
        let running = Arc::clone(self.running.entry(id.clone()).or_default());
        self.queue.push(Reverse((due_at, id.clone())));
        self.entries.insert(id, Entry { scenario, due_at, run, written, running });
    }

    fn start_due(&mut self) {
        let now = (self.hooks.now)();
        while let Some(Reverse((due_at, id))) = self.queue.peek().cloned() {
            if due_at > now {
                return;
            }
            self.queue.pop();
            // Scenarios that were removed or planned again leave outdated entries in the queue.
            if self.entries.get(&id).is_none_or(|entry| entry.due_at != due_at) {
                continue;
            }
            let Some(mut entry) = self.entries.remove(&id) else { continue };
            self.skip_missed(&mut entry, now);
            let next_after = entry.due_at;
            let scenario = Arc::clone(&entry.scenario);
            if entry.running.swap(true, Ordering::AcqRel) {
                self.metrics.skipped.with_label_values(&[skipped::OVERLAP]).inc();
                tracing::warn!(scenario = %id, due_at = %entry.due_at, "run skipped: previous run still in progress");
                (self.hooks.withdraw)(entry.run);
            } else {
                self.start(entry, false);
            }
            self.plan(scenario, next_after);
        }
    }

    /// Starts a scenario at once, outside of its schedule.
    fn start_now(&self, id: &ScenarioId) {
        let Some(entry) = self.entries.get(id) else { return };
        if entry.running.swap(true, Ordering::AcqRel) {
            return;
        }
        let due = DueRun { scenario: Arc::clone(&entry.scenario), run: RunId::new(), due_at: (self.hooks.now)() };
        let written = Some((self.hooks.plan)(&due));
        let running = Arc::clone(&entry.running);
        self.start(Entry { scenario: due.scenario, due_at: due.due_at, run: due.run, written, running }, true);
    }

    /// Skips all but the latest due time after a time in which nothing could be started (a stopped process, a suspended
    /// machine).
    fn skip_missed(&self, entry: &mut Entry, now: DateTime<Utc>) {
        let (mut due_at, mut missed) = last_due(&entry.scenario, entry.due_at, now);
        while missed < MAX_MISSED
            && let Some(next) = entry.scenario.next_after(due_at).filter(|next| *next <= now)
        {
            due_at = next;
            missed += 1;
        }
        if missed >= MAX_MISSED {
            due_at = now;
        }
        if missed > 0 {
            self.metrics.skipped.with_label_values(&[skipped::MISSED]).inc_by(missed);
            tracing::warn!(scenario = %entry.scenario.id.value, missed, "due times missed: no run could be started");
            (self.hooks.withdraw)(entry.run);
            entry.due_at = due_at;
            entry.run = RunId::new();
            let due = DueRun { scenario: Arc::clone(&entry.scenario), run: entry.run, due_at };
            entry.written = Some((self.hooks.plan)(&due));
        }
    }

    fn start(&self, entry: Entry, unplanned: bool) {
        let hooks = self.hooks.clone();
        let lag = self.metrics.lag.clone();
        self.tracker.spawn(async move {
            // Reset on every exit, including a panic in the hook.
            let _running = Running(entry.running);
            // A run planned ahead is stored by this time, or held in memory while the store is unavailable.
            if let Some(written) = entry.written.filter(|_| unplanned) {
                let _ = tokio::time::timeout(PLAN_TIMEOUT, written).await;
            }
            let late = ((hooks.now)() - entry.due_at).to_std().unwrap_or_default();
            lag.observe(late.as_secs_f64());
            (hooks.run)(DueRun { scenario: entry.scenario, run: entry.run, due_at: entry.due_at }).await;
        });
    }
}

struct Running(Arc<AtomicBool>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests;
