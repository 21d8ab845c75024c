//! Reports against golden files, with one outcome of each verdict. `WACHTA_BLESS=1` writes them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;

use super::human::{self, Paint};
use super::{json, junit};
use crate::names::Reason;
use crate::outcome::{Evidence, EvidenceKind, Failure, HttpResult, Outcome, RunId, StepResult, StepStatus, Verdict};
use crate::scenario::{Lookup, LookupError, Scenario, load};

struct Nothing;

impl Lookup for Nothing {
    fn env(&self, name: &str) -> Result<String, LookupError> {
        Err(LookupError::Missing(name.to_owned()))
    }
    fn file(&self, path: &Path, _: &str) -> Result<Vec<u8>, LookupError> {
        Err(LookupError::Missing(path.display().to_string()))
    }
}

const FLOW: &str = "scenario: Orders <API>\nbase_url: http://shop\nsteps:\n  - POST: /orders\n    expect: {status: 201}\n  - GET: /orders/1\n    optional: true\nfinally:\n  - DELETE: /orders/1\n";

fn scenario() -> Arc<Scenario> {
    let loaded = load("orders.yaml", FLOW, &Nothing);
    assert_eq!(loaded.diagnostics, []);
    Arc::clone(&loaded.scenarios[0])
}

fn outcome(scenario: &Scenario, number: u8, verdict: Verdict) -> Outcome {
    let started_at = DateTime::from_timestamp(1_800_000_000 + i64::from(number) * 60, 0).unwrap();
    let step = |name: &str, from: u64, upto: u64, status| StepResult {
        name: name.into(),
        depth: 0,
        finally: false,
        optional: false,
        span_id: "0123456789abcdef".into(),
        offset: Duration::from_millis(from),
        duration: Duration::from_millis(upto - from),
        status,
        place: "orders.yaml:4:5".into(),
        failure: None,
        http: None,
        certificate_expires_at: None,
        earlier_requests: Vec::new(),
        notes: Vec::new(),
        snippet: None,
        retried: false,
        page: None,
    };
    let mut steps = vec![
        step("POST /orders", 0, 400, StepStatus::Passed),
        StepResult { optional: true, ..step("GET /orders/1", 400, 900, StepStatus::Passed) },
        StepResult { finally: true, ..step("DELETE /orders/1", 900, 1000, StepStatus::Passed) },
    ];
    let mut evidence = Vec::new();
    let decided = match verdict {
        Verdict::Passed => None,
        Verdict::Degraded => {
            let failure =
                Failure::new(Reason::Status, "DELETE returned status 500").compared("a status from 200 to 299", "500");
            steps[2] = StepResult {
                status: StepStatus::Failed,
                failure: Some(failure.into()),
                place: "orders.yaml:9:5".into(),
                ..steps[2].clone()
            };
            Some((Some(2), Reason::Finally, "cleaning up failed: DELETE returned status 500"))
        }
        Verdict::Failed => {
            let span = match &scenario.steps[0].action {
                crate::scenario::Action::Request(request) => request.expect[0].span,
                _ => unreachable!("a request"),
            };
            let failure = Failure::new(Reason::Status, "the status is 500")
                .compared("201", "500")
                .waited(Duration::from_millis(400))
                .at(span);
            steps[0] = StepResult {
                status: StepStatus::Failed,
                failure: Some(failure.into()),
                place: scenario.source.place(span),
                http: Some(HttpResult {
                    method: "POST".into(),
                    url: "http://shop/orders?a=1&b=2".into(),
                    status: 500,
                    bytes: 12,
                    hops: Vec::new(),
                }),
                ..steps[0].clone()
            };
            let failure = Failure::new(Reason::Connect, "no connection: refused");
            steps[1] = StepResult { status: StepStatus::Failed, failure: Some(failure.into()), ..steps[1].clone() };
            steps[2].status = StepStatus::Skipped;
            evidence.push(Evidence {
                kind: EvidenceKind::Response,
                name: "000-response.txt".into(),
                path: "run/000-response.txt".into(),
                bytes: 12,
                sha256: "ab".repeat(32),
                step: Some(0),
            });
            Some((Some(0), Reason::Status, "the status is 500: expected 201, got 500"))
        }
        Verdict::Unknown => {
            steps.clear();
            Some((None, Reason::Panic, "wachta itself failed: index out of bounds"))
        }
    };
    Outcome {
        run: RunId(uuid::Uuid::from_u128(number.into())),
        seq: 0,
        streak: None,
        scenario: scenario.id.value.clone(),
        name: scenario.name.clone(),
        kind: scenario.kind,
        location: "local".into(),
        due_at: started_at,
        started_at,
        ended_at: started_at + chrono::TimeDelta::seconds(1),
        duration: Duration::from_secs(1),
        verdict,
        reason: decided.map(|(_, reason, _)| reason),
        message: decided.map(|(_, _, message)| message.into()),
        failed_step: decided.and_then(|(step, _, _)| step),
        steps,
        evidence,
        browser: None,
        differences: Vec::new(),
    }
}

