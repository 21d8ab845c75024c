//! Documents of a run in the Elastic Common Schema. Pure.
//!
//! There is one document for the run, one for each step that was reached, and one for each change of an incident, with
//! the field names used by Heartbeat and Elastic's synthetics agent (`monitor.*`, `summary.*`, `state.*`, `url.*`,
//! `http.*`, `tls.*`, `synthetics.*`; <https://www.elastic.co/docs/reference/beats/heartbeat/exported-fields>), so that
//! existing views for these can be used. Fields specific to wachta are under `wachta.*`. A run that could not test its
//! target is neither up nor down: its status is `unknown`, and it does not change `state`. Evidence is deliberately not
//! included, since it consists of files of the agent.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Map, Value, json};
use url::Url;

use crate::incident::{Change, Ending, Transition};
use crate::names::Reason;
use crate::outcome::{HttpResult, Outcome, StepResult, StepStatus};
use crate::scenario::{Scenario, ScenarioKind};
use crate::sink::{Event, Finished};

/// Version of the schema that the documents follow.
const ECS_VERSION: &str = "8.17.0";

/// Document to export.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Id that makes a duplicate recognizable: the id of the run, followed by the position for a step.
    pub id: String,
    /// Fields of the document.
    pub body: Value,
}

/// Returns Heartbeat's `state` after a run: the time since which the target has been up or down.
fn state(outcome: &Outcome) -> Option<Value> {
    let streak = outcome.streak?;
    Some(json!({
        "id": format!("{}-{}", outcome.scenario, streak.first_run),
        "status": if streak.is_up { "up" } else { "down" },
        "started_at": time(streak.started_at),
        "duration_ms": (outcome.ended_at - streak.started_at).num_milliseconds().max(0),
        "checks": streak.runs,
        "up": if streak.is_up { streak.runs } else { 0 },
        "down": if streak.is_up { 0 } else { streak.runs },
    }))
}

fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Nanos, true)
}

/// Converts a duration to microseconds, rounded like the durations in the store, so that a run read from there has the
/// same values.
fn micros(duration: Duration) -> Value {
    json!({"us": u64::try_from((duration.as_nanos() + 500) / 1000).unwrap_or(u64::MAX)})
}

/// Returns the documents of an event.
pub fn documents(event: &Event) -> Vec<Document> {
    match event {
        Event::Finished(finished) => of_run(finished),
        Event::Changed(change) => vec![of_change(change)],
    }
}

/// Returns the document of a change of an incident.
fn of_change(change: &Change) -> Document {
    let incident = &change.incident;
    let transition = change.transition.as_str();
    let id = match change.transition {
        Transition::Opened => format!("{}-opened", incident.opened_by),
        // Incidents of the agent have no run.
        _ => format!("{}-{}-{transition}", incident.dedup_key(), change.at.timestamp_micros()),
    };
    let labels: BTreeMap<String, &String> =
        incident.tags.iter().map(|(name, value)| (name.replace('.', "_"), value)).collect();
    let message = incident.message.as_deref();
    let body = json!({
        "@timestamp": time(change.at),
        "ecs": {"version": ECS_VERSION},
        "agent": {"type": "wachta", "version": env!("CARGO_PKG_VERSION")},
        "observer": {"name": incident.location, "product": "wachta"},
        "monitor": {"id": incident.subject.monitor_id(), "name": incident.name, "type": incident.kind},
        "labels": labels,
        "message": message,
        "error": {"message": message, "type": incident.reason.map(Reason::as_str)},
        "url": {"full": incident.target},
        "event": {
            "kind": "alert",
            "dataset": "wachta.incident",
            "module": "wachta",
            "action": format!("incident-{transition}"),
            "id": id,
            "start": time(incident.began()),
            "end": incident.resolved_at.map(time),
            "reference": incident.runbook,
            "severity": incident.severity as u8 + 1,
        },
        "synthetics": {"step": {"name": incident.step}},
        "wachta": {
            "incident": {
                "key": incident.dedup_key(),
                "subject": incident.subject,
                "severity": incident.severity.as_str(),
                "verdict": incident.verdict.as_str(),
                "bad_runs": incident.bad_runs,
                "cause": change.cause,
                "last_run": incident.last_run.to_string(),
                "ending": incident.ending.map(Ending::as_str),
                "acknowledged_by": incident.acknowledged.as_ref().map(|by| &by.author),
            },
        },
    });
    Document { id, body: known(body) }
}

