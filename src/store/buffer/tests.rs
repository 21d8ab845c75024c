//! The buffer with a store that fails in every way: no accepted data is lost, and nothing waits for the store.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use prometheus::{IntCounter, Registry};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::incident::{Event, Incident, Notification, Subject};
use crate::outcome::{Outcome, RunId, Verdict};
use crate::scenario::ScenarioKind;
use crate::store::{
    DeliveryStatus, History as _, Incidents as _, Outbox as _, Positions as _, Runs as _, Sqlite, SqliteFile,
};

/// Folder of a store, deleted at the end of the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("wachta-buffer-{}", RunId::new()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn file(&self) -> PathBuf {
        self.0.join("w.db")
    }

    fn url(&self) -> String {
        format!("sqlite:{}", self.file().display())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Bench {
    buffer: WriteBuffer,
    stop: CancellationToken,
    writing: tokio::task::JoinHandle<()>,
    metrics: Metrics,
}

impl Bench {
    async fn open(opener: impl Opener + 'static) -> Self {
        let metrics = Metrics::new(&Registry::new(), IntCounter::new("dropped", "dropped").unwrap()).unwrap();
        let (buffer, writer) = WriteBuffer::open(Arc::new(opener), metrics.clone()).await.unwrap();
        let stop = CancellationToken::new();
        let writing = tokio::spawn(writer.run(stop.clone()));
        Self { buffer, stop, writing, metrics }
    }

    async fn away(&self) {
        self.buffer.health().wait_for(|health| health.away.is_some()).await.unwrap();
    }

    async fn back(&self) {
        let back = async {
            self.buffer.health().wait_for(|health| health.away.is_none()).await.unwrap();
            self.buffer.flushed().await;
        };
        tokio::time::timeout(Duration::from_secs(60), back).await.expect("the store comes back");
    }

    async fn close(self) {
        self.buffer.flushed().await;
        self.stop.cancel();
        self.writing.await.unwrap();
    }
}

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
}

pub(super) fn outcome(second: i64) -> Arc<Outcome> {
    Arc::new(Outcome {
        run: RunId::new(),
        seq: 0,
        streak: None,
        scenario: "shop".into(),
        name: "Shop".into(),
        kind: ScenarioKind::Tcp,
        location: "here".into(),
        due_at: at(second),
        started_at: at(second),
        ended_at: at(second),
        duration: Duration::ZERO,
        verdict: Verdict::Failed,
        reason: None,
        message: None,
        failed_step: None,
        steps: Vec::new(),
        evidence: Vec::new(),
        browser: None,
        differences: Vec::new(),
    })
}

/// Returns the batch of a bad run that opens an incident.
fn batch(second: i64) -> Batch {
    let outcome = outcome(second);
    let incident = Incident::opened(Subject::from("shop"), second.unsigned_abs(), &outcome);
    Batch {
        alert_states: vec![(Subject::from("shop"), serde_json::json!({"second": second}))],
        alerting_entries: vec![(format!("group/{second}"), Some(serde_json::json!({})))],
        notifications: vec![Notification::new(&incident, Event::Opened, "a", at(second))],
        incidents: vec![incident],
        outcomes: vec![outcome],
        ..Batch::default()
    }
}

/// Returns the numbers of outcomes, notifications and incidents visible to another connection, and the state of
/// alerting.
async fn stored(folder: &Folder) -> (usize, usize, usize, Option<serde_json::Value>) {
    let store = Sqlite::open(&folder.url()).await.unwrap();
    let outcomes = store.recent(None, u32::MAX).await.unwrap().len();
    let incidents = store.incidents(u32::MAX).await.unwrap();
    let mut notifications = 0;
    for incident in &incidents {
        notifications += store.notifications(&incident.dedup_key()).await.unwrap().len();
    }
    let watch = store.alert_states().await.unwrap().pop().map(|(_, body)| body["second"].clone());
    store.close().await;
    (outcomes, notifications, incidents.len(), watch)
}

