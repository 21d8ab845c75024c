//! Sinks of an agent: their configuration, their events, and the positions of their destinations.
//!
//! An outcome is numbered, passed to the store and queued for every sink under one lock, so that all of them receive
//! outcomes in the order of their consecutive numbers. At the same time each outcome receives the streak of its
//! scenario, so that an outcome read from the store or sent again contains the same data. A newly configured sink
//! begins with the next event.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::driver::{Driver, Status, Waiting};
use super::prometheus::Prometheus;
use super::queue::Queue;
use super::{Absence, AgentState, Destination, Event, Finished, HttpClient, Limits, Metrics, Scenarios, Timing};
use crate::incident::{Change, Ending};
use crate::outcome::{Outcome, Streak};
use crate::scenario::{Scenario, ScenarioId};
use crate::store::evidence::EvidenceFolder;
use crate::store::{Positions, StoreError};
use crate::tasks::Tasks;

/// Interval of storing the positions. Events sent in between are sent again after a crash, which is harmless.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum time for ending a sink whose configuration has changed.
const REPLACE_TIMEOUT: Duration = Duration::from_secs(5);
/// Placeholder until a sink has returned its limits.
const NO_LIMITS: Limits = Limits { rows: 1, bytes: 1, age: Duration::ZERO, deadline: Duration::ZERO };

/// Resources for creating sinks, in addition to their configuration.
#[derive(Clone)]
pub struct Context {
    /// Location of the agent.
    pub location: String,
    /// Source of the agent's state.
    pub agent_state: AgentState,
    /// Factory of HTTP clients.
    pub http_client: HttpClient,
    /// Folder with the evidence of runs.
    pub evidence: EvidenceFolder,
    /// Metrics exported by `/metrics`.
    pub prometheus: Arc<Prometheus>,
}

/// Resources for running sinks.
pub struct Parts {
    /// Store of the numbered outcomes and the positions.
    pub store: Arc<dyn Positions>,
    /// Whether the store outlives the agent, so that the next agent sends the events still waiting at the end.
    pub is_durable: bool,
    /// Resources for creating sinks.
    pub context: Context,
    /// Metrics of the sinks.
    pub metrics: Metrics,
    /// Task set in which their tasks are spawned.
    pub tasks: Tasks,
    /// Delays and time limits.
    pub timing: Timing,
}

/// Sinks of an agent.
pub struct Sinks {
    parts: Parts,
    inner: Mutex<Inner>,
    /// Lock that serializes reloads.
    loading: tokio::sync::Mutex<()>,
    stop: CancellationToken,
}

struct Inner {
    /// Last sequence number assigned to an outcome or a change.
    last: u64,
    /// Present streak of each scenario.
    streaks: HashMap<ScenarioId, Streak>,
    running: Vec<Running>,
    /// Stored positions.
    written: BTreeMap<String, u64>,
}

