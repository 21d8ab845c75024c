//! The agent's file, `zabbix:`.

/// Where values go and for which host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `host:port` of the server's or proxy's trapper; the port is 10051 when left out.
    pub server: String,
    /// The technical name of the host that the template is linked to.
    pub host: String,
}
