//! `ntp`: a time server answers, and how far its clock is from ours.

use std::time::Duration;

use super::{Expected, quantity};
use crate::diagnostic::At;
use crate::scenario::keys::{FASTER_THAN, Key, Kind, MATCHER, Shape, key};
use crate::scenario::reader::{Fields, Reader};
use crate::scenario::template::Template;
use crate::scenario::tree::Node;

/// Its keys.
pub const KIND: Kind = Kind {
    key: key("ntp", Shape::Text, "host or host:port of a time server; default port 123"),
    beside: &[FASTER_THAN, key("expect", Shape::Keys(&[EXPECT]), "what must hold of its clock")],
};

/// What `expect` knows.
pub const EXPECT: &[Key] = &[key("offset", MATCHER, "how far its clock is from ours: {less_than: 100ms}")];

/// An NTP check.
#[derive(Debug, Clone, PartialEq)]
pub struct NtpCheck {
    /// `host` or `host:port`.
    pub address: At<Template>,
    /// What the offset must be, in seconds, without its sign.
    pub offset: Option<Expected>,
    /// From the start to the answer.
    pub faster_than: Option<At<Duration>>,
}

/// Host and port.
pub fn address(text: &str) -> Result<(String, u16), String> {
    super::host_and_port(text, Some(123)).ok_or_else(|| "write it like pool.ntp.org".to_owned())
}

/// Reads the check.
pub fn read(r: &mut Reader, target: &Node, fields: &Fields<'_>) -> Option<NtpCheck> {
    let address = super::target(r, target, "`ntp`", address);
    let inner = super::under_expect(r, fields, EXPECT);
    let offset = inner.as_ref().map_or(Some(None), |inner| quantity::durations(r, inner, "offset"));
    let faster_than = super::limit(r, fields, "faster_than");
    inner?;
    Some(NtpCheck { address: address?, offset: offset?, faster_than: faster_than? })
}
