//! A TLS check: the handshake succeeds, the certificate is trusted and valid for the name, and its properties meet the
//! expectations.

use super::certificate::PeerCertificate;
use super::connection_plan::ConnectionPlan;
use super::context::{CheckContext, configuration, faster_than};
use super::result::CheckResult;
use crate::names::Reason;
use crate::outcome::Failure;
use crate::scenario::check::host_and_port;
use crate::scenario::check::tls::TlsCheck;
use crate::wire::{AlpnOffer, OpenError, TlsSession};

/// Runs the check.
pub async fn check(check: &TlsCheck, around: &CheckContext<'_>) -> CheckResult {
    // A refused connection is a result too, because it has the certificates that were presented.
    let (session, took) = match around.bounded(async { Ok(handshake(check, around).await) }).await {
        Ok((Ok(session), took)) => (session, took),
        Ok((Err(refused), _)) => return refused.into(),
        Err(failure) => return Err(failure).into(),
    };
    let shown = match PeerCertificate::of(&session) {
        Ok(shown) => shown,
        Err(failure) => return Err(failure).into(),
    };
    let judged = shown.meets(&check.expect, around.values);
    let result = judged.and_then(|()| faster_than(check.faster_than.as_ref(), took));
    CheckResult { expires_at: Some(shown.expires_at), ..result.into() }
}

async fn handshake(check: &TlsCheck, around: &CheckContext<'_>) -> Result<TlsSession, OpenError> {
    let address = around.values.fill(&check.address)?;
    let bad = || configuration("`tls`", &check.address, &format!("`{address}` is not `host:port`"));
    let (host, port) = host_and_port(&address, None).ok_or_else(bad)?;
    let plan = ConnectionPlan::new(&check.connection, around)?;
    let opened = around.open(&plan.tls_route(&host, port, AlpnOffer::Nothing)).await?;
    Ok(opened.tls.ok_or_else(|| Failure::new(Reason::Tls, "the connection has no TLS"))?)
}
