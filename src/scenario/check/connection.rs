//! Connection settings that several kinds of checks share: trusted certificates, the address to connect to, and a
//! proxy.

use super::parts::given;
use crate::diagnostic::Spanned;
use crate::scenario::key::{Key, Shape, TRUST, key};
use crate::scenario::reader::{Fields, Reader};
use crate::scenario::template::Template;
use crate::scenario::trust::{self, Trust};
use crate::scenario::url;

/// Key of the trusted certificates.
pub(super) const TRUST_KEY: Key = key("trust", Shape::Keys(&[TRUST]), "trusted certificates");
/// Key of the address to connect to.
pub(super) const RESOLVE: Key = key(
    "resolve",
    Shape::Text,
    "address to connect to, regardless of the host name: 10.0.0.1, or 10.0.0.1:8443 with another port",
);
/// Key of the proxy.
pub(super) const PROXY: Key =
    key("proxy", Shape::Text, "HTTP proxy for the connection: http://[user:password@]host:port");

/// Problem of `trust` beside a URL without TLS.
pub const NEEDS_TLS: &str = "has no effect without TLS";

/// Settings of the connection of a check.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ConnectionSettings {
    /// Trusted certificates. `None` if the key is absent.
    pub trust: Option<Trust>,
    /// IP address, perhaps with a port, to connect to instead of the address of the host.
    pub resolve: Option<Spanned<Template>>,
    /// URL of an HTTP proxy through which the connection is opened.
    pub proxy: Option<Spanned<Template>>,
}

impl ConnectionSettings {
    /// Returns the files that the settings reference.
    pub fn files(&self) -> Vec<&Spanned<Template>> {
        self.trust.as_ref().map(Trust::files).unwrap_or_default()
    }
}

/// Reads the settings. A kind of check has only those whose keys are in its table.
pub(super) fn settings(r: &mut Reader, fields: &Fields<'_>) -> Option<ConnectionSettings> {
    let trust = given(fields, "trust", |node| trust::trust(r, Some(node)));
    let resolve = given(fields, "resolve", |node| url::pinned(r, node));
    let proxy = given(fields, "proxy", |node| url::proxy(r, node));
    if let (Some(entry), Some(_)) = (fields.entry("resolve"), fields.get("proxy")) {
        r.fail_with(entry.key_span, "with a `proxy`, the proxy resolves names", "keep one of them");
        return None;
    }
    Some(ConnectionSettings { trust: trust?, resolve: resolve?, proxy: proxy? })
}

/// Reports a problem at each of these keys that is present. `problem` follows the name of the key in the message.
pub(super) fn refuse(r: &mut Reader, fields: &Fields<'_>, keys: &[&str], problem: &str, advice: &str) {
    for entry in keys.iter().filter_map(|key| fields.entry(key)) {
        r.fail_with(entry.key_span, format!("`{}` {problem}", entry.key), advice);
    }
}
