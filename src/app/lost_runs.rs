//! Planned runs without an outcome, left by a killed agent.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Parts, Resumed};
use crate::alert::CommitterHandle;
use crate::names::Reason;
use crate::outcome::{Outcome, Verdict};
use crate::secret::Masked;
use crate::store::{PlannedRun, Runs as _, StoreError};

impl Parts {
    /// Closes the planned runs whose due time has passed as `unknown (lost)`. Returns those with a due time in the
    /// future, which keep their ids.
    pub(super) async fn close_lost(&self, intake: &CommitterHandle) -> Result<Resumed, StoreError> {
        let now = Utc::now();
        let mut resumed = Resumed::new();
        let mut closing = Vec::new();
        let mut closed = BTreeMap::new();
        for intent in self.store.open_planned_runs(&self.location).await? {
            if intent.due_at > now {
                resumed.insert((intent.scenario, intent.due_at), intent.run);
            } else {
                let scenario = self.scenarios.borrow().get(&intent.scenario).cloned();
                // Destinations distinguish the runs of a scenario by their end.
                let before = closed.entry(intent.scenario.clone()).or_insert(0);
                let ended_at = now + TimeDelta::milliseconds(*before);
                *before += 1;
                closing.extend(self.fan_out(lost(intent, ended_at), scenario.as_ref(), intake));
            }
        }
        // All of them are stored in one commit or a few, and evaluated before any new run.
        for written in closing {
            let _ = written.await;
        }
        Ok(resumed)
    }
}

fn lost(intent: PlannedRun, ended_at: DateTime<Utc>) -> Outcome {
    Outcome {
        run: intent.run,
        seq: 0,
        streak: None,
        scenario: intent.scenario,
        name: intent.name,
        kind: intent.kind,
        location: intent.location,
        due_at: intent.due_at,
        started_at: intent.due_at,
        ended_at,
        duration: std::time::Duration::ZERO,
        verdict: Verdict::Unknown,
        reason: Some(Reason::Lost),
        message: Some(Masked::constant("the agent stopped before the run ended")),
        failed_step: None,
        steps: Vec::new(),
        evidence: Vec::new(),
        browser: None,
        differences: Vec::new(),
    }
}