#[tokio::test]
async fn a_locked_store_is_written_when_the_lock_is_gone() {
    let folder = Folder::new();
    let bench = Bench::open(SqliteFile::new(&folder.url(), true)).await;
    bench.buffer.accept(batch(1)).await;
    let other = sqlx::SqlitePool::connect(&folder.url()).await.unwrap();
    let mut lock = other.acquire().await.unwrap();
    sqlx::raw_sql("BEGIN EXCLUSIVE").execute(&mut *lock).await.unwrap();
    for second in 2..=20 {
        bench.buffer.accept(batch(second)).await;
    }
    bench.away().await;
    // Data that is not yet written is visible and delivered.
    assert_eq!(bench.buffer.queued("a", 100).await.unwrap().len(), 20);
    assert_eq!(bench.buffer.recent(Some("shop"), 100).await.unwrap().len(), 20);
    assert_eq!(bench.buffer.incidents(100).await.unwrap().len(), 20);
    let first = bench.buffer.queued("a", 1).await.unwrap().remove(0);
    bench.buffer.attempt_started(&first.id).await.unwrap();
    bench.buffer.attempt_finished(&first.id, &DeliveryStatus::Delivered, at(30)).await.unwrap();
    assert_eq!(bench.buffer.queued("a", 100).await.unwrap().len(), 19);
    sqlx::raw_sql("ROLLBACK").execute(&mut *lock).await.unwrap();
    drop(lock);
    other.close().await;
    bench.back().await;
    bench.close().await;
    assert_eq!(stored(&folder).await, (20, 20, 20, Some(20.into())));
    let bench = Bench::open(SqliteFile::new(&folder.url(), true)).await;
    assert_eq!(bench.buffer.queued("a", 100).await.unwrap().len(), 19, "the delivery was written as well");
    bench.close().await;
}

#[tokio::test]
async fn a_deleted_or_replaced_store_is_given_all_that_is_known() {
    for replaced in [false, true] {
        let folder = Folder::new();
        let bench = Bench::open(SqliteFile::new(&folder.url(), true)).await;
        let identity = bench.buffer.identity();
        bench.buffer.accept(batch(1)).await;
        bench.buffer.set_receiver_state("a", "shop:1", Some(&"thread".into()), at(1)).await.unwrap();
        for end in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{end}", folder.file().display()));
        }
        if replaced {
            std::fs::write(folder.file(), "").unwrap();
        }
        let mut health = bench.buffer.health();
        bench.buffer.accept(batch(2)).await;
        health.wait_for(|health| health.replaced == 1).await.unwrap();
        bench.buffer.accept(batch(3)).await;
        // A part of the state is worse than none, because an agent killed now would continue from it.
        bench.buffer.handed_over(0);
        let (written, _, _, watch) = stored(&folder).await;
        // If reading took longer than the writer waits for alerting, the result is meaningless.
        let held = bench.buffer.shared.state().held;
        if held.is_some_and(|(_, until)| Instant::now() < until) {
            assert_eq!((written, watch), (0, None));
            assert!(health.borrow().away.is_some());
        }
        bench.buffer.handed_over(1);
        bench.back().await;
        bench.close().await;
        let (outcomes, notifications, _, watch) = stored(&folder).await;
        // Data already verified by another connection was in the deleted file.
        assert!(outcomes >= 2 && watch == Some(3.into()), "{outcomes} {watch:?}");
        assert!(notifications >= 2, "{notifications}");
        let bench = Bench::open(SqliteFile::new(&folder.url(), true)).await;
        assert_eq!(bench.buffer.queued("a", 100).await.unwrap().len(), 3, "all that is queued");
        assert_eq!(bench.buffer.receiver_state("a", "shop:1").await.unwrap(), Some("thread".into()));
        assert_eq!(bench.buffer.identity(), identity);
        bench.close().await;
    }
}

