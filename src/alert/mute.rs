//! Silences and maintenance: for a while nothing is told of what they match. Pure.
//!
//! Those of the agent's file come back by themselves; those that people ask for are kept until they end.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::policy::is_meant;
use crate::incident::{Incident, Why};
use crate::notify::{Alerting, Window};

/// What keys of mutes begin with, among all that alerting remembers.
pub const PREFIX: &str = crate::names::MUTES;

/// What a person or a deployment asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mute {
    /// Its id.
    pub id: String,
    /// Whether it is maintenance, and not a silence.
    pub maintenance: bool,
    /// Tags, or `severity`, `scenario`, `location`, `kind`: all must be equal. Empty: everything.
    #[serde(rename = "match")]
    pub matches: BTreeMap<String, String>,
    /// When it begins.
    pub from: DateTime<Utc>,
    /// When it ends.
    pub until: DateTime<Utc>,
    /// Who asked for it.
    pub author: String,
    /// Why.
    pub reason: String,
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
        if let Some(until) = window_end(window, now).filter(|_| is_meant(&window.matches, incident)) {
            let id = format!("maintenance {number} of the agent's file");
            let detail = format!("{id}, until {}", until.format("%F %T"));
            return Some(Muted { id, until, why: Why::Maintenance, detail });
        }
    }
    let active = |mute: &&Mute| mute.from <= now && now < mute.until && is_meant(&mute.matches, incident);
    let mute = mutes.values().filter(active).max_by_key(|mute| mute.until)?;
    let (why, what) = if mute.maintenance { (Why::Maintenance, "maintenance") } else { (Why::Silence, "silenced") };
    let detail = format!("{what} by {} until {}: {}", mute.author, mute.until.format("%F %T"), mute.reason);
    Some(Muted { id: mute.id.clone(), until: mute.until, why, detail })
}

/// When a window ends that is open now.
fn window_end(window: &Window, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let length = TimeDelta::from_std(window.length).ok()?;
    // The first beginning that is recent enough for the window to be open still.
    let mut begins = window.next_after(now.checked_sub_signed(length)?)?;
    if begins > now {
        return None;
    }
    // Where windows overlap, they are one.
    while let Some(again) = window.next_after(begins).filter(|again| *again <= now) {
        begins = again;
    }
    begins.checked_add_signed(length)
}
