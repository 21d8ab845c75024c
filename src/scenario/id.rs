//! Id of a scenario.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Stable id of a scenario: `[a-z0-9-]`, 1 to 64 characters. The schedule phase, history, incidents and Zabbix keys are
/// derived from it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ScenarioId(pub Arc<str>);

impl ScenarioId {
    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for ScenarioId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ScenarioId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for ScenarioId {
    fn from(id: &str) -> Self {
        Self(id.into())
    }
}

/// Maximum length of an id, in characters.
pub const LONGEST_ID: usize = 64;

/// Returns the problem of an id, if there is one.
pub fn bad_id(id: &str) -> Option<&'static str> {
    match id {
        "" => Some("it is empty"),
        _ if id.len() > LONGEST_ID => Some("it is longer than 64 characters"),
        _ if !id.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-') => {
            Some("allowed are only a-z, 0-9 and -")
        }
        _ => None,
    }
}
