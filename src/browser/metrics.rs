//! What the browser engine counts.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use crate::names::{Metric, metric};

/// Counters of sessions.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Sessions there are, by `state`: `busy` in a run, `idle` waiting for one.
    pub sessions: IntGaugeVec,
    /// Runs that wait for a browser, by what for: `session` a free one, `memory` enough of it to start one.
    pub waiting: IntGaugeVec,
    /// How long runs waited for a browser, in seconds.
    pub wait_seconds: Histogram,
    /// Sessions that were started.
    pub started: IntCounter,
    /// Sessions that did not end by themselves, by `cause`.
    pub reaped: IntCounterVec,
    /// Whether browsers have a sandbox.
    pub sandbox: IntGauge,
}

impl Metrics {
    /// Registers them.
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

    /// A session is in another state now.
    pub(super) fn move_session(&self, from: &str, to: &str) {
        self.sessions.with_label_values(&[from]).dec();
        self.sessions.with_label_values(&[to]).inc();
    }

    /// Counts a run that waits for something, until what it returns is dropped.
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
    /// It took more memory than it may have.
    Memory,
}

impl Cause {
    const ALL: [Self; 6] =
        [Self::Cancelled, Self::Timeout, Self::Crashed, Self::Leftover, Self::Shutdown, Self::Memory];

    /// The name others see.
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
