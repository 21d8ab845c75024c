//! Who is told of an incident. Pure.

use crate::incident::Incident;
use crate::notify::{Alerting, LOG};

/// The receivers of an incident: those of the first route that matches, top down. Without routes every receiver;
/// where none matches, the log.
pub fn receivers(alerting: &Alerting, incident: &Incident) -> Vec<String> {
    if alerting.routes.is_empty() {
        let all: Vec<String> = alerting.receivers.iter().map(|receiver| receiver.name.clone()).collect();
        return if all.is_empty() { vec![LOG.to_owned()] } else { all };
    }
    let fits = |key: &str, value: &str| match key {
        "severity" => incident.severity.as_str() == value,
        "scenario" => incident.subject.0 == value,
        "location" => incident.location == value,
        "kind" => incident.kind == value,
        tag => incident.tags.get(tag).is_some_and(|tag| tag == value),
    };
    alerting
        .routes
        .iter()
        .find(|route| route.matches.iter().all(|(key, value)| fits(key, value)))
        .map_or_else(|| vec![LOG.to_owned()], |route| route.to.clone())
}
