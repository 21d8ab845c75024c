//! Conversion of outcomes and scenarios to rows for trapper items. Pure.
//!
//! One text item contains the run as JSON, so that all items that depend on it refer to the same run. Step values
//! cannot depend on it (Zabbix rejects a master prototype of another discovery rule): they are separate rows with the
//! same clock and ns. The items are declared in [`declaration`]; the keys must match
//! `deploy/zabbix/template-wachta-6.0.yaml`.

pub mod declaration;
mod keys;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::incident::Ending;
use crate::outcome::{HttpResult, Outcome, PageTiming, StepResult, StepStatus, Verdict};
use crate::scenario::{Action, Check, Scenario, ScenarioId, Severity, Step, Vital};

pub use keys::{AGENT, DISCOVERY, DISCOVERY_STEPS, RUN, key};

/// Maximum length of a text in Zabbix, in characters.
const MAX_TEXT: usize = 65_535;
/// Maximum length of the message of a run, in characters.
const MAX_MESSAGE: usize = 2_000;
/// Maximum length of a step name in a key, in characters; the whole key is limited to 2048.
const MAX_STEP: usize = 500;
/// Maximum length of a part of an item name, in characters; the whole name is limited to 255.
const MAX_LABEL: usize = 100;
/// Earliest accepted time, in seconds since 1970: a clock before 2001 has not been set yet.
const MIN_CLOCK: i64 = 1_000_000_000;

/// Discovery data of one scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Id of the scenario.
    pub id: ScenarioId,
    /// Display name of the scenario.
    pub name: String,
    /// Severity of its incidents.
    pub severity: Severity,
    /// Tags of the scenario.
    pub tags: BTreeMap<String, String>,
    /// Names of the steps, including those in groups and under `finally`.
    pub steps: Vec<String>,
    /// Kinds of data that its runs may contain.
    pub shows: Shows,
}

/// Kinds of data that the runs of a scenario may contain, which determine its optional items.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shows {
    /// Whether the scenario sends HTTP requests itself.
    pub http: bool,
    /// Whether the runs may contain a certificate.
    pub certificate: bool,
    /// Whether the scenario opens pages in a browser.
    pub page: bool,
}

impl Shows {
    /// Adds the kinds of data that steps may contain.
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

/// Returns the discovery data of a scenario.
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

/// Value for an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ItemValue {
    /// Key of the item.
    pub key: String,
    /// Value as text. A row without one stores nothing and only probes whether the server would accept a value.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// Time of the value (default: the time of the server).
    #[serde(flatten)]
    pub at: Option<Stamp>,
    /// Importance of the row.
    #[serde(skip)]
    pub weight: ValueClass,
}

/// Time of a row, which identifies it together with the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Stamp {
    /// Seconds since 1970.
    pub clock: i64,
    /// Nanoseconds within the second.
    pub ns: u32,
}

impl Stamp {
    /// Returns the stamp of a time, or `None` for one that must not be sent to Zabbix: values near 1970 are lost, and
    /// have been observed to stop a history syncer of 6.0.
    pub fn of(at: DateTime<Utc>) -> Option<Self> {
        let clock = at.timestamp();
        // chrono represents a leap second with more than 999999999 ns, which Zabbix does not support.
        let ns = at.timestamp_subsec_nanos().min(999_999_999);
        (MIN_CLOCK..=i64::from(i32::MAX)).contains(&clock).then_some(Self { clock, ns })
    }
}

/// Importance of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueClass {
    /// The row of an outcome: sent or dropped together with it.
    Run,
    /// A value of a step, which the run also contains.
    Detail,
    /// Discovery or the state of the agent: only the newest row is needed.
    Upkeep,
}

/// Returns the rows of an outcome, all with the time `at`.
pub fn rows(outcome: &Outcome, at: DateTime<Utc>) -> Vec<ItemValue> {
    let at = Stamp::of(at);
    let id = outcome.scenario.as_str();
    let run = ItemValue { key: key(RUN, &[id]), value: run(outcome), at, weight: ValueClass::Run };
    let steps = outcome.steps_of_file().filter_map(|step| Some((step, success(step)?))).flat_map(|(step, success)| {
        let name = step_parameter(&step.name);
        let values = [success.to_string(), seconds(step.duration).to_string()];
        declaration::OF_STEP.iter().zip(values).map(move |(item, value)| ItemValue {
            key: item.key_of(&[id, &name]),
            value,
            at,
            weight: ValueClass::Detail,
        })
    });
    std::iter::once(run).chain(steps).collect()
}

