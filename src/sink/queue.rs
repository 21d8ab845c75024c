//! Queue of a sink: decides what is sent next, and processes the results. Pure: the time, the responses and the random
//! numbers are arguments.
//!
//! Outcomes have consecutive sequence numbers. The newest ones wait in memory, within limits; those that do not fit,
//! and those left by an earlier agent, are stored as ranges of numbers and read from the store later. One batch is in
//! progress at a time and stays unchanged until there is a result. A batch rejected as a whole is halved until the row
//! at fault is found. A row rejected temporarily delays only other rows of its scenario. Invariant: every number above
//! [`Queue::position`] is in memory, in a range, or counted as given up.

use std::collections::{BTreeMap, HashMap, VecDeque};

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::{Event, Limits, Refusal, Sent, Size};
use crate::incident::Subject;

/// Maximum number of outcomes in memory.
pub const MAX_OUTCOMES: usize = 10_000;
/// Maximum size of the outcomes in memory, in bytes according to [`crate::outcome::Outcome::approximate_bytes`].
pub const MAX_BYTES: usize = 64 << 20;
/// Number of outcomes read from the store at once.
pub const READ: u32 = 256;
/// Maximum number of outcomes waiting because of temporarily rejected rows of their scenario; above it, the oldest one
/// of the scenario is given up.
const MAX_HELD: usize = 10_000;
/// Maximum pause that a destination can request.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);
/// Maximum random reduction of a pause, as a share of it.
const JITTER: f64 = 0.25;

/// Delays and time limits of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// Delay before the second attempt; doubled for each further one.
    pub retry_first: Duration,
    /// Maximum delay between two attempts, unless the destination requests a longer one.
    pub retry_most: Duration,
    /// Period in which a temporarily rejected row is retried.
    pub refused_for: Duration,
    /// Delay before the store is read again after it did not respond.
    pub store_retry: Duration,
    /// Maximum time for sending the waiting events when the agent stops.
    pub flush: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            retry_first: Duration::from_secs(2),
            retry_most: Duration::from_secs(60),
            refused_for: Duration::from_secs(600),
            store_retry: Duration::from_secs(1),
            flush: Duration::from_secs(5),
        }
    }
}

/// Next action of the driver.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// Send this batch.
    Send(Vec<Event>),
    /// Read the outcomes in this inclusive range of numbers from the store.
    Read(u64, u64),
    /// Ask again at this time, or after an event has arrived.
    Wait(Option<Instant>),
}

/// Row that is set aside because the destination has rejected it.
#[derive(Debug, Clone, PartialEq)]
pub struct SetAside {
    /// Event that was rejected.
    pub event: Event,
    /// Reason given by the destination.
    pub reason: String,
}

/// Effect of a result.
#[derive(Debug, Default, PartialEq)]
pub struct Done {
    /// Number of outcomes delivered to the destination.
    pub sent: u64,
    /// Rows that are set aside.
    pub set_aside: Vec<SetAside>,
}

#[derive(Debug, Clone)]
struct Entry {
    event: Event,
    arrived_at: Instant,
    /// Time at which the destination first rejected this row, or an earlier one of its scenario.
    held_since: Option<Instant>,
}

impl Entry {
    fn seq(&self) -> u64 {
        self.event.seq()
    }
}

/// Pause that is doubled each time.
#[derive(Debug, Clone, Copy)]
struct Pause {
    length: Duration,
    until: Instant,
}

impl Pause {
    fn of(length: Duration, now: Instant, jitter: f64) -> Self {
        Self { length, until: now + length.mul_f64(1.0 - JITTER * jitter.clamp(0.0, 1.0)) }
    }
}

/// Rows of a scenario that the destination rejects temporarily.
#[derive(Debug)]
struct Held {
    /// Rows in the order of their numbers.
    entries: VecDeque<Entry>,
    pause: Pause,
    reason: String,
}

