//! Policy for connections to the addresses of this machine.
//!
//! The agent's own ports (WebDriver, `DevTools`, web server) are closed to scenarios and `/probe`, because access to a
//! driver allows running programs. A port is closed on every address of this machine and checked after names were
//! resolved. `allow.network` of the agent configuration opens what it lists.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use crate::names::Reason;
use crate::outcome::Failure;

/// Ports on this machine's own addresses that are closed to scenarios, pages and `/probe`. Clones are cheap and share
/// one list.
#[derive(Debug, Clone, Default)]
pub struct ClosedPorts(Arc<Mutex<BTreeMap<u16, Vec<&'static str>>>>);

/// Keeps a port closed until it is dropped.
#[derive(Debug)]
pub struct ClosedPort {
    ports: ClosedPorts,
    port: u16,
    owner: &'static str,
}

impl ClosedPorts {
    /// Closes a port as long as the returned value exists. `owner` describes the listener, such as `the agent's web
    /// server`, in failure messages. Several owners may close the same port.
    pub fn close(&self, port: u16, owner: &'static str) -> ClosedPort {
        self.list().entry(port).or_default().push(owner);
        ClosedPort { ports: self.clone(), port, owner }
    }

    /// Returns the owner of a port if the port is closed.
    pub fn owner(&self, port: u16) -> Option<&'static str> {
        self.list().get(&port).and_then(|owners| owners.last().copied())
    }

    fn list(&self) -> MutexGuard<'_, BTreeMap<u16, Vec<&'static str>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClosedPort {
    /// Returns the closed port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for ClosedPort {
    fn drop(&mut self) {
        let mut list = self.ports.list();
        let Some(owners) = list.get_mut(&self.port) else { return };
        if let Some(at) = owners.iter().position(|owner| *owner == self.owner) {
            owners.remove(at);
        }
        if owners.is_empty() {
            list.remove(&self.port);
        }
    }
}

/// A pattern of `allow.network`: `HOST:PORT`, `ADDRESS:PORT` or `unix:/PATH`, where `*` matches any characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkPattern {
    /// Host name, or IP address without brackets, and port. `None` matches any port.
    Host(String, Option<u16>),
    /// Path of a Unix socket.
    Unix(String),
}

impl NetworkPattern {
    /// Parses a pattern. The error says what to write.
    pub fn parse(text: &str) -> Result<Self, String> {
        const FORM: &str = "write it like 127.0.0.1:9815, *.lan:5432 or unix:/run/app/*.sock";
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.starts_with('/') { Ok(Self::Unix(path.to_owned())) } else { Err(FORM.into()) };
        }
        let (host, port) = text.rsplit_once(':').ok_or(FORM)?;
        let port = match port {
            "*" => None,
            port => Some(port.parse().ok().filter(|port| *port > 0).ok_or(FORM)?),
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let is_plain = |host: &str| !host.is_empty() && !host.contains(['/', '@', ' ', '[', ']']);
        match bare.or_else(|| (!host.contains(':')).then_some(host)) {
            Some(host) if is_plain(host) => {
                let host = host.parse::<IpAddr>().map_or_else(|_| host.to_ascii_lowercase(), |ip| ip.to_string());
                Ok(Self::Host(host, port))
            }
            _ => Err(FORM.into()),
        }
    }

    fn fits(&self, host: &str, address: SocketAddr) -> bool {
        let Self::Host(pattern, port) = self else { return false };
        port.is_none_or(|port| port == address.port())
            && [address.ip().to_string(), address.ip().to_canonical().to_string(), host.to_ascii_lowercase()]
                .iter()
                .any(|host| glob(pattern, host))
    }

    fn fits_path(&self, path: &str) -> bool {
        matches!(self, Self::Unix(pattern) if glob(pattern, path))
    }
}

