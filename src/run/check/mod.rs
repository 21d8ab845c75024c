//! Execution of checks, one file per kind. The settings of a check are defined in the file of the same name in
//! `scenario/check`.
//!
//! Every check is limited by its timeout, and everything it reads is limited in size.

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

use super::RunServices;
use crate::diagnostic::Spanned;
use crate::names::Reason;
use crate::outcome::{EvidenceKind, Failure};
use crate::scenario::check::Expected;
use crate::scenario::{Check, Pretty};
use crate::values::Values;
use crate::values::expect::{Filled, Seen};

pub use heartbeat::CheckIns;

/// Context of one check: its services, values and timeout.
pub(super) struct CheckContext<'a> {
    pub(super) values: &'a Values,
    pub(super) tools: &'a RunServices,
    pub(super) due_at: DateTime<Utc>,
    pub(super) timeout: Duration,
    /// Description of what the check is waiting for, for the timeout message.
    waiting: Mutex<Option<String>>,
}

/// Result of a check.
pub(super) struct CheckResult {
    /// Failure of the check, if any.
    pub(super) result: Result<(), Failure>,
    /// Earliest expiry of the certificates in the chain that the server presented.
    pub(super) expires_at: Option<DateTime<Utc>>,
    /// Test cases of the suite that the check ran, in the order of the report.
    pub(super) cases: Vec<Case>,
    /// Evidence stored if the check fails: its kind, file name and content.
    pub(super) evidence: Option<(EvidenceKind, &'static str, Vec<u8>)>,
}

/// One test case of a suite.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Case {
    /// Name of the test case.
    pub(super) name: String,
    /// Duration as reported by the suite.
    pub(super) took: Duration,
    /// Result of the test case.
    pub(super) end: CaseEnd,
}

/// Result of a test case.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum CaseEnd {
    /// The test case passed.
    Passed,
    /// The test case was not run.
    Skipped,
    /// The test case failed, with its message.
    Failed(String),
}

impl From<Result<(), Failure>> for CheckResult {
    fn from(result: Result<(), Failure>) -> Self {
        Self { result, expires_at: None, cases: Vec::new(), evidence: None }
    }
}

/// Runs a check.
pub(super) async fn check(check: &Check, around: &CheckContext<'_>) -> CheckResult {
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

impl<'a> CheckContext<'a> {
    pub(super) fn new(values: &'a Values, tools: &'a RunServices, due_at: DateTime<Utc>, timeout: Duration) -> Self {
        Self { values, tools, due_at, timeout, waiting: Mutex::default() }
    }

    /// Returns the failure of a check that exceeded its timeout.
    fn out_of_time(&self) -> Failure {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let still = waiting.as_ref().map(|what| format!(": still {what}")).unwrap_or_default();
        Failure::new(Reason::Timeout, format!("timed out after {}{still}", Pretty(self.timeout))).waited(self.timeout)
    }

    /// Runs `work` within the timeout and returns its result with the duration.
    async fn bounded<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<(T, Duration), Failure> {
        let began = Instant::now();
        let done = tokio::time::timeout(self.timeout, work).await;
        let done = done.map_err(|_| self.out_of_time())??;
        Ok((done, began.elapsed()))
    }

    /// Checks a value against its expectation, if there is one.
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

    /// Masks a password that was part of an address. Short ones are masked too, although they were not declared as
    /// secrets.
    fn hide(&self, password: &str) {
        self.values.masker().add(password);
    }
}

/// Returns the failure for a setting that is invalid after its names were resolved. `problem` must not repeat an
/// address with a password.
fn configuration<T>(what: &str, at: &Spanned<T>, problem: &str) -> Failure {
    Failure::new(Reason::Configuration, format!("{what}: {problem}")).at(at.span)
}

fn faster_than(limit: Option<&Spanned<Duration>>, took: Duration) -> Result<(), Failure> {
    match limit {
        Some(limit) if took >= limit.value => Err(Failure::new(Reason::Slow, "response too slow")
            .compared(format!("faster than {}", Pretty(limit.value)), Pretty(took).to_string())
            .waited(took)
            .at(limit.span)),
        _ => Ok(()),
    }
}
