//! `ping` check: an ICMP echo.

use std::time::Duration;

use super::parts;
use crate::diagnostic::Spanned;
use crate::scenario::key::{ActionSpec, FASTER_THAN, Shape, key};
use crate::scenario::reader::{Fields, Reader};
use crate::scenario::template::Template;
use crate::scenario::tree::Node;

/// Keys of the check.
pub const KIND: ActionSpec = ActionSpec {
    key: key("ping", Shape::Text, "host or address that must respond to an echo request"),
    sibling_keys: &[FASTER_THAN],
};

/// Ping check.
#[derive(Debug, Clone, PartialEq)]
pub struct PingCheck {
    /// Host name or address.
    pub host: Spanned<Template>,
    /// Maximum time from the first request to the first response.
    pub faster_than: Option<Spanned<Duration>>,
}

/// Checks whether the text is a host name or an address without a port.
pub fn host(text: &str) -> Result<String, String> {
    match parts::host_and_port(text, Some(1)) {
        Some((host, 1)) => Ok(host),
        _ => Err("write a host or an address, without a port".to_owned()),
    }
}

/// Reads the check.
pub fn read(r: &mut Reader, target: &Node, fields: &Fields<'_>) -> Option<PingCheck> {
    let host = parts::target(r, target, "`ping`", host);
    let faster_than = parts::limit(r, fields, "faster_than");
    Some(PingCheck { host: host?, faster_than: faster_than? })
}
