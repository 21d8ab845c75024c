//! Structure of traces: spans, their parents, times and ids.

use std::collections::HashMap;
use std::sync::Arc;

use opentelemetry_proto::tonic::common::v1::any_value::Value as Of;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::sink::otlp::log;

fn finished(outcome: &Value) -> Finished {
    let outcome: Outcome = serde_json::from_value(outcome.clone()).unwrap();
    Finished { scenario: None, outcome: Arc::new(outcome) }
}

/// Returns a run of one second with these steps.
fn run(verdict: &str, steps: &Value) -> Value {
    json!({
        "run": "01936f2e-8f4b-7c3a-9d21-aabbccddeeff", "scenario": "shop", "name": "The shop", "kind": "api",
        "location": "waw-1", "due_at": "2026-11-22T12:00:00Z", "started_at": "2026-11-22T12:00:00Z",
        "ended_at": "2026-11-22T12:00:01Z", "duration": 1.0, "verdict": verdict, "steps": steps, "evidence": []
    })
}

/// Returns a step with this name, depth, offset and duration.
fn step(name: &str, depth: u8, offset: f64, duration: f64) -> Value {
    let span_id = name.bytes().fold(7_u64, |id, byte| id.wrapping_mul(31).wrapping_add(byte.into()));
    json!({
        "name": name, "depth": depth, "span_id": format!("{span_id:016x}"), "offset": offset, "duration": duration,
        "status": "passed", "place": "shop.yaml:3:5"
    })
}

/// Returns a request with this number, offset and status, which is `None` without a response.
fn hop(number: u64, offset: f64, attempt: u32, status: Option<u16>) -> Value {
    json!({
        "span_id": format!("{number:016x}"), "offset": offset, "attempt": attempt, "method": "GET",
        "url": "https://shop.example.com/cart", "status": status, "address": "203.0.113.9:443", "http_version": "2",
        "phases": {"resolve": 0.001, "connect": 0.002, "tls": 0.003, "processing": 0.004, "transfer": 0.0}
    })
}

/// Returns the attributes as text.
fn attributes(span: &Span) -> HashMap<&str, String> {
    let shown = |value: &Of| match value {
        Of::StringValue(text) => text.clone(),
        Of::BoolValue(value) => value.to_string(),
        Of::IntValue(number) => number.to_string(),
        Of::DoubleValue(number) => number.to_string(),
        other => panic!("{other:?} is not used"),
    };
    let pairs = span.attributes.iter().map(|pair| {
        let value = pair.value.as_ref().and_then(|value| value.value.as_ref()).unwrap();
        (pair.key.as_str(), shown(value))
    });
    let count = span.attributes.len();
    let all: HashMap<_, _> = pairs.collect();
    assert_eq!(all.len(), count, "no attribute stands twice");
    all
}

/// Checks the properties of every trace: one root, every span after its parent and within its times, unique ids.
fn check_shape(finished: &Finished) -> Vec<Span> {
    let spans = spans(finished);
    let mut seen: HashMap<&[u8], &Span> = HashMap::new();
    for span in &spans {
        assert_eq!(span.trace_id, finished.outcome.run.0.as_bytes());
        assert_eq!(span.span_id.len(), 8);
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano, "{span:?}");
        if seen.is_empty() {
            assert!(span.parent_span_id.is_empty());
        } else {
            let above = seen.get(span.parent_span_id.as_slice()).expect("the span above comes first");
            assert!(above.start_time_unix_nano <= span.start_time_unix_nano, "{span:?} begins before {above:?}");
            assert!(span.end_time_unix_nano <= above.end_time_unix_nano, "{span:?} ends after {above:?}");
        }
        assert!(seen.insert(&span.span_id, span).is_none(), "an id stands twice");
    }
    spans
}

/// Formats the spans as an indented list: kind of span, name, milliseconds from the start of the run.
fn drawn(spans: &[Span]) -> String {
    let mut depths: HashMap<&[u8], usize> = HashMap::new();
    let mut lines = String::new();
    for span in spans {
        let depth = depths.get(span.parent_span_id.as_slice()).map_or(0, |depth| depth + 1);
        depths.insert(&span.span_id, depth);
        let since = |at: u64| (at - spans[0].start_time_unix_nano) as f64 / 1e6;
        let (from, to) = (since(span.start_time_unix_nano), since(span.end_time_unix_nano));
        lines.push_str(&format!(
            "{}{} {}: {from}-{to}\n",
            "  ".repeat(depth),
            attributes(span)["wachta.span"],
            span.name
        ));
    }
    lines
}