#[test]
fn pages_and_missed_budgets_are_told() {
    use crate::outcome::{PageResult, PageTiming};
    let scenario = scenario();
    let mut outcome = outcome(&scenario, 7, Verdict::Passed);
    let timing = PageTiming { ttfb: Some(0.0421), lcp: Some(3.1), cls: Some(0.25), ..PageTiming::default() };
    outcome.steps[0].page = Some(Box::new(PageResult { url: "http://shop/".into(), timing, ..PageResult::default() }));
    outcome.steps[1].page = Some(Box::default());
    let shown = human::outcome(&scenario, &outcome, Path::new("evidence"), Paint(false));
    assert_eq!(shown.lines().skip(1).collect::<Vec<_>>(), ["  http://shop/  ttfb 42ms, lcp 3s100ms, cls 0.250"]);
    let failure = Failure::new(Reason::Budget, "lcp 3.1s is above the budget of 2.5s").compared("at most 2.5s", "3.1s");
    outcome.steps[0].failure = Some(failure.clone().into());
    (outcome.verdict, outcome.reason, outcome.failed_step) = (Verdict::Degraded, Some(Reason::Budget), Some(0));
    outcome.message = Some(format!("{}; requests 3 is above the budget of 2", failure.message).as_str().into());
    let shown = human::outcome(&scenario, &outcome, Path::new("evidence"), Paint(false));
    assert!(shown.contains("degraded: lcp 3.1s is above the budget of 2.5s (budget)"), "{shown}");
    assert!(shown.contains("also: requests 3 is above the budget of 2"), "{shown}");
    let xml = junit::render(std::slice::from_ref(&outcome)).unwrap();
    assert!(!xml.contains("<failure") && !xml.contains("<error"), "{xml}");
    outcome.failed_step = None;
    let xml = junit::render(&[outcome]).unwrap();
    assert!(!xml.contains("<failure") && !xml.contains("<error") && xml.contains("name=\"degraded\""), "{xml}");
}

fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/report").join(name);
    if std::env::var_os("WACHTA_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap_or_default(), "{name}");
}

#[test]
fn golden_reports() {
    let scenario = scenario();
    let outcomes: Vec<_> =
        (1..).zip(Verdict::ALL).map(|(number, verdict)| outcome(&scenario, number, verdict)).collect();
    let mut text = String::new();
    for outcome in &outcomes {
        text.push_str(&human::outcome(&scenario, outcome, Path::new("evidence"), Paint(false)));
    }
    text.push_str(&human::summary(&outcomes, Paint(false)));
    golden("human.txt", &text);
    golden("report.json", &json::render(&outcomes));
    let mut xml = junit::render(&outcomes).unwrap();
    // The library generates a new id for each report.
    if let (Some(from), true) = (xml.find(" uuid=\""), xml.contains("<testsuites")) {
        let upto = from + 7 + xml[from + 7..].find('"').unwrap() + 1;
        xml.replace_range(from..upto, "");
    }
    golden("junit.xml", &xml);
}
