//! Scheduling of delivery attempts. Pure, with the time as an argument.
//!
//! Notifications with one dedup key are delivered in order. A rejected notification delays only those with the same
//! key, but an outage or rate limit delays the whole receiver. Keys without a rejection go first, so that a key that
//! the receiver always rejects delays others by one pause at most.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// Delay after the first failed attempt, doubled with each further one …
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// … up to this maximum.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// Number of different keys that failed consecutively, after which the receiver counts as unreachable. A single key
/// that fails repeatedly does not suffice, because others must not wait for it.
const AWAY_AFTER: usize = 3;

/// Next action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Attempt the notification at this index.
    Try(usize),
    /// Wait for this time, or for a new notification if absent.
    Wait(Option<Duration>),
}

#[derive(Debug, Clone, Copy, Default)]
struct KeyBackoff {
    tries: u32,
    until: Duration,
}

/// Scheduler of delivery attempts. Times are relative to an arbitrary fixed moment.
#[derive(Debug)]
pub(super) struct RetryScheduler {
    seed: u64,
    gap: Duration,
    /// Earliest time of the next attempt, due to the minimum time between attempts.
    rests_until: Duration,
    receiver: KeyBackoff,
    keys: HashMap<String, KeyBackoff>,
    /// Keys that failed since the last delivered notification.
    row: HashSet<String>,
}

impl RetryScheduler {
    /// Creates a scheduler. `gap` is the minimum time between two attempts; `seed` determines the jitter of the delays.
    pub(super) fn new(seed: u64, gap: Duration) -> Self {
        let none = Duration::ZERO;
        Self {
            seed,
            gap,
            rests_until: none,
            receiver: KeyBackoff::default(),
            keys: HashMap::new(),
            row: HashSet::new(),
        }
    }

