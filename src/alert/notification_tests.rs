//! Timelines of notifications: openings, groups, raised severities, changed failures, reminders and restarts.

use std::collections::BTreeMap;

use super::fixtures::at;
use super::timeline::{AT_ONCE, Run, WAIT, alerting, check, checks};
use crate::names::suppressed;

#[test]
fn one_incident_is_told_once() {
    let shop = checks("shop", "after: 3");
    check(&shop, &[AT_ONCE], "1m shop FFF", "5h", &["3:00 a opened shop:1 warning"]);
    check(&shop, &[WAIT], "1m shop FFFFFF", "5h", &["3:30 a opened shop:1 warning"]);
    // Default group wait: half a minute, none for critical incidents.
    check(&shop, &[], "1m shop FFF", "1h", &["3:30 a opened shop:1 warning"]);
    let critical = checks("shop", "after: 3, severity: critical");
    check(&critical, &[], "1m shop FFF", "1h", &["3:00 a opened shop:1 critical"]);
    check(&critical, &["> a"], "1m shop FFF", "1h", &["3:00 a opened shop:1 critical"]);
    // Repeated failures are one incident; after it resolved, a second one has another key.
    let twice = &["2:00 a opened shop:1 warning", "6:00 a resolved shop:1 warning", "8:00 a opened shop:2 warning"];
    check(
        &checks("shop", ""),
        &[AT_ONCE],
        "1m shop FFFFPPFF",
        "1h",
        &[twice[0], "6:00 a resolved shop:1 warning", twice[2]],
    );
    // Resolved within the group wait: no notification.
    check(&checks("shop", "after: 1, recover_after: 1"), &["> a / / 90"], "1m shop FPPPFP", "1h", &[]);
}

#[test]
fn a_burst_is_one_notification() {
    let three = checks("shop,blog,news", "after: 1, recover_after: 1");
    // Within the group wait: one notification, and one for the resolution of all of them.
    check(
        &three,
        &[WAIT],
        "60s shop FFP\n70s blog FFFP\n80s news FFP",
        "1h",
        &["1:30 a opened shop:1 warning +blog,news", "4:10 a resolved shop:1 warning +blog,news"],
    );
    // An incident that resolves within the group wait is not notified; the others are.
    check(&three, &["> a / / 90"], "60s shop FPP\n70s blog FFF", "1h", &["2:30 a opened shop:1 warning by blog:1"]);
    // Later incidents are collected: half a minute after the first notification, then every five minutes.
    check(
        &checks("shop,blog,news,docs,jobs", "after: 1"),
        &[AT_ONCE],
        "60s shop F\n61s blog F\n80s news F\n100s docs F\n110s jobs F",
        "1h",
        &[
            "1:00 a opened shop:1 warning",
            "1:30 a updated shop:1 warning +blog,news (2 more, 3 in all)",
            "6:30 a updated shop:1 warning +blog,news,docs,jobs (2 more, 5 in all)",
        ],
    );
    // An incident that joined and resolved before its notification is not notified.
    check(&three, &[AT_ONCE], "60s shop FFF\n61s blog F\n80s blog P", "1h", &["1:00 a opened shop:1 warning"]);
    // In one commit, at once.
    check(
        &checks("shop,blog,news", "after: 1, severity: critical"),
        &[],
        "60s shop,blog,news F\n120s shop,blog,news PP",
        "1h",
        &["1:00 a opened shop:1 critical +blog,news", "3:00 a resolved shop:1 critical +blog,news"],
    );
}

#[test]
fn five_thousand_at_once_are_one_notification_for_each_receiver() {
    let ids: Vec<String> = (0..5000).map(|n| format!("s{n:04}")).collect();
    let all = ids.join(",");
    for (policy, opened, rest) in [
        ("after: 1, recover_after: 1", "1:30", None),
        ("after: 1, recover_after: 1, severity: critical", "1:00", None),
        ("after: 1, recover_after: 1, severity: critical", "1:00", Some("61s")),
    ] {
        let mut run = Run::new(&checks(&all, policy), &["> a,b"], false);
        match rest {
            None => run.play(&format!("60s {all} FFFFP"), "1h"),
            // The storm is split into two commits.
            Some(time) => {
                let (first, second) = (ids[..500].join(","), ids[500..].join(","));
                run.play(&format!("60s {first} FFFFP\n{time} {second} FFFFP"), "1h");
            }
        }
        let events: Vec<String> =
            run.sent.iter().map(|line| line.split(" +").next().unwrap_or_default().into()).collect();
        let severity = if policy.contains("critical") { "critical" } else { "warning" };
        let mut expected = Vec::new();
        for (time, event) in [(opened, "opened"), ("1:30", "updated"), ("5:00", "resolved")] {
            if event == "updated" && rest.is_none() {
                continue;
            }
            let time = if rest.is_some() && event == "resolved" { "5:01" } else { time };
            expected.extend(["a", "b"].map(|to| format!("{time} {to} {event} s0000:1 {severity}")));
        }
        assert_eq!(events, expected);
        assert!(
            run.sent[0].ends_with(if rest.is_some() { "s0050 and 449" } else { "s0050 and 4949" }),
            "{}",
            run.sent[0]
        );
        assert_eq!(run.suppressed[suppressed::GROUPED], 4999, "{:?}", run.suppressed);
        run.memory.remove("location");
        assert_eq!(run.memory, BTreeMap::new(), "nothing is left of what is over");
    }
}

