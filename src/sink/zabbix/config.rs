//! Section `zabbix:` of the agent configuration.

use std::path::{Path, PathBuf};

use super::client::Client;
use super::connection::{Certificate, Security};
use super::delivery::Delivery;
use super::nodes::with_port;
use super::psk::{MAX_IDENTITY_BYTES, Psk};
use super::push::Push;
use super::{Timing, Zabbix, api};
use crate::bounded::credential::{Credential, SECRET};
use crate::scenario::keys::{Key, Shape};
use crate::scenario::reader::Reader;
use crate::scenario::tree::Node;
use crate::sink::{Context, HttpSettings, Sink};

/// Destination of the values and the host that they belong to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// Trapper addresses (`host:port`) of the server or proxy, or of the nodes of a cluster. Empty if values are sent
    /// through the API.
    pub servers: Vec<String>,
    /// Technical name of the host to which the template is linked.
    pub host: String,
    /// Encryption of connections to the trapper.
    pub security: Security,
    /// Names of scenario tags to copy to items and problems in Zabbix.
    // Discovery contains a value of each tag for every scenario, and provisioning adds the tags to the template.
    pub tags: Vec<String>,
    /// API of the frontend, if it is used.
    pub api: Option<api::Config>,
    /// Delivery method of the values.
    pub via: Via,
}

/// Delivery method of the values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Via {
    /// Trapper protocol.
    #[default]
    Trapper,
    /// API method `history.push`.
    Api,
    /// `history.push` if the server supports it, otherwise the trapper protocol.
    Auto,
}

impl Via {
    const WORDS: &[&str] = &["trapper", "api", "auto"];

    fn named(word: &str) -> Self {
        match word {
            "api" => Self::Api,
            "auto" => Self::Auto,
            _ => Self::Trapper,
        }
    }
}

const TLS: &[Key] = &[
    Key {
        name: "ca",
        shape: Some(Shape::Text),
        doc: "PEM file with the root certificates for the server's certificate; required",
    },
    Key {
        name: "cert",
        shape: Some(Shape::Text),
        doc: "PEM file with the agent's certificate and its chain; required",
    },
    Key { name: "key", shape: Some(Shape::Text), doc: "PEM file with the private key of `cert`; required" },
    Key { name: "server_issuer", shape: Some(Shape::Text), doc: "issuer of the server's certificate, as in RFC 4514" },
    Key {
        name: "server_subject",
        shape: Some(Shape::Text),
        doc: "subject of the server's certificate, as in RFC 4514",
    },
];

const PSK: &[Key] = &[
    Key {
        name: "identity",
        shape: Some(Shape::Text),
        doc: "identity of the key, as set for the host in Zabbix; required",
    },
    Key { name: "key", shape: Some(SECRET), doc: "pre-shared key of 32 to 512 hexadecimal digits; required" },
];

impl Config {
    /// Keys of `zabbix:`.
    pub const KEYS: &[Key] = &[
        Key {
            name: "server",
            shape: Some(Shape::Text),
            doc: "`HOST` or `HOST:PORT` of the trapper of the server or proxy; nodes of a cluster are separated by `;`",
        },
        Key {
            name: "host",
            shape: Some(Shape::Text),
            doc: "technical name of the host that the template is linked to; required",
        },
        Key {
            name: "tls",
            shape: Some(Shape::Keys(&[TLS])),
            doc: "certificates for TLS to the trapper (default: no TLS)",
        },
        Key {
            name: "psk",
            shape: Some(Shape::Keys(&[PSK])),
            doc: "pre-shared key for TLS to the trapper, instead of certificates",
        },
        Key {
            name: "tags",
            shape: Some(Shape::List(&Shape::Text)),
            doc: "keys of the tags of scenarios that are copied to items and problems in Zabbix (default: none)",
        },
        Key { name: "api", shape: Some(Shape::Keys(&[api::Config::KEYS])), doc: "API of the frontend" },
        Key {
            name: "via",
            shape: Some(Shape::Words(Via::WORDS)),
            doc: "delivery of values; `api` is `history.push`, `auto` uses it if the server can (default: trapper, without `server` api)",
        },
    ];

