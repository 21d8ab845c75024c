//! Connectivity check: determines whether a failure may be caused by missing network connectivity of the agent.
//!
//! Canaries, addresses that are expected to be reachable always, are checked when a run fails as it would without
//! connectivity, and every few seconds for a while after that. Connectivity counts as lost only if no canary responds.
//!
//! Invariants: only one check runs at a time, and at most one per second, shared by all runs that need it. A failure is
//! attributed to the target only after a check that started after the run had ended. It is an agent fault if any check
//! since the start of the run reached no canary.

use std::fmt;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::names::Reason;
use crate::outcome::{Outcome, Verdict};
use crate::wire::{DialOptions, Dialer};

/// Time within which a canary must respond.
const PATIENCE: Duration = Duration::from_secs(2);
/// Minimum time between the starts of two checks.
const GAP: Duration = Duration::from_secs(1);
/// Time for which a check without a response counts.
const KEPT: Duration = Duration::from_secs(5);
/// Interval between checks while runs fail.
const EVERY: Duration = Duration::from_secs(5);
/// Time after the last suspicious failure during which checks continue.
const WATCHED: Duration = Duration::from_mins(1);

/// The `network:` section of the agent configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// Addresses expected to be reachable always. Nothing is checked if the list is empty.
    pub canaries: Vec<Canary>,
}

/// A TCP port that is expected to be reachable whenever there is connectivity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canary {
    /// Host name or IP address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl fmt::Display for Canary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tcp://{}:{}", self.host, self.port)
    }
}

/// Checks one canary and returns whether it responds.
pub type CanaryCheck = Arc<dyn Fn(Canary) -> BoxFuture<'static, bool> + Send + Sync>;

/// Monitors the connectivity of the agent. Clones are cheap and share their state.
#[derive(Clone)]
pub struct ConnectivityMonitor(Arc<Shared>);

struct Shared {
    look: CanaryCheck,
    canaries: Mutex<Arc<[Canary]>>,
    /// Held by the caller that runs the check; the others wait for its result.
    turn: tokio::sync::Mutex<()>,
    looks: Mutex<CheckHistory>,
    suspected: Notify,
}

/// History of the checks.
#[derive(Debug, Clone, Copy, Default)]
struct CheckHistory {
    /// Start of the last check.
    began: Option<Instant>,
    /// End of the last check that reached no canary.
    gone: Option<Instant>,
    /// Start of the last check that reached a canary.
    answered: Option<Instant>,
    /// Time of the last failure that may be caused by missing connectivity.
    suspected: Option<Instant>,
}

/// Known state of connectivity during a run.
#[derive(Debug, PartialEq, Eq)]
enum Connectivity {
    Gone,
    Works,
    /// Unknown until a check that starts at this time or later.
    CanaryCheck(Instant),
}

impl CheckHistory {
    /// Returns what is known about connectivity for a run that lasted from `began` to `ended`.
    fn of(&self, began: Instant, ended: Instant, now: Instant) -> Connectivity {
        let since_then = |gone: Instant| self.answered.is_none_or(|answered| answered < gone);
        if self.gone.is_some_and(|gone| gone >= began || gone + KEPT >= ended && since_then(gone)) {
            Connectivity::Gone
        } else if self.answered >= Some(ended) {
            Connectivity::Works
        } else {
            Connectivity::CanaryCheck(self.began.map_or(now, |last| now.max(last + GAP)))
        }
    }
}

impl Default for ConnectivityMonitor {
    fn default() -> Self {
        Self::new(Dialer::default())
    }
}

impl ConnectivityMonitor {
    /// Creates a monitor without canaries that resolves names with this dialer.
    pub fn new(dialer: Dialer) -> Self {
        Self::with_check(Arc::new(move |canary| {
            let dialer = dialer.clone();
            async move { answers(&canary, &dialer).await }.boxed()
        }))
    }

    /// Creates a monitor without canaries that checks them with `look`.
    pub fn with_check(look: CanaryCheck) -> Self {
        let canaries = Mutex::new(Vec::new().into());
        Self(Arc::new(Shared {
            look,
            canaries,
            turn: tokio::sync::Mutex::default(),
            looks: Mutex::default(),
            suspected: Notify::new(),
        }))
    }

    /// Replaces the canaries with those of a configuration.
    pub fn load(&self, config: &Config) {
        *self.0.canaries.lock().unwrap_or_else(PoisonError::into_inner) = config.canaries.clone().into();
    }

