//! Notifications of a group: when they are due, what they contain, and escalation. Pure.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::{CAUSES, Group, Member, NOTES, OTHERS};
use crate::alert::effects::Effects;
use crate::alert::escalation::Escalation;
use crate::alert::stages::mute::Muted;
use crate::incident::{Acknowledgement, DecisionReason, Event, Incident, Notification, RelatedIncident, Subject};
use crate::names::suppressed;
use crate::scenario::HumanDuration;

impl Group {
    /// Describes the open incidents whose failure differs from the last notification. Empty for a wide group, which
    /// lists all failures instead.
    fn changes(&self) -> Vec<String> {
        let open = self.members.iter().filter(|(_, member)| member.open);
        let changed = open.filter_map(|(subject, member)| {
            let (was, is) = (member.notified_cause.as_ref()?, &member.cause);
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
        let is_other = |member: &Member| {
            member.notified_cause.as_ref().is_some_and(|notified| notified.brief != member.cause.brief)
        };
        let changed = self.members.values().any(|member| member.open && is_other(member));
        (self.wide && (causes.len() > 1 || changed)).then(|| format!("causes: {}{more}", shown.join(", ")))
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
    pub fn flush<'a>(
        &mut self,
        now: DateTime<Utc>,
        find: impl Fn(&Subject) -> Option<&'a Incident>,
        muted: impl Fn(&Incident) -> Option<Muted>,
        effects: &mut Effects,
    ) {
        self.expire(now, effects);
        let event = match (self.open, self.notified_at) {
            (0, None) => return,
            (0, Some(_)) => Event::Resolved,
            (_, None) => Event::Opened,
            _ if self.due.is_some_and(|due| due <= now) => Event::Updated,
            _ => Event::Reminder,
        };
        self.quiet_until = None;
        if let Some(Muted { until, reason, detail, .. }) = self.all_muted(&find, &muted) {
            self.quiet_until = Some(until);
            let is_maintenance = reason == DecisionReason::Maintenance;
            effects.suppress(if is_maintenance { suppressed::MAINTENANCE } else { suppressed::SILENCE }, 1);
            effects.decide(&self.lead.subject, reason, format!("{} of {}: {detail}", event.as_str(), self.key()), now);
            return;
        }
        if event == Event::Reminder && self.escalate_at().is_some_and(|at| at <= now) {
            return self.escalate(now, find, effects);
        }
        if let (Event::Reminder, Some(who)) = (event, &self.acknowledged) {
            effects.suppress(suppressed::ACKNOWLEDGED, 1);
            let detail = format!("reminder not sent: acknowledged by {}", who.author);
            effects.decide(&self.lead.subject, DecisionReason::Acknowledged, detail, now);
            self.notified_at = Some(now);
            return;
        }
        let mut open: Vec<(&Subject, &Member)> = self.members.iter().filter(|(_, member)| member.open).collect();
        open.sort_by_key(|(_, member)| (std::cmp::Reverse(member.severity), member.number));
        let severity = open.first().map(|(_, member)| member.severity);
        let news = open.iter().filter(|(_, member)| !member.notified).count();
        let mut notes = std::mem::take(&mut self.notes);
        let is_raised = self.severity.zip(severity).is_some_and(|(was, is)| is > was);
        if event != Event::Opened {
            notes.extend(self.changes());
            notes.truncate(NOTES);
        }
        let is_widened =
            self.wide && open.iter().any(|(_, member)| member.notified_cause.as_ref() != Some(&member.cause));
        if event == Event::Updated && news == 0 && notes.is_empty() && !is_raised && !is_widened {
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
            let event = match (event, self.notified.contains(receiver)) {
                (Event::Resolved, false) => continue,
                (_, false) => Event::Opened,
                (event, true) => event,
            };
            effects.before_limit.push(Notification {
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
                    if member.notified {
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
            member.notified = true;
            if member.notified_cause.as_ref() != Some(&member.cause) {
                member.notified_cause = Some(member.cause.clone());
            }
        }
        self.first_notified_at.get_or_insert(now);
        self.unattended_since.get_or_insert(now);
        if event != Event::Resolved {
            self.notified.extend(self.receivers.iter().cloned());
        }
        self.unnotified = 0;
        self.due = None;
        self.notified_at = Some(now);
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
            let event = if self.notified.contains(receiver) { Event::Reminder } else { Event::Opened };
            effects.before_limit.push(Notification {
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
        self.add_receivers(&to);
        self.notified.extend(to);
    }
}
