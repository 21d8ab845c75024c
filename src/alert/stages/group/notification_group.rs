//! A notification group: incidents with one failure fingerprint, sent as one notification. Pure.
//!
//! A group collects incidents during its group wait and is notified once. Incidents that join later are collected into
//! updates, unless their severity is higher. The dedup key of a group is that of the incident it started with. No
//! incident is ever in two groups at once, so no two groups share a key, and a group of one incident has the key of
//! that incident. A group is resolved when all its incidents are.

mod flush;
mod membership;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::alert::escalation::Escalation;
use crate::alert::fingerprint::FailureFingerprint;
use crate::alert::receiver_names::rename_in;
use crate::alert::timers::{Timer, Timers};
use crate::incident::{Acknowledgement, Incident, RelatedIncident, Subject};
use crate::scenario::Severity;

/// Delay of the first update after the first notification, and minimum time between an update and the next one without
/// a higher severity.
const FIRST_GROUP_INTERVAL: TimeDelta = TimeDelta::seconds(30);
/// Group interval: time for which incidents that join later are collected.
const GROUP_INTERVAL: TimeDelta = TimeDelta::minutes(5);
/// Maximum group interval of a group for a whole host or service. Its interval is multiplied by four with every update,
/// because after an hour of updates the next one has no news.
const LONGEST_GROUP_INTERVAL: TimeDelta = TimeDelta::hours(1);
/// Maximum number of incidents in a notification besides the one that represents the group.
const OTHERS: usize = 50;
/// Maximum number of failure fingerprints of a group that are notified.
const CAUSES: usize = 8;
/// Maximum number of notes in an update.
const NOTES: usize = 5;

/// Group of incidents, from the first opening to the last resolution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Latest state of the incident that the dedup key belongs to.
    lead: Incident,
    /// Receivers of the group's notifications.
    receivers: Vec<String>,
    /// Receivers that were notified.
    #[serde(rename = "told")]
    notified: BTreeSet<String>,
    /// Time of the last notification.
    #[serde(rename = "told_at")]
    notified_at: Option<DateTime<Utc>>,
    /// Number of events notified so far, a part of the notification ids.
    events: u32,
    /// Highest severity notified so far.
    severity: Option<Severity>,
    /// Failure fingerprints notified so far.
    causes: Vec<String>,
    /// Due time of the next notification.
    due: Option<DateTime<Utc>>,
    /// Notes for the next notification.
    notes: Vec<String>,
    /// Reminder interval in seconds: the shortest of the group's incidents.
    remind: Option<u64>,
    /// Acknowledgement of the group.
    #[serde(default, deserialize_with = "acknowledgement")]
    acknowledged: Option<Acknowledgement>,
    /// Time of the first notification.
    #[serde(default, rename = "first_told_at", skip_serializing_if = "Option::is_none")]
    first_notified_at: Option<DateTime<Utc>>,
    /// Start of the time without an acknowledgement: the first notification, or the end of the last acknowledgement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unattended_since: Option<DateTime<Utc>>,
    /// Escalation steps, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    escalate: Vec<Escalation>,
    /// Number of escalation steps notified so far.
    #[serde(default)]
    escalated: usize,
    /// Place of the group: receivers, label values and host or service that it shares with other groups. Absent if the
    /// group is never merged with others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    place: Option<String>,
    /// Whether another group includes everything that fails at this place, so that changes of this group's incidents
    /// are not notified.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    hushed: bool,
    /// Whether this group includes everything that fails at its place, and lists the failures.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    wide: bool,
    /// End of a mute of all open incidents. Nothing is notified before.
    #[serde(default)]
    quiet_until: Option<DateTime<Utc>>,
    members: BTreeMap<Subject, Member>,
    open: usize,
    /// Number of open incidents that were not notified.
    #[serde(alias = "untold")]
    unnotified: usize,
    /// Incidents of the last notification.
    shown: Vec<RelatedIncident>,
    /// Time at which the last of the incidents resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended_at: Option<DateTime<Utc>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Member {
    /// Position in the order of joining, from 0.
    number: usize,
    severity: Severity,
    open: bool,
    /// Whether a notification included the incident.
    #[serde(rename = "told")]
    notified: bool,
    cause: FailureFingerprint,
    /// Failure fingerprint in the last notification.
    #[serde(default, rename = "told_cause", skip_serializing_if = "Option::is_none")]
    notified_cause: Option<FailureFingerprint>,
    /// Opening time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    opened_at: Option<DateTime<Utc>>,
    /// A different failure fingerprint, and the number of consecutive runs with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    candidate: Option<(FailureFingerprint, u32)>,
}

