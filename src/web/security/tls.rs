//! TLS configuration of the server: certificate, versions, cipher suites and client certificates.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, SupportedKxGroup, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, CipherSuite, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme, SupportedCipherSuite,
};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::wire::tls::{certificates, private_key};

/// Requirements on client certificates, with the names of Go's `tls.ClientAuthType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientPolicy {
    /// No certificate is requested.
    None,
    /// A certificate is requested; it is optional and not verified.
    Request,
    /// A certificate is required but not verified.
    RequireAny,
    /// A certificate is requested; it is optional and verified if present.
    VerifyIfGiven,
    /// A certificate is required and verified.
    RequireAndVerify,
}

impl ClientPolicy {
    pub(super) const NAMES: [(&'static str, Self); 6] = [
        ("NoClientCert", Self::None),
        ("RequestClientCert", Self::Request),
        ("RequireAnyClientCert", Self::RequireAny),
        // Deprecated name.
        ("RequireClientCert", Self::RequireAny),
        ("VerifyClientCertIfGiven", Self::VerifyIfGiven),
        ("RequireAndVerifyClientCert", Self::RequireAndVerify),
    ];

    pub(super) fn verifies(self) -> bool {
        matches!(self, Self::VerifyIfGiven | Self::RequireAndVerify)
    }

    pub(super) fn requires(self) -> bool {
        matches!(self, Self::RequireAny | Self::RequireAndVerify)
    }
}

/// TLS settings of the file.
pub(super) struct TlsSettings {
    /// Certificate and its intermediate certificates, as PEM.
    pub(super) chain: Vec<u8>,
    /// Private key, as PEM.
    pub(super) key: Vec<u8>,
    pub(super) policy: ClientPolicy,
    /// Certificate authorities of client certificates, as PEM.
    pub(super) authorities: Option<Vec<u8>>,
    /// Subject alternative names of which a client certificate must contain one. Any name is accepted if the list is
    /// empty.
    pub(super) allowed_sans: Vec<String>,
    /// TLS versions: 12 and 13.
    pub(super) versions: RangeInclusive<u8>,
    /// Cipher suites to offer. If the list contains none of a version, all of that version are offered.
    pub(super) suites: Vec<SupportedCipherSuite>,
    /// Key exchange groups to offer; all if the list is empty.
    pub(super) curves: Vec<&'static dyn SupportedKxGroup>,
    pub(super) prefers_own_order: bool,
    /// Whether HTTP/2 is offered.
    pub(super) http2: bool,
}

/// Part of the file that an error refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Certificate,
    Key,
    Authorities,
    Whole,
}

