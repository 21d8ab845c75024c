//! Conversion of outcomes to documents, field by field.

use std::sync::Arc;

use super::*;
use crate::incident::{Incident, Subject};
use crate::outcome::{Streak, Verdict};
use crate::scenario::{Lookup, LookupError, load};
use crate::sink::fixtures;

struct Nothing;

impl Lookup for Nothing {
    fn env(&self, name: &str) -> Result<String, LookupError> {
        Err(LookupError::Missing(name.to_owned()))
    }

    fn file(&self, path: &std::path::Path, _: &str) -> Result<Vec<u8>, LookupError> {
        Err(LookupError::Missing(path.display().to_string()))
    }
}

/// Run of a flow whose second step decided the verdict.
const RUN: &str = r#"{
    "run": "01935400-0000-7000-8000-000000000001", "scenario": "shop", "name": "Shop", "kind": "api",
    "location": "waw-1", "due_at": "2026-11-22T12:00:00Z", "started_at": "2026-11-22T12:00:00.5Z",
    "ended_at": "2026-11-22T12:00:02Z", "duration": 1.5, "verdict": "passed",
    "steps": [
        {"name": "login", "span_id": "0123456789abcdef", "offset": 0.0, "duration": 0.5, "status": "passed",
         "place": "shop.yaml:3:5"},
        {"name": "buy", "span_id": "0123456789abcde0", "offset": 0.5, "duration": 1.0, "status": "failed",
         "place": "shop.yaml:5:5", "failure": {"reason": "status", "message": "returned status 500"},
         "certificate_expires_at": "2027-01-01T00:00:00Z",
         "http": {"method": "POST", "url": "https://shop.example/buy?token=***", "status": 500, "bytes": 12,
                  "hops": [{"method": "POST", "url": "https://shop.example/buy?token=***", "status": 500,
                            "address": "10.0.0.1:443", "http_version": "1.1",
                            "phases": {"resolve": 0.001, "connect": 0.002, "tls": 0.003, "processing": 0.004,
                                       "transfer": 0.005}}]}},
        {"name": "leave", "span_id": "0123456789abcde1", "offset": 1.5, "duration": 0.0, "status": "skipped",
         "place": "shop.yaml:7:5"}
    ],
    "evidence": []
}"#;

fn outcome(verdict: Verdict) -> Outcome {
    let outcome: Outcome = serde_json::from_str(RUN).unwrap();
    let is_failed = verdict == Verdict::Failed;
    Outcome {
        verdict,
        reason: is_failed.then_some(Reason::Status),
        message: is_failed.then(|| "returned status 500".into()),
        failed_step: is_failed.then_some(1),
        ..outcome
    }
}

fn finished(outcome: Outcome) -> Finished {
    let outcome = Outcome { streak: Streak::after(None, &outcome), ..outcome };
    let text = "scenario: Shop\ntags: {service: shop, team.name: web}\n\
                alert: {severity: critical, runbook: \"https://wiki/shop\"}\nsteps: [{GET: \"http://shop/\"}]\n";
    let loaded = load("shop.yaml", text, &Nothing);
    let scenario = loaded.scenarios.into_iter().next().unwrap_or_else(|| panic!("{:?}", loaded.diagnostics));
    Finished { scenario: Some(scenario), outcome: Arc::new(outcome) }
}

