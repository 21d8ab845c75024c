//! Reading through the buffer: the rows of the store, preceded by those that are not yet written. While the store
//! cannot be read, lists contain the rows in memory, and everything else is an error.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::Value as Json;

use super::{State, WriteBuffer};
use crate::incident::{Decision, Incident, Notification, Subject};
use crate::outcome::{Outcome, RunId};
use crate::store::{
    AttemptChange, Batch, CheckIn, CheckInState, CheckIns, Database, DecisionRecord, DeliveryStatus, DurationQuery,
    History, Incidents, NotificationRecord, Outbox, PlannedRun, ReceiverStateChange, Result, RunSummary, Runs,
    SlotCount, SlotCountQuery, StoreError,
};

impl WriteBuffer {
    pub(super) fn at_hand(&self) -> Result<Arc<dyn Database>> {
        self.database().ok_or_else(|| StoreError::unavailable("it is being reopened"))
    }

    /// Returns the outcomes that are not yet written, newest first.
    fn waiting(&self, wanted: impl Fn(&Outcome) -> bool) -> Vec<Arc<Outcome>> {
        let state = self.shared.state();
        let in_flight = state.in_flight.iter().flat_map(|batch| batch.outcomes.iter());
        let mut waiting: Vec<Arc<Outcome>> =
            in_flight.chain(&state.pending.outcomes).filter(|outcome| wanted(outcome)).cloned().collect();
        drop(state);
        waiting.sort_by_key(|outcome| std::cmp::Reverse(outcome.ended_at));
        waiting
    }

    /// Replaces the stored outcome of each scenario by its newest matching waiting outcome, if this is newer.
    fn newest(&self, stored: Vec<Outcome>, wanted: impl Fn(&Outcome) -> bool) -> Vec<Outcome> {
        let mut newest: BTreeMap<_, Outcome> =
            stored.into_iter().map(|outcome| (outcome.scenario.clone(), outcome)).collect();
        for outcome in self.waiting(wanted).into_iter().rev() {
            let is_newer = newest.get(&outcome.scenario).is_none_or(|stored| stored.ended_at <= outcome.ended_at);
            if is_newer {
                newest.insert(outcome.scenario.clone(), Arc::unwrap_or_clone(outcome));
            }
        }
        newest.into_values().collect()
    }
}

/// Returns an empty list if the store cannot be read.
fn or_none<T>(read: Result<Vec<T>>) -> Vec<T> {
    read.unwrap_or_else(|error| {
        tracing::debug!(%error, "the store cannot be read; only what is in memory is shown");
        Vec::new()
    })
}

/// Returns the waiting rows of one kind, oldest first.
fn each<'s, T: 's>(
    state: &'s State,
    in_flight: impl Fn(&'s Batch) -> &'s [T],
    pending: impl Iterator<Item = &'s T>,
) -> impl Iterator<Item = &'s T> {
    state.in_flight.iter().flat_map(move |batch| in_flight(batch).iter()).chain(pending)
}

#[async_trait]
impl Runs for WriteBuffer {
    async fn commit(&self, batch: &Batch) -> Result<()> {
        self.accept(batch.clone()).await;
        Ok(())
    }

    async fn open_planned_runs(&self, location: &str) -> Result<Vec<PlannedRun>> {
        self.at_hand()?.open_planned_runs(location).await
    }

    async fn prune(&self, before: DateTime<Utc>) -> Result<Vec<RunId>> {
        let pruned = self.at_hand()?.prune(before).await?;
        self.shared.state().outbox.prune(before);
        Ok(pruned)
    }
}

#[async_trait]
impl History for WriteBuffer {
    async fn latest(&self) -> Result<Vec<Outcome>> {
        let stored = self.at_hand()?.latest().await?;
        Ok(self.newest(stored, |_| true))
    }

    async fn latest_conclusive(&self) -> Result<Vec<Outcome>> {
        self.at_hand()?.latest_conclusive().await
    }

    async fn recent(&self, scenario: Option<&str>, limit: u32) -> Result<Vec<Outcome>> {
        let stored = match self.at_hand() {
            Ok(database) => or_none(database.recent(scenario, limit).await),
            Err(error) => or_none(Err(error)),
        };
        let waiting = self.waiting(|outcome| scenario.is_none_or(|id| outcome.scenario.as_str() == id));
        let known: BTreeSet<RunId> = waiting.iter().map(|outcome| outcome.run).collect();
        let mut recent: Vec<Outcome> = waiting.into_iter().take(limit as usize).map(Arc::unwrap_or_clone).collect();
        recent.extend(stored.into_iter().filter(|outcome| !known.contains(&outcome.run)));
        recent.truncate(limit as usize);
        Ok(recent)
    }

