//! Conformance tests: one suite for every store.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::json;

use super::*;
use crate::incident::{Change, DecisionReason, Event, Transition};
use crate::names::Reason;
use crate::outcome::{StepResult, StepStatus, Verdict};
use crate::scenario::Severity;

/// File of a store, deleted at the end of the test.
struct File(PathBuf);

impl File {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("wachta-store-{}.db", RunId::new())))
    }

    fn url(&self) -> String {
        format!("sqlite:{}", self.0.display())
    }
}

impl Drop for File {
    fn drop(&mut self) {
        for end in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{end}", self.0.display()));
        }
    }
}

macro_rules! conformance {
    ($($test:ident)*) => {
        mod in_memory {
            $(#[tokio::test]
            async fn $test() {
                super::$test(&super::Sqlite::open("sqlite::memory:").await.unwrap()).await;
            })*
        }
        mod in_a_file {
            $(#[tokio::test]
            async fn $test() {
                let file = super::File::new();
                let store = super::Sqlite::open(&file.url()).await.unwrap();
                super::$test(&store).await;
                store.close().await;
            })*
        }
    };
}

conformance! {
    a_commit_is_written_once
    intents_stand_until_their_outcome
    history_is_in_order
    durations_are_those_of_good_runs
    runs_are_counted_in_slots
    pruning_keeps_the_last_outcome
    pruning_keeps_what_is_open_or_owed
    decisions_count_up
    incidents_are_found
    the_outbox_is_in_order
    a_notification_that_may_have_arrived_is_a_repeat
    what_receivers_need_is_remembered
    who_called_in_is_remembered
    memory_is_written_and_forgotten
    the_archive_is_read_in_pages
    outcomes_are_read_by_their_numbers
    positions_are_kept_and_forgotten
}

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
}

fn run(number: u128) -> RunId {
    RunId(uuid::Uuid::from_u128(number))
}

fn outcome(number: u128, scenario: &str, second: i64, verdict: Verdict) -> Outcome {
    Outcome {
        run: run(number),
        seq: 0,
        streak: None,
        scenario: scenario.into(),
        name: "Shop \"checkout\" — ząb".into(),
        kind: ScenarioKind::Api,
        location: "here".into(),
        due_at: at(second),
        started_at: at(second),
        ended_at: at(second),
        duration: Duration::from_micros(1_234_567),
        verdict,
        reason: (verdict == Verdict::Failed).then_some(Reason::Status),
        message: None,
        failed_step: None,
        steps: Vec::new(),
        evidence: Vec::new(),
        browser: None,
        differences: Vec::new(),
    }
}

pub(super) fn incident(subject: &str, opening: u64, second: i64, resolved: Option<i64>) -> Incident {
    Incident {
        subject: Subject::from(subject),
        sequence: opening,
        name: subject.into(),
        tags: [("team".to_owned(), "shop".to_owned())].into(),
        kind: "api".into(),
        severity: Severity::Critical,
        location: "here".into(),
        opened_at: at(second),
        began_at: None,
        opened_by: run(1),
        resolved_at: resolved.map(at),
        resolved_by: None,
        verdict: Verdict::Failed,
        last_run: run(1),
        reason: Some(Reason::Status),
        message: Some("it's 50% off; DROP TABLE".into()),
        step: None,
        place: None,
        difference: None,
        screenshot: None,
        runbook: None,
        bad_runs: 1,
        events: 1,
        receivers: vec!["a".into()],
        target: None,
        ending: None,
        ending_reason: None,
        unwatched: None,
        acknowledged: None,
    }
}

fn decision(subject: &str, why: DecisionReason, second: i64) -> Decision {
    Decision { subject: Subject::from(subject), reason: why, detail: format!("at {second}"), run: None, at: at(second) }
}

fn outcomes(outcomes: impl IntoIterator<Item = Outcome>) -> Batch {
    Batch { outcomes: outcomes.into_iter().map(Arc::new).collect(), ..Batch::default() }
}

fn numbers(outcomes: &[Outcome]) -> Vec<u128> {
    outcomes.iter().map(|outcome| outcome.run.0.as_u128()).collect()
}