struct Running {
    destination: Destination,
    waiting: Arc<Waiting>,
    replaced: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl Sinks {
    /// Reads the positions of the sinks. [`Sinks::load`] starts the sinks.
    ///
    /// # Errors
    ///
    /// The store cannot be read.
    pub async fn open(parts: Parts) -> Result<Self, StoreError> {
        let (last, written) = (parts.store.last_seq().await?, parts.store.positions().await?);
        let inner = Inner { last, streaks: HashMap::new(), running: Vec::new(), written };
        let (loading, stop) = (tokio::sync::Mutex::default(), CancellationToken::new());
        Ok(Self { parts, inner: Mutex::new(inner), loading, stop })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Continues the streaks of an earlier agent, given the last outcome of each scenario.
    pub fn seed(&self, latest: &[Outcome]) {
        let streaks = latest.iter().filter_map(|outcome| Some((outcome.scenario.clone(), outcome.streak?)));
        self.inner().streaks.extend(streaks);
    }

    /// Numbers an outcome, passes it to `store`, and queues it for every sink. Never blocks.
    pub fn outcome(
        &self,
        mut outcome: Outcome,
        scenario: Option<&Arc<Scenario>>,
        store: impl FnOnce(&Arc<Outcome>),
    ) -> Arc<Outcome> {
        let mut inner = self.inner();
        inner.last += 1;
        outcome.seq = inner.last;
        outcome.streak = Streak::after(inner.streaks.get(&outcome.scenario).copied(), &outcome);
        if let Some(streak) = outcome.streak {
            inner.streaks.insert(outcome.scenario.clone(), streak);
        }
        let outcome = Arc::new(outcome);
        store(&outcome);
        for running in &inner.running {
            let finished = Finished { scenario: scenario.cloned(), outcome: Arc::clone(&outcome) };
            running.waiting.push(Event::Finished(finished));
        }
        outcome
    }

    /// Numbers a change of an incident and queues it for every sink. Never blocks.
    pub fn change(&self, mut change: Change) -> Arc<Change> {
        let mut inner = self.inner();
        inner.last += 1;
        change.seq = inner.last;
        let change = Arc::new(change);
        for running in &inner.running {
            running.waiting.push(Event::Changed(Arc::clone(&change)));
        }
        change
    }

    /// Applies the configuration by difference: an unchanged sink continues, a changed one is replaced and continues at
    /// the same position, and a removed one is deleted together with its position. Then passes the scenarios to all
    /// sinks.
    pub async fn load(&self, wanted: &[Destination], scenarios: &Scenarios, absent: &[Absence]) {
        let _one_at_a_time = self.loading.lock().await;
        let mut ended = Vec::new();
        let mut forgotten = BTreeMap::new();
        {
            let mut inner = self.inner();
            for gone in absent.iter().filter(|absence| absence.why == Ending::Removed) {
                inner.streaks.remove(&gone.scenario);
            }
            let names: Vec<&str> = wanted.iter().map(|destination| &*destination.name).collect();
            inner.running.retain_mut(|running| {
                let name = &*running.destination.name;
                if wanted.contains(&running.destination) {
                    return true;
                }
                running.replaced.cancel();
                ended.extend(running.task.take());
                let stays = names.contains(&name);
                if !stays {
                    self.parts.metrics.forget(name);
                }
                stays
            });
            // Without this, a removed sink that is configured again much later would send its entire backlog.
            let known: Vec<String> = inner.written.keys().cloned().collect();
            for name in known.into_iter().filter(|name| !names.contains(&name.as_str())) {
                inner.written.remove(&name);
                forgotten.insert(name, None);
            }
        }
        for task in ended {
            let _ = tokio::time::timeout(REPLACE_TIMEOUT, task).await;
        }
        for destination in wanted {
            self.start(destination, scenarios);
        }
        for running in &self.inner().running {
            running.waiting.set_scenarios(scenarios, absent);
        }
        if !forgotten.is_empty() {
            self.write(forgotten).await;
        }
        self.save().await;
    }

    /// Starts a sink that is not running.
    fn start(&self, destination: &Destination, scenarios: &Scenarios) {
        let mut inner = self.inner();
        let name = &destination.name;
        let old = inner.running.iter().position(|running| running.destination.name == *name);
        let waiting = match old {
            Some(index) if inner.running[index].task.is_some() => return,
            Some(index) => inner.running.remove(index).waiting,
            None => {
                let position = inner.written.get(&**name).copied().unwrap_or(inner.last);
                let queue = Queue::new(self.parts.timing.clone(), NO_LIMITS, position, inner.last);
                let waiting = Waiting::new(Arc::clone(name), queue, self.parts.metrics.of(name));
                // Starting without scenarios would report all of them as removed.
                waiting.set_scenarios(scenarios, &[]);
                Arc::new(waiting)
            }
        };
        let (context, made) = (self.parts.context.clone(), destination.clone());
        let driver = Driver {
            waiting: Arc::clone(&waiting),
            build: Arc::new(move || made.config.build(&context)),
            store: Arc::clone(&self.parts.store),
            timing: self.parts.timing.clone(),
        };
        let replaced = self.stop.child_token();
        let (ends, stop) = (replaced.clone(), self.stop.clone());
        let task = self.parts.tasks.restarted(name, &Handle::current(), replaced.clone(), move || {
            driver.clone().run(ends.clone(), stop.clone())
        });
        inner.running.push(Running { destination: destination.clone(), waiting, replaced, task: Some(task) });
    }

    /// Returns the status of each sink.
    pub fn status(&self) -> Vec<Status> {
        let of = |running: &Running| running.waiting.status(running.destination.config.describe());
        self.inner().running.iter().map(of).collect()
    }

    /// Stores the positions periodically until `stop` is cancelled.
    pub async fn save_regularly(&self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(WRITE_INTERVAL) => self.save().await,
            }
        }
    }

    /// Stores the positions that have changed.
    async fn save(&self) {
        let changed = {
            let mut inner = self.inner();
            let of = |running: &Running| (running.destination.name.to_string(), running.waiting.position());
            let now: Vec<_> = inner.running.iter().map(of).collect();
            let mut changed = BTreeMap::new();
            for (name, position) in now {
                if inner.written.insert(name.clone(), position) != Some(position) {
                    changed.insert(name, Some(position));
                }
            }
            changed
        };
        if !changed.is_empty() {
            self.write(changed).await;
        }
    }

    async fn write(&self, positions: BTreeMap<String, Option<u64>>) {
        if let Err(error) = self.parts.store.set_positions(positions).await {
            tracing::error!(%error, "cannot write the positions of sinks: some outcomes are sent again after a restart");
        }
    }

    /// Stops the sinks: events in memory are still sent for at most [`Timing::flush`], then the positions are stored.
    /// The remaining events are sent by the next agent, or given up if the store ends with this one.
    pub async fn stop(&self) {
        self.stop.cancel();
        let tasks: Vec<_> = self.inner().running.iter_mut().filter_map(|running| running.task.take()).collect();
        for task in tasks {
            let _ = task.await;
        }
        self.save().await;
        for running in &self.inner().running {
            let (sink, outcomes) = (&*running.destination.name, running.waiting.len());
            if outcomes == 0 {
                continue;
            }
            if self.parts.is_durable {
                tracing::info!(sink, outcomes, "stopped before everything was sent: continuing at the next start");
            } else {
                running.waiting.give_up();
                tracing::warn!(sink, outcomes, "stopped before everything was sent: outcomes dropped");
            }
        }
    }
}

#[cfg(test)]
mod tests;
