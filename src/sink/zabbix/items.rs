//! What Zabbix is shown of outcomes and scenarios: rows for trapper items. Pure.
//!
//! One text item has the run as JSON, so that all that depends on it is of one run. Step values cannot depend on it
//! (Zabbix refuses a master prototype of another discovery rule): they are rows of their own, with the same clock and
//! ns. The items are declared in [`declaration`]; keys are the contract with `deploy/zabbix/template-wachta-6.0.yaml`.

pub mod declaration;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::incident::Ending;
use crate::outcome::{HttpResult, Outcome, PageTiming, StepResult, StepStatus, Verdict};
use crate::scenario::{Action, Check, Scenario, ScenarioId, Severity, Step, Vital};

/// The agent's own state.
pub const AGENT: &str = "wachta.agent";
/// The document of a run.
pub const RUN: &str = "wachta.run";
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
    /// What its runs may show.
    pub shows: Shows,
}

/// What the runs of a scenario may show, by which it has further items or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shows {
    /// HTTP responses to requests of its own.
    pub http: bool,
    /// Certificates.
    pub certificate: bool,
    /// Pages in a browser.
    pub page: bool,
}

impl Shows {
    /// Adds what steps may show.
    fn add(&mut self, steps: &[Step]) {
        for step in steps {
            match &step.action {
                Action::Request(_) => (self.http, self.certificate) = (true, true),
                Action::Page(_) => self.page = true,
                Action::Group(group) => self.add(&group.steps),
                Action::Check(check) => self.certificate |= matches!(**check, Check::Tls(_)),
            }
        }
    }
}

/// What Zabbix is told of a scenario.
pub fn entry(scenario: &Scenario) -> Entry {
    Entry {
        id: scenario.id.value.clone(),
        name: scenario.name.clone(),
        severity: scenario.alert.severity,
        tags: scenario.tags.clone(),
        steps: scenario.step_names().into_iter().map(ToOwned::to_owned).collect(),
        shows: shows(scenario),
    }
}

fn shows(scenario: &Scenario) -> Shows {
    let mut shows = Shows::default();
    shows.add(&scenario.steps);
    shows.add(&scenario.finally);
    shows
}

/// A value for an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The item's key.
    pub key: String,
    /// The value as text. A row without one stores nothing: it asks whether the server would take a value.
    #[serde(skip_serializing_if = "String::is_empty")]
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
    let run = Row { key: key(RUN, &[id]), value: run(outcome), at, weight: Weight::Run };
    let steps = outcome.steps_of_file().filter_map(|step| Some((step, success(step)?))).flat_map(|(step, success)| {
        let name = step_parameter(&step.name);
        let values = [success.to_string(), seconds(step.duration).to_string()];
        declaration::OF_STEP.iter().zip(values).map(move |(item, value)| Row {
            key: item.key_of(&[id, &name]),
            value,
            at,
            weight: Weight::Detail,
        })
    });
    std::iter::once(run).chain(steps).collect()
}

/// The run as JSON, with what [`declaration::OF_SCENARIO`] looks for in it.
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
    });
    if let Some(http) = outcome.steps.iter().rev().find_map(|step| step.http.as_ref()) {
        document["http"] = response(http);
    }
    if let Some(days) = certificate_days(outcome) {
        document["certificate_days"] = days.into();
    }
    let vitals = vitals(outcome);
    if !vitals.is_empty() {
        document["vitals"] = vitals.into();
    }
    document["steps"] = Value::Array(Vec::new());
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

/// The status of a response, and how long the phases of its request took. What took no part is absent.
fn response(http: &HttpResult) -> Value {
    let phases = http.phases();
    let took = phases.named().into_iter().filter(|_| !http.hops.is_empty());
    let took = took.filter_map(|(phase, took)| Some((phase.to_owned(), seconds(took?).into())));
    let status = std::iter::once(("status".to_owned(), http.status.into()));
    Value::Object(status.chain(took).collect())
}

