//! Certificate and parameters of a TLS session, and their comparison with the expectations.

use chrono::{DateTime, TimeDelta, Utc};
use rustls::pki_types::CertificateDer;
use rustls::{CipherSuite, ProtocolVersion};
use serde_json::Value as Json;

use crate::names::Reason;
use crate::outcome::Failure;
use crate::scenario::HumanDuration;
use crate::scenario::check::certificate::{CertificateExpectation, CertificateFact};
use crate::values::Values;
use crate::values::expect::{Actual, ResolvedMatcher};
use crate::wire::certificate::Certificate;
use crate::wire::{TlsSession, cipher_name, version_name};

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
    /// Reads the properties of a session. Fails if a certificate cannot be parsed.
    pub fn of(session: &TlsSession) -> Result<Self, Failure> {
        let agreed = session.version.zip(session.cipher);
        agreed
            .and_then(|(version, cipher)| Self::new(&session.chain, version, cipher))
            .ok_or_else(|| Failure::new(Reason::Certificate, "cannot parse the certificate"))
    }

    /// Reads the properties of a chain that starts with the server's own certificate. Returns `None` if a certificate
    /// cannot be parsed.
    pub fn new(chain: &[CertificateDer<'_>], version: ProtocolVersion, cipher: CipherSuite) -> Option<Self> {
        let parsed = chain.iter().map(|der| Certificate::parse(der)).collect::<Option<Vec<_>>>()?;
        let first = parsed.iter().min_by_key(|certificate| certificate.not_after())?;
        let leaf = parsed.first()?;
        let subject = first.subject();
        Some(Self {
            expires_at: first.expires_at()?,
            expires_first: if subject.is_empty() { first.names().join(", ") } else { subject },
            names: leaf.names(),
            subject: leaf.subject(),
            issuer: leaf.issuer(),
            protocol: version_name(version).map_or_else(|| format!("{version:?}"), ToOwned::to_owned),
            cipher: cipher_name(cipher).unwrap_or_else(|| format!("{cipher:?}")),
        })
    }

    /// Checks all expectations on the certificate now.
    pub fn meets(&self, expect: &[CertificateExpectation], values: &Values) -> Result<(), Failure> {
        let now = Utc::now();
        let mut expect = expect.iter();
        expect.try_for_each(|one| self.judge(&one.what, values, now).map_err(|failure| failure.at(one.span)))
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
