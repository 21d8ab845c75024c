//! An agent whose browsers, one for each run, are killed again and again. `WACHTA_SOAK_RUNS` says how often, `WACHTA_SEED` how.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;
use wachta::demo::Demo;
use wachta::names::Reason;
use wachta::outcome::{Outcome, RunId, Verdict};
use wachta::store::{History as _, Incidents as _, Runs as _, Sqlite};

use crate::support::agent::Agent;
use crate::support::leases::{kill, leases, processes, session_leases, sessions};
use crate::support::receiver::Receiver;
use crate::support::{Folder, until};

const SOON: Duration = Duration::from_secs(60);
const BROWSERS: &str = "wachta.state/browsers";
const DRIVER: &str = "chromedriver";
const RENDERER: &str = "--type=renderer";
const VICTIMS: [&str; 3] = [DRIVER, "chromium", RENDERER];

fn prepare(folder: &Folder, receiver: &Receiver) {
    folder.write(
        "wachta.yaml",
        &format!(
            "location: here\nscenarios: [scenarios/]\nallow: {{env: [\"SHOP_*\"]}}\nstore: sqlite:wachta.db\nbrowser: {{max_sessions: 1, warm: false}}\n\
             web: {{listen: \"127.0.0.1:0\", external_url: \"http://127.0.0.1:1/\"}}\n\
             alerting: {{receivers: {{hook: {{webhook: {{url: \"http://{}/\"}}}}}}, routes: [{{to: [hook], group_wait: 0s}}]}}\n",
            receiver.address
        ),
    );
    let look = "  - goto: /\n  - click: {link: Tea pot}\n  - expect: {visible: {heading: Tea pot}}\n";
    folder.write(
        "scenarios/browsing.yaml",
        &format!("scenario: Browsing\nevery: 1s\ntimeout: 30s\ndefaults: {{timeout: 5s}}\nbase_url: ${{env.SHOP_URL}}\nsteps:\n{}", look.repeat(4)),
    );
}

/// A kill that hit something.
#[derive(Debug)]
struct Hit {
    victim: &'static str,
    /// Finding the processes of a session takes a while on a busy machine: the signal was sent between these two.
    from: DateTime<Utc>,
    until: DateTime<Utc>,
}

/// Waits for a session that was not there before, and for what is to be killed in it after a pause; none when the
/// session ends before.
async fn strike(folder: &Folder, seen: &mut BTreeSet<String>, victim: &'static str, pause: Duration) -> Option<Hit> {
    let browsers = folder.path().join(BROWSERS);
    let lease = until("a session starts", SOON, async || {
        session_leases(&browsers).into_iter().find(|lease| !seen.contains(lease))
    })
    .await;
    seen.insert(lease.clone());
    tokio::time::sleep(pause).await;
    until("there is a victim", SOON, async || {
        if !session_leases(&browsers).contains(&lease) {
            return Some(None);
        }
        let from = Utc::now();
        kill(&lease, victim).then(|| Some(Hit { victim, from, until: Utc::now() }))
    })
    .await
}

