//! What a sink is given next, and what becomes of it. Pure: the time, the answers and the chance are arguments.
//!
//! Outcomes have numbers without gaps. The newest wait in memory, within bounds; what does not fit, and what an earlier
//! agent did not get rid of, is a range of numbers that is read from the store when its turn comes. One batch is under
//! way at a time and stays as it is until it is answered. A batch that is refused as a whole is halved until the row is
//! found that is to blame. A row that is refused for now holds up those of its scenario and no others.
//! Invariant: every number above [`Queue::position`] is here, in a range, or counted as given up.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::{Event, Limits, Refusal, Sent, Size};

/// How many outcomes wait in memory at most.
pub const MAX_OUTCOMES: usize = 10_000;
/// How many bytes they take at most, by [`crate::outcome::Outcome::approximate_bytes`].
pub const MAX_BYTES: usize = 64 << 20;
/// How many outcomes are read from the store at once.
pub const READ: u32 = 256;
/// How many outcomes may wait because rows of their scenario are refused for now; above it the oldest of the scenario is
/// given up.
const MAX_HELD: usize = 10_000;
/// The longest pause that a destination can ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);
/// By how much chance shortens a pause at most.
const JITTER: f64 = 0.25;

/// How long things are waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// Before a second attempt; doubled for each further one.
    pub retry_first: Duration,
    /// The longest pause between two attempts, unless the destination asks for a longer one.
    pub retry_most: Duration,
    /// How long a row is tried again that the destination refuses for now.
    pub refused_for: Duration,
    /// Before the store is read again after it did not answer.
    pub store_retry: Duration,
    /// How long to go on with what waits when the agent stops.
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

/// What to do now.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// Send this.
    Send(Vec<Event>),
    /// Read the outcomes with these numbers from the store, both included.
    Read(u64, u64),
    /// Ask again at this time, or when something came.
    Wait(Option<Instant>),
}

/// A row that is set aside since the destination refuses it.
#[derive(Debug, Clone, PartialEq)]
pub struct SetAside {
    /// What it was.
    pub event: Event,
    /// Why the destination refuses it.
    pub reason: String,
}

/// What an answer led to.
#[derive(Debug, Default, PartialEq)]
pub struct Done {
    /// How many outcomes the destination has now.
    pub sent: u64,
    /// Rows that are set aside.
    pub set_aside: Vec<SetAside>,
}

#[derive(Debug, Clone)]
struct Entry {
    event: Event,
    arrived_at: Instant,
    /// When the destination first refused it, or one of its scenario before it.
    held_since: Option<Instant>,
}

impl Entry {
    fn seq(&self) -> u64 {
        self.event.seq()
    }
}

/// A pause that doubles.
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

/// Rows of a scenario that the destination refuses for now.
#[derive(Debug)]
struct Held {
    /// In the order of their numbers.
    entries: VecDeque<Entry>,
    pause: Pause,
    reason: String,
}

/// What waits for one destination.
#[derive(Debug)]
pub struct Queue {
    timing: Timing,
    limits: Limits,
    max_outcomes: usize,
    /// Batches in the order in which they are sent; the first may be under way.
    parts: VecDeque<Vec<Entry>>,
    /// What was held and is accepted now.
    released: VecDeque<Entry>,
    /// What was read from the store.
    older: VecDeque<Entry>,
    /// Ranges of numbers that are to be read from the store, both ends included.
    missing: VecDeque<(u64, u64)>,
    /// The newest.
    recent: VecDeque<Entry>,
    recent_bytes: usize,
    held: BTreeMap<Arc<str>, Held>,
    held_count: usize,
    /// The pause after the destination did not answer or asked for one.
    away: Option<Pause>,
    /// When the store may be read again.
    read_at: Option<Instant>,
    /// The last number that was handed over.
    last: u64,
    /// Whether what waits is sent without waiting for more.
    hurried: bool,
    /// How many outcomes were given up, for want of room or because the store lost them, since this was last asked.
    dropped: u64,
}

impl Queue {
    /// A queue for a destination that has everything up to `position`, of outcomes numbered up to `last`.
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

    /// Changes how batches are cut; those that were cut stay as they are.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Takes the newest event. When memory is full the oldest of the newest is left to the store.
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

    /// Takes what the store has of the first missing range up to `through`; what it does not have is given up. Nothing is
    /// known yet where `through` is before the range.
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

    /// Notes that the store cannot be read: what is in memory goes on alone for a while.
    pub fn unreadable(&mut self, now: Instant) {
        self.read_at = Some(now + self.timing.store_retry);
    }

