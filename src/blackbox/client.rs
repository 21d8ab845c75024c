//! Settings that all HTTP clients of Prometheus share: authentication, TLS, proxy and redirects.

use super::keys::{AUTHORIZATION, BASIC_AUTH, CLIENT, HEADER_VALUES, OAUTH2, RESERVED_HEADERS, TLS};
use super::module::{Authorization, Client, Oauth2, Pem, Proxy, SecretRef, Tls};
use super::values::Reading;
use crate::scenario::reader::Fields;
use crate::scenario::tree::Node;
use crate::secret::Secret;

/// Headers whose values are not secret and may be shown.
pub(super) const HARMLESS: &[&str] = &[
    "accept",
    "accept-encoding",
    "accept-language",
    "cache-control",
    "content-type",
    "host",
    "origin",
    "referer",
    "user-agent",
];

impl Reading<'_> {
    /// Adds the values of headers to the masker, except those that are not secret.
    pub(super) fn learn(&mut self, headers: &[(String, String)]) {
        for (name, value) in headers {
            if !HARMLESS.contains(&name.to_ascii_lowercase().as_str()) {
                self.masker.add(value);
            }
        }
    }

    /// Reads `http_config:`.
    pub(super) fn client_of(&mut self, node: Option<&Node>) -> Client {
        match node.and_then(|node| self.map(node, "`http_config`", &[CLIENT])) {
            Some(fields) => self.client(&fields),
            None => Client::default(),
        }
    }

    /// Reads the client settings from a map that contains other keys too.
    pub(super) fn client(&mut self, fields: &Fields<'_>) -> Client {
        Client {
            authorization: self.authentication(fields),
            http_headers: self.http_headers(fields.get("http_headers")),
            tls: self.tls(fields.get("tls_config")),
            proxy: self.proxy(fields),
            follow_redirects: self.boolean(fields.get("follow_redirects"), "`follow_redirects`", true),
            enable_http2: self.boolean(fields.get("enable_http2"), "`enable_http2`", true),
        }
    }

    fn authentication(&mut self, fields: &Fields<'_>) -> Option<Authorization> {
        let names = ["basic_auth", "authorization", "bearer_token", "bearer_token_file", "oauth2"];
        let given: Vec<_> = names.iter().filter_map(|name| fields.entry(name)).filter(|e| !e.value.is_null()).collect();
        if let [first, second, ..] = given.as_slice() {
            let message = format!("`{}` and `{}` cannot be set both", first.key, second.key);
            self.r.fail_with(second.key_span, message, "a request has one `Authorization`: remove one of them");
        }
        let entry = given.first()?;
        match entry.key.as_str() {
            "basic_auth" => {
                let fields = self.map(&entry.value, "`basic_auth`", &[BASIC_AUTH])?;
                self.refuse_keys(&fields, &["username_ref", "password_ref"]);
                let username = self.hidden(&fields, "username", "username_file");
                // The user name is not secret, but it does not need to appear in logs.
                let password = self.hidden(&fields, "password", "password_file");
                Some(Authorization::Basic { username, password })
            }
            "authorization" => {
                let fields = self.map(&entry.value, "`authorization`", &[AUTHORIZATION])?;
                self.refuse_keys(&fields, &["credentials_ref"]);
                let kind = self.text(fields.get("type"), "`type`").unwrap_or_else(|| "Bearer".into());
                if kind.trim().eq_ignore_ascii_case("basic") {
                    self.r.fail_with(
                        entry.key_span,
                        "`authorization` cannot have the type basic",
                        "write `basic_auth`",
                    );
                }
                let credentials = self.hidden(&fields, "credentials", "credentials_file");
                Some(Authorization::Token { kind, credentials })
            }
            "oauth2" => self.oauth2(&entry.value),
            _ => {
                let credentials = self.hidden(fields, "bearer_token", "bearer_token_file");
                Some(Authorization::Token { kind: "Bearer".into(), credentials })
            }
        }
    }

    fn oauth2(&mut self, node: &Node) -> Option<Authorization> {
        let fields = self.map(node, "`oauth2`", &[OAUTH2])?;
        let unsupported = ["client_secret_ref", "tls_config", "proxy_url", "proxy_from_environment"];
        self.refuse_keys(&fields, &unsupported);
        self.refuse_keys(&fields, &["no_proxy", "proxy_connect_header"]);
        if let Some(entry) = fields.entry("grant_type")
            && self.text(Some(&entry.value), "`grant_type`").is_some_and(|grant| grant != "client_credentials")
        {
            self.refuse(entry.key_span, "a `grant_type` other than client_credentials");
        }
        let client_id = self.text(fields.get("client_id"), "`client_id`");
        let client_secret = self.hidden(&fields, "client_secret", "client_secret_file");
        let token_url = self.text(fields.get("token_url"), "`token_url`");
        for (key, missing) in [("client_id", client_id.is_none()), ("token_url", token_url.is_none())] {
            if missing {
                self.r.fail(node.span, format!("`oauth2` needs `{key}:`"));
            }
        }
        let token_url = match token_url.as_deref().map(url::Url::parse) {
            Some(Ok(url)) if matches!(url.scheme(), "http" | "https") && url.has_host() => Some(url),
            Some(_) => {
                self.r.unexpected_value(fields.get("token_url")?, "`token_url` must be a URL");
                None
            }
            None => None,
        };
        let parameters = self.pairs(fields.get("endpoint_params"), "`endpoint_params`");
        let mut endpoint_params = Vec::new();
        for (name, value) in parameters {
            if name != "grant_type" {
                self.masker.add(&value);
                endpoint_params.push((name, Secret::new(value)));
            }
        }
        Some(Authorization::Oauth2(Box::new(Oauth2 {
            client_id: client_id?,
            client_secret,
            scopes: self.texts(fields.get("scopes"), "`scopes`"),
            token_url: token_url?,
            endpoint_params,
        })))
    }

    /// Reads a secret, either inline under one key or in a file under another.
    fn hidden(&mut self, fields: &Fields<'_>, inline: &str, file: &str) -> Option<SecretRef> {
        let written = self.secret(fields.get(inline), &format!("`{inline}`"));
        let path = self.path(fields.get(file), &format!("`{file}`"));
        match (written, path) {
            (Some(_), Some(_)) => {
                let span = fields.entry(file).map(|entry| entry.key_span).unwrap_or_default();
                let message = format!("`{inline}` and `{file}` cannot be set both");
                self.r.fail_with(span, message, "remove one of them");
                None
            }
            (Some(secret), None) => Some(SecretRef::Inline(secret)),
            (None, Some(path)) => Some(SecretRef::File(path)),
            (None, None) => None,
        }
    }

    fn http_headers(&mut self, node: Option<&Node>) -> Vec<(String, Vec<SecretRef>)> {
        let Some(node) = node else { return Vec::new() };
        let mut headers = Vec::new();
        for entry in self.entries(node, "`http_headers`") {
            if RESERVED_HEADERS.contains(&entry.key.to_ascii_lowercase().as_str()) {
                let message = format!("`http_headers` cannot set `{}`", entry.key);
                self.r.fail_with(entry.key_span, message, "use its own key, or `headers`");
                continue;
            }
            let Some(fields) = self.map(&entry.value, "a header", &[HEADER_VALUES]) else { continue };
            let mut values = Vec::new();
            for (key, secret) in [("values", false), ("secrets", true)] {
                for value in self.texts(fields.get(key), &format!("`{key}`")) {
                    if secret || !HARMLESS.contains(&entry.key.to_ascii_lowercase().as_str()) {
                        self.masker.add(&value);
                    }
                    values.push(SecretRef::Inline(Secret::new(value)));
                }
            }
            values.extend(self.paths(fields.get("files"), "`files`").into_iter().map(SecretRef::File));
            headers.push((entry.key.clone(), values));
        }
        headers
    }

    fn proxy(&mut self, fields: &Fields<'_>) -> Proxy {
        let from_environment = self.boolean(fields.get("proxy_from_environment"), "`proxy_from_environment`", false);
        let mut proxy = Proxy { from_environment, ..Proxy::default() };
        if let Some(text) = self.text(fields.get("proxy_url"), "`proxy_url`")
            && let Some(entry) = fields.entry("proxy_url")
        {
            match url::Url::parse(&text) {
                Ok(url) if url.scheme() == "http" && url.has_host() => {
                    if let Some(password) = url.password() {
                        self.masker.add(password);
                    }
                    proxy.url = Some(url);
                }
                Ok(url) if matches!(url.scheme(), "https" | "socks5" | "socks5h") => {
                    self.refuse(entry.value.span, &format!("a proxy of `{}://`", url.scheme()));
                }
                _ => self.r.fail_with(entry.value.span, "`proxy_url` is not a URL", "write it like http://proxy:3128"),
            }
        }
        let no_proxy = self.text(fields.get("no_proxy"), "`no_proxy`");
        proxy.excluded = no_proxy.iter().flat_map(|text| text.split(',')).map(|item| item.trim().to_owned()).collect();
        proxy.excluded.retain(|item| !item.is_empty());
        for entry in
            fields.get("proxy_connect_header").map(|n| self.entries(n, "`proxy_connect_header`")).unwrap_or_default()
        {
            for value in self.texts(Some(&entry.value), "`proxy_connect_header`") {
                self.masker.add(&value);
                proxy.connect_headers.push((entry.key.clone(), Secret::new(value)));
            }
        }
        let has_url = fields.get("proxy_url").is_some_and(|node| !node.is_null());
        let mut clash = |key: &str, wrong: bool, message: &str| {
            if let Some(entry) = fields.entry(key).filter(|_| wrong) {
                self.r.fail(entry.key_span, message.to_owned());
            }
        };
        clash("proxy_url", from_environment && has_url, "`proxy_url` cannot be set with `proxy_from_environment`");
        clash("no_proxy", from_environment, "`no_proxy` cannot be set with `proxy_from_environment`");
        clash("no_proxy", !has_url && !from_environment, "`no_proxy` needs `proxy_url`");
        let without = !proxy.connect_headers.is_empty() && !has_url && !from_environment;
        clash("proxy_connect_header", without, "`proxy_connect_header` needs `proxy_url` or `proxy_from_environment`");
        proxy
    }

    /// Reads `tls_config:`.
    pub(super) fn tls(&mut self, node: Option<&Node>) -> Tls {
        let Some(node) = node else { return Tls::default() };
        let Some(fields) = self.map(node, "`tls_config`", &[TLS]) else { return Tls::default() };
        self.refuse_keys(&fields, &["ca_ref", "cert_ref", "key_ref"]);
        let mut pem = |inline: &str, file: &str| match self.hidden(&fields, inline, file) {
            Some(SecretRef::Inline(text)) => Some(Pem::Inline(text)),
            Some(SecretRef::File(path)) => Some(Pem::File(path)),
            None => None,
        };
        let (ca, cert, key) = (pem("ca", "ca_file"), pem("cert", "cert_file"), pem("key", "key_file"));
        if cert.is_some() != key.is_some() {
            let message = "a client's certificate and its key go together";
            self.r.fail_with(node.span, message, "set `cert_file` and `key_file`, or `cert` and `key`");
        }
        let mut version = |name: &str| {
            let versions = ["TLS10", "TLS11", "TLS12", "TLS13"];
            let word = self.word(fields.get(name), "version of TLS", &versions)?;
            if matches!(word, "TLS10" | "TLS11") {
                self.refuse(fields.get(name)?.span, "TLS 1.0 and 1.1");
                return None;
            }
            Some(if word == "TLS13" { 13 } else { 12 })
        };
        let (min_version, max_version) = (version("min_version"), version("max_version"));
        if let (Some(13), Some(12), Some(entry)) = (min_version, max_version, fields.entry("max_version")) {
            self.r.fail(entry.key_span, "`max_version` is below `min_version`");
        }
        Tls {
            insecure_skip_verify: self.boolean(fields.get("insecure_skip_verify"), "`insecure_skip_verify`", false),
            ca,
            cert,
            key,
            server_name: self.text(fields.get("server_name"), "`server_name`"),
            min_version,
            max_version,
        }
    }
}
