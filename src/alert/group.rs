//! A notification group: incidents with one failure fingerprint, sent as one notification. Pure.
//!
//! A group collects incidents during its group wait and is notified once. Incidents that join later are collected into
//! updates, unless their severity is higher. The dedup key of a group is that of the incident it started with. No
//! incident is ever in two groups at once, so no two groups share a key, and a group of one incident has the key of
//! that incident. A group is resolved when all its incidents are.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::effects::Effects;
use super::fingerprint::FailureFingerprint;
use super::mute::Muted;
use super::receiver_names::rename_in;
use super::timers::{Timer, Timers};
use crate::incident::{Acknowledgement, DecisionReason, Event, Incident, Notification, RelatedIncident, Subject};
use crate::names::suppressed;
use crate::scenario::{HumanDuration, Severity};

/// Delay of the first update after the first notification, and minimum time between an update and the next one without
/// a higher severity.
const FIRST_GROUP_INTERVAL: TimeDelta = TimeDelta::seconds(30);
/// Group interval: time for which incidents that join later are collected.
const GROUP_INTERVAL: TimeDelta = TimeDelta::minutes(5);
/// Maximum group interval of a group for a whole host or service. Its interval is multiplied by four with every update,
/// because after an hour of updates the next one has no news.
const FOLD_LONGEST: TimeDelta = TimeDelta::hours(1);
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
    told: BTreeSet<String>,
    /// Time of the last notification.
    told_at: Option<DateTime<Utc>>,
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first_told_at: Option<DateTime<Utc>>,
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
    told: bool,
    cause: FailureFingerprint,
    /// Failure fingerprint in the last notification.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    told_cause: Option<FailureFingerprint>,
    /// Opening time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    opened_at: Option<DateTime<Utc>>,
    /// A different failure fingerprint, and the number of consecutive runs with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    candidate: Option<(FailureFingerprint, u32)>,
}

