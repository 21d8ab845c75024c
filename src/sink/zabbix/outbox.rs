//! What is to be sent, and when. Pure: it is told the time.
//!
//! Outcomes wait in a bounded queue, oldest first. One batch is in flight at a time and stays as it is until an answer
//! comes: sending it again unchanged is harmless, since a row's identity is its key, clock and ns. A row that is
//! refused (its item is not known, or not yet) waits on a list of its key, and so do later rows of that key, while all
//! others go on. Deliberately absent: anything on disk; the store has the outcomes.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

use super::items::{self, Entry, Row, Weight};
use crate::outcome::Outcome;
use crate::scenario::ScenarioId;

/// How many outcomes may wait; above it the oldest is dropped.
pub const CAPACITY: usize = 10_000;
/// How many rows go into one request, as `zabbix_sender` does it.
pub const BATCH: usize = 250;
/// How many rows of one key may wait while it is refused.
const HELD: usize = 100;

/// How long things are waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// For a connection.
    pub connect: Duration,
    /// For an answer.
    pub answer: Duration,
    /// Before a second try; doubled for each further one.
    pub retry_first: Duration,
    /// The longest pause between two tries.
    pub retry_most: Duration,
    /// How long a refused row is kept.
    pub refused_for: Duration,
    /// How often discovery is repeated.
    pub discovery_every: Duration,
    /// How long after a value of a run was refused discovery is repeated: a host that was made anew under its old name
    /// has taken discovery for items that are gone.
    pub rediscover: Duration,
    /// How often the agent's state is sent.
    pub agent_every: Duration,
    /// How long to go on with what is queued when the agent stops.
    pub flush: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            answer: Duration::from_secs(20),
            retry_first: Duration::from_secs(2),
            retry_most: Duration::from_secs(60),
            refused_for: Duration::from_secs(600),
            discovery_every: Duration::from_secs(3600),
            rediscover: Duration::from_secs(90),
            agent_every: Duration::from_secs(60),
            flush: Duration::from_secs(5),
        }
    }
}

/// What to do now.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Send these rows.
    Send(Arc<[Row]>),
    /// Ask again at this time, or when something came.
    Wait(Option<Instant>),
}

/// What waits.
#[derive(Debug)]
pub struct Outbox {
    timing: Timing,
    /// Outcomes that no row was made of yet.
    outcomes: VecDeque<Arc<Outcome>>,
    /// Rows of keys that were refused and are known now.
    released: VecDeque<Row>,
    /// The newest discovery and state of the agent, by key.
    upkeep: BTreeMap<String, Row>,
    /// What every repetition of discovery says.
    catalog: Vec<Row>,
    repeat_at: Option<Instant>,
    /// In flight, or to be sent again as it is.
    batch: Option<Arc<[Row]>>,
    held: BTreeMap<String, Held>,
    /// The pause after the server could not be reached.
    away: Option<Pause>,
    /// Of each scenario the last end of a run, and the time that was sent for it.
    last: HashMap<ScenarioId, (DateTime<Utc>, DateTime<Utc>)>,
    /// Outcomes given up since somebody asked.
    dropped: u64,
    /// Keys to be reported.
    refused: Vec<String>,
}

/// Rows of a key that the server refuses.
#[derive(Debug)]
struct Held {
    rows: VecDeque<(Instant, Row)>,
    pause: Pause,
    reported: bool,
}

/// A pause that doubles.
#[derive(Debug, Clone, Copy)]
struct Pause {
    length: Duration,
    until: Instant,
}

impl Pause {
    fn first(timing: &Timing, now: Instant) -> Self {
        Self { length: timing.retry_first, until: now + timing.retry_first }
    }

    fn next(self, timing: &Timing, now: Instant) -> Self {
        let length = (self.length * 2).min(timing.retry_most);
        Self { length, until: now + length }
    }
}

