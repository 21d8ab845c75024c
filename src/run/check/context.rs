//! Context of one check: its services, values and timeout.

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use crate::diagnostic::Spanned;
use crate::names::Reason;
use crate::outcome::Failure;
use crate::run::RunServices;
use crate::scenario::HumanDuration;
use crate::scenario::check::Expected;
use crate::values::Values;
use crate::values::expect::{Actual, ResolvedMatcher};

/// Context of one check: its services, values and timeout.
pub(in crate::run) struct CheckContext<'a> {
    pub(in crate::run) values: &'a Values,
    pub(in crate::run) tools: &'a RunServices,
    pub(in crate::run) due_at: DateTime<Utc>,
    pub(in crate::run) timeout: Duration,
    /// Description of what the check is waiting for, for the timeout message.
    pub(super) waiting: Mutex<Option<String>>,
}

impl<'a> CheckContext<'a> {
    pub(in crate::run) fn new(
        values: &'a Values,
        tools: &'a RunServices,
        due_at: DateTime<Utc>,
        timeout: Duration,
    ) -> Self {
        Self { values, tools, due_at, timeout, waiting: Mutex::default() }
    }

    /// Returns the failure of a check that exceeded its timeout.
    pub(super) fn out_of_time(&self) -> Failure {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let still = waiting.as_ref().map(|what| format!(": still {what}")).unwrap_or_default();
        Failure::new(Reason::Timeout, format!("timed out after {}{still}", HumanDuration(self.timeout)))
            .waited(self.timeout)
    }

    /// Runs `work` within the timeout and returns its result with the duration.
    pub(super) async fn bounded<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<(T, Duration), Failure> {
        let began = Instant::now();
        let done = tokio::time::timeout(self.timeout, work).await;
        let done = done.map_err(|_| self.out_of_time())??;
        Ok((done, began.elapsed()))
    }

    /// Checks a value against its expectation, if there is one.
    pub(super) fn held(&self, expected: Option<&Expected>, what: &str, seen: &Actual) -> Result<(), Failure> {
        let Some(expected) = expected else { return Ok(()) };
        let filled =
            ResolvedMatcher::new(&expected.matcher, self.values).map_err(|failure| failure.at(expected.span))?;
        if filled.holds(seen) {
            return Ok(());
        }
        let what = match filled.mismatch(seen) {
            Some(mismatch) => format!("{what}: {mismatch}"),
            None => what.to_owned(),
        };
        Err(Failure::new(Reason::Assertion, what).compared(filled.show(), seen.show()).at(expected.span))
    }

    /// Masks a password that was part of an address. Short ones are masked too, although they were not declared as
    /// secrets.
    pub(super) fn hide(&self, password: &str) {
        self.values.masker().add(password);
    }
}

/// Returns the failure for a setting that is invalid after its names were resolved. `problem` must not repeat an
/// address with a password.
pub(super) fn configuration<T>(what: &str, at: &Spanned<T>, problem: &str) -> Failure {
    Failure::new(Reason::Configuration, format!("{what}: {problem}")).at(at.span)
}

pub(super) fn faster_than(limit: Option<&Spanned<Duration>>, took: Duration) -> Result<(), Failure> {
    match limit {
        Some(limit) if took >= limit.value => Err(Failure::new(Reason::Slow, "response too slow")
            .compared(format!("faster than {}", HumanDuration(limit.value)), HumanDuration(took).to_string())
            .waited(took)
            .at(limit.span)),
        _ => Ok(()),
    }
}
