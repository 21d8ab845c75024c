//! Replays of the timelines: the same configuration gives the same notifications; another one gives its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::TimeDelta;

use super::fixtures::{Nothing, at, outcome};
use super::replay::{DiffKind, NotificationDiff, NotificationSummary, Replay, ReplayResult, begin, compare};
use super::timeline::{AT_ONCE, Run, WAIT, alerting, checks, second};
use crate::incident::{Mute, Subject};
use crate::names::suppressed;
use crate::notify::{Alerting, Receiver};
use crate::outcome::Outcome;
use crate::scenario::load;
use crate::store::SlotCount;

/// Returns the outcomes of a timeline, in the order of their ends.
fn outcomes(lines: &str) -> Vec<Outcome> {
    let mut events: BTreeMap<i64, Vec<Outcome>> = BTreeMap::new();
    for line in lines.lines().map(str::trim) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [time, ids, letters] = words[..] else { panic!("time scenarios letters: {line}") };
        for (n, letter) in (0..).zip(letters.chars()).filter(|(_, letter)| *letter != '.') {
            let at = second(time) + n * 60;
            events.entry(at).or_default().extend(ids.split(',').map(|id| outcome(id, letter, at)));
        }
    }
    events.into_values().flatten().collect()
}

/// Checks, alerting configuration, silences, and the replayed range.
struct With<'a> {
    checks: &'a str,
    alerting: Alerting,
    mutes: Vec<Mute>,
    span: (&'a str, &'a str),
}

impl<'a> With<'a> {
    fn new(checks: &'a str, routes: &[&str]) -> Self {
        Self { checks, alerting: alerting(routes), mutes: Vec::new(), span: ("0s", "9h") }
    }

    fn replay(self, lines: &str) -> ReplayResult {
        self.replay_all(outcomes(lines))
    }

    fn replay_all(self, outcomes: Vec<Outcome>) -> ReplayResult {
        let loaded = load("checks.yaml", &format!("checks:\n{}", self.checks), &Nothing);
        assert_eq!(loaded.diagnostics, [], "{}", self.checks);
        let scenarios: BTreeMap<_, _> =
            loaded.scenarios.into_iter().map(|scenario| (scenario.id.value.clone(), scenario)).collect();
        let since = at(second(self.span.0));
        let from = begin(since, None, scenarios.values().map(|scenario| &**scenario));
        let mut replay = Replay::new("here", (Arc::new(self.alerting), Arc::new(scenarios)), self.mutes, (from, since));
        while let Some((scenario, spans)) = replay.unread() {
            let history: Vec<(usize, Vec<SlotCount>)> = spans.iter().map(|span| (span.window, Vec::new())).collect();
            replay.read(&scenario, &history);
        }
        for outcome in outcomes {
            replay.outcome(outcome);
        }
        replay.finish(at(second(self.span.1)))
    }

    fn sent(self, lines: &str) -> Vec<String> {
        self.replay(lines).notifications.iter().map(shown).collect()
    }
}

#[test]
fn another_quorum_is_tried_on_what_every_location_saw() {
    let checks = checks("shop", "after: 2");
    let of = |location: &'static str, letters: &str| {
        let outcomes = outcomes(&format!("60s shop {letters}")).into_iter();
        outcomes.map(move |outcome| Outcome { location: location.to_owned(), ..outcome })
    };
    let sent = |quorum: Option<u32>| {
        let mut outcomes: Vec<Outcome> = of("fra", "PFFF").chain(of("sto", "PPPP")).chain(of("waw", "PPPP")).collect();
        outcomes.sort_by_key(|outcome| outcome.ended_at);
        let mut with = With::new(&checks, &[AT_ONCE]);
        with.alerting.quorum = quorum;
        with.replay_all(outcomes)
    };
    let majority = sent(None);
    assert_eq!((majority.notifications.len(), majority.suppressed.get("quorum")), (0, Some(&3)));
    assert_eq!(sent(Some(1)).notifications.iter().map(shown).collect::<Vec<_>>(), ["3:00 a opened shop warning"]);
}

fn shown(sent: &NotificationSummary) -> String {
    let seconds = (sent.at - at(0)).num_seconds();
    let others: Vec<String> = sent.others.iter().map(Subject::to_string).collect();
    let others = if others.is_empty() { String::new() } else { format!(" +{}", others.join(",")) };
    let (event, severity) = (sent.event.as_str(), sent.severity.as_str());
    format!("{}:{:02} {} {event} {} {severity}{others}", seconds / 60, seconds % 60, sent.receiver, sent.subject)
}

