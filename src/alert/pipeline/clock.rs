//! Reaction of the pipeline to changes of the wall clock.

use chrono::{DateTime, TimeDelta, Utc};

use super::Pipeline;
use crate::alert::timers::{Timer, Timers, set_back};
use crate::incident::Subject;

impl Timers for Pipeline {
    fn timers(&mut self, visit: &mut dyn FnMut(Timer<'_>)) {
        self.states.timers(visit);
        self.suppressions.timers(visit);
        self.limits.timers(visit);
        self.groups.timers(visit);
    }
}

impl Pipeline {
    /// Adjusts the timers after the clock was set by `by` and shows `now`. Every timer keeps its remaining time.
    pub fn clock_set(&mut self, by: TimeDelta, now: DateTime<Utc>) {
        self.move_timers(by);
        self.groups.timers_moved();
        self.states.budgets.clock_set(by);
        self.context.timers.clear();
        for (id, state) in &self.states.scenarios {
            self.context.wake_at(state.flapping.steady_at(), &Subject::from(id));
        }
        self.suppressions.timers_moved(&self.states, &mut self.context, now);
        // Windows of wall time may have started or ended.
        if self.ready {
            for subject in self.suppressions.muted_subjects() {
                self.recheck(&subject, now);
            }
            self.limit(now);
        }
        self.touch_all();
    }

    /// Adjusts the restored timers at a start if the clock was set back while the agent was stopped: they continue with
    /// their remaining time. Returns the minimum amount by which it was set back.
    pub fn restored(&mut self, now: DateTime<Utc>) -> Option<TimeDelta> {
        let by = set_back(self.latest(), now)?;
        self.clock_set(by, now);
        Some(by)
    }
}
