//! Timelines of the rate limit stage: two notifications per hour, then one digest.

use super::fixtures::at;
use super::timeline::{Run, checks};
use crate::names::suppressed;
use crate::notify::Receiver;

/// Each incident is a group of its own, without a group wait.
const EACH: &str = "> a / scenario / 0";

fn run(checks: &str, restarts: bool) -> Run {
    let mut run = Run::new(checks, &[EACH], restarts);
    run.alerting.receivers = vec![Receiver { name: "a".into(), limit: Some(2), ..Receiver::default() }];
    run.load(at(0));
    run
}

#[track_caller]
fn check(checks: &str, lines: &str, expected: &[&str]) {
    for restarts in [false, true] {
        let mut run = run(checks, restarts);
        run.play(lines, "9h");
        assert_eq!(run.sent, expected, "with restarts: {restarts}\n{lines}");
        assert!(!run.memory.keys().any(|key| key.starts_with("limited/")), "{:?}", run.memory);
    }
}

#[test]
fn what_is_more_than_the_limit_waits_for_one_digest() {
    let policy = "after: 1, recover_after: 1";
    let five = checks("s1,s2,s3,s4,s5", policy);
    let two = ["1:00 a opened s1:1 warning", "2:00 a opened s2:1 warning"];
    let with = |rest: &[&'static str]| [&two[..], rest].concat();
    let digest = "61:00 a digest s3:1 warning +s4 (2 notifications rate-limited in the last hour)";
    check(&five, "1m s1 F\n2m s2 F\n3m s3 F\n4m s4 F", &with(&[digest]));
    // The digest counts itself: together with the second notification of the last hour, it delays the next one.
    let next = "62:00 a opened s5:1 warning";
    check(&five, "1m s1 F\n2m s2 F\n3m s3 F\n4m s4 F\n62m s5 F", &with(&[digest, next]));
    let later = "62:00 a digest s5:1 warning (1 notification rate-limited in the last hour)";
    check(&five, "1m s1 F\n2m s2 F\n3m s3 F\n4m s4 F\n61m s5 F", &with(&[digest, later]));
    // Resolutions of notified incidents pass. Incidents that opened and resolved in between are only in the digest, and
    // the resolutions of those in the digest are notified.
    check(
        &five,
        "1m s1 F\n2m s2 F\n3m s3 FP\n4m s4 F\n30m s1 P\n70m s4 P",
        &with(&[
            "30:00 a resolved s1:1 warning",
            "61:00 a digest s4:1 warning +s3 (2 notifications rate-limited in the last hour, 1 of them resolved)",
            "70:00 a resolved s4:1 warning",
        ]),
    );
    let over = "61:00 a digest s3:1 warning (1 notification rate-limited in the last hour, 1 of them resolved)";
    check(&five, "1m s1 F\n2m s2 F\n3m s3 FP", &with(&[over]));
    // An update is suppressed as well; a resolution makes it unnecessary.
    let update = "61:00 a digest s1:1 warning (1 notification rate-limited in the last hour)";
    check(&five, "1m s1 F\n2m s2 F\n3m s1 T", &with(&[update]));
    check(&five, "1m s1 F\n2m s2 F\n3m s1 T\n30m s1 P", &with(&["30:00 a resolved s1:1 warning"]));
    // At a low rate, nothing is suppressed.
    check(
        &five,
        "1m s1 F\n32m s2 F\n63m s3 F",
        &["1:00 a opened s1:1 warning", "32:00 a opened s2:1 warning", "63:00 a opened s3:1 warning"],
    );
    let mut counted = run(&five, false);
    counted.play("1m s1 F\n2m s2 F\n3m s3 FP\n4m s4 F", "1h");
    assert_eq!(counted.suppressed[suppressed::RATE_LIMITED], 3, "two openings and an end");
}

#[test]
fn what_is_louder_always_passes() {
    let mixed = format!(
        "{}{}{}",
        checks("s1,s2,s3", "after: 1, recover_after: 1"),
        checks("p1,p2,p3", "after: 1, severity: critical"),
        checks("r1", "after: 1, severity: critical, verdicts: [failed, degraded]"),
    );
    let two = ["1:00 a opened s1:1 warning", "2:00 a opened s2:1 warning"];
    let with = |rest: &[&'static str]| [&two[..], rest].concat();
    check(
        &mixed,
        "1m s1 F\n2m s2 F\n3m s3 F\n4m p1 F\n5m p2 F\n6m p3 F",
        &with(&[
            "4:00 a opened p1:1 critical",
            "5:00 a opened p2:1 critical",
            "64:00 a digest p3:1 critical +s3 (2 notifications rate-limited in the last hour)",
        ]),
    );
    // A suppressed incident with a raised severity is notified as opened.
    let opened =
        "4:00 a opened r1:1 critical (severity raised from warning to critical; changed from budget to status)";
    check(&mixed, "1m s1 F\n2m s2 F\n3m r1 D\n4m r1 F", &with(&[opened]));
}

#[test]
fn a_limit_is_a_receivers_own_and_may_be_taken_out() {
    let four = checks("s1,s2,s3,s4", "after: 1, recover_after: 1");
    let lines = "1m s1 F\n2m s2 F\n3m s3 F\n4m s4 F";
    let mut both = Run::new(&four, &["> a,b / scenario / 0"], true);
    let limited = |name: &str, limit| Receiver { name: name.into(), limit, ..Receiver::default() };
    both.alerting.receivers = vec![limited("a", Some(2)), limited("b", None)];
    both.load(at(0));
    both.play(lines, "1h");
    let of = |name: &str| both.sent.iter().filter(|line| line.contains(&format!(" {name} "))).count();
    assert_eq!((of("a"), of("b")), (2, 4));
    let mut run = run(&four, true);
    run.play(lines, "10m");
    run.alerting.receivers[0].limit = None;
    run.load(at(600));
    run.pipeline.tick(at(600));
    run.write(at(600));
    assert_eq!(run.sent[2..], ["10:00 a digest s3:1 warning +s4 (2 notifications rate-limited in the last hour)"]);
}