/// Supported curves, with the names of Go.
pub(super) const CURVES: [(&str, &'static dyn SupportedKxGroup); 3] = [
    ("X25519", ring::kx_group::X25519),
    ("CurveP256", ring::kx_group::SECP256R1),
    ("CurveP384", ring::kx_group::SECP384R1),
];

/// Returns the supported cipher suites, with the names of Go: those of TLS 1.3 contain no version.
pub(super) fn suites() -> Vec<(&'static str, SupportedCipherSuite)> {
    let named = |suite: &SupportedCipherSuite| {
        let name = match suite.suite() {
            CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
            CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
            suite => suite.as_str()?,
        };
        Some((name, *suite))
    };
    ring::ALL_CIPHER_SUITES.iter().filter_map(named).collect()
}

/// Creates the TLS configuration of the server. The error describes the problem and the part that it refers to.
pub(super) fn server_config(settings: &TlsSettings) -> Result<Arc<ServerConfig>, (Part, String)> {
    let whole = |error: Error| (Part::Whole, error.to_string());
    let provider = Arc::new(provider(settings));
    let versions: Vec<_> = [(12, &rustls::version::TLS12), (13, &rustls::version::TLS13)]
        .into_iter()
        .filter(|(version, _)| settings.versions.contains(version))
        .map(|(_, supported)| supported)
        .collect();
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_protocol_versions(&versions).map_err(whole)?;
    let builder = match verifier(settings, &provider)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let chain = certificates(&settings.chain).map_err(|why| (Part::Certificate, why))?;
    let key = private_key(&settings.key).map_err(|why| (Part::Key, why))?;
    let mut config = builder.with_single_cert(chain, key).map_err(|error| match error {
        Error::InconsistentKeys(_) => (Part::Key, "the key does not belong to the certificate".to_owned()),
        Error::InvalidCertificate(_) => (Part::Certificate, error.to_string()),
        error => (Part::Key, error.to_string()),
    })?;
    config.ignore_client_order = settings.prefers_own_order;
    let protocols: &[&[u8]] = if settings.http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Ok(Arc::new(config))
}

fn provider(settings: &TlsSettings) -> CryptoProvider {
    let mut provider = ring::default_provider();
    let listed = |is_13: bool| {
        let chosen: Vec<_> = settings.suites.iter().copied().filter(|suite| suite.tls13().is_some() == is_13).collect();
        if chosen.is_empty() {
            ring::ALL_CIPHER_SUITES.iter().copied().filter(|suite| suite.tls13().is_some() == is_13).collect()
        } else {
            chosen
        }
    };
    provider.cipher_suites = [listed(true), listed(false)].concat();
    if !settings.curves.is_empty() {
        provider.kx_groups.clone_from(&settings.curves);
    }
    provider
}

/// Creates the verifier of client certificates, or returns `None` if no certificate is requested.
fn verifier(
    settings: &TlsSettings,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, (Part, String)> {
    if settings.policy == ClientPolicy::None {
        return Ok(None);
    }
    let wrong = |why: String| (Part::Authorities, why);
    let chains = match &settings.authorities {
        Some(pem) if settings.policy.verifies() => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(pem).map_err(wrong)? {
                roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
            }
            let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
            Some(builder.build().map_err(|error| wrong(error.to_string()))?)
        }
        _ => None,
    };
    let verifier = ClientVerifier {
        policy: settings.policy,
        chains,
        allowed_sans: settings.allowed_sans.clone(),
        provider: Arc::clone(provider),
    };
    Ok(Some(Arc::new(verifier)))
}

/// Verifier of client certificates according to the file. The signature of the handshake, which proves that the client
/// has the private key, is verified in any case.
struct ClientVerifier {
    policy: ClientPolicy,
    /// Verifier of the certificate chain, if verification is required.
    chains: Option<Arc<dyn ClientCertVerifier>>,
    allowed_sans: Vec<String>,
    provider: Arc<CryptoProvider>,
}

impl fmt::Debug for ClientVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientVerifier").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.policy.requires()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chains.as_ref().map_or(&[], |chains| chains.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if let Some(chains) = &self.chains {
            chains.verify_client_cert(end_entity, intermediates, now)?;
        }
        if !self.allowed_sans.is_empty() && !has_name(end_entity, &self.allowed_sans)? {
            return Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure));
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Returns whether a certificate has one of these subject alternative names: a host name, an address, an e-mail address
/// or a URI.
fn has_name(certificate: &CertificateDer<'_>, allowed: &[String]) -> Result<bool, Error> {
    let bad = || Error::InvalidCertificate(CertificateError::BadEncoding);
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| bad())?;
    let names = parsed.subject_alternative_name().map_err(|_| bad())?;
    let is_allowed = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) | GeneralName::RFC822Name(name) | GeneralName::URI(name) => {
            allowed.iter().any(|allowed| allowed == name)
        }
        GeneralName::IPAddress(bytes) => {
            let address = match *bytes {
                [a, b, c, d] => Some(IpAddr::from([*a, *b, *c, *d])),
                bytes => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
            };
            let same = |allowed: &String| allowed.parse::<IpAddr>().is_ok_and(|allowed| Some(allowed) == address);
            allowed.iter().any(same)
        }
        _ => false,
    };
    Ok(names.is_some_and(|names| names.value.general_names.iter().any(is_allowed)))
}
