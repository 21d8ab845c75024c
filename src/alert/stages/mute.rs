//! Silences and maintenance windows that are active for an incident. Pure.
//!
//! Maintenance windows of the agent configuration recur; mutes requested by operators are stored until they end.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::alert::timers::{Timer, Timers};
use crate::incident::{DecisionReason, Incident, Mute};
use crate::notify::Alerting;

/// Prefix of the store keys of mutes.
pub const PREFIX: &str = crate::names::MUTES;

impl Timers for Mute {
    fn timers(&mut self, visit: &mut dyn FnMut(Timer<'_>)) {
        // The start may lie in the future.
        visit(Timer::Due(&mut self.from));
        visit(Timer::Due(&mut self.until));
    }
}

/// Mute that is active for an incident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Muted {
    /// Id of the mute, or the position of the maintenance window in the agent configuration.
    pub id: String,
    /// End of the mute.
    pub until: DateTime<Utc>,
    /// Reason of the decision: maintenance or silence.
    pub reason: DecisionReason,
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
            return Some(Muted { id, until, reason: DecisionReason::Maintenance, detail });
        }
    }
    let active = mutes.values().filter(|mute| mute.matches.fits(incident));
    let (until, mute) =
        active.filter_map(|mute| Some((mute.active_until(now)?, mute))).max_by_key(|(until, _)| *until)?;
    let (reason, what) = if mute.maintenance {
        (DecisionReason::Maintenance, "maintenance")
    } else {
        (DecisionReason::Silence, "silenced")
    };
    let detail = format!("{what} by {} until {}: {}", mute.author, until.format("%F %T"), mute.reason);
    Some(Muted { id: mute.id.clone(), until, reason, detail })
}
