//! The files for operators use only names that wachta declares: dashboard, rules and docs against `names.rs`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;
use wachta::names::{Metric, MetricKind, Reason, ReasonClass, exit, metric, skipped, suppressed};

/// Labels that Prometheus adds.
const SCRAPED: [&str; 3] = ["job", "instance", "le"];

static QUOTED: LazyLock<Regex> = LazyLock::new(|| pattern(r#""[^"]*""#));
static SERIES: LazyLock<Regex> = LazyLock::new(|| pattern(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(\{[^}]*\})?"));
static MATCHER: LazyLock<Regex> = LazyLock::new(|| pattern(r"([a-z_]+)\s*(=|!)"));
static GROUPING: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"\b(?:by|on|without|ignoring|group_left|group_right)\s*\(([^)]*)\)"));
static TEMPLATE: LazyLock<Regex> = LazyLock::new(|| pattern(r"\$labels\.([a-z_]+)|\{\{([a-z_]+)\}\}"));

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a valid pattern")
}

fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

fn read(relative: &str) -> String {
    std::fs::read_to_string(path(relative)).expect("the file is there")
}

fn is_of_scenarios(of: &Metric) -> bool {
    ["wachta_scenario_", "wachta_step_", "wachta_http_", "wachta_tls_", "wachta_web_", "wachta_slo_"]
        .iter()
        .any(|prefix| of.name.starts_with(prefix))
}

/// The metric that a series name belongs to.
fn metric_of(series: &str) -> Option<&'static Metric> {
    metric::ALL.iter().copied().find(|of| match of.kind {
        MetricKind::Gauge | MetricKind::Counter => of.name == series,
        MetricKind::Histogram => {
            series.strip_prefix(of.name).is_some_and(|suffix| ["_bucket", "_sum", "_count"].contains(&suffix))
        }
    })
}

fn labels_of(of: &Metric) -> BTreeSet<&'static str> {
    let of_scenarios = is_of_scenarios(of).then_some(metric::SCENARIO_LABELS);
    of.labels.iter().copied().chain(of_scenarios.into_iter().flatten()).chain(SCRAPED).collect()
}

/// What is wrong with an expression; `words` are templates that go with it, with `labels.x` or `{{x}}` in them.
fn faults(expression: &str, words: &str) -> Vec<String> {
    // What stands between quotes is no name. Variables of Grafana stand there, or between brackets.
    let expression = QUOTED.replace_all(expression, "\"\"");
    let mut faults = Vec::new();
    let mut known: BTreeSet<&str> = SCRAPED.into();
    for found in SERIES.captures_iter(&expression) {
        let name = &found[1];
        let matchers = found.get(2).map_or("", |matchers| matchers.as_str());
        let labels = match metric_of(name) {
            Some(of) => labels_of(of),
            None if name == "up" => SCRAPED.into(),
            None if name.starts_with("wachta") || !matchers.is_empty() => {
                faults.push(format!("no metric {name}"));
                continue;
            }
            None => continue,
        };
        for label in MATCHER.captures_iter(matchers) {
            if !labels.contains(&label[1]) {
                faults.push(format!("{name} has no label {}", &label[1]));
            }
        }
        known.extend(labels);
    }
    let grouped = GROUPING.captures_iter(&expression).flat_map(|list| {
        list[1].split(',').map(|label| label.trim().to_owned()).filter(|label| !label.is_empty()).collect::<Vec<_>>()
    });
    let templated = TEMPLATE
        .captures_iter(words)
        .map(|found| found.get(1).or(found.get(2)).map_or("", |label| label.as_str()).to_owned());
    faults.extend(
        grouped
            .chain(templated)
            .filter(|label| !known.contains(label.as_str()))
            .map(|label| format!("no label {label}")),
    );
    faults
}

/// Every query of a dashboard's panels, as (panel and letter, expression, legend).
fn queries(panels: &Value, found: &mut Vec<(String, String, String)>) {
    for panel in panels.as_array().into_iter().flatten() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let place = format!("{} {}", text(&panel["title"]), text(&target["refId"]));
            found.push((place, text(&target["expr"]), text(&target["legendFormat"])));
        }
        queries(&panel["panels"], found);
    }
}

