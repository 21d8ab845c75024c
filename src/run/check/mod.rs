//! Checks, one file a kind: how each is run. What a check is stands in a file of the same name under
//! `scenario/check`.
//!
//! Every check is bounded by its timeout, and everything it reads in size.

pub(super) mod certificate;
mod connection;
mod dns;
mod exec;
mod grpc;
mod heartbeat;
mod junit;
mod message;
mod ntp;
mod ping;
mod postgres;
mod redis;
mod relay;
mod resp;
mod s3;
mod starttls;
mod tcp;
mod tls;
mod websocket;

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::Tools;
use crate::diagnostic::At;
use crate::names::Reason;
use crate::outcome::{EvidenceKind, Failure};
use crate::scenario::check::Expected;
use crate::scenario::{Check, Pretty};
use crate::values::Values;
use crate::values::expect::{Filled, Seen};

pub use heartbeat::Beats;

/// What a check may use, and how long it may take.
pub(super) struct Surroundings<'a> {
    pub(super) values: &'a Values,
    pub(super) tools: &'a Tools,
    pub(super) due_at: DateTime<Utc>,
    pub(super) timeout: Duration,
    /// What is waited for, once there is something to wait for.
    waiting: Mutex<Option<String>>,
}

/// What a check found.
pub(super) struct Checked {
    /// Whether all held.
    pub(super) result: Result<(), Failure>,
    /// When the first certificate of the chain that it saw expires.
    pub(super) expires_at: Option<DateTime<Utc>>,
    /// What a suite that it ran did, in the order of its report.
    pub(super) cases: Vec<Case>,
    /// What is kept of a check that did not hold.
    pub(super) evidence: Option<(EvidenceKind, &'static str, Vec<u8>)>,
}

/// One test of a suite.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Case {
    /// Its name.
    pub(super) name: String,
    /// How long it took, as the suite says.
    pub(super) took: Duration,
    /// How it ended.
    pub(super) end: CaseEnd,
}

/// How a test of a suite ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum CaseEnd {
    /// It passed.
    Passed,
    /// It was not run.
    Skipped,
    /// It failed, with what was said of that.
    Failed(String),
}

impl From<Result<(), Failure>> for Checked {
    fn from(result: Result<(), Failure>) -> Self {
        Self { result, expires_at: None, cases: Vec::new(), evidence: None }
    }
}

/// Runs a check.
pub(super) async fn check(check: &Check, around: &Surroundings<'_>) -> Checked {
    match check {
        Check::Tcp(check) => tcp::check(check, around).await.into(),
        Check::Tls(check) => tls::check(check, around).await,
        Check::Dns(check) => dns::check(check, around).await.into(),
        Check::Ping(check) => ping::check(check, around).await.into(),
        Check::Postgres(check) => postgres::check(check, around).await.into(),
        Check::Redis(check) => redis::check(check, around).await.into(),
        Check::Grpc(check) => grpc::check(check, around).await.into(),
        Check::Websocket(check) => websocket::check(check, around).await.into(),
        Check::Ntp(check) => ntp::check(check, around).await.into(),
        Check::S3(check) => s3::check(check, around).await.into(),
        Check::Heartbeat(check) => heartbeat::check(check, around).await.into(),
        Check::Exec(check) => exec::check(check, around).await,
    }
}

impl<'a> Surroundings<'a> {
    pub(super) fn new(values: &'a Values, tools: &'a Tools, due_at: DateTime<Utc>, timeout: Duration) -> Self {
        Self { values, tools, due_at, timeout, waiting: Mutex::default() }
    }

    /// The failure of a check whose time ran out.
    fn out_of_time(&self) -> Failure {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let still = waiting.as_ref().map(|what| format!(": still {what}")).unwrap_or_default();
        Failure::new(Reason::Timeout, format!("not done within {}{still}", Pretty(self.timeout))).waited(self.timeout)
    }

    /// Does the work within the timeout; gives also how long it took.
    async fn bounded<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<(T, Duration), Failure> {
        let began = Instant::now();
        let done = tokio::time::timeout(self.timeout, work).await;
        let done = done.map_err(|_| self.out_of_time())??;
        Ok((done, began.elapsed()))
    }

    /// Whether a value is what is expected of it, where something is.
    fn held(&self, expected: Option<&Expected>, what: &str, seen: &Seen) -> Result<(), Failure> {
        let Some(expected) = expected else { return Ok(()) };
        let filled = Filled::new(&expected.matcher, self.values).map_err(|failure| failure.at(expected.span))?;
        if filled.holds(seen) {
            return Ok(());
        }
        let what = match filled.misfit(seen) {
            Some(misfit) => format!("{what}: {misfit}"),
            None => what.to_owned(),
        };
        Err(Failure::new(Reason::Assertion, what).compared(filled.show(), seen.show()).at(expected.span))
    }

    /// A password out of an address: masked from now on, too short a one too, since it was not declared as a secret.
    fn hide(&self, password: &str) {
        self.values.masker().add(password);
    }
}

/// A setting that is wrong once its names are filled in. What is told must not repeat an address with a password.
fn configuration<T>(what: &str, at: &At<T>, problem: &str) -> Failure {
    Failure::new(Reason::Configuration, format!("{what}: {problem}")).at(at.span)
}

fn faster_than(limit: Option<&At<Duration>>, took: Duration) -> Result<(), Failure> {
    match limit {
        Some(limit) if took >= limit.value => Err(Failure::new(Reason::Slow, "the answer was slow")
            .compared(format!("faster than {}", Pretty(limit.value)), Pretty(took).to_string())
            .waited(took)
            .at(limit.span)),
        _ => Ok(()),
    }
}