#[tokio::test]
async fn a_damaged_store_is_set_aside() {
    let folder = Folder::new();
    let bench = Bench::open(SqliteFile::new(&folder.url(), true)).await;
    bench.buffer.accept(batch(1)).await;
    bench.close().await;
    let mut bytes = std::fs::read(folder.file()).unwrap();
    bytes[..4096].fill(7);
    std::fs::write(folder.file(), bytes).unwrap();
    let bench = Bench::open(SqliteFile::new(&folder.url(), true)).await;
    bench.buffer.accept(batch(2)).await;
    bench.close().await;
    assert_eq!(stored(&folder).await, (1, 1, 1, Some(2.into())));
    let aside = std::fs::read_dir(&folder.0).unwrap().filter_map(std::result::Result::ok);
    let aside: Vec<_> = aside.filter(|entry| entry.file_name().to_string_lossy().contains("damaged")).collect();
    assert_eq!(aside.len(), 1);
}

#[tokio::test]
async fn a_store_that_is_damaged_under_the_agent_is_given_all_that_is_known() {
    use std::os::unix::fs::FileExt as _;

    let folder = Folder::new();
    let bench = Bench::open(SqliteFile::new(&folder.url(), true)).await;
    let identity = bench.buffer.identity();
    bench.buffer.accept(batch(1)).await;
    let other = sqlx::SqlitePool::connect(&folder.url()).await.unwrap();
    let is_busy = async || {
        let row = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&other).await.unwrap();
        sqlx::Row::get::<i64, _>(&row, 0) != 0
    };
    while is_busy().await {}
    other.close().await;
    // The first page, of which the log no longer has a copy, so that the file cannot be reopened.
    std::fs::File::options().write(true).open(folder.file()).unwrap().write_all_at(&[7; 4096], 0).unwrap();
    let mut health = bench.buffer.health();
    tokio::time::timeout(Duration::from_secs(60), health.wait_for(|health| health.replaced == 1))
        .await
        .unwrap()
        .unwrap();
    bench.buffer.accept(batch(2)).await;
    bench.buffer.handed_over(1);
    bench.back().await;
    bench.close().await;
    let bench = Bench::open(SqliteFile::new(&folder.url(), true)).await;
    assert_eq!(bench.buffer.identity(), identity);
    assert_eq!(bench.buffer.queued("a", 100).await.unwrap().len(), 2, "all that is queued");
    bench.close().await;
}

#[tokio::test]
async fn what_a_damaged_store_still_holds_is_taken_over() {
    let folder = Folder::new();
    let bench = Bench::open(SqliteFile::new(&folder.url(), true)).await;
    let identity = bench.buffer.identity();
    for second in 1..=300 {
        bench.buffer.accept(batch(second)).await;
    }
    bench.buffer.set_receiver_state("a", "shop:1", Some(&"thread".into()), at(1)).await.unwrap();
    bench.close().await;
    // A page in the middle of the incidents, and the first one of the outcomes.
    let connection = sqlx::SqlitePool::connect(&folder.url()).await.unwrap();
    let page = "SELECT pageno FROM dbstat WHERE name = ?1 AND pagetype = 'leaf' ORDER BY pageno LIMIT 1 OFFSET ?2";
    let mut spoiled = Vec::new();
    for (table, offset) in [("incidents", 3), ("outcomes", 0)] {
        let row = sqlx::query(page).bind(table).bind(offset).fetch_one(&connection).await.unwrap();
        spoiled.push(usize::try_from(sqlx::Row::get::<i64, _>(&row, 0)).unwrap());
    }
    connection.close().await;
    let mut bytes = std::fs::read(folder.file()).unwrap();
    for page in spoiled {
        bytes[(page - 1) * 4096..page * 4096].fill(7);
    }
    std::fs::write(folder.file(), bytes).unwrap();
    let bench = Bench::open(SqliteFile::new(&folder.url(), true)).await;
    assert_eq!(bench.buffer.identity(), identity);
    assert_eq!(bench.buffer.queued("a", 1000).await.unwrap().len(), 300);
    assert_eq!(bench.buffer.receiver_state("a", "shop:1").await.unwrap(), Some("thread".into()));
    assert_eq!(bench.buffer.alert_states().await.unwrap()[0].1["second"], 300);
    let incidents = bench.buffer.incidents(1000).await.unwrap();
    assert!((250..300).contains(&incidents.len()), "all but those of one page: {}", incidents.len());
    let has = |opening| incidents.iter().any(|incident| incident.sequence == opening);
    assert!(has(1) && has(99), "before and after the page, in the order of keys");
    bench.close().await;
}

