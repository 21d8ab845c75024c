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
    AttemptChange, Batch, Beat, Beats, Database, Delivery, Durations, Heard, History, Incidents, Intent, KeptDecision,
    MemoChange, NotificationRecord, Outbox, Recent, Result, Runs, StoreError, Tallies, Tally,
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

    async fn open_intents(&self, location: &str) -> Result<Vec<Intent>> {
        self.at_hand()?.open_intents(location).await
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

    async fn recent_of_each(&self, limit: u32) -> Result<Vec<Recent>> {
        let stored = match self.at_hand() {
            Ok(database) => or_none(database.recent_of_each(limit).await),
            Err(error) => or_none(Err(error)),
        };
        let waiting = self.waiting(|_| true);
        if waiting.is_empty() {
            return Ok(stored);
        }
        let mut of_each: BTreeMap<_, Vec<Recent>> = BTreeMap::new();
        for recent in waiting.iter().map(|outcome| Recent::of(outcome)).chain(stored) {
            let rows = of_each.entry(recent.scenario.clone()).or_default();
            if rows.len() < limit as usize && rows.iter().all(|row| row.run != recent.run) {
                rows.push(recent);
            }
        }
        Ok(of_each.into_values().flatten().collect())
    }

    async fn durations(&self, asked: &Durations<'_>) -> Result<Vec<(DateTime<Utc>, Duration)>> {
        self.at_hand()?.durations(asked).await
    }

    async fn tallies(&self, asked: &Tallies<'_>) -> Result<Vec<Tally>> {
        // Waiting outcomes were already counted by the caller when they were evaluated.
        self.at_hand()?.tallies(asked).await
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
    async fn watches(&self) -> Result<Vec<(Subject, Json)>> {
        self.at_hand()?.watches().await
    }

    async fn memory(&self) -> Result<Vec<(String, Json)>> {
        let stored = match self.at_hand() {
            Ok(database) => or_none(database.memory().await),
            Err(error) => or_none(Err(error)),
        };
        let mut memory: BTreeMap<String, Json> = stored.into_iter().collect();
        let state = self.shared.state();
        let in_flight = state.in_flight.iter().flat_map(|batch| batch.memory.iter().map(|(key, body)| (key, body)));
        for (key, body) in in_flight.chain(state.pending.memory()) {
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

    async fn decisions(&self, subject: &Subject, limit: u32) -> Result<Vec<KeptDecision>> {
        let mut decisions: Vec<KeptDecision> = match self.at_hand() {
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
                None => decisions.push(KeptDecision { first_at: decision.at, decision, count: 1 }),
            }
        }
        decisions.reverse();
        decisions.truncate(limit as usize);
        Ok(decisions)
    }
}

#[async_trait]
impl Outbox for WriteBuffer {
    async fn owed(&self, receiver: &str, limit: u32) -> Result<Vec<Notification>> {
        Ok(self.shared.state().outbox.owed(receiver, limit))
    }

    async fn creditors(&self) -> Result<Vec<String>> {
        Ok(self.shared.state().outbox.creditors())
    }

    async fn trying(&self, notification: &str) -> Result<()> {
        let attempts = vec![(notification.to_owned(), AttemptChange::Started, Utc::now())];
        self.accept(Batch { attempts, ..Batch::default() }).await;
        Ok(())
    }

    async fn delivered(&self, notification: &str, delivery: &Delivery, at: DateTime<Utc>) -> Result<()> {
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
                AttemptChange::Finished(Delivery::Sent) => {
                    (known.state, known.done_at, known.problem) = ("sent".into(), Some(*at), None);
                }
                AttemptChange::Finished(Delivery::Failed(problem)) => {
                    (known.state, known.done_at) = ("failed".into(), Some(*at));
                    known.problem = Some(problem.clone());
                }
                AttemptChange::Finished(Delivery::Refused(problem) | Delivery::Unsure(problem)) => {
                    known.problem = Some(problem.clone());
                }
            }
        }
        Ok(notifications)
    }

    async fn memo(&self, receiver: &str, key: &str) -> Result<Option<Json>> {
        Ok(self.shared.state().outbox.memo(receiver, key))
    }

    async fn memos(&self, receiver: &str) -> Result<Vec<(String, Json)>> {
        Ok(self.shared.state().outbox.memos(receiver))
    }

    async fn keep_memo(&self, receiver: &str, key: &str, memo: Option<&Json>, at: DateTime<Utc>) -> Result<()> {
        let change = MemoChange { receiver: receiver.to_owned(), key: key.to_owned(), memo: memo.cloned(), at };
        self.accept(Batch { memos: vec![change], ..Batch::default() }).await;
        Ok(())
    }
}

#[async_trait]
impl Beats for WriteBuffer {
    async fn beat(&self, name: &str, beat: Beat, at: DateTime<Utc>) -> Result<()> {
        self.accept(Batch { check_ins: vec![(name.to_owned(), beat, at)], ..Batch::default() }).await;
        Ok(())
    }

    async fn beats(&self, name: &str) -> Result<Option<Heard>> {
        Ok(self.shared.state().outbox.check_in(name))
    }
}

impl Recent {
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
