//! `redis` check: a command to a Redis server and its reply.

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
    key: key("redis", Shape::Text, "redis://[user:password@]host[:port][/database], or rediss:// over TLS"),
    sibling_keys: &[
        key("command", Shape::List(&Shape::Text), "command and its arguments (default: [PING])"),
        TRUST_KEY,
        RESOLVE,
        PROXY,
        FASTER_THAN,
        key("expect", Shape::Keys(&[EXPECT]), "expectations on the response"),
    ],
};

/// Keys of `expect`.
pub const EXPECT: &[Key] = &[key("value", MATCHER, "the response: a number, a text, or a list of them; nil: nothing")];

/// Problem of `trust` beside a URL without TLS.
pub const NEEDS_TLS: &str = "has no effect without TLS";

/// Redis check.
#[derive(Debug, Clone, PartialEq)]
pub struct RedisCheck {
    /// Server URL: `redis://…` or `rediss://…`.
    pub url: Spanned<Template>,
    /// Command and its arguments.
    pub command: Vec<Spanned<Template>>,
    /// Settings of the connection; `trust` applies to `rediss://`.
    pub connection: ConnectionSettings,
    /// Expected reply.
    pub value: Option<Expected>,
    /// Maximum time from the start to the reply.
    pub faster_than: Option<Spanned<Duration>>,
}

/// Parses the URL of a Redis server. The error does not repeat the URL, which may contain a password.
pub fn url(text: &str) -> Result<url::Url, String> {
    let bad = || "write redis://host:port/database, or rediss:// for TLS".to_owned();
    match url::Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "redis" | "rediss") && url.has_host() => {
            let database = url.path().trim_start_matches('/');
            if database.is_empty() || database.parse::<u32>().is_ok() { Ok(url) } else { Err(bad()) }
        }
        _ => Err(bad()),
    }
}

/// Reads the check.
pub fn read(r: &mut Reader, target: &Node, fields: &Fields<'_>) -> Option<RedisCheck> {
    let url = parts::target(r, target, "`redis`", url);
    let is_plain = |url: &Spanned<Template>| url.value.as_literal().is_some_and(|text| text.starts_with("redis://"));
    if url.as_ref().is_some_and(is_plain) {
        connection::refuse(r, fields, &["trust"], NEEDS_TLS, "write rediss:// in the URL");
    }
    let connection = connection::settings(r, fields);
    let command = match fields.get("command") {
        None => Some(Vec::new()),
        Some(node) => r.list(node, "`command`").and_then(|items| {
            if items.is_empty() {
                r.fail_with(node.span, "`command` is empty", "write it like [LLEN, queue]");
                return None;
            }
            let read: Vec<_> = items.iter().map(|item| r.template(item, "`command`")).collect();
            read.into_iter().collect()
        }),
    };
    let inner = parts::under_expect(r, fields, EXPECT);
    let value = inner.as_ref().map_or(Some(None), |inner| parts::expected(r, inner, "value", ValueType::Any));
    let faster_than = parts::limit(r, fields, "faster_than");
    inner?;
    Some(RedisCheck { url: url?, command: command?, connection: connection?, value: value?, faster_than: faster_than? })
}
