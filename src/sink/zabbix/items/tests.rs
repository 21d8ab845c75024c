//! Rows, documents and discovery, and the declaration of items against the shipped template.

use std::time::Duration;

use super::*;
use crate::names::Reason;
use crate::outcome::{RunId, Verdict};
use crate::scenario::{Lookup, LookupError, ScenarioKind};

/// Lookup without variables and files.
struct Nothing;

impl Lookup for Nothing {
    fn env(&self, name: &str) -> Result<String, LookupError> {
        Err(LookupError::Missing(name.into()))
    }

    fn file(&self, path: &std::path::Path, _: &str) -> Result<Vec<u8>, LookupError> {
        Err(LookupError::Missing(path.display().to_string()))
    }
}

/// Returns an outcome of `scenario` that ended at `at`, with steps of these names and results.
pub fn outcome(scenario: &str, at: DateTime<Utc>, verdict: Verdict, steps: &[(&str, StepStatus)]) -> Outcome {
    let steps = steps
        .iter()
        .map(|(name, status)| StepResult {
            name: (*name).into(),
            depth: 0,
            finally: false,
            optional: false,
            span_id: "0123456789abcdef".into(),
            offset: Duration::ZERO,
            duration: Duration::from_millis(250),
            status: *status,
            place: "shop.yaml:3:5".into(),
            failure: None,
            http: None,
            certificate_expires_at: None,
            earlier_requests: Vec::new(),
            notes: Vec::new(),
            snippet: None,
            retried: false,
            page: None,
        })
        .collect::<Vec<_>>();
    Outcome {
        run: RunId("01935400-0000-7000-8000-000000000001".parse().unwrap()),
        seq: 0,
        streak: None,
        scenario: scenario.into(),
        name: "Shop".into(),
        kind: ScenarioKind::Browser,
        location: "waw-1".into(),
        due_at: at,
        started_at: at,
        ended_at: at,
        duration: Duration::from_millis(1500),
        verdict,
        reason: (verdict == Verdict::Failed).then_some(Reason::NotFound),
        message: (verdict == Verdict::Failed).then(|| "no element matches".into()),
        failed_step: steps.iter().position(|step| step.status == StepStatus::Failed),
        steps,
        evidence: Vec::new(),
        browser: None,
        differences: Vec::new(),
    }
}

fn at() -> DateTime<Utc> {
    "2026-11-22T12:00:00.000000123Z".parse().unwrap()
}

#[test]
fn an_outcome_is_a_run_and_two_values_for_each_tested_step() {
    let steps = [
        (r#"click button "Sign in""#, StepStatus::Passed),
        ("expect", StepStatus::Failed),
        ("goto /", StepStatus::Skipped),
    ];
    let rows = rows(&outcome("shop", at(), Verdict::Failed, &steps), at());
    let shown: Vec<_> = rows.iter().map(|row| format!("{} {}", row.key, row.value)).collect();
    assert_eq!(
        shown,
        [
            concat!(
                r#"wachta.run["shop"] {"run":"01935400-0000-7000-8000-000000000001","location":"waw-1","#,
                r#""verdict":"failed","status":2,"reason":"not_found","duration":1.5,"failed_step":"expect","#,
                r#""message":"no element matches","steps":["#,
                r#"{"name":"click button \"Sign in\"","success":1,"duration":0.25},"#,
                r#"{"name":"expect","success":0,"duration":0.25}]}"#
            ),
            r#"wachta.step.success["shop","click button \"Sign in\""] 1"#,
            r#"wachta.step.duration["shop","click button \"Sign in\""] 0.25"#,
            r#"wachta.step.success["shop","expect"] 0"#,
            r#"wachta.step.duration["shop","expect"] 0.25"#,
        ]
    );
    assert!(rows.iter().all(|row| row.at == Some(Stamp { clock: at().timestamp(), ns: 123 })));
}

#[test]
fn a_passed_run_has_empty_words_instead_of_missing_ones() {
    let rows = rows(&outcome("shop", at(), Verdict::Passed, &[]), at());
    let run: Value = serde_json::from_str(&rows[0].value).unwrap();
    assert_eq!((&run["status"], &run["reason"], &run["message"]), (&json!(0), &json!(""), &json!("")));
}

#[test]
fn a_run_stays_a_document_however_long_it_is() {
    let names: Vec<_> = (0..1000).map(|n| format!("step {n} {}", "ż".repeat(150))).collect();
    let steps: Vec<_> = names.iter().map(|name| (name.as_str(), StepStatus::Passed)).collect();
    let mut long = outcome("shop", at(), Verdict::Failed, &steps);
    long.message = Some("m".repeat(100_000).as_str().into());
    let text = run(&long);
    assert!((60_000..=MAX_TEXT).contains(&text.chars().count()), "{}", text.chars().count());
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["message"].as_str().unwrap().chars().count(), MAX_MESSAGE);
}