#[test]
fn the_check_finds_wrong_names() {
    let check = |expression: &str, words: &str, expected: &[&str]| assert_eq!(faults(expression, words), expected);
    check("rate(wachta_schedule_lag_seconds_bucket[5m])", "{{le}}", &[]);
    check("wachta_schedule_lag_seconds", "", &["no metric wachta_schedule_lag_seconds"]);
    check("wachta_nothing > 0", "", &["no metric wachta_nothing"]);
    check("node_load1{x=\"y\"}", "", &["no metric node_load1"]);
    check("wachta_scenarios{scenario=\"a\"}", "", &["wachta_scenarios has no label scenario"]);
    check("sum by (reason) (wachta_scenario_runs_total)", "", &["no label reason"]);
    check("wachta_scenario_success", "{{ $labels.severity }}", &["no label severity"]);
}

#[test]
fn the_dashboard_asks_for_what_there_is() {
    let dashboard: Value = serde_json::from_str(&read("dashboards/wachta.json")).unwrap();
    let mut found = Vec::new();
    queries(&dashboard["panels"], &mut found);
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        // `label_values(metric, label)`: the label is the legend.
        if let Some(query) = variable["query"]["query"].as_str() {
            let (of, label) = query.trim_start_matches("label_values").rsplit_once(',').unwrap();
            let label = label.trim().trim_end_matches(')');
            found.push((query.to_owned(), of.replace('(', ""), format!("{{{{{label}}}}}")));
        }
    }
    assert!(found.len() > 40, "only {} queries were found", found.len());
    for (place, expression, legend) in &found {
        assert_eq!(faults(expression, legend), [""; 0], "{place}: {expression}");
    }
    // What is exported and not on the dashboard was forgotten.
    let all = found.iter().map(|(_, expression, _)| expression.as_str()).collect::<Vec<_>>().join("\n");
    let forgotten: Vec<_> = metric::ALL.iter().map(|of| of.name).filter(|name| !all.contains(name)).collect();
    assert_eq!(forgotten, [""; 0]);
}

#[test]
fn rules_use_what_there_is_and_say_what_to_do() {
    let rules: Value = serde_saphyr::from_str(&read("alerts/wachta.rules.yml")).unwrap();
    let tests = read("alerts/wachta.rules.test.yml");
    for rule in rules["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap()) {
        let name = rule["alert"].as_str().unwrap();
        let annotations = &rule["annotations"];
        assert_eq!(faults(rule["expr"].as_str().unwrap(), &annotations.to_string()), [""; 0], "{name}");
        assert!(annotations["summary"].is_string() && annotations["description"].is_string(), "{name} has no words");
        assert!(tests.contains(name), "{name} has no test");
    }
}

#[test]
fn promtool_accepts_the_rules_and_their_tests_pass() {
    let packages = Command::new(path("tests/support/packages.sh")).output().expect("the script runs");
    assert!(packages.status.success(), "{}", String::from_utf8_lossy(&packages.stderr));
    for arguments in [
        ["check", "rules", "alerts/wachta.rules.yml"],
        ["test", "rules", "alerts/wachta.rules.test.yml"],
        ["check", "config", "deploy/prometheus.yml"],
    ] {
        let run = Command::new("promtool").args(arguments).current_dir(path(".")).output().expect("promtool runs");
        let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
        assert!(run.status.success(), "{arguments:?}: {out}{err}");
    }
}

#[test]
fn promtool_has_nothing_to_say_of_the_metrics() {
    let packages = Command::new(path("tests/support/packages.sh")).output().expect("the script runs");
    assert!(packages.status.success(), "{}", String::from_utf8_lossy(&packages.stderr));
    for golden in ["tests/golden/metrics.txt", "tests/golden/metrics-basic.txt"] {
        let text = std::fs::File::open(path(golden)).expect("the golden text is there");
        let run = Command::new("promtool").args(["check", "metrics"]).stdin(text).output().expect("promtool runs");
        let said = [run.stdout, run.stderr].concat();
        assert!(run.status.success() && said.is_empty(), "{golden}: {}", String::from_utf8_lossy(&said));
    }
}

