//! Metrics of the browser engine.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use crate::names::{Metric, metric};

/// Metrics of browser sessions.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Number of sessions by `state`: `busy` in a run, `idle` waiting for one.
    pub sessions: IntGaugeVec,
    /// Number of runs that wait for a browser, by cause: `session` for a free one, `memory` for enough memory to start
    /// one.
    pub waiting: IntGaugeVec,
    /// Time that runs waited for a browser, in seconds.
    pub wait_seconds: Histogram,
    /// Number of started sessions.
    pub started: IntCounter,
    /// Number of sessions that did not end regularly, by `cause`.
    pub reaped: IntCounterVec,
    /// Whether browsers have a sandbox.
    pub sandbox: IntGauge,
}

impl Metrics {
    /// Registers the metrics.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        fn options(metric: &Metric) -> Opts {
            Opts::new(metric.name, metric.help)
        }
        let sessions = IntGaugeVec::new(options(&metric::BROWSER_SESSIONS), metric::BROWSER_SESSIONS.labels)?;
        let waiting = IntGaugeVec::new(options(&metric::BROWSER_WAITING), metric::BROWSER_WAITING.labels)?;
        let of_wait = &metric::BROWSER_WAIT;
        let of_wait = HistogramOpts::new(of_wait.name, of_wait.help).buckets(metric::LAG_BUCKETS.to_vec());
        let wait_seconds = Histogram::with_opts(of_wait)?;
        registry.register(Box::new(wait_seconds.clone()))?;
        let started = IntCounter::with_opts(options(&metric::BROWSER_SESSIONS_STARTED))?;
        let reaped =
            IntCounterVec::new(options(&metric::BROWSER_SESSIONS_REAPED), metric::BROWSER_SESSIONS_REAPED.labels)?;
        registry.register(Box::new(sessions.clone()))?;
        registry.register(Box::new(waiting.clone()))?;
        registry.register(Box::new(started.clone()))?;
        registry.register(Box::new(reaped.clone()))?;
        let sandbox = IntGauge::with_opts(options(&metric::BROWSER_SANDBOX))?;
        registry.register(Box::new(sandbox.clone()))?;
        for state in ["idle", "busy"] {
            sessions.with_label_values(&[state]).set(0);
        }
        for cause in ["session", "memory"] {
            waiting.with_label_values(&[cause]).set(0);
        }
        for cause in Cause::ALL {
            reaped.with_label_values(&[cause.as_str()]).inc_by(0);
        }
        Ok(Self { sessions, waiting, wait_seconds, started, reaped, sandbox })
    }

    /// Moves a session from one state to another.
    pub(super) fn move_session(&self, from: &str, to: &str) {
        self.sessions.with_label_values(&[from]).dec();
        self.sessions.with_label_values(&[to]).inc();
    }

    /// Counts a waiting run until the returned value is dropped.
    pub(super) fn wait(&self, cause: &str) -> impl Drop + use<> {
        struct Waiting(prometheus::IntGauge);
        impl Drop for Waiting {
            fn drop(&mut self) {
                self.0.dec();
            }
        }
        let gauge = self.waiting.with_label_values(&[cause]);
        gauge.inc();
        Waiting(gauge)
    }
}

/// Cause for ending a session other than its run; the label `cause`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// The run was dropped: cancelled, panicked or out of time.
    Cancelled,
    /// The session did not start or end in time.
    Timeout,
    /// The browser, its page or the driver crashed or hung.
    Crashed,
    /// The session was left by an earlier agent.
    Leftover,
    /// The agent stopped during the run.
    Shutdown,
    /// The session exceeded its memory limit.
    Memory,
}

impl Cause {
    const ALL: [Self; 6] =
        [Self::Cancelled, Self::Timeout, Self::Crashed, Self::Leftover, Self::Shutdown, Self::Memory];

    /// Returns the value of the label.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Timeout => "timeout",
            Self::Crashed => "crashed",
            Self::Leftover => "leftover",
            Self::Shutdown => "shutdown",
            Self::Memory => "memory",
        }
    }
}