    fn canaries(&self) -> Arc<[Canary]> {
        Arc::clone(&self.0.canaries.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn looks(&self) -> MutexGuard<'_, CheckHistory> {
        self.0.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns why missing connectivity caused a run to fail that started at `began` and has just ended, or `None` if
    /// it did not.
    pub(super) async fn explain_failure(&self, outcome: &Outcome, began: Instant) -> Option<String> {
        let canaries = self.canaries().len();
        if canaries == 0 || !could_be_connectivity(outcome) {
            return None;
        }
        let ended = Instant::now();
        self.looks().suspected = Some(ended);
        self.0.suspected.notify_one();
        let count = if canaries == 1 {
            "the canary is not reachable".into()
        } else {
            format!("none of {canaries} canaries is reachable")
        };
        self.was_down(began, ended).await.then(|| format!("network connectivity lost: {count}"))
    }

    async fn was_down(&self, began: Instant, ended: Instant) -> bool {
        let known = || self.looks().of(began, ended, Instant::now());
        loop {
            match known() {
                Connectivity::Gone => return true,
                Connectivity::Works => return false,
                Connectivity::CanaryCheck(_) => {}
            }
            let _turn = self.0.turn.lock().await;
            // Another caller may have run a check while this one waited.
            if let Connectivity::CanaryCheck(at) = known() {
                tokio::time::sleep_until(at).await;
                self.look().await;
            }
        }
    }

    /// Checks all canaries in parallel until the first one responds.
    async fn look(&self) {
        let began = Instant::now();
        self.looks().began = Some(began);
        let mut all: FuturesUnordered<_> = self
            .canaries()
            .iter()
            .map(|canary| tokio::time::timeout(PATIENCE, (self.0.look)(canary.clone())))
            .collect();
        // Without canaries, nothing can show that connectivity is lost.
        let mut works = all.is_empty();
        while let Some(answer) = all.next().await {
            if answer.unwrap_or(false) {
                works = true;
                break;
            }
        }
        let mut looks = self.looks();
        let before = looks.gone > looks.answered;
        if works {
            looks.answered = Some(began);
        } else {
            looks.gone = Some(Instant::now());
        }
        drop(looks);
        match (before, works) {
            (false, false) => tracing::warn!("network connectivity lost: no canary reachable"),
            (true, true) => tracing::info!("network connectivity restored: a canary is reachable"),
            _ => {}
        }
    }

    /// Repeats the check every few seconds while runs fail, so that a short outage is detected even if it is over when
    /// the run ends. Runs until it is stopped.
    pub async fn watch(self, stop: CancellationToken) {
        let _ = stop
            .run_until_cancelled(async {
                loop {
                    self.0.suspected.notified().await;
                    while self.looks().suspected.is_some_and(|at| at.elapsed() < WATCHED) {
                        tokio::time::sleep(EVERY).await;
                        let _turn = self.0.turn.lock().await;
                        self.look().await;
                    }
                }
            })
            .await;
    }
}

/// Returns whether a run failed as it would without connectivity: there was no response, or it was cut off.
fn could_be_connectivity(outcome: &Outcome) -> bool {
    let Some(reason) = outcome.reason.filter(|_| outcome.verdict == Verdict::Failed) else { return false };
    match reason {
        // Check-ins, and the requests of test suites, depend on the agent's connectivity as well.
        Reason::Timeout
        | Reason::Dns
        | Reason::Connect
        | Reason::Tls
        | Reason::Protocol
        | Reason::Heartbeat
        | Reason::Exec => true,
        // A page may lack something that it failed to load.
        Reason::Assertion
        | Reason::NotFound
        | Reason::Script
        | Reason::Console
        | Reason::Requests
        | Reason::Download => outcome.browser.is_some(),
        // For all other reasons the target has responded.
        _ => false,
    }
}

/// Returns whether a canary responds. A refused connection counts as a response, because it came over the network.
async fn answers(canary: &Canary, dialer: &Dialer) -> bool {
    let Ok(resolved) = dialer.resolve(&canary.host, &DialOptions::default()).await else { return false };
    let addresses = resolved.addresses.iter().take(4).map(|address| SocketAddr::new(*address, canary.port));
    let mut all: FuturesUnordered<_> = addresses.map(tokio::net::TcpStream::connect).collect();
    while let Some(connected) = all.next().await {
        match connected {
            Ok(_) => return true,
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset) => {
                return true;
            }
            Err(_) => {}
        }
    }
    false
}

#[cfg(test)]
mod tests;
