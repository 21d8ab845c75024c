//! The committer with real stores: outcomes and their effects are stored together, once, regardless of the behavior of
//! the store.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use async_trait::async_trait;
use chrono::DateTime;
use serde_json::Value as Json;

use super::*;
use crate::alert::fixtures::{Nothing, outcome_at};
use crate::alert::idle::Idle;
use crate::incident::{Incident, Notification};
use crate::notify::{Alerting, Receiver, ReceiverKind, Route};
use crate::outcome::{Outcome, RunId};
use crate::scenario::{Scenario, ScenarioKind, load};
use crate::store::{
    CheckIn, CheckInState, CheckIns, Database, DecisionRecord, DeliveryStatus, History, Incidents, NotificationRecord,
    Opener, Outbox, PlannedRun, Positions as _, Recorded, Runs, Sqlite, WorkingSet,
};
use tokio_util::sync::CancellationToken;

type Result<T, E = StoreError> = std::result::Result<T, E>;

/// Fault of a commit.
#[derive(Clone, Copy)]
enum Fault {
    /// Nothing is written.
    Before,
    /// Everything is written, but the response is lost.
    After,
    /// The call never returns.
    Hang,
}

/// Store that fails on request and records the accepted batches.
struct Flaky {
    inner: Sqlite,
    faults: Mutex<Vec<Fault>>,
    /// For each accepted batch: numbers of outcomes, alert states, incidents, decisions and notifications.
    taken: Mutex<Vec<[usize; 5]>>,
    /// Signals that a call hangs.
    hangs: tokio::sync::Notify,
}

#[async_trait]
impl Runs for Flaky {
    async fn commit(&self, batch: &Batch) -> Result<()> {
        let fault = self.faults.lock().unwrap().pop();
        if let Some(Fault::Before) = fault {
            return Err(StoreError::unavailable("away"));
        }
        if let Some(Fault::Hang) = fault {
            self.hangs.notify_one();
            std::future::pending::<()>().await;
        }
        self.inner.commit(batch).await?;
        self.taken.lock().unwrap().push([
            batch.outcomes.len(),
            batch.alert_states.len(),
            batch.incidents.len(),
            batch.decisions.len(),
            batch.notifications.len(),
        ]);
        if fault.is_some() { Err(StoreError::unavailable("no response")) } else { Ok(()) }
    }
    async fn open_planned_runs(&self, location: &str) -> Result<Vec<PlannedRun>> {
        self.inner.open_planned_runs(location).await
    }
    async fn prune(&self, before: DateTime<Utc>) -> Result<Vec<RunId>> {
        self.inner.prune(before).await
    }
}

#[async_trait]
impl History for Flaky {
    async fn latest(&self) -> Result<Vec<Outcome>> {
        self.inner.latest().await
    }
    async fn latest_conclusive(&self) -> Result<Vec<Outcome>> {
        self.inner.latest_conclusive().await
    }
    async fn recent(&self, scenario: Option<&str>, limit: u32) -> Result<Vec<Outcome>> {
        self.inner.recent(scenario, limit).await
    }
    async fn run_summaries(&self, limit: u32) -> Result<Vec<crate::store::RunSummary>> {
        self.inner.run_summaries(limit).await
    }
    async fn durations(&self, asked: &crate::store::DurationQuery<'_>) -> Result<Vec<(DateTime<Utc>, Duration)>> {
        self.inner.durations(asked).await
    }
    async fn slot_counts(&self, asked: &crate::store::SlotCountQuery<'_>) -> Result<Vec<crate::store::SlotCount>> {
        self.inner.slot_counts(asked).await
    }
    async fn run(&self, run: RunId) -> Result<Option<Outcome>> {
        self.inner.run(run).await
    }
}

#[async_trait]
impl Incidents for Flaky {
    async fn alert_states(&self) -> Result<Vec<(Subject, Json)>> {
        self.inner.alert_states().await
    }
    async fn alerting_entries(&self) -> Result<Vec<(String, Json)>> {
        self.inner.alerting_entries().await
    }
    async fn incidents(&self, limit: u32) -> Result<Vec<Incident>> {
        self.inner.incidents(limit).await
    }
    async fn incident(&self, key: &str) -> Result<Option<Incident>> {
        self.inner.incident(key).await
    }
    async fn decisions(&self, subject: &Subject, limit: u32) -> Result<Vec<DecisionRecord>> {
        self.inner.decisions(subject, limit).await
    }
}

