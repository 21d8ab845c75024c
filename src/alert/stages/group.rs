//! The group stage: assigns incidents to notification groups, and creates their notifications when they are due. Pure.
//!
//! No operation takes time proportional to the number of groups, except restoring them.

mod notification_group;

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::mute::Muted;
use crate::alert::effects::Effects;
use crate::alert::fingerprint::FailureFingerprint;
use crate::alert::receiver_names::rename_in;
use crate::alert::routing::RouteMatch;
use crate::alert::timers::{Timer, Timers};
use crate::incident::{Acknowledgement, Incident, Subject};
use crate::notify::Causes;

use notification_group::Group;

pub use notification_group::Join;

/// Prefix of the store keys of groups.
pub const PREFIX: &str = "group/";

/// All open notification groups.
#[derive(Debug, Default)]
pub struct Groups {
    all: HashMap<String, Group>,
    /// Group of each incident that is open and not suppressed.
    of: HashMap<Subject, String>,
    /// Groups of each place.
    places: HashMap<String, BTreeSet<String>>,
    /// Due times of groups.
    next: BTreeSet<(DateTime<Utc>, String)>,
    /// Quick hash of the last failure of each incident that had no news. Not stored: without it, the fingerprint is
    /// computed.
    prints: HashMap<Subject, u64>,
    /// Groups that changed since the last write.
    touched: BTreeSet<String>,
}

/// Id of a group: receivers, `group_by` values, and failure fingerprint.
#[derive(Debug, Serialize)]
struct Id<'a> {
    to: &'a [String],
    by: &'a [String],
    cause: &'a str,
}

/// Returns the id of a group or place after one of its receivers was renamed, or `None` if it does not contain the
/// receiver.
fn renamed_id(id: &str, old: &str, new: &str) -> Option<String> {
    let mut parts: RenamedId =
        serde_json::from_str(id).ok().filter(|parts: &RenamedId| parts.to.iter().any(|name| name == old))?;
    rename_in(&mut parts.to, old, new);
    Some(serde_json::to_string(&parts).expect("plain data becomes JSON"))
}

/// An [`Id`] read from its stored form, with the keys in the same order.
#[derive(Debug, Serialize, Deserialize)]
struct RenamedId {
    to: Vec<String>,
    by: Vec<String>,
    cause: String,
}

/// Returns the id of the group that an incident belongs to.
fn id(routed: &RouteMatch, cause: &FailureFingerprint) -> String {
    let cause = if routed.causes == Causes::Together { "" } else { &cause.key };
    let id = Id { to: &routed.receivers, by: &routed.by, cause };
    serde_json::to_string(&id).expect("plain data becomes JSON")
}

/// Number of open incidents at one place that form a wide group, and the maximum time between the first and the last of
/// their openings.
const WIDE: [(usize, TimeDelta); 2] = [(3, TimeDelta::minutes(5)), (4, TimeDelta::hours(1))];

/// Returns the place that an incident shares with others which may be grouped regardless of their failures: the
/// receivers, the values of `group_by`, and the host, otherwise the tag `service`.
fn place(routed: &RouteMatch, cause: &FailureFingerprint, incident: &Incident) -> Option<String> {
    if routed.causes != Causes::Widening {
        return None;
    }
    let host = cause.host.as_ref().map(|host| format!("host {host}"));
    let place = host.or_else(|| Some(format!("service {}", incident.tags.get("service")?)))?;
    let id = Id { to: &routed.receivers, by: &routed.by, cause: &place };
    Some(serde_json::to_string(&id).expect("plain data becomes JSON"))
}

/// Returns whether incidents with these opening times are enough to be grouped regardless of their failures.
fn is_wide(mut opened: Vec<DateTime<Utc>>) -> bool {
    opened.sort_unstable();
    WIDE.iter().any(|(count, within)| opened.windows(*count).any(|some| some[count - 1] - some[0] <= *within))
}

impl Timers for Groups {
    fn timers(&mut self, visit: &mut dyn FnMut(Timer<'_>)) {
        self.all.values_mut().for_each(|group| group.timers(visit));
    }
}

impl Groups {
    /// Updates the due times after the timers of the groups were moved by a change of the clock. Mutes are evaluated
    /// again.
    pub fn timers_moved(&mut self) {
        self.next.clear();
        for (id, group) in &mut self.all {
            group.unmute();
            self.next.extend(group.next().map(|at| (at, id.clone())));
        }
    }

    /// Restores a group from the store.
    pub fn restore(&mut self, id: &str, body: Json) -> Result<(), serde_json::Error> {
        let group: Group = serde_json::from_value(body)?;
        for subject in group.open_members() {
            self.of.insert(subject.clone(), id.to_owned());
        }
        self.next.extend(group.next().map(|at| (at, id.to_owned())));
        if let Some(place) = group.place() {
            self.places.entry(place.clone()).or_default().insert(id.to_owned());
        }
        self.all.insert(id.to_owned(), group);
        Ok(())
    }

