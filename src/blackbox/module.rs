//! Modules as defined in a `blackbox.yml`, validated and with defaults.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::regexp::Regexp;
use super::tls::Prepared;
use super::token::Token;
use crate::secret::{Masker, Secret};

pub use super::tls_config::{Pem, Tls};

/// All modules of a file, by name.
#[derive(Debug, Default)]
pub struct Modules(pub(super) BTreeMap<String, Arc<Module>>);

impl Modules {
    /// Returns the module with this name.
    pub fn get(&self, name: &str) -> Option<&Arc<Module>> {
        self.0.get(name)
    }

    /// Returns all modules, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Arc<Module>)> {
        self.0.iter().map(|(name, module)| (name.as_str(), module))
    }

    /// Returns the number of modules.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there are no modules.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Settings of a probe.
#[derive(Debug)]
pub struct Module {
    /// Value of `prober:`.
    pub prober: String,
    /// Maximum duration of a probe. `None` means the timeout of the scrape.
    pub timeout: Option<Duration>,
    /// Message if probes of this module are rejected because it uses an unsupported feature.
    pub refused: Option<String>,
    /// Settings of the prober.
    pub settings: Settings,
    /// All secrets of the module, which are masked in logs.
    pub masker: Masker,
    /// Folder of the file, to which file names in it are relative.
    pub folder: PathBuf,
    /// Files named in the settings of its prober.
    pub(super) files: Vec<PathBuf>,
    /// TLS configuration, created by the first probe.
    pub(super) prepared: Prepared,
    /// Token of `oauth2:`, stored until it expires.
    pub(super) token: Token,
}

impl Module {
    /// Returns whether the prober exists.
    pub fn has_prober(&self) -> bool {
        !matches!(self.settings, Settings::Unknown)
    }

    /// Returns the `Host` header set in `headers:`.
    pub fn host_header(&self) -> Option<&str> {
        let Settings::Http(http) = &self.settings else { return None };
        http.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("host")).map(|(_, value)| value.as_str())
    }
}

/// Settings of a prober.
#[derive(Debug)]
pub enum Settings {
    /// An HTTP request.
    Http(Box<Http>),
    /// A TCP connection.
    Tcp(Box<Tcp>),
    /// A connection to a Unix socket of this machine.
    Unix(Box<Unix>),
    /// A DNS query.
    Dns(Box<Dns>),
    /// An ICMP echo request.
    Icmp(Icmp),
    /// A gRPC health check.
    Grpc(Box<Grpc>),
    /// A WebSocket connection.
    Websocket(Box<Websocket>),
    /// `prober:` has another value, so every probe returns an error, as in `blackbox_exporter`.
    Unknown,
}

/// Address families of a name that are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// Whether IPv4 is preferred over IPv6.
    pub prefer_ip4: bool,
    /// Whether the other family is used if the name has no address of the preferred one.
    pub fallback: bool,
}

impl Default for Addresses {
    fn default() -> Self {
        Self { prefer_ip4: false, fallback: true }
    }
}

/// The `http:` section.
#[derive(Debug, Default)]
pub struct Http {
    /// Accepted status codes. 2xx if empty.
    pub valid_status_codes: Vec<u16>,
    /// Accepted HTTP versions. Any if empty.
    pub valid_http_versions: Vec<String>,
    /// Address families that are used.
    pub addresses: Addresses,
    /// Whether the name is not resolved by the agent if a proxy is used.
    pub skip_resolve_phase_with_proxy: bool,
    /// Whether the probe fails if the last response was received over TLS.
    pub fail_if_ssl: bool,
    /// Whether the probe fails if the last response was not received over TLS.
    pub fail_if_not_ssl: bool,
    /// Request method. GET if absent.
    pub method: Option<String>,
    /// `headers:` in the order of the file.
    pub headers: Vec<(String, String)>,
    /// Regular expressions of which none may match the body.
    pub body_matches: Vec<Regexp>,
    /// Regular expressions that all must match the body.
    pub body_not_matches: Vec<Regexp>,
    /// Conditions of which none may match a header.
    pub header_matches: Vec<HeaderMatch>,
    /// Conditions that all must match a header.
    pub header_not_matches: Vec<HeaderMatch>,
    /// Request body.
    pub body: Option<Secret<String>>,
    /// File with the request body.
    pub body_file: Option<PathBuf>,
    /// Compression of the response.
    pub compression: Option<Compression>,
    /// Maximum size of the decompressed body, in bytes. 0 means no limit.
    pub body_size_limit: u64,
    /// Authentication, TLS, proxy and redirects.
    pub client: Client,
}

