//! The task that judges and writes. Alerting is no subscriber of the outcomes: what an outcome means is written in
//! the same transaction as the outcome itself.
//!
//! Invariants: state advances in memory only after it is written; a batch is written whole or not at all, and is
//! tried again until the store takes it. The queue is bounded: when it is full because the store does not answer,
//! runs go on and what does not fit is dropped, counted and logged.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use prometheus::{IntCounterVec, IntGaugeVec};
use tokio::sync::{mpsc, oneshot};

use super::machine::{AgentWatch, Judgement, Watch};
use super::policy;
use crate::incident::{Incident, Notice, Subject, Why};
use crate::names::{metric, suppressed};
use crate::notify::Alerting;
use crate::outcome::{Outcome, RunId};
use crate::scenario::{Scenario, ScenarioId, Severity};
use crate::store::{Batch, Intent, Store, StoreError};

/// How many messages wait at most; some minutes of a large agent.
const QUEUE: usize = 20_000;
/// How many go into one commit at most.
const BATCH: usize = 500;
/// How long the first of a batch waits for others: a commit waits for the disk, and many runs share one.
const GATHER: Duration = Duration::from_millis(100);
/// How long the store is left alone after it refused a batch.
const RETRY: Duration = Duration::from_millis(500);

/// Figures of alerting.
#[derive(Clone, Debug)]
pub struct Metrics {
    open: IntGaugeVec,
    suppressed: IntCounterVec,
    dropped: prometheus::IntCounter,
}

impl Metrics {
    /// Registers them. `dropped` counts what the full queue to the store did not take.
    pub fn new(registry: &prometheus::Registry, dropped: prometheus::IntCounter) -> prometheus::Result<Self> {
        let opts = |metric: &crate::names::Metric| prometheus::Opts::new(metric.name, metric.help);
        let open = IntGaugeVec::new(opts(&metric::INCIDENTS_OPEN), metric::INCIDENTS_OPEN.labels)?;
        let counter = IntCounterVec::new(opts(&metric::NOTICES_SUPPRESSED), metric::NOTICES_SUPPRESSED.labels)?;
        registry.register(Box::new(open.clone()))?;
        registry.register(Box::new(counter.clone()))?;
        for reason in suppressed::ALL {
            counter.with_label_values(&[reason]);
        }
        Ok(Self { open, suppressed: counter, dropped })
    }
}

enum Message {
    Plan(Intent, oneshot::Sender<()>),
    Withdraw(RunId),
    Outcome(Arc<Outcome>, oneshot::Sender<()>),
    Scenarios(Arc<BTreeMap<ScenarioId, Arc<Scenario>>>, Vec<ScenarioId>),
    Alerting(Arc<Alerting>),
}

/// The way in. Cheap to clone; when the last one is dropped, the [`Committer`] writes what is left and ends.
#[derive(Clone)]
pub struct Intake {
    queue: mpsc::Sender<Message>,
    dropped: prometheus::IntCounter,
}

impl Intake {
    /// A run is planned. The receiver hears when that is written.
    pub fn plan(&self, intent: Intent) -> oneshot::Receiver<()> {
        let (done, heard) = oneshot::channel();
        self.push(Message::Plan(intent, done));
        heard
    }

    /// A planned run will not take place.
    pub fn withdraw(&self, run: RunId) {
        self.push(Message::Withdraw(run));
    }

    /// A run ended. The receiver hears when its outcome is written and judged.
    pub fn outcome(&self, outcome: Arc<Outcome>) -> oneshot::Receiver<()> {
        let (done, heard) = oneshot::channel();
        self.push(Message::Outcome(outcome, done));
        heard
    }

    /// These scenarios are there from now on. Those of the second list are known but cannot run now: their incidents
    /// stay, while those of scenarios in neither resolve.
    pub async fn scenarios(&self, scenarios: Arc<BTreeMap<ScenarioId, Arc<Scenario>>>, refused: Vec<ScenarioId>) {
        let _ = self.queue.send(Message::Scenarios(scenarios, refused)).await;
    }

    /// These are told from now on.
    pub async fn alerting(&self, alerting: Arc<Alerting>) {
        let _ = self.queue.send(Message::Alerting(alerting)).await;
    }

    fn push(&self, message: Message) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.queue.try_send(message) {
            self.dropped.inc();
            tracing::error!("the queue to the store is full: an outcome or plan was dropped");
        }
    }
}

