//! Budgets and pages, as a table.

use super::*;
use crate::diagnostic::Span;
use crate::outcome::PageTiming;
use crate::scenario::Vital;

fn page(lcp: Option<f64>, cls: Option<f64>) -> PageResult {
    PageResult { timing: PageTiming { lcp, cls, ..PageTiming::default() }, ..PageResult::default() }
}

#[test]
fn what_is_above_a_limit_is_told_once_and_with_its_worst_page() {
    let pages = [(0, page(Some(2.6), Some(0.02))), (3, page(Some(3.1), None)), (5, page(None, Some(0.1001)))];
    let totals = PageTotals { requests: 61, failed_requests: 2, bytes: 2_500_001, console_errors: 1 };
    let check = |budget: Budget, expected: Option<(Option<usize>, &str)>| {
        let span = Span { line: 7, column: 3, start: 0, end: 0 };
        let found = missed(
            &[Spanned { value: budget, span }],
            Duration::from_millis(20_120),
            &pages,
            &totals,
            &RunBaselines::default(),
        );
        assert_eq!(found.first().map(|(step, failure)| (*step, failure.message.as_str())), expected, "{budget:?}");
        assert!(found.iter().all(|(_, failure)| failure.span == Some(span) && failure.reason == Reason::Budget));
    };
    let ms = Duration::from_millis;
    check(Budget::Vital(Vital::Lcp, ms(2500)), Some((Some(3), "lcp 3.1s is above the budget of 2.5s")));
    check(Budget::Vital(Vital::Lcp, ms(3100)), None);
    // A value that was not measured violates no budget.
    check(Budget::Vital(Vital::Inp, ms(1)), None);
    check(Budget::LayoutShift(0.1), Some((Some(5), "cls 0.1001 is above the budget of 0.1")));
    check(Budget::LayoutShift(0.2), None);
    check(Budget::Duration(ms(20_000)), Some((None, "duration 20.12s is above the budget of 20s")));
    check(Budget::Duration(ms(21_000)), None);
    check(Budget::Requests(60), Some((None, "requests 61 is above the budget of 60")));
    check(Budget::Requests(61), None);
    check(Budget::FailedRequests(0), Some((None, "failed requests 2 is above the budget of 0")));
    check(Budget::ConsoleErrors(0), Some((None, "console errors 1 is above the budget of 0")));
    check(Budget::Bytes(2_500_000), Some((None, "bytes 2.50MB (2500001 bytes) is above the budget of 2.5MB")));
    check(Budget::Bytes(2_500_001), None);
}
