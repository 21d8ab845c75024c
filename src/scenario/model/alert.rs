//! Alert policy of a scenario, and severities.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::diagnostic::Spanned;
use crate::scenario::verdict::Verdict;

/// Conditions for opening and resolving an incident, and its severity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertPolicy {
    /// Number of bad runs that open an incident.
    pub after: u32,
    /// Number of most recent conclusive runs in which the bad ones are counted; if equal to `after`, the bad runs must
    /// be consecutive.
    pub of: u32,
    /// Number of consecutive good runs that resolve the incident.
    pub recover_after: u32,
    /// Severity of the incident.
    pub severity: Severity,
    /// Verdicts that count as bad: a subset of failed and degraded.
    pub verdicts: Vec<Verdict>,
    /// Ids of scenarios whose failure explains a failure of this one.
    pub depends_on: Vec<Spanned<String>>,
    /// Interval of reminders of an open incident that does not change. `None` disables reminders.
    pub remind: Option<Duration>,
    /// URL of the runbook.
    pub runbook: Option<String>,
}

impl Default for AlertPolicy {
    fn default() -> Self {
        Self {
            after: 2,
            of: 2,
            recover_after: 2,
            severity: Severity::Warning,
            verdicts: vec![Verdict::Failed],
            depends_on: Vec::new(),
            remind: None,
            runbook: None,
        }
    }
}

/// Severity of an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// For information only.
    Info,
    /// Needs attention during working hours.
    #[default]
    Warning,
    /// Needs immediate attention.
    Critical,
}

impl Severity {
    /// All severities in ascending order.
    pub const ALL: [Self; 3] = [Self::Info, Self::Warning, Self::Critical];

    /// Returns the external name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// Returns the severity with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|severity| severity.as_str() == name)
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
