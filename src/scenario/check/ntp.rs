//! `ntp` check: a time server responds, and its clock offset is within limits.

use std::time::Duration;

use super::connection::{self, ConnectionSettings, RESOLVE};
use super::parts::{self, Expected};
use super::quantity;
use crate::diagnostic::Spanned;
use crate::scenario::key::{ActionSpec, FASTER_THAN, Key, MATCHER, Shape, key};
use crate::scenario::reader::{Fields, Reader};
use crate::scenario::template::Template;
use crate::scenario::tree::Node;

/// Keys of the check.
pub const KIND: ActionSpec = ActionSpec {
    key: key("ntp", Shape::Text, "host or host:port of a time server (default port: 123)"),
    sibling_keys: &[RESOLVE, FASTER_THAN, key("expect", Shape::Keys(&[EXPECT]), "expectations on its clock")],
};

/// Keys of `expect`.
pub const EXPECT: &[Key] = &[key("offset", MATCHER, "difference between its clock and ours: {less_than: 100ms}")];

/// NTP check.
#[derive(Debug, Clone, PartialEq)]
pub struct NtpCheck {
    /// Server address: `host` or `host:port`.
    pub address: Spanned<Template>,
    /// Settings of the connection, of which only `resolve` applies.
    pub connection: ConnectionSettings,
    /// Expected absolute clock offset in seconds.
    pub offset: Option<Expected>,
    /// Maximum time from the start to the response.
    pub faster_than: Option<Spanned<Duration>>,
}

/// Parses an address into host and port.
pub fn address(text: &str) -> Result<(String, u16), String> {
    parts::host_and_port(text, Some(123)).ok_or_else(|| "write it like pool.ntp.org".to_owned())
}

/// Reads the check.
pub fn read(r: &mut Reader, target: &Node, fields: &Fields<'_>) -> Option<NtpCheck> {
    let address = parts::target(r, target, "`ntp`", address);
    let connection = connection::settings(r, fields);
    let inner = parts::under_expect(r, fields, EXPECT);
    let offset = inner.as_ref().map_or(Some(None), |inner| quantity::durations(r, inner, "offset"));
    let faster_than = parts::limit(r, fields, "faster_than");
    inner?;
    Some(NtpCheck { address: address?, connection: connection?, offset: offset?, faster_than: faster_than? })
}