/// Judges and writes.
pub struct Committer {
    store: Arc<dyn Store>,
    queue: mpsc::Receiver<Message>,
    metrics: Metrics,
    /// Is called after each commit that owes someone a notice.
    wake: Box<dyn Fn() + Send + Sync>,
    location: String,
    scenarios: Arc<BTreeMap<ScenarioId, Arc<Scenario>>>,
    alerting: Arc<Alerting>,
    watches: HashMap<Subject, Watch>,
    agent: AgentWatch,
}

impl Committer {
    /// Reads what alerting remembers from the store. [`Committer::run`] does the work.
    pub async fn new(
        store: Arc<dyn Store>,
        location: &str,
        metrics: Metrics,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Result<(Self, Intake), StoreError> {
        let (sender, queue) = mpsc::channel(QUEUE);
        let intake = Intake { queue: sender, dropped: metrics.dropped.clone() };
        let mut watches = HashMap::new();
        let mut agent = AgentWatch::default();
        for (subject, body) in store.watches().await? {
            let unread =
                |e: serde_json::Error| StoreError(format!("what alerting remembers of {subject} does not read: {e}"));
            if subject == Subject::agent(location) {
                agent = serde_json::from_value(body).map_err(unread)?;
            } else if !subject.is_agent() {
                let watch = serde_json::from_value(body).map_err(unread)?;
                watches.insert(subject, watch);
            }
        }
        let committer = Self {
            store,
            queue,
            metrics,
            wake: Box::new(wake),
            location: location.to_owned(),
            scenarios: Arc::default(),
            alerting: Arc::default(),
            watches,
            agent,
        };
        committer.count_open();
        Ok((committer, intake))
    }

    /// Works until every [`Intake`] is gone and what they brought is written.
    pub async fn run(mut self) {
        loop {
            let quiet = self.agent.quiet_at().map(|at| (at - Utc::now()).to_std().unwrap_or_default());
            let first = tokio::select! {
                message = self.queue.recv() => match message {
                    Some(message) => Some(message),
                    None => return,
                },
                () = tokio::time::sleep(quiet.unwrap_or_default()), if quiet.is_some() => None,
            };
            let mut messages: Vec<Message> = first.into_iter().collect();
            let gather = tokio::time::sleep(if messages.is_empty() { Duration::ZERO } else { GATHER });
            tokio::pin!(gather);
            while messages.len() < BATCH {
                tokio::select! {
                    biased;
                    message = self.queue.recv() => match message {
                        Some(message) => messages.push(message),
                        None => break,
                    },
                    () = &mut gather => break,
                }
            }
            self.commit(messages).await;
        }
    }

    async fn commit(&mut self, messages: Vec<Message>) {
        let now = Utc::now();
        let mut round =
            Round { batch: Batch::default(), watches: HashMap::new(), agent: self.agent.clone(), agent_touched: false };
        let mut done = Vec::new();
        for message in messages {
            match message {
                Message::Plan(intent, heard) => {
                    round.batch.intents.push(intent);
                    done.push(heard);
                }
                Message::Withdraw(run) => {
                    round.batch.intents.retain(|intent| intent.run != run);
                    round.batch.withdrawn.push(run);
                }
                Message::Outcome(outcome, heard) => {
                    round.batch.intents.retain(|intent| intent.run != outcome.run);
                    self.judge(&mut round, &outcome, now);
                    round.batch.outcomes.push(outcome);
                    done.push(heard);
                }
                Message::Scenarios(scenarios, refused) => {
                    self.scenarios = scenarios;
                    self.resolve_removed(&mut round, &refused, now);
                }
                Message::Alerting(alerting) => self.alerting = alerting,
            }
        }
        if let Some(judgement) = round.agent.tick(now) {
            round.agent_touched = true;
            self.take(&mut round, judgement, now);
        }
        for (subject, watch) in &round.watches {
            round.batch.watches.push((subject.clone(), serde_json::to_value(watch).expect("plain data becomes JSON")));
        }
        if round.agent_touched {
            let body = serde_json::to_value(&round.agent).expect("plain data becomes JSON");
            round.batch.watches.push((Subject::agent(&self.location), body));
        }
        if !round.batch.is_empty() {
            self.write(&round.batch).await;
        }
        self.watches.extend(round.watches);
        self.agent = round.agent;
        for decision in &round.batch.decisions {
            let reason = match decision.why {
                Why::OwnFault => suppressed::OWN_FAULT,
                Why::Count => suppressed::COUNT,
                Why::Repeat => suppressed::REPEAT,
                _ => continue,
            };
            self.metrics.suppressed.with_label_values(&[reason]).inc();
        }
        self.count_open();
        for heard in done {
            // Nobody has to listen.
            let _ = heard.send(());
        }
        if !round.batch.notices.is_empty() {
            (self.wake)();
        }
    }

    /// Writes a batch, however long the store takes to come back.
    async fn write(&self, batch: &Batch) {
        let mut complained = false;
        while let Err(error) = self.store.commit(batch).await {
            if !complained {
                tracing::error!(%error, "the store does not take outcomes; trying until it does");
                complained = true;
            }
            tokio::time::sleep(RETRY).await;
        }
        if complained {
            tracing::info!("the store takes outcomes again");
        }
    }

    fn judge(&self, round: &mut Round, outcome: &Outcome, now: DateTime<Utc>) {
        let Some(scenario) = self.scenarios.get(&outcome.scenario) else { return };
        let subject = Subject(outcome.scenario.to_string());
        let watch = round
            .watches
            .entry(subject.clone())
            .or_insert_with(|| self.watches.get(&subject).cloned().unwrap_or_default());
        let judgement = watch.advance(scenario, outcome);
        let unknown_in_a_row = watch.unknown;
        if let Some(judgement) = judgement {
            self.take(round, judgement, now);
        }
        if let Some(judgement) = round.agent.advance(outcome, unknown_in_a_row, self.scenarios.len()) {
            self.take(round, judgement, now);
        }
        round.agent_touched |= outcome.verdict == crate::outcome::Verdict::Unknown;
    }

    fn resolve_removed(&self, round: &mut Round, refused: &[ScenarioId], now: DateTime<Utc>) {
        // What this round opened is removed as well.
        let open = self.watches.iter().chain(&round.watches).filter(|(_, watch)| watch.open.is_some());
        for subject in open.map(|(subject, _)| subject.clone()).collect::<BTreeSet<_>>() {
            let id = ScenarioId::from(subject.0.as_str());
            if self.scenarios.contains_key(&id) || refused.contains(&id) {
                continue;
            }
            let watch = round.watches.entry(subject.clone()).or_insert_with(|| self.watches[&subject].clone());
            if let Some(judgement) = watch.remove(now) {
                self.take(round, judgement, now);
            }
        }
    }

    /// Takes a judgement into the batch, and works out who is told.
    fn take(&self, round: &mut Round, mut judgement: Judgement, now: DateTime<Utc>) {
        if let Some((event, incident)) = &mut judgement.told {
            if incident.receivers.is_empty() {
                incident.receivers = policy::receivers(&self.alerting, incident);
                round.remember_receivers(incident);
                if let Some(touched) = &mut judgement.incident {
                    touched.receivers.clone_from(&incident.receivers);
                }
            }
            for receiver in &incident.receivers {
                round.batch.notices.push(Notice::new(incident, *event, receiver, now));
            }
            tracing::info!(
                incident = incident.dedup_key(),
                event = event.as_str(),
                severity = incident.severity.as_str(),
                why = judgement.decision.detail,
                "incident {}",
                event.as_str()
            );
        }
        if let Some(incident) = judgement.incident {
            // A later state of the same incident replaces the earlier one of this round.
            round.batch.incidents.retain(|known| known.dedup_key() != incident.dedup_key());
            round.batch.incidents.push(incident);
        }
        round.batch.decisions.push(judgement.decision);
    }

    fn count_open(&self) {
        let open = self.watches.values().filter_map(|watch| watch.open.as_ref()).chain(self.agent.open.as_ref());
        let mut counts = BTreeMap::from(Severity::ALL.map(|severity| (severity, 0)));
        for incident in open {
            *counts.entry(incident.severity).or_default() += 1;
        }
        for (severity, count) in counts {
            self.metrics.open.with_label_values(&[severity.as_str()]).set(count);
        }
    }
}

/// What one commit will write, and the state as it will be then.
struct Round {
    batch: Batch,
    watches: HashMap<Subject, Watch>,
    agent: AgentWatch,
    agent_touched: bool,
}

impl Round {
    /// Puts the receivers into the state, so that those who heard of the opening hear of the rest.
    fn remember_receivers(&mut self, incident: &Incident) {
        let open = if incident.subject.is_agent() {
            self.agent.open.as_mut()
        } else {
            self.watches.get_mut(&incident.subject).and_then(|watch| watch.open.as_mut())
        };
        if let Some(open) = open {
            open.receivers.clone_from(&incident.receivers);
        }
    }
}

#[cfg(test)]
mod tests;
