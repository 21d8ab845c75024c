//! Adjustment of due times after the wall clock was set, or after a time in which nothing could be started. Pure.
//!
//! Invariant: a scenario is not due later than it would have been, so that the time without a run never exceeds its
//! interval. A job that is rarely due and has already run is not run again because the clock was set back before its
//! due time.

use chrono::{DateTime, TimeDelta, Utc};

use crate::scenario::{Scenario, Schedule};

/// Returns the due time of a scenario after the wall clock was set by `drift` and shows `now`; the former due time was
/// `due_at`.
pub(super) fn due_after_change(
    scenario: &Scenario,
    due_at: DateTime<Utc>,
    drift: TimeDelta,
    now: DateTime<Utc>,
) -> DateTime<Utc> {
    let Some(next) = scenario.next_after(now) else { return due_at };
    let is_regular = match scenario.schedule {
        Schedule::Every(_) => true,
        // If the clock was set forward past a due time, the run is made up for. If it was set back, scenarios due more
        // often than the clock change must not wait until the old time returns, but scenarios that are rarely due have
        // already run.
        Schedule::Cron { .. } if drift > TimeDelta::zero() => return due_at,
        Schedule::Cron { .. } => {
            let gap = scenario.next_after(next).map_or(TimeDelta::MAX, |after| after - next);
            gap <= drift.abs()
        }
    };
    if !is_regular {
        return due_at;
    }
    // The remaining time is kept.
    let kept = due_at.checked_add_signed(drift).unwrap_or(due_at).max(now);
    kept.min(next)
}

/// Returns the last due time of an interval that is not after `now`, starting from a past one, and the number of due
/// times skipped. For cron the due time itself is returned, because its times are counted one by one.
pub(super) fn last_due(scenario: &Scenario, due_at: DateTime<Utc>, now: DateTime<Utc>) -> (DateTime<Utc>, u64) {
    let Schedule::Every(every) = scenario.schedule else { return (due_at, 0) };
    let every = TimeDelta::from_std(every).unwrap_or(TimeDelta::MAX);
    // After a clock change, the first due time may be arbitrary; from the next one on they keep their phase.
    let Some(first) = scenario.next_after(due_at).filter(|first| *first <= now) else { return (due_at, 0) };
    let more = (now - first).num_milliseconds() / every.num_milliseconds().max(1);
    let last = i32::try_from(more).ok().and_then(|more| first.checked_add_signed(every * more)).unwrap_or(now);
    (last, more.unsigned_abs() + 1)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::scenario::{Lookup, LookupError, load};

    struct Nothing;

    impl Lookup for Nothing {
        fn env(&self, name: &str) -> Result<String, LookupError> {
            Err(LookupError::Missing(name.to_owned()))
        }
        fn file(&self, path: &std::path::Path, _: &str) -> Result<Vec<u8>, LookupError> {
            Err(LookupError::Missing(path.display().to_string()))
        }
    }

    fn scenario(schedule: &str) -> Arc<Scenario> {
        let loaded = load("a.yaml", &format!("checks: {{a: {{tcp: \"a:1\", {schedule}}}}}"), &Nothing);
        Arc::clone(&loaded.scenarios[0])
    }

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn intervals_are_due_no_later_than_they_were() {
        for every in [1, 7, 60, 300, 3600] {
            let scenario = scenario(&format!("every: {every}s"));
            let before = at("2027-03-01T12:00:00.25Z");
            let due_at = scenario.next_after(before).unwrap();
            for drift in [-90_000, -3600, -600, -2, 2, 59, 3600, 90_000] {
                let drift = TimeDelta::seconds(drift);
                let now = before + drift;
                let due = due_after_change(&scenario, due_at, drift, now);
                assert!(due >= now && due - now <= due_at - before, "{every} {drift}: {due} after {now}");
            }
        }
    }

    #[test]
    fn jobs_that_are_seldom_due_run_once() {
        // Schedule, due time, change of the clock in seconds, time after it, expected due time.
        for (cron, due_at, drift, now, expected) in [
            // The run of 02:30 is over; at 02:35 the clock is set back by an hour.
            ("30 2 * * *", "2027-03-02T02:30:00Z", -3600, "2027-03-01T01:35:00Z", "2027-03-02T02:30:00Z"),
            ("* * * * *", "2027-03-01T02:36:00Z", -3600, "2027-03-01T01:35:30Z", "2027-03-01T01:36:00Z"),
            ("0 * * * *", "2027-03-01T03:00:00Z", -3600, "2027-03-01T01:35:00Z", "2027-03-01T02:00:00Z"),
            ("30 2 * * *", "2027-04-02T02:30:00Z", -2_592_000, "2027-03-03T01:35:00Z", "2027-03-03T02:30:00Z"),
            // Set forward past a due time: the run is made up for at once.
            ("30 2 * * *", "2027-03-01T02:30:00Z", 3600, "2027-03-01T03:05:00Z", "2027-03-01T02:30:00Z"),
        ] {
            let scenario = scenario(&format!("cron: \"{cron}\""));
            let due = due_after_change(&scenario, at(due_at), TimeDelta::seconds(drift), at(now));
            assert_eq!(due, at(expected), "{cron} {now}");
        }
    }

    #[test]
    fn a_day_of_missed_seconds_is_counted_at_once() {
        let scenario = scenario("every: 1s");
        let due_at = scenario.next_after(at("2027-03-01T00:00:00Z")).unwrap();
        let now = due_at + TimeDelta::days(1) + TimeDelta::milliseconds(500);
        assert_eq!(last_due(&scenario, due_at, now), (due_at + TimeDelta::days(1), 86_400));
        assert_eq!(last_due(&scenario, due_at, due_at), (due_at, 0));
    }
}
