//! Result of a check, and of the test cases that it ran.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::outcome::{EvidenceKind, Failure};
use crate::wire::OpenError;
use crate::wire::certificate::earliest_expiry;

/// Result of a check.
pub(in crate::run) struct CheckResult {
    /// Failure of the check, if any.
    pub(in crate::run) result: Result<(), Failure>,
    /// Earliest expiry of the certificates in the chain that the server presented.
    pub(in crate::run) expires_at: Option<DateTime<Utc>>,
    /// Test cases of the suite that the check ran, in the order of the report.
    pub(in crate::run) cases: Vec<Case>,
    /// Evidence stored if the check fails: its kind, file name and content.
    pub(in crate::run) evidence: Option<(EvidenceKind, &'static str, Vec<u8>)>,
}

/// One test case of a suite.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::run) struct Case {
    /// Name of the test case.
    pub(in crate::run) name: String,
    /// Duration as reported by the suite.
    pub(in crate::run) took: Duration,
    /// Result of the test case.
    pub(in crate::run) end: CaseEnd,
}

/// Result of a test case.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::run) enum CaseEnd {
    /// The test case passed.
    Passed,
    /// The test case was not run.
    Skipped,
    /// The test case failed, with its message.
    Failed(String),
}

impl From<OpenError> for CheckResult {
    fn from(refused: OpenError) -> Self {
        Self { expires_at: earliest_expiry(&refused.chain), ..Err(refused.failure).into() }
    }
}

impl From<Result<(), Failure>> for CheckResult {
    fn from(result: Result<(), Failure>) -> Self {
        Self { result, expires_at: None, cases: Vec::new(), evidence: None }
    }
}
