//! Zabbix (6.0 and later; a server, the nodes of a cluster, or a proxy), by the trapper protocol or by `history.push`.
//!
//! Values are sent to the items of `deploy/zabbix/template-wachta-6.0.yaml`, which are created by discovery. [`items`]
//! converts events to rows (pure), [`rows`] decides which other rows are sent and when (pure); [`protocol`], [`nodes`]
//! and [`connection`] implement the trapper protocol and are combined in [`client`], and [`push`] implements the API
//! method. An outcome is accepted or rejected by its `wachta.run` row; its step rows are details, which wait separately
//! for items that Zabbix has not discovered yet. The key, clock and ns of a row make sending it again harmless. [`api`]
//! is the client of the JSON-RPC API; [`provision`] uses it to create everything that wachta requires in Zabbix, mainly
//! the [`template`], and [`doctor`] finds the reasons for rejected values.

pub mod api;
mod client;
mod config;
mod connection;
mod dashboard;
mod delivery;
mod difference;
pub mod doctor;
pub mod items;
mod nodes;
mod protocol;
pub mod provision;
mod psk;
mod push;
mod rows;
mod stream;
pub mod template;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

pub use config::{Config, Via};
pub use connection::{Certificate, Security};
pub use psk::Psk;
pub use rows::Timing;

use super::{Absence, AgentState, Event, Finished, Limits, Refusal, Scenarios, Sent, Sink, Size};
use crate::outcome::{Outcome, RunId};
use crate::scenario::ScenarioId;
use delivery::{Delivery, WHY_REFUSED};
use items::ValueClass;
use rows::{BATCH, Rows};

/// Timeout of a batch, which is split and sent in parts if the server rejects rows.
const DEADLINE: Duration = Duration::from_secs(60);
/// Maximum size of a batch, in bytes.
const MAX_BYTES: usize = 16 << 20;
/// Maximum number of runs with the same nanosecond to track.
const MAX_STAMPS: usize = 10_000;

/// Zabbix sink.
pub struct Zabbix {
    delivery: Delivery,
    location: String,
    timing: Timing,
    /// Names of tags for which every scenario has a value in Zabbix.
    tags: Vec<String>,
    state: AgentState,
    /// Time of sending the agent state next.
    agent_at: Instant,
    rows: Rows,
    stamps: Stamps,
}

impl Zabbix {
    /// Creates the sink. `state` returns the value of `wachta.agent`, once per minute.
    fn new(delivery: Delivery, timing: Timing, location: &str, tags: Vec<String>, state: AgentState) -> Self {
        Self {
            delivery,
            tags,
            location: location.to_owned(),
            rows: Rows::new(timing.clone()),
            timing,
            state,
            agent_at: Instant::now(),
            stamps: Stamps::default(),
        }
    }

    fn report(&mut self) {
        for key in self.rows.take_refused() {
            tracing::warn!(key, "Zabbix rejects the values of this item: {WHY_REFUSED}");
        }
    }
}

fn away(reason: String) -> Sent {
    Sent::Retry { after: None, reason }
}

#[async_trait]
impl Sink for Zabbix {
    fn limits(&self) -> Limits {
        Limits { rows: BATCH, bytes: MAX_BYTES, age: Duration::ZERO, deadline: DEADLINE }
    }

    fn measure(&self, event: &Event) -> Size {
        let Some(Finished { outcome, .. }) = event.finished() else { return Size::default() };
        let rows = 1 + 2 * outcome.steps_of_file().count();
        Size { rows, bytes: outcome.approximate_bytes() }
    }

