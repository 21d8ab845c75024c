//! How fast an error budget burns: counts of runs in windows, and the rules that look at them. Pure.
//!
//! A burn rate is the share of failed runs divided by the share that the objective allows: at 1 the budget is used up
//! at the end of its window, at 14.4 in a thirtieth of two days less. The three rules are those of the SRE Workbook
//! (chapter 5, table 5-8), each with a minimum of failures: with one run a minute a single failure is a burn rate of 16 within an hour.
//!
//! A window is a ring of slots, so that it costs the same however many runs it holds; it is longer than it says by a
//! thirtieth at most.

use chrono::{DateTime, TimeDelta, Utc};

use crate::scenario::{Severity, Slo};

/// So many whole slots make a window; one more is the one that fills.
const SLOTS: i64 = 30;

const MINUTE: i64 = 60;
const HOUR: i64 = 3600;
const DAY: i64 = 86_400;

/// Both windows of a rule must burn: the long one says that it matters, the short one that it goes on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    /// The position of the long window.
    long: usize,
    /// The position of the short window.
    short: usize,
    /// The burn rate above which it holds.
    pub factor: f64,
    /// The least failures in the long window.
    pub least: u64,
    /// How loud it is.
    pub severity: Severity,
}

/// The lengths of the rules' windows, in seconds.
const LENGTHS: [i64; 5] = [5 * MINUTE, 30 * MINUTE, HOUR, 6 * HOUR, 3 * DAY];

/// The rules, the fastest first. `docs/alerting-slo.md` says where the minima come from.
pub const RULES: [Rule; 3] = [
    Rule { long: 2, short: 0, factor: 14.4, least: 3, severity: Severity::Critical },
    Rule { long: 3, short: 1, factor: 6.0, least: 5, severity: Severity::Critical },
    Rule { long: 4, short: 3, factor: 1.0, least: 8, severity: Severity::Warning },
];

impl Rule {
    /// How long its long window is.
    pub fn long(&self) -> TimeDelta {
        TimeDelta::seconds(LENGTHS[self.long])
    }

    /// How long its short window is.
    pub fn short(&self) -> TimeDelta {
        TimeDelta::seconds(LENGTHS[self.short])
    }

    /// How many of `runs` in the long window must fail for it to hold; none: not even all of them are enough.
    pub fn needed(&self, allowed: f64, runs: u64) -> Option<u64> {
        let needed = more_than(self.factor * allowed, runs).max(self.least);
        (needed <= runs).then_some(needed)
    }

    /// How many of `runs` in the short window must fail; none: not even all of them are enough.
    pub fn needed_of_late(&self, allowed: f64, runs: u64) -> Option<u64> {
        let needed = more_than(self.factor * allowed, runs);
        (needed <= runs).then_some(needed)
    }

    fn holds(&self, allowed: f64, burn: &Burn) -> bool {
        let (long, short) = (burn.windows[self.long].counts, burn.windows[self.short].counts);
        let burns = |counts: Counts| counts.failed as f64 > self.factor * allowed * counts.runs as f64;
        long.failed >= self.least && burns(long) && burns(short)
    }
}

/// The least whole number above a share of `runs`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count of runs is as small")]
fn more_than(share: f64, runs: u64) -> u64 {
    (share * runs as f64).floor() as u64 + 1
}

/// Runs of a window that said something of the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// All of them.
    pub runs: u64,
    /// Those that failed.
    pub failed: u64,
}

/// A window that moves with time.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Window {
    /// Seconds.
    slot: i64,
    /// The number of the slot that fills: seconds since 1970 by the length of a slot.
    head: i64,
    slots: Vec<[u32; 2]>,
    counts: Counts,
}

impl Window {
    fn new(length: i64) -> Self {
        let slots = vec![[0; 2]; usize::try_from(SLOTS).expect("it is small") + 1];
        Self { slot: (length / SLOTS).max(1), head: 0, slots, counts: Counts::default() }
    }

    fn index(number: i64) -> usize {
        // Not below 0, and below the number of slots.
        usize::try_from(number.rem_euclid(SLOTS + 1)).unwrap_or_default()
    }

    /// Time has come to this slot: what is too old goes.
    fn advance(&mut self, number: i64) {
        if number > self.head + SLOTS || number < self.head - SLOTS {
            // All of it is too old; or the clock was set back and all of it is in the future.
            self.slots.fill([0; 2]);
            self.counts = Counts::default();
            self.head = number;
        }
        while self.head < number {
            self.head += 1;
            let index = Self::index(self.head);
            let [runs, failed] = std::mem::take(&mut self.slots[index]);
            self.counts.runs -= u64::from(runs);
            self.counts.failed -= u64::from(failed);
        }
    }

