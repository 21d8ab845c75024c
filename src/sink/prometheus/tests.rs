//! The output of `/metrics` against golden files, against the declarations in `names.rs`, and against its limits.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::names::{Reason, ReasonClass};
use crate::outcome::{Hop, HttpResult, PageResult, PageTiming, Phases, RunId, StepResult, StepStatus, Verdict};
use crate::scenario::{Lookup, LookupError, load};
use chrono::DateTime;

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
        http_version: Some("1.1".into()),
        phases: Phases {
            resolve: Duration::from_millis(1),
            connect: Duration::from_millis(2),
            tls: (status == 200).then_some(Duration::from_millis(3)),
            processing: Duration::from_millis(4),
            transfer: Duration::from_millis(5),
        },
        ..Hop::default()
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
        earlier_requests: Vec::new(),
        notes: Vec::new(),
        snippet: None,
        retried: false,
        certificate_expires_at: verdict.is_conclusive().then(|| at(86_400)),
        page: verdict.is_conclusive().then(|| Box::new(page(millis))),
    };
    Outcome {
        run: RunId::new(),
        seq: 0,
        streak: None,
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
        differences: Vec::new(),
    }
}

/// Returns the page of a browser that measures no layout shift if it is slow, and never an interaction.
fn page(millis: u64) -> PageResult {
    let cls = (millis < 1000).then_some(0.25);
    let timing = PageTiming { ttfb: Some(0.05), lcp: Some(millis as f64 / 1000.0), cls, ..PageTiming::default() };
    PageResult { timing, ..PageResult::default() }
}

const TWO: &str = "checks:\n  \"Shop \\\"front\\\"\": {http: \"http://shop/\", id: front, every: 30s}\n  other: {http: \"http://other/\", alert: {severity: critical}}\n";

/// Creates the metrics of these scenarios with this detail.
fn view(known: &BTreeMap<ScenarioId, Arc<Scenario>>, detail: Detail) -> Prometheus {
    let view = Prometheus::new(Registry::new(), "waw-1");
    view.load(known, &of(detail));
    view
}

fn of(detail: Detail) -> Config {
    Config { detail: Some(detail), ..Config::default() }
}

fn answer(view: &Prometheus, request: &ScrapeRequest) -> Vec<u8> {
    let mut scrape = view.scrape(request).expect("there is a place");
    std::iter::from_fn(move || scrape.next_piece()).flatten().collect()
}

/// Returns the scenario metrics that a new scraper receives.
fn text(view: &Prometheus) -> String {
    text_for(view, rand(), Format::Text)
}

fn text_for(view: &Prometheus, scraper: u64, format: Format) -> String {
    let text = String::from_utf8(answer(view, &ScrapeRequest { format, selection: Selection::All, scraper })).unwrap();
    let own = |line: &&str| line.contains(metric::SERIES_OMITTED.name.trim_end_matches("_total"));
    text.lines().filter(|line| !own(line)).map(|line| format!("{line}\n")).collect()
}

/// Returns a number that no other scraper has.
fn rand() -> u64 {
    u64::from_le_bytes(*RunId::new().0.as_bytes().last_chunk().unwrap())
}

fn lines<'a>(text: &'a str, part: &str) -> Vec<&'a str> {
    text.lines().filter(|line| !line.starts_with('#') && line.contains(part)).collect()
}

/// Returns the values of a scenario's counter by label.
fn counters(text: &str, name: &str) -> Vec<(String, f64)> {
    let of_line = |line: &str| {
        let (series, value) = line.rsplit_once(' ').unwrap();
        (series.rsplit('"').nth(1).unwrap().to_owned(), value.parse().unwrap())
    };
    lines(text, &format!("{name}{{")).into_iter().map(of_line).collect()
}

/// Returns a scenario with one request and optionally an objective.
fn front(has_objective: bool) -> String {
    let objective = if has_objective { "slo: {objective: 99.9%}\n" } else { "" };
    format!("scenario: Front\n{objective}steps: [{{GET: \"http://shop/\"}}]\n")
}

fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("WACHTA_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap_or_default(), "{name}");
}

