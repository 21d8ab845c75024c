//! What the browser engine counts.

use prometheus::{IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry};

use crate::names::{Metric, metric};

/// Counters of sessions.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Sessions there are, by `state`: `busy` in a run, `idle` waiting for one.
    pub sessions: IntGaugeVec,
    /// Sessions that were started.
    pub started: IntCounter,
    /// Sessions that did not end by themselves, by `cause`.
    pub reaped: IntCounterVec,
}

impl Metrics {
    /// Registers them.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        fn options(metric: &Metric) -> Opts {
            Opts::new(metric.name, metric.help)
        }
        let sessions = IntGaugeVec::new(options(&metric::BROWSER_SESSIONS), metric::BROWSER_SESSIONS.labels)?;
        let started = IntCounter::with_opts(options(&metric::BROWSER_SESSIONS_STARTED))?;
        let reaped =
            IntCounterVec::new(options(&metric::BROWSER_SESSIONS_REAPED), metric::BROWSER_SESSIONS_REAPED.labels)?;
        registry.register(Box::new(sessions.clone()))?;
        registry.register(Box::new(started.clone()))?;
        registry.register(Box::new(reaped.clone()))?;
        for state in ["idle", "busy"] {
            sessions.with_label_values(&[state]).set(0);
        }
        for cause in Cause::ALL {
            reaped.with_label_values(&[cause.as_str()]).inc_by(0);
        }
        Ok(Self { sessions, started, reaped })
    }
}

/// Why a session was ended by someone else than its run: the label `cause`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// The run was dropped: cancelled, panicked, or out of time.
    Cancelled,
    /// It did not start in time, or did not take its end in time.
    Timeout,
    /// The browser, its page or the driver went away or hung.
    Crashed,
    /// An earlier agent left it.
    Leftover,
    /// The agent stopped while it was in use.
    Shutdown,
}

impl Cause {
    const ALL: [Self; 5] = [Self::Cancelled, Self::Timeout, Self::Crashed, Self::Leftover, Self::Shutdown];

    /// The name others see.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Timeout => "timeout",
            Self::Crashed => "crashed",
            Self::Leftover => "leftover",
            Self::Shutdown => "shutdown",
        }
    }
}
