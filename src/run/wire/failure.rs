//! What an error of a connection means for the target.

use crate::names::Reason;
use crate::outcome::Failure;
use crate::run::tls;

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
