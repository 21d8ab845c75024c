//! What a killed agent left behind: planned runs without an outcome.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Parts, Resumed};
use crate::alert::Intake;
use crate::names::Reason;
use crate::outcome::{Outcome, Verdict};
use crate::secret::Masked;
use crate::store::{Intent, Runs as _, StoreError};

impl Parts {
    /// A planned run whose time has passed is closed as `unknown (lost)`; one whose time is ahead keeps its id.
    pub(super) async fn close_lost(&self, intake: &Intake) -> Result<Resumed, StoreError> {
        let now = Utc::now();
        let mut resumed = Resumed::new();
        let mut closing = Vec::new();
        let mut closed = BTreeMap::new();
        for intent in self.store.open_intents(&self.location).await? {
            if intent.due_at > now {
                resumed.insert((intent.scenario, intent.due_at), intent.run);
            } else {
                let scenario = self.scenarios.borrow().get(&intent.scenario).cloned();
                // Destinations tell the runs of a scenario apart by when they ended.
                let before = closed.entry(intent.scenario.clone()).or_insert(0);
                let ended_at = now + TimeDelta::milliseconds(*before);
                *before += 1;
                closing.extend(self.fan_out(lost(intent, ended_at), scenario.as_ref(), intake));
            }
        }
        // All of them in one commit or few, and judged before anything new runs.
        for written in closing {
            let _ = written.await;
        }
        Ok(resumed)
    }
}

fn lost(intent: Intent, ended_at: DateTime<Utc>) -> Outcome {
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
        message: Some(Masked::constant("the agent went away before the run ended")),
        failed_step: None,
        steps: Vec::new(),
        evidence: Vec::new(),
        browser: None,
        differences: Vec::new(),
    }
}
