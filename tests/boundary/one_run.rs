//! One run is the same run wherever it is shown: Prometheus, Zabbix, OpenSearch, the OpenTelemetry Collector, Bugsink, the
//! store, the page.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use wachta::demo::{Demo, Fault};
use wachta::outcome::{Outcome, RunId, Verdict};
use wachta::sink::zabbix::provision::provision;
use wachta::store::{History as _, Sqlite};

use crate::support::agent::{Agent, sample};
use crate::support::bugsink::Bugsink;
use crate::support::collector::{self, Collector, attribute, nanos};
use crate::support::prometheus::Prometheus;
use crate::support::search::SearchServer;
use crate::support::zabbix::{Api, Server};
use crate::support::{Folder, examples, until};

const SOON: Duration = Duration::from_secs(120);
const ID: &str = "orders-api";

/// The run that `/metrics` shows as the last one, with this verdict, once it does: as the store has it.
async fn shown_in_metrics(agent: &Agent, store: &Sqlite, verdict: Verdict) -> Outcome {
    let scrape = until("a run with this verdict is shown", SOON, async || {
        let scrape = agent.get("/metrics").await;
        let labels = [("scenario", ID), ("verdict", verdict.as_str())];
        (sample(&scrape, "wachta_scenario_verdict", &labels) == Some(1.0)).then_some(scrape)
    })
    .await;
    let of = |name: &str| sample(&scrape, name, &[("scenario", ID)]).expect(name);
    let ended_at = of("wachta_scenario_last_run_timestamp_seconds");
    let outcome = until("the store has that run", SOON, async || {
        let outcomes = store.recent(Some(ID), 50).await.unwrap();
        outcomes.into_iter().find(|outcome| (outcome.ended_at.timestamp_micros() as f64 / 1e6 - ended_at).abs() < 0.002)
    })
    .await;
    assert_eq!(outcome.verdict, verdict);
    assert!((of("wachta_scenario_duration_seconds") - outcome.duration.as_secs_f64()).abs() < 1e-6);
    for other in Verdict::ALL.into_iter().filter(|other| *other != verdict) {
        let labels = [("scenario", ID), ("verdict", other.as_str())];
        assert_eq!(sample(&scrape, "wachta_scenario_verdict", &labels), Some(0.0));
    }
    let success = f64::from(u8::from(verdict == Verdict::Passed));
    assert_eq!(of("wachta_scenario_success").to_bits(), success.to_bits());
    outcome
}

/// The same run in Zabbix: the same id and numbers, at the same nanosecond.
async fn shown_in_zabbix(api: &Api, outcome: &Outcome) {
    let value_of = async |item: &str, value_type: u8| -> Value {
        let at = (outcome.ended_at.timestamp().to_string(), outcome.ended_at.timestamp_subsec_nanos().to_string());
        until("Zabbix has the value", SOON, async || {
            let values = api.history(&format!("wachta.{item}[\"{ID}\"]"), value_type, 1).await;
            values
                .into_iter()
                .find(|value| (value["clock"].as_str(), value["ns"].as_str()) == (Some(&at.0), Some(&at.1)))
        })
        .await["value"]
            .clone()
    };
    let run: Value = serde_json::from_str(value_of("run", 4).await.as_str().unwrap()).unwrap();
    assert_eq!(run["run"], outcome.run.to_string());
    assert_eq!((run["verdict"].as_str(), run["location"].as_str()), (Some(outcome.verdict.as_str()), Some("here")));
    assert_eq!(value_of("status", 3).await, outcome.verdict.code().to_string());
    assert_eq!(value_of("reason", 1).await, outcome.reason.map_or("", |reason| reason.as_str()));
    let duration: f64 = value_of("duration", 0).await.as_str().unwrap().parse().unwrap();
    assert!((duration - outcome.duration.as_secs_f64()).abs() < 0.001, "{duration}");
}

