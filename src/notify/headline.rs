//! Headline of a notification, short enough for a phone: severity, scenario, problem and place. Pure.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{test_notification, truncate};
use crate::incident::{Ending, Event, Incident, Notification, Subject};
use crate::outcome::Verdict;
use crate::scenario::HumanDuration;

/// Maximum number of characters for the problem.
const WRONG: usize = 110;
/// Maximum number of characters for the place.
const WHERE: usize = 80;

/// Returns a headline like `[CRITICAL] Shop checkout failed at waw-1: click button "Pay now": no such element at
/// https://…`.
pub fn headline(notification: &Notification) -> String {
    let incident = &notification.incident;
    if test_notification::is_trial(incident) {
        return test_notification::headline(notification);
    }
    let severity = incident.severity.as_str().to_uppercase();
    let more = notification.others.len() + notification.uncounted;
    let name = if more == 0 { incident.name.clone() } else { format!("{} and {more} more", incident.name) };
    if notification.event == Event::Resolved {
        return resolved(notification, &name, more);
    }
    // The incidents collected by an opening are listed in the text. The headline contains only the notes that explain
    // why or when it is sent.
    let is_news = |part: &&str| notification.event != Event::Opened || NEWS.iter().any(|begin| part.starts_with(begin));
    let parts = notification.note.iter().flat_map(|note| note.split("; ")).filter(is_news);
    let parts: Vec<String> = parts.map(beside_the_count).collect();
    let note = if parts.is_empty() { String::new() } else { format!(", {}", parts.join("; ")) };
    let place = &incident.location;
    if notification.event == Event::Digest {
        return digest(notification, &name);
    }
    if let Some(unwatched) = &incident.unwatched {
        let wrong = wrong(incident).map(|wrong| format!("; was: {wrong}")).unwrap_or_default();
        let since = minute(unwatched.since);
        return format!("[{severity}] {name} at {place}: not monitored, no runs since {since}{note}{wrong}");
    }
    let still = match notification.event {
        Event::Reminder => {
            format!(" for {}, since {}", lasted(incident, notification.queued_at), minute(incident.began()))
        }
        _ => String::new(),
    };
    if matches!(incident.subject, Subject::Agent(_)) {
        return format!(
            "[{severity}] {name}{still}{note}: {}",
            incident.message.as_deref().unwrap_or("agent cannot run tests")
        );
    }
    if matches!(incident.subject, Subject::Objective(_)) {
        let wrong = incident.message.as_deref().map(|message| format!(": {message}"));
        let burns =
            if notification.event == Event::Reminder { "is still burning too fast" } else { "is burning too fast" };
        return format!("[{severity}] {name}: error budget {burns}{still}{note}{}", wrong.unwrap_or_default());
    }
    let verb = match (notification.event, incident.verdict) {
        (Event::Reminder, Verdict::Failed) => "still failing",
        (Event::Reminder, Verdict::Degraded) => "still degraded",
        (_, verdict) => verdict.as_str(),
    };
    let wrong = wrong(incident).map(|wrong| format!(": {wrong}")).unwrap_or_default();
    format!("[{severity}] {name} {verb} at {place}{still}{note}{wrong}")
}

/// Rewords a note for the headline, which has already stated the total number.
fn beside_the_count(part: &str) -> String {
    let new = part.strip_suffix(" in all").and_then(|part| part.split_once(" more, "));
    new.map_or_else(|| part.to_owned(), |(new, _)| format!("{new} of them new"))
}

/// Prefixes of the notes that explain why an opening is sent at all, or sent now.
const NEWS: [&str; 5] = ["is flapping", "no notifications", "not acknowledged", "delivered late", "fallback for `"];

/// Returns the headline of a digest: the number of suppressed notifications, and the incident that represents them.
fn digest(notification: &Notification, name: &str) -> String {
    let incident = &notification.incident;
    let held = notification.note.as_deref().unwrap_or("rate-limited notifications");
    let (severity, is) = if incident.is_open() {
        (incident.severity.as_str().to_uppercase(), ": ")
    } else {
        ("RESOLVED".to_owned(), "; was: ")
    };
    let wrong = wrong(incident).map(|wrong| format!("{is}{wrong}")).unwrap_or_default();
    format!("[{severity}] {held}: {name} at {}{wrong}", incident.location)
}

