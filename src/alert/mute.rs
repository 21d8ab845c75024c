//! Silences and maintenance windows: no notifications of matching incidents for a limited time. Pure.
//!
//! Maintenance windows of the agent configuration recur; mutes requested by operators are stored until they end.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::timers::{Timer, Timers};
use crate::incident::{DecisionReason, Incident, Matchers};
use crate::notify::{Alerting, During};

/// Prefix of the store keys of mutes.
pub const PREFIX: &str = crate::names::MUTES;

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

impl Timers for Mute {
    fn timers(&mut self, visit: &mut dyn FnMut(Timer<'_>)) {
        // The start may lie in the future.
        visit(Timer::Due(&mut self.from));
        visit(Timer::Due(&mut self.until));
    }
}

fn confirmed() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_confirmed(confirmed: &bool) -> bool {
    *confirmed
}

/// Mute that is active for an incident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Muted {
    /// Id of the mute, or the position of the maintenance window in the agent configuration.
    pub id: String,
    /// End of the mute.
    pub until: DateTime<Utc>,
    /// Reason of the decision: maintenance or silence.
    pub why: DecisionReason,
    /// Text for people: `silenced by ania until 2027-01-15 09:00:00: known`.
    pub detail: String,
}

/// Returns the mute that is active for an incident, if any: maintenance windows of the configuration first, then mutes
/// by operators.
pub fn muted(
    alerting: &Alerting,
    mutes: &BTreeMap<String, Mute>,
    incident: &Incident,
    now: DateTime<Utc>,
) -> Option<Muted> {
    for (number, window) in (1..).zip(&alerting.maintenance) {
        if let Some(until) = window.open_until(now).filter(|_| window.matches.fits(incident)) {
            let id = format!("maintenance window {number} of the agent configuration");
            let detail = format!("{id}, until {}", until.format("%F %T"));
            return Some(Muted { id, until, why: DecisionReason::Maintenance, detail });
        }
    }
    let active = mutes.values().filter(|mute| mute.matches.fits(incident));
    let (until, mute) =
        active.filter_map(|mute| Some((mute.active_until(now)?, mute))).max_by_key(|(until, _)| *until)?;
    let (why, what) = if mute.maintenance {
        (DecisionReason::Maintenance, "maintenance")
    } else {
        (DecisionReason::Silence, "silenced")
    };
    let detail = format!("{what} by {} until {}: {}", mute.author, until.format("%F %T"), mute.reason);
    Some(Muted { id: mute.id.clone(), until, why, detail })
}
