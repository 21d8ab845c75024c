//! Section `remote_write:` of the agent configuration.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderName};
use url::Url;

use crate::bounded::credential::{Credential, SECRET};
use crate::names::metric::Detail;
use crate::scenario::keys::{Key, Shape};
use crate::scenario::reader::Reader;
use crate::scenario::tree::Node;
use crate::sink::http::{Headers, read_headers};

/// Default interval after which values are repeated.
const DEFAULT_REPEAT: Duration = Duration::from_secs(60);
/// Minimum interval after which values are repeated.
const MIN_REPEAT: Duration = Duration::from_secs(10);
/// Maximum interval after which values are repeated: at a receiver, a value expires after five minutes.
const MAX_REPEAT: Duration = Duration::from_mins(3);
/// Headers reserved for the protocol.
const RESERVED: [&str; 6] = [
    "content-type",
    "content-length",
    "content-encoding",
    "transfer-encoding",
    "host",
    "x-prometheus-remote-write-version",
];

/// Remote write receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// URL of the receiver.
    pub url: Url,
    /// Credentials, if the receiver requires some.
    pub authentication: Option<Authentication>,
    /// PEM file with root certificates trusted in addition to those of the system.
    pub ca: Option<PathBuf>,
    /// Headers of every request.
    pub headers: Headers,
    /// Labels of every series, in addition to its own and `job`, `instance` and `location`.
    pub labels: BTreeMap<String, String>,
    /// Detail per scenario (default: that of `/metrics`).
    pub detail: Option<Detail>,
    /// Time without a run after which the last values are sent again.
    pub repeat: Duration,
}

/// Credentials for a receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authentication {
    /// A bearer token.
    Token(Credential),
    /// User name and password.
    Basic(String, Credential),
}

impl Config {
    /// Keys of `remote_write:`.
    pub const KEYS: &[Key] = &[
        Key {
            name: "url",
            shape: Some(Shape::Text),
            doc: "URL of the receiver, such as `https://host/api/v1/write`; required",
        },
        Key { name: "token", shape: Some(SECRET), doc: "bearer token" },
        Key { name: "user", shape: Some(Shape::Text), doc: "user, together with `password`" },
        Key { name: "password", shape: Some(SECRET), doc: "password of `user`" },
        Key {
            name: "ca",
            shape: Some(Shape::Text),
            doc: "PEM file with root certificates in addition to those of the system, relative to this file",
        },
        Key {
            name: "headers",
            shape: Some(Shape::Map(&SECRET)),
            doc: "headers of every request, such as a tenant; values may be secrets",
        },
        Key {
            name: "labels",
            shape: Some(Shape::Map(&Shape::Text)),
            doc: "labels of every series (default: `job`: wachta, `instance`: name of the machine, `location`)",
        },
        Key {
            name: "detail",
            shape: Some(Shape::Words(&["basic", "full"])),
            doc: "metrics per scenario (default: as for `/metrics`)",
        },
        Key {
            name: "repeat",
            shape: Some(Shape::Duration),
            doc: "time without a run after which the last values are sent again, 10s to 3m (default: 60s)",
        },
    ];

    /// Creates the configuration of a receiver with this URL and default settings.
    pub fn to(url: Url) -> Self {
        Self {
            url,
            authentication: None,
            ca: None,
            headers: Vec::new(),
            labels: BTreeMap::new(),
            detail: None,
            repeat: DEFAULT_REPEAT,
        }
    }

    /// Reads `remote_write:`.
    pub fn read(r: &mut Reader, node: &Node) -> Option<Self> {
        let fields = r.fields(node, "`remote_write`", &[Self::KEYS])?;
        let errors = r.errors();
        let example = "write it like https://prometheus.example.com/api/v1/write";
        let url = match fields.get("url") {
            Some(node) => r.text(node, "`url`").and_then(|text| {
                let url = Url::parse(&text).ok();
                let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
                let Some(url) = url else {
                    r.fail_with(node.span, "`url` is not a URL", example);
                    return None;
                };
                if !url.username().is_empty() || url.password().is_some() {
                    r.fail_with(node.span, "`url` must hold no credentials", "write them under `user` and `password`");
                    return None;
                }
                Some(url)
            }),
            None => {
                r.fail_with(node.span, "`remote_write` needs `url:`", example);
                None
            }
        };
        let secret = |r: &mut Reader, key: &str| {
            fields.get(key).and_then(|node| Credential::from_config(r, node, &format!("`{key}`")))
        };
        let (token, password) = (secret(r, "token"), secret(r, "password"));
        let user = fields.get("user").and_then(|node| r.text(node, "`user`")).map(|text| text.value);
        let authentication = match (token, user, password) {
            (None, None, None) => None,
            (Some(token), None, None) => Some(Authentication::Token(token)),
            (None, Some(user), Some(password)) => Some(Authentication::Basic(user, password)),
            _ => {
                if r.errors() == errors {
                    r.fail(node.span, "credentials are either `token`, or `user` and `password`");
                }
                None
            }
        };
        let is_reserved =
            |name: &HeaderName| RESERVED.contains(&name.as_str()) || *name == AUTHORIZATION && authentication.is_some();
        let headers = fields.get("headers").map(|node| read_headers(r, node, is_reserved)).unwrap_or_default();
        let labels = fields.get("labels").map(|node| labels(r, node)).unwrap_or_default();
        let ca = fields.get("ca").and_then(|node| r.text(node, "`ca`"));
        let ca = ca.map(|ca| Path::new(&r.source.path).parent().unwrap_or(Path::new("")).join(&ca.value));
        let detail = fields.get("detail").and_then(|node| r.word(node, "`detail`", &["basic", "full"]));
        let detail = detail.map(|word| if word == "basic" { Detail::Basic } else { Detail::Full });
        let repeat = fields.get("repeat").map_or(Some(DEFAULT_REPEAT), |node| {
            let repeat = r.duration(node, "`repeat`")?;
            if !(MIN_REPEAT..=MAX_REPEAT).contains(&repeat) {
                let label = "a receiver forgets a value after five minutes";
                r.fail_with(node.span, "`repeat` must be from 10s to 3m", label);
            }
            Some(repeat)
        });
        if r.errors() > errors {
            return None;
        }
        Some(Self { url: url?, authentication, ca, headers, labels, detail, repeat: repeat? })
    }

    /// Describes the destination without the query, which may contain a credential.
    pub fn describe(&self) -> String {
        let mut url = self.url.clone();
        url.set_query(None);
        url.set_fragment(None);
        url.to_string()
    }
}

/// Reads `labels:`.
fn labels(r: &mut Reader, node: &Node) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    for entry in r.entries(node, "`labels`").unwrap_or_default() {
        let is_name = |text: &str| {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
            !text.starts_with(|c: char| c.is_ascii_digit()) && !text.starts_with("__") && text.chars().all(is_plain)
        };
        if !is_name(&entry.key) || entry.key.is_empty() {
            let label = "write letters, digits and `_`, and no digit and no `__` first";
            r.fail_with(entry.key_span, format!("`{}` is not the name of a label", entry.key), label);
        } else if let Some(value) = r.text(&entry.value, &format!("`{}`", entry.key)) {
            labels.insert(entry.key.clone(), value.value);
        }
    }
    labels
}
