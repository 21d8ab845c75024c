//! What is sent when, second by second.

use super::*;
use crate::outcome::{StepStatus, Verdict};
use crate::sink::zabbix::items::tests::outcome;

/// An outbox and a clock that only moves when it is told to.
struct Bench {
    outbox: Outbox,
    start: Instant,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        let now = Instant::now();
        Self { outbox: Outbox::new(Timing::default()), start: now, now }
    }

    fn at(&mut self, seconds: u64) -> &mut Self {
        self.now = self.start + Duration::from_secs(seconds);
        self
    }

    /// A run of `scenario` that ended `second` seconds after noon.
    fn run(&mut self, scenario: &str, second: i64) {
        let noon: DateTime<Utc> = "2026-11-22T12:00:00Z".parse().unwrap();
        let at = noon + TimeDelta::seconds(second);
        self.outbox.outcome(Arc::new(outcome(scenario, at, Verdict::Passed, &[("open", StepStatus::Passed)])));
    }

    /// What happens now, in words: keys with second and ns of the minute, or the pause in seconds.
    fn next(&mut self) -> String {
        match self.outbox.next(self.now) {
            Next::Send(rows) => rows.iter().map(show).collect::<Vec<_>>().join(" "),
            Next::Wait(None) => "nothing".into(),
            Next::Wait(Some(until)) => format!("wait {}", (until - self.now).as_secs()),
        }
    }

    /// The server takes rows whose key does not contain `unknown`.
    fn answer(&mut self, unknown: &str) -> u64 {
        let Next::Send(rows) = self.outbox.next(self.now) else { panic!("nothing was sent") };
        let taken: Vec<_> = rows.iter().map(|row| !row.key.contains(unknown)).collect();
        self.outbox.answered(&taken, self.now)
    }
}

fn show(row: &Row) -> String {
    let short = row.key.replace("wachta.", "").replace("step.", "").replace('"', "");
    match row.at {
        Some(at) => format!("{short}@{}.{}", at.clock % 60, at.ns),
        None => short,
    }
}

#[test]
fn a_batch_is_repeated_unchanged_with_growing_pauses() {
    let mut bench = Bench::new();
    bench.run("shop", 1);
    let batch = "run[shop]@1.0 success[shop,open]@1.0 duration[shop,open]@1.0";
    assert_eq!(bench.next(), batch);
    let mut at = 0;
    for pause in [2, 4, 8, 16, 32, 60, 60] {
        bench.outbox.failed(bench.now);
        bench.run("other", at.try_into().unwrap());
        assert_eq!(bench.next(), format!("wait {pause}"));
        at += pause;
        assert_eq!(bench.at(at).next(), batch);
    }
    assert_eq!(bench.outbox.len(), 8);
    assert_eq!(bench.answer("nothing"), 1);
    // An answer ends the pauses.
    assert_eq!(bench.answer("nothing"), 7);
    assert_eq!(bench.next(), "nothing");
}

#[test]
fn a_refused_row_waits_and_nothing_waits_for_it() {
    let mut bench = Bench::new();
    bench.run("new", 1);
    bench.run("old", 1);
    assert_eq!(bench.answer("new"), 1);
    assert_eq!(bench.next(), "wait 2");
    // Rows of the same items line up behind the first, the others go.
    bench.at(1).run("new", 11);
    bench.run("old", 11);
    assert_eq!(bench.next(), "run[old]@11.0 success[old,open]@11.0 duration[old,open]@11.0");
    assert_eq!(bench.answer("new"), 1);
    assert_eq!(bench.next(), "wait 1");
    let first = "run[new]@1.0 duration[new,open]@1.0 success[new,open]@1.0";
    assert_eq!(bench.at(2).next(), first);
    assert_eq!(bench.answer("new"), 0);
    assert_eq!(bench.next(), "wait 4");
    // One of the items is known now: the rest of its values follow at once, in order.
    assert_eq!(bench.at(6).next(), first);
    assert_eq!(bench.answer("step"), 1);
    assert_eq!(bench.next(), "run[new]@11.0");
    assert_eq!(bench.answer("step"), 1);
    assert_eq!(bench.outbox.len(), 0);
    assert_eq!(bench.next(), "wait 8");
}

