//! What becomes of incidents, for those who keep a record of them.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::Incident;

/// What happened to an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transition {
    /// It opened.
    Opened,
    /// It is open, but louder or quieter, or for another reason or at another step than before.
    Updated,
    /// Somebody works on it.
    Acknowledged,
    /// Nobody works on it any longer.
    Unacknowledged,
    /// It resolved.
    Resolved,
}

impl Transition {
    /// The name others see.
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

/// A change of an incident, recorded regardless of notifications.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Its number among all outcomes and changes of the agent.
    pub seq: u64,
    /// What happened.
    pub transition: Transition,
    /// When it happened.
    pub at: DateTime<Utc>,
    /// The incident as it was then.
    pub incident: Incident,
    /// What its failures have in common with others that one thing broke, as text: equal for equal causes.
    pub cause: String,
    /// The causes that no open incident has any longer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ended_causes: Vec<String>,
}

impl Change {
    /// Roughly how many bytes it takes in memory.
    pub fn approximate_bytes(&self) -> usize {
        let incident = &self.incident;
        let tags: usize = incident.tags.iter().map(|(key, value)| key.len() + value.len() + 64).sum();
        size_of::<Self>() + tags + incident.message.as_ref().map_or(0, |message| message.len()) + 512
    }
}