/// Removes fields that are null or an empty object.
fn known(value: Value) -> Value {
    let Value::Object(fields) = value else { return value };
    let fields = fields.into_iter().map(|(name, value)| (name, known(value)));
    let is_known = |value: &Value| !value.is_null() && value.as_object().is_none_or(|fields| !fields.is_empty());
    Value::Object(fields.filter(|(_, value)| is_known(value)).collect())
}

/// Returns the documents of a run, its own first.
fn of_run(finished: &Finished) -> Vec<Document> {
    let outcome = &*finished.outcome;
    let base = base(outcome, finished.scenario.as_deref());
    let run = Document { id: outcome.run.to_string(), body: run(outcome, base.clone()) };
    let steps = outcome.steps.iter().enumerate().filter(|(_, step)| step.status != StepStatus::Skipped);
    let steps = steps.map(|(index, step)| Document {
        id: format!("{}-{index}", outcome.run),
        body: step_document(outcome, step, index, base.clone()),
    });
    std::iter::once(run).chain(steps).collect()
}

/// Returns the end of the period in which a run represents the state of its target: until the next one is due, as in
/// Heartbeat, or until its end if there are no further ones. Elasticsearch stores date ranges in milliseconds and
/// rejects an empty one.
fn valid_until(outcome: &Outcome, scenario: Option<&Scenario>) -> DateTime<Utc> {
    let next = scenario.and_then(|scenario| scenario.next_after(outcome.due_at));
    let shortest = outcome.started_at + TimeDelta::milliseconds(1);
    next.unwrap_or(outcome.ended_at).max(outcome.ended_at).max(shortest)
}

/// Returns the fields common to all documents of a run.
fn base(outcome: &Outcome, scenario: Option<&Scenario>) -> Map<String, Value> {
    let tags = scenario.map(|scenario| &scenario.tags);
    let labels: BTreeMap<String, &String> =
        tags.into_iter().flatten().map(|(name, value)| (name.replace('.', "_"), value)).collect();
    let service = tags.and_then(|tags| tags.get("service"));
    let policy = scenario.map(|scenario| &scenario.alert);
    let mut base = object(json!({
        "@timestamp": time(outcome.ended_at),
        "ecs": {"version": ECS_VERSION},
        "agent": {"type": "wachta", "version": env!("CARGO_PKG_VERSION"), "name": outcome.location},
        "observer": {"name": outcome.location, "geo": {"name": outcome.location}, "product": "wachta"},
        "monitor": {
            "id": outcome.scenario.as_str(),
            "name": outcome.name,
            "type": monitor_type(outcome.kind),
            "check_group": outcome.run.to_string(),
            "timespan": {"gte": time(outcome.started_at), "lt": time(valid_until(outcome, scenario))},
        },
        "trace": {"id": outcome.run.0.simple().to_string()},
        "wachta": {
            "run": outcome.run.to_string(),
            "kind": outcome.kind.as_str(),
            "verdict": outcome.verdict.as_str(),
            "due_at": time(outcome.due_at),
        },
    }));
    if !labels.is_empty() {
        base.insert("labels".into(), json!(labels));
    }
    if let Some(service) = service {
        base.insert("service".into(), json!({"name": service}));
    }
    let wachta = &mut base["wachta"];
    if let Some(reason) = outcome.reason {
        wachta["reason"] = reason.as_str().into();
    }
    if let Some(policy) = policy {
        wachta["severity"] = policy.severity.as_str().into();
        if let Some(runbook) = &policy.runbook {
            wachta["runbook"] = runbook.as_str().into();
        }
    }
    if let Some(scenario) = scenario {
        wachta["file"] = scenario.source.path.as_str().into();
    }
    base
}