#[test]
fn discovery_has_a_macro_for_each_tag_and_a_row_for_each_step() {
    let entry = Entry {
        id: "shop".into(),
        name: "Shop".into(),
        severity: Severity::Critical,
        tags: BTreeMap::from([("service".into(), "checkout".into()), ("on-call".into(), "a \"b\"".into())]),
        steps: vec!["goto /".into(), "say \"hi\"\\".into()],
        shows: Shows { http: false, certificate: true, page: true },
    };
    let [scenarios, steps] = discovery(&[entry]);
    let common = r#""{#ID}":"shop","{#NAME}":"Shop","{#SEVERITY}":"4","{#HTTP}":"0","{#CERTIFICATE}":"1","{#PAGE}":"1","{#TAG.ON_CALL}":"a \"b\"","{#TAG.SERVICE}":"checkout""#;
    assert_eq!((scenarios.key.as_str(), scenarios.value), (DISCOVERY, format!("[{{{common}}}]")));
    assert_eq!(
        (steps.key.as_str(), steps.value),
        (
            DISCOVERY_STEPS,
            format!(
                r#"[{{{common},"{{#STEP}}":"goto /","{{#STEP.NAME}}":"goto /"}},{{{common},"{{#STEP}}":"say \"hi\"","{{#STEP.NAME}}":"say \"hi\"\\"}}]"#
            )
        )
    );
}

#[test]
fn a_clock_that_is_not_set_is_left_to_the_server() {
    assert_eq!(Stamp::of(DateTime::UNIX_EPOCH), None);
    assert_eq!(Stamp::of(at()), Some(Stamp { clock: 1_795_348_800, ns: 123 }));
}

#[test]
fn a_run_with_requests_and_pages_has_their_figures() {
    let mut run_of =
        outcome("shop", at(), Verdict::Passed, &[("first", StepStatus::Passed), ("last", StepStatus::Passed)]);
    let response = |status, millis| {
        let phases = json!({"resolve": 0.001, "connect": 0.002, "processing": millis, "transfer": 0.004});
        let hop = json!({"method": "GET", "url": "http://shop/", "status": 302, "phases": phases});
        let hops = [hop.clone(), hop];
        serde_json::from_value(
            json!({"method": "GET", "url": "http://shop/", "status": status, "bytes": 1, "hops": hops}),
        )
    };
    let page = |timing| {
        json!({"url": "http://shop/", "timing": timing, "requests": 1, "failed_requests": 0, "bytes": 1,
               "console_errors": 0})
    };
    run_of.steps[0].http = Some(response(500, 0.5).unwrap());
    run_of.steps[1].http = Some(response(200, 0.25).unwrap());
    run_of.steps[0].certificate_expires_at = Some(at() + chrono::TimeDelta::days(30));
    run_of.steps[1].certificate_expires_at = Some(at() - chrono::TimeDelta::seconds(1));
    run_of.steps[0].page = serde_json::from_value(page(json!({"lcp": 2.5, "cls": 0.01}))).unwrap();
    run_of.steps[1].page = serde_json::from_value(page(json!({"lcp": 1.5, "ttfb": 0.1, "cls": 0.2}))).unwrap();
    let document: Value = serde_json::from_str(&run(&run_of)).unwrap();
    let shown = json!([document["http"], document["certificate_days"], document["vitals"]]);
    let http = r#"{"status":200,"resolve":0.002,"connect":0.004,"processing":0.5,"transfer":0.008}"#;
    let vitals = r#"{"ttfb":0.1,"lcp":2.5,"cls":0.2}"#;
    assert_eq!(shown.to_string(), format!("[{http},-0.01,{vitals}]"));
}

#[test]
fn a_scenario_shows_what_its_steps_can() {
    let check = |text: &str, expected: (bool, bool, bool)| {
        let loaded = crate::scenario::load("shop.yaml", text, &Nothing);
        let [scenario] = loaded.scenarios.as_slice() else { panic!("{:?}", loaded.diagnostics) };
        let Shows { http, certificate, page } = entry(scenario).shows;
        assert_eq!((http, certificate, page), expected, "{text}");
    };
    let flow = "scenario: Shop\nevery: 1m\nsteps:\n  - group: all\n    steps: [{goto: \"http://shop/\"}]\n";
    check(flow, (false, false, true));
    check(&format!("{flow}finally:\n  - GET: http://shop/\n"), (true, true, true));
    check("checks:\n  one: {http: \"http://shop/\", every: 1m}\n", (true, true, false));
    check("checks:\n  one: {tls: \"shop:443\", every: 1m}\n", (false, true, false));
    check("checks:\n  one: {tcp: \"shop:80\", every: 1m}\n", (false, false, false));
}

