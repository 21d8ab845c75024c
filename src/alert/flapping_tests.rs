//! Timelines of incidents that open and resolve repeatedly.

use super::fixtures::at;
use super::timeline::{AT_ONCE, Run, check, checks};

#[test]
fn what_flaps_is_told_once_until_it_is_steady() {
    let shop = checks("shop", "after: 1, recover_after: 1");
    let begin = [
        "1:00 a opened shop:1 warning",
        "2:00 a resolved shop:1 warning",
        "3:00 a opened shop:2 warning",
        "4:00 a resolved shop:2 warning",
        "5:00 a opened shop:3 warning (is flapping: 5 changes in 4m; no notifications until stable for 4m)",
    ];
    let with = |end: &[&'static str]| [&begin[..], end].concat();
    // A cycle is two minutes: steady four minutes after the last change.
    check(&shop, &[AT_ONCE], "1m shop FPFPFPFPPPPP", "5h", &with(&["12:00 a resolved shop:3 warning"]));
    check(
        &shop,
        &[AT_ONCE],
        &format!("1m shop {}P", "FP".repeat(30)),
        "5h",
        &with(&["64:00 a resolved shop:3 warning"]),
    );
    let still = "9:00 a updated shop:3 warning (no longer flapping, still failing)";
    check(&shop, &[AT_ONCE], "1m shop FPFPFFFFFFF", "5h", &with(&[still]));
    check(&shop, &[AT_ONCE], "1m shop FPFPFFFFFFFFFP", "5h", &with(&[still, "14:00 a resolved shop:3 warning"]));
    let anew = "11:00 a updated shop:3 warning by shop:4 (no longer flapping, still failing)";
    check(&shop, &[AT_ONCE], "1m shop FPFPFPFFFFFF", "5h", &with(&[anew]));
    // At less than half of the fastest pace, each change is notified.
    check(
        &shop,
        &[AT_ONCE],
        "1m shop F....P....F....P....F",
        "5h",
        &[
            "1:00 a opened shop:1 warning",
            "6:00 a resolved shop:1 warning",
            "11:00 a opened shop:2 warning",
            "16:00 a resolved shop:2 warning",
            "21:00 a opened shop:3 warning",
        ],
    );
    // n of m uses the fastest possible cycle: these never open, or never resolve.
    check(&checks("shop", "after: 2"), &[AT_ONCE], &format!("1m shop {}", "FP".repeat(40)), "2h", &[]);
    let once = &["3:00 a opened shop:1 warning"];
    check(&checks("shop", "after: 2 of 3"), &[AT_ONCE], &format!("1m shop {}", "FP".repeat(40)), "2h", once);
    // After a quiet time, flapping may start again.
    let again = format!("1m shop FPFPFPPPPPPPPP{}", "FP".repeat(3));
    let later = [
        "10:00 a resolved shop:3 warning",
        "15:00 a opened shop:4 warning",
        "16:00 a resolved shop:4 warning",
        "17:00 a opened shop:5 warning",
        "18:00 a resolved shop:5 warning",
        "19:00 a opened shop:6 warning (is flapping: 5 changes in 4m; no notifications until stable for 4m)",
        "24:00 a resolved shop:6 warning",
    ];
    check(&shop, &[AT_ONCE], &again, "2h", &with(&later));
    // Removed while it flaps.
    let mut run = Run::new(&shop, &[AT_ONCE], true);
    run.play("1m shop FPFPFP", "6m");
    run.checks = checks("blog", "");
    run.load(at(400));
    run.write(at(400));
    assert_eq!(run.sent[5..], ["6:40 a resolved shop:3 warning"]);
}
