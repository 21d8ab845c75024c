//! Many incidents of one host or service with different failure fingerprints: only a few notifications.

use super::timeline::{AT_ONCE, Run, WAIT, checks};
use crate::incident::Notification;
use crate::notify::{Causes, headline};

/// Returns ids that differ in letters, because fingerprints omit numbers.
fn ids(count: usize) -> Vec<String> {
    let letter = |n: usize| char::from(b'a' + u8::try_from(n % 26).expect("a letter"));
    (0..count).map(|n| format!("p{}{}", letter(n / 26), letter(n))).collect()
}

/// Returns a storm: one opening per second, in two or more commits, and the resolution of all.
fn storm(count: usize, end: &str) -> String {
    let ids = ids(count);
    let openings: String = ids.iter().enumerate().map(|(n, id)| format!("{}s {id} X\n", 60 + n)).collect();
    format!("{openings}{end} {} P\n", ids.join(","))
}

/// Checks the notifications, without the names of other incidents.
#[track_caller]
fn sent(checks: &str, routes: &[&str], lines: &str, until: &str, expected: &[&str]) {
    for restarts in [false, true] {
        let mut run = Run::new(checks, routes, restarts);
        run.play(lines, until);
        let without_others = |line: &String| {
            let words: Vec<&str> = line.split(' ').filter(|word| !word.starts_with('+')).collect();
            words.join(" ")
        };
        let sent: Vec<String> = run.sent.iter().map(without_others).collect();
        assert_eq!(sent, expected, "with restarts: {restarts}");
    }
}

#[test]
fn forty_pages_of_one_host_are_at_most_three_notifications_and_one_end() {
    let forty = checks(&ids(40).join(","), "after: 1, recover_after: 1");
    sent(
        &forty,
        &[],
        &storm(40, "10m"),
        "2h",
        &[
            "1:30 a opened paa:1 warning",
            "2:00 a updated paa:1 warning (9 more, 40 in all)",
            "10:00 a resolved paa:1 warning",
        ],
    );
    // With `group_by`, the result is the same.
    sent(
        &forty,
        &["> a / team / 30"],
        &storm(40, "10m"),
        "2h",
        &[
            "1:30 a opened paa:1 warning",
            "2:00 a updated paa:1 warning (9 more, 40 in all)",
            "10:00 a resolved paa:1 warning",
        ],
    );
    // A group that was notified at once keeps its key until its resolution.
    sent(
        &forty,
        &[AT_ONCE],
        &storm(40, "10m"),
        "2h",
        &[
            "1:00 a opened paa:1 warning",
            "1:01 a opened pab:1 warning",
            "1:30 a updated paa:1 warning (29 more, 30 in all)",
            "6:30 a updated paa:1 warning (9 more, 39 in all)",
            "10:00 a resolved pab:1 warning",
            "10:00 a resolved paa:1 warning",
        ],
    );
}

#[test]
fn two_of_a_host_stay_apart_and_so_do_those_of_other_hosts() {
    let three = checks("pa,pb,pc", "after: 1, recover_after: 1");
    sent(&three, &[AT_ONCE], "60s pa,pb X", "2h", &["1:00 a opened pa:1 warning", "1:00 a opened pb:1 warning"]);
    // The third one comes too late to belong to the same problem.
    let late = ["1:00 a opened pa:1 warning", "1:00 a opened pb:1 warning", "7:00 a opened pc:1 warning"];
    sent(&three, &[AT_ONCE], "60s pa,pb X\n7m pc X", "2h", &late);
    let hosts: String = ["pa", "pb", "pc"]
        .iter()
        .map(|id| format!("  {id}: {{http: \"http://{id}/\", alert: {{after: 1}}}}\n"))
        .collect();
    let apart = ["1:00 a opened pa:1 warning", "1:00 a opened pb:1 warning", "1:00 a opened pc:1 warning"];
    sent(&hosts, &[AT_ONCE], "60s pa,pb,pc X", "2h", &apart);
}

