//! The connection layer: names, TCP, TLS and HTTP on one connection, each with how long it took, and where connections
//! may lead ([`Reach`]).
//!
//! A connection is driven by whoever uses it: nothing is spawned, so dropping a [`Connection`] closes its socket, and
//! what it costs is close to what hyper costs. Deadlines are the callers'. What a failure means for the target is decided
//! here ([`failure`]) and in [`tls`].

mod dial;
pub(crate) mod dns;
mod exchange;
pub mod failure;
mod io;
pub mod limits;
mod reach;
mod resolver;
mod secure;
pub mod tls;
mod tunnel;

pub use crate::outcome::Phases;
pub use dial::{Dialed, Dialer, Family, Resolved, Route};
pub use exchange::{Answer, Connection, Head, Protocol, Unanswered, too_large};
pub use failure::{of_io, of_spawn, own_limit};
pub use io::Stream;
pub use reach::{ClosedPort, ClosedPorts, NetworkPattern, Reach};
pub use resolver::Resolver;
pub use secure::{Offer, Refused, Secured, secure, server_name};
pub use tunnel::tunnel;

#[cfg(test)]
mod tests;
