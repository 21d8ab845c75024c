//! A TLS check: the handshake succeeds, the certificate is trusted and valid for the name, and its properties meet the
//! expectations.

use chrono::Utc;

use super::certificate::PeerCertificate;
use super::connection;
use super::context::{CheckContext, configuration, faster_than};
use super::result::CheckResult;
use crate::names::Reason;
use crate::outcome::Failure;
use crate::scenario::check::host_and_port;
use crate::scenario::check::tls::TlsCheck;

/// Runs the check.
pub async fn check(check: &TlsCheck, around: &CheckContext<'_>) -> CheckResult {
    let (shown, took) = match around.bounded(handshake(check, around)).await {
        Ok(done) => done,
        Err(failure) => return Err(failure).into(),
    };
    let now = Utc::now();
    let mut facts = check.expect.iter();
    let judged =
        facts.try_for_each(|fact| shown.judge(&fact.what, around.values, now).map_err(|failure| failure.at(fact.span)));
    let result = judged.and_then(|()| faster_than(check.faster_than.as_ref(), took));
    CheckResult { expires_at: Some(shown.expires_at), ..result.into() }
}

async fn handshake(check: &TlsCheck, around: &CheckContext<'_>) -> Result<PeerCertificate, Failure> {
    let address = around.values.fill(&check.address)?;
    let bad = || configuration("`tls`", &check.address, &format!("`{address}` is not `host:port`"));
    let (host, port) = host_and_port(&address, None).ok_or_else(bad)?;
    let config = around.tools.tls.config(&check.trust, |path| around.values.file(path))?;
    let stream = around.connect(&host, port).await?;
    let stream = connection::secure(stream, &host, config).await.map_err(|refused| refused.failure)?.stream;
    PeerCertificate::of(stream.get_ref().1)
        .ok_or_else(|| Failure::new(Reason::Certificate, "cannot parse the certificate"))
}
