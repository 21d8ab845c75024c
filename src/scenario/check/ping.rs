//! `ping`: an ICMP echo.

use std::time::Duration;

use crate::diagnostic::At;
use crate::scenario::keys::{FASTER_THAN, Kind, Shape, key};
use crate::scenario::reader::{Fields, Reader};
use crate::scenario::template::Template;
use crate::scenario::tree::Node;

/// Its keys.
pub const KIND: Kind =
    Kind { key: key("ping", Shape::Text, "a host or address that must answer an echo"), beside: &[FASTER_THAN] };

/// A ping.
#[derive(Debug, Clone, PartialEq)]
pub struct PingCheck {
    /// A host or an address.
    pub host: At<Template>,
    /// From the first request to the first answer.
    pub faster_than: Option<At<Duration>>,
}

/// A host or address, without a port.
pub fn host(text: &str) -> Result<String, String> {
    match super::host_and_port(text, Some(1)) {
        Some((host, 1)) => Ok(host),
        _ => Err("write a host or an address, without a port".to_owned()),
    }
}

/// Reads the check.
pub fn read(r: &mut Reader, target: &Node, fields: &Fields<'_>) -> Option<PingCheck> {
    let host = super::target(r, target, "`ping`", host);
    let faster_than = super::limit(r, fields, "faster_than");
    Some(PingCheck { host: host?, faster_than: faster_than? })
}
