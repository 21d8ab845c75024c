//! How a run can end. Declared here, and not with the outcome that has it, because `alert.verdicts` names it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// All that was expected held.
    Passed,
    /// It works, but a soft limit was missed or cleaning up failed.
    Degraded,
    /// The target is at fault.
    Failed,
    /// We are at fault: nothing is known of the target.
    Unknown,
}

impl Verdict {
    /// Every verdict; the position is the code that Zabbix gets.
    pub const ALL: [Self; 4] = [Self::Passed, Self::Degraded, Self::Failed, Self::Unknown];

    /// The name others see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Degraded => "degraded",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }

    /// 0 passed, 1 degraded, 2 failed, 3 unknown.
    pub fn code(self) -> u8 {
        match self {
            Self::Passed => 0,
            Self::Degraded => 1,
            Self::Failed => 2,
            Self::Unknown => 3,
        }
    }

    /// Whether the target was tested at all.
    pub fn is_conclusive(self) -> bool {
        self != Self::Unknown
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
