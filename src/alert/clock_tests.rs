//! Timelines in which the wall clock is set: the notifications are the same as without the change, after the same
//! elapsed time.

use std::time::Duration;

use chrono::TimeDelta;

use super::fixtures::{at, outcome};
use super::timeline::{AT_ONCE, Run, WAIT, checks, mute, second};
use super::timers::{ClockChanges, set_back};
use crate::incident::AlertCommand;
use crate::notify::{Escalation, Receiver};
use crate::outcome::Outcome;

/// Operator commands during a timeline, with their times.
type Asked = Vec<(&'static str, AlertCommand)>;

/// A timeline in one of the states with a timer.
struct Timeline {
    name: &'static str,
    checks: String,
    routes: &'static [&'static str],
    lines: &'static str,
    asked: Asked,
    until: &'static str,
    limit: Option<u32>,
    escalate: bool,
}

impl Default for Timeline {
    fn default() -> Self {
        Self {
            name: "",
            checks: checks("shop,blog", "after: 1, recover_after: 1"),
            routes: &[AT_ONCE],
            lines: "",
            asked: Vec::new(),
            until: "1h",
            limit: None,
            escalate: false,
        }
    }
}

fn ack(minutes: u64) -> AlertCommand {
    AlertCommand::Acknowledge {
        key: "shop:1".into(),
        author: "ania".into(),
        length: Some(Duration::from_mins(minutes)),
    }
}

fn timelines() -> Vec<Timeline> {
    let plain = Timeline::default;
    vec![
        Timeline { name: "group wait", routes: &[WAIT], lines: "1m shop F\n80s blog F\n10m shop,blog P", ..plain() },
        Timeline { name: "group interval", lines: "1m shop F\n70s blog F\n20m shop,blog P", ..plain() },
        Timeline {
            name: "reminders",
            checks: checks("shop", "after: 1, remind: 10m"),
            lines: "1m shop F\n45m shop PPP",
            ..plain()
        },
        Timeline {
            name: "an acknowledgement that expires",
            checks: checks("shop", "after: 1, remind: 10m"),
            lines: "1m shop F",
            asked: vec![("3m", ack(20))],
            ..plain()
        },
        Timeline {
            name: "escalation",
            checks: checks("shop", "after: 1"),
            lines: "1m shop F",
            escalate: true,
            ..plain()
        },
        Timeline {
            name: "escalation after an acknowledgement",
            checks: checks("shop", "after: 1"),
            lines: "1m shop F",
            asked: vec![("2m", ack(5))],
            escalate: true,
            ..plain()
        },
        Timeline {
            name: "flapping",
            checks: checks("shop", "after: 1, recover_after: 1"),
            lines: "1m shop FPFPFPFPF\n30m shop P",
            ..plain()
        },
        Timeline {
            name: "a limit and its digest",
            checks: checks("s1,s2,s3,s4", "after: 1, recover_after: 1"),
            routes: &["> a / scenario / 0"],
            lines: "1m s1 F\n2m s2 F\n3m s3 F\n4m s4 F\n30m s1 P\n70m s4 P",
            until: "3h",
            limit: Some(2),
            ..plain()
        },
        Timeline {
            name: "a parent that is looked at first",
            checks: "  gate: {http: \"http://gate/\", alert: {after: 1, recover_after: 1}}\n  \
                     shop: {http: \"http://shop/\", alert: {after: 1, recover_after: 1, depends_on: [gate]}}\n"
                .into(),
            lines: "30s gate P\n1m shop F\n5m gate F\n6m shop P\n7m shop FF\n10m gate PP\n11m shop FFF\n20m shop PP",
            ..plain()
        },
        Timeline {
            name: "a silence with a length",
            lines: "3m shop F...........F\n20m shop F",
            asked: vec![("2m", mute(&[("scenario", "shop")], "2m", "10m"))],
            ..plain()
        },
        Timeline { name: "the agent's incident", lines: "1m shop UUUU\n2m blog U", ..plain() },
        Timeline {
            name: "a whole host",
            checks: checks("pa,pb,pc,pd,pe", "after: 1, recover_after: 1"),
            lines: "1m pa X\n3m pb X\n5m pc X\n12m pd X\n30m pe X\n50m pa,pb,pc,pd,pe P",
            ..plain()
        },
    ]
}

