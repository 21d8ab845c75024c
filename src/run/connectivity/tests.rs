//! The connectivity check: tables of check histories, canaries on loopback, and complete runs with interrupted
//! connectivity.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::*;
use crate::outcome::RunId;
use crate::scenario::ScenarioKind;

/// Tests what is known for a run, in seconds, from the start and end of checks: `(last began, gone, answered)`.
#[test]
fn a_look_counts_for_the_runs_it_can_speak_of() {
    let zero = Instant::now();
    let at = |second: f64| zero + Duration::from_secs_f64(second);
    let check = |looks: (f64, f64, f64), run: (f64, f64), now: f64, expected: Result<bool, f64>| {
        let seen = |second: f64| (second >= 0.0).then(|| at(second));
        let state =
            CheckHistory { began: seen(looks.0), gone: seen(looks.1), answered: seen(looks.2), suspected: None };
        let expected = match expected {
            Ok(true) => Connectivity::Gone,
            Ok(false) => Connectivity::Works,
            Err(second) => Connectivity::CanaryCheck(at(second)),
        };
        assert_eq!(state.of(at(run.0), at(run.1), at(now)), expected, "{looks:?} {run:?} {now}");
    };
    // Nothing is known yet.
    check((-1.0, -1.0, -1.0), (0.0, 10.0), 10.0, Err(10.0));
    // A canary responded, but before the run ended: check again, one second after the last check.
    check((9.5, -1.0, 9.5), (0.0, 10.0), 10.0, Err(10.5));
    check((2.0, -1.0, 2.0), (0.0, 10.0), 10.0, Err(10.0));
    // A canary responded after the run ended.
    check((10.5, -1.0, 10.5), (0.0, 10.0), 11.0, Ok(false));
    // No canary responded during the run, after it, or shortly before it.
    check((3.0, 5.0, -1.0), (0.0, 10.0), 10.0, Ok(true));
    check((10.0, 12.0, -1.0), (0.0, 10.0), 12.0, Ok(true));
    check((5.0, 7.0, -1.0), (10.0, 10.1), 10.1, Ok(true));
    // No canary responded, but that was too long ago, or one has responded since.
    check((1.0, 3.0, -1.0), (10.0, 10.1), 10.1, Err(10.1));
    check((8.0, 7.0, 8.0), (10.0, 10.1), 10.1, Err(10.1));
    // Connectivity was lost during the run and is back.
    check((11.0, 5.0, 11.0), (0.0, 10.0), 11.0, Ok(true));
}

#[test]
fn only_what_a_dead_line_looks_like_is_asked_about() {
    let check = |verdict, reason, browser: bool, expected| {
        let outcome = Outcome { verdict, reason: Some(reason), ..failed(browser) };
        assert_eq!(could_be_connectivity(&outcome), expected, "{verdict} {reason} {browser}");
    };
    for reason in [Reason::Connect, Reason::Timeout, Reason::Dns, Reason::Tls, Reason::Protocol, Reason::Heartbeat] {
        check(Verdict::Failed, reason, false, true);
    }
    check(Verdict::Failed, Reason::NotFound, true, true);
    for reason in [Reason::Assertion, Reason::Status, Reason::Slow, Reason::Certificate, Reason::MissingValue] {
        check(Verdict::Failed, reason, false, false);
    }
    check(Verdict::Failed, Reason::Status, true, false);
    check(Verdict::Unknown, Reason::Browser, true, false);
    check(Verdict::Degraded, Reason::Budget, true, false);
}

fn failed(browser: bool) -> Outcome {
    let now = chrono::Utc::now();
    let browser = browser.then(|| crate::outcome::BrowserResult {
        engine: crate::scenario::Engine::Chromium,
        version: String::new(),
        warm: true,
    });
    Outcome {
        run: RunId::new(),
        seq: 0,
        streak: None,
        scenario: "shop".into(),
        name: "Shop".into(),
        kind: ScenarioKind::Tcp,
        location: "here".into(),
        due_at: now,
        started_at: now,
        ended_at: now,
        duration: Duration::ZERO,
        verdict: Verdict::Failed,
        reason: Some(Reason::Connect),
        message: Some("no connection".into()),
        failed_step: None,
        steps: Vec::new(),
        evidence: Vec::new(),
        browser,
        differences: Vec::new(),
    }
}

