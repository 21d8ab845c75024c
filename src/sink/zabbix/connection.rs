//! Connections to a trapper: unencrypted, or with TLS in the manner of Zabbix (manual, "Encryption").
//!
//! With certificates, both sides present one. Zabbix does not verify host names: a server is accepted if its
//! certificate is signed by the configured authority and, if they are configured, has the required issuer and subject
//! in the notation of RFC 4514. Pre-shared keys are implemented in [`super::psk`].

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use x509_parser::prelude::{FromDer as _, X509Certificate, X509Name};

use super::psk::Psk;
use crate::bounded;

pub use super::stream::{Error, Stream};

/// Interval after which certificate files are read again, so that renewed ones take effect.
const FILES_INTERVAL: Duration = Duration::from_secs(60);

/// Encryption of connections.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Security {
    /// Unencrypted.
    #[default]
    None,
    /// TLS with certificates.
    Certificate(Box<Certificate>),
    /// TLS with a pre-shared key.
    Psk(Psk),
}

/// TLS with certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// PEM file with the authorities for the server's certificate.
    pub ca: PathBuf,
    /// PEM file with the agent's certificate and its intermediate certificates.
    pub cert: PathBuf,
    /// PEM file with the private key of the agent's certificate.
    pub key: PathBuf,
    /// Required issuer of the server's certificate, in the notation of RFC 4514.
    pub server_issuer: Option<String>,
    /// Required subject of the server's certificate, in the notation of RFC 4514.
    pub server_subject: Option<String>,
}

/// Factory of connections.
#[derive(Debug)]
pub struct Connector {
    security: Security,
    /// Configuration created from the certificate files, with the time of its creation.
    settings: Option<(Instant, Arc<ClientConfig>)>,
}

impl Connector {
    /// Creates a factory of connections with this encryption. Files are read when they are needed.
    pub fn new(security: Security) -> Self {
        Self { security, settings: None }
    }

    /// Opens a connection to `address` (`host:port`) within `limit`.
    ///
    /// # Errors
    ///
    /// The connection cannot be established in time, or cannot be encrypted as configured.
    pub async fn open(&mut self, address: &str, limit: Duration) -> Result<Box<dyn Stream>, Error> {
        let opened = timeout(limit, async {
            let stream = TcpStream::connect(address).await.map_err(Error::Connect)?;
            // A request is written at once, and no data follows it.
            let _ = stream.set_nodelay(true);
            let stream: Box<dyn Stream> = match &self.security {
                Security::None => Box::new(stream),
                Security::Psk(psk) => psk.secure(stream).await?,
                Security::Certificate(certificate) => {
                    let settings = match &self.settings {
                        Some((made, settings)) if made.elapsed() < FILES_INTERVAL => Arc::clone(settings),
                        _ => {
                            let settings = settings(certificate).map_err(Error::Tls)?;
                            self.settings = Some((Instant::now(), Arc::clone(&settings)));
                            settings
                        }
                    };
                    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
                    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
                    let name = ServerName::try_from(host).map_err(|error| Error::Tls(error.to_string()))?;
                    let secured = tokio_rustls::TlsConnector::from(settings).connect(name, stream).await;
                    Box::new(secured.map_err(|error| Error::Tls(reason(&error)))?)
                }
            };
            Ok(stream)
        });
        opened.await.map_err(|_| Error::Timeout("connecting"))?
    }
}

/// Describes the error of a handshake. A server without a suitable certificate closes the connection without an error
/// message.
fn reason(error: &std::io::Error) -> String {
    if error.kind() == std::io::ErrorKind::UnexpectedEof {
        "the server closed the connection during the handshake; check that it has a certificate (`TLSCertFile`), and that \
         both are RSA where it was built with GnuTLS, as Debian's is"
            .into()
    } else {
        error.to_string()
    }
}

/// Creates the TLS configuration with certificates. The error contains the name of the file.
fn settings(certificate: &Certificate) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    for authority in certificates(&certificate.ca)? {
        roots.add(authority).map_err(|error| format!("the file `{}`: {error}", certificate.ca.display()))?;
    }
    let verifier = Verifier {
        roots,
        provider: Arc::clone(&provider),
        issuer: certificate.server_issuer.clone(),
        subject: certificate.server_subject.clone(),
    };
    let key = PrivateKeyDer::from_pem_slice(&read(&certificate.key)?)
        .map_err(|error| format!("the file `{}` has no private key: {error}", certificate.key.display()))?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(certificates(&certificate.cert)?, key)
        .map_err(|error| format!("the certificate and its key: {error}"))?;
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    bounded::read(path, bounded::MAX_SMALL_BYTES)
        .map_err(|error| format!("the file `{}` cannot be read: {error}", path.display()))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let shown = path.display();
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    let all = all.map_err(|error| format!("the file `{shown}`: {error}"))?;
    if all.is_empty() { Err(format!("the file `{shown}` has no certificate")) } else { Ok(all) }
}

/// Verifier that accepts any certificate signed by an authority, regardless of the host name, if it has the required
/// issuer and subject.
#[derive(Debug)]
struct Verifier {
    roots: RootCertStore,
    provider: Arc<CryptoProvider>,
    issuer: Option<String>,
    subject: Option<String>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        rustls::client::verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.roots,
            intermediates,
            now,
            algorithms,
        )?;
        let (_, shown) = X509Certificate::from_der(end_entity)
            .map_err(|error| rustls::Error::General(format!("the server's certificate cannot be read: {error}")))?;
        let names = [("issuer", &self.issuer, shown.issuer()), ("subject", &self.subject, shown.subject())];
        for (what, expected, name) in names {
            let actual = rfc4514(name);
            if expected.as_ref().is_some_and(|expected| *expected != actual) {
                let problem = format!("the {what} of the server's certificate is `{actual}`: see `server_{what}`");
                return Err(rustls::Error::General(problem));
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Formats a name in the notation of RFC 4514: last component first, without spaces between components.
fn rfc4514(name: &X509Name<'_>) -> String {
    let parts: Vec<_> = name.iter_rdn().collect();
    let part = |part: &x509_parser::x509::RelativeDistinguishedName<'_>| {
        let attributes = part.iter().map(|attribute| {
            let oid = attribute.attr_type().to_id_string();
            let name = SHORT_NAMES.iter().find(|(id, _)| *id == oid).map_or(oid.as_str(), |(_, name)| name);
            format!("{name}={}", escape(attribute.as_str().unwrap_or_default()))
        });
        attributes.collect::<Vec<_>>().join("+")
    };
    parts.into_iter().rev().map(part).collect::<Vec<_>>().join(",")
}

/// Abbreviations of name attributes (RFC 4514, section 3, with those added by OpenSSL).
const SHORT_NAMES: [(&str, &str); 12] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "street"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

fn escape(value: &str) -> String {
    let last = value.chars().count().saturating_sub(1);
    let mut escaped = String::with_capacity(value.len());
    for (index, c) in value.chars().enumerate() {
        let is_edge = c == ' ' && (index == 0 || index == last) || c == '#' && index == 0;
        if is_edge || matches!(c, ',' | '+' | '"' | '\\' | '<' | '>' | ';') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

#[cfg(test)]
mod tests;