/// How many days the certificate that expires first has left, to the hundredth.
fn certificate_days(outcome: &Outcome) -> Option<f64> {
    let expires_at = outcome.steps.iter().filter_map(|step| step.certificate_expires_at).min()?;
    let left = (expires_at - outcome.ended_at).num_seconds() as f64;
    Some((left / 864.0).floor() / 100.0)
}

/// The worst of each web vital among the pages of a run.
fn vitals(outcome: &Outcome) -> Map<String, Value> {
    type Read = fn(&PageTiming) -> Option<f64>;
    const VITALS: [(&str, Read); 5] = [
        ("ttfb", |timing| timing.vital(Vital::Ttfb)),
        ("fcp", |timing| timing.vital(Vital::Fcp)),
        ("lcp", |timing| timing.vital(Vital::Lcp)),
        ("inp", |timing| timing.vital(Vital::Inp)),
        ("cls", |timing| timing.cls),
    ];
    let pages = || outcome.steps.iter().filter_map(|step| step.page.as_deref());
    let worst = VITALS.into_iter().filter_map(|(name, read)| {
        let worst = pages().filter_map(|page| read(&page.timing)).max_by(f64::total_cmp)?;
        Some((name.to_owned(), ((worst * 1e6).round() / 1e6).into()))
    });
    worst.collect()
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
    Row { key: key(RUN, &[id.as_str()]), value: document.to_string(), at: Stamp::of(at), weight: Weight::Upkeep }
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
///
/// Every scenario has a macro for each tag that any has, since Zabbix leaves a macro without a value as it is written.
pub fn discovery(entries: &[Entry]) -> [Row; 2] {
    let names: BTreeSet<_> = entries.iter().flat_map(|entry| entry.tags.keys()).map(|name| tag_macro(name)).collect();
    let macros = |entry: &Entry| macros(entry, &names);
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

/// The macro with the value of a tag. Names of macros have capitals, digits, `_` and `.` only.
pub fn tag_macro(name: &str) -> String {
    let name: String = name
        .chars()
        .map(|c| c.to_ascii_uppercase())
        .map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '_' })
        .collect();
    format!("{{#TAG.{name}}}")
}

/// The macros of a scenario, with those of tags that only others have.
fn macros(entry: &Entry, tags: &BTreeSet<String>) -> Map<String, Value> {
    let severity = match entry.severity {
        Severity::Info => "1",
        Severity::Warning => "2",
        Severity::Critical => "4",
    };
    let mut macros = Map::new();
    macros.insert("{#ID}".into(), entry.id.as_str().into());
    macros.insert("{#NAME}".into(), cut(&entry.name, MAX_LABEL).into());
    macros.insert("{#SEVERITY}".into(), severity.into());
    let shows = entry.shows;
    let further = [
        (declaration::HTTP, shows.http),
        (declaration::CERTIFICATE, shows.certificate),
        (declaration::PAGE, shows.page),
    ];
    for (name, is_shown) in further {
        macros.insert(name.into(), if is_shown { "1" } else { "0" }.into());
    }
    macros.extend(tags.iter().map(|name| (name.clone(), "".into())));
    macros.extend(entry.tags.iter().map(|(name, value)| (tag_macro(name), value.as_str().into())));
    macros
}

/// The row of the agent's state.
pub fn agent(state: &Value) -> Row {
    Row { key: AGENT.into(), value: state.to_string(), at: None, weight: Weight::Upkeep }
}

/// A step's name as a parameter of a key, the same in discovery and in rows.
pub fn step_parameter(name: &str) -> String {
    let name: String = name.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_STEP).collect();
    // Zabbix cannot quote a parameter that ends with a backslash: it would escape the closing quote.
    name.trim_end_matches('\\').to_owned()
}

/// A key with quoted parameters. Zabbix knows one escape, `\"`.
pub fn key(item: &str, parameters: &[&str]) -> String {
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
pub mod tests;
