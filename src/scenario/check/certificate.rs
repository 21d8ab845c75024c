//! Expectations on the certificate of a server and on the TLS session in which it was presented.

use std::time::Duration;

use super::parts;
use crate::diagnostic::Span;
use crate::scenario::expect::{ValueType, matcher};
use crate::scenario::key::{Key, MATCHER, Shape, key};
use crate::scenario::model::Matcher;
use crate::scenario::reader::{Fields, Reader};
use crate::scenario::tree::{Entry, Node};

/// Keys of `certificate`.
pub const CERTIFICATE: &[Key] = &[
    key("expires_after", Shape::Duration, "minimum remaining validity of every certificate of the chain"),
    key("names", MATCHER, "names of the certificate, a list: {contains: www.example.com}"),
    key("subject", MATCHER, "subject, such as CN=www.example.com"),
    key("issuer", MATCHER, "issuer, such as {contains: Let's Encrypt}"),
    key("protocol", MATCHER, "TLS version: TLS 1.2 or TLS 1.3"),
    key("cipher", MATCHER, "IANA name of the cipher suite, such as TLS_AES_128_GCM_SHA256"),
];

/// Short form of the expectation on the validity.
pub(super) const EXPIRES_AFTER: Key =
    key("expires_after", Shape::Duration, "short for expect: {certificate: {expires_after: …}}");

/// Keys of `expect` of a check that expects nothing but a certificate.
pub(super) const EXPECT: &[Key] = &[key("certificate", Shape::Keys(&[CERTIFICATE]), "certificate and TLS session")];

/// Expectation on a certificate.
#[derive(Debug, Clone, PartialEq)]
pub struct CertificateExpectation {
    /// Span of the expectation in the file.
    pub span: Span,
    /// Condition that must hold.
    pub what: CertificateFact,
}

/// Condition of `certificate`.
#[derive(Debug, Clone, PartialEq)]
pub enum CertificateFact {
    /// Minimum remaining validity of every certificate sent by the server.
    ExpiresAfter(Duration),
    /// List of the names in the leaf certificate.
    Names(Matcher),
    /// Distinguished name of the leaf certificate.
    Subject(Matcher),
    /// Distinguished name of the issuer.
    Issuer(Matcher),
    /// Protocol version: `TLS 1.2` or `TLS 1.3`.
    Protocol(Matcher),
    /// Cipher suite.
    Cipher(Matcher),
}

impl CertificateFact {
    /// Returns the matcher of the condition if it has one.
    pub fn matcher(&self) -> Option<&Matcher> {
        match self {
            Self::Names(matcher)
            | Self::Subject(matcher)
            | Self::Issuer(matcher)
            | Self::Protocol(matcher)
            | Self::Cipher(matcher) => Some(matcher),
            Self::ExpiresAfter(_) => None,
        }
    }
}

/// Reads the expectations of a check, under `expect` or in their short form.
pub(super) fn expectations(r: &mut Reader, fields: &Fields<'_>) -> Option<Vec<CertificateExpectation>> {
    let short = match fields.entry("expires_after") {
        Some(entry) => fact(r, entry).map(|fact| vec![fact]),
        None => Some(Vec::new()),
    };
    let inner = parts::under_expect(r, fields, EXPECT);
    let node = inner.as_ref().and_then(|fields| fields.get("certificate"));
    if let (Some(entry), Some(_)) = (fields.entry("expires_after"), node.and_then(|node| node.get("expires_after"))) {
        r.fail_with(entry.key_span, "`expires_after` is given here and under `expect`", "keep one of them");
    }
    let facts = match node {
        Some(node) => read(r, node),
        None => Some(Vec::new()),
    };
    inner?;
    let mut expect = short?;
    expect.extend(facts?);
    Some(expect)
}

/// Reads `certificate`.
pub fn read(r: &mut Reader, node: &Node) -> Option<Vec<CertificateExpectation>> {
    let fields = r.fields(node, "`certificate`", &[CERTIFICATE])?;
    let read: Vec<_> = fields.iter().map(|entry| fact(r, entry)).collect();
    read.into_iter().collect()
}

/// Reads one key of `certificate`.
pub fn fact(r: &mut Reader, entry: &Entry) -> Option<CertificateExpectation> {
    let node = &entry.value;
    let what = match entry.key.as_str() {
        "expires_after" => CertificateFact::ExpiresAfter(r.duration(node, "`expires_after`")?),
        "names" => CertificateFact::Names(matcher(r, node, "`names`", ValueType::Any)?),
        "subject" => CertificateFact::Subject(matcher(r, node, "`subject`", ValueType::Text)?),
        "issuer" => CertificateFact::Issuer(matcher(r, node, "`issuer`", ValueType::Text)?),
        "protocol" => CertificateFact::Protocol(matcher(r, node, "`protocol`", ValueType::Text)?),
        _ => CertificateFact::Cipher(matcher(r, node, "`cipher`", ValueType::Text)?),
    };
    Some(CertificateExpectation { span: entry.span(), what })
}
