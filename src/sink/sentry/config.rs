//! Section `sentry:` of the agent configuration.

use std::path::{Path, PathBuf};

use url::Url;

use crate::bounded::credential::{Credential, SECRET};
use crate::scenario::keys::{Key, Shape};
use crate::scenario::reader::Reader;
use crate::scenario::tree::Node;

/// Default environment, as in Sentry's own clients.
const ENVIRONMENT: &str = "production";

const API: &[Key] = &[
    Key {
        name: "url",
        shape: Some(Shape::Text),
        doc: "base URL of the server's API, such as `https://sentry.io`; required",
    },
    Key { name: "token", shape: Some(SECRET), doc: "token with permission to read and change issues; required" },
    Key { name: "organization", shape: Some(Shape::Text), doc: "slug of the organization; omit it for Bugsink" },
    Key { name: "project", shape: Some(Shape::Text), doc: "slug of the project, for Bugsink its number; required" },
];

/// Project at Sentry or at a server with a compatible protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// DSN: the address of the project with its access key.
    pub dsn: Credential,
    /// Environment of all events whose scenario does not specify one.
    pub environment: String,
    /// Release of all events whose scenario does not specify one.
    pub release: Option<String>,
    /// Whether scenarios are exported as monitors with check-ins.
    pub has_monitors: bool,
    /// Whether errors of the agent itself are reported.
    pub has_own_errors: bool,
    /// PEM file with root certificates trusted in addition to those of the system.
    pub ca: Option<PathBuf>,
    /// API for resolving issues.
    pub api: Option<Api>,
}

/// API of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Api {
    /// Base URL of the API.
    pub url: Url,
    /// Token with permission to read and change issues.
    pub token: Credential,
    /// Slug of the organization; `None` for Bugsink.
    pub organization: Option<String>,
    /// Slug or number of the project.
    pub project: String,
}

impl Config {
    /// Keys of `sentry:`.
    pub const KEYS: &[Key] = &[
        Key { name: "dsn", shape: Some(SECRET), doc: "DSN of the project; required" },
        Key { name: "environment", shape: Some(Shape::Text), doc: "environment of events (default: production)" },
        Key { name: "release", shape: Some(Shape::Text), doc: "release of the monitored system (default: none)" },
        Key {
            name: "monitors",
            shape: Some(Shape::Bool),
            doc: "whether each scenario is a cron monitor that checks in (default: false)",
        },
        Key {
            name: "own_errors",
            shape: Some(Shape::Bool),
            doc: "whether errors and panics of the agent itself are reported (default: true)",
        },
        Key {
            name: "ca",
            shape: Some(Shape::Text),
            doc: "PEM file with root certificates in addition to those of the system, relative to this file",
        },
        Key {
            name: "api",
            shape: Some(Shape::Keys(&[API])),
            doc: "API that resolves issues when incidents resolve (default: issues stay open)",
        },
    ];

    /// Reads `sentry:`.
    pub fn read(r: &mut Reader, node: &Node) -> Option<Self> {
        let fields = r.fields(node, "`sentry`", &[Self::KEYS])?;
        let errors = r.errors();
        let dsn = match fields.get("dsn") {
            Some(node) => Credential::from_config(r, node, "`dsn`"),
            None => {
                r.fail_with(node.span, "`sentry` needs `dsn:`", "write it like {env: SENTRY_DSN}");
                None
            }
        };
        let mut name = |key: &str| -> Option<String> {
            let node = fields.get(key)?;
            let text = r.text(node, &format!("`{key}`"))?;
            if text.is_empty() || text.contains(['\n', '/', '\\']) && key == "environment" || text.len() > 200 {
                r.fail(node.span, format!("`{key}` must have 1 to 200 characters, and no line end or slash"));
            }
            Some(text.value)
        };
        let (environment, release) = (name("environment"), name("release"));
        let mut flag = |key: &str, default: bool| {
            fields.get(key).map_or(default, |node| r.boolean(node, &format!("`{key}`")) == Some(true))
        };
        let (has_monitors, has_own_errors) = (flag("monitors", false), flag("own_errors", true));
        let ca = fields.get("ca").and_then(|node| r.text(node, "`ca`"));
        let ca = ca.map(|ca| Path::new(&r.source.path).parent().unwrap_or(Path::new("")).join(&ca.value));
        let api = fields.get("api").and_then(|node| Api::read(r, node));
        if r.errors() > errors {
            return None;
        }
        let environment = environment.unwrap_or_else(|| ENVIRONMENT.to_owned());
        Some(Self { dsn: dsn?, environment, release, has_monitors, has_own_errors, ca, api })
    }

    /// Describes the destination.
    pub fn describe(&self) -> String {
        format!("the project of {}", self.dsn.place())
    }
}

impl Api {
    fn read(r: &mut Reader, node: &Node) -> Option<Self> {
        let fields = r.fields(node, "`api`", &[API])?;
        let errors = r.errors();
        let mut needed = |key: &str, example: &str| {
            let found = fields.get(key);
            if found.is_none() {
                r.fail_with(node.span, format!("`api` needs `{key}:`"), format!("write it like {example}"));
            }
            found
        };
        let url = needed("url", "https://sentry.io");
        let token = needed("token", "{env: SENTRY_TOKEN}");
        let project = needed("project", "shop");
        let url = url.and_then(|node| {
            let text = r.text(node, "`url`")?;
            let url = Url::parse(&text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
            if url.is_none() {
                r.fail_with(node.span, "`url` is not a URL", "write it like https://sentry.io");
            }
            url
        });
        let token = token.and_then(|node| Credential::from_config(r, node, "`token`"));
        let mut slug = |node: &Node, key: &str| -> Option<String> {
            let text = r.text(node, &format!("`{key}`"))?;
            let is_slug = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            if text.is_empty() || !text.chars().all(is_slug) {
                r.fail(node.span, format!("`{key}` is a slug: letters, digits, `-` and `_`"));
            }
            Some(text.value)
        };
        let organization = fields.get("organization").and_then(|node| slug(node, "organization"));
        let project = project.and_then(|node| slug(node, "project"));
        if r.errors() > errors {
            return None;
        }
        Some(Self { url: url?, token: token?, organization, project: project? })
    }
}
