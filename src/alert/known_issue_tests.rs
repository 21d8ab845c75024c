//! Twelve issues reported for other tools, each as a timeline with the behavior that was asked for. Numbers are issues
//! of the named projects.

use super::fixtures::at;
use super::timeline::{AT_ONCE, BEHIND, Run, WAIT, check, checks, mute};

/// prometheus/alertmanager#2647: a reminder every 20 minutes came every 30.
#[test]
fn reminders_come_when_they_were_asked_for() {
    let shop = checks("shop", "after: 1, remind: 20m");
    let sent = ["1:00 a opened shop:1 warning", "21:00 a reminder shop:1 warning", "41:00 a reminder shop:1 warning"];
    check(&shop, &["> a / / 0"], "60s shop FFF", "50m", &sent);
}

/// prometheus/alertmanager#4008: an alert fires again after it was resolved, because of a race of two peers. Here the
/// committer both evaluates and notifies, and a repeated outcome is evaluated once.
#[test]
fn nothing_fires_after_its_end() {
    let shop = checks("shop", "after: 1, recover_after: 1");
    for restarts in [false, true] {
        let mut run = Run::new(&shop, &[AT_ONCE], restarts);
        let bad = super::fixtures::outcome("shop", 'F', 60);
        let good = super::fixtures::outcome("shop", 'P', 120);
        for (outcome, second) in [(&bad, 60), (&bad, 61), (&good, 120), (&good, 121), (&good, 122)] {
            run.pipeline.process_outcome(outcome, at(second));
            run.pipeline.tick(at(second));
            run.write(at(second));
        }
        run.until(at(9000));
        assert_eq!(run.sent, ["1:00 a opened shop:1 warning", "2:00 a resolved shop:1 warning"]);
    }
}

/// prometheus/alertmanager#4064: inhibited alerts are notified after a restart. Every timeline is also run with
/// restarts.
#[test]
fn a_restart_does_not_tell_what_a_dependency_explains() {
    check(BEHIND, &[AT_ONCE], "60s gate CCCC\n65s shop FFFF", "1h", &["1:00 a opened gate:1 warning"]);
}

/// prometheus/alertmanager#226: an alert that was silenced in the meantime never resolves, and there is no detection of
/// flapping.
#[test]
fn the_end_is_told_although_it_is_silenced_and_flapping_is_told_once() {
    let shop = checks("shop", "after: 1, recover_after: 1");
    let mut run = Run::new(&shop, &[AT_ONCE], true);
    run.play("60s shop F", "90s");
    run.ask("90s", mute(&[("scenario", "shop")], "90s", "1h")).expect("is done");
    run.play("2m shop P", "2h");
    assert_eq!(run.sent, ["1:00 a opened shop:1 warning", "2:00 a resolved shop:1 warning"]);
    let mut night = Run::new(&shop, &[AT_ONCE], true);
    night.play(&format!("60s shop {}", "FP".repeat(200)), "9h");
    assert_eq!(night.sent.len(), 6, "400 changes: {:?}", night.sent);
}

/// prometheus/alertmanager#1587: alerts that join an open group page nobody. Here, a higher severity or another failure
/// fingerprint does: the former is notified at once (in PagerDuty under a key of its own, `notify::tests::http`), the
/// latter has its own key.
#[test]
fn what_is_louder_or_something_else_pages_anew() {
    let mixed = format!("{}{}", checks("shop,blog", "after: 1"), checks("pay", "after: 1, severity: critical"));
    let sent = [
        "1:00 a opened shop:1 warning",
        "1:10 a updated shop:1 critical by pay:1 +shop (severity raised from warning to critical; 1 more, 2 in all)",
    ];
    check(&mixed, &[AT_ONCE], "60s shop F\n70s pay F", "2m", &sent);
    // In the resolution, the incident that represented the group in between is one of the others.
    let sent = [sent[0], sent[1], "3:10 a resolved shop:1 warning +pay"];
    check(&mixed, &[AT_ONCE], "60s shop FPP\n70s pay FPP", "10m", &sent);
    let sent = ["1:00 a opened shop:1 warning", "1:20 a opened blog:1 warning"];
    check(&mixed, &[AT_ONCE], "60s shop F\n80s blog C", "2m", &sent);
}

/// prometheus/alertmanager#1063: a flapping alert was notified once and never again. Related issues: its resolution was
/// notified repeatedly.
#[test]
fn what_was_quiet_for_flapping_is_told_the_next_time() {
    let shop = checks("shop", "after: 1, recover_after: 1");
    let mut run = Run::new(&shop, &[AT_ONCE], true);
    run.play("60s shop FPFPFP\n3h shop FP", "9h");
    let ends = run.sent.iter().filter(|line| line.contains("resolved shop:3")).count();
    assert_eq!(ends, 1, "{:?}", run.sent);
    let next = ["180:00 a opened shop:4 warning", "181:00 a resolved shop:4 warning"];
    assert_eq!(run.sent[run.sent.len() - 2..], next);
}