    async fn run_summaries(&self, limit: u32) -> Result<Vec<RunSummary>> {
        let stored = match self.at_hand() {
            Ok(database) => or_none(database.run_summaries(limit).await),
            Err(error) => or_none(Err(error)),
        };
        let waiting = self.waiting(|_| true);
        if waiting.is_empty() {
            return Ok(stored);
        }
        let mut of_each: BTreeMap<_, Vec<RunSummary>> = BTreeMap::new();
        for recent in waiting.iter().map(|outcome| RunSummary::of(outcome)).chain(stored) {
            let rows = of_each.entry(recent.scenario.clone()).or_default();
            if rows.len() < limit as usize && rows.iter().all(|row| row.run != recent.run) {
                rows.push(recent);
            }
        }
        Ok(of_each.into_values().flatten().collect())
    }

    async fn durations(&self, asked: &DurationQuery<'_>) -> Result<Vec<(DateTime<Utc>, Duration)>> {
        self.at_hand()?.durations(asked).await
    }

    async fn slot_counts(&self, asked: &SlotCountQuery<'_>) -> Result<Vec<SlotCount>> {
        // Waiting outcomes were already counted by the caller when they were evaluated.
        self.at_hand()?.slot_counts(asked).await
    }

    async fn run(&self, run: RunId) -> Result<Option<Outcome>> {
        match self.waiting(|outcome| outcome.run == run).pop() {
            Some(outcome) => Ok(Some(Arc::unwrap_or_clone(outcome))),
            None => self.at_hand()?.run(run).await,
        }
    }
}

#[async_trait]
impl Incidents for WriteBuffer {
    async fn alert_states(&self) -> Result<Vec<(Subject, Json)>> {
        self.at_hand()?.alert_states().await
    }

    async fn alerting_entries(&self) -> Result<Vec<(String, Json)>> {
        let stored = match self.at_hand() {
            Ok(database) => or_none(database.alerting_entries().await),
            Err(error) => or_none(Err(error)),
        };
        let mut memory: BTreeMap<String, Json> = stored.into_iter().collect();
        let state = self.shared.state();
        let in_flight =
            state.in_flight.iter().flat_map(|batch| batch.alerting_entries.iter().map(|(key, body)| (key, body)));
        for (key, body) in in_flight.chain(state.pending.alerting_entries()) {
            match body {
                Some(body) => drop(memory.insert(key.clone(), body.clone())),
                None => drop(memory.remove(key)),
            }
        }
        drop(state);
        Ok(memory.into_iter().collect())
    }

    async fn incidents(&self, limit: u32) -> Result<Vec<Incident>> {
        let stored = match self.at_hand() {
            Ok(database) => or_none(database.incidents(limit).await),
            Err(error) => or_none(Err(error)),
        };
        let waiting: HashMap<String, Incident> = {
            let state = self.shared.state();
            let all = each(&state, |batch| &batch.incidents, state.pending.incidents.values());
            all.map(|incident| (incident.dedup_key(), incident.clone())).collect()
        };
        let stored = stored.into_iter().filter(|incident| !waiting.contains_key(&incident.dedup_key()));
        let mut incidents: Vec<Incident> = stored.collect();
        incidents.extend(waiting.values().cloned());
        incidents.sort_by_key(|incident| (!incident.is_open(), std::cmp::Reverse(incident.opened_at)));
        incidents.truncate(limit as usize);
        Ok(incidents)
    }

    async fn incident(&self, key: &str) -> Result<Option<Incident>> {
        let waiting = {
            let state = self.shared.state();
            each(&state, |batch| &batch.incidents, state.pending.incidents.values())
                .filter(|incident| incident.dedup_key() == key)
                .last()
                .cloned()
        };
        match waiting {
            Some(incident) => Ok(Some(incident)),
            None => self.at_hand()?.incident(key).await,
        }
    }

    async fn decisions(&self, subject: &Subject, limit: u32) -> Result<Vec<DecisionRecord>> {
        let mut decisions: Vec<DecisionRecord> = match self.at_hand() {
            Ok(database) => or_none(database.decisions(subject, limit).await),
            Err(error) => or_none(Err(error)),
        };
        decisions.reverse();
        let waiting: Vec<Decision> = {
            let state = self.shared.state();
            let all = each(&state, |batch| &batch.decisions, state.pending.decisions.iter());
            all.filter(|decision| decision.subject == *subject).cloned().collect()
        };
        for decision in waiting {
            match decisions.last_mut().filter(|last| last.decision.reason == decision.reason) {
                Some(last) => {
                    last.count += 1;
                    last.decision = decision;
                }
                None => decisions.push(DecisionRecord { first_at: decision.at, decision, count: 1 }),
            }
        }
        decisions.reverse();
        decisions.truncate(limit as usize);
        Ok(decisions)
    }
}

