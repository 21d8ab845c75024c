//! `tcp` check: a connection, optionally upgraded to TLS, with optional data sent and received.

use std::time::Duration;

use super::certificate::{self, CertificateExpectation, EXPECT, EXPIRES_AFTER};
use super::connection::{self, ConnectionSettings, PROXY, RESOLVE};
use super::parts::{self, Expected};
use crate::diagnostic::Spanned;
use crate::scenario::expect::ValueType;
use crate::scenario::key::{ActionSpec, FASTER_THAN, MATCHER, Shape, TRUST, key};
use crate::scenario::reader::{Fields, Reader};
use crate::scenario::template::Template;
use crate::scenario::tree::Node;
use crate::scenario::url;

/// Keys of the check.
pub const KIND: ActionSpec = ActionSpec {
    key: key("tcp", Shape::Text, "host:port to connect to"),
    sibling_keys: &[
        key("starttls", Shape::Words(&StartTls::WORDS), "protocol with which to upgrade to TLS first"),
        key("trust", Shape::Keys(&[TRUST]), "trusted certificates, with `starttls`"),
        RESOLVE,
        PROXY,
        EXPIRES_AFTER,
        key("expect", Shape::Keys(&[EXPECT]), "expectations on the certificate, with `starttls`"),
        key("send", Shape::Text, "data to send after connecting, and after the TLS upgrade with `starttls`"),
        key("receive", MATCHER, "data that must be received"),
        FASTER_THAN,
    ],
};

/// TCP check.
#[derive(Debug, Clone, PartialEq)]
pub struct TcpCheck {
    /// Server address as `host:port`.
    pub address: Spanned<Template>,
    /// Protocol whose upgrade to TLS is used.
    pub starttls: Option<StartTls>,
    /// Settings of the connection; `trust` applies after `starttls`.
    pub connection: ConnectionSettings,
    /// Expectations on the certificate.
    pub expect: Vec<CertificateExpectation>,
    /// Text to send after connecting.
    pub send: Option<Spanned<Template>>,
    /// Expected data from the peer.
    pub receive: Option<Expected>,
    /// Maximum time from the start to the last expected byte.
    pub faster_than: Option<Spanned<Duration>>,
}

/// Protocol in which a plain connection can be upgraded to TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartTls {
    /// RFC 3207.
    Smtp,
    /// RFC 9051, section 6.2.1.
    Imap,
    /// RFC 2595, section 4.
    Pop3,
    /// RFC 4217.
    Ftp,
    /// RFC 6120, section 5.
    Xmpp,
    /// RFC 4511, section 4.14.
    Ldap,
    /// PostgreSQL's `SSLRequest`.
    Postgres,
}

impl StartTls {
    /// All protocols.
    pub const ALL: [Self; 7] = [Self::Smtp, Self::Imap, Self::Pop3, Self::Ftp, Self::Xmpp, Self::Ldap, Self::Postgres];

    /// Names of the protocols, in the order of `ALL`.
    pub const WORDS: [&'static str; 7] = ["smtp", "imap", "pop3", "ftp", "xmpp", "ldap", "postgres"];
}

/// Reads the check.
pub fn read(r: &mut Reader, target: &Node, fields: &Fields<'_>) -> Option<TcpCheck> {
    let address = url::address(r, target, "`tcp`");
    let starttls = parts::given(fields, "starttls", |node| {
        let word = r.word(node, "protocol", &StartTls::WORDS)?;
        StartTls::WORDS.iter().position(|known| *known == word).map(|at| StartTls::ALL[at])
    });
    if fields.get("starttls").is_none() {
        let (keys, problem) = (&["trust", "expires_after", "expect"], "has no effect without `starttls`");
        connection::refuse(r, fields, keys, problem, "add `starttls`, or use `tls:`");
    }
    let connection = connection::settings(r, fields);
    let expect = certificate::expectations(r, fields);
    let send = parts::given(fields, "send", |node| r.template(node, "`send`"));
    let receive = parts::expected(r, fields, "receive", ValueType::Text);
    let faster_than = parts::limit(r, fields, "faster_than");
    Some(TcpCheck {
        address: address?,
        starttls: starttls?,
        connection: connection?,
        expect: expect?,
        send: send?,
        receive: receive?,
        faster_than: faster_than?,
    })
}
