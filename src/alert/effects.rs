//! What a step of the pipeline leads to: to be written, told and counted by whoever called it.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use crate::incident::{Acknowledgement, Decision, Incident, Notice, Subject, Why};
use crate::scenario::ScenarioId;

/// What is to be written and told since it was last asked for.
#[derive(Debug, Default)]
pub struct Effects {
    /// Subjects whose watch changed, and with it perhaps the incident that is open: a storm changes one over and over,
    /// so it is taken from the pipeline only when it is written.
    pub watches: BTreeSet<Subject>,
    /// Incidents that are over.
    pub over: Vec<Incident>,
    /// Receivers that open incidents have reached beside those of their route.
    pub reached: Vec<(Subject, Vec<String>)>,
    /// Who works on open incidents, where that has changed.
    pub acknowledged: Vec<(Subject, Option<Acknowledgement>)>,
    /// What was decided, in order.
    pub decisions: Vec<Decision>,
    /// What is owed, in order, but for the stage of the limit.
    pub told: Vec<Notice>,
    /// What is owed, in order.
    pub notices: Vec<Notice>,
    /// What was not told, by reason.
    pub suppressed: BTreeMap<&'static str, u64>,
    /// What is to be run at once, because the state of others hangs on it.
    pub look: BTreeSet<ScenarioId>,
    /// The share of error budgets that remains; below 0 where more is used than there was.
    pub budgets: BTreeMap<ScenarioId, f64>,
}

impl Effects {
    /// Keeps a decision that no single run led to.
    pub fn decide(&mut self, subject: &Subject, why: Why, detail: impl Into<String>, now: DateTime<Utc>) {
        self.decisions.push(Decision { subject: subject.clone(), why, detail: detail.into(), run: None, at: now });
    }

    /// Counts what was not told.
    pub fn suppress(&mut self, reason: &'static str, count: usize) {
        *self.suppressed.entry(reason).or_default() += count as u64;
    }
}
