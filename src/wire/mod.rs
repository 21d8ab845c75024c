//! The protocol layer: name resolution, TCP, proxies, TLS and HTTP on one connection with the duration of each, and the
//! policy for allowed targets ([`Reach`]). Each protocol is implemented here once; checks and `/probe` contain only
//! settings and evaluation.
//!
//! A connection is driven by its user. Nothing is spawned, so dropping a [`Connection`] closes its socket, and the
//! overhead over hyper is small. Callers enforce deadlines. Errors are converted into failures here ([`failure`]) and
//! in [`tls`].

pub mod authorization;
pub mod certificate;
mod dial;
pub(crate) mod dns;
mod exchange;
pub mod failure;
mod family;
pub mod host;
pub mod icmp;
mod io;
pub mod limits;
pub mod ntp;
mod proxy;
mod reach;
mod resolver;
pub mod resp;
mod route;
mod secure;
mod starttls;
pub mod tls;
mod tunnel;
pub mod udp;

pub use crate::outcome::Phases;
pub use dial::{DialOptions, Dialer, Resolved, TcpConnection};
pub use exchange::{Connection, NoResponse, Protocol, ResponseHead, StreamingResponse, too_large};
pub use failure::{of_io, of_spawn, own_limit};
pub use family::AddressFamily;
pub use io::Stream;
pub use proxy::Proxy;
pub use reach::{ClosedPort, ClosedPorts, NetworkPattern, Reach};
pub use resolver::Resolver;
pub use route::{OpenError, Opened, Route, Stage, TlsOptions, Via};
pub use secure::{
    AlpnOffer, HandshakeError, TlsConnection, TlsSession, cipher_name, secure, server_name, version_name,
};
pub use tunnel::tunnel;

#[cfg(test)]
mod tests;
