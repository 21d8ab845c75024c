//! The limit stage, the last one of the pipeline: a maximum number of notifications per receiver and hour, followed by
//! one digest of the suppressed ones. Pure.
//!
//! All notifications except `resolved` are counted. One passes if fewer than the maximum number of equal or higher
//! severity were sent within the hour before, so a notification more severe than all of these always passes. `resolved`
//! passes if the receiver was notified before; an incident that was suppressed and has resolved since appears only in
//! the digest. The digest is sent as soon as the limit permits it, and counts as a notification itself. It has the
//! dedup key of the most severe open incident, so that the resolution of this incident closes it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::alert::effects::Effects;
use crate::alert::timers::{Timer, Timers};
use crate::incident::{DecisionReason, Event, Incident, Notification, RelatedIncident};
use crate::names::suppressed;
use crate::notify::Alerting;
use crate::scenario::Severity;

/// Prefix of the store keys of rate limit windows; the name of the receiver follows.
pub const BUDGET: &str = "limit/";
/// Prefix of the store keys of suppressed notifications; receiver and dedup key follow, as JSON.
pub const HELD: &str = "limited/";

const HOUR: TimeDelta = TimeDelta::hours(1);
/// Maximum number of incidents in a digest besides the one that represents it.
const OTHERS: usize = 50;

/// Recent and suppressed notifications of all receivers.
#[derive(Debug, Default)]
pub struct RateLimiter {
    /// Maximum number of notifications per hour, for receivers with a limit.
    per_hour: HashMap<String, u32>,
    budgets: HashMap<String, ReceiverWindow>,
    held: BTreeMap<String, BTreeMap<String, RateLimitedNotification>>,
    /// Entries changed since the last write: windows by receiver, suppressed notifications by receiver and dedup key.
    touched: BTreeSet<(String, Option<String>)>,
}

/// Recent notifications of one receiver.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct ReceiverWindow {
    /// Notifications of the last hour, oldest first: time and severity.
    pages: VecDeque<(DateTime<Utc>, Severity)>,
    /// Number of digests sent so far, a part of their ids.
    digests: u64,
}

/// Suppressed notification of a group to one receiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct RateLimitedNotification {
    /// Incident that represents the group, as of the last event.
    incident: Incident,
    /// Number of other incidents in the group.
    others: usize,
    /// Whether the receiver was notified of the group before.
    #[serde(rename = "told")]
    notified: bool,
    since: DateTime<Utc>,
}

impl ReceiverWindow {
    /// Returns the time from which the limit permits a notification of this severity, or `None` if it permits one now.
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

impl Timers for RateLimiter {
    fn timers(&mut self, visit: &mut dyn FnMut(Timer<'_>)) {
        let pages = self.budgets.values_mut().flat_map(|budget| &mut budget.pages);
        pages.for_each(|(at, _)| visit(Timer::Since(at)));
        let held = self.held.values_mut().flat_map(BTreeMap::values_mut);
        held.for_each(|kept| visit(Timer::Since(&mut kept.since)));
    }
}

impl RateLimiter {
    /// Sets the limits of the receivers from a new configuration.
    pub fn set_alerting(&mut self, alerting: &Alerting) {
        let limit = |receiver: &crate::notify::Receiver| Some((receiver.name.clone(), receiver.limit?));
        self.per_hour = alerting.receivers.iter().filter_map(limit).collect();
    }

    /// Restores a window or a suppressed notification from the store. Other keys are ignored.
    pub fn restore(&mut self, key: &str, body: Json) -> Result<(), serde_json::Error> {
        if let Some(receiver) = key.strip_prefix(BUDGET) {
            self.budgets.insert(receiver.to_owned(), serde_json::from_value(body)?);
        } else if let Some(held) = key.strip_prefix(HELD) {
            let (receiver, key): (String, String) = serde_json::from_str(held)?;
            self.held.entry(receiver).or_default().insert(key, serde_json::from_value(body)?);
        }
        Ok(())
    }

    /// Moves the window and the suppressed notifications of a receiver to its new name.
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

    /// Adds the notification to the effects, or suppresses it if the limit is exhausted.
    pub fn pass(&mut self, mut notification: Notification, now: DateTime<Utc>, effects: &mut Effects) {
        let receiver = notification.receiver.clone();
        let Some(&limit) = self.per_hour.get(&receiver) else { return effects.notifications.push(notification) };
        let kept = self.held.get(&receiver).and_then(|held| held.get(&notification.key)).cloned();
        let budget = self.budgets.entry(receiver.clone()).or_default();
        let severity = notification.incident.severity;
        if notification.event == Event::Resolved {
            match kept {
                Some(kept) if !kept.notified => {
                    let detail = format!("resolved before {receiver} was notified; included in its digest");
                    effects.suppress(suppressed::RATE_LIMITED, 1);
                    effects.decide(&notification.incident.subject, DecisionReason::RateLimited, detail, now);
                    self.hold(
                        &receiver,
                        notification.key,
                        RateLimitedNotification { incident: notification.incident, ..kept },
                    );
                }
                _ => {
                    self.forget(&receiver, &notification.key);
                    effects.notifications.push(notification);
                }
            }
            return;
        }
        if let Some(at) = budget.room_at(limit, severity, now) {
            effects.suppress(suppressed::RATE_LIMITED, 1);
            let (event, at) = (notification.event.as_str(), at.format("%T"));
            let detail = format!(
                "{event}: {receiver} reached its limit of {limit} notifications per hour; included in its digest at {at}"
            );
            effects.decide(&notification.incident.subject, DecisionReason::RateLimited, detail, now);
            let notified = kept.as_ref().map_or(notification.event != Event::Opened, |kept| kept.notified);
            let since = kept.map_or(now, |kept| kept.since);
            let others = notification.others.len() + notification.uncounted;
            self.hold(
                &receiver,
                notification.key,
                RateLimitedNotification { incident: notification.incident, others, notified, since },
            );
            return;
        }
        budget.page(severity, now);
        self.touched.insert((receiver.clone(), None));
        self.forget(&receiver, &notification.key);
        if kept.is_some_and(|kept| !kept.notified) {
            // The first notification to a receiver has to be an opening.
            notification.event = Event::Opened;
        }
        effects.notifications.push(notification);
    }