/// When the last step of a run ended.
fn worked_until(outcome: &Outcome) -> DateTime<Utc> {
    let worked = outcome.steps.iter().map(|step| step.offset + step.duration).max().unwrap_or_default();
    outcome.started_at + TimeDelta::from_std(worked).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_browsers_are_nobodys_incident_but_the_agents() {
    let rounds: u32 = std::env::var("WACHTA_SOAK_RUNS").ok().and_then(|n| n.parse().ok()).unwrap_or(8);
    let mut seed: u64 = std::env::var("WACHTA_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(0x5eed);
    let mut random = move |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let stop = CancellationToken::new();
    let shop = Demo::open(0, 0, &stop).await.unwrap();
    let receiver = Receiver::listen().await;
    let folder = Folder::new("soak");
    prepare(&folder, &receiver);
    let agent = Agent::serve(folder.path(), &shop).await;
    let store = Sqlite::open(&format!("sqlite:{}", folder.path().join("wachta.db").display())).await.unwrap();
    let passed_after = async |at: DateTime<Utc>| {
        until("a run passes again", SOON, async || {
            let last = store.recent(None, 1).await.unwrap().pop()?;
            (last.verdict == Verdict::Passed && last.started_at > at).then_some(())
        })
        .await;
    };
    let (mut seen, mut hits) = (BTreeSet::new(), Vec::new());
    for _ in 0..rounds {
        let victim = VICTIMS[usize::try_from(random(3)).unwrap()];
        hits.extend(strike(&folder, &mut seen, victim, Duration::from_millis(random(1200))).await);
        // A page that crashes is the target's failure: between two of them there is always one that passes.
        passed_after(Utc::now()).await;
    }
    assert_eq!(receiver.heard(), Vec::<serde_json::Value>::new(), "single kills are nobody's incident");

    // A driver that dies each time is told of the agent, once.
    while receiver.heard().is_empty() {
        hits.extend(strike(&folder, &mut seen, DRIVER, Duration::ZERO).await);
        assert!(hits.len() < rounds as usize + 20, "nothing is told");
    }
    passed_after(Utc::now()).await;

    let leases = leases(&folder.path().join(BROWSERS));
    assert_eq!(agent.stop().await, Some(0));
    let told: Vec<_> = receiver
        .heard()
        .iter()
        .map(|notification| (notification["dedup_key"].clone(), notification["event"].clone()))
        .collect();
    assert_eq!(told, [("agent/here:1".into(), "opened".into())]);
    let incidents = store.incidents(100).await.unwrap();
    assert_eq!(incidents.iter().map(|incident| incident.subject.to_string()).collect::<Vec<_>>(), ["agent/here"]);

    let outcomes = store.recent(None, 100_000).await.unwrap();
    let runs: BTreeSet<RunId> = outcomes.iter().map(|outcome| outcome.run).collect();
    assert_eq!(runs.len(), outcomes.len(), "one outcome for each run");
    assert_eq!(store.open_planned_runs("here").await.unwrap(), []);
    let mut harmed = BTreeSet::new();
    for hit in &hits {
        // One session at a time, so one run at a time.
        let within = |from: fn(&Outcome) -> DateTime<Utc>| {
            outcomes.iter().find(|outcome| from(outcome) <= hit.until && hit.from < outcome.ended_at)
        };
        // The browser is opened between the due time and the start of the run's clock.
        // A run does not wait for its session to end: the kill may have hit one that nobody used any more.
        let Some(run) = within(|outcome| outcome.started_at).or_else(|| within(|outcome| outcome.due_at)) else {
            continue;
        };
        harmed.insert(run.run);
        // A renderer may be a spare one, and an answer may be under way when its sender dies.
        let late = hit.until + TimeDelta::milliseconds(200) > worked_until(run);
        let fine = match (run.verdict, run.reason) {
            (Verdict::Passed, _) => late || hit.victim == RENDERER,
            (Verdict::Unknown, Some(reason)) => reason != Reason::Lost,
            (Verdict::Failed, Some(Reason::Crash)) => true,
            (Verdict::Failed, Some(Reason::Timeout)) => hit.victim == RENDERER,
            _ => false,
        };
        assert!(fine, "{hit:?}: {run:#?}");
    }
    // Three runs in a row that could not test anything are what the agent's incident needs.
    assert!(harmed.len() >= 3, "the kills hit runs: {harmed:?}");
    for outcome in outcomes.iter().filter(|outcome| !harmed.contains(&outcome.run)) {
        let stopped = outcome.reason == Some(Reason::Lost);
        assert!(outcome.verdict == Verdict::Passed || stopped, "nobody harmed this one: {outcome:#?}\n{hits:#?}");
    }
    store.close().await;
    assert!(!leases.is_empty());
    until("no process is left", Duration::from_secs(10), async || (processes(&leases) == 0).then_some(())).await;
    assert_eq!(sessions(&folder.path().join(BROWSERS)), 0);
    stop.cancel();
}
