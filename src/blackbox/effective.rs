//! Renders modules as YAML as they are in effect: with their defaults and without their secrets.

use std::fmt::Write as _;

use super::client::HARMLESS;
use super::module::{
    Addresses, Authorization, Client, Dns, Grpc, Http, Icmp, Module, Modules, Pem, QueryResponse, RrValidator,
    SecretRef, Settings, Tcp, Tls, Websocket,
};
use super::regexp::Regexp;
use crate::wire::dns as records;

/// Placeholder for a secret.
const SECRET: &str = "<secret>";

impl Modules {
    /// Renders all modules.
    pub fn effective(&self) -> String {
        let mut out = Yaml::default();
        out.open("modules");
        for (name, module) in self.iter() {
            out.open(name);
            write(&mut out, module);
            out.close();
        }
        out.text
    }
}

impl Module {
    /// Renders the module.
    pub fn effective(&self) -> String {
        let mut out = Yaml::default();
        write(&mut out, self);
        out.text
    }
}

/// A YAML writer that puts each key on a line of its own.
#[derive(Default)]
struct Yaml {
    text: String,
    depth: usize,
    /// Whether the next key starts a list item and is preceded by a dash.
    item: bool,
}

impl Yaml {
    fn key(&mut self, key: &str) {
        let depth = if self.item { self.depth - 1 } else { self.depth };
        self.text.extend(std::iter::repeat_n("  ", depth));
        if std::mem::take(&mut self.item) {
            self.text.push_str("- ");
        }
        self.text.push_str(&scalar(key));
        self.text.push(':');
    }

    fn put(&mut self, key: &str, value: impl std::fmt::Display) {
        self.key(key);
        let _ = writeln!(self.text, " {value}");
    }

    fn text(&mut self, key: &str, value: &str) {
        self.put(key, scalar(value));
    }