#[test]
fn a_refused_row_is_given_up_after_ten_minutes_and_told_of_once() {
    let mut bench = Bench::new();
    bench.run("gone", 0);
    bench.answer("gone");
    let mut told = Vec::new();
    for second in 1..2000 {
        bench.at(second);
        if bench.next().contains("gone") {
            bench.answer("gone");
        }
        if second == 300 {
            bench.run("gone", 300);
        }
        let dropped = bench.outbox.take_dropped();
        if dropped > 0 {
            told.push(format!("{second}: {dropped} dropped"));
        }
        told.extend(bench.outbox.take_refused().iter().map(|key| format!("{second}: {key}")));
    }
    assert_eq!(
        told,
        [
            "600: 1 dropped",
            "600: wachta.run[\"gone\"]",
            "600: wachta.step.duration[\"gone\",\"open\"]",
            "600: wachta.step.success[\"gone\",\"open\"]",
            "901: 1 dropped",
        ]
    );
    assert_eq!(bench.next(), "nothing");
}

#[test]
fn discovery_comes_first_is_repeated_and_never_given_up() {
    let mut bench = Bench::new();
    bench.run("shop", 1);
    bench.outbox.catalog(&[], bench.now);
    let scenario = "run[shop]@1.0 success[shop,open]@1.0 duration[shop,open]@1.0";
    assert_eq!(bench.next(), format!("discovery discovery.steps {scenario}"));
    bench.answer("discovery");
    let mut tries = 0;
    for second in 1..3600 {
        bench.at(second);
        if bench.next().contains("discovery") {
            tries += 1;
            bench.answer("discovery");
        }
    }
    assert_eq!(tries, 63);
    assert_eq!(bench.outbox.take_refused(), ["wachta.discovery", "wachta.discovery.steps"]);
    bench.at(3660).answer("nothing");
    assert_eq!(bench.next(), "wait 3600");
}

#[test]
fn a_refused_run_brings_discovery_forward() {
    let mut bench = Bench::new();
    bench.outbox.catalog(&[], bench.now);
    bench.next();
    bench.answer("nothing");
    bench.run("shop", 1);
    bench.next();
    bench.answer("wachta.run");
    let again = (1..3600).find(|second| {
        let said = bench.at(*second).next();
        if !said.starts_with("wait") {
            bench.answer("wachta.run");
        }
        said.contains("discovery")
    });
    assert_eq!(again, Some(90));
}

#[test]
fn runs_that_ended_together_get_times_of_their_own() {
    let mut bench = Bench::new();
    for _ in 0..3 {
        bench.run("shop", 1);
    }
    bench.run("shop", 2);
    let sent = bench.next();
    let runs: Vec<_> = sent.split(' ').filter(|row| row.starts_with("run")).collect();
    assert_eq!(runs, ["run[shop]@1.0", "run[shop]@1.1", "run[shop]@1.2", "run[shop]@2.0"]);
}

#[test]
fn a_full_queue_loses_its_oldest_and_requests_stay_small() {
    let mut bench = Bench::new();
    for n in 0..CAPACITY + 3 {
        bench.run("shop", n.try_into().unwrap());
    }
    assert_eq!((bench.outbox.take_dropped(), bench.outbox.len()), (3, CAPACITY));
    assert!(bench.next().starts_with("run[shop]@3.0 "));
    let mut sent = 0;
    while let Next::Send(rows) = bench.outbox.next(bench.now) {
        // A run and its steps stay together: 83 runs of three rows.
        assert!(rows.len() == 249 || rows.len() == 3 * (CAPACITY % 83), "{}", rows.len());
        sent += bench.answer("nothing");
    }
    assert_eq!(sent, CAPACITY as u64);
    assert_eq!(bench.outbox.take_dropped(), 0);
}
