//! `postgres`: a query, and the first value of its answer.

use std::time::Duration;

use super::Expected;
use crate::diagnostic::At;
use crate::scenario::expect::On;
use crate::scenario::keys::{FASTER_THAN, Key, Kind, MATCHER, Shape, key};
use crate::scenario::reader::{Fields, Reader};
use crate::scenario::template::Template;
use crate::scenario::tree::Node;

/// Its keys.
pub const KIND: Kind = Kind {
    key: key("postgres", Shape::Text, "postgres://user:password@host[:port]/database[?sslmode=…]"),
    beside: &[
        key("sql", Shape::Text, "a query, in a transaction that only reads; default SELECT 1"),
        FASTER_THAN,
        key("expect", Shape::Keys(&[EXPECT]), "what must hold of the answer"),
    ],
};

/// What `expect` knows.
pub const EXPECT: &[Key] = &[key("value", MATCHER, "the first column of the first row; no row, or NULL: nothing")];

/// A PostgreSQL check.
#[derive(Debug, Clone, PartialEq)]
pub struct PostgresCheck {
    /// `postgres://…`.
    pub url: At<Template>,
    /// The query.
    pub sql: Option<At<Template>>,
    /// What its first value must be.
    pub value: Option<Expected>,
    /// From the start to the answer.
    pub faster_than: Option<At<Duration>>,
}

/// How TLS is asked for, as libpq names it.
pub const SSL_MODES: [&str; 5] = ["disable", "prefer", "require", "verify-ca", "verify-full"];

/// The URL of a database. The error does not repeat it: a password may stand in it.
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
    let url = super::target(r, target, "`postgres`", url);
    let sql = super::given(fields, "sql", |node| r.template(node, "`sql`"));
    let inner = super::under_expect(r, fields, EXPECT);
    let value = inner.as_ref().map_or(Some(None), |inner| super::expected(r, inner, "value", On::Any));
    let faster_than = super::limit(r, fields, "faster_than");
    inner?;
    Some(PostgresCheck { url: url?, sql: sql?, value: value?, faster_than: faster_than? })
}
