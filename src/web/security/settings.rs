//! Settings of the web server: TLS, users and headers.

use std::sync::Arc;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use rustls::ServerConfig;

use super::users::Users;

/// Settings in effect.
#[derive(Debug, Default)]
pub struct Settings {
    /// TLS configuration, if the file contains one.
    pub tls: Option<Arc<ServerConfig>>,
    /// Whether only clients with a verified certificate are accepted.
    pub(super) verifies_clients: bool,
    /// Headers of every response.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) users: Users,
}

impl Settings {
    /// Returns whether users are configured.
    pub fn has_users(&self) -> bool {
        !self.users.is_empty()
    }

    /// Adds the headers of every response.
    pub fn add_headers(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.headers {
            headers.insert(name, value.clone());
        }
    }
}
