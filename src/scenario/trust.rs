//! `trust`: trusted certificates and the client certificate.

use super::key::TRUST;
use super::reader::{Fields, Reader};
use super::template::Template;
use super::tree::{Entry, Node};
use crate::diagnostic::Spanned;

/// Trusted certificates and the client certificate.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Trust {
    /// PEM file with additional root certificates, relative to the scenario file.
    pub ca: Option<Spanned<Template>>,
    /// PEM files with the client certificate and its private key.
    pub identity: Option<(Spanned<Template>, Spanned<Template>)>,
    /// Whether certificate verification is disabled.
    pub insecure: bool,
}

impl Trust {
    /// Returns every file that is referenced.
    pub fn files(&self) -> Vec<&Spanned<Template>> {
        let own = self.identity.iter().flat_map(|(cert, key)| [cert, key]);
        self.ca.iter().chain(own).collect()
    }
}

/// Reads `trust`.
pub fn trust(r: &mut Reader, node: Option<&Node>) -> Option<Trust> {
    let Some(node) = node else { return Some(Trust::default()) };
    let fields = r.fields(node, "`trust`", &[TRUST])?;
    trust_of(r, &fields)
}

/// Reads the keys of `trust`.
pub fn trust_of(r: &mut Reader, fields: &Fields<'_>) -> Option<Trust> {
    let mut file = |key: &str| match fields.get(key) {
        Some(node) => r.template(node, &format!("`{key}`")).map(Some),
        None => Some(None),
    };
    let (ca, cert, key) = (file("ca"), file("cert"), file("key"));
    let insecure = match fields.get("insecure") {
        Some(node) => r.boolean(node, "`insecure`"),
        None => Some(false),
    };
    let identity = match (cert?, key?) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        (Some(_), None) => {
            r.fail(fields.entry("cert").map_or(fields.span, Entry::span), "`cert` needs `key` beside it");
            return None;
        }
        (None, Some(_)) => {
            r.fail(fields.entry("key").map_or(fields.span, Entry::span), "`key` needs `cert` beside it");
            return None;
        }
    };
    Some(Trust { ca: ca?, identity, insecure: insecure? })
}
