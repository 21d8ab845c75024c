//! The text of `/metrics` against a golden file, and against what `names.rs` declares.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::outcome::{Hop, HttpResult, PageResult, RunId, StepResult};
use crate::scenario::{Lookup, LookupError, load};

struct Nothing;

impl Lookup for Nothing {
    fn env(&self, name: &str) -> Result<String, LookupError> {
        Err(LookupError::Missing(name.to_owned()))
    }
    fn file(&self, path: &Path, _: &str) -> Result<Vec<u8>, LookupError> {
        Err(LookupError::Missing(path.display().to_string()))
    }
}

fn scenarios(text: &str) -> BTreeMap<ScenarioId, Arc<Scenario>> {
    let loaded = load("checks.yaml", text, &Nothing);
    assert_eq!(loaded.diagnostics, []);
    loaded.scenarios.into_iter().map(|scenario| (scenario.id.value.clone(), scenario)).collect()
}

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + second, 500_000_000).unwrap()
}

fn hop(status: u16) -> Hop {
    Hop {
        method: "GET".into(),
        url: "http://shop/".into(),
        status: Some(status),
        address: None,
        http_version: Some("1.1".into()),
        withheld: Vec::new(),
        phases: Phases {
            resolve: Duration::from_millis(1),
            connect: Duration::from_millis(2),
            tls: (status == 200).then_some(Duration::from_millis(3)),
            processing: Duration::from_millis(4),
            transfer: Duration::from_millis(5),
        },
    }
}

fn outcome(scenario: &Scenario, verdict: Verdict, reason: Option<Reason>, millis: u64, second: i64) -> Outcome {
    let status = match verdict {
        Verdict::Passed | Verdict::Degraded => StepStatus::Passed,
        Verdict::Failed => StepStatus::Failed,
        Verdict::Unknown => StepStatus::Unknown,
    };
    let http = verdict.is_conclusive().then(|| HttpResult {
        method: "GET".into(),
        url: "http://shop/".into(),
        status: if verdict == Verdict::Failed { 500 } else { 200 },
        bytes: 10,
        hops: vec![hop(302), hop(200)],
    });
    let step = StepResult {
        name: scenario.step_names()[0].to_owned(),
        depth: 0,
        finally: false,
        optional: false,
        span_id: "0123456789abcdef".into(),
        offset: Duration::ZERO,
        duration: Duration::from_millis(millis),
        status,
        place: "checks.yaml:2:3".into(),
        failure: None,
        http,
        certificate_expires_at: verdict.is_conclusive().then(|| at(86_400)),
        page: verdict.is_conclusive().then(|| Box::new(page(millis))),
    };
    Outcome {
        run: RunId::new(),
        seq: 0,
        scenario: scenario.id.value.clone(),
        name: scenario.name.clone(),
        kind: scenario.kind,
        location: "waw-1".into(),
        due_at: at(second),
        started_at: at(second),
        ended_at: at(second),
        duration: Duration::from_millis(millis),
        verdict,
        reason,
        message: None,
        failed_step: None,
        steps: vec![step],
        evidence: Vec::new(),
        browser: None,
    }
}

/// A page of a browser that measures no layout shift where it is slow, and no interaction at all.
fn page(millis: u64) -> PageResult {
    let cls = (millis < 1000).then_some(0.25);
    let timing = PageTiming { ttfb: Some(0.05), lcp: Some(millis as f64 / 1000.0), cls, ..PageTiming::default() };
    PageResult { timing, ..PageResult::default() }
}

const TWO: &str = "checks:\n  \"Shop \\\"front\\\"\": {http: \"http://shop/\", id: front, every: 30s}\n  other: {http: \"http://other/\", alert: {severity: critical}}\n";

fn lines<'a>(text: &'a str, part: &str) -> Vec<&'a str> {
    text.lines().filter(|line| !line.starts_with('#') && line.contains(part)).collect()
}

