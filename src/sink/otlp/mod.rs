//! Runs as OpenTelemetry traces and log records, sent by OTLP (<https://opentelemetry.io/docs/specs/otlp/>).
//!
//! The conversion of a run ([`trace`], [`log`]) and the interpretation of a response ([`answer`]) are pure. Spans
//! always have the same ids, so that a duplicate is recognizable. The message types come from `opentelemetry-proto`.
//! The SDK is deliberately not used: it creates spans in real time with generated ids and times, and has a queue,
//! batches and a limited number of retries, whereas runs are exported afterwards, their ids have been sent in
//! `traceparent` headers, and the driver of all sinks stores undelivered events. Metrics are not sent because
//! Prometheus collects them.

mod answer;
mod attributes;
mod config;
mod log;
mod trace;
mod transport;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use async_trait::async_trait;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;

pub use config::{Config, Protocol, Signal};

use super::{Context, Event, HttpSettings, Limits, Refusal, Sent, Sink, Size};
use crate::outcome::Outcome;
use answer::Export;
use attributes::SCHEMA_URL;
use transport::Transport;

/// Maximum number of spans in a request.
const MAX_SPANS: usize = 2_000;
/// Approximate maximum size of a batch, in bytes; gRPC receivers reject messages above 4 MiB by default.
const MAX_BYTES: usize = 1 << 20;
/// Approximate size of a span, in bytes.
const SPAN_BYTES: usize = 500;
/// Maximum delay of the first run of a batch while waiting for more.
const MAX_AGE: Duration = Duration::from_secs(1);
/// Maximum number of runs to track whose trace was sent but not their log record.
const MAX_HALF_SENT: usize = 20_000;

/// OTLP sink.
struct Otlp {
    config: Config,
    resource: Resource,
    transport: Transport,
    /// Runs whose spans received a response, by their sequence numbers, with the reason if they were rejected: only
    /// their log records are sent again.
    traced: HashMap<u64, Option<String>>,
    /// Last warning per signal, so that it is logged once.
    warned: BTreeMap<&'static str, String>,
}

impl Otlp {
    fn new(config: Config, location: &str, transport: Transport) -> Self {
        let resource = attributes::resource(location, &config.resource);
        Self { config, resource, transport, traced: HashMap::new(), warned: BTreeMap::new() }
    }

    /// Sends the spans or records of a batch. Returns the reasons for the runs rejected by the receiver. An error ends
    /// the batch.
    async fn send_signal(&mut self, signal: Signal, batch: &[Event]) -> Result<BTreeMap<usize, String>, Sent> {
        let wanted: Vec<usize> = (0..batch.len())
            .filter(|index| signal == Signal::Logs || !self.traced.contains_key(&batch[*index].seq()))
            // Incidents are not exported.
            .filter(|index| batch[*index].finished().is_some())
            .collect();
        if wanted.is_empty() {
            return Ok(BTreeMap::new());
        }
        let mut refused = BTreeMap::new();
        for (rows, message) in self.messages(signal, batch, &wanted) {
            let everything = |reason: &str| wanted.iter().map(|index| (*index, reason.to_owned())).collect();
            match self.transport.export(signal, message).await {
                Export::Taken { warning } => self.warn(signal, warning),
                Export::Retry { after, reason } => {
                    return Err(Sent::Retry { after, reason: format!("{}: {reason}", signal.as_str()) });
                }
                Export::Rejected { count, reason } => {
                    let reason = format!("{}: {count} of {rows} rejected: {reason}", signal.as_str());
                    // The receiver does not identify the rejected ones. If several runs may be affected, splitting the
                    // batch will identify them.
                    if wanted.len() > 1 && count < rows as u64 {
                        return Err(Sent::Refused(reason));
                    }
                    refused = everything(&reason);
                }
                Export::Refused(reason) => {
                    let reason = format!("{}: {reason}", signal.as_str());
                    if wanted.len() > 1 {
                        return Err(Sent::Refused(reason));
                    }
                    refused = everything(&reason);
                }
            }
        }
        Ok(refused)
    }

