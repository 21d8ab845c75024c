//! Who is told of an incident, and with which others. Pure.

use std::collections::BTreeMap;

use chrono::TimeDelta;

use crate::incident::Incident;
use crate::notify::{Alerting, LOG, Route};
use crate::scenario::Severity;

/// How long a group gathers where its route does not say it.
const GROUP_WAIT: TimeDelta = TimeDelta::seconds(30);

/// Where an incident goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routed {
    /// Who is told.
    pub receivers: Vec<String>,
    /// `key=value` of what `group_by` names, in its order.
    pub by: Vec<String>,
    /// How long its group gathers.
    pub wait: TimeDelta,
}

/// Routes an incident: the first route that matches, top down. Without routes every receiver is told; where none
/// matches, the log.
pub fn route(alerting: &Alerting, incident: &Incident) -> Routed {
    let found = alerting.routes.iter().find(|route| is_meant(&route.matches, incident));
    let receivers = match found {
        Some(route) => route.to.clone(),
        None if alerting.routes.is_empty() && !alerting.receivers.is_empty() => {
            alerting.receivers.iter().map(|receiver| receiver.name.clone()).collect()
        }
        None => vec![LOG.to_owned()],
    };
    let by = found.map(|route| route.group_by.as_slice()).unwrap_or_default().iter();
    let by = by.map(|key| format!("{key}={}", fact(incident, key).unwrap_or_default())).collect();
    Routed { receivers, by, wait: wait(found, incident.severity) }
}

fn wait(route: Option<&Route>, severity: Severity) -> TimeDelta {
    match route.and_then(|route| route.group_wait) {
        Some(wait) => TimeDelta::from_std(wait).unwrap_or(TimeDelta::MAX),
        None if severity == Severity::Critical => TimeDelta::zero(),
        None => GROUP_WAIT,
    }
}

/// Whether all that a `match` says holds. An incident is at each of its locations.
pub fn is_meant(matches: &BTreeMap<String, String>, incident: &Incident) -> bool {
    let at = |location: &str| incident.location.split(", ").any(|one| one == location);
    matches.iter().all(|(key, value)| fact(incident, key) == Some(value.as_str()) || (key == "location" && at(value)))
}

/// What a key of `match` or `group_by` says of an incident: one of four words, or else a tag.
pub fn fact<'a>(incident: &'a Incident, key: &str) -> Option<&'a str> {
    match key {
        "severity" => Some(incident.severity.as_str()),
        "scenario" => Some(incident.subject.scenario()),
        "location" => Some(&incident.location),
        "kind" => Some(&incident.kind),
        tag => incident.tags.get(tag).map(String::as_str),
    }
}