#[test]
fn a_cause_of_its_own_is_a_notification_of_its_own() {
    let two = checks("shop,blog,news", "after: 1, recover_after: 1");
    check(
        &two,
        &[AT_ONCE],
        "60s shop FFF\n70s blog CCC\n80s news F",
        "2m",
        &[
            "1:00 a opened shop:1 warning",
            "1:10 a opened blog:1 warning",
            "1:30 a updated shop:1 warning +news (1 more, 2 in all)",
        ],
    );
    // Other values of `group_by`, or other receivers, form another group.
    let teams = "  shop: {http: \"http://shop/\", tags: {team: web}, alert: {after: 1}}\n  \
                 blog: {http: \"http://shop/\", tags: {team: docs}, alert: {after: 1}}\n  \
                 news: {http: \"http://shop/\", alert: {after: 1}}\n";
    let lines = "60s shop,blog,news F";
    check(teams, &["> a / / 0"], lines, "1h", &["1:00 a opened shop:1 warning +blog,news"]);
    let apart = &["1:00 a opened news:1 warning", "1:00 a opened blog:1 warning", "1:00 a opened shop:1 warning"];
    check(teams, &["> a / team / 0"], lines, "1h", apart);
    let apart = &["1:00 a opened shop:1 warning", "1:00 b opened blog:1 warning +news"];
    check(teams, &["team=web > a / / 0", "> b / / 0"], lines, "1h", apart);
}

#[test]
fn louder_pages_and_reaches_those_who_were_not_told() {
    // An incident of higher severity joins: notified at once.
    let mixed = format!("{}{}", checks("shop,blog", "after: 1"), checks("pay", "after: 1, severity: critical"));
    check(
        &mixed,
        &["> a / / 0"],
        "60s shop F\n65s blog F\n70s pay F",
        "1h",
        &[
            "1:00 a opened shop:1 warning",
            "1:10 a updated shop:1 critical by pay:1 +shop,blog (severity raised from warning to critical; 2 more, 3 in all)",
        ],
    );
    // A critical incident ends the group wait of the others.
    check(&mixed, &[], "60s shop F\n65s pay F", "1h", &["1:05 a opened shop:1 critical by pay:1 +shop"]);
    // A warning raised to critical matches the route of critical incidents, whose receivers get an opening.
    let raised = checks("shop", "after: 1, severity: critical, verdicts: [failed, degraded], recover_after: 1");
    check(
        &raised,
        &["severity=critical > pager,team", "> team / / 0"],
        "60s shop DDFFP",
        "1h",
        &[
            "1:00 team opened shop:1 warning",
            "3:00 team updated shop:1 critical (severity raised from warning to critical; changed from budget to status)",
            "3:00 pager opened shop:1 critical (severity raised from warning to critical; changed from budget to status)",
            "5:00 team resolved shop:1 critical",
            "5:00 pager resolved shop:1 critical",
        ],
    );
}