/// Properties of an item in the template and in the declaration: key, name, type, unit, source, map, periods,
/// description.
type Shown = Vec<String>;

fn declared(item: &declaration::Item, parameters: &[&str], prefix: &str) -> Shown {
    use declaration::{Source, ValueType};
    let value_type = match item.value_type {
        ValueType::Float => "FLOAT",
        ValueType::Char => "CHAR",
        ValueType::Unsigned => "",
        ValueType::Text => "TEXT",
    };
    let (kind, steps) = match item.source {
        Source::Sent => ("TRAP", Value::Null),
        Source::Run { path, left_out, is_always_there } => {
            let mut first = json!({"type": "JSONPATH", "parameters": [path]});
            if !is_always_there {
                first["error_handler"] = "DISCARD_VALUE".into();
            }
            let second = left_out.map(|expression| {
                json!({"type": "NOT_MATCHES_REGEX", "parameters": [expression], "error_handler": "DISCARD_VALUE"})
            });
            ("DEPENDENT", std::iter::once(first).chain(second).collect())
        }
    };
    let has_numbers = matches!(item.value_type, ValueType::Float | ValueType::Unsigned);
    let trends = if item.has_trends == has_numbers && has_numbers { "" } else { "0" };
    let map = item.value_map.unwrap_or_default();
    [
        &item.key_of(parameters),
        &format!("{prefix}{}", item.name),
        kind,
        value_type,
        item.units,
        map,
        item.history,
        trends,
    ]
    .into_iter()
    .map(str::to_owned)
    .chain([item.description.to_owned(), steps.to_string()])
    .collect()
}

fn shipped(item: &Value) -> Shown {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    ["key", "name", "type", "value_type", "units"]
        .map(|field| text(&item[field]))
        .into_iter()
        .chain([text(&item["valuemap"]["name"]), text(&item["history"]), text(&item["trends"])])
        .chain([text(&item["description"]), item["preprocessing"].to_string()])
        .collect()
}

#[test]
fn discovery_has_every_tag_for_every_scenario() {
    let entry = |id: &str, tag: &str| Entry {
        id: id.into(),
        name: id.into(),
        severity: Severity::Info,
        tags: BTreeMap::from([(tag.into(), "x".into())]),
        steps: Vec::new(),
        shows: Shows::default(),
    };
    let [scenarios, _] = discovery(&[entry("a", "team"), entry("b", "on-call")]);
    let rows: Value = serde_json::from_str(&scenarios.value).unwrap();
    let tags = |n: usize| (rows[n]["{#TAG.ON_CALL}"].as_str(), rows[n]["{#TAG.TEAM}"].as_str());
    assert_eq!((tags(0), tags(1)), ((Some(""), Some("x")), (Some("x"), Some(""))));
}

#[test]
fn the_shipped_template_has_the_declared_items() {
    use declaration::{OF_AGENT, OF_SCENARIO, OF_STEP, Scope};
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/zabbix/template-wachta-6.0.yaml");
    let template: Value = serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let template = &template["zabbix_export"]["templates"][0];
    let lists = [
        (OF_AGENT, vec![], "", &template["items"]),
        (OF_SCENARIO, vec!["{#ID}"], "{#NAME}: ", &template["discovery_rules"][0]["item_prototypes"]),
        (
            OF_STEP,
            vec!["{#ID}", "{#STEP}"],
            "{#NAME}: {#STEP.NAME}: ",
            &template["discovery_rules"][1]["item_prototypes"],
        ),
    ];
    for (items, parameters, prefix, there) in lists {
        let there: Vec<Shown> = there.as_array().unwrap().iter().map(shipped).collect();
        let here: Vec<Shown> = items.iter().map(|item| declared(item, &parameters, prefix)).collect();
        assert_eq!(there, here);
    }
    // An item that only some scenarios have is omitted for the others by an override that contains its name.
    for item in OF_SCENARIO {
        let overrides = template["discovery_rules"][0]["overrides"].as_array().unwrap().iter().filter(|one| {
            one["operations"].as_array().unwrap().iter().any(|operation| {
                let expression = regex::Regex::new(operation["value"].as_str().unwrap()).unwrap();
                operation["operationobject"] == "ITEM_PROTOTYPE" && expression.is_match(&format!("Shop: {}", item.name))
            })
        });
        let macros: Vec<_> = overrides.map(|one| one["filter"]["conditions"][0]["macro"].clone()).collect();
        match item.scope {
            Scope::Every => assert_eq!(macros, Vec::<Value>::new(), "{}", item.name),
            Scope::Macro(name) => assert_eq!(macros, [json!(name)], "{}", item.name),
        }
    }
}
