//! The protocol layer: name resolution, TCP, proxies, TLS and HTTP on one connection with the duration of each, and the
//! policy for allowed targets ([`Reach`]). Each protocol is implemented here once; checks and `/probe` contain only
//! settings and evaluation.
//!
//! A connection is driven by its user. Nothing is spawned, so dropping a [`Connection`] closes its socket, and the
//! overhead over hyper is small. Callers enforce deadlines. Errors are converted into failures here ([`failure`]) and
//! in [`tls`].

pub mod authorization;
pub mod certificate;
pub mod cookies;
mod dial;
pub(crate) mod dns;
pub mod encoding;
mod exchange;
pub mod failure;
mod family;
mod fetch;
pub mod grpc;
pub mod host;
pub mod icmp;
mod io;
pub mod limits;
pub mod ntp;
pub mod oauth2;
mod proxy;
mod reach;
mod resolver;
pub mod resp;
mod route;
mod secure;
mod starttls;
mod target;
pub mod tls;
mod tunnel;
pub mod udp;
pub mod websocket;

pub use crate::outcome::Phases;
pub use dial::{DialOptions, Dialer, Resolved, TcpConnection};
pub use exchange::{Connection, NoResponse, Protocol, ResponseHead, StreamingResponse, too_large};
pub use failure::{of_io, of_spawn, own_limit};
pub use family::AddressFamily;
pub use fetch::FetchOptions;
pub use io::Stream;
pub use proxy::Proxy;
pub use reach::{ClosedPort, ClosedPorts, NetworkPattern, Reach};
pub use resolver::Resolver;
pub use route::{OpenError, Opened, Route, Stage, TlsOptions, Via};
pub use secure::{
    AlpnOffer, HandshakeError, TlsConnection, TlsSession, cipher_name, secure, server_name, version_name,
};
pub use target::set_target;
pub use tunnel::tunnel;

#[cfg(test)]
mod tests;