/// Returns the monitor type. Heartbeat has four of them; a kind without an equivalent keeps its own name.
fn monitor_type(kind: ScenarioKind) -> &'static str {
    match kind {
        ScenarioKind::Ping => "icmp",
        ScenarioKind::Api | ScenarioKind::Browser => "browser",
        kind => kind.as_str(),
    }
}

fn run(outcome: &Outcome, mut body: Map<String, Value>) -> Value {
    let up = outcome.is_up();
    let status = up.map_or("unknown", |up| if up { "up" } else { "down" });
    body["monitor"]["status"] = status.into();
    body["monitor"]["duration"] = micros(outcome.duration);
    let run = outcome.run.to_string();
    body.insert("event".into(), event(outcome, &run, up, outcome.started_at, outcome.ended_at, outcome.duration));
    body.insert(
        "summary".into(),
        json!({
            "up": u8::from(up == Some(true)),
            "down": u8::from(up == Some(false)),
            "status": status,
            "attempt": 1,
            "max_attempts": 1,
            "final_attempt": true,
            "retry_group": run,
        }),
    );
    if let Some(state) = state(outcome) {
        body.insert("state".into(), state);
    }
    if matches!(outcome.kind, ScenarioKind::Api | ScenarioKind::Browser) {
        body.insert("synthetics".into(), json!({"type": "heartbeat/summary", "journey": journey(outcome)}));
    }
    if let Some(step) = outcome.deciding_step() {
        body["wachta"]["step"] = step.name.as_str().into();
        body["wachta"]["place"] = step.place.as_str().into();
    }
    if let Some(message) = &outcome.message {
        let reason = outcome.reason.map_or("", |reason| reason.as_str());
        body.insert("error".into(), json!({"type": reason, "message": message}));
    }
    // For a flow, the request that decided the verdict, or the last one.
    let shown = outcome.deciding_step().filter(|step| step.http.is_some());
    let shown = shown.or_else(|| outcome.steps.iter().rev().find(|step| step.http.is_some() || step.page.is_some()));
    if let Some(step) = shown {
        observed(step, &mut body);
    }
    let expires_at = outcome.steps.iter().filter_map(|step| step.certificate_expires_at).min();
    certificate(expires_at, &mut body);
    Value::Object(body)
}

fn step_document(outcome: &Outcome, step: &StepResult, index: usize, mut body: Map<String, Value>) -> Value {
    let (up, status) = match step.status {
        StepStatus::Passed => (Some(true), "succeeded"),
        StepStatus::Failed => (Some(false), "failed"),
        StepStatus::Unknown => (None, "unknown"),
        StepStatus::Skipped => (None, "skipped"),
    };
    let offset =
        |by: Duration| chrono::TimeDelta::from_std(by).ok().and_then(|by| outcome.started_at.checked_add_signed(by));
    let started = offset(step.offset).unwrap_or(outcome.started_at);
    let ended = offset(step.offset + step.duration).unwrap_or(outcome.ended_at);
    body.insert("@timestamp".into(), time(ended).into());
    let id = format!("{}-{index}", outcome.run);
    body.insert("event".into(), event(outcome, &id, up, started, ended, step.duration));
    body.insert("span".into(), json!({"id": step.span_id}));
    body.insert(
        "synthetics".into(),
        json!({
            "type": "step/end",
            "journey": journey(outcome),
            "step": {"name": step.name, "index": index + 1, "status": status, "duration": micros(step.duration)},
        }),
    );
    body["wachta"]["place"] = step.place.as_str().into();
    if let Some(failure) = &step.failure {
        body.insert("error".into(), json!({"type": failure.reason.as_str(), "message": failure.message}));
    }
    observed(step, &mut body);
    certificate(step.certificate_expires_at, &mut body);
    Value::Object(body)
}

