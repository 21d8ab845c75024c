//! Reaction of the pipeline to changes of the wall clock.

use chrono::{DateTime, TimeDelta, Utc};

use super::{Pipeline, SuppressedIncident, Suppression, TimerKey};
use crate::alert::mute;
use crate::alert::timers::{Timer, Timers, set_back};
use crate::incident::Subject;

impl Timers for Pipeline {
    fn timers(&mut self, visit: &mut dyn FnMut(Timer<'_>)) {
        self.alert_states.values_mut().for_each(|watch| watch.timers(visit));
        self.agent.timers(visit);
        self.former.values_mut().for_each(|watch| watch.timers(visit));
        self.budgets.alert_states.values_mut().for_each(|watch| watch.timers(visit));
        self.mutes.values_mut().for_each(|mute| mute.timers(visit));
        self.held.values_mut().for_each(|waiting| waiting.timers(visit));
        self.limits.timers(visit);
        self.groups.timers(visit);
    }
}

impl Pipeline {
    /// Adjusts the timers after the clock was set by `by` and shows `now`. Every timer keeps its remaining time.
    pub fn clock_set(&mut self, by: TimeDelta, now: DateTime<Utc>) {
        self.move_timers(by);
        self.groups.timers_moved();
        self.budgets.clock_set(by);
        self.timers.clear();
        for (subject, watch) in &self.alert_states {
            self.timers.extend(watch.flapping.steady_at().map(|at| (at, TimerKey::Subject(subject.clone()))));
        }
        for (id, mute) in &self.mutes {
            self.timers.insert((mute.until, TimerKey::Mute(id.clone())));
        }
        let muted = |subject: &Subject| mute::muted(&self.alerting, &self.mutes, self.incident(subject)?, now);
        let until: Vec<_> = self.held.keys().filter_map(|subject| Some((subject.clone(), muted(subject)?))).collect();
        for (subject, muted) in until {
            if let Some(Suppression::Muted { mute, until }) =
                self.held.get_mut(&subject).map(|waiting| &mut waiting.hold)
                && *mute == muted.id
            {
                *until = muted.until;
            }
        }
        let due = |(subject, waiting): (&Subject, &SuppressedIncident)| {
            Some((waiting.hold.until()?, TimerKey::Subject(subject.clone())))
        };
        self.timers.extend(self.held.iter().filter_map(due));
        // Windows of wall time may have started or ended.
        if self.ready {
            let muted = self.held.iter().filter(|(_, waiting)| matches!(waiting.hold, Suppression::Muted { .. }));
            for subject in muted.map(|(subject, _)| subject.clone()).collect::<Vec<_>>() {
                self.reconsider(&subject, now);
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