/// Formats the run as JSON, with the fields that [`declaration::OF_SCENARIO`] refers to.
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
    // Zabbix truncates a text that is too long, which would leave an invalid document; the last steps are left out
    // instead.
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

/// Returns the status of a response and the durations of the phases of its request. Phases that were not needed are
/// absent.
fn response(http: &HttpResult) -> Value {
    let phases = http.phases();
    let took = phases.named().into_iter().filter(|_| !http.hops.is_empty());
    let took = took.filter_map(|(phase, took)| Some((phase.to_owned(), seconds(took?).into())));
    let status = std::iter::once(("status".to_owned(), http.status.into()));
    Value::Object(status.chain(took).collect())
}

/// Returns the remaining days of the certificate that expires first, with two decimal places.
fn certificate_days(outcome: &Outcome) -> Option<f64> {
    let expires_at = outcome.steps.iter().filter_map(|step| step.certificate_expires_at).min()?;
    let left = (expires_at - outcome.ended_at).num_seconds() as f64;
    Some((left / 864.0).floor() / 100.0)
}

/// Returns the worst value of each web vital among the pages of a run.
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

/// Returns the last row of a removed or paused scenario: `unknown`, with `why` as the reason. Triggers on conclusive
/// values keep their state until Zabbix deletes the item, because nothing proves that the target works again.
pub fn idle_row(id: &ScenarioId, location: &str, why: Ending, at: DateTime<Utc>) -> ItemValue {
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
    ItemValue {
        key: key(RUN, &[id.as_str()]),
        value: document.to_string(),
        at: Stamp::of(at),
        weight: ValueClass::Upkeep,
    }
}

/// Returns 1 or 0 for a step that was tested, and `None` for any other.
fn success(step: &StepResult) -> Option<u8> {
    match step.status {
        StepStatus::Passed => Some(1),
        StepStatus::Failed => Some(0),
        StepStatus::Skipped | StepStatus::Unknown => None,
    }
}

/// Converts a duration to seconds, rounded to microseconds.
fn seconds(duration: std::time::Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e6
}

/// Returns the rows of discovery: one for the scenarios, one for their steps.
///
/// Every scenario has a macro for each tag that any scenario has, because Zabbix does not replace a macro without a
/// value.
pub fn discovery(entries: &[Entry]) -> [ItemValue; 2] {
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
    [(DISCOVERY, Value::Array(scenarios)), (DISCOVERY_STEPS, Value::Array(steps))].map(|(key, value)| ItemValue {
        key: key.into(),
        value: value.to_string(),
        at: None,
        weight: ValueClass::Upkeep,
    })
}

/// Returns the macro for the value of a tag. Macro names consist of capital letters, digits, `_` and `.`.
pub fn tag_macro(name: &str) -> String {
    let name: String = name
        .chars()
        .map(|c| c.to_ascii_uppercase())
        .map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '_' })
        .collect();
    format!("{{#TAG.{name}}}")
}

/// Returns the macros of a scenario, including those of tags that only other scenarios have.
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

/// Returns the row with the state of the agent.
pub fn agent(state: &Value) -> ItemValue {
    ItemValue { key: AGENT.into(), value: state.to_string(), at: None, weight: ValueClass::Upkeep }
}

/// Converts the name of a step to a key parameter, in the same way for discovery and for rows.
pub fn step_parameter(name: &str) -> String {
    let name: String = name.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_STEP).collect();
    // Zabbix cannot quote a parameter that ends with a backslash, which would escape the closing quote.
    name.trim_end_matches('\\').to_owned()
}

/// Shortens a text to `limit` characters, with an ellipsis as the last one.
fn cut(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    text.chars().take(limit - 1).chain(['…']).collect()
}

#[cfg(test)]
pub mod tests;
