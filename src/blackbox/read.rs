//! Parses a `blackbox.yml` into modules. All problems are reported at once, each with its position and module.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::keys::{
    ADDRESSES, CLIENT, DIALOGUE, DNS, FILE, GRPC, HEADER_MATCH, HTTP, ICMP, LABEL, MODULE, RECORD_RULES, SOURCE, TURN,
    WEBSOCKET,
};
use super::module::{
    Addresses, Compression, Dns, Grpc, HeaderMatch, Http, Icmp, Module, Modules, QueryResponse, RrValidator, Settings,
    Tcp, Unix, Websocket,
};
use super::tls::Prepared;
use super::token::Token;
use super::values::Reading;
use crate::diagnostic::{Diagnostic, Source, Span};
use crate::scenario::keys::Key;
use crate::scenario::reader::{Fields, Reader};
use crate::scenario::tree::{self, Node};
use crate::secret::{Masker, Secret};
use crate::wire::dns as records;

/// Parses a file. Errors result in no modules; a warning may disable one of them. File names in the text are relative
/// to `folder`.
pub fn read(path: &str, text: &str, folder: &Path) -> (Option<Modules>, Vec<Diagnostic>) {
    let source = Source::new(path, text);
    let root = match tree::parse_with_binary(&source) {
        Ok(root) => root,
        Err(diagnostic) => return (None, vec![diagnostic]),
    };
    let mut reader = Reader::new(&source);
    let modules = modules(&mut reader, &root, folder);
    let errors = reader.errors();
    let omitted = reader.omitted();
    let mut found = reader.diagnostics;
    found.sort_by_key(|found| (found.span.line, found.span.column));
    found.extend(omitted);
    (modules.filter(|_| errors == 0), found)
}

fn modules(r: &mut Reader, root: &Node, folder: &Path) -> Option<Modules> {
    let fields = r.fields(root, "the file of modules", &[FILE])?;
    let Some(node) = fields.get("modules").filter(|node| !node.is_null()) else { return Some(Modules::default()) };
    let mut all = BTreeMap::new();
    for entry in r.entries(node, "`modules`")? {
        r.context = Some(format!("module {}", entry.key));
        let mut reading = Reading { r, refused: None, masker: Masker::default(), files: Vec::new() };
        if let Some(module) = module(&mut reading, &entry.value, folder) {
            all.insert(entry.key.clone(), Arc::new(module));
        }
    }
    r.context = None;
    Some(Modules(all))
}

fn module(reading: &mut Reading<'_>, node: &Node, folder: &Path) -> Option<Module> {
    let fields = reading.map(node, "a module", &[MODULE])?;
    let prober = reading.text(fields.get("prober"), "`prober`").unwrap_or_default();
    let timeout = reading.duration(fields.get("timeout"), "`timeout`");
    // All sections are parsed, as in blackbox_exporter, but an unsupported setting in the section of another prober
    // does not disable the module.
    let mut settings = None;
    let (mut refused, mut files) = (None, Vec::new());
    for name in ["http", "tcp", "unix", "dns", "icmp", "grpc", "websocket"] {
        reading.refused = None;
        reading.files.clear();
        let read = part(reading, name, fields.get(name));
        if name == prober {
            settings = read;
            refused = reading.refused.take();
            files = reading.files.iter().map(|file| folder.join(file)).collect();
        }
    }
    Some(Module {
        settings: settings.unwrap_or(Settings::Unknown),
        prober,
        timeout,
        refused,
        masker: reading.masker.clone(),
        folder: folder.to_path_buf(),
        files,
        prepared: Prepared::default(),
        token: Token::default(),
    })
}

