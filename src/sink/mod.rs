//! Export of outcomes to other systems, with one file or folder per destination.
//!
//! A sink defines the limits of its batches and sends one batch: [`Sink::send`]. Everything else is common to all sinks
//! and implemented here: [`queue`] decides what is sent when (pure), [`driver`] is the task of one sink, [`Sinks`]
//! contains those of an agent, assigns sequence numbers to its outcomes, and stores the position of each destination. A
//! destination that is slow, unavailable, or rejects a row permanently delays neither runs nor other sinks. A new sink
//! consists of a file and a line in the list below. [`prometheus`] is not such a sink: it is scraped and sends nothing.

mod driver;
pub mod ecs;
pub mod elasticsearch;
#[cfg(test)]
mod fixtures;
mod http;
pub mod otlp;
pub mod prometheus;
pub mod queue;
pub mod remote_write;
pub mod sentry;
mod sinks;
pub mod zabbix;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ::prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio::time::Instant;

use crate::incident::{Change, Ending, Subject};
use crate::names::{Metric, metric};
use crate::outcome::{Outcome, RunId};
use crate::scenario::keys::{Key, Shape};
use crate::scenario::reader::Reader;
use crate::scenario::tree::{Node, NodeKind};
use crate::scenario::{Scenario, ScenarioId};

pub use driver::{Refused, Status};
pub use http::{HttpClient, HttpSettings};
pub use queue::Timing;
pub use sinks::{Context, Parts, Sinks};

/// Loaded scenarios by id.
pub type Scenarios = Arc<BTreeMap<ScenarioId, Arc<Scenario>>>;

/// Declares the available sinks: for each its variant, its module, its key in the agent configuration, and its
/// description. The module contains a type `Config` with `KEYS`, `read`, `describe` and `build`.
macro_rules! sinks {
    ($($variant:ident $module:ident $key:literal $doc:literal;)*) => {
        /// Configuration of one sink, by kind.
        #[derive(Debug, Clone, PartialEq)]
        pub enum SinkConfig {
            $(#[doc = $doc] $variant($module::Config),)*
        }

        /// Keys of the agent configuration that define a sink.
        pub const KEYS: &[Key] = &[$(Key {
            name: $key,
            shape: Some(Shape::OneOrMany(&Shape::Keys(&[NAME, $module::Config::KEYS]))),
            doc: $doc,
        },)*];

        $(impl From<$module::Config> for Destination {
            /// Creates the destination of the only sink of its kind.
            fn from(config: $module::Config) -> Self {
                Self { name: $key.into(), config: SinkConfig::$variant(config) }
            }
        })*

        impl SinkConfig {
            /// Reads the sink under a key of the agent configuration. Problems are reported to the reader.
            fn read(key: &str, r: &mut Reader, node: &Node) -> Option<Self> {
                match key {
                    $($key => $module::Config::read(r, node).map(Self::$variant),)*
                    _ => None,
                }
            }

            /// Describes the destination of the sink in readable form, without credentials.
            pub fn describe(&self) -> String {
                match self { $(Self::$variant(config) => config.describe(),)* }
            }

            /// Creates the sink.
            ///
            /// # Errors
            ///
            /// Something that the configuration refers to cannot be used, such as a file with a certificate.
            pub fn build(&self, context: &Context) -> Result<Box<dyn Sink>, String> {
                match self { $(Self::$variant(config) => config.build(context),)* }
            }
        }
    };
}

sinks! {
    Zabbix zabbix "zabbix" "outcomes as values of items in Zabbix";
    Ecs ecs "ecs" "outcomes as ECS documents in a file";
    Elasticsearch elasticsearch "elasticsearch" "outcomes as ECS documents in Elasticsearch or OpenSearch";
    RemoteWrite remote_write "remote_write" "metrics of `/metrics`, sent with Prometheus remote write";
    Sentry sentry "sentry" "incidents as issues, and scenarios as cron monitors, in Sentry or Bugsink";
    Otlp otlp "otlp" "runs as traces and logs of OpenTelemetry";
}

/// Key that every sink may have in addition to its own.
const NAME: &[Key] = &[Key {
    name: "name",
    shape: Some(Shape::Text),
    doc: "name of the sink; required for all except one if there are several of one kind",
}];

/// Sink of the configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Destination {
    /// Name in metrics, in the store and on the page: the key of its kind, followed by its own name if it has one, such
    /// as `zabbix` or `zabbix/warsaw`.
    pub name: Arc<str>,
    /// Configuration of the sink.
    pub config: SinkConfig,
}

