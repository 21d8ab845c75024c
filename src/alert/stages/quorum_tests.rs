//! Timelines of several locations, and invariants for arbitrary outcomes.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::alert::fixtures::{at, outcome, scenario_text};
use crate::alert::stages::evaluate::AlertState;
use crate::alert::timeline::{AT_ONCE, Run, checks, second};
use crate::incident::Event;
use crate::outcome::Verdict;

fn from(location: &str, letter: char, second: i64) -> Outcome {
    Outcome { location: location.to_owned(), ..outcome("shop", letter, second) }
}

/// Plays lines of `time location letters` of the scenario `shop`: one run per minute, `.` for none.
fn played(quorum: Option<u32>, policy: &str, lines: &str, until: &str, restarts: bool) -> Run {
    let mut run = Run::new(&checks("shop", policy), &[AT_ONCE], restarts);
    run.alerting.quorum = quorum;
    run.load(at(0));
    let mut outcomes: BTreeMap<i64, Vec<Outcome>> = BTreeMap::new();
    for line in lines.lines().map(str::trim) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [time, location, letters] = words[..] else { panic!("time location letters: {line}") };
        for (n, letter) in (0..).zip(letters.chars()).filter(|(_, letter)| *letter != '.') {
            let time = second(time) + n * 60;
            outcomes.entry(time).or_default().push(from(location, letter, time));
        }
    }
    for (time, outcomes) in outcomes {
        run.until(at(time));
        for outcome in outcomes {
            run.pipeline.process_outcome(&outcome, at(time));
        }
        run.pipeline.tick(at(time));
        run.write(at(time));
    }
    run.until(at(second(until)));
    run
}

/// Checks all notifications of a timeline. Returns the decisions, and the number of suppressions by this stage.
#[track_caller]
fn check(quorum: Option<u32>, policy: &str, lines: &str, expected: &[&str]) -> (Vec<String>, u64) {
    let run = played(quorum, policy, lines, "5h", false);
    assert_eq!(run.sent, expected, "{lines}");
    let again = played(quorum, policy, lines, "5h", true);
    assert_eq!((&again.sent, &again.decided), (&run.sent, &run.decided), "with restarts\n{lines}");
    (run.decided, run.suppressed.get("quorum").copied().unwrap_or_default())
}

#[track_caller]
fn decided(decided: &[String], line: &str) {
    assert!(decided.iter().any(|decided| decided == line), "no {line:?} in {decided:#?}");
}

/// Opening by a single location.
const ALONE: &str = "3:00 a opened shop:1 warning";
const OPENED: &str = "3:01 a opened shop:1 warning";

#[test]
fn one_of_three_tells_nothing_and_two_open_one_incident() {
    let one = "60s fra PFFFFFFFFF\n61s waw PPPPPPPPPP\n62s sto PPPPPPPPPP";
    let (why, held) = check(None, "after: 1", one, &[]);
    assert_eq!(held, 9, "a run that is good holds nothing back");
    decided(&why, "2:00 shop quorum: bad at fra only: 1 of 3 locations, 2 needed");
    // Decisions refer to all locations: one row whose count increases while one location stays bad.
    decided(&why, "2:01 shop quorum: bad at fra only: 1 of 3 locations, 2 needed");
    assert!(why.iter().skip(3).all(|line| line.contains(" shop quorum: ")), "{why:#?}");

    let two = "60s fra PFFFFFFFFF\n61s waw PFFFFFFFFF\n62s sto PPPPPPPPPP";
    let (why, held) = check(None, "after: 2", two, &[OPENED]);
    assert_eq!(held, 1);
    decided(
        &why,
        "2:01 shop below_threshold: 1 bad of the last 2, 2 needed; bad at fra, waw: 2 of 3 locations, 2 needed",
    );
    decided(
        &why,
        "2:02 shop below_threshold: 1 bad of the last 2, 2 needed; bad at fra, waw: 2 of 3 locations, 2 needed",
    );
    decided(&why, "3:01 shop opened: 2 bad of the last 2, 2 needed; bad at fra, waw: 2 of 3 locations, 2 needed");
    decided(
        &why,
        "3:02 shop already_open: open since 2027-01-15 08:03:01; bad at fra, waw: 2 of 3 locations, 2 needed",
    );
    let later = why.iter().skip_while(|line| !line.starts_with("3:02 "));
    assert!(later.clone().count() == 22 && later.clone().all(|line| line.contains(" shop already_open: ")), "{why:#?}");
    let run = played(None, "after: 2", two, "1h", false);
    assert_eq!(run.notifications[0].incident.location, "fra, waw");
    assert_eq!(
        run.suppressed.get("already_open"),
        Some(&14),
        "of 21 runs since it opened; the good ones hold nothing back"
    );
}