#[test]
fn a_failed_flow_is_a_document_for_the_run_and_one_for_each_step_that_was_reached() {
    let documents = documents(&Event::Finished(finished(outcome(Verdict::Failed))));
    let ids: Vec<_> = documents.iter().map(|document| document.id.as_str()).collect();
    let run = "01935400-0000-7000-8000-000000000001";
    assert_eq!(ids, [run, &format!("{run}-0"), &format!("{run}-1")]);
    let check = |document: usize, pointer: &str, expected: Value| {
        let body = &documents[document].body;
        assert_eq!(body.pointer(pointer), Some(&expected), "{pointer} of {body:#}");
    };
    check(0, "/@timestamp", json!("2026-11-22T12:00:02.000000000Z"));
    check(0, "/monitor/id", json!("shop"));
    check(0, "/monitor/type", json!("browser"));
    check(0, "/monitor/status", json!("down"));
    check(0, "/monitor/check_group", json!(run));
    check(0, "/monitor/duration/us", json!(1_500_000));
    check(0, "/monitor/ip", json!("10.0.0.1"));
    check(0, "/summary/down", json!(1));
    check(0, "/summary/up", json!(0));
    check(0, "/state/status", json!("down"));
    check(0, "/error", json!({"type": "status", "message": "returned status 500"}));
    check(0, "/event/outcome", json!("failure"));
    check(0, "/event/id", json!(run));
    check(0, "/event/duration", json!(1_500_000_000));
    check(0, "/trace/id", json!("01935400000070008000000000000001"));
    check(0, "/labels", json!({"service": "shop", "team_name": "web"}));
    check(0, "/service/name", json!("shop"));
    check(0, "/wachta/severity", json!("critical"));
    check(0, "/wachta/runbook", json!("https://wiki/shop"));
    check(0, "/wachta/step", json!("buy"));
    check(0, "/wachta/place", json!("shop.yaml:5:5"));
    check(0, "/http/response/status_code", json!(500));
    check(0, "/observer/geo/name", json!("waw-1"));
    check(0, "/synthetics/type", json!("heartbeat/summary"));
    check(0, "/tls/certificate_not_valid_after", json!("2027-01-01T00:00:00.000000000Z"));
    check(
        1,
        "/synthetics/step",
        json!({"name": "login", "index": 1, "status": "succeeded", "duration": {"us": 500_000}}),
    );
    check(1, "/@timestamp", json!("2026-11-22T12:00:01.000000000Z"));
    check(2, "/synthetics/type", json!("step/end"));
    check(2, "/synthetics/step/status", json!("failed"));
    check(2, "/span/id", json!("0123456789abcde0"));
    let full = "https://shop.example/buy?token=***";
    check(2, "/url", json!({"full": full, "scheme": "https", "domain": "shop.example", "port": 443, "path": "/buy"}));
    check(2, "/http/rtt/response_header/us", json!(4000));
    check(2, "/http/rtt/total/us", json!(14_000));
    check(2, "/resolve/rtt/us", json!(1000));
    check(2, "/tcp/rtt/connect/us", json!(2000));
    check(2, "/tls/rtt/handshake/us", json!(3000));
    // Steps are details: only the run counts as up or down.
    assert!(
        documents[1..]
            .iter()
            .all(|step| step.body.get("summary").is_none() && step.body["monitor"].get("status").is_none())
    );
}

#[test]
fn a_streak_is_the_state_of_heartbeat() {
    let mut streak = None;
    let mut run = |verdict, second: i64| {
        let at = DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap();
        let mut outcome = Outcome { verdict, started_at: at, ended_at: at, ..fixtures::outcome("shop") };
        streak = Streak::after(streak, &outcome);
        outcome.streak = streak;
        state(&outcome).map(|state| {
            let first = streak.unwrap();
            assert_eq!(state["id"], format!("shop-{}", first.first_run));
            assert_eq!(state["started_at"], time(first.started_at));
            let of = |field: &str| state[field].to_string();
            format!("{} {} {} {} {}", of("status"), of("checks"), of("up"), of("down"), of("duration_ms"))
        })
    };
    assert_eq!(run(Verdict::Unknown, 0), None);
    assert_eq!(run(Verdict::Passed, 10).as_deref(), Some("\"up\" 1 1 0 0"));
    assert_eq!(run(Verdict::Degraded, 20).as_deref(), Some("\"up\" 2 2 0 10000"));
    assert_eq!(run(Verdict::Unknown, 30).as_deref(), Some("\"up\" 2 2 0 20000"));
    assert_eq!(run(Verdict::Failed, 40).as_deref(), Some("\"down\" 1 0 1 0"));
    assert_eq!(run(Verdict::Failed, 50).as_deref(), Some("\"down\" 2 0 2 10000"));
    assert_eq!(run(Verdict::Passed, 60).as_deref(), Some("\"up\" 1 1 0 0"));
}

