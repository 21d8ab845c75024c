//! The last stage: at most so many pages an hour for one receiver, then one digest that says what was held. Pure.
//!
//! A page is every notice but an end. It passes while fewer than the limit of pages as loud or louder went out within
//! the hour before: so what is louder than what has used the hour up always passes. The end of what was told passes;
//! what was held and is over meanwhile is in the digest only. The digest comes as soon as there is room for it, and is a
//! page itself. It has the key of the loudest that is open, so that its end ends it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::effects::Effects;
use super::timers::{Timer, Timers};
use crate::incident::{Affected, Event, Incident, Notice, Why};
use crate::names::suppressed;
use crate::notify::Alerting;
use crate::scenario::Severity;

/// What keys of budgets begin with, among all that alerting remembers; the receiver follows.
pub const BUDGET: &str = "limit/";
/// What keys of held notices begin with; receiver and key follow, as JSON.
pub const HELD: &str = "limited/";

const HOUR: TimeDelta = TimeDelta::hours(1);
/// How many incidents a digest lists beside the one that speaks.
const OTHERS: usize = 50;

/// What all receivers were told lately, and what is held for them.
#[derive(Debug, Default)]
pub struct Limits {
    /// Pages an hour, of those who have a limit.
    per_hour: HashMap<String, u32>,
    budgets: HashMap<String, Budget>,
    held: BTreeMap<String, BTreeMap<String, Kept>>,
    /// What is no longer as it was written: budgets by receiver, held notices by receiver and key.
    touched: BTreeSet<(String, Option<String>)>,
}

/// What one receiver was told lately.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Budget {
    /// Its pages of the last hour, oldest first.
    pages: VecDeque<(DateTime<Utc>, Severity)>,
    /// How many digests it was told: a part of their ids.
    digests: u64,
}

/// What is held of one group for one receiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    /// The incident that speaks for the group, as it was last.
    incident: Incident,
    /// How many others are in it.
    others: usize,
    /// Whether the receiver had heard of the group before.
    told: bool,
    since: DateTime<Utc>,
}

impl Budget {
    /// When a page as loud as this has room; none: it has now.
    fn room_at(&self, limit: u32, severity: Severity, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let pages = self.pages.iter().filter(|(at, page)| *page >= severity && now - *at < HOUR);
        let ends: Vec<DateTime<Utc>> = pages.map(|(at, _)| *at + HOUR).collect();
        ends.get(ends.len().checked_sub(limit as usize)?).copied()
    }

    fn page(&mut self, severity: Severity, now: DateTime<Utc>) {
        while self.pages.front().is_some_and(|(at, _)| now - *at >= HOUR) {
            self.pages.pop_front();
        }
        self.pages.push_back((now, severity));
    }
}

impl Timers for Limits {
    fn timers(&mut self, visit: &mut dyn FnMut(Timer<'_>)) {
        let pages = self.budgets.values_mut().flat_map(|budget| &mut budget.pages);
        pages.for_each(|(at, _)| visit(Timer::Since(at)));
        let held = self.held.values_mut().flat_map(BTreeMap::values_mut);
        held.for_each(|kept| visit(Timer::Since(&mut kept.since)));
    }
}

impl Limits {
    /// These are told from now on.
    pub fn alerting(&mut self, alerting: &Alerting) {
        let limit = |receiver: &crate::notify::Receiver| Some((receiver.name.clone(), receiver.limit?));
        self.per_hour = alerting.receivers.iter().filter_map(limit).collect();
    }

    /// Takes back a budget or a held notice that was written; anything else is none of its business.
    pub fn restore(&mut self, key: &str, body: Json) -> Result<(), serde_json::Error> {
        if let Some(receiver) = key.strip_prefix(BUDGET) {
            self.budgets.insert(receiver.to_owned(), serde_json::from_value(body)?);
        } else if let Some(held) = key.strip_prefix(HELD) {
            let (receiver, key): (String, String) = serde_json::from_str(held)?;
            self.held.entry(receiver).or_default().insert(key, serde_json::from_value(body)?);
        }
        Ok(())
    }

