//! Names and TCP.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::net::{TcpSocket, TcpStream};

use super::Reach;
use crate::names::Reason;
use crate::outcome::Failure;

/// How long one address is waited for before the next one is tried beside it (RFC 8305 asks for 250 ms).
const STAGGER: Duration = Duration::from_millis(250);
/// So many addresses of a name are tried.
const ADDRESSES: usize = 8;

/// Which addresses of a name are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Family {
    /// Those that there are, in the order of the system.
    #[default]
    Any,
    /// IPv4 first.
    Prefer4,
    /// IPv6 first.
    Prefer6,
    /// IPv4 alone.
    Only4,
    /// IPv6 alone.
    Only6,
}

/// How a host is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Route {
    /// Which addresses of the name are used.
    pub family: Family,
    /// The address that connections come from; none: the system's choice.
    pub source: Option<IpAddr>,
    /// Connects here, whatever the name and the port.
    pub pinned: Option<SocketAddr>,
}

/// A TCP connection.
#[derive(Debug)]
pub struct Dialed {
    /// The connection; `TCP_NODELAY` is set.
    pub stream: TcpStream,
    /// The address that answered.
    pub peer: SocketAddr,
    /// How long the name took; zero for an address.
    pub resolve: Duration,
    /// How long connecting took, the addresses before it included.
    pub connect: Duration,
}

/// Makes the connections of one agent. Cheap to clone; all clones share what they know.
#[derive(Debug, Clone, Default)]
pub struct Dialer {
    reach: Reach,
}

impl Dialer {
    /// Returns a dialer that connects where the policy allows it.
    pub fn new(reach: Reach) -> Self {
        Self { reach }
    }

    /// Where connections may lead.
    pub fn reach(&self) -> &Reach {
        &self.reach
    }
}

/// The addresses of a host, in the order in which they are to be tried: never empty. An address (IPv6 with or without
/// brackets) takes no lookup.
pub async fn resolve(host: &str, route: &Route) -> Result<(Vec<IpAddr>, Duration), Failure> {
    if let Some(pinned) = route.pinned {
        return Ok((vec![pinned.ip()], Duration::ZERO));
    }
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let (found, took) = match bare.parse::<IpAddr>() {
        Ok(address) => (vec![address], Duration::ZERO),
        Err(_) => {
            let began = Instant::now();
            let found = tokio::net::lookup_host((bare, 0))
                .await
                .map_err(|error| Failure::new(Reason::Dns, format!("`{bare}` did not resolve: {error}")))?;
            (found.map(|address| address.ip()).collect(), began.elapsed())
        }
    };
    let chosen = route.choose(found);
    if chosen.is_empty() {
        let kind = match (route.family, route.source) {
            (Family::Only4, _) => "IPv4 address",
            (Family::Only6, _) => "IPv6 address",
            (_, Some(IpAddr::V4(_))) => "IPv4 address, as the source address is one",
            (_, Some(IpAddr::V6(_))) => "IPv6 address, as the source address is one",
            _ => "address",
        };
        return Err(Failure::new(Reason::Dns, format!("`{bare}` has no {kind}")));
    }
    Ok((chosen, took))
}

impl Route {
    /// The addresses that may be used, in the order in which they are tried, each once.
    pub(super) fn choose(&self, found: Vec<IpAddr>) -> Vec<IpAddr> {
        let mut chosen: Vec<IpAddr> = Vec::with_capacity(found.len().min(ADDRESSES));
        for address in found {
            let fits = match self.family {
                Family::Only4 => address.is_ipv4(),
                Family::Only6 => address.is_ipv6(),
                Family::Any | Family::Prefer4 | Family::Prefer6 => true,
            };
            let reachable = self.source.is_none_or(|source| source.is_ipv4() == address.is_ipv4());
            if fits && reachable && !chosen.contains(&address) {
                chosen.push(address);
            }
        }
        match self.family {
            Family::Prefer4 => chosen.sort_by_key(IpAddr::is_ipv6),
            Family::Prefer6 => chosen.sort_by_key(IpAddr::is_ipv4),
            Family::Any | Family::Only4 | Family::Only6 => {}
        }
        chosen.truncate(ADDRESSES);
        chosen
    }
}

/// Resolves a host and connects to it: its addresses in turn, the next one as soon as the one before has failed or has
/// not answered for a quarter of a second.
pub async fn dial(host: &str, port: u16, route: &Route) -> Result<Dialed, Failure> {
    let (addresses, resolve) = resolve(host, route).await?;
    let port = route.pinned.map_or(port, |pinned| pinned.port());
    let began = Instant::now();
    let mut addresses = addresses.into_iter().map(|ip| SocketAddr::new(ip, port));
    let first = addresses.next().expect("`resolve` gives at least one address");
    let (stream, peer) = if addresses.len() == 0 {
        connect(first, route.source).await
    } else {
        race(first, addresses, |address| connect(address, route.source)).await
    }?;
    let connect = began.elapsed();
    // What is sent is sent whole: waiting for more would only add to the times.
    stream.set_nodelay(true).map_err(|error| no_connection(peer, &error))?;
    Ok(Dialed { stream, peer, resolve, connect })
}

/// The first attempt that succeeds; the last failure when none does.
async fn race<T, F: Future<Output = Result<T, Failure>>>(
    first: SocketAddr,
    mut rest: impl Iterator<Item = SocketAddr>,
    attempt: impl Fn(SocketAddr) -> F,
) -> Result<T, Failure> {
    let mut running = FuturesUnordered::new();
    running.push(attempt(first));
    let mut last = None;
    loop {
        let patience = tokio::time::sleep(STAGGER);
        tokio::select! {
            done = running.next() => match done {
                Some(Ok(stream)) => return Ok(stream),
                Some(Err(failure)) => last = Some(failure),
                None => {}
            },
            () = patience => {}
        }
        match rest.next() {
            Some(address) => running.push(attempt(address)),
            None if running.is_empty() => break,
            None => {
                while let Some(done) = running.next().await {
                    match done {
                        Ok(stream) => return Ok(stream),
                        Err(failure) => last = Some(failure),
                    }
                }
                break;
            }
        }
    }
    Err(last.expect("at least one attempt was made, and none succeeded"))
}

async fn connect(address: SocketAddr, source: Option<IpAddr>) -> Result<(TcpStream, SocketAddr), Failure> {
    let Some(source) = source else {
        let stream = TcpStream::connect(address).await.map_err(|error| no_connection(address, &error))?;
        return Ok((stream, address));
    };
    let socket = if source.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let bound = socket.and_then(|socket| socket.bind(SocketAddr::new(source, 0)).map(|()| socket));
    let socket = bound.map_err(|error| {
        Failure::new(Reason::Configuration, format!("`{source}` is not an address to connect from: {error}"))
    })?;
    let stream = socket.connect(address).await.map_err(|error| no_connection(address, &error))?;
    Ok((stream, address))
}

fn no_connection(address: SocketAddr, error: &std::io::Error) -> Failure {
    Failure::new(Reason::Connect, format!("no connection to {address}: {error}"))
}
