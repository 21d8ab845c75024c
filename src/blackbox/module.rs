//! Modules as a `blackbox.yml` describes them, checked and with its defaults.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::auth::Token;
use super::regexp::Regexp;
use super::tls::Prepared;
use crate::secret::{Masker, Secret};

/// Every module of a file, by name.
#[derive(Debug, Default)]
pub struct Modules(pub(super) BTreeMap<String, Arc<Module>>);

impl Modules {
    /// The module of a name.
    pub fn get(&self, name: &str) -> Option<&Arc<Module>> {
        self.0.get(name)
    }

    /// Every module, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Arc<Module>)> {
        self.0.iter().map(|(name, module)| (name.as_str(), module))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A module: how to probe.
#[derive(Debug)]
pub struct Module {
    /// What `prober:` says.
    pub prober: String,
    /// How long a probe may take at most; none: as long as the scrape.
    pub timeout: Option<Duration>,
    /// Why no probe can use it: something in it that is not supported.
    pub refused: Option<String>,
    /// What its prober needs.
    pub settings: Settings,
    /// Every secret in it, to be kept out of logs.
    pub masker: Masker,
    /// The folder of the file, which relative file names in it are relative to.
    pub folder: PathBuf,
    /// The files that its prober's settings name.
    pub(super) files: Vec<PathBuf>,
    /// Settings of TLS, made at the first probe.
    pub(super) prepared: Prepared,
    /// The token of `oauth2:`, kept until it expires.
    pub(super) token: Token,
}

impl Module {
    /// Whether there is such a prober.
    pub fn has_prober(&self) -> bool {
        !matches!(self.settings, Settings::Unknown)
    }

    /// What `headers:` says of the host.
    pub fn host_header(&self) -> Option<&str> {
        let Settings::Http(http) = &self.settings else { return None };
        http.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("host")).map(|(_, value)| value.as_str())
    }
}

/// What a prober needs.
#[derive(Debug)]
pub enum Settings {
    /// An HTTP request.
    Http(Box<Http>),
    /// A TCP connection.
    Tcp(Box<Tcp>),
    /// A connection to a socket of this machine.
    Unix(Box<Unix>),
    /// A DNS query.
    Dns(Box<Dns>),
    /// An ICMP echo.
    Icmp(Icmp),
    /// A gRPC health check.
    Grpc(Box<Grpc>),
    /// A WebSocket connection.
    Websocket(Box<Websocket>),
    /// `prober:` names none of these: every probe is answered with an error, as the original does.
    Unknown,
}

/// Which addresses of a name are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// IPv4 is preferred; else IPv6.
    pub prefer_ip4: bool,
    /// Whether the other kind is used where the name has none of the preferred one.
    pub fallback: bool,
}

impl Default for Addresses {
    fn default() -> Self {
        Self { prefer_ip4: false, fallback: true }
    }
}

/// `http:`
#[derive(Debug, Default)]
pub struct Http {
    /// Which statuses are good; none named: 2xx.
    pub valid_status_codes: Vec<u16>,
    /// Which versions are good; none named: any.
    pub valid_http_versions: Vec<String>,
    /// Which addresses are used.
    pub addresses: Addresses,
    /// With a proxy the name is not resolved here.
    pub skip_resolve_phase_with_proxy: bool,
    /// The last answer must not have come over TLS.
    pub fail_if_ssl: bool,
    /// The last answer must have come over TLS.
    pub fail_if_not_ssl: bool,
    /// The method; none: GET.
    pub method: Option<String>,
    /// `headers:`, in the order they were written.
    pub headers: Vec<(String, String)>,
    /// None of these may match the body.
    pub body_matches: Vec<Regexp>,
    /// Each of these must match the body.
    pub body_not_matches: Vec<Regexp>,
    /// None of these may match a header.
    pub header_matches: Vec<HeaderMatch>,
    /// Each of these must match a header.
    pub header_not_matches: Vec<HeaderMatch>,
    /// What is sent.
    pub body: Option<Secret<String>>,
    /// The file with what is sent.
    pub body_file: Option<PathBuf>,
    /// How the answer is compressed.
    pub compression: Option<Compression>,
    /// The most bytes of a body, decompressed; 0: no limit.
    pub body_size_limit: u64,
    /// Authentication, TLS, proxy and redirects.
    pub client: Client,
}