#[test]
fn it_resolves_while_one_place_stays_bad_and_never_flaps() {
    let lines = format!("60s fra P{0}\n61s waw PFFFP{1}\n62s sto PPPP{1}", "F".repeat(60), "P".repeat(56));
    let (why, _) = check(None, "after: 2", &lines, &[OPENED, "6:01 a resolved shop:1 warning"]);
    decided(&why, "6:01 shop resolved: 2 good in a row, 2 needed; bad at fra only: 1 of 3 locations, 2 needed");
    // A second location that is bad occasionally: each time one round is bad, not two.
    let now_and_then =
        format!("60s fra P{0}\n61s waw P{1}\n62s sto P{2}", "F".repeat(60), "FPP".repeat(20), "P".repeat(60));
    check(None, "after: 2", &now_and_then, &[]);
}

#[test]
fn as_many_as_the_file_says_but_no_more_than_report() {
    let one = "60s fra PFFPPP\n61s waw PPPPPP\n62s sto PPPPPP";
    check(Some(1), "after: 2", one, &[ALONE, "5:00 a resolved shop:1 warning"]);
    check(Some(2), "after: 2", one, &[]);
    // A single good location is not enough to resolve while another one is bad.
    check(Some(1), "after: 2", "60s fra PFFFFFF\n61s waw PPPPPPP", &[ALONE]);
    let two = "60s fra PFF\n61s waw PFF";
    check(Some(3), "after: 2", two, &[OPENED]);
    check(None, "after: 2", two, &[OPENED]);
    check(Some(3), "after: 2", "60s fra PFF", &[ALONE]);
    let all = "60s fra PFFF\n61s waw PFFF\n62s sto PPPF";
    check(Some(3), "after: 1", all, &["4:02 a opened shop:1 warning"]);
}

#[test]
fn a_location_that_is_gone_makes_nobody_blind_and_holds_nothing_open() {
    // Three are required; the third one last reported at 1:02.
    let dead = "60s fra PFFFFFFFF\n61s waw PFFFFFFFF\n62s sto P";
    check(Some(3), "after: 2", dead, &["8:00 a opened shop:1 warning"]);
    // It stops reporting while it is bad: its vote counts until it expires.
    let bad = "60s fra PFF\n61s waw PPPPPPPPPPPPPP";
    check(Some(1), "after: 2", bad, &[ALONE, "9:01 a resolved shop:1 warning"]);
    // A former name was good in its last report.
    let renamed = "60s old PPP\n4m new FFFFFFFFF";
    check(None, "after: 2", renamed, &["9:00 a opened shop:1 warning"]);
}

#[test]
fn who_could_not_test_does_not_vote() {
    let own = "60s fra PUUUUUUUUUUUU\n61s waw PFFFFFFFFFFFF\n62s sto PPPPPPPPPPPPP";
    check(None, "after: 1", own, &[]);
    let both = "60s fra PUUU\n61s waw PFFF\n62s sto PFFF";
    let (why, _) = check(None, "after: 2", both, &["3:02 a opened shop:1 warning"]);
    decided(&why, "3:00 shop agent_fault: the target could not be tested: browser");
    // Degraded runs vote according to the alert policy.
    check(None, "after: 1", "60s fra PDD\n61s waw PDD", &[]);
    let degraded = "after: 1, verdicts: [failed, degraded]";
    check(None, degraded, "60s fra PDD\n61s waw PDD", &["2:01 a opened shop:1 warning"]);
}

#[test]
fn a_route_and_a_silence_find_each_of_its_locations() {
    let lines = "60s fra PFFF\n61s waw PFFF";
    let mut run = played(None, "after: 2", lines, "1h", false);
    let incident = run.notifications.remove(0).incident;
    let meant = |location: &str| {
        crate::incident::Matchers::from([("location".to_owned(), location.to_owned())]).fits(&incident)
    };
    assert_eq!(["fra", "waw", "fra, waw", "sto", "fr"].map(meant), [true, true, true, false, false]);
}