    /// Sends from now on without waiting for a batch to fill, or for a pause to end that has begun.
    pub fn hurry(&mut self) {
        self.hurried = true;
        self.away = None;
    }

    /// Until when the destination is left alone.
    pub fn away_until(&self, now: Instant) -> Option<Instant> {
        self.away.map(|pause| pause.until).filter(|until| now < *until)
    }

    /// What to do now. `measure` says how large an event is for the destination.
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

    /// Whether the newest are enough for a batch, or have waited for long enough.
    fn is_ready(&self, now: Instant) -> bool {
        self.hurried
            || self.recent.len() >= self.limits.rows
            || self.recent_bytes >= self.limits.bytes
            || self.recent.front().is_some_and(|entry| entry.arrived_at + self.limits.age <= now)
    }

    /// The next batch: one of each scenario whose rows were refused and whose pause is over, then the others in order.
    fn cut(&mut self, now: Instant, may_read: bool, measure: impl Fn(&Event) -> Size) -> Vec<Entry> {
        let mut batch = Vec::new();
        let mut room = Room { limits: self.limits, rows: 0, bytes: 0 };
        for held in self.held.values_mut().filter(|held| held.pause.until <= now) {
            let Some(entry) = held.entries.front() else { continue };
            if !room.takes(measure(&entry.event)) {
                break;
            }
            // If it is refused again it comes back to where it was.
            batch.extend(held.entries.pop_front());
            self.held_count -= 1;
        }
        // What was handed over later does not overtake what the store still has, unless the store is away.
        let is_ready = self.is_ready(now);
        loop {
            let may_be_recent = is_ready && (self.missing.is_empty() || !may_read);
            let front = self.released.front().or_else(|| self.older.front());
            let Some(front) = front.or_else(|| self.recent.front().filter(|_| may_be_recent)) else { break };
            let is_held = self.held.contains_key(front.event.about());
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

    /// Takes the answer to the batch under way.
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
        if let Some(held) = self.held.remove(entry.event.about()) {
            self.held_count -= held.entries.len();
            self.released.extend(held.entries);
        }
    }

    /// Puts a row among those of its scenario that are refused for now: for the first time, or again.
    fn refuse_for_now(&mut self, entry: Entry, reason: String, now: Instant) {
        let timing = &self.timing;
        let held = self.held.entry(entry.event.about().clone());
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

    /// Puts a row where its number belongs among those of its scenario.
    fn hold(&mut self, mut entry: Entry, now: Instant) {
        let Some(held) = self.held.get_mut(entry.event.about()) else { return };
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

    /// Sets rows aside that were refused for too long.
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

    /// Sets aside what was refused for too long; to be asked for before anything is sent.
    pub fn expired(&mut self, now: Instant) -> Vec<SetAside> {
        let mut done = Done::default();
        // What is under way is answered first.
        if self.parts.is_empty() {
            self.expire(now, &mut done);
        }
        done.set_aside
    }

    /// How many outcomes were given up since the last call, for want of room or because the store does not have them.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Forgets of scenarios that have nothing waiting that rows of them were refused.
    pub fn forgive(&mut self) {
        self.held.retain(|_, held| !held.entries.is_empty());
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        let held = self.held.values().flat_map(|held| &held.entries);
        // The three queues are in the order of their numbers.
        let fronts = [self.older.front(), self.recent.front()].into_iter().flatten();
        self.parts.iter().flatten().chain(&self.released).chain(held).chain(fronts)
    }

    /// The number up to which the destination has everything, or never will.
    pub fn position(&self) -> u64 {
        let first = self.entries().map(Entry::seq).chain(self.missing.front().map(|(from, _)| *from)).min();
        first.map_or(self.last, |first| first.saturating_sub(1))
    }

    /// How many outcomes wait, in memory and in the store.
    pub fn waiting(&self) -> u64 {
        let in_memory = self.parts.iter().map(Vec::len).sum::<usize>()
            + self.released.len()
            + self.older.len()
            + self.recent.len()
            + self.held_count;
        in_memory as u64 + self.missing.iter().map(|(from, to)| to - from + 1).sum::<u64>()
    }

    /// The time before which no event waits: that of the oldest one, or `now`. `None` while some are in the store alone.
    pub fn complete_until(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.missing.is_empty().then(|| self.oldest().map_or(now, |oldest| oldest.min(now)))
    }

    /// When the oldest run ended of those in memory.
    pub fn oldest(&self) -> Option<DateTime<Utc>> {
        self.entries().map(|entry| entry.event.at()).min()
    }
}

/// What still fits into a batch.
struct Room {
    limits: Limits,
    rows: usize,
    bytes: usize,
}

impl Room {
    /// Whether something fits; the first does, however large it is.
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
