//! Log record of a run: one readable line with the attributes of the run's span. Pure.

use opentelemetry_proto::tonic::logs::v1::{LogRecord, SeverityNumber};

use super::attributes::{nanos, of_run, text, trace_id};
use super::trace::root_id;
use crate::outcome::{Outcome, Verdict};
use crate::scenario::HumanDuration;
use crate::sink::Finished;

/// Name of the event.
pub(super) const EVENT: &str = "wachta.run";

/// Returns the log record of a run, at the time of its end. It has no separate id; its span id is that of the run.
pub(super) fn record(finished: &Finished) -> LogRecord {
    let outcome = &*finished.outcome;
    let (severity, name) = match outcome.verdict {
        Verdict::Passed => (SeverityNumber::Info, "INFO"),
        Verdict::Degraded | Verdict::Unknown => (SeverityNumber::Warn, "WARN"),
        Verdict::Failed => (SeverityNumber::Error, "ERROR"),
    };
    LogRecord {
        time_unix_nano: nanos(outcome.ended_at),
        observed_time_unix_nano: nanos(outcome.ended_at),
        severity_number: severity.into(),
        severity_text: name.into(),
        body: Some(text(line(outcome))),
        attributes: of_run(outcome, finished.scenario.as_deref()).0,
        flags: 1,
        trace_id: trace_id(outcome.run),
        span_id: root_id(outcome.run).to_vec(),
        event_name: EVENT.into(),
        ..LogRecord::default()
    }
}

/// Formats the line, such as `shop-checkout failed after 2.1s: …`.
fn line(outcome: &Outcome) -> String {
    let head = format!("{} {} after {}", outcome.scenario, outcome.verdict.as_str(), HumanDuration(outcome.duration));
    match &outcome.message {
        Some(message) => format!("{head}: {message}").replace(['\n', '\r'], " "),
        None => head,
    }
}