/// Returns the headline of a resolution: the former problem, and its duration.
fn resolved(notification: &Notification, name: &str, more: usize) -> String {
    let incident = &notification.incident;
    let after = lasted(incident, incident.resolved_at.unwrap_or(notification.queued_at));
    let endings = || std::iter::once(incident.ending).chain(notification.others.iter().map(|other| other.ending));
    let was = wrong(incident).map(|wrong| format!("; was: {wrong}")).unwrap_or_default();
    let is = if more == 0 { "is" } else { "are" };
    let unlike = endings().filter(|ending| *ending != incident.ending).count();
    if unlike > 0 {
        let count = |wanted: Option<Ending>| endings().filter(|ending| *ending == wanted).count();
        let all = [
            (count(None) + notification.uncounted, "recovered"),
            (count(Some(Ending::Removed)), "removed and no longer monitored"),
            (count(Some(Ending::Paused)), "paused and not monitored"),
            (count(Some(Ending::ByHand)), "resolved by hand"),
        ];
        let all: Vec<String> =
            all.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
        return format!("[RESOLVED] {name} resolved after {after}: {}{was}", all.join(", "));
    }
    match incident.ending {
        Some(Ending::Removed) => format!("[REMOVED] {name} {is} no longer monitored, after {after}{was}"),
        Some(Ending::Paused) => format!("[PAUSED] {name} {is} paused and not monitored, after {after}{was}"),
        Some(Ending::ByHand) => {
            let by = incident.ending_reason.as_deref().map(|reason| format!(" by {reason}")).unwrap_or_default();
            format!("[RESOLVED] {name} {is} resolved by hand after {after}{by}{was}")
        }
        None if matches!(incident.subject, Subject::Agent(_)) => {
            format!("[RESOLVED] {name} recovered after {after}{was}")
        }
        None if matches!(incident.subject, Subject::Objective(_)) => {
            // The message of a resolved error budget contains its used share.
            let used = incident.message.as_deref().map(|message| format!("; {message}")).unwrap_or_default();
            format!("[RESOLVED] {name}: error budget burn is back to normal after {after}{used}")
        }
        None => format!("[RESOLVED] {name} recovered at {} after {after}{was}", incident.location),
    }
}

/// Returns the problem and the place, without repetitions.
fn wrong(incident: &Incident) -> Option<String> {
    let message = incident.message.as_deref().map(|message| {
        // The expected value is part of the text below the headline.
        truncate::chars(message.split(": expected ").next().unwrap_or(message), WRONG)
    });
    // A step name that only consists of a URL is already included as the place.
    let step = incident.step.as_deref().filter(|step| !step.contains("://") || message.is_none());
    let mut parts: Vec<String> = step.map(|step| truncate::chars(step, WRONG)).into_iter().collect();
    parts.extend(message);
    let mut line = parts.join(": ");
    if line.is_empty() && incident.target.is_none() {
        return None;
    }
    if let Some(target) = incident.target.as_deref().filter(|target| !mentions(&line, target)) {
        let at = if line.is_empty() { "" } else { " at " };
        line.push_str(at);
        line.push_str(&truncate::chars(target, WHERE));
    }
    Some(line)
}

/// Returns whether a line already contains the URL, or its host and port.
fn mentions(line: &str, target: &str) -> bool {
    let host = target.split_once("://").map_or(target, |(_, rest)| rest).split('/').next().unwrap_or(target);
    line.contains(target) || (!host.is_empty() && line.contains(host))
}

/// Returns the time since the first bad run of an incident, rounded to seconds, or to minutes from one hour.
fn lasted(incident: &Incident, until: DateTime<Utc>) -> HumanDuration {
    let seconds = (until - incident.began()).num_seconds().unsigned_abs();
    HumanDuration(Duration::from_secs(if seconds >= 3600 { seconds / 60 * 60 } else { seconds }))
}

