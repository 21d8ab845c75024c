//! Duration baselines: the usual duration and the limit above which a duration is too slow. Pure: times are parameters.
//!
//! A [`DurationWindow`] stores the durations of a window in slots. For a slot with many runs it stores a uniform sample and the
//! number of runs, so it stays below 4 KiB however often a scenario runs. The usual duration is the median. A duration
//! is too slow if it exceeds all of the following: `factor` times the median; the median plus five times the median
//! absolute deviation, to allow for variation; and the median plus 50 ms, so that 3 ms instead of 1 ms is not a
//! finding.

use std::collections::VecDeque;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::scenario::usual::FEWEST_RUNS;
use crate::scenario::{HumanDuration, SlowerThanUsual};

/// Number of slots in a window; durations that leave the window are dropped slot by slot.
const SLOTS: i64 = 24;
/// Maximum number of durations stored per slot.
const KEPT: usize = 32;
/// Number of median absolute deviations allowed as variation; 3.4 standard deviations for normally distributed
/// durations.
const DEVIATIONS: f64 = 5.0;
/// Minimum difference from the median that counts, whatever the factor.
const LEAST_DIFFERENCE: Duration = Duration::from_millis(50);

/// Durations within a time window.
#[derive(Debug, Clone)]
pub struct DurationWindow {
    /// Length of a slot, in milliseconds.
    width: i64,
    /// Slots, oldest first.
    slots: VecDeque<Slot>,
}

#[derive(Debug, Clone)]
struct Slot {
    number: i64,
    seen: u32,
    /// Sampled durations, in microseconds.
    kept: Vec<u32>,
}

impl DurationWindow {
    /// Creates an empty sketch for a window of this length.
    pub fn new(over: Duration) -> Self {
        let width = i64::try_from(over.as_millis()).unwrap_or(i64::MAX) / SLOTS;
        Self { width: width.max(1), slots: VecDeque::new() }
    }

    fn number(&self, at: DateTime<Utc>) -> i64 {
        at.timestamp_millis().div_euclid(self.width)
    }

    /// Adds a duration that ended at this time. Drops slots that are more than a window away, also those in the future,
    /// which exist after the clock was set back.
    pub fn add(&mut self, at: DateTime<Utc>, took: Duration) {
        let number = self.number(at);
        self.slots.retain(|slot| (slot.number - number).abs() < SLOTS);
        let place = self.slots.partition_point(|slot| slot.number < number);
        if self.slots.get(place).is_none_or(|slot| slot.number != number) {
            self.slots.insert(place, Slot { number, seen: 0, kept: Vec::new() });
        }
        let Some(slot) = self.slots.get_mut(place) else { return };
        let micros = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        slot.seen = slot.seen.saturating_add(1);
        if slot.kept.len() < KEPT {
            slot.kept.push(micros);
            return;
        }
        // Algorithm R (Vitter 1985): each duration of the slot is kept with the same probability, so that patterns such
        // as two alternating servers keep their proportions.
        let chosen = mixed(number.unsigned_abs() ^ (u64::from(slot.seen) << 40)) % u64::from(slot.seen);
        if let Some(kept) = usize::try_from(chosen).ok().and_then(|chosen| slot.kept.get_mut(chosen)) {
            *kept = micros;
        }
    }

    /// Returns the baseline at time `now`, or `None` if there are too few runs.
    pub fn usual(&self, now: DateTime<Utc>) -> Option<DurationBaseline> {
        let now = self.number(now);
        let in_window = || self.slots.iter().filter(|slot| (0..SLOTS).contains(&(now - slot.number)));
        let runs = in_window().map(|slot| u64::from(slot.seen)).sum();
        if runs < FEWEST_RUNS {
            return None;
        }
        let weighted = in_window().flat_map(|slot| {
            let weight = f64::from(slot.seen) / slot.kept.len() as f64;
            slot.kept.iter().map(move |micros| (f64::from(*micros), weight))
        });
        let all: Vec<(f64, f64)> = weighted.collect();
        let median = weighted_median(all.clone())?;
        let spread =
            weighted_median(all.into_iter().map(|(value, weight)| ((value - median).abs(), weight)).collect())?;
        let duration = |micros: f64| Duration::from_secs_f64(micros / 1e6);
        Some(DurationBaseline { median: duration(median), spread: duration(spread), runs })
    }
}

