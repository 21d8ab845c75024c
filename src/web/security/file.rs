//! Reader of the file: its keys and values with their spans.
//!
//! Settings of exporter-toolkit that rustls does not support (older TLS versions, additional cipher suites and curves)
//! are rejected by name.

use std::io::Result;

use axum::http::{HeaderName, HeaderValue};

use super::settings::Settings;
use super::tls::{self, ClientPolicy, TlsSettings};
use super::users::Users;
use crate::diagnostic::{Diagnostic, Source, Span, Spanned};
use crate::scenario::keys::{Key, Shape};
use crate::scenario::reader::{Fields, Reader, cut};
use crate::scenario::tree::{self, Node, NodeKind};

const fn key(name: &'static str, doc: &'static str) -> Key {
    Key { name, shape: Some(Shape::Any), doc }
}

const fn later(name: &'static str, doc: &'static str) -> Key {
    Key { name, shape: None, doc }
}

const FILE: &[Key] = &[
    key("tls_server_config", "TLS"),
    key("http_server_config", "HTTP/2 and response headers"),
    key("basic_auth_users", "user names with the bcrypt hashes of their passwords"),
    later("rate_limit", "rate limit of requests"),
];
const TLS: &[Key] = &[
    key("cert", "certificate, as PEM"),
    key("cert_file", "file of the certificate, relative to this one"),
    key("key", "private key, as PEM"),
    key("key_file", "file of the private key, relative to this one"),
    key("client_auth_type", "requirement for client certificates (default: NoClientCert)"),
    key("client_ca", "CA certificates for client certificates, as PEM"),
    key("client_ca_file", "file of the CA certificates for client certificates, relative to this one"),
    key("client_allowed_sans", "allowed alternative names of client certificates"),
    key("min_version", "TLS12 or TLS13 (default: TLS12)"),
    key("max_version", "TLS12 or TLS13 (default: TLS13)"),
    key("cipher_suites", "cipher suites by their names in Go (default: all)"),
    key("prefer_server_cipher_suites", "whether the server's order of cipher suites takes precedence (default: true)"),
    key("curve_preferences", "X25519, CurveP256, CurveP384, preferred first"),
];
const HTTP: &[Key] =
    &[key("http2", "whether HTTP/2 is offered over TLS (default: true)"), key("headers", "headers of every response")];
/// Permitted headers with their permitted values; an empty list permits any value.
const HEADERS: [(&str, &[&str]); 5] = [
    ("Content-Security-Policy", &[]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-XSS-Protection", &[]),
    ("Strict-Transport-Security", &[]),
];

/// Reads the text of the file. `files` reads a file that it references. `must_ask`: see [`super::Loaded::read`].
pub(super) fn read(
    path: &str,
    text: &str,
    must_ask: bool,
    files: impl FnMut(&str) -> Result<Vec<u8>>,
) -> (Option<Settings>, Vec<Diagnostic>) {
    let source = Source::new(path, text);
    note_lines(&source);
    let root = match tree::parse(&source) {
        Ok(root) => root,
        Err(diagnostic) => return (None, vec![diagnostic]),
    };
    let mut reader = Reader::new(&source);
    let settings = Document { r: &mut reader, files }.settings(&root, must_ask);
    let errors = reader.errors();
    let omitted = reader.omitted();
    let mut diagnostics = reader.diagnostics;
    diagnostics.sort_by_key(|found| (found.span.line, found.span.column));
    diagnostics.extend(omitted);
    (settings.filter(|_| errors == 0), diagnostics)
}

/// Marks credentials in the source. The keys above password hashes and private keys do not reveal that their values are
/// secret: everything after a user name and each line of a private key is hidden, even if the file is not valid YAML.
fn note_lines(source: &Source) {
    let (mut in_users, mut in_key) = (false, false);
    for line in source.text.lines() {
        if line.starts_with(|c: char| !c.is_whitespace() && c != '#' && c != '-') {
            in_users = line.starts_with("basic_auth_users");
        }
        if line.contains("PRIVATE KEY-----") {
            in_key = line.contains("-----BEGIN");
        } else if in_key {
            source.credentials.add(line.trim());
        } else if in_users {
            let behind = line.split_once(':').map_or(line, |(_, rest)| rest);
            for part in behind.split([',', '{', '}', ' ', '"', '\'']).chain([behind]) {
                let part = part.trim();
                // User names are not secret; each ends with a `:`.
                if !part.ends_with(':') && part.len() >= 4 {
                    source.credentials.add(part);
                }
            }
        }
    }
}

struct Document<'r, F> {
    r: &'r mut Reader,
    files: F,
}