fn minute(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incident::RelatedIncident;
    use crate::notify::template::sample;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
    }

    /// Returns a notification of a single check with status 500.
    fn notification(event: Event) -> Notification {
        let mut notification = sample();
        notification.event = event;
        notification.queued_at = at(7320);
        (notification.others, notification.uncounted, notification.note) = (Vec::new(), 0, None);
        let incident = &mut notification.incident;
        incident.name = "Cart".into();
        incident.step = Some("GET https://shop.example.com/cart".into());
        incident.message = Some("GET returned status 500: expected a status from 200 to 299, got 500".into());
        incident.target = Some("https://shop.example.com/cart".into());
        incident.resolved_at = (event == Event::Resolved).then(|| at(750));
        notification
    }

    #[test]
    fn the_line_says_how_loud_what_where_and_since_when_once() {
        let check = |change: &dyn Fn(&mut Notification), event: Event, expected: &str| {
            let mut notification = notification(event);
            change(&mut notification);
            assert_eq!(headline(&notification), expected);
        };
        let none = |_: &mut Notification| {};
        let wrong = "GET returned status 500 at https://shop.example.com/cart";
        check(&none, Event::Opened, &format!("[CRITICAL] Cart failed at waw-1: {wrong}"));
        check(
            &none,
            Event::Reminder,
            &format!("[CRITICAL] Cart still failing at waw-1 for 2h2m, since 2027-01-15 08:00 UTC: {wrong}"),
        );
        check(&none, Event::Resolved, &format!("[RESOLVED] Cart recovered at waw-1 after 12m30s; was: {wrong}"));
        let ended = |ending: Ending| {
            move |notification: &mut Notification| {
                notification.incident.ending = Some(ending);
                notification.incident.ending_reason = Some("ania: known".into()).filter(|_| ending == Ending::ByHand);
            }
        };
        check(
            &ended(Ending::Removed),
            Event::Resolved,
            &format!("[REMOVED] Cart is no longer monitored, after 12m30s; was: {wrong}"),
        );
        check(
            &ended(Ending::Paused),
            Event::Resolved,
            &format!("[PAUSED] Cart is paused and not monitored, after 12m30s; was: {wrong}"),
        );
        check(
            &ended(Ending::ByHand),
            Event::Resolved,
            &format!("[RESOLVED] Cart is resolved by hand after 12m30s by ania: known; was: {wrong}"),
        );
        // One of two was removed: the headline does not state that it recovered.
        let one_removed = |notification: &mut Notification| {
            let other = Incident { ending: Some(Ending::Removed), ..notification.incident.clone() };
            notification.others = vec![RelatedIncident::of(&other)];
        };
        check(
            &one_removed,
            Event::Resolved,
            &format!(
                "[RESOLVED] Cart and 1 more resolved after 12m30s: 1 recovered, 1 removed and no longer monitored; was: {wrong}"
            ),
        );
        // A host that is part of the message is not repeated.
        let refused = |notification: &mut Notification| {
            notification.incident.message = Some("no connection to shop.example.com:443: refused".into());
            notification.incident.target = Some("https://shop.example.com:443/cart".into());
        };
        check(
            &refused,
            Event::Opened,
            "[CRITICAL] Cart failed at waw-1: no connection to shop.example.com:443: refused",
        );
        let noted =
            |notification: &mut Notification| notification.note = Some("changed from status 500 to timeout".into());
        check(
            &noted,
            Event::Updated,
            &format!("[CRITICAL] Cart failed at waw-1, changed from status 500 to timeout: {wrong}"),
        );
        let many = |note: &'static str| move |notification: &mut Notification| notification.note = Some(note.into());
        let flaps = "is flapping: 5 changes in 4m; no notifications until stable for 4m";
        check(&many(flaps), Event::Opened, &format!("[CRITICAL] Cart failed at waw-1, {flaps}: {wrong}"));
        let widened = |notification: &mut Notification| {
            notification.note = Some("9 more, 40 in all; causes: 38 × status 500, 2 × timeout".into());
            notification.uncounted = 39;
        };
        let causes = "causes: 38 × status 500, 2 × timeout";
        check(
            &widened,
            Event::Updated,
            &format!("[CRITICAL] Cart and 39 more failed at waw-1, 9 of them new; {causes}: {wrong}"),
        );
        // The reason why an opening is sent at all, or sent now; other notes are in the text.
        check(
            &many("causes: 2 × status 500, 1 × timeout; delivered late: true at 2027-01-15T08:00:00Z"),
            Event::Opened,
            &format!("[CRITICAL] Cart failed at waw-1, delivered late: true at 2027-01-15T08:00:00Z: {wrong}"),
        );
        check(
            &many("2 notifications rate-limited in the last hour, 1 of them resolved"),
            Event::Digest,
            &format!(
                "[CRITICAL] 2 notifications rate-limited in the last hour, 1 of them resolved: Cart at waw-1: {wrong}"
            ),
        );
        let over = |notification: &mut Notification| {
            notification.note = Some("1 notification rate-limited in the last hour, 1 of them resolved".into());
            notification.incident.resolved_at = Some(at(750));
        };
        check(
            &over,
            Event::Digest,
            &format!(
                "[RESOLVED] 1 notification rate-limited in the last hour, 1 of them resolved: Cart at waw-1; was: {wrong}"
            ),
        );
        // A scenario that is not monitored is not reported as still failing.
        let unwatched = |notification: &mut Notification| {
            notification.incident.unwatched =
                Some(crate::incident::Unwatched { since: at(600), reason: "s/a.yaml: cannot be read".into() });
        };
        check(
            &unwatched,
            Event::Reminder,
            &format!("[CRITICAL] Cart at waw-1: not monitored, no runs since 2027-01-15 08:10 UTC; was: {wrong}"),
        );
        let agent = |notification: &mut Notification| {
            notification.incident.subject = Subject::agent("waw-1");
            notification.incident.name = "wachta at waw-1".into();
            notification.incident.message = Some("cart is not monitored: s/a.yaml: cannot be read".into());
        };
        check(&agent, Event::Opened, "[CRITICAL] wachta at waw-1: cart is not monitored: s/a.yaml: cannot be read");
    }
}
