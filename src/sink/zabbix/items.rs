//! What Zabbix is shown of outcomes and scenarios: rows for trapper items. Pure.
//!
//! One text item has the run as JSON, so that all that depends on it is of one run. Step values cannot depend on it
//! (Zabbix refuses a master prototype of another discovery rule): they are rows of their own, with the same clock and
//! ns. Keys are the contract with `deploy/zabbix/template-wachta-6.0.yaml`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::incident::Ending;
use crate::outcome::{Outcome, StepResult, StepStatus, Verdict};
use crate::scenario::{Scenario, ScenarioId, Severity};

/// The agent's own state.
pub const AGENT: &str = "wachta.agent";
/// Low-level discovery of scenarios.
pub const DISCOVERY: &str = "wachta.discovery";
/// Low-level discovery of steps.
pub const DISCOVERY_STEPS: &str = "wachta.discovery.steps";

/// The longest text that Zabbix stores, in characters.
const MAX_TEXT: usize = 65_535;
/// The longest message of a run, in characters.
const MAX_MESSAGE: usize = 2_000;
/// The longest step name in a key, in characters; a whole key may have 2048.
const MAX_STEP: usize = 500;
/// The longest part of an item's name, in characters; a whole name may have 255.
const MAX_LABEL: usize = 100;
/// Clocks before 2001 come from a machine that does not know the time yet.
const MIN_CLOCK: i64 = 1_000_000_000;

/// What discovery tells of one scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its id.
    pub id: ScenarioId,
    /// Its name.
    pub name: String,
    /// How loud it is.
    pub severity: Severity,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// Names of its steps, with those in groups and under `finally`.
    pub steps: Vec<String>,
}

/// What Zabbix is told of a scenario.
pub fn entry(scenario: &Scenario) -> Entry {
    Entry {
        id: scenario.id.value.clone(),
        name: scenario.name.clone(),
        severity: scenario.alert.severity,
        tags: scenario.tags.clone(),
        steps: scenario.step_names().into_iter().map(ToOwned::to_owned).collect(),
    }
}

/// A value for an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The item's key.
    pub key: String,
    /// The value as text.
    pub value: String,
    /// When it was; none: the server's time.
    #[serde(flatten)]
    pub at: Option<Stamp>,
    /// What losing it means.
    #[serde(skip)]
    pub weight: Weight,
}

/// A row's time, and with the key its identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Stamp {
    /// Seconds since 1970.
    pub clock: i64,
    /// Nanoseconds within the second.
    pub ns: u32,
}

impl Stamp {
    /// The stamp of a time, or none for one that Zabbix must not see: values near 1970 are lost, and have been seen
    /// to stop a history syncer of 6.0.
    pub fn of(at: DateTime<Utc>) -> Option<Self> {
        let clock = at.timestamp();
        // A leap second has more than 999999999 ns in chrono, and no place in Zabbix.
        let ns = at.timestamp_subsec_nanos().min(999_999_999);
        (MIN_CLOCK..=i64::from(i32::MAX)).contains(&clock).then_some(Self { clock, ns })
    }
}

/// What a row stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// An outcome: sent or dropped with it.
    Run,
    /// A step's value, which the run has as well.
    Detail,
    /// Discovery or the agent's state: only the newest matters.
    Upkeep,
}

/// The rows of an outcome, with `at` as the time of each.
pub fn rows(outcome: &Outcome, at: DateTime<Utc>) -> Vec<Row> {
    let at = Stamp::of(at);
    let id = outcome.scenario.as_str();
    let run = Row { key: key("wachta.run", &[id]), value: run(outcome), at, weight: Weight::Run };
    let steps = outcome.steps_of_file().filter_map(|step| Some((step, success(step)?))).flat_map(|(step, success)| {
        let name = step_parameter(&step.name);
        [("wachta.step.success", success.to_string()), ("wachta.step.duration", seconds(step.duration).to_string())]
            .map(|(item, value)| Row { key: key(item, &[id, &name]), value, at, weight: Weight::Detail })
    });
    std::iter::once(run).chain(steps).collect()
}

/// The run as JSON. Every key is always there, so that no preprocessing misses its path.
fn run(outcome: &Outcome) -> String {
    let mut document = json!({
        "run": outcome.run.to_string(),
        "location": outcome.location,
        "verdict": outcome.verdict.as_str(),
        "status": outcome.verdict.code(),
        "reason": outcome.reason.map_or("", |reason| reason.as_str()),
        "duration": seconds(outcome.duration),
        "failed_step": outcome.deciding_step().map_or("", |step| step.name.as_str()),
        "message": cut(outcome.message.as_deref().unwrap_or_default(), MAX_MESSAGE),
        "steps": [],
    });
    // Zabbix cuts what is too long, which would leave half a document: leave out the last steps instead.
    let mut room = MAX_TEXT.saturating_sub(document.to_string().chars().count());
    let steps: Vec<Value> = outcome
        .steps
        .iter()
        .filter_map(|step| {
            let success = success(step)?;
            Some(json!({"name": step.name, "success": success, "duration": seconds(step.duration)}))
        })
        .take_while(|step| {
            let needed = step.to_string().chars().count() + 1;
            let fits = needed <= room;
            room = room.saturating_sub(needed);
            fits
        })
        .collect();
    document["steps"] = steps.into();
    document.to_string()
}

