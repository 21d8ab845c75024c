//! Histogram of durations in two forms: buckets for the text formats, and a native histogram for protobuf.
//!
//! Source of the second: the client data model of Prometheus (`io/prometheus/client/metrics.proto`), message
//! `Histogram`.

use crate::names::metric::DURATION_BUCKETS;

/// Durations of the runs of a scenario.
#[derive(Debug, Clone, Default)]
pub(super) struct Histogram {
    /// Number of runs per bucket, not cumulative; the last bucket has no upper bound.
    counts: [u32; DURATION_BUCKETS.len() + 1],
    /// Sum of all durations, in seconds.
    pub sum: f64,
    /// Same runs in narrow buckets.
    pub native: Native,
}

impl Histogram {
    /// Adds a run with this duration in seconds.
    pub fn add(&mut self, seconds: f64) {
        let bucket = DURATION_BUCKETS.iter().position(|bound| seconds <= *bound).unwrap_or(DURATION_BUCKETS.len());
        self.counts[bucket] += 1;
        self.sum += seconds;
        self.native.add(seconds);
    }

    /// Returns the number of runs up to each upper bound; the last one is the total.
    pub fn cumulative(&self) -> [u64; DURATION_BUCKETS.len() + 1] {
        let mut total = 0;
        self.counts.map(|count| {
            total += u64::from(count);
            total
        })
    }
}

/// Buckets whose bounds grow by the constant factor `2^(2^-schema)`. Only non-empty ones use memory.
#[derive(Debug, Clone)]
pub(super) struct Native {
    /// Resolution. If there are too many buckets, it is reduced by one, which merges them in pairs.
    pub schema: i32,
    /// Number of runs without a measurable duration.
    pub zero: u32,
    /// Number of runs by index, in ascending order. The bucket `i` ends at `2^(i / 2^schema)` seconds.
    pub buckets: Vec<(i32, u32)>,
}

impl Native {
    /// Upper bound of the zero bucket in seconds, the same as in Prometheus' own clients.
    pub const ZERO_THRESHOLD: f64 = 2.938_735_877_055_719e-39;
    /// Initial resolution: a factor of 1.09.
    const FIRST_SCHEMA: i32 = 3;
    /// Lowest resolution of the format.
    const LAST_SCHEMA: i32 = -4;
    /// Maximum number of buckets.
    const MAX_BUCKETS: usize = 64;

    fn add(&mut self, seconds: f64) {
        if seconds <= Self::ZERO_THRESHOLD {
            self.zero += 1;
            return;
        }
        #[expect(clippy::cast_possible_truncation, reason = "a logarithm of a finite number is small")]
        let index = (seconds.log2() * 2_f64.powi(self.schema)).ceil() as i32;
        match self.buckets.binary_search_by_key(&index, |(index, _)| *index) {
            Ok(at) => self.buckets[at].1 += 1,
            Err(at) => self.buckets.insert(at, (index, 1)),
        }
        while self.buckets.len() > Self::MAX_BUCKETS && self.schema > Self::LAST_SCHEMA {
            self.join_pairs();
        }
    }

    fn join_pairs(&mut self) {
        self.schema -= 1;
        let mut joined: Vec<(i32, u32)> = Vec::with_capacity(self.buckets.len());
        for (index, count) in self.buckets.drain(..) {
            let index = (index + 1) >> 1;
            match joined.last_mut() {
                Some(last) if last.0 == index => last.1 += count,
                _ => joined.push((index, count)),
            }
        }
        self.buckets = joined;
    }
}

impl Default for Native {
    fn default() -> Self {
        Self { schema: Self::FIRST_SCHEMA, zero: 0, buckets: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn upper_bounds_belong_to_their_bucket() {
        let mut histogram = Histogram::default();
        for seconds in [0.0, 0.01, 0.010_001, 0.1, 60.0, 60.1] {
            histogram.add(seconds);
        }
        assert_eq!(histogram.cumulative(), [2, 3, 4, 4, 4, 4, 4, 5, 6]);
        let bounds = |native: &Native| {
            let bound = |index: i32| 2_f64.powf(f64::from(index) / 2_f64.powi(native.schema));
            native.buckets.iter().map(|(index, count)| (bound(*index), *count)).collect::<Vec<_>>()
        };
        let mut native = Native::default();
        for seconds in [0.5, 1.0, 2.0, 2.001] {
            native.add(seconds);
        }
        let expected = [(0.5, 1), (1.0, 1), (2.0, 1), (2.0 * 2_f64.powf(0.125), 1)];
        for ((bound, count), (expected, of)) in bounds(&native).into_iter().zip(expected) {
            assert!((bound - expected).abs() < 1e-9 && count == of, "{bound} {expected}");
        }
    }

    proptest! {
        /// For any input, no run is lost, buckets stay few and in order, and each run lies in a bucket that contains
        /// it.
        #[test]
        fn no_run_is_lost(runs in prop::collection::vec(0.0_f64..1e6, 0..400)) {
            let mut native = Native::default();
            for seconds in &runs {
                native.add(*seconds);
            }
            let counted: u32 = native.buckets.iter().map(|(_, count)| count).sum();
            prop_assert_eq!(counted + native.zero, u32::try_from(runs.len()).unwrap());
            prop_assert!(native.buckets.len() <= Native::MAX_BUCKETS);
            prop_assert!(native.buckets.windows(2).all(|pair| pair[0].0 < pair[1].0));
            let step = 2_f64.powi(-native.schema);
            for seconds in runs.iter().filter(|seconds| **seconds > 0.0) {
                let holds = |index: i32| {
                    let upper = 2_f64.powf(f64::from(index) * step);
                    *seconds <= upper * 1.000_001 && *seconds > upper / 2_f64.powf(step) * 0.999_999
                };
                prop_assert!(native.buckets.iter().any(|(index, _)| holds(*index)), "{} has no bucket", seconds);
            }
        }
    }
}
