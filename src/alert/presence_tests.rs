//! Timelines of scenarios that are removed, paused or unreadable: no notification states that they recovered.

use super::fixtures::at;
use super::idle::Idle;
use super::timeline::{AT_ONCE, Run, checks};
use crate::incident::{Ending, Subject};

/// Starts with bad runs and notifications of both scenarios.
fn open(restarts: bool) -> Run {
    let mut run = Run::new(&checks("shop,blog", "after: 1"), &["> a / scenario / 0"], restarts);
    run.play("60s shop,blog F", "90s");
    assert_eq!(run.sent.len(), 2);
    run
}

/// Loads files with `blog` only at a given second.
fn load_without_shop(run: &mut Run, idle: Idle, second: i64) {
    run.checks = checks("blog", "after: 1");
    run.idle = idle;
    run.load(at(second));
    run.write(at(second));
}

fn refused(what: &str) -> Idle {
    Idle { refused: vec![(what.to_owned(), "it does not read".to_owned())], ..Idle::default() }
}

#[test]
fn removed_and_paused_scenarios_end_as_such() {
    for restarts in [false, true] {
        let paused = Idle { paused: ["shop".into()].into(), ..Idle::default() };
        for (idle, ending) in [(Idle::default(), Ending::Removed), (paused, Ending::Paused)] {
            let mut run = open(restarts);
            load_without_shop(&mut run, idle, 100);
            assert_eq!(run.sent[2..], ["1:40 a resolved shop:1 warning"]);
            assert_eq!(run.notifications[2].incident.ending, Some(ending));
            run.play("", "5h");
            assert_eq!(run.sent.len(), 3, "and nothing else: {:?}", run.sent);
            // If it is added again and fails, a new incident opens.
            run.idle = Idle::default();
            run.checks = checks("shop,blog", "after: 1");
            run.load(at(18_060));
            run.play("302m shop F", "303m");
            assert_eq!(run.sent[3..], ["302:00 a opened shop:2 warning"]);
        }
    }
}

#[test]
fn unreadable_scenarios_stay_open_and_the_agent_says_so_once() {
    // The file, a folder above it, or the scenario itself because of a missing variable.
    for what in ["checks.yaml", "shop"] {
        for restarts in [false, true] {
            let mut run = open(restarts);
            load_without_shop(&mut run, refused(what), 100);
            run.play("", "1h");
            assert_eq!(run.sent[2..], ["1:55 a opened agent/here:1 warning"], "{what}");
            let message = run.notifications[2].incident.message.clone().unwrap_or_default();
            assert_eq!(message.as_str(), format!("shop is not monitored: {what}: it does not read"));
            let shop = run.pipeline.incident(&Subject::from("shop")).expect("is open").clone();
            let unwatched = shop.unwatched.expect("is marked");
            assert_eq!((unwatched.since, unwatched.reason), (at(60), format!("{what}: it does not read")));
            // Monitored again: the agent's incident resolves, and that of `shop` continues.
            run.idle = Idle::default();
            run.checks = checks("shop,blog", "after: 1");
            run.load(at(3700));
            run.pipeline.tick(at(3700));
            run.write(at(3700));
            assert_eq!(run.sent[3..], ["61:40 a resolved agent/here:1 warning"]);
            let shop = run.pipeline.incident(&Subject::from("shop")).expect("is open");
            assert_eq!(shop.unwatched, None);
            run.play("62m shop PP", "64m");
            assert_eq!(run.sent[4..], ["63:00 a resolved shop:1 warning"]);
            assert_eq!(run.notifications[4].incident.ending, None);
        }
    }
}

#[test]
fn a_file_that_reads_again_at_once_is_not_told() {
    let mut run = open(true);
    load_without_shop(&mut run, refused("checks.yaml"), 100);
    run.idle = Idle::default();
    run.checks = checks("shop,blog", "after: 1");
    run.load(at(110));
    run.play("", "1h");
    assert_eq!(run.sent.len(), 2, "{:?}", run.sent);
}

#[test]
fn removed_scenarios_of_a_file_that_breaks_later_are_not_missed() {
    let mut run = open(true);
    load_without_shop(&mut run, Idle::default(), 100);
    run.idle = refused("checks.yaml");
    run.load(at(200));
    run.play("", "1h");
    assert_eq!(run.sent[3..], [""; 0], "nobody waits for the shop any longer");
}

#[test]
fn of_a_renamed_location_nothing_stays_open() {
    let mut run = Run::new(&checks("shop", "after: 1"), &[AT_ONCE], true);
    run.play("60s shop UUU", "4m");
    assert_eq!(run.sent, ["3:00 a opened agent/here:1 warning"]);
    run.rename("there", at(250));
    assert_eq!(run.sent[1..], ["4:10 a resolved agent/here:1 warning"]);
    assert_eq!(run.notifications[1].incident.ending, Some(Ending::Removed));
    run.play("", "1h");
    assert_eq!(run.sent.len(), 2, "{:?}", run.sent);
}

#[test]
fn the_end_of_a_group_is_when_its_last_member_ended() {
    let mut run = Run::new(&checks("shop,blog", "after: 1, recover_after: 1"), &[AT_ONCE], true);
    run.play("60s shop,blog F\n2m shop P\n9m blog P", "1h");
    assert_eq!(run.sent[1..], ["9:00 a resolved shop:1 warning +blog"]);
    assert_eq!(run.notifications[1].incident.resolved_at, Some(at(540)));
    // A removed scenario counts as well.
    let mut run = Run::new(&checks("shop,blog", "after: 1, recover_after: 1"), &[AT_ONCE], true);
    run.play("60s shop,blog F", "90s");
    load_without_shop(&mut run, Idle::default(), 100);
    run.play("9m blog PP", "1h");
    assert_eq!(run.sent[1..], ["10:00 a resolved shop:1 warning +blog"]);
    assert_eq!(
        (run.notifications[1].incident.ending, run.notifications[1].others[0].ending),
        (Some(Ending::Removed), None)
    );
}
