//! Certificate and parameters of a TLS session, and their comparison with the expectations.

use chrono::{DateTime, TimeDelta, Utc};
use rustls::pki_types::CertificateDer;
use rustls::{CipherSuite, ClientConnection, ProtocolVersion};
use serde_json::Value as Json;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::X509Certificate;

use crate::names::Reason;
use crate::outcome::Failure;
use crate::scenario::HumanDuration;
use crate::scenario::check::certificate::CertificateFact;
use crate::values::Values;
use crate::values::expect::{Actual, ResolvedMatcher};

/// Certificate chain and session parameters that a server presented.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerCertificate {
    /// Earliest expiry of the certificates in the chain.
    pub expires_at: DateTime<Utc>,
    /// Subject of the certificate that expires first.
    pub expires_first: String,
    names: Vec<String>,
    subject: String,
    issuer: String,
    protocol: String,
    cipher: String,
}

impl PeerCertificate {
    /// Reads the properties of an established session. Returns `None` if a certificate cannot be parsed.
    pub fn of(session: &ClientConnection) -> Option<Self> {
        let suite = session.negotiated_cipher_suite()?.suite();
        Self::new(session.peer_certificates()?, session.protocol_version()?, suite)
    }

    /// Reads the properties of a chain that starts with the server's own certificate. Returns `None` if a certificate
    /// cannot be parsed.
    pub fn new(chain: &[CertificateDer<'_>], version: ProtocolVersion, cipher: CipherSuite) -> Option<Self> {
        let (expires_at, expires_first) = chain.iter().map(expiry).collect::<Option<Vec<_>>>()?.into_iter().min()?;
        let (_, leaf) = x509_parser::parse_x509_certificate(chain.first()?).ok()?;
        Some(Self {
            expires_at,
            expires_first,
            names: names(&leaf),
            subject: leaf.subject().to_string(),
            issuer: leaf.issuer().to_string(),
            protocol: match version {
                ProtocolVersion::TLSv1_2 => "TLS 1.2".to_owned(),
                ProtocolVersion::TLSv1_3 => "TLS 1.3".to_owned(),
                other => format!("{other:?}"),
            },
            // IANA names the suites of TLS 1.3 without the version.
            cipher: format!("{cipher:?}").replacen("TLS13_", "TLS_", 1),
        })
    }

    /// Checks one expected property of the certificate at time `now`.
    pub fn judge(&self, fact: &CertificateFact, values: &Values, now: DateTime<Utc>) -> Result<(), Failure> {
        let text = |text: &str| Actual::text(text);
        let (matcher, what, seen) = match fact {
            CertificateFact::ExpiresAfter(limit) => return self.long_enough(*limit, now),
            CertificateFact::Names(matcher) => {
                let names = self.names.iter().map(|name| Json::from(name.as_str())).collect();
                (matcher, "the names of the certificate", Actual::Many(names))
            }
            CertificateFact::Subject(matcher) => (matcher, "the subject of the certificate", text(&self.subject)),
            CertificateFact::Issuer(matcher) => (matcher, "the issuer of the certificate", text(&self.issuer)),
            CertificateFact::Protocol(matcher) => (matcher, "the version of TLS", text(&self.protocol)),
            CertificateFact::Cipher(matcher) => (matcher, "the cipher suite", text(&self.cipher)),
        };
        let filled = ResolvedMatcher::new(matcher, values)?;
        if filled.holds(&seen) {
            return Ok(());
        }
        let reason = match fact {
            CertificateFact::Protocol(_) | CertificateFact::Cipher(_) => Reason::Tls,
            _ => Reason::Certificate,
        };
        Err(Failure::new(reason, what).compared(filled.show(), seen.show()))
    }

    fn long_enough(&self, limit: std::time::Duration, now: DateTime<Utc>) -> Result<(), Failure> {
        let left = self.expires_at - now;
        if left > TimeDelta::from_std(limit).unwrap_or(TimeDelta::MAX) {
            return Ok(());
        }
        Err(Failure::new(Reason::Certificate, format!("the certificate of {} is about to expire", self.expires_first))
            .compared(
                format!("valid for more than {}", HumanDuration(limit)),
                format!(
                    "{} left, until {}",
                    HumanDuration(left.to_std().unwrap_or_default()),
                    self.expires_at.format("%F %T UTC")
                ),
            ))
    }
}

/// Returns the expiry and the subject of a certificate.
fn expiry(der: &CertificateDer<'_>) -> Option<(DateTime<Utc>, String)> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    let at = DateTime::from_timestamp(certificate.validity().not_after.timestamp(), 0)?;
    let whose = certificate.subject().to_string();
    let whose = if whose.is_empty() { names(&certificate).join(", ") } else { whose };
    Some((at, whose))
}

/// Returns the DNS names and IP addresses that a certificate is valid for.
fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => <[u8; 4]>::try_from(*bytes)
            .map(|bytes| std::net::Ipv4Addr::from(bytes).to_string())
            .or_else(|_| <[u8; 16]>::try_from(*bytes).map(|bytes| std::net::Ipv6Addr::from(bytes).to_string()))
            .ok(),
        _ => None,
    };
    extension.value.general_names.iter().filter_map(name).collect()
}