#[tokio::test]
async fn a_row_that_is_refused_for_ever_is_set_aside_alone() {
    let folder = Folder::new();
    let bench = Bench::open(SqliteFile::new(&folder.url(), true)).await;
    let other = sqlx::SqlitePool::connect(&folder.url()).await.unwrap();
    let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON outcomes WHEN NEW.scenario = 'poison'
                  BEGIN SELECT RAISE(ABORT, 'poison'); END";
    sqlx::raw_sql(refuse).execute(&other).await.unwrap();
    other.close().await;
    let poison = || Arc::new(Outcome { scenario: "poison".into(), ..Outcome::clone(&outcome(0)) });
    let mut mixed = batch(3);
    mixed.outcomes.extend((4..40).map(outcome));
    mixed.outcomes.insert(20, poison());
    mixed.outcomes.push(poison());
    bench.buffer.accept(mixed).await;
    bench.buffer.flushed().await;
    assert_eq!(bench.metrics.refused.get(), 2);
    assert_eq!(bench.buffer.health().borrow().away, None, "the store is well");
    bench.close().await;
    assert_eq!(stored(&folder).await, (37, 1, 1, Some(3.into())));
}

#[tokio::test]
async fn what_another_connection_does_not_see_is_written_again() {
    let folder = Folder::new();
    let bench = Bench::open(SqliteFile::new(&folder.url(), true)).await;
    bench.buffer.accept(batch(1)).await;
    bench.buffer.flushed().await;
    let other = sqlx::SqlitePool::connect(&folder.url()).await.unwrap();
    sqlx::raw_sql("UPDATE store SET last_commit = 0; DELETE FROM outcomes; DELETE FROM notifications")
        .execute(&other)
        .await
        .unwrap();
    other.close().await;
    bench.away().await;
    bench.back().await;
    bench.close().await;
    assert_eq!(stored(&folder).await, (1, 1, 1, Some(1.into())));
}

#[tokio::test]
async fn an_unreadable_row_is_left_out() {
    let folder = Folder::new();
    let bench = Bench::open(SqliteFile::new(&folder.url(), true)).await;
    for second in 1..=3 {
        bench.buffer.accept(batch(second)).await;
    }
    bench.close().await;
    let other = sqlx::SqlitePool::connect(&folder.url()).await.unwrap();
    for spoil in [
        "UPDATE notifications SET body = '{\"id\": 7' WHERE seq = 1",
        "UPDATE notifications SET uncertain = 'x' WHERE seq = 2",
        "UPDATE outcomes SET body = x'00ff' WHERE ended_at = (SELECT min(ended_at) FROM outcomes)",
        "UPDATE incidents SET body = 'null' WHERE id = 'shop:2'",
        "INSERT INTO alert_states (subject, body) VALUES ('other', 'not json')",
        "INSERT INTO alerting_entries (key, body) VALUES ('group/x', '[')",
        "INSERT INTO check_ins (name, started_at, code) VALUES ('job', 'noon', 900)",
        "INSERT INTO receiver_states (receiver, key, kept_at, body) VALUES ('a', 'k', 0, '')",
        "INSERT INTO planned_runs (run, scenario, name, kind, location, due_at) VALUES ('no uuid', 's', 'n', '\"tcp\"', 'here', 0)",
    ] {
        sqlx::raw_sql(sqlx::AssertSqlSafe(spoil)).execute(&other).await.unwrap_or_else(|e| panic!("{spoil}: {e}"));
    }
    other.close().await;
    let bench = Bench::open(SqliteFile::new(&folder.url(), true)).await;
    let buffer = &bench.buffer;
    assert_eq!(buffer.queued("a", 100).await.unwrap().len(), 1);
    assert_eq!(buffer.recent(None, 100).await.unwrap().len(), 2);
    assert_eq!(buffer.incidents(100).await.unwrap().len(), 2);
    assert_eq!(buffer.alert_states().await.unwrap().len(), 1);
    assert_eq!(buffer.alerting_entries().await.unwrap().len(), 3);
    assert_eq!(buffer.open_planned_runs("here").await.unwrap(), []);
    assert_eq!(buffer.latest().await.unwrap().len(), 1);
    bench.close().await;
}

