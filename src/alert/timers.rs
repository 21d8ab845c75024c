//! The instants that the timers of the pipeline go by, and what becomes of them when the wall clock is set. Pure.
//!
//! Timers are kept as instants of the wall clock, since they outlive the process. When the clock is set, all of them are
//! moved by as much, so that each ends after the time that it was meant to last. Instants that people are shown stay as
//! they are. Which is which:
//!
//! | instant | when the clock is set |
//! |---|---|
//! | group wait and interval, reminders, escalation, the five minutes and the hour in which a group becomes wide | moved |
//! | flapping: changes, and when it is steady | moved |
//! | votes of locations; the last run of a parent that a child waits for; the 30 seconds in which it waits | moved |
//! | unknown runs of the last five minutes, how long files have been wrong | moved |
//! | windows of error budgets, until when an objective's incident stays open | moved |
//! | notices of the last hour that a limit counts, what waits for a digest | moved |
//! | the end of an acknowledgement, a silence or maintenance that was given a length | moved |
//! | windows of maintenance in the configuration, `during` of routes, silences and maintenance | wall time |
//! | when an incident opened, was acknowledged, resolved; when a decision was made, a notice queued | wall time |

use std::collections::VecDeque;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::clock::{MAX_DRIFT, drift};
use crate::outcome::Outcome;

/// How many changes of the clock are remembered for runs that began before them.
const MAX_CHANGES: usize = 8;
/// How long they are remembered; longer than any run takes.
const REMEMBERED: Duration = Duration::from_hours(2);

/// An instant that a timer goes by.
#[derive(Debug)]
pub enum Timer<'a> {
    /// Something happened then: it is never in the future.
    Since(&'a mut DateTime<Utc>),
    /// Something is to happen then.
    Due(&'a mut DateTime<Utc>),
}

/// State that has timers.
pub trait Timers {
    /// Calls `visit` with every instant that a timer goes by.
    fn timers(&mut self, visit: &mut dyn FnMut(Timer<'_>));

    /// Moves all of them.
    fn move_timers(&mut self, by: TimeDelta) {
        self.timers(&mut |timer| {
            let (Timer::Since(at) | Timer::Due(at)) = timer;
            *at = moved(*at, by);
        });
    }

    /// Returns the latest instant at which something happened.
    fn latest(&mut self) -> Option<DateTime<Utc>> {
        let mut latest = None;
        self.timers(&mut |timer| {
            if let Timer::Since(at) = timer {
                latest = latest.max(Some(*at));
            }
        });
        latest
    }
}

/// Returns an instant moved, as far as there are instants.
fn moved(at: DateTime<Utc>, by: TimeDelta) -> DateTime<Utc> {
    at.checked_add_signed(by).unwrap_or(at)
}

/// Returns by how much the clock was set back while the agent did not run, if it shows less than what happened before.
pub fn set_back(latest: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Option<TimeDelta> {
    latest.map(|latest| now - latest).filter(|by| *by < -MAX_DRIFT)
}

/// Compares the wall clock with the time that passes.
#[derive(Debug)]
pub struct ClockChanges {
    wall: DateTime<Utc>,
    elapsed: Duration,
    /// By how much the clock was set, and when, by the time that passes; oldest first.
    changes: VecDeque<(Duration, TimeDelta)>,
}

impl ClockChanges {
    /// Begins with what the clocks show now.
    pub fn new(wall: DateTime<Utc>, elapsed: Duration) -> Self {
        Self { wall, elapsed, changes: VecDeque::new() }
    }

    /// Compares the clocks with what they showed last. Returns by how much the wall clock was set in between, if it was.
    pub fn observe(&mut self, wall: DateTime<Utc>, elapsed: Duration) -> Option<TimeDelta> {
        let set_by = drift(wall - self.wall, elapsed.saturating_sub(self.elapsed));
        (self.wall, self.elapsed) = (wall, elapsed);
        self.changes.retain(|(at, _)| elapsed.saturating_sub(*at) < REMEMBERED);
        if let Some(by) = set_by {
            self.changes.push_back((elapsed, by));
            if self.changes.len() > MAX_CHANGES {
                self.changes.pop_front();
            }
        }
        set_by
    }

    /// Returns an outcome in the time that the clock shows now, if it began before the clock was set: its times are those
    /// of the clock at its start.
    pub fn in_present_time(&self, outcome: &Outcome) -> Option<Outcome> {
        let mut by = TimeDelta::zero();
        let mut best = (TimeDelta::zero(), (self.wall - outcome.ended_at).abs());
        for (_, change) in self.changes.iter().rev() {
            by = by.checked_add(change)?;
            let distance = (self.wall - moved(outcome.ended_at, by)).abs();
            if distance < best.1 {
                best = (by, distance);
            }
        }
        let by = best.0;
        (!by.is_zero()).then(|| Outcome {
            started_at: moved(outcome.started_at, by),
            ended_at: moved(outcome.ended_at, by),
            ..outcome.clone()
        })
    }
}
