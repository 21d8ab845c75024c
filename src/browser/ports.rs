//! Ports of drivers and browsers: a block that pages cannot reach.
//!
//! Access to a driver allows running programs as the agent. Chromedriver's WebSocket requires nothing but the port and
//! trusts every page on this machine. Therefore all ports of an agent's drivers are in one block that is chosen when
//! the agent starts, and every browser is configured at its start to treat the block as unreachable: Chromium with a
//! host resolver rule, Firefox with a list of banned ports. Neither adds cost to requests.
//!
//! Pages on a port in the block cannot be opened. Therefore the block is placed where sites are unlikely: below the
//! ephemeral ports of the system and the service ports of Kubernetes, and where no port is in use when it is chosen. A
//! step that opens such a page fails with a message that names the block.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::wire::{ClosedPort, ClosedPorts};

/// First port at which a block may start.
const LOWEST: u16 = 20_000;
/// Port before which a block must end; the service ports of Kubernetes start here.
const END: u16 = 30_000;
/// Maximum number of ports that the driver of one session and its browser listen on.
const PER_SESSION: usize = 3;

/// A block of ports. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct PortBlock(Arc<Block>);

#[derive(Debug)]
struct Block {
    /// First port, a multiple of the size.
    first: u16,
    /// Number of ports: 100, or 1000 for many sessions.
    size: u16,
    used: Mutex<BTreeSet<u16>>,
    closed: ClosedPorts,
}

/// A port of the block, reserved for one driver until dropped. Requests and probes cannot reach it either.
#[derive(Debug)]
pub(super) struct Port {
    block: Arc<Block>,
    closed: ClosedPort,
}

impl PortBlock {
    /// Chooses a block for a number of concurrent sessions.
    pub(super) fn choose(max_sessions: usize, closed: ClosedPorts) -> Self {
        let size: u16 = if max_sessions.saturating_mul(2 * PER_SESSION) <= 100 { 100 } else { 1000 };
        let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
        let ephemeral = range.split_whitespace().next().and_then(|first| first.parse().ok());
        let end = ephemeral.unwrap_or(END).clamp(LOWEST + 10 * size, END);
        let blocks = (end - LOWEST) / size;
        // Agents on one machine should choose different blocks.
        let begin = u16::try_from(uuid::Uuid::now_v7().as_u128() % u128::from(blocks)).unwrap_or(0);
        let first = choose_first(size, blocks, begin, is_free);
        Self(Arc::new(Block { first, size, used: Mutex::default(), closed }))
    }

    /// Reserves a port that is not in use. Returns `None` if all ports are in use.
    pub(super) fn take(&self) -> Option<Port> {
        let block = &self.0;
        let mut used = block.used();
        let free = (block.first..block.first + block.size)
            .find(|port| !used.contains(port) && TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())?;
        used.insert(free);
        Some(Port { block: Arc::clone(block), closed: block.closed.close(free, "a browser driver") })
    }

    /// Returns a pattern of Chromium's host rules that matches `HOST:PORT` for every port in the block; `?` stands for
    /// a digit.
    pub(super) fn pattern(&self) -> String {
        let digits = self.0.size.ilog10() as usize;
        format!("*:{}{}", self.0.first / self.0.size, "?".repeat(digits))
    }

    /// Returns the block in the format of Firefox's list of banned ports.
    pub(super) fn range(&self) -> String {
        format!("{}-{}", self.0.first, self.0.first + self.0.size - 1)
    }

    /// Returns whether a port is in the block.
    pub(super) fn contains(&self, port: u16) -> bool {
        port / self.0.size == self.0.first / self.0.size
    }
}

/// Returns the first port of a block of `size` ports that are all free. The search starts at block number `begin` and
/// covers all `blocks`; if no block is free, returns the first port of block `begin`.
fn choose_first(size: u16, blocks: u16, begin: u16, is_free: impl Fn(u16) -> bool) -> u16 {
    let first = |number: u16| LOWEST + (begin + number) % blocks * size;
    (0..blocks).map(first).find(|first| (*first..first + size).all(&is_free)).unwrap_or(first(0))
}

