//! Section `elasticsearch:` of the agent configuration.

use std::path::{Path, PathBuf};

use url::Url;

use crate::bounded::credential::{Credential, SECRET};
use crate::scenario::keys::{Key, Shape};
use crate::scenario::reader::Reader;
use crate::scenario::tree::Node;

/// Default index.
const INDEX: &str = "wachta";

/// Cluster and the index or data stream for the documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Base URL of the cluster.
    pub url: Url,
    /// Index or data stream for the documents.
    pub target: Target,
    /// Credentials, if the cluster requires some.
    pub authentication: Option<Authentication>,
    /// PEM file with root certificates trusted in addition to those of the system.
    pub ca: Option<PathBuf>,
    /// Whether the index template is created at the start.
    pub puts_template: bool,
}

/// Destination of the documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Index, or alias of an index.
    Index(String),
    /// Data stream.
    DataStream(String),
}

impl Target {
    /// Returns the name of the destination.
    pub fn name(&self) -> &str {
        match self {
            Self::Index(name) | Self::DataStream(name) => name,
        }
    }
}

/// Credentials for a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authentication {
    /// API key in its encoded form.
    ApiKey(Credential),
    /// User name and password.
    Basic(String, Credential),
}

impl Config {
    /// Keys of `elasticsearch:`.
    pub const KEYS: &[Key] = &[
        Key {
            name: "url",
            shape: Some(Shape::Text),
            doc: "base URL of the Elasticsearch or OpenSearch cluster; required",
        },
        Key { name: "index", shape: Some(Shape::Text), doc: "index for documents (default: wachta)" },
        Key { name: "data_stream", shape: Some(Shape::Text), doc: "data stream for documents, instead of an index" },
        Key { name: "api_key", shape: Some(SECRET), doc: "API key in its encoded form" },
        Key { name: "user", shape: Some(Shape::Text), doc: "user, together with `password`" },
        Key { name: "password", shape: Some(SECRET), doc: "password of `user`" },
        Key {
            name: "ca",
            shape: Some(Shape::Text),
            doc: "PEM file with root certificates in addition to those of the system, relative to this file",
        },
        Key {
            name: "template",
            shape: Some(Shape::Bool),
            doc: "whether the index template is created at the start (default: true)",
        },
    ];

    /// Reads `elasticsearch:`.
    pub fn read(r: &mut Reader, node: &Node) -> Option<Self> {
        let fields = r.fields(node, "`elasticsearch`", &[Self::KEYS])?;
        let errors = r.errors();
        let url = match fields.get("url") {
            Some(node) => read_url(r, node),
            None => {
                r.fail_with(node.span, "`elasticsearch` needs `url:`", "write it like https://logs.example.com:9200");
                None
            }
        };
        let target = match (fields.get("index"), fields.get("data_stream")) {
            (Some(_), Some(second)) => {
                r.fail(second.span, "`index` and `data_stream` exclude each other");
                None
            }
            (None, None) => Some(Target::Index(INDEX.to_owned())),
            (Some(node), None) => name(r, node, "`index`").map(Target::Index),
            (None, Some(node)) => name(r, node, "`data_stream`").map(Target::DataStream),
        };
        let secret = |r: &mut Reader, key: &str| {
            fields.get(key).and_then(|node| Credential::from_config(r, node, &format!("`{key}`")))
        };
        let (api_key, password) = (secret(r, "api_key"), secret(r, "password"));
        let user = fields.get("user").and_then(|node| r.text(node, "`user`")).map(|text| text.value);
        let authentication = match (api_key, user, password) {
            (None, None, None) => None,
            (Some(key), None, None) => Some(Authentication::ApiKey(key)),
            (None, Some(user), Some(password)) => Some(Authentication::Basic(user, password)),
            _ => {
                // Invalid values have been reported already.
                if r.errors() == errors {
                    r.fail(node.span, "credentials are either `api_key`, or `user` and `password`");
                }
                None
            }
        };
        let ca = fields.get("ca").and_then(|node| r.text(node, "`ca`"));
        let ca = ca.map(|ca| Path::new(&r.source.path).parent().unwrap_or(Path::new("")).join(&ca.value));
        let puts_template = fields.get("template").is_none_or(|node| r.boolean(node, "`template`") != Some(false));
        if r.errors() > errors {
            return None;
        }
        Some(Self { url: url?, target: target?, authentication, ca, puts_template })
    }

    /// Describes the destination.
    pub fn describe(&self) -> String {
        format!("{} at {}", self.target.name(), self.url)
    }
}

fn read_url(r: &mut Reader, node: &Node) -> Option<Url> {
    let text = r.text(node, "`url`")?;
    let url = Url::parse(&text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let Some(url) = url else {
        r.fail_with(node.span, "`url` is not a URL", "write it like https://logs.example.com:9200");
        return None;
    };
    if !url.username().is_empty() || url.password().is_some() {
        r.fail_with(node.span, "`url` must hold no credentials", "write them under `user` and `password`");
        return None;
    }
    Some(url)
}

/// Reads the name of an index or data stream: lower case, without the characters that are not permitted, and not a
/// special name.
fn name(r: &mut Reader, node: &Node, what: &str) -> Option<String> {
    let text = r.text(node, what)?;
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    let begins = text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    if begins && text.len() <= 200 && text.chars().all(is_plain) {
        return Some(text.value);
    }
    r.fail(
        node.span,
        format!("{what} must be 1 to 200 of the characters a-z, 0-9, `.`, `_` and `-`, a letter or digit first"),
    );
    None
}
