//! Operator commands: silences and maintenance windows, acknowledgements, manual resolution.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::Pipeline;
use crate::alert::fingerprint::host_of_scenario;
use crate::incident::{Acknowledgement, AlertCommand, DecisionReason, Incident, Matchers, Mute, Subject};

/// Maximum number of incidents and scenarios named in a result.
const NAMED: usize = 5;

impl Pipeline {
    /// Executes an operator command. Returns a confirmation or an error message.
    pub fn execute(&mut self, command: AlertCommand, now: DateTime<Utc>) -> Result<String, String> {
        let result = match command {
            AlertCommand::Mute(mute) => self.mute(mute, now),
            AlertCommand::Preview { matches } => {
                self.hits(&matches).ok_or_else(|| format!("{matches} matches no open incident and no scenario"))
            }
            AlertCommand::Expire { id } => self.expire(&id, now),
            AlertCommand::Acknowledge { key, author, length } => self.acknowledge(&key, author, length, now),
            AlertCommand::Unacknowledge { key, author, of } => self.unacknowledge(&key, &author, of.as_deref(), now),
            AlertCommand::Resolve { key, author, reason } => self.resolve_by_hand(&key, &author, &reason, now),
            AlertCommand::ResolveGroup { key, author, reason } => self.resolve_group(&key, &author, &reason, now),
        };
        self.limit(now);
        result
    }

    fn mute(&mut self, mut mute: Mute, now: DateTime<Utc>) -> Result<String, String> {
        if mute.until <= now {
            return Err("end time is not in the future".into());
        }
        let hits = self.hits(&mute.matches);
        // Before the files are loaded, matches cannot be evaluated. The author of a deferred command has confirmed it
        // already.
        if hits.is_none() && !mute.confirmed && self.ready {
            return Err(format!(
                "{} matches no open incident and no scenario; confirm it to silence future matches",
                mute.matches
            ));
        }
        mute.confirmed = true;
        let hits = hits.unwrap_or_else(|| "nothing at the moment".into());
        let during = mute.during.as_ref().map(|during| format!(", {during}")).unwrap_or_default();
        let done = format!("{} until {}{during}: matches {hits}", mute.id, mute.until.format("%F %T"));
        self.suppressions.add_mute(mute, &mut self.context);
        Ok(done)
    }