/// Computes the value with half of the weight on either side.
fn weighted_median(mut values: Vec<(f64, f64)>) -> Option<f64> {
    values.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let half = values.iter().map(|(_, weight)| weight).sum::<f64>() / 2.0;
    let mut below = 0.0;
    for (at, (value, weight)) in values.iter().enumerate() {
        below += weight;
        // For an even number of equal weights, it is the mean of the two in the middle.
        if (below - half).abs() < 1e-9
            && let Some((next, _)) = values.get(at + 1)
        {
            return Some(f64::midpoint(*value, *next));
        }
        if below > half {
            return Some(*value);
        }
    }
    values.last().map(|(value, _)| *value)
}

/// Returns a deterministic pseudo-random number (`SplitMix64`).
fn mixed(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A duration baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DurationBaseline {
    /// Median duration.
    pub median: Duration,
    /// Median absolute deviation.
    pub spread: Duration,
    /// Number of runs in the window.
    pub runs: u64,
}

/// Description of a duration that is too long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TooSlow {
    /// Message of one line.
    pub message: String,
    /// Expected value.
    pub expected: String,
    /// Actual value.
    pub seen: String,
}

impl DurationBaseline {
    /// Returns the longest acceptable duration.
    pub fn limit(&self, factor: f64) -> Duration {
        let often = self.median.as_secs_f64() * factor;
        let varied = self.median.as_secs_f64() + DEVIATIONS * self.spread.as_secs_f64();
        let longest = often.max(varied).max((self.median + LEAST_DIFFERENCE).as_secs_f64());
        Duration::try_from_secs_f64(longest).unwrap_or(Duration::MAX)
    }

    /// Returns a description if the duration is too long.
    pub fn judge(&self, took: Duration, wanted: SlowerThanUsual) -> Option<TooSlow> {
        let limit = self.limit(wanted.factor);
        if took <= limit {
            return None;
        }
        let show = |duration: Duration| seconds(duration.as_secs_f64());
        let (seen, usual, over) = (show(took), show(self.median), HumanDuration(wanted.over));
        let message = format!("took {seen}, usually {usual} (median of {} runs in {over})", self.runs);
        Some(TooSlow { message, expected: format!("at most {}", show(limit)), seen })
    }
}

