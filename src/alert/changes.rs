//! Which changes of incidents are worth a record: not every bad run of an open incident is one.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use crate::incident::{Acknowledgement, Change, Incident, Subject, Transition};
use crate::names::Reason;
use crate::scenario::Severity;

/// The open incidents as they were last recorded.
#[derive(Debug, Default)]
pub struct Changes {
    known: HashMap<Subject, Known>,
}

#[derive(Debug, PartialEq)]
struct Known {
    opening: u64,
    cause: (Severity, Option<Reason>, Option<String>),
    acknowledged: Option<Acknowledgement>,
}

impl Known {
    fn of(incident: &Incident) -> Self {
        Self {
            opening: incident.opening,
            cause: (incident.severity, incident.reason, incident.step.clone()),
            acknowledged: incident.acknowledged.clone(),
        }
    }
}

impl Changes {
    /// Begins with what was recorded before: the incidents that are open.
    pub fn new<'a>(open: impl IntoIterator<Item = &'a Incident>) -> Self {
        Self { known: open.into_iter().map(|incident| (incident.subject.clone(), Known::of(incident))).collect() }
    }

    /// Returns what changed of an incident since it was last asked about, in order, without numbers.
    pub fn of(&mut self, incident: &Incident, now: DateTime<Utc>) -> Vec<Change> {
        let change = |transition, at| Change { seq: 0, transition, at, incident: incident.clone() };
        let known = self.known.get(&incident.subject).filter(|known| known.opening == incident.opening);
        let mut changes = Vec::new();
        match known {
            None => changes.push(change(Transition::Opened, incident.opened_at)),
            Some(known) => {
                if known.cause.0 != incident.severity
                    || known.cause.1 != incident.reason
                    || known.cause.2 != incident.step
                {
                    changes.push(change(Transition::Updated, now));
                }
            }
        }
        if known.and_then(|known| known.acknowledged.as_ref()) != incident.acknowledged.as_ref() {
            let transition = match &incident.acknowledged {
                Some(_) => Transition::Acknowledged,
                None => Transition::Unacknowledged,
            };
            changes.push(change(transition, now));
        }
        match incident.resolved_at {
            Some(at) => {
                changes.retain(|change| change.transition == Transition::Opened);
                changes.push(change(Transition::Resolved, at));
                self.known.remove(&incident.subject);
            }
            None if changes.is_empty() => {}
            None => drop(self.known.insert(incident.subject.clone(), Known::of(incident))),
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::fixtures::outcome;

    #[test]
    fn what_changes_is_recorded_and_nothing_else() {
        let now = DateTime::UNIX_EPOCH;
        let first = Incident::opened(Subject("shop".into()), 1, &outcome("shop", 'F', 0));
        let ania = Acknowledgement { author: "ania".into(), at: now, until: None };
        let worse = Incident { severity: Severity::Critical, bad_runs: 2, ..first.clone() };
        let taken = Incident { acknowledged: Some(ania.clone()), ..worse.clone() };
        let over = Incident { resolved_at: Some(now), ..worse.clone() };
        let second = Incident { opening: 2, ..first.clone() };
        let both = Incident { severity: Severity::Info, acknowledged: Some(ania), ..second.clone() };
        let short = Incident { opening: 3, resolved_at: Some(now), ..first.clone() };
        let steps: [(&str, &Incident, &[&str]); 11] = [
            ("it opens", &first, &["opened"]),
            ("the same", &first, &[]),
            ("another bad run", &Incident { bad_runs: 2, ..first.clone() }, &[]),
            ("louder", &worse, &["updated"]),
            ("somebody has it", &taken, &["acknowledged"]),
            ("nobody has it", &worse, &["unacknowledged"]),
            ("it resolves", &over, &["resolved"]),
            ("the next one", &second, &["opened"]),
            ("two things at once", &both, &["updated", "acknowledged"]),
            (
                "it resolves as something else changes",
                &Incident { resolved_at: Some(now), ..second.clone() },
                &["resolved"],
            ),
            ("it opened and resolved in between", &short, &["opened", "resolved"]),
        ];
        let mut changes = Changes::default();
        for (what, incident, expected) in steps {
            let found = changes.of(incident, now);
            let found: Vec<_> = found.iter().map(|change| change.transition.as_str()).collect();
            assert_eq!(found, expected, "{what}");
        }
        // What was open before the start is known.
        assert_eq!(Changes::new([&first]).of(&first, now), []);
    }
}
