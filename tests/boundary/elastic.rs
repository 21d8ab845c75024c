//! The sink of ECS documents against servers with OpenSearch's REST API: OpenSearch itself where it can be had, and osmem.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use chrono::TimeDelta;
use reqwest::Method;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use wachta::app::sink_client;
use wachta::bounded::credential::Credential;
use wachta::demo::Demo;
use wachta::incident::{Change, Incident, Subject, Transition};
use wachta::outcome::{Outcome, RunId, StepStatus, Streak, Verdict};
use wachta::scenario::{Lookup, LookupError, load};
use wachta::sink::elasticsearch::{Authentication, Config, Target};
use wachta::sink::prometheus::Prometheus;
use wachta::sink::{Context, Event, Finished, Sent, Sink};
use wachta::store::evidence::EvidenceFolder;
use wachta::store::{History as _, Sqlite};

use crate::support::agent::Agent;
use crate::support::front::Front;
use crate::support::search::SearchServer;
use crate::support::{Folder, until};

const SOON: Duration = Duration::from_secs(120);

/// A failed run of a flow of which the second step decided.
const FLOW: &str = r#"{
    "run": "01935400-0000-7000-8000-000000000001", "scenario": "shop", "name": "Shop", "kind": "api",
    "location": "waw-1", "due_at": "2026-11-22T12:00:00Z", "started_at": "2026-11-22T12:00:00.5Z",
    "ended_at": "2026-11-22T12:00:02.123456789Z", "duration": 1.5, "verdict": "failed", "reason": "status",
    "message": "returned status 500", "failed_step": 1,
    "steps": [
        {"name": "login", "span_id": "0123456789abcdef", "offset": 0.0, "duration": 0.5, "status": "passed",
         "place": "shop.yaml:3:5"},
        {"name": "buy", "span_id": "0123456789abcde0", "offset": 0.5, "duration": 1.0, "status": "failed",
         "place": "shop.yaml:5:5", "failure": {"reason": "status", "message": "returned status 500"},
         "certificate_expires_at": "2027-01-01T00:00:00Z",
         "http": {"method": "POST", "url": "https://shop.example/buy", "status": 500, "bytes": 12,
                  "hops": [{"method": "POST", "url": "https://shop.example/buy", "status": 500,
                            "address": "10.0.0.1:443", "http_version": "1.1",
                            "phases": {"resolve": 0.001, "connect": 0.002, "tls": 0.003, "processing": 0.004,
                                       "transfer": 0.005}}]}}
    ],
    "evidence": []
}"#;

struct Nothing;

impl Lookup for Nothing {
    fn env(&self, name: &str) -> Result<String, LookupError> {
        Err(LookupError::Missing(name.to_owned()))
    }

    fn file(&self, path: &Path, _: &str) -> Result<Vec<u8>, LookupError> {
        Err(LookupError::Missing(path.display().to_string()))
    }
}

fn failed() -> Outcome {
    let outcome: Outcome = serde_json::from_str(FLOW).unwrap();
    Outcome { streak: Streak::after(None, &outcome), ..outcome }
}

/// The same flow when it passes.
fn passed() -> Outcome {
    let mut outcome = Outcome {
        run: RunId::new(),
        verdict: Verdict::Passed,
        reason: None,
        message: None,
        failed_step: None,
        ..failed()
    };
    let step = &mut outcome.steps[1];
    (step.status, step.failure) = (StepStatus::Passed, None);
    let http = step.http.as_mut().unwrap();
    (http.status, http.hops[0].status) = (200, Some(200));
    Outcome { streak: Streak::after(outcome.streak, &outcome), ..outcome }
}

/// A run with the scenario that it is of, which has this tag.
fn tagged(outcome: Outcome, tag: &str, value: &str) -> Event {
    let text = format!("scenario: Shop\ntags: {{{tag}: \"{value}\"}}\nsteps: [{{GET: \"http://shop/\"}}]\n");
    let loaded = load("shop.yaml", &text, &Nothing);
    let scenario = loaded.scenarios.into_iter().next().unwrap_or_else(|| panic!("{:?}", loaded.diagnostics));
    Event::Finished(Finished { scenario: Some(scenario), outcome: Arc::new(outcome) })
}

fn opened(outcome: &Outcome) -> Event {
    let incident = Incident::opened(Subject::from("shop"), 3, outcome);
    let incident = Incident { message: outcome.message.clone(), target: Some("http://shop/".into()), ..incident };
    Event::Changed(Arc::new(Change {
        seq: 3,
        transition: Transition::Opened,
        at: incident.opened_at,
        incident,
        cause: "status · shop".into(),
        ended_causes: Vec::new(),
    }))
}

fn config(url: &str, target: Target) -> Config {
    Config { url: url.parse().unwrap(), target, authentication: None, ca: None, puts_template: true }
}