/// The same run in Prometheus: a scrape that has its numbers, and an exemplar with its id.
async fn shown_in_prometheus(prometheus: &Prometheus, outcome: &Outcome) {
    let ended_at = outcome.ended_at.timestamp_micros() as f64 / 1e6;
    let samples = async |name: &str, labels: &str| {
        let series = prometheus.samples(&format!("{name}{{scenario=\"{ID}\"{labels}}}[30m]")).await;
        assert!(series.len() <= 1, "{name}: {series:?}");
        series.into_iter().flatten().collect::<Vec<_>>()
    };
    // Samples of one scrape have one time.
    let at = until("Prometheus has the run", SOON, async || {
        let samples = samples("wachta_scenario_last_run_timestamp_seconds", "").await;
        samples.into_iter().find(|(_, value)| (value - ended_at).abs() < 0.002).map(|(at, _)| at)
    })
    .await;
    let value = async |name: &str, labels: &str| {
        let samples = samples(name, labels).await;
        let sample = samples.into_iter().find(|(time, _)| time.to_bits() == at.to_bits());
        sample.unwrap_or_else(|| panic!("{name} has no sample at {at}")).1
    };
    for verdict in Verdict::ALL {
        let expected = f64::from(u8::from(verdict == outcome.verdict));
        let labels = format!(",verdict=\"{}\"", verdict.as_str());
        assert_eq!(value("wachta_scenario_verdict", &labels).await.to_bits(), expected.to_bits(), "{verdict}");
    }
    let duration = value("wachta_scenario_duration_seconds", "").await;
    assert!((duration - outcome.duration.as_secs_f64()).abs() < 1e-6, "{duration}");
    let trace = outcome.run.0.simple().to_string();
    until("Prometheus has the run as an exemplar", SOON, async || {
        let of = format!("wachta_scenario_runs_total{{scenario=\"{ID}\",verdict=\"{}\"}}", outcome.verdict.as_str());
        prometheus.traces(&of).await.contains(&trace).then_some(())
    })
    .await;
}

/// The same run in the index: one document, at the same nanosecond.
async fn shown_in_index(server: &SearchServer, outcome: &Outcome) {
    let run = outcome.run.to_string();
    let documents = until("the index has the run", SOON, async || {
        Some(server.documents("wachta", "event.id", &run).await).filter(|documents| !documents.is_empty())
    })
    .await;
    let [document] = documents.as_slice() else { panic!("{documents:#?}") };
    let at: chrono::DateTime<chrono::Utc> = document["@timestamp"].as_str().unwrap().parse().unwrap();
    assert_eq!(at, outcome.ended_at);
    assert_eq!(document["trace"]["id"], outcome.run.0.simple().to_string());
    assert_eq!((&document["monitor"]["id"], &document["monitor"]["check_group"]), (&ID.into(), &run.as_str().into()));
    assert_eq!(document["wachta"]["verdict"], outcome.verdict.as_str());
    assert_eq!(document["wachta"]["reason"].as_str(), outcome.reason.map(wachta::names::Reason::as_str));
    assert_eq!(document["monitor"]["duration"]["us"], json!(u64::try_from(outcome.duration.as_micros()).unwrap()));
}

/// The same run in the collector: a trace and a log record, from the same to the same nanosecond.
async fn shown_in_collector(collector: &mut Collector, outcome: &Outcome) {
    let trace = outcome.run.0.simple().to_string();
    let (root, record) = until("the collector has the run", SOON, async || {
        let is_root = |span: &Value| {
            span["traceId"] == trace.as_str() && span["parentSpanId"].as_str().unwrap_or_default().is_empty()
        };
        let root = collector.spans().into_iter().find(is_root)?;
        let record = collector.records().into_iter().find(|record| record["traceId"] == trace.as_str())?;
        Some((root, record))
    })
    .await;
    assert_eq!(nanos(&root, "startTimeUnixNano"), outcome.started_at.timestamp_nanos_opt().unwrap());
    assert_eq!(nanos(&root, "endTimeUnixNano"), outcome.ended_at.timestamp_nanos_opt().unwrap());
    assert_eq!(nanos(&record, "timeUnixNano"), outcome.ended_at.timestamp_nanos_opt().unwrap());
    for of in [&root, &record] {
        assert_eq!(attribute(of, "wachta.verdict"), outcome.verdict.as_str());
        assert_eq!(attribute(of, "wachta.scenario.id"), ID);
    }
}