/// The last row of a scenario that is gone or paused: `unknown`, with `why` as its reason. Triggers on conclusive values
/// stay as they are until Zabbix forgets the item, since nobody knows that it works.
pub fn idle_row(id: &ScenarioId, location: &str, why: Ending, at: DateTime<Utc>) -> Row {
    let document = json!({
        "run": "",
        "location": location,
        "verdict": Verdict::Unknown.as_str(),
        "status": Verdict::Unknown.code(),
        "reason": why.as_str(),
        "duration": 0.0,
        "failed_step": "",
        "message": why.meaning(),
        "steps": [],
    });
    Row {
        key: key("wachta.run", &[id.as_str()]),
        value: document.to_string(),
        at: Stamp::of(at),
        weight: Weight::Upkeep,
    }
}

/// 1 or 0 for a step that was tested, none for another.
fn success(step: &StepResult) -> Option<u8> {
    match step.status {
        StepStatus::Passed => Some(1),
        StepStatus::Failed => Some(0),
        StepStatus::Skipped | StepStatus::Unknown => None,
    }
}

/// Seconds to the microsecond.
fn seconds(duration: std::time::Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e6
}

/// The rows of discovery: one for the scenarios, one for their steps.
pub fn discovery(entries: &[Entry]) -> [Row; 2] {
    let scenarios = entries.iter().map(|entry| Value::Object(macros(entry))).collect();
    let steps = entries
        .iter()
        .flat_map(|entry| {
            entry.steps.iter().map(|step| {
                let mut row = macros(entry);
                row.insert("{#STEP}".into(), step_parameter(step).into());
                row.insert("{#STEP.NAME}".into(), cut(step, MAX_LABEL).into());
                Value::Object(row)
            })
        })
        .collect();
    [(DISCOVERY, Value::Array(scenarios)), (DISCOVERY_STEPS, Value::Array(steps))].map(|(key, value)| Row {
        key: key.into(),
        value: value.to_string(),
        at: None,
        weight: Weight::Upkeep,
    })
}

/// The macros of a scenario.
fn macros(entry: &Entry) -> Map<String, Value> {
    let severity = match entry.severity {
        Severity::Info => "1",
        Severity::Warning => "2",
        Severity::Critical => "4",
    };
    let mut macros = Map::new();
    macros.insert("{#ID}".into(), entry.id.as_str().into());
    macros.insert("{#NAME}".into(), cut(&entry.name, MAX_LABEL).into());
    macros.insert("{#SEVERITY}".into(), severity.into());
    for (name, value) in &entry.tags {
        // Names of macros have capitals, digits, `_` and `.` only.
        let name: String = name
            .chars()
            .map(|c| c.to_ascii_uppercase())
            .map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '_' })
            .collect();
        macros.insert(format!("{{#TAG.{name}}}"), value.as_str().into());
    }
    macros
}

/// The row of the agent's state.
pub fn agent(state: &Value) -> Row {
    Row { key: AGENT.into(), value: state.to_string(), at: None, weight: Weight::Upkeep }
}

/// A step's name as a parameter of a key, the same in discovery and in rows.
fn step_parameter(name: &str) -> String {
    let name: String = name.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_STEP).collect();
    // Zabbix cannot quote a parameter that ends with a backslash: it would escape the closing quote.
    name.trim_end_matches('\\').to_owned()
}

/// A key with quoted parameters. Zabbix knows one escape, `\"`.
fn key(item: &str, parameters: &[&str]) -> String {
    let mut key = String::from(item);
    for (index, parameter) in parameters.iter().enumerate() {
        let before = if index == 0 { '[' } else { ',' };
        write!(key, "{before}\"{}\"", parameter.replace('"', "\\\"")).expect("a string takes everything");
    }
    key.push(']');
    key
}

/// The first `limit` characters, the last one an ellipsis where something was left out.
fn cut(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    text.chars().take(limit - 1).chain(['…']).collect()
}

#[cfg(test)]
pub mod tests {
    use std::time::Duration;

    use super::*;
    use crate::names::Reason;
    use crate::outcome::{RunId, Verdict};
    use crate::scenario::Kind;

    /// An outcome of `scenario` with steps of these names and ends, that ended at `at`.
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
                page: None,
            })
            .collect::<Vec<_>>();
        Outcome {
            run: RunId("01935400-0000-7000-8000-000000000001".parse().unwrap()),
            seq: 0,
            scenario: scenario.into(),
            name: "Shop".into(),
            kind: Kind::Browser,
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
        };
        let [scenarios, steps] = discovery(&[entry]);
        let common = r#""{#ID}":"shop","{#NAME}":"Shop","{#SEVERITY}":"4","{#TAG.ON_CALL}":"a \"b\"","{#TAG.SERVICE}":"checkout""#;
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
}
