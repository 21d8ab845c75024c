//! Timelines of silences, maintenance windows and acknowledgements.

use std::time::Duration;

use super::fixtures::at;
use super::timeline::{AT_ONCE, Run, checks, mute};
use crate::incident::{AlertCommand, Matchers, Mute};
use crate::notify::{Begins, Window};

/// Checks the notifications of a timeline with operator commands.
#[track_caller]
fn muted(policy: &str, requests: &[(&str, AlertCommand)], lines: &str, until: &str, expected: &[&str]) {
    for restarts in [false, true] {
        let mut run = Run::new(&checks("shop", policy), &[AT_ONCE], restarts);
        let mut rest: Vec<&str> = lines.split('|').map(str::trim).collect();
        for (time, request) in requests {
            run.play(rest.remove(0), "0s");
            run.ask(time, request.clone()).expect("is done");
        }
        run.play(rest[0], until);
        assert_eq!(run.sent, expected, "with restarts: {restarts}\n{lines}");
        assert!(!run.memory.keys().any(|key| key.starts_with("mute/")), "{:?}", run.memory);
    }
}

#[test]
fn a_silence_may_hold_at_some_times_only() {
    let policy = "after: 1, recover_after: 1";
    // The timeline starts on a Friday at 8:00 UTC.
    let silence = |during: &str| match mute(&[("scenario", "shop")], "2m", "1h") {
        AlertCommand::Mute(mute) => AlertCommand::Mute(Mute { during: Some(during.parse().expect("reads")), ..mute }),
        other => other,
    };
    for (during, expected) in [
        ("fri 08:05-08:10", "11:00 a opened shop:1 warning"),
        ("09:05-09:10 Europe/Warsaw", "11:00 a opened shop:1 warning"),
        ("fri 08:05-23:00", "62:00 a opened shop:1 warning"),
        ("sat 08:05-08:10", "6:00 a opened shop:1 warning"),
        ("fri 08:10-08:20", "6:00 a opened shop:1 warning"),
    ] {
        let lines = "1m shop P | 6m shop F....F\n62m shop F";
        muted(policy, &[("2m", silence(during))], lines, "2h", &[expected]);
    }
    // The same as a permanent window in the configuration.
    for restarts in [false, true] {
        let mut run = Run::new(&checks("shop", policy), &[AT_ONCE], restarts);
        run.alerting.maintenance = vec![Window {
            begins: Begins::Always,
            length: Duration::ZERO,
            during: Some("fri 08:05-08:10".parse().expect("reads")),
            matches: Matchers::default(),
        }];
        run.load(at(0));
        run.play("6m shop F....F", "1h");
        assert_eq!(run.sent, ["11:00 a opened shop:1 warning"], "with restarts: {restarts}");
    }
}

#[test]
fn what_is_silenced_is_told_when_it_still_fails_afterwards() {
    let policy = "after: 1, recover_after: 1";
    let silence = || mute(&[("team", "web")], "0s", "5m");
    let opened = "1:00 a opened shop:1 warning";
    muted(policy, &[("0s", silence())], "| 1m shop FFFFFFFF", "5h", &["6:00 a opened shop:1 warning"]);
    // Resolved before the end of the silence: no notification.
    muted(policy, &[("0s", silence())], "| 1m shop FFFP", "5h", &[]);
    muted(policy, &[("0s", silence())], "| 1m shop FFFFFP", "5h", &[]);
    // A silence does not affect other incidents.
    muted(policy, &[("0s", mute(&[("team", "db")], "0s", "5m"))], "| 1m shop F", "5h", &[opened]);
    muted(policy, &[("0s", mute(&[("scenario", "shop")], "0s", "5m"))], "| 1m shop FF", "5h", &[]);
    muted(policy, &[("0s", mute(&[], "0s", "5m"))], "| 1m shop FF", "5h", &[]);
    muted(policy, &[("0s", mute(&[], "3m", "5m"))], "| 1m shop FF", "5h", &[opened]);
    // The resolution is notified if the opening was, even if it is silenced in the meantime.
    let both = &[opened, "4:00 a resolved shop:1 warning"];
    muted(policy, &[("2m", silence())], "1m shop F | 2m shop FFP", "5h", both);
    // Updates and reminders wait for the end of the silence.
    let later = &[opened, "5:00 a updated shop:1 warning (changed from status to timeout)"];
    muted(policy, &[("90s", silence())], "1m shop F | 2m shop TTTTTT", "1h", later);
    let later = &[opened, "120:00 a reminder shop:1 warning", "180:00 a reminder shop:1 warning"];
    let night = mute(&[], "90s", "2h");
    muted("after: 1, remind: 1h", &[("90s", night)], "1m shop F | 2m shop F", "190m", later);
    // Expired by an operator.
    let end = AlertCommand::Expire { id: "m1".into() };
    let early = &["3:00 a opened shop:1 warning"];
    muted(policy, &[("0s", silence()), ("150s", end.clone())], "| 1m shop FF | 3m shop F", "1h", early);
    let mut run = Run::new(&checks("shop", policy), &[AT_ONCE], false);
    assert_eq!(run.ask("1m", end), Err("no silence or maintenance with the id `m1`".into()));
    assert_eq!(run.ask("6m", silence()), Err("end time is not in the future".into()));
}

