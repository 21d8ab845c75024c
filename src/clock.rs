//! Monotonic time besides the wall clock; detects changes of the wall clock and suspensions of the agent.
//!
//! Invariant: durations are measured by [`elapsed`], which continues while the machine sleeps and is never set. Times
//! shown to people and other systems come from the wall clock, [`Utc::now`].

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use nix::time::{ClockId, clock_gettime};
use tokio::sync::watch;

/// Interval of comparing the clocks.
const TICK: Duration = Duration::from_millis(250);
/// Maximum delay of a tick. After a longer one the agent is considered to have been suspended.
const MAX_DELAY: Duration = Duration::from_secs(2);
/// Maximum deviation of the wall clock from the elapsed time; a larger one means that the clock was set. Slewing a
/// clock stays below.
pub const MAX_DRIFT: TimeDelta = TimeDelta::seconds(1);
/// Maximum number of pauses in the history, which covers more time than any run takes.
const PAUSES: usize = 32;

/// Returns the time since the machine was started, including sleep. This clock is never set and never goes back.
pub fn elapsed() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default()
}

/// Returns the deviation of the wall clock from the elapsed time if it is so large that the clock must have been set.
pub fn drift(wall: TimeDelta, elapsed: Duration) -> Option<TimeDelta> {
    let elapsed = TimeDelta::from_std(elapsed).unwrap_or(TimeDelta::MAX);
    let drift = wall.checked_sub(&elapsed)?;
    (drift.abs() > MAX_DRIFT).then_some(drift)
}

/// Period in which the agent did not run, measured by [`elapsed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pause {
    from: Duration,
    until: Duration,
}

#[derive(Debug)]
struct State {
    elapsed: Duration,
    wall: DateTime<Utc>,
    pauses: VecDeque<Pause>,
}

/// Observation of the clock watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    /// The agent did not run for this duration.
    Paused(Duration),
    /// The wall clock was set by this amount.
    Set(TimeDelta),
}

impl State {
    /// Compares the clocks with their previous values.
    fn observe(&mut self, elapsed: Duration, wall: DateTime<Utc>) -> Vec<Event> {
        let mut events = Vec::new();
        let passed = elapsed.saturating_sub(self.elapsed);
        if passed > TICK + MAX_DELAY {
            self.pauses.push_back(Pause { from: self.elapsed, until: elapsed });
            if self.pauses.len() > PAUSES {
                self.pauses.pop_front();
            }
            events.push(Event::Paused(passed));
        }
        events.extend(drift(wall - self.wall, passed).map(Event::Set));
        (self.elapsed, self.wall) = (elapsed, wall);
        events
    }

    /// Returns the total time that the agent did not run between two points in time, including a pause that has not
    /// been noticed by a tick yet.
    fn paused_between(&self, from: Duration, until: Duration) -> Duration {
        let late = Pause { from: self.elapsed, until };
        let late = Some(late).filter(|late| late.until.saturating_sub(late.from) > TICK + MAX_DELAY);
        let within = |pause: &Pause| pause.until.min(until).saturating_sub(pause.from.max(from));
        self.pauses.iter().chain(&late).map(within).sum()
    }
}

/// Watch of the clocks on a separate thread, which nothing else in the agent can block. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ClockWatch {
    state: Arc<Mutex<State>>,
    awake_since: watch::Receiver<DateTime<Utc>>,
    set_by: watch::Receiver<TimeDelta>,
    started: (Duration, DateTime<Utc>),
}