    fn some(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    fn open(&mut self, key: &str) {
        self.key(key);
        self.text.push('\n');
        self.depth += 1;
    }

    fn close(&mut self) {
        self.depth -= 1;
    }

    fn list<T: std::fmt::Display>(&mut self, key: &str, items: impl IntoIterator<Item = T>) {
        let items: Vec<String> = items.into_iter().map(|item| scalar(&item.to_string())).collect();
        if !items.is_empty() {
            self.put(key, format!("[{}]", items.join(", ")));
        }
    }

    fn regexes(&mut self, key: &str, regexes: &[Regexp]) {
        let quoted: Vec<String> = regexes.iter().map(|regex| quoted(regex.as_str())).collect();
        if !quoted.is_empty() {
            self.put(key, format!("[{}]", quoted.join(", ")));
        }
    }

    fn hidden(&mut self, inline: &str, file: &str, hidden: Option<&SecretRef>) {
        match hidden {
            Some(SecretRef::Inline(_)) => self.put(inline, SECRET),
            Some(SecretRef::File(path)) => self.text(file, &path.display().to_string()),
            None => {}
        }
    }
}

/// Renders a value, in quotes if it could be parsed as another type.
fn scalar(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    let word = matches!(text, "true" | "false" | "null" | "yes" | "no" | "on" | "off");
    let number = text.parse::<f64>().is_ok() && text.parse::<u64>().is_err();
    if !text.is_empty() && text.chars().all(plain) && !text.starts_with('-') && !word && !number {
        text.to_owned()
    } else {
        quoted(text)
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn write(out: &mut Yaml, module: &Module) {
    out.text("prober", &module.prober);
    if let Some(timeout) = module.timeout {
        out.put("timeout", format!("{}s", timeout.as_secs_f64()));
    }
    if !matches!(module.settings, Settings::Unknown) {
        out.open(&module.prober);
    }
    match &module.settings {
        Settings::Http(settings) => http(out, settings),
        Settings::Tcp(settings) => tcp(out, settings),
        Settings::Unix(settings) => dialogue(out, settings.tls, &settings.tls_config, &settings.dialogue),
        Settings::Dns(settings) => dns(out, settings),
        Settings::Icmp(settings) => icmp(out, settings),
        Settings::Grpc(settings) => grpc(out, settings),
        Settings::Websocket(settings) => websocket(out, settings),
        Settings::Unknown => return,
    }
    out.close();
}

fn addresses(out: &mut Yaml, addresses: Addresses) {
    out.put("preferred_ip_protocol", if addresses.prefer_ip4 { "ip4" } else { "ip6" });
    out.put("ip_protocol_fallback", addresses.fallback);
}

fn headers(out: &mut Yaml, key: &str, headers: &[(String, String)]) {
    if headers.is_empty() {
        return;
    }
    out.open(key);
    for (name, value) in headers {
        if HARMLESS.contains(&name.to_ascii_lowercase().as_str()) {
            out.text(name, value);
        } else {
            out.put(name, SECRET);
        }
    }
    out.close();
}

fn http(out: &mut Yaml, http: &Http) {
    out.list("valid_status_codes", &http.valid_status_codes);
    out.list("valid_http_versions", &http.valid_http_versions);
    addresses(out, http.addresses);
    if http.skip_resolve_phase_with_proxy {
        out.put("skip_resolve_phase_with_proxy", true);
    }
    for (key, set) in [("fail_if_ssl", http.fail_if_ssl), ("fail_if_not_ssl", http.fail_if_not_ssl)] {
        if set {
            out.put(key, true);
        }
    }
    out.text("method", http.method.as_deref().unwrap_or("GET"));
    headers(out, "headers", &http.headers);
    out.regexes("fail_if_body_matches_regexp", &http.body_matches);
    out.regexes("fail_if_body_not_matches_regexp", &http.body_not_matches);
    for (key, rules) in
        [("fail_if_header_matches", &http.header_matches), ("fail_if_header_not_matches", &http.header_not_matches)]
    {
        if rules.is_empty() {
            continue;
        }
        out.open(key);
        for rule in rules {
            (out.depth, out.item) = (out.depth + 1, true);
            out.text("header", &rule.header);
            out.put("regexp", quoted(rule.regexp.as_str()));
            out.put("allow_missing", rule.allow_missing);
            out.depth -= 1;
        }
        out.close();
    }
    if http.body.is_some() {
        out.put("body", SECRET);
    }
    out.some("body_file", http.body_file.as_ref().map(|path| path.display().to_string()).as_deref());
    out.some("compression", http.compression.map(super::module::Compression::as_str));
    if http.body_size_limit > 0 {
        out.put("body_size_limit", format!("{}B", http.body_size_limit));
    }
    client(out, &http.client);
}

fn client(out: &mut Yaml, client: &Client) {
    match &client.authorization {
        None => {}
        Some(Authorization::Basic { username, password }) => {
            out.open("basic_auth");
            out.hidden("username", "username_file", username.as_ref());
            out.hidden("password", "password_file", password.as_ref());
            out.close();
        }
        Some(Authorization::Token { kind, credentials }) => {
            out.open("authorization");
            out.text("type", kind);
            out.hidden("credentials", "credentials_file", credentials.as_ref());
            out.close();
        }
        Some(Authorization::Oauth2(oauth2)) => {
            out.open("oauth2");
            out.text("client_id", &oauth2.client_id);
            out.hidden("client_secret", "client_secret_file", oauth2.client_secret.as_ref());
            out.list("scopes", &oauth2.scopes);
            out.text("token_url", &without_password(&oauth2.token_url));
            if !oauth2.endpoint_params.is_empty() {
                out.open("endpoint_params");
                for (name, _) in &oauth2.endpoint_params {
                    out.put(name, SECRET);
                }
                out.close();
            }
            out.close();
        }
    }
    if !client.http_headers.is_empty() {
        out.open("http_headers");
        for (name, values) in &client.http_headers {
            out.open(name);
            let inline = values.iter().filter(|value| matches!(value, SecretRef::Inline(_))).count();
            out.list("secrets", std::iter::repeat_n(SECRET, inline));
            out.list(
                "files",
                values.iter().filter_map(|value| match value {
                    SecretRef::File(path) => Some(path.display().to_string()),
                    SecretRef::Inline(_) => None,
                }),
            );
            out.close();
        }
        out.close();
    }
    tls(out, &client.tls);
    out.some("proxy_url", client.proxy.url.as_ref().map(without_password).as_deref());
    if !client.proxy.excluded.is_empty() {
        out.text("no_proxy", &client.proxy.excluded.join(","));
    }
    if client.proxy.from_environment {
        out.put("proxy_from_environment", true);
    }
    if !client.proxy.connect_headers.is_empty() {
        out.open("proxy_connect_header");
        // Values of the same header are adjacent.
        for values in client.proxy.connect_headers.chunk_by(|(one, _), (next, _)| one == next) {
            out.list(&values[0].0, values.iter().map(|_| SECRET));
        }
        out.close();
    }
    out.put("follow_redirects", client.follow_redirects);
    out.put("enable_http2", client.enable_http2);
}

/// Returns a URL with its password replaced.
fn without_password(url: &url::Url) -> String {
    let mut url = url.clone();
    if url.password().is_some() {
        // The call cannot fail, because a URL that has a password accepts another one.
        let _ = url.set_password(Some("xxxxx"));
    }
    url.to_string()
}

fn tls(out: &mut Yaml, tls: &Tls) {
    let nothing = !tls.insecure_skip_verify
        && tls.ca.is_none()
        && tls.cert.is_none()
        && tls.server_name.is_none()
        && tls.min_version.is_none()
        && tls.max_version.is_none();
    if nothing {
        return;
    }
    out.open("tls_config");
    for (inline, file, pem) in
        [("ca", "ca_file", &tls.ca), ("cert", "cert_file", &tls.cert), ("key", "key_file", &tls.key)]
    {
        match pem {
            Some(Pem::Inline(_)) => out.put(inline, SECRET),
            Some(Pem::File(path)) => out.text(file, &path.display().to_string()),
            None => {}
        }
    }
    out.some("server_name", tls.server_name.as_deref());
    out.put("insecure_skip_verify", tls.insecure_skip_verify);
    for (key, version) in [("min_version", tls.min_version), ("max_version", tls.max_version)] {
        out.some(key, version.map(|version| format!("TLS{version}")).as_deref());
    }
    out.close();
}

fn tcp(out: &mut Yaml, tcp: &Tcp) {
    addresses(out, tcp.addresses);
    out.some("source_ip_address", tcp.source.map(|source| source.to_string()).as_deref());
    dialogue(out, tcp.tls, &tcp.tls_config, &tcp.dialogue);
}

fn dialogue(out: &mut Yaml, with_tls: bool, config: &Tls, all: &[QueryResponse]) {
    out.put("tls", with_tls);
    tls(out, config);
    turns(out, all);
}

fn turns(out: &mut Yaml, turns: &[QueryResponse]) {
    if turns.is_empty() {
        return;
    }
    out.open("query_response");
    for turn in turns {
        (out.depth, out.item) = (out.depth + 1, true);
        if let Some(expect) = &turn.expect {
            out.put("expect", quoted(expect.as_str()));
        }
        if let Some(bytes) = &turn.expect_bytes {
            out.put("expect_bytes", quoted(&String::from_utf8_lossy(bytes)));
        }
        if !turn.labels.is_empty() {
            let labels = turn.labels.iter();
            let labels: Vec<_> =
                labels.map(|(name, value)| format!("{{name: {name}, value: {}}}", quoted(value))).collect();
            out.put("labels", format!("[{}]", labels.join(", ")));
        }
        if turn.send.is_some() {
            out.put("send", SECRET);
        }
        out.put("starttls", turn.starttls);
        out.depth -= 1;
    }
    out.close();
}

fn dns(out: &mut Yaml, dns: &Dns) {
    addresses(out, dns.addresses);
    out.put("dns_over_tls", dns.over_tls);
    tls(out, &dns.tls_config);
    out.some("source_ip_address", dns.source.map(|source| source.to_string()).as_deref());
    out.put("transport_protocol", if dns.tcp { "tcp" } else { "udp" });
    out.text("query_name", &dns.query_name);
    out.put("query_type", records::kind_name(dns.query_type));
    out.put("query_class", records::class_name(dns.query_class));
    out.put("recursion_desired", dns.recursion);
    out.list("valid_rcodes", dns.valid_rcodes.iter().map(|code| records::rcode_name(*code)));
    for (key, rules) in [
        ("validate_answer_rrs", &dns.answer),
        ("validate_authority_rrs", &dns.authority),
        ("validate_additional_rrs", &dns.additional),
    ] {
        let RrValidator { matches, all_match, not_matches, none_matches } = rules;
        if [matches, all_match, not_matches, none_matches].iter().all(|list| list.is_empty()) {
            continue;
        }
        out.open(key);
        out.regexes("fail_if_matches_regexp", matches);
        out.regexes("fail_if_all_match_regexp", all_match);
        out.regexes("fail_if_not_matches_regexp", not_matches);
        out.regexes("fail_if_none_matches_regexp", none_matches);
        out.close();
    }
}

fn icmp(out: &mut Yaml, icmp: &Icmp) {
    addresses(out, icmp.addresses);
    out.some("source_ip_address", icmp.source.map(|source| source.to_string()).as_deref());
    if icmp.payload_size > 0 {
        out.put("payload_size", icmp.payload_size);
    }
    out.put("dont_fragment", icmp.dont_fragment);
    out.put("ttl", icmp.ttl);
}

fn grpc(out: &mut Yaml, grpc: &Grpc) {
    if !grpc.service.is_empty() {
        out.text("service", &grpc.service);
    }
    out.put("tls", grpc.tls);
    tls(out, &grpc.tls_config);
    addresses(out, grpc.addresses);
}

fn websocket(out: &mut Yaml, websocket: &Websocket) {
    addresses(out, websocket.addresses);
    out.open("http_config");
    client(out, &websocket.client);
    out.close();
    headers(out, "headers", &websocket.headers);
    turns(out, &websocket.dialogue);
}
