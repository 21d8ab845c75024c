//! One group: the incidents of one cause that one notice tells of. Pure.
//!
//! A group gathers for its wait and is told once; what joins later is folded into updates, unless it is louder. Its
//! outward key is the dedup key of the incident it began with: no incident is ever in two groups at once, so no two
//! groups have one key, and a group of one has the key of its incident. It is over when all its incidents are.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::cause::Cause;
use super::effects::Effects;
use super::mute::Muted;
use crate::incident::{Affected, Event, Incident, Notice, Subject, Why};
use crate::names::suppressed;
use crate::scenario::Severity;

/// How long after the first notice the first update gathers what has joined, and the least time between an update
/// and the next one that is not louder.
const FOLD_FIRST: TimeDelta = TimeDelta::seconds(30);
/// How long what joins later is gathered.
const FOLD: TimeDelta = TimeDelta::minutes(5);
/// How many incidents a notice lists beside the one that speaks.
const OTHERS: usize = 50;
/// How many causes of one group are told; more say nothing new.
const CAUSES: usize = 8;
/// How many remarks an update has at most.
const NOTES: usize = 5;

/// A group of incidents, from the first that opens to the last that resolves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// The incident that its key is of, as it was last seen.
    lead: Incident,
    /// Who is to be told.
    receivers: Vec<String>,
    /// Who was told of it.
    told: BTreeSet<String>,
    /// When they were last told.
    told_at: Option<DateTime<Utc>>,
    /// How often they were told.
    events: u32,
    /// How loud it was then.
    severity: Option<Severity>,
    /// The causes that it was told with.
    causes: Vec<String>,
    /// When something is to be told.
    due: Option<DateTime<Utc>>,
    /// What is new, in words.
    notes: Vec<String>,
    /// How often it is told again while nothing changes, in seconds; the most frequent of its incidents.
    remind: Option<u64>,
    /// Who has taken it over.
    #[serde(default)]
    acknowledged: Option<String>,
    /// Nothing is told before: all that is open is muted until then.
    #[serde(default)]
    quiet_until: Option<DateTime<Utc>>,
    members: BTreeMap<Subject, Member>,
    open: usize,
    /// Open and not told.
    untold: usize,
    /// The others of the last notice.
    shown: Vec<Affected>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Member {
    /// When it joined, counted from 0.
    number: usize,
    severity: Severity,
    open: bool,
    told: bool,
    cause: Cause,
    /// Another cause, and how often in a row it was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    candidate: Option<(Cause, u32)>,
}

/// How an incident joins.
#[derive(Debug, Clone)]
pub struct Join {
    /// Who is told.
    pub receivers: Vec<String>,
    /// How long the group gathers.
    pub wait: TimeDelta,
    /// What it is taken for.
    pub cause: Cause,
    /// `alert.remind`.
    pub remind: Option<std::time::Duration>,
    /// What is to be said of it.
    pub note: Option<String>,
}

impl Group {
    /// A group that begins with an incident, which has still to [`Group::join`].
    pub fn new(lead: &Incident) -> Self {
        Self {
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
            untold: 0,
            shown: Vec::new(),
        }
    }

    /// The key under which receivers know it.
    pub fn key(&self) -> String {
        self.lead.dedup_key()
    }

    /// Whether nothing in it is open.
    pub fn is_over(&self) -> bool {
        self.open == 0
    }

    /// Whether nobody was told of it yet.
    pub fn is_gathering(&self) -> bool {
        self.told_at.is_none()
    }

    /// The incidents in it that are open.
    pub fn open_members(&self) -> impl Iterator<Item = &Subject> {
        self.members.iter().filter(|(_, member)| member.open).map(|(subject, _)| subject)
    }

    /// When something is to be told next, if nothing happens before.
    pub fn next(&self) -> Option<DateTime<Utc>> {
        let next = [self.due, self.remind_at()].into_iter().flatten().min()?;
        Some(self.quiet_until.map_or(next, |until| next.max(until)))
    }

    /// Somebody has taken it over: no reminders from now on.
    pub fn acknowledge(&mut self, author: &str) {
        self.acknowledged = Some(author.to_owned());
    }

    /// A mute is no more; whether another one holds is found anew.
    pub fn unmute(&mut self) {
        self.quiet_until = None;
    }

    /// Something is to be said of an open incident.
    pub fn remark(&mut self, note: String, now: DateTime<Utc>) {
        if self.notes.len() < NOTES {
            self.notes.push(note);
        }
        if self.told_at.is_some() {
            self.hurry(now);
        }
    }