    /// A receiver is called otherwise: what it had and what waits for it goes with it.
    pub fn rename_receiver(&mut self, old: &str, new: &str) {
        if let Some(budget) = self.budgets.remove(old) {
            self.touched.extend([(old.to_owned(), None), (new.to_owned(), None)]);
            self.budgets.insert(new.to_owned(), budget);
        }
        for (key, kept) in self.held.remove(old).unwrap_or_default() {
            self.touched.insert((old.to_owned(), Some(key.clone())));
            self.hold(new, key, kept);
        }
    }

    /// A notice is owed: it passes, or is held.
    pub fn pass(&mut self, mut notice: Notice, now: DateTime<Utc>, effects: &mut Effects) {
        let receiver = notice.receiver.clone();
        let Some(&limit) = self.per_hour.get(&receiver) else { return effects.notices.push(notice) };
        let kept = self.held.get(&receiver).and_then(|held| held.get(&notice.key)).cloned();
        let budget = self.budgets.entry(receiver.clone()).or_default();
        let severity = notice.incident.severity;
        if notice.event == Event::Resolved {
            match kept {
                Some(kept) if !kept.told => {
                    let detail = format!("over before {receiver} was told of it; its digest says so");
                    effects.suppress(suppressed::LIMIT, 1);
                    effects.decide(&notice.incident.subject, Why::Limited, detail, now);
                    self.hold(&receiver, notice.key, Kept { incident: notice.incident, ..kept });
                }
                _ => {
                    self.forget(&receiver, &notice.key);
                    effects.notices.push(notice);
                }
            }
            return;
        }
        if let Some(at) = budget.room_at(limit, severity, now) {
            effects.suppress(suppressed::LIMIT, 1);
            let (event, at) = (notice.event.as_str(), at.format("%T"));
            let detail = format!("{event}: {receiver} had {limit} pages within an hour; in its digest at {at}");
            effects.decide(&notice.incident.subject, Why::Limited, detail, now);
            let told = kept.as_ref().map_or(notice.event != Event::Opened, |kept| kept.told);
            let since = kept.map_or(now, |kept| kept.since);
            let others = notice.others.len() + notice.uncounted;
            self.hold(&receiver, notice.key, Kept { incident: notice.incident, others, told, since });
            return;
        }
        budget.page(severity, now);
        self.touched.insert((receiver.clone(), None));
        self.forget(&receiver, &notice.key);
        if kept.is_some_and(|kept| !kept.told) {
            // What it hears first is an opening.
            notice.event = Event::Opened;
        }
        effects.notices.push(notice);
    }

    fn hold(&mut self, receiver: &str, key: String, kept: Kept) {
        self.touched.insert((receiver.to_owned(), Some(key.clone())));
        self.held.entry(receiver.to_owned()).or_default().insert(key, kept);
    }

    fn forget(&mut self, receiver: &str, key: &str) {
        let Some(held) = self.held.get_mut(receiver) else { return };
        if held.remove(key).is_some() {
            self.touched.insert((receiver.to_owned(), Some(key.to_owned())));
        }
        if held.is_empty() {
            self.held.remove(receiver);
        }
    }

    /// When the digest of a receiver, for which something is held, is due.
    fn due(&self, receiver: &str, held: &BTreeMap<String, Kept>) -> Option<DateTime<Utc>> {
        let speaker = held.values().max_by_key(|kept| (kept.incident.is_open(), kept.incident.severity))?;
        let since = held.values().map(|kept| kept.since).max()?;
        let room = |limit: &u32| self.budgets.get(receiver)?.room_at(*limit, speaker.incident.severity, since);
        Some(self.per_hour.get(receiver).and_then(room).unwrap_or(since))
    }

