//! X.509 certificates (RFC 5280): what a certificate and a chain say. Nothing is verified here.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use chrono::{DateTime, Utc};
use rustls::pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};
use x509_parser::x509::{X509Name, X509Version};

/// A parsed certificate.
#[derive(Debug)]
pub struct Certificate<'a> {
    der: &'a [u8],
    parsed: X509Certificate<'a>,
}

/// Expiry of the trusted roots, by their encoded subjects.
#[derive(Debug, Clone, Default)]
pub struct RootExpiries(HashMap<Vec<u8>, i64>);

impl<'a> Certificate<'a> {
    /// Parses a certificate (DER).
    pub fn parse(der: &'a [u8]) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(der).ok()?;
        Some(Self { der, parsed })
    }

    /// Returns the beginning of the validity, as Unix time.
    pub fn not_before(&self) -> i64 {
        self.parsed.validity().not_before.timestamp()
    }

    /// Returns the end of the validity, as Unix time.
    pub fn not_after(&self) -> i64 {
        self.parsed.validity().not_after.timestamp()
    }

    /// Returns the end of the validity. `None` if it is outside of the range of times.
    pub fn expires_at(&self) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp(self.not_after(), 0)
    }

    /// Returns the distinguished name of the subject, such as `C=DE, CN=www.example.com`.
    pub fn subject(&self) -> String {
        self.parsed.subject().to_string()
    }

    /// Returns the distinguished name of the issuer.
    pub fn issuer(&self) -> String {
        self.parsed.issuer().to_string()
    }

    /// Returns the attributes of the subject: their object identifiers and values. Values that are not text are absent.
    pub fn subject_attributes(&self) -> Vec<(String, &str)> {
        attributes(self.parsed.subject())
    }

    /// Returns the attributes of the issuer, as [`Self::subject_attributes`] does.
    pub fn issuer_attributes(&self) -> Vec<(String, &str)> {
        attributes(self.parsed.issuer())
    }

    /// Returns whether this certificate names another one as its issuer.
    pub fn is_issued_by(&self, other: &Certificate<'_>) -> bool {
        self.parsed.issuer().as_raw() == other.parsed.subject().as_raw()
    }

    /// Returns whether this is an X.509 version 1 certificate, which has no list of names.
    pub fn is_version_1(&self) -> bool {
        self.parsed.version() == X509Version::V1
    }

    /// Returns the serial number without leading zeros.
    pub fn serial(&self) -> &[u8] {
        let serial = self.parsed.raw_serial();
        &serial[serial.iter().take_while(|byte| **byte == 0).count()..]
    }

    /// Returns the SHA-256 digest of the certificate.
    pub fn fingerprint(&self) -> [u8; 32] {
        Sha256::digest(self.der).into()
    }

    /// Returns the DNS names that the certificate is valid for.
    pub fn dns_names(&self) -> Vec<&str> {
        let name = |name: &GeneralName<'a>| match name {
            GeneralName::DNSName(name) => Some(*name),
            _ => None,
        };
        self.general_names().iter().filter_map(name).collect()
    }

    /// Returns the DNS names and IP addresses that the certificate is valid for.
    pub fn names(&self) -> Vec<String> {
        let name = |name: &GeneralName<'_>| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(bytes) => <[u8; 4]>::try_from(*bytes)
                .map(|bytes| Ipv4Addr::from(bytes).to_string())
                .or_else(|_| <[u8; 16]>::try_from(*bytes).map(|bytes| Ipv6Addr::from(bytes).to_string()))
                .ok(),
            _ => None,
        };
        self.general_names().iter().filter_map(name).collect()
    }

    fn general_names(&self) -> &[GeneralName<'a>] {
        match self.parsed.subject_alternative_name() {
            Ok(Some(extension)) => &extension.value.general_names,
            _ => &[],
        }
    }
}

impl RootExpiries {
    /// Adds a trusted root. One that cannot be parsed is ignored, because it cannot issue anything either.
    pub fn add(&mut self, der: &[u8]) {
        if let Some(root) = Certificate::parse(der) {
            self.0.insert(root.parsed.subject().as_raw().to_vec(), root.not_after());
        }
    }

    /// Returns the expiry of a verified chain as Unix time, which is the earliest of the certificates from the server's
    /// own to its root. `sent` has the certificates of the server, its own first.
    pub fn of_chain(&self, sent: &[Certificate<'_>]) -> Option<i64> {
        let mut at = sent.first()?;
        let mut expiry = at.not_after();
        for _ in 0..sent.len() {
            if let Some(root) = self.0.get(at.parsed.issuer().as_raw()) {
                return Some(expiry.min(*root));
            }
            let Some(next) = sent.iter().find(|other| at.is_issued_by(other)) else { break };
            if std::ptr::eq(next, at) {
                break;
            }
            at = next;
            expiry = expiry.min(at.not_after());
        }
        Some(expiry)
    }
}

/// Returns the expiry of a certificate (DER).
pub fn expiry(der: &[u8]) -> Option<DateTime<Utc>> {
    Certificate::parse(der)?.expires_at()
}

/// Returns the earliest expiry of the certificates in a chain. Ignores those that cannot be parsed.
pub fn earliest_expiry(chain: &[CertificateDer<'_>]) -> Option<DateTime<Utc>> {
    chain.iter().filter_map(|der| expiry(der)).min()
}

fn attributes<'n>(name: &'n X509Name<'_>) -> Vec<(String, &'n str)> {
    let attributes = name.iter_attributes();
    attributes.filter_map(|one| Some((one.attr_type().to_id_string(), one.as_str().ok()?))).collect()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SerialNumber};

    use super::*;

    #[test]
    fn a_certificate_says_what_it_was_made_with() {
        let names = ["a.example".to_owned(), "192.0.2.1".to_owned(), "2001:db8::1".to_owned()];
        let mut made = CertificateParams::new(names).unwrap();
        made.distinguished_name.push(DnType::CommonName, "a test");
        made.serial_number = Some(SerialNumber::from_slice(&[0, 7, 9]));
        made.not_after = rcgen::date_time_ymd(2031, 2, 3);
        let made = made.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let chain = [made.der().clone(), CertificateDer::from(vec![1, 2, 3])];
        let certificate = Certificate::parse(&chain[0]).unwrap();
        assert_eq!(certificate.names(), ["a.example", "192.0.2.1", "2001:db8::1"]);
        assert_eq!(certificate.dns_names(), ["a.example"]);
        assert_eq!((certificate.subject(), certificate.issuer()), ("CN=a test".into(), "CN=a test".into()));
        assert_eq!(certificate.subject_attributes(), [("2.5.4.3".to_owned(), "a test")]);
        assert_eq!(certificate.serial(), [7, 9]);
        assert!(certificate.is_issued_by(&certificate) && !certificate.is_version_1());
        assert_eq!(earliest_expiry(&chain), certificate.expires_at());
        assert_eq!(expiry(&chain[0]).unwrap().to_rfc3339(), "2031-02-03T00:00:00+00:00");
        assert!(Certificate::parse(&chain[1]).is_none());
        let mut roots = RootExpiries::default();
        assert_eq!(roots.of_chain(&[]), None);
        roots.add(&chain[0]);
        assert_eq!(roots.of_chain(&[certificate]), Some(1_927_843_200));
    }
}
