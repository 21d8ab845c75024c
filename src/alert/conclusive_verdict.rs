//! Conclusive verdicts: those that say something about the target. Pure.

use serde::{Deserialize, Serialize};

use crate::outcome::Verdict;
use crate::scenario::AlertPolicy;

/// Conclusive verdict: a verdict without `unknown`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConclusiveVerdict {
    /// All expectations were met.
    Passed,
    /// The target works, but not within its soft limits.
    Degraded,
    /// The target does not work.
    Failed,
}

impl ConclusiveVerdict {
    /// Converts a verdict. Returns `None` for `unknown`. Whether the run is bad is not stored, because it depends on
    /// the alert policy, which a reload may change.
    pub fn of(verdict: Verdict) -> Option<Self> {
        match verdict {
            Verdict::Passed => Some(Self::Passed),
            Verdict::Degraded => Some(Self::Degraded),
            Verdict::Failed => Some(Self::Failed),
            Verdict::Unknown => None,
        }
    }

    /// Returns whether the run is bad according to an alert policy.
    pub fn is_bad(self, policy: &AlertPolicy) -> bool {
        let verdict = match self {
            Self::Passed => return false,
            Self::Degraded => Verdict::Degraded,
            Self::Failed => Verdict::Failed,
        };
        policy.verdicts.contains(&verdict)
    }
}
