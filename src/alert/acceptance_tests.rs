//! The cases of Alertmanager's acceptance tests (`test/with_api_v2/acceptance`), written anew for this pipeline: what is
//! told, and nothing else. Retry, timeouts and a receiver that is away are cases of delivery: `notify::tests`.

use super::fixtures::at;
use super::pipeline::Request;
use super::timeline_tests::{AT_ONCE, BEHIND, Run, WAIT, alerting, check, checks, mute};

/// `TestMergeAlerts`: what is said twice of the same is the same.
#[test]
fn merge() {
    let shop = checks("shop", "after: 1, recover_after: 1");
    let both = &["1:00 a opened shop:1 warning", "5:00 a resolved shop:1 warning"];
    check(&shop, &[AT_ONCE], "60s shop FFFFP\n90s shop FFFF", "1h", both);
    // Over, and again: another incident with another key.
    let again = [both[0], "2:00 a resolved shop:1 warning", "3:00 a opened shop:2 warning"];
    check(&shop, &[AT_ONCE], "60s shop FPF", "1h", &again);
}

/// `TestRepeat`: as often as asked for, and not more often.
#[test]
fn repeat() {
    let shop = checks("shop", "after: 1, recover_after: 1, remind: 20m");
    let told = [
        "1:00 a opened shop:1 warning",
        "21:00 a reminder shop:1 warning",
        "41:00 a reminder shop:1 warning",
        "50:00 a resolved shop:1 warning",
    ];
    check(&shop, &[AT_ONCE], "60s shop FFF\n50m shop P", "9h", &told);
}

/// `TestBatching`: what comes within the wait is one notice; what comes later is one update.
#[test]
fn batching() {
    let five = checks("a1,a2,a3,b1,b2", "after: 1, recover_after: 1");
    let told = [
        "1:30 a opened a1:1 warning +a2,a3",
        "2:00 a updated a1:1 warning +a2,a3,b1,b2 (2 more, 5 in all)",
        "20:00 a resolved a1:1 warning +a2,a3,b1,b2",
    ];
    let lines = "60s a1 F\n70s a2 F\n85s a3 F\n95s b1 F\n100s b2 F\n20m a1,a2,a3,b1,b2 P";
    check(&five, &[WAIT], lines, "1h", &told);
}

/// `TestResolved`, `TestResolvedFilter`: the end is told once, when all of it is over.
#[test]
fn resolved() {
    let two = checks("shop,blog", "after: 1, recover_after: 1");
    let told = ["1:00 a opened shop:1 warning +blog", "9:00 a resolved shop:1 warning +blog"];
    check(&two, &[AT_ONCE], "60s shop,blog F\n5m shop P\n9m blog P", "1h", &told);
    // Over before the wait: neither the opening nor the end.
    check(&two, &["> a / / 600"], "60s shop,blog FFFP", "1h", &[]);
}

/// `TestColdStart`: an agent that starts while all is broken tells it once; one that starts again does not.
#[test]
fn cold_start() {
    let two = checks("shop,blog", "after: 1, recover_after: 1");
    for restarts in [false, true] {
        let mut run = Run::new(&two, &[WAIT], restarts);
        run.play("0s shop,blog FFFFFF", "9h");
        assert_eq!(run.told, ["0:30 a opened shop:1 warning +blog"]);
    }
}

/// `TestReload`: what is open stays as it is, whatever else the files say.
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
    assert_eq!(run.told, ["1:00 a opened shop:1 warning +blog", "9:00 a resolved shop:1 warning +blog"]);
}

/// `TestInhibiting`, `TestAlwaysInhibiting`, `TestEmptyInhibitionRule`: `depends_on`.
#[test]
fn inhibition() {
    let down = ["1:00 a opened gate:1 warning", "4:00 a resolved gate:1 warning"];
    check(BEHIND, &[AT_ONCE], "60s gate CCCP\n65s shop FFFP", "1h", &down);
    // The parent breaks after its child was told: the child stays told, and its end is told.
    let child = ["1:05 a opened shop:1 warning", "2:00 a opened gate:1 warning", "3:00 a resolved gate:1 warning"];
    let told = [&child[..], &["3:05 a resolved shop:1 warning"]].concat();
    check(BEHIND, &[AT_ONCE], "60s gate PCP\n65s shop FFP\n65s gate P", "1h", &told);
    // Nothing depends on nothing.
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
        assert_eq!(run.told, ["1:00 a opened blog:1 warning"], "of others it says nothing");
        run.ask("4m", Request::Expire { id: "m1".into() }).expect("is done");
        run.play("5m shop F", "6m");
        assert_eq!(run.told[1..], ["5:00 a opened shop:1 warning"]);
        // What is silenced once it was told: the end is told.
        run.ask("6m", mute(&[("scenario", "shop")], "6m", "10m")).expect("is done");
        run.play("7m shop P", "1h");
        assert_eq!(run.told[2..], ["7:00 a resolved shop:1 warning"]);
    }
}