#[test]
fn golden_text() {
    let known = scenarios(TWO);
    let shop = &known[&ScenarioId::from("front")];
    for (detail, name) in [(Detail::Full, "metrics.txt"), (Detail::Basic, "metrics-basic.txt")] {
        let view = view(&known, detail);
        view.outcome(&outcome(shop, Verdict::Passed, None, 120, 0));
        view.outcome(&outcome(shop, Verdict::Degraded, Some(Reason::Budget), 2500, 30));
        view.outcome(&outcome(shop, Verdict::Failed, Some(Reason::Status), 90, 60));
        view.outcome(&outcome(shop, Verdict::Unknown, Some(Reason::Network), 130_000, 90));
        golden(name, &text(&view));
    }
}

/// Returns every family of an exposition: its name, its type, and the label names of each sample.
fn families(text: &str) -> Vec<(String, String, Vec<BTreeSet<String>>)> {
    let mut families: Vec<(String, String, Vec<BTreeSet<String>>)> = Vec::new();
    for line in text.lines() {
        if let Some(declared) = line.strip_prefix("# TYPE ") {
            let (name, kind) = declared.split_once(' ').unwrap();
            families.push((name.to_owned(), kind.to_owned(), Vec::new()));
        } else if !line.starts_with('#') {
            let name = &line[..line.find(['{', ' ']).unwrap()];
            let family = families.last_mut().unwrap();
            let suffix = name.strip_prefix(family.0.as_str()).expect("samples follow their family");
            assert!(suffix.is_empty() || family.1 == "histogram", "{line}");
            let labels = line.split('"').step_by(2).filter_map(|part| part.strip_suffix('='));
            let labels = labels.map(|label| label.trim_start_matches([',']).rsplit('{').next().unwrap().to_owned());
            family.2.push(labels.filter(|label| label != "le").collect());
        }
    }
    families
}

