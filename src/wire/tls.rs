//! TLS client configurations: trusted certificates, and the interpretation of TLS errors.
//!
//! Configurations are built once per kind of trust and cached. Sessions are never resumed, because a resumed handshake
//! would be faster than that of most customers and would not show the current certificate.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme, SupportedProtocolVersion};
use sha2::{Digest as _, Sha256};

use super::certificate::Certificate;
use crate::bounded::answer;
use crate::names::Reason;
use crate::outcome::Failure;
use crate::scenario::{Template, Trust};

pub use super::certificate::expiry;
pub use crate::bounded::answer::rustls_error;

/// Maximum number of cached configurations; all of them are dropped when it is exceeded.
const KEPT: usize = 256;

/// Default trusted roots, read once, and the configurations created with them.
#[derive(Debug, Clone)]
pub struct Trusted {
    provider: Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
    config: Arc<ClientConfig>,
    /// Configurations by a digest of their inputs.
    kept: Arc<Mutex<HashMap<[u8; 32], Arc<ClientConfig>>>>,
}

/// Trust and identity of a client that differ from the default.
#[derive(Debug, Default)]
pub struct Settings {
    /// Roots trusted in addition to those of the system.
    pub further: Vec<CertificateDer<'static>>,
    /// Roots trusted instead of those of the system.
    pub instead: Option<Vec<CertificateDer<'static>>>,
    /// Client certificate chain with its private key.
    pub identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    /// Whether any certificate is accepted.
    pub insecure: bool,
    /// Allowed TLS versions. 1.2 and 1.3 if empty.
    pub versions: Vec<&'static SupportedProtocolVersion>,
}

impl Trusted {
    /// Loads the system's roots, or those that browsers ship if the system has none, as in a minimal container.
    pub fn system() -> Self {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let roots = Arc::new(roots);
        let config = build(&provider, &roots, Settings::default()).expect("the defaults are in order");
        Self { provider, roots, config, kept: Arc::default() }
    }

    /// Returns the configuration of a client that trusts the system's roots.
    pub fn client_config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    /// Builds a configuration from custom settings. This is expensive, so callers should build it once. The error is a
    /// message for users.
    pub fn build(&self, settings: Settings) -> Result<Arc<ClientConfig>, String> {
        build(&self.provider, &self.roots, settings)
    }

    /// Returns the configuration for a request or check, with the roots and the certificate named in the scenario.
    /// Files are read each time, so that a renewed certificate is used from the next run on.
    pub fn config(
        &self,
        trust: &Trust,
        file: impl Fn(&Template) -> Result<Vec<u8>, Failure>,
    ) -> Result<Arc<ClientConfig>, Failure> {
        if *trust == Trust::default() {
            return Ok(Arc::clone(&self.config));
        }
        let ca = trust.ca.as_ref().map(|ca| file(&ca.value).map_err(|f| f.at(ca.span))).transpose()?;
        let identity = match &trust.identity {
            Some((cert, key)) => {
                Some((file(&cert.value).map_err(|f| f.at(cert.span))?, file(&key.value).map_err(|f| f.at(key.span))?))
            }
            None => None,
        };
        let mut digest = Sha256::new();
        digest.update([u8::from(trust.insecure), u8::from(ca.is_some()), u8::from(identity.is_some())]);
        let (cert, key) = identity.as_ref().map(|(c, k)| (c.as_slice(), k.as_slice())).unwrap_or_default();
        for part in [ca.as_deref().unwrap_or_default(), cert, key] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        let digest: [u8; 32] = digest.finalize().into();
        if let Some(config) = self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(&digest) {
            return Ok(Arc::clone(config));
        }
        let mut settings = Settings { insecure: trust.insecure, ..Settings::default() };
        if let (Some(pem), Some(at)) = (&ca, &trust.ca) {
            settings.further = certificates(pem).map_err(|why| wrong("trust.ca", &why).at(at.span))?;
        }
        if let (Some((cert, key)), Some((cert_at, key_at))) = (&identity, &trust.identity) {
            let chain = certificates(cert).map_err(|why| wrong("trust.cert", &why).at(cert_at.span))?;
            let key = private_key(key).map_err(|why| wrong("trust.key", &why).at(key_at.span))?;
            settings.identity = Some((chain, key));
        }
        let at = trust.ca.as_ref().or(trust.identity.as_ref().map(|(cert, _)| cert));
        let config = self.build(settings).map_err(|why| {
            let failure = wrong("trust", &why);
            at.map_or(failure.clone(), |at| failure.at(at.span))
        })?;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(digest, Arc::clone(&config));
        Ok(config)
    }
}

fn wrong(key: &str, why: &str) -> Failure {
    Failure::new(Reason::Configuration, format!("`{key}`: {why}"))
}

/// Parses the certificates of a PEM file. Fails if it contains no certificate.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|error| error.to_string())?;
    if all.is_empty() { Err("no certificate in the file".into()) } else { Ok(all) }
}

/// Parses the private key of a PEM file.
pub fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        rustls::pki_types::pem::Error::NoItemsFound => "no private key in the file".to_owned(),
        error => error.to_string(),
    })
}