    /// Reads `zabbix:`.
    pub fn read(r: &mut Reader, node: &Node) -> Option<Self> {
        let fields = r.fields(node, "`zabbix`", &[Self::KEYS])?;
        let errors = r.errors();
        let servers = fields.get("server").map(|node| servers(r, node)).unwrap_or_default();
        let host = required(r, node, fields.get("host"), "`zabbix` needs `host:`", "`host`");
        let certificate = fields.get("tls").and_then(|node| certificate(r, node));
        let psk = fields.get("psk").and_then(|node| psk(r, node));
        let api = fields.get("api").and_then(|node| api::Config::read(r, node));
        let via = match fields.get("via") {
            Some(node) => r.word(node, "`via`", Via::WORDS).map(Via::named).unwrap_or_default(),
            None if fields.get("server").is_none() && fields.get("api").is_some() => Via::Api,
            None => Via::Trapper,
        };
        if fields.get("server").is_none() && via != Via::Api {
            r.fail(node.span, "`zabbix` needs `server:`");
        }
        if fields.get("api").is_none() && via != Via::Trapper {
            r.fail_with(node.span, "values go by the API, and `zabbix` has no `api:`", "add `api: {url: …, token: …}`");
        }
        if let Some(second) = fields.get("psk").filter(|_| fields.get("tls").is_some()) {
            r.fail(second.span, "`tls` and `psk` exclude each other");
        }
        for key in ["server", "tls", "psk"] {
            if let Some(unused) = fields.get(key).filter(|_| via == Via::Api) {
                r.fail_with(unused.span, format!("`{key}` is for the trapper"), "values go by the API");
            }
        }
        if r.errors() > errors {
            return None;
        }
        let security = match (certificate, psk) {
            (Some(certificate), _) => Security::Certificate(Box::new(certificate)),
            (None, Some(psk)) => Security::Psk(psk),
            (None, None) => Security::None,
        };
        let mut tags = Vec::new();
        for item in fields.get("tags").and_then(|node| r.list(node, "`tags`")).unwrap_or_default() {
            tags.extend(r.text(item, "`tags`").map(|text| text.value));
        }
        Some(Self { servers, host: host?, security, tags, api, via })
    }

    /// Formats the destination addresses.
    pub fn place(&self) -> String {
        let api = self.api.as_ref().filter(|_| self.via != Via::Trapper).map(|api| api.url.to_string());
        let places: Vec<_> = api.into_iter().chain(self.servers.iter().cloned()).collect();
        places.join("; ")
    }

    /// Describes the destination.
    pub fn describe(&self) -> String {
        format!("host {} at {}", self.host, self.place())
    }

    /// Creates the sink.
    ///
    /// # Errors
    ///
    /// The file with root certificates for the API cannot be read or contains none.
    pub fn build(&self, context: &Context) -> Result<Box<dyn Sink>, String> {
        let timing = Timing::default();
        let client = || {
            let (servers, security) = (self.servers.clone(), self.security.clone());
            Client::new(&self.host, servers, security, timing.connect, timing.answer)
        };
        let push = || -> Result<Push, String> {
            let api = self.api.as_ref().ok_or("the configuration has no API")?;
            let settings = HttpSettings { roots: api.ca.as_deref(), ..HttpSettings::default() };
            Ok(Push::new(&self.host, api.clone(), (context.http_client)(settings)?))
        };
        let delivery = match self.via {
            Via::Trapper => Delivery::Trapper(client()),
            Via::Api => Delivery::Api(push()?),
            Via::Auto => Delivery::Auto(Box::new((client(), push()?))),
        };
        let state = context.agent_state.clone();
        Ok(Box::new(Zabbix::new(delivery, timing, &context.location, self.tags.clone(), state)))
    }
}

fn required(r: &mut Reader, map: &Node, node: Option<&Node>, missing: &str, what: &str) -> Option<String> {
    let Some(node) = node else {
        r.fail(map.span, missing);
        return None;
    };
    let text = r.text(node, what)?.value;
    if text.trim().is_empty() {
        r.fail(node.span, format!("{what} is empty"));
        return None;
    }
    Some(text)
}

/// Reads `server`: one address, or those of the nodes of a cluster.
fn servers(r: &mut Reader, node: &Node) -> Vec<String> {
    let Some(text) = r.text(node, "`server`") else { return Vec::new() };
    if text.contains(',') {
        r.fail_with(
            node.span,
            "`server` is a single Zabbix and not a list with `,`",
            "write `;` between the nodes of one cluster; a second Zabbix is a second entry: \
             zabbix: [{server: …}, {name: second, server: …}]",
        );
        return Vec::new();
    }
    let nodes: Vec<_> = text.split(';').map(str::trim).collect();
    if nodes.iter().any(|node| node.is_empty()) {
        r.fail(node.span, "`server` has an empty address");
        return Vec::new();
    }
    nodes.into_iter().map(with_port).collect()
}

/// Resolves a path relative to the agent configuration.
fn beside(r: &Reader, path: &str) -> PathBuf {
    Path::new(&r.source.path).parent().unwrap_or(Path::new("")).join(path)
}

fn certificate(r: &mut Reader, node: &Node) -> Option<Certificate> {
    let fields = r.fields(node, "`tls`", &[TLS])?;
    let mut file = |key: &str| {
        let path = required(r, node, fields.get(key), &format!("`tls` needs `{key}:`"), &format!("`{key}`"));
        path.map(|path| beside(r, &path))
    };
    let (ca, cert, key) = (file("ca"), file("cert"), file("key"));
    let mut name =
        |key: &str| fields.get(key).and_then(|node| r.text(node, &format!("`{key}`"))).map(|text| text.value);
    let (server_issuer, server_subject) = (name("server_issuer"), name("server_subject"));
    Some(Certificate { ca: ca?, cert: cert?, key: key?, server_issuer, server_subject })
}

