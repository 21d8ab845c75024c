//! Due times.
use super::{ScenarioId, Schedule};
use chrono::{DateTime, Utc};
impl Schedule {
    /// Stands in.
    pub fn next_after(&self, _id: &ScenarioId, _after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        None
    }
}