#[async_trait]
impl CheckIns for Flaky {
    async fn check_in(&self, name: &str, beat: CheckIn, at: DateTime<Utc>) -> Result<()> {
        self.inner.check_in(name, beat, at).await
    }
    async fn check_in_state(&self, name: &str) -> Result<Option<CheckInState>> {
        self.inner.check_in_state(name).await
    }
}

#[async_trait]
impl Outbox for Flaky {
    async fn queued(&self, receiver: &str, limit: u32) -> Result<Vec<Notification>> {
        self.inner.queued(receiver, limit).await
    }
    async fn receivers_with_queued(&self) -> Result<Vec<String>> {
        self.inner.receivers_with_queued().await
    }
    async fn attempt_started(&self, notification: &str) -> Result<()> {
        self.inner.attempt_started(notification).await
    }
    async fn attempt_finished(&self, notification: &str, delivery: &DeliveryStatus, at: DateTime<Utc>) -> Result<()> {
        self.inner.attempt_finished(notification, delivery, at).await
    }
    async fn notifications(&self, incident: &str) -> Result<Vec<NotificationRecord>> {
        self.inner.notifications(incident).await
    }
    async fn receiver_state(&self, receiver: &str, key: &str) -> Result<Option<Json>> {
        self.inner.receiver_state(receiver, key).await
    }
    async fn receiver_states(&self, receiver: &str) -> Result<Vec<(String, Json)>> {
        self.inner.receiver_states(receiver).await
    }
    async fn set_receiver_state(
        &self,
        receiver: &str,
        key: &str,
        receiver_state: Option<&Json>,
        at: DateTime<Utc>,
    ) -> Result<()> {
        self.inner.set_receiver_state(receiver, key, receiver_state, at).await
    }
}

/// File of a store, deleted at the end of the test.
struct File(PathBuf);

impl File {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("wachta-committer-{}.db", RunId::new())))
    }
}

impl Drop for File {
    fn drop(&mut self) {
        for end in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{end}", self.0.display()));
        }
    }
}

/// Alerting of one agent, from start to stop, with a store that outlives it.
struct Agent {
    intake: CommitterHandle,
    committer: Committer,
    woken: Arc<AtomicUsize>,
    written: Written,
}

struct Running {
    intake: CommitterHandle,
    task: tokio::task::JoinHandle<()>,
    woken: Arc<AtomicUsize>,
    written: Written,
}

/// Write buffer and writer of an agent.
struct Written {
    buffer: WriteBuffer,
    stop: CancellationToken,
    writing: tokio::task::JoinHandle<()>,
}

impl Written {
    async fn end(self) {
        self.buffer.flushed().await;
        self.stop.cancel();
        self.writing.await.expect("ends");
    }
}

/// Opens the same store each time.
struct Same(Arc<Flaky>);

#[async_trait]
impl Opener for Same {
    async fn open(&self) -> Result<Arc<dyn Database>> {
        Ok(Arc::clone(&self.0) as _)
    }
    async fn open_to_read(&self) -> Result<Arc<dyn Database>> {
        self.open().await
    }
    async fn set_aside(&self) -> Result<String> {
        Err(StoreError::unavailable("there is no other"))
    }
    async fn salvage(&self, _: &str) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl crate::store::Positions for Flaky {
    async fn numbered(&self, from: u64, to: u64, limit: u32) -> Result<crate::store::Numbered> {
        self.inner.numbered(from, to, limit).await
    }
    async fn positions(&self) -> Result<std::collections::BTreeMap<String, u64>> {
        self.inner.positions().await
    }
    async fn last_seq(&self) -> Result<u64> {
        self.inner.last_seq().await
    }
    async fn set_positions(&self, positions: std::collections::BTreeMap<String, Option<u64>>) -> Result<()> {
        self.inner.set_positions(positions).await
    }
}

#[async_trait]
impl Database for Flaky {
    async fn working_set(&self) -> Result<WorkingSet> {
        self.inner.working_set().await
    }
    async fn check(&self) -> Result<()> {
        self.inner.check().await
    }
    async fn last_commit(&self) -> Result<i64> {
        self.inner.last_commit().await
    }
    fn is_in_place(&self) -> bool {
        self.inner.is_in_place()
    }
    // The store outlives the agents of a test.
    async fn close(&self) {}
}

impl Agent {
    async fn new(store: &Arc<Flaky>) -> Self {
        let registry = prometheus::Registry::new();
        let dropped = prometheus::IntCounter::new("dropped", "dropped").unwrap();
        let woken = Arc::new(AtomicUsize::new(0));
        let heard = Arc::clone(&woken);
        let wake = move || {
            heard.fetch_add(1, Ordering::Relaxed);
        };
        let figures = crate::store::Metrics::new(&registry, dropped.clone()).unwrap();
        let (buffer, writer) = WriteBuffer::open(Arc::new(Same(Arc::clone(store))), figures).await.unwrap();
        let (stop, metrics) = (CancellationToken::new(), Metrics::new(&registry, dropped).unwrap());
        let writing = tokio::spawn(writer.run(stop.clone()));
        let (committer, intake) = Committer::new(buffer.clone(), "here", metrics, wake).await.unwrap();
        let numbers = AtomicU64::new(buffer.last_seq().await.unwrap());
        let number = move |mut change: Change| {
            change.seq = numbers.fetch_add(1, Ordering::Relaxed) + 1;
            Arc::new(change)
        };
        let committer = committer.recording(number);
        Self { intake, committer, woken, written: Written { buffer, stop, writing } }
    }