fn psk(r: &mut Reader, node: &Node) -> Option<Psk> {
    if cfg!(not(feature = "zabbix-psk")) {
        r.fail_with(
            node.span,
            "this wachta was built without pre-shared keys",
            "build it with `--features zabbix-psk`, which needs OpenSSL; or use `tls` with certificates",
        );
    }
    let fields = r.fields(node, "`psk`", &[PSK])?;
    let identity = required(r, node, fields.get("identity"), "`psk` needs `identity:`", "`identity`");
    if let Some(node) =
        fields.get("identity").filter(|_| identity.as_ref().is_some_and(|text| text.len() > MAX_IDENTITY_BYTES))
    {
        r.fail(node.span, format!("`identity` has more than {MAX_IDENTITY_BYTES} bytes"));
    }
    let key = match fields.get("key") {
        Some(node) => Credential::from_config(r, node, "`key`"),
        None => {
            r.fail(node.span, "`psk` needs `key:`");
            None
        }
    };
    Some(Psk { identity: identity?, key: key? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Source;
    use crate::scenario::tree;

    /// Returns the configuration read from `zabbix:`, or the first problem.
    fn read(text: &str) -> Result<Config, String> {
        let source = Source::new("/etc/wachta/wachta.yaml", text);
        let node = tree::parse(&source).unwrap();
        let mut r = Reader::new(&source);
        let config = Config::read(&mut r, &node);
        config.ok_or_else(|| r.diagnostics[0].message.clone())
    }

    #[test]
    fn addresses_of_a_cluster_are_read() {
        let check = |server: &str, expected: Result<&[&str], &str>| {
            let config = read(&format!("{{server: \"{server}\", host: h}}"));
            let expected = expected.map(|nodes| nodes.iter().map(|node| (*node).to_owned()).collect::<Vec<_>>());
            assert_eq!(config.map(|config| config.servers), expected.map_err(str::to_owned), "{server}");
        };
        check("zabbix.internal", Ok(&["zabbix.internal:10051"]));
        check("one;[fd00::1]:20051 ; two:1", Ok(&["one:10051", "[fd00::1]:20051", "two:1"]));
        check("one;", Err("`server` has an empty address"));
        check("one,two", Err("`server` is a single Zabbix and not a list with `,`"));
    }

    #[test]
    fn ways_need_what_they_use_and_refuse_what_they_do_not() {
        let check = |text: &str, expected: Result<Via, &str>| {
            assert_eq!(read(text).map(|config| config.via), expected.map_err(str::to_owned), "{text}");
        };
        let api = "api: {url: \"https://zabbix.example.com/\", token: \"0123456789abcdef\"}";
        check("{server: one, host: h}", Ok(Via::Trapper));
        check(&format!("{{host: h, {api}}}"), Ok(Via::Api));
        check(&format!("{{server: one, host: h, {api}}}"), Ok(Via::Trapper));
        check(&format!("{{server: one, host: h, via: auto, {api}}}"), Ok(Via::Auto));
        check("{host: h}", Err("`zabbix` needs `server:`"));
        check("{server: one}", Err("`zabbix` needs `host:`"));
        check("{server: one, host: h, via: auto}", Err("values go by the API, and `zabbix` has no `api:`"));
        check(&format!("{{host: h, via: trapper, {api}}}"), Err("`zabbix` needs `server:`"));
        check(&format!("{{server: one, host: h, via: api, {api}}}"), Err("`server` is for the trapper"));
    }

    #[test]
    fn certificates_are_beside_the_configuration() {
        let config =
            read("{server: one, host: h, tls: {ca: ca.pem, cert: /tls/a.pem, key: a.key, server_subject: CN=z}}");
        let expected = Certificate {
            ca: "/etc/wachta/ca.pem".into(),
            cert: "/tls/a.pem".into(),
            key: "/etc/wachta/a.key".into(),
            server_issuer: None,
            server_subject: Some("CN=z".into()),
        };
        assert_eq!(config.unwrap().security, Security::Certificate(Box::new(expected)));
        let problem = read("{server: one, host: h, tls: {cert: a.pem, key: a.key}}");
        assert_eq!(problem.unwrap_err(), "`tls` needs `ca:`");
    }

    #[test]
    fn a_pre_shared_key_is_shown_nowhere() {
        let text = "{server: one, host: h, psk: {identity: wachta-1, key: \"00112233445566778899aabbccddeeff\"}}";
        if cfg!(feature = "zabbix-psk") {
            let config = read(text).unwrap();
            let Security::Psk(psk) = &config.security else { panic!("{config:?}") };
            assert_eq!(psk.identity, "wachta-1");
            assert!(!format!("{config:?} {}", config.describe()).contains("0011"), "{config:?}");
            let both = read(&text.replace("psk:", "tls: {ca: a, cert: b, key: c}, psk:"));
            assert_eq!(both.unwrap_err(), "`tls` and `psk` exclude each other");
            let long = read(&text.replace("wachta-1", &"w".repeat(128)));
            assert_eq!(long.unwrap_err(), "`identity` has more than 127 bytes");
        } else {
            assert_eq!(read(text).unwrap_err(), "this wachta was built without pre-shared keys");
        }
    }
}