fn part(reading: &mut Reading<'_>, name: &str, node: Option<&Node>) -> Option<Settings> {
    let what = format!("`{name}`");
    let fields = |reading: &mut Reading<'_>, tables: &[&[Key]]| match node {
        Some(node) => reading.map(node, &what, tables),
        None => Some(Fields::of(Vec::new(), Span::default())),
    };
    Some(match name {
        "http" => {
            let fields = fields(reading, &[HTTP, CLIENT, ADDRESSES])?;
            Settings::Http(Box::new(http(reading, &fields)))
        }
        "tcp" => {
            let fields = fields(reading, &[DIALOGUE, SOURCE, ADDRESSES])?;
            Settings::Tcp(Box::new(tcp(reading, &fields)))
        }
        "unix" => {
            let fields = fields(reading, &[DIALOGUE])?;
            Settings::Unix(Box::new(Unix {
                dialogue: dialogue(reading, fields.get("query_response")),
                tls: reading.boolean(fields.get("tls"), "`tls`", false),
                tls_config: reading.tls(fields.get("tls_config")),
            }))
        }
        "dns" => {
            let fields = fields(reading, &[DNS, SOURCE, ADDRESSES])?;
            Settings::Dns(Box::new(dns(reading, node, &fields)))
        }
        "icmp" => {
            let fields = fields(reading, &[ICMP, SOURCE, ADDRESSES])?;
            Settings::Icmp(icmp(reading, &fields))
        }
        "grpc" => {
            let fields = fields(reading, &[GRPC, ADDRESSES])?;
            Settings::Grpc(Box::new(Grpc {
                service: reading.text(fields.get("service"), "`service`").unwrap_or_default(),
                tls: reading.boolean(fields.get("tls"), "`tls`", false),
                tls_config: reading.tls(fields.get("tls_config")),
                addresses: addresses(reading, &fields),
            }))
        }
        _ => {
            let fields = fields(reading, &[WEBSOCKET, ADDRESSES])?;
            let headers = reading.pairs(fields.get("headers"), "`headers`");
            reading.learn(&headers);
            Settings::Websocket(Box::new(Websocket {
                addresses: addresses(reading, &fields),
                client: reading.client_of(fields.get("http_config")),
                headers,
                dialogue: dialogue(reading, fields.get("query_response")),
            }))
        }
    })
}

fn addresses(reading: &mut Reading<'_>, fields: &Fields<'_>) -> Addresses {
    let preferred = reading.word(fields.get("preferred_ip_protocol"), "IP protocol", &["ip4", "ip6"]);
    Addresses {
        prefer_ip4: preferred == Some("ip4"),
        fallback: reading.boolean(fields.get("ip_protocol_fallback"), "`ip_protocol_fallback`", true),
    }
}

fn http(reading: &mut Reading<'_>, fields: &Fields<'_>) -> Http {
    let mut client = reading.client(fields);
    let headers = reading.pairs(fields.get("headers"), "`headers`");
    reading.learn(&headers);
    let codes = reading.list(fields.get("valid_status_codes"), "`valid_status_codes`");
    let codes = codes.iter().filter_map(|item| reading.number(Some(item), "a status", 999));
    let valid_status_codes = codes.filter_map(|code| u16::try_from(code).ok()).collect();
    let body = reading.secret(fields.get("body"), "`body`");
    let body_file = reading.path(fields.get("body_file"), "`body_file`");
    if let (Some(_), Some(_), Some(entry)) = (&body, &body_file, fields.entry("body_file")) {
        reading.r.fail_with(entry.key_span, "`body` and `body_file` cannot be set both", "remove one of them");
    }
    if let Some(entry) = fields.entry("no_follow_redirects").filter(|entry| !entry.value.is_null()) {
        client.follow_redirects = !reading.boolean(Some(&entry.value), "`no_follow_redirects`", false);
        reading.r.warn(entry.key_span, "`no_follow_redirects` is the old form", "write `follow_redirects`");
    }
    let valid_http_versions = reading.texts(fields.get("valid_http_versions"), "`valid_http_versions`");
    if reading.boolean(fields.get("enable_http3"), "`enable_http3`", false)
        && let Some(entry) = fields.entry("enable_http3")
    {
        if client.enable_http2 {
            let message = "with `enable_http3`, `enable_http2` must be false";
            reading.r.fail_with(entry.key_span, message, "write `enable_http2: false`, or remove this");
        } else if valid_http_versions.iter().any(|version| version != "HTTP/3.0") {
            let message = "with `enable_http3`, `valid_http_versions` can only have HTTP/3.0";
            reading.r.fail_with(entry.key_span, message, "remove the others, or this");
        } else {
            reading.refuse(entry.key_span, "HTTP/3 (`enable_http3`)");
        }
    }
    reading.refuse_keys(fields, &["fail_if_body_json_matches_cel", "fail_if_body_json_not_matches_cel"]);
    let compression =
        match reading.word(fields.get("compression"), "compression", &["gzip", "deflate", "br", "identity"]) {
            Some("gzip") => Some(Compression::Gzip),
            Some("deflate") => Some(Compression::Deflate),
            Some("br") => Some(Compression::Brotli),
            Some(_) => Some(Compression::Identity),
            None => None,
        };
    let accepted = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("accept-encoding"));
    if let (Some((_, value)), Some(compression), Some(entry)) = (accepted, compression, fields.entry("compression"))
        && !accepts(value, compression.as_str())
    {
        let message = format!("`Accept-Encoding: {value}` does not accept {}", compression.as_str());
        reading.r.fail_with(entry.value.span, message, "use the same value in the header and in `compression`");
    }
    Http {
        valid_status_codes,
        valid_http_versions,
        addresses: addresses(reading, fields),
        skip_resolve_phase_with_proxy: reading.boolean(
            fields.get("skip_resolve_phase_with_proxy"),
            "`skip_resolve_phase_with_proxy`",
            false,
        ),
        fail_if_ssl: reading.boolean(fields.get("fail_if_ssl"), "`fail_if_ssl`", false),
        fail_if_not_ssl: reading.boolean(fields.get("fail_if_not_ssl"), "`fail_if_not_ssl`", false),
        method: method(reading, fields.get("method")),
        headers,
        body_matches: reading.regexes(fields.get("fail_if_body_matches_regexp"), "`fail_if_body_matches_regexp`"),
        body_not_matches: reading
            .regexes(fields.get("fail_if_body_not_matches_regexp"), "`fail_if_body_not_matches_regexp`"),
        header_matches: header_matches(reading, fields.get("fail_if_header_matches"), "`fail_if_header_matches`"),
        header_not_matches: header_matches(
            reading,
            fields.get("fail_if_header_not_matches"),
            "`fail_if_header_not_matches`",
        ),
        body,
        body_file,
        compression,
        body_size_limit: reading.size(fields.get("body_size_limit"), "`body_size_limit`"),
        client,
    }
}

