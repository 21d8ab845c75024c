//! TLS configuration of a module, and metrics about the certificates of the server.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::files::Files;
use super::metric;
use super::samples::Samples;
use super::tls_config::{Pem, Tls};
use crate::wire::certificate::{Certificate, RootExpiries};
use crate::wire::tls::{Settings, Trusted};
use crate::wire::{TlsSession, cipher_name, version_name};

/// Go's zero time as Unix time, which `blackbox_exporter` exports for an unverified chain.
const NO_TIME: f64 = -62_135_596_800.0;

/// Authorities of the system, read once.
#[derive(Debug)]
pub(super) struct Authorities {
    trusted: Trusted,
    expiries: Arc<RootExpiries>,
}

impl Authorities {
    /// Loads the authorities that the system trusts.
    pub(super) fn system(trusted: Trusted) -> Self {
        let mut expiries = RootExpiries::default();
        for certificate in &rustls_native_certs::load_native_certs().certs {
            expiries.add(certificate);
        }
        Self { trusted, expiries: Arc::new(expiries) }
    }
}

/// TLS configuration, ready for use.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) config: Arc<ClientConfig>,
    expiries: Arc<RootExpiries>,
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
        let mut known = RootExpiries::default();
        for certificate in &instead {
            known.add(certificate);
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
        let parsed: Vec<Certificate<'_>> = session.chain.iter().filter_map(|der| Certificate::parse(der)).collect();
        let earliest = parsed.iter().map(Certificate::not_after).min();
        let last_chain = if ready.verified { ready.expiries.of_chain(&parsed) } else { None };
        let leaf = parsed.first().map(|leaf| {
            [
                hexadecimal(&leaf.fingerprint()),
                distinguished_name(&leaf.issuer_attributes()),
                hexadecimal(leaf.serial()),
                distinguished_name(&leaf.subject_attributes()),
                leaf.dns_names().join(","),
            ]
        });
        // Go uses the names of the IANA registry too.
        Self {
            version: session.version.and_then(version_name).unwrap_or("unknown"),
            cipher: session.cipher.and_then(cipher_name).unwrap_or_else(|| "unknown".into()),
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
fn distinguished_name(name: &[(String, &str)]) -> String {
    let mut parts: Vec<String> = Vec::new();
    for (oid, short) in ATTRIBUTES {
        let of_kind = name.iter().filter(|(id, _)| id == oid);
        let mut values: Vec<String> = of_kind.map(|(_, text)| format!("{short}={}", escaped(text))).collect();
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
    for (id, text) in name {
        if !known(id) {
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