    /// Encodes the requests for a batch, each with the number of its rows. It is a single one unless a run has very
    /// many spans.
    fn messages(&self, signal: Signal, batch: &[Event], wanted: &[usize]) -> Vec<(usize, Vec<u8>)> {
        let finished = wanted.iter().filter_map(|index| batch[*index].finished());
        match signal {
            Signal::Traces => {
                let spans: Vec<Span> = finished.flat_map(trace::spans).collect();
                spans
                    .chunks(MAX_SPANS)
                    .map(|spans| (spans.len(), self.traces(spans.to_vec()).encode_to_vec()))
                    .collect()
            }
            Signal::Logs => {
                let records: Vec<LogRecord> = finished.map(log::record).collect();
                vec![(records.len(), self.logs(records).encode_to_vec())]
            }
        }
    }

    fn traces(&self, spans: Vec<Span>) -> ExportTraceServiceRequest {
        ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(self.resource.clone()),
                scope_spans: vec![ScopeSpans {
                    scope: Some(attributes::scope()),
                    spans,
                    schema_url: SCHEMA_URL.to_owned(),
                }],
                schema_url: SCHEMA_URL.to_owned(),
            }],
        }
    }

    fn logs(&self, log_records: Vec<LogRecord>) -> ExportLogsServiceRequest {
        ExportLogsServiceRequest {
            resource_logs: vec![ResourceLogs {
                resource: Some(self.resource.clone()),
                scope_logs: vec![ScopeLogs {
                    scope: Some(attributes::scope()),
                    log_records,
                    schema_url: SCHEMA_URL.to_owned(),
                }],
                schema_url: SCHEMA_URL.to_owned(),
            }],
        }
    }

    /// Logs a warning of the receiver once.
    fn warn(&mut self, signal: Signal, warning: Option<String>) {
        let Some(warning) = warning else { return };
        if self.warned.get(signal.as_str()) != Some(&warning) {
            tracing::warn!(sink = "otlp", signal = signal.as_str(), warning, "warning from the receiver");
            self.warned.insert(signal.as_str(), warning);
        }
    }
}

/// Returns the maximum number of spans of a run.
fn spans_of(outcome: &Outcome) -> usize {
    // Each request and each of its phases has a span.
    let of_requests = |step: &crate::outcome::StepResult| 6 * step.requests().count();
    1 + outcome.steps.iter().map(|step| 1 + of_requests(step)).sum::<usize>()
}

impl Config {
    /// Creates the sink.
    ///
    /// # Errors
    ///
    /// The file with root certificates cannot be read or contains none.
    pub fn build(&self, context: &Context) -> Result<Box<dyn Sink>, String> {
        let is_grpc = self.protocol == Protocol::Grpc;
        let client = (context.http_client)(HttpSettings { roots: self.ca.as_deref(), only_http2: is_grpc })?;
        Ok(Box::new(Otlp::new(self.clone(), &context.location, Transport::new(self, client))))
    }
}

#[async_trait]
impl Sink for Otlp {
    fn limits(&self) -> Limits {
        Limits { rows: MAX_SPANS, bytes: MAX_BYTES, age: MAX_AGE, deadline: self.config.timeout }
    }

    fn measure(&self, event: &Event) -> Size {
        let rows = event.finished().map_or(0, |finished| spans_of(&finished.outcome));
        Size { rows, bytes: rows * SPAN_BYTES }
    }

    async fn send(&mut self, batch: &[Event]) -> Sent {
        let mut refused: BTreeMap<usize, String> = BTreeMap::new();
        for signal in self.config.signals.clone() {
            let mut of_signal = match self.send_signal(signal, batch).await {
                Ok(refused) => refused,
                Err(sent) => return sent,
            };
            if signal == Signal::Traces {
                if self.traced.len() >= MAX_HALF_SENT {
                    self.traced.clear();
                }
                for (index, event) in batch.iter().enumerate() {
                    self.traced.entry(event.seq()).or_insert_with(|| of_signal.remove(&index));
                }
            } else {
                refused.append(&mut of_signal);
            }
        }
        for (index, event) in batch.iter().enumerate() {
            if let Some(reason) = self.traced.remove(&event.seq()).flatten() {
                refused.insert(index, reason);
            }
        }
        if refused.is_empty() {
            return Sent::Taken;
        }
        let refusal = |(index, reason)| Refusal { index, reason, for_now: false };
        Sent::Partial(refused.into_iter().map(refusal).collect())
    }
}

#[cfg(test)]
mod tests;
