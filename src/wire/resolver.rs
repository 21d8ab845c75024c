//! Resolves names as the system would, but without blocking threads: with `/etc/hosts`, then the name servers, search
//! list and options of `/etc/resolv.conf`.
//!
//! A name server that does not respond only delays the lookups that need it. Nothing is cached between lookups, because
//! name resolution is part of what a check tests. Both files are read again when they change. DNS over TLS or HTTPS,
//! `nsswitch.conf` and scopes of link-local addresses are deliberately not supported.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Either, select};
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::system_conf::parse_resolv_conf;
use hickory_resolver::{Hosts, Resolver as Client, TokioResolver};
use tokio::runtime::Handle;

use super::AddressFamily;
use super::failure::{of_io, own_limit};
use crate::names::Reason;
use crate::outcome::Failure;

/// Time to wait for the addresses of the other family when those of one family have arrived (RFC 8305, section 3).
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);
/// Minimum time between two checks for changed files.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum number of runtimes for which a client is kept.
const MAX_CLIENTS: usize = 16;
/// Maximum number of pending queries on one connection to a name server.
const MAX_QUERIES: usize = 4096;

/// Resolves names. Clones are cheap and share the contents of the system's files.
#[derive(Clone)]
pub struct Resolver(Arc<Shared>);

struct Shared {
    resolv_conf: PathBuf,
    hosts: PathBuf,
    /// Port of the name servers.
    port: u16,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    checked_at: Option<Instant>,
    stamps: [Option<Stamp>; 2],
    /// Clients by runtime, because a client's connections belong to the runtime that created them. Empty until the
    /// files are read.
    clients: HashMap<tokio::runtime::Id, Arc<System>>,
}

/// Version of a file: modification time (seconds, nanoseconds), size and inode.
type Stamp = (i64, i64, u64, u64);

/// Name resolution settings of the system.
struct System {
    client: TokioResolver,
    hosts: Hosts,
    search: Vec<Name>,
    ndots: usize,
}

/// Addresses of a name.
pub(super) struct Found {
    /// Available addresses, IPv6 first.
    pub(super) addresses: Vec<IpAddr>,
    /// Addresses of the other family, if they are still being resolved.
    pub(super) rest: Option<BoxFuture<'static, Vec<IpAddr>>>,
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").field("resolv_conf", &self.0.resolv_conf).finish_non_exhaustive()
    }
}

impl Default for Resolver {
    fn default() -> Self {
        Self::of_files("/etc/resolv.conf".into(), "/etc/hosts".into(), 53)
    }
}

impl Resolver {
    /// Creates a resolver that reads these files instead of the system's, and queries name servers on this port.
    pub fn of_files(resolv_conf: PathBuf, hosts: PathBuf, port: u16) -> Self {
        Self(Arc::new(Shared { resolv_conf, hosts, port, state: Mutex::default() }))
    }

