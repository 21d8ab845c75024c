//! TCP connections: resolves names and tries the addresses in parallel, each only if the policy allows it.

use std::collections::VecDeque;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::net::{TcpSocket, TcpStream};

use super::failure::of_io;
use super::family::AddressFamily;
use super::resolver::{Found, Resolver};
use super::{Reach, failure, host};
use crate::names::Reason;
use crate::outcome::Failure;

/// Time to wait for one address before the next one is tried in parallel (RFC 8305, section 5).
const STAGGER: Duration = Duration::from_millis(250);
/// Maximum number of addresses of a name that are tried.
const MAX_ADDRESSES: usize = 8;

/// Options for connecting to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DialOptions {
    /// Address families that are used.
    pub family: AddressFamily,
    /// Local address of connections. `None` lets the system choose.
    pub source: Option<IpAddr>,
    /// Address and port to connect to, regardless of the name and port.
    pub pinned: Option<SocketAddr>,
}

/// A resolved host.
pub struct Resolved {
    host: String,
    /// Addresses in the order in which they are tried. Never empty.
    pub addresses: Vec<IpAddr>,
    /// Duration of the name resolution; zero for an IP address.
    pub took: Duration,
    /// Addresses of the other family that are still being resolved.
    rest: Option<BoxFuture<'static, Vec<IpAddr>>>,
}

#[cfg(test)]
impl Resolved {
    /// Creates a host with these addresses.
    pub(super) fn of(host: &str, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        let addresses = addresses.into_iter().collect();
        Self { host: host.to_owned(), addresses, took: Duration::ZERO, rest: None }
    }
}

/// A TCP connection.
#[derive(Debug)]
pub struct TcpConnection {
    /// The socket, with `TCP_NODELAY` set.
    pub stream: TcpStream,
    /// Address of the peer.
    pub peer: SocketAddr,
    /// Duration of the name resolution; zero for an IP address.
    pub resolve: Duration,
    /// Duration of connecting, including failed attempts at other addresses.
    pub connect: Duration,
}

/// Opens the connections of one agent. Clones are cheap and share their state.
#[derive(Debug, Clone, Default)]
pub struct Dialer {
    reach: Reach,
    resolver: Resolver,
}

impl Dialer {
    /// Creates a dialer that connects where the policy allows it.
    pub fn new(reach: Reach, resolver: Resolver) -> Self {
        Self { reach, resolver }
    }

    /// Returns the policy for connections.
    pub fn reach(&self) -> &Reach {
        &self.reach
    }

    /// Resolves a host to at least one address, in the order in which they should be tried. An IP address (IPv6 with or
    /// without brackets) needs no lookup. An internationalized name is converted to ASCII.
    pub async fn resolve(&self, host: &str, route: &DialOptions) -> Result<Resolved, Failure> {
        let bare = host::ascii(host::bare(host))?;
        let known =
            |address| Resolved { host: bare.to_string(), addresses: vec![address], took: Duration::ZERO, rest: None };
        if let Some(pinned) = route.pinned {
            return Ok(known(pinned.ip()));
        }
        let (found, took) = match bare.parse::<IpAddr>() {
            Ok(address) => (Found { addresses: vec![address], rest: None }, Duration::ZERO),
            Err(_) => {
                let began = Instant::now();
                let family = match route.source {
                    Some(IpAddr::V4(_)) if route.family == AddressFamily::Any => AddressFamily::Only4,
                    Some(IpAddr::V6(_)) if route.family == AddressFamily::Any => AddressFamily::Only6,
                    _ => route.family,
                };
                (self.resolver.lookup(&bare, family).await?, began.elapsed())
            }
        };
        let addresses = route.choose(found.addresses);
        if addresses.is_empty() {
            let kind = match (route.family, route.source) {
                (AddressFamily::Only4, _) => "IPv4 address",
                (AddressFamily::Only6, _) => "IPv6 address",
                (_, Some(IpAddr::V4(_))) => "IPv4 address, as the source address is one",
                (_, Some(IpAddr::V6(_))) => "IPv6 address, as the source address is one",
                _ => "address",
            };
            return Err(Failure::new(Reason::Dns, format!("`{bare}` has no {kind}")));
        }
        Ok(Resolved { host: bare.into_owned(), addresses, took, rest: found.rest })
    }

    /// Resolves a host and connects to it.
    pub async fn dial(&self, host: &str, port: u16, route: &DialOptions) -> Result<TcpConnection, Failure> {
        let resolved = self.resolve(host, route).await?;
        self.connect(resolved, port, route).await
    }

    /// Rejects a target behind a proxy that would be rejected without the proxy, because a proxy on this machine can
    /// reach closed ports as well. A name that cannot be resolved here is left to the proxy.
    pub async fn check_behind_proxy(&self, host: &str, port: u16) -> Result<(), Failure> {
        if self.reach.closed().owner(port).is_none() {
            return Ok(());
        }
        let Ok(resolved) = self.resolve(host, &DialOptions::default()).await else { return Ok(()) };
        let rest = match resolved.rest {
            Some(rest) => rest.await,
            None => Vec::new(),
        };
        let mut addresses = resolved.addresses.into_iter().chain(rest);
        addresses.try_for_each(|address| self.reach.check(&resolved.host, SocketAddr::new(address, port)))
    }

    /// Opens a connection to a host. Tries its addresses in order, the next one as soon as the previous one has failed
    /// or has not responded for 250 ms.
    pub async fn connect(&self, resolved: Resolved, port: u16, route: &DialOptions) -> Result<TcpConnection, Failure> {
        let (resolve, source) = (resolved.took, route.source);
        let port = route.pinned.map_or(port, |pinned| pinned.port());
        let began = Instant::now();
        let (stream, peer) = self.first(resolved, port, |address| connect(address, source)).await?;
        let connect = began.elapsed();
        // Waiting for more data before sending (Nagle's algorithm) would only distort the measured times.
        stream.set_nodelay(true).map_err(|error| no_connection(peer, &error))?;
        Ok(TcpConnection { stream, peer, resolve, connect })
    }