impl fmt::Display for NetworkPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{path}"),
            Self::Host(host, port) => {
                let shown = if host.contains(':') { format!("[{host}]") } else { host.clone() };
                match port {
                    Some(port) => write!(f, "{shown}:{port}"),
                    None => write!(f, "{shown}:*"),
                }
            }
        }
    }
}

/// Returns whether a text matches a pattern where `*` stands for any characters.
fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// Policy for outgoing connections. Clones are cheap and share ports and patterns.
#[derive(Debug, Clone, Default)]
pub struct Reach(Arc<Policy>);

#[derive(Debug, Default)]
struct Policy {
    closed: ClosedPorts,
    allowed: RwLock<Vec<NetworkPattern>>,
    /// Whether Unix sockets can only be reached if they are listed in `allow.network`.
    names_sockets: bool,
}

impl Reach {
    /// Creates the policy of an agent, which rejects closed ports and all Unix sockets that are not listed. The default
    /// policy is that of `wachta run`, which only rejects closed ports.
    pub fn of_agent() -> Self {
        Self(Arc::new(Policy { names_sockets: true, ..Policy::default() }))
    }

    /// Returns the closed ports.
    pub fn closed(&self) -> &ClosedPorts {
        &self.0.closed
    }

    /// Replaces the patterns of `allow.network`.
    pub fn allow(&self, patterns: Vec<NetworkPattern>) {
        *self.0.allowed.write().unwrap_or_else(PoisonError::into_inner) = patterns;
    }

    /// Rejects an address that must not be connected to. `host` is the name that was resolved to it.
    pub fn check(&self, host: &str, address: SocketAddr) -> Result<(), Failure> {
        let Some(owner) = self.0.closed.owner(address.port()) else { return Ok(()) };
        if !is_own(address.ip()) || self.allows(|pattern| pattern.fits(host, address)) {
            return Ok(());
        }
        Err(refused(
            &address.to_string(),
            &format!("is not allowed for checks, because it belongs to {owner}"),
            &address,
        ))
    }

    /// Rejects a Unix socket that must not be connected to.
    pub fn check_path(&self, path: &Path) -> Result<(), Failure> {
        // A symbolic link is judged by its target.
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let shown = path.to_string_lossy();
        if !self.0.names_sockets || self.allows(|pattern| pattern.fits_path(&shown)) {
            return Ok(());
        }
        Err(refused(&format!("unix:{shown}"), "is not allowed for checks", &format!("unix:{shown}")))
    }

    fn allows(&self, fits: impl Fn(&NetworkPattern) -> bool) -> bool {
        self.0.allowed.read().unwrap_or_else(PoisonError::into_inner).iter().any(fits)
    }
}

fn refused(what: &str, why: &str, pattern: &dyn fmt::Display) -> Failure {
    let message = format!("`{what}` {why}; add `{pattern}` to `allow.network` in the agent configuration to allow it");
    Failure::new(Reason::Configuration, message)
}