fn method(reading: &mut Reading<'_>, node: Option<&Node>) -> Option<String> {
    let text = reading.text(node, "`method`")?;
    if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)) {
        return Some(text);
    }
    reading.r.unexpected_value(node?, "`method` must be a method of HTTP");
    None
}

/// Returns whether an `Accept-Encoding` header (RFC 9110 section 12.5.3) allows an encoding.
fn accepts(header: &str, coding: &str) -> bool {
    let quality = |parameters: &str| {
        let q = parameters.split(';').find_map(|p| p.trim().strip_prefix("q=")?.trim().parse::<f64>().ok());
        q.unwrap_or(1.0)
    };
    let mut any = None;
    for part in header.split(',') {
        let (name, parameters) = part.trim().split_once(';').unwrap_or((part.trim(), ""));
        if name.trim() == coding {
            return quality(parameters) > 0.0;
        }
        if name.trim() == "*" {
            any = Some(quality(parameters) > 0.0);
        }
    }
    any.unwrap_or(coding == "identity")
}

fn header_matches(reading: &mut Reading<'_>, node: Option<&Node>, what: &str) -> Vec<HeaderMatch> {
    let mut all = Vec::new();
    for item in reading.list(node, what) {
        let Some(fields) = reading.map(item, what, &[HEADER_MATCH]) else { continue };
        let header = reading.text(fields.get("header"), "`header`");
        let regexp = fields.get("regexp").and_then(|node| reading.regex(node, "`regexp`"));
        let allow_missing = reading.boolean(fields.get("allow_missing"), "`allow_missing`", false);
        if header.is_none() {
            reading.r.fail(item.span, format!("an item of {what} needs `header:`"));
        }
        if fields.get("regexp").is_none_or(|node| node.scalar().is_some_and(|scalar| scalar.text.is_empty())) {
            reading.r.fail(item.span, format!("an item of {what} needs `regexp:`"));
        }
        if let (Some(header), Some(regexp)) = (header, regexp) {
            all.push(HeaderMatch { header, regexp, allow_missing });
        }
    }
    all
}

fn tcp(reading: &mut Reading<'_>, fields: &Fields<'_>) -> Tcp {
    Tcp {
        addresses: addresses(reading, fields),
        source: reading.address(fields.get("source_ip_address"), "`source_ip_address`"),
        dialogue: dialogue(reading, fields.get("query_response")),
        tls: reading.boolean(fields.get("tls"), "`tls`", false),
        tls_config: reading.tls(fields.get("tls_config")),
    }
}

fn dialogue(reading: &mut Reading<'_>, node: Option<&Node>) -> Vec<QueryResponse> {
    let mut turns = Vec::new();
    for item in reading.list(node, "`query_response`") {
        let Some(fields) = reading.map(item, "an item of `query_response`", &[TURN]) else { continue };
        let mut labels: Vec<(String, String)> = Vec::new();
        for item in reading.list(fields.get("labels"), "`labels`") {
            let Some(label) = reading.map(item, "a label", &[LABEL]) else { continue };
            let name = reading.text(label.get("name"), "`name`").unwrap_or_default();
            let value = reading.text(label.get("value"), "`value`").unwrap_or_default();
            let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            if name.is_empty() || !plain || name.starts_with(|c: char| c.is_ascii_digit()) || name.starts_with("__") {
                let message = format!("`{}` is not a label", crate::scenario::reader::cut(&name));
                reading.r.fail_with(item.span, message, "letters, digits and `_`, not a digit first");
            } else if labels.iter().any(|(known, _)| *known == name) {
                reading.r.fail(item.span, format!("duplicate label `{name}`"));
            } else {
                labels.push((name, value));
            }
        }
        let send = fields.get("send").and_then(|node| reading.bytes(node, "`send`"));
        if let Some(text) = send.as_deref().and_then(|send| std::str::from_utf8(send).ok()) {
            reading.masker.add(text);
        }
        turns.push(QueryResponse {
            expect: fields.get("expect").and_then(|node| reading.regex(node, "`expect`")),
            expect_bytes: fields.get("expect_bytes").and_then(|node| reading.bytes(node, "`expect_bytes`")),
            labels,
            line: !fields.get("send").and_then(Node::scalar).is_some_and(|scalar| scalar.binary),
            send: send.map(Secret::new),
            starttls: reading.boolean(fields.get("starttls"), "`starttls`", false),
        });
    }
    turns
}

