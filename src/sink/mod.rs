//! Where outcomes are shown to other systems: one file or folder per destination.
//!
//! A sink says how its batches are cut and sends one: [`Sink::send`]. Everything else is the same for all of them and
//! lives here: [`queue`] decides what is sent when (pure), [`driver`] is the task of one sink, [`Sinks`] holds those of an
//! agent, numbers its outcomes, and keeps how far each destination has them. A destination that is slow, away, or refuses
//! a row for ever holds up neither runs nor other sinks. A new sink is a file, and a line in the list below.
//! [`prometheus`] is no sink of this kind: it is asked, and sends nothing.

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

use crate::incident::{Change, Ending};
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

/// The scenarios that are loaded.
pub type Scenarios = Arc<BTreeMap<ScenarioId, Arc<Scenario>>>;

/// Declares the sinks that a configuration can name: for each its variant, its module, its key in the agent configuration,
/// and what it is. The module has a type `Config` with `KEYS`, `read`, `describe` and `build`.
macro_rules! sinks {
    ($($variant:ident $module:ident $key:literal $doc:literal;)*) => {
        /// The configuration of one sink, by its kind.
        #[derive(Debug, Clone, PartialEq)]
        pub enum SinkConfig {
            $(#[doc = $doc] $variant($module::Config),)*
        }

        /// The keys of the agent configuration that name a sink.
        pub const KEYS: &[Key] = &[$(Key {
            name: $key,
            shape: Some(Shape::OneOrMany(&Shape::Keys(&[NAME, $module::Config::KEYS]))),
            doc: $doc,
        },)*];

        $(impl From<$module::Config> for Destination {
            /// The only sink of its kind.
            fn from(config: $module::Config) -> Self {
                Self { name: $key.into(), config: SinkConfig::$variant(config) }
            }
        })*

        impl SinkConfig {
            /// Reads the sink that stands under a key of the agent configuration. Problems are reported to the reader.
            fn read(key: &str, r: &mut Reader, node: &Node) -> Option<Self> {
                match key {
                    $($key => $module::Config::read(r, node).map(Self::$variant),)*
                    _ => None,
                }
            }

            /// Where the sink sends to, for people; without credentials.
            pub fn describe(&self) -> String {
                match self { $(Self::$variant(config) => config.describe(),)* }
            }

            /// Makes the sink. The error says what is missing for it.
            ///
            /// # Errors
            ///
            /// When something that the configuration names cannot be used, such as a file with a certificate.
            pub fn build(&self, context: &Context) -> Result<Box<dyn Sink>, String> {
                match self { $(Self::$variant(config) => config.build(context),)* }
            }
        }
    };
}

sinks! {
    Zabbix zabbix "zabbix" "Zabbix";
    Ecs ecs "ecs" "outcomes as ECS documents in a file";
    Elasticsearch elasticsearch "elasticsearch" "outcomes as ECS documents in Elasticsearch or OpenSearch";
    RemoteWrite remote_write "remote_write" "what /metrics shows, sent by Prometheus remote write";
    Sentry sentry "sentry" "incidents as issues, and scenarios as cron monitors, in Sentry or Bugsink";
    Otlp otlp "otlp" "runs as traces and logs of OpenTelemetry";
}

/// What every sink may have besides its own keys.
const NAME: &[Key] =
    &[Key { name: "name", shape: Some(Shape::Text), doc: "where there are several of one kind, which one this is" }];

/// A sink of the configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Destination {
    /// Its name in metrics, in the store and on the page: the key of its kind, and its own name where it has one, such as
    /// `zabbix` or `zabbix/warsaw`.
    pub name: Arc<str>,
    /// What it is.
    pub config: SinkConfig,
}