/// What others were promised: name, kind, labels beside those that all metrics of scenarios have.
const PROMISED: &str = "\
wachta_scenario_info gauge name kind schedule severity
wachta_scenario_success gauge
wachta_scenario_verdict gauge verdict
wachta_scenario_duration_seconds gauge
wachta_scenario_run_duration_seconds histogram
wachta_scenario_runs_total counter verdict
wachta_scenario_failures_total counter reason
wachta_scenario_unknowns_total counter reason
wachta_scenario_degradations_total counter reason
wachta_scenario_last_run_timestamp_seconds gauge
wachta_scenario_last_success_timestamp_seconds gauge
wachta_step_success gauge step
wachta_step_duration_seconds gauge step
wachta_http_phase_duration_seconds gauge step phase
wachta_http_status_code gauge step
wachta_tls_certificate_expiry_timestamp_seconds gauge step
wachta_web_vital_seconds gauge step vital
wachta_web_vital_layout_shift gauge step
wachta_slo_objective_ratio gauge
wachta_slo_error_budget_remaining_ratio gauge
wachta_scenarios gauge state
wachta_incidents_open gauge severity
wachta_notifications_sent_total counter receiver
wachta_notifications_failed_total counter receiver
wachta_notifications_suppressed_total counter reason
wachta_schedule_lag_seconds histogram
wachta_schedule_skipped_total counter cause
wachta_browser_sessions gauge state
wachta_browser_waiting_runs gauge cause
wachta_browser_wait_seconds histogram
wachta_browser_sessions_started_total counter
wachta_browser_sandbox gauge
wachta_browser_sessions_reaped_total counter cause
wachta_sink_queue_length gauge sink
wachta_sink_sent_total counter sink
wachta_sink_failed_total counter sink
wachta_sink_refused_total counter sink
wachta_sink_dropped_total counter sink
wachta_store_available gauge
wachta_store_waiting_outcomes gauge
wachta_store_rows_refused_total counter
wachta_series_omitted_total counter
wachta_task_restarts_total counter task
wachta_agent_stalled gauge part
wachta_config_last_reload_successful gauge
wachta_config_last_reload_success_timestamp_seconds gauge
wachta_build_info gauge version revision
";

#[test]
fn names_are_as_promised() {
    let mut declared = String::new();
    for of in metric::ALL {
        let kind = format!("{:?}", of.kind).to_lowercase();
        let words: Vec<&str> = [of.name, kind.as_str()].into_iter().chain(of.labels.iter().copied()).collect();
        declared.push_str(&words.join(" "));
        declared.push('\n');
    }
    assert_eq!(declared, PROMISED);
    let reasons = |class| {
        let of_class = Reason::ALL.iter().filter(|reason| reason.class() == class);
        of_class.map(|reason| reason.as_str()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        reasons(ReasonClass::Failed),
        "timeout status assertion slow gave_up not_found ambiguous missing_value dns connect tls certificate protocol \
         too_large script console requests download crash heartbeat exec"
    );
    assert_eq!(
        reasons(ReasonClass::Unknown),
        "browser inspection driver resources network store configuration lost panic not_seen asleep"
    );
    assert_eq!(reasons(ReasonClass::Degraded), "budget finally drift");
    assert_eq!(skipped::ALL.join(" "), "overlap capacity paused missed");
    assert_eq!(
        suppressed::ALL.join(" "),
        "agent_fault quorum below_threshold flapping dependency maintenance silence acknowledged grouped resolved_early already_open rate_limited"
    );
    assert_eq!(metric::SCENARIO_LABELS, ["scenario", "location"]);
    let buckets: [f64; 8] = [0.01, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0, 60.0];
    assert!(metric::DURATION_BUCKETS.iter().zip(buckets).all(|(a, b)| a.to_bits() == b.to_bits()));
    assert_eq!([exit::PASSED, exit::FAILED, exit::USAGE, exit::UNKNOWN], [0, 1, 2, 3]);
}

#[test]
fn the_table_of_metrics_is_complete() {
    let docs = read("docs/metrics.md");
    let rows: BTreeSet<_> = docs.lines().filter(|line| line.starts_with("| `wachta_")).map(str::to_owned).collect();
    let expected = metric::ALL.iter().map(|of| {
        let kind = format!("{:?}", of.kind).to_lowercase();
        let labels: Vec<_> = of.labels.iter().map(|label| format!("`{label}`")).collect();
        format!("| `{}` | {kind} | {} | {} |", of.name, labels.join(", "), of.help)
    });
    assert_eq!(rows, expected.collect());
    // What `basic` has is said in a list of its own.
    let list = docs.split_once("At `basic` a scenario has ").and_then(|(_, rest)| rest.split_once("\n\n"));
    let listed: BTreeSet<_> =
        list.expect("the list is there").0.split('`').filter(|name| name.starts_with("wachta_")).collect();
    assert_eq!(listed, metric::BASIC.iter().map(|of| of.name).collect());
    let buckets: Vec<_> = metric::DURATION_BUCKETS.iter().map(f64::to_string).collect();
    assert!(docs.contains(&format!("Buckets of durations, in seconds: {};", buckets.join(" "))), "{buckets:?}");
}