/// Returns timelines of storms, grouping, changed failures, dependencies, flapping and agent faults, each with its
/// configuration.
fn timelines() -> Vec<(String, Vec<&'static str>, &'static str)> {
    let three = checks("shop,blog,news", "after: 1, recover_after: 1");
    let depends = format!(
        "{}{}",
        checks("gateway", "after: 1, recover_after: 1"),
        checks("shop,blog", "after: 1, recover_after: 1, depends_on: [gateway]")
    );
    vec![
        (checks("shop", "after: 3"), vec![WAIT], "1m shop FFFFPFFPP"),
        (three.clone(), vec![WAIT], "60s shop FFP\n70s blog FFFP\n80s news FFP"),
        (three.clone(), vec![AT_ONCE], "60s shop FFFP\n61s blog FFP\n80s news FFFFP"),
        (three.clone(), vec![AT_ONCE, "> b / scenario / 0"], "1m shop FFTTTP\n3m blog FTP\n5m news CCCP"),
        (checks("shop", "after: 1, remind: 10m"), vec![AT_ONCE], "1m shop FFFFFFFFFFFFFFFFFFFFFFPP"),
        (checks("shop", "after: 1, recover_after: 1"), vec![AT_ONCE], "1m shop FPFPFPFPFPFPFPPPPPPPPPPP"),
        (depends, vec![AT_ONCE], "60s gateway FFFP\n70s shop,blog FFFFP"),
        (three, vec![WAIT], "1m shop,blog,news UUUUUPPPPPPPP"),
    ]
}

#[test]
fn the_same_files_tell_what_was_told() {
    for (checks, routes, lines) in timelines() {
        let mut run = Run::new(&checks, &routes, false);
        run.play(lines, "9h");
        assert!(!run.notifications.is_empty(), "{lines}");
        let replayed = With::new(&checks, &routes).replay(lines);
        let then: Vec<NotificationSummary> = run.notifications.iter().map(NotificationSummary::from).collect();
        let lines = compare(then, replayed.notifications);
        assert!(lines.iter().all(|line| line.mark == DiffKind::Unchanged), "{checks}{lines:#?}");
        assert!(lines.iter().all(|line| line.later < TimeDelta::seconds(1)), "{lines:#?}");
        assert_eq!(replayed.suppressed, run.suppressed, "{checks}");
    }
}

#[test]
fn a_louder_configuration_tells_more_and_a_limit_less() {
    let lines = "1m s1 FFFPP\n2m s2 FFFPP\n3m s3 FPP\n4m s4 FFFPP";
    let (two, one) = (checks("s1,s2,s3,s4", "after: 2"), checks("s1,s2,s3,s4", "after: 1, recover_after: 1"));
    let each = ["> a / scenario / 0"];
    let sent =
        |event: &str, sent: &[NotificationSummary]| sent.iter().filter(|sent| sent.event.as_str() == event).count();
    let then = With::new(&two, &each).replay(lines).notifications;
    assert_eq!(sent("opened", &then), 3, "{then:?}");
    let loud = With::new(&one, &each).replay(lines).notifications;
    assert_eq!(sent("opened", &loud), 4, "{loud:?}");
    // More receivers.
    let both = With::new(&two, &["> a,b / scenario / 0"]).replay(lines).notifications;
    assert_eq!(both.len(), 2 * then.len());
    let lines_of_both = compare(then.clone(), both);
    let of = |lines: &[NotificationDiff], mark| lines.iter().filter(|line| line.mark == mark).count();
    assert_eq!(
        [DiffKind::Unchanged, DiffKind::Removed, DiffKind::Added].map(|mark| of(&lines_of_both, mark)),
        [6, 0, 6]
    );

    let mut limited = With::new(&two, &each);
    limited.alerting.receivers = vec![Receiver { name: "a".into(), limit: Some(2), ..Receiver::default() }];
    let limited = limited.replay(lines);
    assert_eq!(
        (sent("opened", &limited.notifications), sent("digest", &limited.notifications)),
        (2, 1),
        "{:?}",
        limited.notifications
    );
    assert_eq!(limited.suppressed[suppressed::RATE_LIMITED], 2);
    let lines = compare(then, limited.notifications);
    assert_eq!(
        [DiffKind::Unchanged, DiffKind::Removed, DiffKind::Added].map(|mark| of(&lines, mark)),
        [4, 2, 1],
        "{lines:#?}"
    );
}

