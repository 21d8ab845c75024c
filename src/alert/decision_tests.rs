//! Questions of a person on call, one for each stage, and the output of `wachta alerts why`.

use super::fixtures::{at, outcome};
use super::timeline::{AT_ONCE, BEHIND, Run, WAIT, checks, mute};
use crate::incident::AlertCommand;
use crate::notify::Receiver;
use crate::outcome::Outcome;

/// Checks that a decision about a subject contains a text.
#[track_caller]
fn answered(run: &Run, subject: &str, part: &str) {
    let about: Vec<&String> = run.decided.iter().filter(|line| line.split(' ').nth(1) == Some(subject)).collect();
    assert!(about.iter().any(|line| line.contains(part)), "no {part:?} in {about:#?}");
}

fn played(policy: &str, routes: &[&str], lines: &str) -> Run {
    let mut run = Run::new(&checks("shop,blog", policy), routes, true);
    run.play(lines, "1h");
    run
}

#[test]
fn why_was_i_not_told_although_it_was_red() {
    let count = played("after: 3", &[AT_ONCE], "60s shop FFP");
    answered(&count, "shop", "2:00 shop below_threshold: 2 bad of the last 2, 3 needed");
    let own = played("after: 1", &[AT_ONCE], "60s shop U");
    answered(&own, "shop", "agent_fault: the target could not be tested: browser");
    let brief = played("after: 1, recover_after: 1", &[WAIT], "60s shop F\n70s shop P");
    answered(&brief, "shop", "1:00 shop group_wait: shop:1 waits for related incidents until 08:01:30");
    answered(&brief, "shop", "1:10 shop resolved_early: resolved before a notification was sent");
}

#[test]
fn why_was_i_not_told_when_it_was_red_in_frankfurt() {
    let mut run = Run::new(&checks("shop", "after: 1"), &[AT_ONCE], true);
    for (second, location, letter) in [(60, "fra", 'P'), (61, "waw", 'P'), (62, "sto", 'P'), (120, "fra", 'F')] {
        let outcome = Outcome { location: location.into(), ..outcome("shop", letter, second) };
        run.pipeline.process_outcome(&outcome, at(second));
        run.write(at(second));
    }
    answered(&run, "shop", "2:00 shop quorum: bad at fra only: 1 of 3 locations, 2 needed");
}

#[test]
fn why_was_i_told() {
    let run = played("after: 2, recover_after: 1", &[AT_ONCE], "60s shop FFP");
    answered(&run, "shop", "2:00 shop opened: 2 bad of the last 2, 2 needed");
    answered(&run, "shop", "2:00 shop queued: opened as shop:1 for a");
    answered(&run, "shop", "3:00 shop resolved: 1 good in a row, 1 needed");
    answered(&run, "shop", "3:00 shop queued: resolved of 1 as shop:1 for a");
}

#[test]
fn why_is_it_in_the_notification_of_another() {
    let run = played("after: 1", &[AT_ONCE], "60s shop F\n70s blog F");
    answered(&run, "blog", "1:10 blog grouped: same cause as shop:1; included in its update at 08:01:30");
    answered(&run, "blog", "1:30 blog grouped: with 1 more as shop:1 for a");
    answered(&run, "shop", "1:30 shop changed: 1 more, 2 in all; for a");
}

#[test]
fn why_is_it_quiet_although_it_comes_and_goes() {
    let run = played("after: 1, recover_after: 1", &[AT_ONCE], "60s shop FPFPFPFF");
    answered(&run, "shop", "5:00 shop flapping: is flapping: 5 changes in 4m");
    answered(
        &run,
        "shop",
        "6:00 shop flapping: resolved again; no notifications until it is stable, at 08:10:00 at the earliest",
    );
    answered(&run, "shop", "flapping: stable again: failing");
}

#[test]
fn why_was_the_shop_not_told_when_the_gateway_was() {
    let mut run = Run::new(BEHIND, &[AT_ONCE], true);
    run.play("60s gate P\n70s shop F\n75s gate CP\n3m shop F", "1h");
    answered(&run, "shop", "1:10 shop dependency: waiting until 08:01:40 for a run of its dependency `gate`");
    answered(&run, "shop", "1:15 shop dependency: its dependency `gate` is failing as gate:1");
    answered(&run, "shop", "2:15 shop released: `gate` has recovered; notified if its next run is bad");
    answered(&run, "shop", "3:00 shop queued: opened as shop:1 for a");
}

#[test]
fn who_silenced_it_and_until_when() {
    let mut run = Run::new(&checks("shop", "after: 1, remind: 10m"), &[AT_ONCE], true);
    run.ask("10s", mute(&[("team", "web")], "10s", "5m")).expect("is done");
    run.play("60s shop F\n6m shop F", "7m");
    answered(&run, "shop", "1:00 shop silence: silenced by ania until 2027-01-15 08:05:00: known");
    answered(&run, "shop", "released: the silence or maintenance window has ended; notified if its next run is bad");
    answered(&run, "shop", "6:00 shop queued: opened as shop:1 for a");
    run.ask("8m", AlertCommand::Acknowledge { key: "shop:1".into(), author: "ola".into(), length: None })
        .expect("is done");
    run.play("", "30m");
    answered(&run, "shop", "8:00 shop acknowledged: acknowledged by ola; reminders stopped");
    answered(&run, "shop", "18:00 shop acknowledged: reminder not sent: acknowledged by ola");
}

#[test]
fn why_was_i_told_again() {
    let run = played("after: 1, remind: 20m", &[AT_ONCE], "60s shop FTT");
    answered(&run, "shop", "2:00 shop changed: changed from status to timeout; for a");
    answered(&run, "shop", "22:00 shop reminded: as shop:1 for a");
}

#[test]
fn why_is_it_only_in_the_digest() {
    let mut run = Run::new(&checks("shop,blog", "after: 1"), &["> a / scenario / 0"], true);
    run.alerting.receivers = vec![Receiver { name: "a".into(), limit: Some(1), ..Receiver::default() }];
    run.load(at(0));
    run.play("60s shop F\n2m blog F", "2h");
    answered(
        &run,
        "blog",
        "2:00 blog rate_limited: opened: a reached its limit of 1 notifications per hour; included in its digest at 09:01:00",
    );
    answered(&run, "blog", "61:00 blog queued: in the digest, as blog:1 for a");
}