#[test]
fn what_was_written_before_there_were_locations_reads_back() {
    let scenario = scenario_text("checks:\n  shop: {tcp: \"a:1\"}\n");
    let mut watch = AlertState::default();
    watch.advance(&scenario, &from("fra", 'F', 0), None);
    let mut body = serde_json::to_value(&watch).expect("plain data");
    assert!(body.as_object_mut().expect("a map").remove("locations").is_some());
    let mut old: AlertState = serde_json::from_value(body).expect("reads back");
    let opened = old.advance(&scenario, &from("fra", 'F', 60), None).expect("evaluated");
    assert!(matches!(opened.event, Some((Event::Opened, _))));
}

#[test]
fn locations_are_bounded_and_forgotten_by_the_schedule() {
    let reported =
        |locations: &LocationVotes| locations.0.iter().map(|seen| seen.location.to_string()).collect::<Vec<_>>();
    let every = scenario_text("checks:\n  shop: {tcp: \"a:1\", every: 10m}\n");
    let mut locations = LocationVotes::default();
    for n in 0..100 {
        locations.report(&every, &from(&format!("l{n}"), 'P', n), ConclusiveVerdict::Passed);
    }
    assert_eq!((locations.0.len(), reported(&locations)[0].as_str()), (MOST, "l36"));
    // Three due times, ten minutes apart.
    locations.report(&every, &from("l99", 'P', 20 * 60), ConclusiveVerdict::Passed);
    assert_eq!(locations.0.len(), MOST);
    locations.report(&every, &from("l99", 'P', 30 * 60 + 99), ConclusiveVerdict::Passed);
    assert_eq!(reported(&locations), ["l99"]);
    // From Friday's last run at 17:00 to Monday's at 11:00 there are two due times; the third one is at noon.
    let office = scenario_text("checks:\n  shop: {tcp: \"a:1\", cron: \"0 10-17 * * MON-FRI\", timezone: UTC}\n");
    // 08:00 on Friday, 15 January 2027, is second 0.
    let (friday, monday) = (9 * 3600, 75 * 3600);
    let mut locations = LocationVotes::default();
    locations.report(&office, &from("fra", 'P', friday), ConclusiveVerdict::Passed);
    locations.report(&office, &from("waw", 'P', monday), ConclusiveVerdict::Passed);
    assert_eq!(reported(&locations), ["fra", "waw"]);
    locations.report(&office, &from("waw", 'P', monday + 3600), ConclusiveVerdict::Passed);
    assert_eq!(reported(&locations), ["waw"]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Comparison with a model of the whole history: an incident opens only if enough locations agree, and names these;
    /// it resolves only if they no longer do.
    #[test]
    fn an_incident_is_what_enough_locations_see(
        runs in proptest::collection::vec((0_usize..5, proptest::sample::select(vec!['P', 'F', 'F', 'U']), 0_i64..150), 0..80),
        quorum in proptest::option::of(1_u32..7),
        after in 1_u32..4,
        recover_after in 1_u32..4,
    ) {
        let text = format!(
            "checks:\n  shop: {{tcp: \"a:1\", every: 1m, alert: {{after: {after}, recover_after: {recover_after}}}}}\n"
        );
        let scenario = scenario_text(&text);
        let mut watch = AlertState::default();
        let mut seen: BTreeMap<String, (bool, i64)> = BTreeMap::new();
        let mut now = 0;
        for (location, letter, passed) in runs {
            now += passed;
            let outcome = from(&format!("l{location}"), letter, now);
            let evaluation = watch.advance(&scenario, &outcome, quorum).expect("evaluated");
            if outcome.verdict != Verdict::Unknown {
                seen.insert(outcome.location.clone(), (letter == 'F', now));
            }
            // Three due times a minute apart are always within five minutes.
            let recent: Vec<_> = seen.iter().filter(|(_, (_, at))| now - at < 300).collect();
            let bad: Vec<&str> = recent.iter().filter(|(_, (bad, _))| *bad).map(|(name, _)| name.as_str()).collect();
            let needed = quorum.map_or(recent.len() / 2 + 1, |quorum| recent.len().min(quorum as usize));
            match evaluation.event {
                Some((Event::Opened, incident)) => {
                    prop_assert!(bad.len() >= needed, "{bad:?} of {recent:?}");
                    prop_assert_eq!(incident.location, bad.join(", "));
                }
                Some((Event::Resolved, _)) => prop_assert!(bad.len() < needed, "{bad:?} of {recent:?}"),
                _ => {}
            }
        }
    }
}
