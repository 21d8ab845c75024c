//! TLS configuration of a module, and metrics about the certificates of the server.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{CipherSuite, ClientConfig, ClientConnection, ProtocolVersion};
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};
use x509_parser::x509::X509Name;

use super::files::Files;
use super::metric;
use super::samples::Samples;
use super::tls_config::{Pem, Tls};
use crate::wire::TlsSession;
use crate::wire::tls::{Settings, Trusted};

/// Go's zero time as Unix time, which `blackbox_exporter` exports for an unverified chain.
const NO_TIME: f64 = -62_135_596_800.0;

/// Authorities: expiry by encoded subject name.
type Expiries = HashMap<Vec<u8>, i64>;

/// Authorities of the system, read once.
#[derive(Debug)]
pub(super) struct Authorities {
    trusted: Trusted,
    expiries: Arc<Expiries>,
}

impl Authorities {
    /// Loads the authorities that the system trusts.
    pub(super) fn system(trusted: Trusted) -> Self {
        let mut expiries = Expiries::new();
        for certificate in &rustls_native_certs::load_native_certs().certs {
            learn(&mut expiries, certificate);
        }
        Self { trusted, expiries: Arc::new(expiries) }
    }
}

fn learn(expiries: &mut Expiries, certificate: &[u8]) {
    if let Ok((_, parsed)) = X509Certificate::from_der(certificate) {
        expiries.insert(parsed.subject().as_raw().to_vec(), parsed.validity().not_after.timestamp());
    }
}

/// TLS configuration, ready for use.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) config: Arc<ClientConfig>,
    expiries: Arc<Expiries>,
    verified: bool,
}

/// TLS configuration of a module, cached while the files it was created from are unchanged.
#[derive(Debug, Default)]
pub(super) struct Prepared(Mutex<Option<(Vec<Part>, Arc<Ready>)>>);

/// Content of a file that the configuration was created from.
type Part = Result<Arc<[u8]>, String>;

impl Prepared {
    /// Returns the configuration. The error names the invalid file.
    pub(super) fn get(
        &self,
        tls: &Tls,
        folder: &Path,
        files: &Files,
        authorities: &Authorities,
    ) -> Result<Arc<Ready>, String> {
        let named = [&tls.ca, &tls.cert, &tls.key].into_iter().filter_map(|pem| match pem {
            Some(Pem::File(path)) => Some(files.get(&folder.join(path))),
            _ => None,
        });
        let parts: Vec<Part> = named.collect();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, ready)) = kept.as_ref()
            && *known == parts
        {
            return Ok(Arc::clone(ready));
        }
        let ready = Arc::new(make(tls, folder, files, authorities)?);
        *kept = Some((parts, Arc::clone(&ready)));
        Ok(ready)
    }
}

fn make(tls: &Tls, folder: &Path, files: &Files, authorities: &Authorities) -> Result<Ready, String> {
    let versions: Vec<_> = [(12, &rustls::version::TLS12), (13, &rustls::version::TLS13)]
        .into_iter()
        .filter(|(version, _)| tls.min_version.is_none_or(|min| *version >= min))
        .filter(|(version, _)| tls.max_version.is_none_or(|max| *version <= max))
        .map(|(_, supported)| supported)
        .collect();
    let mut settings = Settings { insecure: tls.insecure_skip_verify, versions, ..Settings::default() };
    let mut expiries = Arc::clone(&authorities.expiries);
    if let Some(ca) = &tls.ca {
        let instead = certificates(&pem(ca, folder, files)?, "ca")?;
        let mut known = Expiries::new();
        for certificate in &instead {
            learn(&mut known, certificate);
        }
        (settings.instead, expiries) = (Some(instead), Arc::new(known));
    }
    if let (Some(cert), Some(key)) = (&tls.cert, &tls.key) {
        let key =
            PrivateKeyDer::from_pem_slice(&pem(key, folder, files)?).map_err(|error| format!("`key`: {error}"))?;
        settings.identity = Some((certificates(&pem(cert, folder, files)?, "cert")?, key));
    }
    Ok(Ready { config: authorities.trusted.build(settings)?, expiries, verified: !tls.insecure_skip_verify })
}

