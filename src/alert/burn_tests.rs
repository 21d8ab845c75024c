//! Windows, tested with tables and against a count of all runs.

use std::time::Duration;

use super::*;

fn slo(percent: f64) -> Slo {
    Slo { percent, window: Duration::from_secs(30 * 86_400) }
}

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + second, 0).expect("a time")
}

/// Pseudo-random numbers that are the same each time.
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
fn a_window_holds_what_is_in_it() {
    let mut state = 88_172_645_463_325_252;
    for length in LENGTHS {
        let mut window = Window::new(length);
        let mut all: Vec<(i64, bool)> = Vec::new();
        let mut now = 1_800_000_000;
        for _ in 0..3000 {
            // Runs at short intervals, and occasionally a long time without any.
            let gap = if random(&mut state).is_multiple_of(200) { length * 2 } else { length / 60 };
            now += (random(&mut state) % gap.unsigned_abs().max(1)).cast_signed();
            let failed = random(&mut state).is_multiple_of(3);
            window.add(now, 1, u32::from(failed));
            all.push((now, failed));
            // From the start of its oldest slot: the full length, and at most a thirtieth more.
            let from = (now.div_euclid(window.slot) - SLOTS) * window.slot;
            assert!((now - length - window.slot..=now - length).contains(&from), "{from} {now}");
            let within = all.iter().filter(|(at, _)| *at >= from);
            let counts = Counts {
                runs: within.clone().count() as u64,
                failed: within.filter(|(_, failed)| *failed).count() as u64,
            };
            assert_eq!(window.counts, counts, "{length} at {now}");
        }
    }
}

#[test]
fn a_clock_that_is_set_does_no_lasting_harm() {
    let mut window = Window::new(300);
    let counts = |window: &Window| (window.counts.runs, window.counts.failed);
    window.add(1000, 1, 1);
    // A run that is stored a little late is counted in the correct slot.
    window.add(990, 1, 0);
    assert_eq!(counts(&window), (2, 1));
    // A year ahead, and back again.
    window.add(31_537_000, 1, 0);
    assert_eq!(counts(&window), (1, 0));
    window.add(1010, 1, 1);
    window.add(1020, 1, 1);
    assert_eq!(counts(&window), (2, 2));
    // A full slot.
    window.add(1020, u32::MAX, u32::MAX);
    window.add(1020, 5, 5);
    window.add(1020 + 400, 1, 0);
    assert_eq!(counts(&window), (1, 0));
}

/// Number of failures required by each rule; `None` if even all runs are not enough.
#[test]
fn a_minimum_of_failures_is_needed() {
    let check = |percent: f64, every: i64, expected: [Option<u64>; 3]| {
        let allowed = slo(percent).allowed();
        let needed = RULES.map(|rule| rule.needed(allowed, (rule.long().num_seconds() / every).unsigned_abs()));
        assert_eq!(needed, expected, "{percent} every {every}s");
    };
    check(99.9, 30, [Some(3), Some(5), Some(9)]);
    check(99.9, 60, [Some(3), Some(5), Some(8)]);
    check(99.9, 300, [Some(3), Some(5), Some(8)]);
    check(99.9, 900, [Some(3), Some(5), Some(8)]);
    check(99.9, 1800, [None, Some(5), Some(8)]);
    check(99.9, 86_400, [None, None, None]);
    check(99.5, 60, [Some(5), Some(11), Some(22)]);
    check(99.0, 60, [Some(9), Some(22), Some(44)]);
    check(99.0, 300, [Some(3), Some(5), Some(9)]);
    // If all of them fail, the burn rate is ten.
    check(90.0, 60, [None, Some(217), Some(433)]);
}

#[test]
fn rules_hold_by_both_windows_and_the_minimum() {
    /// One run per minute, given by letters, and the rules that hold afterwards.
    fn check(percent: f64, good: i64, letters: &str, expected: [bool; 3]) {
        let slo = slo(percent);
        let mut burn = BurnRateWindows::new(&slo, 0);
        for minute in 0..good {
            burn.add(at(minute * 60), false);
        }
        for (minute, letter) in (good..).zip(letters.chars()) {
            burn.add(at(minute * 60), letter == 'F');
        }
        assert_eq!(burn.holds(&slo), expected, "{percent} after {good}: {letters}");
    }
    let no = [false; 3];
    check(99.9, 4320, "F", no);
    check(99.9, 4320, "FF", no);
    check(99.9, 4320, "FFF", [true, false, false]);
    check(99.9, 4320, "FPPPPPPPPPFPPPPPPPPPF", [true, false, false]);
    check(99.9, 4320, "FFFFF", [true, true, false]);
    check(99.9, 4320, "FFFFFFFF", [true, true, true]);
    // The failures are no longer in the last five minutes, but still in the last half an hour.
    check(99.9, 4320, "FFFFFPPPPPPP", [false, true, false]);
    check(99.9, 4320, &format!("FFFFFFFF{}", "P".repeat(35)), [false, false, true]);
    // If one percent is allowed, ten percent of an hour are not enough, but fifteen are.
    check(99.0, 4320, &"FPPPPPPPPP".repeat(6), no);
    check(99.0, 4320, &"FPPPPP".repeat(10), [true, false, false]);
}

#[test]
fn a_budget_is_counted_in_failures() {
    let slo = slo(99.9);
    let mut burn = BurnRateWindows::new(&slo, 43_200);
    for minute in 0..10 {
        burn.add(at(minute * 60), minute < 4);
    }
    let budget = burn.budget(&slo);
    assert_eq!((budget.failed, budget.allowed.round()), (4, 43.0));
    assert!((budget.used() - 4.0 / 43.2).abs() < 1e-9, "{budget:?}");
    // 39.2 left, at four per hour.
    assert_eq!(burn.lasts(&slo, &RULES[0]).map(|left| left.num_minutes()), Some(588));
    // Without a number of scheduled runs, only the actual ones count.
    let mut burn = BurnRateWindows::new(&slo, 0);
    for minute in 0..1000 {
        burn.add(at(minute * 60), minute < 2);
    }
    assert!((burn.budget(&slo).used() - 2.0).abs() < 1e-9);
    assert_eq!(burn.lasts(&slo, &RULES[1]), None);
}

#[test]
fn windows_that_are_read_back_are_the_same() {
    let slo = Slo { percent: 99.0, window: Duration::from_secs(7 * 86_400) };
    let mut state = 362_436_069;
    let runs: Vec<(i64, bool)> = (0..8000).map(|n| (n * 90, random(&mut state).is_multiple_of(10))).collect();
    let mut straight = BurnRateWindows::new(&slo, 0);
    for (second, failed) in &runs {
        straight.add(at(*second), *failed);
    }
    let now = at(runs[runs.len() - 1].0);
    let mut read = BurnRateWindows::new(&slo, 0);
    for span in read.spans(now) {
        let mut slots = std::collections::BTreeMap::<i64, (u64, u64)>::new();
        for (second, failed) in runs.iter().filter(|(second, _)| at(*second) >= span.since) {
            let slot = slots.entry(at(*second).timestamp().div_euclid(span.slot)).or_default();
            *slot = (slot.0 + 1, slot.1 + u64::from(*failed));
        }
        assert!(slots.len() <= 31, "what is read is bounded: {}", slots.len());
        for (number, (runs, failed)) in slots {
            read.restore(span.window, number, runs, failed);
        }
    }
    assert_eq!(read, straight);
}
