//! Keys of a `blackbox.yml`, one table per kind of map. A key without a shape exists in blackbox_exporter but is not
//! supported here.

use crate::scenario::keys::{Key, Shape};

const fn key(name: &'static str, doc: &'static str) -> Key {
    Key { name, shape: Some(Shape::Any), doc }
}

pub(super) const FILE: &[Key] = &[key("modules", "every module, by name")];

pub(super) const MODULE: &[Key] = &[
    key("prober", "http, tcp, unix, dns, icmp, grpc or websocket"),
    key("timeout", "how long a probe may take"),
    key("http", "what the http prober needs"),
    key("tcp", "what the tcp prober needs"),
    key("unix", "what the unix prober needs"),
    key("dns", "what the dns prober needs"),
    key("icmp", "what the icmp prober needs"),
    key("grpc", "what the grpc prober needs"),
    key("websocket", "what the websocket prober needs"),
];

pub(super) const ADDRESSES: &[Key] = &[
    key("preferred_ip_protocol", "ip4 or ip6; default ip6"),
    key("ip_protocol_fallback", "whether the other kind will do; default true"),
];

pub(super) const SOURCE: &[Key] = &[key("source_ip_address", "where packets come from")];

pub(super) const HTTP: &[Key] = &[
    key("valid_status_codes", "good statuses; default 2xx"),
    key("valid_http_versions", "good versions, like HTTP/1.1"),
    key("method", "default GET"),
    key("headers", "headers of the request"),
    key("body", "what is sent"),
    key("body_file", "a file with what is sent"),
    key("compression", "gzip, deflate, br or identity"),
    key("body_size_limit", "the most of a body, decompressed"),
    key("fail_if_ssl", "the last answer must not be over TLS"),
    key("fail_if_not_ssl", "the last answer must be over TLS"),
    key("fail_if_body_matches_regexp", "expressions that the body must not match"),
    key("fail_if_body_not_matches_regexp", "expressions that the body must match"),
    key("fail_if_body_json_matches_cel", "a CEL rule"),
    key("fail_if_body_json_not_matches_cel", "a CEL rule"),
    key("fail_if_header_matches", "expressions that headers must not match"),
    key("fail_if_header_not_matches", "expressions that headers must match"),
    key("skip_resolve_phase_with_proxy", "the proxy resolves the name"),
    key("no_follow_redirects", "the old form of follow_redirects"),
    key("enable_http3", "HTTP/3"),
];

pub(super) const CLIENT: &[Key] = &[
    key("basic_auth", "user and password"),
    key("authorization", "a token"),
    key("bearer_token", "the old form of authorization"),
    key("bearer_token_file", "the old form of authorization"),
    key("oauth2", "a token by client credentials"),
    key("tls_config", "TLS"),
    key("follow_redirects", "default true"),
    key("enable_http2", "default true"),
    key("http_headers", "headers, with values from files"),
    key("proxy_url", "the proxy"),
    key("no_proxy", "what is reached without the proxy"),
    key("proxy_from_environment", "the proxy of HTTP_PROXY and its neighbours"),
    key("proxy_connect_header", "headers of CONNECT"),
];

pub(super) const HEADER_MATCH: &[Key] = &[
    key("header", "its name"),
    key("regexp", "what its values are held against"),
    key("allow_missing", "it need not be there"),
];

pub(super) const HEADER_VALUES: &[Key] =
    &[key("values", "values"), key("secrets", "values that are not shown"), key("files", "files with values")];

pub(super) const BASIC_AUTH: &[Key] = &[
    key("username", "the user"),
    key("username_file", "a file with the user"),
    key("username_ref", "a reference to a secret manager"),
    key("password", "the password"),
    key("password_file", "a file with the password"),
    key("password_ref", "a reference to a secret manager"),
];

pub(super) const AUTHORIZATION: &[Key] = &[
    key("type", "default Bearer"),
    key("credentials", "the token"),
    key("credentials_file", "a file with the token"),
    key("credentials_ref", "a reference to a secret manager"),
];

