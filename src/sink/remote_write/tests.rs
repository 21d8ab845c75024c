//! The requests sent to a remote write receiver, the effects of its responses, and the data that it finally has.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse as _;
use http_body_util::BodyExt as _;
use prost::Message as _;
use serde_json::json;

use super::*;
use crate::bounded::credential::Credential;
use crate::names::metric::Detail;
use crate::outcome::{Outcome, RunId};
use crate::scenario::{Lookup, LookupError, load};
use crate::sink::{Context, Finished, fixtures, prometheus};

/// Start of the runs in these tests, in seconds since 1970.
const BEGIN: i64 = 1_700_000_000;
const V1: &str = "0.1.0";
const V2: &str = "2.0.0";

struct Nothing;

impl Lookup for Nothing {
    fn env(&self, name: &str) -> Result<String, LookupError> {
        Err(LookupError::Missing(name.to_owned()))
    }

    fn file(&self, path: &std::path::Path, _: &str) -> Result<Vec<u8>, LookupError> {
        Err(LookupError::Missing(path.display().to_string()))
    }
}

/// Received sample with its metadata.
#[derive(Debug, Clone)]
struct Received {
    /// Series as `NAME LABEL=VALUE,…`.
    series: String,
    value: f64,
    at: i64,
    start: i64,
    /// Trace id, value and time of the exemplar.
    exemplar: Option<(String, f64, i64)>,
    /// Type, help and unit.
    metadata: Option<(i32, String, String)>,
}

#[derive(Default)]
struct Log {
    /// Scripted responses: a status, and whether it confirms samples.
    plan: VecDeque<(u16, bool)>,
    /// Versions accepted after the scripted responses.
    takes: Vec<&'static str>,
    heads: Vec<HeaderMap>,
    /// Samples of each request.
    requests: Vec<Vec<Received>>,
    /// Accepted samples by series.
    kept: BTreeMap<String, Vec<(i64, f64)>>,
}

impl Log {
    /// Responds like Prometheus: a request with a late sample is rejected as a whole.
    fn answer(&mut self, version: &str, received: &[Received]) -> (u16, bool, &'static str) {
        if let Some((status, confirms)) = self.plan.pop_front() {
            return (status, confirms, "as planned");
        }
        if !self.takes.contains(&version) {
            return (415, false, "unsupported");
        }
        for new in received {
            if let Some((at, value)) = self.kept.get(&new.series).and_then(|kept| kept.last()) {
                if new.at < *at {
                    return (400, version == V2, "out of order sample");
                }
                if new.at == *at && new.value.to_bits() != value.to_bits() {
                    return (400, version == V2, "duplicate sample for timestamp");
                }
            }
        }
        for new in received {
            let kept = self.kept.entry(new.series.clone()).or_default();
            if kept.last().is_none_or(|(at, _)| *at < new.at) {
                kept.push((new.at, new.value));
            }
        }
        (204, version == V2, "")
    }
}

struct Receiver {
    url: url::Url,
    log: Arc<Mutex<Log>>,
    task: tokio::task::JoinHandle<()>,
}

