//! Probes that are compatible with `blackbox_exporter`: its modules in a `blackbox.yml`, its metrics and its defaults.
//!
//! A probe affects neither history nor alerting; the client receives its samples, and its log is kept for a while.
//! [`Modules`] are parsed by [`read`] without I/O; the files that they name are read when a probe needs them. A
//! [`TargetPolicy`] defines the allowed targets. Metric names are defined in [`metric`].
//!
//! HTTP/3, CEL and TLS below 1.2 are deliberately not supported. A module that uses them is loaded with a warning, and
//! its probes are rejected.

mod auth;
mod body;
mod client;
mod dialogue;
mod dns;
mod effective;
mod files;
mod grpc;
mod http;
mod icmp;
mod keys;
mod log;
pub mod metric;
mod module;
mod permit;
mod probe;
mod proxy;
mod read;
mod regexp;
mod samples;
mod tls;
mod tls_config;
mod token;
mod values;
mod websocket;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::wire::Dialer;
use crate::wire::limits::Limits;
use crate::wire::tls::Trusted;

pub use log::Log;
pub use module::{Module, Modules};
pub use permit::{Pattern, TargetPolicy};
pub use read::read;

use files::Files;
use module::Settings;
use probe::{Probe, ProbeAborted};
use samples::Samples;
use tls::Authorities;

/// The `probe:` section of the agent configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// File with the modules, relative to the agent configuration.
    pub modules: String,
    /// Allowed targets. `None` allows any target, which is only permitted if the agent listens on loopback.
    pub targets: Option<Vec<Pattern>>,
    /// Maximum number of concurrent probes; further ones are rejected.
    pub max_probes: usize,
}

impl Config {
    /// Default maximum of concurrent probes.
    pub const MAX_PROBES: usize = 200;

    /// Returns the policy for allowed targets.
    pub fn permit(&self) -> TargetPolicy {
        self.targets.clone().map_or(TargetPolicy::Any, TargetPolicy::Listed)
    }
}

/// Runs probes. Clones are cheap.
#[derive(Debug, Clone)]
pub struct Prober {
    authorities: Arc<Authorities>,
    dialer: Dialer,
    limits: Limits,
}

/// Parameters of a probe.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Target, in the notation of the prober.
    pub target: &'a str,
    /// Host name for the `Host` header and TLS; only for the http prober.
    pub hostname: Option<&'a str>,
    /// Maximum duration.
    pub timeout: Duration,
    /// Allowed targets.
    pub permit: &'a TargetPolicy,
}

/// Result of a probe.
#[derive(Debug)]
pub struct Report {
    /// Whether the probe succeeded.
    pub success: bool,
    /// Duration of the probe.
    pub took: Duration,
    /// Metrics in the text format of Prometheus.
    pub metrics: String,
    /// Log of the probe.
    pub log: Log,
}

impl Prober {
    /// Creates a prober that trusts the roots of the system and connects with this dialer.
    pub fn new(trusted: Trusted, dialer: Dialer, limits: Limits) -> Self {
        Self { authorities: Arc::new(Authorities::system(trusted)), dialer, limits }
    }

    /// Probes a target. Never returns an error: a failure gives `probe_success 0` and a line in the log.
    pub async fn probe(&self, module: &Module, request: Request<'_>) -> Report {
        let Request { target, hostname, timeout, permit } = request;
        let mut probe = Probe {
            module,
            target,
            hostname,
            permit,
            authorities: &self.authorities,
            dialer: &self.dialer,
            files: Files::default(),
            samples: Samples::default(),
            log: Log::begin(),
        };
        let seconds = timeout.as_secs_f64();
        probe.log.info("Beginning probe", &[("probe", &module.prober), ("timeout_seconds", &seconds)]);
        let began = Instant::now();
        // Waiting for a slot counts toward the timeout, because the client gives up after that.
        let Ok(_place) = tokio::time::timeout(timeout, self.limits.place()).await else {
            let why = "no free file descriptor: too many runs and probes at once";
            let ProbeAborted = probe.stop("The probe could not be run", &[("err", &why)]);
            return probe.report(false, began.elapsed(), timeout);
        };
        let (timeout_of_all, timeout) = (timeout, timeout.saturating_sub(began.elapsed()));
        probe.files = Files::read(&module.files, self.limits.readers(), timeout).await;
        let timeout = timeout_of_all.saturating_sub(began.elapsed());
        // The future is as large as that of its largest prober, so all but http, the most frequent one, are boxed.
        let verdict = match &module.settings {
            Settings::Http(settings) => http::http(&mut probe, settings, timeout).await,
            Settings::Tcp(settings) => Box::pin(dialogue::tcp(&mut probe, settings, timeout)).await,
            Settings::Unix(settings) => Box::pin(dialogue::unix(&mut probe, settings, timeout)).await,
            Settings::Dns(settings) => Box::pin(dns::dns(&mut probe, settings, timeout)).await,
            Settings::Icmp(settings) => Box::pin(icmp::icmp(&mut probe, settings, timeout)).await,
            Settings::Grpc(settings) => Box::pin(grpc::grpc(&mut probe, settings, timeout)).await,
            Settings::Websocket(settings) => Box::pin(websocket::websocket(&mut probe, settings, timeout)).await,
            Settings::Unknown => Err(probe.stop("Unknown prober", &[("prober", &module.prober)])),
        };
        let took = began.elapsed();
        probe.report(matches!(verdict, Ok(true)), took, timeout_of_all)
    }
}

impl Probe<'_> {
    /// Creates the report from the result of the probe.
    fn report(self, success: bool, took: Duration, timeout: Duration) -> Report {
        let Self { mut samples, mut log, .. } = self;
        let duration = took.as_secs_f64();
        if success {
            log.info("Probe succeeded", &[("duration_seconds", &duration)]);
        } else {
            log.error("Probe failed", &[("duration_seconds", &duration)]);
        }
        samples.set(metric::SUCCESS, f64::from(u8::from(success)));
        samples.set(metric::DURATION, duration);
        samples.set(metric::TIMEOUT, timeout.as_secs_f64());
        Report { success, took, metrics: samples.render(), log }
    }
}
