//! Access to the API of Zabbix, which is provided by the application.

use std::path::PathBuf;

use futures_util::future::BoxFuture;
use serde_json::Value as Json;
use url::Url;

use crate::bounded::credential::Credential;

/// URL and credentials of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZabbixAccess {
    /// URL of `api_jsonrpc.php`.
    pub url: Url,
    /// User name; absent if the credential is an API token.
    pub user: Option<String>,
    /// API token, or password of the user.
    pub credential: Credential,
    /// PEM file with root certificates trusted in addition to those of the system.
    pub ca: Option<PathBuf>,
}

/// Connection to the API as one user.
pub trait ZabbixApi: Send + Sync {
    /// Calls a method and returns its result. The error is for people and contains no credential.
    fn call<'a>(&'a self, method: &'static str, params: Json) -> BoxFuture<'a, Result<Json, String>>;

    /// Ends the session, if one was opened.
    fn close(self: Box<Self>) -> BoxFuture<'static, ()>;
}

/// Function that opens a connection to the API.
pub type ZabbixConnect =
    std::sync::Arc<dyn Fn(ZabbixAccess) -> BoxFuture<'static, Result<Box<dyn ZabbixApi>, String>> + Send + Sync>;