    /// Returns the next action for queued notifications with these keys, oldest first.
    pub(super) fn next<'a>(&self, queued: impl Iterator<Item = &'a str>, now: Duration) -> Next {
        let mut seen = HashSet::new();
        // Untried keys first, then the one that has waited longest.
        let mut best: Option<(Option<Duration>, usize)> = None;
        for (at, key) in queued.enumerate() {
            if seen.insert(key) {
                let candidate = (self.keys.get(key).map(|held| held.until), at);
                if best.is_none_or(|best| candidate < best) {
                    best = Some(candidate);
                }
            }
        }
        let Some((until, at)) = best else { return Next::Wait(None) };
        let ready = until.unwrap_or_default().max(self.receiver.until).max(self.rests_until);
        if ready <= now { Next::Try(at) } else { Next::Wait(Some(ready.saturating_sub(now))) }
    }

    /// Removes the delays after a notification was delivered or has finally failed.
    pub(super) fn done(&mut self, key: &str, now: Duration) {
        self.keys.remove(key);
        self.receiver = KeyBackoff::default();
        self.row.clear();
        self.rests_until = now + self.gap;
    }

    /// Records a failed attempt. `all` states whether the problem affects all notifications; `wait` is the delay that
    /// the receiver asked for.
    pub(super) fn failed(&mut self, key: &str, all: bool, wait: Option<Duration>, now: Duration) {
        self.row.insert(key.to_owned());
        self.rests_until = now + self.gap;
        let mut held = self.keys.get(key).copied().unwrap_or_default();
        held.until = now;
        if all || self.row.len() >= AWAY_AFTER {
            self.receiver.until = now + wait.unwrap_or_else(|| self.pause("", self.receiver.tries));
            self.receiver.tries += 1;
        } else {
            held.until = now + wait.unwrap_or_else(|| self.pause(key, held.tries));
            held.tries += 1;
        }
        self.keys.insert(key.to_owned(), held);
    }

    /// Removes all delays, because a change may have solved the problem.
    pub(super) fn reset(&mut self) {
        self.receiver = KeyBackoff::default();
        self.keys.clear();
        self.row.clear();
    }

    /// Removes the keys without queued notifications.
    pub(super) fn retain<'a>(&mut self, queued: impl Iterator<Item = &'a str>) {
        let queued: HashSet<&str> = queued.collect();
        self.keys.retain(|key, _| queued.contains(key.as_str()));
    }

    /// Returns the number of delayed keys.
    pub(super) fn held(&self) -> usize {
        self.keys.len()
    }

    /// Returns a delay between half of the nominal one and all of it, so that many agents do not retry at the same
    /// time.
    fn pause(&self, key: &str, tries: u32) -> Duration {
        let nominal = FIRST_PAUSE.saturating_mul(1 << tries.min(10)).min(LONGEST_PAUSE);
        // FNV-1a; any hash with a good distribution is sufficient.
        let mut hash = self.seed ^ 0xcbf2_9ce4_8422_2325;
        for byte in key.bytes().chain(tries.to_le_bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        hash ^= hash >> 32;
        let share = f64::from(u32::try_from(hash & 0xffff).unwrap_or_default()) / f64::from(0xffff_u32);
        nominal.mul_f64(0.5 + share / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn next(pace: &RetryScheduler, queued: &[&str], now: Duration) -> Next {
        pace.next(queued.iter().copied(), now)
    }

    #[test]
    fn a_refused_key_holds_back_itself_alone() {
        let mut pace = RetryScheduler::new(1, Duration::ZERO);
        let queued = ["a", "a", "b", "c"];
        assert_eq!(next(&pace, &queued, s(0)), Next::Try(0));
        pace.failed("a", false, None, s(0));
        assert_eq!(next(&pace, &queued, s(0)), Next::Try(2));
        pace.done("b", s(0));
        assert_eq!(next(&pace, &["a", "a", "c"], s(0)), Next::Try(2));
        pace.done("c", s(0));
        let Next::Wait(Some(wait)) = next(&pace, &["a", "a"], s(0)) else { panic!("held") };
        assert!(wait >= s(1) / 2 && wait <= s(1), "{wait:?}");
        assert_eq!(next(&pace, &["a", "a"], wait), Next::Try(0));
        assert_eq!(next(&pace, &[], s(9)), Next::Wait(None));
    }

    #[test]
    fn an_outage_holds_all_and_untried_keys_go_first() {
        let mut pace = RetryScheduler::new(1, Duration::ZERO);
        pace.failed("a", true, Some(s(30)), s(0));
        assert_eq!(next(&pace, &["a", "b"], s(10)), Next::Wait(Some(s(20))));
        assert_eq!(next(&pace, &["a", "b"], s(30)), Next::Try(1));
        pace.done("b", s(30));
        assert_eq!(next(&pace, &["a"], s(30)), Next::Try(0));
    }

    #[test]
    fn three_that_fail_in_a_row_are_an_outage() {
        let mut pace = RetryScheduler::new(1, Duration::ZERO);
        for key in ["a", "b"] {
            pace.failed(key, false, None, s(0));
            assert_eq!(next(&pace, &["a", "b", "c", "d"], s(0)), Next::Try(if key == "a" { 1 } else { 2 }));
        }
        pace.failed("c", false, None, s(0));
        assert!(matches!(next(&pace, &["a", "b", "c", "d"], s(0)), Next::Wait(Some(_))));
        // Keys without an attempt go first, and a success ends the delay.
        assert_eq!(next(&pace, &["a", "b", "c", "d"], s(1)), Next::Try(3));
        pace.done("d", s(1));
        assert!(matches!(next(&pace, &["a", "b", "c"], s(1)), Next::Try(_)));
        pace.retain(["a"].into_iter());
        assert_eq!(pace.held(), 1);
    }

    #[test]
    fn pauses_double_up_to_a_minute_and_are_the_same_each_time() {
        for (tries, nominal) in [(0, 1), (1, 2), (2, 4), (5, 32), (6, 60), (40, 60)] {
            for seed in 0..50 {
                let pace = RetryScheduler::new(seed, Duration::ZERO);
                let pause = pace.pause("a", tries);
                assert!(pause >= s(nominal) / 2 && pause <= s(nominal), "{tries}: {pause:?}");
                assert_eq!(pause, RetryScheduler::new(seed, Duration::ZERO).pause("a", tries));
            }
        }
        let different: HashSet<Duration> =
            (0..50).map(|seed| RetryScheduler::new(seed, Duration::ZERO).pause("a", 3)).collect();
        assert!(different.len() > 40, "{}", different.len());
    }

    #[test]
    fn a_gap_is_kept_also_after_a_failure() {
        let mut pace = RetryScheduler::new(1, s(3));
        pace.done("a", s(1));
        assert_eq!(next(&pace, &["b"], s(2)), Next::Wait(Some(s(2))));
        assert_eq!(next(&pace, &["b"], s(4)), Next::Try(0));
        pace.failed("b", false, None, s(4));
        assert_eq!(next(&pace, &["c"], s(4)), Next::Wait(Some(s(3))));
    }
}