#[test]
fn a_run_is_a_trace_of_groups_steps_requests_and_phases() {
    let mut polled = step("GET /cart", 1, 0.1, 0.5);
    polled["earlier_requests"] = json!([hop(1, 0.0, 0, None), hop(2, 0.1, 1, Some(404))]);
    polled["http"] = json!({
        "method": "GET", "url": "https://shop.example.com/cart", "status": 200, "bytes": 5,
        "hops": [hop(3, 0.2, 2, Some(302)), hop(4, 0.3, 2, Some(200))]
    });
    let steps = json!([step("Pay", 0, 0.1, 0.6), polled, step("inner", 1, 0.6, 0.1), step("last", 0, 0.7, 0.2)]);
    let spans = check_shape(&finished(&run("passed", &steps)));
    let phases = |from: f64| {
        let mut at = from;
        let mut line = |name: &str, took: f64| {
            let text = format!("        phase {name}: {at}-{}\n", at + took);
            at += took;
            text
        };
        [line("resolve", 1.0), line("connect", 2.0), line("tls", 3.0), line("processing", 4.0)].concat()
    };
    let expected = [
        "run The shop: 0-1000\n  group Pay: 100-700\n    step GET /cart: 100-600\n".to_owned(),
        format!("      request GET: 100-110\n{}", phases(100.0)),
        format!("      request GET: 200-210\n{}", phases(200.0)),
        format!("      request GET: 300-310\n{}", phases(300.0)),
        format!("      request GET: 400-410\n{}", phases(400.0)),
        "    step inner: 600-700\n  step last: 700-900\n".to_owned(),
    ];
    assert_eq!(drawn(&spans), expected.concat());
    // The ids sent in `traceparent` are those of the requests.
    let requests: Vec<_> = spans.iter().filter(|span| span.kind == i32::from(SpanKind::Client)).collect();
    let ids: Vec<_> = requests.iter().map(|span| span.span_id.as_slice()).collect();
    assert_eq!(ids, [1_u64, 2, 3, 4].map(u64::to_be_bytes));
    let tries = |key: &str| requests.iter().map(|span| attributes(span).get(key).cloned()).collect::<Vec<_>>();
    assert_eq!(tries("wachta.attempt"), ["1", "2", "3", "3"].map(|n| Some(n.to_owned())));
    assert_eq!(tries("http.request.resend_count"), [None, None, None, Some("1".to_owned())]);
    let last = attributes(requests[3]);
    let of = |keys: [&str; 7]| keys.map(|key| last[key].clone());
    assert_eq!(
        of([
            "http.request.method",
            "http.response.status_code",
            "url.full",
            "server.address",
            "server.port",
            "network.peer.address",
            "network.protocol.version"
        ]),
        ["GET", "200", "https://shop.example.com/cart", "shop.example.com", "443", "203.0.113.9", "2"]
    );
}