async fn a_commit_is_written_once(store: &Sqlite) {
    let batch = Batch {
        alert_states: vec![(Subject::from("shop"), json!({"good": 1}))],
        incidents: vec![incident("shop", 1, 0, None)],
        notifications: vec![Notification::new(&incident("shop", 1, 0, None), Event::Opened, "a", at(0))],
        ..outcomes([outcome(1, "shop", 0, Verdict::Failed)])
    };
    store.commit(&batch).await.unwrap();
    store.commit(&batch).await.unwrap();
    assert_eq!(store.run(run(1)).await.unwrap().as_ref(), Some(&*batch.outcomes[0]));
    assert_eq!(store.run(run(2)).await.unwrap(), None);
    assert_eq!(store.recent(None, 10).await.unwrap().len(), 1);
    assert_eq!(store.alert_states().await.unwrap(), batch.alert_states);
    assert_eq!(store.incidents(10).await.unwrap(), batch.incidents);
    assert_eq!(store.queued("a", 10).await.unwrap(), batch.notifications);
    // A delivered notification is not queued again by the same commit.
    store.attempt_finished(&batch.notifications[0].id, &DeliveryStatus::Delivered, at(1)).await.unwrap();
    // Existing rows are kept; state is replaced.
    let later = Batch {
        alert_states: vec![(Subject::from("shop"), json!({"good": 2}))],
        incidents: vec![incident("shop", 1, 0, Some(60))],
        notifications: batch.notifications.clone(),
        ..outcomes([outcome(1, "shop", 999, Verdict::Passed)])
    };
    store.commit(&later).await.unwrap();
    assert_eq!(store.run(run(1)).await.unwrap().as_ref(), Some(&*batch.outcomes[0]));
    assert_eq!(store.alert_states().await.unwrap(), later.alert_states);
    assert_eq!(store.incident("shop:1").await.unwrap(), Some(later.incidents[0].clone()));
    assert_eq!(store.queued("a", 10).await.unwrap(), []);
}

async fn intents_stand_until_their_outcome(store: &Sqlite) {
    let intent = |number, due, location: &str| PlannedRun {
        run: run(number),
        scenario: "shop".into(),
        name: "Shop".into(),
        kind: ScenarioKind::Browser,
        location: location.into(),
        due_at: at(due) + chrono::TimeDelta::microseconds(123_456),
    };
    let intents = vec![intent(3, 30, "here"), intent(1, 10, "here"), intent(2, 20, "here"), intent(4, 0, "there")];
    store.commit(&Batch { intents: intents.clone(), ..Batch::default() }).await.unwrap();
    let ordered = [intents[1].clone(), intents[2].clone(), intents[0].clone()];
    assert_eq!(store.open_planned_runs("here").await.unwrap(), ordered);
    assert_eq!(store.open_planned_runs("there").await.unwrap(), intents[3..]);
    // The finished and the cancelled runs are deleted; the others are kept.
    let batch = Batch { withdrawn: vec![run(2), run(99)], ..outcomes([outcome(1, "shop", 0, Verdict::Passed)]) };
    store.commit(&batch).await.unwrap();
    assert_eq!(store.open_planned_runs("here").await.unwrap(), ordered[2..]);
    // Planned and cancelled by the same commit: cancelled.
    let batch = Batch { intents: vec![intent(5, 0, "here")], withdrawn: vec![run(5), run(3)], ..Batch::default() };
    store.commit(&batch).await.unwrap();
    assert_eq!(store.open_planned_runs("here").await.unwrap(), []);
}

async fn history_is_in_order(store: &Sqlite) {
    use Verdict::{Degraded, Failed, Passed, Unknown};
    assert_eq!(store.latest().await.unwrap(), []);
    // Written out of order, because runs take different times.
    let batch = outcomes([
        outcome(3, "a", 30, Unknown),
        outcome(1, "a", 10, Passed),
        outcome(2, "a", 20, Failed),
        outcome(4, "b", 5, Unknown),
        outcome(5, "c", 1, Unknown),
        outcome(6, "c", 40, Degraded),
    ]);
    store.commit(&batch).await.unwrap();
    assert_eq!(numbers(&store.recent(None, 10).await.unwrap()), [6, 3, 2, 1, 4, 5]);
    assert_eq!(numbers(&store.recent(None, 2).await.unwrap()), [6, 3]);
    assert_eq!(numbers(&store.recent(Some("a"), 2).await.unwrap()), [3, 2]);
    assert_eq!(numbers(&store.recent(Some("nobody"), 2).await.unwrap()), []);
    let mut latest = numbers(&store.latest().await.unwrap());
    latest.sort_unstable();
    assert_eq!(latest, [3, 4, 6]);
    // Only the last run of `a` is unknown after a conclusive one.
    assert_eq!(numbers(&store.latest_conclusive().await.unwrap()), [2]);
}

