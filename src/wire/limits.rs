//! What all runs of an agent together may take of this process: descriptors, memory, and threads that read files. Who waits for them longer than
//! its own timeout could not be tested, which is nobody's fault but ours.

use std::sync::Arc;

use nix::sys::resource::{Resource, getrlimit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::bounded::Readers;

/// How many descriptors a run without a browser, or a probe, may need at once: connections that are kept or tried beside
/// each other, and sockets that ask for names.
const DESCRIPTORS_OF_RUN: u64 = 4;
/// Bounds of what is left to the store, the web and everything else.
const MIN_RESERVE: u64 = 32;
const MAX_RESERVE: u64 = 512;
/// How many runs and probes there may be at once where descriptors do not say so.
const MAX_RUNS: u64 = 100_000;
/// How much memory the bodies of all runs may take at once, in bytes.
const MAX_BODIES: usize = 384 << 20;
/// How much memory what is made of bodies to look into them may take at once, in bytes.
const MAX_TREES: usize = 128 << 20;
/// The unit that memory is counted in, in bytes.
const UNIT: usize = 1 << 10;
/// What a body may take without being counted, in bytes: most are smaller, and do not wait for each other.
pub const UNCOUNTED: usize = 64 << 10;
/// What a tree of HTML or XML takes of memory, as a multiple of the text that it is made of.
const TREE_FACTOR: usize = 5;
/// What a value takes within a tree of JSON, in bytes, beside its text.
const JSON_VALUE: usize = 96;

/// What all runs share. Cheap to clone; all clones count together.
#[derive(Debug, Clone)]
pub struct Limits {
    runs: Arc<Semaphore>,
    bodies: Pool,
    /// Apart from bodies, so that nobody who holds a body waits for somebody else's.
    trees: Pool,
    readers: Readers,
}

#[derive(Debug, Clone)]
struct Pool {
    free: Arc<Semaphore>,
    units: u32,
}

/// A place among the runs and probes of this moment, given back when it is dropped.
#[derive(Debug)]
pub struct Place(#[allow(dead_code, reason = "held for its drop alone")] OwnedSemaphorePermit);

/// A part of the memory, given back when it is dropped.
#[derive(Debug)]
pub struct Room(OwnedSemaphorePermit);

impl Default for Limits {
    fn default() -> Self {
        let descriptors = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
        Self::new(runs_within(descriptors), MAX_BODIES, MAX_TREES)
    }
}

/// How many runs and probes fit into so many descriptors.
fn runs_within(descriptors: u64) -> usize {
    let reserve = (descriptors / 4).clamp(MIN_RESERVE, MAX_RESERVE);
    let runs = (descriptors.saturating_sub(reserve) / DESCRIPTORS_OF_RUN).clamp(1, MAX_RUNS);
    usize::try_from(runs).unwrap_or(usize::MAX)
}

impl Limits {
    /// Returns limits of so many runs and probes at once, and so many bytes for bodies and for trees.
    pub fn new(runs: usize, bodies: usize, trees: usize) -> Self {
        Self {
            runs: Arc::new(Semaphore::new(runs)),
            bodies: Pool::new(bodies),
            trees: Pool::new(trees),
            readers: Readers::default(),
        }
    }

    /// The threads that read files which runs name.
    pub fn readers(&self) -> &Readers {
        &self.readers
    }

    /// Waits for a place among the runs and probes of this moment.
    pub async fn place(&self) -> Place {
        Place(Arc::clone(&self.runs).acquire_owned().await.expect("never closed"))
    }

    /// Waits for the memory of a body. A caller takes all that it may need at once, so that no two wait for each other.
    pub async fn body(&self, bytes: usize) -> Room {
        self.bodies.take(bytes).await
    }

    /// Waits for the memory of a tree. A caller holds at most one, and waits for no body while it does.
    pub async fn tree(&self, bytes: usize) -> Room {
        self.trees.take(bytes).await
    }
}

impl Pool {
    fn new(bytes: usize) -> Self {
        let units = u32::try_from(bytes / UNIT).unwrap_or(u32::MAX);
        Self { free: Arc::new(Semaphore::new(units as usize)), units }
    }

    /// Waits for so many bytes. More than there are at all are as many as there are: whoever needs them is alone then.
    async fn take(&self, bytes: usize) -> Room {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).min(self.units);
        Room(Arc::clone(&self.free).acquire_many_owned(units).await.expect("never closed"))
    }
}

/// What a tree of HTML or XML takes of memory, in bytes.
pub fn markup_tree(text: &str) -> usize {
    text.len().saturating_mul(TREE_FACTOR)
}

/// What a tree of JSON takes of memory, in bytes: every comma and every opening bracket may stand before a value.
pub fn json_tree(text: &str) -> usize {
    let values = text.bytes().filter(|byte| matches!(byte, b',' | b'[' | b'{')).count();
    text.len().saturating_add(values.saturating_mul(JSON_VALUE))
}

impl Room {
    /// Gives back what is more than so many bytes.
    pub fn shrink_to(&mut self, bytes: usize) {
        let surplus = self.0.num_permits().saturating_sub(bytes.div_ceil(UNIT));
        drop(self.0.split(surplus));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_leave_descriptors_to_the_rest() {
        for (descriptors, runs) in [(0, 1), (64, 8), (100, 17), (1024, 192), (4096, 896), (65_536, 16_256)] {
            assert_eq!(runs_within(descriptors), runs, "{descriptors}");
        }
        assert_eq!(runs_within(u64::MAX), 100_000);
    }

    #[tokio::test]
    async fn memory_is_counted_and_given_back() {
        let limits = Limits::new(1, 100 << 10, 50 << 10);
        let free = || limits.bodies.free.available_permits();
        let mut first = limits.body(60 << 10).await;
        assert_eq!(free(), 40);
        let mut second = std::pin::pin!(limits.body(41 << 10));
        assert!(futures_util::poll!(&mut second).is_pending());
        first.shrink_to(59 << 10);
        let second = second.await;
        assert_eq!(free(), 0);
        // Whoever holds all bodies can still look into one.
        drop(limits.tree(50 << 10).await);
        drop((first, second));
        // A part of a unit is a unit; more than everything is everything.
        let odd = limits.body(1).await;
        assert_eq!(free(), 99);
        drop(odd);
        let mut all = limits.body(usize::MAX).await;
        assert_eq!(free(), 0);
        all.shrink_to(usize::MAX);
        assert_eq!(free(), 0);
        all.shrink_to(0);
        assert_eq!(free(), 100);
    }

    #[test]
    fn the_limits_of_an_agent_are_half_a_gigabyte() {
        let limits = Limits::default();
        assert_eq!((limits.bodies.units + limits.trees.units) as usize * UNIT, 512 << 20);
        // Many small values weigh more than one long text.
        assert_eq!(json_tree(&"x".repeat(1000)), 1000);
        assert!(json_tree(&format!("[{}1]", "1,".repeat(500))) > 48_000);
        assert_eq!(markup_tree("12345"), 25);
    }

    #[tokio::test]
    async fn places_are_given_in_turn() {
        let limits = Limits::new(1, 0, 0);
        let first = limits.place().await;
        let mut second = std::pin::pin!(limits.place());
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(first);
        second.await;
    }
}
