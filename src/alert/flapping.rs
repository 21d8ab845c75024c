//! Flapping: an incident that opens and resolves over and over. Pure.
//!
//! Decided by time and changes. The yardstick is a cycle: the shortest time in which a scenario can open an incident,
//! resolve it and open the next one, `(after + recover_after) × its interval`. Five changes (the third opening) within
//! four cycles are flapping; two cycles without a change are steady again. What changes at half of the fastest
//! possible pace is still caught, and what is slower is worth a notice each time.

use std::collections::VecDeque;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::timers::{Timer, Timers};
use crate::scenario::{AlertPolicy, Pretty};

/// So many changes are flapping: the third opening is the first that is not told as such.
const CHANGES: usize = 5;
/// Within so many cycles.
const WITHIN: i32 = 4;
/// So many cycles without a change are steady.
const STEADY: i32 = 2;
/// The shortest cycle, however often a scenario is run.
const SHORTEST: TimeDelta = TimeDelta::seconds(30);
/// The longest interval that is reckoned with: a night of silence is long enough for anyone.
const LONGEST_GAP: Duration = Duration::from_hours(1);

/// When an incident opened and resolved lately.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Flapping {
    changes: VecDeque<DateTime<Utc>>,
    /// When it is steady if nothing changes before; none: it does not flap.
    steady_at: Option<DateTime<Utc>>,
}

/// The shortest time from one opening to the next.
pub fn cycle(policy: &AlertPolicy, gap: Option<Duration>) -> TimeDelta {
    let gap = TimeDelta::from_std(gap.unwrap_or(LONGEST_GAP).min(LONGEST_GAP)).unwrap_or(TimeDelta::hours(1));
    let runs = i32::try_from(policy.after + policy.recover_after).unwrap_or(i32::MAX);
    (gap * runs).max(SHORTEST)
}

impl Timers for Flapping {
    fn timers(&mut self, visit: &mut dyn FnMut(Timer<'_>)) {
        self.changes.iter_mut().for_each(|at| visit(Timer::Since(at)));
        self.steady_at.iter_mut().for_each(|at| visit(Timer::Due(at)));
    }
}

impl Flapping {
    /// An incident opened or resolved. Gives what is to be said when it begins to flap with this.
    pub fn change(&mut self, opened: bool, cycle: TimeDelta, now: DateTime<Utc>) -> Option<String> {
        self.changes.push_back(now);
        while self.changes.len() > CHANGES {
            self.changes.pop_front();
        }
        if self.steady_at.is_some() {
            self.steady_at = Some(now + cycle * STEADY);
            return None;
        }
        let since = now - *self.changes.front()?;
        if !opened || self.changes.len() < CHANGES || since > cycle * WITHIN {
            return None;
        }
        self.steady_at = Some(now + cycle * STEADY);
        let minutes = since.num_minutes();
        let within = if minutes < 2 { format!("{}s", since.num_seconds()) } else { format!("{minutes}m") };
        let quiet = Pretty((cycle * STEADY).to_std().unwrap_or_default());
        Some(format!("is flapping: {CHANGES} changes in {within}; silent until nothing has changed for {quiet}"))
    }

    /// Whether it flaps.
    pub fn is_on(&self) -> bool {
        self.steady_at.is_some()
    }

    /// When it is steady if nothing changes before.
    pub fn steady_at(&self) -> Option<DateTime<Utc>> {
        self.steady_at
    }

    /// Whether it has become steady by now; it does not flap from then on.
    pub fn settle(&mut self, now: DateTime<Utc>) -> bool {
        let steady = self.steady_at.is_some_and(|at| at <= now);
        if steady {
            *self = Self::default();
        }
        steady
    }
}
