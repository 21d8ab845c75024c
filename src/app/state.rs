//! State before a reload, and the metrics of reloads.

use prometheus::{Gauge, IntGauge, IntGaugeVec, Opts, Registry};

use super::Config;
use crate::names::Metric;
use crate::names::metric::{self, Detail};
use crate::notify::{DeliveryService, Links};
use crate::scenario::Catalog;

/// State before a reload.
pub(super) struct State {
    pub(super) config: Config,
    pub(super) catalog: Catalog,
    pub(super) delivery_service: DeliveryService,
    pub(super) links: Links,
    /// Level of detail of the exported metrics.
    pub(super) detail: Option<Detail>,
}

impl State {
    pub(super) fn new(config: Config, delivery_service: DeliveryService, links: Links) -> Self {
        Self { config, catalog: Catalog::default(), delivery_service, links, detail: None }
    }
}

/// Metrics of reloads.
pub(super) struct Gauges {
    pub(super) scenarios: IntGaugeVec,
    pub(super) successful: IntGauge,
    pub(super) succeeded_at: Gauge,
}

impl Gauges {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let opts = |m: &Metric| Opts::new(m.name, m.help);
        let gauges = Self {
            scenarios: IntGaugeVec::new(opts(&metric::SCENARIOS), metric::SCENARIOS.labels)?,
            successful: IntGauge::with_opts(opts(&metric::CONFIG_RELOAD_SUCCESSFUL))?,
            succeeded_at: Gauge::with_opts(opts(&metric::CONFIG_RELOAD_TIMESTAMP))?,
        };
        let build = IntGaugeVec::new(opts(&metric::BUILD_INFO), metric::BUILD_INFO.labels)?;
        build
            .with_label_values(&[env!("CARGO_PKG_VERSION"), option_env!("WACHTA_REVISION").unwrap_or("unknown")])
            .set(1);
        registry.register(Box::new(gauges.scenarios.clone()))?;
        registry.register(Box::new(gauges.successful.clone()))?;
        registry.register(Box::new(gauges.succeeded_at.clone()))?;
        registry.register(Box::new(build))?;
        Ok(gauges)
    }
}
