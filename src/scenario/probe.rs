//! The kinds of checks: `http`, `tcp`, `tls`.

use super::expect::{On, matcher};
use super::http;
use super::keys::METHODS;
use super::model::{Action, Kind, TcpCheck, TlsCheck};
use super::reader::{Fields, Reader};
use super::tree::{Entry, Node};
use super::url;
use crate::diagnostic::At;

/// Reads a check; `kind` is its kind and target, `fields` what stands beside it. Gives also its one step's name.
pub fn check(r: &mut Reader, kind: &Entry, fields: &Fields<'_>) -> Option<(Kind, Action)> {
    Some(match kind.key.as_str() {
        "http" => (Kind::Http, http_check(r, &kind.value, fields)?),
        "tcp" => {
            let address = url::address(r, &kind.value, "`tcp`");
            let send = match fields.get("send") {
                Some(node) => r.template(node, "`send`").map(Some),
                None => Some(None),
            };
            let receive = match fields.entry("receive") {
                Some(entry) => {
                    matcher(r, &entry.value, "`receive`", On::Text).map(|matcher| Some((matcher, entry.span())))
                }
                None => Some(None),
            };
            let faster_than = limit(r, fields, "faster_than");
            let check = TcpCheck { address: address?, send: send?, receive: receive?, faster_than: faster_than? };
            (Kind::Tcp, Action::Tcp(Box::new(check)))
        }
        _ => {
            let address = url::address(r, &kind.value, "`tls`");
            let trust = http::trust(r, fields.get("trust"));
            let expires_after = limit(r, fields, "expires_after");
            let faster_than = limit(r, fields, "faster_than");
            let check =
                TlsCheck { address: address?, trust: trust?, expires_after: expires_after?, faster_than: faster_than? };
            (Kind::Tls, Action::Tls(Box::new(check)))
        }
    })
}

/// The method of an `http` check, as far as it can be told; for its step's name.
pub fn method(node: Option<&Node>) -> &str {
    node.and_then(Node::scalar).map(|scalar| scalar.text.as_str()).filter(|m| METHODS.contains(m)).unwrap_or("GET")
}

fn http_check(r: &mut Reader, target: &Node, fields: &Fields<'_>) -> Option<Action> {
    let method = match fields.get("method") {
        Some(node) => r.word(node, "method", METHODS),
        None => Some("GET"),
    };
    let request = http::request(r, method.unwrap_or("GET"), target, fields, None);
    let mut short = Some(Vec::new());
    for entry in fields.iter().filter(|e| matches!(e.key.as_str(), "status" | "contains" | "faster_than")) {
        let twice = fields.get("expect").and_then(|expect| expect.get(&entry.key)).is_some();
        if twice {
            let message = format!("`{}` stands here and under `expect`", entry.key);
            r.fail_with(entry.key_span, message, "keep one of them");
        }
        short = match (short, http::facts(r, entry)) {
            (Some(mut all), Some(facts)) => {
                all.extend(facts);
                Some(all)
            }
            _ => None,
        };
    }
    method?;
    let mut request = request?;
    request.expect.splice(0..0, short?);
    Some(Action::Request(Box::new(request)))
}

#[allow(clippy::option_option)] // The outer one says that an error was reported.
fn limit(r: &mut Reader, fields: &Fields<'_>, key: &str) -> Option<Option<At<std::time::Duration>>> {
    let Some(node) = fields.get(key) else { return Some(None) };
    r.duration(node, &format!("`{key}`")).map(|limit| Some(At::new(limit, node.span)))
}
