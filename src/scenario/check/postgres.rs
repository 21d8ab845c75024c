//! `postgres` check: a query and the first value of its result.

use std::time::Duration;

use super::parts::{self, Expected};
use crate::diagnostic::Spanned;
use crate::scenario::expect::ValueType;
use crate::scenario::key::{ActionSpec, FASTER_THAN, Key, MATCHER, Shape, key};
use crate::scenario::reader::{Fields, Reader};
use crate::scenario::template::Template;
use crate::scenario::tree::Node;

/// Keys of the check.
pub const KIND: ActionSpec = ActionSpec {
    key: key("postgres", Shape::Text, "postgres://user:password@host[:port]/database[?sslmode=…]"),
    sibling_keys: &[
        key("sql", Shape::Text, "query, run in a read-only transaction (default: SELECT 1)"),
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

/// Reads the check.
pub fn read(r: &mut Reader, target: &Node, fields: &Fields<'_>) -> Option<PostgresCheck> {
    let url = parts::target(r, target, "`postgres`", url);
    let sql = parts::given(fields, "sql", |node| r.template(node, "`sql`"));
    let inner = parts::under_expect(r, fields, EXPECT);
    let value = inner.as_ref().map_or(Some(None), |inner| parts::expected(r, inner, "value", ValueType::Any));
    let faster_than = parts::limit(r, fields, "faster_than");
    inner?;
    Some(PostgresCheck { url: url?, sql: sql?, value: value?, faster_than: faster_than? })
}