    /// Adopts an incident whose receivers were notified and whose own group was lost, in a new group.
    pub fn adopt(&mut self, incident: &Incident, now: DateTime<Utc>) {
        let cause = FailureFingerprint::of_incident(incident);
        let id = Id { to: &incident.receivers, by: &[], cause: &incident.dedup_key() };
        let id = serde_json::to_string(&id).expect("plain data becomes JSON");
        self.of.insert(incident.subject.clone(), id.clone());
        self.all.insert(id.clone(), Group::adopted(incident, cause, now));
        self.touched.insert(id);
    }

    /// Returns the group of an incident.
    pub fn of(&self, subject: &Subject) -> Option<&Group> {
        self.all.get(self.of.get(subject)?)
    }

    /// Changes a group and updates its due time.
    fn change<T>(&mut self, id: &str, change: impl FnOnce(&mut Group) -> T) -> Option<T> {
        let group = self.all.get_mut(id)?;
        let before = group.next();
        let changed = change(group);
        let after = group.next();
        if before != after {
            if let Some(at) = before {
                self.next.remove(&(at, id.to_owned()));
            }
            self.next.extend(after.map(|at| (at, id.to_owned())));
        }
        if !self.touched.contains(id) {
            self.touched.insert(id.to_owned());
        }
        Some(changed)
    }

    /// Changes the group of an incident.
    fn change_of<T>(&mut self, subject: &Subject, change: impl FnOnce(&mut Group) -> T) -> Option<T> {
        let id = self.of.get(subject)?.clone();
        self.change(&id, change)
    }

    /// Adds an incident that opened and is not suppressed.
    pub fn open(
        &mut self,
        incident: &Incident,
        routed: &RouteMatch,
        join: Join,
        now: DateTime<Utc>,
        effects: &mut Effects,
    ) {
        let place = place(routed, &join.cause, incident);
        let own = id(routed, &join.cause);
        let id = match &place {
            Some(place) => self.in_place(place, own, join.opened_at, now),
            None => own,
        };
        let is_wide = routed.causes == Causes::Together;
        if !self.all.contains_key(&id) {
            self.all.insert(id.clone(), Group::new(incident, place.clone(), is_wide));
            if let Some(place) = place {
                self.places.entry(place).or_default().insert(id.clone());
            }
        }
        self.of.insert(incident.subject.clone(), id.clone());
        self.prints.remove(&incident.subject);
        let joined = self.change(&id, |group| {
            group.join(incident, join, now, effects);
            group.acknowledged().cloned()
        });
        if let Some(who) = joined.flatten() {
            effects.acknowledged.push((incident.subject.clone(), Some(who)));
        }
    }

    /// Returns the group for an incident that opens at a place where other groups may exist: the wide group, if there
    /// is one or if this incident completes the number for one; otherwise the incident's own group.
    fn in_place(&mut self, place: &str, own: String, opened_at: DateTime<Utc>, now: DateTime<Utc>) -> String {
        let ids = self.places.get(place).cloned().unwrap_or_default();
        let groups = || ids.iter().filter_map(|id| Some((id, self.all.get(id)?)));
        if let Some((wide, _)) = groups().find(|(_, group)| group.is_wide()) {
            return wide.clone();
        }
        if !is_wide(groups().flat_map(|(_, group)| group.opened_at()).chain([opened_at]).collect()) {
            return own;
        }
        let Some(first) = groups().min_by_key(|(id, group)| (group.precedence(), *id)).map(|(id, _)| id.clone()) else {
            return own;
        };
        self.change(&first, Group::widen);
        for other in ids.iter().filter(|id| **id != first) {
            if !self.all.get(other).is_some_and(Group::is_gathering) {
                self.change(other, Group::hush);
                continue;
            }
            let Some(group) = self.remove(other) else { continue };
            for subject in group.open_members() {
                self.of.insert(subject.clone(), first.clone());
            }
            self.change(&first, |wide| wide.absorb(group, now));
        }
        first
    }

    /// Renames a receiver. Groups with this receiver get new ids, by which further incidents find them.
    pub fn rename_receiver(&mut self, old: &str, new: &str) {
        let ids: Vec<String> = self.all.keys().cloned().collect();
        for id in ids {
            if !self.change(&id, |group| group.rename_receiver(old, new)).unwrap_or_default() {
                continue;
            }
            let Some(renamed) = renamed_id(&id, old, new).filter(|renamed| !self.all.contains_key(renamed)) else {
                continue;
            };
            let Some(mut group) = self.remove(&id) else { continue };
            let place = group.place().map(|place| renamed_id(place, old, new).unwrap_or_else(|| place.clone()));
            if let Some(place) = &place {
                self.places.entry(place.clone()).or_default().insert(renamed.clone());
            }
            group.set_place(place);
            for group_id in self.of.values_mut().filter(|group_id| **group_id == id) {
                group_id.clone_from(&renamed);
            }
            self.next.extend(group.next().map(|at| (at, renamed.clone())));
            self.touched.insert(renamed.clone());
            self.all.insert(renamed, group);
        }
    }

