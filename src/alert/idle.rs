//! Scenarios that do not run although they were not removed. Pure.

use std::collections::BTreeSet;
use std::path::Path;

use crate::scenario::ScenarioId;

/// Scenarios that do not run although they were not removed, as of the last load of the files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Idle {
    /// Files, folders and scenario ids that are unusable, with the problem.
    pub refused: Vec<(String, String)>,
    /// Scenarios with `enabled: false`.
    pub paused: BTreeSet<ScenarioId>,
}

impl Idle {
    /// Returns the file, folder or id that prevents a scenario from running, with the problem.
    pub fn why_refused(&self, id: &str, source: Option<&str>) -> Option<&(String, String)> {
        let of = |(what, _): &&(String, String)| {
            what == id || source.is_some_and(|source| Path::new(source).starts_with(what))
        };
        self.refused.iter().find(of)
    }
}