/// Escalation step: further receivers to notify while a group is not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Escalation {
    /// Seconds after the first notification.
    pub after: u64,
    /// Names of the receivers.
    pub to: Vec<String>,
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
        let since = [&mut self.told_at, &mut self.first_told_at, &mut self.unattended_since, &mut self.ended_at];
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
            first_told_at: None,
            unattended_since: None,
            escalate: Vec::new(),
            escalated: 0,
            lead: lead.clone(),
            receivers: Vec::new(),
            told: BTreeSet::new(),
            told_at: None,
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
        let told_cause = Some(cause.clone());
        let (severity, opened_at) = (incident.severity, Some(incident.opened_at));
        let member =
            Member { number: 0, severity, open: true, told: true, cause, told_cause, opened_at, candidate: None };
        Self {
            receivers: incident.receivers.clone(),
            told: incident.receivers.iter().cloned().collect(),
            told_at: Some(now),
            first_told_at: Some(now),
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
        self.told_at.is_none()
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
        (self.first_told_at.is_none(), self.first_told_at, self.lead.opened_at)
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

    /// Adds the open incidents of a group that was not notified.
    pub fn absorb(&mut self, other: Self, now: DateTime<Utc>) {
        let number = self.members.len();
        let other_due = other.due;
        for (subject, member) in other.members.into_iter().filter(|(_, member)| member.open) {
            self.open += 1;
            self.unnotified += usize::from(!member.told);
            self.members.insert(subject, Member { number: number + member.number, ..member });
        }
        self.hear(&other.receivers);
        self.remind = [self.remind, other.remind].into_iter().flatten().min();
        self.notes.extend(other.notes);
        self.notes.truncate(NOTES);
        match self.told_at {
            Some(told_at) => self.hurry((told_at + self.fold()).max(now)),
            None => self.due = [self.due, other_due].into_iter().flatten().min(),
        }
    }

    /// Returns the minimum time between the last notification and an update without a higher severity.
    fn fold(&self) -> TimeDelta {
        let longer = 4_i32.pow(self.events.saturating_sub(2).min(3));
        match self.events {
            0 | 1 => FIRST_GROUP_INTERVAL,
            _ if self.wide => (GROUP_INTERVAL * longer).min(FOLD_LONGEST),
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
        if self.told_at.is_some() {
            self.hurry(now);
        }
    }

    /// Returns the due time of the next escalation step.
    fn escalate_at(&self) -> Option<DateTime<Utc>> {
        let next = self.escalate.get(self.escalated).filter(|_| self.open > 0 && self.acknowledged.is_none())?;
        let since = self.unattended_since.filter(|_| self.told_at.is_some())?;
        since.checked_add_signed(TimeDelta::try_seconds(i64::try_from(next.after).ok()?)?)
    }

    /// Renames a receiver. Returns whether it is one of the group's receivers.
    pub fn rename_receiver(&mut self, old: &str, new: &str) -> bool {
        let before = self.all_receivers();
        rename_in(&mut self.receivers, old, new);
        if self.told.remove(old) {
            self.told.insert(new.to_owned());
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
        self.receivers.iter().chain(&self.told).chain(escalated).cloned().collect()
    }

    /// Ends the suppression by a mute. The next notification checks whether another mute is active.
    pub fn unmute(&mut self) {
        self.quiet_until = None;
    }

    /// Adds a note about an open incident to the next update.
    pub fn remark(&mut self, note: String, now: DateTime<Utc>) {
        if self.notes.len() < NOTES {
            self.notes.push(note);
        }
        if let Some(told_at) = self.told_at {
            self.hurry(if self.wide { (told_at + self.fold()).max(now) } else { now });
        }
    }

    fn remind_at(&self) -> Option<DateTime<Utc>> {
        let seconds = self.remind.filter(|_| self.open > 0)?;
        self.told_at?.checked_add_signed(TimeDelta::try_seconds(i64::try_from(seconds).ok()?)?)
    }

    fn hurry(&mut self, at: DateTime<Utc>) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// Adds an incident that opened.
    pub fn join(&mut self, incident: &Incident, join: Join, now: DateTime<Utc>, effects: &mut Effects) {
        let subject = &incident.subject;
        let number = self.members.len();
        let before = self.members.get(subject);
        let told = before.is_some_and(|member| member.told);
        let told_cause = before.and_then(|member| member.told_cause.clone());
        let member = Member {
            number: before.map_or(number, |member| member.number),
            severity: incident.severity,
            open: true,
            told,
            cause: join.cause,
            told_cause,
            opened_at: Some(join.opened_at),
            candidate: None,
        };
        let key = self.cause_key(&member.cause).to_owned();
        if self.causes.is_empty() || (self.wide && !self.causes.contains(&key)) {
            self.causes.push(key);
        }
        if self.escalate.is_empty() {
            self.escalate = join.escalate;
        }
        if before.is_none_or(|member| !member.open) {
            self.open += 1;
            self.unnotified += usize::from(!told);
        }
        self.members.insert(subject.clone(), member);
        self.hear(&join.receivers);
        let remind = join.remind.map(|remind| remind.as_secs().max(1));
        self.remind = [self.remind, remind].into_iter().flatten().min();
        let has_note = join.note.is_some();
        self.notes.extend(join.note.filter(|_| self.notes.len() < NOTES));
        let Some(told_at) = self.told_at else {
            self.hurry(now.checked_add_signed(join.wait).unwrap_or(DateTime::<Utc>::MAX_UTC));
            if self.due > Some(now) {
                let until = self.due.unwrap_or(now).format("%T");
                effects.decide(
                    subject,
                    DecisionReason::GroupWait,
                    format!("{} waits for related incidents until {until}", self.key()),
                    now,
                );
            }
            return;
        };
        if self.severity < Some(incident.severity) || (has_note && !self.wide) {
            self.hurry(now);
        } else if !told {
            self.hurry((told_at + self.fold()).max(now));
            effects.suppress(suppressed::GROUPED, 1);
            let until = self.due.unwrap_or(now).format("%T");
            effects.decide(
                subject,
                DecisionReason::Grouped,
                format!(
                    "same {} as {}; included in its update at {until}",
                    if self.wide { "place" } else { "cause" },
                    self.key()
                ),
                now,
            );
        } else {
            effects.suppress(suppressed::GROUPED, 1);
            effects.decide(subject, DecisionReason::Grouped, format!("opened again while {} is open", self.key()), now);
        }
    }

    /// Returns the text by which two failures of the group are distinguished: in a wide group the summary alone.
    fn cause_key<'a>(&self, cause: &'a FailureFingerprint) -> &'a str {
        if self.wide { &cause.brief } else { &cause.key }
    }

    fn hear(&mut self, receivers: &[String]) {
        for receiver in receivers {
            if !self.receivers.contains(receiver) {
                self.receivers.push(receiver.clone());
            }
        }
    }

    /// Handles a raised severity of an incident, and adds receivers.
    pub fn raise(&mut self, incident: &Incident, receivers: &[String], wait: TimeDelta, now: DateTime<Utc>) {
        let Some(member) = self.members.get_mut(&incident.subject).filter(|member| member.open) else { return };
        member.severity = incident.severity;
        self.hear(receivers);
        if self.told_at.is_none() {
            self.hurry(now.checked_add_signed(wait).unwrap_or(DateTime::<Utc>::MAX_UTC));
        } else if self.severity < Some(incident.severity) {
            self.hurry(now);
        }
    }

    /// Returns whether a bad run with this failure fingerprint has no news.
    pub fn is_settled(&self, subject: &Subject, cause: &FailureFingerprint) -> bool {
        let member = self.members.get(subject);
        member.is_none_or(|member| member.cause.key == cause.key && member.candidate.is_none())
    }

    /// Processes the failure fingerprint of a bad run of an open incident. A change is notified once `needed`
    /// consecutive runs confirm it, and each fingerprint only once.
    pub fn fail(&mut self, subject: &Subject, cause: FailureFingerprint, needed: u32, now: DateTime<Utc>) {
        let Some(member) = self.members.get_mut(subject) else { return };
        if member.cause.key == cause.key {
            member.candidate = None;
            return;
        }
        let seen = match member.candidate.take() {
            Some((candidate, seen)) if candidate.key == cause.key => seen + 1,
            _ => 1,
        };
        if seen < needed {
            member.candidate = Some((cause, seen));
            return;
        }
        member.cause = cause.clone();
        let key = self.cause_key(&cause).to_owned();
        if self.hushed || self.told_at.is_none() || self.causes.contains(&key) || self.causes.len() >= CAUSES {
            return;
        }
        self.causes.push(key);
        let fold = if self.wide { self.fold() } else { FIRST_GROUP_INTERVAL };
        self.hurry(self.told_at.map_or(now, |at| at + fold).max(now));
    }

    /// Describes the open incidents whose failure differs from the last notification. Empty for a wide group, which
    /// lists all failures instead.
    fn changes(&self) -> Vec<String> {
        let open = self.members.iter().filter(|(_, member)| member.open);
        let changed = open.filter_map(|(subject, member)| {
            let (was, is) = (member.told_cause.as_ref()?, &member.cause);
            let of = if self.open > 1 { format!("{subject}: ") } else { String::new() };
            (was.key != is.key).then(|| {
                if was.brief == is.brief {
                    format!("{of}still {}, with a different error", is.brief)
                } else {
                    format!("{of}changed from {} to {}", was.brief, is.brief)
                }
            })
        });
        if self.wide { Vec::new() } else { changed.take(NOTES).collect() }
    }

    /// Lists the failures of a wide group, most frequent first: `causes: 38 × status 500, 2 × timeout`.
    fn list_causes(&self) -> Option<String> {
        let mut causes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values().filter(|member| member.open) {
            *causes.entry(&member.cause.brief).or_default() += 1;
        }
        let mut causes: Vec<(&str, usize)> = causes.into_iter().collect();
        causes.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let shown: Vec<String> =
            causes.iter().take(CAUSES).map(|(cause, count)| format!("{count} × {cause}")).collect();
        let more = causes.len().saturating_sub(CAUSES);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let is_other =
            |member: &Member| member.told_cause.as_ref().is_some_and(|told| told.brief != member.cause.brief);
        let changed = self.members.values().any(|member| member.open && is_other(member));
        (self.wide && (causes.len() > 1 || changed)).then(|| format!("causes: {}{more}", shown.join(", ")))
    }

    /// Marks an incident as resolved; `last` is its last state.
    pub fn leave(&mut self, subject: &Subject, last: Option<&Incident>, now: DateTime<Utc>, effects: &mut Effects) {
        let Some(member) = self.members.get_mut(subject).filter(|member| member.open) else { return };
        member.open = false;
        self.open -= 1;
        let told = member.told;
        if !told {
            self.unnotified -= 1;
            effects.suppress(suppressed::RESOLVED_EARLY, 1);
        }
        let resolved_at = last.map_or(Some(now), |last| last.resolved_at);
        let ending = last.and_then(|last| last.ending);
        self.ended_at = self.ended_at.max(resolved_at);
        if *subject == self.lead.subject {
            match last.filter(|last| last.opening == self.lead.opening) {
                Some(last) => self.lead = last.clone(),
                // The incident opened again in the meantime. The dedup key stays that of the opening that was notified.
                None => (self.lead.resolved_at, self.lead.ending) = (resolved_at, ending),
            }
        }
        if let Some(shown) = self.shown.iter_mut().find(|shown| shown.subject == *subject) {
            shown.resolved_at = resolved_at;
            shown.ending = ending;
        }
        if !told {
            effects.decide(subject, DecisionReason::ResolvedEarly, "resolved before a notification was sent", now);
        } else if self.open > 0 {
            let detail = format!("others of {1} still open: {0}", self.open, self.key());
            effects.decide(subject, DecisionReason::Grouped, detail, now);
        }
        // If no news is left, the update is dropped. The members are checked only if one was due, otherwise each
        // resolution would iterate over all others.
        if self.due.is_some() && self.told_at.is_some() && self.unnotified == 0 && self.notes.is_empty() {
            let louder = self.members.values().any(|member| member.open && Some(member.severity) > self.severity);
            self.due = self.due.filter(|_| louder);
        }
        if self.open == 0 {
            self.due = self.told_at.map(|_| now);
            self.quiet_until = None;
        }
    }

    /// Returns the mute that ends first if all open incidents are muted.
    fn all_muted<'a>(
        &self,
        find: impl Fn(&Subject) -> Option<&'a Incident>,
        muted: impl Fn(&Incident) -> Option<Muted>,
    ) -> Option<Muted> {
        let mut first: Option<Muted> = None;
        for incident in self.open_members().filter_map(find) {
            let muted = muted(incident)?;
            if first.as_ref().is_none_or(|first| muted.until < first.until) {
                first = Some(muted);
            }
        }
        first
    }

    /// Creates the notifications that are due. `find` returns an open incident, `muted` the mute that is active for
    /// one.
    pub fn tell<'a>(
        &mut self,
        now: DateTime<Utc>,
        find: impl Fn(&Subject) -> Option<&'a Incident>,
        muted: impl Fn(&Incident) -> Option<Muted>,
        effects: &mut Effects,
    ) {
        self.expire(now, effects);
        let event = match (self.open, self.told_at) {
            (0, None) => return,
            (0, Some(_)) => Event::Resolved,
            (_, None) => Event::Opened,
            _ if self.due.is_some_and(|due| due <= now) => Event::Updated,
            _ => Event::Reminder,
        };
        self.quiet_until = None;
        if let Some(Muted { until, why, detail, .. }) = self.all_muted(&find, &muted) {
            self.quiet_until = Some(until);
            let reason = if why == DecisionReason::Maintenance { suppressed::MAINTENANCE } else { suppressed::SILENCE };
            effects.suppress(reason, 1);
            effects.decide(&self.lead.subject, why, format!("{} of {}: {detail}", event.as_str(), self.key()), now);
            return;
        }
        if event == Event::Reminder && self.escalate_at().is_some_and(|at| at <= now) {
            return self.escalate(now, find, effects);
        }
        if let (Event::Reminder, Some(who)) = (event, &self.acknowledged) {
            effects.suppress(suppressed::ACKNOWLEDGED, 1);
            let detail = format!("reminder not sent: acknowledged by {}", who.author);
            effects.decide(&self.lead.subject, DecisionReason::Acknowledged, detail, now);
            self.told_at = Some(now);
            return;
        }
        let mut open: Vec<(&Subject, &Member)> = self.members.iter().filter(|(_, member)| member.open).collect();
        open.sort_by_key(|(_, member)| (std::cmp::Reverse(member.severity), member.number));
        let severity = open.first().map(|(_, member)| member.severity);
        let news = open.iter().filter(|(_, member)| !member.told).count();
        let mut notes = std::mem::take(&mut self.notes);
        let louder = self.severity.zip(severity).is_some_and(|(was, is)| is > was);
        if event != Event::Opened {
            notes.extend(self.changes());
            notes.truncate(NOTES);
        }
        let is_widened = self.wide && open.iter().any(|(_, member)| member.told_cause.as_ref() != Some(&member.cause));
        if event == Event::Updated && news == 0 && notes.is_empty() && !louder && !is_widened {
            // The reasons for this update no longer apply.
            self.due = None;
            return;
        }
        let mut found = open.iter().filter_map(|(subject, _)| find(subject));
        let incident = if event == Event::Resolved { None } else { found.next() };
        let mut incident = incident.unwrap_or(&self.lead).clone();
        if event == Event::Resolved {
            // A group is resolved when its last incident is.
            incident.resolved_at = self.ended_at.or(incident.resolved_at);
        }
        if event != Event::Resolved {
            // Includes the incident that represents the group now, because at the end another one may.
            self.shown = std::iter::once(&incident).chain(found.take(OTHERS)).map(RelatedIncident::of).collect();
        }
        let all = if event == Event::Resolved { self.members.len() } else { open.len() };
        let others: Vec<RelatedIncident> =
            self.shown.iter().filter(|other| other.subject != incident.subject).take(OTHERS).cloned().collect();
        let uncounted = all.saturating_sub(1 + others.len());
        if event == Event::Updated {
            if let (Some(was), Some(is)) = (self.severity, severity)
                && is > was
            {
                notes.insert(0, format!("severity raised from {was} to {is}"));
            }
            if news > 0 {
                notes.push(format!("{news} more, {} in all", open.len()));
            }
        }
        notes.extend(self.list_causes().filter(|_| event != Event::Reminder));
        if event == Event::Resolved {
            notes.clear();
        }
        let note = (!notes.is_empty()).then(|| notes.join("; "));

        self.events += 1;
        let key = self.key();
        for receiver in &self.receivers {
            // A receiver that was not notified of the opening is not notified of the resolution; events between them
            // become an opening.
            let event = match (event, self.told.contains(receiver)) {
                (Event::Resolved, false) => continue,
                (_, false) => Event::Opened,
                (event, true) => event,
            };
            effects.told.push(Notification {
                id: format!("{key}#{}@{receiver}", self.events),
                key: key.clone(),
                others: others.clone(),
                uncounted,
                note: note.clone(),
                ..Notification::new(&incident, event, receiver, now)
            });
        }
        let to = self.receivers.join(", ");
        match event {
            Event::Opened | Event::Updated => {
                for (subject, member) in &open {
                    if member.told {
                        continue;
                    }
                    if **subject == incident.subject {
                        effects.decide(
                            subject,
                            DecisionReason::Notified,
                            format!("{} as {key} for {to}", event.as_str()),
                            now,
                        );
                    } else {
                        let detail = format!("with {} more as {key} for {to}", open.len() - 1);
                        effects.decide(subject, DecisionReason::Grouped, detail, now);
                        effects.suppress(suppressed::GROUPED, usize::from(event == Event::Opened));
                    }
                }
                if let (Event::Updated, Some(note)) = (event, &note) {
                    effects.decide(&incident.subject, DecisionReason::Changed, format!("{note}; for {to}"), now);
                }
            }
            Event::Reminder => {
                effects.decide(&incident.subject, DecisionReason::Reminded, format!("as {key} for {to}"), now);
            }
            Event::Resolved => {
                let detail = format!("{} of {all} as {key} for {to}", event.as_str());
                effects.decide(&self.lead.subject, DecisionReason::Notified, detail, now);
            }
            Event::Digest => {}
        }
        for member in self.members.values_mut().filter(|member| member.open) {
            member.told = true;
            if member.told_cause.as_ref() != Some(&member.cause) {
                member.told_cause = Some(member.cause.clone());
            }
        }
        self.first_told_at.get_or_insert(now);
        self.unattended_since.get_or_insert(now);
        if event != Event::Resolved {
            self.told.extend(self.receivers.iter().cloned());
        }
        self.unnotified = 0;
        self.due = None;
        self.told_at = Some(now);
        // The severity never decreases here, so that a return to an earlier severity is not notified as raised.
        self.severity = self.severity.max(severity);
    }

    /// Removes an expired acknowledgement.
    fn expire(&mut self, now: DateTime<Utc>, effects: &mut Effects) {
        let is_over = |who: &mut Acknowledgement| who.until.is_some_and(|until| until <= now);
        let Some(who) = self.acknowledged.take_if(is_over).filter(|_| self.open > 0) else { return };
        let note = format!("the acknowledgement by {} has expired", who.author);
        effects.decide(&self.lead.subject, DecisionReason::Acknowledged, note.clone(), now);
        effects.acknowledged.extend(self.open_members().map(|subject| (subject.clone(), None)));
        self.acknowledge(None, note, now);
    }

    /// Notifies the receivers of the next escalation step, because the group was not acknowledged in time.
    fn escalate<'a>(
        &mut self,
        now: DateTime<Utc>,
        find: impl Fn(&Subject) -> Option<&'a Incident>,
        effects: &mut Effects,
    ) {
        let Some(Escalation { after, to }) = self.escalate.get(self.escalated).cloned() else { return };
        self.escalated += 1;
        let mut open: Vec<(&Subject, &Member)> = self.members.iter().filter(|(_, member)| member.open).collect();
        open.sort_by_key(|(_, member)| (std::cmp::Reverse(member.severity), member.number));
        let mut found = open.iter().filter_map(|(subject, _)| find(subject));
        let incident = found.next().unwrap_or(&self.lead).clone();
        let others: Vec<RelatedIncident> = found.take(OTHERS).map(RelatedIncident::of).collect();
        let uncounted = open.len().saturating_sub(1 + others.len());
        let note = format!("not acknowledged within {}", HumanDuration(std::time::Duration::from_secs(after)));
        self.events += 1;
        let key = self.key();
        for receiver in &to {
            let event = if self.told.contains(receiver) { Event::Reminder } else { Event::Opened };
            effects.told.push(Notification {
                id: format!("{key}#{}@{receiver}", self.events),
                key: key.clone(),
                others: others.clone(),
                uncounted,
                note: Some(note.clone()),
                ..Notification::new(&incident, event, receiver, now)
            });
        }
        effects.decide(
            &incident.subject,
            DecisionReason::Escalated,
            format!("{note}; as {key} for {}", to.join(", ")),
            now,
        );
        effects.reached.extend(open.iter().map(|(subject, _)| ((*subject).clone(), to.clone())));
        self.hear(&to);
        self.told.extend(to);
    }
}
