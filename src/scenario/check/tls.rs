//! `tls` check: the handshake succeeds, and the certificates meet the expectations.

use std::time::Duration;

use super::certificate::{self, CERTIFICATE, CertificateExpectation};
use super::parts;
use crate::diagnostic::Spanned;
use crate::scenario::key::{ActionSpec, FASTER_THAN, Key, Shape, TRUST, key};
use crate::scenario::model::Trust;
use crate::scenario::reader::{Fields, Reader};
use crate::scenario::template::Template;
use crate::scenario::tree::Node;
use crate::scenario::{trust, url};

/// Keys of the check.
pub const KIND: ActionSpec = ActionSpec {
    key: key("tls", Shape::Text, "host:port whose certificate is checked"),
    sibling_keys: &[
        key("trust", Shape::Keys(&[TRUST]), "trusted certificates"),
        key("expires_after", Shape::Duration, "short for expect: {certificate: {expires_after: …}}"),
        FASTER_THAN,
        key("expect", Shape::Keys(&[EXPECT]), "expectations on the certificate"),
    ],
};

const EXPECT: &[Key] = &[key("certificate", Shape::Keys(&[CERTIFICATE]), "certificate and TLS session")];

/// TLS check.
#[derive(Debug, Clone, PartialEq)]
pub struct TlsCheck {
    /// Locator address as `host:port`.
    pub address: Spanned<Template>,
    /// Trusted certificates.
    pub trust: Trust,
    /// Expectations on the certificate.
    pub expect: Vec<CertificateExpectation>,
    /// Maximum time from the start to the end of the handshake.
    pub faster_than: Option<Spanned<Duration>>,
}

/// Reads the check.
pub fn read(r: &mut Reader, target: &Node, fields: &Fields<'_>) -> Option<TlsCheck> {
    let address = url::address(r, target, "`tls`");
    let trust = trust::trust(r, fields.get("trust"));
    let short = match fields.entry("expires_after") {
        Some(entry) => certificate::fact(r, entry).map(|fact| vec![fact]),
        None => Some(Vec::new()),
    };
    let inner = parts::under_expect(r, fields, EXPECT);
    let node = inner.as_ref().and_then(|fields| fields.get("certificate"));
    if let (Some(entry), Some(_)) = (fields.entry("expires_after"), node.and_then(|node| node.get("expires_after"))) {
        r.fail_with(entry.key_span, "`expires_after` is given here and under `expect`", "keep one of them");
    }
    let facts = match node {
        Some(node) => certificate::read(r, node),
        None => Some(Vec::new()),
    };
    let faster_than = parts::limit(r, fields, "faster_than");
    inner?;
    let mut expect = short?;
    expect.extend(facts?);
    Some(TlsCheck { address: address?, trust: trust?, expect, faster_than: faster_than? })
}