fn build(config: &Config) -> Result<Box<dyn Sink>, String> {
    config.build(&Context {
        location: "here".into(),
        agent_state: Arc::new(|| json!({})),
        http_client: Arc::new(sink_client),
        evidence: EvidenceFolder::new(std::env::temp_dir().join("wachta-no-evidence")),
        prometheus: Arc::new(Prometheus::new(prometheus::Registry::new(), "here")),
    })
}

/// Documents are taken once, are found by the fields that views for Heartbeat use, and one that does not fit is set aside.
async fn takes_documents(server: &SearchServer, target: &Target) {
    let index = target.name().to_owned();
    let mut sink = build(&config(&format!("http://{}", server.address), target.clone())).unwrap();
    assert!(sink.upkeep_at().is_some());
    assert_eq!((sink.upkeep().await, sink.upkeep_at()), (Sent::Taken, None), "{}: the template", server.name);
    let failed = failed();
    let batch = [tagged(failed.clone(), "team.name", "web"), tagged(passed(), "team.name", "web"), opened(&failed)];
    for _ in 0..2 {
        assert_eq!(sink.send(&batch).await, Sent::Taken, "{} {index}", server.name);
    }
    if server.is_real() {
        let (_, answer) = server.call(Method::GET, &format!("_data_stream/{index}"), &Value::Null).await;
        let is_stream = answer["data_streams"].as_array().is_some_and(|streams| !streams.is_empty());
        assert_eq!(is_stream, matches!(target, Target::DataStream(_)), "{index}: {answer}");
    }
    let between = |gte: &str, lte: &str| json!({"range": {"monitor.timespan": {"gte": gte, "lte": lte}}});
    for (query, expected) in [
        (json!({"match_all": {}}), 7),
        (json!({"term": {"monitor.id": "shop"}}), 7),
        (json!({"term": {"monitor.type": "browser"}}), 6),
        (json!({"term": {"monitor.status": "down"}}), 1),
        (json!({"term": {"summary.down": 1}}), 1),
        (json!({"term": {"summary.up": 1}}), 1),
        (json!({"term": {"state.status": "up"}}), 1),
        (json!({"range": {"state.started_at": {"gte": "2026-11-22T12:00:00.5Z"}}}), 2),
        (json!({"range": {"monitor.duration.us": {"gte": 1_000_000}}}), 2),
        (json!({"range": {"@timestamp": {"gte": "2026-11-22T12:00:02.123456789Z"}}}), 3),
        (json!({"range": {"@timestamp": {"gt": "2026-11-22T12:00:02.123456789Z"}}}), 0),
        (between("2026-11-22T12:00:01Z", "2026-11-22T12:00:01.1Z"), 6),
        (between("2026-11-22T12:02:03Z", "2026-11-22T12:02:04Z"), 0),
        (json!({"term": {"monitor.ip": "10.0.0.0/8"}}), 4),
        (json!({"term": {"url.domain": "shop.example"}}), 4),
        (json!({"range": {"http.response.status_code": {"gte": 500}}}), 2),
        (json!({"range": {"http.rtt.total.us": {"gte": 14_000}}}), 4),
        (json!({"range": {"tls.certificate_not_valid_after": {"lt": "2027-02-01"}}}), 4),
        (json!({"term": {"synthetics.type": "heartbeat/summary"}}), 2),
        (json!({"term": {"synthetics.step.status": "failed"}}), 1),
        (json!({"term": {"labels.team_name": "web"}}), 6),
        (json!({"term": {"observer.geo.name": "waw-1"}}), 6),
        (json!({"term": {"trace.id": "01935400000070008000000000000001"}}), 3),
        (json!({"match": {"error.message": "returned"}}), 3),
        (
            json!({"bool": {"filter": [{"term": {"event.kind": "alert"}}, {"term": {"wachta.incident.key": "shop:3"}}]}}),
            1,
        ),
    ] {
        assert_eq!(server.search(&index, &query).await.len(), expected, "{} {index}: {query}", server.name);
    }

    // A run may be over within a millisecond.
    let quick = passed();
    let started_at = quick.ended_at - TimeDelta::microseconds(80);
    let quick = Finished { scenario: None, outcome: Arc::new(Outcome { started_at, ..quick }) };
    assert_eq!(sink.send(&[Event::Finished(quick)]).await, Sent::Taken, "{} {index}: a quick run", server.name);

    // Somebody has decided that builds are numbers.
    let mapping = json!({"properties": {"labels": {"properties": {"build": {"type": "long"}}}}});
    let (status, answer) = server.call(Method::PUT, &format!("{index}/_mapping"), &mapping).await;
    assert_eq!(status, 200, "{answer}");
    let batch = [tagged(passed(), "build", "17"), tagged(passed(), "build", "a word"), tagged(passed(), "build", "18")];
    for _ in 0..2 {
        let Sent::Partial(refusals) = sink.send(&batch).await else { panic!("{}: it fits", server.name) };
        let [refusal] = refusals.as_slice() else { panic!("{refusals:?}") };
        assert!(refusal.index == 1 && !refusal.for_now && refusal.reason.contains("labels.build"), "{refusal:?}");
    }
    let builds = json!({"range": {"labels.build": {"gte": 17}}});
    assert_eq!(server.search(&index, &builds).await.len(), 6, "{}: the others are taken", server.name);
}

