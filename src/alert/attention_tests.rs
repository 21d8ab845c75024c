//! Timelines of acknowledgements, manual resolution, escalation, and silences of open incidents.

use std::time::Duration;

use chrono::{NaiveTime, Weekday};

use super::fixtures::at;
use super::timeline::{AT_ONCE, Run, checks, mute};
use crate::incident::AlertCommand;
use crate::incident::{During, Matchers, Subject};
use crate::notify::{Escalation, Route};

fn ack(key: &str, author: &str, minutes: Option<u64>) -> AlertCommand {
    AlertCommand::Acknowledge { key: key.into(), author: author.into(), length: minutes.map(Duration::from_mins) }
}

fn run(policy: &str, restarts: bool) -> Run {
    Run::new(&checks("shop,blog", policy), &["> a / scenario / 0"], restarts)
}

#[test]
fn an_acknowledgement_is_told_shown_and_can_be_taken_back() {
    for restarts in [false, true] {
        let mut run = run("after: 1, recover_after: 1, remind: 10m", restarts);
        run.play("60s shop F", "2m");
        run.ask("2m", ack("shop:1", "ania", None)).expect("is done");
        assert_eq!(run.sent[1..], ["2:00 a updated shop:1 warning (acknowledged by ania)"]);
        let who = |run: &Run| run.pipeline.incident(&Subject::from("shop")).and_then(|it| it.acknowledged.clone());
        assert_eq!(who(&run).expect("is shown").author, "ania");
        run.play("", "30m");
        assert_eq!(run.sent.len(), 2, "no reminders: {:?}", run.sent);
        run.ask("31m", ack("shop:1", "bob", None)).expect_err("ania has it");
        let back = AlertCommand::Unacknowledge { key: "shop:1".into(), author: "ola".into(), of: None };
        run.ask("32m", back.clone()).expect("is done");
        assert_eq!(run.sent[2..], ["32:00 a updated shop:1 warning (acknowledgement by ania withdrawn by ola)"]);
        assert_eq!(who(&run), None);
        run.ask("33m", back).expect_err("nobody has it");
        run.play("45m shop P", "1h");
        assert_eq!(run.sent[3..], ["42:00 a reminder shop:1 warning", "45:00 a resolved shop:1 warning"]);
    }
}

#[test]
fn an_acknowledgement_expires() {
    for restarts in [false, true] {
        let mut run = run("after: 1, remind: 1h", restarts);
        run.play("60s shop F", "2m");
        run.ask("2m", ack("shop:1", "ania", Some(20))).expect("is done");
        run.play("", "1h");
        let until = "acknowledged by ania until 2027-01-15 08:22:00";
        assert_eq!(
            run.sent[1..],
            [
                format!("2:00 a updated shop:1 warning ({until})"),
                "22:00 a updated shop:1 warning (the acknowledgement by ania has expired)".to_owned(),
            ]
        );
    }
}

#[test]
fn a_key_means_that_incident_and_no_other() {
    let mut run = run("after: 1, recover_after: 1", true);
    run.play("60s shop F\n9m shop P\n20m shop F", "21m");
    for wrong in ["shop:1", "shop:3", "shop", "shop:", ":2", "blog:1", ""] {
        run.ask("22m", ack(wrong, "ania", None)).expect_err(wrong);
    }
    run.ask("22m", ack("shop:2", "ania", None)).expect("is open");
}

#[test]
fn what_was_resolved_by_hand_stays_so_until_it_was_good() {
    for restarts in [false, true] {
        let mut run = run("after: 1, recover_after: 1", restarts);
        run.play("60s shop F", "90s");
        let by_hand = AlertCommand::Resolve { key: "shop:1".into(), author: "ania".into(), reason: "known".into() };
        run.ask("2m", by_hand.clone()).expect("is done");
        assert_eq!(run.sent[1..], ["2:00 a resolved shop:1 warning"]);
        assert_eq!(run.notifications[1].incident.ending_reason.as_deref(), Some("ania: known"));
        run.play("3m shop FFFF", "8m");
        assert_eq!(run.sent.len(), 2, "still bad, and quiet: {:?}", run.sent);
        run.ask("8m", by_hand).expect_err("is over");
        run.play("9m shop PF", "11m");
        assert_eq!(run.sent[2..], ["10:00 a opened shop:2 warning"]);
    }
}

#[test]
fn a_whole_notification_is_resolved_by_its_key() {
    for restarts in [false, true] {
        let mut run = Run::new(&checks("shop,blog", "after: 1, recover_after: 1"), &[AT_ONCE], restarts);
        run.play("60s shop,blog F", "90s");
        assert_eq!(run.sent, ["1:00 a opened shop:1 warning +blog"]);
        let resolve =
            |key: &str| AlertCommand::ResolveGroup { key: key.into(), author: "ania".into(), reason: "known".into() };
        run.ask("2m", resolve("blog:2")).expect_err("is not open");
        assert_eq!(run.ask("2m", resolve("shop:1")).expect("is done"), "2 incidents of shop:1 resolved by ania: known");
        assert_eq!(run.sent[1..], ["2:00 a resolved shop:1 warning +blog"]);
        run.ask("3m", resolve("shop:1")).expect_err("is over");
        run.play("3m shop,blog FFF", "8m");
        assert_eq!(run.sent.len(), 2, "still bad, and quiet: {:?}", run.sent);
    }
}

#[test]
fn only_the_acknowledgement_that_is_meant_is_taken_back() {
    let mut run = run("after: 1, recover_after: 1", false);
    run.play("60s shop F", "90s");
    let back =
        |of: &str| AlertCommand::Unacknowledge { key: "shop:1".into(), author: "there".into(), of: Some(of.into()) };
    run.ask("2m", ack("shop:1", "ania", None)).expect("is done");
    run.ask("3m", back("bob")).expect_err("it is ania's");
    run.ask("4m", back("ania")).expect("is done");
}