    /// Removes a group.
    fn remove(&mut self, id: &str) -> Option<Group> {
        let group = self.all.remove(id)?;
        self.touched.insert(id.to_owned());
        if let Some(at) = group.next() {
            self.next.remove(&(at, id.to_owned()));
        }
        if let Some(place) = group.place()
            && let Some(ids) = self.places.get_mut(place)
        {
            ids.remove(id);
            if ids.is_empty() {
                self.places.remove(place);
            }
        }
        Some(group)
    }

    /// Handles the raised severity of an incident.
    pub fn raise(&mut self, incident: &Incident, routed: &RouteMatch, now: DateTime<Utc>) {
        self.change_of(&incident.subject, |group| group.raise(incident, &routed.receivers, routed.wait, now));
    }

    /// Returns whether a failure with this hash has no news.
    pub fn has_print(&self, subject: &Subject, print: u64) -> bool {
        self.prints.get(subject) == Some(&print)
    }

    /// Processes a bad run of an open incident, given by its failure fingerprint and hash.
    pub fn fail(
        &mut self,
        subject: &Subject,
        (cause, print): (FailureFingerprint, u64),
        needed: u32,
        now: DateTime<Utc>,
    ) {
        if self.of(subject).is_some_and(|group| group.is_settled(subject, &cause)) {
            self.prints.insert(subject.clone(), print);
        } else {
            self.prints.remove(subject);
            self.change_of(subject, |group| group.fail(subject, cause, needed, now));
        }
    }

    /// Adds a note about an open incident.
    pub fn add_note(&mut self, subject: &Subject, note: String, now: DateTime<Utc>) {
        self.change_of(subject, |group| group.add_note(note, now));
    }

    /// Returns the group that receivers have under a dedup key.
    pub fn with_key(&self, key: &str) -> Option<&Group> {
        self.all.values().find(|group| group.key() == key)
    }

    /// Replaces the acknowledgement of an incident's group, or removes it if `who` is `None`. Returns the open
    /// incidents of the group.
    pub fn acknowledge(
        &mut self,
        subject: &Subject,
        who: Option<Acknowledgement>,
        note: &str,
        now: DateTime<Utc>,
    ) -> Vec<Subject> {
        let members = self.change_of(subject, |group| {
            group.acknowledge(who, note.to_owned(), now);
            group.open_members().cloned().collect()
        });
        members.unwrap_or_default()
    }

    /// Ends the suppression by a mute in all groups.
    pub fn unmute(&mut self) {
        for id in self.all.keys().cloned().collect::<Vec<_>>() {
            self.change(&id, Group::unmute);
        }
    }

    /// Marks an incident as resolved; `last` is its last state. The resolution of a group is notified at once, so that
    /// it precedes all later events.
    pub fn resolve(&mut self, subject: &Subject, last: Option<&Incident>, now: DateTime<Utc>, effects: &mut Effects) {
        self.prints.remove(subject);
        let Some(id) = self.of.remove(subject) else { return };
        let over = self.change(&id, |group| {
            group.resolve_member(subject, last, now, effects);
            let over = group.is_over();
            if over {
                group.flush(now, |_| None, |_| None, effects);
            }
            over
        });
        if over == Some(true) {
            self.remove(&id);
        }
    }

    /// Returns the earliest due time.
    pub fn next(&self) -> Option<DateTime<Utc>> {
        self.next.first().map(|(at, _)| *at)
    }

    /// Creates the notifications that are due.
    pub fn tick<'a>(
        &mut self,
        now: DateTime<Utc>,
        find: impl Fn(&Subject) -> Option<&'a Incident>,
        muted: impl Fn(&Incident) -> Option<Muted>,
        effects: &mut Effects,
    ) {
        while let Some((_, id)) = self.next.first().filter(|(at, _)| *at <= now).cloned() {
            self.change(&id, |group| group.flush(now, &find, &muted, effects));
        }
    }

    /// Creates the notifications of groups in their group wait, because the time of the agent's next start is unknown.
    pub fn flush_pending<'a>(
        &mut self,
        now: DateTime<Utc>,
        find: impl Fn(&Subject) -> Option<&'a Incident>,
        muted: impl Fn(&Incident) -> Option<Muted>,
        effects: &mut Effects,
    ) {
        let waiting: Vec<_> = self.next.iter().map(|(_, id)| id.clone()).collect();
        for id in waiting {
            if self.all.get(&id).is_some_and(Group::is_gathering) {
                self.change(&id, |group| group.flush(now, &find, &muted, effects));
            }
        }
    }

    /// Marks all groups as changed.
    pub fn touch_all(&mut self) {
        self.touched.extend(self.all.keys().cloned());
    }

    /// Returns the groups changed since the last call, with `None` for each resolved one.
    pub fn take_touched(&mut self) -> Vec<(String, Option<Json>)> {
        let touched = std::mem::take(&mut self.touched).into_iter();
        touched
            .map(|id| {
                let body = self.all.get(&id);
                let body = body.map(|group| serde_json::to_value(group).expect("plain data becomes JSON"));
                (format!("{PREFIX}{id}"), body)
            })
            .collect()
    }
}