#[test]
fn series_of_each_detail_are_those_that_are_declared() {
    let known = scenarios(&front(true));
    for detail in [Detail::Full, Detail::Basic] {
        let mut found = Vec::new();
        for (verdict, reason) in [
            (Verdict::Failed, Reason::Status),
            (Verdict::Unknown, Reason::Network),
            (Verdict::Degraded, Reason::Budget),
        ] {
            let view = view(&known, detail);
            for scenario in known.values() {
                view.outcome(&outcome(scenario, Verdict::Passed, None, 120, 0));
                view.outcome(&outcome(scenario, verdict, Some(reason), 120, 30));
                view.budget(&scenario.id.value, 0.5);
            }
            found.extend(families(&text(&view)));
        }
        for (name, kind, samples) in &found {
            let declared = metric::ALL.iter().find(|of| of.name == *name).expect("is declared");
            assert_eq!(format!("{:?}", declared.kind).to_lowercase(), *kind, "{name}");
            let labels: BTreeSet<String> =
                metric::SCENARIO_LABELS.iter().chain(declared.labels).map(|label| (*label).to_owned()).collect();
            assert!(samples.iter().all(|found| *found == labels), "{name}: {samples:?}");
        }
        let names: BTreeSet<&str> = found.iter().map(|(name, ..)| name.as_str()).collect();
        let of_scenarios = families::FAMILIES.iter().map(|(of, _)| *of);
        let expected: BTreeSet<&str> = match detail {
            Detail::Full => of_scenarios.map(|of| of.name).collect(),
            Detail::Basic => metric::BASIC.iter().map(|of| of.name).collect(),
        };
        assert_eq!(names, expected, "{detail:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]
    /// For any runs of a scenario, at either detail: its series are declared, within the promised number, without
    /// duplicates, and no counter decreases while it is exported.
    #[test]
    fn series_are_declared_and_bounded(
        runs in prop::collection::vec((0..Reason::ALL.len() + 1, 0_u64..200_000), 1..60),
        has_objective: bool,
        detail in prop_oneof![Just(Detail::Basic), Just(Detail::Full)],
    ) {
        let known = scenarios(&front(has_objective));
        let shop = &known[&ScenarioId::from("front")];
        let view = view(&known, detail);
        let mut before: BTreeMap<String, f64> = BTreeMap::new();
        for (second, (reason, millis)) in (0..).zip(runs) {
            let reason = Reason::ALL.get(reason).copied();
            let verdict = match reason.map(Reason::class) {
                None => Verdict::Passed,
                Some(ReasonClass::Degraded) => Verdict::Degraded,
                Some(ReasonClass::Failed) => Verdict::Failed,
                Some(ReasonClass::Unknown) => Verdict::Unknown,
            };
            view.outcome(&outcome(shop, verdict, reason, millis, second));
            view.budget(&shop.id.value, 0.25);
            let text = text_for(&view, 1, Format::Text);
            let of_scenario = lines(&text, "scenario=\"front\"");
            let besides_steps = of_scenario.iter().filter(|line| {
                detail == Detail::Basic || !line.contains("step=")
            });
            prop_assert!(besides_steps.count() <= detail.max_series(), "{}", text);
            for (name, kind, _) in families(&text) {
                prop_assert!(metric::ALL.iter().any(|of| of.name == name), "{} is not declared", name);
                if kind == "gauge" {
                    continue;
                }
                for line in lines(&text, &name) {
                    let (series, value) = line.rsplit_once(' ').unwrap();
                    let value: f64 = value.parse().unwrap();
                    let earlier = before.insert(series.to_owned(), value);
                    prop_assert!(earlier.is_none_or(|earlier| earlier <= value), "{} was {:?}", line, earlier);
                }
            }
            let series: BTreeSet<&str> = of_scenario.iter().map(|line| line.rsplit_once(' ').unwrap().0).collect();
            prop_assert_eq!(series.len(), of_scenario.len());
            // The last reason has a series as long as there is capacity for one.
            if let Some(reason) = reason && (detail == Detail::Full || !has_objective) {
                let label = format!("reason=\"{}\"", reason.as_str());
                prop_assert!(of_scenario.iter().any(|line| line.contains(&label)), "{}", text);
            }
        }
    }
}

#[test]
fn counters_that_appear_are_seen_at_0_once_by_each_scraper() {
    let known = scenarios(TWO);
    let shop = &known[&ScenarioId::from("front")];
    let view = view(&known, Detail::Basic);
    let failed = |second| view.outcome(&outcome(shop, Verdict::Failed, Some(Reason::Status), 90, second));
    let seen = |scraper| counters(&text_for(&view, scraper, Format::Text), "wachta_scenario_failures_total");
    let status = |count: f64| vec![("status".to_owned(), count)];
    failed(0);
    // A new scraper receives the present values.
    assert_eq!(seen(1), status(1.0));
    assert_eq!(seen(1), status(1.0));
    let shop = &known[&ScenarioId::from("other")];
    let degraded = |second| view.outcome(&outcome(shop, Verdict::Degraded, Some(Reason::Budget), 90, second));
    let seen = |scraper| {
        let text = text_for(&view, scraper, Format::Text);
        let of_other = |name: &str| {
            let text: String = lines(&text, "\"other\"").iter().map(|line| format!("{line}\n")).collect();
            counters(&text, name).into_iter().map(|(label, value)| format!("{label} {value}")).collect::<Vec<_>>()
        };
        (of_other("wachta_scenario_degradations_total"), of_other("wachta_scenario_runs_total"))
    };
    let expect = |reasons: &[&str], runs: &[&str]| {
        let owned = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
        (owned(reasons), owned(runs))
    };
    let none = expect(&[], &["passed 0", "failed 0"]);
    assert_eq!((seen(1), seen(2)), (none.clone(), none));
    degraded(0);
    degraded(30);
    let zero = expect(&["budget 0"], &["passed 0", "degraded 0", "failed 0"]);
    let two = expect(&["budget 2"], &["passed 0", "degraded 2", "failed 0"]);
    // Both servers of a pair receive the initial value, and a later one receives the present value.
    assert_eq!((seen(1), seen(1)), (zero.clone(), two.clone()));
    assert_eq!((seen(2), seen(2)), (zero, two.clone()));
    assert_eq!(seen(3), two);
}

#[test]
fn a_scrape_that_broke_off_was_not_seen() {
    let known = scenarios(TWO);
    let shop = &known[&ScenarioId::from("front")];
    let view = view(&known, Detail::Basic);
    let request = |scraper| ScrapeRequest { format: Format::Text, selection: Selection::All, scraper };
    let seen = || counters(&text_for(&view, 1, Format::Text), "wachta_scenario_failures_total");
    assert_eq!(seen(), []);
    view.outcome(&outcome(shop, Verdict::Failed, Some(Reason::Status), 90, 0));
    let mut broken = view.scrape(&request(1)).unwrap();
    assert!(broken.next_piece().is_some());
    drop(broken);
    assert_eq!(seen(), [("status".to_owned(), 0.0)]);
    // A run that ends while a scrape is being written is not part of it.
    let mut slow = view.scrape(&request(1)).unwrap();
    view.outcome(&outcome(&known[&ScenarioId::from("other")], Verdict::Failed, Some(Reason::Dns), 90, 0));
    let written: Vec<u8> = std::iter::from_fn(|| slow.next_piece()).flatten().collect();
    assert!(!String::from_utf8(written).unwrap().contains("dns"));
    assert_eq!(seen(), [("status".to_owned(), 1.0), ("dns".to_owned(), 0.0)]);
    assert_eq!(seen(), [("status".to_owned(), 1.0), ("dns".to_owned(), 1.0)]);
}

#[test]
fn scenarios_that_come_later_begin_at_0() {
    let (one, two) = (scenarios(&TWO[..TWO.find("  other").unwrap()]), scenarios(TWO));
    let view = view(&one, Detail::Full);
    assert!(!text_for(&view, 1, Format::Text).contains("other"));
    view.load(&two, &of(Detail::Full));
    view.outcome(&outcome(&two[&ScenarioId::from("other")], Verdict::Passed, None, 90, 0));
    let seen = || {
        let text = text_for(&view, 1, Format::Text);
        let series = [
            "wachta_scenario_runs_total{scenario=\"other\",location=\"waw-1\",verdict=\"passed\"}",
            "wachta_scenario_run_duration_seconds_count{scenario=\"other\",location=\"waw-1\"}",
        ];
        series.map(|series| lines(&text, series)[0].rsplit_once(' ').unwrap().1.to_owned())
    };
    assert_eq!(seen(), ["0", "0"]);
    assert_eq!(seen(), ["1", "1"]);
}

#[test]
fn reasons_that_made_way_come_back_with_their_total() {
    let known = scenarios(TWO);
    let shop = &known[&ScenarioId::from("front")];
    let view = view(&known, Detail::Basic);
    let failed = |reason, second| view.outcome(&outcome(shop, Verdict::Failed, Some(reason), 90, second));
    let seen = || counters(&text_for(&view, 1, Format::Text), "wachta_scenario_failures_total");
    seen();
    failed(Reason::Dns, 0);
    failed(Reason::Dns, 1);
    for reason in [Reason::Status, Reason::Connect, Reason::Tls, Reason::Timeout] {
        failed(reason, 2);
    }
    let names = |seen: Vec<(String, f64)>| seen.into_iter().map(|(label, _)| label).collect::<Vec<_>>();
    assert_eq!(names(seen()), ["timeout", "tls", "connect"]);
    failed(Reason::Dns, 3);
    assert_eq!(seen()[0], ("dns".to_owned(), 2.0));
    assert_eq!(seen()[0], ("dns".to_owned(), 3.0));
}

#[test]
fn series_begin_with_what_the_store_remembers() {
    let known = scenarios(TWO);
    let shop = &known[&ScenarioId::from("front")];
    let view = view(&known, Detail::Full);
    let last = outcome(shop, Verdict::Unknown, Some(Reason::Lost), 0, 60);
    view.seed(&[last], &[outcome(shop, Verdict::Failed, Some(Reason::Status), 10, 0)]);
    let shown = text(&view);
    // Gauges start with the stored values, counters at 0; a scenario that never ran has no gauges.
    assert_eq!(
        lines(&shown, "wachta_scenario_success{"),
        ["wachta_scenario_success{scenario=\"front\",location=\"waw-1\"} 0"]
    );
    assert_eq!(lines(&shown, "wachta_scenario_last_run_timestamp_seconds{").len(), 1);
    assert_eq!(lines(&shown, "wachta_scenario_last_success_timestamp_seconds{"), [""; 0]);
    assert!(lines(&shown, "_total{").iter().all(|line| line.ends_with(" 0")), "{shown}");
    assert_eq!(lines(&shown, "verdict=\"unknown\"} 1").len(), 1);
    // The first run of this process replaces the stored values.
    view.outcome(&outcome(shop, Verdict::Passed, None, 10, 90));
    let shown = text(&view);
    assert!(shown.contains("wachta_scenario_success{scenario=\"front\",location=\"waw-1\"} 1"));
    assert!(shown.contains("wachta_scenario_runs_total{scenario=\"front\",location=\"waw-1\",verdict=\"passed\"} 1"));
}

#[test]
fn series_go_with_their_scenario_or_step() {
    let known = scenarios(TWO);
    let shop = Arc::clone(&known[&ScenarioId::from("front")]);
    let changed = scenarios("checks:\n  shop: {tcp: \"shop:80\", id: front, every: 30s}\n");
    for (detail, of_step) in [(Detail::Full, "wachta_step_success"), (Detail::Basic, "wachta_tls_certificate")] {
        let view = view(&known, detail);
        view.outcome(&outcome(&shop, Verdict::Passed, None, 120, 0));
        assert_eq!(lines(&text(&view), of_step).len(), 1);
        // The same scenario with another step: its counters are kept, the series of the step are removed.
        view.load(&changed, &of(detail));
        let shown = text(&view);
        assert_eq!(lines(&shown, of_step), [""; 0]);
        assert_eq!(lines(&shown, "other"), [""; 0]);
        assert!(
            shown.contains("wachta_scenario_runs_total{scenario=\"front\",location=\"waw-1\",verdict=\"passed\"} 1")
        );
        // A run of the previous version of the file does not restore its step.
        view.outcome(&outcome(&shop, Verdict::Passed, None, 120, 10));
        assert_eq!(lines(&text(&view), of_step), [""; 0]);
        view.load(&BTreeMap::new(), &of(detail));
        assert_eq!(text(&view), "");
        // A run that ends after its scenario was removed restores nothing.
        view.outcome(&outcome(&shop, Verdict::Passed, None, 120, 30));
        assert_eq!(text(&view), "");
    }
}

#[test]
fn a_change_of_the_detail_takes_and_brings_series() {
    let known = scenarios(TWO);
    let shop = &known[&ScenarioId::from("front")];
    let view = view(&known, Detail::Full);
    let count = || {
        let shown = text(&view);
        let histogram = lines(&shown, "run_duration_seconds_count{scenario=\"front\"");
        (histogram.first().map(|line| line.rsplit_once(' ').unwrap().1.to_owned()), lines(&shown, "wachta_step_").len())
    };
    view.outcome(&outcome(shop, Verdict::Passed, None, 120, 0));
    assert_eq!(count(), (Some("1".to_owned()), 2));
    view.load(&known, &of(Detail::Basic));
    assert_eq!(count(), (None, 0));
    view.outcome(&outcome(shop, Verdict::Passed, None, 120, 10));
    view.load(&known, &of(Detail::Full));
    assert_eq!(count(), (Some("0".to_owned()), 0));
    view.outcome(&outcome(shop, Verdict::Passed, None, 120, 20));
    assert_eq!(count(), (Some("1".to_owned()), 2));
    assert!(text(&view).contains("verdict=\"passed\"} 3"));
}

#[test]
fn what_a_page_did_not_tell_is_no_series() {
    let known = scenarios(TWO);
    let shop = &known[&ScenarioId::from("front")];
    let view = view(&known, Detail::Full);
    let shown = || lines(&text(&view), "wachta_web_").iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    view.outcome(&outcome(shop, Verdict::Passed, None, 120, 0));
    assert_eq!(shown().len(), 3, "{:?}", shown());
    // A run that did not reach the step does not change its values; the next page replaces all of them.
    view.outcome(&outcome(shop, Verdict::Unknown, Some(Reason::Browser), 0, 30));
    assert_eq!(shown().len(), 3, "{:?}", shown());
    view.outcome(&outcome(shop, Verdict::Passed, None, 2500, 60));
    assert!(shown().iter().all(|line| !line.contains("layout_shift")), "{:?}", shown());
    view.load(&BTreeMap::new(), &of(Detail::Full));
    assert_eq!(shown(), [""; 0]);
}

/// Returns a flow whose steps all received a certificate that expires on these days.
fn flow(scenario: &Scenario, days: &[Option<i64>]) -> Outcome {
    let mut flow = outcome(scenario, Verdict::Passed, None, 100, 0);
    let step = flow.steps[0].clone();
    flow.steps = scenario
        .step_names()
        .iter()
        .zip(days)
        .map(|(name, day)| StepResult {
            name: (*name).to_owned(),
            certificate_expires_at: day.map(|day| at(86_400 * day)),
            ..step.clone()
        })
        .collect();
    flow
}

const FLOW: &str = "scenario: Flow\nsteps: [{GET: \"http://a/\"}, {GET: \"http://b/\"}, {GET: \"http://c/\"}]\n";

#[test]
fn at_basic_the_certificate_is_the_one_that_expires_first() {
    let known = scenarios(FLOW);
    let scenario = known.values().next().unwrap();
    let view = view(&known, Detail::Basic);
    let shown = |days: &[Option<i64>]| {
        view.outcome(&flow(scenario, days));
        let text = text(&view);
        let lines = lines(&text, "wachta_tls_certificate_expiry");
        assert!(lines.len() <= 1, "{lines:?}");
        let line = lines.first()?;
        let day = (line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap() - 1_800_000_000.5) / 86_400.0;
        Some(format!("{} {day}", line.rsplit('"').nth(1).unwrap()))
    };
    assert_eq!(shown(&[None, None, None]), None);
    assert_eq!(shown(&[Some(50), Some(20), Some(30)]).as_deref(), Some("GET http://b/ 20"));
    // A run that did not reach the step does not change its certificate.
    assert_eq!(shown(&[Some(50)]).as_deref(), Some("GET http://b/ 20"));
    assert_eq!(shown(&[Some(50), None, Some(30)]).as_deref(), Some("GET http://b/ 20"));
    // The certificate was renewed.
    assert_eq!(shown(&[Some(50), Some(90), Some(30)]).as_deref(), Some("GET http://c/ 30"));
    assert_eq!(shown(&[Some(10)]).as_deref(), Some("GET http://a/ 10"));
}

#[test]
fn steps_beyond_the_budget_are_counted_and_not_exported() {
    let known = scenarios(FLOW);
    let scenario = known.values().next().unwrap();
    let view = Prometheus::new(Registry::new(), "waw-1");
    let config = |max_step_series| Config { max_step_series, ..of(Detail::Full) };
    let run = |limit: u32| {
        view.load(&known, &config(limit));
        view.outcome(&flow(scenario, &[Some(1), Some(2), Some(3)]));
        let text = text(&view);
        (lines(&text, "step=").len(), lines(&text, "wachta_step_success").len(), view.omitted.get())
    };
    // Two series of the step, five phases, status, certificate, and three of the page.
    assert_eq!(run(36), (36, 3, 0));
    view.load(&BTreeMap::new(), &config(1));
    assert_eq!(run(25), (24, 2, 12));
    assert_eq!(run(25), (24, 2, 24));
    assert_eq!(run(36), (36, 3, 24));
}

#[test]
fn tags_that_are_listed_are_labels() {
    let known = scenarios(
        "checks:\n  a: {http: \"http://a/\", tags: {cost-centre: \"7\", team: shop}}\n  b: {http: \"http://b/\"}\n",
    );
    let view = Prometheus::new(Registry::new(), "waw-1");
    view.load(&known, &Config { tags: vec!["cost-centre".to_owned()], ..Config::default() });
    let text = text(&view);
    let shown = lines(&text, "wachta_scenario_info");
    assert!(shown[0].ends_with(",tag_cost_centre=\"7\"} 1"), "{shown:?}");
    assert!(!shown[1].contains("tag_"), "{shown:?}");
}

#[test]
fn parts_are_selected_by_id_and_tag() {
    let known = scenarios(
        "checks:\n  a: {http: \"http://a/\", tags: {team: shop}}\n  b: {http: \"http://b/\", tags: {team: ops}}\n  c: {http: \"http://c/\"}\n",
    );
    let view = view(&known, Detail::Basic);
    let check = |query: &str, expected: &[&str], has_agent: bool| {
        let selection = Selection::parse(query).unwrap();
        let text = answer(&view, &ScrapeRequest { format: Format::Text, selection, scraper: 1 });
        let text = String::from_utf8(text).unwrap();
        let infos = lines(&text, "wachta_scenario_info");
        let ids: Vec<_> = infos.iter().map(|line| line.split('"').nth(1).unwrap()).collect();
        assert_eq!((ids.as_slice(), text.contains("wachta_series_omitted_total 0")), (expected, has_agent), "{query}");
    };
    check("", &["a", "b", "c"], true);
    check("part=agent", &[], true);
    check("tag=team:shop", &["a"], false);
    check("tag=team:shop&tag=team:ops", &["a", "b"], false);
    check("scenario=c&tag=team:shop", &["a", "c"], false);
    check("scenario=nobody&tag=team:nobody&tag=nobody:", &[], false);
}

#[test]
fn runs_are_exemplars_of_what_counted_them() {
    let known = scenarios(TWO);
    let shop = &known[&ScenarioId::from("front")];
    let view = view(&known, Detail::Full);
    view.seed(&[outcome(shop, Verdict::Passed, None, 10, 0)], &[]);
    assert!(!text_for(&view, 1, Format::OpenMetrics).contains("trace_id"));
    let failed = outcome(shop, Verdict::Failed, Some(Reason::Status), 300, 30);
    let passed = outcome(shop, Verdict::Passed, None, 70, 60);
    view.outcome(&failed);
    view.outcome(&passed);
    let text = text_for(&view, 1, Format::OpenMetrics);
    let exemplar = |of: &Outcome, value: &str| {
        format!(" # {{trace_id=\"{}\"}} {value} {}", of.run.0.simple(), seconds(of.ended_at))
    };
    let front = "{scenario=\"front\",location=\"waw-1\"";
    let shown =
        |series: &str, end: &str| assert!(text.contains(&format!("{series}{end}\n")), "no {series}{end} in\n{text}");
    shown(&format!("wachta_scenario_runs_total{front},verdict=\"failed\"}} 1"), &exemplar(&failed, "1"));
    shown(&format!("wachta_scenario_runs_total{front},verdict=\"passed\"}} 1"), &exemplar(&passed, "1"));
    shown(&format!("wachta_scenario_run_duration_seconds_bucket{front},le=\"0.1\"}} 1"), &exemplar(&passed, "0.07"));
    shown(&format!("wachta_scenario_run_duration_seconds_bucket{front},le=\"1.0\"}} 2"), "");
    assert_eq!(lines(&text, "trace_id").len(), 3);
    assert!(text.ends_with("# EOF\n") && text.contains("# TYPE wachta_scenario_runs counter\n"));
}

#[test]
fn scrapes_at_once_are_bounded_and_need_no_run_to_wait() {
    let known = scenarios(TWO);
    let shop = &known[&ScenarioId::from("front")];
    let view = view(&known, Detail::Full);
    view.outcome(&outcome(shop, Verdict::Passed, None, 70, 0));
    let request = ScrapeRequest { format: Format::Text, selection: Selection::All, scraper: 1 };
    let mut scrapes: Vec<_> = (0..MAX_SCRAPES).map(|_| view.scrape(&request).expect("a place")).collect();
    assert!(view.scrape(&request).is_none());
    // Scrapes that are not read block neither runs nor reloads, and contain the values at their start.
    view.outcome(&outcome(shop, Verdict::Failed, Some(Reason::Status), 70, 10));
    view.load(&BTreeMap::new(), &of(Detail::Full));
    let mut first = scrapes.remove(0);
    let text = String::from_utf8(std::iter::from_fn(|| first.next_piece()).flatten().collect()).unwrap();
    assert!(text.contains("wachta_scenario_success{scenario=\"front\",location=\"waw-1\"} 1\n"), "{text}");
    drop(first);
    assert!(view.scrape(&request).is_some());
}
