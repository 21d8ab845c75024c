//! Behavior of the rows, second by second.

use chrono::{DateTime, TimeDelta, Utc};

use super::*;
use crate::outcome::{StepStatus, Verdict};
use crate::sink::zabbix::items::tests::outcome;

/// Rows with a clock that is advanced manually.
struct Bench {
    rows: Rows,
    start: Instant,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        let now = Instant::now();
        Self { rows: Rows::new(Timing::default()), start: now, now }
    }

    fn at(&mut self, seconds: u64) -> &mut Self {
        self.now = self.start + Duration::from_secs(seconds);
        self
    }

    /// Returns the rows sent at once for the details of a run of `scenario` that ended `second` seconds after noon. The
    /// server accepts rows whose keys do not contain `unknown`.
    fn run(&mut self, scenario: &str, second: i64, unknown: &str) -> String {
        let noon: DateTime<Utc> = "2026-11-22T12:00:00Z".parse().unwrap();
        let at = noon + TimeDelta::seconds(second);
        let outcome = outcome(scenario, at, Verdict::Passed, &[("open", StepStatus::Passed)]);
        let details = items::rows(&outcome, at).split_off(1);
        let sent = self.rows.sendable(details, self.now);
        self.answer(&sent, unknown);
        shown(&sent)
    }

    fn answer(&mut self, rows: &[ItemValue], unknown: &str) {
        let taken: Vec<_> = rows.iter().map(|row| !row.key.contains(unknown)).collect();
        self.rows.answered(rows, &taken, self.now);
    }

    /// Returns the next action in words: keys with second and ns of the minute, or the pause in seconds.
    fn next(&mut self, unknown: &str) -> String {
        match self.rows.next_at(self.now) {
            None => "nothing".into(),
            Some(at) if at > self.now => format!("wait {}", (at - self.now).as_secs()),
            Some(_) => {
                let rows = self.rows.next(self.now);
                self.answer(&rows, unknown);
                shown(&rows)
            }
        }
    }
}

fn shown(rows: &[ItemValue]) -> String {
    rows.iter().map(show).collect::<Vec<_>>().join(" ")
}

fn show(row: &ItemValue) -> String {
    let short = row.key.replace("wachta.", "").replace("step.", "").replace('"', "");
    match row.at {
        Some(at) => format!("{short}@{}.{}", at.clock % 60, at.ns),
        None => short,
    }
}

#[test]
fn a_refused_row_waits_and_nothing_waits_for_it() {
    let mut bench = Bench::new();
    assert_eq!(bench.run("new", 1, "new"), "success[new,open]@1.0 duration[new,open]@1.0");
    assert_eq!(bench.next("new"), "wait 2");
    // Rows of the same items wait behind the first, the others are sent.
    assert_eq!(bench.at(1).run("new", 11, "new"), "");
    assert_eq!(bench.run("old", 11, "new"), "success[old,open]@11.0 duration[old,open]@11.0");
    // A run that is sent again is not added twice.
    assert_eq!(bench.run("new", 11, "new"), "");
    let first = "duration[new,open]@1.0 success[new,open]@1.0";
    assert_eq!(bench.at(2).next("new"), first);
    assert_eq!(bench.next("new"), "wait 4");
    // One of the items exists now: its other values follow at once, in order.
    assert_eq!(bench.at(6).next("success"), first);
    assert_eq!(bench.next("success"), "duration[new,open]@11.0");
    assert_eq!(bench.next("success"), "wait 8");
}

#[test]
fn a_refused_row_is_given_up_after_ten_minutes_and_reported_once() {
    let mut bench = Bench::new();
    bench.run("gone", 0, "gone");
    let mut reported = Vec::new();
    for second in 1..2000 {
        bench.at(second).next("gone");
        reported.extend(bench.rows.take_refused().iter().map(|key| format!("{second}: {key}")));
    }
    let expected = [r#"wachta.step.duration["gone","open"]"#, r#"wachta.step.success["gone","open"]"#];
    let keys: Vec<_> = reported.iter().filter_map(|text| text.split_once(": ")).collect();
    assert_eq!(keys.iter().map(|(_, key)| *key).collect::<Vec<_>>(), expected);
    assert!(keys.iter().all(|(second, _)| (600..=660).contains(&second.parse().unwrap())), "{reported:?}");
    assert_eq!(bench.next("gone"), "nothing");
}

#[test]
fn discovery_is_repeated_and_never_given_up() {
    let mut bench = Bench::new();
    bench.rows.set_catalog(&[], bench.now);
    assert_eq!(bench.next("discovery"), "discovery discovery.steps");
    let attempts = (1..3600).filter(|second| bench.at(*second).next("discovery").contains("discovery")).count();
    assert_eq!(attempts, 63);
    assert_eq!(bench.rows.take_refused(), ["wachta.discovery", "wachta.discovery.steps"]);
    bench.at(3660).next("nothing");
    assert_eq!(bench.next("nothing"), "wait 3600");
}

#[test]
fn a_refused_run_brings_discovery_forward() {
    let mut bench = Bench::new();
    bench.rows.set_catalog(&[], bench.now);
    bench.next("nothing");
    bench.rows.rediscover(bench.now);
    let again = (1..3600).find(|second| bench.at(*second).next("nothing").contains("discovery"));
    assert_eq!(again, Some(90));
}
