//! Rows in addition to outcomes: discovery, the state of the agent, and step values whose items are not discovered yet.
//! Pure: the time is an argument.
//!
//! Of discovery and the agent state, only the newest rows are needed. A rejected row (its item does not exist yet or at
//! all) waits in a list of its key, and so do later rows of that key, while all others continue.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::items::{self, Entry, ItemValue, ValueClass};

/// Maximum number of rows in a request: more are not faster, and occupy the server for longer than other clients may
/// wait.
pub const BATCH: usize = 4_000;
/// Maximum number of waiting rows per rejected key.
const HELD: usize = 100;

/// Delays and time limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// Timeout of a connection.
    pub connect: Duration,
    /// Timeout of a response.
    pub answer: Duration,
    /// Delay before a rejected row is retried; doubled for each further attempt.
    pub retry_first: Duration,
    /// Maximum delay between two attempts.
    pub retry_most: Duration,
    /// Period in which a rejected row is stored.
    pub refused_for: Duration,
    /// Interval of repeating discovery.
    pub discovery_every: Duration,
    /// Delay before discovery is repeated after a value of a run was rejected: if a host was deleted and created again
    /// with the same name, the items found by the previous discovery no longer exist.
    pub rediscover: Duration,
    /// Interval of sending the state of the agent.
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

/// Rows of a key that the server rejects.
#[derive(Debug)]
struct Held {
    rows: VecDeque<(Instant, ItemValue)>,
    /// Last delay, and the time of its end.
    pause: Duration,
    until: Instant,
    is_reported: bool,
}

/// Waiting rows in addition to outcomes.
#[derive(Debug)]
pub struct Rows {
    timing: Timing,
    /// Newest discovery and agent state, by key.
    upkeep: BTreeMap<String, ItemValue>,
    /// Rows of each repetition of discovery.
    catalog: Vec<ItemValue>,
    repeat_at: Option<Instant>,
    held: BTreeMap<String, Held>,
    /// Rows of keys that were rejected and are accepted now.
    released: VecDeque<ItemValue>,
    /// Keys to be reported.
    refused: Vec<String>,
}

impl Rows {
    /// Creates an empty set of rows.
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

    /// Sets the content of discovery.
    pub fn set_catalog(&mut self, entries: &[Entry], now: Instant) {
        self.catalog = items::discovery(entries).to_vec();
        self.repeat_at = Some(now);
        self.held.retain(|_, held| !held.rows.is_empty());
    }

    /// Adds a row of which only the newest is needed.
    pub fn upkeep(&mut self, row: ItemValue) {
        self.upkeep.insert(row.key.clone(), row);
    }

    /// Returns the rows whose keys are not rejected at present. The others are stored and wait.
    pub fn sendable(&mut self, rows: Vec<ItemValue>, now: Instant) -> Vec<ItemValue> {
        let (waiting, sendable) =
            rows.into_iter().partition(|row| row.weight != ValueClass::Run && self.held.contains_key(&row.key));
        for row in waiting {
            self.hold(row, now);
        }
        sendable
    }

    /// Returns the keys that have been rejected for so long that an operator should be informed. Each is returned once
    /// until it is accepted.
    pub fn take_refused(&mut self) -> Vec<String> {
        std::mem::take(&mut self.refused)
    }

    /// Returns the time at which [`Rows::next`] has rows to send.
    pub fn next_at(&self, now: Instant) -> Option<Instant> {
        if !self.released.is_empty() || self.upkeep.keys().any(|key| !self.held.contains_key(key)) {
            return Some(now);
        }
        let retries = self.held.values().filter(|held| !held.rows.is_empty()).map(|held| held.until);
        retries.chain(self.repeat_at).min()
    }

    /// Returns the rows to send now: discovery and the agent state, the first row of each rejected key whose delay has
    /// ended, and the waiting rows of keys that are accepted now. They stay until there is a result.
    pub fn next(&mut self, now: Instant) -> Vec<ItemValue> {
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

    /// Processes the result of rows that were sent: whether the server accepted each.
    pub fn answered(&mut self, rows: &[ItemValue], taken: &[bool], now: Instant) {
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

    /// Schedules a repetition of discovery soon, because a value of a run was rejected.
    pub fn rediscover(&mut self, now: Instant) {
        let soon = now + self.timing.rediscover;
        self.repeat_at = self.repeat_at.map(|at| at.min(soon));
    }

    /// Records the rejection of a row, for the first time or again.
    fn refuse(&mut self, row: &ItemValue, now: Instant) {
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

    /// Appends a row to the rejected rows of its key. If there are too many, the oldest is discarded. A row that is
    /// already there, because its run is sent again, is not added twice.
    fn hold(&mut self, row: ItemValue, now: Instant) {
        let Some(held) = self.held.get_mut(&row.key) else { return };
        if held.rows.iter().any(|(_, known)| *known == row) {
            return;
        }
        if held.rows.len() == HELD {
            held.rows.pop_front();
        }
        held.rows.push_back((now, row));
    }

    /// Discards rows that have been rejected for too long. Discovery is kept because a template may be linked at any
    /// time.
    fn expire(&mut self, now: Instant) {
        for (key, held) in &mut self.held {
            let too_old = |held: &Held, limit| held.rows.front().is_some_and(|(since, _)| *since + limit <= now);
            if !held.is_reported && too_old(held, self.timing.refused_for) {
                held.is_reported = true;
                self.refused.push(key.clone());
            }
            while too_old(held, self.timing.refused_for) && held.rows[0].1.weight != ValueClass::Upkeep {
                held.rows.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests;
