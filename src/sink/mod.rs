//! Where outcomes are shown to other systems: one folder or file per destination, a bounded queue and one task each.
//!
//! A sink is given outcomes and never asks for them; when its queue is full the oldest is dropped and counted, so
//! that a destination that is away costs neither memory nor time of the runs. Deliberately absent: a trait over the
//! sinks. They have nothing in common but the metrics here.

pub mod prometheus;
pub mod zabbix;

use ::prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use crate::names::{Metric, metric};

/// What all sinks count, by the label `sink`.
#[derive(Debug, Clone)]
pub struct Metrics {
    queue_length: IntGaugeVec,
    sent: IntCounterVec,
    failed: IntCounterVec,
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
            dropped: self.dropped.with_label_values(&[sink]),
        }
    }
}

/// The series of one sink.
#[derive(Debug, Clone)]
struct Counts {
    queue_length: IntGauge,
    sent: IntCounter,
    failed: IntCounter,
    dropped: IntCounter,
}