#[test]
fn a_route_may_keep_causes_apart_or_put_all_together() {
    let four = checks("pa,pb,pc,pd", "after: 1, recover_after: 1");
    let with = |causes: Causes, group_by: &[&str], expected: &[&str]| {
        for restarts in [false, true] {
            let mut run = Run::new(&four, &[AT_ONCE], restarts);
            run.alerting.routes[0].causes = causes;
            run.alerting.routes[0].group_by = group_by.iter().map(|key| (*key).to_owned()).collect();
            run.load(super::fixtures::at(0));
            run.play("60s pa,pb,pc,pd X\n3m pa,pb,pc,pd P", "1h");
            assert_eq!(run.sent, expected, "with restarts: {restarts}");
        }
    };
    let one = ["1:00 a opened pa:1 warning +pb,pc,pd", "3:00 a resolved pa:1 warning +pb,pc,pd"];
    with(Causes::Together, &[], &one);
    with(Causes::Together, &["team"], &one);
    with(Causes::Widening, &[], &one);
    let each = ["pa", "pb", "pc", "pd"];
    let apart: Vec<String> = [("1:00", "opened"), ("3:00", "resolved")]
        .iter()
        .flat_map(|(time, event)| each.map(|id| format!("{time} a {event} {id}:1 warning")))
        .collect();
    with(Causes::Apart, &[], &apart.iter().map(String::as_str).collect::<Vec<_>>());
}

/// Plays thirty checks of one host that fail one after the other, each with two changes of the failure, and recover.
/// Returns the headline of each notification.
fn degradation(seconds_apart: usize, restarts: bool) -> Vec<String> {
    let ids = ids(30);
    let mut run = Run::new(&checks(&ids.join(","), "after: 1, recover_after: 1"), &[WAIT], restarts);
    let mut lines = String::new();
    for (n, id) in ids.iter().enumerate() {
        let at = 60 + n * seconds_apart;
        lines += &format!("{at}s {id} X\n{}s {id} T\n{}s {id} F\n", at + 600, at + 1200);
    }
    let end = 60 + 30 * seconds_apart + 1800;
    for (n, id) in ids.iter().enumerate() {
        lines += &format!("{}s {id} P\n", end + n);
    }
    run.play(&lines, "9h");
    let without_others = |line: &String| {
        let words: Vec<&str> = line.split(' ').filter(|word| !word.starts_with('+')).collect();
        words.join(" ")
    };
    let line = |(sent, notification): (&String, &Notification)| {
        format!("{}\n    {}", without_others(sent), headline(notification))
    };
    run.sent.iter().zip(&run.notifications).map(line).collect()
}

#[test]
fn a_slow_degradation_of_thirty_checks_is_a_handful_of_notifications() {
    for seconds_apart in [1, 10, 20, 60, 120, 240] {
        let sent = degradation(seconds_apart, true);
        assert!(sent.len() <= 10, "{seconds_apart} s apart: {} notifications: {sent:#?}", sent.len());
        assert!(sent.last().is_some_and(|line| line.contains("resolved")), "{sent:#?}");
    }
}

#[test]
fn every_notification_of_a_slow_degradation_reads_right() {
    let mut shown = String::new();
    for (seconds_apart, pace) in [(5, "every 5 s"), (60, "every minute"), (420, "every 7 minutes")] {
        let sent = degradation(seconds_apart, false);
        assert_eq!(sent, degradation(seconds_apart, true), "{pace}: a restart changes nothing");
        shown += &format!("===== one more check fails {pace}\n{}\n", sent.join("\n"));
    }
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/degradation.txt");
    if std::env::var_os("WACHTA_BLESS").is_some() {
        std::fs::write(&path, &shown).expect("the golden file can be written");
    }
    assert_eq!(shown, std::fs::read_to_string(&path).unwrap_or_default());
}
