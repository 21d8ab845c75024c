//! Kinds of checks, with one file each for the keys, the plain data and the reader. The file of the same name below
//! `run/check` implements the check.

pub mod certificate;
pub mod dns;
pub mod exec;
pub mod grpc;
pub mod heartbeat;
mod http;
pub mod ntp;
pub mod ping;
pub mod postgres;
mod quantity;
pub mod redis;
pub mod s3;
pub mod tcp;
pub mod tls;
pub mod websocket;

use std::time::Duration;

use super::expect::{On, matcher};
use super::keys::{self, Key, METHODS};
use super::model::{Action, Matcher, ScenarioKind};
use super::reader::{Fields, Reader};
use super::template::Template;
use super::tree::{Entry, Node, NodeKind};
use crate::diagnostic::{Span, Spanned};

/// Check of any kind except `http`, which is a request.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant)] // Stored in a `Box`.
pub enum Check {
    /// TCP connection, with optional data sent and received.
    Tcp(tcp::TcpCheck),
    /// TLS handshake and the certificates of the server.
    Tls(tls::TlsCheck),
    /// DNS query.
    Dns(dns::DnsCheck),
    /// ICMP echo request.
    Ping(ping::PingCheck),
    /// Query to a PostgreSQL database.
    Postgres(postgres::PostgresCheck),
    /// Command to a Redis server.
    Redis(redis::RedisCheck),
    /// Query of the gRPC health service.
    Grpc(grpc::GrpcCheck),
    /// WebSocket connection, with optional messages sent and received.
    Websocket(websocket::WebsocketCheck),
    /// Query of a time server.
    Ntp(ntp::NtpCheck),
    /// Objects in an S3 bucket.
    S3(s3::S3Check),
    /// Expected check-in of an external program.
    Heartbeat(heartbeat::HeartbeatCheck),
    /// Command on the agent's machine.
    Exec(exec::ExecCheck),
}

impl Check {
    /// Returns the kind of the check.
    pub fn kind(&self) -> ScenarioKind {
        match self {
            Self::Tcp(_) => ScenarioKind::Tcp,
            Self::Tls(_) => ScenarioKind::Tls,
            Self::Dns(_) => ScenarioKind::Dns,
            Self::Ping(_) => ScenarioKind::Ping,
            Self::Postgres(_) => ScenarioKind::Postgres,
            Self::Redis(_) => ScenarioKind::Redis,
            Self::Grpc(_) => ScenarioKind::Grpc,
            Self::Websocket(_) => ScenarioKind::Websocket,
            Self::Ntp(_) => ScenarioKind::Ntp,
            Self::S3(_) => ScenarioKind::S3,
            Self::Heartbeat(_) => ScenarioKind::Heartbeat,
            Self::Exec(_) => ScenarioKind::Exec,
        }
    }

    /// Returns the time between the due time and the evaluation.
    pub fn grace(&self) -> Duration {
        match self {
            Self::Heartbeat(check) => check.grace,
            _ => Duration::ZERO,
        }
    }

    /// Returns the files that the check references.
    pub fn files(&self) -> Vec<&Spanned<Template>> {
        let trust = match self {
            Self::Tcp(check) => &check.trust,
            Self::Tls(check) => &check.trust,
            Self::Grpc(check) => match &check.trust {
                Some(trust) => trust,
                None => return Vec::new(),
            },
            _ => return Vec::new(),
        };
        trust.files()
    }

