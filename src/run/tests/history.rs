//! Runs compared with their own history in the store.

use chrono::{TimeDelta, Utc};

use super::*;
use crate::outcome::StepResult;
use crate::scenario::ScenarioKind;
use crate::store::{Batch, Sqlite, Store};

/// Returns a scenario that compares itself and a step, against a slow server.
fn compared(address: SocketAddr, what: &str) -> Arc<Scenario> {
    let text = match what {
        "budget" => format!(
            "scenario: Shop\nbudget:\n  slower_than_usual: {{factor: 3, over: 24h}}\nsteps:\n  - GET: http://{address}/late\n"
        ),
        _ => format!(
            "scenario: Shop\nsteps:\n  - group: All\n    steps:\n      - GET: http://{address}/late\n        expect:\n          \
             slower_than_usual: {{over: 12h}}\n"
        ),
    };
    Arc::clone(&scenarios(&text)[0])
}

/// Starts a server that responds after a delay.
async fn late_site() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let late = get(async || tokio::time::sleep(Duration::from_millis(80)).await);
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/late", late)).await });
    address
}

/// Returns an earlier run with a duration, a number of minutes ago.
fn earlier(scenario: &Scenario, minutes: i64, took: Duration, verdict: Verdict) -> Arc<Outcome> {
    let ended_at = Utc::now() - TimeDelta::minutes(minutes);
    let step = |name: &str| StepResult {
        name: name.into(),
        depth: 0,
        finally: false,
        optional: false,
        span_id: "0".into(),
        offset: Duration::ZERO,
        duration: took,
        status: StepStatus::Passed,
        place: "t.yaml:1:1".into(),
        failure: None,
        http: None,
        certificate_expires_at: None,
        earlier_requests: Vec::new(),
        notes: Vec::new(),
        snippet: None,
        retried: false,
        page: None,
    };
    Arc::new(Outcome {
        run: RunId::new(),
        seq: 0,
        streak: None,
        scenario: scenario.id.value.clone(),
        name: scenario.name.clone(),
        kind: ScenarioKind::Api,
        location: "here".into(),
        due_at: ended_at,
        started_at: ended_at,
        ended_at,
        duration: took,
        verdict,
        reason: None,
        message: None,
        failed_step: None,
        steps: scenario.step_names().into_iter().map(step).collect(),
        evidence: Vec::new(),
        browser: None,
        differences: Vec::new(),
    })
}

async fn run_against(store: &Arc<dyn Store>, scenario: &Arc<Scenario>) -> Outcome {
    // Only the history in the store is known, as after a start.
    let folder = Folder::new();
    let baseline = BaselineStore::new(Arc::clone(store) as _, "here");
    let tools = RunServices { baseline: Some(baseline), ..tools(Given::default(), &folder) };
    run(scenario, &tools, RunRequest::default()).await
}

#[tokio::test]
async fn a_run_slower_than_usual_is_degraded_under_budget_and_failed_under_expect() {
    let address = late_site().await;
    let check = async |what: &str, history: &[(i64, Duration, Verdict)], expected: (Verdict, Option<Reason>)| {
        let scenario = compared(address, what);
        let store: Arc<dyn Store> = Arc::new(Sqlite::open("sqlite::memory:").await.unwrap());
        let outcomes =
            history.iter().map(|(minutes, took, verdict)| earlier(&scenario, *minutes, *took, *verdict)).collect();
        store.commit(&Batch { outcomes, ..Batch::default() }).await.unwrap();
        let outcome = run_against(&store, &scenario).await;
        assert_eq!((outcome.verdict, outcome.reason), expected, "{what} {history:?}: {:?}", outcome.message);
        outcome
    };
    let quick = Duration::from_millis(1);
    let passed = |took, runs: i64| (0..runs).map(|at| (at * 5, took, Verdict::Passed)).collect::<Vec<_>>();

    let degraded = check("budget", &passed(quick, 30), (Verdict::Degraded, Some(Reason::Budget))).await;
    let message = degraded.message.unwrap();
    assert!(message.ends_with(", usually 1ms (median of 30 runs in 1d)"), "{message}");
    let failed = check("expect", &passed(quick, 30), (Verdict::Failed, Some(Reason::Slow))).await;
    let step = failed.deciding_step().unwrap();
    assert_eq!(step.place, "t.yaml:7:11");
    let failure = step.failure.as_ref().unwrap();
    assert!(failure.message.ends_with(", usually 1ms (median of 30 runs in 12h)"), "{failure:?}");
    assert_eq!(failure.expected.as_deref(), Some("at most 51ms"));

    // Too few runs; all of them long; failed ones, which do not count; and runs before the window.
    let minutes_later = |mut history: Vec<(i64, Duration, Verdict)>, minutes| {
        for run in &mut history {
            run.0 += minutes;
        }
        history
    };
    let passes = (Verdict::Passed, None);
    for what in ["budget", "expect"] {
        check(what, &passed(quick, 19), passes).await;
        check(what, &passed(Duration::from_secs(3600), 30), passes).await;
        let failed: Vec<_> = (0..40).map(|at| (at, quick, Verdict::Failed)).collect();
        check(what, &failed, passes).await;
        check(what, &minutes_later(passed(quick, 60), 24 * 60), passes).await;
    }
}

#[tokio::test]
async fn without_history_it_holds() {
    let address = late_site().await;
    for what in ["budget", "expect"] {
        let folder = Folder::new();
        let outcome = run(&compared(address, what), &tools(Given::default(), &folder), RunRequest::default()).await;
        assert_eq!(outcome.verdict, Verdict::Passed, "{:?}", outcome.message);
    }
}

#[tokio::test]
async fn each_outcome_advances_what_is_usual_and_a_restart_changes_nothing() {
    let address = late_site().await;
    let scenario = compared(address, "expect");
    let store: Arc<dyn Store> = Arc::new(Sqlite::open("sqlite::memory:").await.unwrap());
    let folder = Folder::new();
    let baseline = BaselineStore::new(Arc::clone(&store) as _, "here");
    let tools = RunServices { baseline: Some(baseline.clone()), ..tools(Given::default(), &folder) };
    let verdict = async || run(&scenario, &tools, RunRequest::default()).await.verdict;
    assert_eq!(verdict().await, Verdict::Passed, "nothing is known yet");
    // Ten minutes apart, so that no slot of the baseline has more runs than it keeps.
    let earlier = |at: i64, took, verdict| earlier(&scenario, at * 10, took, verdict);
    let quick: Vec<_> = (0..25).map(|at| earlier(at, Duration::from_millis(1), Verdict::Passed)).collect();
    for outcome in &quick {
        baseline.outcome(outcome);
    }
    store.commit(&Batch { outcomes: quick, ..Batch::default() }).await.unwrap();
    assert_eq!(verdict().await, Verdict::Failed);
    assert_eq!(run_against(&store, &scenario).await.verdict, Verdict::Failed, "after a restart");
    let long: Vec<_> = (0..35).map(|at| earlier(at, Duration::from_secs(60), Verdict::Degraded)).collect();
    for outcome in &long {
        baseline.outcome(outcome);
    }
    assert_eq!(verdict().await, Verdict::Passed, "half of the runs take long by now");
    // A scenario that is removed is dropped, and read again when it returns.
    baseline.retain(|_| false);
    assert_eq!(verdict().await, Verdict::Failed);
}
