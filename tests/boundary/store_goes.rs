//! The store goes, in every way and over and over, while an agent watches a changing world: the watch stays. Receivers
//! know the truth in the end, what ran while the store was away is written when it is back, and no run waits for it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use serde_json::Value;
use sqlx::Row as _;
use tokio_util::sync::CancellationToken;
use wachta::demo::Demo;

use crate::deaths::random;
use crate::faults::{Keeper, serve};
use crate::storm::{listen, open, word};
use crate::support::agent::{Agent, sample};
use crate::support::receiver::Receiver;
use crate::support::{Folder, until};

/// Longer than flapping is quiet, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(240);
/// Longer than the five minutes after which the agent's own incident ends, when runs were unknown.
const PATIENCE_FOR_AGENT: Duration = Duration::from_secs(420);
/// What the store's disk holds.
const DISK_MIB: usize = 512;
/// How many targets break with each round, and for how many rounds they stay broken.
const BREAK: usize = 3;
const BROKEN: usize = 3;
/// No run may start later than this after it was due, in seconds; a bound of a bucket.
const MAX_LAG: &str = "0.1";
/// The size of SQLite's pages, in bytes.
const PAGE: usize = 4096;

/// Targets of which some are broken.
#[derive(Clone, Default)]
struct Targets(Arc<Mutex<VecDeque<u64>>>);

async fn answer(State(targets): State<Targets>, request: Request) -> StatusCode {
    let path = request.uri().path().trim_start_matches('/').parse::<u64>().unwrap_or_default();
    let broken = targets.0.lock().unwrap().contains(&path);
    if broken { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK }
}

impl Targets {
    /// Breaks some and mends those that have been broken for a while.
    fn change(&self, seed: &mut u64, of: u64) {
        let broken = &mut *self.0.lock().unwrap();
        for _ in 0..BREAK {
            let target = random(seed, of);
            if !broken.contains(&target) {
                broken.push_back(target);
            }
        }
        while broken.len() > BREAK * BROKEN {
            broken.pop_front();
        }
    }

    fn broken(&self) -> BTreeSet<String> {
        self.0.lock().unwrap().iter().map(|n| name(*n)).collect()
    }
}

fn name(target: u64) -> String {
    format!("t{target:03}")
}

type Notifications = Arc<Mutex<Vec<Value>>>;

async fn hear(State(notifications): State<Notifications>, Json(notification): Json<Value>) -> StatusCode {
    notifications.lock().unwrap().push(notification);
    StatusCode::OK
}

/// A disk of its own for the store, so that it can be filled; gone with the test.
struct DiskSource(PathBuf);

