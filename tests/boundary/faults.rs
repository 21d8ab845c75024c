//! Each fault of the demo shop opens exactly the incidents of its table, with one notice each, and resolves each
//! with one; also when the agent is killed over and over.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use wachta::alert::AlertState;
use wachta::demo::{Demo, FAULTS, Fault};
use wachta::incident::{Event, Incident, Notification, Subject};
use wachta::outcome::{Outcome, RunId};
use wachta::scenario::ScenarioId;
use wachta::store::{
    Batch, CheckIn, CheckInState, CheckIns, Database, DecisionRecord, DeliveryStatus, DurationQuery, History,
    Incidents, NotificationRecord, Numbered, Opener, Outbox, PlannedRun, Positions, RunSummary, Runs, SlotCount,
    SlotCountQuery, Sqlite, SqliteFile, StoreError, WorkingSet,
};

use crate::support::agent::Agent;
use crate::support::receiver::{Manners, Receiver};
use crate::support::{Folder, examples, until};

/// Everything but the browser scenarios: quick enough to be killed often.
const WITHOUT_BROWSER: [&str; 2] = ["orders-api.yaml", "checks.yaml"];
const ALL: [&str; 4] = ["orders-api.yaml", "checks.yaml", "shop-catalogue.yaml", "shop-checkout.yaml"];

/// How long a fault may take to be told of; browsers on a busy machine are slow.
const PATIENCE: Duration = Duration::from_secs(120);

fn prepare(folder: &Folder, receiver: &Receiver, scenarios: &[&str]) {
    examples(folder, scenarios);
    folder.write(
        "wachta.yaml",
        &format!(
            "location: here\nscenarios: [scenarios/]\nallow: {{env: [\"SHOP_*\"], files: [\"{}/\"]}}\nstore: sqlite:wachta.db\n\
             web: {{listen: \"127.0.0.1:0\", external_url: \"http://127.0.0.1:1/\"}}\n\
             alerting:\n  receivers:\n    hook: {{webhook: {{url: \"http://{}/\"}}}}\n    again: {{webhook: {{url: \"http://{1}/\"}}}}\n\
             \x20 routes: [{{to: [hook, again], group_by: [scenario], group_wait: 0s}}]\n",
            folder.path().display(),
            receiver.address
        ),
    );
}

/// What was heard of each event of each incident, by receiver; a repeat that is marked as one counts as none.
fn told(heard: &[Value]) -> BTreeMap<(String, String, String), usize> {
    let mut told = BTreeMap::new();
    for notification in heard {
        let key = |name: &str| notification[name].as_str().unwrap_or_default().to_owned();
        let count = told.entry((key("dedup_key"), key("event"), key("receiver"))).or_default();
        if notification["repeat"] != true || *count == 0 {
            *count += 1;
        }
    }
    told
}

/// What must be heard when these scenarios had their first incident opened, and resolved if it is over.
fn expected(rounds: &[&[&str]], over: bool) -> BTreeMap<(String, String, String), usize> {
    let mut openings: BTreeMap<&str, u64> = BTreeMap::new();
    let mut expected = BTreeMap::new();
    for (at, round) in rounds.iter().enumerate() {
        for scenario in *round {
            let opening = openings.entry(scenario).or_default();
            *opening += 1;
            let events: &[&str] = if at + 1 < rounds.len() || over { &["opened", "resolved"] } else { &["opened"] };
            for event in events {
                for receiver in ["hook", "again"] {
                    expected.insert((format!("{scenario}:{opening}"), (*event).to_owned(), receiver.to_owned()), 1);
                }
            }
        }
    }
    expected
}

/// Keeps an agent alive: starts it anew whenever it was killed, and aims the receiver at it.
pub struct Keeper<'a> {
    folder: &'a Folder,
    shop: &'a Demo,
    receiver: &'a Receiver,
    command: Box<dyn Fn() -> Command + 'a>,
    pub agent: Agent,
    pub starts: usize,
}

