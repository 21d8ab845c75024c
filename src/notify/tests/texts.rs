//! Texts for people: the messages of every receiver for every event, as a golden file.

use std::fmt::Write as _;

use super::*;
use crate::incident::{Acknowledgement, Ending, RelatedIncident, Unwatched};
use crate::notify::template::Templates;
use crate::notify::{email, message, ntfy, pagerduty, slack, teams, telegram};

/// Returns another incident of the group.
fn other(name: &str, opening: u64, resolved: bool) -> RelatedIncident {
    let incident = Incident {
        name: name.into(),
        subject: Subject::from(name.to_lowercase().as_str()),
        step: Some(format!("GET https://shop.example.com/{}", name.to_lowercase())),
        resolved_at: resolved.then(|| at(900)),
        ..incident(opening)
    };
    RelatedIncident::of(&incident)
}

/// Returns a notification of every event, with its typical values.
fn notifications() -> Vec<(&'static str, Notification)> {
    let cart = || Incident {
        subject: Subject::from("cart"),
        name: "Cart".into(),
        step: Some("GET https://shop.example.com/cart".into()),
        message: Some("GET returned status 500: expected a status from 200 to 299, got 500".into()),
        target: Some("https://shop.example.com/cart".into()),
        place: Some("scenarios/shop.yaml:12:5".into()),
        runbook: Some("https://wiki.example.com/cart".into()),
        reason: Some(Reason::Status),
        ..incident(1)
    };
    let event =
        |event: Event, second: i64, incident: Incident| Notification::new(&incident, event, "tickets", at(second));
    let noted = |note: &str, notification: Notification| Notification { note: Some(note.into()), ..notification };
    let over = |ending: Option<Ending>| Incident {
        resolved_at: Some(at(750)),
        ending,
        ending_reason: (ending == Some(Ending::ByHand)).then(|| "ania: known false alarm".to_owned()),
        ..cart()
    };
    let taken = Acknowledgement { author: "Ania Nowak (PagerDuty)".into(), at: at(60), until: None };
    let wide = |event: Event, note: Option<&str>| Notification {
        others: vec![other("Search", 2, event == Event::Resolved), other("Login", 3, event == Event::Resolved)],
        uncounted: 37,
        note: note.map(ToOwned::to_owned),
        ..Notification::new(&over(None), event, "tickets", at(900))
    };
    let open = |notification: Notification| Notification {
        incident: Incident { resolved_at: None, ..notification.incident },
        ..notification
    };
    let unwatched = Unwatched { since: at(600), reason: "scenarios/shop.yaml: cannot be read".into() };
    let flaps = "is flapping: 5 changes in 4m; no notifications until stable for 4m";
    vec![
        ("opened", event(Event::Opened, 0, cart())),
        ("opened, a browser's step", event(Event::Opened, 0, incident(1))),
        (
            "opened, degraded",
            event(Event::Opened, 0, Incident { verdict: Verdict::Degraded, severity: Severity::Warning, ..cart() }),
        ),
        (
            "opened, delivered late",
            noted("delivered late: true at 2027-01-15T08:00:00Z", event(Event::Opened, 7200, cart())),
        ),
        (
            "opened, for a receiver that is away",
            noted(
                "fallback for `pager`, which has accepted no notification since 08:05:00",
                event(Event::Opened, 400, cart()),
            ),
        ),
        ("opened, escalated", noted("not acknowledged within 15m", event(Event::Opened, 900, cart()))),
        ("flapping", noted(flaps, event(Event::Opened, 300, cart()))),
        ("updated, another cause", noted("changed from timeout to status 500", event(Event::Updated, 300, cart()))),
        ("updated, raised", noted("severity raised from warning to critical", event(Event::Updated, 300, cart()))),
        (
            "updated, acknowledged",
            noted(
                "acknowledged by Ania Nowak (PagerDuty)",
                event(Event::Updated, 60, Incident { acknowledged: Some(taken), ..cart() }),
            ),
        ),
        (
            "updated, widened",
            open(wide(Event::Updated, Some("9 more, 40 in all; causes: 38 × status 500, 2 × timeout"))),
        ),
        ("updated, not monitored", event(Event::Updated, 900, Incident { unwatched: Some(unwatched), ..cart() })),
        ("reminder", event(Event::Reminder, 7320, cart())),
        (
            "digest",
            open(noted(
                "40 notifications rate-limited in the last hour",
                Notification { event: Event::Digest, ..wide(Event::Digest, None) },
            )),
        ),
        (
            "digest, all over",
            noted(
                "1 notification rate-limited in the last hour, 1 of them resolved",
                event(Event::Digest, 3600, over(None)),
            ),
        ),
        ("resolved", event(Event::Resolved, 750, over(None))),
        ("resolved, a group", wide(Event::Resolved, None)),
        ("resolved by hand", event(Event::Resolved, 750, over(Some(Ending::ByHand)))),
        ("removed", event(Event::Resolved, 750, over(Some(Ending::Removed)))),
        ("paused", event(Event::Resolved, 750, over(Some(Ending::Paused)))),
        (
            "resolved, delivered late",
            noted("delivered late: true at 2027-01-15T08:12:30Z", event(Event::Resolved, 7200, over(None))),
        ),
    ]
}

#[test]
fn every_receiver_says_what_a_person_on_call_asks() {
    let wording = message::MessageRenderer::new(&Templates::default(), &Links::default());
    let mut shown = String::new();
    for (name, notification) in notifications() {
        let message = wording.marked(&notification, 500);
        let _ = writeln!(shown, "===== {name}\n{}\n\n{}\n", message.title, message.text);
        let (events, _) = pagerduty::events(&notification, None, &message, &wording);
        let summary = events.first().map_or("(nothing)", |event| {
            event["payload"]["summary"].as_str().unwrap_or_else(|| event["event_action"].as_str().unwrap())
        });
        let _ = writeln!(shown, "pagerduty: {summary}");
        let slack = slack::content(&message);
        let texts =
            |json: &Json, path: &str| json.pointer(path).and_then(Json::as_str).unwrap_or("(nothing)").to_owned();
        let _ = writeln!(shown, "slack: {}", texts(&slack, "/text"));
        assert_eq!(texts(&slack, "/attachments/0/blocks/0/text/text"), message.text);
        let card = teams::card(&message);
        let _ = writeln!(shown, "teams: {}", texts(&card, "/attachments/0/content/body/0/text"));
        let _ = writeln!(shown, "telegram: {}", telegram::html(&message).lines().next().unwrap());
        let ntfy = ntfy::body(&message);
        let _ = writeln!(shown, "ntfy: {} {}", ntfy["priority"], texts(&ntfy, "/title"));
        let _ = writeln!(shown, "mail: {}\n", wording.marked(&notification, email::MAX_SUBJECT_CHARS).title);
        // The headline is complete in the places that are read first.
        for text in [&texts(&slack, "/text"), &texts(&ntfy, "/title")] {
            assert!(!text.contains('…'), "{text}");
        }
        let line = &message.title;
        assert!(line.starts_with('['), "{line}");
        assert!(line.matches("shop.example.com").count() <= 1, "{line}");
    }
    golden("texts.txt", &shown);
}
