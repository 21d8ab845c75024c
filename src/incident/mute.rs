//! Silences and maintenance windows that operators request: no notifications of matching incidents for a limited time.
//! Pure.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::during::During;
use super::matching::Matchers;

/// Silence or maintenance window, requested by an operator or a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mute {
    /// Id of the mute.
    pub id: String,
    /// Whether this is a maintenance window and not a silence.
    pub maintenance: bool,
    /// Conditions on the incidents to suppress; all incidents if empty.
    #[serde(rename = "match")]
    pub matches: Matchers,
    /// Start of the mute.
    pub from: DateTime<Utc>,
    /// End of the mute.
    pub until: DateTime<Utc>,
    /// Times within the mute that it is limited to; absent if the mute is active the whole time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub during: Option<During>,
    /// Author of the mute.
    pub author: String,
    /// Reason given by the author.
    pub reason: String,
    /// Whether the mute is valid even if it matches nothing at present, as confirmed by its author.
    #[serde(default = "confirmed", skip_serializing_if = "is_confirmed")]
    pub confirmed: bool,
}

impl Mute {
    /// Returns the end of the current active period if the mute is active at `now`.
    pub fn active_until(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if now < self.from || self.until <= now {
            return None;
        }
        match &self.during {
            Some(during) => during.open_until(now).map(|end| end.min(self.until)),
            None => Some(self.until),
        }
    }
}

fn confirmed() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_confirmed(confirmed: &bool) -> bool {
    *confirmed
}
