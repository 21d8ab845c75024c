//! `postgres` check: a query and the first value of its result.

use std::time::Duration;

use super::connection::{self, ConnectionSettings, PROXY, RESOLVE, TRUST_KEY};
use super::parts::{self, Expected};
use crate::diagnostic::Spanned;
use crate::scenario::expect::ValueType;
use crate::scenario::key::{ActionSpec, FASTER_THAN, Key, MATCHER, Shape, key};
use crate::scenario::reader::{Fields, Reader};
use crate::scenario::template::Template;
use crate::scenario::tree::Node;
use crate::scenario::trust::Trust;

/// Keys of the check.
pub const KIND: ActionSpec = ActionSpec {
    key: key("postgres", Shape::Text, "postgres://user:password@host[:port]/database[?sslmode=…]"),
    sibling_keys: &[
        key("sql", Shape::Text, "query, run in a read-only transaction (default: SELECT 1)"),
        TRUST_KEY,
        RESOLVE,
        PROXY,
        FASTER_THAN,
        key("expect", Shape::Keys(&[EXPECT]), "expectations on the response"),
    ],
};

/// Keys of `expect`.
pub const EXPECT: &[Key] =
    &[key("value", MATCHER, "first column of the first row; absent if there is no row or it is NULL")];

/// PostgreSQL check.
#[derive(Debug, Clone, PartialEq)]
pub struct PostgresCheck {
    /// Database URL: `postgres://…`.
    pub url: Spanned<Template>,
    /// SQL query.
    pub sql: Option<Spanned<Template>>,
    /// Settings of the connection. The `sslmode` of the URL decides whether `trust` applies.
    pub connection: ConnectionSettings,
    /// Expected first value of the result.
    pub value: Option<Expected>,
    /// Maximum time from the start to the result.
    pub faster_than: Option<Spanned<Duration>>,
}

/// TLS modes, with the names of libpq.
pub const SSL_MODES: [&str; 5] = ["disable", "prefer", "require", "verify-ca", "verify-full"];

/// Parses the URL of a database. The error does not repeat the URL, which may contain a password.
pub fn url(text: &str) -> Result<url::Url, String> {
    let url = url::Url::parse(text).ok().filter(|url| {
        matches!(url.scheme(), "postgres" | "postgresql") && url.has_host() && !url.username().is_empty()
    });
    let Some(url) = url else { return Err("write postgres://user:password@host/database".to_owned()) };
    for (key, value) in url.query_pairs() {
        match key.as_ref() {
            "sslmode" if SSL_MODES.contains(&value.as_ref()) => {}
            "sslmode" => return Err(format!("sslmode is one of {}", SSL_MODES.join(", "))),
            _ => return Err("of the parameters only sslmode is known".to_owned()),
        }
    }
    Ok(url)
}

/// Returns the problem of trust settings that have no effect with the `sslmode` of a URL.
pub fn trust_problem(url: &url::Url, trust: &Trust) -> Option<&'static str> {
    let mode = url.query_pairs().find(|(key, _)| key == "sslmode").map(|(_, value)| value);
    match mode.as_deref() {
        Some("disable") => Some("`trust` has no effect with sslmode=disable"),
        _ if trust.insecure => Some("`insecure` has no effect; write sslmode=require into the URL"),
        Some("verify-ca" | "verify-full") => None,
        _ if trust.ca.is_some() => Some("`ca` has no effect without sslmode=verify-full or sslmode=verify-ca"),
        _ => None,
    }
}

/// Reads the check.
pub fn read(r: &mut Reader, target: &Node, fields: &Fields<'_>) -> Option<PostgresCheck> {
    let url = parts::target(r, target, "`postgres`", url);
    let connection = connection::settings(r, fields);
    let literal = url.as_ref().and_then(|url| url.value.as_literal()).and_then(|text| self::url(text).ok());
    if let (Some(url), Some(trust), Some(entry)) =
        (literal, connection.as_ref().and_then(|settings| settings.trust.as_ref()), fields.entry("trust"))
        && let Some(problem) = trust_problem(&url, trust)
    {
        r.fail(entry.key_span, problem);
    }
    let sql = parts::given(fields, "sql", |node| r.template(node, "`sql`"));
    let inner = parts::under_expect(r, fields, EXPECT);
    let value = inner.as_ref().map_or(Some(None), |inner| parts::expected(r, inner, "value", ValueType::Any));
    let faster_than = parts::limit(r, fields, "faster_than");
    inner?;
    Some(PostgresCheck { url: url?, sql: sql?, connection: connection?, value: value?, faster_than: faster_than? })
}
