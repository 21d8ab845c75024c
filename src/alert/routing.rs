//! Routing: the receivers of an incident, and the incidents it is grouped with. Pure.

use chrono::{DateTime, TimeDelta, Utc};

use super::escalation::Escalation;
use crate::incident::Incident;
use crate::notify::{Alerting, Causes, LOG, Route};
use crate::scenario::Severity;

/// Group wait of routes that do not specify one.
const GROUP_WAIT: TimeDelta = TimeDelta::seconds(30);

/// Route of an incident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteMatch {
    /// Receivers to notify.
    pub receivers: Vec<String>,
    /// Values of the `group_by` labels as `key=value`, in their order.
    pub by: Vec<String>,
    /// Whether different failure fingerprints form different groups.
    pub causes: Causes,
    /// Group wait.
    pub wait: TimeDelta,
    /// Escalation steps while the group is not acknowledged.
    pub escalate: Vec<Escalation>,
}

/// Routes an incident: the first matching route is used, top down. Without routes, all receivers are notified; if no
/// route matches, the incident is only logged.
pub fn route(alerting: &Alerting, incident: &Incident, now: DateTime<Utc>) -> RouteMatch {
    let is_time = |route: &Route| route.during.as_ref().is_none_or(|during| during.contains(now));
    let found = alerting.routes.iter().find(|route| is_time(route) && route.matches.fits(incident));
    let receivers = match found {
        Some(route) => route.to.clone(),
        None if alerting.routes.is_empty() && !alerting.receivers.is_empty() => {
            alerting.receivers.iter().map(|receiver| receiver.name.clone()).collect()
        }
        None => vec![LOG.to_owned()],
    };
    let by = found.map(|route| route.group_by.as_slice()).unwrap_or_default().iter();
    let by = by
        .map(|key| format!("{key}={}", incident.values(key).first().map(|value| &**value).unwrap_or_default()))
        .collect();
    let escalate = found.and_then(|route| route.escalate.as_ref()).unwrap_or(&alerting.escalate).iter();
    let escalate = escalate.map(|step| Escalation { after: step.after.as_secs(), to: step.to.clone() }).collect();
    let causes = found.map(|route| route.causes).unwrap_or_default();
    RouteMatch { receivers, by, causes, wait: wait(found, incident.severity), escalate }
}

fn wait(route: Option<&Route>, severity: Severity) -> TimeDelta {
    match route.and_then(|route| route.group_wait) {
        Some(wait) => TimeDelta::from_std(wait).unwrap_or(TimeDelta::MAX),
        None if severity == Severity::Critical => TimeDelta::zero(),
        None => GROUP_WAIT,
    }
}