#[test]
fn what_memory_cannot_hold_is_shed_and_counted() {
    let mut backlog = Backlog::default();
    let large = |second| {
        let message = Some("x".repeat(1 << 20).as_str().into());
        Batch { outcomes: vec![Arc::new(Outcome { message, ..Outcome::clone(&outcome(second)) })], ..Batch::default() }
    };
    let shed: u64 = (0..200).map(|second| backlog.absorb(large(second))).sum();
    assert!((70..75).contains(&shed), "{shed}");
    let batch = backlog.take(usize::MAX);
    assert_eq!(batch.outcomes.last().unwrap().ended_at, at(199), "the newest stay");
    assert_eq!(backlog.put_back(batch), 0);
    let decision = |n: u32| crate::incident::Decision {
        subject: Subject::from("shop"),
        reason: crate::incident::DecisionReason::Good,
        detail: n.to_string(),
        run: None,
        at: at(0),
    };
    for n in 0..60 {
        let decisions = (0..1_000).map(|_| decision(n)).collect();
        backlog.absorb(Batch { decisions, ..Batch::default() });
    }
    assert_eq!(backlog.decisions.len(), backlog::MAX_DECISIONS);
    assert_eq!(backlog.decisions.back().unwrap().detail, "59");
}

#[test]
fn what_is_put_back_is_older_than_what_waits() {
    let mut backlog = Backlog::default();
    let watch = |n: i64| vec![(Subject::from("shop"), serde_json::json!(n))];
    let intent = |run| crate::store::PlannedRun {
        run,
        scenario: "shop".into(),
        name: "Shop".into(),
        kind: ScenarioKind::Tcp,
        location: "here".into(),
        due_at: at(0),
    };
    let (first, over, ended) = (RunId::new(), RunId::new(), outcome(0));
    let older = Batch {
        alert_states: watch(1),
        intents: vec![intent(first), intent(over), intent(ended.run)],
        outcomes: vec![outcome(1), outcome(2)],
        notifications: batch(1).notifications,
        ..Batch::default()
    };
    backlog.absorb(Batch {
        alert_states: watch(2),
        withdrawn: vec![over],
        outcomes: vec![ended, outcome(3)],
        notifications: batch(2).notifications,
        ..Batch::default()
    });
    backlog.put_back(older);
    let all = backlog.take(usize::MAX);
    assert!(backlog.is_empty());
    assert_eq!(all.alert_states, watch(2));
    assert_eq!(all.intents.iter().map(|intent| intent.run).collect::<Vec<_>>(), [first]);
    let seconds: Vec<i64> = all.outcomes.iter().map(|outcome| (outcome.ended_at - at(0)).num_seconds()).collect();
    assert_eq!(seconds, [1, 2, 0, 3]);
    assert_eq!(all.notifications.iter().map(|notification| notification.queued_at).collect::<Vec<_>>(), [at(1), at(2)]);
    assert_eq!(all.outcomes.len(), 4);
}