impl<'a> Keeper<'a> {
    pub async fn start(
        folder: &'a Folder,
        shop: &'a Demo,
        receiver: &'a Receiver,
        command: impl Fn() -> Command + 'a,
    ) -> Self {
        let agent =
            until("an agent starts", PATIENCE, async || Agent::try_start(command(), folder.path(), shop).await.ok())
                .await;
        receiver.aim_at(agent.pid());
        Self { folder, shop, receiver, command: Box::new(command), agent, starts: 1 }
    }

    pub async fn look(&mut self) {
        if self.agent.ended() {
            self.starts += 1;
            // One that dies while it starts is started again at the next look.
            let Ok(agent) = Agent::try_start((self.command)(), self.folder.path(), self.shop).await else { return };
            self.agent = agent;
            self.receiver.aim_at(self.agent.pid());
        }
    }

    async fn wait_for(&mut self, what: &str, expected: &BTreeMap<(String, String, String), usize>) {
        let receiver = self.receiver;
        let this = &mut *self;
        until(what, PATIENCE, async || {
            this.look().await;
            let told = told(&receiver.heard());
            expected.keys().all(|key| told.contains_key(key)).then_some(())
        })
        .await;
    }
}

pub fn serve() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wachta"));
    command.args(["serve", "--config", "wachta.yaml"]);
    command
}

/// Switches each fault on until it is told, and off until it is resolved; nothing else may be told.
async fn every_fault(faults: &[Fault], shop: &Demo, keeper: &mut Keeper<'_>, among: &[&str]) {
    let receiver = keeper.receiver;
    let mut rounds: Vec<Vec<&str>> = Vec::new();
    for fault in faults {
        let row = fault.row();
        rounds.push(row.opens.iter().copied().filter(|id| among.contains(id)).collect());
        let rounds: Vec<&[&str]> = rounds.iter().map(Vec::as_slice).collect();
        shop.shop.set(*fault, true);
        keeper.wait_for(&format!("{} is told", row.name), &expected(&rounds, false)).await;
        shop.shop.set(*fault, false);
        keeper.wait_for(&format!("the end of {} is told", row.name), &expected(&rounds, true)).await;
        assert_eq!(told(&receiver.heard()), expected(&rounds, true), "{}", row.name);
    }
}

/// The store agrees with what a fresh machine makes of the same outcomes in the same order: no step of n of m was
/// lost or counted twice, and every run has one outcome.
pub async fn replay(folder: &Path, shop: &Demo) {
    let store = Sqlite::open(&format!("sqlite:{}", folder.join("wachta.db").display())).await.unwrap();
    let mut outcomes = store.recent(None, 1_000_000).await.unwrap();
    outcomes.reverse();
    let runs: BTreeSet<RunId> = outcomes.iter().map(|outcome| outcome.run).collect();
    assert_eq!(runs.len(), outcomes.len(), "one outcome for each run");
    let surroundings = wachta::demo::DemoLookup::new(shop);
    let mut scenarios = BTreeMap::new();
    for entry in std::fs::read_dir(folder.join("scenarios")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        for scenario in wachta::scenario::load(&path.display().to_string(), &text, &surroundings).scenarios {
            scenarios.insert(scenario.id.value.clone(), scenario);
        }
    }
    let mut alert_states: BTreeMap<ScenarioId, AlertState> = BTreeMap::new();
    let mut events: Vec<(String, &str, RunId)> = Vec::new();
    for outcome in &outcomes {
        let watch = alert_states.entry(outcome.scenario.clone()).or_default();
        let judgement = watch.advance(&scenarios[&outcome.scenario], outcome, None).expect("judged once");
        if let Some((event, incident)) = judgement.event {
            events.push((incident.dedup_key(), event.as_str(), outcome.run));
        }
    }
    events.sort();
    let mut kept: Vec<(String, &str, RunId)> = Vec::new();
    for incident in store
        .incidents(1_000_000)
        .await
        .unwrap()
        .into_iter()
        .filter(|incident| !matches!(incident.subject, Subject::Agent(_)))
    {
        kept.push((incident.dedup_key(), Event::Opened.as_str(), incident.opened_by));
        kept.push((incident.dedup_key(), Event::Resolved.as_str(), incident.resolved_by.expect("all are over")));
    }
    kept.sort();
    assert_eq!(kept, events, "the incidents in the store are those that the outcomes lead to");
    store.close().await;
}