    fn add(&mut self, second: i64, runs: u32, failed: u32) {
        let number = second.div_euclid(self.slot);
        self.advance(number);
        let index = Self::index(number);
        let [all, bad] = &mut self.slots[index];
        // A slot that is full counts no further, rather than losing step with the sums.
        let (runs, failed) = (runs.min(u32::MAX - *all), failed.min(u32::MAX - *bad));
        *all += runs;
        *bad += failed;
        self.counts.runs += u64::from(runs);
        self.counts.failed += u64::from(failed);
    }
}

/// The windows of one scenario, the budget's own last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Burn {
    windows: Vec<Window>,
    /// How long the budget's window is, in seconds.
    length: i64,
    /// How many runs there are within it by the schedule, where that is known.
    planned: u64,
    /// By how many seconds the clock was set since the windows were begun: their slots are numbered without it.
    set_by: i64,
}

/// What is to be read from the store to fill a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The position of the window.
    pub window: usize,
    /// From when.
    pub since: DateTime<Utc>,
    /// In slots of so many seconds.
    pub slot: i64,
}

/// How an error budget stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budget {
    /// How many runs may fail within its window.
    pub allowed: f64,
    /// How many have.
    pub failed: u64,
}

impl Budget {
    /// The share that is used; above 1 where it is gone.
    pub fn used(&self) -> f64 {
        self.failed as f64 / self.allowed
    }
}

impl Burn {
    /// Without any runs. `planned`: how many there are within the objective's window by the schedule, or 0.
    pub fn new(slo: &Slo, planned: u64) -> Self {
        let length = i64::try_from(slo.window.as_secs()).unwrap_or(i64::MAX);
        let windows = LENGTHS.iter().copied().chain([length]).map(Window::new).collect();
        Self { windows, length, planned, set_by: 0 }
    }

    /// Whether it counts for this objective.
    pub fn is_for(&self, slo: &Slo) -> bool {
        i64::try_from(slo.window.as_secs()) == Ok(self.length)
    }

    /// The clock was set: what was counted is as old as before.
    pub fn clock_set(&mut self, by: TimeDelta) {
        self.set_by = self.set_by.saturating_add(by.num_seconds());
    }

    /// The schedule has changed.
    pub fn plan(&mut self, planned: u64) {
        self.planned = planned;
    }

    /// What is to be read from the store, for what was before `now`.
    pub fn spans(&self, now: DateTime<Utc>) -> Vec<Span> {
        let span = |(window, kept): (usize, &Window)| Span {
            window,
            since: DateTime::from_timestamp((now.timestamp().div_euclid(kept.slot) - SLOTS) * kept.slot, 0)
                .unwrap_or(now),
            slot: kept.slot,
        };
        self.windows.iter().enumerate().map(span).collect()
    }

    /// Takes what was read: runs of a slot of a window, by the slot's number.
    pub fn restore(&mut self, window: usize, number: i64, runs: u64, failed: u64) {
        let fit = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        if let Some(window) = self.windows.get_mut(window) {
            window.add(number.saturating_mul(window.slot), fit(runs), fit(failed));
        }
    }

    /// A run ended that said something of its target.
    pub fn add(&mut self, at: DateTime<Utc>, failed: bool) {
        for window in &mut self.windows {
            window.add(at.timestamp().saturating_sub(self.set_by), 1, u32::from(failed));
        }
    }

    /// The rules that hold, by their position.
    pub fn holds(&self, slo: &Slo) -> [bool; 3] {
        RULES.map(|rule| rule.holds(slo.allowed(), self))
    }

    /// Runs of a rule's long window and of its short one.
    pub fn counts(&self, rule: &Rule) -> [Counts; 2] {
        [rule.long, rule.short].map(|window| self.windows[window].counts)
    }

    /// How the budget stands. What a young scenario has not run yet counts as planned: one failure of ten runs is no
    /// hundredth of what a month allows.
    pub fn budget(&self, slo: &Slo) -> Budget {
        let counts = self.windows[LENGTHS.len()].counts;
        let runs = counts.runs.max(self.planned).max(1);
        Budget { allowed: slo.allowed() * runs as f64, failed: counts.failed }
    }

    /// When the budget is gone if it burns on as it does in a rule's long window; none: it is gone.
    #[expect(clippy::cast_possible_truncation, reason = "no longer than the window, in whole seconds")]
    pub fn lasts(&self, slo: &Slo, rule: &Rule) -> Option<TimeDelta> {
        let budget = self.budget(slo);
        let left = budget.allowed - budget.failed as f64;
        let pace = self.windows[rule.long].counts.failed as f64 / LENGTHS[rule.long] as f64;
        (left > 0.0).then(|| TimeDelta::seconds((left / pace).min(self.length as f64) as i64))
    }
}

#[cfg(test)]
#[path = "burn_tests.rs"]
mod tests;