    fn hold(&mut self, receiver: &str, key: String, kept: RateLimitedNotification) {
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

    /// Returns the due time of the digest for a receiver with suppressed notifications.
    fn due(&self, receiver: &str, held: &BTreeMap<String, RateLimitedNotification>) -> Option<DateTime<Utc>> {
        let speaker = held.values().max_by_key(|kept| (kept.incident.is_open(), kept.incident.severity))?;
        let since = held.values().map(|kept| kept.since).max()?;
        let room = |limit: &u32| self.budgets.get(receiver)?.room_at(*limit, speaker.incident.severity, since);
        Some(self.per_hour.get(receiver).and_then(room).unwrap_or(since))
    }

    /// Returns the due time of the next digest.
    pub fn next(&self) -> Option<DateTime<Utc>> {
        self.held.iter().filter_map(|(receiver, held)| self.due(receiver, held)).min()
    }

    /// Adds the digests that are due to the effects.
    pub fn tick(&mut self, now: DateTime<Utc>, effects: &mut Effects) {
        let is_due = |(receiver, held): (&String, &BTreeMap<String, RateLimitedNotification>)| {
            self.due(receiver, held).is_some_and(|due| due <= now).then(|| receiver.clone())
        };
        let due: Vec<String> = self.held.iter().filter_map(is_due).collect();
        for receiver in due {
            let held = self.held.remove(&receiver).unwrap_or_default();
            self.touched.extend(held.keys().map(|key| (receiver.clone(), Some(key.clone()))));
            self.touched.insert((receiver.clone(), None));
            let budget = self.budgets.entry(receiver.clone()).or_default();
            budget.digests += 1;
            let notification = digest(&receiver, held, budget.digests, now, effects);
            if let Some(notification) = notification {
                budget.page(notification.incident.severity, now);
                effects.notifications.push(notification);
            }
        }
    }

    /// Marks all windows and suppressed notifications as changed.
    pub fn touch_all(&mut self) {
        self.touched.extend(self.budgets.keys().map(|receiver| (receiver.clone(), None)));
        let held = self.held.iter().flat_map(|(receiver, held)| held.keys().map(move |key| (receiver, key)));
        self.touched.extend(held.map(|(receiver, key)| (receiver.clone(), Some(key.clone()))));
    }

    /// Returns the entries changed since the last call, to be written to the store. `None` stands for an entry to
    /// delete.
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

/// Creates the digest of suppressed notifications.
fn digest(
    receiver: &str,
    held: BTreeMap<String, RateLimitedNotification>,
    number: u64,
    now: DateTime<Utc>,
    effects: &mut Effects,
) -> Option<Notification> {
    let mut held: Vec<(String, RateLimitedNotification)> = held.into_iter().collect();
    held.sort_by_key(|(_, kept)| {
        (!kept.incident.is_open(), std::cmp::Reverse(kept.incident.severity), kept.since, kept.incident.opened_at)
    });
    let (key, speaker) = held.first()?;
    let over = held.iter().filter(|(_, kept)| !kept.incident.is_open()).count();
    let what = if held.len() == 1 { "notification" } else { "notifications" };
    let also = if over > 0 { format!(", {over} of them resolved") } else { String::new() };
    let others: Vec<RelatedIncident> =
        held.iter().skip(1).take(OTHERS).map(|(_, kept)| RelatedIncident::of(&kept.incident)).collect();
    let not_listed = held.len() - 1 - others.len();
    let notification = Notification {
        id: format!("{key}#digest{number}@{receiver}"),
        key: key.clone(),
        uncounted: not_listed + held.iter().map(|(_, kept)| kept.others).sum::<usize>(),
        others,
        opens: held
            .iter()
            .filter(|(_, kept)| !kept.notified && kept.incident.is_open())
            .map(|(key, _)| key.clone())
            .collect(),
        note: Some(format!("{} {what} rate-limited in the last hour{also}", held.len())),
        ..Notification::new(&speaker.incident, Event::Digest, receiver, now)
    };
    for (_, kept) in &held {
        effects.decide(
            &kept.incident.subject,
            DecisionReason::Notified,
            format!("in the digest, as {key} for {receiver}"),
            now,
        );
    }
    Some(notification)
}