/// Events waiting for one destination.
#[derive(Debug)]
pub struct Queue {
    timing: Timing,
    limits: Limits,
    max_outcomes: usize,
    /// Batches in the order of sending; the first may be in progress.
    parts: VecDeque<Vec<Entry>>,
    /// Rows that were held and can be sent now.
    released: VecDeque<Entry>,
    /// Outcomes read from the store.
    older: VecDeque<Entry>,
    /// Inclusive ranges of numbers to be read from the store.
    missing: VecDeque<(u64, u64)>,
    /// Newest events.
    recent: VecDeque<Entry>,
    recent_bytes: usize,
    held: BTreeMap<Subject, Held>,
    held_count: usize,
    /// Pause after the destination did not respond or requested one.
    away: Option<Pause>,
    /// Time from which the store may be read again.
    read_at: Option<Instant>,
    /// Last sequence number added to the queue.
    last: u64,
    /// Whether waiting events are sent without waiting for more.
    hurried: bool,
    /// Number of outcomes given up since the last query, because of the memory limit or because the store has lost
    /// them.
    dropped: u64,
}

impl Queue {
    /// Creates a queue for a destination that has received everything up to `position`, with outcomes numbered up to
    /// `last`.
    pub fn new(timing: Timing, limits: Limits, position: u64, last: u64) -> Self {
        Self {
            timing,
            limits,
            max_outcomes: MAX_OUTCOMES,
            parts: VecDeque::new(),
            released: VecDeque::new(),
            older: VecDeque::new(),
            missing: (position < last).then_some((position + 1, last)).into_iter().collect(),
            recent: VecDeque::new(),
            recent_bytes: 0,
            held: BTreeMap::new(),
            held_count: 0,
            away: None,
            read_at: None,
            last,
            hurried: false,
            dropped: 0,
        }
    }

    /// Changes the limits of future batches.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Adds the newest event. If the memory limit is reached, the oldest of the newest events is left to the store.
    pub fn push(&mut self, event: Event, now: Instant) {
        self.last = self.last.max(event.seq());
        self.recent_bytes += event.bytes();
        self.recent.push_back(Entry { event, arrived_at: now, held_since: None });
        while self.recent.len() > self.max_outcomes || self.recent_bytes > MAX_BYTES {
            let Some(entry) = self.pop_recent() else { break };
            match self.missing.back_mut() {
                Some((_, to)) if *to + 1 == entry.seq() => *to += 1,
                _ => self.missing.push_back((entry.seq(), entry.seq())),
            }
        }
    }

    fn pop_recent(&mut self) -> Option<Entry> {
        let entry = self.recent.pop_front()?;
        self.recent_bytes -= entry.event.bytes();
        Some(entry)
    }

    /// Adds the outcomes that the store contains in the first missing range up to `through`; those that it does not
    /// contain are given up. If `through` is before the range, nothing about it is known yet.
    pub fn read(&mut self, events: Vec<Event>, through: u64, now: Instant) {
        let Some((from, to)) = self.missing.pop_front() else { return };
        let through = through.min(to);
        if through < from {
            self.missing.push_front((from, to));
            self.unreadable(now);
            return;
        }
        if through < to {
            self.missing.push_front((through + 1, to));
        }
        self.dropped += (through - from + 1).saturating_sub(events.len() as u64);
        self.older.extend(events.into_iter().map(|event| Entry { event, arrived_at: now, held_since: None }));
        self.read_at = None;
    }

    /// Records that the store cannot be read: only the events in memory are sent for some time.
    pub fn unreadable(&mut self, now: Instant) {
        self.read_at = Some(now + self.timing.store_retry);
    }

    /// Disables the delays for filling a batch, and ends a pause that has begun.
    pub fn hurry(&mut self) {
        self.hurried = true;
        self.away = None;
    }

    /// Returns the end of the present pause of the destination.
    pub fn away_until(&self, now: Instant) -> Option<Instant> {
        self.away.map(|pause| pause.until).filter(|until| now < *until)
    }

    /// Returns the next action. `measure` returns the size of an event for the destination.
    pub fn next(&mut self, now: Instant, measure: impl Fn(&Event) -> Size) -> Next {
        if let Some(until) = self.away_until(now) {
            return Next::Wait(Some(until));
        }
        if self.parts.is_empty() {
            let may_read = self.read_at.is_none_or(|at| at <= now);
            if may_read
                && self.older.is_empty()
                && let Some((from, to)) = self.missing.front()
            {
                return Next::Read(*from, *to);
            }
            let batch = self.cut(now, may_read, measure);
            if !batch.is_empty() {
                self.parts.push_back(batch);
            }
        }
        if let Some(part) = self.parts.front() {
            return Next::Send(part.iter().map(|entry| entry.event.clone()).collect());
        }
        let held = self.held.values().filter(|held| !held.entries.is_empty()).map(|held| held.pause.until);
        let fills = self.recent.front().map(|entry| entry.arrived_at + self.limits.age);
        let read = self.read_at.filter(|_| !self.missing.is_empty());
        Next::Wait(held.chain(fills).chain(read).min())
    }