#[tokio::test]
async fn outcomes_without_numbers_are_taken_along() {
    let folder = Folder::new();
    let old = sqlx::SqlitePool::connect(&format!("{}?mode=rwc", folder.url())).await.unwrap();
    sqlx::raw_sql(include_str!("../../../tests/golden/store/v2.sql")).execute(&old).await.unwrap();
    old.close().await;
    let bench = Bench::open(SqliteFile::new(&folder.url(), true)).await;
    let buffer = &bench.buffer;
    assert_eq!(buffer.recent(None, 100).await.unwrap().len(), 4);
    assert_eq!((buffer.last_seq().await.unwrap(), buffer.positions().await.unwrap().len()), (0, 0));
    // Records without numbers are not meant for sinks.
    let none = buffer.numbered(1, 100, 10).await.unwrap();
    assert_eq!((none.records.len(), none.through), (0, 0));
    bench.close().await;
}

#[tokio::test]
async fn a_damaged_store_of_a_former_version_is_taken_over() {
    let (folder, former) = (Folder::new(), Folder::new());
    let old = sqlx::SqlitePool::connect(&format!("{}?mode=rwc", former.url())).await.unwrap();
    sqlx::raw_sql(include_str!("../../../tests/golden/store/v2.sql")).execute(&old).await.unwrap();
    let queued: u32 =
        sqlx::query_scalar("SELECT count(*) FROM notices WHERE state = 'owed'").fetch_one(&old).await.unwrap();
    assert!(queued > 0);
    old.close().await;
    let store = Sqlite::open(&folder.url()).await.unwrap();
    let opener = SqliteFile::new(&folder.url(), true);
    let incomplete = opener.salvage(&former.file().display().to_string()).await.unwrap();
    assert_eq!(incomplete, ["positions"], "that version had no other table less");
    assert_eq!(store.queued("hook", 10).await.unwrap().len(), usize::try_from(queued).unwrap());
    assert_eq!(store.alert_states().await.unwrap().len(), 2);
    assert!(crate::store::CheckIns::check_in_state(&store, "job").await.unwrap().is_some());
    store.close().await;
}