/// What `compression:` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// `gzip`
    Gzip,
    /// `deflate`: without a header, as the original takes it.
    Deflate,
    /// `br`
    Brotli,
    /// `identity`
    Identity,
}

impl Compression {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Brotli => "br",
            Self::Identity => "identity",
        }
    }
}

/// An item of `fail_if_header_matches` and of its opposite.
#[derive(Debug)]
pub struct HeaderMatch {
    /// The header.
    pub header: String,
    /// What its values are held against.
    pub regexp: Regexp,
    /// It need not be there.
    pub allow_missing: bool,
}

/// A secret that stands in the file or in another one.
#[derive(Debug, Clone)]
pub enum Hidden {
    /// In the file.
    Inline(Secret<String>),
    /// In a file of its own.
    File(PathBuf),
}

/// The keys that every HTTP client of Prometheus knows.
#[derive(Debug)]
pub struct Client {
    /// What `Authorization` says.
    pub authorization: Option<Authorization>,
    /// `http_headers:`: values in the file and in others.
    pub http_headers: Vec<(String, Vec<Hidden>)>,
    /// TLS.
    pub tls: Tls,
    /// The proxy.
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

/// What `Authorization` says.
#[derive(Debug, Clone)]
pub enum Authorization {
    /// `basic_auth:`
    Basic {
        /// The user, written or in a file.
        username: Option<Hidden>,
        /// The password.
        password: Option<Hidden>,
    },
    /// `authorization:`, `bearer_token:`
    Token {
        /// `Bearer`, where nothing else is said.
        kind: String,
        /// What stands behind it.
        credentials: Option<Hidden>,
    },
    /// `oauth2:`: the client credentials grant (RFC 6749 section 4.4).
    Oauth2(Box<Oauth2>),
}

/// `oauth2:`
#[derive(Debug, Clone)]
pub struct Oauth2 {
    /// The client.
    pub client_id: String,
    /// Its secret.
    pub client_secret: Option<Hidden>,
    /// What is asked for.
    pub scopes: Vec<String>,
    /// Where the token is.
    pub token_url: url::Url,
    /// Further parameters.
    pub endpoint_params: Vec<(String, Secret<String>)>,
}

/// `proxy_url` and its neighbours.
#[derive(Debug, Default)]
pub struct Proxy {
    /// The proxy: plain HTTP.
    pub url: Option<url::Url>,
    /// The proxy is taken from the environment.
    pub from_environment: bool,
    /// What is reached without it: names, `.suffixes`, addresses and networks, with or without a port.
    pub excluded: Vec<String>,
    /// Headers of `CONNECT`.
    pub connect_headers: Vec<(String, Secret<String>)>,
}

/// `tls_config:`
#[derive(Debug, Default)]
pub struct Tls {
    /// Any certificate will do.
    pub insecure_skip_verify: bool,
    /// Who is trusted; none: the system's authorities.
    pub ca: Option<Pem>,
    /// The client's certificate.
    pub cert: Option<Pem>,
    /// Its key.
    pub key: Option<Pem>,
    /// The name that the certificate must be for.
    pub server_name: Option<String>,
    /// The lowest version: 12 or 13.
    pub min_version: Option<u8>,
    /// The highest version: 12 or 13.
    pub max_version: Option<u8>,
}

/// PEM in the file or in another one.
#[derive(Debug, Clone)]
pub enum Pem {
    /// In the file.
    Inline(Secret<String>),
    /// In another.
    File(PathBuf),
}

/// `tcp:`
#[derive(Debug, Default)]
pub struct Tcp {
    /// Which addresses are used.
    pub addresses: Addresses,
    /// The address that the connection comes from.
    pub source: Option<IpAddr>,
    /// What is said and heard.
    pub dialogue: Vec<Turn>,
    /// TLS from the start.
    pub tls: bool,
    /// TLS.
    pub tls_config: Tls,
}

/// `unix:`
#[derive(Debug, Default)]
pub struct Unix {
    /// What is said and heard.
    pub dialogue: Vec<Turn>,
    /// TLS from the start.
    pub tls: bool,
    /// TLS.
    pub tls_config: Tls,
}

/// An item of `query_response`.
#[derive(Debug, Default)]
pub struct Turn {
    /// A line must match.
    pub expect: Option<Regexp>,
    /// The next bytes must be these.
    pub expect_bytes: Option<Vec<u8>>,
    /// Labels of `probe_expect_info`, with `${1}`.
    pub labels: Vec<(String, String)>,
    /// What is sent, with `${1}`.
    pub send: Option<Secret<Vec<u8>>>,
    /// Whether a line feed is sent behind it: not where it is `!!binary`.
    pub line: bool,
    /// From here on within TLS.
    pub starttls: bool,
}

/// `dns:`
#[derive(Debug)]
pub struct Dns {
    /// Which addresses are used.
    pub addresses: Addresses,
    /// TLS (RFC 7858).
    pub over_tls: bool,
    /// TLS.
    pub tls_config: Tls,
    /// The address that the query comes from.
    pub source: Option<IpAddr>,
    /// TCP instead of UDP.
    pub tcp: bool,
    /// The name that is asked for.
    pub query_name: String,
    /// The class that is asked for.
    pub query_class: u16,
    /// The type that is asked for.
    pub query_type: u16,
    /// Whether recursion is asked for.
    pub recursion: bool,
    /// Which codes are good.
    pub valid_rcodes: Vec<u16>,
    /// What answers must be.
    pub answer: RecordRules,
    /// What records of authority must be.
    pub authority: RecordRules,
    /// What additional records must be.
    pub additional: RecordRules,
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
            answer: RecordRules::default(),
            authority: RecordRules::default(),
            additional: RecordRules::default(),
        }
    }
}