#[test]
fn golden_text() {
    let known = scenarios(TWO);
    let shop = &known[&ScenarioId::from("front")];
    let view = Prometheus::new(Registry::new(), "waw-1");
    view.scenarios(&known);
    view.outcome(&outcome(shop, Verdict::Passed, None, 120, 0));
    view.outcome(&outcome(shop, Verdict::Degraded, Some(Reason::Budget), 2500, 30));
    view.outcome(&outcome(shop, Verdict::Failed, Some(Reason::Status), 90, 60));
    view.outcome(&outcome(shop, Verdict::Unknown, Some(Reason::Network), 130_000, 90));
    let text = view.render();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/metrics.txt");
    if std::env::var_os("WACHTA_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap_or_default());
}

#[test]
fn every_series_is_declared() {
    let known = scenarios(TWO);
    let view = Prometheus::new(Registry::new(), "waw-1");
    view.scenarios(&known);
    for scenario in known.values() {
        view.outcome(&outcome(scenario, Verdict::Passed, None, 120, 0));
    }
    for family in view.families() {
        let declared = metric::ALL.iter().find(|of| of.name == family.name()).expect("is declared");
        let expected: BTreeSet<&str> = metric::SCENARIO_LABELS.iter().chain(declared.labels).copied().collect();
        for sample in family.get_metric() {
            let labels: BTreeSet<&str> = sample.get_label().iter().map(LabelPair::name).collect();
            assert_eq!(labels, expected, "{}", family.name());
        }
    }
}

#[test]
fn series_begin_with_what_the_store_remembers() {
    let known = scenarios(TWO);
    let shop = &known[&ScenarioId::from("front")];
    let view = Prometheus::new(Registry::new(), "waw-1");
    view.scenarios(&known);
    let last = outcome(shop, Verdict::Unknown, Some(Reason::Lost), 0, 60);
    view.seed(&[last], &[outcome(shop, Verdict::Failed, Some(Reason::Status), 10, 0)]);
    let text = view.render();
    // Gauges begin with it, counters at 0; a scenario that never ran has no gauges.
    assert_eq!(
        lines(&text, "wachta_scenario_success{"),
        ["wachta_scenario_success{scenario=\"front\",location=\"waw-1\"} 0"]
    );
    assert_eq!(lines(&text, "wachta_scenario_last_run_timestamp_seconds{").len(), 1);
    assert_eq!(lines(&text, "wachta_scenario_last_success_timestamp_seconds{"), [""; 0]);
    assert!(lines(&text, "_total{").iter().all(|line| line.ends_with(" 0")), "{text}");
    assert_eq!(lines(&text, "verdict=\"unknown\"} 1").len(), 1);
    // The first run of this process replaces what was remembered.
    view.outcome(&outcome(shop, Verdict::Passed, None, 10, 90));
    let text = view.render();
    assert!(text.contains("wachta_scenario_success{scenario=\"front\",location=\"waw-1\"} 1"));
    assert!(text.contains("wachta_scenario_runs_total{scenario=\"front\",location=\"waw-1\",verdict=\"passed\"} 1"));
}

#[test]
fn series_go_with_their_scenario_or_step() {
    let known = scenarios(TWO);
    let shop = Arc::clone(&known[&ScenarioId::from("front")]);
    let view = Prometheus::new(Registry::new(), "waw-1");
    view.scenarios(&known);
    view.outcome(&outcome(&shop, Verdict::Passed, None, 120, 0));
    assert_eq!(lines(&view.render(), "wachta_step_success").len(), 1);
    // The same scenario with another step: its counters stay, the step's series go.
    let changed = scenarios("checks:\n  shop: {tcp: \"shop:80\", id: front, every: 30s}\n");
    view.scenarios(&changed);
    let text = view.render();
    assert_eq!(lines(&text, "wachta_step_success"), [""; 0]);
    assert_eq!(lines(&text, "other"), [""; 0]);
    assert!(text.contains("wachta_scenario_runs_total{scenario=\"front\",location=\"waw-1\",verdict=\"passed\"} 1"));
    view.scenarios(&BTreeMap::new());
    assert_eq!(view.render(), "");
    // A run that ends after its scenario is gone brings nothing back.
    view.outcome(&outcome(&shop, Verdict::Passed, None, 120, 30));
    assert_eq!(view.render(), "");
}

#[test]
fn what_a_page_did_not_tell_is_no_series() {
    let known = scenarios(TWO);
    let shop = &known[&ScenarioId::from("front")];
    let view = Prometheus::new(Registry::new(), "waw-1");
    view.scenarios(&known);
    let shown = || lines(&view.render(), "wachta_web_").iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    view.outcome(&outcome(shop, Verdict::Passed, None, 120, 0));
    assert_eq!(shown().len(), 3, "{:?}", shown());
    // A run that did not reach the step leaves what was known; the next page replaces all of it.
    view.outcome(&outcome(shop, Verdict::Unknown, Some(Reason::Browser), 0, 30));
    assert_eq!(shown().len(), 3, "{:?}", shown());
    view.outcome(&outcome(shop, Verdict::Passed, None, 2500, 60));
    assert!(shown().iter().all(|line| !line.contains("layout_shift")), "{:?}", shown());
    view.scenarios(&BTreeMap::new());
    assert_eq!(shown(), [""; 0]);
}