    /// Attempts a connection to the addresses of a host and returns the first success; the other attempts are dropped.
    /// The next attempt starts as soon as the previous one has failed or has not succeeded for 250 ms. Nothing is
    /// attempted if the policy forbids one of the addresses.
    pub async fn first<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        resolved: Resolved,
        port: u16,
        attempt: impl Fn(SocketAddr) -> F,
    ) -> Result<(T, SocketAddr), Failure> {
        let Resolved { host, addresses, rest, .. } = resolved;
        for address in &addresses {
            self.reach.check(&host, SocketAddr::new(*address, port))?;
        }
        if let ([address], None) = (addresses.as_slice(), &rest) {
            let address = SocketAddr::new(*address, port);
            return attempt(address).await.map(|done| (done, address));
        }
        let late = async {
            let Some(rest) = rest else { return Vec::new() };
            let mut late = rest.await;
            late.retain(|ip| !addresses.contains(ip) && self.reach.check(&host, SocketAddr::new(*ip, port)).is_ok());
            late
        };
        race(addresses.clone(), late, |ip| {
            let (address, attempt) = (SocketAddr::new(ip, port), &attempt);
            async move { attempt(address).await.map(|done| (done, address)) }
        })
        .await
    }
}

impl DialOptions {
    /// Returns the usable addresses without duplicates, in the order in which they are tried. Families alternate,
    /// starting with the preferred one or that of the first address.
    pub(super) fn choose(&self, found: Vec<IpAddr>) -> Vec<IpAddr> {
        let mut fit: Vec<IpAddr> = Vec::with_capacity(found.len().min(MAX_ADDRESSES));
        for address in found {
            let reachable = self.source.is_none_or(|source| source.is_ipv4() == address.is_ipv4());
            if self.family.takes(address) && reachable && !fit.contains(&address) {
                fit.push(address);
            }
        }
        let six_first = match self.family {
            AddressFamily::Prefer4 => false,
            AddressFamily::Prefer6 => true,
            AddressFamily::Any | AddressFamily::Only4 | AddressFamily::Only6 => {
                fit.first().is_some_and(IpAddr::is_ipv6)
            }
        };
        let (first, second): (Vec<_>, Vec<_>) = fit.into_iter().partition(|address| address.is_ipv6() == six_first);
        let (mut first, mut second) = (first.into_iter(), second.into_iter());
        let mut chosen = Vec::new();
        while chosen.len() < MAX_ADDRESSES {
            let pair = [first.next(), second.next()];
            if pair == [None, None] {
                break;
            }
            chosen.extend(pair.into_iter().flatten());
        }
        chosen.truncate(MAX_ADDRESSES);
        chosen
    }
}

/// Returns the first successful attempt. If all fail, returns the most informative failure: an agent fault, otherwise
/// the last one.
async fn race<T, F: Future<Output = Result<T, Failure>>>(
    addresses: Vec<IpAddr>,
    late: impl Future<Output = Vec<IpAddr>>,
    attempt: impl Fn(IpAddr) -> F,
) -> Result<T, Failure> {
    let mut waiting = VecDeque::from(addresses);
    let mut running = FuturesUnordered::new();
    let mut late = std::pin::pin!(late);
    let (mut all_known, mut worst) = (false, None::<Failure>);
    let mut stagger = std::pin::pin!(tokio::time::sleep(Duration::ZERO));
    let mut start_now = true;
    loop {
        if start_now && let Some(address) = waiting.pop_front() {
            running.push(attempt(address));
            stagger.as_mut().reset(tokio::time::Instant::now() + STAGGER);
            start_now = false;
        }
        if running.is_empty() && waiting.is_empty() && all_known {
            return Err(worst.unwrap_or_else(|| Failure::new(Reason::Connect, "no address could be tried")));
        }
        tokio::select! {
            biased;
            Some(done) = running.next(), if !running.is_empty() => match done {
                Ok(done) => return Ok(done),
                Err(failure) => {
                    if worst.as_ref().is_none_or(|worst| worst.reason != Reason::Resources) {
                        worst = Some(failure);
                    }
                    start_now = true;
                }
            },
            more = &mut late, if !all_known => {
                all_known = true;
                waiting.extend(more);
                start_now |= running.is_empty();
            }
            () = &mut stagger, if !waiting.is_empty() => start_now = true,
        }
    }
}

async fn connect(address: SocketAddr, source: Option<IpAddr>) -> Result<TcpStream, Failure> {
    let Some(source) = source else {
        return TcpStream::connect(address).await.map_err(|error| no_connection(address, &error));
    };
    let socket = if source.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let socket = socket.map_err(|error| no_connection(address, &error))?;
    socket.bind(SocketAddr::new(source, 0)).map_err(|error| {
        Failure::new(Reason::Configuration, format!("`{source}` is not an address to connect from: {error}"))
    })?;
    socket.connect(address).await.map_err(|error| no_connection(address, &error))
}

/// Returns the failure for an address that could not be connected to.
pub(super) fn no_connection(address: SocketAddr, error: &std::io::Error) -> Failure {
    let message = format!("no connection to {address}: {error}");
    if failure::lacks_port(error, address) {
        return Failure::new(Reason::Resources, format!("{message}: this machine has no free port to connect from"));
    }
    of_io(error, Reason::Connect, message)
}