impl Destination {
    /// Reads all sinks of one kind: a single one, or a list in which all except one have names. Problems are reported
    /// to the reader.
    pub fn read_all(key: &str, r: &mut Reader, node: &Node) -> Vec<Self> {
        let nodes = match &node.kind {
            NodeKind::List(items) => items.as_slice(),
            _ => std::slice::from_ref(node),
        };
        let mut all: Vec<Self> = Vec::with_capacity(nodes.len());
        for node in nodes {
            let (own, rest) = without_name(node);
            let name = match own {
                None => Some(key.into()),
                Some(own) => own_name(r, own).map(|own| format!("{key}/{own}").into()),
            };
            let config = SinkConfig::read(key, r, &rest);
            let (Some(name), Some(config)) = (name, config) else { continue };
            if all.iter().any(|other| other.name == name) {
                let message = format!("duplicate name `{name}`");
                r.fail_with(own.unwrap_or(node).span, message, "give each a unique `name:`");
            } else if let Some(other) = all.iter().find(|other| other.config == config) {
                let message = format!("`{name}` is the same destination as `{}`", other.name);
                r.fail_with(node.span, message, "remove one of them");
            }
            all.push(Self { name, config });
        }
        all
    }

    /// Returns whether the sink exports runs as traces.
    pub fn exports_traces(&self) -> bool {
        matches!(&self.config, SinkConfig::Otlp(config) if config.exports_traces())
    }
}

/// Splits a map into the value of `name` and the rest.
fn without_name(node: &Node) -> (Option<&Node>, Node) {
    let NodeKind::Map(entries) = &node.kind else { return (None, node.clone()) };
    let own = entries.iter().find(|entry| entry.key == NAME[0].name).map(|entry| &entry.value);
    let rest = entries.iter().filter(|entry| own.is_none_or(|own| !std::ptr::eq(own, &raw const entry.value)));
    (own, Node { kind: NodeKind::Map(rest.cloned().collect()), span: node.span })
}

/// Reads the name of a sink. Since it is a label and part of a name, only characters that need no quoting are
/// permitted.
fn own_name(r: &mut Reader, node: &Node) -> Option<String> {
    let text = r.text(node, "`name`")?.value;
    let plain = (1..=64).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if !plain {
        r.fail(node.span, "`name` must be 1 to 64 of the characters A-Z, a-z, 0-9, `.`, `_` and `-`");
    }
    plain.then_some(text)
}

/// Finished run with its scenario.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// Scenario as it was when the run started; for an outcome read from the store, the present version. `None` if the
    /// scenario no longer exists.
    pub scenario: Option<Arc<Scenario>>,
    /// Outcome of the run.
    pub outcome: Arc<Outcome>,
}

/// Event passed to sinks.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A run has finished.
    Finished(Finished),
    /// An incident has changed. Sinks that do not export incidents ignore it.
    Changed(Arc<Change>),
}

impl Event {
    /// Returns the sequence number: one more than that of the previous event.
    pub fn seq(&self) -> u64 {
        match self {
            Self::Finished(finished) => finished.outcome.seq,
            Self::Changed(change) => change.seq,
        }
    }

    /// Returns the finished run if the event is one.
    pub fn finished(&self) -> Option<&Finished> {
        match self {
            Self::Finished(finished) => Some(finished),
            Self::Changed(_) => None,
        }
    }

    /// Returns the subject: the scenario of an outcome, or the subject of an incident.
    pub fn about(&self) -> Subject {
        match self {
            Self::Finished(finished) => Subject::from(&finished.outcome.scenario),
            Self::Changed(change) => change.incident.subject.clone(),
        }
    }

    /// Returns the id of the run; for an incident, that of its last bad run.
    pub fn run(&self) -> RunId {
        match self {
            Self::Finished(finished) => finished.outcome.run,
            Self::Changed(change) => change.incident.last_run,
        }
    }

    /// Returns the time of the event.
    pub fn at(&self) -> DateTime<Utc> {
        match self {
            Self::Finished(finished) => finished.outcome.ended_at,
            Self::Changed(change) => change.at,
        }
    }

    /// Returns the approximate memory use in bytes.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Finished(finished) => finished.outcome.approximate_bytes(),
            Self::Changed(change) => change.approximate_bytes(),
        }
    }
}

/// Limits of the batches of a sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Maximum number of rows in a batch, according to [`Sink::measure`].
    pub rows: usize,
    /// Maximum size of a batch in bytes, according to [`Sink::measure`].
    pub bytes: usize,
    /// Maximum delay of the first event of a batch while waiting for more.
    pub age: Duration,
    /// Timeout of sending a batch. A destination that has not responded by then is considered unavailable.
    pub deadline: Duration,
}

/// Size of an event for a destination; zero if the destination ignores the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Size {
    /// Number of rows or documents.
    pub rows: usize,
    /// Approximate number of bytes.
    pub bytes: usize,
}

/// Event of a batch that the destination has rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Position of the event in the batch.
    pub index: usize,
    /// Reason given by the destination.
    pub reason: String,
    /// Whether the destination may accept the event later. In that case, later events of the same scenario wait behind
    /// it; otherwise the event is set aside at once.
    pub for_now: bool,
}

