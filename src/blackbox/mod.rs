//! Probes as `blackbox_exporter` makes them: modules out of a `blackbox.yml`, its metrics, its defaults.
//!
//! A probe enters neither history nor alerting: whoever asks gets its samples, and its log for a while. [`Modules`] are
//! read by [`read`] without I/O; files that they name are read when a probe needs them. What may be probed is said by a
//! [`Permit`]. Names of metrics stand in [`metric`].
//!
//! Deliberately absent: HTTP/3, CEL, TLS below 1.2. A module that asks for them loads, says so, and is refused.

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
pub use permit::{Pattern, Permit};
pub use read::read;

use files::Files;
use module::Settings;
use probe::{Probe, Stopped};
use samples::Samples;
use tls::Authorities;

/// The agent's file, `probe:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The file of modules, relative to the agent's file.
    pub modules: String,
    /// What may be probed; none: anything, which is for loopback alone.
    pub targets: Option<Vec<Pattern>>,
    /// How many probes run at once; one more is refused.
    pub max_probes: usize,
}

impl Config {
    /// How many probes run at once where nothing is said.
    pub const MAX_PROBES: usize = 200;

    /// What may be probed.
    pub fn permit(&self) -> Permit {
        self.targets.clone().map_or(Permit::Any, Permit::Listed)
    }
}

/// Makes probes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Prober {
    authorities: Arc<Authorities>,
    dialer: Dialer,
    limits: Limits,
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The target, as the prober wants it written.
    pub target: &'a str,
    /// What `Host` says, and TLS: for the http prober alone.
    pub hostname: Option<&'a str>,
    /// How long it may take.
    pub timeout: Duration,
    /// What may be probed.
    pub permit: &'a Permit,
}

/// What a probe gave.
#[derive(Debug)]
pub struct Report {
    /// Whether the target is well.
    pub success: bool,
    /// How long it took.
    pub took: Duration,
    /// Its metrics in the text format of Prometheus.
    pub metrics: String,
    /// Its log.
    pub log: Log,
}

impl Prober {
    /// Returns a prober that trusts whom the system trusts and connects by this dialer.
    pub fn new(trusted: Trusted, dialer: Dialer, limits: Limits) -> Self {
        Self { authorities: Arc::new(Authorities::system(trusted)), dialer, limits }
    }

    /// Probes a target. Cannot fail: what goes wrong is `probe_success 0`, and a line in the log.
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
        // It waits for its place within its time: whoever asked gives up after that.
        let Ok(_place) = tokio::time::timeout(timeout, self.limits.place()).await else {
            let why = "no descriptors were free: as many runs and probes go on as there are descriptors for";
            let Stopped = probe.stop("The probe could not be made", &[("err", &why)]);
            return probe.report(false, began.elapsed(), timeout);
        };
        let (timeout_of_all, timeout) = (timeout, timeout.saturating_sub(began.elapsed()));
        probe.files = Files::read(&module.files, self.limits.readers(), timeout).await;
        let timeout = timeout_of_all.saturating_sub(began.elapsed());
        // One kind is as large as all of them unless each has a place of its own; http is asked for most.
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
    /// What the probe came to.
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