async fn durations_are_those_of_good_runs(store: &Sqlite) {
    let step = |name: &str, status, millis| StepResult {
        name: name.into(),
        depth: 0,
        finally: false,
        optional: true,
        span_id: String::new(),
        offset: Duration::ZERO,
        duration: Duration::from_millis(millis),
        status,
        place: String::new(),
        failure: None,
        http: None,
        certificate_expires_at: None,
        earlier_requests: Vec::new(),
        notes: Vec::new(),
        snippet: None,
        retried: false,
        page: None,
    };
    let run = |number: u128, second, verdict, status| Outcome {
        duration: Duration::from_millis(100 + u64::try_from(number).unwrap()),
        steps: vec![
            step("GET /\"it's\"", status, 10 + u64::try_from(number).unwrap()),
            step("other", StepStatus::Passed, 5000),
        ],
        ..outcome(number, "shop", second, verdict)
    };
    let (good, bad) = (StepStatus::Passed, StepStatus::Failed);
    let elsewhere = Outcome { location: "there".into(), ..run(7, 70, Verdict::Passed, good) };
    let outcomes = vec![
        run(1, 10, Verdict::Passed, good),
        run(2, 20, Verdict::Passed, good),
        run(3, 30, Verdict::Failed, good),
        run(4, 40, Verdict::Degraded, good),
        run(5, 50, Verdict::Unknown, good),
        // The run passed, although this optional step did not.
        run(6, 60, Verdict::Passed, bad),
        elsewhere,
        outcome(8, "other", 80, Verdict::Passed),
    ];
    let outcomes = outcomes.into_iter().map(Arc::new).collect();
    store.commit(&Batch { outcomes, ..Batch::default() }).await.unwrap();
    let check = async |step: Option<&str>, since, limit, expected: &[(i64, u64)]| {
        let asked = DurationQuery { scenario: "shop", location: "here", step, since: at(since), limit };
        let found = store.durations(&asked).await.unwrap();
        let expected: Vec<_> =
            expected.iter().map(|(second, millis)| (at(*second), Duration::from_millis(*millis))).collect();
        assert_eq!(found, expected, "{asked:?}");
    };
    check(None, 0, 9, &[(60, 106), (40, 104), (20, 102), (10, 101)]).await;
    check(None, 20, 2, &[(60, 106), (40, 104)]).await;
    check(Some("GET /\"it's\""), 20, 9, &[(40, 14), (20, 12)]).await;
    check(Some("GET /\"it's\""), 0, 2, &[(40, 14)]).await;
    check(Some("nothing"), 0, 9, &[]).await;
}

async fn runs_are_counted_in_slots(store: &Sqlite) {
    let verdicts = [
        (0, Verdict::Failed),
        (59, Verdict::Passed),
        (60, Verdict::Unknown),
        (61, Verdict::Degraded),
        (62, Verdict::Failed),
        (119, Verdict::Failed),
        (180, Verdict::Unknown),
        (300, Verdict::Passed),
    ];
    let of_it = (0..).zip(verdicts).map(|(number, (second, verdict))| outcome(number, "shop", second, verdict));
    let other = [outcome(99, "other", 0, Verdict::Failed)];
    let outcomes = of_it.chain(other).map(Arc::new).collect();
    store.commit(&Batch { outcomes, ..Batch::default() }).await.unwrap();
    let check = async |scenario: &str, since, slot: i64, expected: &[(i64, u64, u64)]| {
        let asked = SlotCountQuery { scenario, since: at(since), slot };
        let found = store.slot_counts(&asked).await.unwrap();
        let first = at(0).timestamp() / slot;
        let found: Vec<_> = found.iter().map(|tally| (tally.slot - first, tally.runs, tally.failed)).collect();
        assert_eq!(found, expected, "{asked:?}");
    };
    check("shop", 0, 60, &[(0, 2, 1), (1, 3, 2), (5, 1, 0)]).await;
    check("shop", 59, 60, &[(0, 1, 0), (1, 3, 2), (5, 1, 0)]).await;
    check("shop", 0, 86_400, &[(0, 6, 3)]).await;
    check("shop", 301, 60, &[]).await;
    check("nobody", 0, 60, &[]).await;
}

