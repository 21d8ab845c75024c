//! State of `/probe`: modules, permitted targets and recent results.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use axum::body::Bytes;
use chrono::{DateTime, Utc};
use prometheus::{Gauge, IntCounter, Registry};
use tokio::sync::Semaphore;

use crate::blackbox::{Config, Log, Module, Modules, Prober, TargetPolicy};

/// Maximum number of results in the history.
const KEPT: usize = 100;

/// State of `/probe`: modules, permitted targets and recent results.
pub struct Probes {
    pub(super) prober: Prober,
    registry: Registry,
    loaded: RwLock<Option<Arc<Loaded>>>,
    recent: Mutex<ProbeHistory>,
    metrics: Mutex<Option<Metrics>>,
}

/// Settings in effect.
pub(super) struct Loaded {
    pub(super) modules: Arc<Modules>,
    pub(super) permit: TargetPolicy,
    pub(super) places: Arc<Semaphore>,
    pub(super) max: usize,
}

/// Metrics of the exporter itself, with the names used by `blackbox_exporter`.
#[derive(Clone)]
pub(super) struct Metrics {
    successful: Gauge,
    succeeded_at: Gauge,
    pub(super) unknown: IntCounter,
}

impl Metrics {
    fn new(registry: &Registry) -> prometheus::Result<Self> {
        let metrics = Self {
            successful: Gauge::new(
                "blackbox_exporter_config_last_reload_successful",
                "Blackbox exporter config loaded successfully.",
            )?,
            succeeded_at: Gauge::new(
                "blackbox_exporter_config_last_reload_success_timestamp_seconds",
                "Timestamp of the last successful configuration reload.",
            )?,
            unknown: IntCounter::new("blackbox_module_unknown_total", "Count of unknown modules requested by probes")?,
        };
        registry.register(Box::new(metrics.successful.clone()))?;
        registry.register(Box::new(metrics.succeeded_at.clone()))?;
        registry.register(Box::new(metrics.unknown.clone()))?;
        Ok(metrics)
    }
}

#[derive(Default)]
struct ProbeHistory {
    next: u64,
    results: VecDeque<Arc<ProbeResult>>,
}

/// Result of a probe in the history.
pub(super) struct ProbeResult {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) target: String,
    pub(super) success: bool,
    pub(super) took: Duration,
    pub(super) at: DateTime<Utc>,
    pub(super) module: Arc<Module>,
    pub(super) log: Log,
    pub(super) metrics: Bytes,
}

impl ProbeResult {
    /// Formats the log, metrics and module of the probe.
    pub(super) fn debug(&self) -> String {
        format!(
            "Logs for the probe:\n{}\n\n\nMetrics that would have been returned:\n{}\n\n\nModule configuration:\n{}",
            self.log.render(&self.module.masker),
            String::from_utf8_lossy(&self.metrics),
            self.module.effective()
        )
    }
}

impl Probes {
    /// Creates the state without modules; probes are possible after [`Self::load`].
    pub fn new(prober: Prober, registry: Registry) -> Self {
        Self {
            prober,
            registry,
            loaded: RwLock::new(None),
            recent: Mutex::new(ProbeHistory::default()),
            metrics: Mutex::new(None),
        }
    }

    /// Applies the configuration. `modules` is `None` if their file did not load, in which case the last valid ones
    /// stay in effect.
    pub fn load(&self, config: Option<&Config>, modules: Option<Modules>) {
        let Some(config) = config else {
            *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = None;
            return;
        };
        let metrics = self.metrics();
        if let Some(metrics) = &metrics {
            metrics.successful.set(f64::from(u8::from(modules.is_some())));
            if modules.is_some() {
                metrics.succeeded_at.set(Utc::now().timestamp_millis() as f64 / 1e3);
            }
        }
        let mut loaded = self.loaded.write().unwrap_or_else(PoisonError::into_inner);
        // The permitted targets change in any case: a shortened list must take effect even if the module file is not
        // valid.
        let last = || loaded.as_ref().map(|loaded| Arc::clone(&loaded.modules)).unwrap_or_default();
        let modules = modules.map_or_else(last, Arc::new);
        let kept = loaded.as_ref().filter(|loaded| loaded.max == config.max_probes);
        let places = kept.map_or_else(|| Arc::new(Semaphore::new(config.max_probes)), |kept| Arc::clone(&kept.places));
        *loaded = Some(Arc::new(Loaded { modules, permit: config.permit(), places, max: config.max_probes }));
    }

    /// Returns the metrics, which are registered when they are first needed.
    pub(super) fn metrics(&self) -> Option<Metrics> {
        let mut metrics = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        if metrics.is_none() {
            match Metrics::new(&self.registry) {
                Ok(made) => *metrics = Some(made),
                Err(error) => tracing::error!(%error, "cannot export the metrics of /probe"),
            }
        }
        metrics.clone()
    }

    pub(super) fn loaded(&self) -> Option<Arc<Loaded>> {
        self.loaded.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn keep(&self, mut kept: ProbeResult) -> Arc<ProbeResult> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        kept.id = recent.next;
        recent.next += 1;
        let kept = Arc::new(kept);
        if recent.results.len() == KEPT {
            recent.results.pop_front();
        }
        recent.results.push_back(Arc::clone(&kept));
        kept
    }

    /// Returns the recent results, newest first.
    pub(super) fn recent(&self) -> Vec<Arc<ProbeResult>> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.results.iter().rev().cloned().collect()
    }
}