impl DiskSource {
    /// Mounts one; none where that is not allowed.
    fn mount(at: PathBuf) -> Option<Self> {
        std::fs::create_dir_all(&at).unwrap();
        let size = format!("size={DISK_MIB}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "wachta-test"]).arg(&at).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(at))
    }

    /// Fills it to the last byte.
    fn fill(&self) {
        let mut filler = File::create(self.filler()).unwrap();
        for size in [1 << 20, PAGE, 1] {
            while filler.write(&vec![0; size]).is_ok_and(|written| written > 0) {}
        }
    }

    fn clear(&self) {
        let _ = std::fs::remove_file(self.filler());
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    fn remount(&self, how: &str) {
        let done = Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(&self.0).status().unwrap();
        assert!(done.success(), "{how}");
    }
}

impl Drop for DiskSource {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// How the store goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Full,
    Locked,
    Deleted,
    /// Any one page of the file: it may be found at once, late or never.
    Damaged,
    Killed,
}

const FAULTS: [Fault; 5] = [Fault::Full, Fault::Locked, Fault::Deleted, Fault::Damaged, Fault::Killed];

/// What reads all that alerting goes on from.
const STATE: [&str; 5] = [
    "SELECT count(*), total(length(body)) FROM alert_states",
    "SELECT count(*), total(length(body)) FROM alerting_entries",
    "SELECT count(*), total(length(body)) FROM incidents",
    "SELECT count(*), total(length(body)) FROM notifications WHERE state = 'queued'",
    "SELECT count(*) FROM store",
];

/// The log's line that says that the store is away, and the one that says that it is back.
const AWAY: &str = "the store is unavailable";
const BACK: &str = "the store is available again";
const REPLACED: &str = "deleted, moved or replaced";
const ASIDE: &str = "set aside, and a new one is made";

fn count(keeper: &Keeper<'_>, text: &str) -> usize {
    keeper.agent.log().iter().filter(|line| line.contains(text)).count()
}

fn message(line: &Value) -> &str {
    line["message"].as_str().unwrap_or_default()
}

/// The runs that ended while the store was away for the last time, when it has come back for good.
fn ended_while_away(log: &[Value]) -> Vec<String> {
    let last = |wanted: &[&str]| log.iter().rposition(|line| wanted.iter().any(|text| message(line).contains(text)));
    let (Some(away), Some(back)) = (last(&[AWAY, REPLACED]), last(&[BACK])) else { return Vec::new() };
    let runs = log.get(away..back).unwrap_or_default().iter().filter(|line| message(line) == "run ended");
    runs.filter_map(|line| Some(line["run"].as_str()?.to_owned())).collect()
}

struct World {
    folder: PathBuf,
    disk: Option<DiskSource>,
    targets: Targets,
    notifications: Notifications,
    seed: u64,
    scenarios: u64,
    /// Runs that started, and those that were late, in the lives of agents that have ended.
    started: f64,
    late: f64,
    /// What agents said, but for their runs.
    log: Vec<String>,
    seen: BTreeMap<Fault, usize>,
    /// Outcomes of gaps that were found in the store, and gaps that another fault came upon before they were looked for.
    written: usize,
    overtaken: usize,
}

impl World {
    fn file(&self) -> PathBuf {
        self.folder.join("disk/wachta.db")
    }

    fn url(&self) -> String {
        format!("sqlite:{}", self.file().display())
    }

    fn with_ending(&self, end: &str) -> PathBuf {
        PathBuf::from(format!("{}{end}", self.file().display()))
    }

    /// Waits until the store takes what is written. It holds then all that alerting goes on from.
    async fn well(&self, keeper: &mut Keeper<'_>) {
        until("the store is well", PATIENCE, async || {
            keeper.look().await;
            let available = keeper.agent.sample("wachta_store_available", &[]).await?;
            (available > 0.5).then_some(())
        })
        .await;
    }

    /// Whether the file begins as a database does.
    fn has_header(&self) -> bool {
        std::fs::read(self.file()).is_ok_and(|bytes| bytes.starts_with(b"SQLite format 3\0"))
    }

    async fn away(&self, keeper: &Keeper<'_>) {
        until("the store is unavailable", PATIENCE, async || {
            let available = keeper.agent.sample("wachta_store_available", &[]).await;
            available.is_some_and(|available| available < 0.5).then_some(())
        })
        .await;
    }

    /// Adds up the lag of an agent that is about to end.
    async fn count_lag(&mut self, keeper: &Keeper<'_>) {
        let scrape = keeper.agent.get("/metrics").await;
        let all = sample(&scrape, "wachta_schedule_lag_seconds_count", &[]).unwrap_or_default();
        let in_time = sample(&scrape, "wachta_schedule_lag_seconds_bucket", &[("le", MAX_LAG)]).unwrap_or_default();
        self.started += all;
        self.late += all - in_time;
    }

    /// Keeps what an agent that has ended said, for the case that something is wrong in the end.
    fn keep_log(&mut self, keeper: &Keeper<'_>) {
        self.log.extend(keeper.agent.log().into_iter().filter(|line| !line.contains("run ended")));
    }

    /// A moment: where in the agent's work it falls is what this is about.
    async fn moment(&mut self, limit: u64) {
        tokio::time::sleep(Duration::from_millis(random(&mut self.seed, limit))).await;
    }

    /// Lets the store go and come back.
    async fn strike(&mut self, fault: Fault, keeper: &mut Keeper<'_>) {
        match fault {
            Fault::Full => {
                self.disk.as_ref().unwrap().fill();
                self.away(keeper).await;
                self.moment(3000).await;
                self.disk.as_ref().unwrap().clear();
            }
            Fault::Locked => {
                let other = sqlx::SqlitePool::connect(&self.url()).await.unwrap();
                let mut lock = other.acquire().await.unwrap();
                until("the lock is had", PATIENCE, async || {
                    sqlx::raw_sql("BEGIN EXCLUSIVE").execute(&mut *lock).await.ok()
                })
                .await;
                self.away(keeper).await;
                self.moment(3000).await;
                sqlx::raw_sql("ROLLBACK").execute(&mut *lock).await.unwrap();
                drop(lock);
                other.close().await;
            }
            Fault::Deleted => self.delete(keeper).await,
            Fault::Damaged => {
                let found = count(keeper, ASIDE);
                self.damage();
                self.moment(3000).await;
                // What alerting goes on from is not left damaged. Pages of history may be: half of the time with the next
                // fault on top.
                until("the damage is found", PATIENCE, async || {
                    (count(keeper, ASIDE) > found || self.has_header() && self.reads(&STATE).await).then_some(())
                })
                .await;
                if random(&mut self.seed, 2) == 0 && !self.reads(&["PRAGMA quick_check"]).await {
                    self.delete(keeper).await;
                }
            }
            Fault::Killed => {
                self.count_lag(keeper).await;
                keeper.agent.kill();
                self.keep_log(keeper);
            }
        }
    }

    async fn delete(&self, keeper: &Keeper<'_>) {
        let found = count(keeper, REPLACED);
        for end in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(self.with_ending(end));
        }
        until("the deletion is noticed", PATIENCE, async || (count(keeper, REPLACED) > found).then_some(())).await;
    }

    /// Writes other bytes over a page of the file.
    fn damage(&mut self) {
        let file = File::options().read(true).write(true).open(self.file()).unwrap();
        let (garbage, size) = ([7; PAGE], PAGE as u64);
        let page = random(&mut self.seed, file.metadata().unwrap().len() / size);
        file.write_all_at(&garbage, page * size).unwrap();
    }

    /// Whether these queries read the store without finding damage.
    async fn reads(&self, queries: &[&'static str]) -> bool {
        let Ok(store) = sqlx::SqlitePool::connect(&self.url()).await else { return false };
        let mut fine = true;
        for query in queries {
            let rows = sqlx::query(*query).fetch_all(&store).await;
            let said = |row: &sqlx::sqlite::SqliteRow| row.try_get::<String, _>(0).is_ok_and(|said| said != "ok");
            fine &= rows.is_ok_and(|rows| !rows.iter().any(said));
        }
        store.close().await;
        fine
    }

    async fn round(&mut self, fault: Fault, keeper: &mut Keeper<'_>) {
        self.targets.change(&mut self.seed, self.scenarios);
        let from = keeper.agent.log().len();
        self.strike(fault, keeper).await;
        self.well(keeper).await;
        *self.seen.entry(fault).or_default() += 1;
        if fault != Fault::Killed {
            self.look_for_the_gap(keeper, from).await;
        }
        for entry in std::fs::read_dir(self.file().parent().unwrap()).unwrap().flatten() {
            if entry.file_name().to_string_lossy().contains("damaged") {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    /// What ended while the store was away is in the store.
    async fn look_for_the_gap(&mut self, keeper: &Keeper<'_>, from: usize) {
        let lines = || -> Vec<Value> {
            keeper.agent.log()[from..].iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
        };
        let runs = ended_while_away(&lines());
        if runs.is_empty() {
            return;
        }
        let changes = |log: &[Value]| {
            log.iter().filter(|line| [AWAY, REPLACED, ASIDE].iter().any(|text| message(line).contains(text))).count()
        };
        let before = changes(&lines());
        let missing = until("what ended while the store was away is written", PATIENCE, async || {
            let missing = match self.missing(&runs).await {
                Ok(missing) => missing,
                // A page that was damaged earlier.
                Err(error) if error.to_string().contains("malformed") => return Some(None),
                Err(_) => return None,
            };
            // A page that was damaged earlier may be found just now, and the file be set aside once more.
            (missing.is_empty() || changes(&lines()) > before).then_some(Some(missing))
        })
        .await;
        match missing {
            Some(missing) if missing.is_empty() => self.written += runs.len(),
            _ => self.overtaken += 1,
        }
    }

    /// Which of these runs have no outcome.
    async fn missing(&self, runs: &[String]) -> sqlx::Result<Vec<String>> {
        let store = sqlx::SqlitePool::connect(&self.url()).await?;
        let known = "SELECT count(*) FROM outcomes WHERE run = ?";
        let mut missing = Vec::new();
        for run in runs {
            let count: i64 = sqlx::query_scalar(known).bind(run.clone()).fetch_one(&store).await?;
            if count == 0 {
                missing.push(run.clone());
            }
        }
        store.close().await;
        Ok(missing)
    }

    /// Waits until the receiver's view is the truth.
    async fn everybody_knows(&mut self, keeper: &mut Keeper<'_>) {
        let begun = Instant::now();
        loop {
            keeper.look().await;
            let notifications = self.notifications.lock().unwrap().clone();
            let keys = open(&notifications);
            let subject = |key: &String| {
                let notification = notifications.iter().find(|notification| word(notification, "dedup_key") == key);
                notification.map(|notification| word(notification, "subject").to_owned()).unwrap_or_default()
            };
            let (known, broken) = (keys.iter().map(subject).collect::<BTreeSet<_>>(), self.targets.broken());
            if known == broken {
                return;
            }
            if begun.elapsed() > PATIENCE_FOR_AGENT {
                let differ: Vec<&String> = known.symmetric_difference(&broken).collect();
                self.keep_log(keeper);
                self.log.iter().for_each(|line| eprintln!("{line}"));
                for subject in &differ {
                    let about =
                        notifications.iter().filter(|notification| word(notification, "subject") == subject.as_str());
                    about.for_each(|notification| eprintln!("{notification}"));
                    eprintln!("{}", keeper.agent.get(&format!("/api/v1/incidents/{subject}/why")).await);
                }
                eprintln!("{}", keeper.agent.get("/api/v1/incidents").await);
                panic!("the receiver believes that {known:?} are broken, and {broken:?} are");
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

fn write_files(folder: &Folder, url: &str, hook: &str, scenarios: u64) {
    let checks: String = (0..scenarios)
        .map(|n| {
            format!(
                "  {}: {{http: \"{url}{n}\", status: 200, every: 1s, timeout: 900ms, \
                 alert: {{after: 1 of 1, recover_after: 1}}}}\n",
                name(n)
            )
        })
        .collect();
    folder.write("scenarios/all.yaml", &format!("checks:\n{checks}"));
    folder.write(
        "wachta.yaml",
        &format!(
            "location: here\nscenarios: [scenarios/]\nstore: sqlite:disk/wachta.db\nweb: {{listen: \"127.0.0.1:0\", \
             external_url: \"http://127.0.0.1:1/\"}}\nalerting:\n  receivers: {{hook: {{webhook: {{url: \"{hook}\"}}}}}}\n  \
             routes: [{{to: [hook], group_by: [scenario], group_wait: 0s}}]\n"
        ),
    );
}

/// The soak has 200 rounds (`WACHTA_SOAK_STORE`) of 200 runs a second, at moments that `WACHTA_SEED` gives; the short form
/// one round of each fault.
#[tokio::test(flavor = "multi_thread")]
async fn the_watch_stays_when_the_store_goes() {
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    let long = std::env::var("WACHTA_SOAK").is_ok();
    let rounds = number("WACHTA_SOAK_STORE").filter(|_| long).unwrap_or(if long { 200 } else { 5 });
    let scenarios = if long { 200 } else { 20 };

    let stop = CancellationToken::new();
    let shop = Demo::open(0, 0, &stop).await.unwrap();
    let targets = Targets::default();
    let url = listen(Router::new().fallback(answer).with_state(targets.clone())).await;
    let notifications = Notifications::default();
    let hook = listen(Router::new().route("/", post(hear)).with_state(Arc::clone(&notifications))).await;
    let folder = Folder::new("store-goes");
    write_files(&folder, &url, &hook, scenarios);
    let disk = DiskSource::mount(folder.path().join("disk"));
    let can_fill = disk.is_some();
    if !can_fill {
        eprintln!("NOT TESTED: a full disk, since no file system can be mounted here");
    }
    let mut world = World {
        folder: folder.path().to_path_buf(),
        disk,
        targets,
        notifications,
        seed: number("WACHTA_SEED").unwrap_or(0x5eed),
        scenarios,
        started: 0.0,
        late: 0.0,
        log: Vec::new(),
        seen: BTreeMap::new(),
        written: 0,
        overtaken: 0,
    };
    let nobody = Receiver::listen().await;
    let mut keeper = Keeper::start(&folder, &shop, &nobody, serve).await;
    let faults: Vec<Fault> = FAULTS.into_iter().filter(|fault| can_fill || *fault != Fault::Full).collect();
    let mut order: Vec<Fault> = Vec::new();
    for _ in 0..rounds {
        if order.is_empty() {
            order.clone_from(&faults);
        }
        let next = usize::try_from(random(&mut world.seed, order.len() as u64)).unwrap();
        let fault = order.swap_remove(next);
        world.round(fault, &mut keeper).await;
    }
    world.everybody_knows(&mut keeper).await;
    world.count_lag(&keeper).await;
    eprintln!(
        "{rounds} rounds: {:?}; {} outcomes of gaps found ({} gaps overtaken); {} of {} runs started late; {} notifications",
        world.seen,
        world.written,
        world.overtaken,
        world.late,
        world.started,
        world.notifications.lock().unwrap().len()
    );
    assert!(world.written > 0, "no outcome of a gap was looked for");
    if long {
        assert!(world.late < 1.0, "{} of {} runs started more than {MAX_LAG} s late", world.late, world.started);
    }
    assert_eq!(keeper.agent.stop().await, Some(0));
    stop.cancel();
}

/// How the store cannot be written when an agent starts.
#[derive(Debug, Clone, Copy)]
enum Unwritable {
    Full,
    ReadOnly,
    Locked,
}

/// An incident that was open before the start ends all the same, and what ran is written when that can be done.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_starts_with_a_store_that_cannot_be_written() {
    let stop = CancellationToken::new();
    let shop = Demo::open(0, 0, &stop).await.unwrap();
    for how in [Unwritable::Full, Unwritable::ReadOnly, Unwritable::Locked] {
        for killed in [true, false] {
            let targets = Targets::default();
            let url = listen(Router::new().fallback(answer).with_state(targets.clone())).await;
            let notifications = Notifications::default();
            let hook = listen(Router::new().route("/", post(hear)).with_state(Arc::clone(&notifications))).await;
            let folder = Folder::new("starts-without");
            write_files(&folder, &url, &hook, 2);
            let Some(disk) = DiskSource::mount(folder.path().join("disk")) else {
                eprintln!("NOT TESTED: a start with a full or read-only disk, since none can be mounted here");
                return;
            };
            let file = format!("sqlite:{}", folder.path().join("disk/wachta.db").display());
            let events = |wanted: &str| {
                let notifications = notifications.lock().unwrap();
                let fits = |notification: &&Value| {
                    word(notification, "event") == wanted && word(notification, "subject") == name(0)
                };
                notifications
                    .iter()
                    .filter(fits)
                    .map(|notification| word(notification, "dedup_key").to_owned())
                    .collect::<Vec<_>>()
            };
            let told = async |event: &str| {
                let what = format!("{how:?}, killed: {killed}: {event} is notified");
                until(&what, PATIENCE, async || events(event).pop()).await
            };

            targets.0.lock().unwrap().push_back(0);
            let mut agent = Agent::start(serve(), folder.path(), &shop).await;
            let opened = told("opened").await;
            until("the notification is written as sent", PATIENCE, async || {
                let why = agent.get("/api/v1/incidents").await;
                let owed = agent.sample("wachta_store_waiting_outcomes", &[]).await;
                (!why.is_empty() && owed.is_some_and(|owed| owed < 0.5)).then_some(())
            })
            .await;
            if killed {
                agent.kill();
            } else {
                assert_eq!(agent.stop().await, Some(0));
            }

            let mut lock = None;
            match how {
                Unwritable::Full => disk.fill(),
                Unwritable::ReadOnly => disk.remount("ro"),
                Unwritable::Locked => {
                    let other = sqlx::SqlitePool::connect(&file).await.unwrap();
                    let mut connection = other.acquire().await.unwrap();
                    sqlx::raw_sql("BEGIN EXCLUSIVE").execute(&mut *connection).await.unwrap();
                    lock = Some((other, connection));
                }
            }
            let agent = Agent::start(serve(), folder.path(), &shop).await;
            let logged = |text: &str| agent.log().iter().any(|line| line.contains(text));
            until("the store is unavailable", PATIENCE, async || logged(AWAY).then_some(())).await;
            targets.0.lock().unwrap().clear();
            assert_eq!(told("resolved").await, opened, "{how:?} {killed}: the incident of before");

            match how {
                Unwritable::Full => disk.clear(),
                Unwritable::ReadOnly => disk.remount("rw"),
                Unwritable::Locked => {
                    let (other, mut connection) = lock.take().unwrap();
                    sqlx::raw_sql("ROLLBACK").execute(&mut *connection).await.unwrap();
                    drop(connection);
                    other.close().await;
                }
            }
            until("the store is back", PATIENCE, async || logged(BACK).then_some(())).await;
            let log: Vec<Value> = agent.log().iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
            assert_eq!(agent.stop().await, Some(0));
            let store = sqlx::SqlitePool::connect(&file).await.unwrap();
            let runs = ended_while_away(&log);
            assert!(!runs.is_empty(), "{how:?} {killed}");
            for run in runs {
                let known = "SELECT count(*) FROM outcomes WHERE run = ?";
                let count: i64 = sqlx::query_scalar(known).bind(run.clone()).fetch_one(&store).await.unwrap();
                assert_eq!(count, 1, "{how:?} {killed}: {run}");
            }
            store.close().await;
        }
    }
    stop.cancel();
}