impl Outbox {
    /// Nothing waits.
    pub fn new(timing: Timing) -> Self {
        Self {
            timing,
            outcomes: VecDeque::new(),
            released: VecDeque::new(),
            upkeep: BTreeMap::new(),
            catalog: Vec::new(),
            repeat_at: None,
            batch: None,
            held: BTreeMap::new(),
            away: None,
            last: HashMap::new(),
            dropped: 0,
            refused: Vec::new(),
        }
    }

    /// Takes an outcome; when the queue is full the oldest goes.
    pub fn outcome(&mut self, outcome: Arc<Outcome>) {
        if self.outcomes.len() == CAPACITY {
            self.outcomes.pop_front();
            self.dropped += 1;
        }
        self.outcomes.push_back(outcome);
    }

    /// Takes what discovery is to say from now on.
    pub fn catalog(&mut self, entries: &[Entry], now: Instant) {
        self.catalog = items::discovery(entries).to_vec();
        self.repeat_at = Some(now);
        let known: HashSet<_> = entries.iter().map(|entry| &entry.id).collect();
        self.last.retain(|id, _| known.contains(id));
        self.held.retain(|_, held| !held.rows.is_empty());
    }

    /// Takes a row of which only the newest matters.
    pub fn upkeep(&mut self, row: Row) {
        self.upkeep.insert(row.key.clone(), row);
    }

    /// How many outcomes were not taken yet.
    pub fn len(&self) -> usize {
        let is_run = |row: &&Row| row.weight == Weight::Run;
        let batch = self.batch.iter().flat_map(|batch| batch.iter()).filter(is_run).count();
        let held = self.held.values().flat_map(|held| &held.rows).filter(|(_, row)| is_run(&row)).count();
        self.outcomes.len() + batch + held + self.released.iter().filter(is_run).count()
    }

    /// How many outcomes were given up since the last call.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Keys that were refused for so long that somebody should know; each is told once until it is taken.
    pub fn take_refused(&mut self) -> Vec<String> {
        std::mem::take(&mut self.refused)
    }

    /// What to do now.
    pub fn next(&mut self, now: Instant) -> Next {
        if self.repeat_at.is_some_and(|at| at <= now) {
            self.repeat_at = Some(now + self.timing.discovery_every);
            for row in self.catalog.clone() {
                self.upkeep(row);
            }
        }
        if let Some(away) = self.away.filter(|away| now < away.until) {
            return Next::Wait(Some(away.until));
        }
        if self.batch.is_none() {
            self.expire(now);
            let rows = self.fill(now);
            self.batch = (!rows.is_empty()).then(|| rows.into());
        }
        if let Some(rows) = &self.batch {
            return Next::Send(rows.clone());
        }
        let retries = self.held.values().filter(|held| !held.rows.is_empty()).map(|held| held.pause.until);
        Next::Wait(retries.chain(self.repeat_at).min())
    }

    /// Says that the server could not be reached or did not answer.
    pub fn failed(&mut self, now: Instant) {
        self.away = Some(match self.away {
            Some(away) => away.next(&self.timing, now),
            None => Pause::first(&self.timing, now),
        });
    }

    /// Says which rows of the batch were taken. Returns how many outcomes these were.
    pub fn answered(&mut self, taken: &[bool], now: Instant) -> u64 {
        self.away = None;
        let mut sent = 0;
        let batch = self.batch.take();
        for (row, taken) in batch.iter().flat_map(|batch| batch.iter()).zip(taken) {
            if *taken {
                sent += u64::from(row.weight == Weight::Run);
                if let Some(held) = self.held.remove(&row.key) {
                    let behind = held.rows.into_iter().map(|(_, row)| row).filter(|held| held != row);
                    self.released.extend(behind);
                }
            } else {
                self.refuse(row, now);
            }
        }
        sent
    }

    /// Gives everything up. Returns how many outcomes that were.
    pub fn clear(&mut self) -> u64 {
        let left = self.len() as u64;
        *self = Self::new(self.timing.clone());
        left
    }

    /// Tries again at once what only waits for a server that was away.
    pub fn hurry(&mut self) {
        self.away = None;
    }