impl Destination {
    /// Reads all sinks of one kind: one, or a list of them, in which all but one have names. Problems are reported to the
    /// reader.
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
                let message = format!("there is a second `{name}`");
                r.fail_with(own.unwrap_or(node).span, message, "give each a `name:` of its own");
            } else if let Some(other) = all.iter().find(|other| other.config == config) {
                let message = format!("`{name}` is the same destination as `{}`", other.name);
                r.fail_with(node.span, message, "take one of them out");
            }
            all.push(Self { name, config });
        }
        all
    }

    /// Whether the sink exports runs as traces.
    pub fn exports_traces(&self) -> bool {
        matches!(&self.config, SinkConfig::Otlp(config) if config.exports_traces())
    }
}

/// What stands at `name`, and the map without it.
fn without_name(node: &Node) -> (Option<&Node>, Node) {
    let NodeKind::Map(entries) = &node.kind else { return (None, node.clone()) };
    let own = entries.iter().find(|entry| entry.key == NAME[0].name).map(|entry| &entry.value);
    let rest = entries.iter().filter(|entry| own.is_none_or(|own| !std::ptr::eq(own, &raw const entry.value)));
    (own, Node { kind: NodeKind::Map(rest.cloned().collect()), span: node.span })
}

/// The name is a label and part of a name: kept to characters that need no quoting.
fn own_name(r: &mut Reader, node: &Node) -> Option<String> {
    let text = r.text(node, "`name`")?.value;
    let plain = (1..=64).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if !plain {
        r.fail(node.span, "`name` must be 1 to 64 of the characters A-Z, a-z, 0-9, `.`, `_` and `-`");
    }
    plain.then_some(text)
}

/// A run that ended, with the scenario that it was of.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// The scenario as it was when the run started; for an outcome that is read from the store, as it is now. `None` when
    /// the scenario is gone.
    pub scenario: Option<Arc<Scenario>>,
    /// The outcome.
    pub outcome: Arc<Outcome>,
}

/// What a sink is given.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A run ended.
    Finished(Finished),
    /// An incident changed. Sinks that do not show incidents pass it over.
    Changed(Arc<Change>),
}

impl Event {
    /// Its number: one more than the event before it has.
    pub fn seq(&self) -> u64 {
        match self {
            Self::Finished(finished) => finished.outcome.seq,
            Self::Changed(change) => change.seq,
        }
    }

    /// The run that ended, if it is that.
    pub fn finished(&self) -> Option<&Finished> {
        match self {
            Self::Finished(finished) => Some(finished),
            Self::Changed(_) => None,
        }
    }

    /// What it is about: the id of a scenario, or the subject of an incident.
    pub fn about(&self) -> &Arc<str> {
        match self {
            Self::Finished(finished) => &finished.outcome.scenario.0,
            Self::Changed(change) => &change.incident.subject.0,
        }
    }

    /// The run that it is of; for an incident the last bad one.
    pub fn run(&self) -> RunId {
        match self {
            Self::Finished(finished) => finished.outcome.run,
            Self::Changed(change) => change.incident.last_run,
        }
    }

    /// When it happened.
    pub fn at(&self) -> DateTime<Utc> {
        match self {
            Self::Finished(finished) => finished.outcome.ended_at,
            Self::Changed(change) => change.at,
        }
    }

    /// Roughly how many bytes it takes in memory.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Finished(finished) => finished.outcome.approximate_bytes(),
            Self::Changed(change) => change.approximate_bytes(),
        }
    }
}

/// How the batches of a sink are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most rows of a batch, as [`Sink::measure`] counts them.
    pub rows: usize,
    /// The most bytes of a batch, as [`Sink::measure`] counts them.
    pub bytes: usize,
    /// How long the first event of a batch waits for others.
    pub age: Duration,
    /// How long a batch may take to be sent. A destination that has not answered by then counts as away.
    pub deadline: Duration,
}

/// How large an event is for a destination; nothing, where it passes it over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Size {
    /// How many rows or documents it becomes.
    pub rows: usize,
    /// How many bytes these have, roughly.
    pub bytes: usize,
}