    /// Returns the spans of the expectations that a failure can refer to.
    pub fn spans(&self) -> Vec<Span> {
        let (expected, limit): (Vec<&Expected>, _) = match self {
            Self::Tcp(check) => (check.receive.iter().collect(), &check.faster_than),
            Self::Tls(check) => {
                let facts = check.expect.iter().map(|fact| fact.span);
                return facts.chain(check.faster_than.iter().map(|limit| limit.span)).collect();
            }
            Self::Dns(check) => {
                let mut spans: Vec<_> = check.answer.iter().chain(&check.rcode).map(|one| one.span).collect();
                spans.extend(check.dnssec.iter().map(|one| one.span));
                spans.extend(check.faster_than.iter().map(|one| one.span));
                return spans;
            }
            Self::Ping(check) => (Vec::new(), &check.faster_than),
            Self::Postgres(check) => (check.value.iter().collect(), &check.faster_than),
            Self::Redis(check) => (check.value.iter().collect(), &check.faster_than),
            Self::Grpc(check) => (Vec::new(), &check.faster_than),
            Self::Websocket(check) => (check.receive.iter().collect(), &check.faster_than),
            Self::Ntp(check) => (check.offset.iter().collect(), &check.faster_than),
            Self::S3(check) => (check.age.iter().chain(&check.size).chain(&check.count).collect(), &None),
            Self::Heartbeat(_) => (Vec::new(), &None),
            Self::Exec(check) => (Vec::new(), &check.faster_than),
        };
        expected.into_iter().map(|one| one.span).chain(limit.iter().map(|limit| limit.span)).collect()
    }
}

/// Matcher with its span.
#[derive(Debug, Clone, PartialEq)]
pub struct Expected {
    /// Condition that must hold.
    pub matcher: Matcher,
    /// Span of the matcher in the file.
    pub span: Span,
}

/// Reads a check. `kind` is the entry with its kind and target, `fields` are the sibling keys.
pub fn check(r: &mut Reader, kind: &Entry, fields: &Fields<'_>) -> Option<(ScenarioKind, Action)> {
    let target = &kind.value;
    let check = match kind.key.as_str() {
        "http" => return http::read(r, target, fields).map(|action| (ScenarioKind::Http, action)),
        "tcp" => Check::Tcp(tcp::read(r, target, fields)?),
        "tls" => Check::Tls(tls::read(r, target, fields)?),
        "dns" => Check::Dns(dns::read(r, target, fields)?),
        "ping" => Check::Ping(ping::read(r, target, fields)?),
        "postgres" => Check::Postgres(postgres::read(r, target, fields)?),
        "redis" => Check::Redis(redis::read(r, target, fields)?),
        "grpc" => Check::Grpc(grpc::read(r, target, fields)?),
        "websocket" => Check::Websocket(websocket::read(r, target, fields)?),
        "ntp" => Check::Ntp(ntp::read(r, target, fields)?),
        "s3" => Check::S3(s3::read(r, target, fields)?),
        "heartbeat" => Check::Heartbeat(heartbeat::read(r, target, fields)?),
        _ => Check::Exec(exec::read(r, target, fields)?),
    };
    Some((check.kind(), Action::Check(Box::new(check))))
}

/// Returns the name of the only step of a check: its kind, or the method of a request, followed by the target as
/// written but without a password in it.
pub fn step_name(kind: &Entry, fields: &Fields<'_>) -> String {
    let verb = if kind.key == keys::HTTP.key.name { method(fields.get("method")) } else { kind.key.as_str() };
    let words: Vec<&str> = match &kind.value.kind {
        NodeKind::List(items) => items.iter().filter_map(Node::scalar).map(|scalar| scalar.text.as_str()).collect(),
        _ => kind.value.scalar().map(|scalar| scalar.text.as_str()).into_iter().collect(),
    };
    let target = words.join(" ");
    let shown = match target.split_once("://").map(|(scheme, rest)| (scheme, rest.split_once('@'))) {
        Some((scheme, Some((user, rest)))) if !user.contains('/') => format!("{scheme}://***@{rest}"),
        _ => target,
    };
    format!("{verb} {}", super::reader::cut(&shown))
}

/// Returns the method of an `http` check, or `GET` if it is absent or not valid.
fn method(node: Option<&Node>) -> &str {
    node.and_then(Node::scalar).map(|scalar| scalar.text.as_str()).filter(|m| METHODS.contains(m)).unwrap_or("GET")
}

