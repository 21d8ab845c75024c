//! Incidents of a notification group: how they join, change and resolve. Pure.

use chrono::{DateTime, TimeDelta, Utc};

use super::{CAUSES, FIRST_GROUP_INTERVAL, Group, Join, Member, NOTES};
use crate::alert::effects::Effects;
use crate::alert::fingerprint::FailureFingerprint;
use crate::incident::{DecisionReason, Incident, Subject};
use crate::names::suppressed;

impl Group {
    /// Adds the open incidents of a group that was not notified.
    pub fn absorb(&mut self, other: Self, now: DateTime<Utc>) {
        let number = self.members.len();
        let other_due = other.due;
        for (subject, member) in other.members.into_iter().filter(|(_, member)| member.open) {
            self.open += 1;
            self.unnotified += usize::from(!member.notified);
            self.members.insert(subject, Member { number: number + member.number, ..member });
        }
        self.add_receivers(&other.receivers);
        self.remind = [self.remind, other.remind].into_iter().flatten().min();
        self.notes.extend(other.notes);
        self.notes.truncate(NOTES);
        match self.notified_at {
            Some(notified_at) => self.hurry((notified_at + self.update_interval()).max(now)),
            None => self.due = [self.due, other_due].into_iter().flatten().min(),
        }
    }

    /// Adds an incident that opened.
    pub fn join(&mut self, incident: &Incident, join: Join, now: DateTime<Utc>, effects: &mut Effects) {
        let subject = &incident.subject;
        let number = self.members.len();
        let before = self.members.get(subject);
        let notified = before.is_some_and(|member| member.notified);
        let notified_cause = before.and_then(|member| member.notified_cause.clone());
        let member = Member {
            number: before.map_or(number, |member| member.number),
            severity: incident.severity,
            open: true,
            notified,
            cause: join.cause,
            notified_cause,
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
            self.unnotified += usize::from(!notified);
        }
        self.members.insert(subject.clone(), member);
        self.add_receivers(&join.receivers);
        let remind = join.remind.map(|remind| remind.as_secs().max(1));
        self.remind = [self.remind, remind].into_iter().flatten().min();
        let has_note = join.note.is_some();
        self.notes.extend(join.note.filter(|_| self.notes.len() < NOTES));
        let Some(notified_at) = self.notified_at else {
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
        } else if !notified {
            self.hurry((notified_at + self.update_interval()).max(now));
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

    /// Handles a raised severity of an incident, and adds receivers.
    pub fn raise(&mut self, incident: &Incident, receivers: &[String], wait: TimeDelta, now: DateTime<Utc>) {
        let Some(member) = self.members.get_mut(&incident.subject).filter(|member| member.open) else { return };
        member.severity = incident.severity;
        self.add_receivers(receivers);
        if self.notified_at.is_none() {
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
        if self.hushed || self.notified_at.is_none() || self.causes.contains(&key) || self.causes.len() >= CAUSES {
            return;
        }
        self.causes.push(key);
        let interval = if self.wide { self.update_interval() } else { FIRST_GROUP_INTERVAL };
        self.hurry(self.notified_at.map_or(now, |at| at + interval).max(now));
    }

    /// Marks an incident as resolved; `last` is its last state.
    pub fn resolve_member(
        &mut self,
        subject: &Subject,
        last: Option<&Incident>,
        now: DateTime<Utc>,
        effects: &mut Effects,
    ) {
        let Some(member) = self.members.get_mut(subject).filter(|member| member.open) else { return };
        member.open = false;
        self.open -= 1;
        let notified = member.notified;
        if !notified {
            self.unnotified -= 1;
            effects.suppress(suppressed::RESOLVED_EARLY, 1);
        }
        let resolved_at = last.map_or(Some(now), |last| last.resolved_at);
        let ending = last.and_then(|last| last.ending);
        self.ended_at = self.ended_at.max(resolved_at);
        if *subject == self.lead.subject {
            match last.filter(|last| last.sequence == self.lead.sequence) {
                Some(last) => self.lead = last.clone(),
                // The incident opened again in the meantime. The dedup key stays that of the opening that was notified.
                None => (self.lead.resolved_at, self.lead.ending) = (resolved_at, ending),
            }
        }
        if let Some(shown) = self.shown.iter_mut().find(|shown| shown.subject == *subject) {
            shown.resolved_at = resolved_at;
            shown.ending = ending;
        }
        if !notified {
            effects.decide(subject, DecisionReason::ResolvedEarly, "resolved before a notification was sent", now);
        } else if self.open > 0 {
            let detail = format!("others of {1} still open: {0}", self.open, self.key());
            effects.decide(subject, DecisionReason::Grouped, detail, now);
        }
        // If no news is left, the update is dropped. The members are checked only if one was due, otherwise each
        // resolution would iterate over all others.
        if self.due.is_some() && self.notified_at.is_some() && self.unnotified == 0 && self.notes.is_empty() {
            let is_raised = self.members.values().any(|member| member.open && Some(member.severity) > self.severity);
            self.due = self.due.filter(|_| is_raised);
        }
        if self.open == 0 {
            self.due = self.notified_at.map(|_| now);
            self.quiet_until = None;
        }
    }
}