#[test]
fn nobody_acknowledges_and_others_are_told_as_well() {
    let steps = [(15, "lead"), (30, "boss")]
        .map(|(minutes, to)| Escalation { after: Duration::from_mins(minutes), to: vec![to.to_owned()] });
    for restarts in [false, true] {
        let begin = |acked: Option<&str>, end: &str| {
            let mut run = run("after: 1, recover_after: 1", restarts);
            run.alerting.escalate = steps.to_vec();
            run.load(at(0));
            run.play("60s shop F", "2m");
            if let Some(time) = acked {
                run.ask(time, ack("shop:1", "ania", None)).expect("is done");
            }
            run.play(end, "9h");
            run
        };
        let run = begin(None, "1h shop P");
        assert_eq!(
            run.sent,
            [
                "1:00 a opened shop:1 warning",
                "16:00 lead opened shop:1 warning (not acknowledged within 15m)",
                "31:00 boss opened shop:1 warning (not acknowledged within 30m)",
                "60:00 a resolved shop:1 warning",
                "60:00 lead resolved shop:1 warning",
                "60:00 boss resolved shop:1 warning",
            ]
        );
        // Acknowledged in time, acknowledged after the first step, and resolved before any step.
        assert_eq!(begin(Some("5m"), "1h shop P").sent.len(), 3);
        let run = begin(Some("20m"), "1h shop P");
        let to_boss = run.sent.iter().filter(|line| line.contains(" boss "));
        assert_eq!((run.sent.len(), to_boss.count()), (6, 0), "{:?}", run.sent);
        assert_eq!(begin(None, "5m shop P").sent.len(), 2);
        // A route may have its own escalation steps.
        let mut own = Run::new(&checks("shop", "after: 1"), &["> a / / 0"], restarts);
        own.alerting.escalate = steps.to_vec();
        own.alerting.routes[0].escalate = Some(Vec::new());
        own.load(at(0));
        own.play("60s shop F", "9h");
        assert_eq!(own.sent, ["1:00 a opened shop:1 warning"]);
    }
}

#[test]
fn a_silence_says_what_it_hits_and_is_refused_when_that_is_nothing() {
    let mut run = run("after: 1", false);
    run.play("60s shop F", "2m");
    let unconfirmed = |key: &str, value: &str| match mute(&[(key, value)], "2m", "9h") {
        AlertCommand::Mute(mute) => AlertCommand::Mute(crate::incident::Mute { confirmed: false, ..mute }),
        other => other,
    };
    let refused = run.ask("2m", unconfirmed("tema", "web")).expect_err("matches nothing");
    assert!(refused.starts_with("tema=web matches no open incident and no scenario"), "{refused}");
    let done = run.ask("2m", unconfirmed("team", "web")).expect("is done");
    assert!(done.ends_with("matches 1 open incident (shop:1), 2 scenarios (blog, shop)"), "{done}");
    run.ask("2m", mute(&[("tema", "web")], "2m", "9h")).expect("is confirmed");
    let matches = Matchers::parse(&["scenario=~^s".to_owned()]).expect("reads");
    let seen = run.ask("2m", AlertCommand::Preview { matches }).expect("is said");
    assert_eq!(seen, "1 open incident (shop:1), 1 scenario (shop)");
}

#[test]
fn a_route_applies_at_its_time() {
    // The tests' time starts on a Friday at 08:00 UTC, 09:00 in Warsaw.
    let during = During {
        weekdays: vec![Weekday::Fri],
        from: NaiveTime::from_hms_opt(9, 0, 0).expect("a time"),
        until: NaiveTime::from_hms_opt(10, 0, 0),
        timezone: chrono_tz::Europe::Warsaw,
    };
    let mut run = Run::new(&checks("shop", "after: 1, recover_after: 1"), &["> day / / 0", "> night / / 0"], true);
    run.alerting.routes[0] = Route { during: Some(during), ..run.alerting.routes[0].clone() };
    run.load(at(0));
    run.play("59m shop F\n70m shop P\n80m shop F", "2h");
    assert_eq!(
        run.sent,
        ["59:00 day opened shop:1 warning", "70:00 day resolved shop:1 warning", "80:00 night opened shop:2 warning"]
    );
}

#[test]
fn a_time_over_midnight_belongs_to_the_day_on_which_it_began() {
    let time = |hour| NaiveTime::from_hms_opt(hour, 0, 0).expect("a time");
    let night = During { weekdays: vec![Weekday::Fri], from: time(22), until: Some(time(6)), timezone: chrono_tz::UTC };
    // Hours since Friday 08:00.
    for (hours, holds) in [(0, false), (13, false), (14, true), (21, true), (22, false), (38, false), (-3, false)] {
        assert_eq!(night.contains(at(hours * 3600)), holds, "{hours} h");
    }
}

#[test]
fn what_an_earlier_version_wrote_is_read() {
    let mut run = Run::new(&checks("shop", "after: 1, remind: 10m"), &[AT_ONCE], true);
    run.play("60s shop F", "2m");
    let key = run.memory.keys().find(|key| key.starts_with("group/")).expect("a group").clone();
    let group = run.memory.get_mut(&key).expect("a group");
    group["acknowledged"] = "ania".into();
    for new in ["first_told_at", "unattended_since", "escalated", "place", "wide", "ended_at"] {
        group.as_object_mut().expect("an object").remove(new);
    }
    run.restart(at(130));
    run.play("", "1h");
    assert_eq!(run.sent.len(), 1, "no reminders: {:?}", run.sent);
}