/// Splits `host:port` and adds the default port if the text has none. An IPv6 address with a port must be enclosed in
/// brackets. Returns `None` if the text is not valid, or has no port and there is no default.
pub fn host_and_port(text: &str, default: Option<u16>) -> Option<(String, u16)> {
    let port_of = |port: &str| port.parse::<u16>().ok().filter(|port| *port > 0);
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        match rest.strip_prefix(':') {
            Some(port) => (host, port_of(port)?),
            None if rest.is_empty() => (host, default?),
            None => return None,
        }
    } else {
        match text.split_once(':') {
            // More than one colon: an IPv6 address without a port.
            Some((_, rest)) if rest.contains(':') => (text, default?),
            Some((host, port)) => (host, port_of(port)?),
            None => (text, default?),
        }
    };
    let plain = !host.is_empty() && !host.contains(['/', '@', '[', ']']) && !host.contains(char::is_whitespace);
    plain.then(|| (host.to_owned(), port))
}

/// Returns the host of a URL in the form used for name resolution: an IPv6 address without its brackets.
pub fn host_of(url: &url::Url) -> Option<String> {
    url.host_str().filter(|host| !host.is_empty()).map(|host| host.trim_matches(['[', ']']).to_owned())
}

/// Reads an optional value. The outer `None` means that an error was reported.
#[allow(clippy::option_option)]
fn given<T>(fields: &Fields<'_>, key: &str, read: impl FnOnce(&Node) -> Option<T>) -> Option<Option<T>> {
    match fields.get(key) {
        Some(node) => read(node).map(Some),
        None => Some(None),
    }
}

/// Reads an optional time limit.
#[allow(clippy::option_option)]
fn limit(r: &mut Reader, fields: &Fields<'_>, key: &str) -> Option<Option<Spanned<Duration>>> {
    given(fields, key, |node| r.duration(node, &format!("`{key}`")).map(|limit| Spanned::new(limit, node.span)))
}

/// Reads an optional matcher from a sibling key, or from a key under `expect`.
#[allow(clippy::option_option)]
fn expected(r: &mut Reader, fields: &Fields<'_>, key: &str, on: On) -> Option<Option<Expected>> {
    let Some(entry) = fields.entry(key) else { return Some(None) };
    let matcher = matcher(r, &entry.value, &format!("`{key}`"), on)?;
    Some(Some(Expected { matcher, span: entry.span() }))
}

/// Reads the fields under `expect`. They are empty if there is no such key.
fn under_expect<'a>(r: &mut Reader, fields: &Fields<'a>, table: &[Key]) -> Option<Fields<'a>> {
    match fields.get("expect") {
        Some(node) => r.fields(node, "`expect`", &[table]),
        None => Some(Fields::of(Vec::new(), fields.span)),
    }
}

/// Reads the target of a check. A literal target must be accepted by `parse`, whose error describes the accepted forms.
fn target<T>(
    r: &mut Reader,
    node: &Node,
    what: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Option<Spanned<Template>> {
    let template = r.template(node, what)?;
    if let Some(Err(problem)) = template.as_literal().map(parse) {
        r.fail(node.span, format!("{what}: {problem}"));
        return None;
    }
    Some(template)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_are_taken_apart() {
        let check = |text: &str, default, expected: Option<(&str, u16)>| {
            assert_eq!(host_and_port(text, default), expected.map(|(host, port)| (host.to_owned(), port)), "{text}");
        };
        check("a.example:25", None, Some(("a.example", 25)));
        check("a.example", Some(53), Some(("a.example", 53)));
        check("[::1]:853", None, Some(("::1", 853)));
        check("[::1]", Some(53), Some(("::1", 53)));
        check("2001:db8::1", Some(53), Some(("2001:db8::1", 53)));
        for bad in
            ["a.example", "a.example:0", "a.example:x", "a.example:70000", ":1", "[::1", "[::1]x", "a b:1", "a/b:1"]
        {
            check(bad, None, None);
        }
    }
}
