//! `slower_than_usual`: a comparison with past durations of the scenario. The duration baseline is computed in
//! `run/duration_baseline.rs`.

mod comparisons;

use std::time::Duration;

use super::key::{Key, Shape, key};
use super::model::HumanDuration;
use super::reader::Reader;
use super::tree::Node;

pub use comparisons::lint;

/// Keys of `slower_than_usual`.
pub const USUAL: &[Key] = &[
    key("factor", Shape::Number, "factor of the usual duration that is too slow (default: 2)"),
    key("over", Shape::Duration, "time range of the history, from 1h to 30d (default: 24h)"),
];

/// Minimum number of runs for a meaningful baseline.
pub const FEWEST_RUNS: u64 = 20;

const DEFAULT_FACTOR: f64 = 2.0;
const DEFAULT_OVER: Duration = Duration::from_hours(24);
const SHORTEST: Duration = Duration::from_hours(1);
/// Maximum period, which is the time that outcomes are stored.
const LONGEST: Duration = Duration::from_hours(30 * 24);

/// Limit relative to the duration baseline, with the period of the baseline.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SlowerThanUsual {
    /// Maximum duration as a multiple of the median.
    pub factor: f64,
    /// Period of the runs in the baseline.
    pub over: Duration,
}

/// Reads `slower_than_usual`.
pub fn read(r: &mut Reader, node: &Node) -> Option<SlowerThanUsual> {
    let fields = r.fields(node, "`slower_than_usual`", &[USUAL])?;
    let factor = match fields.get("factor") {
        Some(node) => factor(r, node),
        None => Some(DEFAULT_FACTOR),
    };
    let over = match fields.get("over") {
        Some(node) => over(r, node),
        None => Some(DEFAULT_OVER),
    };
    Some(SlowerThanUsual { factor: factor?, over: over? })
}

fn factor(r: &mut Reader, node: &Node) -> Option<f64> {
    let factor = r.number(node, "`factor`", 1.0, 1000.0)?;
    if factor > 1.0 {
        return Some(factor);
    }
    r.fail_with(node.span, "`factor` must be above 1: half of all runs are slower than the median", "write 2, or 1.5");
    None
}

fn over(r: &mut Reader, node: &Node) -> Option<Duration> {
    let over = r.duration(node, "`over`")?;
    if (SHORTEST..=LONGEST).contains(&over) {
        return Some(over);
    }
    r.fail(node.span, format!("`over` must be from {} to {}", HumanDuration(SHORTEST), HumanDuration(LONGEST)));
    None
}
