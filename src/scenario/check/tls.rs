//! `tls` check: the handshake succeeds, and the certificates meet the expectations.

use std::time::Duration;

use super::certificate::{self, CertificateExpectation, EXPECT, EXPIRES_AFTER};
use super::connection::{self, ConnectionSettings, PROXY, RESOLVE, TRUST_KEY};
use super::parts;
use crate::diagnostic::Spanned;
use crate::scenario::key::{ActionSpec, FASTER_THAN, Shape, key};
use crate::scenario::reader::{Fields, Reader};
use crate::scenario::template::Template;
use crate::scenario::tree::Node;
use crate::scenario::url;

/// Keys of the check.
pub const KIND: ActionSpec = ActionSpec {
    key: key("tls", Shape::Text, "host:port whose certificate is checked"),
    sibling_keys: &[
        TRUST_KEY,
        RESOLVE,
        PROXY,
        EXPIRES_AFTER,
        FASTER_THAN,
        key("expect", Shape::Keys(&[EXPECT]), "expectations on the certificate"),
    ],
};

/// TLS check.
#[derive(Debug, Clone, PartialEq)]
pub struct TlsCheck {
    /// Server address as `host:port`.
    pub address: Spanned<Template>,
    /// Settings of the connection.
    pub connection: ConnectionSettings,
    /// Expectations on the certificate.
    pub expect: Vec<CertificateExpectation>,
    /// Maximum time from the start to the end of the handshake.
    pub faster_than: Option<Spanned<Duration>>,
}

/// Reads the check.
pub fn read(r: &mut Reader, target: &Node, fields: &Fields<'_>) -> Option<TlsCheck> {
    let address = url::address(r, target, "`tls`");
    let connection = connection::settings(r, fields);
    let expect = certificate::expectations(r, fields);
    let faster_than = parts::limit(r, fields, "faster_than");
    Some(TlsCheck { address: address?, connection: connection?, expect: expect?, faster_than: faster_than? })
}
