//! Services that notifiers use.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::zabbix_access::ZabbixConnect;
use crate::store::evidence::EvidenceFolder;

/// Services that notifiers use.
#[derive(Clone)]
pub struct NotifierServices {
    /// HTTP client; does not follow redirects.
    pub client: reqwest::Client,
    /// Folder of the screenshots.
    pub evidence: EvidenceFolder,
    /// Resolver for the names of hosts that are not reached by HTTP.
    pub resolve: Resolve,
    /// TLS settings of connections other than HTTP.
    pub tls: Arc<rustls::ClientConfig>,
    /// Opens the API of Zabbix.
    pub zabbix: ZabbixConnect,
}

impl fmt::Debug for NotifierServices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NotifierServices").field("evidence", &self.evidence).finish_non_exhaustive()
    }
}

/// Resolves the name of a host, or parses an address. The list of addresses is never empty; the error describes the
/// problem.
pub type Resolve = Arc<dyn Fn(String) -> BoxFuture<'static, Result<Vec<IpAddr>, String>> + Send + Sync>;
