//! A TLS check: the handshake succeeds, the certificate is trusted, for this name, and valid for long enough.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use rustls::pki_types::ServerName;

use super::{connect, faster_than, host_and_port, out_of_time};
use crate::names::Reason;
use crate::outcome::Failure;
use crate::run::{Values, tls};
use crate::scenario::{Pretty, TlsCheck};

/// What the check saw.
pub(in crate::run) struct Checked {
    /// Whether all held.
    pub result: Result<(), Failure>,
    /// When the first certificate of the chain expires.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Runs the check.
pub(in crate::run) async fn check(
    check: &TlsCheck,
    values: &Values,
    trusted: &tls::Trusted,
    timeout: Duration,
) -> Checked {
    let mut expires_at = None;
    let began = Instant::now();
    let result = match tokio::time::timeout(timeout, handshake(check, values, trusted)).await {
        Err(_) => Err(out_of_time(timeout)),
        Ok(Err(failure)) => Err(failure),
        Ok(Ok(der)) => {
            let took = began.elapsed();
            expires_at = tls::expiry(&der);
            long_enough(check, expires_at).and_then(|()| faster_than(check.faster_than.as_ref(), took))
        }
    };
    Checked { result, expires_at }
}

/// The first certificate of the chain, as DER.
async fn handshake(check: &TlsCheck, values: &Values, trusted: &tls::Trusted) -> Result<Vec<u8>, Failure> {
    let (host, port) = host_and_port(&values.fill(&check.address)?).map_err(|f| f.at(check.address.span))?;
    let config = trusted.config(&check.trust, values)?;
    let name = ServerName::try_from(host.clone())
        .map_err(|e| Failure::new(Reason::Configuration, format!("`{host}` is not a name for TLS: {e}")))?;
    let stream = connect(&host, port).await?;
    let stream =
        tokio_rustls::TlsConnector::from(config).connect(name, stream).await.map_err(
            |error| match tls::rustls_error(&error) {
                Some(error) => tls::failure(error),
                None => Failure::new(Reason::Tls, format!("the TLS handshake failed: {error}")),
            },
        )?;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    Ok(chain.first().map(|der| der.as_ref().to_vec()).unwrap_or_default())
}

fn long_enough(check: &TlsCheck, expires_at: Option<DateTime<Utc>>) -> Result<(), Failure> {
    let Some(limit) = &check.expires_after else { return Ok(()) };
    let Some(expires_at) = expires_at else {
        return Err(Failure::new(Reason::Certificate, "the certificate does not read").at(limit.span));
    };
    let left = expires_at - Utc::now();
    if left > TimeDelta::from_std(limit.value).unwrap_or(TimeDelta::MAX) {
        return Ok(());
    }
    Err(Failure::new(Reason::Certificate, "the certificate is about to expire")
        .compared(
            format!("valid for more than {}", Pretty(limit.value)),
            format!("{} left, until {}", Pretty(left.to_std().unwrap_or_default()), expires_at.format("%F %T UTC")),
        )
        .at(limit.span))
}
