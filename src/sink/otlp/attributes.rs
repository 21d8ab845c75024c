//! Attributes, resource and scope, shared by traces and logs. Pure.
//!
//! Names follow the semantic conventions if those define one, and are `wachta.*` otherwise.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_semantic_conventions::attribute as semconv;
use sha2::{Digest as _, Sha256};

use crate::outcome::{Outcome, RunId};
use crate::scenario::Scenario;

/// Version of the semantic conventions that the attributes follow.
pub(super) use opentelemetry_semantic_conventions::SCHEMA_URL;

/// Default value of `service.name`.
const SERVICE: &str = "wachta";

/// List of attributes.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Attributes(pub(super) Vec<KeyValue>);

impl Attributes {
    pub(super) fn text(&mut self, key: &str, value: impl Into<String>) {
        self.put(key, any_value::Value::StringValue(value.into()));
    }

    pub(super) fn number(&mut self, key: &str, value: impl TryInto<i64>) {
        self.put(key, any_value::Value::IntValue(value.try_into().unwrap_or(i64::MAX)));
    }

    pub(super) fn seconds(&mut self, key: &str, value: f64) {
        self.put(key, any_value::Value::DoubleValue(value));
    }

    /// Adds a boolean attribute if it is true.
    pub(super) fn flag(&mut self, key: &str, value: bool) {
        if value {
            self.put(key, any_value::Value::BoolValue(true));
        }
    }

    fn put(&mut self, key: &str, value: any_value::Value) {
        self.0.push(KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), key_strindex: 0 });
    }
}

/// Creates a text value for an attribute or for the body of a record.
pub(super) fn text(value: String) -> AnyValue {
    AnyValue { value: Some(any_value::Value::StringValue(value)) }
}

/// Returns the resource that describes this agent. Attributes configured under `resource` override its own.
pub(super) fn resource(location: &str, further: &BTreeMap<String, String>) -> Resource {
    let own = [
        (semconv::SERVICE_NAME, SERVICE),
        (semconv::SERVICE_VERSION, env!("CARGO_PKG_VERSION")),
        (semconv::SERVICE_INSTANCE_ID, location),
    ];
    let mut all: BTreeMap<&str, &str> = own.into_iter().collect();
    all.extend(further.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let mut attributes = Attributes::default();
    for (name, value) in all {
        attributes.text(name, value);
    }
    Resource { attributes: attributes.0, ..Resource::default() }
}

/// Returns the instrumentation scope of spans and records.
pub(super) fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "wachta".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        ..InstrumentationScope::default()
    }
}

/// Returns the attributes of a run, for its span and its log record.
pub(super) fn of_run(outcome: &Outcome, scenario: Option<&Scenario>) -> Attributes {
    let mut all = Attributes::default();
    all.text("wachta.run.id", outcome.run.to_string());
    all.text("wachta.scenario.id", outcome.scenario.as_str());
    all.text("wachta.scenario.name", outcome.name.as_str());
    all.text("wachta.scenario.kind", outcome.kind.as_str());
    all.text("wachta.location", outcome.location.as_str());
    all.text("wachta.verdict", outcome.verdict.as_str());
    if let Some(reason) = outcome.reason {
        all.text("wachta.reason", reason.as_str());
        if outcome.verdict == crate::outcome::Verdict::Failed {
            all.text(semconv::ERROR_TYPE, reason.as_str());
        }
    }
    if let Some(message) = &outcome.message {
        all.text("wachta.message", message.to_string());
    }
    if let Some(step) = outcome.deciding_step() {
        all.text("wachta.failed_step", step.name.as_str());
    }
    if let Some(browser) = &outcome.browser {
        all.text("wachta.browser.engine", browser.engine.as_str());
        all.text("wachta.browser.version", browser.version.as_str());
    }
    if let Some(scenario) = scenario {
        all.text("wachta.severity", scenario.alert.severity.as_str());
        if let Some(runbook) = &scenario.alert.runbook {
            all.text("wachta.runbook", runbook.as_str());
        }
        all.text(semconv::CODE_FILE_PATH, scenario.source.path.as_str());
        for (name, value) in &scenario.tags {
            all.text(&format!("wachta.tag.{name}"), value.as_str());
        }
    }
    all
}

/// Returns the trace id of a run: the 16 bytes of its id.
pub(super) fn trace_id(run: RunId) -> Vec<u8> {
    run.0.as_bytes().to_vec()
}

/// Derives a span id for a part of a run to which the outcome assigns none. The id of the same part is always the same,
/// so that a repeated span is recognizable.
pub(super) fn derived_span_id(run: RunId, part: &str) -> [u8; 8] {
    let digest = Sha256::new().chain_update(run.0.as_bytes()).chain_update(part.as_bytes()).finalize();
    let mut id = [0; 8];
    id.copy_from_slice(&digest[..8]);
    // An id of zeros is not valid.
    id[7] |= u8::from(id == [0; 8]);
    id
}

/// Returns the nanoseconds since 1970.
pub(super) fn nanos(at: DateTime<Utc>) -> u64 {
    at.timestamp_nanos_opt().and_then(|nanos| u64::try_from(nanos).ok()).unwrap_or_default()
}

/// Returns the time that is `offset` after another one, in nanoseconds. The offset is rounded to microseconds like in
/// the store, so that a span has the same times if it is sent again after a restart.
pub(super) fn after(start: u64, offset: Duration) -> u64 {
    let stored = Duration::try_from_secs_f64((offset.as_secs_f64() * 1e6).round() / 1e6).unwrap_or(offset);
    start.saturating_add(u64::try_from(stored.as_nanos()).unwrap_or(u64::MAX))
}
