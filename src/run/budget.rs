//! Budgets: soft limits of a run that are evaluated after it has ended. Pure functions.

use std::time::Duration;

use super::RunBaselines;
use super::duration_baseline::seconds;
use crate::diagnostic::Spanned;
use crate::names::Reason;
use crate::outcome::{Failure, PageResult, PageTotals};
use crate::scenario::Budget;

/// Returns every violated budget, with the step where it was violated if there is one. For a limit that applies to
/// every page, it is the page with the worst value. A value that the browser did not measure violates nothing.
pub fn missed(
    budget: &[Spanned<Budget>],
    duration: Duration,
    pages: &[(usize, PageResult)],
    totals: &PageTotals,
    usuals: &RunBaselines,
) -> Vec<(Option<usize>, Failure)> {
    budget.iter().filter_map(|limit| miss(limit, duration, pages, totals, usuals)).collect()
}

fn miss(
    limit: &Spanned<Budget>,
    duration: Duration,
    pages: &[(usize, PageResult)],
    totals: &PageTotals,
    usuals: &RunBaselines,
) -> Option<(Option<usize>, Failure)> {
    let told = |step, name: &str, seen: String, allowed: String| {
        let message = format!("{name} {seen} is above the budget of {allowed}");
        (step, Failure::new(Reason::Budget, message).compared(format!("at most {allowed}"), seen).at(limit.span))
    };
    let count = |name: &str, seen: u64, allowed: u64| {
        (seen > allowed).then(|| told(None, name, seen.to_string(), allowed.to_string()))
    };
    match limit.value {
        Budget::Duration(allowed) => (duration > allowed)
            .then(|| told(None, "duration", seconds(duration.as_secs_f64()), seconds(allowed.as_secs_f64()))),
        Budget::SlowerThanUsual(wanted) => {
            let slow = usuals.of(None, wanted.over)?.judge(duration, wanted)?;
            let failure = Failure::new(Reason::Budget, format!("the run {}", slow.message));
            Some((None, failure.compared(slow.expected, slow.seen).at(limit.span)))
        }
        Budget::Vital(vital, allowed) => worst(pages, |page| page.timing.vital(vital))
            .filter(|(_, seen)| *seen > allowed.as_secs_f64())
            .map(|(step, seen)| told(Some(step), vital.as_str(), seconds(seen), seconds(allowed.as_secs_f64()))),
        Budget::LayoutShift(allowed) => worst(pages, |page| page.timing.cls)
            .filter(|(_, seen)| *seen > allowed)
            .map(|(step, seen)| told(Some(step), "cls", score(seen, allowed), allowed.to_string())),
        Budget::Requests(allowed) => count("requests", totals.requests, allowed),
        Budget::FailedRequests(allowed) => count("failed requests", totals.failed_requests, allowed),
        Budget::ConsoleErrors(allowed) => count("console errors", totals.console_errors, allowed),
        Budget::Bytes(allowed) => {
            (totals.bytes > allowed).then(|| told(None, "bytes", size(totals.bytes), size(allowed)))
        }
    }
}

/// Returns the page with the largest value, and the first of several equal ones.
fn worst(pages: &[(usize, PageResult)], value: impl Fn(&PageResult) -> Option<f64>) -> Option<(usize, f64)> {
    pages
        .iter()
        .filter_map(|(step, page)| value(page).map(|value| (*step, value)))
        .reduce(|worst, next| if next.1 > worst.1 { next } else { worst })
}

/// Formats a score with enough digits to show that it is above the limit.
fn score(seen: f64, allowed: f64) -> String {
    let short = format!("{seen:.3}");
    let is_told = short.parse::<f64>().is_ok_and(|short| short > allowed);
    let text = if is_told { short } else { seen.to_string() };
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Formats a size in powers of 1000, the units in which budgets are written, and exactly if it is not a round number of
/// them.
fn size(bytes: u64) -> String {
    match bytes {
        n if n >= 1_000_000 && n % 10_000 == 0 => format!("{}MB", n as f64 / 1e6),
        n if n >= 1000 && n % 1000 == 0 && n < 1_000_000 => format!("{}kB", n / 1000),
        n if n >= 1_000_000 => format!("{:.2}MB ({n} bytes)", n as f64 / 1e6),
        n => format!("{n} bytes"),
    }
}

#[cfg(test)]
mod tests;
