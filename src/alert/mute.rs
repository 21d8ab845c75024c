//! Silences and maintenance: for a while nothing is told of what they match. Pure.
//!
//! Those of the agent's file come back by themselves; those that people ask for are kept until they end.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::incident::{Incident, Matchers, Why};
use crate::notify::Alerting;

/// What keys of mutes begin with, among all that alerting remembers.
pub const PREFIX: &str = crate::names::MUTES;

/// What a person or a deployment asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mute {
    /// Its id.
    pub id: String,
    /// Whether it is maintenance, and not a silence.
    pub maintenance: bool,
    /// What incidents it is meant for. Empty: everything.
    #[serde(rename = "match")]
    pub matches: Matchers,
    /// When it begins.
    pub from: DateTime<Utc>,
    /// When it ends.
    pub until: DateTime<Utc>,
    /// Who asked for it.
    pub author: String,
    /// Why.
    pub reason: String,
    /// Whether it is wanted also when nothing matches it now.
    #[serde(default = "confirmed", skip_serializing_if = "is_confirmed")]
    pub confirmed: bool,
}

fn confirmed() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_confirmed(confirmed: &bool) -> bool {
    *confirmed
}

/// What mutes an incident now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Muted {
    /// The id of the mute, or the place of the window in the agent's file.
    pub id: String,
    /// When it ends.
    pub until: DateTime<Utc>,
    /// Maintenance or silence.
    pub why: Why,
    /// For people: `silenced by ania until 2027-01-15 09:00:00: known`.
    pub detail: String,
}

/// What mutes an incident now, if anything does: maintenance first, then what people asked for.
pub fn muted(
    alerting: &Alerting,
    mutes: &BTreeMap<String, Mute>,
    incident: &Incident,
    now: DateTime<Utc>,
) -> Option<Muted> {
    for (number, window) in (1..).zip(&alerting.maintenance) {
        if let Some(until) = window.open_until(now).filter(|_| window.matches.fits(incident)) {
            let id = format!("maintenance {number} of the agent's file");
            let detail = format!("{id}, until {}", until.format("%F %T"));
            return Some(Muted { id, until, why: Why::Maintenance, detail });
        }
    }
    let active = |mute: &&Mute| mute.from <= now && now < mute.until && mute.matches.fits(incident);
    let mute = mutes.values().filter(active).max_by_key(|mute| mute.until)?;
    let (why, what) = if mute.maintenance { (Why::Maintenance, "maintenance") } else { (Why::Silence, "silenced") };
    let detail = format!("{what} by {} until {}: {}", mute.author, mute.until.format("%F %T"), mute.reason);
    Some(Muted { id: mute.id.clone(), until: mute.until, why, detail })
}
