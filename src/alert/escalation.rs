//! Escalation steps. Pure.

use serde::{Deserialize, Serialize};

/// Escalation step: further receivers to notify while a group is not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Escalation {
    /// Seconds after the first notification.
    pub after: u64,
    /// Names of the receivers.
    pub to: Vec<String>,
}
