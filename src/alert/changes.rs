//! Selection of the incident changes to record: not every bad run of an open incident is a change.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use crate::incident::{Acknowledgement, Change, Incident, Subject, Transition};
use crate::scenario::Severity;

/// Maximum number of failure fingerprints stored per incident.
const MAX_CAUSES: usize = 8;

/// Open incidents as last recorded.
#[derive(Debug, Default)]
pub struct Changes {
    known: HashMap<Subject, Known>,
}

#[derive(Debug)]
struct Known {
    sequence: u64,
    severity: Severity,
    acknowledged: Option<Acknowledgement>,
    /// Failure fingerprints of the incident so far, at least one.
    causes: Vec<String>,
}

impl Known {
    fn of(incident: &Incident, cause: &str) -> Self {
        Self {
            sequence: incident.sequence,
            severity: incident.severity,
            acknowledged: incident.acknowledged.clone(),
            causes: vec![cause.to_owned()],
        }
    }
}

impl Changes {
    /// Creates the state from the open incidents, with their failure fingerprints, as recorded before.
    pub fn new<'a>(open: impl IntoIterator<Item = (&'a Incident, String)>) -> Self {
        let known = |(incident, cause): (&Incident, String)| (incident.subject.clone(), Known::of(incident, &cause));
        Self { known: open.into_iter().map(known).collect() }
    }

    /// Returns the changes of an incident with this failure fingerprint since the last call, in order, still without
    /// numbers.
    pub fn of(&mut self, incident: &Incident, cause: &str, now: DateTime<Utc>) -> Vec<Change> {
        let change = |transition, at| Change {
            seq: 0,
            transition,
            at,
            incident: incident.clone(),
            cause: cause.to_owned(),
            ended_causes: Vec::new(),
        };
        let mut changes = Vec::new();
        if self.known.get(&incident.subject).is_none_or(|known| known.sequence != incident.sequence) {
            changes.push(change(Transition::Opened, incident.opened_at));
            let known = Known { acknowledged: None, ..Known::of(incident, cause) };
            self.known.insert(incident.subject.clone(), known);
        }
        let Some(known) = self.known.get_mut(&incident.subject) else { return changes };
        if let Some(at) = incident.resolved_at {
            let ended = self.known.remove(&incident.subject).map(|known| known.causes).unwrap_or_default();
            let is_over = |cause: &String| !self.known.values().any(|known| known.causes.contains(cause));
            let ended_causes = ended.into_iter().filter(is_over).collect();
            changes.push(Change { ended_causes, ..change(Transition::Resolved, at) });
            return changes;
        }
        let is_new = !known.causes.iter().any(|known| known == cause) && known.causes.len() < MAX_CAUSES;
        if is_new {
            known.causes.push(cause.to_owned());
        }
        if is_new || known.severity != incident.severity {
            known.severity = incident.severity;
            changes.push(change(Transition::Updated, now));
        }
        if known.acknowledged != incident.acknowledged {
            known.acknowledged.clone_from(&incident.acknowledged);
            let transition = match &incident.acknowledged {
                Some(_) => Transition::Acknowledged,
                None => Transition::Unacknowledged,
            };
            changes.push(change(transition, now));
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
        let first = Incident::opened(Subject::from("shop"), 1, &outcome("shop", 'F', 0));
        let ania = Acknowledgement { author: "ania".into(), at: now, until: None };
        let worse = Incident { severity: Severity::Critical, bad_runs: 2, ..first.clone() };
        let taken = Incident { acknowledged: Some(ania.clone()), ..worse.clone() };
        let second = Incident { sequence: 2, ..first.clone() };
        let both = Incident { severity: Severity::Info, acknowledged: Some(ania), ..second.clone() };
        let resolved = |incident: &Incident| Incident { resolved_at: Some(now), ..incident.clone() };
        let short = Incident { sequence: 3, ..first.clone() };
        let steps: [(&str, &Incident, &str, &[&str]); 13] = [
            ("it opens", &first, "a", &["opened"]),
            ("the same", &first, "a", &[]),
            ("another bad run", &Incident { bad_runs: 2, ..first.clone() }, "a", &[]),
            ("louder", &worse, "a", &["updated"]),
            ("another cause", &worse, "b", &["updated"]),
            ("a cause that it had", &worse, "a", &[]),
            ("somebody has it", &taken, "a", &["acknowledged"]),
            ("nobody has it", &worse, "a", &["unacknowledged"]),
            ("it resolves", &resolved(&worse), "a", &["resolved a b"]),
            ("the next one", &second, "a", &["opened"]),
            ("two things at once", &both, "a", &["updated", "acknowledged"]),
            ("it resolves as something else changes", &resolved(&second), "a", &["resolved a"]),
            ("it opened and resolved in between", &resolved(&short), "a", &["opened", "resolved a"]),
        ];
        let mut changes = Changes::default();
        for (what, incident, cause, expected) in steps {
            let found = changes.of(incident, cause, now);
            let word = |change: &Change| {
                let causes = change.ended_causes.iter().map(String::as_str);
                std::iter::once(change.transition.as_str()).chain(causes).collect::<Vec<_>>().join(" ")
            };
            assert_eq!(found.iter().map(word).collect::<Vec<_>>(), expected, "{what}");
        }
        // Incidents that were open before the start are not recorded again.
        assert_eq!(Changes::new([(&first, "a".to_owned())]).of(&first, "a", now), []);
    }

    #[test]
    fn a_cause_ends_with_the_last_incident_that_has_it() {
        let now = DateTime::UNIX_EPOCH;
        let mut changes = Changes::default();
        let incident = |subject: &str| Incident::opened(Subject::from(subject), 1, &outcome(subject, 'F', 0));
        let resolved = |subject: &str| Incident { resolved_at: Some(now), ..incident(subject) };
        for subject in ["shop", "cart"] {
            changes.of(&incident(subject), "host down", now);
        }
        assert_eq!(changes.of(&resolved("shop"), "host down", now)[0].ended_causes, Vec::<String>::new());
        assert_eq!(changes.of(&resolved("cart"), "host down", now)[0].ended_causes, ["host down"]);
    }
}
