//! Notifications as Prometheus alerts: label sets, annotations and fingerprints. Shared by the webhook format
//! `alertmanager` and the Alertmanager API.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};

use super::message::Message;
use super::truncate;
use crate::incident::{Incident, Notification, Subject};
use crate::names::Reason;
use crate::secret::Masked;

/// Name of all alerts; the other labels identify the problem.
const NAME: &str = "WachtaIncident";
/// Maximum length of a label value or annotation, in bytes.
const LONGEST: usize = 8 << 10;

/// Label or annotation names with their values, in order.
pub(super) type Labels = BTreeMap<String, String>;

/// Formats a time as RFC 3339 with milliseconds.
pub(super) fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// Returns the labels of a notification's first incident. A tag never replaces one of wachta's own labels.
pub(super) fn labels(notification: &Notification) -> Labels {
    let incident = &notification.incident;
    let mut labels: Labels = incident.tags.iter().map(|(name, value)| (label_name(name), value.clone())).collect();
    labels.extend(own(&incident.subject, incident.severity.as_str(), &incident.location));
    labels.insert("kind".into(), incident.kind.clone());
    bounded(labels)
}

/// Returns the labels that all alerts of wachta have.
pub(super) fn own(subject: &Subject, severity: &str, location: &str) -> Labels {
    [("alertname", NAME), ("scenario", &*subject.text()), ("severity", severity), ("location", location)]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

/// Returns the annotations of a notification's first incident.
pub(super) fn annotations(notification: &Notification, message: &Message) -> Labels {
    let Incident { name, step, message: seen, reason, place, runbook, .. } = &notification.incident;
    let mut annotations = Labels::new();
    for (key, value) in [
        ("summary", Some(message.title.clone())),
        ("description", Some(message.text.clone())),
        ("name", Some(name.clone())),
        ("step", step.clone()),
        ("message", seen.clone().map(Masked::into_inner)),
        ("reason", reason.map(Reason::as_str).map(ToOwned::to_owned)),
        ("place", place.clone()),
        ("note", notification.note.clone()),
        ("ending", notification.incident.ending.map(|ending| ending.meaning().to_owned())),
        ("runbook_url", runbook.clone()),
    ] {
        annotations.extend(value.map(|value| (key.to_owned(), value)));
    }
    annotations.extend(
        message
            .links
            .iter()
            .filter(|(name, _)| *name != "runbook")
            .map(|(name, url)| (format!("{name}_url"), url.clone())),
    );
    bounded(annotations)
}

/// Removes empty values, as Alertmanager does as well, and truncates long ones.
fn bounded(labels: Labels) -> Labels {
    labels
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name, truncate::bytes(&value, LONGEST)))
        .collect()
}

/// Converts the name of a tag into a label name: `[a-zA-Z_][a-zA-Z0-9_]*`.
fn label_name(tag: &str) -> String {
    let mut name: String = tag.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect();
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        name.insert(0, '_');
    }
    name
}

/// Returns the fingerprint that Alertmanager computes for a label set: 64-bit FNV-1a over names and values, with a byte
/// 255 after each.
pub(super) fn fingerprint(labels: &Labels) -> String {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in labels.iter().flat_map(|(name, value)| [name, value]).flat_map(|text| text.bytes().chain([255])) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::template::sample;

    #[test]
    fn tags_become_labels_and_never_hide_ours() {
        let mut notification = sample();
        notification.incident.tags =
            [("service", "shop"), ("severity", "mild"), ("cost-center", "7"), ("1st", "x"), ("", "y"), ("empty", "")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into();
        let shown: Vec<String> =
            labels(&notification).into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            shown,
            [
                "_=y",
                "_1st=x",
                "alertname=WachtaIncident",
                "cost_center=7",
                "kind=browser",
                "location=waw-1",
                "scenario=shop-checkout",
                "service=shop",
                "severity=critical"
            ]
        );
    }

    #[test]
    fn the_fingerprint_is_prometheus_own() {
        // prometheus/common, model/fingerprinting: the hash of the empty set is the FNV offset.
        assert_eq!(fingerprint(&Labels::new()), "cbf29ce484222325");
        let one = Labels::from([("a".to_owned(), "b".to_owned())]);
        let two = Labels::from([("a".to_owned(), "bc".to_owned())]);
        assert_ne!(fingerprint(&one), fingerprint(&two));
    }
}