async fn pruning_keeps_the_last_outcome(store: &Sqlite) {
    let passed = |number, scenario, second| outcome(number, scenario, second, Verdict::Passed);
    let batch = outcomes([
        passed(1, "old", 0),
        passed(2, "old", 10),
        passed(3, "live", 0),
        passed(4, "live", 100),
        passed(5, "live", 200),
    ]);
    store.commit(&batch).await.unwrap();
    let mut gone: Vec<_> = store.prune(at(100)).await.unwrap().iter().map(|run| run.0.as_u128()).collect();
    gone.sort_unstable();
    assert_eq!(gone, [1, 3]);
    assert_eq!(numbers(&store.recent(None, 10).await.unwrap()), [5, 4, 2]);
    assert_eq!(store.prune(at(100)).await.unwrap(), []);
}

async fn pruning_keeps_what_is_open_or_owed(store: &Sqlite) {
    let (over, open, owing) =
        (incident("over", 1, 0, Some(10)), incident("open", 1, 0, None), incident("owing", 1, 0, Some(10)));
    let young = incident("young", 1, 0, Some(100));
    let batch = Batch {
        incidents: vec![over.clone(), open.clone(), owing.clone(), young.clone()],
        notifications: [&over, &open, &owing].map(|of| Notification::new(of, Event::Opened, "a", at(0))).to_vec(),
        decisions: vec![decision("over", DecisionReason::Opened, 0), decision("young", DecisionReason::Resolved, 100)],
        ..Batch::default()
    };
    store.commit(&batch).await.unwrap();
    for notification in &batch.notifications[..2] {
        store.attempt_finished(&notification.id, &DeliveryStatus::Delivered, at(1)).await.unwrap();
    }
    store.prune(at(100)).await.unwrap();
    let mut left: Vec<_> = store.incidents(10).await.unwrap().iter().map(Incident::dedup_key).collect();
    left.sort();
    assert_eq!(left, ["open:1", "owing:1", "young:1"]);
    assert_eq!(store.notifications("over:1").await.unwrap(), []);
    assert_eq!(store.notifications("open:1").await.unwrap().len(), 1);
    assert_eq!(store.queued("a", 10).await.unwrap().len(), 1);
    assert_eq!(store.decisions(&over.subject, 10).await.unwrap(), []);
    assert_eq!(store.decisions(&young.subject, 10).await.unwrap().len(), 1);
}

async fn decisions_count_up(store: &Sqlite) {
    let subject = Subject::from("shop");
    for (second, why) in [
        (1, DecisionReason::Good),
        (2, DecisionReason::Good),
        (3, DecisionReason::BelowThreshold),
        (4, DecisionReason::Good),
        (5, DecisionReason::Good),
    ] {
        let batch = Batch { decisions: vec![decision("shop", why, second)], ..Batch::default() };
        store.commit(&batch).await.unwrap();
    }
    // This also applies within one commit, for each subject separately.
    let batch = Batch {
        decisions: vec![
            decision("blog", DecisionReason::Good, 6),
            decision("shop", DecisionReason::Good, 7),
            decision("blog", DecisionReason::Good, 8),
            decision("shop", DecisionReason::Opened, 9),
        ],
        ..Batch::default()
    };
    store.commit(&batch).await.unwrap();
    let shown = |kept: Vec<DecisionRecord>| -> Vec<String> {
        let line = |kept: &DecisionRecord| {
            let since = (kept.first_at - at(0)).num_seconds();
            format!("{} since {since}, {}, {} times", kept.decision.reason.as_str(), kept.decision.detail, kept.count)
        };
        kept.iter().map(line).collect()
    };
    assert_eq!(
        shown(store.decisions(&subject, 10).await.unwrap()),
        [
            "opened since 9, at 9, 1 times",
            "good since 4, at 7, 3 times",
            "below_threshold since 3, at 3, 1 times",
            "good since 1, at 2, 2 times",
        ]
    );
    assert_eq!(shown(store.decisions(&subject, 1).await.unwrap()), ["opened since 9, at 9, 1 times"]);
    let blog = Subject::from("blog");
    assert_eq!(shown(store.decisions(&blog, 10).await.unwrap()), ["good since 6, at 8, 2 times"]);
}

async fn incidents_are_found(store: &Sqlite) {
    let incidents = [
        incident("a", 1, 10, Some(20)),
        incident("a", 2, 30, None),
        incident("b", 1, 40, Some(50)),
        incident("agent/here", 1, 5, None),
    ];
    store.commit(&Batch { incidents: incidents.to_vec(), ..Batch::default() }).await.unwrap();
    let keys = |incidents: Vec<Incident>| incidents.iter().map(Incident::dedup_key).collect::<Vec<_>>();
    assert_eq!(keys(store.incidents(10).await.unwrap()), ["a:2", "agent/here:1", "b:1", "a:1"]);
    assert_eq!(keys(store.incidents(1).await.unwrap()), ["a:2"]);
    assert_eq!(store.incident("agent/here:1").await.unwrap().as_ref(), Some(&incidents[3]));
    assert_eq!(store.incident("a:3").await.unwrap(), None);
}

