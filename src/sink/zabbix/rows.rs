//! Rows that go beside outcomes: discovery, the agent's state, and values of steps whose items are not known yet. Pure: it
//! is told the time.
//!
//! Of discovery and the agent's state only the newest matters. A row that is refused (its item is not known, or not yet)
//! waits on a list of its key, and so do later rows of that key, while all others go on.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::items::{self, Entry, Row, Weight};

/// How many rows go into one request: more at once is not faster, and takes the server longer than others may wait.
pub const BATCH: usize = 4_000;
/// How many rows of one key may wait while it is refused.
const HELD: usize = 100;

/// How long things are waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// For a connection.
    pub connect: Duration,
    /// For an answer.
    pub answer: Duration,
    /// Before a refused row is tried again; doubled for each further attempt.
    pub retry_first: Duration,
    /// The longest pause between two attempts.
    pub retry_most: Duration,
    /// How long a refused row is kept.
    pub refused_for: Duration,
    /// How often discovery is repeated.
    pub discovery_every: Duration,
    /// How long after a value of a run was refused discovery is repeated: a host that was made again under its old name
    /// has taken discovery for items that are gone.
    pub rediscover: Duration,
    /// How often the agent's state is sent.
    pub agent_every: Duration,
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
        }
    }
}

/// Rows of a key that the server refuses.
#[derive(Debug)]
struct Held {
    rows: VecDeque<(Instant, Row)>,
    /// How long the last pause was, and when it ends.
    pause: Duration,
    until: Instant,
    is_reported: bool,
}

/// What waits beside outcomes.
#[derive(Debug)]
pub struct Rows {
    timing: Timing,
    /// The newest discovery and state of the agent, by key.
    upkeep: BTreeMap<String, Row>,
    /// What every repetition of discovery says.
    catalog: Vec<Row>,
    repeat_at: Option<Instant>,
    held: BTreeMap<String, Held>,
    /// Rows of keys that were refused and are known now.
    released: VecDeque<Row>,
    /// Keys to be reported.
    refused: Vec<String>,
}

impl Rows {
    /// Nothing waits.
    pub fn new(timing: Timing) -> Self {
        Self {
            timing,
            upkeep: BTreeMap::new(),
            catalog: Vec::new(),
            repeat_at: None,
            held: BTreeMap::new(),
            released: VecDeque::new(),
            refused: Vec::new(),
        }
    }

    /// Takes what discovery is to say from now on.
    pub fn set_catalog(&mut self, entries: &[Entry], now: Instant) {
        self.catalog = items::discovery(entries).to_vec();
        self.repeat_at = Some(now);
        self.held.retain(|_, held| !held.rows.is_empty());
    }

    /// Takes a row of which only the newest matters.
    pub fn upkeep(&mut self, row: Row) {
        self.upkeep.insert(row.key.clone(), row);
    }

    /// Leaves out of rows those whose key is refused at present: they wait here.
    pub fn sendable(&mut self, rows: Vec<Row>, now: Instant) -> Vec<Row> {
        let (waiting, sendable) =
            rows.into_iter().partition(|row| row.weight != Weight::Run && self.held.contains_key(&row.key));
        for row in waiting {
            self.hold(row, now);
        }
        sendable
    }

    /// Keys that were refused for so long that somebody should know; each is returned once until it is taken.
    pub fn take_refused(&mut self) -> Vec<String> {
        std::mem::take(&mut self.refused)
    }

    /// When [`Rows::next`] has something.
    pub fn next_at(&self, now: Instant) -> Option<Instant> {
        if !self.released.is_empty() || self.upkeep.keys().any(|key| !self.held.contains_key(key)) {
            return Some(now);
        }
        let retries = self.held.values().filter(|held| !held.rows.is_empty()).map(|held| held.until);
        retries.chain(self.repeat_at).min()
    }

    /// What is to be sent now: discovery and the agent's state, the first row of each refused key whose pause is over, and
    /// what waited for a key that is known now. It stays until it is answered.
    pub fn next(&mut self, now: Instant) -> Vec<Row> {
        if self.repeat_at.is_some_and(|at| at <= now) {
            self.repeat_at = Some(now + self.timing.discovery_every);
            for row in self.catalog.clone() {
                self.upkeep(row);
            }
        }
        self.expire(now);
        for (key, held) in &mut self.held {
            if let Some(row) = self.upkeep.remove(key) {
                held.rows = VecDeque::from([(now, row)]);
            }
        }
        let due = self.held.values().filter(|held| held.until <= now).filter_map(|held| Some(&held.rows.front()?.1));
        self.upkeep.values().chain(due).chain(&self.released).take(BATCH).cloned().collect()
    }

    /// Takes the answer to rows that were sent: which of them the server took.
    pub fn answered(&mut self, rows: &[Row], taken: &[bool], now: Instant) {
        for (row, taken) in rows.iter().zip(taken) {
            if self.upkeep.get(&row.key) == Some(row) {
                self.upkeep.remove(&row.key);
            }
            if self.released.front() == Some(row) {
                self.released.pop_front();
            }
            if *taken {
                if let Some(held) = self.held.remove(&row.key) {
                    let behind = held.rows.into_iter().map(|(_, row)| row).filter(|held| held != row);
                    self.released.extend(behind);
                }
            } else {
                self.refuse(row, now);
            }
        }
    }

    /// Repeats discovery soon, since a value of a run was refused.
    pub fn rediscover(&mut self, now: Instant) {
        let soon = now + self.timing.rediscover;
        self.repeat_at = self.repeat_at.map(|at| at.min(soon));
    }

    /// Notes that a row was refused: for the first time, or again.
    fn refuse(&mut self, row: &Row, now: Instant) {
        let timing = &self.timing;
        match self.held.get_mut(&row.key) {
            Some(held) if held.rows.front().is_some_and(|(_, front)| front == row) => {
                held.pause = (held.pause * 2).min(timing.retry_most);
                held.until = now + held.pause;
            }
            Some(_) => self.hold(row.clone(), now),
            None => {
                let (rows, pause) = (VecDeque::from([(now, row.clone())]), timing.retry_first);
                let held = Held { rows, pause, until: now + pause, is_reported: false };
                self.held.insert(row.key.clone(), held);
            }
        }
    }

    /// Puts a row behind those of its key that are refused; of too many the oldest goes. A row that is there already, since
    /// its run is sent again, is not put there twice.
    fn hold(&mut self, row: Row, now: Instant) {
        let Some(held) = self.held.get_mut(&row.key) else { return };
        if held.rows.iter().any(|(_, known)| *known == row) {
            return;
        }
        if held.rows.len() == HELD {
            held.rows.pop_front();
        }
        held.rows.push_back((now, row));
    }

    /// Gives up rows that were refused for too long. Discovery is kept: a template may be linked at any time.
    fn expire(&mut self, now: Instant) {
        for (key, held) in &mut self.held {
            let too_old = |held: &Held, limit| held.rows.front().is_some_and(|(since, _)| *since + limit <= now);
            if !held.is_reported && too_old(held, self.timing.refused_for) {
                held.is_reported = true;
                self.refused.push(key.clone());
            }
            while too_old(held, self.timing.refused_for) && held.rows[0].1.weight != Weight::Upkeep {
                held.rows.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests;