#[test]
fn verdicts_and_steps_have_their_status() {
    let check = |verdict: &str, reason: Option<&str>, expected: (StatusCode, &str), severity: &str| {
        let mut outcome = run(verdict, &json!([]));
        if let Some(reason) = reason {
            (outcome["reason"], outcome["message"]) = (reason.into(), "it is\nbad".into());
        }
        let finished = finished(&outcome);
        let root = spans(&finished).remove(0);
        let status = root.status.clone().unwrap();
        assert_eq!((status.code(), status.message.as_str()), expected, "{verdict}");
        let all = attributes(&root);
        assert_eq!(all["wachta.verdict"], verdict);
        assert_eq!(all.get("wachta.reason").map(String::as_str), reason);
        let error = reason.filter(|_| verdict == "failed");
        assert_eq!(all.get("error.type").map(String::as_str), error);

        let record = log::record(&finished);
        assert_eq!((&record.trace_id, &record.span_id), (&root.trace_id, &root.span_id));
        assert_eq!((record.severity_text.as_str(), record.event_name.as_str()), (severity, "wachta.run"));
        assert_eq!(record.time_unix_nano, root.end_time_unix_nano);
        let line = format!("shop {verdict} after 1s{}", if reason.is_some() { ": it is bad" } else { "" });
        assert_eq!(record.body.unwrap().value, Some(Of::StringValue(line)));
    };
    check("passed", None, (StatusCode::Ok, ""), "INFO");
    check("degraded", Some("budget"), (StatusCode::Ok, ""), "WARN");
    check("failed", Some("status"), (StatusCode::Error, "it is\nbad"), "ERROR");
    check("unknown", Some("browser"), (StatusCode::Unset, ""), "WARN");

    let of_step = |status: &str, http: Option<u16>| {
        let mut one = step("GET /", 0, 0.0, 0.5);
        one["status"] = status.into();
        if status != "passed" {
            one["failure"] = json!({"reason": "status", "message": "no", "expected": "200", "actual": "404"});
        }
        let mut request = hop(1, 0.0, 0, http);
        if http.is_none() {
            request["reason"] = "timeout".into();
        }
        one["earlier_requests"] = json!([request]);
        let spans = check_shape(&finished(&run("failed", &json!([one]))));
        let shown = |span: &Span| {
            let error = attributes(span).get("error.type").cloned().unwrap_or_default();
            (span.status.clone().unwrap().code(), error)
        };
        (shown(&spans[1]), shown(&spans[2]))
    };
    let pair = |code: StatusCode, error: &str| (code, error.to_owned());
    let (ok, unset) = (pair(StatusCode::Ok, ""), pair(StatusCode::Unset, ""));
    // A status expected by the step is not an error.
    assert_eq!(of_step("passed", Some(404)), (ok, unset.clone()));
    let failed = pair(StatusCode::Error, "status");
    assert_eq!(of_step("failed", Some(404)), (failed.clone(), pair(StatusCode::Error, "404")));
    assert_eq!(of_step("failed", None), (failed, pair(StatusCode::Error, "timeout")));
    assert_eq!(of_step("unknown", Some(200)), (unset.clone(), unset.clone()));
    assert_eq!(of_step("skipped", Some(200)), (unset.clone(), unset));
}

#[test]
fn outcomes_without_ids_of_requests_have_the_same_spans_every_time() {
    let mut old = step("GET /", 0, 0.0, 0.5);
    old["span_id"] = "".into();
    let mut hops = json!([hop(1, 0.0, 0, Some(302)), hop(2, 0.0, 0, Some(200))]);
    for hop in hops.as_array_mut().unwrap() {
        hop.as_object_mut().unwrap().retain(|key, _| !["span_id", "offset", "attempt"].contains(&key.as_str()));
    }
    old["http"] = json!({"method": "GET", "url": "https://shop/", "status": 200, "bytes": 5, "hops": hops});
    let finished = finished(&run("passed", &json!([old, step("next", 0, 0.5, 0.1)])));
    let first = check_shape(&finished);
    assert_eq!(first.len(), 1 + 2 + 2 * 5);
    assert_eq!(first, spans(&finished));
}

proptest! {
    /// For any offsets and durations of an outcome, spans stay within their parents, and are the same after the outcome
    /// was stored and read.
    #[test]
    fn spans_stay_within_those_above_and_are_the_same_after_a_restart(
        steps in prop::collection::vec((0_u8..4, 0_u64..3_000_000_000, 0_u64..3_000_000_000, 0_u64..2_000_000_000), 0..12),
        started in 0_i64..2_000_000_000_000_000_000,
        took in 0_u64..2_000_000_000,
    ) {
        let mut outcome: Outcome = serde_json::from_value(run("passed", &json!([]))).unwrap();
        outcome.started_at = chrono::DateTime::from_timestamp_nanos(started);
        outcome.duration = Duration::from_nanos(took);
        outcome.ended_at = outcome.started_at + outcome.duration;
        let mut depth = 0;
        for (index, (deeper, offset, duration, of_hop)) in steps.into_iter().enumerate() {
            depth = deeper.min(depth + 1);
            let mut one: StepResult =
                serde_json::from_value(step(&format!("step {index}"), depth, 0.0, 0.0)).unwrap();
            (one.offset, one.duration) = (Duration::from_nanos(offset), Duration::from_nanos(duration));
            let mut request: Hop =
                serde_json::from_value(hop(index as u64 + 1, 0.0, 0, Some(200))).unwrap();
            request.offset = Duration::from_nanos(of_hop);
            request.phases.transfer = Duration::from_nanos(of_hop / 2);
            one.earlier_requests.push(request);
            outcome.steps.push(one);
        }
        let stored: Outcome = serde_json::from_str(&serde_json::to_string(&outcome).unwrap()).unwrap();
        let of = |outcome: Outcome| check_shape(&Finished { scenario: None, outcome: Arc::new(outcome) });
        prop_assert_eq!(of(outcome), of(stored));
    }
}