fn event(
    outcome: &Outcome,
    id: &str,
    up: Option<bool>,
    started: DateTime<Utc>,
    ended: DateTime<Utc>,
    duration: Duration,
) -> Value {
    json!({
        "kind": "event",
        "module": "wachta",
        "dataset": monitor_type(outcome.kind),
        "id": id,
        "outcome": up.map_or("unknown", |up| if up { "success" } else { "failure" }),
        "start": time(started),
        "end": time(ended),
        "duration": u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX),
    })
}

fn journey(outcome: &Outcome) -> Value {
    json!({"id": outcome.scenario.as_str(), "name": outcome.name})
}

/// Adds what a step observed of its target.
fn observed(step: &StepResult, body: &mut Map<String, Value>) {
    if let Some(http) = &step.http {
        body.insert("url".into(), url(&http.url));
        request(http, body);
    } else if let Some(page) = &step.page {
        body.insert("url".into(), url(&page.url));
        if let Some(status) = page.status {
            body.insert("http".into(), json!({"response": {"status_code": status}}));
        }
        let timing = &page.timing;
        let vitals = [("ttfb", timing.ttfb), ("fcp", timing.fcp), ("lcp", timing.lcp), ("inp", timing.inp)];
        let mut metrics: Map<String, Value> =
            vitals.into_iter().filter_map(|(name, seconds)| Some((name.to_owned(), seconds_us(seconds?)))).collect();
        if let Some(shift) = timing.cls {
            metrics.insert("cls".into(), shift.into());
        }
        if !metrics.is_empty() {
            body.insert("browser".into(), json!({"experience": metrics}));
        }
    }
}

fn seconds_us(seconds: f64) -> Value {
    micros(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

fn request(http: &HttpResult, body: &mut Map<String, Value>) {
    let phases = http.phases();
    let total = phases.connect + phases.tls.unwrap_or_default() + phases.processing + phases.transfer;
    body.insert(
        "http".into(),
        json!({
            "request": {"method": http.method},
            "response": {"status_code": http.status, "body": {"bytes": http.bytes}},
            "rtt": {
                "total": micros(total),
                "response_header": micros(phases.processing),
                "content": micros(phases.transfer),
            },
        }),
    );
    body.insert("resolve".into(), json!({"rtt": micros(phases.resolve)}));
    body.insert("tcp".into(), json!({"rtt": {"connect": micros(phases.connect)}}));
    if let Some(handshake) = phases.tls {
        body.insert("tls".into(), json!({"rtt": {"handshake": micros(handshake)}}));
    }
    if let Some(address) = http.hops.last().and_then(|hop| hop.address) {
        body["monitor"]["ip"] = address.ip().to_string().into();
    }
}

fn certificate(expires_at: Option<DateTime<Utc>>, body: &mut Map<String, Value>) {
    let Some(expires_at) = expires_at else { return };
    let tls = body.entry("tls").or_insert_with(|| json!({}));
    tls["certificate_not_valid_after"] = time(expires_at).into();
    tls["server"] = json!({"x509": {"not_after": time(expires_at)}});
}

/// Returns the parts of a URL, or only its text if it cannot be parsed.
fn url(text: &str) -> Value {
    let Ok(url) = Url::parse(text) else { return json!({"full": text}) };
    let mut parts = object(json!({"full": text, "scheme": url.scheme()}));
    if let Some(host) = url.host_str() {
        parts.insert("domain".into(), host.into());
    }
    if let Some(port) = url.port_or_known_default() {
        parts.insert("port".into(), port.into());
    }
    if !url.cannot_be_a_base() {
        parts.insert("path".into(), url.path().into());
    }
    Value::Object(parts)
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests;
