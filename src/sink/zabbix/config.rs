//! The agent's file, `zabbix:`.

use super::{Timing, Zabbix, api};
use crate::scenario::keys::{Key, Shape};
use crate::scenario::reader::Reader;
use crate::scenario::tree::Node;
use crate::sink::{Context, Sink};

/// Where values go and for which host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `host:port` of the server's or proxy's trapper; the port is 10051 when left out.
    pub server: String,
    /// The technical name of the host that the template is linked to.
    pub host: String,
    /// Names of the tags of scenarios that items and problems have in Zabbix.
    // Discovery gives every scenario a value for each of them, and provisioning puts them into the template.
    pub tags: Vec<String>,
    /// The API of the frontend, where it is used.
    pub api: Option<api::Config>,
}

impl Config {
    /// The keys of `zabbix:`.
    pub const KEYS: &[Key] = &[
        Key { name: "server", shape: Some(Shape::Text), doc: "HOST or HOST:PORT of the server's or proxy's trapper" },
        Key {
            name: "host",
            shape: Some(Shape::Text),
            doc: "the technical name of the host that the template is linked to",
        },
        Key {
            name: "tags",
            shape: Some(Shape::List(&Shape::Text)),
            doc: "names of the tags of scenarios that items and problems have in Zabbix (default: none)",
        },
        Key { name: "api", shape: Some(Shape::Keys(&[api::Config::KEYS])), doc: "the API of the frontend" },
    ];

    /// Reads `zabbix:`.
    pub fn read(r: &mut Reader, node: &Node) -> Option<Self> {
        let fields = r.fields(node, "`zabbix`", &[Self::KEYS])?;
        let mut field = |name: &str| {
            if let Some(node) = fields.get(name) {
                return r.text(node, &format!("`{name}`")).map(|text| text.value);
            }
            r.fail(node.span, format!("`zabbix` needs `{name}:`"));
            None
        };
        let (server, host) = (field("server"), field("host"));
        let mut tags = Vec::new();
        for item in fields.get("tags").and_then(|node| r.list(node, "`tags`")).unwrap_or_default() {
            tags.extend(r.text(item, "`tags`").map(|text| text.value));
        }
        let api = match fields.get("api") {
            Some(node) => Some(api::Config::read(r, node)?),
            None => None,
        };
        Some(Self { server: server?, host: host?, tags, api })
    }

    /// Where values go to.
    pub fn describe(&self) -> String {
        format!("host {} at {}", self.host, self.address())
    }

    /// Makes the sink.
    ///
    /// # Errors
    ///
    /// Never: nothing but the configuration is needed.
    pub fn build(&self, context: &Context) -> Result<Box<dyn Sink>, String> {
        let state = context.agent_state.clone();
        Ok(Box::new(Zabbix::new(self.clone(), Timing::default(), &context.location, state)))
    }

    /// The trapper's address, with its port.
    pub fn address(&self) -> String {
        let server = self.server.trim();
        let has_port = match server.rsplit_once(':') {
            // An IPv6 address has a port only behind its bracket.
            Some((host, port)) => port.parse::<u16>().is_ok() && (!host.contains(':') || host.ends_with(']')),
            None => false,
        };
        match (has_port, server.contains(':') && !server.starts_with('[')) {
            (true, _) => server.to_owned(),
            (false, true) => format!("[{server}]:{DEFAULT_PORT}"),
            (false, false) => format!("{server}:{DEFAULT_PORT}"),
        }
    }
}

/// The trapper's port when nothing else is said.
const DEFAULT_PORT: u16 = 10051;

#[cfg(test)]
mod tests {
    use super::Config;

    #[test]
    fn a_port_is_added_where_there_is_none() {
        let check = |server: &str, address: &str| {
            let config = Config { server: server.into(), host: "h".into(), tags: Vec::new(), api: None };
            assert_eq!(config.address(), address, "{server}");
        };
        check("zabbix.internal", "zabbix.internal:10051");
        check("zabbix.internal:20051", "zabbix.internal:20051");
        check("10.0.0.1", "10.0.0.1:10051");
        check("fd00::1", "[fd00::1]:10051");
        check("[fd00::1]", "[fd00::1]:10051");
        check("[fd00::1]:20051", "[fd00::1]:20051");
    }
}
