//! Kinds of checks, with one file each for the keys, the plain data and the reader. The file of the same name below
//! `run/check` implements the check.

pub mod certificate;
pub mod connection;
mod definition;
pub mod dns;
pub mod exec;
pub mod grpc;
pub mod heartbeat;
mod http;
pub mod ntp;
mod parts;
pub mod ping;
pub mod postgres;
mod quantity;
pub mod redis;
pub mod s3;
pub mod tcp;
pub mod tls;
pub mod websocket;

use super::keys::{self, METHODS};
use super::model::{Action, ScenarioKind};
use super::reader::{Fields, Reader};
use super::tree::{Entry, Node, NodeKind};

pub use definition::Check;
pub use parts::{Expected, host_and_port, host_of};

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
