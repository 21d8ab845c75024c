//! `grpc` check: the gRPC health service, version 1.

use std::time::Duration;

use super::connection::{self, ConnectionSettings, PROXY, RESOLVE, TRUST_KEY};
use super::parts;
use crate::diagnostic::Spanned;
use crate::scenario::key::{ActionSpec, FASTER_THAN, Shape, key};
use crate::scenario::reader::{Fields, Reader};
use crate::scenario::template::Template;
use crate::scenario::tree::Node;

/// Keys of the check.
pub const KIND: ActionSpec = ActionSpec {
    key: key("grpc", Shape::Text, "host:port whose health is checked; https://host:port, or with `trust`: over TLS"),
    sibling_keys: &[
        key("service", Shape::Text, "service name (default: the whole server)"),
        TRUST_KEY,
        RESOLVE,
        PROXY,
        FASTER_THAN,
    ],
};

/// gRPC health check.
#[derive(Debug, Clone, PartialEq)]
pub struct GrpcCheck {
    /// Server address: `host:port` or `https://host:port`.
    pub address: Spanned<Template>,
    /// Service to query (default: the server as a whole).
    pub service: Option<Spanned<Template>>,
    /// Settings of the connection; TLS is used if `trust` is set.
    pub connection: ConnectionSettings,
    /// Maximum time from the start to the response.
    pub faster_than: Option<Spanned<Duration>>,
}

/// Parses an address into host, port, and whether it requires TLS.
pub fn address(text: &str) -> Result<(String, u16, bool), String> {
    let (rest, tls) = match text.strip_prefix("https://") {
        Some(rest) => (rest.trim_end_matches('/'), true),
        None => (text, false),
    };
    let read = parts::host_and_port(rest, tls.then_some(443));
    read.map(|(host, port)| (host, port, tls)).ok_or_else(|| "write host:port, or https://host:port for TLS".to_owned())
}

/// Reads the check.
pub fn read(r: &mut Reader, target: &Node, fields: &Fields<'_>) -> Option<GrpcCheck> {
    let address = parts::target(r, target, "`grpc`", address);
    let service = parts::given(fields, "service", |node| r.template(node, "`service`"));
    let connection = connection::settings(r, fields);
    let faster_than = parts::limit(r, fields, "faster_than");
    Some(GrpcCheck { address: address?, service: service?, connection: connection?, faster_than: faster_than? })
}