/// The run that opened the incident, as Bugsink has it and as the store has it.
async fn opened_in_bugsink(bugsink: &Bugsink, store: &Sqlite) -> Outcome {
    let issue = until("Bugsink has an issue", SOON, async || bugsink.issues().await.pop()).await;
    let event = until("the issue has its event", SOON, async || bugsink.events(&issue).await.into_iter().next()).await;
    let run = RunId(event["tags"]["wachta.run"].as_str().unwrap().parse().unwrap());
    let outcome = until("the store has that run", SOON, async || store.run(run).await.unwrap()).await;
    let at = &event["timestamp"];
    let at = at.as_f64().unwrap_or_else(|| {
        at.as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap().timestamp_micros() as f64 / 1e6
    });
    assert!((at - outcome.ended_at.timestamp_micros() as f64 / 1e6).abs() < 0.001);
    assert_eq!(event["contexts"]["trace"]["trace_id"], run.0.simple().to_string());
    assert_eq!(event["tags"]["wachta.verdict"], outcome.verdict.as_str());
    assert_eq!(event["tags"]["wachta.scenario"], ID);
    assert_eq!(event["exception"]["values"][0]["value"].as_str(), outcome.message.as_deref());
    outcome
}

/// The same run on the page.
async fn shown_on_the_page(agent: &Agent, outcome: &Outcome) {
    let overview = agent.get("/").await;
    assert!(overview.contains(ID), "{overview}");
    let page = agent.get(&format!("/run/{}", outcome.run)).await;
    for part in [outcome.run.to_string(), outcome.verdict.to_string(), outcome.ended_at.format("%H:%M:%S").to_string()]
    {
        assert!(page.contains(&part), "no {part} in\n{page}");
    }
}