/// Value of `compression:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// `gzip`
    Gzip,
    /// `deflate`, without a zlib header, as in `blackbox_exporter`.
    Deflate,
    /// `br`
    Brotli,
    /// `identity`
    Identity,
}

impl Compression {
    /// Returns the name of the compression.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Brotli => "br",
            Self::Identity => "identity",
        }
    }
}

/// An item of `fail_if_header_matches` or `fail_if_header_not_matches`.
#[derive(Debug)]
pub struct HeaderMatch {
    /// Header name.
    pub header: String,
    /// Regular expression for its values.
    pub regexp: Regexp,
    /// Whether the header may be missing.
    pub allow_missing: bool,
}

/// A secret, either inline or in a file.
#[derive(Debug, Clone)]
pub enum SecretRef {
    /// Inline in the configuration.
    Inline(Secret<String>),
    /// In a separate file.
    File(PathBuf),
}

/// Settings that all HTTP clients of Prometheus share.
#[derive(Debug)]
pub struct Client {
    /// Source of the `Authorization` header.
    pub authorization: Option<Authorization>,
    /// `http_headers:`, with inline values and files.
    pub http_headers: Vec<(String, Vec<SecretRef>)>,
    /// TLS settings.
    pub tls: Tls,
    /// Proxy settings.
    pub proxy: Proxy,
    /// Whether redirects are followed.
    pub follow_redirects: bool,
    /// Whether HTTP/2 is offered.
    pub enable_http2: bool,
}

impl Default for Client {
    fn default() -> Self {
        Self {
            authorization: None,
            http_headers: Vec::new(),
            tls: Tls::default(),
            proxy: Proxy::default(),
            follow_redirects: true,
            enable_http2: true,
        }
    }
}

/// Source of the `Authorization` header.
#[derive(Debug, Clone)]
pub enum Authorization {
    /// `basic_auth:`
    Basic {
        /// User name, inline or in a file.
        username: Option<SecretRef>,
        /// Password.
        password: Option<SecretRef>,
    },
    /// `authorization:` or `bearer_token:`
    Token {
        /// Authentication scheme (default: `Bearer`).
        kind: String,
        /// Credentials after the scheme.
        credentials: Option<SecretRef>,
    },
    /// `oauth2:`, the client credentials grant (RFC 6749 section 4.4).
    Oauth2(Box<Oauth2>),
}

/// The `oauth2:` section.
#[derive(Debug, Clone)]
pub struct Oauth2 {
    /// Client id.
    pub client_id: String,
    /// Client secret.
    pub client_secret: Option<SecretRef>,
    /// Requested scopes.
    pub scopes: Vec<String>,
    /// URL of the token endpoint.
    pub token_url: url::Url,
    /// Additional parameters.
    pub endpoint_params: Vec<(String, Secret<String>)>,
}

/// `proxy_url` and related keys.
#[derive(Debug, Default)]
pub struct Proxy {
    /// Proxy URL; only plain HTTP proxies are supported.
    pub url: Option<url::Url>,
    /// Whether the proxy is taken from the environment.
    pub from_environment: bool,
    /// Hosts that are reached without the proxy: names, `.suffixes`, addresses and networks, with or without a port.
    pub excluded: Vec<String>,
    /// Headers of the `CONNECT` request.
    pub connect_headers: Vec<(String, Secret<String>)>,
}

/// The `tcp:` section.
#[derive(Debug, Default)]
pub struct Tcp {
    /// Address families that are used.
    pub addresses: Addresses,
    /// Local address of the connection.
    pub source: Option<IpAddr>,
    /// Expected and sent data.
    pub dialogue: Vec<QueryResponse>,
    /// Whether TLS is used from the start.
    pub tls: bool,
    /// TLS settings.
    pub tls_config: Tls,
}