    /// Returns whether the newest events are enough for a batch, or have waited long enough.
    fn is_ready(&self, now: Instant) -> bool {
        self.hurried
            || self.recent.len() >= self.limits.rows
            || self.recent_bytes >= self.limits.bytes
            || self.recent.front().is_some_and(|entry| entry.arrived_at + self.limits.age <= now)
    }

    /// Creates the next batch: one row of each scenario with rejected rows whose pause has ended, then the others in
    /// order.
    fn cut(&mut self, now: Instant, may_read: bool, measure: impl Fn(&Event) -> Size) -> Vec<Entry> {
        let mut batch = Vec::new();
        let mut room = Room { limits: self.limits, rows: 0, bytes: 0 };
        for held in self.held.values_mut().filter(|held| held.pause.until <= now) {
            let Some(entry) = held.entries.front() else { continue };
            if !room.takes(measure(&entry.event)) {
                break;
            }
            // If the row is rejected again, it returns to its place.
            batch.extend(held.entries.pop_front());
            self.held_count -= 1;
        }
        // Newer events do not overtake those in the store, unless the store is unavailable.
        let is_ready = self.is_ready(now);
        loop {
            let may_be_recent = is_ready && (self.missing.is_empty() || !may_read);
            let front = self.released.front().or_else(|| self.older.front());
            let Some(front) = front.or_else(|| self.recent.front().filter(|_| may_be_recent)) else { break };
            let is_held = self.held.contains_key(&front.event.about());
            if !is_held && !room.takes(measure(&front.event)) {
                break;
            }
            let front = self.released.pop_front().or_else(|| self.older.pop_front());
            let Some(entry) = front.or_else(|| self.pop_recent()) else { break };
            if is_held {
                self.hold(entry, now);
            } else {
                batch.push(entry);
            }
        }
        batch
    }

    /// Processes the result of the batch in progress.
    pub fn answered(&mut self, answer: Sent, now: Instant, jitter: f64) -> Done {
        let mut done = Done::default();
        match answer {
            Sent::Retry { after, .. } => {
                let doubled = self.away.map_or(self.timing.retry_first, |away| away.length * 2);
                let length = doubled.min(self.timing.retry_most);
                let mut pause = Pause::of(length, now, jitter);
                if let Some(after) = after {
                    pause.until = pause.until.max(now + after.min(MAX_RETRY_AFTER));
                }
                self.away = Some(pause);
                return done;
            }
            Sent::Taken => {
                self.away = None;
                for entry in self.parts.pop_front().unwrap_or_default() {
                    self.taken(&entry, &mut done);
                }
            }
            Sent::Partial(refusals) => {
                self.away = None;
                let mut refused: HashMap<usize, Refusal> =
                    refusals.into_iter().map(|refusal| (refusal.index, refusal)).collect();
                for (index, entry) in self.parts.pop_front().unwrap_or_default().into_iter().enumerate() {
                    match refused.remove(&index) {
                        None => self.taken(&entry, &mut done),
                        Some(refusal) if refusal.for_now => self.refuse_for_now(entry, refusal.reason, now),
                        Some(refusal) => {
                            done.set_aside.push(SetAside { event: entry.event, reason: refusal.reason });
                        }
                    }
                }
            }
            Sent::Refused(reason) => {
                self.away = None;
                let mut part = self.parts.pop_front().unwrap_or_default();
                if part.len() > 1 {
                    let second = part.split_off(part.len() / 2);
                    self.parts.push_front(second);
                    self.parts.push_front(part);
                } else if let Some(entry) = part.pop() {
                    done.set_aside.push(SetAside { event: entry.event, reason });
                }
            }
        }
        self.expire(now, &mut done);
        done
    }

    fn taken(&mut self, entry: &Entry, done: &mut Done) {
        done.sent += 1;
        if let Some(held) = self.held.remove(&entry.event.about()) {
            self.held_count -= held.entries.len();
            self.released.extend(held.entries);
        }
    }