    /// Resolves a name. Fails with [`Reason::Dns`] if it has no address of the family, and with [`Reason::Resources`]
    /// if the process lacks resources for the query.
    pub(super) async fn lookup(&self, host: &str, family: AddressFamily) -> Result<Found, Failure> {
        let name = Name::from_str_relaxed(host).ok().filter(|name| name.num_labels() > 0);
        let name = name.ok_or_else(|| unresolved(host, "it is not a name"))?;
        let system = self.system().map_err(|error| unreadable(host, &error))?;
        if let Some(addresses) = system.in_hosts(&name, family) {
            return Ok(Found { addresses, rest: None });
        }
        if name.is_localhost() {
            // RFC 6761, section 6.3: `localhost` is never queried.
            let own = [IpAddr::V6(Ipv6Addr::LOCALHOST), IpAddr::V4(Ipv4Addr::LOCALHOST)];
            let addresses = own.into_iter().filter(|address| family.takes(*address)).collect();
            return Ok(Found { addresses, rest: None });
        }
        let mut last = None;
        for candidate in system.candidates(&name) {
            match system.addresses(candidate, family).await {
                Ok(found) if !found.addresses.is_empty() => return Ok(found),
                // A name that does not exist may exist with the next suffix. An error is more informative than a
                // missing name, and the first one more than later ones.
                Err(error) if last.as_ref().is_none_or(|last| is_absence(last) && !is_absence(&error)) => {
                    last = Some(error);
                }
                Ok(_) | Err(_) => {}
            }
        }
        Err(last.map_or_else(|| unresolved(host, "it has no address"), |error| failure(host, &error)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the current settings for the calling runtime. Fails if this process cannot read the files.
    fn system(&self) -> io::Result<Arc<System>> {
        let mut state = self.state();
        if state.checked_at.is_none_or(|at| at.elapsed() >= CHECK_INTERVAL) {
            state.checked_at = Some(Instant::now());
            let stamps = [stamp(&self.0.resolv_conf), stamp(&self.0.hosts)];
            if stamps != state.stamps {
                state.stamps = stamps;
                state.clients.clear();
            }
        }
        if state.clients.len() > MAX_CLIENTS {
            state.clients.clear();
        }
        let runtime = Handle::current().id();
        if let Some(known) = state.clients.get(&runtime) {
            return Ok(Arc::clone(known));
        }
        let system = Arc::new(self.read()?);
        state.clients.insert(runtime, Arc::clone(&system));
        Ok(system)
    }

    fn read(&self) -> io::Result<System> {
        let text = contents(&self.0.resolv_conf)?;
        let (mut config, mut options) = parse_resolv_conf(&text).unwrap_or_else(|_| {
            // Defaults of the C library if no name server is configured.
            let own = NameServerConfig::udp_and_tcp(IpAddr::V4(Ipv4Addr::LOCALHOST));
            (ResolverConfig::from_parts(None, Vec::new(), vec![own]), ResolverOpts::default())
        });
        for connection in config.name_servers.iter_mut().flat_map(|server| &mut server.connections) {
            connection.port = self.0.port;
        }
        options.use_hosts_file = ResolveHosts::Never;
        options.cache_size = 0;
        (options.positive_max_ttl, options.negative_max_ttl) = (Some(Duration::ZERO), Some(Duration::ZERO));
        options.max_active_requests = MAX_QUERIES;
        let (search, ndots) = (search_list(&config), options.ndots);
        let mut builder = Client::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        let client = builder.build().expect("fails for DNSSEC and TLS alone, neither of which is used");
        let mut hosts = Hosts::default();
        if let Err(error) = hosts.read_hosts_conf(contents(&self.0.hosts)?.as_slice()) {
            tracing::warn!(%error, file = %self.0.hosts.display(), "cannot read the file of hosts");
        }
        Ok(System { client, hosts, search, ndots })
    }
}

/// HTTP clients that open their own connections resolve names in the same way.
impl reqwest::dns::Resolve for Resolver {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let found = resolver.lookup(name.as_str(), AddressFamily::Any).await.map_err(|failure| failure.message)?;
            let addresses = found.addresses.into_iter().map(|ip| SocketAddr::new(ip, 0));
            Ok(Box::new(addresses) as reqwest::dns::Addrs)
        })
    }
}

/// Returns the search suffixes: those of `search`, otherwise the domain of this machine.
fn search_list(config: &ResolverConfig) -> Vec<Name> {
    let domain = config.domain.as_slice();
    let suffixes = if config.search.is_empty() { domain } else { &config.search };
    let mut list: Vec<Name> = Vec::new();
    for suffix in suffixes.iter().filter(|suffix| !suffix.is_root()) {
        if !list.contains(suffix) {
            list.push(suffix.clone());
        }
    }
    list
}

/// Reads a file; a missing one counts as empty. Fails if this process lacks the resources to read it.
fn contents(path: &Path) -> io::Result<Vec<u8>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(bytes),
        Err(error) if own_limit(&error).is_some() => Err(error),
        Err(_) => Ok(Vec::new()),
    }
}

fn unreadable(host: &str, error: &io::Error) -> Failure {
    of_io(error, Reason::Dns, format!("`{host}` did not resolve: the system's files cannot be read: {error}"))
}

fn stamp(path: &Path) -> Option<Stamp> {
    let about = std::fs::metadata(path).ok()?;
    Some((about.mtime(), about.mtime_nsec(), about.size(), about.ino()))
}

impl System {
    fn in_hosts(&self, name: &Name, family: AddressFamily) -> Option<Vec<IpAddr>> {
        let of = |kind| self.hosts.lookup_static_host(&Query::query(name.clone(), kind));
        let found = [RecordType::AAAA, RecordType::A].into_iter().filter_map(of);
        let addresses: Vec<IpAddr> = found
            .flat_map(|lookup| lookup.answers().iter().filter_map(|record| record.data.ip_addr()).collect::<Vec<_>>())
            .filter(|address| family.takes(*address))
            .collect();
        (!addresses.is_empty()).then_some(addresses)
    }