const IDS: [&str; 7] = ["front-page", "health", "product-api", "port", "certificate", "orders-api", "shop-checkout"];

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_opens_its_incidents_and_no_others() {
    let stop = CancellationToken::new();
    let shop = Demo::open(0, 0, &stop).await.unwrap();
    let receiver = Receiver::listen().await;
    let folder = Folder::new("faults");
    prepare(&folder, &receiver, &ALL);
    let mut keeper = Keeper::start(&folder, &shop, &receiver, serve).await;
    let faults: Vec<Fault> = FAULTS.iter().map(|row| row.fault).collect();
    let all: Vec<&str> = IDS.into_iter().chain(["shop-catalogue"]).collect();
    every_fault(&faults, &shop, &mut keeper, &all).await;
    assert_eq!(keeper.starts, 1);
    assert_eq!(keeper.agent.stop().await, Some(0));
    replay(folder.path(), &shop).await;
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_kills_the_agent_is_told_all_the_same() {
    for manners in [Manners::KillBefore, Manners::KillAfter] {
        let stop = CancellationToken::new();
        let shop = Demo::open(0, 0, &stop).await.unwrap();
        let receiver = Receiver::listen().await;
        receiver.behave(manners);
        let folder = Folder::new(&format!("kill-{manners:?}"));
        prepare(&folder, &receiver, &WITHOUT_BROWSER);
        let mut keeper = Keeper::start(&folder, &shop, &receiver, serve).await;
        every_fault(&[Fault::Error500, Fault::Certificate, Fault::Error500], &shop, &mut keeper, &IDS[..6]).await;
        // The last of the six deaths may come after the last notice was heard.
        assert!(keeper.starts > 5, "{manners:?}: killed at each notification, started {} times", keeper.starts);
        receiver.behave(Manners::Polite);
        until("an agent runs", PATIENCE, async || {
            keeper.look().await;
            // One that was killed just now may not have ended yet, but answers no more.
            (keeper.agent.status("/-/healthy").await == Some(200)).then_some(())
        })
        .await;
        assert_eq!(keeper.agent.stop().await, Some(0));
        replay(folder.path(), &shop).await;
        stop.cancel();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_dies_after_every_nth_write_loses_nothing() {
    // The long form goes through every n; the short one through a few that fall on different kinds of writes.
    let long = std::env::var("WACHTA_SOAK").is_ok();
    let every: Vec<u64> = if long { (3..=36).collect() } else { vec![7, 16] };
    for n in every {
        let stop = CancellationToken::new();
        let shop = Demo::open(0, 0, &stop).await.unwrap();
        let receiver = Receiver::listen().await;
        let folder = Folder::new(&format!("nth-{n}"));
        prepare(&folder, &receiver, &WITHOUT_BROWSER);
        let dying = || {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command
                .args(["--exact", "faults::agent_that_dies", "--nocapture", "--test-threads=1"])
                .env(NTH, n.to_string());
            command
        };
        let mut keeper = Keeper::start(&folder, &shop, &receiver, dying).await;
        // One round is some forty writes long, on a busy machine fewer.
        every_fault(&[Fault::Error500; 2], &shop, &mut keeper, &IDS[..6]).await;
        assert!(keeper.starts > 1, "n = {n}: it never died");
        keeper.agent.kill();
        replay(folder.path(), &shop).await;
        stop.cancel();
    }
}

/// Set in the process that is to die: after how many writes.
const NTH: &str = "WACHTA_TEST_DIE_AFTER";

/// Not a test of its own: the agent that the test above starts, in this binary, with a store that kills it.
#[test]
fn agent_that_dies() {
    let Ok(nth) = std::env::var(NTH) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        tracing_subscriber::fmt().with_writer(std::io::stderr).json().flatten_event(true).init();
        let text = std::fs::read_to_string("wachta.yaml").unwrap();
        let (config, _) = wachta::app::config::read("wachta.yaml", &text);
        let app = wachta::app::App::start(wachta::app::Setup {
            config: config.unwrap(),
            config_file: Some("wachta.yaml".into()),
            library: Arc::new(wachta::app::scenario_source::DiskSource::new(".")),
            lookup: None,
            store: Arc::new(DyingFile { writes: Arc::default(), nth: nth.parse().unwrap() }),
            folder: "state".into(),
            executable: env!("CARGO_BIN_EXE_wachta").into(),
            listener: None,
        })
        .await
        .unwrap();
        tracing::info!(address = %app.address(), "agent started");
        std::future::pending::<()>().await;
    });
}

/// Opens a store whose n-th write is its process's last deed.
struct DyingFile {
    writes: Arc<AtomicU64>,
    nth: u64,
}

#[async_trait]
impl Opener for DyingFile {
    async fn open(&self) -> Kept<Arc<dyn Database>> {
        let store = SqliteFile::new("sqlite:wachta.db", true).open().await?;
        Ok(Arc::new(Dying { store, writes: Arc::clone(&self.writes), nth: self.nth }))
    }
    async fn open_to_read(&self) -> Kept<Arc<dyn Database>> {
        Err(StoreError::unavailable("it can always be written here"))
    }
    async fn set_aside(&self) -> Kept<String> {
        Err(StoreError::unavailable("nothing is damaged here"))
    }
    async fn salvage(&self, _: &str) -> Kept<Vec<String>> {
        Ok(Vec::new())
    }
}

struct Dying {
    store: Arc<dyn Database>,
    writes: Arc<AtomicU64>,
    nth: u64,
}

#[async_trait]
impl Positions for Dying {
    async fn numbered(&self, from: u64, to: u64, limit: u32) -> Kept<Numbered> {
        self.store.numbered(from, to, limit).await
    }
    async fn positions(&self) -> Kept<BTreeMap<String, u64>> {
        self.store.positions().await
    }
    async fn last_seq(&self) -> Kept<u64> {
        self.store.last_seq().await
    }
    async fn set_positions(&self, positions: BTreeMap<String, Option<u64>>) -> Kept<()> {
        let done = self.store.set_positions(positions).await;
        self.wrote();
        done
    }
}

#[async_trait]
impl Database for Dying {
    async fn working_set(&self) -> Kept<WorkingSet> {
        self.store.working_set().await
    }
    async fn check(&self) -> Kept<()> {
        self.store.check().await
    }
    async fn last_commit(&self) -> Kept<i64> {
        self.store.last_commit().await
    }
    fn is_in_place(&self) -> bool {
        self.store.is_in_place()
    }
    async fn close(&self) {
        self.store.close().await;
    }
}

impl Dying {
    fn wrote(&self) {
        if self.writes.fetch_add(1, Ordering::SeqCst) + 1 == self.nth {
            let _ = kill(Pid::this(), Signal::SIGKILL);
        }
    }
}

type Kept<T> = Result<T, StoreError>;

#[async_trait]
impl Runs for Dying {
    async fn commit(&self, batch: &Batch) -> Kept<()> {
        let done = self.store.commit(batch).await;
        self.wrote();
        done
    }
    async fn open_planned_runs(&self, location: &str) -> Kept<Vec<PlannedRun>> {
        self.store.open_planned_runs(location).await
    }
    async fn prune(&self, before: DateTime<Utc>) -> Kept<Vec<RunId>> {
        self.store.prune(before).await
    }
}

#[async_trait]
impl History for Dying {
    async fn latest(&self) -> Kept<Vec<Outcome>> {
        self.store.latest().await
    }
    async fn latest_conclusive(&self) -> Kept<Vec<Outcome>> {
        self.store.latest_conclusive().await
    }
    async fn recent(&self, scenario: Option<&str>, limit: u32) -> Kept<Vec<Outcome>> {
        self.store.recent(scenario, limit).await
    }
    async fn run_summaries(&self, limit: u32) -> Kept<Vec<RunSummary>> {
        self.store.run_summaries(limit).await
    }
    async fn durations(&self, asked: &DurationQuery<'_>) -> Kept<Vec<(DateTime<Utc>, Duration)>> {
        self.store.durations(asked).await
    }
    async fn slot_counts(&self, asked: &SlotCountQuery<'_>) -> Kept<Vec<SlotCount>> {
        self.store.slot_counts(asked).await
    }
    async fn run(&self, run: RunId) -> Kept<Option<Outcome>> {
        self.store.run(run).await
    }
}

#[async_trait]
impl Incidents for Dying {
    async fn alert_states(&self) -> Kept<Vec<(Subject, Value)>> {
        self.store.alert_states().await
    }
    async fn alerting_entries(&self) -> Kept<Vec<(String, Value)>> {
        self.store.alerting_entries().await
    }
    async fn incidents(&self, limit: u32) -> Kept<Vec<Incident>> {
        self.store.incidents(limit).await
    }
    async fn incident(&self, key: &str) -> Kept<Option<Incident>> {
        self.store.incident(key).await
    }
    async fn decisions(&self, subject: &Subject, limit: u32) -> Kept<Vec<DecisionRecord>> {
        self.store.decisions(subject, limit).await
    }
}

#[async_trait]
impl CheckIns for Dying {
    async fn check_in(&self, name: &str, beat: CheckIn, at: DateTime<Utc>) -> Kept<()> {
        let done = self.store.check_in(name, beat, at).await;
        self.wrote();
        done
    }
    async fn check_in_state(&self, name: &str) -> Kept<Option<CheckInState>> {
        self.store.check_in_state(name).await
    }
}

#[async_trait]
impl Outbox for Dying {
    async fn queued(&self, receiver: &str, limit: u32) -> Kept<Vec<Notification>> {
        self.store.queued(receiver, limit).await
    }
    async fn receivers_with_queued(&self) -> Kept<Vec<String>> {
        self.store.receivers_with_queued().await
    }
    async fn attempt_started(&self, notification: &str) -> Kept<()> {
        let done = self.store.attempt_started(notification).await;
        self.wrote();
        done
    }
    async fn attempt_finished(&self, notification: &str, delivery: &DeliveryStatus, at: DateTime<Utc>) -> Kept<()> {
        let done = self.store.attempt_finished(notification, delivery, at).await;
        self.wrote();
        done
    }
    async fn notifications(&self, incident: &str) -> Kept<Vec<NotificationRecord>> {
        self.store.notifications(incident).await
    }
    async fn receiver_state(&self, receiver: &str, key: &str) -> Kept<Option<Value>> {
        self.store.receiver_state(receiver, key).await
    }
    async fn receiver_states(&self, receiver: &str) -> Kept<Vec<(String, Value)>> {
        self.store.receiver_states(receiver).await
    }
    async fn set_receiver_state(
        &self,
        receiver: &str,
        key: &str,
        receiver_state: Option<&Value>,
        at: DateTime<Utc>,
    ) -> Kept<()> {
        let done = self.store.set_receiver_state(receiver, key, receiver_state, at).await;
        self.wrote();
        done
    }
}