fn build(
    provider: &Arc<CryptoProvider>,
    system: &Arc<RootCertStore>,
    settings: Settings,
) -> Result<Arc<ClientConfig>, String> {
    let Settings { further, instead, identity, insecure, versions } = settings;
    let pinned = instead.iter().flatten().chain(&further).cloned().collect();
    let mut roots = Arc::clone(system);
    if let Some(instead) = instead {
        let own = Arc::make_mut(&mut roots);
        *own = RootCertStore::empty();
        for certificate in instead {
            own.add(certificate).map_err(|error| error.to_string())?;
        }
    }
    for certificate in further {
        Arc::make_mut(&mut roots).add(certificate).map_err(|error| error.to_string())?;
    }
    let inner = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider))
        .build()
        .map_err(|error| error.to_string())?;
    let verifier = Watching { inner, provider: Arc::clone(provider), insecure, pinned };
    let builder = ClientConfig::builder_with_provider(Arc::clone(provider));
    let builder = if versions.is_empty() {
        builder.with_safe_default_protocol_versions()
    } else {
        builder.with_protocol_versions(&versions)
    };
    let builder =
        builder.map_err(|error| error.to_string())?.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match identity {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(|error| error.to_string())?,
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

tokio::task_local! {
    /// Certificates that the server has sent in the current handshake.
    static SHOWN: RefCell<Vec<CertificateDer<'static>>>;
}

/// Performs a handshake and also returns the certificates of the server, accepted or not.
pub(super) async fn watched<F: Future>(handshake: F) -> (F::Output, Vec<CertificateDer<'static>>) {
    let mut watched = pin!(SHOWN.scope(RefCell::default(), handshake));
    let done = watched.as_mut().await;
    (done, watched.take_value().map(RefCell::into_inner).unwrap_or_default())
}

/// Verifies certificates as usual or not at all, and records them for [`watched`].
#[derive(Debug)]
struct Watching {
    inner: Arc<WebPkiServerVerifier>,
    provider: Arc<CryptoProvider>,
    insecure: bool,
    /// Certificates that are trusted by name in the configuration. A server may present one of them as its own, even if
    /// it is that of a CA.
    pinned: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Watching {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        // Outside of `watched` there is nothing to record to.
        let _ = SHOWN.try_with(|shown| {
            let all = std::iter::once(end_entity).chain(intermediates);
            *shown.borrow_mut() = all.map(|der| der.clone().into_owned()).collect();
        });
        if self.insecure {
            return Ok(ServerCertVerified::assertion());
        }
        let verified = self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            Err(_) if self.pinned.iter().any(|pinned| pinned == end_entity) => {
                verify_pinned(end_entity, server_name, now)
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Verifies the name and the validity period of a certificate that is itself trusted.
fn verify_pinned(
    der: &CertificateDer<'_>,
    name: &ServerName<'_>,
    now: UnixTime,
) -> Result<ServerCertVerified, rustls::Error> {
    use rustls::CertificateError as E;
    let certificate = Certificate::parse(der).ok_or(E::BadEncoding)?;
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let time = |at: i64| UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(at).unwrap_or(0)));
    let (not_before, not_after) = (certificate.not_before(), certificate.not_after());
    if seconds < not_before {
        return Err(E::NotValidYetContext { time: now, not_before: time(not_before) }.into());
    }
    if seconds > not_after {
        return Err(E::ExpiredContext { time: now, not_after: time(not_after) }.into());
    }
    verify_server_name(&ParsedCertificate::try_from(der)?, name)?;
    Ok(ServerCertVerified::assertion())
}

/// Converts an error of rustls into a failure.
pub fn failure(error: &rustls::Error) -> Failure {
    rejection(error, &[])
}

/// Converts an error of rustls into a failure. `chain` has the certificates that the server sent, its own first; the
/// name of a missing issuer is taken from them.
pub fn rejection(error: &rustls::Error, chain: &[CertificateDer<'_>]) -> Failure {
    match error {
        rustls::Error::InvalidCertificate(problem) => {
            let why = match problem {
                rustls::CertificateError::UnknownIssuer => missing_issuer(chain),
                _ => is_version_1(chain).then(|| {
                    "it is an X.509 version 1 certificate, which has no list of names; version 3 is needed".to_owned()
                }),
            };
            let why = why.unwrap_or_else(|| answer::certificate_problem(problem));
            Failure::new(Reason::Certificate, format!("the certificate is not trusted: {why}"))
        }
        rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType) => {
            Failure::new(Reason::Tls, "the TLS handshake failed: the server does not speak TLS on this port")
        }
        other => Failure::new(Reason::Tls, format!("the TLS handshake failed: {other}")),
    }
}

/// Returns a description of the issuer of a chain that is neither sent nor trusted. `None` if the chain cannot be parsed.
fn missing_issuer(chain: &[CertificateDer<'_>]) -> Option<String> {
    let parsed = |der: &CertificateDer<'_>| {
        let certificate = Certificate::parse(der)?;
        Some((certificate.subject(), certificate.issuer()))
    };
    let sent: Vec<(String, String)> = chain.iter().map(parsed).collect::<Option<_>>()?;
    let (mut at, mut depth) = (sent.first()?, 0);
    while at.0 != at.1
        && depth < sent.len()
        && let Some(next) = sent.iter().find(|(subject, _)| *subject == at.1)
    {
        (at, depth) = (next, depth + 1);
    }
    let (subject, issuer) = at;
    Some(match (subject == issuer, depth) {
        (true, 0) => "it is self-signed and not one of the trusted certificates".to_owned(),
        (true, _) => format!("its root `{subject}` is not trusted"),
        (false, _) => format!("the certificate of its issuer `{issuer}` was not sent and is not trusted"),
    })
}

fn is_version_1(chain: &[CertificateDer<'_>]) -> bool {
    chain.first().and_then(|der| Certificate::parse(der)).is_some_and(|certificate| certificate.is_version_1())
}
