//! Metrics of alerting.

use std::collections::BTreeMap;

use prometheus::{IntCounter, IntCounterVec, IntGaugeVec};

use crate::names::{metric, suppressed};
use crate::scenario::Severity;

/// Metrics of alerting.
#[derive(Clone, Debug)]
pub struct Metrics {
    open: IntGaugeVec,
    suppressed: IntCounterVec,
    /// Number of messages that did not fit into the queue to the store.
    pub(super) dropped: IntCounter,
}

impl Metrics {
    /// Registers the metrics. `dropped` counts the messages that did not fit into the queue to the store.
    pub fn new(registry: &prometheus::Registry, dropped: IntCounter) -> prometheus::Result<Self> {
        let opts = |metric: &crate::names::Metric| prometheus::Opts::new(metric.name, metric.help);
        let open = IntGaugeVec::new(opts(&metric::INCIDENTS_OPEN), metric::INCIDENTS_OPEN.labels)?;
        let counter =
            IntCounterVec::new(opts(&metric::NOTIFICATIONS_SUPPRESSED), metric::NOTIFICATIONS_SUPPRESSED.labels)?;
        registry.register(Box::new(open.clone()))?;
        registry.register(Box::new(counter.clone()))?;
        for reason in suppressed::ALL {
            counter.with_label_values(&[reason]);
        }
        Ok(Self { open, suppressed: counter, dropped })
    }

    /// Sets the number of open incidents by severity.
    pub(super) fn set_open(&self, open: &BTreeMap<Severity, usize>) {
        for (severity, count) in open {
            let count = i64::try_from(*count).unwrap_or(i64::MAX);
            self.open.with_label_values(&[severity.as_str()]).set(count);
        }
    }

    /// Counts suppressed notifications.
    pub(super) fn add_suppressed(&self, reason: &str, count: u64) {
        self.suppressed.with_label_values(&[reason]).inc_by(count);
    }
}
