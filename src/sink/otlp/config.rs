//! Section `otlp:` of the agent configuration.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, TE, TRANSFER_ENCODING};
use url::Url;

use crate::bounded::credential::SECRET;
use crate::scenario::keys::{Key, Shape};
use crate::scenario::reader::Reader;
use crate::scenario::tree::Node;
use crate::sink::http::{Headers, read_headers};

/// Default timeout of a batch.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum configurable timeout of a batch.
const MAX_TIMEOUT: Duration = Duration::from_mins(5);

/// Headers reserved for the protocol.
const RESERVED: [HeaderName; 6] = [CONTENT_TYPE, CONTENT_LENGTH, CONTENT_ENCODING, TRANSFER_ENCODING, TE, HOST];

/// OTLP receiver and the telemetry sent to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Base URL, to which the paths of the protocol are appended.
    pub endpoint: Url,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Signals to send.
    pub signals: Vec<Signal>,
    /// Headers of every request; metadata in gRPC.
    pub headers: Headers,
    /// PEM file with root certificates trusted in addition to those of the system.
    pub ca: Option<PathBuf>,
    /// Whether requests are compressed.
    pub is_compressed: bool,
    /// Timeout of sending a batch.
    pub timeout: Duration,
    /// Attributes of the resource, in addition to the built-in ones.
    pub resource: BTreeMap<String, String>,
}

/// Transport protocol of OTLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Protobuf in the bodies of HTTP requests.
    Http,
    /// gRPC.
    Grpc,
}

/// Kind of telemetry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// One trace per run.
    Traces,
    /// One log record per run.
    Logs,
}

impl Signal {
    const ALL: [Self; 2] = [Self::Traces, Self::Logs];

    /// Returns the name used in the configuration and in the path of requests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Logs => "logs",
        }
    }
}

impl Config {
    /// Keys of `otlp:`.
    pub const KEYS: &[Key] = &[
        Key {
            name: "endpoint",
            shape: Some(Shape::Text),
            doc: "base URL of the receiver, such as `http://collector:4318`, or `http://collector:4317` for gRPC; required",
        },
        Key {
            name: "protocol",
            shape: Some(Shape::Words(&["http", "grpc"])),
            doc: "transport protocol; `http` is protobuf over HTTP (default: http)",
        },
        Key {
            name: "signals",
            shape: Some(Shape::List(&Shape::Words(&["traces", "logs"]))),
            doc: "signals to send (default: all)",
        },
        Key {
            name: "headers",
            shape: Some(Shape::Map(&SECRET)),
            doc: "headers of every request; values may be secrets",
        },
        Key {
            name: "ca",
            shape: Some(Shape::Text),
            doc: "PEM file with root certificates in addition to those of the system, relative to this file",
        },
        Key {
            name: "compression",
            shape: Some(Shape::Words(&["none", "gzip"])),
            doc: "compression of requests (default: none)",
        },
        Key { name: "timeout", shape: Some(Shape::Duration), doc: "timeout of a batch, at most 5m (default: 30s)" },
        Key {
            name: "resource",
            shape: Some(Shape::Map(&Shape::Text)),
            doc: "further attributes of the resource, such as `deployment.environment.name`",
        },
    ];