#[test]
fn another_failure_is_an_update_and_the_same_one_is_quiet() {
    let shop = checks("shop", "");
    let opened = "2:00 a opened shop:1 warning";
    check(&shop, &[AT_ONCE], "1m shop TTTTTTTT", "5h", &[opened]);
    // Confirmed by as many runs as a failure.
    check(
        &shop,
        &[AT_ONCE],
        "1m shop TTTFF",
        "5h",
        &[opened, "5:00 a updated shop:1 warning (changed from timeout to status)"],
    );
    check(&shop, &[AT_ONCE], "1m shop TTTFTFTFT", "5h", &[opened]);
    check(
        &checks("shop", "after: 1"),
        &[AT_ONCE],
        "1m shop TFT",
        "5h",
        &["1:00 a opened shop:1 warning", "2:00 a updated shop:1 warning (changed from timeout to status)"],
    );
    // Each failure fingerprint once: alternating between them is no news.
    check(
        &shop,
        &[AT_ONCE],
        "1m shop TTFFTTFFTTCC",
        "5h",
        &[
            opened,
            "4:00 a updated shop:1 warning (changed from timeout to status)",
            "12:00 a updated shop:1 warning (changed from status to connect)",
        ],
    );
    // The same change of many incidents is one update.
    check(
        &checks("shop,blog,news", ""),
        &[AT_ONCE],
        "1m shop,blog,news TTTFFF",
        "5h",
        &["2:00 a opened shop:1 warning +blog,news", "5:00 a updated shop:1 warning +blog,news (causes: 3 × status)"],
    );
}

#[test]
fn what_stays_open_is_told_again_only_when_asked_for() {
    let shop = checks("shop", "remind: 1h, recover_after: 1");
    let opened = "2:00 a opened shop:1 warning";
    check(&shop, &[AT_ONCE], "1m shop FF", "2h", &[opened, "62:00 a reminder shop:1 warning"]);
    check(
        &shop,
        &[AT_ONCE],
        "1m shop FF\n100m shop P",
        "9h",
        &[opened, "62:00 a reminder shop:1 warning", "100:00 a resolved shop:1 warning"],
    );
    // An update restarts the hour.
    check(
        &shop,
        &[AT_ONCE],
        "1m shop FF\n30m shop TT",
        "92m",
        &[opened, "31:00 a updated shop:1 warning (changed from status to timeout)", "91:00 a reminder shop:1 warning"],
    );
    // The shortest interval of a group counts, and there is one reminder.
    let both = format!("{}{}", checks("shop", "after: 1, remind: 4h"), checks("blog", "after: 1, remind: 1h"));
    let twice = &["1:00 a opened shop:1 warning +blog", "61:00 a reminder shop:1 warning +blog"];
    check(&both, &[AT_ONCE], "1m shop,blog F", "2h", twice);
}

#[test]
fn a_group_survives_restarts_reloads_and_removals() {
    // A stop notifies groups in their group wait; the next agent notifies the resolution.
    let mut run = Run::new(&checks("shop,blog", "after: 1"), &[WAIT], true);
    run.play("60s shop,blog F", "61s");
    assert_eq!(run.sent, [""; 0]);
    run.pipeline.stop(at(62));
    run.write(at(62));
    assert_eq!(run.sent, ["1:02 a opened shop:1 warning +blog"]);
    // After a reload, other routes apply to new incidents, and nothing is notified twice.
    run.alerting = alerting(&["> b / / 0"]);
    run.load(at(90));
    run.play("120s shop FFF", "10m");
    run.play("11m blog,shop PP", "20m");
    run.play("30m shop FF", "1h");
    assert_eq!(run.sent[1..], ["12:00 a resolved shop:1 warning +blog", "30:00 b opened shop:2 warning"]);
    // A removed scenario resolves; the group is resolved with its last incident.
    let mut run = Run::new(&checks("shop,blog", "after: 1"), &[AT_ONCE], true);
    run.play("60s shop,blog F", "90s");
    run.checks = checks("blog", "after: 1");
    run.load(at(100));
    run.write(at(100));
    assert_eq!(run.sent, ["1:00 a opened shop:1 warning +blog"]);
    run.play("120s blog PP", "1h");
    assert_eq!(run.sent[1..], ["3:00 a resolved shop:1 warning +blog"]);
}

#[test]
fn what_was_not_told_is_counted() {
    let counted = |lines: &str, wait: &str| {
        let mut run = Run::new(&checks("shop,blog", "after: 2, recover_after: 1"), &[wait], false);
        run.play(lines, "1h");
        run.suppressed.into_iter().filter(|(_, count)| *count > 0).collect::<Vec<_>>()
    };
    assert_eq!(counted("1m shop FFFFP", AT_ONCE), [("already_open", 2), ("below_threshold", 1)]);
    assert_eq!(counted("1m shop FP", AT_ONCE), [("below_threshold", 1)]);
    assert_eq!(counted("1m shop UFF", AT_ONCE), [("agent_fault", 1), ("below_threshold", 1)]);
    assert_eq!(counted("1m shop FFP", "> a / / 600"), [("below_threshold", 1), ("resolved_early", 1)]);
    assert_eq!(counted("1m shop,blog FF", AT_ONCE), [("below_threshold", 2), ("grouped", 1)]);
}