/// The words of what is stored changed with version 5; rows of version 4 are read by them.
#[tokio::test]
async fn the_words_of_version_4_are_read() {
    let folder = Folder::new();
    let old = sqlx::SqlitePool::connect(&format!("{}?mode=rwc", folder.url())).await.unwrap();
    sqlx::raw_sql(include_str!("../../../tests/golden/store/v4.sql")).execute(&old).await.unwrap();
    old.close().await;
    let bench = Bench::open(SqliteFile::new(&folder.url(), true)).await;
    let buffer = &bench.buffer;
    let queued = buffer.queued("hook", 10).await.unwrap();
    let keys: Vec<_> = queued.iter().map(|one| one.key.as_str()).collect();
    assert_eq!(keys, ["down:1", "agent/here:1"]);
    let reasons = async |subject: &str| {
        let decisions = buffer.decisions(&Subject::from(subject), 10).await.unwrap();
        decisions.iter().map(|kept| kept.decision.reason.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(reasons("down").await, ["already_open", "queued", "opened"]);
    assert_eq!(reasons("up").await, ["agent_fault"]);
    let outcomes = buffer.recent(Some("down"), 100).await.unwrap();
    let actual = outcomes[0].steps[0].failure.as_ref().and_then(|failure| failure.seen.as_deref());
    assert!(actual.is_some() || outcomes[0].message.is_some(), "{:?}", outcomes[0]);
    assert_eq!(buffer.alert_states().await.unwrap().len(), 4);
    assert_eq!(buffer.alerting_entries().await.unwrap().len(), 4);
    assert!(crate::store::CheckIns::check_in_state(buffer, "job").await.unwrap().is_some());
    bench.close().await;
}

#[tokio::test]
async fn numbered_outcomes_are_read_while_the_store_is_away() {
    let folder = Folder::new();
    let bench = Bench::open(SqliteFile::new(&folder.url(), true)).await;
    let buffer = bench.buffer.clone();
    let numbered = |seq: u64| Arc::new(Outcome { seq, ..Outcome::clone(&outcome(seq.try_into().unwrap())) });
    let accept = async |seqs: std::ops::RangeInclusive<u64>| {
        buffer.accept(Batch { outcomes: seqs.map(numbered).collect(), ..Batch::default() }).await;
    };
    let read = async |from, to| {
        let found = buffer.numbered(from, to, 100).await?;
        Ok::<_, StoreError>((found.records.iter().map(crate::store::Recorded::seq).collect::<Vec<_>>(), found.through))
    };
    accept(1..=3).await;
    buffer.set_positions([("zabbix".to_owned(), Some(2))].into()).await.unwrap();
    buffer.flushed().await;
    assert_eq!(read(1, 9).await.unwrap(), (vec![1, 2, 3], 3));
    let other = sqlx::SqlitePool::connect(&folder.url()).await.unwrap();
    let mut lock = other.acquire().await.unwrap();
    sqlx::raw_sql("BEGIN EXCLUSIVE").execute(&mut *lock).await.unwrap();
    accept(4..=6).await;
    bench.away().await;
    assert_eq!(read(2, 5).await.unwrap(), (vec![2, 3, 4, 5], 5));
    assert_eq!(read(5, 9).await.unwrap(), (vec![5, 6], 6));
    // Nothing is certain about records that were not yet accepted.
    assert_eq!(read(7, 9).await.unwrap(), (vec![], 6));
    // A store that is replaced receives the positions as well.
    sqlx::raw_sql("ROLLBACK").execute(&mut *lock).await.unwrap();
    drop(lock);
    other.close().await;
    bench.back().await;
    for end in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{end}", folder.file().display()));
    }
    let mut health = buffer.health();
    accept(7..=7).await;
    health.wait_for(|health| health.replaced == 1).await.unwrap();
    buffer.flushed().await;
    let store = Sqlite::open(&folder.url()).await.unwrap();
    assert_eq!(store.positions().await.unwrap(), [("zabbix".to_owned(), 2)].into());
    store.close().await;
    bench.close().await;
}

#[tokio::test]
async fn a_store_of_the_version_before_is_taken_along() {
    let folder = Folder::new();
    let old = sqlx::SqlitePool::connect(&format!("{}?mode=rwc", folder.url())).await.unwrap();
    sqlx::raw_sql(include_str!("../../../tests/golden/store/v1.sql")).execute(&old).await.unwrap();
    old.close().await;
    let refused = Sqlite::open_to_read(&folder.url()).await.unwrap_err().to_string();
    assert!(refused.contains("older version of wachta"), "{refused}");
    let bench = Bench::open(SqliteFile::new(&folder.url(), true)).await;
    let buffer = &bench.buffer;
    assert_eq!(buffer.recent(None, 100).await.unwrap().len(), 4);
    let open: Vec<Incident> = buffer.incidents(100).await.unwrap();
    assert!(open.len() == 1 && open[0].is_open() && open[0].dedup_key() == "down:1", "{open:?}");
    assert!(buffer.alert_states().await.unwrap().iter().any(|(subject, _)| *subject == Subject::from("down")));
    assert_eq!(buffer.alerting_entries().await.unwrap().len(), 2);
    assert!(crate::store::CheckIns::check_in_state(buffer, "job").await.unwrap().is_some());
    // Receivers have its incident without the store, and get its resolution under the same key.
    let queued = buffer.queued("hook", 10).await.unwrap().remove(0);
    assert_eq!((queued.id.as_str(), queued.dedup_key().as_str()), ("down:1#1@hook", "down:1"));
    let identity = buffer.identity();
    assert_eq!((identity.of_key("down:1"), identity.of_key("down:2").len()), ("", 8));
    bench.close().await;
    // After another start, nothing is migrated twice.
    let bench = Bench::open(SqliteFile::new(&folder.url(), true)).await;
    assert_eq!(bench.buffer.identity(), identity);
    bench.close().await;
}