    fn start(self) -> Running {
        let task = tokio::spawn(self.committer.run());
        Running { intake: self.intake, task, woken: self.woken, written: self.written }
    }
}

impl Running {
    async fn runs(&self, letters: &str, scenario: &str, from: i64) {
        for (n, letter) in (0..).zip(letters.chars()) {
            self.intake.outcome(Arc::new(outcome(scenario, letter, from + n * 60))).await.expect("written");
        }
    }

    async fn stop(self) {
        drop(self.intake);
        self.task.await.expect("ends");
        self.written.end().await;
    }
}

async fn store(url: &str) -> Arc<Flaky> {
    let inner = Sqlite::open(url).await.unwrap();
    Arc::new(Flaky { inner, faults: Mutex::default(), taken: Mutex::default(), hangs: tokio::sync::Notify::new() })
}

fn scenarios(policy: &str, ids: &[&str]) -> Arc<BTreeMap<ScenarioId, Arc<Scenario>>> {
    let mut text = "checks:\n".to_owned();
    for id in ids {
        text.push_str(&format!("  {id}: {{tcp: \"a:1\", tags: {{team: {id}}}, alert: {{{policy}}}}}\n"));
    }
    let loaded = load("checks.yaml", &text, &Nothing);
    assert_eq!(loaded.diagnostics, []);
    Arc::new(loaded.scenarios.into_iter().map(|scenario| (scenario.id.value.clone(), scenario)).collect())
}

fn alerting(receivers: &[&str], routes: &[(&str, &[&str])]) -> Arc<Alerting> {
    let receiver = |name: &&str| Receiver { name: (*name).to_owned(), kind: ReceiverKind::Log, ..Receiver::default() };
    let route = |(team, to): &(&str, &[&str])| Route {
        matches: [("team".to_owned(), (*team).to_owned())].into(),
        to: to.iter().map(|name| (*name).to_owned()).collect(),
        group_by: vec!["scenario".into()],
        group_wait: Some(Duration::ZERO),
        ..Route::default()
    };
    let all = Route {
        to: receivers.iter().map(|name| (*name).to_owned()).collect(),
        group_by: vec!["scenario".into()],
        group_wait: Some(Duration::ZERO),
        ..Route::default()
    };
    let mut routes: Vec<Route> = routes.iter().map(route).collect();
    if routes.is_empty() {
        routes.push(all);
    }
    Arc::new(Alerting { receivers: receivers.iter().map(receiver).collect(), routes, ..Alerting::default() })
}

/// A second of the tests' time, which starts an hour ago, because times in the future would count as a clock set back.
fn at(second: i64) -> DateTime<Utc> {
    static BEGIN: std::sync::LazyLock<i64> = std::sync::LazyLock::new(|| Utc::now().timestamp() - 3600);
    DateTime::from_timestamp(*BEGIN + second, 0).unwrap()
}

fn outcome(scenario: &str, letter: char, second: i64) -> Outcome {
    outcome_at(scenario, letter, at(second))
}

#[tokio::test]
async fn an_error_budget_goes_on_from_the_store() {
    let text = "scenario: Shop\nid: shop\nevery: 1m\nslo: {objective: 99.9%}\nalert: {after: 9}\nsteps: [{GET: \"http://a/\"}]";
    let loaded = load("shop.yaml", text, &Nothing);
    assert_eq!(loaded.diagnostics, []);
    let all = loaded.scenarios.into_iter().map(|scenario| (scenario.id.value.clone(), scenario));
    let all: Arc<BTreeMap<ScenarioId, Arc<Scenario>>> = Arc::new(all.collect());
    let store = store("sqlite::memory:").await;
    let begin = Utc::now() - chrono::TimeDelta::minutes(20);
    let mut heard = Vec::new();
    // Each agent receives one failure, and the third one has counted three.
    for agent in 0..3 {
        let (sent, remaining) = std::sync::mpsc::channel();
        let Agent { intake, committer, written, .. } = Agent::new(&store).await;
        let committer = committer.on_error_budget(move |id, left| drop(sent.send((id.to_string(), left))));
        let task = tokio::spawn(committer.run());
        intake.alerting(alerting(&["a"], &[])).await;
        intake.scenarios(Arc::clone(&all), Idle::default()).await;
        for (n, letter) in (0..).zip("PFP".chars()) {
            let ended_at = begin + chrono::TimeDelta::minutes(agent * 3 + n);
            let outcome = Outcome { started_at: ended_at, ended_at, ..outcome("shop", letter, 0) };
            intake.outcome(Arc::new(outcome)).await.expect("written");
        }
        assert_eq!(queued(&store, "a").await.len(), usize::from(agent == 2), "{agent}");
        drop(intake);
        task.await.expect("ends");
        written.end().await;
        heard.push(remaining.iter().last().expect("sent"));
    }
    assert_eq!(queued(&store, "a").await, ["opened slo/shop:1"]);
    let left = |failed: f64| 1.0 - failed / 43.2;
    for ((id, heard), failed) in heard.iter().zip([1.0, 2.0, 3.0]) {
        assert!(id == "shop" && (heard - left(failed)).abs() < 1e-9, "{heard} after {failed}");
    }
}

#[tokio::test]
async fn a_store_that_hangs_holds_up_nothing() {
    let store = store("sqlite::memory:").await;
    let agent = Agent::new(&store).await;
    store.faults.lock().unwrap().push(Fault::Hang);
    // From here on, nothing waits for the database, so that time can be controlled.
    tokio::time::pause();
    let running = agent.start();
    running.intake.scenarios(scenarios("after: 1", &["shop"]), Idle::default()).await;
    running.intake.alerting(alerting(&["a"], &[])).await;
    let heard = running.intake.outcome(Arc::new(outcome("shop", 'F', 0)));
    heard.await.expect("held in memory");
    running.intake.pulse().await.expect("it turns");
    let owed = running.written.buffer.queued("a", 10).await.unwrap();
    assert_eq!(owed.len(), 1, "and is sent from there");
    assert!(running.written.buffer.stalled().is_none());
    tokio::time::sleep(crate::store::STALLED_AFTER).await;
    assert!(running.written.buffer.stalled().is_some());
    running.task.abort();
    running.written.writing.abort();
}

#[tokio::test]
async fn two_stores_never_use_one_key() {
    let mut seen = Vec::new();
    for _ in 0..2 {
        let store = store("sqlite::memory:").await;
        let running = Agent::new(&store).await.start();
        running.intake.alerting(alerting(&["a"], &[])).await;
        running.intake.scenarios(scenarios("after: 1", &["shop"]), Idle::default()).await;
        running.runs("F", "shop", 0).await;
        let key = running.written.buffer.queued("a", 1).await.unwrap()[0].dedup_key();
        // Acknowledgements accept the key as displayed, or without the store.
        let request = AlertCommand::Acknowledge { key: key.clone(), author: "ola".into(), length: None };
        running.intake.request(request).await.expect("is known");
        running.stop().await;
        let owed = store.queued("a", 1).await.unwrap().remove(0);
        assert_eq!(owed.dedup_key(), key);
        seen.extend([owed.id, key]);
    }
    let different: HashSet<&String> = seen.iter().collect();
    assert_eq!(different.len(), 4, "{seen:?}");
    assert!(seen[1].starts_with("shop:1@") && seen[0].ends_with("/shop:1#1@a"), "{seen:?}");
}

/// Returns the notifications queued for a receiver: `event dedup-key`.
async fn queued(store: &Flaky, receiver: &str) -> Vec<String> {
    let owed = store.queued(receiver, 100).await.unwrap();
    owed.iter()
        .map(|notification| format!("{} {}", notification.event.as_str(), notification.incident.dedup_key()))
        .collect()
}

/// Runs the same test with both kinds of stores.
macro_rules! on_both_stores {
    ($($name:ident => $test:ident;)*) => {$(
        mod $name {
            #[tokio::test]
            async fn in_memory() {
                super::$test("sqlite::memory:").await;
            }

            #[tokio::test]
            async fn in_a_file() {
                let file = super::File::new();
                super::$test(&format!("sqlite:{}", file.0.display())).await;
            }
        }
    )*};
}

on_both_stores! {
    one_commit => one_commit_holds_all_that_belongs_together;
    changes => what_becomes_of_an_incident_is_recorded_once;
    away => a_store_that_is_away_loses_nothing;
    restart => a_restart_goes_on_where_it_was;
    routes => who_heard_of_the_opening_hears_of_the_end;
    removal => what_is_removed_resolves;
    lost_rows => who_was_told_is_told_of_the_end_though_rows_are_lost;
    plans => plans_are_written_and_withdrawn;
    own_fault => the_agent_has_an_incident_of_its_own;
}

async fn one_commit_holds_all_that_belongs_together(url: &str) {
    let store = store(url).await;
    let agent = Agent::new(&store).await;
    agent.intake.scenarios(scenarios("", &["shop"]), Idle::default()).await;
    agent.intake.alerting(alerting(&["on-call", "team"], &[])).await;
    // All messages before the first commit are in it.
    let heard: Vec<_> = (0..3).map(|n| agent.intake.outcome(Arc::new(outcome("shop", 'F', n * 60)))).collect();
    let stranger = agent.intake.outcome(Arc::new(outcome("nobody", 'F', 0)));
    let running = agent.start();
    for heard in heard.into_iter().chain([stranger]) {
        heard.await.expect("written");
    }
    assert_eq!(*store.taken.lock().unwrap(), [[4, 1, 1, 4, 2]]);
    assert_eq!(running.woken.load(Ordering::Relaxed), 1);
    assert_eq!(store.recent(Some("shop"), 10).await.unwrap().len(), 3);
    assert_eq!(store.recent(Some("nobody"), 10).await.unwrap().len(), 1);
    let incident = store.incident("shop:1").await.unwrap().expect("is kept");
    assert_eq!((incident.bad_runs, incident.receivers.join(" ")), (3, "on-call team".to_owned()));
    assert_eq!(queued(&store, "on-call").await, ["opened shop:1"]);
    assert_eq!(queued(&store, "team").await, ["opened shop:1"]);
    let decisions = store.decisions(&Subject::from("shop"), 10).await.unwrap();
    let why: Vec<_> = decisions.iter().map(|kept| (kept.decision.reason.as_str(), kept.count)).collect();
    assert_eq!(why, [("queued", 1), ("already_open", 1), ("opened", 1), ("below_threshold", 1)]);
    let metrics = running.intake.dropped.get();
    assert_eq!(metrics, 0);
    running.stop().await;
}

async fn what_becomes_of_an_incident_is_recorded_once(url: &str) {
    let store = store(url).await;
    let recorded = async || {
        let found = store.inner.numbered(1, 100, 100).await.unwrap().records;
        let word = |record| match record {
            Recorded::Change(change) => format!("{} {}", change.incident.dedup_key(), change.transition.as_str()),
            Recorded::Outcome(outcome) => format!("outcome {}", outcome.seq),
        };
        found.into_iter().map(word).collect::<Vec<_>>().join(", ")
    };
    let agent = async || {
        let running = Agent::new(&store).await.start();
        running.intake.scenarios(scenarios("", &["shop"]), Idle::default()).await;
        running.intake.alerting(alerting(&["on-call"], &[])).await;
        running
    };
    let running = agent().await;
    running.runs("FFFF", "shop", 0).await;
    running.stop().await;
    assert_eq!(recorded().await, "shop:1 opened");
    // Another agent continues from here.
    let running = agent().await;
    running.runs("FF", "shop", 300).await;
    let request = AlertCommand::Acknowledge { key: "shop:1".into(), author: "ania".into(), length: None };
    running.intake.request(request).await.unwrap();
    running.runs("PPP", "shop", 600).await;
    running.stop().await;
    assert_eq!(recorded().await, "shop:1 opened, shop:1 acknowledged, shop:1 resolved");
}

async fn a_store_that_is_away_loses_nothing(url: &str) {
    for fault in [Fault::Before, Fault::After] {
        let file = File::new();
        let url = if url.contains("memory") { url.to_owned() } else { format!("sqlite:{}", file.0.display()) };
        let store = store(&url).await;
        let running = Agent::new(&store).await.start();
        running.intake.scenarios(scenarios("", &["shop"]), Idle::default()).await;
        running.intake.alerting(alerting(&["on-call"], &[])).await;
        running.runs("F", "shop", 0).await;
        store.faults.lock().unwrap().push(fault);
        // The second commit fails once; the third one waits for it.
        let opening = Arc::new(outcome("shop", 'F', 60));
        let second = running.intake.outcome(Arc::clone(&opening));
        let third = running.intake.outcome(Arc::new(outcome("shop", 'F', 120)));
        second.await.expect("written in the end");
        third.await.expect("written in the end");
        // A repeated outcome is not evaluated again.
        running.intake.outcome(opening).await.expect("written");
        running.stop().await;
        assert_eq!(store.recent(Some("shop"), 10).await.unwrap().len(), 3);
        assert_eq!(queued(&store, "on-call").await, ["opened shop:1"]);
        let incidents = store.incidents(10).await.unwrap();
        assert_eq!(incidents.len(), 1);
    }
}

async fn a_restart_goes_on_where_it_was(url: &str) {
    let store = store(url).await;
    let known = scenarios("after: 2 of 3", &["shop"]);
    let who = alerting(&["on-call"], &[]);
    for (letters, expected) in [
        ("F", &[][..]),
        ("P", &[]),
        ("F", &["opened shop:1"]),
        ("F", &["opened shop:1"]),
        ("P", &["opened shop:1"]),
        ("P", &["opened shop:1", "resolved shop:1"]),
        ("F", &["opened shop:1", "resolved shop:1"]),
        ("F", &["opened shop:1", "resolved shop:1", "opened shop:2"]),
    ] {
        let running = Agent::new(&store).await.start();
        running.intake.scenarios(Arc::clone(&known), Idle::default()).await;
        running.intake.alerting(Arc::clone(&who)).await;
        running.runs(letters, "shop", 0).await;
        running.stop().await;
        assert_eq!(queued(&store, "on-call").await, expected);
    }
}

async fn who_heard_of_the_opening_hears_of_the_end(url: &str) {
    let store = store(url).await;
    let running = Agent::new(&store).await.start();
    running.intake.scenarios(scenarios("severity: critical", &["shop", "blog", "shed"]), Idle::default()).await;
    let all = &["a", "b", "c"];
    running.intake.alerting(alerting(all, &[("shop", &["a", "b"]), ("shop", &["c"]), ("blog", &["b"])])).await;
    running.runs("FF", "shop", 0).await;
    running.runs("FF", "shed", 0).await;
    running.intake.alerting(alerting(all, &[("shop", &["c"])])).await;
    running.runs("PPFF", "shop", 120).await;
    running.stop().await;
    assert_eq!(queued(&store, "a").await, ["opened shop:1", "resolved shop:1"]);
    assert_eq!(queued(&store, "b").await, ["opened shop:1", "resolved shop:1"]);
    assert_eq!(queued(&store, "c").await, ["opened shop:2"]);
    // If no route matches, the log is used.
    assert_eq!(queued(&store, "log").await, ["opened shed:1"]);
}

async fn what_is_removed_resolves(url: &str) {
    let store = store(url).await;
    let running = Agent::new(&store).await.start();
    running.intake.alerting(alerting(&["a"], &[])).await;
    running.intake.scenarios(scenarios("", &["gone", "kept", "refused"]), Idle::default()).await;
    for id in ["gone", "kept", "refused"] {
        running.runs("FF", id, 0).await;
    }
    let idle = Idle { refused: vec![("refused".into(), "a variable is missing".into())], ..Idle::default() };
    running.intake.scenarios(scenarios("", &["kept"]), idle).await;
    // An outcome that arrives after the removal of its scenario is stored, but not evaluated.
    running.runs("FF", "gone", 120).await;
    running.stop().await;
    assert_eq!(queued(&store, "a").await, ["opened gone:1", "opened kept:1", "opened refused:1", "resolved gone:1"]);
    let resolved = store.incident("gone:1").await.unwrap().unwrap();
    assert_eq!((resolved.resolved_by, resolved.is_open()), (None, false));
    assert_eq!(store.recent(Some("gone"), 10).await.unwrap().len(), 4);
    // Removed while the agent was stopped.
    let running = Agent::new(&store).await.start();
    running.intake.scenarios(scenarios("", &["refused"]), Idle::default()).await;
    running.runs("P", "refused", 240).await;
    running.stop().await;
    assert_eq!(queued(&store, "a").await[4..], ["resolved kept:1"]);
    // Opened and removed within one commit.
    let agent = Agent::new(&store).await;
    agent.intake.alerting(alerting(&["a", "b"], &[])).await;
    agent.intake.scenarios(scenarios("after: 1", &["new"]), Idle::default()).await;
    let heard = agent.intake.outcome(Arc::new(outcome("new", 'F', 0)));
    agent.intake.scenarios(scenarios("", &["other"]), Idle::default()).await;
    let running = agent.start();
    heard.await.expect("written");
    running.stop().await;
    assert_eq!(queued(&store, "b").await, [""; 0], "nobody was sent that it opened");
    let kept = store.decisions(&Subject::from("new"), 10).await.unwrap();
    let why: Vec<_> = kept.iter().map(|kept| kept.decision.reason.as_str()).collect();
    assert_eq!(why, ["resolved_early", "removed", "opened"]);
    let left: Vec<String> = store.alerting_entries().await.unwrap().into_iter().map(|(key, _)| key).collect();
    assert_eq!(left, ["location", "receivers"], "nothing is left of what is over");
}

async fn who_was_told_is_told_of_the_end_though_rows_are_lost(url: &str) {
    for lost in ["group/", "", "every watch"] {
        let file = File::new();
        let url = if url.contains("memory") { url.to_owned() } else { format!("sqlite:{}", file.0.display()) };
        let store = store(&url).await;
        let running = Agent::new(&store).await.start();
        running.intake.alerting(alerting(&["a"], &[])).await;
        running.intake.scenarios(scenarios("", &["shop", "blog"]), Idle::default()).await;
        running.runs("FF", "shop", 0).await;
        running.stop().await;
        let memory = store.alerting_entries().await.unwrap().into_iter();
        let memory: Vec<_> = memory.filter(|(key, _)| key.starts_with(lost) || lost == "every watch").collect();
        let alerting_entries = memory.into_iter().map(|(key, _)| (key, None)).collect();
        let alert_states: Vec<_> =
            store.alert_states().await.unwrap().into_iter().filter(|_| lost == "every watch").collect();
        let alert_states = alert_states.into_iter().map(|(subject, _)| (subject, Json::Null)).collect();
        store.commit(&Batch { alert_states, alerting_entries, ..Batch::default() }).await.unwrap();
        for letters in ["FF", "PP"] {
            let running = Agent::new(&store).await.start();
            running.intake.alerting(alerting(&["a"], &[])).await;
            running.intake.scenarios(scenarios("", &["shop", "blog"]), Idle::default()).await;
            running.runs(letters, "shop", 120).await;
            running.runs("PP", "blog", 120).await;
            running.stop().await;
        }
        assert_eq!(queued(&store, "a").await, ["opened shop:1", "resolved shop:1"], "lost: {lost}");
    }
}

async fn plans_are_written_and_withdrawn(url: &str) {
    let store = store(url).await;
    let intent = |run| PlannedRun {
        run,
        scenario: "shop".into(),
        name: "Shop".into(),
        kind: ScenarioKind::Tcp,
        location: "here".into(),
        due_at: at(0),
    };
    let open = || async {
        let intents = store.open_planned_runs("here").await.unwrap();
        intents.into_iter().map(|intent| intent.run).collect::<Vec<_>>()
    };
    let running = Agent::new(&store).await.start();
    let (first, second) = (RunId::new(), outcome("shop", 'P', 0));
    running.intake.plan(intent(first)).await.expect("written");
    running.intake.plan(intent(second.run)).await.expect("written");
    let mut both = [first, second.run];
    let mut seen = open().await;
    both.sort();
    seen.sort();
    assert_eq!(seen, both);
    running.intake.outcome(Arc::new(second)).await.expect("written");
    assert_eq!(open().await, [first]);
    running.intake.withdraw(first);
    // Planned and cancelled, or planned and finished, within one commit: nothing is left.
    let third = RunId::new();
    let planned = running.intake.plan(intent(third));
    running.intake.withdraw(third);
    let fourth = outcome("shop", 'P', 60);
    let quick = running.intake.plan(intent(fourth.run));
    running.intake.outcome(Arc::new(fourth)).await.expect("written");
    planned.await.expect("heard");
    quick.await.expect("heard");
    assert_eq!(open().await, []);
    running.stop().await;
}

async fn the_agent_has_an_incident_of_its_own(url: &str) {
    let store = store(url).await;
    let known = scenarios("", &["shop"]);
    // The five minutes without unknown runs are measured by the clock.
    let now = (Utc::now() - at(0)).num_seconds();
    for letters in ["UU", "U", "U"] {
        let running = Agent::new(&store).await.start();
        running.intake.scenarios(Arc::clone(&known), Idle::default()).await;
        running.intake.alerting(alerting(&["a"], &[])).await;
        for letter in letters.chars() {
            running.intake.outcome(Arc::new(outcome("shop", letter, now))).await.expect("written");
        }
        running.stop().await;
    }
    assert_eq!(queued(&store, "a").await, ["opened agent/here:1"]);
    let incident = store.incident("agent/here:1").await.unwrap().unwrap();
    assert_eq!((incident.kind.as_str(), incident.bad_runs), ("agent", 2));
    assert_eq!(incident.message.as_deref(), Some("shop could not be tested in 4 consecutive runs: browser"));
}

#[tokio::test]
async fn a_full_queue_drops_and_counts() {
    let store = store("sqlite::memory:").await;
    let agent = Agent::new(&store).await;
    for _ in 0..QUEUE {
        agent.intake.withdraw(RunId::new());
    }
    assert_eq!(agent.intake.dropped.get(), 0);
    let heard = agent.intake.outcome(Arc::new(outcome("shop", 'P', 0)));
    let planned = agent.intake.plan(PlannedRun {
        run: RunId::new(),
        scenario: "shop".into(),
        name: "Shop".into(),
        kind: ScenarioKind::Tcp,
        location: "here".into(),
        due_at: at(0),
    });
    assert_eq!(agent.intake.dropped.get(), 2);
    // Callers that wait for the write are released.
    assert!(heard.await.is_err() && planned.await.is_err());
}

#[tokio::test]
async fn what_was_left_for_the_next_start_is_carried_out_once() {
    use crate::incident::Mute;
    let store = store("sqlite::memory:").await;
    let loaded = scenarios("after: 1", &["shop", "blog"]);
    let agent = async || {
        let agent = Agent::new(&store).await.start();
        agent.intake.alerting(alerting(&["a"], &[])).await;
        agent.intake.scenarios(Arc::clone(&loaded), Idle::default()).await;
        agent
    };
    let first = agent().await;
    first.runs("F", "blog", 0).await;
    first.stop().await;

    let now = Utc::now();
    let mute = |id: &str, minutes: i64| {
        AlertCommand::Mute(Mute {
            id: id.into(),
            maintenance: false,
            matches: [("team".to_owned(), "shop".to_owned())].into(),
            from: now - chrono::TimeDelta::hours(1),
            until: now + chrono::TimeDelta::minutes(minutes),
            during: None,
            author: "ania".into(),
            reason: "known".into(),
            confirmed: true,
        })
    };
    let acknowledge = AlertCommand::Acknowledge { key: "blog:1".into(), author: "jan".into(), length: None };
    // A mute that has ended in the meantime and a command for an unknown mute are skipped.
    let left = [mute("m1", 60), acknowledge, mute("m2", -1), AlertCommand::Expire { id: "m9".into() }];
    let rows = (0..)
        .zip(&left)
        .map(|(n, request): (u32, _)| (format!("{REQUESTS}{n}"), Some(serde_json::to_value(request).unwrap())));
    store.inner.commit(&Batch { alerting_entries: rows.collect(), ..Batch::default() }).await.unwrap();
    let read = deferred_commands(&store.alerting_entries().await.unwrap()).unwrap();
    assert_eq!(read.into_iter().map(|(_, request)| request).collect::<Vec<_>>(), left);

    let second = agent().await;
    second.runs("F", "shop", 0).await;
    second.stop().await;
    let keys = |memory: Vec<(String, Json)>| -> Vec<String> {
        memory.into_iter().map(|(key, _)| key).filter(|key| !key.starts_with("group/")).collect()
    };
    assert_eq!(keys(store.alerting_entries().await.unwrap()), ["held/shop", "location", "mute/m1", "receivers"]);
    assert_eq!(queued(&store, "a").await, ["opened blog:1", "updated blog:1"], "shop is silenced");
    let why = store.decisions(&Subject::from("blog"), 2).await.unwrap();
    let details: Vec<_> = why.iter().map(|kept| kept.decision.detail.as_str()).collect();
    assert_eq!(details, ["acknowledged by jan; for a", "acknowledged by jan; reminders stopped"]);
    // The third start has no deferred commands.
    agent().await.stop().await;
    assert_eq!(store.decisions(&Subject::from("blog"), 1).await.unwrap()[0].count, 1);
}