    /// Returns the absolute names to query for a name, in order (resolv.conf(5), `ndots`).
    fn candidates(&self, name: &Name) -> Vec<Name> {
        let mut whole = name.clone();
        whole.set_fqdn(true);
        if name.is_fqdn() {
            return vec![whole];
        }
        let within = self.search.iter().filter_map(|suffix| name.clone().append_domain(suffix).ok());
        // A name has one label more than dots.
        if usize::from(name.num_labels()) > self.ndots {
            std::iter::once(whole).chain(within).collect()
        } else {
            within.chain([whole]).collect()
        }
    }

    async fn addresses(&self, name: Name, family: AddressFamily) -> Result<Found, NetError> {
        let ask = |kind| {
            let (client, name) = (self.client.clone(), name.clone());
            async move {
                let found = client.lookup(name, kind).await?;
                Ok(found.answers().iter().filter_map(|record| record.data.ip_addr()).collect::<Vec<IpAddr>>())
            }
            .boxed()
        };
        let whole = |addresses| Found { addresses, rest: None };
        match family {
            AddressFamily::Only4 => ask(RecordType::A).await.map(whole),
            AddressFamily::Only6 => ask(RecordType::AAAA).await.map(whole),
            AddressFamily::Prefer4 => first_of(ask(RecordType::A), ask(RecordType::AAAA)).await.map(whole),
            AddressFamily::Prefer6 => first_of(ask(RecordType::AAAA), ask(RecordType::A)).await.map(whole),
            AddressFamily::Any => both(ask(RecordType::AAAA), ask(RecordType::A)).await,
        }
    }
}

type Lookup = BoxFuture<'static, Result<Vec<IpAddr>, NetError>>;

/// Returns the addresses of the first lookup, or those of the second if the first has none.
async fn first_of(first: Lookup, second: Lookup) -> Result<Vec<IpAddr>, NetError> {
    match first.await {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => second.await,
        Err(error) => second.await.map_err(|other| if is_absence(&error) { other } else { error }),
    }
}

/// Returns the addresses of both lookups. If one is slow, its addresses follow after those of the other.
async fn both(six: Lookup, four: Lookup) -> Result<Found, NetError> {
    let (first, mut other, six_is_first) = match select(six, four).await {
        Either::Left((found, other)) => (found, other, true),
        Either::Right((found, other)) => (found, other, false),
    };
    let ordered = |first: Vec<IpAddr>, other: Vec<IpAddr>| {
        let (mut all, rest) = if six_is_first { (first, other) } else { (other, first) };
        all.extend(rest);
        Found { addresses: all, rest: None }
    };
    match first {
        Ok(first) if !first.is_empty() => match tokio::time::timeout(RESOLUTION_DELAY, &mut other).await {
            Ok(other) => Ok(ordered(first, other.unwrap_or_default())),
            Err(_) => Ok(Found { addresses: first, rest: Some(other.map(Result::unwrap_or_default).boxed()) }),
        },
        Ok(first) => other.await.map(|other| ordered(first, other)),
        Err(error) => match other.await {
            Ok(other) if !other.is_empty() => Ok(ordered(Vec::new(), other)),
            Err(other) if is_absence(&error) => Err(other),
            _ => Err(error),
        },
    }
}

/// Returns whether an error means that the name or address does not exist, which is a valid response.
fn is_absence(error: &NetError) -> bool {
    matches!(error, NetError::Dns(DnsError::NoRecordsFound(_)))
}

fn unresolved(host: &str, why: &str) -> Failure {
    Failure::new(Reason::Dns, format!("`{host}` did not resolve: {why}"))
}

/// Converts an error into the failure of a lookup.
fn failure(host: &str, error: &NetError) -> Failure {
    match error {
        NetError::Io(error) => {
            of_io(&**error, Reason::Dns, format!("`{host}` did not resolve: cannot use a name server: {error}"))
        }
        NetError::Dns(DnsError::NoRecordsFound(none)) if none.response_code == ResponseCode::NXDomain => {
            unresolved(host, "no such name")
        }
        NetError::Dns(DnsError::NoRecordsFound(_)) => unresolved(host, "it has no address"),
        NetError::Dns(DnsError::ResponseCode(code)) => unresolved(host, &format!("the name server returned {code}")),
        NetError::Timeout => unresolved(host, "no name server responded in time"),
        NetError::Busy | NetError::NoConnections => {
            let unreached = "no name server can be reached";
            // The resolver does not report why it has no socket; opening another one shows whether sockets are
            // exhausted.
            match std::net::UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0)) {
                Err(error) => of_io(&error, Reason::Dns, format!("`{host}` did not resolve: {unreached}: {error}")),
                Ok(_) => unresolved(host, unreached),
            }
        }
        other => unresolved(host, &other.to_string()),
    }
}

#[cfg(test)]
mod tests;