#[async_trait]
impl Outbox for WriteBuffer {
    async fn queued(&self, receiver: &str, limit: u32) -> Result<Vec<Notification>> {
        Ok(self.shared.state().outbox.queued(receiver, limit))
    }

    async fn receivers_with_queued(&self) -> Result<Vec<String>> {
        Ok(self.shared.state().outbox.receivers_with_queued())
    }

    async fn attempt_started(&self, notification: &str) -> Result<()> {
        let attempts = vec![(notification.to_owned(), AttemptChange::Started, Utc::now())];
        self.accept(Batch { attempts, ..Batch::default() }).await;
        Ok(())
    }

    async fn attempt_finished(&self, notification: &str, delivery: &DeliveryStatus, at: DateTime<Utc>) -> Result<()> {
        let attempts = vec![(notification.to_owned(), AttemptChange::Finished(delivery.clone()), at)];
        self.accept(Batch { attempts, ..Batch::default() }).await;
        Ok(())
    }

    async fn notifications(&self, incident: &str) -> Result<Vec<NotificationRecord>> {
        let mut notifications = match self.at_hand() {
            Ok(database) => or_none(database.notifications(incident).await),
            Err(error) => or_none(Err(error)),
        };
        let state = self.shared.state();
        for notification in each(&state, |batch| &batch.notifications, state.pending.notifications.iter()) {
            if notification.key == incident
                && notifications.iter().all(|known| known.notification.id != notification.id)
            {
                let queued = NotificationRecord {
                    notification: notification.clone(),
                    state: "queued".into(),
                    done_at: None,
                    problem: None,
                };
                notifications.push(queued);
            }
        }
        for (id, change, at) in each(&state, |batch| &batch.attempts, state.pending.attempts.iter()) {
            let Some(known) = notifications.iter_mut().find(|known| known.notification.id == *id) else { continue };
            match change {
                AttemptChange::Started => {}
                AttemptChange::Finished(DeliveryStatus::Delivered) => {
                    (known.state, known.done_at, known.problem) = ("sent".into(), Some(*at), None);
                }
                AttemptChange::Finished(DeliveryStatus::Failed(problem)) => {
                    (known.state, known.done_at) = ("failed".into(), Some(*at));
                    known.problem = Some(problem.clone());
                }
                AttemptChange::Finished(DeliveryStatus::Retryable(problem) | DeliveryStatus::Uncertain(problem)) => {
                    known.problem = Some(problem.clone());
                }
            }
        }
        Ok(notifications)
    }

    async fn receiver_state(&self, receiver: &str, key: &str) -> Result<Option<Json>> {
        Ok(self.shared.state().outbox.receiver_state(receiver, key))
    }

    async fn receiver_states(&self, receiver: &str) -> Result<Vec<(String, Json)>> {
        Ok(self.shared.state().outbox.receiver_states(receiver))
    }

    async fn set_receiver_state(
        &self,
        receiver: &str,
        key: &str,
        receiver_state: Option<&Json>,
        at: DateTime<Utc>,
    ) -> Result<()> {
        let change = ReceiverStateChange {
            receiver: receiver.to_owned(),
            key: key.to_owned(),
            receiver_state: receiver_state.cloned(),
            at,
        };
        self.accept(Batch { receiver_states: vec![change], ..Batch::default() }).await;
        Ok(())
    }
}

#[async_trait]
impl CheckIns for WriteBuffer {
    async fn check_in(&self, name: &str, beat: CheckIn, at: DateTime<Utc>) -> Result<()> {
        self.accept(Batch { check_ins: vec![(name.to_owned(), beat, at)], ..Batch::default() }).await;
        Ok(())
    }

    async fn check_in_state(&self, name: &str) -> Result<Option<CheckInState>> {
        Ok(self.shared.state().outbox.check_in(name))
    }
}

impl RunSummary {
    /// Creates the summary of a run.
    fn of(outcome: &Outcome) -> Self {
        Self {
            run: outcome.run,
            scenario: outcome.scenario.clone(),
            ended_at: outcome.ended_at,
            duration: outcome.duration,
            verdict: outcome.verdict,
            reason: outcome.reason,
        }
    }
}
