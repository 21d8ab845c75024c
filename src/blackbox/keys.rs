//! Keys of a `blackbox.yml`, one table per kind of map. A key without a shape exists in `blackbox_exporter` but is not
//! supported here.

use crate::scenario::keys::{Key, Shape};

const fn key(name: &'static str, doc: &'static str) -> Key {
    Key { name, shape: Some(Shape::Any), doc }
}

pub(super) const FILE: &[Key] = &[key("modules", "modules, by name")];

pub(super) const MODULE: &[Key] = &[
    key("prober", "http, tcp, unix, dns, icmp, grpc or websocket"),
    key("timeout", "timeout of a probe"),
    key("http", "settings of the http prober"),
    key("tcp", "settings of the tcp prober"),
    key("unix", "settings of the unix prober"),
    key("dns", "settings of the dns prober"),
    key("icmp", "settings of the icmp prober"),
    key("grpc", "settings of the grpc prober"),
    key("websocket", "settings of the websocket prober"),
];

pub(super) const ADDRESSES: &[Key] = &[
    key("preferred_ip_protocol", "ip4 or ip6 (default: ip6)"),
    key("ip_protocol_fallback", "whether the other IP version is used as a fallback (default: true)"),
];

pub(super) const SOURCE: &[Key] = &[key("source_ip_address", "source address")];

pub(super) const HTTP: &[Key] = &[
    key("valid_status_codes", "valid status codes (default: 2xx)"),
    key("valid_http_versions", "valid HTTP versions, like HTTP/1.1"),
    key("method", "method (default: GET)"),
    key("headers", "headers of the request"),
    key("body", "data to send"),
    key("body_file", "file with the data to send"),
    key("compression", "gzip, deflate, br or identity"),
    key("body_size_limit", "maximum size of a decompressed body"),
    key("fail_if_ssl", "fail if the last response used TLS"),
    key("fail_if_not_ssl", "fail if the last response did not use TLS"),
    key("fail_if_body_matches_regexp", "regular expressions that the body must not match"),
    key("fail_if_body_not_matches_regexp", "regular expressions that the body must match"),
    key("fail_if_body_json_matches_cel", "a CEL rule"),
    key("fail_if_body_json_not_matches_cel", "a CEL rule"),
    key("fail_if_header_matches", "regular expressions that headers must not match"),
    key("fail_if_header_not_matches", "regular expressions that headers must match"),
    key("skip_resolve_phase_with_proxy", "whether the proxy resolves the name"),
    key("no_follow_redirects", "deprecated: use follow_redirects"),
    key("enable_http3", "HTTP/3"),
];

pub(super) const CLIENT: &[Key] = &[
    key("basic_auth", "user and password"),
    key("authorization", "token"),
    key("bearer_token", "deprecated: use authorization"),
    key("bearer_token_file", "deprecated: use authorization"),
    key("oauth2", "OAuth 2.0 client credentials"),
    key("tls_config", "TLS"),
    key("follow_redirects", "whether redirects are followed (default: true)"),
    key("enable_http2", "whether HTTP/2 is used (default: true)"),
    key("http_headers", "headers, with values from files"),
    key("proxy_url", "URL of the proxy"),
    key("no_proxy", "hosts reached without the proxy"),
    key("proxy_from_environment", "use the proxy of HTTP_PROXY and related variables"),
    key("proxy_connect_header", "headers of CONNECT"),
];

pub(super) const HEADER_MATCH: &[Key] = &[
    key("header", "its name"),
    key("regexp", "regular expression for its values"),
    key("allow_missing", "whether it may be missing"),
];

pub(super) const HEADER_VALUES: &[Key] =
    &[key("values", "values"), key("secrets", "secret values"), key("files", "files with values")];

pub(super) const BASIC_AUTH: &[Key] = &[
    key("username", "the user"),
    key("username_file", "a file with the user"),
    key("username_ref", "a reference to a secret manager"),
    key("password", "the password"),
    key("password_file", "a file with the password"),
    key("password_ref", "a reference to a secret manager"),
];