pub(super) const OAUTH2: &[Key] = &[
    key("client_id", "the client"),
    key("client_secret", "its secret"),
    key("client_secret_file", "a file with its secret"),
    key("client_secret_ref", "a reference to a secret manager"),
    key("scopes", "what is asked for"),
    key("token_url", "where the token is"),
    key("endpoint_params", "further parameters"),
    key("grant_type", "client_credentials"),
    key("tls_config", "TLS of the token's server"),
    key("proxy_url", "the proxy to the token's server"),
    key("no_proxy", "what is reached without it"),
    key("proxy_from_environment", "the proxy of the environment"),
    key("proxy_connect_header", "headers of CONNECT"),
];

pub(super) const TLS: &[Key] = &[
    key("insecure_skip_verify", "any certificate will do"),
    key("ca", "authorities, in PEM"),
    key("ca_file", "a file with authorities"),
    key("ca_ref", "a reference to a secret manager"),
    key("cert", "the client's certificate, in PEM"),
    key("cert_file", "a file with the client's certificate"),
    key("cert_ref", "a reference to a secret manager"),
    key("key", "its key, in PEM"),
    key("key_file", "a file with its key"),
    key("key_ref", "a reference to a secret manager"),
    key("server_name", "the name that the certificate must be for"),
    key("min_version", "TLS12 or TLS13"),
    key("max_version", "TLS12 or TLS13"),
];

pub(super) const DIALOGUE: &[Key] =
    &[key("query_response", "what is said and heard"), key("tls", "TLS from the start"), key("tls_config", "TLS")];

pub(super) const TURN: &[Key] = &[
    key("expect", "a line must match"),
    key("expect_bytes", "the next bytes must be these"),
    key("labels", "labels of probe_expect_info"),
    key("send", "what is sent"),
    key("starttls", "from here on within TLS"),
];

pub(super) const LABEL: &[Key] = &[key("name", "its name"), key("value", "its value, with ${1}")];

pub(super) const DNS: &[Key] = &[
    key("dns_over_tls", "DNS over TLS"),
    key("tls_config", "TLS"),
    key("transport_protocol", "udp or tcp; default udp"),
    key("query_name", "the name that is asked for"),
    key("query_type", "default ANY"),
    key("query_class", "default IN"),
    key("recursion_desired", "default true"),
    key("valid_rcodes", "good codes; default NOERROR"),
    key("validate_answer_rrs", "what answers must be"),
    key("validate_authority_rrs", "what records of authority must be"),
    key("validate_additional_rrs", "what additional records must be"),
];

pub(super) const RECORD_RULES: &[Key] = &[
    key("fail_if_matches_regexp", "no record may match any"),
    key("fail_if_all_match_regexp", "every record must match all: as the original does it, whatever the name says"),
    key("fail_if_not_matches_regexp", "every record must match each"),
    key("fail_if_none_matches_regexp", "some record must match one"),
];

pub(super) const ICMP: &[Key] = &[
    key("payload_size", "how much is sent"),
    key("dont_fragment", "the packet must not be cut on its way"),
    key("ttl", "how many hops it may take; default 64"),
];

pub(super) const GRPC: &[Key] = &[
    key("service", "the service whose health is asked for"),
    key("tls", "whether to use TLS"),
    key("tls_config", "TLS"),
];

pub(super) const WEBSOCKET: &[Key] = &[
    key("http_config", "authentication and TLS"),
    key("headers", "headers of the request"),
    key("query_response", "what is said and heard"),
];

/// Headers that `http_headers` must not set, because the client sets them.
pub(super) const RESERVED_HEADERS: &[&str] = &[
    "authorization",
    "host",
    "content-encoding",
    "content-length",
    "content-type",
    "user-agent",
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "www-authenticate",
    "accept-encoding",
    "x-prometheus-remote-write-version",
    "x-prometheus-remote-read-version",
    "x-prometheus-scrape-timeout-seconds",
];