#[test]
fn who_takes_it_over_is_not_reminded() {
    let ack = |key: &str| AlertCommand::Acknowledge { key: key.into(), author: "ania".into(), length: None };
    let policy = "after: 1, recover_after: 1, remind: 1h";
    let sent = &[
        "1:00 a opened shop:1 warning",
        "61:00 a reminder shop:1 warning",
        "62:00 a updated shop:1 warning (acknowledged by ania)",
        "200:00 a resolved shop:1 warning",
    ];
    muted(policy, &[("62m", ack("shop:1"))], "1m shop F | 200m shop P", "9h", sent);
    // Changes are still notified.
    let changed = &[
        "1:00 a opened shop:1 warning",
        "2:00 a updated shop:1 warning (acknowledged by ania)",
        "3:00 a updated shop:1 warning (changed from status to timeout)",
    ];
    muted(policy, &[("2m", ack("shop:1"))], "1m shop F | 3m shop T", "5h", changed);
    let mut run = Run::new(&checks("shop", policy), &[AT_ONCE], false);
    assert!(
        run.ask("1m", ack("shop:1"))
            .is_err_and(|problem| problem.starts_with("no open incident with the key `shop:1`"))
    );
}

#[test]
fn windows_of_maintenance_come_by_themselves() {
    // The tables start at 08:00 UTC, 09:00 in Warsaw.
    let cron = |expression: &str| Begins::Cron { expression: expression.into(), timezone: chrono_tz::Europe::Warsaw };
    let check = |begins: Begins, minutes: u64, lines: &str, expected: &[&str]| {
        for restarts in [false, true] {
            let mut run = Run::new(&checks("shop", "after: 1, recover_after: 1"), &[AT_ONCE], restarts);
            let length = Duration::from_secs(minutes * 60);
            run.alerting.maintenance =
                vec![Window { begins: begins.clone(), length, during: None, matches: Matchers::default() }];
            run.load(at(0));
            run.play(lines, "5h");
            assert_eq!(run.sent, expected, "{lines}");
        }
    };
    check(cron("2 9 * * *"), 3, "1m shop .FFP", &[]);
    check(cron("2 9 * * *"), 3, "1m shop .FFFFF", &["6:00 a opened shop:1 warning"]);
    check(cron("2 8 * * *"), 3, "1m shop .FF", &["2:00 a opened shop:1 warning"]);
    check(cron("2 9 * * *"), 3, "1m shop ....F", &["5:00 a opened shop:1 warning"]);
    // Overlapping windows are one.
    check(cron("2,4 9 * * *"), 3, "4m shop FFFFF", &["8:00 a opened shop:1 warning"]);
    check(Begins::Once(at(120)), 3, "2m shop FFP", &[]);
    check(
        Begins::Once(at(120)),
        3,
        "1m shop FFFFFFP",
        &["1:00 a opened shop:1 warning", "7:00 a resolved shop:1 warning"],
    );
}
