//! Outbound heartbeat (dead man's switch): periodic calls to an external service, which raises an alarm when they stop.
//!
//! Invariant: an agent that does not work makes no calls, even if its process is still running.

use std::future::Future;
use std::time::Duration;

use reqwest::StatusCode;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::credential::Credential;

/// Maximum time for the check that the agent works.
const PROOF: Duration = Duration::from_secs(10);
/// Maximum duration of a call.
const CALL: Duration = Duration::from_secs(10);
/// Delays before further attempts, as long as the next call is not due.
const RETRIES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(10)];

/// `alerting.dead_mans_switch` of the agent configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboundHeartbeat {
    /// URL to call, which may contain a token.
    pub url: Credential,
    /// Interval of the calls.
    pub every: Duration,
}

/// Error of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
struct HeartbeatError {
    /// Reason, without the URL.
    why: String,
    /// Whether another attempt may succeed.
    again: bool,
}

/// Calls the service at once and then periodically until stopped, as long as `works` confirms that the agent works.
pub async fn run_outbound_heartbeat<W, P>(
    client: reqwest::Client,
    config: watch::Receiver<Option<OutboundHeartbeat>>,
    works: W,
    stop: CancellationToken,
) where
    W: Fn() -> P,
    P: Future<Output = Result<(), String>>,
{
    let call = |alive: OutboundHeartbeat| call(client.clone(), alive);
    let _ = stop.run_until_cancelled(calling(config, works, call)).await;
}

async fn calling<W, P, C, A>(mut config: watch::Receiver<Option<OutboundHeartbeat>>, works: W, call: C)
where
    W: Fn() -> P,
    P: Future<Output = Result<(), String>>,
    C: Fn(OutboundHeartbeat) -> A,
    A: Future<Output = Result<(), HeartbeatError>>,
{
    // Last logged problem, so that each is logged once.
    let mut response = None;
    loop {
        let alive = config.borrow_and_update().clone();
        let Some(alive) = alive else {
            match config.changed().await {
                Ok(()) => continue,
                Err(_) => return,
            }
        };
        let due = Instant::now() + alive.every;
        let one = async {
            let proof = tokio::time::timeout(PROOF, works()).await;
            let proof = proof.unwrap_or_else(|_| Err(format!("no store write within {}s", PROOF.as_secs())));
            match proof {
                Err(why) => Err(format!("not called, because the agent is not working: {why}")),
                Ok(()) => try_to_call(&alive, due, &call).await.map_err(|why| format!("call failed: {why}")),
            }
        };
        let changed = tokio::select! {
            ended = one => {
                match &ended {
                    Err(problem) if response.as_ref() != Some(problem) => tracing::error!("outbound heartbeat failed: {problem}"),
                    Ok(()) if response.is_some() => tracing::info!("outbound heartbeat delivered again"),
                    _ => {}
                }
                response = ended.err();
                tokio::select! {
                    () = tokio::time::sleep_until(due) => Ok(()),
                    changed = config.changed() => changed,
                }
            }
            changed = config.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

async fn try_to_call<C, A>(alive: &OutboundHeartbeat, due: Instant, call: &C) -> Result<(), String>
where
    C: Fn(OutboundHeartbeat) -> A,
    A: Future<Output = Result<(), HeartbeatError>>,
{
    for wait in RETRIES {
        match call(alive.clone()).await {
            Ok(()) => return Ok(()),
            Err(missed) if missed.again && Instant::now() + wait < due => tokio::time::sleep(wait).await,
            Err(missed) => return Err(missed.why),
        }
    }
    call(alive.clone()).await.map_err(|missed| missed.why)
}

/// Sends one GET request, which every service of this kind accepts.
async fn call(client: reqwest::Client, alive: OutboundHeartbeat) -> Result<(), HeartbeatError> {
    // A file that is being replaced is complete a moment later.
    let url = alive.url.url().await.map_err(|why| HeartbeatError { why, again: true })?;
    match client.get(url).timeout(CALL).send().await {
        Ok(answer) if answer.status().is_success() => Ok(()),
        Ok(answer) => {
            let status = answer.status();
            let passing = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
            Err(HeartbeatError {
                why: format!("status {status}"),
                again: status.is_server_error() || passing.contains(&status),
            })
        }
        Err(error) if error.is_timeout() => {
            Err(HeartbeatError { why: format!("no response within {}s", CALL.as_secs()), again: true })
        }
        Err(error) => {
            // The URL may contain a token.
            let error = error.without_url();
            let mut root: &dyn std::error::Error = &error;
            while let Some(source) = root.source() {
                root = source;
            }
            Err(HeartbeatError { why: root.to_string(), again: true })
        }
    }
}

#[cfg(test)]
mod tests;