/// Reads an acknowledgement, also in the format of an earlier version, which stored the author alone.
fn acknowledgement<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Acknowledgement>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        Author(String),
        Whole(Acknowledgement),
    }
    Ok(Option::<Form>::deserialize(deserializer)?.map(|form| match form {
        Form::Whole(whole) => whole,
        Form::Author(author) => Acknowledgement { author, at: DateTime::<Utc>::UNIX_EPOCH, until: None },
    }))
}

/// Parameters of an incident that joins a group.
#[derive(Debug, Clone)]
pub struct Join {
    /// Opening time, adjusted after a clock change.
    pub opened_at: DateTime<Utc>,
    /// Receivers to notify.
    pub receivers: Vec<String>,
    /// Group wait.
    pub wait: TimeDelta,
    /// Failure fingerprint.
    pub cause: FailureFingerprint,
    /// `alert.remind` of the scenario.
    pub remind: Option<std::time::Duration>,
    /// Note for the notification.
    pub note: Option<String>,
    /// Escalation steps.
    pub escalate: Vec<Escalation>,
}

impl Timers for Group {
    fn timers(&mut self, visit: &mut dyn FnMut(Timer<'_>)) {
        let since =
            [&mut self.notified_at, &mut self.first_notified_at, &mut self.unattended_since, &mut self.ended_at];
        since.into_iter().flatten().for_each(|at| visit(Timer::Since(at)));
        let opened = self.members.values_mut().filter_map(|member| member.opened_at.as_mut());
        opened.for_each(|at| visit(Timer::Since(at)));
        let until = self.acknowledged.as_mut().and_then(|who| who.until.as_mut());
        self.due.iter_mut().chain(until).for_each(|at| visit(Timer::Due(at)));
    }
}

impl Group {
    /// Creates a group for an incident, which still has to [`Group::join`]. A wide group includes everything that fails
    /// at its place.
    pub fn new(lead: &Incident, place: Option<String>, wide: bool) -> Self {
        Self {
            place,
            hushed: false,
            wide,
            first_notified_at: None,
            unattended_since: None,
            escalate: Vec::new(),
            escalated: 0,
            lead: lead.clone(),
            receivers: Vec::new(),
            notified: BTreeSet::new(),
            notified_at: None,
            events: 0,
            severity: None,
            causes: Vec::new(),
            due: None,
            notes: Vec::new(),
            remind: None,
            acknowledged: None,
            quiet_until: None,
            members: BTreeMap::new(),
            open: 0,
            unnotified: 0,
            shown: Vec::new(),
            ended_at: None,
        }
    }

    /// Creates a group for an incident whose receivers were notified and whose own group was lost.
    pub fn adopted(incident: &Incident, cause: FailureFingerprint, now: DateTime<Utc>) -> Self {
        let notified_cause = Some(cause.clone());
        let (severity, opened_at) = (incident.severity, Some(incident.opened_at));
        let member = Member {
            number: 0,
            severity,
            open: true,
            notified: true,
            cause,
            notified_cause,
            opened_at,
            candidate: None,
        };
        Self {
            receivers: incident.receivers.clone(),
            notified: incident.receivers.iter().cloned().collect(),
            notified_at: Some(now),
            first_notified_at: Some(now),
            unattended_since: Some(now),
            // The ids of its notifications must differ from those of the lost group.
            events: u32::try_from(now.timestamp()).unwrap_or(u32::MAX),
            severity: Some(severity),
            acknowledged: incident.acknowledged.clone(),
            members: BTreeMap::from([(incident.subject.clone(), member)]),
            open: 1,
            ..Self::new(incident, None, false)
        }
    }

    /// Returns the dedup key of the group.
    pub fn key(&self) -> String {
        self.lead.dedup_key()
    }

    /// Returns whether all incidents of the group are resolved.
    pub fn is_over(&self) -> bool {
        self.open == 0
    }

    /// Returns whether the group was not notified yet.
    pub fn is_gathering(&self) -> bool {
        self.notified_at.is_none()
    }

    /// Returns the subjects of the open incidents.
    pub fn open_members(&self) -> impl Iterator<Item = &Subject> {
        self.members.iter().filter(|(_, member)| member.open).map(|(subject, _)| subject)
    }

    /// Sets the place, after a receiver was renamed.
    pub fn set_place(&mut self, place: Option<String>) {
        self.place = place;
    }

    /// Returns the failure fingerprint of an incident.
    pub fn cause_of(&self, subject: &Subject) -> Option<&FailureFingerprint> {
        self.members.get(subject).map(|member| &member.cause)
    }

    /// Returns the place of the group.
    pub fn place(&self) -> Option<&String> {
        self.place.as_ref()
    }

    /// Returns whether the group includes everything that fails at its place.
    pub fn is_wide(&self) -> bool {
        self.wide
    }

    /// Returns the sort key that selects which of several groups of one place includes the others: the one notified
    /// first, otherwise the oldest.
    pub fn precedence(&self) -> (bool, Option<DateTime<Utc>>, DateTime<Utc>) {
        (self.first_notified_at.is_none(), self.first_notified_at, self.lead.opened_at)
    }