pub(super) const AUTHORIZATION: &[Key] = &[
    key("type", "type of the credentials (default: Bearer)"),
    key("credentials", "the token"),
    key("credentials_file", "a file with the token"),
    key("credentials_ref", "a reference to a secret manager"),
];

pub(super) const OAUTH2: &[Key] = &[
    key("client_id", "the client"),
    key("client_secret", "its secret"),
    key("client_secret_file", "a file with its secret"),
    key("client_secret_ref", "a reference to a secret manager"),
    key("scopes", "scopes of the token"),
    key("token_url", "URL of the token endpoint"),
    key("endpoint_params", "additional parameters"),
    key("grant_type", "client_credentials"),
    key("tls_config", "TLS settings of the token endpoint"),
    key("proxy_url", "proxy for the token endpoint"),
    key("no_proxy", "hosts reached without the proxy"),
    key("proxy_from_environment", "use the proxy of the environment"),
    key("proxy_connect_header", "headers of CONNECT"),
];

pub(super) const TLS: &[Key] = &[
    key("insecure_skip_verify", "whether to accept any certificate"),
    key("ca", "CA certificates, in PEM"),
    key("ca_file", "file with CA certificates"),
    key("ca_ref", "a reference to a secret manager"),
    key("cert", "client certificate, in PEM"),
    key("cert_file", "file with the client certificate"),
    key("cert_ref", "a reference to a secret manager"),
    key("key", "private key, in PEM"),
    key("key_file", "file with the private key"),
    key("key_ref", "a reference to a secret manager"),
    key("server_name", "name to verify in the certificate"),
    key("min_version", "TLS12 or TLS13"),
    key("max_version", "TLS12 or TLS13"),
];

pub(super) const DIALOGUE: &[Key] = &[
    key("query_response", "dialogue of sent and expected data"),
    key("tls", "whether to use TLS from the start"),
    key("tls_config", "TLS"),
];

pub(super) const TURN: &[Key] = &[
    key("expect", "regular expression that a line must match"),
    key("expect_bytes", "expected next bytes"),
    key("labels", "labels of probe_expect_info"),
    key("send", "data to send"),
    key("starttls", "upgrade to TLS"),
];

pub(super) const LABEL: &[Key] = &[key("name", "its name"), key("value", "its value, with ${1}")];

pub(super) const DNS: &[Key] = &[
    key("dns_over_tls", "DNS over TLS"),
    key("tls_config", "TLS"),
    key("transport_protocol", "udp or tcp (default: udp)"),
    key("query_name", "name to query"),
    key("query_type", "record type (default: ANY)"),
    key("query_class", "record class (default: IN)"),
    key("recursion_desired", "whether recursion is requested (default: true)"),
    key("valid_rcodes", "valid response codes (default: NOERROR)"),
    key("validate_answer_rrs", "conditions on answer records"),
    key("validate_authority_rrs", "conditions on authority records"),
    key("validate_additional_rrs", "conditions on additional records"),
];

pub(super) const RECORD_RULES: &[Key] = &[
    key("fail_if_matches_regexp", "fail if any record matches one of them"),
    key("fail_if_all_match_regexp", "fail if a record does not match all of them, as in blackbox_exporter"),
    key("fail_if_not_matches_regexp", "fail if a record does not match one of them"),
    key("fail_if_none_matches_regexp", "fail if no record matches one of them"),
];

pub(super) const ICMP: &[Key] = &[
    key("payload_size", "payload size"),
    key("dont_fragment", "whether fragmentation is prohibited"),
    key("ttl", "hop limit (default: 64)"),
];

pub(super) const GRPC: &[Key] =
    &[key("service", "service whose health is checked"), key("tls", "whether to use TLS"), key("tls_config", "TLS")];

pub(super) const WEBSOCKET: &[Key] = &[
    key("http_config", "authentication and TLS"),
    key("headers", "headers of the request"),
    key("query_response", "dialogue of sent and expected data"),
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
