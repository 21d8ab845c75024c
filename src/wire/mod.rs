//! The connection layer: name resolution, TCP, TLS and HTTP on one connection with the duration of each, and the policy
//! for allowed targets ([`Reach`]).
//!
//! A connection is driven by its user. Nothing is spawned, so dropping a [`Connection`] closes its socket, and the
//! overhead over hyper is small. Callers enforce deadlines. Errors are converted into failures here ([`failure`]) and
//! in [`tls`].

mod dial;
pub(crate) mod dns;
mod exchange;
pub mod failure;
mod family;
mod io;
pub mod limits;
mod reach;
mod resolver;
mod secure;
pub mod tls;
mod tunnel;

pub use crate::outcome::Phases;
pub use dial::{DialOptions, Dialer, Resolved, TcpConnection};
pub use exchange::{Connection, NoResponse, Protocol, ResponseHead, StreamingResponse, too_large};
pub use failure::{of_io, of_spawn, own_limit};
pub use family::AddressFamily;
pub use io::Stream;
pub use reach::{ClosedPort, ClosedPorts, NetworkPattern, Reach};
pub use resolver::Resolver;
pub use secure::{AlpnOffer, HandshakeError, TlsConnection, secure, server_name};
pub use tunnel::tunnel;

#[cfg(test)]
mod tests;