    /// Returns the opening times of the open incidents.
    pub fn opened_at(&self) -> impl Iterator<Item = DateTime<Utc>> {
        self.members.values().filter(|member| member.open).filter_map(|member| member.opened_at)
    }

    /// Makes the group include everything that fails at its place.
    pub fn widen(&mut self) {
        self.wide = true;
        self.causes = self.members.values().map(|member| member.cause.brief.clone()).collect();
        self.causes.dedup();
    }

    /// Suppresses changes of the group, because another group now includes everything that fails at this place.
    pub fn hush(&mut self) {
        self.hushed = true;
    }

    /// Returns the minimum time between the last notification and an update without a higher severity.
    fn update_interval(&self) -> TimeDelta {
        let longer = 4_i32.pow(self.events.saturating_sub(2).min(3));
        match self.events {
            0 | 1 => FIRST_GROUP_INTERVAL,
            _ if self.wide => (GROUP_INTERVAL * longer).min(LONGEST_GROUP_INTERVAL),
            _ => GROUP_INTERVAL,
        }
    }

    /// Returns the time of the next action, unless something happens before.
    pub fn next(&self) -> Option<DateTime<Utc>> {
        let expires = self.acknowledged.as_ref().and_then(|it| it.until).filter(|_| self.open > 0);
        let next = [self.due, self.remind_at(), self.escalate_at(), expires].into_iter().flatten().min()?;
        Some(self.quiet_until.map_or(next, |until| next.max(until)))
    }

    /// Returns the acknowledgement of the group.
    pub fn acknowledged(&self) -> Option<&Acknowledgement> {
        self.acknowledged.as_ref()
    }

    /// Replaces the acknowledgement, which stops reminders and escalation while there is one. Everyone notified so far
    /// receives an update.
    pub fn acknowledge(&mut self, who: Option<Acknowledgement>, note: String, now: DateTime<Utc>) {
        if who.is_none() {
            self.unattended_since = Some(now);
        }
        self.acknowledged = who;
        self.notes.insert(0, note);
        self.notes.truncate(NOTES);
        if self.notified_at.is_some() {
            self.hurry(now);
        }
    }

    /// Returns the due time of the next escalation step.
    fn escalate_at(&self) -> Option<DateTime<Utc>> {
        let next = self.escalate.get(self.escalated).filter(|_| self.open > 0 && self.acknowledged.is_none())?;
        let since = self.unattended_since.filter(|_| self.notified_at.is_some())?;
        since.checked_add_signed(TimeDelta::try_seconds(i64::try_from(next.after).ok()?)?)
    }

    /// Renames a receiver. Returns whether it is one of the group's receivers.
    pub fn rename_receiver(&mut self, old: &str, new: &str) -> bool {
        let before = self.all_receivers();
        rename_in(&mut self.receivers, old, new);
        if self.notified.remove(old) {
            self.notified.insert(new.to_owned());
        }
        for step in &mut self.escalate {
            rename_in(&mut step.to, old, new);
        }
        rename_in(&mut self.lead.receivers, old, new);
        before != self.all_receivers()
    }

    /// Returns all receivers that are notified of the group now or later.
    fn all_receivers(&self) -> Vec<String> {
        let escalated = self.escalate.iter().flat_map(|step| &step.to);
        self.receivers.iter().chain(&self.notified).chain(escalated).cloned().collect()
    }

    /// Ends the suppression by a mute. The next notification checks whether another mute is active.
    pub fn unmute(&mut self) {
        self.quiet_until = None;
    }

    /// Adds a note about an open incident to the next update.
    pub fn add_note(&mut self, note: String, now: DateTime<Utc>) {
        if self.notes.len() < NOTES {
            self.notes.push(note);
        }
        if let Some(notified_at) = self.notified_at {
            self.hurry(if self.wide { (notified_at + self.update_interval()).max(now) } else { now });
        }
    }

    fn remind_at(&self) -> Option<DateTime<Utc>> {
        let seconds = self.remind.filter(|_| self.open > 0)?;
        self.notified_at?.checked_add_signed(TimeDelta::try_seconds(i64::try_from(seconds).ok()?)?)
    }

    fn hurry(&mut self, at: DateTime<Utc>) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// Returns the text by which two failures of the group are distinguished: in a wide group the summary alone.
    fn cause_key<'a>(&self, cause: &'a FailureFingerprint) -> &'a str {
        if self.wide { &cause.brief } else { &cause.key }
    }

    fn add_receivers(&mut self, receivers: &[String]) {
        for receiver in receivers {
            if !self.receivers.contains(receiver) {
                self.receivers.push(receiver.clone());
            }
        }
    }
}