/// The `unix:` section.
#[derive(Debug, Default)]
pub struct Unix {
    /// Expected and sent data.
    pub dialogue: Vec<QueryResponse>,
    /// Whether TLS is used from the start.
    pub tls: bool,
    /// TLS settings.
    pub tls_config: Tls,
}

/// An item of `query_response`.
#[derive(Debug, Default)]
pub struct QueryResponse {
    /// Regular expression that a line must match.
    pub expect: Option<Regexp>,
    /// Bytes that must follow.
    pub expect_bytes: Option<Vec<u8>>,
    /// Labels of `probe_expect_info`; may contain `${1}`.
    pub labels: Vec<(String, String)>,
    /// Data to send; may contain `${1}`.
    pub send: Option<Secret<Vec<u8>>>,
    /// Whether a line feed is appended to the sent data, which is the case unless it is `!!binary`.
    pub line: bool,
    /// Whether TLS starts at this point.
    pub starttls: bool,
}

/// The `dns:` section.
#[derive(Debug)]
pub struct Dns {
    /// Address families that are used.
    pub addresses: Addresses,
    /// Whether the query uses TLS (RFC 7858).
    pub over_tls: bool,
    /// TLS settings.
    pub tls_config: Tls,
    /// Local address of the query.
    pub source: Option<IpAddr>,
    /// Whether TCP is used instead of UDP.
    pub tcp: bool,
    /// Queried name.
    pub query_name: String,
    /// Queried class.
    pub query_class: u16,
    /// Queried record type.
    pub query_type: u16,
    /// Whether recursion is desired.
    pub recursion: bool,
    /// Accepted response codes.
    pub valid_rcodes: Vec<u16>,
    /// Rules for the answer records.
    pub answer: RrValidator,
    /// Rules for the authority records.
    pub authority: RrValidator,
    /// Rules for the additional records.
    pub additional: RrValidator,
}

impl Default for Dns {
    fn default() -> Self {
        Self {
            addresses: Addresses::default(),
            over_tls: false,
            tls_config: Tls::default(),
            source: None,
            tcp: false,
            query_name: String::new(),
            query_class: 1,
            query_type: 255,
            recursion: true,
            valid_rcodes: vec![0],
            answer: RrValidator::default(),
            authority: RrValidator::default(),
            additional: RrValidator::default(),
        }
    }
}

/// `validate_answer_rrs` and related keys. The rules apply to records in zone file format.
#[derive(Debug, Default)]
pub struct RrValidator {
    /// Regular expressions of which none may match a record.
    pub matches: Vec<Regexp>,
    /// Regular expressions that all records must match, despite the name of the key (as in `blackbox_exporter`).
    pub all_match: Vec<Regexp>,
    /// Regular expressions that each record must match.
    pub not_matches: Vec<Regexp>,
    /// Regular expressions of which at least one must match a record.
    pub none_matches: Vec<Regexp>,
}

/// The `icmp:` section.
#[derive(Debug, Clone, Copy)]
pub struct Icmp {
    /// Address families that are used.
    pub addresses: Addresses,
    /// Local address of the echo request.
    pub source: Option<IpAddr>,
    /// Payload size in bytes. 0 means the size that `blackbox_exporter` uses.
    pub payload_size: u16,
    /// Whether fragmentation of the packet is forbidden.
    pub dont_fragment: bool,
    /// Maximum number of hops. 0 means the default of the system.
    pub ttl: u8,
}

impl Default for Icmp {
    fn default() -> Self {
        Self { addresses: Addresses::default(), source: None, payload_size: 0, dont_fragment: false, ttl: 64 }
    }
}

/// The `grpc:` section.
#[derive(Debug, Default)]
pub struct Grpc {
    /// Service whose health is checked. The whole server if empty.
    pub service: String,
    /// Whether TLS is used.
    pub tls: bool,
    /// TLS settings.
    pub tls_config: Tls,
    /// Address families that are used.
    pub addresses: Addresses,
}

/// The `websocket:` section.
#[derive(Debug, Default)]
pub struct Websocket {
    /// Address families that are used.
    pub addresses: Addresses,
    /// Authentication and TLS settings.
    pub client: Client,
    /// Additional headers.
    pub headers: Vec<(String, String)>,
    /// Expected and sent data.
    pub dialogue: Vec<QueryResponse>,
}
