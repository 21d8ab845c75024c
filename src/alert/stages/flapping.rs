//! The flapping stage: detects an incident that opens and resolves repeatedly, and suppresses its notifications. Pure.
//!
//! The decision depends on times and changes only. The unit is a cycle: the shortest time in which a scenario can open
//! an incident, resolve it and open the next one, `(after + recover_after) × interval`. Five changes (the third
//! opening) within four cycles are flapping; after two cycles without a change the incident is steady again. This still
//! detects changes at half of the fastest possible pace; slower changes justify a notification each.

use std::collections::VecDeque;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::alert::context::Context;
use crate::alert::timers::{Timer, Timers};
use crate::incident::{DecisionReason, Incident};
use crate::names::suppressed;
use crate::scenario::{AlertPolicy, HumanDuration, Scenario};

/// Number of changes that count as flapping: the third opening is the first that is not notified as an opening.
const CHANGES: usize = 5;
/// Maximum time for this number of changes, in cycles.
const WITHIN: i32 = 4;
/// Time without a change after which the incident is steady, in cycles.
const STEADY: i32 = 2;
/// Minimum length of a cycle, regardless of the interval of the scenario.
const SHORTEST: TimeDelta = TimeDelta::seconds(30);
/// Maximum interval for the calculation of a cycle, so that notifications stay suppressed for hours at most.
const LONGEST_GAP: Duration = Duration::from_hours(1);

/// Recent openings and resolutions of a subject's incidents.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Flapping {
    changes: VecDeque<DateTime<Utc>>,
    /// Time at which the subject is steady unless there is another change; absent if it does not flap.
    steady_at: Option<DateTime<Utc>>,
}

/// Returns the length of a cycle: the shortest time from one opening to the next.
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
    /// Adds an opening or a resolution. Returns the note for the notification if flapping starts with this change.
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
        let quiet = HumanDuration((cycle * STEADY).to_std().unwrap_or_default());
        Some(format!("is flapping: {CHANGES} changes in {within}; no notifications until stable for {quiet}"))
    }

    /// Returns whether the subject flaps.
    pub fn is_on(&self) -> bool {
        self.steady_at.is_some()
    }

    /// Returns the time at which the subject is steady unless there is another change.
    pub fn steady_at(&self) -> Option<DateTime<Utc>> {
        self.steady_at
    }

    /// Ends the flapping if its time has come. Returns whether it ended.
    pub fn settle(&mut self, now: DateTime<Utc>) -> bool {
        let steady = self.steady_at.is_some_and(|at| at <= now);
        if steady {
            *self = Self::default();
        }
        steady
    }
}

/// Decision of the flapping stage about an opening or a resolution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FlapDecision {
    /// Notify, with a note.
    Notify(Option<String>),
    /// Suppress.
    Suppress,
}

impl Flapping {
    /// Decides about an incident of the scenario that opened or resolved. `is_grouped` is whether the subject is in a
    /// notification group.
    pub fn pass(
        &mut self,
        scenario: &Scenario,
        incident: &Incident,
        is_grouped: bool,
        context: &mut Context,
        now: DateTime<Utc>,
    ) -> FlapDecision {
        let subject = &incident.subject;
        let was_on = self.is_on();
        let cycle = cycle(&scenario.alert, scenario.schedule.shortest_gap(now));
        let begins = self.change(incident.is_open(), cycle, now);
        context.wake_at(self.steady_at, subject);
        if was_on && is_grouped {
            let what = if incident.is_open() { "opened" } else { "resolved" };
            let until = self.steady_at.unwrap_or(now).format("%T");
            context.effects.suppress(suppressed::FLAPPING, 1);
            let detail = format!("{what} again; no notifications until it is stable, at {until} at the earliest");
            context.effects.decide(subject, DecisionReason::Flapping, detail, now);
            return FlapDecision::Suppress;
        }
        if let Some(note) = &begins {
            context.effects.decide(subject, DecisionReason::Flapping, note.clone(), now);
        }
        FlapDecision::Notify(begins)
    }
}