    /// Describes the open incidents and scenarios that match, or returns `None` without a match.
    pub fn hits(&self, matches: &Matchers) -> Option<String> {
        let open = self.states.open_incidents().filter(|incident| matches.fits(incident));
        let mut open: Vec<String> = open.map(Incident::dedup_key).collect();
        open.sort_unstable();
        let fits = |scenario: &&std::sync::Arc<crate::scenario::Scenario>| {
            matches.fits_scenario(scenario, &self.states.location, host_of_scenario(scenario).as_deref())
        };
        let scenarios: Vec<String> =
            self.context.scenarios.values().filter(fits).map(|scenario| scenario.id.value.to_string()).collect();
        let listed = |what: &str, all: &[String]| {
            let more = all.len().saturating_sub(NAMED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let plural = if all.len() == 1 { "" } else { "s" };
            format!("{} {what}{plural} ({}{more})", all.len(), all[..all.len().min(NAMED)].join(", "))
        };
        let parts: Vec<String> = [("open incident", &open), ("scenario", &scenarios)]
            .into_iter()
            .filter(|(_, all)| !all.is_empty())
            .map(|(what, all)| listed(what, all))
            .collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    fn expire(&mut self, id: &str, now: DateTime<Utc>) -> Result<String, String> {
        if !self.suppressions.remove_mute(id, &mut self.context) {
            return Err(format!("no silence or maintenance with the id `{id}`"));
        }
        self.groups.unmute();
        self.suppressions.release_muted_by(id, &mut self.context, now);
        Ok(format!("{id} has ended"))
    }

    /// Returns the subject of the open incident with this key, or of one in the notification with this key.
    fn subject_of(&self, key: &str) -> Result<Subject, String> {
        let missing =
            || format!("no open incident with the key `{key}`; list open incidents with `wachta alerts list`");
        let own = key.rsplit_once(':').map(|(subject, _)| Subject::from(subject));
        let own = own.filter(|own| self.incident(own).is_some_and(|open| open.dedup_key() == key));
        let of_group = || self.groups.with_key(key)?.open_members().next().cloned();
        own.or_else(of_group).ok_or_else(missing)
    }

    /// Returns the same as [`Pipeline::subject_of`], limited to incidents that were or will be notified.
    fn grouped_subject(&self, key: &str) -> Result<Subject, String> {
        let subject = self.subject_of(key)?;
        match self.groups.of(&subject) {
            Some(_) => Ok(subject),
            None => Err(format!(
                "no notification of `{key}` was sent yet, because it is suppressed; see `wachta alerts why {subject}`"
            )),
        }
    }

    fn acknowledge(
        &mut self,
        key: &str,
        author: String,
        length: Option<Duration>,
        now: DateTime<Utc>,
    ) -> Result<String, String> {
        let subject = self.grouped_subject(key)?;
        if let Some(who) = self.groups.of(&subject).and_then(|group| group.acknowledged()) {
            let since = who.at.format("%F %T");
            return if who.author == author && length.is_none() {
                Ok(format!("{key} is already acknowledged by {author} since {since}"))
            } else {
                Err(format!(
                    "`{key}` is acknowledged by {} since {since}; withdraw that first with `wachta alerts unack`",
                    who.author
                ))
            };
        }
        let until = length.and_then(|length| now.checked_add_signed(TimeDelta::from_std(length).ok()?));
        let how_long = until.map(|until| format!(" until {}", until.format("%F %T"))).unwrap_or_default();
        let note = format!("acknowledged by {author}{how_long}");
        let who = Acknowledgement { author, at: now, until };
        for subject in self.groups.acknowledge(&subject, Some(who.clone()), &note, now) {
            self.context.effects.decide(
                &subject,
                DecisionReason::Acknowledged,
                format!("{note}; reminders stopped"),
                now,
            );
            self.context.effects.acknowledged.push((subject, Some(who.clone())));
        }
        Ok(format!("{key} {note}"))
    }

    fn unacknowledge(
        &mut self,
        key: &str,
        author: &str,
        of: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<String, String> {
        let subject = self.grouped_subject(key)?;
        let Some(who) = self.groups.of(&subject).and_then(|group| group.acknowledged()).cloned() else {
            return Err(format!("`{key}` is not acknowledged"));
        };
        if let Some(of) = of.filter(|of| *of != who.author) {
            return Err(format!("`{key}` is acknowledged by {} and not by {of}", who.author));
        }
        let note = format!("acknowledgement by {} withdrawn by {author}", who.author);
        for subject in self.groups.acknowledge(&subject, None, &note, now) {
            self.context.effects.decide(&subject, DecisionReason::Acknowledged, note.clone(), now);
            self.context.effects.acknowledged.push((subject, None));
        }
        Ok(format!("{key} {note}"))
    }

    fn resolve_by_hand(&mut self, key: &str, author: &str, reason: &str, now: DateTime<Utc>) -> Result<String, String> {
        let subject = self.subject_of(key)?;
        let by = format!("{author}: {reason}");
        let others = self.groups.of(&subject).map_or(0, |group| group.open_members().count().saturating_sub(1));
        if !self.close_by_hand(&subject, &by, now) {
            return Err(format!("no open incident with the key `{key}`"));
        }
        let others =
            if others > 0 { format!("; others of its notification still open: {others}") } else { String::new() };
        Ok(format!("{key} resolved by {by}{others}"))
    }

    /// Resolves all open incidents of a notification.
    fn resolve_group(&mut self, key: &str, author: &str, reason: &str, now: DateTime<Utc>) -> Result<String, String> {
        let members = match self.groups.with_key(key) {
            Some(group) => group.open_members().cloned().collect(),
            None => vec![self.subject_of(key)?],
        };
        let by = format!("{author}: {reason}");
        let closed = members.into_iter().filter(|subject| self.close_by_hand(subject, &by, now)).count();
        let plural = if closed == 1 { "" } else { "s" };
        Ok(format!("{closed} incident{plural} of {key} resolved by {by}"))
    }

    /// Resolves the open incident of a subject. Returns whether there was one.
    fn close_by_hand(&mut self, subject: &Subject, by: &str, now: DateTime<Utc>) -> bool {
        let Some(evaluation) = self.states.close(subject, by, now) else { return false };
        self.context.effects.alert_states.insert(subject.clone());
        self.pass(evaluation, None, now);
        true
    }
}