    /// When a digest is due next.
    pub fn next(&self) -> Option<DateTime<Utc>> {
        self.held.iter().filter_map(|(receiver, held)| self.due(receiver, held)).min()
    }

    /// Tells the digests that are due by now.
    pub fn tick(&mut self, now: DateTime<Utc>, effects: &mut Effects) {
        let is_due = |(receiver, held): (&String, &BTreeMap<String, Kept>)| {
            self.due(receiver, held).is_some_and(|due| due <= now).then(|| receiver.clone())
        };
        let due: Vec<String> = self.held.iter().filter_map(is_due).collect();
        for receiver in due {
            let held = self.held.remove(&receiver).unwrap_or_default();
            self.touched.extend(held.keys().map(|key| (receiver.clone(), Some(key.clone()))));
            self.touched.insert((receiver.clone(), None));
            let budget = self.budgets.entry(receiver.clone()).or_default();
            budget.digests += 1;
            let notice = digest(&receiver, held, budget.digests, now, effects);
            if let Some(notice) = notice {
                budget.page(notice.incident.severity, now);
                effects.notices.push(notice);
            }
        }
    }

    /// Marks all budgets and held notices as changed.
    pub fn touch_all(&mut self) {
        self.touched.extend(self.budgets.keys().map(|receiver| (receiver.clone(), None)));
        let held = self.held.iter().flat_map(|(receiver, held)| held.keys().map(move |key| (receiver, key)));
        self.touched.extend(held.map(|(receiver, key)| (receiver.clone(), Some(key.clone()))));
    }

    /// What changed since this was last asked, to be written; none: to be forgotten.
    pub fn take_touched(&mut self) -> Vec<(String, Option<Json>)> {
        let json = |body: Option<serde_json::Result<Json>>| body.map(|body| body.expect("plain data becomes JSON"));
        let touched = std::mem::take(&mut self.touched).into_iter();
        touched
            .map(|(receiver, key)| match key {
                None => (format!("{BUDGET}{receiver}"), json(self.budgets.get(&receiver).map(serde_json::to_value))),
                Some(key) => {
                    let kept = self.held.get(&receiver).and_then(|held| held.get(&key)).map(serde_json::to_value);
                    let place = serde_json::to_string(&(receiver, key)).expect("plain data becomes JSON");
                    (format!("{HELD}{place}"), json(kept))
                }
            })
            .collect()
    }
}

/// The notice that says what was held.
fn digest(
    receiver: &str,
    held: BTreeMap<String, Kept>,
    number: u64,
    now: DateTime<Utc>,
    effects: &mut Effects,
) -> Option<Notice> {
    let mut held: Vec<(String, Kept)> = held.into_iter().collect();
    held.sort_by_key(|(_, kept)| {
        (!kept.incident.is_open(), std::cmp::Reverse(kept.incident.severity), kept.since, kept.incident.opened_at)
    });
    let (key, speaker) = held.first()?;
    let over = held.iter().filter(|(_, kept)| !kept.incident.is_open()).count();
    let also = if over > 0 { format!(", {over} of them over") } else { String::new() };
    let others: Vec<Affected> =
        held.iter().skip(1).take(OTHERS).map(|(_, kept)| Affected::of(&kept.incident)).collect();
    let not_listed = held.len() - 1 - others.len();
    let notice = Notice {
        id: format!("{key}#digest{number}@{receiver}"),
        key: key.clone(),
        uncounted: not_listed + held.iter().map(|(_, kept)| kept.others).sum::<usize>(),
        others,
        opens: held
            .iter()
            .filter(|(_, kept)| !kept.told && kept.incident.is_open())
            .map(|(key, _)| key.clone())
            .collect(),
        note: Some(format!("{} held back within the hour{also}", held.len())),
        ..Notice::new(&speaker.incident, Event::Digest, receiver, now)
    };
    for (_, kept) in &held {
        effects.decide(&kept.incident.subject, Why::Told, format!("in the digest, as {key} for {receiver}"), now);
    }
    Some(notice)
}