async fn the_outbox_is_in_order(store: &Sqlite) {
    let of = |opening| incident("shop", opening, 0, None);
    let notifications = vec![
        // Queued later but committed first: the order of the commits counts.
        Notification::new(&of(2), Event::Opened, "a", at(50)),
        Notification::new(&of(1), Event::Opened, "a", at(0)),
        Notification::new(&of(1), Event::Opened, "b", at(0)),
        Notification::new(&of(3), Event::Opened, "a", at(0)),
    ];
    store.commit(&Batch { notifications: notifications.clone(), ..Batch::default() }).await.unwrap();
    let ids = |notifications: Vec<Notification>| {
        notifications.into_iter().map(|notification| notification.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(store.queued("a", 10).await.unwrap()), ["shop:2#1@a", "shop:1#1@a", "shop:3#1@a"]);
    assert_eq!(ids(store.queued("a", 1).await.unwrap()), ["shop:2#1@a"]);
    let mut receivers_with_queued = store.receivers_with_queued().await.unwrap();
    receivers_with_queued.sort();
    assert_eq!(receivers_with_queued, ["a", "b"]);
    store.attempt_finished("shop:2#1@a", &DeliveryStatus::Delivered, at(60)).await.unwrap();
    store.attempt_finished("shop:1#1@a", &DeliveryStatus::Failed("400".into()), at(61)).await.unwrap();
    store.attempt_finished("shop:3#1@a", &DeliveryStatus::Retryable("503".into()), at(62)).await.unwrap();
    store.attempt_finished("shop:1#1@b", &DeliveryStatus::Delivered, at(63)).await.unwrap();
    assert_eq!(ids(store.queued("a", 10).await.unwrap()), ["shop:3#1@a"]);
    assert_eq!(store.receivers_with_queued().await.unwrap(), ["a"]);
    let states: Vec<_> = [store.notifications("shop:1").await.unwrap(), store.notifications("shop:3").await.unwrap()]
        .concat()
        .into_iter()
        .map(|state| (state.notification.receiver, state.state, state.done_at, state.problem))
        .collect();
    let text = |text: &str| text.to_owned();
    assert_eq!(
        states,
        [
            (text("a"), text("failed"), Some(at(61)), Some(text("400"))),
            (text("b"), text("sent"), Some(at(63)), None),
            (text("a"), text("queued"), None, Some(text("503"))),
        ]
    );
}

async fn a_notification_that_may_have_arrived_is_a_repeat(store: &Sqlite) {
    let notification = Notification::new(&incident("shop", 1, 0, None), Event::Opened, "a", at(0));
    let id = notification.id.clone();
    // One word each: `try` starts an attempt, the others end one. After each, the flag states whether the next attempt
    // is a repeat.
    let check = async |words: &str, expected: &[bool]| {
        let notification =
            Notification { id: format!("{id} {words}"), receiver: words.to_owned(), ..notification.clone() };
        store.commit(&Batch { notifications: vec![notification.clone()], ..Batch::default() }).await.unwrap();
        let mut repeats = Vec::new();
        for word in words.split(' ') {
            let delivery = match word {
                "try" => None,
                "refused" => Some(DeliveryStatus::Retryable("no".into())),
                _ => Some(DeliveryStatus::Uncertain("perhaps".into())),
            };
            match delivery {
                None => store.attempt_started(&notification.id).await.unwrap(),
                Some(delivery) => store.attempt_finished(&notification.id, &delivery, at(1)).await.unwrap(),
            }
            repeats.push(store.queued(words, 1).await.unwrap()[0].repeat);
        }
        assert_eq!(repeats, expected, "{words}");
    };
    // The agent stopped during the attempt.
    check("try", &[true]).await;
    check("try refused", &[true, false]).await;
    check("try refused try refused", &[true, false, true, false]).await;
    check("try unsure", &[true, true]).await;
    // A later rejection does not undo that an earlier attempt may have arrived.
    check("try unsure try refused", &[true, true, true, true]).await;
    check("try try refused", &[true, true, true]).await;
    check("try refused try unsure try refused", &[true, false, true, true, true, true]).await;
}

#[tokio::test]
async fn any_number_may_open_a_new_file_at_once() {
    for _ in 0..20 {
        let file = File::new();
        let url = file.url();
        let stores = futures_util::future::join_all((0..4).map(|_| Sqlite::open(&url))).await;
        for store in stores {
            store.unwrap().close().await;
        }
    }
}

#[tokio::test]
async fn a_newer_file_is_refused() {
    let file = File::new();
    let store = Sqlite::open(&file.url()).await.unwrap();
    store.commit(&outcomes([outcome(1, "a", 0, Verdict::Passed)])).await.unwrap();
    store.close().await;
    // The written data is still there.
    let store = Sqlite::open(&file.url()).await.unwrap();
    assert_eq!(numbers(&store.latest().await.unwrap()), [1]);
    store.close().await;
    let raw = sqlx::SqlitePool::connect(&file.url()).await.unwrap();
    sqlx::raw_sql("PRAGMA user_version = 99").execute(&raw).await.unwrap();
    raw.close().await;
    let refused = Sqlite::open(&file.url()).await.expect_err("newer").to_string();
    assert!(refused.contains("newer version of wachta (tables 99, known"), "{refused}");
}

#[tokio::test]
async fn a_commit_is_whole_or_not_at_all() {
    let file = File::new();
    let store = Sqlite::open(&file.url()).await.unwrap();
    let raw = sqlx::SqlitePool::connect(&file.url()).await.unwrap();
    sqlx::raw_sql("DROP TABLE notifications").execute(&raw).await.unwrap();
    raw.close().await;
    let batch = Batch {
        incidents: vec![incident("shop", 1, 0, None)],
        notifications: vec![Notification::new(&incident("shop", 1, 0, None), Event::Opened, "a", at(0))],
        ..outcomes([outcome(1, "shop", 0, Verdict::Failed)])
    };
    assert!(store.commit(&batch).await.is_err());
    assert_eq!(store.latest().await.unwrap(), []);
    assert_eq!(store.incidents(10).await.unwrap(), []);
    store.close().await;
}

async fn what_receivers_need_is_remembered(store: &dyn Store) {
    let (first, second) = (json!({"ts": "1.5"}), json!({"ts": "2.5"}));
    assert_eq!(store.receiver_state("team", "shop:1").await.unwrap(), None);
    store.set_receiver_state("team", "shop:1", Some(&second), at(1)).await.unwrap();
    store.set_receiver_state("team", "shop:1", Some(&first), at(2)).await.unwrap();
    store.set_receiver_state("team", "pay:1", Some(&second), at(3)).await.unwrap();
    store.set_receiver_state("other", "shop:1", Some(&second), at(30)).await.unwrap();
    assert_eq!(store.receiver_state("team", "shop:1").await.unwrap(), Some(first.clone()));
    let all = [("pay:1".to_owned(), second.clone()), ("shop:1".to_owned(), first)];
    assert_eq!(store.receiver_states("team").await.unwrap(), all);
    store.set_receiver_state("team", "shop:1", None, at(4)).await.unwrap();
    assert_eq!(store.receiver_state("team", "shop:1").await.unwrap(), None);
    assert_eq!(store.receiver_state("other", "shop:1").await.unwrap(), Some(second));
    // Receiver state that was not updated for long is removed.
    store.prune(at(20)).await.unwrap();
    assert_eq!(
        (store.receiver_states("team").await.unwrap().len(), store.receiver_states("other").await.unwrap().len()),
        (0, 1)
    );
}

async fn who_called_in_is_remembered(store: &dyn Store) {
    let state = |started: Option<i64>, ended: Option<(i64, u8)>| {
        Some(CheckInState {
            started_at: started.map(at),
            ended: ended.map(|(second, code)| CheckInEnd { at: at(second), code }),
        })
    };
    assert_eq!(store.check_in_state("backup").await.unwrap(), None);
    store.check_in("backup", CheckIn::Started, at(1)).await.unwrap();
    assert_eq!(store.check_in_state("backup").await.unwrap(), state(Some(1), None));
    store.check_in("backup", CheckIn::CheckInEnd(0), at(2)).await.unwrap();
    assert_eq!(store.check_in_state("backup").await.unwrap(), state(Some(1), Some((2, 0))));
    store.check_in("backup", CheckIn::CheckInEnd(FAILED), at(3)).await.unwrap();
    store.check_in("other", CheckIn::CheckInEnd(7), at(4)).await.unwrap();
    assert_eq!(store.check_in_state("backup").await.unwrap(), state(Some(1), Some((3, FAILED))));
    assert_eq!(store.check_in_state("other").await.unwrap(), state(None, Some((4, 7))));
}

async fn memory_is_written_and_forgotten(store: &Sqlite) {
    let write = async |entries: &[(&str, Option<Json>)]| {
        let alerting_entries = entries.iter().map(|(key, body)| ((*key).to_owned(), body.clone())).collect();
        store.commit(&Batch { alerting_entries, ..Batch::default() }).await.unwrap();
        store.alerting_entries().await.unwrap()
    };
    let entry = |key: &str, body: Json| (key.to_owned(), body);
    assert!(!Batch { alerting_entries: vec![("a".into(), None)], ..Batch::default() }.is_empty());
    let kept = write(&[("b", Some(json!({"n": 1}))), ("a \"x\" ż", Some(json!("text")))]).await;
    assert_eq!(kept, [entry("a \"x\" ż", json!("text")), entry("b", json!({"n": 1}))]);
    assert_eq!(write(&[("b", Some(json!(2))), ("a \"x\" ż", None), ("c", None)]).await, [entry("b", json!(2))]);
    assert_eq!(write(&[("b", None), ("b", Some(json!(3)))]).await, [entry("b", json!(3))]);
}

async fn the_archive_is_read_in_pages(store: &Sqlite) {
    let failed = Verdict::Failed;
    // Outcomes with the same end are split across pages.
    let batch = [(9, 5), (3, 20), (1, 10), (2, 20), (4, 20), (5, 30), (6, 40), (7, 41)];
    let batch = outcomes(batch.map(|(number, second)| outcome(number, "shop", second, failed)));
    store.commit(&batch).await.unwrap();
    for limit in [1, 2, 3, 100] {
        let page = TimeRange { since: at(10), until: at(40), limit };
        let mut all: Vec<Outcome> = Vec::new();
        loop {
            let read = store.outcomes_between(&page, all.last()).await.unwrap();
            assert!(read.len() <= limit as usize);
            all.extend(read.iter().cloned());
            if read.is_empty() {
                break;
            }
        }
        assert_eq!(numbers(&all), [1, 2, 3, 4, 5, 6], "in pages of {limit}");
    }

    let notification =
        |opening, second| Notification::new(&incident("shop", opening, 0, None), Event::Opened, "a", at(second));
    let notifications =
        vec![notification(1, 5), notification(3, 20), notification(2, 10), notification(4, 40), notification(5, 41)];
    store.commit(&Batch { notifications, ..Batch::default() }).await.unwrap();
    store.attempt_finished("shop:2#1@a", &DeliveryStatus::Failed("400".into()), at(60)).await.unwrap();
    let page = TimeRange { since: at(10), until: at(40), limit: 2 };
    let first = store.notifications_between(&page, 0).await.unwrap();
    let rest = store.notifications_between(&page, first.last().unwrap().0).await.unwrap();
    assert!(store.notifications_between(&page, rest.last().unwrap().0).await.unwrap().is_empty());
    let all: Vec<_> =
        first.iter().chain(&rest).map(|(_, kept)| (kept.notification.key.as_str(), &*kept.state)).collect();
    assert_eq!(all, [("shop:3", "queued"), ("shop:2", "failed"), ("shop:4", "queued")]);

    assert_eq!(store.earliest_open_at(at(50)).await.unwrap(), None);
    let incidents = vec![
        incident("a", 1, 10, Some(20)),
        incident("b", 1, 15, Some(60)),
        incident("c", 1, 30, None),
        incident("d", 1, 50, None),
    ];
    store.commit(&Batch { incidents, ..Batch::default() }).await.unwrap();
    for (second, expected) in [(10, None), (12, Some(10)), (20, Some(10)), (21, Some(15)), (61, Some(30))] {
        assert_eq!(store.earliest_open_at(at(second)).await.unwrap(), expected.map(at), "at {second}");
    }

    let asked = SlotCountQuery { scenario: "shop", since: at(0), slot: 60 };
    for (before, runs) in [(5, 0), (6, 1), (20, 2), (21, 5), (99, 8)] {
        let slot_counts = store.slot_counts_before(&asked, at(before)).await.unwrap();
        assert_eq!(slot_counts.iter().map(|tally| tally.runs).sum::<u64>(), runs, "before {before}");
    }
}

#[tokio::test]
async fn who_only_reads_changes_nothing() {
    let file = File::new();
    let missing = Sqlite::open_to_read(&file.url()).await.unwrap_err().to_string();
    assert!(missing.contains("cannot open"), "{missing}");
    assert!(!file.0.exists(), "nothing was made");
    std::fs::write(&file.0, "").unwrap();
    let empty = Sqlite::open_to_read(&file.url()).await.unwrap_err().to_string();
    assert!(empty.ends_with("it was not written by wachta"), "{empty}");

    let store = Sqlite::open(&file.url()).await.unwrap();
    let reader = Sqlite::open_to_read(&file.url()).await.unwrap();
    let batch = outcomes([outcome(1, "shop", 10, Verdict::Passed)]);
    assert!(reader.commit(&batch).await.is_err(), "it cannot write");
    // Data written in the meantime is visible.
    store.commit(&batch).await.unwrap();
    let page = TimeRange { since: at(0), until: at(60), limit: 10 };
    assert_eq!(numbers(&reader.outcomes_between(&page, None).await.unwrap()), [1]);
    reader.close().await;
    // The data of a stopped agent is readable as well.
    store.close().await;
    let reader = Sqlite::open_to_read(&file.url()).await.unwrap();
    assert_eq!(numbers(&reader.outcomes_between(&page, None).await.unwrap()), [1]);
    reader.close().await;
}

async fn outcomes_are_read_by_their_numbers(store: &Sqlite) {
    assert_eq!(store.last_seq().await.unwrap(), 0);
    let numbered = |number: u64| Outcome { seq: number, ..outcome(number.into(), "a", 10, Verdict::Passed) };
    // The third is missing, the fifth is a change of an incident, and one from an earlier version has no number.
    let rows = [1, 2, 4, 6].map(numbered).into_iter().chain([outcome(99, "a", 1, Verdict::Passed)]);
    let incident = incident("a", 1, 10, None);
    let change = |seq| {
        Arc::new(Change {
            seq,
            transition: Transition::Opened,
            at: at(10),
            incident: incident.clone(),
            cause: "cause".into(),
            ended_causes: Vec::new(),
        })
    };
    let batch = Batch { changes: vec![change(5)], ..outcomes(rows) };
    store.commit(&batch).await.unwrap();
    assert_eq!(store.last_seq().await.unwrap(), 6);
    let check = async |from, to, limit, expected: &[u64], through| {
        let found = store.numbered(from, to, limit).await.unwrap();
        let seqs: Vec<u64> = found.records.iter().map(Recorded::seq).collect();
        assert_eq!((seqs.as_slice(), found.through), (expected, through), "{from} to {to}, at most {limit}");
    };
    check(1, 6, 10, &[1, 2, 4, 5, 6], 6).await;
    check(2, 5, 10, &[2, 4, 5], 5).await;
    check(1, 6, 2, &[1, 2], 2).await;
    check(3, 6, 1, &[4], 4).await;
    check(3, 3, 10, &[], 3).await;
    check(7, 9, 10, &[], 9).await;
    assert_eq!(store.numbered(5, 5, 1).await.unwrap().records, [Recorded::Change(change(5))]);
    store.commit(&Batch { changes: vec![change(7)], ..Batch::default() }).await.unwrap();
    assert_eq!(store.last_seq().await.unwrap(), 7);
    store.prune(at(11)).await.unwrap();
    check(5, 7, 10, &[6], 7).await;
}

async fn positions_are_kept_and_forgotten(store: &Sqlite) {
    let set = async |positions: &[(&str, Option<u64>)]| {
        let positions = positions.iter().map(|(sink, seq)| ((*sink).to_owned(), *seq)).collect();
        store.set_positions(positions).await.unwrap();
        let kept = store.positions().await.unwrap();
        kept.into_iter().map(|(sink, seq)| format!("{sink} {seq}")).collect::<Vec<_>>().join(", ")
    };
    assert_eq!(set(&[]).await, "");
    assert_eq!(set(&[("zabbix", Some(3)), ("ecs", Some(7))]).await, "ecs 7, zabbix 3");
    assert_eq!(set(&[("zabbix", Some(4)), ("ecs", None)]).await, "zabbix 4");
    // Without outcomes, numbers continue from the positions.
    assert_eq!(store.last_seq().await.unwrap(), 4);
    assert_eq!(store.working_set().await.unwrap().positions, std::collections::BTreeMap::from([("zabbix".into(), 4)]));
}
