//! What tests of sinks share: events, a store in memory, and a sink that does as it is told.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;
use tokio::sync::mpsc;

use super::{Event, Finished, HttpClient, Limits, Sent, Sink, Size};
use crate::outcome::{Outcome, RunId};
use crate::store::{Numbered, Positions, Recorded, Result, StoreError};

/// An outcome of `scenario` without a number.
pub fn outcome(scenario: &str) -> Outcome {
    serde_json::from_value(json!({
        "run": RunId::new(), "scenario": scenario, "name": scenario, "kind": "api", "location": "here",
        "due_at": "2026-11-22T12:00:00Z", "started_at": "2026-11-22T12:00:00Z", "ended_at": "2026-11-22T12:00:01Z",
        "duration": 1.0, "verdict": "passed", "steps": [], "evidence": []
    }))
    .expect("this is an outcome")
}

/// For sinks that need no HTTP client.
pub fn no_http() -> HttpClient {
    Arc::new(|_| Err("there is no HTTP client here".into()))
}

/// The event with this number.
pub fn event(seq: u64, scenario: &str) -> Event {
    let outcome = Arc::new(Outcome { seq, ..outcome(scenario) });
    Event::Finished(Finished { scenario: None, outcome })
}

/// The numbers of a batch, in words.
pub fn numbers(batch: &[Event]) -> String {
    batch.iter().map(|event| event.seq().to_string()).collect::<Vec<_>>().join(" ")
}

/// A store in memory that can be away.
#[derive(Default)]
pub struct Shelf {
    pub outcomes: Mutex<BTreeMap<u64, Arc<Outcome>>>,
    pub positions: Mutex<BTreeMap<String, u64>>,
    pub is_away: Mutex<bool>,
}

impl Shelf {
    pub fn put(&self, outcome: &Arc<Outcome>) {
        self.outcomes.lock().unwrap().insert(outcome.seq, Arc::clone(outcome));
    }

    pub fn set_away(&self, is_away: bool) {
        *self.is_away.lock().unwrap() = is_away;
    }
}

#[async_trait]
impl Positions for Shelf {
    async fn numbered(&self, from: u64, to: u64, limit: u32) -> Result<Numbered> {
        if *self.is_away.lock().unwrap() {
            return Err(StoreError::unavailable("away"));
        }
        let known = self.outcomes.lock().unwrap();
        let records = known.range(from..=to).take(limit as usize);
        let records: Vec<_> = records.map(|(_, outcome)| Recorded::Outcome(outcome.clone())).collect();
        let is_whole = records.len() < limit as usize;
        let through = records.last().filter(|_| !is_whole).map_or(to, Recorded::seq);
        Ok(Numbered { records, through })
    }

    async fn positions(&self) -> Result<BTreeMap<String, u64>> {
        Ok(self.positions.lock().unwrap().clone())
    }

    async fn last_seq(&self) -> Result<u64> {
        Ok(self.outcomes.lock().unwrap().keys().last().copied().unwrap_or_default())
    }

    async fn set_positions(&self, changed: BTreeMap<String, Option<u64>>) -> Result<()> {
        let mut positions = self.positions.lock().unwrap();
        for (sink, seq) in changed {
            match seq {
                Some(seq) => drop(positions.insert(sink, seq)),
                None => drop(positions.remove(&sink)),
            }
        }
        Ok(())
    }
}

/// What a [`Puppet`] does with a batch.
pub enum Do {
    /// Answers like this.
    Say(Sent),
    /// Never answers.
    Hang,
    /// Panics.
    Panic,
}

/// A sink that follows a plan, one step a batch, takes everything after it, and says what it was given.
pub struct Puppet {
    pub plan: Arc<Mutex<VecDeque<Do>>>,
    pub given: mpsc::UnboundedSender<String>,
}

#[async_trait]
impl Sink for Puppet {
    fn limits(&self) -> Limits {
        Limits { rows: 4, bytes: usize::MAX, age: Duration::ZERO, deadline: Duration::from_secs(10) }
    }

    fn measure(&self, _: &Event) -> Size {
        Size { rows: 1, bytes: 1 }
    }

    async fn send(&mut self, batch: &[Event]) -> Sent {
        // The other end is gone when a test is over.
        let _ = self.given.send(numbers(batch));
        let next = self.plan.lock().unwrap().pop_front();
        match next {
            None => Sent::Taken,
            Some(Do::Say(sent)) => sent,
            Some(Do::Hang) => std::future::pending().await,
            Some(Do::Panic) => panic!("as planned"),
        }
    }
}