/// What comes of a batch with these settings, over TLS.
async fn answer(front: &Front, ca: Option<&Path>, authentication: Option<Authentication>) -> Result<Sent, String> {
    let config = config(&front.url, Target::Index("over-tls".into()));
    let mut sink = build(&Config { ca: ca.map(Path::to_owned), authentication, ..config })?;
    Ok(sink.send(&[tagged(passed(), "team", "web")]).await)
}

async fn is_reached_by_tls(server: &SearchServer) {
    let basic = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode("agent:open sesame"));
    let front = Front::before(&server.address, &["ApiKey c2VjcmV0LWtleQ==", &basic]).await;
    let stranger = Front::before(&server.address, &[]).await;
    let folder = Folder::new("elastic-tls");
    let nothing = String::new();
    for (name, text) in
        [("ca.pem", &front.ca), ("other.pem", &stranger.ca), ("twin.pem", &front.twin), ("empty.pem", &nothing)]
    {
        folder.write(name, text);
    }
    folder.write("key", "c2VjcmV0LWtleQ==\n");
    folder.write("wrong-key", "d3Jvbmcta2V5\n");
    let path = |name: &str| folder.path().join(name);
    let (ca, other, twin) = (path("ca.pem"), path("other.pem"), path("twin.pem"));
    let key = |name: &str| Some(Authentication::ApiKey(Credential::File(path(name).into())));
    let user = |password: &str| Some(Authentication::Basic("agent".into(), Credential::text(password)));
    let retry = |reason: &str| Ok(Sent::Retry { after: None, reason: reason.to_owned() });
    for (ca, authentication, expected) in [
        (Some(&ca), key("key"), Ok(Sent::Taken)),
        (Some(&ca), user("open sesame"), Ok(Sent::Taken)),
        (Some(&ca), None, retry("status 401: the credentials are missing or not accepted")),
        (Some(&ca), key("wrong-key"), retry("status 401: the credentials are missing or not accepted")),
        (Some(&ca), user("guess"), retry("status 401: the credentials are missing or not accepted")),
        (None, key("key"), retry("the certificate is not trusted: its issuer is not trusted")),
        (Some(&other), key("key"), retry("the certificate is not trusted: its issuer is not trusted")),
        (
            Some(&twin),
            key("key"),
            retry(
                "the certificate is not trusted: it is not signed by the trusted CA: the trusted CA of the same name has another key",
            ),
        ),
    ] {
        let shown = format!("{ca:?} {authentication:?}");
        assert_eq!(answer(&front, ca.map(std::path::PathBuf::as_path), authentication).await, expected, "{shown}");
    }
    // The client that did not trust the certificate sent nothing.
    assert_eq!(front.log().len(), 5);
    for (file, expected) in [("none.pem", "cannot be read"), ("empty.pem", "empty.pem")] {
        let error = answer(&front, Some(&path(file)), None).await.unwrap_err();
        assert!(error.contains(expected) && error.contains(file), "{error}");
    }
    let Ok(Sent::Retry { reason, .. }) = answer(&front, Some(&ca), key("no-key")).await else { panic!("it is sent") };
    assert!(reason.contains("no-key"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_are_taken_once_and_found_by_their_fields() {
    let (osmem, open_search) = tokio::join!(SearchServer::osmem(), SearchServer::open_search("elastic"));
    takes_documents(&osmem, &Target::Index("runs".into())).await;
    is_reached_by_tls(&osmem).await;
    if let Some(open_search) = &open_search {
        takes_documents(open_search, &Target::Index("runs".into())).await;
        takes_documents(open_search, &Target::DataStream("synthetics-wachta-default".into())).await;
    }
    tokio::task::spawn_blocking(move || drop((osmem, open_search))).await.unwrap();
}

/// The outcomes that the store has, in the order of their numbers.
async fn stored(folder: &Folder) -> Vec<Outcome> {
    let url = format!("sqlite:{}", folder.path().join("wachta.db").display());
    let store = Sqlite::open_to_read(&url).await.unwrap();
    let mut outcomes = store.recent(None, 10_000).await.unwrap();
    store.close().await;
    outcomes.sort_by_key(|outcome| outcome.seq);
    outcomes
}

/// The documents of runs, by run.
async fn indexed(server: &SearchServer) -> BTreeMap<String, Value> {
    let runs = server.search("runs", &json!({"exists": {"field": "summary.up"}})).await;
    let by_run = |document: Value| (document["event"]["id"].as_str().unwrap().to_owned(), document);
    runs.into_iter().map(by_run).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_and_states_go_on_when_the_agent_dies() {
    let stop = CancellationToken::new();
    let (server, shop) = tokio::join!(SearchServer::osmem(), Demo::open(0, 0, &stop));
    let shop = shop.unwrap();
    let front = Front::before(&server.address, &["ApiKey c2VjcmV0LWtleQ=="]).await;
    let folder = Folder::new("elastic-agent");
    folder.write("roots.pem", &front.ca);
    folder.write("key", "d3Jvbmcta2V5\n");
    folder.write("scenarios/checks.yaml", "checks: {home: {http: \"${env.SHOP_URL}/\", every: 1s}}\n");
    folder.write(
        "wachta.yaml",
        &format!(
            "location: here\nscenarios: [scenarios/]\nallow: {{env: [\"SHOP_*\"]}}\nstore: sqlite:wachta.db\n\
             web: {{listen: \"127.0.0.1:0\"}}\n\
             elasticsearch: {{url: \"{}\", index: runs, ca: roots.pem, api_key: {{file: key}}}}\n",
            front.url
        ),
    );
    let mut agent = Agent::serve(folder.path(), &shop).await;
    until("the sink says that its key is wrong, and keeps what it has", SOON, async || {
        let status: Value = serde_json::from_str(&agent.get("/api/v1/status").await).ok()?;
        let sink = &status["sinks"][0];
        let says = sink["last_error"].to_string().contains("the credentials are missing or not accepted");
        (says && sink["waiting"].as_u64()? >= 2 && sink["dropped"] == 0).then_some(())
    })
    .await;
    assert!(indexed(&server).await.is_empty());

    // The key is renewed, without a reload; the cluster has no time yet.
    front.be_busy(1, 3);
    folder.write("key", "c2VjcmV0LWtleQ==\n");
    until("runs are in the index", SOON, async || (indexed(&server).await.len() >= 3).then_some(())).await;
    let log = front.log();
    let busy = log.iter().position(|entry| entry.status == 429).expect("it was busy once");
    assert_eq!(log[busy].line, "POST /_bulk");
    assert!(log[busy + 1].at - log[busy].at >= Duration::from_secs(3), "{log:#?}");

    // Nothing reaches the index any longer. What is in it is in the store once the store has a run from afterwards.
    front.be_busy(usize::MAX, 1);
    let (closed, closed_at) = (Instant::now(), chrono::Utc::now());
    until("the store has runs that the index has not", SOON, async || {
        (stored(&folder).await.iter().filter(|outcome| outcome.started_at > closed_at).count() >= 2).then_some(())
    })
    .await;
    let before = indexed(&server).await;
    agent.kill();
    eprintln!("killed {:?} after the index was closed, with {} runs in it", closed.elapsed(), before.len());
    front.be_busy(0, 0);
    let agent = Agent::serve(folder.path(), &shop).await;
    until("the next agent has added runs", SOON, async || {
        (indexed(&server).await.len() >= before.len() + 5).then_some(())
    })
    .await;
    assert_eq!(agent.stop().await, Some(0));

    let outcomes = stored(&folder).await;
    let documents = indexed(&server).await;
    assert_eq!(documents.len(), outcomes.len());
    let (mut checks, mut first) = (0, None);
    for outcome in &outcomes {
        let document = &documents[&outcome.run.to_string()];
        assert_eq!(document["wachta"]["verdict"], outcome.verdict.as_str());
        let at: chrono::DateTime<chrono::Utc> = document["@timestamp"].as_str().unwrap().parse().unwrap();
        assert_eq!(at, outcome.ended_at);
        // A run that was lost with the agent leaves the state as it was.
        if outcome.verdict != Verdict::Unknown {
            assert_eq!(outcome.verdict, Verdict::Passed, "{outcome:#?}");
            checks += 1;
            first.get_or_insert(outcome);
        }
        let Some(first) = first else { continue };
        let state = &document["state"];
        assert_eq!((&state["checks"], &state["up"], &state["down"]), (&json!(checks), &json!(checks), &json!(0)));
        assert_eq!(state["id"], format!("home-{}", first.run));
        let started_at: chrono::DateTime<chrono::Utc> = state["started_at"].as_str().unwrap().parse().unwrap();
        assert_eq!(started_at, first.started_at);
    }
    assert!(checks >= 8, "{checks}");
    tokio::task::spawn_blocking(move || drop(server)).await.unwrap();
    stop.cancel();
}