impl<F: FnMut(&str) -> Result<Vec<u8>>> Document<'_, F> {
    fn settings(&mut self, root: &Node, must_ask: bool) -> Option<Settings> {
        let fields = if root.is_null() {
            Fields::of(Vec::new(), root.span)
        } else {
            self.r.fields(root, "the file", &[FILE])?
        };
        let mut settings = Settings::default();
        let mut http2 = true;
        if let Some(node) = fields.get("http_server_config").filter(|node| !node.is_null()) {
            (http2, settings.headers) = self.http(node);
        }
        if let Some(node) = fields.get("basic_auth_users").filter(|node| !node.is_null()) {
            settings.users = self.users(node);
        }
        if let Some(node) = fields.get("tls_server_config").filter(|node| !node.is_null()) {
            (settings.tls, settings.verifies_clients) = self.tls(node, http2)?;
        }
        let begin = Span { end: root.span.start + 1, ..root.span };
        if must_ask && settings.users.is_empty() && !settings.verifies_clients {
            let message = "others can reach this agent, and this file requires no authentication";
            let found = Diagnostic::error(&self.r.source, begin, message);
            let help = "help: add basic_auth_users, or client_auth_type: RequireAndVerifyClientCert, or write `insecure: true` below `web` in the agent configuration";
            self.r.report(found.note(help));
        }
        if must_ask && !settings.users.is_empty() && settings.tls.is_none() {
            let label = "add tls_server_config, or put a proxy with TLS in front";
            self.r.warn(begin, "passwords are sent unencrypted", label);
        }
        Some(settings)
    }

    fn http(&mut self, node: &Node) -> (bool, Vec<(HeaderName, HeaderValue)>) {
        let mut headers = Vec::new();
        let Some(fields) = self.r.fields(node, "`http_server_config`", &[HTTP]) else { return (true, headers) };
        let http2 = fields.get("http2").and_then(|node| self.r.boolean(node, "`http2`")).unwrap_or(true);
        let entries = fields.get("headers").and_then(|node| self.r.entries(node, "`headers`")).unwrap_or_default();
        for entry in entries {
            let Some((_, values)) = HEADERS.iter().find(|(name, _)| *name == entry.key) else {
                let names: Vec<&str> = HEADERS.iter().map(|(name, _)| *name).collect();
                let message = format!("the header `{}` cannot be set here", cut(&entry.key));
                let found = Diagnostic::error(&self.r.source, entry.key_span, message);
                self.r.report(found.note(format!("allowed here: {}", names.join(", "))));
                continue;
            };
            // exporter-toolkit omits blank values.
            if entry.value.is_null() || entry.value.scalar().is_some_and(|scalar| scalar.text.is_empty()) {
                continue;
            }
            let Some(text) = self.r.text(&entry.value, &format!("`{}`", entry.key)) else { continue };
            if !values.is_empty() && !values.contains(&text.as_str()) {
                let message = format!("`{}` must be {}", entry.key, values.join(" or "));
                self.r.fail(entry.value.span, message);
                continue;
            }
            match (entry.key.parse(), HeaderValue::from_str(&text)) {
                (Ok(name), Ok(value)) => headers.push((name, value)),
                _ => self.r.fail(entry.value.span, format!("`{}` cannot be sent as a header", entry.key)),
            }
        }
        (http2, headers)
    }

    fn users(&mut self, node: &Node) -> Users {
        let mut users = Users::default();
        for entry in self.r.entries(node, "`basic_auth_users`").unwrap_or_default() {
            if let NodeKind::Scalar(scalar) = &entry.value.kind {
                self.r.source.credentials.add(&scalar.text);
            }
            if entry.key.contains(':') || entry.key.is_empty() {
                self.r.fail(entry.key_span, "the name of a user must not be empty and must not contain `:`");
                continue;
            }
            let Some(hash) = self.r.text(&entry.value, "the hash of a password") else { continue };
            if let Err(problem) = users.add(&entry.key, &hash) {
                let found = Diagnostic::error(&self.r.source, entry.value.span, problem);
                self.r.report(found.note("help: `htpasswd -nBC 10 NAME` asks for a password and prints NAME:HASH"));
            }
        }
        users
    }

    /// Reads the TLS settings and whether only clients with verified certificates are accepted.
    fn tls(&mut self, node: &Node, http2: bool) -> Option<(Option<std::sync::Arc<rustls::ServerConfig>>, bool)> {
        let fields = self.r.fields(node, "`tls_server_config`", &[TLS])?;
        if let Some(scalar) = fields.get("key").and_then(Node::scalar) {
            self.r.source.credentials.add(scalar.text.trim());
        }
        if fields.iter().next().is_none() {
            return Some((None, false));
        }
        let cert = self.pem(&fields, "cert", "cert_file");
        let key = self.pem(&fields, "key", "key_file");
        for (found, names) in [(&cert, "cert_file"), (&key, "key_file")] {
            let is_named = fields.get(names).is_some() || fields.get(names.trim_end_matches("_file")).is_some();
            if found.is_none() && !is_named {
                self.r.fail(node.span, format!("`{names}:` is missing"));
            }
        }
        let policy = match fields.get("client_auth_type") {
            Some(node) => {
                let words: Vec<&str> = ClientPolicy::NAMES.iter().map(|(name, _)| *name).collect();
                let word = self.r.word(node, "client_auth_type", &words);
                word.and_then(|word| ClientPolicy::NAMES.iter().find(|(name, _)| *name == word)).map(|(_, kind)| *kind)
            }
            None => Some(ClientPolicy::None),
        };
        let authorities = self.pem(&fields, "client_ca", "client_ca_file");
        let authorities_at = fields.entry("client_ca").or(fields.entry("client_ca_file"));
        let sans = fields.get("client_allowed_sans").map(|node| (node.span, self.texts(node, "client_allowed_sans")));
        if let Some(policy) = policy {
            let at = fields.entry("client_auth_type").map_or(node.span, |entry| entry.value.span);
            if policy.verifies() && authorities_at.is_none() {
                let label = "set the CA of client certificates: client_ca_file";
                self.r.fail_with(at, "clients' certificates cannot be verified without authorities", label);
            }
            if let Some(entry) = authorities_at.filter(|_| policy == ClientPolicy::None) {
                let label = "add client_auth_type: RequireAndVerifyClientCert";
                self.r.fail_with(entry.key_span, "clients are not asked for certificates", label);
            }
            if let Some(entry) = authorities_at.filter(|_| policy != ClientPolicy::None && !policy.verifies()) {
                let label = "only VerifyClientCertIfGiven and RequireAndVerifyClientCert verify them";
                self.r.warn(entry.key_span, "clients' certificates are not verified against these authorities", label);
            }
            if let Some((span, _)) = sans.as_ref().filter(|(_, names)| names.is_empty()) {
                self.r.fail_with(*span, "no client matches an empty list", "list names, or omit the key");
            }
            if let Some((span, _)) = sans.as_ref().filter(|_| !policy.requires()) {
                let label = "they need client_auth_type: RequireAnyClientCert or RequireAndVerifyClientCert";
                self.r.fail_with(*span, "clients without a certificate have no names", label);
            }
        }
        let min = fields.get("min_version").map_or(Some(12), |node| self.version(node, "min_version"));
        let max = fields.get("max_version").map_or(Some(13), |node| self.version(node, "max_version"));
        if let (Some(min), Some(max)) = (min, max)
            && min > max
        {
            let at = fields.get("min_version").or(fields.get("max_version")).map_or(node.span, |node| node.span);
            self.r.fail(at, "`min_version` is above `max_version`");
            return None;
        }
        let suites = fields.get("cipher_suites").map(|node| self.named(node, "cipher_suites", &tls::suites()));
        let curves = fields.get("curve_preferences").map(|node| self.named(node, "curve_preferences", &tls::CURVES));
        let prefers_own = fields.get("prefer_server_cipher_suites");
        let prefers_own = prefers_own.map_or(Some(true), |node| self.r.boolean(node, "prefer_server_cipher_suites"));
        if self.r.errors() > 0 {
            return None;
        }
        let settings = TlsSettings {
            chain: cert.as_ref()?.value.clone(),
            key: key.as_ref()?.value.clone(),
            policy: policy?,
            authorities: authorities.as_ref().map(|pem| pem.value.clone()),
            allowed_sans: sans.map(|(_, names)| names).unwrap_or_default(),
            versions: min?..=max?,
            suites: suites.unwrap_or_default(),
            curves: curves.unwrap_or_default(),
            prefers_own_order: prefers_own?,
            http2,
        };
        match tls::server_config(&settings) {
            Ok(config) => Some((Some(config), settings.policy == ClientPolicy::RequireAndVerify)),
            Err((part, problem)) => {
                let at = match part {
                    tls::Part::Certificate => cert.map(|pem| pem.span),
                    tls::Part::Key => key.map(|pem| pem.span),
                    tls::Part::Authorities => authorities.map(|pem| pem.span),
                    tls::Part::Whole => None,
                };
                self.r.fail(at.unwrap_or(node.span), problem);
                None
            }
        }
    }

    /// Reads PEM data that is either inline or in a file.
    fn pem(&mut self, fields: &Fields<'_>, inline: &str, file: &str) -> Option<Spanned<Vec<u8>>> {
        if let (Some(_), Some(second)) = (fields.entry(inline), fields.entry(file)) {
            self.r.fail(second.key_span, format!("`{file}` and `{inline}` exclude each other"));
            return None;
        }
        if let Some(node) = fields.get(inline) {
            return self
                .r
                .text(node, &format!("`{inline}`"))
                .map(|text| Spanned::new(text.value.into_bytes(), node.span));
        }
        let node = fields.get(file)?;
        let name = self.r.text(node, &format!("`{file}`"))?;
        match (self.files)(&name) {
            Ok(bytes) => Some(Spanned::new(bytes, node.span)),
            Err(error) => {
                self.r.fail(node.span, format!("`{}` cannot be read: {error}", cut(&name)));
                None
            }
        }
    }

    fn texts(&mut self, node: &Node, what: &str) -> Vec<String> {
        let items = self.r.list(node, &format!("`{what}`")).unwrap_or_default();
        items.iter().filter_map(|item| self.r.text(item, &format!("`{what}`"))).map(|text| text.value).collect()
    }

    /// Reads a list of names, each of which must be one of `known`.
    fn named<T: Copy>(&mut self, node: &Node, what: &str, known: &[(&'static str, T)]) -> Vec<T> {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        let mut found = Vec::new();
        for item in self.r.list(node, &format!("`{what}`")).unwrap_or_default() {
            if let Some(name) = self.r.word(item, &format!("name in `{what}`"), &names) {
                found.extend(known.iter().find(|(known, _)| *known == name).map(|(_, value)| *value));
            }
        }
        found
    }

    /// Reads a TLS version, as 12 or 13.
    fn version(&mut self, node: &Node, what: &str) -> Option<u8> {
        let text = self.r.text(node, &format!("`{what}`"))?;
        match text.as_str() {
            "TLS12" => Some(12),
            "TLS13" => Some(13),
            "TLS10" | "TLS11" => {
                let message = format!("`{}` is too old to be supported", text.value);
                self.r.fail_with(node.span, message, "write TLS12 or TLS13");
                None
            }
            _ => {
                self.r.fail(node.span, format!("`{what}` must be TLS12 or TLS13, not `{}`", cut(&text)));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "$2y$06$DCq7YPn5Rq63x1Lad4cll.TV4S6ytwfsfvkgY8jIucDrjc8deX1s.";

    /// Returns every problem of a text, as `LINE:COLUMN: message`. `cert.pem` and `key.pem` exist.
    fn problems(text: &str, must_ask: bool) -> Vec<String> {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let files = |name: &str| match name {
            "cert.pem" => Ok(made.cert.pem().into_bytes()),
            "key.pem" => Ok(made.signing_key.serialize_pem().into_bytes()),
            "empty.pem" => Ok(Vec::new()),
            _ => Err(std::io::Error::from(std::io::ErrorKind::NotFound)),
        };
        let (settings, found) = read("web.yml", text, must_ask, files);
        let has_errors = found.iter().any(|found| found.severity > crate::diagnostic::Severity::Warning);
        assert_eq!(settings.is_none(), has_errors, "{text}");
        found.iter().map(|found| format!("{}:{}: {}", found.span.line, found.span.column, found.message)).collect()
    }

    #[test]
    fn every_mistake_is_said_with_its_place() {
        let tls = "tls_server_config: {cert_file: cert.pem, key_file: key.pem";
        for (text, expected) in [
            ("{}".to_owned(), vec![]),
            ("tls_server_config:\nhttp_server_config:\nbasic_auth_users:\n".into(), vec![]),
            (format!("basic_auth_users: {{alice: {HASH}}}"), vec![]),
            (format!("{tls}}}"), vec![]),
            (
                format!(
                    "{tls}, client_auth_type: RequireAndVerifyClientCert, client_ca_file: cert.pem, client_allowed_sans: [a], \
                     min_version: TLS12, max_version: TLS13, cipher_suites: [TLS_AES_128_GCM_SHA256], \
                     prefer_server_cipher_suites: false, curve_preferences: [X25519, CurveP256]}}"
                ),
                vec![],
            ),
            ("[]".into(), vec!["1:1: the file must be a map, not a list"]),
            ("tls_server_confg: {}".into(), vec!["1:1: unknown key `tls_server_confg`"]),
            ("rate_limit: {interval: 1s}".into(), vec!["1:1: `rate_limit` is not supported yet"]),
            ("tls_server_config: {cert_file: cert.pem}".into(), vec!["1:20: `key_file:` is missing"]),
            ("tls_server_config: {key_file: key.pem}".into(), vec!["1:20: `cert_file:` is missing"]),
            (
                "tls_server_config: {cert_file: nothing.pem, key_file: key.pem}".into(),
                vec!["1:32: `nothing.pem` cannot be read: entity not found"],
            ),
            (
                "tls_server_config: {cert_file: empty.pem, key_file: key.pem}".into(),
                vec!["1:32: no certificate in the file"],
            ),
            (
                "tls_server_config: {cert_file: cert.pem, key_file: cert.pem}".into(),
                vec!["1:52: no private key in the file"],
            ),
            (
                "tls_server_config: {cert: x, cert_file: cert.pem, key_file: key.pem}".into(),
                vec!["1:30: `cert_file` and `cert` exclude each other"],
            ),
            (format!("{tls}, client_auth_type: Everyone}}"), vec!["1:79: unknown client_auth_type `Everyone`"]),
            (
                format!("{tls}, client_auth_type: RequireAndVerifyClientCert}}"),
                vec!["1:79: clients' certificates cannot be verified without authorities"],
            ),
            (format!("{tls}, client_ca_file: cert.pem}}"), vec!["1:61: clients are not asked for certificates"]),
            (
                format!("{tls}, client_ca_file: cert.pem, client_auth_type: RequireAnyClientCert}}"),
                vec!["1:61: clients' certificates are not verified against these authorities"],
            ),
            (format!("{tls}, client_allowed_sans: [a]}}"), vec!["1:82: clients without a certificate have no names"]),
            (
                format!("{tls}, client_auth_type: RequireAnyClientCert, client_allowed_sans: []}}"),
                vec!["1:122: no client matches an empty list"],
            ),
            (format!("{tls}, min_version: TLS10}}"), vec!["1:74: `TLS10` is too old to be supported"]),
            (format!("{tls}, max_version: SSL3}}"), vec!["1:74: `max_version` must be TLS12 or TLS13, not `SSL3`"]),
            (
                format!("{tls}, min_version: TLS13, max_version: TLS12}}"),
                vec!["1:74: `min_version` is above `max_version`"],
            ),
            (
                format!("{tls}, cipher_suites: [TLS_RSA_WITH_AES_128_CBC_SHA]}}"),
                vec!["1:77: unknown name in `cipher_suites` `TLS_RSA_WITH_AES_128_CBC_SHA`"],
            ),
            (
                format!("{tls}, curve_preferences: [CurveP521]}}"),
                vec!["1:81: unknown name in `curve_preferences` `CurveP521`"],
            ),
            ("http_server_config: {http2: maybe}".into(), vec!["1:29: `http2` must be `true` or `false`, not text"]),
            ("http_server_config: {headers: {X-Own: a}}".into(), vec!["1:32: the header `X-Own` cannot be set here"]),
            (
                "http_server_config: {headers: {X-Frame-Options: allow}}".into(),
                vec!["1:49: `X-Frame-Options` must be deny or sameorigin"],
            ),
            ("http_server_config: {headers: {X-XSS-Protection: \"\"}}".into(), vec![]),
            (
                "basic_auth_users: {\"a:b\": x}".into(),
                vec!["1:20: the name of a user must not be empty and must not contain `:`"],
            ),
            ("basic_auth_users: {alice: hunter2}".into(), vec!["1:27: the password of `alice` is not a bcrypt hash"]),
        ] {
            assert_eq!(problems(&text, false), expected, "{text}");
        }
    }

    #[test]
    fn who_can_be_reached_asks() {
        let tls = "tls_server_config: {cert_file: cert.pem, key_file: key.pem";
        let nobody = "1:1: others can reach this agent, and this file requires no authentication";
        for (text, expected) in [
            ("{}".to_owned(), vec![nobody]),
            (format!("{tls}}}"), vec![nobody]),
            (format!("{tls}, client_auth_type: RequireAnyClientCert}}"), vec![nobody]),
            (format!("{tls}, client_auth_type: VerifyClientCertIfGiven, client_ca_file: cert.pem}}"), vec![nobody]),
            (format!("{tls}, client_auth_type: RequireAndVerifyClientCert, client_ca_file: cert.pem}}"), vec![]),
            (format!("{tls}}}\nbasic_auth_users: {{alice: {HASH}}}"), vec![]),
            (format!("basic_auth_users: {{alice: {HASH}}}"), vec!["1:1: passwords are sent unencrypted"]),
        ] {
            assert_eq!(problems(&text, true), expected, "{text}");
        }
    }

    #[test]
    fn no_snippet_shows_a_password_or_a_key() {
        let key = "-----BEGIN PRIVATE KEY-----\n    c2VjcmV0IGtleSBtYXRlcmlhbA==\n    -----END PRIVATE KEY-----";
        for text in [
            "basic_auth_users: {alice: hunter2-in-the-clear}".to_owned(),
            "basic_auth_users:\n  alice: hunter2-in-the-clear\n".into(),
            "basic_auth_users:\n  alice: \"hunter2-in-the-clear\n".into(),
            "basic_auth_users: {alice: hunter2-in-the-clear, bob\n".into(),
            "basic_auth_users: [hunter2-in-the-clear]".into(),
            format!("basic_auth_users: {{alice: {HASH}}}\nbasic_auth_users: {{alice: {HASH}}}\n"),
            format!("basic_auth_users: {{alice: {HASH}, alice: {HASH}}}"),
            format!("tls_server_config:\n  key: |\n    {key}\n  cert: x\n"),
            format!("tls_server_config:\n  key: |\n    {key}\n cert: x\n"),
            format!("tls_server_config:\n  cert: |\n    {key}\n  key_file: key.pem\n"),
        ] {
            let files = |_: &str| Err(std::io::Error::from(std::io::ErrorKind::NotFound));
            let (_, found) = read("web.yml", &text, false, files);
            let shown: String = found.iter().map(|found| found.render(false)).collect();
            assert!(!found.is_empty(), "{text}");
            for part in ["in-the-clear", "DCq7YPn5Rq63x1Lad4cll", "c2VjcmV0"] {
                assert!(!shown.contains(part), "{text}\n{shown}");
            }
        }
    }
}
