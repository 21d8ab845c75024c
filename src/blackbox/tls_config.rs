//! The `tls_config:` section of a module.

use std::path::PathBuf;

use crate::secret::Secret;

/// The `tls_config:` section.
#[derive(Debug, Default)]
pub struct Tls {
    /// Whether any certificate is accepted.
    pub insecure_skip_verify: bool,
    /// Trusted authorities. Those of the system if absent.
    pub ca: Option<Pem>,
    /// Client certificate.
    pub cert: Option<Pem>,
    /// Private key of the client certificate.
    pub key: Option<Pem>,
    /// Name that the certificate must be valid for.
    pub server_name: Option<String>,
    /// Minimum TLS version: 12 or 13.
    pub min_version: Option<u8>,
    /// Maximum TLS version: 12 or 13.
    pub max_version: Option<u8>,
}

/// PEM data, either inline or in a file.
#[derive(Debug, Clone)]
pub enum Pem {
    /// Inline in the configuration.
    Inline(Secret<String>),
    /// In a separate file.
    File(PathBuf),
}