    /// Adds a row to the temporarily rejected rows of its scenario, for the first time or again.
    fn refuse_for_now(&mut self, entry: Entry, reason: String, now: Instant) {
        let timing = &self.timing;
        let held = self.held.entry(entry.event.about());
        let held = held.or_insert_with(|| Held {
            entries: VecDeque::new(),
            pause: Pause { length: Duration::ZERO, until: now },
            reason: String::new(),
        });
        held.reason = reason;
        if held.entries.front().is_none_or(|front| entry.seq() < front.seq()) {
            let length = (held.pause.length * 2).clamp(timing.retry_first, timing.retry_most);
            held.pause = Pause::of(length, now, 0.0);
        }
        self.hold(entry, now);
    }

    /// Inserts a row by its number among the held rows of its scenario.
    fn hold(&mut self, mut entry: Entry, now: Instant) {
        let Some(held) = self.held.get_mut(&entry.event.about()) else { return };
        entry.held_since.get_or_insert(now);
        let at = held.entries.partition_point(|held| held.seq() < entry.seq());
        held.entries.insert(at, entry);
        if self.held_count == MAX_HELD {
            held.entries.pop_front();
            self.dropped += 1;
        } else {
            self.held_count += 1;
        }
    }

    /// Sets aside the rows that have been rejected for too long.
    fn expire(&mut self, now: Instant, done: &mut Done) {
        let limit = self.timing.refused_for;
        for held in self.held.values_mut() {
            while held.entries.front().is_some_and(|entry| entry.held_since.is_some_and(|at| at + limit <= now)) {
                let Some(entry) = held.entries.pop_front() else { break };
                self.held_count -= 1;
                done.set_aside.push(SetAside { event: entry.event, reason: held.reason.clone() });
            }
        }
    }

    /// Sets aside the rows that have been rejected for too long. Must be called before each batch.
    pub fn expired(&mut self, now: Instant) -> Vec<SetAside> {
        let mut done = Done::default();
        // A batch in progress must be completed first.
        if self.parts.is_empty() {
            self.expire(now, &mut done);
        }
        done.set_aside
    }

    /// Returns the number of outcomes given up since the last call, because of the memory limit or because the store
    /// has lost them.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Removes the rejection state of scenarios without waiting rows.
    pub fn forgive(&mut self) {
        self.held.retain(|_, held| !held.entries.is_empty());
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        let held = self.held.values().flat_map(|held| &held.entries);
        // In each of these queues, the first entry has the lowest number.
        let fronts = [self.older.front(), self.recent.front()].into_iter().flatten();
        self.parts.iter().flatten().chain(&self.released).chain(held).chain(fronts)
    }

    /// Returns the sequence number up to which everything is delivered or given up.
    pub fn position(&self) -> u64 {
        let first = self.entries().map(Entry::seq).chain(self.missing.front().map(|(from, _)| *from)).min();
        first.map_or(self.last, |first| first.saturating_sub(1))
    }

    /// Returns the number of waiting outcomes, in memory and in the store.
    pub fn waiting(&self) -> u64 {
        let in_memory = self.parts.iter().map(Vec::len).sum::<usize>()
            + self.released.len()
            + self.older.len()
            + self.recent.len()
            + self.held_count;
        in_memory as u64 + self.missing.iter().map(|(from, to)| to - from + 1).sum::<u64>()
    }

    /// Returns the time before which no event is waiting: that of the oldest waiting event, or `now`. `None` while some
    /// events are only in the store.
    pub fn complete_until(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.missing.is_empty().then(|| self.oldest().map_or(now, |oldest| oldest.min(now)))
    }

    /// Returns the end of the oldest run in memory.
    pub fn oldest(&self) -> Option<DateTime<Utc>> {
        self.entries().map(|entry| entry.event.at()).min()
    }
}

/// Remaining capacity of a batch.
struct Room {
    limits: Limits,
    rows: usize,
    bytes: usize,
}

impl Room {
    /// Reserves capacity if the size fits, and returns whether it does. The first row always fits.
    fn takes(&mut self, size: Size) -> bool {
        let (rows, bytes) = (self.rows + size.rows, self.bytes + size.bytes);
        if self.rows > 0 && (rows > self.limits.rows || bytes > self.limits.bytes) {
            return false;
        }
        (self.rows, self.bytes) = (rows.max(1), bytes);
        true
    }
}

#[cfg(test)]
mod tests;