#[tokio::test]
async fn a_canary_answers_also_by_refusing() {
    let of = |port| Canary { host: "127.0.0.1".into(), port };
    let open = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = open.local_addr().unwrap().port();
    assert!(answers(&of(port), &Dialer::default()).await);
    drop(open);
    assert!(answers(&of(port), &Dialer::default()).await);
    assert!(!answers(&Canary { host: "no such host.invalid".into(), port: 1 }, &Dialer::default()).await);

    // A listener with a full queue does not respond, as if there was no connectivity.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let silent = socket.listen(1).unwrap();
    let address = silent.local_addr().unwrap();
    let mut filling = Vec::new();
    while let Ok(connected) = tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
        filling.push(connected.unwrap());
        assert!(filling.len() < 100, "the queue never fills");
    }
    let line = ConnectivityMonitor::default();
    line.load(&Config { canaries: vec![of(address.port())] });
    let began = Instant::now();
    let why = line.explain_failure(&failed(false), began).await;
    assert_eq!(why.as_deref(), Some("network connectivity lost: the canary is not reachable"));
    // One responding canary is sufficient.
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let line = ConnectivityMonitor::default();
    line.load(&Config { canaries: vec![of(address.port()), of(other.local_addr().unwrap().port())] });
    assert_eq!(line.explain_failure(&failed(false), began).await, None);
}

/// Returns a monitor whose connectivity can be switched off, with the number of checks.
fn switched(canaries: usize) -> (ConnectivityMonitor, Arc<AtomicBool>, Arc<AtomicUsize>) {
    let (works, looked) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
    let (on, count) = (Arc::clone(&works), Arc::clone(&looked));
    let line = ConnectivityMonitor::with_check(Arc::new(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        let on = on.load(Ordering::SeqCst);
        async move { if on { true } else { std::future::pending().await } }.boxed()
    }));
    let canary = Canary { host: "canary".into(), port: 1 };
    line.load(&Config { canaries: vec![canary; canaries] });
    (line, works, looked)
}

#[tokio::test(start_paused = true)]
async fn all_who_ask_share_a_look() {
    let (line, works, looked) = switched(1);
    let ask = |count: usize| {
        let (line, began) = (line.clone(), Instant::now());
        async move {
            let outcome = failed(false);
            let asked = (0..count).map(|_| line.explain_failure(&outcome, began));
            futures_util::future::join_all(asked).await.iter().flatten().count()
        }
    };
    assert_eq!((ask(500).await, looked.load(Ordering::SeqCst)), (0, 1));
    // A new check, one second after the last one.
    tokio::time::sleep(Duration::from_millis(400)).await;
    let before = Instant::now();
    assert_eq!((ask(500).await, looked.load(Ordering::SeqCst)), (0, 2));
    assert_eq!(before.elapsed(), Duration::from_millis(600));
    works.store(false, Ordering::SeqCst);
    tokio::time::sleep(GAP).await;
    let before = Instant::now();
    assert_eq!((ask(500).await, looked.load(Ordering::SeqCst)), (500, 3));
    assert_eq!(before.elapsed().as_secs(), PATIENCE.as_secs());
    // The result counts for a while without a new check.
    works.store(true, Ordering::SeqCst);
    assert_eq!((ask(500).await, looked.load(Ordering::SeqCst)), (500, 3));
    tokio::time::sleep(KEPT + Duration::from_millis(1)).await;
    assert_eq!((ask(500).await, looked.load(Ordering::SeqCst)), (0, 4));
}

#[tokio::test(start_paused = true)]
async fn without_canaries_nobody_looks() {
    let (line, works, looked) = switched(0);
    works.store(false, Ordering::SeqCst);
    assert_eq!(line.explain_failure(&failed(false), Instant::now()).await, None);
    assert_eq!(looked.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn while_things_fail_the_line_is_watched() {
    let (line, works, looked) = switched(2);
    let stop = CancellationToken::new();
    let watching = tokio::spawn(line.clone().watch(stop.clone()));
    tokio::time::sleep(Duration::from_hours(1)).await;
    assert_eq!(looked.load(Ordering::SeqCst), 0, "nothing failed");
    // A run starts; another one fails; then connectivity is lost for ten seconds.
    let began = Instant::now();
    assert_eq!(line.explain_failure(&failed(false), began).await, None);
    works.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(10)).await;
    works.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(20)).await;
    // Connectivity is back, but the first run failed because it was lost.
    let why = line.explain_failure(&failed(false), began).await;
    assert_eq!(why.as_deref(), Some("network connectivity lost: none of 2 canaries is reachable"));
    // A run that started since then did not.
    assert_eq!(line.explain_failure(&failed(false), Instant::now()).await, None);
    tokio::time::sleep(WATCHED * 2).await;
    let quiet = looked.load(Ordering::SeqCst);
    tokio::time::sleep(Duration::from_hours(1)).await;
    assert_eq!(looked.load(Ordering::SeqCst), quiet, "nothing fails any more");
    stop.cancel();
    watching.await.unwrap();
}
