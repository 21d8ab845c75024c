//! Silences and maintenance: for a while nothing is told of what they match. Pure.
//!
//! Those of the agent's file come back by themselves; those that people ask for are kept until they end.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::timers::{Timer, Timers};
use crate::incident::{Incident, Matchers, Why};
use crate::notify::{Alerting, During};

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
    /// The times within it that it is limited to; without them, all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub during: Option<During>,
    /// Who asked for it.
    pub author: String,
    /// Why.
    pub reason: String,
    /// Whether it is wanted also when nothing matches it now.
    #[serde(default = "confirmed", skip_serializing_if = "is_confirmed")]
    pub confirmed: bool,
}

impl Mute {
    /// When it ends, or pauses, if it holds now.
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
        // It may be meant for later.
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
    let active = mutes.values().filter(|mute| mute.matches.fits(incident));
    let (until, mute) =
        active.filter_map(|mute| Some((mute.active_until(now)?, mute))).max_by_key(|(until, _)| *until)?;
    let (why, what) = if mute.maintenance { (Why::Maintenance, "maintenance") } else { (Why::Silence, "silenced") };
    let detail = format!("{what} by {} until {}: {}", mute.author, until.format("%F %T"), mute.reason);
    Some(Muted { id: mute.id.clone(), until, why, detail })
}