/// grafana/grafana#90447: "no data" is notified every four hours, and the silence of the rule does not match it. Here,
/// unknown runs lead to one incident of the agent, and a silence of a scenario matches all its notifications.
#[test]
fn what_could_not_be_tested_is_the_agents_and_told_once() {
    let shop = checks("shop", "after: 1, recover_after: 1");
    check(
        &shop,
        &[AT_ONCE],
        "60s shop UUU",
        "8h",
        &["3:00 a opened agent/here:1 warning", "8:00 a resolved agent/here:1 warning"],
    );
    for letter in ['F', 'T', 'C', 'U'] {
        let mut run = Run::new(&shop, &[AT_ONCE], true);
        run.ask("1s", mute(&[("scenario", "shop")], "1s", "9h")).expect("is done");
        run.play(&format!("60s shop {letter}{letter}"), "8h");
        assert_eq!(run.sent, [""; 0], "{letter}");
    }
}

/// grafana/grafana#16290: a single missing sample pages. Here it neither counts nor resets the count.
#[test]
fn one_run_that_could_not_be_made_says_nothing() {
    check(&checks("shop", "after: 2"), &[AT_ONCE], "60s shop PUPUPFUP", "9h", &[]);
    check(&checks("shop", "after: 2"), &[AT_ONCE], "60s shop PFUF", "9h", &["4:00 a opened shop:1 warning"]);
}

/// louislam/uptime-kuma#1089: one failed host causes thirty messages.
#[test]
fn a_host_that_is_down_is_one_notification() {
    let ids: Vec<String> = (1..=30).map(|n| format!("s{n:02}")).collect();
    for routes in [&[][..], &[WAIT], &[AT_ONCE]] {
        let mut run = Run::new(&checks(&ids.join(","), "after: 1, recover_after: 1"), routes, true);
        run.play(&format!("60s {} CCCP", ids.join(",")), "9h");
        assert_eq!(run.sent.len(), 2, "an opening and its end: {:?}", run.sent);
    }
    // This also holds if each failure is different, as long as the scenarios depend on the host.
    let children: String = ids
        .iter()
        .map(|id| {
            format!("  {id}: {{http: \"http://{id}/\", alert: {{after: 1, recover_after: 1, depends_on: [gate]}}}}\n")
        })
        .collect();
    let gate = BEHIND.lines().next().expect("the gateway");
    let mut run = Run::new(&format!("{gate}\n{children}"), &[AT_ONCE], true);
    run.play(&format!("60s gate CCCP\n70s {} FFFP", ids.join(",")), "9h");
    assert_eq!(run.sent, ["1:00 a opened gate:1 warning", "4:00 a resolved gate:1 warning"]);
}

/// louislam/uptime-kuma#4779: the monitor's own network was down, and 28,000 messages were sent. Here, an agent fault
/// is one incident of the agent.
#[test]
fn our_own_fault_is_one_incident_of_the_agent() {
    let ids: Vec<String> = (0..500).map(|n| format!("s{n:03}")).collect();
    let mut run = Run::new(&checks(&ids.join(","), "after: 1"), &[AT_ONCE], false);
    run.play(&format!("60s {} {}", ids.join(","), "U".repeat(60)), "9h");
    assert_eq!(run.sent, ["1:00 a opened agent/here:1 warning", "65:00 a resolved agent/here:1 warning"]);
}

/// `TwiN/gatus#1708`: a gateway fails, and every endpoint alerts.
#[test]
fn a_gateway_that_drops_is_one_notification_and_what_stays_broken_is_told() {
    let sent = ["1:00 a opened gate:1 warning", "3:00 a resolved gate:1 warning", "3:10 a opened shop:1 warning"];
    check(BEHIND, &[AT_ONCE], "60s gate CCP\n70s shop FFF", "1h", &sent);
}

/// keephq/keep#4766: grouping settings were silently ignored, and one alert had 23,696 events. Here, grouped incidents
/// are counted and explained, and an invalid `group_by` is rejected when the file is loaded.
#[test]
fn what_is_folded_is_counted_and_explained() {
    let ids: Vec<String> = (0..50).map(|n| format!("s{n:02}")).collect();
    let mut run = Run::new(&checks(&ids.join(","), "after: 1"), &[WAIT], true);
    run.play(&format!("60s {} FFF", ids.join(",")), "1h");
    assert_eq!(run.sent.len(), 1, "{:?}", run.sent);
    let sent = run.decided.iter().filter(|line| line.contains("grouped: with 49 more as s00:1 for a"));
    assert_eq!((sent.count(), run.suppressed["grouped"]), (49, 49));
}
