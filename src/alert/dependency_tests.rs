//! Timelines of scenarios that depend on others.

use super::timeline::{AT_ONCE, BEHIND, Run, check};
use crate::names::suppressed;

#[test]
fn a_child_is_not_told_while_its_parent_explains_it() {
    let (down, well) = ("1:00 a opened gate:1 warning", "5:00 a resolved gate:1 warning");
    let at_once = &[AT_ONCE];
    check(BEHIND, at_once, "60s gate CCCCP\n70s shop FFFFP", "5h", &[down, well]);
    // If it still fails after the parent has recovered, it is notified then.
    check(BEHIND, at_once, "60s gate CCCCP\n70s shop FFFFFF", "5h", &[down, well, "5:10 a opened shop:1 warning"]);
    let both = [down, well, "5:10 a opened shop:1 warning", "6:10 a resolved shop:1 warning"];
    check(BEHIND, at_once, "60s gate CCCCP\n70s shop FFFFFP", "5h", &both);
    // The child fails first: its parent is run at once, and explains it.
    let first = ["1:15 a opened gate:1 warning", "2:15 a resolved gate:1 warning", "3:10 a opened shop:1 warning"];
    check(BEHIND, at_once, "60s gate P\n70s shop FFF\n75s gate CP", "5h", &first);
    check(BEHIND, at_once, "60s gate P\n70s shop FFP\n75s gate CP", "5h", &first[..2]);
    // If the parent is good, the child is notified at once; if it does not respond, after half a minute.
    check(BEHIND, at_once, "60s gate P\n70s shop FFF\n75s gate P", "5h", &["1:15 a opened shop:1 warning"]);
    check(BEHIND, at_once, "60s gate P\n70s shop F", "5h", &["1:40 a opened shop:1 warning"]);
    check(BEHIND, at_once, "70s shop F\n80s gate U", "5h", &["1:40 a opened shop:1 warning"]);
    // Both in the same second.
    check(
        BEHIND,
        at_once,
        "60s shop,gate FP",
        "5h",
        &["1:00 a opened gate:1 warning", "2:00 a resolved gate:1 warning"],
    );
    // A bad run of the parent that opens no incident suppresses the child until the next run.
    let patient = BEHIND.replacen("after: 1", "after: 2", 1);
    check(&patient, at_once, "60s gate CPP\n70s shop FFFF", "5h", &["2:10 a opened shop:1 warning"]);
    // Each child requests one run.
    let mut run = Run::new(BEHIND, &[AT_ONCE], true);
    run.play("60s gate P\n70s shop FFF", "2m");
    assert_eq!(run.looked, ["1:10 gate"]);
    assert_eq!(run.suppressed[suppressed::DEPENDENCY], 1);
}

#[test]
fn dependencies_go_over_several_levels() {
    let three = format!(
        "  net: {{ping: net, alert: {{after: 1, recover_after: 1}}}}\n{}",
        BEHIND.replacen("recover_after: 1", "recover_after: 1, depends_on: [net]", 1)
    );
    let (down, well) = ("1:00 a opened net:1 warning", "5:00 a resolved net:1 warning");
    check(&three, &[AT_ONCE], "60s net CCCCP\n65s gate CCCCP\n70s shop FFFFP", "5h", &[down, well]);
    // `net` explains `shop` although `gate` is good.
    check(&three, &[AT_ONCE], "60s net CCCCP\n65s gate PPPPP\n70s shop FFFFP", "5h", &[down, well]);
    // `gate` opens when `net` has recovered.
    let gate = [down, well, "5:05 a opened gate:1 warning", "6:05 a resolved gate:1 warning"];
    check(&three, &[AT_ONCE], "60s net CCCCP\n65s gate CCCCCP\n70s shop FFFFFP", "5h", &gate);
    // A storm behind one gateway is one notification.
    let ids: Vec<String> = (0..300).map(|n| format!("s{n}")).collect();
    let many: String = ids
        .iter()
        .map(|id| {
            format!("  {id}: {{http: \"http://{id}/\", alert: {{after: 1, recover_after: 1, depends_on: [gate]}}}}\n")
        })
        .collect();
    let gateway = format!("{}{many}", BEHIND.lines().next().map(|line| format!("{line}\n")).unwrap_or_default());
    let storm = format!("60s {} FFFFP\n62s gate CCCP", ids.join(","));
    let mut run = Run::new(&gateway, &["> a / / 0"], false);
    run.play(&storm, "1h");
    assert_eq!(run.sent, ["1:02 a opened gate:1 warning", "4:02 a resolved gate:1 warning"]);
    assert_eq!(run.looked, ["1:00 gate"]);
}