/// An event of a batch that the destination did not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Its position in the batch.
    pub index: usize,
    /// Why, in the destination's words.
    pub reason: String,
    /// Whether the destination may take it later. Until then those of its scenario wait behind it; otherwise it is set
    /// aside at once.
    pub for_now: bool,
}

/// How the sending of a batch ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// The destination has all of it.
    Taken,
    /// It may have none, some or all of it: the same batch is sent again.
    Retry {
        /// After which time at the earliest, where the destination says so.
        after: Option<Duration>,
        /// What went wrong.
        reason: String,
    },
    /// The destination has all of it but these.
    Partial(Vec<Refusal>),
    /// The destination has none of it, and sending it unchanged would not help: the batch is halved until the event is
    /// found that is to blame. Only for what lies in the data; an answer that every batch would get is a [`Sent::Retry`].
    Refused(String),
}

/// A scenario that no longer runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Absence {
    /// The scenario.
    pub scenario: ScenarioId,
    /// Why it does not run.
    pub why: Ending,
    /// Since when.
    pub at: DateTime<Utc>,
}

/// One destination of outcomes. It keeps no queue, and neither waits nor tries again: [`driver`] does.
#[async_trait]
pub trait Sink: Send {
    /// How its batches are cut.
    fn limits(&self) -> Limits;

    /// How large an event is.
    fn measure(&self, event: &Event) -> Size;

    /// Sends a batch. An event may have been sent before: it must have an identity that makes a repetition harmless.
    /// Dropping the future, which happens at the deadline and when the agent stops, must leave nothing half done.
    async fn send(&mut self, batch: &[Event]) -> Sent;

    /// Takes note of the scenarios that are loaded now, and of those that no longer run.
    fn set_scenarios(&mut self, _scenarios: &Scenarios, _absent: &[Absence]) {}

    /// When [`Sink::upkeep`] is to be called next.
    fn upkeep_at(&self) -> Option<Instant> {
        None
    }

    /// Sends what is of no event, such as what scenarios there are.
    async fn upkeep(&mut self) -> Sent {
        Sent::Taken
    }

    /// When [`Sink::refresh`] is to be called next.
    fn refresh_at(&self) -> Option<Instant> {
        None
    }

    /// Sends what must not overtake events, such as values that are repeated: no event waits that happened before `until`.
    /// Not called while events wait in the store.
    async fn refresh(&mut self, _until: DateTime<Utc>) -> Sent {
        Sent::Taken
    }
}

/// What gives the agent's own state.
pub type AgentState = Arc<dyn Fn() -> Value + Send + Sync>;

/// What all sinks count, by the label `sink`.
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
    /// When the registry has one of these names already.
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

    /// What counts outcomes that the full queue to the store did not take.
    pub fn dropped_by_store(&self) -> IntCounter {
        self.dropped.with_label_values(&["store"])
    }

    /// The series of one sink, exported as 0 from now on.
    fn of(&self, sink: &str) -> Counts {
        Counts {
            queue_length: self.queue_length.with_label_values(&[sink]),
            sent: self.sent.with_label_values(&[sink]),
            failed: self.failed.with_label_values(&[sink]),
            refused: self.refused.with_label_values(&[sink]),
            dropped: self.dropped.with_label_values(&[sink]),
        }
    }

    /// Ends the series of a sink that is configured no longer.
    fn forget(&self, sink: &str) {
        let _ = self.queue_length.remove_label_values(&[sink]);
        for counter in [&self.sent, &self.failed, &self.refused, &self.dropped] {
            let _ = counter.remove_label_values(&[sink]);
        }
    }
}

/// The series of one sink.
#[derive(Debug, Clone)]
struct Counts {
    queue_length: IntGauge,
    sent: IntCounter,
    failed: IntCounter,
    refused: IntCounter,
    dropped: IntCounter,
}