fn sent(timeline: &Timeline, restarts: bool, jumps: &[(i64, TimeDelta)]) -> Vec<String> {
    let mut run = Run::new(&timeline.checks, timeline.routes, restarts);
    let receiver = |name: &str| Receiver { name: name.into(), limit: timeline.limit, ..Receiver::default() };
    run.alerting.receivers = vec![receiver("a"), receiver("lead")];
    if timeline.escalate {
        run.alerting.escalate = vec![Escalation { after: Duration::from_mins(15), to: vec!["lead".into()] }];
    }
    run.load(at(0));
    run.jumps = jumps.iter().map(|(second, by)| (at(*second), *by)).collect();
    // Commands are executed between the lines, which are played in parts.
    let mut rest: Vec<&str> = timeline.lines.lines().collect();
    for (time, request) in &timeline.asked {
        let earlier = |line: &&str| second(line.split(' ').next().expect("a time")) < second(time);
        let (before, after): (Vec<&str>, Vec<&str>) = rest.iter().partition(|line| earlier(line));
        run.play(&before.join("\n"), "0s");
        run.ask(time, request.clone()).expect("is done");
        rest = after;
    }
    run.play(&rest.join("\n"), timeline.until);
    // Times of day in notes are those of the wall clock.
    run.sent.iter().map(|line| line.split(" until ").next().unwrap_or(line).to_owned()).collect()
}

#[test]
fn a_clock_that_is_set_changes_nothing_of_what_is_told() {
    let jumps = [TimeDelta::days(1), TimeDelta::hours(-1)];
    for timeline in timelines() {
        for restarts in [false, true] {
            let calm = sent(&timeline, restarts, &[]);
            assert!(!calm.is_empty(), "{}", timeline.name);
            for by in jumps {
                // One change at each time, and many changes.
                for second in (15..second(timeline.until)).step_by(if restarts { 1397 } else { 149 }) {
                    let set = sent(&timeline, restarts, &[(second, by)]);
                    assert_eq!(set, calm, "{} at {second} s by {by}, restarts: {restarts}", timeline.name);
                }
                let often: Vec<_> = (15..second(timeline.until)).step_by(97).map(|second| (second, by)).collect();
                let set = sent(&timeline, restarts, &often);
                assert_eq!(set, calm, "{} often by {by}, restarts: {restarts}", timeline.name);
            }
        }
    }
}

/// Stopped after three minutes, the clock is set back by an hour, and the agent starts again: all timers keep their
/// remaining time instead of an hour more.
#[test]
fn a_clock_set_back_while_the_agent_is_stopped_holds_nothing_back() {
    let rows: [(&str, &[&str], &str, &str); 3] = [
        ("after: 1, remind: 10m", &[AT_ONCE], "1m shop F", "reminder shop:1"),
        ("after: 1", &["> a / / 300"], "1m shop F", "opened shop:1"),
        ("after: 1", &[AT_ONCE], "1m shop UUU", "resolved agent/here:1"),
    ];
    for (policy, routes, lines, expected) in rows {
        let mut run = Run::new(&checks("shop", policy), routes, false);
        run.play(lines, "3m");
        let before = run.sent.len();
        let now = at(180) - TimeDelta::hours(1);
        run.restart_at(now);
        run.write(now);
        run.ticks(now + TimeDelta::minutes(11));
        assert_eq!(run.sent.len(), before + 1, "{expected}: {:?}", run.sent);
        assert!(run.sent[before].contains(expected), "{:?}", run.sent);
    }
}

#[test]
fn only_what_cannot_be_is_taken_for_a_clock_set_back() {
    for (latest, now, expected) in [
        (None, 0, None),
        (Some(0), 0, None),
        (Some(0), 86_400, None),
        (Some(1), 0, None),
        (Some(3600), 0, Some(TimeDelta::hours(-1))),
    ] {
        assert_eq!(set_back(latest.map(at), at(now)), expected, "{latest:?} {now}");
    }
}

#[test]
fn a_run_that_began_before_the_clock_was_set_counts_in_present_time() {
    let passed = |seconds: u64| Duration::from_secs(seconds);
    let mut clock = ClockChanges::new(at(0), passed(100));
    let run = |second: i64| Outcome { started_at: at(second - 3), ..outcome("shop", 'F', second) };
    assert_eq!(clock.observe(at(10), passed(110)), None);
    assert_eq!(clock.in_present_time(&run(9)), None, "nothing was set");
    assert_eq!(clock.observe(at(86_420), passed(120)), Some(TimeDelta::days(1)));
    let moved = clock.in_present_time(&run(18)).expect("it began before");
    assert_eq!((moved.started_at, moved.ended_at), (at(86_415), at(86_418)));
    assert_eq!(clock.in_present_time(&run(86_419)), None, "it began after");
    // Set back again: each run in progress is corrected by the changes since its start.
    assert_eq!(clock.observe(at(82_830), passed(130)), Some(TimeDelta::hours(-1)));
    assert_eq!(clock.in_present_time(&run(86_428)).map(|it| it.ended_at), Some(at(82_828)));
    assert_eq!(clock.in_present_time(&run(27)).map(|it| it.ended_at), Some(at(82_827)));
    assert_eq!(clock.in_present_time(&run(82_829)), None);
    // After hours there are no runs in progress any more.
    assert_eq!(clock.observe(at(92_830), passed(10_130)), None);
    assert_eq!(clock.in_present_time(&run(27)), None);
}
