//! Timers of the alert pipeline, and their adjustment when the wall clock is set. Pure.
//!
//! Timers are stored as wall clock times, because they outlive the process. When the clock is set, all of them are
//! moved by the same amount, so that each timer keeps its remaining time. Times that are shown to people are not
//! changed. In detail:
//!
//! | time | when the clock is set |
//! |---|---|
//! | group wait and interval, reminders, escalation, the five minutes and the hour in which a group becomes wide | moved |
//! | flapping: changes, and the time at which it is steady | moved |
//! | votes of locations; the last run of a parent that a child waits for; the 30 seconds of this wait | moved |
//! | unknown runs of the last five minutes, duration of problems with files | moved |
//! | windows of error budgets, earliest end of an objective's incident | moved |
//! | notifications of the last hour counted by a rate limit, those that wait for a digest | moved |
//! | end of an acknowledgement, silence or maintenance window with a given duration | moved |
//! | maintenance windows in the configuration, `during` of routes, silences and maintenance | wall time |
//! | times of openings, acknowledgements, resolutions, decisions and queued notifications | wall time |

use std::collections::VecDeque;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::clock::{MAX_DRIFT, drift};
use crate::incident::Incident;
use crate::outcome::Outcome;

/// Maximum number of clock changes stored for runs that started before them.
const MAX_CHANGES: usize = 8;
/// Time for which clock changes are stored, longer than any run takes.
const REMEMBERED: Duration = Duration::from_hours(2);

/// Time of a timer.
#[derive(Debug)]
pub enum Timer<'a> {
    /// Time of a past event, never in the future.
    Since(&'a mut DateTime<Utc>),
    /// Time of a future event.
    Due(&'a mut DateTime<Utc>),
}

/// State with timers.
pub trait Timers {
    /// Calls `visit` with the time of every timer.
    fn timers(&mut self, visit: &mut dyn FnMut(Timer<'_>));

    /// Moves all timers.
    fn move_timers(&mut self, by: TimeDelta) {
        self.timers(&mut |timer| {
            let (Timer::Since(at) | Timer::Due(at)) = timer;
            *at = moved(*at, by);
        });
    }

    /// Returns the time of the latest past event.
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

/// The expiry of an acknowledgement is the only timer of an incident.
impl Timers for Option<Incident> {
    fn timers(&mut self, visit: &mut dyn FnMut(Timer<'_>)) {
        let acknowledged = self.as_mut().and_then(|open| open.acknowledged.as_mut());
        acknowledged.and_then(|who| who.until.as_mut()).into_iter().for_each(|at| visit(Timer::Due(at)));
    }
}

/// Returns the moved time, or the time itself if the result is out of range.
fn moved(at: DateTime<Utc>, by: TimeDelta) -> DateTime<Utc> {
    at.checked_add_signed(by).unwrap_or(at)
}

/// Returns the amount by which the clock was set back while the agent was stopped, if it shows an earlier time than
/// that of the latest event.
pub fn set_back(latest: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Option<TimeDelta> {
    latest.map(|latest| now - latest).filter(|by| *by < -MAX_DRIFT)
}

/// Detector of clock changes, which compares the wall clock with the elapsed time.
#[derive(Debug)]
pub struct ClockChanges {
    wall: DateTime<Utc>,
    elapsed: Duration,
    /// Clock changes, oldest first: elapsed time of the change, and its amount.
    changes: VecDeque<(Duration, TimeDelta)>,
}

impl ClockChanges {
    /// Creates a detector with the current clocks.
    pub fn new(wall: DateTime<Utc>, elapsed: Duration) -> Self {
        Self { wall, elapsed, changes: VecDeque::new() }
    }

    /// Compares the clocks with those of the last call. Returns the amount by which the wall clock was set in between,
    /// if it was.
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

    /// Returns the outcome with its times converted to the present clock, if it started before the clock was set. The
    /// original times are those of the clock at its start.
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