fn dns(reading: &mut Reading<'_>, node: Option<&Node>, fields: &Fields<'_>) -> Dns {
    let query_name = reading.text(fields.get("query_name"), "`query_name`").unwrap_or_default();
    if let Some(node) = node.filter(|node| query_name.is_empty() && !node.is_null()) {
        reading.r.fail_with(node.span, "`dns` needs `query_name:`", "set the name to query");
    }
    let mut coded = |key: &str, what: &str, default: u16, code: fn(&str) -> Option<u16>| {
        let node = fields.get(key);
        let Some(text) = reading.text(node, what) else { return default };
        code(&text).unwrap_or_else(|| {
            let span = node.map(|node| node.span).unwrap_or_default();
            reading.r.fail(span, format!("unknown {what} `{}`", crate::scenario::reader::cut(&text)));
            default
        })
    };
    let query_class = coded("query_class", "class of DNS", 1, records::class);
    let query_type = coded("query_type", "type of DNS", 255, records::kind);
    let tcp = reading.word(fields.get("transport_protocol"), "transport", &["udp", "tcp"]) == Some("tcp");
    let over_tls = reading.boolean(fields.get("dns_over_tls"), "`dns_over_tls`", false);
    if let Some(entry) = fields.entry("dns_over_tls").filter(|_| over_tls && !tcp) {
        reading.r.fail_with(entry.key_span, "`dns_over_tls` requires TCP", "write `transport_protocol: tcp`");
    }
    let mut valid_rcodes = Vec::new();
    for item in reading.list(fields.get("valid_rcodes"), "`valid_rcodes`") {
        match reading.text(Some(item), "a code of DNS").as_deref().map(records::rcode) {
            Some(Some(code)) => valid_rcodes.push(code),
            Some(None) => reading.r.unexpected_value(item, "`valid_rcodes` has names like NOERROR or NXDOMAIN"),
            None => {}
        }
    }
    if valid_rcodes.is_empty() {
        valid_rcodes.push(0);
    }
    Dns {
        addresses: addresses(reading, fields),
        over_tls,
        tls_config: reading.tls(fields.get("tls_config")),
        source: reading.address(fields.get("source_ip_address"), "`source_ip_address`"),
        tcp,
        query_name,
        query_class,
        query_type,
        recursion: reading.boolean(fields.get("recursion_desired"), "`recursion_desired`", true),
        valid_rcodes,
        answer: record_rules(reading, fields.get("validate_answer_rrs"), "`validate_answer_rrs`"),
        authority: record_rules(reading, fields.get("validate_authority_rrs"), "`validate_authority_rrs`"),
        additional: record_rules(reading, fields.get("validate_additional_rrs"), "`validate_additional_rrs`"),
    }
}

fn record_rules(reading: &mut Reading<'_>, node: Option<&Node>, what: &str) -> RrValidator {
    let Some(fields) = node.and_then(|node| reading.map(node, what, &[RECORD_RULES])) else {
        return RrValidator::default();
    };
    let mut read = |key: &str| reading.regexes(fields.get(key), &format!("`{key}`"));
    RrValidator {
        matches: read("fail_if_matches_regexp"),
        all_match: read("fail_if_all_match_regexp"),
        not_matches: read("fail_if_not_matches_regexp"),
        none_matches: read("fail_if_none_matches_regexp"),
    }
}

fn icmp(reading: &mut Reading<'_>, fields: &Fields<'_>) -> Icmp {
    // Maximum payload of one packet with the headers of IPv4 and ICMP.
    let payload = reading.number(fields.get("payload_size"), "`payload_size`", 65_507);
    let ttl = reading.number(fields.get("ttl"), "`ttl`", 255);
    Icmp {
        addresses: addresses(reading, fields),
        source: reading.address(fields.get("source_ip_address"), "`source_ip_address`"),
        payload_size: payload.and_then(|size| u16::try_from(size).ok()).unwrap_or(0),
        dont_fragment: reading.boolean(fields.get("dont_fragment"), "`dont_fragment`", false),
        ttl: ttl.and_then(|ttl| u8::try_from(ttl).ok()).unwrap_or(64),
    }
}