    /// Rows for the next request: upkeep, one of each refused key whose pause is over, then what is new.
    fn fill(&mut self, now: Instant) -> Vec<Row> {
        let mut rows = Vec::new();
        for (key, row) in std::mem::take(&mut self.upkeep) {
            match self.held.get_mut(&key) {
                Some(held) => held.rows = VecDeque::from([(now, row)]),
                None => rows.push(row),
            }
        }
        for held in self.held.values_mut().filter(|held| held.pause.until <= now) {
            if rows.len() == BATCH {
                break;
            }
            // If it is refused again it comes back to the front, where it was.
            rows.extend(held.rows.front().map(|(_, row)| row.clone()));
        }
        let released = self.released.len().min(BATCH - rows.len());
        rows.extend(self.released.drain(..released));
        while let Some(outcome) = self.outcomes.front() {
            let at = self.stamp(&outcome.scenario.clone(), outcome.ended_at);
            let outcome = self.outcomes.front().expect("it was there a line above");
            let new = items::rows(outcome, at);
            // The values of a run go together, unless they alone are more than a batch.
            if !rows.is_empty() && rows.len() + new.len() > BATCH {
                break;
            }
            self.last.insert(outcome.scenario.clone(), (outcome.ended_at, at));
            self.outcomes.pop_front();
            for row in new {
                match self.held.get_mut(&row.key) {
                    Some(_) => self.hold(row, now),
                    None if rows.len() < BATCH => rows.push(row),
                    None => self.released.push_back(row),
                }
            }
        }
        rows
    }

    /// The time to send for a run that ended at `ended`: two runs of one scenario never have the same, since Zabbix
    /// would keep only the first.
    fn stamp(&self, scenario: &ScenarioId, ended: DateTime<Utc>) -> DateTime<Utc> {
        match self.last.get(scenario) {
            Some((last, sent)) if *last == ended => *sent + TimeDelta::nanoseconds(1),
            _ => ended,
        }
    }

    /// Notes that a row was refused: for the first time, or again.
    fn refuse(&mut self, row: &Row, now: Instant) {
        let timing = &self.timing;
        match self.held.get_mut(&row.key) {
            Some(held) if held.rows.front().is_some_and(|(_, front)| front == row) => {
                held.pause = held.pause.next(timing, now);
            }
            Some(_) => self.hold(row.clone(), now),
            None => {
                let soon = now + timing.rediscover;
                self.repeat_at = self.repeat_at.map(|at| if row.weight == Weight::Run { at.min(soon) } else { at });
                let held = Held {
                    rows: VecDeque::from([(now, row.clone())]),
                    pause: Pause::first(timing, now),
                    reported: false,
                };
                self.held.insert(row.key.clone(), held);
            }
        }
    }

    /// Puts a row behind those of its key that are refused.
    fn hold(&mut self, row: Row, now: Instant) {
        let Some(held) = self.held.get_mut(&row.key) else { return };
        if held.rows.len() == HELD {
            // The first may be on its way again.
            let gone = held.rows.remove(1);
            self.dropped += u64::from(gone.is_some_and(|(_, row)| row.weight == Weight::Run));
        }
        held.rows.push_back((now, row));
    }

    /// Gives up rows that were refused for too long. Discovery is kept: a template may be linked at any time.
    fn expire(&mut self, now: Instant) {
        for (key, held) in &mut self.held {
            let too_old = |held: &Held, limit| held.rows.front().is_some_and(|(since, _)| *since + limit <= now);
            if !held.reported && too_old(held, self.timing.refused_for) {
                held.reported = true;
                self.refused.push(key.clone());
            }
            while too_old(held, self.timing.refused_for) && held.rows[0].1.weight != Weight::Upkeep {
                let gone = held.rows.pop_front();
                self.dropped += u64::from(gone.is_some_and(|(_, row)| row.weight == Weight::Run));
            }
        }
    }
}

#[cfg(test)]
mod tests;