/// Returns whether a port is unused on all addresses of this machine.
fn is_free(port: u16) -> bool {
    let free = |address: IpAddr| match TcpListener::bind((address, port)) {
        Err(error) => error.kind() != ErrorKind::AddrInUse,
        Ok(_) => true,
    };
    free(Ipv4Addr::UNSPECIFIED.into()) && free(Ipv6Addr::UNSPECIFIED.into())
}

impl Block {
    fn used(&self) -> MutexGuard<'_, BTreeSet<u16>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Port {
    /// Returns the port number.
    pub(super) fn number(&self) -> u16 {
        self.closed.port()
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.block.used().remove(&self.closed.port());
    }
}

/// Returns the names and addresses that lead to this machine without a name server, as patterns of Chromium's host
/// rules.
pub(super) fn names_of_this_machine() -> impl Iterator<Item = String> {
    let fixed = ["localhost", "*.localhost", "127.*", "[::1]", "0.0.0.0", "[::]", "[::ffff:7f*"];
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_owned());
    let own = nix::ifaddrs::getifaddrs().into_iter().flatten().filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|address| address.ip().to_string());
        v4.or_else(|| address.as_sockaddr_in6().map(|address| format!("[{}]", address.ip())))
    });
    fixed.map(ToOwned::to_owned).into_iter().chain(name).chain(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_of_one_block_and_closed_while_they_are_used() {
        for (sessions, size) in [(1, 100), (16, 100), (17, 1000), (200, 1000)] {
            let closed = ClosedPorts::default();
            let block = PortBlock::choose(sessions, closed.clone());
            let (one, two) = (block.take().unwrap(), block.take().unwrap());
            assert_ne!(one.number(), two.number());
            let (first, last) = block.range().split_once('-').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
            let (first, last): (u16, u16) = (first.parse().unwrap(), last.parse().unwrap());
            assert_eq!((first % size, last - first + 1), (0, size));
            let pattern = block.pattern();
            let begin = pattern.trim_start_matches("*:").trim_end_matches('?');
            for port in [&one, &two] {
                let number = port.number();
                assert!(
                    (first..=last).contains(&number) && number.to_string().starts_with(begin),
                    "{pattern} {number}"
                );
                assert!(closed.owner(number).is_some());
            }
            assert_eq!(pattern.len() - 2, first.to_string().len());
            let number = one.number();
            drop(one);
            assert_eq!(closed.owner(number), None);
            assert_eq!(block.take().unwrap().number(), number);
        }
    }

    #[test]
    fn a_block_lies_where_nobody_listens() {
        let taken = |port: u16| !(29_900..30_000).contains(&port) && port != 20_050;
        for (size, blocks, begin, first) in
            [(100, 100, 98, 29_800), (100, 100, 99, 20_100), (1000, 10, 8, 28_000), (1000, 10, 9, 21_000)]
        {
            assert_eq!(choose_first(size, blocks, begin, taken), first, "{size} {begin}");
        }
        assert_eq!(choose_first(100, 100, 3, |_| false), 20_300);
        for address in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            assert!(!is_free(listener.local_addr().unwrap().port()), "{address}");
        }
        let block = PortBlock::choose(1, ClosedPorts::default());
        let first: u16 = block.range().split_once('-').unwrap().0.parse().unwrap();
        assert!((LOWEST..END).contains(&first), "{first}");
        for (port, is_inside) in [(first - 1, false), (first, true), (first + 99, true), (first + 100, false)] {
            assert_eq!(block.contains(port), is_inside, "{first} {port}");
        }
    }

    #[test]
    fn a_port_that_somebody_listens_on_is_passed_over() {
        let block = PortBlock::choose(1, ClosedPorts::default());
        let first = block.take().unwrap().number();
        let _other = TcpListener::bind((Ipv4Addr::LOCALHOST, first)).unwrap();
        assert_ne!(block.take().unwrap().number(), first);
    }
}
