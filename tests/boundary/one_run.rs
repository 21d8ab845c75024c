//! One run is the same run wherever it is shown: metrics, Zabbix, the store, the page.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use wachta::demo::{Demo, Fault};
use wachta::outcome::{Outcome, Verdict};
use wachta::store::{History as _, Sqlite};

use crate::support::agent::{Agent, sample};
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

/// The same run on the page. Until there is a page, this has nothing to look at.
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
    let stop = CancellationToken::new();
    let shop = Demo::open(0, 0, &stop).await.unwrap();
    let folder = Folder::new("one-run");
    examples(&folder, &["orders-api.yaml", "checks.yaml"]);
    folder.write(
        "wachta.yaml",
        &format!(
            "location: here\nscenarios: [scenarios/]\nallow: {{env: [\"SHOP_*\"], files: [\"{}/\"]}}\nstore: sqlite:wachta.db\n\
             web: {{listen: \"127.0.0.1:0\"}}\nzabbix: {{server: \"{}\", host: {}}}\n",
            folder.path().display(),
            server.trapper,
            api.host
        ),
    );
    let agent = Agent::serve(folder.path(), &shop).await;
    let store = Sqlite::open(&format!("sqlite:{}", folder.path().join("wachta.db").display())).await.unwrap();

    let passed = shown_in_metrics(&agent, &store, Verdict::Passed).await;
    shown_in_zabbix(&api, &passed).await;
    shop.shop.set(Fault::Error500, true);
    let failed = shown_in_metrics(&agent, &store, Verdict::Failed).await;
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
    shown_in_zabbix(&api, &failed).await;

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
    stop.cancel();
}