fn pem(pem: &Pem, folder: &Path, files: &Files) -> Result<Arc<[u8]>, String> {
    match pem {
        Pem::Inline(text) => Ok(text.expose().as_bytes().into()),
        Pem::File(path) => files.get(&folder.join(path)),
    }
}

fn certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let read = read.map_err(|error| format!("`{what}`: {error}"))?;
    if read.is_empty() { Err(format!("`{what}`: there is no certificate in it")) } else { Ok(read) }
}

/// Properties of a TLS connection for metrics.
#[derive(Debug)]
pub(super) struct Seen {
    version: &'static str,
    cipher: String,
    earliest: f64,
    last_chain: f64,
    /// Fingerprint, issuer, serial number, subject and alternative names of the server's own certificate.
    leaf: Option<[String; 5]>,
}

impl Seen {
    /// Reads the properties of a connection.
    pub(super) fn of(session: &TlsSession, ready: &Ready) -> Self {
        Self::with(session.version, session.cipher, &session.chain, ready)
    }

    /// Reads the properties of a session.
    pub(super) fn of_session(session: &ClientConnection, ready: &Ready) -> Self {
        let cipher = session.negotiated_cipher_suite().map(|suite| suite.suite());
        Self::with(session.protocol_version(), cipher, session.peer_certificates().unwrap_or_default(), ready)
    }

