//! `dns` check: a query to a name server and its response.

use std::time::Duration;

use super::connection::{self, ConnectionSettings, PROXY, RESOLVE, TRUST_KEY};
use super::parts::{self, Expected};
use crate::diagnostic::Spanned;
use crate::scenario::expect::ValueType;
use crate::scenario::key::{ActionSpec, FASTER_THAN, Key, MATCHER, Shape, key};
use crate::scenario::reader::{Fields, Reader};
use crate::scenario::template::Template;
use crate::scenario::tree::Node;

/// Keys of the check.
pub const KIND: ActionSpec = ActionSpec {
    key: key("dns", Shape::Text, "name to resolve; with `record: PTR` an address"),
    sibling_keys: &[
        key("record", Shape::Words(&RecordType::WORDS), "record type (default: A)"),
        key(
            "server",
            Shape::Text,
            "name server: ADDRESS or ADDRESS:PORT, tls://HOST, https://HOST/dns-query (default: the first of the system)",
        ),
        TRUST_KEY,
        RESOLVE,
        PROXY,
        FASTER_THAN,
        key("expect", Shape::Keys(&[EXPECT]), "expectations on the response (default: at least one record)"),
    ],
};

/// Keys of `expect`.
pub const EXPECT: &[Key] = &[
    key("answer", MATCHER, "records of the response; a list: all of them, in any order; {contains: …}: one of them"),
    key("rcode", MATCHER, "response code, such as NXDOMAIN (default: NOERROR)"),
    key("dnssec", Shape::Bool, "whether the server reports a validated response (AD flag)"),
];

/// DNS record type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // The names are self-explanatory.
pub enum RecordType {
    A,
    Aaaa,
    Cname,
    Mx,
    Ns,
    Txt,
    Soa,
    Srv,
    Caa,
    Ptr,
}

impl RecordType {
    /// All record types.
    pub const ALL: [Self; 10] =
        [Self::A, Self::Aaaa, Self::Cname, Self::Mx, Self::Ns, Self::Txt, Self::Soa, Self::Srv, Self::Caa, Self::Ptr];

    /// Names of the record types, in the order of `ALL`.
    pub const WORDS: [&'static str; 10] = ["A", "AAAA", "CNAME", "MX", "NS", "TXT", "SOA", "SRV", "CAA", "PTR"];

    /// Returns the external name.
    pub fn as_str(self) -> &'static str {
        Self::WORDS[self as usize]
    }
}

/// Name server to query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Server {
    /// Unencrypted: UDP, and TCP if the response does not fit.
    Plain(String, u16),
    /// DNS over TLS (RFC 7858).
    Tls(String, u16),
    /// DNS over HTTPS (RFC 8484).
    Https(url::Url),
}

impl Server {
    /// Parses a name server. The error describes the accepted forms.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bad = || "write ADDRESS, ADDRESS:PORT, tls://HOST or https://HOST/dns-query".to_owned();
        if text.starts_with("https://") {
            return url::Url::parse(text).map(Self::Https).map_err(|_| bad());
        }
        let read = match text.strip_prefix("tls://") {
            Some(rest) => parts::host_and_port(rest, Some(853)).map(|(host, port)| Self::Tls(host, port)),
            None => parts::host_and_port(text, Some(53)).map(|(host, port)| Self::Plain(host, port)),
        };
        read.ok_or_else(bad)
    }

    /// Returns the key of the connection settings that a query to this server cannot use.
    pub fn unusable(&self, settings: &ConnectionSettings) -> Option<&'static str> {
        match self {
            Self::Plain(..) if settings.trust.is_some() => Some("trust"),
            Self::Plain(..) if settings.proxy.is_some() => Some("proxy"),
            _ => None,
        }
    }
}

/// Problem of settings that apply only to a server over TLS or HTTPS.
pub const NEEDS_TLS: &str = "needs a server over TLS or HTTPS";

/// DNS check.
#[derive(Debug, Clone, PartialEq)]
pub struct DnsCheck {
    /// Name to resolve; an address for `PTR`.
    pub name: Spanned<Template>,
    /// Record type.
    pub record: RecordType,
    /// Name server to query (default: the first one of the system).
    pub server: Option<Spanned<Template>>,
    /// Settings of the connection to the name server.
    pub connection: ConnectionSettings,
    /// Expected records of the response.
    pub answer: Option<Expected>,
    /// Expected response code (default: `NOERROR`).
    pub rcode: Option<Expected>,
    /// Expected state of the AD flag.
    pub dnssec: Option<Spanned<bool>>,
    /// Maximum time from sending the query to the response.
    pub faster_than: Option<Spanned<Duration>>,
}

/// Reads the check.
pub fn read(r: &mut Reader, target: &Node, fields: &Fields<'_>) -> Option<DnsCheck> {
    let name = parts::target(r, target, "`dns`", |text| {
        let fits = !text.is_empty() && text.len() <= 255 && !text.contains(['/', ' ']) && !text.contains("..");
        if fits { Ok(()) } else { Err("write the name alone, such as example.com") }.map_err(ToOwned::to_owned)
    });
    let record = match fields.get("record") {
        Some(node) => r
            .word(node, "type of record", &RecordType::WORDS)
            .and_then(|word| RecordType::WORDS.iter().position(|known| *known == word))
            .map(|at| RecordType::ALL[at]),
        None => Some(RecordType::A),
    };
    let server = parts::given(fields, "server", |node| parts::target(r, node, "`server`", Server::parse));
    let is_plain = match &server {
        Some(Some(server)) => {
            server.value.as_literal().is_some_and(|text| matches!(Server::parse(text), Ok(Server::Plain(..))))
        }
        Some(None) => {
            let problem = "has no effect without `server`";
            connection::refuse(r, fields, &["resolve"], problem, "write the address into `server`");
            true
        }
        None => false,
    };
    if is_plain {
        let advice = "write `server: tls://HOST` or `server: https://HOST/dns-query`";
        connection::refuse(r, fields, &["trust", "proxy"], NEEDS_TLS, advice);
    }
    let connection = connection::settings(r, fields);
    let inner = parts::under_expect(r, fields, EXPECT);
    let (mut answer, mut rcode, mut dnssec) = (Some(None), Some(None), Some(None));
    if let Some(inner) = &inner {
        answer = parts::expected(r, inner, "answer", ValueType::Any);
        rcode = parts::expected(r, inner, "rcode", ValueType::Text);
        dnssec =
            parts::given(inner, "dnssec", |node| r.boolean(node, "`dnssec`").map(|on| Spanned::new(on, node.span)));
    }
    let faster_than = parts::limit(r, fields, "faster_than");
    inner?;
    Some(DnsCheck {
        name: name?,
        record: record?,
        server: server?,
        connection: connection?,
        answer: answer?,
        rcode: rcode?,
        dnssec: dnssec?,
        faster_than: faster_than?,
    })
}
