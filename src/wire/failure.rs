//! What an error of a connection means for the target.

use std::error::Error;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use nix::errno::Errno;

use crate::names::Reason;
use crate::outcome::Failure;
use crate::wire::tls;

/// What of our own ran out, where an error of the system says so: descriptors, memory, buffers. Errors that wrap one are
/// looked through.
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
            // An `io::Error` hides what it wraps from `source`.
            let inner = error.get_ref().map(|inner| inner as &(dyn Error + 'static));
            if let Some(found) = inner.and_then(own_limit) {
                return Some(found);
            }
        }
        next = error.source();
    }
    None
}

/// What an error of the system, or one that wraps it, means: a lack of our own is [`Reason::Resources`], anything else
/// what the caller takes it for. The message should hold the error's own words.
pub fn of_io(error: &(dyn Error + 'static), otherwise: Reason, message: impl Into<String>) -> Failure {
    let message = message.into();
    match own_limit(error) {
        Some(what) => Failure::new(Reason::Resources, format!("{message}: {what}")),
        None => Failure::new(otherwise, message),
    }
}

/// What an error means that a new process or thread ended with before it began: there, `EAGAIN` is a limit of ours too.
pub fn of_spawn(error: &io::Error, otherwise: Reason, message: impl Into<String>) -> Failure {
    if error.raw_os_error() == Some(Errno::EAGAIN as i32) {
        let message = message.into();
        return Failure::new(Reason::Resources, format!("{message}: the agent may start no further process or thread"));
    }
    of_io(error, otherwise, message)
}

/// Whether a TCP connection failed because no port is free to connect from. The same error says that this machine has no
/// address of the family; then a socket without a port of its own cannot be connected either.
pub(super) fn lacks_port(error: &io::Error, address: SocketAddr) -> bool {
    let any: IpAddr =
        if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
    error.raw_os_error() == Some(Errno::EADDRNOTAVAIL as i32)
        && UdpSocket::bind((any, 0)).and_then(|socket| socket.connect(address)).is_ok()
}

/// The most headers that an answer may have: what hyper allows when it is not told, since only then it needs no memory
/// beside the stack's.
const MOST_HEADERS: usize = 100;
/// The largest head of an answer, in bytes.
pub(super) const LARGEST_HEAD: usize = 64 << 10;

/// What an error of hyper means.
pub(super) fn of_hyper(error: &hyper::Error) -> Failure {
    if let Some(error) = tls::rustls_error(error) {
        return tls::failure(error);
    }
    let root = root(error);
    if let Some(what) = own_limit(error) {
        return Failure::new(Reason::Resources, format!("the answer broke off: {root}: {what}"));
    }
    if error.is_parse_too_large() || root.contains("header list size") {
        let limit = LARGEST_HEAD >> 10;
        let message = format!("the head of the answer has more than {MOST_HEADERS} headers or {limit} KiB");
        Failure::new(Reason::TooLarge, message)
    } else if error.is_incomplete_message() {
        Failure::new(Reason::Protocol, "the connection was closed before the answer was complete")
    } else if error.is_parse() {
        Failure::new(Reason::Protocol, format!("the answer is not HTTP: {root}"))
    } else if error.is_timeout() {
        Failure::new(Reason::Timeout, "no answer in time")
    } else {
        Failure::new(Reason::Protocol, format!("the answer broke off: {root}"))
    }
}

/// The innermost error, as text.
fn root(error: &hyper::Error) -> String {
    let mut last: &dyn std::error::Error = error;
    while let Some(inner) = last.source() {
        last = inner;
    }
    last.to_string()
}