/// `promtool check metrics` has nothing to say.
fn promtool(scrape: &str) {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed");
    promtool.stdin.take().unwrap().write_all(scrape.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!((output.status.code(), said.as_str()), (Some(0), ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_the_same_everywhere() {
    let server = tokio::task::spawn_blocking(Server::up).await.unwrap();
    let api = Api::login(&server).await;
    api.provision().await;
    // A host of another name stands for another server.
    let second = Api::login(&server).await;
    provision(&second.ours().await, &second.wanted(), false).await.expect("the second host is set up");
    let stop = CancellationToken::new();
    let (shop, bugsink, index) =
        tokio::join!(Demo::open(0, 0, &stop), Bugsink::up("Orders"), SearchServer::best("one-run"));
    let shop = shop.unwrap();
    let mut collector = match collector::program() {
        Some(program) => Some(Collector::up(&program, "one-run-collector", false).await),
        None => None,
    };
    let folder = Folder::new("one-run");
    examples(&folder, &["orders-api.yaml", "checks.yaml"]);
    // Long enough between two runs that no scrape can miss one of them.
    let scenario = std::fs::read_to_string(folder.path().join("scenarios/orders-api.yaml")).unwrap();
    folder.write("scenarios/orders-api.yaml", &scenario.replacen("every: 1s", "every: 3s", 1));
    let otlp =
        collector.as_ref().map(|collector| format!("otlp: {{endpoint: \"http://127.0.0.1:{}\"}}\n", collector.http));
    let entry = |name: &str, api: &Api| format!("{{{name}server: \"{}\", host: {}}}", server.trapper, api.host);
    let zabbix = format!("zabbix: [{}, {}]\n", entry("", &api), entry("name: second, ", &second));
    folder.write(
        "wachta.yaml",
        &format!(
            "location: here\nscenarios: [scenarios/]\nallow: {{env: [\"SHOP_*\"], files: [\"{}/\"]}}\nstore: sqlite:wachta.db\n\
             web: {{listen: \"127.0.0.1:0\"}}\n{zabbix}elasticsearch: {{url: \"http://{}\"}}\n\
             sentry: {{dsn: \"{}\"}}\n{}",
            folder.path().display(),
            index.address,
            bugsink.dsn,
            otlp.unwrap_or_default()
        ),
    );
    let agent = Agent::serve(folder.path(), &shop).await;
    let store = Sqlite::open(&format!("sqlite:{}", folder.path().join("wachta.db").display())).await.unwrap();

    let prometheus = Prometheus::up(Some(agent.url("").trim_start_matches("http://"))).await;

    let first = shown_in_metrics(&agent, &store, Verdict::Passed).await;
    // Prometheus began later, perhaps after that run.
    let passed = until("another run has passed", SOON, async || {
        let outcomes = store.recent(Some(ID), 5).await.unwrap();
        outcomes.into_iter().find(|outcome| outcome.started_at > first.ended_at && outcome.verdict == Verdict::Passed)
    })
    .await;
    shown_in_zabbix(&api, &first).await;
    shop.shop.set(Fault::Error500, true);
    let failed = opened_in_bugsink(&bugsink, &store).await;
    assert_eq!(failed.verdict, Verdict::Failed);
    for outcome in [&passed, &failed] {
        shown_in_zabbix(&api, outcome).await;
        shown_in_zabbix(&second, outcome).await;
        shown_in_prometheus(&prometheus, outcome).await;
        shown_in_index(&index, outcome).await;
        if let Some(collector) = &mut collector {
            shown_in_collector(collector, outcome).await;
        }
    }
    let last = shown_in_metrics(&agent, &store, Verdict::Failed).await;
    promtool(&agent.get("/metrics").await);

    // Zabbix opens its problem with a failed run of ours.
    let hosts = api.call("host.get", json!({"filter": {"host": api.host}, "output": ["hostid"]})).await;
    let problems = json!({"hostids": hosts[0]["hostid"], "search": {"name": "Orders API: failed"}});
    let open = api.until("problem.get", problems.clone(), |open| open.as_array().is_some_and(|v| v.len() == 1)).await;
    // The store may have a run a moment after Zabbix: neither waits for the other.
    let run_at = async |event: &Value| -> Outcome {
        let at_event = |outcome: &Outcome| {
            let at = (outcome.ended_at.timestamp().to_string(), outcome.ended_at.timestamp_subsec_nanos().to_string());
            (Some(at.0.as_str()), Some(at.1.as_str())) == (event["clock"].as_str(), event["ns"].as_str())
        };
        until("the store has the run whose time the event has", SOON, async || {
            store.recent(Some(ID), 1000).await.unwrap().into_iter().find(at_event)
        })
        .await
    };
    assert_eq!(run_at(&open[0]).await.verdict, Verdict::Failed);
    shown_in_zabbix(&api, &last).await;

    // And resolves it with one that passed.
    shop.shop.set(Fault::Error500, false);
    api.until("problem.get", problems, |open| open.as_array().is_some_and(Vec::is_empty)).await;
    let events = json!({"hostids": hosts[0]["hostid"], "value": 0, "source": 0, "object": 0, "output": "extend"});
    let events = api.until("event.get", events, |events| events[0]["eventid"].is_string()).await;
    assert_eq!(events.as_array().unwrap().len(), 1);
    assert_eq!(run_at(&events[0]).await.verdict, Verdict::Passed);

    for outcome in [&passed, &failed] {
        shown_on_the_page(&agent, outcome).await;
    }
    assert_eq!(agent.stop().await, Some(0));
    // What was shown is what is kept.
    for outcome in [passed, failed] {
        assert_eq!(store.run(outcome.run).await.unwrap(), Some(outcome));
    }
    store.close().await;
    tokio::task::spawn_blocking(move || drop((bugsink, index, collector, prometheus))).await.unwrap();
    stop.cancel();
}
