//! The cases of Alertmanager's acceptance tests (`test/with_api_v2/acceptance`), rewritten for this pipeline: the
//! notifications sent, and no others. Retries, timeouts and unreachable receivers are cases of delivery, tested in
//! `notify::tests`.

use super::fixtures::at;
use super::timeline::{AT_ONCE, BEHIND, Run, WAIT, alerting, check, checks, mute};
use crate::incident::AlertCommand;

/// `TestMergeAlerts`: repeated equal alerts are one alert.
#[test]
fn merge() {
    let shop = checks("shop", "after: 1, recover_after: 1");
    let both = &["1:00 a opened shop:1 warning", "5:00 a resolved shop:1 warning"];
    check(&shop, &[AT_ONCE], "60s shop FFFFP\n90s shop FFFF", "1h", both);
    // Resolved and opened again: another incident with another key.
    let again = [both[0], "2:00 a resolved shop:1 warning", "3:00 a opened shop:2 warning"];
    check(&shop, &[AT_ONCE], "60s shop FPF", "1h", &again);
}

/// `TestRepeat`: reminders as often as configured, and not more often.
#[test]
fn repeat() {
    let shop = checks("shop", "after: 1, recover_after: 1, remind: 20m");
    let sent = [
        "1:00 a opened shop:1 warning",
        "21:00 a reminder shop:1 warning",
        "41:00 a reminder shop:1 warning",
        "50:00 a resolved shop:1 warning",
    ];
    check(&shop, &[AT_ONCE], "60s shop FFF\n50m shop P", "9h", &sent);
}

/// `TestBatching`: incidents within the group wait are one notification; later ones are one update.
#[test]
fn batching() {
    let five = checks("a1,a2,a3,b1,b2", "after: 1, recover_after: 1");
    let sent = [
        "1:30 a opened a1:1 warning +a2,a3",
        "2:00 a updated a1:1 warning +a2,a3,b1,b2 (2 more, 5 in all)",
        "20:00 a resolved a1:1 warning +a2,a3,b1,b2",
    ];
    let lines = "60s a1 F\n70s a2 F\n85s a3 F\n95s b1 F\n100s b2 F\n20m a1,a2,a3,b1,b2 P";
    check(&five, &[WAIT], lines, "1h", &sent);
}

/// `TestResolved`, `TestResolvedFilter`: the resolution is notified once, when all incidents are resolved.
#[test]
fn resolved() {
    let two = checks("shop,blog", "after: 1, recover_after: 1");
    let sent = ["1:00 a opened shop:1 warning +blog", "9:00 a resolved shop:1 warning +blog"];
    check(&two, &[AT_ONCE], "60s shop,blog F\n5m shop P\n9m blog P", "1h", &sent);
    // Resolved within the group wait: neither the opening nor the resolution is notified.
    check(&two, &["> a / / 600"], "60s shop,blog FFFP", "1h", &[]);
}

/// `TestColdStart`: an agent that starts while everything is broken sends one notification; an agent that restarts
/// sends none.
#[test]
fn cold_start() {
    let two = checks("shop,blog", "after: 1, recover_after: 1");
    for restarts in [false, true] {
        let mut run = Run::new(&two, &[WAIT], restarts);
        run.play("0s shop,blog FFFFFF", "9h");
        assert_eq!(run.sent, ["0:30 a opened shop:1 warning +blog"]);
    }
}

/// `TestReload`: open incidents are not affected by a reload.
#[test]
fn reload() {
    let mut run = Run::new(&checks("shop,blog", "after: 1, recover_after: 1"), &[AT_ONCE], true);
    run.play("60s shop,blog F", "90s");
    for second in [100, 110, 120] {
        run.load(at(second));
        run.write(at(second));
    }
    run.alerting = alerting(&["> b / / 30"]);
    run.load(at(150));
    run.play("3m shop,blog FF\n9m shop,blog P", "1h");
    assert_eq!(run.sent, ["1:00 a opened shop:1 warning +blog", "9:00 a resolved shop:1 warning +blog"]);
}

/// `TestInhibiting`, `TestAlwaysInhibiting`, `TestEmptyInhibitionRule`: `depends_on`.
#[test]
fn inhibition() {
    let down = ["1:00 a opened gate:1 warning", "4:00 a resolved gate:1 warning"];
    check(BEHIND, &[AT_ONCE], "60s gate CCCP\n65s shop FFFP", "1h", &down);
    // The parent fails after its child was notified: the child stays open, and its resolution is notified.
    let child = ["1:05 a opened shop:1 warning", "2:00 a opened gate:1 warning", "3:00 a resolved gate:1 warning"];
    let sent = [&child[..], &["3:05 a resolved shop:1 warning"]].concat();
    check(BEHIND, &[AT_ONCE], "60s gate PCP\n65s shop FFP\n65s gate P", "1h", &sent);
    // Without dependencies, nothing is suppressed.
    let two = checks("shop,blog", "after: 1, recover_after: 1");
    check(
        &two,
        &["> a / scenario / 0"],
        "60s shop F\n70s blog F",
        "1h",
        &["1:00 a opened shop:1 warning", "1:10 a opened blog:1 warning"],
    );
}

/// `TestAddSilence`, `TestSilencing`, `TestSilenceDelete`.
#[test]
fn silence() {
    for restarts in [false, true] {
        let mut run = Run::new(&checks("shop,blog", "after: 1, recover_after: 1"), &["> a / scenario / 0"], restarts);
        run.ask("30s", mute(&[("scenario", "shop")], "30s", "10m")).expect("is done");
        run.play("60s shop,blog FFF", "4m");
        assert_eq!(run.sent, ["1:00 a opened blog:1 warning"], "of others it says nothing");
        run.ask("4m", AlertCommand::Expire { id: "m1".into() }).expect("is done");
        run.play("5m shop F", "6m");
        assert_eq!(run.sent[1..], ["5:00 a opened shop:1 warning"]);
        // Silenced after its notification: the resolution is notified.
        run.ask("6m", mute(&[("scenario", "shop")], "6m", "10m")).expect("is done");
        run.play("7m shop P", "1h");
        assert_eq!(run.sent[2..], ["7:00 a resolved shop:1 warning"]);
    }
}