impl ClockWatch {
    /// Starts the watch. The thread ends when the last clone is dropped.
    pub fn start() -> std::io::Result<Self> {
        let started = (elapsed(), Utc::now());
        let state = State { elapsed: started.0, wall: started.1, pauses: VecDeque::new() };
        let state = Arc::new(Mutex::new(state));
        let (awake, awake_since) = watch::channel(started.1);
        let (set, set_by) = watch::channel(TimeDelta::zero());
        let observed = Arc::downgrade(&state);
        std::thread::Builder::new().name("clock".into()).spawn(move || {
            loop {
                std::thread::sleep(TICK);
                let Some(state) = observed.upgrade() else { return };
                let now = Utc::now();
                let events = state.lock().unwrap_or_else(PoisonError::into_inner).observe(elapsed(), now);
                for event in events {
                    match event {
                        Event::Paused(length) => tracing::warn!(
                            seconds = length.as_secs_f64(),
                            "the agent was suspended: runs during that time are unknown"
                        ),
                        Event::Set(by) => {
                            tracing::warn!(
                                seconds = by.as_seconds_f64(),
                                "the clock was changed: schedules continue by elapsed time"
                            );
                            set.send_modify(|total| *total = total.checked_add(&by).unwrap_or(*total));
                        }
                    }
                    awake.send_replace(now);
                }
            }
        })?;
        Ok(Self { state, awake_since, set_by, started })
    }

    /// Returns the time since which the agent has run without a pause, according to the present wall clock.
    pub fn awake_since(&self) -> watch::Receiver<DateTime<Utc>> {
        self.awake_since.clone()
    }

    /// Returns the sum of all changes of the wall clock since the start.
    pub fn set_by(&self) -> watch::Receiver<TimeDelta> {
        self.set_by.clone()
    }

    /// Returns the total time that the agent did not run between a point in time, measured by [`elapsed`], and now.
    pub fn paused_since(&self, from: Duration) -> Duration {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).paused_between(from, elapsed())
    }

    /// Returns the present time, but not more than the time elapsed since the start: setting the clock forward must not
    /// cause deletions by age.
    pub fn cautious_now(&self) -> DateTime<Utc> {
        let (began, wall) = self.started;
        let passed = TimeDelta::from_std(elapsed().saturating_sub(began)).unwrap_or(TimeDelta::MAX);
        wall.checked_add_signed(passed).map_or(Utc::now(), |expected| expected.min(Utc::now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn wall(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
    }

    #[test]
    fn clocks_that_go_apart_are_noticed() {
        // Elapsed seconds, seconds on the wall clock, and the resulting events.
        let rows: [(u64, i64, &[Event]); 7] = [
            (1, 1, &[]),
            (1, 2, &[]),
            (1, 3601, &[Event::Set(TimeDelta::hours(1))]),
            (1, -3599, &[Event::Set(TimeDelta::hours(-1))]),
            (600, 600, &[Event::Paused(s(600))]),
            (600, 87_000, &[Event::Paused(s(600)), Event::Set(TimeDelta::days(1))]),
            (0, 2, &[Event::Set(TimeDelta::seconds(2))]),
        ];
        for (passed, shown, expected) in rows {
            let mut state = State { elapsed: s(100), wall: wall(0), pauses: VecDeque::new() };
            assert_eq!(state.observe(s(100 + passed), wall(shown)), expected, "{passed} {shown}");
            assert_eq!(state.observe(s(101 + passed), wall(shown + 1)), [], "and no more");
        }
    }

    #[test]
    fn a_pause_counts_for_what_it_overlaps() {
        let mut state = State { elapsed: s(100), wall: wall(0), pauses: VecDeque::new() };
        state.observe(s(120), wall(20));
        state.observe(s(121), wall(21));
        for (from, until, expected) in
            [(90, 99, 0), (90, 110, 10), (105, 110, 5), (100, 121, 20), (119, 121, 1), (120, 122, 0), (122, 123, 0)]
        {
            assert_eq!(state.paused_between(s(from), s(until)), s(expected), "{from} to {until}");
        }
        // Before the next tick has noticed the pause.
        assert_eq!(state.paused_between(s(121), s(141)), s(20));
        for n in 0..100 {
            state.observe(s(200 + n * 10), wall(0));
        }
        assert!(state.pauses.len() <= PAUSES);
    }
}
