//! A TCP check: connects and optionally starts TLS, sends data and checks the reply and the certificate.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::certificate::PeerCertificate;
use super::connection::broken;
use super::connection_plan::ConnectionPlan;
use super::context::{CheckContext, configuration, faster_than};
use super::result::CheckResult;
use crate::names::Reason;
use crate::outcome::Failure;
use crate::scenario::check::host_and_port;
use crate::scenario::check::tcp::TcpCheck;
use crate::values::expect::{Actual, ResolvedMatcher};
use crate::wire::certificate::earliest_expiry;
use crate::wire::{AlpnOffer, OpenError, Opened, Route};

/// Maximum number of bytes of the peer's reply that are read.
const LARGEST_GREETING: usize = 64 << 10;

/// Certificate that the peer presented.
#[derive(Default)]
struct Presented {
    /// Earliest expiry in the chain, whether it was accepted or not.
    expires_at: Option<DateTime<Utc>>,
    /// Certificate of an accepted chain.
    accepted: Option<PeerCertificate>,
}

/// Runs the check.
pub async fn check(check: &TcpCheck, around: &CheckContext<'_>) -> CheckResult {
    let mut presented = Presented::default();
    let result = converse(check, around, &mut presented).await.and_then(|took| {
        if let Some(certificate) = &presented.accepted {
            certificate.meets(&check.expect, around.values)?;
        }
        faster_than(check.faster_than.as_ref(), took)
    });
    CheckResult { expires_at: presented.expires_at, ..result.into() }
}

/// Connects, sends data and waits for the reply. Returns the duration.
async fn converse(check: &TcpCheck, around: &CheckContext<'_>, presented: &mut Presented) -> Result<Duration, Failure> {
    let values = around.values;
    let began = Instant::now();
    let mut heard = Vec::new();
    let receive =
        check.receive.as_ref().map(|one| Ok((ResolvedMatcher::new(&one.matcher, values)?, one.span))).transpose()?;
    // Whether the connection got far enough that the reply itself is at fault.
    let mut listening = false;
    let dialogue = async {
        let opened = open(check, around).await.map_err(|refused| {
            presented.expires_at = earliest_expiry(&refused.chain);
            refused.failure
        })?;
        if let Some(session) = &opened.tls {
            let certificate = PeerCertificate::of(session)?;
            presented.expires_at = Some(certificate.expires_at);
            presented.accepted = Some(certificate);
        }
        let mut stream = opened.stream;
        if let Some(send) = &check.send {
            stream.write_all(values.fill(send)?.as_bytes()).await.map_err(|e| broken(&e))?;
            stream.flush().await.map_err(|e| broken(&e))?;
        }
        let Some((matcher, _)) = &receive else { return Ok(()) };
        listening = true;
        while heard.len() < LARGEST_GREETING {
            heard.reserve(4096);
            if stream.read_buf(&mut heard).await.map_err(|e| broken(&e))? == 0 {
                break;
            }
            if matcher.holds(&said(&heard)) {
                return Ok(());
            }
        }
        Ok(())
    };
    let ended = tokio::time::timeout(around.timeout, dialogue).await;
    let took = began.elapsed();
    if let (Some((matcher, span)), true, Ok(Ok(())) | Err(_)) = (&receive, listening, &ended) {
        let seen = said(&heard);
        if !matcher.holds(&seen) {
            let reason = if ended.is_err() { Reason::Timeout } else { Reason::Assertion };
            return Err(Failure::new(reason, "the expected data was not received")
                .compared(matcher.show(), if heard.is_empty() { "nothing".into() } else { seen.show() })
                .waited(took)
                .at(*span));
        }
        return Ok(took);
    }
    ended.map_err(|_| around.out_of_time())??;
    Ok(took)
}

async fn open(check: &TcpCheck, around: &CheckContext<'_>) -> Result<Opened, OpenError> {
    let address = around.values.fill(&check.address)?;
    let bad = || configuration("`tcp`", &check.address, &format!("`{address}` is not `host:port`"));
    let (host, port) = host_and_port(&address, None).ok_or_else(bad)?;
    let plan = ConnectionPlan::new(&check.connection, around)?;
    let route = match check.starttls {
        None => plan.route(&host, port),
        starttls => Route { starttls, ..plan.tls_route(&host, port, AlpnOffer::Nothing) },
    };
    around.open(&route).await
}

fn said(bytes: &[u8]) -> Actual {
    Actual::text(String::from_utf8_lossy(bytes))
}