    fn with(
        version: Option<ProtocolVersion>,
        cipher: Option<CipherSuite>,
        chain: &[CertificateDer<'_>],
        ready: &Ready,
    ) -> Self {
        let version = match version {
            Some(ProtocolVersion::TLSv1_2) => "TLS 1.2",
            Some(ProtocolVersion::TLSv1_3) => "TLS 1.3",
            _ => "unknown",
        };
        // Go uses the names of the IANA registry; rustls prefixes the TLS 1.3 suites with the version.
        let cipher = cipher.and_then(|suite| suite.as_str().map(|name| name.replacen("TLS13_", "TLS_", 1)));
        let parsed: Vec<X509Certificate<'_>> =
            chain.iter().filter_map(|der| X509Certificate::from_der(der).ok().map(|(_, it)| it)).collect();
        let expiry = |certificate: &X509Certificate<'_>| certificate.validity().not_after.timestamp();
        let earliest = parsed.iter().map(expiry).min();
        let last_chain = if ready.verified { chain_expiry(&parsed, &ready.expiries) } else { None };
        let leaf = chain.first().zip(parsed.first()).map(|(der, leaf)| {
            let names = leaf.subject_alternative_name().ok().flatten();
            let names = names.iter().flat_map(|names| names.value.general_names.iter());
            let names: Vec<&str> = names
                .filter_map(|name| match name {
                    GeneralName::DNSName(name) => Some(*name),
                    _ => None,
                })
                .collect();
            let serial = leaf.raw_serial();
            [
                hexadecimal(&Sha256::digest(der)),
                distinguished_name(leaf.issuer()),
                hexadecimal(&serial[serial.iter().take_while(|byte| **byte == 0).count()..]),
                distinguished_name(leaf.subject()),
                names.join(","),
            ]
        });
        Self {
            version,
            cipher: cipher.unwrap_or_else(|| "unknown".into()),
            earliest: earliest.map_or(NO_TIME, |at| at as f64),
            last_chain: last_chain.map_or(NO_TIME, |at| at as f64),
            leaf,
        }
    }

    /// Sets the metrics that every prober exports.
    pub(super) fn write(&self, samples: &mut Samples) {
        samples.set(metric::SSL_EARLIEST_CERT_EXPIRY, self.earliest);
        samples.set_with(metric::TLS_VERSION_INFO, &[("version", self.version)], 1.0);
        if let Some([fingerprint, issuer, serial, subject, names]) = &self.leaf {
            let labels = [
                ("fingerprint_sha256", fingerprint.as_str()),
                ("issuer", issuer),
                ("serialnumber", serial),
                ("subject", subject),
                ("subjectalternative", names),
            ];
            samples.set_with(metric::SSL_LAST_CHAIN_INFO, &labels, 1.0);
        }
    }

    /// Sets the expiry of the verified chain.
    pub(super) fn write_chain(&self, samples: &mut Samples) {
        samples.set(metric::SSL_LAST_CHAIN_EXPIRY, self.last_chain);
    }

    /// Sets the cipher suite.
    pub(super) fn write_cipher(&self, samples: &mut Samples) {
        samples.set_with(metric::TLS_CIPHER_INFO, &[("cipher", &self.cipher)], 1.0);
    }
}

/// Returns the expiry of the verified chain, which is the earliest of the certificates from the server's own to its
/// authority.
fn chain_expiry(sent: &[X509Certificate<'_>], expiries: &Expiries) -> Option<i64> {
    let mut at = sent.first()?;
    let mut expiry = at.validity().not_after.timestamp();
    for _ in 0..sent.len() {
        if let Some(root) = expiries.get(at.issuer().as_raw()) {
            return Some(expiry.min(*root));
        }
        let Some(next) = sent.iter().find(|other| other.subject().as_raw() == at.issuer().as_raw()) else { break };
        if std::ptr::eq(next, at) {
            break;
        }
        at = next;
        expiry = expiry.min(at.validity().not_after.timestamp());
    }
    Some(expiry)
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Attributes with short names, in the reverse of Go's output order.
const ATTRIBUTES: [(&str, &str); 9] = [
    ("2.5.4.5", "SERIALNUMBER"),
    ("2.5.4.3", "CN"),
    ("2.5.4.17", "POSTALCODE"),
    ("2.5.4.9", "STREET"),
    ("2.5.4.8", "ST"),
    ("2.5.4.7", "L"),
    ("2.5.4.11", "OU"),
    ("2.5.4.10", "O"),
    ("2.5.4.6", "C"),
];

/// Formats a name in the same way as Go's `pkix.Name`: in the order of RFC 2253, values of one type joined by `+`,
/// unknown types last.
fn distinguished_name(name: &X509Name<'_>) -> String {
    let mut parts: Vec<String> = Vec::new();
    for (oid, short) in ATTRIBUTES {
        let of_kind = name.iter_attributes().filter(|attribute| attribute.attr_type().to_id_string() == oid);
        let mut values: Vec<String> =
            of_kind.filter_map(|attribute| Some(format!("{short}={}", escaped(attribute.as_str().ok()?)))).collect();
        if matches!(short, "CN" | "SERIALNUMBER") {
            // Go only keeps the last value of these attributes.
            values = values.pop().into_iter().collect();
        }
        if !values.is_empty() {
            parts.push(values.join("+"));
        }
    }
    let known = |id: &str| ATTRIBUTES.iter().any(|(oid, _)| *oid == id);
    let mut others: Vec<String> = Vec::new();
    for attribute in name.iter_attributes() {
        let id = attribute.attr_type().to_id_string();
        if !known(&id)
            && let Ok(text) = attribute.as_str()
        {
            // Go re-encodes the value as UTF8String or PrintableString.
            let printable = |c: char| c.is_ascii_alphanumeric() || " '()+,-./:=?".contains(c);
            let tag: u8 = if text.chars().all(printable) { 0x13 } else { 0x0c };
            let mut der = vec![tag];
            match text.len() {
                short @ 0..=127 => der.push(u8::try_from(short).unwrap_or(127)),
                middle @ 128..=255 => der.extend([0x81, u8::try_from(middle).unwrap_or(255)]),
                long => {
                    let length = u16::try_from(long).unwrap_or(u16::MAX);
                    der.push(0x82);
                    der.extend(length.to_be_bytes());
                }
            }
            der.extend(text.as_bytes());
            others.push(format!("{id}=#{}", hexadecimal(&der)));
        }
    }
    parts.extend(others.into_iter().rev());
    parts.join(",")
}

fn escaped(value: &str) -> String {
    let last = value.chars().count().saturating_sub(1);
    let mut out = String::with_capacity(value.len());
    for (i, c) in value.chars().enumerate() {
        let special = match c {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' => true,
            '#' => i == 0,
            ' ' => i == 0 || i == last,
            _ => false,
        };
        if special {
            out.push('\\');
        }
        out.push(c);
    }
    out
}