    fn remind_at(&self) -> Option<DateTime<Utc>> {
        let seconds = self.remind.filter(|_| self.open > 0)?;
        self.told_at?.checked_add_signed(TimeDelta::try_seconds(i64::try_from(seconds).ok()?)?)
    }

    fn hurry(&mut self, at: DateTime<Utc>) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// An incident opens with this cause.
    pub fn join(&mut self, incident: &Incident, join: Join, now: DateTime<Utc>, effects: &mut Effects) {
        let subject = &incident.subject;
        let number = self.members.len();
        let before = self.members.get(subject);
        let told = before.is_some_and(|member| member.told);
        let member = Member {
            number: before.map_or(number, |member| member.number),
            severity: incident.severity,
            open: true,
            told,
            cause: join.cause,
            candidate: None,
        };
        if self.causes.is_empty() {
            self.causes.push(member.cause.key.clone());
        }
        if before.is_none_or(|member| !member.open) {
            self.open += 1;
            self.untold += usize::from(!told);
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
                effects.decide(subject, Why::Waiting, format!("{} gathers others until {until}", self.key()), now);
            }
            return;
        };
        if self.severity < Some(incident.severity) || has_note {
            self.hurry(now);
        } else if !told {
            let fold = if self.events == 1 { FOLD_FIRST } else { FOLD };
            self.hurry((told_at + fold).max(now));
            effects.suppress(suppressed::CAUSE, 1);
            let until = self.due.unwrap_or(now).format("%T");
            effects.decide(
                subject,
                Why::Grouped,
                format!("the cause of {}; in its update at {until}", self.key()),
                now,
            );
        } else {
            effects.suppress(suppressed::CAUSE, 1);
            effects.decide(subject, Why::Grouped, format!("again, while {} is open", self.key()), now);
        }
    }

    fn hear(&mut self, receivers: &[String]) {
        for receiver in receivers {
            if !self.receivers.contains(receiver) {
                self.receivers.push(receiver.clone());
            }
        }
    }

    /// An incident became louder; these are to be told as well.
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

    /// Whether a bad run with this cause says nothing new.
    pub fn is_settled(&self, subject: &Subject, cause: &Cause) -> bool {
        let member = self.members.get(subject);
        member.is_none_or(|member| member.cause.key == cause.key && member.candidate.is_none())
    }

    /// A bad run of an open incident had this cause. A change is told when `needed` runs in a row say so, each cause
    /// once.
    pub fn fail(&mut self, subject: &Subject, cause: Cause, needed: u32, now: DateTime<Utc>) {
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
        let was = std::mem::replace(&mut member.cause, cause.clone());
        if self.told_at.is_none() || self.causes.contains(&cause.key) || self.causes.len() >= CAUSES {
            return;
        }
        let of = if self.open > 1 { format!("{subject}: ") } else { String::new() };
        let note = if was.brief == cause.brief {
            format!("{of}still {}, but otherwise than before", cause.brief)
        } else {
            format!("{of}was {}, is {}", was.brief, cause.brief)
        };
        self.causes.push(cause.key);
        if self.notes.len() < NOTES {
            self.notes.push(note);
        }
        self.hurry(self.told_at.map_or(now, |at| at + FOLD_FIRST).max(now));
    }

    /// An incident resolved; `last` is what it was like.
    pub fn leave(&mut self, subject: &Subject, last: Option<&Incident>, now: DateTime<Utc>, effects: &mut Effects) {
        let Some(member) = self.members.get_mut(subject).filter(|member| member.open) else { return };
        member.open = false;
        self.open -= 1;
        let told = member.told;
        if !told {
            self.untold -= 1;
            effects.suppress(suppressed::GROUP, 1);
        }
        let resolved_at = last.map_or(Some(now), |last| last.resolved_at);
        if *subject == self.lead.subject {
            match last.filter(|last| last.opening == self.lead.opening) {
                Some(last) => self.lead = last.clone(),
                // It opened anew since; the key stays that of the opening that was told.
                None => self.lead.resolved_at = resolved_at,
            }
        }
        if let Some(shown) = self.shown.iter_mut().find(|shown| shown.subject == *subject) {
            shown.resolved_at = resolved_at;
        }
        if !told {
            effects.decide(subject, Why::Brief, "over before anyone was told", now);
        } else if self.open > 0 {
            let detail = format!("{} others of {} still fail", self.open, self.key());
            effects.decide(subject, Why::Grouped, detail, now);
        }
        // All that was to be said is over. Looked through only if something was, or each end would look at all others.
        if self.due.is_some() && self.told_at.is_some() && self.untold == 0 && self.notes.is_empty() {
            let louder = self.members.values().any(|member| member.open && Some(member.severity) > self.severity);
            self.due = self.due.filter(|_| louder);
        }
        if self.open == 0 {
            self.due = self.told_at.map(|_| now);
            self.quiet_until = None;
        }
    }

    /// What mutes all that is open, if anything does: the mute that ends first.
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

    /// Tells what is to be told by now. `find` gives an incident that is open, `muted` what mutes one now.
    pub fn tell<'a>(
        &mut self,
        now: DateTime<Utc>,
        find: impl Fn(&Subject) -> Option<&'a Incident>,
        muted: impl Fn(&Incident) -> Option<Muted>,
        effects: &mut Effects,
    ) {
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
            let reason = if why == Why::Maintenance { suppressed::MAINTENANCE } else { suppressed::SILENCE };
            effects.suppress(reason, 1);
            effects.decide(&self.lead.subject, why, format!("{} of {}: {detail}", event.as_str(), self.key()), now);
            return;
        }
        if let (Event::Reminder, Some(author)) = (event, &self.acknowledged) {
            effects.suppress(suppressed::ACKNOWLEDGED, 1);
            effects.decide(&self.lead.subject, Why::Acknowledged, format!("no reminder: taken over by {author}"), now);
            self.told_at = Some(now);
            return;
        }
        let mut open: Vec<(&Subject, &Member)> = self.members.iter().filter(|(_, member)| member.open).collect();
        open.sort_by_key(|(_, member)| (std::cmp::Reverse(member.severity), member.number));
        let severity = open.first().map(|(_, member)| member.severity);
        let news = open.iter().filter(|(_, member)| !member.told).count();
        let mut found = open.iter().filter_map(|(subject, _)| find(subject));
        let incident = if event == Event::Resolved { None } else { found.next() };
        let incident = incident.unwrap_or(&self.lead).clone();
        if event != Event::Resolved {
            self.shown = found.take(OTHERS).map(Affected::of).collect();
        }
        let all = if event == Event::Resolved { self.members.len() } else { open.len() };
        let others: Vec<Affected> =
            self.shown.iter().filter(|other| other.subject != incident.subject).cloned().collect();
        let uncounted = all.saturating_sub(1 + others.len());
        let mut notes = std::mem::take(&mut self.notes);
        if event == Event::Updated {
            if let (Some(was), Some(is)) = (self.severity, severity)
                && is > was
            {
                notes.insert(0, format!("{was} became {is}"));
            }
            if news > 0 {
                notes.push(format!("{news} more, {} in all", open.len()));
            }
        }
        if event == Event::Resolved {
            notes.clear();
        }
        let note = (!notes.is_empty()).then(|| notes.join("; "));

        self.events += 1;
        let key = self.key();
        for receiver in &self.receivers {
            // Who did not hear of the opening does not hear of the end; of what lies between, as an opening.
            let event = match (event, self.told.contains(receiver)) {
                (Event::Resolved, false) => continue,
                (_, false) => Event::Opened,
                (event, true) => event,
            };
            effects.told.push(Notice {
                id: format!("{key}#{}@{receiver}", self.events),
                key: key.clone(),
                others: others.clone(),
                uncounted,
                note: note.clone(),
                ..Notice::new(&incident, event, receiver, now)
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
                        effects.decide(subject, Why::Told, format!("{} as {key} to {to}", event.as_str()), now);
                    } else {
                        let detail = format!("with {} others as {key} to {to}", open.len() - 1);
                        effects.decide(subject, Why::Grouped, detail, now);
                        effects.suppress(suppressed::CAUSE, usize::from(event == Event::Opened));
                    }
                }
                if let (Event::Updated, Some(note)) = (event, &note) {
                    effects.decide(&incident.subject, Why::Changed, format!("{note}; to {to}"), now);
                }
            }
            Event::Reminder => effects.decide(&incident.subject, Why::Reminded, format!("as {key} to {to}"), now),
            Event::Resolved => {
                let detail = format!("{} of {all} as {key} to {to}", event.as_str());
                effects.decide(&self.lead.subject, Why::Told, detail, now);
            }
            Event::Digest => {}
        }
        for member in self.members.values_mut().filter(|member| member.open) {
            member.told = true;
        }
        if event != Event::Resolved {
            self.told.extend(self.receivers.iter().cloned());
        }
        self.untold = 0;
        self.due = None;
        self.told_at = Some(now);
        // What was once told as loud is not told again as louder.
        self.severity = self.severity.max(severity);
    }
}
