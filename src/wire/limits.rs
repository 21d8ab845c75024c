//! Limits on the process resources that all runs of an agent share: descriptors, memory, and threads that read files. A
//! run that waits for them longer than its timeout could not be tested, which is an agent fault.

use std::sync::Arc;

use nix::sys::resource::{Resource, getrlimit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::bounded::Readers;

/// Maximum number of descriptors that a run without a browser, or a probe, needs at once: idle connections, parallel
/// connection attempts, and sockets for DNS queries.
const DESCRIPTORS_OF_RUN: u64 = 4;
/// Bounds of the number of descriptors reserved for the store, the web server and everything else.
const MIN_RESERVE: u64 = 32;
const MAX_RESERVE: u64 = 512;
/// Maximum number of concurrent runs and probes if the number of descriptors is not the limit.
const MAX_RUNS: u64 = 100_000;
/// Maximum total memory for the bodies of all runs, in bytes.
const MAX_BODIES: usize = 384 << 20;
/// Maximum total memory for the trees that bodies are parsed into, in bytes.
const MAX_TREES: usize = 128 << 20;
/// Unit in which memory is accounted for, in bytes.
const UNIT: usize = 1 << 10;
/// Size up to which a body is not accounted for, in bytes. Most bodies are smaller and need not wait.
pub const UNCOUNTED: usize = 64 << 10;
/// Memory of an HTML or XML tree, as a multiple of its text.
const TREE_FACTOR: usize = 5;
/// Memory of a value in a JSON tree in addition to its text, in bytes.
const JSON_VALUE: usize = 96;

/// Resource limits that all runs share. Clones are cheap and share the same counts.
#[derive(Debug, Clone)]
pub struct Limits {
    runs: Arc<Semaphore>,
    bodies: Pool,
    /// Separate from bodies, so that a run that holds a body never waits for that of another run.
    trees: Pool,
    readers: Readers,
}

#[derive(Debug, Clone)]
struct Pool {
    free: Arc<Semaphore>,
    units: u32,
}

/// A slot for a concurrent run or probe, released on drop.
#[derive(Debug)]
pub struct Place(#[allow(dead_code, reason = "held for its drop alone")] OwnedSemaphorePermit);

/// Reserved memory, released on drop.
#[derive(Debug)]
pub struct Room(OwnedSemaphorePermit);

impl Default for Limits {
    fn default() -> Self {
        let descriptors = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
        Self::new(runs_within(descriptors), MAX_BODIES, MAX_TREES)
    }
}

/// Returns how many concurrent runs and probes are possible with this number of descriptors.
fn runs_within(descriptors: u64) -> usize {
    let reserve = (descriptors / 4).clamp(MIN_RESERVE, MAX_RESERVE);
    let runs = (descriptors.saturating_sub(reserve) / DESCRIPTORS_OF_RUN).clamp(1, MAX_RUNS);
    usize::try_from(runs).unwrap_or(usize::MAX)
}

impl Limits {
    /// Creates limits for concurrent runs and probes, and for the bytes of bodies and trees.
    pub fn new(runs: usize, bodies: usize, trees: usize) -> Self {
        Self {
            runs: Arc::new(Semaphore::new(runs)),
            bodies: Pool::new(bodies),
            trees: Pool::new(trees),
            readers: Readers::default(),
        }
    }

    /// Returns the threads that read the files named by scenarios.
    pub fn readers(&self) -> &Readers {
        &self.readers
    }

    /// Acquires a slot for a run or probe.
    pub async fn place(&self) -> Place {
        Place(Arc::clone(&self.runs).acquire_owned().await.expect("never closed"))
    }

    /// Reserves the memory for a body. A caller reserves the maximum it may need at once, so that no two callers wait
    /// for each other.
    pub async fn body(&self, bytes: usize) -> Room {
        self.bodies.take(bytes).await
    }

    /// Reserves the memory for a tree. A caller holds at most one, and must not wait for a body meanwhile.
    pub async fn tree(&self, bytes: usize) -> Room {
        self.trees.take(bytes).await
    }
}

impl Pool {
    fn new(bytes: usize) -> Self {
        let units = u32::try_from(bytes / UNIT).unwrap_or(u32::MAX);
        Self { free: Arc::new(Semaphore::new(units as usize)), units }
    }

    /// Reserves a number of bytes. A request for more than the total is reduced to the total, so that its holder runs
    /// alone.
    async fn take(&self, bytes: usize) -> Room {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).min(self.units);
        Room(Arc::clone(&self.free).acquire_many_owned(units).await.expect("never closed"))
    }
}

/// Estimates the memory of an HTML or XML tree, in bytes.
pub fn markup_tree(text: &str) -> usize {
    text.len().saturating_mul(TREE_FACTOR)
}

/// Estimates the memory of a JSON tree, in bytes. Every comma and every opening bracket may precede a value.
pub fn json_tree(text: &str) -> usize {
    let values = text.bytes().filter(|byte| matches!(byte, b',' | b'[' | b'{')).count();
    text.len().saturating_add(values.saturating_mul(JSON_VALUE))
}

impl Room {
    /// Releases everything beyond this number of bytes.
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
        // A holder of all memory for bodies can still build a tree.
        drop(limits.tree(50 << 10).await);
        drop((first, second));
        // A part of a unit counts as a unit; a request for more than everything gets everything.
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
        // Many small values need more memory than one long text.
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