/// Returns whether an address belongs to this machine. Interfaces are listed each time, because they may change.
fn is_own(address: IpAddr) -> bool {
    let address = address.to_canonical();
    if address.is_loopback() || address.is_unspecified() {
        return true;
    }
    // If the interfaces cannot be listed, closed ports stay closed for all addresses.
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else { return true };
    interfaces.filter_map(|interface| interface.address).any(|own| {
        let v4 = own.as_sockaddr_in().map(|own| IpAddr::V4(own.ip()));
        v4.or_else(|| own.as_sockaddr_in6().map(|own| IpAddr::V6(own.ip()))) == Some(address)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn closed_ports_are_refused_on_every_address_of_this_machine() {
        let reach = Reach::of_agent();
        let closed = reach.closed().close(9815, "the agent's web server");
        let own = nix::ifaddrs::getifaddrs().unwrap().filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|own| IpAddr::V4(own.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|own| IpAddr::V6(own.ip())))
        });
        let mut own: Vec<_> = own.map(|ip| SocketAddr::new(ip, 9815)).collect();
        own.extend(["127.0.0.1:9815", "127.8.8.8:9815", "[::1]:9815", "0.0.0.0:9815"].map(address));
        own.extend(["[::]:9815", "[::ffff:127.0.0.1]:9815"].map(address));
        for address in &own {
            let failure = reach.check("name.example", *address).unwrap_err();
            assert_eq!(failure.reason, Reason::Configuration, "{address}");
            assert!(failure.message.contains("`allow.network`"), "{}", failure.message);
            assert!(failure.message.contains("the agent's web server"), "{}", failure.message);
        }
        for other in ["127.0.0.1:9816", "192.0.2.1:9815", "[2001:db8::1]:9815"] {
            assert!(reach.check("name.example", address(other)).is_ok(), "{other}");
        }
        drop(closed);
        assert!(own.iter().all(|address| reach.check("name.example", *address).is_ok()));
    }

    #[test]
    fn a_port_with_two_owners_is_closed_until_both_are_gone() {
        let ports = ClosedPorts::default();
        let (driver, page) = (ports.close(1, "a driver"), ports.clone().close(1, "DevTools"));
        drop(page);
        assert_eq!(ports.owner(1), Some("a driver"));
        assert_eq!(driver.port(), 1);
        drop(driver);
        assert_eq!(ports.owner(1), None);
    }

    #[test]
    fn allowed_patterns_open_what_they_name() {
        let check = |pattern: &str, open: &[(&str, &str)], closed: &[(&str, &str)]| {
            let reach = Reach::of_agent();
            let _ports = [80, 81].map(|port| reach.closed().close(port, "a driver"));
            reach.allow(vec![NetworkPattern::parse(pattern).unwrap()]);
            for (host, at) in open {
                assert!(reach.check(host, address(at)).is_ok(), "{pattern} {host} {at}");
            }
            for (host, at) in closed {
                assert!(reach.check(host, address(at)).is_err(), "{pattern} {host} {at}");
            }
        };
        check(
            "127.0.0.1:80",
            &[("a", "127.0.0.1:80"), ("a", "[::ffff:127.0.0.1]:80")],
            &[("a", "127.0.0.1:81"), ("a", "127.0.0.2:80"), ("a", "[::1]:80")],
        );
        check("localhost:80", &[("LocalHost", "[::1]:80")], &[("localhost", "[::1]:81"), ("evil", "[::1]:80")]);
        check("[::1]:*", &[("a", "[::1]:80"), ("a", "[::1]:81")], &[("a", "127.0.0.1:80")]);
        check("127.*:80", &[("a", "127.0.0.9:80")], &[("a", "[::1]:80")]);
        check("*.lan:80", &[("x.lan", "127.0.0.1:80")], &[("lan", "127.0.0.1:80")]);
        check("unix:/run/a", &[], &[("unix:/run/a", "127.0.0.1:80")]);
    }

    #[test]
    fn unix_sockets_must_be_named_to_an_agent() {
        let reach = Reach::of_agent();
        reach.allow(vec![NetworkPattern::parse("unix:/run/app/*.sock").unwrap()]);
        assert!(reach.check_path(Path::new("/run/app/a.sock")).is_ok());
        let failure = reach.check_path(Path::new("/run/docker.sock")).unwrap_err();
        assert!(failure.message.contains("add `unix:/run/docker.sock` to `allow.network`"), "{}", failure.message);
        assert!(Reach::default().check_path(Path::new("/run/docker.sock")).is_ok());
    }

    #[test]
    fn patterns_are_read_and_written() {
        for text in ["127.0.0.1:80", "[::1]:80", "*:80", "db.lan:*", "unix:/run/x*"] {
            assert_eq!(NetworkPattern::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(NetworkPattern::parse("[0:0::1]:80").unwrap().to_string(), "[::1]:80");
        for text in ["", "a", "a:0", "a:70000", ":80", "::1:80", "unix:relative", "http://a:80", "a b:80", "[a:80"] {
            assert!(NetworkPattern::parse(text).is_err(), "{text}");
        }
    }
}