#[test]
fn what_was_open_when_the_span_began_is_known() {
    let shop = checks("shop", "after: 2, remind: 60m");
    let lines = format!("1m shop {}PP", "F".repeat(150));
    let mut with = With::new(&shop, &[AT_ONCE]);
    with.span = ("90m", "5h");
    let replayed = With { span: ("90m", "5h"), ..With::new(&shop, &[AT_ONCE]) }.replay(&lines);
    assert_eq!(with.sent(&lines), ["122:00 a reminder shop warning", "152:00 a resolved shop warning"]);
    // Runs and suppressed notifications are counted within the range.
    assert_eq!(replayed.runs.into_iter().collect::<Vec<_>>(), [("shop".into(), 63)]);
    assert_eq!(replayed.suppressed[suppressed::ALREADY_OPEN], 61);
    // A day before the range, or before the first open incident; earlier for scenarios that rarely run.
    let of = |every: &str| {
        let text = format!("checks:\n  shop: {{tcp: \"a:1\", every: {every}, alert: {{after: 2 of 5}}}}\n");
        load("checks.yaml", &text, &Nothing).scenarios
    };
    for (every, open, expected) in [("1m", None, 24), ("1m", Some(-50), 74), ("6h", None, 42)] {
        let open = open.map(|hours: i64| at(hours * 3600));
        let from = begin(at(0), open, of(every).iter().map(|scenario| &**scenario));
        assert_eq!((at(0) - from).num_hours(), expected, "{every} {open:?}");
    }
}

#[test]
fn what_people_silenced_stays_silent_and_others_scenarios_are_only_counted() {
    let shop = checks("shop", "after: 1, recover_after: 1");
    let mute = Mute {
        id: "m".into(),
        maintenance: false,
        matches: [("team".to_owned(), "web".to_owned())].into(),
        from: at(120),
        until: at(605),
        during: None,
        author: "ania".into(),
        reason: "known".into(),
        confirmed: true,
    };
    let lines = "1m shop FP.FFFFFFFFF\n1m gone FFFF";
    let mut with = With::new(&shop, &[AT_ONCE]);
    with.mutes = vec![mute];
    let replayed = with.replay(lines);
    let sent: Vec<String> = replayed.notifications.iter().map(shown).collect();
    assert_eq!(sent, ["1:00 a opened shop warning", "2:00 a resolved shop warning", "11:00 a opened shop warning"]);
    assert_eq!(replayed.suppressed[suppressed::SILENCE], 1);
    let runs: Vec<_> = replayed.runs.into_iter().collect();
    assert_eq!(runs, [("gone".into(), 4), ("shop".into(), 11)]);
}

#[test]
fn the_same_are_at_most_a_minute_apart() {
    use DiffKind::{Added as Now, Removed as Then, Unchanged as Same};
    let sent = |second: i64, subject: &str| NotificationSummary {
        at: at(second),
        receiver: "a".into(),
        event: crate::incident::Event::Opened,
        severity: crate::scenario::Severity::Warning,
        subject: Subject::from(subject),
        others: Vec::new(),
        uncounted: 0,
    };
    let marks = |then: &[NotificationSummary], now: &[NotificationSummary]| -> Vec<(i64, DiffKind, i64)> {
        let lines = compare(then.to_vec(), now.to_vec());
        lines.iter().map(|l| ((l.notification.at - at(0)).num_seconds(), l.mark, l.later.num_seconds())).collect()
    };
    assert_eq!(marks(&[sent(0, "s")], &[sent(60, "s")]), [(0, Same, 60)]);
    assert_eq!(marks(&[sent(60, "s")], &[sent(0, "s")]), [(60, Same, -60)]);
    assert_eq!(marks(&[sent(0, "s")], &[sent(61, "s")]), [(0, Then, 0), (61, Now, 0)]);
    assert_eq!(marks(&[sent(100, "s")], &[sent(0, "s"), sent(100, "s")]), [(0, Now, 0), (100, Same, 0)]);
    assert_eq!(marks(&[sent(0, "s"), sent(100, "s")], &[sent(100, "s")]), [(0, Then, 0), (100, Same, 0)]);
    assert_eq!(marks(&[sent(0, "s")], &[sent(0, "t")]), [(0, Then, 0), (0, Now, 0)]);
    // With other incidents it is another notification, but their order does not matter.
    let with =
        |subject: &str, other: &str| NotificationSummary { others: vec![Subject::from(other)], ..sent(0, subject) };
    assert_eq!(marks(&[sent(0, "s")], &[with("s", "t")]), [(0, Then, 0), (0, Now, 0)]);
    assert_eq!(marks(&[with("s", "t")], &[with("t", "s")]), [(0, Same, 0)]);
}
