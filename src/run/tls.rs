//! Which certificates are trusted, and what a certificate or a TLS error says.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use super::Values;
use crate::names::Reason;
use crate::outcome::Failure;
use crate::scenario::Trust;

/// The roots that are trusted when a scenario names no others, read once.
#[derive(Debug, Clone)]
pub struct Trusted {
    roots: Arc<RootCertStore>,
    config: Arc<ClientConfig>,
}

impl Trusted {
    /// The system's roots; where it has none (a bare container), those that browsers ship.
    pub fn system() -> Self {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        let roots = Arc::new(roots);
        let config = Arc::new(client(&roots));
        Self { roots, config }
    }

    /// The settings for a client that trusts the system's roots.
    pub fn client_config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    /// The settings for a request or probe, with the scenario's own roots where it names them.
    pub(super) fn config(&self, trust: &Trust, values: &Values) -> Result<Arc<ClientConfig>, Failure> {
        let Some(ca) = &trust.ca else { return Ok(Arc::clone(&self.config)) };
        let pem = values.file(&ca.value)?;
        let mut roots = (*self.roots).clone();
        let mut added = 0;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let bad =
                |e: &dyn std::fmt::Display| Failure::new(Reason::Configuration, format!("`trust.ca`: {e}")).at(ca.span);
            roots.add(certificate.map_err(|e| bad(&e))?).map_err(|e| bad(&e))?;
            added += 1;
        }
        if added == 0 {
            return Err(Failure::new(Reason::Configuration, "`trust.ca`: no certificate in the file").at(ca.span));
        }
        Ok(Arc::new(client(&roots)))
    }
}

fn client(roots: &RootCertStore) -> ClientConfig {
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring knows the default protocol versions")
        .with_root_certificates(roots.clone())
        .with_no_client_auth()
}

/// When a certificate (DER) expires.
pub(super) fn expiry(der: &[u8]) -> Option<DateTime<Utc>> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    DateTime::from_timestamp(certificate.validity().not_after.timestamp(), 0)
}

/// What an error of rustls means for the target.
pub(super) fn failure(error: &rustls::Error) -> Failure {
    match error {
        rustls::Error::InvalidCertificate(problem) => Failure::new(
            Reason::Certificate,
            format!("the certificate is not accepted: {}", certificate_problem(problem)),
        ),
        other => Failure::new(Reason::Tls, format!("the TLS handshake failed: {other}")),
    }
}

fn certificate_problem(problem: &rustls::CertificateError) -> String {
    use rustls::CertificateError as E;
    match problem {
        E::Expired | E::ExpiredContext { .. } => "it has expired".into(),
        E::NotValidYet | E::NotValidYetContext { .. } => "it is not valid yet".into(),
        E::UnknownIssuer => "its issuer is not trusted".into(),
        E::NotValidForName | E::NotValidForNameContext { .. } => "it is for another name".into(),
        E::Revoked => "it was revoked".into(),
        other => other.to_string(),
    }
}

/// The error of rustls inside a chain of errors, if there is one.
pub(super) fn rustls_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        // An io::Error hides what it wraps from `source`.
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(found) = inner.and_then(|inner| rustls_error(inner)) {
            return Some(found);
        }
        next = error.source();
    }
    None
}
