//! Destinations are away while the agent runs on and is killed: afterwards each has every outcome once, with its own time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use wachta::demo::Demo;
use wachta::store::{Archive as _, Sqlite, TimeRange};

use crate::support::agent::{Agent, sample};
use crate::support::gate::{Gate, Way};
use crate::support::prometheus::Prometheus;
use crate::support::search::SearchServer;
use crate::support::zabbix::{Api, Server};
use crate::support::{Folder, until};

/// How many scenarios there are, each with a run a second and six values a run.
const SCENARIOS: usize = 40;
const PATIENCE: Duration = Duration::from_secs(240);

fn name(number: usize) -> String {
    format!("t{number:02}")
}

/// How long the destinations are away: ten minutes in the long form.
fn outage() -> Duration {
    let seconds = std::env::var("WACHTA_SOAK_OUTAGE").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(12))
}

/// Of each sink how many outcomes wait.
async fn waiting(agent: &Agent) -> BTreeMap<String, u64> {
    let status: Value = serde_json::from_str(&agent.get("/api/v1/status").await).unwrap_or_default();
    let sinks = status["sinks"].as_array().into_iter().flatten();
    sinks.map(|sink| (sink["name"].as_str().unwrap().to_owned(), sink["waiting"].as_u64().unwrap())).collect()
}

/// When the runs of a scenario ended, by run.
type Ends = BTreeMap<String, DateTime<Utc>>;

/// All outcomes that the store has, by scenario.
async fn stored(folder: &Folder) -> BTreeMap<String, Ends> {
    let store = Sqlite::open(&format!("sqlite:{}", folder.path().join("wachta.db").display())).await.unwrap();
    let now = Utc::now();
    let page = TimeRange { since: now - TimeDelta::days(1), until: now + TimeDelta::days(1), limit: 1000 };
    let (mut all, mut last) = (BTreeMap::<String, Ends>::new(), None);
    loop {
        let outcomes = store.outcomes_between(&page, last.as_ref()).await.unwrap();
        let Some(newest) = outcomes.last().cloned() else { break };
        for outcome in outcomes {
            all.entry(outcome.scenario.to_string()).or_default().insert(outcome.run.to_string(), outcome.ended_at);
        }
        last = Some(newest);
    }
    store.close().await;
    all
}

/// What Zabbix has of a scenario: every value by its run, checked to be there once.
async fn in_zabbix(api: &Api, scenario: &str) -> Ends {
    let mut ends = Ends::new();
    for value in api.history(&format!("wachta.run[\"{scenario}\"]"), 4, 1).await {
        let run: Value = serde_json::from_str(value["value"].as_str().unwrap()).unwrap();
        let number = |name: &str| value[name].as_str().unwrap().parse::<i64>().unwrap();
        let at = DateTime::from_timestamp(number("clock"), u32::try_from(number("ns")).unwrap()).unwrap();
        assert_eq!(ends.insert(run["run"].as_str().unwrap().to_owned(), at), None, "twice: {run}");
    }
    ends
}

/// What the index has of a scenario.
async fn in_index(osmem: &SearchServer, scenario: &str) -> Ends {
    let mut ends = Ends::new();
    for document in osmem.documents("wachta", "monitor.id", scenario).await {
        if document["event"]["dataset"] == "wachta.incident" || document["summary"].is_null() {
            continue;
        }
        let at = document["@timestamp"].as_str().unwrap().parse().unwrap();
        assert_eq!(ends.insert(document["event"]["id"].as_str().unwrap().to_owned(), at), None, "twice: {document}");
    }
    ends
}