    async fn send(&mut self, batch: &[Event]) -> Sent {
        let now = Instant::now();
        let (mut rows, mut owner) = (Vec::new(), Vec::new());
        for (index, event) in batch.iter().enumerate() {
            let Some(Finished { outcome, .. }) = event.finished() else { continue };
            let at = self.stamps.of(outcome);
            for row in self.rows.sendable(items::rows(outcome, at), now) {
                rows.push(row);
                owner.push(index);
            }
        }
        let refused = match self.delivery.send(&rows).await {
            Ok(refused) => refused,
            Err(reason) => return away(reason),
        };
        let taken: Vec<bool> = refused.iter().map(Option::is_none).collect();
        let refusals: Vec<Refusal> = (0..rows.len())
            .filter(|index| rows[*index].weight == ValueClass::Run)
            .filter_map(|index| {
                let why = refused[index].as_deref()?;
                let reason = format!("values of `{}` are rejected: {why}", rows[index].key);
                Some(Refusal { index: owner[index], reason, for_now: true })
            })
            .collect();
        if !refusals.is_empty() {
            self.rows.rediscover(now);
        }
        // The details of a rejected run are sent again with it.
        let is_refused = |index: usize| refusals.iter().any(|refusal| refusal.index == index);
        for index in 0..rows.len() {
            if rows[index].weight == ValueClass::Detail && !is_refused(owner[index]) {
                self.rows.answered(&rows[index..=index], &taken[index..=index], now);
            }
        }
        if refusals.is_empty() { Sent::Taken } else { Sent::Partial(refusals) }
    }

    fn set_scenarios(&mut self, scenarios: &Scenarios, absent: &[Absence]) {
        let mut entries: Vec<_> = scenarios.values().map(|scenario| items::entry(scenario)).collect();
        for entry in &mut entries {
            for tag in &self.tags {
                entry.tags.entry(tag.clone()).or_default();
            }
        }
        self.rows.set_catalog(&entries, Instant::now());
        self.stamps.last.retain(|id, _| scenarios.contains_key(id));
        for Absence { scenario, why, at } in absent {
            self.rows.upkeep(items::idle_row(scenario, &self.location, *why, *at));
        }
    }

    fn upkeep_at(&self) -> Option<Instant> {
        let rows_at = self.rows.next_at(Instant::now());
        Some(rows_at.map_or(self.agent_at, |at| at.min(self.agent_at)))
    }

    async fn upkeep(&mut self) -> Sent {
        let now = Instant::now();
        if self.agent_at <= now {
            self.agent_at = now + self.timing.agent_every;
            self.rows.upkeep(items::agent(&(self.state)()));
        }
        let rows = self.rows.next(now);
        self.report();
        match self.delivery.send(&rows).await {
            Ok(refused) => {
                let taken: Vec<bool> = refused.iter().map(Option::is_none).collect();
                self.rows.answered(&rows, &taken, Instant::now());
                Sent::Taken
            }
            Err(reason) => away(reason),
        }
    }
}

/// Times of runs as sent to Zabbix. Two runs of one scenario never have the same time, because Zabbix would store only
/// the first of them, and a run that is sent again keeps its time.
#[derive(Debug, Default)]
struct Stamps {
    /// Last run of each scenario, with the time of its end and the time sent for it.
    last: HashMap<ScenarioId, (RunId, DateTime<Utc>, DateTime<Utc>)>,
    /// Times of runs that ended in the same nanosecond.
    of_run: HashMap<RunId, DateTime<Utc>>,
}

impl Stamps {
    fn of(&mut self, outcome: &Outcome) -> DateTime<Utc> {
        if let Some(at) = self.of_run.get(&outcome.run) {
            return *at;
        }
        let (run, ended) = (outcome.run, outcome.ended_at);
        let at = match self.last.get(&outcome.scenario) {
            Some((last, _, at)) if *last == run => *at,
            Some((last, last_ended, at)) if *last_ended == ended => {
                if self.of_run.len() >= MAX_STAMPS {
                    self.of_run.clear();
                }
                self.of_run.insert(*last, *at);
                let next = *at + TimeDelta::nanoseconds(1);
                self.of_run.insert(run, next);
                next
            }
            _ => ended,
        };
        self.last.insert(outcome.scenario.clone(), (run, ended, at));
        at
    }
}
