//! Scenario model: the plain data that a scenario file is parsed into. Source spans are kept until run time.

mod alert;
mod lookup;
mod page;
mod request;
mod settings;
mod step;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::check::Check;
use super::check::heartbeat::HeartbeatCheck;
use super::template::{Template, Value};
use crate::diagnostic::{Source, Spanned};

pub use super::headless::Headless;
pub use super::id::ScenarioId;
pub use super::kind::ScenarioKind;
pub use super::matcher::{InlineSchema, Matcher, Pattern, Schema};
pub use super::pretty::HumanDuration;
pub use super::schedule::Schedule;
pub use super::trust::Trust;
pub use super::viewport::Viewport;
pub use alert::{AlertPolicy, Severity};
pub use lookup::{Lookup, LookupError};
pub use page::*;
pub use request::*;
pub use settings::{
    BasicAuth, BrowserSettings, Budget, Engine, EvidencePolicy, Geolocation, PresetCookie, SecretSource, Vital,
};
pub use step::*;

/// Specification of a test: a browser flow, an API flow, or a single check.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// Id, with the span of `id:` or of the name that it is derived from.
    pub id: Spanned<ScenarioId>,
    /// Display name.
    pub name: String,
    /// Source file.
    pub source: Arc<Source>,
    /// Kind of the scenario as a whole.
    pub kind: ScenarioKind,
    /// `key: value` pairs for alert routes and dashboards.
    pub tags: BTreeMap<String, String>,
    /// Whether the scenario runs; `enabled: false` pauses it.
    pub enabled: bool,
    /// Schedule of the due times.
    pub schedule: Schedule,
    /// Time between the due time and the evaluation: the grace of a heartbeat, zero for all other kinds.
    pub grace: Duration,
    /// Maximum duration of all `steps` together.
    pub timeout: Duration,
    /// Base of relative URLs.
    pub base_url: Option<Spanned<Template>>,
    /// Settings of the browser.
    pub browser: BrowserSettings,
    /// Elements such as cookie banners that may cover a page, and how to dismiss them.
    pub overlays: Vec<Overlay>,
    /// Evidence to store for a run.
    pub evidence: EvidencePolicy,
    /// Soft limits whose violation makes the run degraded.
    pub budget: Vec<Spanned<Budget>>,
    /// Sources of the secrets, by name.
    pub secrets: BTreeMap<String, SecretSource>,
    /// One-time passwords (RFC 6238) by name, each with the name of the secret that holds its base32 key.
    pub totp: BTreeMap<String, Spanned<String>>,
    /// Constants defined in the file.
    pub vars: BTreeMap<String, Value>,
    /// Alert threshold and severity.
    pub alert: AlertPolicy,
    /// Service level objective.
    pub slo: Option<super::slo::Slo>,
    /// Steps, in order of execution.
    pub steps: Vec<Step>,
    /// Steps that run afterwards, regardless of the result of `steps`.
    pub finally: Vec<Step>,
}

impl Scenario {
    /// Returns every step with its place: the steps of a group after the group, those of `finally` last.
    pub fn steps_deep(&self) -> impl Iterator<Item = PlacedStep<'_>> {
        deep(&self.steps, false).chain(deep(&self.finally, true))
    }

    /// Returns the number of the step with this name, as messages about the file have it: `step 2.1` is the first one in
    /// the group that is the second step, `finally step 1` the first one under `finally`. A test case of a program is no
    /// step of the file and has its position in the report, `index`.
    pub fn step_number(&self, name: &str, index: usize) -> String {
        let mut places = Vec::new();
        for PlacedStep { step, depth, index, is_finally } in self.steps_deep() {
            places.truncate(depth);
            places.push((index + 1).to_string());
            if step.name == name {
                let list = if is_finally { "finally step" } else { "step" };
                return format!("{list} {}", places.join("."));
            }
        }
        format!("step {}", index + 1)
    }

    /// Returns whether any step needs a browser.
    pub fn needs_browser(&self) -> bool {
        self.steps_deep().any(|at| !at.step.when.is_empty() || matches!(at.step.action, Action::Page(_)))
    }

    /// Returns the source file of a position (`file.yaml:LINE:COLUMN`): one of the fragments, or the scenario's own
    /// file.
    pub fn source_of(&self, place: &str) -> &Arc<Source> {
        let path = place.rsplitn(3, ':').nth(2).unwrap_or_default();
        if path == self.source.path {
            return &self.source;
        }
        let mut sources = self.steps_deep().filter_map(|at| at.step.source.as_ref());
        sources.find(|source| source.path == path).unwrap_or(&self.source)
    }

    /// Returns the first time strictly after `after` at which the scenario runs: its due time plus the grace of a
    /// heartbeat.
    pub fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let grace = TimeDelta::from_std(self.grace).ok()?;
        self.schedule.next_after(&self.id, after.checked_sub_signed(grace)?)?.checked_add_signed(grace)
    }

    /// Returns the heartbeat check if the scenario is one.
    pub fn heartbeat(&self) -> Option<&HeartbeatCheck> {
        match self.steps.first().map(|step| &step.action) {
            Some(Action::Check(check)) => match &**check {
                Check::Heartbeat(heartbeat) => Some(heartbeat),
                _ => None,
            },
            _ => None,
        }
    }

    /// Returns the names of all steps, including those in groups and under `finally`.
    pub fn step_names(&self) -> Vec<&str> {
        self.steps_deep().map(|at| at.step.name.as_str()).collect()
    }
}
