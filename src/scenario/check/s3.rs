//! `s3` check: number, age and size of the objects in a bucket.

use super::connection::{self, ConnectionSettings, NEEDS_TLS, PROXY, RESOLVE, TRUST_KEY};
use super::parts::{self, Expected};
use super::quantity;
use crate::diagnostic::Spanned;
use crate::scenario::expect::ValueType;
use crate::scenario::key::{ActionSpec, Key, MATCHER, Shape, key};
use crate::scenario::reader::{Fields, Reader};
use crate::scenario::template::Template;
use crate::scenario::tree::Node;

/// Keys of the check.
pub const KIND: ActionSpec = ActionSpec {
    key: key("s3", Shape::Text, "bucket: s3://BUCKET, or https://HOST/BUCKET for other services than Amazon S3"),
    sibling_keys: &[
        key("key", Shape::Text, "key of an object; with a * at its end: the newest of all objects with this prefix"),
        key("credentials", Shape::Keys(&[CREDENTIALS]), "access key (default: none, for a public bucket)"),
        key("region", Shape::Text, "region of the bucket (default: us-east-1)"),
        TRUST_KEY,
        RESOLVE,
        PROXY,
        key("expect", Shape::Keys(&[EXPECT]), "expectations (default: the object exists)"),
    ],
};

/// Keys of `expect`.
pub const EXPECT: &[Key] = &[
    key("age", MATCHER, "age of the newest object: {less_than: 26h}"),
    key("size", MATCHER, "size of the newest object: {greater_than: 1GB}"),
    key("count", MATCHER, "number of objects"),
];

/// Keys of `credentials`.
pub const CREDENTIALS: &[Key] = &[
    key("access_key", Shape::Text, "access key id"),
    key("secret_key", Shape::Text, "secret access key: ${secret.NAME}"),
    key("session_token", Shape::Text, "session token, if there is one"),
];

/// S3 check.
#[derive(Debug, Clone, PartialEq)]
pub struct S3Check {
    /// Bucket as `s3://bucket`, or the URL of a bucket.
    pub bucket: Spanned<Template>,
    /// Key of an object, or a prefix followed by `*`.
    pub key: Spanned<Template>,
    /// Credentials; without them the requests are anonymous.
    pub credentials: Option<Credentials>,
    /// Settings of the connection; `trust` applies to `https://` and `s3://`.
    pub connection: ConnectionSettings,
    /// Region of the bucket (default: `us-east-1`).
    pub region: Option<Spanned<Template>>,
    /// Expected age of the newest object, in seconds.
    pub age: Option<Expected>,
    /// Expected size of the newest object, in bytes.
    pub size: Option<Expected>,
    /// Expected number of objects.
    pub count: Option<Expected>,
}

/// Credentials for an object store.
#[derive(Debug, Clone, PartialEq)]
pub struct Credentials {
    /// Access key id.
    pub access_key: Spanned<Template>,
    /// Secret access key.
    pub secret_key: Spanned<Template>,
    /// Session token.
    pub session_token: Option<Spanned<Template>>,
}

/// Parses a bucket into its endpoint, which is `None` for Amazon S3, and its name.
pub fn bucket(text: &str) -> Result<(Option<url::Url>, String), String> {
    let bad = || "write s3://BUCKET, or https://HOST/BUCKET".to_owned();
    let url = url::Url::parse(text).map_err(|_| bad())?;
    let name_fits = |name: &str| {
        name.len() >= 3 && name.len() <= 63 && name.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c))
    };
    match url.scheme() {
        "s3" => {
            let name = url.host_str().unwrap_or_default();
            let rest = url.path().trim_matches('/');
            if name_fits(name) && rest.is_empty() { Ok((None, name.to_owned())) } else { Err(bad()) }
        }
        "http" | "https" => {
            let name = url.path().trim_matches('/').to_owned();
            if !name_fits(&name) {
                return Err(bad());
            }
            let mut endpoint = url;
            endpoint.set_path("/");
            endpoint.set_query(None);
            Ok((Some(endpoint), name))
        }
        _ => Err(bad()),
    }
}

/// Reads the check.
pub fn read(r: &mut Reader, target: &Node, fields: &Fields<'_>) -> Option<S3Check> {
    let bucket = parts::target(r, target, "`s3`", bucket);
    let is_plain = |url: &Spanned<Template>| url.value.as_literal().is_some_and(|text| text.starts_with("http://"));
    if bucket.as_ref().is_some_and(is_plain) {
        connection::refuse(r, fields, &["trust"], NEEDS_TLS, "write https:// in the URL");
    }
    let connection = connection::settings(r, fields);
    let key = match fields.get("key") {
        Some(node) => parts::target(r, node, "`key`", |text| {
            let stars = text.matches('*').count();
            let fits = !text.is_empty() && (stars == 0 || (stars == 1 && text.ends_with('*')));
            if fits { Ok(()) } else { Err("a * is only allowed at the end".to_owned()) }
        }),
        None => {
            r.fail_with(target.span, "`s3` needs a `key`", "add `key: backups/*`, or the key of one object");
            None
        }
    };
    let credentials = parts::given(fields, "credentials", |node| credentials(r, node));
    let region = parts::given(fields, "region", |node| r.template(node, "`region`"));
    let inner = parts::under_expect(r, fields, EXPECT);
    let (mut age, mut size, mut count) = (Some(None), Some(None), Some(None));
    if let Some(inner) = &inner {
        age = quantity::durations(r, inner, "age");
        size = quantity::sizes(r, inner, "size");
        count = parts::expected(r, inner, "count", ValueType::Number);
    }
    inner?;
    Some(S3Check {
        bucket: bucket?,
        key: key?,
        credentials: credentials?,
        connection: connection?,
        region: region?,
        age: age?,
        size: size?,
        count: count?,
    })
}

fn credentials(r: &mut Reader, node: &Node) -> Option<Credentials> {
    let fields = r.fields(node, "`credentials`", &[CREDENTIALS])?;
    let mut needed = |name: &str| match fields.get(name) {
        Some(node) => r.template(node, &format!("`{name}`")),
        None => {
            r.fail(fields.span, format!("`credentials` needs `{name}`"));
            None
        }
    };
    let (access_key, secret_key) = (needed("access_key"), needed("secret_key"));
    let session_token = parts::given(&fields, "session_token", |node| r.template(node, "`session_token`"));
    Some(Credentials { access_key: access_key?, secret_key: secret_key?, session_token: session_token? })
}