#[test]
fn a_run_that_is_read_from_the_store_took_as_long() {
    let took =
        |outcome: Outcome| documents(&Event::Finished(finished(outcome))).remove(0).body["monitor"]["duration"].take();
    let outcome = Outcome { duration: Duration::from_nanos(10_286_600), ..outcome(Verdict::Passed) };
    let stored: Outcome = serde_json::from_value(serde_json::to_value(&outcome).unwrap()).unwrap();
    assert_eq!((took(outcome), took(stored)), (json!({"us": 10_287}), json!({"us": 10_287})));
}

#[test]
fn a_run_says_how_its_target_is_until_the_next_one() {
    let timespan = |finished: &Finished| {
        let body = documents(&Event::Finished(finished.clone())).remove(0).body;
        let end = |name: &str| body["monitor"]["timespan"][name].as_str().unwrap().parse::<DateTime<Utc>>().unwrap();
        (end("gte"), end("lt"))
    };
    let known = finished(outcome(Verdict::Passed));
    let next = known.scenario.as_ref().unwrap().next_after(known.outcome.due_at).unwrap();
    assert_eq!(timespan(&known), (known.outcome.started_at, next));
    let gone = Finished { scenario: None, ..known.clone() };
    assert_eq!(timespan(&gone), (gone.outcome.started_at, gone.outcome.ended_at));
    let ended_at = next + TimeDelta::minutes(1);
    let late = Finished { outcome: Arc::new(Outcome { ended_at, ..(*known.outcome).clone() }), ..known };
    assert_eq!(timespan(&late), (late.outcome.started_at, ended_at));
    // A date range must not be empty in milliseconds.
    let ended_at = gone.outcome.started_at + TimeDelta::microseconds(80);
    let quick = Finished { outcome: Arc::new(Outcome { ended_at, ..(*gone.outcome).clone() }), ..gone };
    assert_eq!(timespan(&quick), (quick.outcome.started_at, quick.outcome.started_at + TimeDelta::milliseconds(1)));
}

#[test]
fn what_tested_nothing_is_neither_up_nor_down() {
    let outcome = outcome(Verdict::Unknown);
    let finished = Finished { scenario: None, outcome: Arc::new(outcome) };
    let documents = documents(&Event::Finished(finished));
    let body = &documents[0].body;
    assert_eq!((&body["summary"]["up"], &body["summary"]["down"]), (&json!(0), &json!(0)));
    assert_eq!((&body["monitor"]["status"], &body["event"]["outcome"]), (&json!("unknown"), &json!("unknown")));
    assert!(body.get("state").is_none() && body.get("labels").is_none());
}

#[test]
fn a_change_of_an_incident_is_a_document() {
    let outcome = outcome(Verdict::Failed);
    let incident = Incident::opened(Subject::from("shop"), 3, &outcome);
    let incident = Incident { message: outcome.message.clone(), target: Some("http://shop/".into()), ..incident };
    let change = Change {
        seq: 9,
        transition: Transition::Opened,
        at: incident.opened_at,
        incident,
        cause: "timeout · shop".into(),
        ended_causes: Vec::new(),
    };
    let documents = documents(&Event::Changed(Arc::new(change)));
    let [document] = documents.as_slice() else { panic!("{documents:?}") };
    assert_eq!(document.id, "01935400-0000-7000-8000-000000000001-opened");
    let expected = json!({
        "@timestamp": "2026-11-22T12:00:02.000000000Z",
        "ecs": {"version": "8.17.0"},
        "agent": {"type": "wachta", "version": env!("CARGO_PKG_VERSION")},
        "observer": {"name": "waw-1", "product": "wachta"},
        "monitor": {"id": "shop", "name": "Shop", "type": "api"},
        "message": "returned status 500",
        "error": {"message": "returned status 500"},
        "url": {"full": "http://shop/"},
        "event": {
            "kind": "alert", "dataset": "wachta.incident", "module": "wachta", "action": "incident-opened",
            "id": document.id, "start": "2026-11-22T12:00:02.000000000Z", "severity": 2,
        },
        "wachta": {"incident": {
            "key": "shop:3", "subject": "shop", "severity": "warning", "verdict": "failed", "bad_runs": 0,
            "cause": "timeout · shop", "last_run": "01935400-0000-7000-8000-000000000001",
        }},
    });
    assert_eq!(document.body, expected, "{:#}", document.body);
}
