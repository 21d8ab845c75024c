//! How an agent ends: asked to, and killed.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tokio_util::sync::CancellationToken;
use wachta::demo::Demo;
use wachta::names::Reason;
use wachta::outcome::{Outcome, RunId, Verdict};
use wachta::store::{History as _, Incidents as _, Outbox as _, Runs as _, Sqlite};

use crate::support::agent::Agent;
use crate::support::leases::{leases, processes, sessions};
use crate::support::receiver::Receiver;
use crate::support::slow::Slow;
use crate::support::{Folder, until};

const SOON: Duration = Duration::from_secs(60);
const BROWSERS: &str = "wachta.state/browsers";

fn prepare(folder: &Folder, receiver: &Receiver, slow: &Slow) {
    folder.write(
        "wachta.yaml",
        &format!(
            "location: here\nscenarios: [scenarios/]\nallow: {{env: [\"SHOP_*\"]}}\nstore: sqlite:wachta.db\n\
             web: {{listen: \"127.0.0.1:0\", external_url: \"http://127.0.0.1:1/\"}}\n\
             alerting: {{receivers: {{hook: {{webhook: {{url: \"http://{}/\"}}}}}}, routes: [{{to: [hook], group_wait: 0s}}]}}\n",
            receiver.address
        ),
    );
    folder.write(
        "scenarios/slow-api.yaml",
        &format!(
            "scenario: Slow API\nevery: 1s\ntimeout: 60s\nalert: {{after: 1 of 1}}\nsteps:\n  \
             - GET: http://{}/\n    timeout: 55s\n    expect: {{status: 200}}\n",
            slow.address
        ),
    );
    // Waits on the page for what never comes.
    folder.write(
        "scenarios/browsing.yaml",
        "scenario: Browsing\nevery: 1s\ntimeout: 60s\nalert: {after: 1 of 1}\nbase_url: ${env.SHOP_URL}\nsteps:\n  \
         - goto: /\n  - expect: {visible: {heading: Products}}\n  - expect: {visible: {heading: Never}}\n    timeout: 55s\n",
    );
}

async fn store(folder: &Folder) -> Sqlite {
    Sqlite::open(&format!("sqlite:{}", folder.path().join("wachta.db").display())).await.unwrap()
}

/// All outcomes, each run with one of them; nothing is planned any more.
async fn outcomes(folder: &Folder) -> Vec<Outcome> {
    let store = store(folder).await;
    let outcomes = store.recent(None, 100_000).await.unwrap();
    let runs: BTreeSet<RunId> = outcomes.iter().map(|outcome| outcome.run).collect();
    assert_eq!(runs.len(), outcomes.len(), "one outcome for each run");
    assert_eq!(store.open_planned_runs("here").await.unwrap(), []);
    assert_eq!(store.receivers_with_queued().await.unwrap(), Vec::<String>::new(), "nobody is owed a notification");
    store.close().await;
    outcomes
}

fn of<'a>(outcomes: &'a [Outcome], scenario: &str) -> Vec<&'a Outcome> {
    outcomes.iter().filter(|outcome| *outcome.scenario.as_str() == *scenario).collect()
}

/// A browser is open on a page, and a request waits for its answer.
async fn busy(agent: &Agent, slow: &Slow) {
    until("both runs go on", SOON, async || {
        let busy = agent.sample("wachta_browser_sessions", &[("state", "busy")]).await;
        (slow.asked() > 0 && busy == Some(1.0)).then_some(())
    })
    .await;
}

