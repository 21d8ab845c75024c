//! Verdicts of a run. They are declared here and not with the outcome because `alert.verdicts` uses their names.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Verdict of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// All expectations held.
    Passed,
    /// The target works, but a soft limit was violated or the cleanup failed.
    Degraded,
    /// The target failed.
    Failed,
    /// An agent fault: the state of the target could not be determined.
    Unknown,
}

impl Verdict {
    /// All verdicts; the position of a verdict is its code for Zabbix.
    pub const ALL: [Self; 4] = [Self::Passed, Self::Degraded, Self::Failed, Self::Unknown];

    /// Returns the external name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Degraded => "degraded",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }

    /// Returns the code for Zabbix: 0 passed, 1 degraded, 2 failed, 3 unknown.
    pub fn code(self) -> u8 {
        match self {
            Self::Passed => 0,
            Self::Degraded => 1,
            Self::Failed => 2,
            Self::Unknown => 3,
        }
    }

    /// Returns whether the run has tested the target.
    pub fn is_conclusive(self) -> bool {
        self != Self::Unknown
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
