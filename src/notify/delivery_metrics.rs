//! Metrics of notifications.

use prometheus::IntCounterVec;

/// Metrics of notifications.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(super) sent: IntCounterVec,
    pub(super) failed: IntCounterVec,
}

impl Metrics {
    /// Registers the metrics.
    pub fn new(registry: &prometheus::Registry) -> prometheus::Result<Self> {
        let counter = |m: &crate::names::Metric| {
            let counter = IntCounterVec::new(prometheus::Opts::new(m.name, m.help), m.labels)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        Ok(Self {
            sent: counter(&crate::names::metric::NOTIFICATIONS_SENT)?,
            failed: counter(&crate::names::metric::NOTIFICATIONS_FAILED)?,
        })
    }
}
