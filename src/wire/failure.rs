//! Converts connection errors into failures of the target or agent faults.

use std::error::Error;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use nix::errno::Errno;

use crate::names::Reason;
use crate::outcome::Failure;
use crate::wire::tls;

/// Returns the resource of the agent that is exhausted (descriptors, memory or buffers) if a system error says so.
/// Searches wrapped errors as well.
pub fn own_limit(error: &(dyn Error + 'static)) -> Option<&'static str> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            match error.raw_os_error().map(Errno::from_raw) {
                Some(Errno::EMFILE) => return Some("the agent has no free file descriptor; raise `LimitNOFILE`"),
                Some(Errno::ENFILE) => return Some("this machine has no free file descriptor; raise `fs.file-max`"),
                Some(Errno::ENOMEM) => return Some("this machine has no free memory"),
                Some(Errno::ENOBUFS) => return Some("this machine has no free buffer for packets"),
                _ => {}
            }
            // `source` does not return the error that an `io::Error` wraps.
            let inner = error.get_ref().map(|inner| inner as &(dyn Error + 'static));
            if let Some(found) = inner.and_then(own_limit) {
                return Some(found);
            }
        }
        next = error.source();
    }
    None
}

/// Converts a system error, or an error that wraps one, into a failure: [`Reason::Resources`] if the agent lacks a
/// resource, otherwise `otherwise`. The message should contain the text of the error.
pub fn of_io(error: &(dyn Error + 'static), otherwise: Reason, message: impl Into<String>) -> Failure {
    let message = message.into();
    match own_limit(error) {
        Some(what) => Failure::new(Reason::Resources, format!("{message}: {what}")),
        None => Failure::new(otherwise, message),
    }
}

/// Returns the failure for a connection that broke in the middle of a conversation.
pub fn connection_lost(error: &io::Error) -> Failure {
    of_io(error, Reason::Protocol, format!("connection lost: {error}"))
}

/// Converts the error of starting a process or thread. For these, `EAGAIN` is a limit of the agent too.
pub fn of_spawn(error: &io::Error, otherwise: Reason, message: impl Into<String>) -> Failure {
    if error.raw_os_error() == Some(Errno::EAGAIN as i32) {
        let message = message.into();
        return Failure::new(Reason::Resources, format!("{message}: the agent may start no further process or thread"));
    }
    of_io(error, otherwise, message)
}

/// Returns whether a TCP connection failed because no local port is free. The same error occurs if this machine has no
/// address of the family; in that case, a socket without a port cannot be connected either.
pub(super) fn lacks_port(error: &io::Error, address: SocketAddr) -> bool {
    let any: IpAddr =
        if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
    error.raw_os_error() == Some(Errno::EADDRNOTAVAIL as i32)
        && UdpSocket::bind((any, 0)).and_then(|socket| socket.connect(address)).is_ok()
}

/// Maximum number of headers in a response. This is hyper's default, which is the only value for which it needs no heap
/// memory.
pub(super) const MOST_HEADERS: usize = 100;
/// Maximum size of a response head, in bytes.
pub(super) const LARGEST_HEAD: usize = 64 << 10;

/// Converts an error of hyper into a failure.
pub(super) fn of_hyper(error: &hyper::Error) -> Failure {
    if let Some(error) = tls::rustls_error(error) {
        return tls::failure(error);
    }
    let root = root(error);
    if let Some(what) = own_limit(error) {
        return Failure::new(Reason::Resources, format!("the response ended early: {root}: {what}"));
    }
    if error.is_parse_too_large() || root.contains("header list size") {
        head_too_large()
    } else if let Some(error) = of_http2(error) {
        let reason = error.reason().map(|reason| format!("{reason:?}")).unwrap_or_default();
        let message = match (error.is_remote(), error.is_go_away()) {
            (true, true) => format!("the server closed the HTTP/2 connection ({reason})"),
            (true, false) => format!("the server reset the HTTP/2 stream ({reason})"),
            (false, _) => format!("HTTP/2 error: {root}"),
        };
        Failure::new(Reason::Protocol, message)
    } else if error.is_incomplete_message() {
        Failure::new(Reason::Protocol, "the connection was closed before the response was complete")
    } else if error.is_parse() {
        // A TLS alert, for example, has no HTTP version.
        let hint = if root.contains("version") { "; if the port speaks TLS, use https://" } else { "" };
        Failure::new(Reason::Protocol, format!("the response is not HTTP: {root}{hint}"))
    } else if error.is_timeout() {
        Failure::new(Reason::Timeout, "no response in time")
    } else {
        Failure::new(Reason::Protocol, format!("the response ended early: {root}"))
    }
}

/// Returns whether a server declared that it has not processed a request: it reset the stream with `REFUSED_STREAM`, or
/// closed the connection with a `GOAWAY` for earlier streams only (RFC 9113, sections 6.8 and 8.7).
pub(super) fn is_refused(error: &hyper::Error) -> bool {
    // h2 applies a `GOAWAY` of the server only to streams that the server has not processed.
    of_http2(error).is_some_and(|error| {
        error.is_remote() && (error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM))
    })
}

/// Returns the error of HTTP/2 that is wrapped in an error, unless the connection itself broke.
fn of_http2(error: &hyper::Error) -> Option<&h2::Error> {
    let mut next = error.source();
    while let Some(inner) = next {
        if let Some(error) = inner.downcast_ref::<h2::Error>() {
            return (!error.is_io()).then_some(error);
        }
        next = inner.source();
    }
    None
}

/// Returns the failure for a response head above the limits.
pub(super) fn head_too_large() -> Failure {
    let limit = LARGEST_HEAD >> 10;
    let message = format!("the head of the response has more than {MOST_HEADERS} headers or {limit} KiB");
    Failure::new(Reason::TooLarge, message)
}

/// Returns the text of the innermost error.
fn root(error: &hyper::Error) -> String {
    let mut last: &dyn std::error::Error = error;
    while let Some(inner) = last.source() {
        last = inner;
    }
    last.to_string()
}
