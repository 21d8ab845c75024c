//! Burn rate of an error budget: counts of runs in windows, and the rules that evaluate them. Pure.
//!
//! A burn rate is the share of failed runs divided by the share that the objective allows. At 1 the budget is exhausted
//! at the end of its window; at 14.4 a budget of 30 days is exhausted in about two days. The three rules are those of
//! the SRE Workbook (chapter 5, table 5-8), each with a minimum number of failures: with one run a minute, a single
//! failure is a burn rate of 16 within an hour.
//!
//! A window is a ring of slots, so that its cost does not depend on the number of runs. It is longer than its nominal
//! length by a thirtieth at most.

use chrono::{DateTime, TimeDelta, Utc};

use crate::scenario::{Severity, Slo};

/// Number of complete slots in a window. There is one more slot, which is being filled.
const SLOTS: i64 = 30;

const MINUTE: i64 = 60;
const HOUR: i64 = 3600;
const DAY: i64 = 86_400;

/// Burn rate rule. Both windows must exceed the factor: the long one shows that the problem matters, the short one that
/// it persists.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BurnRateRule {
    /// Index of the long window.
    long: usize,
    /// Index of the short window.
    short: usize,
    /// Burn rate above which the rule holds.
    pub factor: f64,
    /// Minimum number of failures in the long window.
    pub least: u64,
    /// Severity of the incident.
    pub severity: Severity,
}

/// Lengths of the rules' windows, in seconds.
const LENGTHS: [i64; 5] = [5 * MINUTE, 30 * MINUTE, HOUR, 6 * HOUR, 3 * DAY];

/// Rules, fastest first. `docs/alerting-slo.md` explains the minimum numbers of failures.
pub const RULES: [BurnRateRule; 3] = [
    BurnRateRule { long: 2, short: 0, factor: 14.4, least: 3, severity: Severity::Critical },
    BurnRateRule { long: 3, short: 1, factor: 6.0, least: 5, severity: Severity::Critical },
    BurnRateRule { long: 4, short: 3, factor: 1.0, least: 8, severity: Severity::Warning },
];

impl BurnRateRule {
    /// Returns the length of the long window.
    pub fn long(&self) -> TimeDelta {
        TimeDelta::seconds(LENGTHS[self.long])
    }

    /// Returns the length of the short window.
    pub fn short(&self) -> TimeDelta {
        TimeDelta::seconds(LENGTHS[self.short])
    }

    /// Returns how many of `runs` in the long window must fail for the rule to hold, or `None` if not even all of them
    /// are enough.
    pub fn needed(&self, allowed: f64, runs: u64) -> Option<u64> {
        let needed = more_than(self.factor * allowed, runs).max(self.least);
        (needed <= runs).then_some(needed)
    }

    /// Returns how many of `runs` in the short window must fail for the rule to hold, or `None` if not even all of them
    /// are enough.
    pub fn needed_in_short_window(&self, allowed: f64, runs: u64) -> Option<u64> {
        let needed = more_than(self.factor * allowed, runs);
        (needed <= runs).then_some(needed)
    }

    fn holds(&self, allowed: f64, burn: &BurnRateWindows) -> bool {
        let (long, short) = (burn.windows[self.long].counts, burn.windows[self.short].counts);
        let burns = |counts: Counts| counts.failed as f64 > self.factor * allowed * counts.runs as f64;
        long.failed >= self.least && burns(long) && burns(short)
    }
}

/// Returns the smallest integer above a share of `runs`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count of runs is as small")]
fn more_than(share: f64, runs: u64) -> u64 {
    (share * runs as f64).floor() as u64 + 1
}

/// Conclusive runs of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Number of conclusive runs.
    pub runs: u64,
    /// Number of failed runs.
    pub failed: u64,
}

/// A sliding window.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Window {
    /// Length of a slot in seconds.
    slot: i64,
    /// Number of the slot being filled: seconds since 1970 divided by the slot length.
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
        // The result is at least 0 and below the number of slots.
        usize::try_from(number.rem_euclid(SLOTS + 1)).unwrap_or_default()
    }

    /// Advances the window to a slot and drops the slots that are too old.
    fn advance(&mut self, number: i64) {
        if number > self.head + SLOTS || number < self.head - SLOTS {
            // Everything is too old, or the clock was set back and everything is in the future.
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
        // A full slot stops counting, so that it stays consistent with the sums.
        let (runs, failed) = (runs.min(u32::MAX - *all), failed.min(u32::MAX - *bad));
        *all += runs;
        *bad += failed;
        self.counts.runs += u64::from(runs);
        self.counts.failed += u64::from(failed);
    }
}

