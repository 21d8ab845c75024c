//! Our own line: whether what failed may have failed because nothing gets out from here.
//!
//! Some addresses that are always there, the canaries, are looked at when a run failed as it would without a line, and
//! every few seconds for a while after that. Only when not one of them answers it is the line.
//!
//! Invariants: one look at a time and at most one a second, shared by every run that asks. A failure is the target's
//! only by a look that began after the run had ended; it is ours by any look since the run began that found nobody.

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
use crate::wire::{Dialer, Route};

/// How long a canary may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// The least time between the beginnings of two looks.
const GAP: Duration = Duration::from_secs(1);
/// How long it counts that nobody answered.
const KEPT: Duration = Duration::from_secs(5);
/// How often the line is looked at while things fail.
const EVERY: Duration = Duration::from_secs(5);
/// How long after the last failure that may have been the line.
const WATCHED: Duration = Duration::from_mins(1);

/// `network:` of the agent's file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// What answers whenever the line works. None: nobody looks.
    pub canaries: Vec<Canary>,
}

/// Something that answers whenever the line works: a TCP port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canary {
    /// A name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Canary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tcp://{}:{}", self.host, self.port)
    }
}

/// Looks at one canary: whether it answers.
pub type Look = Arc<dyn Fn(Canary) -> BoxFuture<'static, bool> + Send + Sync>;

/// The agent's own line. Cheap to clone; all clones share what is known of it.
#[derive(Clone)]
pub struct Line(Arc<Shared>);

struct Shared {
    look: Look,
    canaries: Mutex<Arc<[Canary]>>,
    /// Whoever holds it looks; the others wait for what is seen.
    turn: tokio::sync::Mutex<()>,
    looks: Mutex<Looks>,
    suspected: Notify,
}

/// What was seen of the line.
#[derive(Debug, Clone, Copy, Default)]
struct Looks {
    /// When the last look began.
    began: Option<Instant>,
    /// When the last look ended that found nobody.
    gone: Option<Instant>,
    /// When the last look began that found somebody.
    answered: Option<Instant>,
    /// When a run last failed as it would without a line.
    suspected: Option<Instant>,
}

/// What is known of the line for one run.
#[derive(Debug, PartialEq, Eq)]
enum Known {
    Gone,
    Works,
    /// Nothing, before a look that begins then at the earliest.
    Look(Instant),
}

impl Looks {
    /// What is known for a run that lasted from `began` to `ended`.
    fn of(&self, began: Instant, ended: Instant, now: Instant) -> Known {
        let since_then = |gone: Instant| self.answered.is_none_or(|answered| answered < gone);
        if self.gone.is_some_and(|gone| gone >= began || gone + KEPT >= ended && since_then(gone)) {
            Known::Gone
        } else if self.answered >= Some(ended) {
            Known::Works
        } else {
            Known::Look(self.began.map_or(now, |last| now.max(last + GAP)))
        }
    }
}

impl Default for Line {
    fn default() -> Self {
        Self::new(Dialer::default())
    }
}

impl Line {
    /// Returns a line without canaries whose names are resolved by this dialer.
    pub fn new(dialer: Dialer) -> Self {
        Self::looking(Arc::new(move |canary| {
            let dialer = dialer.clone();
            async move { answers(&canary, &dialer).await }.boxed()
        }))
    }

    /// A line without canaries that looks at them in this way.
    pub fn looking(look: Look) -> Self {
        let canaries = Mutex::new(Vec::new().into());
        Self(Arc::new(Shared {
            look,
            canaries,
            turn: tokio::sync::Mutex::default(),
            looks: Mutex::default(),
            suspected: Notify::new(),
        }))
    }

    /// These are looked at from now on.
    pub fn load(&self, config: &Config) {
        *self.0.canaries.lock().unwrap_or_else(PoisonError::into_inner) = config.canaries.clone().into();
    }

    fn canaries(&self) -> Arc<[Canary]> {
        Arc::clone(&self.0.canaries.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn looks(&self) -> MutexGuard<'_, Looks> {
        self.0.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says of a run that began then and has just ended why it was our own line and not its target, if it was.
    pub(super) async fn blame(&self, outcome: &Outcome, began: Instant) -> Option<String> {
        let canaries = self.canaries().len();
        if canaries == 0 || !may_be_the_line(outcome) {
            return None;
        }
        let ended = Instant::now();
        self.looks().suspected = Some(ended);
        self.0.suspected.notify_one();
        let count = if canaries == 1 {
            "the canary does not answer".into()
        } else {
            format!("none of {canaries} canaries answers")
        };
        self.was_gone(began, ended).await.then(|| format!("our own network is down: {count}"))
    }

    async fn was_gone(&self, began: Instant, ended: Instant) -> bool {
        let known = || self.looks().of(began, ended, Instant::now());
        loop {
            match known() {
                Known::Gone => return true,
                Known::Works => return false,
                Known::Look(_) => {}
            }
            let _turn = self.0.turn.lock().await;
            // Somebody may have looked while this one waited.
            if let Known::Look(at) = known() {
                tokio::time::sleep_until(at).await;
                self.look().await;
            }
        }
    }

    /// Looks at all canaries at once. The first that answers ends it.
    async fn look(&self) {
        let began = Instant::now();
        self.looks().began = Some(began);
        let mut all: FuturesUnordered<_> = self
            .canaries()
            .iter()
            .map(|canary| tokio::time::timeout(PATIENCE, (self.0.look)(canary.clone())))
            .collect();
        // Where there are none any more, nobody can say that the line is gone.
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
            (false, false) => tracing::warn!("our own network is down: no canary answers"),
            (true, true) => tracing::info!("our own network is back: a canary answers"),
            _ => {}
        }
    }

    /// Looks every few seconds while things fail, so that a run that fails by an outage which is over when it ends is
    /// known for what it is. Works until it is told to stop.
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

/// Whether a run failed as it would without a line: nothing came, or what came was cut off.
fn may_be_the_line(outcome: &Outcome) -> bool {
    let Some(reason) = outcome.reason.filter(|_| outcome.verdict == Verdict::Failed) else { return false };
    match reason {
        // What calls in, and what a suite of tests reaches, goes over our line as well.
        Reason::Timeout
        | Reason::Dns
        | Reason::Connect
        | Reason::Tls
        | Reason::Protocol
        | Reason::Heartbeat
        | Reason::Exec => true,
        // On a page that something is missing which it had to load.
        Reason::Assertion
        | Reason::NotFound
        | Reason::Script
        | Reason::Console
        | Reason::Requests
        | Reason::Download => outcome.browser.is_some(),
        // The target answered.
        _ => false,
    }
}

/// Whether a canary answers. One that refuses has answered: what it said came over the line.
async fn answers(canary: &Canary, dialer: &Dialer) -> bool {
    let Ok(resolved) = dialer.resolve(&canary.host, &Route::default()).await else { return false };
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