/// Result of sending a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// The destination has accepted the whole batch.
    Taken,
    /// The destination may have accepted nothing, a part, or the whole batch: the same batch is sent again.
    Retry {
        /// Minimum delay, if the destination requests one.
        after: Option<Duration>,
        /// Description of the error.
        reason: String,
    },
    /// The destination has accepted the batch except these events.
    Partial(Vec<Refusal>),
    /// The destination has accepted nothing, and sending the batch unchanged would not help: it is halved until the
    /// event at fault is found. Only for problems of the data; a response that every batch would receive is a
    /// [`Sent::Retry`].
    Refused(String),
}

/// Scenario that no longer runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Absence {
    /// Id of the scenario.
    pub scenario: ScenarioId,
    /// Reason for its absence.
    pub why: Ending,
    /// Start of its absence.
    pub at: DateTime<Utc>,
}

/// Destination of outcomes. An implementation has no queue, does not wait and does not retry, because [`driver`] does.
#[async_trait]
pub trait Sink: Send {
    /// Returns the limits of its batches.
    fn limits(&self) -> Limits;

    /// Returns the size of an event.
    fn measure(&self, event: &Event) -> Size;

    /// Sends a batch. An event may have been sent before, and must have an identity that makes a duplicate harmless.
    /// The future may be dropped, at the deadline or when the agent stops, and must leave nothing half done.
    async fn send(&mut self, batch: &[Event]) -> Sent;

    /// Updates the scenarios that are loaded, and those that no longer run.
    fn set_scenarios(&mut self, _scenarios: &Scenarios, _absent: &[Absence]) {}

    /// Returns the time at which [`Sink::upkeep`] is to be called next.
    fn upkeep_at(&self) -> Option<Instant> {
        None
    }

    /// Sends data that belongs to no event, such as the list of scenarios.
    async fn upkeep(&mut self) -> Sent {
        Sent::Taken
    }

    /// Returns the time at which [`Sink::refresh`] is to be called next.
    fn refresh_at(&self) -> Option<Instant> {
        None
    }

    /// Sends data that must not overtake events, such as repeated values: no event from before `until` is waiting. Not
    /// called while events are waiting in the store.
    async fn refresh(&mut self, _until: DateTime<Utc>) -> Sent {
        Sent::Taken
    }
}

/// Function that returns the state of the agent.
pub type AgentState = Arc<dyn Fn() -> Value + Send + Sync>;

/// Metrics of all sinks, by the label `sink`.
#[derive(Debug, Clone)]
pub struct Metrics {
    queue_length: IntGaugeVec,
    sent: IntCounterVec,
    failed: IntCounterVec,
    refused: IntCounterVec,
    dropped: IntCounterVec,
}

impl Metrics {
    /// Registers the metrics.
    ///
    /// # Errors
    ///
    /// The registry already contains one of these names.
    pub fn new(registry: &Registry) -> ::prometheus::Result<Self> {
        let counter = |of: &Metric| -> ::prometheus::Result<IntCounterVec> {
            let counter = IntCounterVec::new(Opts::new(of.name, of.help), of.labels)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let length = &metric::SINK_QUEUE_LENGTH;
        let queue_length = IntGaugeVec::new(Opts::new(length.name, length.help), length.labels)?;
        registry.register(Box::new(queue_length.clone()))?;
        Ok(Self {
            queue_length,
            sent: counter(&metric::SINK_SENT)?,
            failed: counter(&metric::SINK_FAILED)?,
            refused: counter(&metric::SINK_REFUSED)?,
            dropped: counter(&metric::SINK_DROPPED)?,
        })
    }

    /// Returns the counter of outcomes dropped because the queue to the store was full.
    pub fn dropped_by_store(&self) -> IntCounter {
        self.dropped.with_label_values(&["store"])
    }

    /// Returns the series of one sink, which are exported as 0 from now on.
    fn of(&self, sink: &str) -> Counts {
        Counts {
            queue_length: self.queue_length.with_label_values(&[sink]),
            sent: self.sent.with_label_values(&[sink]),
            failed: self.failed.with_label_values(&[sink]),
            refused: self.refused.with_label_values(&[sink]),
            dropped: self.dropped.with_label_values(&[sink]),
        }
    }

    /// Removes the series of a sink that is no longer configured.
    fn forget(&self, sink: &str) {
        let _ = self.queue_length.remove_label_values(&[sink]);
        for counter in [&self.sent, &self.failed, &self.refused, &self.dropped] {
            let _ = counter.remove_label_values(&[sink]);
        }
    }
}

/// Metrics of one sink.
#[derive(Debug, Clone)]
struct Counts {
    queue_length: IntGauge,
    sent: IntCounter,
    failed: IntCounter,
    refused: IntCounter,
    dropped: IntCounter,
}