    /// Reads `otlp:`.
    pub fn read(r: &mut Reader, node: &Node) -> Option<Self> {
        let fields = r.fields(node, "`otlp`", &[Self::KEYS])?;
        let errors = r.errors();
        let protocol = fields.get("protocol").and_then(|node| r.word(node, "protocol", &["http", "grpc"]));
        let protocol = if protocol == Some("grpc") { Protocol::Grpc } else { Protocol::Http };
        let endpoint = match fields.get("endpoint") {
            Some(node) => endpoint(r, node, protocol),
            None => {
                r.fail_with(node.span, "`otlp` needs `endpoint:`", "write it like http://collector:4318");
                None
            }
        };
        let signals = match fields.get("signals") {
            Some(node) => signals(r, node),
            None => Signal::ALL.to_vec(),
        };
        let is_reserved = |name: &HeaderName| RESERVED.contains(name) || name.as_str().starts_with("grpc-");
        let headers = fields.get("headers").map(|node| read_headers(r, node, is_reserved)).unwrap_or_default();
        let ca = fields.get("ca").and_then(|node| r.text(node, "`ca`"));
        let ca = ca.map(|ca| Path::new(&r.source.path).parent().unwrap_or(Path::new("")).join(&ca.value));
        let compression = fields.get("compression").and_then(|node| r.word(node, "compression", &["none", "gzip"]));
        let timeout = match fields.get("timeout") {
            Some(node) => {
                let timeout = r.duration(node, "`timeout`")?;
                if timeout.is_zero() || timeout > MAX_TIMEOUT {
                    r.fail(node.span, "`timeout` must be above 0 and at most 5m");
                }
                timeout
            }
            None => DEFAULT_TIMEOUT,
        };
        let resource = fields.get("resource").map(|node| resource(r, node)).unwrap_or_default();
        if r.errors() > errors {
            return None;
        }
        Some(Self {
            endpoint: endpoint?,
            protocol,
            signals,
            headers,
            ca,
            is_compressed: compression == Some("gzip"),
            timeout,
            resource,
        })
    }

    /// Describes the destination.
    pub fn describe(&self) -> String {
        let protocol = match self.protocol {
            Protocol::Http => "HTTP",
            Protocol::Grpc => "gRPC",
        };
        let signals: Vec<_> = self.signals.iter().map(|signal| signal.as_str()).collect();
        format!("{} by {protocol} to {}", signals.join(" and "), self.endpoint)
    }

    /// Returns whether traces are exported. In that case, requests of scenarios carry a `traceparent` header by
    /// default.
    pub fn exports_traces(&self) -> bool {
        self.signals.contains(&Signal::Traces)
    }
}

fn endpoint(r: &mut Reader, node: &Node, protocol: Protocol) -> Option<Url> {
    let text = r.text(node, "`endpoint`")?;
    let url = Url::parse(&text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let Some(url) = url else {
        r.fail_with(node.span, "`endpoint` is not a URL", "write it like http://collector:4318");
        return None;
    };
    let path = url.path().trim_matches('/');
    if !url.username().is_empty() || url.password().is_some() {
        r.fail_with(node.span, "`endpoint` must hold no credentials", "write them under `headers`");
    } else if url.query().is_some() || url.fragment().is_some() {
        r.fail(node.span, "`endpoint` must have neither a query nor a fragment");
    } else if protocol == Protocol::Grpc && !path.is_empty() {
        r.fail_with(node.span, "`endpoint` must have no path with gRPC", "write it like http://collector:4317");
    } else if let Some(base) =
        Signal::ALL.iter().find_map(|signal| path.strip_suffix(&format!("v1/{}", signal.as_str())))
    {
        let base = base.trim_matches('/');
        let label = format!("end it with `/{base}`: the paths of the signals are added to it");
        r.fail_with(node.span, "`endpoint` must be the base URL", label);
    } else {
        return Some(url);
    }
    None
}

fn signals(r: &mut Reader, node: &Node) -> Vec<Signal> {
    let items = r.list(node, "`signals`").unwrap_or_default();
    let mut signals = Vec::new();
    for item in items {
        let word = r.word(item, "signal", &Signal::ALL.map(Signal::as_str));
        let Some(signal) = word.and_then(|word| Signal::ALL.into_iter().find(|signal| signal.as_str() == word)) else {
            continue;
        };
        if signals.contains(&signal) {
            r.fail(item.span, format!("`{}` is listed twice", signal.as_str()));
        }
        signals.push(signal);
    }
    if signals.is_empty() {
        r.fail(node.span, "`signals` is empty");
    }
    signals
}

fn resource(r: &mut Reader, node: &Node) -> BTreeMap<String, String> {
    let entries = r.entries(node, "`resource`").unwrap_or_default();
    entries
        .into_iter()
        .filter_map(|entry| Some((entry.key.clone(), r.text(&entry.value, &format!("`{}`", entry.key))?.value)))
        .collect()
}