async fn nothing_is_left(folder: &Folder, leases: &[String]) {
    assert!(!leases.is_empty());
    until("no process is left", Duration::from_secs(10), async || (processes(leases) == 0).then_some(())).await;
    assert_eq!(sessions(&folder.path().join(BROWSERS)), 0, "no folder is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_may_finish_and_is_told() {
    let stop = CancellationToken::new();
    let shop = Demo::open(0, 0, &stop).await.unwrap();
    let (receiver, slow) = (Receiver::listen().await, Slow::listen().await);
    let folder = Folder::new("drain");
    prepare(&folder, &receiver, &slow);
    // This browser run ends in time by itself.
    let text = std::fs::read_to_string(folder.path().join("scenarios/browsing.yaml")).unwrap();
    folder.write("scenarios/browsing.yaml", &text.replace("55s", "3s"));
    let agent = Agent::serve(folder.path(), &shop).await;
    busy(&agent, &slow).await;
    let leases = leases(&folder.path().join(BROWSERS));

    agent.signal(Signal::SIGTERM);
    until("it is not ready any more", SOON, async || (agent.status("/-/ready").await == Some(503)).then_some(())).await;
    assert_eq!(agent.status("/-/healthy").await, Some(200), "it is no less alive");
    assert_eq!(receiver.heard().iter().filter(|notification| notification["dedup_key"] == "slow-api:1").count(), 0);
    // The answer comes while the agent drains; what it means is told before the end.
    slow.answer(500);
    assert_eq!(agent.ends().await, Some(0));

    let outcomes = outcomes(&folder).await;
    let api = of(&outcomes, "slow-api");
    assert_eq!((api.len(), slow.asked()), (1, 1), "what was started has an outcome, and nothing new was started");
    assert_eq!((api[0].verdict, api[0].reason), (Verdict::Failed, Some(Reason::Status)));
    let browsing = of(&outcomes, "browsing");
    assert!(!browsing.is_empty());
    // On a machine that is busy enough it may not have finished.
    let lost = |outcome: &&&Outcome| outcome.reason == Some(Reason::Lost);
    let failed = |outcome: &&&Outcome| outcome.verdict == Verdict::Failed;
    assert_eq!(browsing.iter().filter(|o| lost(o) || failed(o)).count(), browsing.len(), "{browsing:#?}");
    let mut expected = vec!["slow-api:1"];
    expected.extend(browsing.iter().find(failed).map(|_| "browsing:1"));
    let heard = receiver.heard();
    let mut told: Vec<_> = heard.iter().filter_map(|notification| notification["dedup_key"].as_str()).collect();
    told.sort_unstable();
    expected.sort_unstable();
    assert_eq!(told, expected);
    nothing_is_left(&folder, &leases).await;
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_finish_is_cancelled_in_time() {
    let stop = CancellationToken::new();
    let shop = Demo::open(0, 0, &stop).await.unwrap();
    let (receiver, slow) = (Receiver::listen().await, Slow::listen().await);
    let folder = Folder::new("cancelled");
    prepare(&folder, &receiver, &slow);
    let agent = Agent::serve(folder.path(), &shop).await;
    busy(&agent, &slow).await;
    let leases = leases(&folder.path().join(BROWSERS));
    let begin = Instant::now();
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.ends().await, Some(0));
    assert!(begin.elapsed() < Duration::from_secs(35), "it took {:?}", begin.elapsed());

    let outcomes = outcomes(&folder).await;
    assert_eq!((outcomes.len(), slow.asked()), (2, 1));
    for outcome in &outcomes {
        assert_eq!((outcome.verdict, outcome.reason), (Verdict::Unknown, Some(Reason::Lost)), "{outcome:#?}");
    }
    assert_eq!(receiver.heard(), Vec::<serde_json::Value>::new(), "that is nobody's incident");
    nothing_is_left(&folder, &leases).await;
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_agent_leaves_no_browser_and_its_run_is_closed_once() {
    let stop = CancellationToken::new();
    let shop = Demo::open(0, 0, &stop).await.unwrap();
    let (receiver, slow) = (Receiver::listen().await, Slow::listen().await);
    let folder = Folder::new("killed");
    prepare(&folder, &receiver, &slow);
    let mut agent = Agent::serve(folder.path(), &shop).await;
    busy(&agent, &slow).await;
    let leases = leases(&folder.path().join(BROWSERS));
    assert!(processes(&leases) > 0);
    let begun = async || -> Vec<RunId> {
        let store = store(&folder).await;
        let open = store.open_planned_runs("here").await.unwrap();
        store.close().await;
        open.iter().filter(|intent| intent.due_at < chrono::Utc::now()).map(|intent| intent.run).collect()
    };
    // A plan is written with what comes in the same moment.
    until("the runs that began are written", SOON, async || (begun().await.len() >= 2).then_some(())).await;
    agent.kill();
    let killed = Instant::now();
    until("the guard ends the browser", Duration::from_secs(10), async || (processes(&leases) == 0).then_some(()))
        .await;
    assert!(killed.elapsed() < Duration::from_secs(10));

    let lost = begun().await;
    assert!(!lost.is_empty());
    // What follows is well: the shop shows the heading, the API answers.
    slow.answer(200);
    let text = std::fs::read_to_string(folder.path().join("scenarios/browsing.yaml")).unwrap();
    folder.write("scenarios/browsing.yaml", &text.replace("Never", "Products"));
    let agent = Agent::serve(folder.path(), &shop).await;
    for scenario in ["slow-api", "browsing"] {
        until("it goes on", SOON, async || {
            let labels = [("scenario", scenario), ("verdict", "passed")];
            agent.sample("wachta_scenario_runs_total", &labels).await.filter(|runs| *runs >= 1.0)
        })
        .await;
    }
    assert!(
        agent.sample("wachta_scenario_unknowns_total", &[("scenario", "browsing"), ("reason", "lost")]).await
            >= Some(1.0)
    );
    assert_eq!(agent.stop().await, Some(0));
    // A third start finds nothing more to close.
    let agent = Agent::serve(folder.path(), &shop).await;
    assert_eq!(agent.stop().await, Some(0));

    let outcomes = outcomes(&folder).await;
    for run in lost {
        let of_run: Vec<_> = outcomes.iter().filter(|outcome| outcome.run == run).collect();
        assert_eq!(of_run.len(), 1);
        assert_eq!((of_run[0].verdict, of_run[0].reason), (Verdict::Unknown, Some(Reason::Lost)));
    }
    let store = store(&folder).await;
    assert_eq!(store.incidents(10).await.unwrap(), [], "what was lost is nobody's incident");
    store.close().await;
    assert_eq!(receiver.heard(), Vec::<serde_json::Value>::new());
    nothing_is_left(&folder, &leases).await;
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_agent_on_the_same_store_is_refused() {
    let stop = CancellationToken::new();
    let shop = Demo::open(0, 0, &stop).await.unwrap();
    let (receiver, slow) = (Receiver::listen().await, Slow::listen().await);
    let folder = Folder::new("second");
    prepare(&folder, &receiver, &slow);
    std::fs::remove_file(folder.path().join("scenarios/browsing.yaml")).unwrap();
    let mut first = Agent::serve(folder.path(), &shop).await;
    let second = tokio::process::Command::new(env!("CARGO_BIN_EXE_wachta"))
        .arg("serve")
        .current_dir(folder.path())
        .kill_on_drop(true)
        .output();
    let second = tokio::time::timeout(SOON, second).await.expect("it ends at once").unwrap();
    let text = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(2), "{text}");
    assert!(text.contains("error: another agent is using") && text.contains("wachta.state"), "{text}");
    assert!(!first.ended());
    // A killed one is no obstacle.
    first.kill();
    slow.answer(200);
    let third = Agent::serve(folder.path(), &shop).await;
    assert_eq!(third.stop().await, Some(0));
    stop.cancel();
}