/// Windows of one scenario; the error budget's own window is the last one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BurnRateWindows {
    windows: Vec<Window>,
    /// Length of the error budget's window, in seconds.
    length: i64,
    /// Number of scheduled runs within the window, or 0 if unknown.
    planned: u64,
    /// Total change of the clock since the windows were created, in seconds. Slots are numbered without it.
    set_by: i64,
}

/// Range of history to read from the store to fill a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryRange {
    /// Index of the window.
    pub window: usize,
    /// Start of the range.
    pub since: DateTime<Utc>,
    /// Length of a slot in seconds.
    pub slot: i64,
}

/// State of an error budget.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ErrorBudget {
    /// Number of runs that may fail within the window.
    pub allowed: f64,
    /// Number of failed runs within the window.
    pub failed: u64,
}

impl ErrorBudget {
    /// Returns the used share of the budget, above 1 if it is exhausted.
    pub fn used(&self) -> f64 {
        self.failed as f64 / self.allowed
    }
}

impl BurnRateWindows {
    /// Creates empty windows. `planned` is the number of scheduled runs within the objective's window, or 0.
    pub fn new(slo: &Slo, planned: u64) -> Self {
        let length = i64::try_from(slo.window.as_secs()).unwrap_or(i64::MAX);
        let windows = LENGTHS.iter().copied().chain([length]).map(Window::new).collect();
        Self { windows, length, planned, set_by: 0 }
    }

    /// Returns whether the windows fit an objective.
    pub fn is_for(&self, slo: &Slo) -> bool {
        i64::try_from(slo.window.as_secs()) == Ok(self.length)
    }

    /// Adjusts the windows after a change of the clock, so that the counts keep their age.
    pub fn clock_set(&mut self, by: TimeDelta) {
        self.set_by = self.set_by.saturating_add(by.num_seconds());
    }

    /// Sets the number of scheduled runs after a change of the schedule.
    pub fn plan(&mut self, planned: u64) {
        self.planned = planned;
    }

    /// Returns the ranges of history before `now` to read from the store.
    pub fn spans(&self, now: DateTime<Utc>) -> Vec<HistoryRange> {
        let span = |(window, kept): (usize, &Window)| HistoryRange {
            window,
            since: DateTime::from_timestamp((now.timestamp().div_euclid(kept.slot) - SLOTS) * kept.slot, 0)
                .unwrap_or(now),
            slot: kept.slot,
        };
        self.windows.iter().enumerate().map(span).collect()
    }

    /// Adds the stored runs of a slot, given by its number, to a window.
    pub fn restore(&mut self, window: usize, number: i64, runs: u64, failed: u64) {
        let fit = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        if let Some(window) = self.windows.get_mut(window) {
            window.add(number.saturating_mul(window.slot), fit(runs), fit(failed));
        }
    }

    /// Counts a conclusive run.
    pub fn add(&mut self, at: DateTime<Utc>, failed: bool) {
        for window in &mut self.windows {
            window.add(at.timestamp().saturating_sub(self.set_by), 1, u32::from(failed));
        }
    }

    /// Evaluates the rules. The result states by index which of them hold.
    pub fn holds(&self, slo: &Slo) -> [bool; 3] {
        RULES.map(|rule| rule.holds(slo.allowed(), self))
    }

    /// Returns the counts of a rule's long window and short window.
    pub fn counts(&self, rule: &BurnRateRule) -> [Counts; 2] {
        [rule.long, rule.short].map(|window| self.windows[window].counts)
    }

    /// Returns the state of the budget. For a new scenario, scheduled runs that did not take place yet count as well:
    /// one failure in ten runs is less than a hundredth of what a month allows.
    pub fn budget(&self, slo: &Slo) -> ErrorBudget {
        let counts = self.windows[LENGTHS.len()].counts;
        let runs = counts.runs.max(self.planned).max(1);
        ErrorBudget { allowed: slo.allowed() * runs as f64, failed: counts.failed }
    }

    /// Returns the time until the budget is exhausted at the burn rate of a rule's long window, or `None` if it is
    /// already exhausted.
    #[expect(clippy::cast_possible_truncation, reason = "no longer than the window, in whole seconds")]
    pub fn lasts(&self, slo: &Slo, rule: &BurnRateRule) -> Option<TimeDelta> {
        let budget = self.budget(slo);
        let left = budget.allowed - budget.failed as f64;
        let pace = self.windows[rule.long].counts.failed as f64 / LENGTHS[rule.long] as f64;
        (left > 0.0).then(|| TimeDelta::seconds((left / pace).min(self.length as f64) as i64))
    }
}

#[cfg(test)]
#[path = "burn_tests.rs"]
mod tests;