/// `validate_answer_rrs` and its neighbours; records are held against them in the form of a zone file.
#[derive(Debug, Default)]
pub struct RecordRules {
    /// No record may match any.
    pub matches: Vec<Regexp>,
    /// Not every record may match all.
    pub all_match: Vec<Regexp>,
    /// Every record must match each.
    pub not_matches: Vec<Regexp>,
    /// Some record must match one.
    pub none_matches: Vec<Regexp>,
}

/// `icmp:`
#[derive(Debug, Clone, Copy)]
pub struct Icmp {
    /// Which addresses are used.
    pub addresses: Addresses,
    /// The address that the echo comes from.
    pub source: Option<IpAddr>,
    /// How much is sent; 0: what the original sends.
    pub payload_size: u16,
    /// The packet must not be cut on its way.
    pub dont_fragment: bool,
    /// How many hops it may take; 0: the system's default.
    pub ttl: u8,
}

impl Default for Icmp {
    fn default() -> Self {
        Self { addresses: Addresses::default(), source: None, payload_size: 0, dont_fragment: false, ttl: 64 }
    }
}

/// `grpc:`
#[derive(Debug, Default)]
pub struct Grpc {
    /// The service whose health is asked for; empty: the server's.
    pub service: String,
    /// Whether to use TLS.
    pub tls: bool,
    /// TLS.
    pub tls_config: Tls,
    /// Which addresses are used.
    pub addresses: Addresses,
}

/// `websocket:`
#[derive(Debug, Default)]
pub struct Websocket {
    /// Which addresses are used.
    pub addresses: Addresses,
    /// Authentication and TLS.
    pub client: Client,
    /// Further headers.
    pub headers: Vec<(String, String)>,
    /// What is said and heard.
    pub dialogue: Vec<Turn>,
}
