//! Shared context of the stages of the pipeline: configuration, timers and effects. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::effects::Effects;
use crate::incident::Subject;
use crate::notify::Alerting;
use crate::scenario::{Scenario, ScenarioId};

/// All loaded scenarios, by id.
pub type Scenarios = Arc<BTreeMap<ScenarioId, Arc<Scenario>>>;

/// Subject or mute that a timer belongs to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum TimerKey {
    /// Flapping and suppression of a subject.
    Subject(Subject),
    /// End of the mute with this id.
    Mute(String),
}

/// Configuration, timers and effects of a pipeline.
#[derive(Debug, Default)]
pub struct Context {
    /// Loaded scenarios.
    pub scenarios: Scenarios,
    /// Alerting configuration.
    pub alerting: Arc<Alerting>,
    /// Times at which subjects and mutes have to be checked again. Outdated entries are harmless.
    pub timers: BTreeSet<(DateTime<Utc>, TimerKey)>,
    /// Keys of stored entries that changed since the last write: mutes, suppressed incidents and names.
    pub touched: BTreeSet<String>,
    /// Effects since they were last taken.
    pub effects: Effects,
}

impl Context {
    /// Adds a timer for a subject, if there is a time.
    pub fn wake_at(&mut self, at: Option<DateTime<Utc>>, subject: &Subject) {
        self.timers.extend(at.map(|at| (at, TimerKey::Subject(subject.clone()))));
    }
}