/// What Prometheus has of a scenario: when its runs ended, in milliseconds, and how many its counters have seen.
async fn in_prometheus(prometheus: &Prometheus, scenario: &str) -> (Vec<i64>, f64) {
    #[expect(clippy::cast_possible_truncation, reason = "milliseconds since 1970 fit")]
    let millis = |value: f64| (value * 1e6).round() as i64 / 1000;
    let of = |name: &str| format!("{name}{{scenario=\"{scenario}\"}}[1d]");
    let ends = prometheus.samples(&of("wachta_scenario_last_run_timestamp_seconds")).await;
    assert_eq!(ends.len(), 1, "one series of {scenario}");
    // A run has its own time; a value that was repeated has another one.
    let own = ends[0].iter().filter(|(at, value)| (millis(*at) - millis(*value)).abs() < 10);
    let own = own.map(|(_, value)| millis(*value)).collect();
    let mut counted = 0.0;
    for samples in prometheus.samples(&of("wachta_scenario_runs_total")).await {
        let (_, mut last) = samples[0];
        assert!(last.abs() < f64::EPSILON, "a counter begins at 0: {samples:?}");
        for (_, value) in samples {
            counted += if value < last { value } else { value - last };
            last = value;
        }
    }
    (own, counted)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_destinations_missed_is_made_up_once() {
    let server = tokio::task::spawn_blocking(Server::up).await.unwrap();
    let api = Api::login(&server).await;
    api.provision().await;
    let stop = CancellationToken::new();
    let shop = Demo::open(0, 0, &stop).await.unwrap();
    let (osmem, zabbix) = tokio::join!(SearchServer::osmem(), Gate::to(&server.trapper));
    let prometheus = Prometheus::up(None).await;
    let (index, series) = tokio::join!(Gate::to(&osmem.address), Gate::to(&prometheus.address));
    let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = target.local_addr().unwrap().port();
    let accepting = tokio::spawn(async move { while target.accept().await.is_ok() {} });
    let folder = Folder::new("outage");
    let checks = (0..SCENARIOS).map(|number| format!("  {}: {{tcp: \"127.0.0.1:{port}\", every: 1s}}\n", name(number)));
    folder.write("scenarios/checks.yaml", &format!("checks:\n{}", checks.collect::<String>()));
    folder.write(
        "wachta.yaml",
        &format!(
            "location: here\nscenarios: [scenarios/]\nstore: sqlite:wachta.db\nweb: {{listen: \"127.0.0.1:0\"}}\n\
             zabbix: {{server: \"{}\", host: {}}}\nelasticsearch: {{url: \"http://{}\"}}\n\
             remote_write: {{url: \"http://{}/api/v1/write\"}}\n",
            zabbix.address, api.host, index.address, series.address
        ),
    );
    let mut agent = Agent::serve(folder.path(), &shop).await;
    let items = json!({"host": api.host, "search": {"key_": "wachta.run["}, "countOutput": true});
    api.until("item.get", items, |count| *count == json!(SCENARIOS.to_string())).await;
    until("all have everything", PATIENCE, async || {
        let waiting = waiting(&agent).await;
        (waiting.len() == 3 && waiting.values().all(|waiting| *waiting < 2 * SCENARIOS as u64)).then_some(())
    })
    .await;

    let began = Instant::now();
    for gate in [&zabbix, &index, &series] {
        gate.set(Way::Closed);
    }
    for third in 1..=2 {
        until("a third of the outage is over", outage() * 2, async || {
            (began.elapsed() >= outage() / 3 * third).then_some(())
        })
        .await;
        agent.kill();
        agent = Agent::serve(folder.path(), &shop).await;
    }
    until("the outage is over", outage() * 2, async || (began.elapsed() >= outage()).then_some(())).await;
    let missed = waiting(&agent).await;
    for gate in [&zabbix, &index, &series] {
        gate.set(Way::Open);
    }
    until("all have everything again", PATIENCE + outage(), async || {
        let waiting = waiting(&agent).await;
        (waiting.len() == 3 && waiting.values().all(|waiting| *waiting < 2 * SCENARIOS as u64)).then_some(())
    })
    .await;
    eprintln!("waiting at the end of {} s: {missed:?}", outage().as_secs());
    let (status, _) = osmem.call(reqwest::Method::GET, "_index_template/wachta", &Value::Null).await;
    assert_eq!(status, 200, "the agent has put the template");
    assert_eq!(agent.stop().await, Some(0));
    accepting.abort();

    let stored = stored(&folder).await;
    assert_eq!(stored.len(), SCENARIOS);
    let mut runs = 0;
    for (scenario, expected) in &stored {
        runs += expected.len();
        until("Zabbix has written all of it", Duration::from_secs(30), async || {
            (in_zabbix(&api, scenario).await.len() >= expected.len()).then_some(())
        })
        .await;
        assert_eq!(&in_zabbix(&api, scenario).await, expected, "{scenario} in Zabbix");
        assert_eq!(&in_index(&osmem, scenario).await, expected, "{scenario} in the index");
        let mut ends: Vec<i64> = expected.values().map(DateTime::timestamp_millis).collect();
        ends.sort_unstable();
        let (own, counted) = in_prometheus(&prometheus, scenario).await;
        assert_eq!(own, ends, "{scenario} in Prometheus");
        assert!((counted - ends.len() as f64).abs() < 0.5, "{scenario}: {counted} of {} runs counted", ends.len());
        let traces = prometheus.traces(&format!("wachta_scenario_runs_total{{scenario=\"{scenario}\"}}")).await;
        let runs: BTreeSet<String> = expected.keys().map(|run| run.replace('-', "")).collect();
        assert!(!traces.is_empty() && traces.is_subset(&runs), "exemplars of {scenario}: {traces:?}");
    }
    eprintln!("{runs} runs");
    assert!(runs as u64 > outage().as_secs() * SCENARIOS as u64 / 2, "{runs}");
    tokio::task::spawn_blocking(move || drop((server, osmem, prometheus))).await.unwrap();
}

/// The end of the last run that the file has.
fn last_line(folder: &Folder) -> Option<DateTime<Utc>> {
    let text = std::fs::read_to_string(folder.path().join("outcomes.ndjson")).ok()?;
    let line: Value = serde_json::from_str(text.lines().last()?).ok()?;
    line["@timestamp"].as_str()?.parse().ok()
}

/// How late runs were started so far: all of them, and those that were at most 0.1 s late.
async fn lags(agent: &Agent) -> (f64, f64) {
    let scrape = agent.get("/metrics").await;
    let of = |bound| sample(&scrape, "wachta_schedule_lag_seconds_bucket", &[("le", bound)]).unwrap();
    (of("+Inf"), of("0.1"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_destination_holds_up_nobody() {
    let stop = CancellationToken::new();
    let shop = Demo::open(0, 0, &stop).await.unwrap();
    let osmem = SearchServer::osmem().await;
    let (silent, slow, gone) =
        tokio::join!(Gate::to(&osmem.address), Gate::to(&osmem.address), Gate::to(&osmem.address));
    silent.set(Way::Silent);
    slow.set(Way::Slow(Duration::from_secs(2)));
    gone.set(Way::Closed);
    let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = target.local_addr().unwrap().port();
    let accepting = tokio::spawn(async move { while target.accept().await.is_ok() {} });
    let checks = (0..SCENARIOS).map(|number| format!("  {}: {{tcp: \"127.0.0.1:{port}\", every: 1s}}\n", name(number)));
    let checks = format!("checks:\n{}", checks.collect::<String>());
    let bad = format!(
        "zabbix: {{server: \"{}\", host: here}}\nelasticsearch: {{url: \"http://{}\"}}\n\
         sentry: {{dsn: \"http://key@{}/1\", monitors: true}}\n",
        silent.address, slow.address, gone.address
    );
    // Two agents over the same span of the same machine, one of them beside three bad destinations.
    let mut agents = Vec::new();
    for (name, sinks) in [("good-destinations", ""), ("bad-destinations", bad.as_str())] {
        let folder = Folder::new(name);
        folder.write("scenarios/checks.yaml", &checks);
        folder.write(
            "wachta.yaml",
            &format!(
                "location: here\nscenarios: [scenarios/]\nstore: sqlite:wachta.db\nweb: {{listen: \"127.0.0.1:0\"}}\n\
                 ecs: {{file: outcomes.ndjson}}\n{sinks}"
            ),
        );
        agents.push((Agent::serve(folder.path(), &shop).await, folder));
    }
    let mut before = Vec::new();
    for (agent, _) in &agents {
        before.push(lags(agent).await);
    }
    let (began, mut behind) = (Instant::now(), [TimeDelta::zero(); 2]);
    until("the span is over", outage() * 2, async || {
        for (behind, (_, folder)) in behind.iter_mut().zip(&agents) {
            *behind = (*behind).max(Utc::now() - last_line(folder).unwrap_or_else(Utc::now));
        }
        (began.elapsed() >= outage()).then_some(())
    })
    .await;
    let mut runs = Vec::new();
    for ((agent, _), before) in agents.iter().zip(before) {
        let after = lags(agent).await;
        eprintln!("{} runs, {} of them at most 0.1 s late", after.0 - before.0, after.1 - before.1);
        runs.push(after.0 - before.0);
    }
    let waiting = waiting(&agents[1].0).await;
    eprintln!("the files were at most {behind:?} behind; {waiting:?}");
    assert!(runs[0] > 0.0 && runs[1] > runs[0] * 0.8, "{runs:?} runs");
    assert!(behind[1] < behind[0] + TimeDelta::seconds(10), "{behind:?}");
    assert!(waiting["zabbix"] > SCENARIOS as u64 && waiting["ecs"] < 5 * SCENARIOS as u64, "{waiting:?}");
    for (agent, _) in agents {
        agent.stop().await;
    }
    accepting.abort();
    tokio::task::spawn_blocking(move || drop(osmem)).await.unwrap();
}
