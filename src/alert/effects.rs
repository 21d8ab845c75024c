//! Effects of a step of the pipeline, which its caller has to store, send and count.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use crate::incident::{Acknowledgement, Decision, DecisionReason, Incident, Notification, Subject};
use crate::scenario::ScenarioId;

/// Effects since they were last taken.
#[derive(Debug, Default)]
pub struct Effects {
    /// Subjects whose alert state changed, possibly with their open incident. The state itself is read from the
    /// pipeline only when it is written, because an alert storm changes the same state many times.
    pub alert_states: BTreeSet<Subject>,
    /// Resolved incidents.
    pub resolved_incidents: Vec<Incident>,
    /// Receivers that were notified of open incidents in addition to those of the route.
    pub reached: Vec<(Subject, Vec<String>)>,
    /// Open incidents whose acknowledgement changed, with the new one.
    pub acknowledged: Vec<(Subject, Option<Acknowledgement>)>,
    /// Decisions in order.
    pub decisions: Vec<Decision>,
    /// Notifications in order, before the rate limit stage.
    pub before_limit: Vec<Notification>,
    /// Notifications to queue, in order, after the rate limit stage.
    pub notifications: Vec<Notification>,
    /// Number of suppressed notifications by reason.
    pub suppressed: BTreeMap<&'static str, u64>,
    /// Scenarios to run at once, because decisions about others depend on their state.
    pub run_now: BTreeSet<ScenarioId>,
    /// Remaining share of each error budget, negative if it is overspent.
    pub budgets: BTreeMap<ScenarioId, f64>,
}

impl Effects {
    /// Adds a decision that no single run led to.
    pub fn decide(&mut self, subject: &Subject, why: DecisionReason, detail: impl Into<String>, now: DateTime<Utc>) {
        self.decisions.push(Decision {
            subject: subject.clone(),
            reason: why,
            detail: detail.into(),
            run: None,
            at: now,
        });
    }

    /// Counts suppressed notifications.
    pub fn suppress(&mut self, reason: &'static str, count: usize) {
        *self.suppressed.entry(reason).or_default() += count as u64;
    }
}
