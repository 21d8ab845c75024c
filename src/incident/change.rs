//! Changes of incidents, recorded for sinks.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::Incident;

/// Type of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transition {
    /// The incident opened.
    Opened,
    /// The incident is still open, but its severity, reason or step changed.
    Updated,
    /// A person acknowledged the incident.
    Acknowledged,
    /// The acknowledgement was withdrawn or expired.
    Unacknowledged,
    /// The incident resolved.
    Resolved,
}

impl Transition {
    /// Returns the name used in the API and in exports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Updated => "updated",
            Self::Acknowledged => "acknowledged",
            Self::Unacknowledged => "unacknowledged",
            Self::Resolved => "resolved",
        }
    }
}

/// Change of an incident, recorded regardless of notifications.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Number of the change among all outcomes and changes of the agent.
    pub seq: u64,
    /// Type of the change.
    pub transition: Transition,
    /// Time of the change.
    pub at: DateTime<Utc>,
    /// Incident after the change.
    pub incident: Incident,
    /// Failure fingerprint as text: equal for incidents with the same cause.
    pub cause: String,
    /// Failure fingerprints that no open incident has any longer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ended_causes: Vec<String>,
}

impl Change {
    /// Returns the approximate size in memory, in bytes.
    pub fn approximate_bytes(&self) -> usize {
        let incident = &self.incident;
        let tags: usize = incident.tags.iter().map(|(key, value)| key.len() + value.len() + 64).sum();
        size_of::<Self>() + tags + incident.message.as_ref().map_or(0, |message| message.len()) + 512
    }
}