/// Formats a duration such as `3.1s` or `240ms`; long ones use larger units. Rounds up, so that a value above a limit
/// never appears equal to it.
pub(super) fn seconds(seconds: f64) -> String {
    let millis = (seconds * 1000.0 - 1e-6).ceil();
    match millis {
        m if m < 1000.0 => format!("{m}ms"),
        m if m < 120_000.0 => format!("{}s", m / 1000.0),
        m => HumanDuration(Duration::from_secs_f64((m / 1000.0).min(1e9))).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;

    fn at(second: u64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + i64::try_from(second).unwrap(), 0).unwrap()
    }

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Creates a sketch with one run per minute.
    fn sketch(over: u64, durations: &[u64]) -> (DurationWindow, DateTime<Utc>) {
        let mut sketch = DurationWindow::new(Duration::from_secs(over));
        let mut now = at(0);
        for (minute, took) in durations.iter().enumerate() {
            now = at(minute as u64 * 60);
            sketch.add(now, millis(*took));
        }
        (sketch, now)
    }

    #[test]
    fn median_and_deviation_are_those_of_the_runs() {
        let check = |durations: &[u64], expected: Option<(u64, u64)>| {
            let (sketch, now) = sketch(24 * HOUR, durations);
            let usual = sketch.usual(now).map(|usual| (usual.median, usual.spread, usual.runs));
            let expected = expected.map(|(median, spread)| (millis(median), millis(spread), durations.len() as u64));
            assert_eq!(usual, expected, "{durations:?}");
        };
        check(&[100; 19], None);
        check(&[100; 20], Some((100, 0)));
        check(&[[100; 15], [140; 15]].concat(), Some((120, 20)));
        // A few runs of a minute change neither value.
        let mut durations = [90, 100, 100, 100, 110, 110, 120, 100, 80, 100].repeat(3);
        durations.extend([60_000; 5]);
        check(&durations, Some((100, 10)));
    }

    #[test]
    fn too_slow_is_above_the_factor_and_the_spread_and_the_least_difference() {
        let check = |median: u64, spread: u64, factor: f64, took: u64, slow: bool| {
            let usual = DurationBaseline { median: millis(median), spread: millis(spread), runs: 20 };
            let wanted = SlowerThanUsual { factor, over: Duration::from_secs(24 * HOUR) };
            assert_eq!(usual.judge(millis(took), wanted).is_some(), slow, "{median} {spread} {factor} {took}");
        };
        check(400, 0, 2.0, 800, false);
        check(400, 0, 2.0, 801, true);
        check(400, 0, 1.5, 601, true);
        // Variation is allowed for.
        check(400, 100, 2.0, 900, false);
        check(400, 100, 2.0, 901, true);
        // 3 ms instead of 1 ms is not a finding.
        check(1, 0, 2.0, 3, false);
        check(1, 0, 2.0, 51, false);
        check(1, 0, 2.0, 52, true);
    }

    #[test]
    fn the_figures_are_told() {
        let usual = DurationBaseline { median: millis(410), spread: millis(20), runs: 212 };
        let wanted = SlowerThanUsual { factor: 2.0, over: Duration::from_secs(24 * HOUR) };
        let told = usual.judge(millis(1900), wanted).unwrap();
        assert_eq!(told.message, "took 1.9s, usually 410ms (median of 212 runs in 1d)");
        assert_eq!((told.expected.as_str(), told.seen.as_str()), ("at most 820ms", "1.9s"));
    }

    #[test]
    fn what_is_older_than_the_window_goes() {
        let mut sketch = DurationWindow::new(Duration::from_secs(24 * HOUR));
        for minute in 0..60 {
            sketch.add(at(minute * 60), millis(100));
        }
        assert_eq!(sketch.usual(at(23 * HOUR)).map(|usual| usual.runs > 0), Some(true));
        assert_eq!(sketch.usual(at(25 * HOUR)), None);
        // Also without queries in between: a sketch does not grow.
        for hour in 0..1000 {
            sketch.add(at(hour * HOUR), millis(100));
        }
        assert!(sketch.slots.len() <= 24, "{}", sketch.slots.len());
        // After the clock was set back, new runs are found.
        for minute in 0..60 {
            sketch.add(at(minute * 60), millis(300));
        }
        assert_eq!(sketch.usual(at(HOUR)).map(|usual| usual.median), Some(millis(300)));
    }

    #[test]
    fn many_runs_are_kept_in_proportion_and_in_little_space() {
        // Every second for an hour, in slots of 2.5 minutes, with every third run being long.
        let mut sketch = DurationWindow::new(Duration::from_secs(HOUR));
        for second in 0..HOUR {
            sketch.add(at(second), millis(if second % 3 == 0 { 900 } else { 100 + second % 10 }));
        }
        let usual = sketch.usual(at(HOUR - 1)).unwrap();
        assert!(usual.runs > 3000 && usual.runs <= HOUR, "{usual:?}");
        assert!(usual.median > millis(100) && usual.median < millis(110), "{usual:?}");
        assert!(sketch.slots.iter().all(|slot| slot.kept.len() <= KEPT));
        let long: usize =
            sketch.slots.iter().map(|slot| slot.kept.iter().filter(|took| **took > 500_000).count()).sum();
        let kept: usize = sketch.slots.iter().map(|slot| slot.kept.len()).sum();
        assert!((0.23..0.43).contains(&(long as f64 / kept as f64)), "{long} of {kept}");
    }
}