impl Receiver {
    async fn start(plan: &[(u16, bool)], takes: &[&'static str]) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/write?tenant=a", listener.local_addr().unwrap()).parse().unwrap();
        let log = Log { plan: plan.iter().copied().collect(), takes: takes.to_vec(), ..Log::default() };
        let log = Arc::new(Mutex::new(log));
        let shared = Arc::clone(&log);
        let router = Router::new().fallback(move |request: Request| async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let version = head.headers["x-prometheus-remote-write-version"].to_str().unwrap().to_owned();
            let received = decoded(&version, &snap::raw::Decoder::new().decompress_vec(&body).unwrap());
            let mut log = shared.lock().unwrap();
            let (status, confirms, text) = log.answer(&version, &received);
            log.heads.push(head.headers);
            log.requests.push(received);
            let mut response = (StatusCode::from_u16(status).unwrap(), text).into_response();
            if confirms {
                response.headers_mut().insert("x-prometheus-remote-write-samples-written", "1".parse().unwrap());
            }
            response
        });
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, log, task }
    }

    fn versions(&self) -> Vec<String> {
        let log = self.log.lock().unwrap();
        log.heads.iter().map(|head| head["x-prometheus-remote-write-version"].to_str().unwrap().to_owned()).collect()
    }

    /// Returns the samples of the last request.
    fn last(&self) -> Vec<Received> {
        self.log.lock().unwrap().requests.last().cloned().unwrap_or_default()
    }

    /// Formats the samples of the last request as `SERIES VALUE @SECONDS`, with times relative to [`BEGIN`].
    fn last_lines(&self) -> Vec<String> {
        self.last().iter().map(|sample| format!("{} {}", sample.series, point(sample.at, sample.value))).collect()
    }

    /// Returns the accepted samples of a series as `VALUE @SECONDS`.
    fn kept(&self, series: &str) -> Vec<String> {
        let log = self.log.lock().unwrap();
        let kept = log.kept.get(series).unwrap_or_else(|| panic!("no {series} in {:#?}", log.kept.keys()));
        kept.iter().map(|(at, value)| point(*at, *value)).collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn point(at: i64, value: f64) -> String {
    // The stale marker is a special NaN.
    let value = if value.to_bits() == 0x7ff0_0000_0000_0002 { "stale".to_owned() } else { value.to_string() };
    format!("{value} @{}", (at - BEGIN * 1000) as f64 / 1e3)
}

fn named(labels: &[(String, String)]) -> String {
    assert!(labels.is_sorted() && labels.windows(2).all(|pair| pair[0].0 != pair[1].0), "{labels:?}");
    assert!(labels.iter().all(|(_, value)| !value.is_empty()), "{labels:?}");
    let name = labels.iter().find(|(name, _)| name == "__name__").unwrap().1.clone();
    let others = labels.iter().filter(|(name, _)| name != "__name__").map(|(name, value)| format!("{name}={value}"));
    format!("{name} {}", others.collect::<Vec<_>>().join(","))
}

fn decoded(version: &str, body: &[u8]) -> Vec<Received> {
    let mut all = Vec::new();
    if version == V1 {
        for of in message::WriteRequest::decode(body).unwrap().timeseries {
            let pairs = |labels: &[message::Label]| {
                labels.iter().map(|label| (label.name.clone(), label.value.clone())).collect::<Vec<_>>()
            };
            let exemplar = of.exemplars.first().map(|of| (pairs(&of.labels)[0].1.clone(), of.value, of.timestamp));
            for point in &of.samples {
                let series = named(&pairs(&of.labels));
                let (value, at, start) = (point.value, point.timestamp, point.start_timestamp);
                all.push(Received { series, value, at, start, exemplar: exemplar.clone(), metadata: None });
            }
        }
        return all;
    }
    let request = message::Request::decode(body).unwrap();
    assert_eq!(request.symbols[0], "");
    let text = |place: u32| request.symbols[place as usize].clone();
    let pairs = |refs: &[u32]| refs.chunks(2).map(|pair| (text(pair[0]), text(pair[1]))).collect::<Vec<_>>();
    for of in &request.timeseries {
        let exemplar = of.exemplars.first().map(|of| {
            assert_eq!(pairs(&of.labels_refs)[0].0, "trace_id");
            (pairs(&of.labels_refs)[0].1.clone(), of.value, of.timestamp)
        });
        let metadata = of.metadata.map(|of| (of.kind, text(of.help_ref), text(of.unit_ref)));
        for point in &of.samples {
            let series = named(&pairs(&of.labels_refs));
            let (value, at, start) = (point.value, point.timestamp, point.start_timestamp);
            all.push(Received { series, value, at, start, exemplar: exemplar.clone(), metadata: metadata.clone() });
        }
    }
    all
}

fn config(receiver: &Receiver) -> Config {
    Config {
        // For short lines, there are no labels except those of the series.
        labels: ["job", "instance", "location"].map(|name| (name.to_owned(), String::new())).into(),
        detail: Some(Detail::Basic),
        ..Config::to(receiver.url.clone())
    }
}

fn sink_of(receiver: &Receiver, context: &Context, known: &Scenarios) -> Box<dyn Sink> {
    let mut sink = config(receiver).build(context).unwrap();
    sink.set_scenarios(known, &[]);
    sink
}

fn sink(receiver: &Receiver) -> Box<dyn Sink> {
    sink_of(receiver, &fixtures::context_with_http(), &scenarios("  shop: {tcp: \"a:1\"}\n"))
}

fn scenarios(checks: &str) -> Scenarios {
    let loaded = load("checks.yaml", &format!("checks:\n{checks}"), &Nothing);
    assert!(loaded.diagnostics.is_empty(), "{:?}", loaded.diagnostics);
    Arc::new(loaded.scenarios.into_iter().map(|scenario| (scenario.id.value.clone(), scenario)).collect())
}

fn time(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(BEGIN + seconds, 0).unwrap()
}

fn outcome(seq: u64, scenario: &str, second: i64, verdict: &str) -> Outcome {
    let reason = match verdict {
        "failed" => json!("connect"),
        "unknown" => json!("network"),
        _ => json!(null),
    };
    serde_json::from_value(json!({
        "run": RunId::new(), "seq": seq, "scenario": scenario, "name": scenario, "kind": "tcp", "location": "here",
        "due_at": time(second), "started_at": time(second), "ended_at": time(second), "duration": 0.5,
        "verdict": verdict, "reason": reason, "steps": [], "evidence": []
    }))
    .unwrap()
}

fn run(seq: u64, second: i64, verdict: &str) -> Event {
    Event::Finished(Finished { scenario: None, outcome: Arc::new(outcome(seq, "shop", second, verdict)) })
}

/// Sends events like the driver: a batch rejected as a whole is split in halves.
async fn deliver(sink: &mut Box<dyn Sink>, batch: &[Event]) {
    let mut rest = vec![batch];
    while let Some(batch) = rest.pop() {
        match sink.send(batch).await {
            Sent::Taken => {}
            Sent::Refused(_) if batch.len() > 1 => rest.extend([&batch[batch.len() / 2..], &batch[..batch.len() / 2]]),
            other => panic!("{other:?}"),
        }
    }
}

fn assert_has(lines: &[String], expected: &[&str]) {
    for line in expected {
        assert!(lines.iter().any(|found| found == line), "no {line} in {lines:#?}");
    }
}

#[tokio::test]
async fn a_run_is_samples_at_its_end() {
    for version in [V1, V2] {
        let receiver = Receiver::start(&[], &[version]).await;
        let mut sink = sink(&receiver);
        assert_eq!(sink.send(&[run(1, 0, "passed")]).await, Sent::Taken);
        assert_has(
            &receiver.last_lines(),
            &[
                "wachta_scenario_success location=here,scenario=shop 1 @0",
                "wachta_scenario_verdict location=here,scenario=shop,verdict=passed 1 @0",
                "wachta_scenario_duration_seconds location=here,scenario=shop 0.5 @0",
                // A counter starts at 0.
                "wachta_scenario_runs_total location=here,scenario=shop,verdict=passed 0 @-0.001",
                "wachta_scenario_runs_total location=here,scenario=shop,verdict=passed 1 @0",
                "wachta_scenario_runs_total location=here,scenario=shop,verdict=failed 0 @0",
            ],
        );
        assert_eq!(sink.send(&[run(2, 60, "failed")]).await, Sent::Taken);
        let lines = receiver.last_lines();
        assert_has(
            &lines,
            &[
                "wachta_scenario_success location=here,scenario=shop 0 @60",
                // A series that is replaced by another one ends.
                "wachta_scenario_verdict location=here,scenario=shop,verdict=passed stale @60",
                "wachta_scenario_failures_total location=here,reason=connect,scenario=shop 0 @59.999",
                "wachta_scenario_failures_total location=here,reason=connect,scenario=shop 1 @60",
                "wachta_scenario_runs_total location=here,scenario=shop,verdict=passed 1 @60",
            ],
        );
        assert_eq!(lines.iter().filter(|line| line.contains("@59.999")).count(), 1, "{lines:#?}");
    }
}

#[tokio::test]
async fn series_end_with_their_scenario() {
    let receiver = Receiver::start(&[], &[V2]).await;
    let context = fixtures::context_with_http();
    let mut sink = sink_of(&receiver, &context, &scenarios("  shop: {tcp: \"a:1\"}\n  other: {tcp: \"a:2\"}\n"));
    assert_eq!(sink.send(&[run(1, 0, "passed")]).await, Sent::Taken);
    let had: Vec<_> = receiver.last().into_iter().map(|sample| sample.series).collect();
    // A scenario that ran before this process and was removed since then.
    context.prometheus.seed(&[Outcome { ended_at: Utc::now(), ..outcome(0, "old", 0, "failed") }], &[]);
    sink.set_scenarios(&Scenarios::default(), &[]);
    assert_eq!(sink.refresh(time(30)).await, Sent::Taken);
    let lines = receiver.last_lines();
    for series in had {
        assert_has(&lines, &[&format!("{series} stale @30")]);
    }
    assert!(!lines.iter().any(|line| line.contains("scenario=other")), "it never had a sample: {lines:#?}");
    assert_has(
        &lines,
        &[
            "wachta_scenario_success location=here,scenario=old stale @30",
            "wachta_scenario_verdict location=here,scenario=old,verdict=failed stale @30",
        ],
    );
    // The end is sent only once.
    assert_eq!(sink.refresh(time(31)).await, Sent::Taken);
    assert_eq!(receiver.log.lock().unwrap().requests.len(), 2);
    // The run of a removed scenario is exported even if it ends or is sent later, and its series end at once.
    assert_eq!(sink.send(&[run(2, 40, "failed")]).await, Sent::Taken);
    assert_has(
        &receiver.last_lines(),
        &[
            "wachta_scenario_success location=here,scenario=shop 0 @40",
            "wachta_scenario_success location=here,scenario=shop stale @40.001",
        ],
    );
    // The series of a scenario that returns do not end.
    sink.set_scenarios(&scenarios("  shop: {tcp: \"a:1\"}\n"), &[]);
    assert_eq!(sink.send(&[run(3, 60, "passed")]).await, Sent::Taken);
    sink.set_scenarios(&Scenarios::default(), &[]);
    sink.set_scenarios(&scenarios("  shop: {tcp: \"a:1\"}\n"), &[]);
    assert_eq!(sink.send(&[run(4, 70, "passed")]).await, Sent::Taken);
    sink.refresh(time(80)).await;
    let kept = receiver.kept("wachta_scenario_success location=here,scenario=shop");
    assert_eq!(kept, ["1 @0", "stale @30", "0 @40", "stale @40.001", "1 @60", "1 @70"]);
}

#[tokio::test]
async fn a_changed_scenario_ends_the_series_that_it_no_longer_has() {
    let receiver = Receiver::start(&[], &[V2]).await;
    let mut sink = sink(&receiver);
    assert_eq!(sink.send(&[run(1, 0, "passed")]).await, Sent::Taken);
    sink.set_scenarios(&scenarios("  shop: {tcp: \"a:1\", every: 2m}\n"), &[]);
    assert_eq!(sink.refresh(time(30)).await, Sent::Taken);
    let lines: Vec<_> = receiver.last_lines().into_iter().filter(|line| line.contains("scenario=")).collect();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(lines[0].starts_with("wachta_scenario_info ") && lines[0].ends_with(" stale @30"), "{lines:#?}");
}

#[tokio::test]
async fn values_are_repeated_between_runs() {
    let receiver = Receiver::start(&[], &[V2]).await;
    let context = fixtures::context_with_http();
    let registry_gauge = ::prometheus::IntGauge::new("wachta_own", "Own.").unwrap();
    let registry = ::prometheus::Registry::new();
    registry.register(Box::new(registry_gauge)).unwrap();
    let view = prometheus::Prometheus::new(registry, "here");
    let context = Context { prometheus: Arc::new(view), ..context };
    let rare = "scenario: Rare\nid: rare\nslo: {objective: 99%}\nsteps:\n  - GET: http://a/\n";
    let rare = load("rare.yaml", rare, &Nothing);
    assert!(rare.diagnostics.is_empty(), "{:?}", rare.diagnostics);
    let mut known = (*scenarios("  shop: {tcp: \"a:1\"}\n")).clone();
    known.extend(rare.scenarios.into_iter().map(|scenario| (scenario.id.value.clone(), scenario)));
    let known: Scenarios = Arc::new(known);
    context.prometheus.load(&known, &prometheus::Config::default());
    // The last run of the scenario was before this process.
    context.prometheus.seed(&[outcome(0, "rare", -3600, "failed")], &[]);
    let rare = known.keys().find(|id| id.as_str() == "rare").unwrap();
    context.prometheus.budget(rare, 0.25);
    let mut sink = sink_of(&receiver, &context, &known);
    assert_eq!(sink.send(&[run(1, 0, "passed")]).await, Sent::Taken);
    assert_eq!(sink.refresh(time(30)).await, Sent::Taken);
    let lines = receiver.last_lines();
    assert_has(
        &lines,
        &[
            "wachta_own  0 @30",
            "wachta_scenario_success location=here,scenario=rare 0 @25",
            "wachta_scenario_runs_total location=here,scenario=rare,verdict=failed 0 @25",
            "wachta_slo_error_budget_remaining_ratio location=here,scenario=rare 0.25 @25",
        ],
    );
    assert!(!lines.iter().any(|line| line.contains("scenario=shop")), "it ran within a minute: {lines:#?}");
    assert_eq!(sink.refresh(time(66)).await, Sent::Taken);
    let lines = receiver.last_lines();
    assert_has(&lines, &["wachta_scenario_runs_total location=here,scenario=shop,verdict=passed 1 @61"]);
    assert!(!lines.iter().any(|line| line.contains("scenario=rare")), "it was repeated: {lines:#?}");
    // A run after a repetition is not a new start of the series.
    let late = Event::Finished(Finished { scenario: None, outcome: Arc::new(outcome(2, "rare", 70, "failed")) });
    assert_eq!(sink.send(&[late]).await, Sent::Taken);
    let lines = receiver.last_lines();
    assert_has(&lines, &["wachta_scenario_runs_total location=here,scenario=rare,verdict=failed 1 @70"]);
    let origins: Vec<_> = lines.iter().filter(|line| line.ends_with("@69.999")).collect();
    assert_eq!(origins, ["wachta_scenario_failures_total location=here,reason=connect,scenario=rare 0 @69.999"]);
    // A single run does not change the remaining error budget.
    assert_eq!(sink.refresh(time(100)).await, Sent::Taken);
    assert_has(
        &receiver.last_lines(),
        &["wachta_slo_error_budget_remaining_ratio location=here,scenario=rare 0.25 @95"],
    );
    assert!(sink.refresh_at().unwrap() > Instant::now());
}

#[tokio::test]
async fn what_one_part_has_wrong_does_not_keep_the_others() {
    let receiver = Receiver::start(&[], &[V1]).await;
    let known = scenarios("  a: {tcp: \"a:1\"}\n  b: {tcp: \"a:1\"}\n  c: {tcp: \"a:1\"}\n");
    let mut sink = sink_of(&receiver, &fixtures::context_with_http(), &known);
    // Another agent with the same name has sent newer samples.
    let series = "wachta_scenario_runs_total location=here,scenario=b,verdict=passed";
    receiver.log.lock().unwrap().kept.insert(series.to_owned(), vec![((BEGIN + 1000) * 1000, 7.0)]);
    assert_eq!(sink.refresh(time(30)).await, Sent::Taken);
    for scenario in ["a", "c"] {
        let series = format!("wachta_scenario_runs_total location=here,scenario={scenario},verdict=passed");
        assert_eq!(receiver.kept(&series), ["0 @25"]);
    }
    assert_eq!(receiver.kept(series), ["7 @1000"]);
}

#[tokio::test]
async fn the_version_is_the_one_that_the_receiver_takes() {
    // Receivers that reject 2.0, that respond with success without reading the message, and that cannot parse it.
    for answer in [(415, false), (200, false), (400, false)] {
        let receiver = Receiver::start(&[answer], &[V1]).await;
        let mut sink = sink(&receiver);
        assert_eq!(sink.send(&[run(1, 0, "passed")]).await, Sent::Taken);
        assert_eq!(sink.send(&[run(2, 60, "passed")]).await, Sent::Taken);
        assert_eq!(receiver.versions(), [V2, V1, V1], "{answer:?}");
    }
    // A receiver that supports only 2.0, and rejects a batch before it has confirmed anything.
    let receiver = Receiver::start(&[(400, false)], &[V2]).await;
    let mut sink = sink(&receiver);
    assert!(matches!(sink.send(&[run(1, 0, "passed")]).await, Sent::Retry { .. }));
    assert_eq!(sink.send(&[run(1, 0, "passed")]).await, Sent::Taken);
    assert_eq!(receiver.versions(), [V2, V1, V2]);
    // A receiver that is unavailable for some time and supports 2.0.
    let receiver = Receiver::start(&[(503, false), (415, false), (503, false)], &[V2]).await;
    let mut sink = self::sink(&receiver);
    for _ in 0..2 {
        assert!(matches!(sink.send(&[run(1, 0, "passed")]).await, Sent::Retry { .. }));
    }
    assert_eq!(sink.send(&[run(1, 0, "passed")]).await, Sent::Taken);
    assert_eq!(receiver.versions(), [V2, V2, V1, V2]);
}

#[tokio::test]
async fn a_run_counts_once_however_often_it_is_sent() {
    let receiver = Receiver::start(&[(503, true), (400, true), (200, true), (400, true)], &[V2]).await;
    let mut sink = sink(&receiver);
    let batch = [run(1, 0, "passed"), run(2, 60, "passed")];
    assert!(matches!(sink.send(&batch).await, Sent::Retry { .. }));
    assert!(matches!(sink.send(&batch).await, Sent::Refused(_)));
    assert_eq!(sink.send(&batch[..1]).await, Sent::Taken);
    assert!(matches!(sink.send(&batch[1..]).await, Sent::Refused(_)));
    assert_eq!(sink.send(&[run(3, 120, "passed")]).await, Sent::Taken);
    let expected = "wachta_scenario_runs_total location=here,scenario=shop,verdict=passed 3 @120";
    assert_has(&receiver.last_lines(), &[expected]);
}

#[tokio::test]
async fn what_was_sent_before_a_crash_is_neither_lost_nor_counted_twice() {
    for version in [V1, V2] {
        let receiver = Receiver::start(&[], &[version]).await;
        let runs: Vec<_> = (1..=7).map(|seq: u32| run(seq.into(), 10 * i64::from(seq), "passed")).collect();
        deliver(&mut sink(&receiver), &runs[..4]).await;
        // The next agent has no record of the last three.
        deliver(&mut sink(&receiver), &runs[1..]).await;
        let kept = receiver.kept("wachta_scenario_last_run_timestamp_seconds location=here,scenario=shop");
        let expected: Vec<_> = (1..=7).map(|seq| format!("{} @{}", BEGIN + 10 * seq, 10 * seq)).collect();
        assert_eq!(kept, expected);
        let kept = receiver.kept("wachta_scenario_runs_total location=here,scenario=shop,verdict=passed");
        let expected = ["0 @9.999", "1 @10", "2 @20", "3 @30", "4 @40", "0 @49.999", "1 @50", "2 @60", "3 @70"];
        assert_eq!(kept, expected);
    }
}

#[tokio::test]
async fn runs_that_end_together_are_shown_one_after_the_other() {
    let receiver = Receiver::start(&[], &[V1]).await;
    let mut sink = sink(&receiver);
    for batch in
        [vec![run(1, 10, "passed")], vec![run(2, 10, "failed")], vec![run(3, 10, "passed"), run(4, 20, "passed")]]
    {
        assert_eq!(sink.send(&batch).await, Sent::Taken);
    }
    let kept = receiver.kept("wachta_scenario_success location=here,scenario=shop");
    assert_eq!(kept, ["1 @10", "0 @10.001", "1 @10.002", "1 @20"]);
}

#[tokio::test]
async fn a_counter_goes_on_without_a_beginning_that_is_late() {
    let receiver = Receiver::start(&[], &[V2]).await;
    let series = "wachta_scenario_runs_total location=here,scenario=shop,verdict=passed";
    // The last run of the previous agent ended a millisecond earlier.
    receiver.log.lock().unwrap().kept.insert(series.to_owned(), vec![(BEGIN * 1000 + 9_999, 5.0)]);
    let mut sink = sink(&receiver);
    deliver(&mut sink, &[run(1, 10, "passed"), run(2, 20, "passed")]).await;
    assert_eq!(receiver.kept(series), ["5 @9.999", "1 @10", "2 @20"]);
}

#[tokio::test]
async fn samples_of_2_0_have_metadata_start_and_exemplar() {
    let receiver = Receiver::start(&[], &[V2]).await;
    let mut config = config(&receiver);
    config.detail = Some(Detail::Full);
    config.labels = BTreeMap::from([("instance".to_owned(), "a".to_owned()), ("location".to_owned(), "x".to_owned())]);
    let mut sink = config.build(&fixtures::context_with_http()).unwrap();
    sink.set_scenarios(&scenarios("  shop: {tcp: \"a:1\"}\n"), &[]);
    let first = run(1, 0, "passed");
    assert_eq!(sink.send(&[first, run(2, 60, "passed")]).await, Sent::Taken);
    let last = run(3, 120, "failed");
    assert_eq!(sink.send(std::slice::from_ref(&last)).await, Sent::Taken);
    let all = receiver.last();
    let of = |series: &str| all.iter().find(|sample| sample.series == series).unwrap_or_else(|| panic!("{all:#?}"));
    let base = "instance=a,job=wachta,";
    let trace = last.run().0.simple().to_string();
    let failed = of(&format!("wachta_scenario_runs_total {base}location=here,scenario=shop,verdict=failed"));
    assert_eq!((failed.value, failed.start), (1.0, BEGIN * 1000 - 1));
    assert_eq!(failed.exemplar, Some((trace.clone(), 1.0, (BEGIN + 120) * 1000)));
    assert_eq!(failed.metadata, Some((1, "Runs by verdict.".to_owned(), String::new())));
    // The exemplar was sent with its own run.
    let passed = of(&format!("wachta_scenario_runs_total {base}location=here,scenario=shop,verdict=passed"));
    assert_eq!((passed.value, passed.exemplar.clone()), (2.0, None));
    let bucket = of(&format!("wachta_scenario_run_duration_seconds_bucket {base}le=1,location=here,scenario=shop"));
    assert_eq!((bucket.value, bucket.exemplar.clone()), (3.0, Some((trace, 0.5, (BEGIN + 120) * 1000))));
    assert_eq!(bucket.metadata, Some((3, "Run durations.".to_owned(), "seconds".to_owned())));
    let gauge = of(&format!("wachta_scenario_duration_seconds {base}location=here,scenario=shop"));
    assert_eq!((gauge.start, gauge.metadata.as_ref().unwrap().0), (0, 2));
}

#[tokio::test]
async fn requests_have_the_headers_of_the_protocol_and_of_the_configuration() {
    let token = Authentication::Token(Credential::text("correct-horse"));
    let basic = Authentication::Basic("u".into(), Credential::text("correct-horse"));
    for (authentication, expected) in [(token, "Bearer correct-horse"), (basic, "Basic dTpjb3JyZWN0LWhvcnNl")] {
        let receiver = Receiver::start(&[], &[V1]).await;
        let headers = vec![("X-Scope-OrgID".to_owned(), Credential::text("a"))];
        let config = Config { authentication: Some(authentication), headers, ..config(&receiver) };
        assert!(!config.describe().contains('?'), "{}", config.describe());
        let mut sink = config.build(&fixtures::context_with_http()).unwrap();
        sink.set_scenarios(&scenarios("  shop: {tcp: \"a:1\"}\n"), &[]);
        assert_eq!(sink.send(&[run(1, 0, "passed")]).await, Sent::Taken);
        let types = ["application/x-protobuf;proto=io.prometheus.write.v2.Request", "application/x-protobuf"];
        let log = receiver.log.lock().unwrap();
        for (head, content_type) in log.heads.iter().zip(types) {
            assert_eq!(head["content-type"], content_type);
            assert_eq!(head["content-encoding"], "snappy");
            assert_eq!(head["authorization"], expected);
            assert_eq!(head["x-scope-orgid"], "a");
        }
        assert_eq!(log.heads.len(), 2);
    }
}
