//! A TCP check: connect, perhaps say something, perhaps hear something.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{connect, faster_than, host_and_port, out_of_time};
use crate::names::Reason;
use crate::outcome::Failure;
use crate::run::Values;
use crate::run::expect::{Filled, Seen};
use crate::scenario::TcpCheck;

/// So much of what the peer says is looked at.
const LARGEST_GREETING: usize = 64 << 10;

/// Runs the check.
pub(in crate::run) async fn check(check: &TcpCheck, values: &Values, timeout: Duration) -> Result<(), Failure> {
    let began = Instant::now();
    let mut heard = Vec::new();
    let receive =
        check.receive.as_ref().map(|(matcher, span)| Ok((Filled::new(matcher, values)?, *span))).transpose()?;
    let dialogue = async {
        let (host, port) = host_and_port(&values.fill(&check.address)?).map_err(|f| f.at(check.address.span))?;
        let mut stream = connect(&host, port).await?;
        if let Some(send) = &check.send {
            stream.write_all(values.fill(send)?.as_bytes()).await.map_err(|e| broken(&e))?;
        }
        let Some((matcher, _)) = &receive else { return Ok(()) };
        let mut buffer = [0_u8; 4096];
        while heard.len() < LARGEST_GREETING {
            match stream.read(&mut buffer).await.map_err(|e| broken(&e))? {
                0 => break,
                n => heard.extend_from_slice(&buffer[..n]),
            }
            if matcher.holds(&said(&heard)) {
                return Ok(());
            }
        }
        Ok(())
    };
    let ended = tokio::time::timeout(timeout, dialogue).await;
    let took = began.elapsed();
    if let (Some((matcher, span)), Ok(Ok(())) | Err(_)) = (&receive, &ended) {
        let seen = said(&heard);
        if !matcher.holds(&seen) {
            let reason = if ended.is_err() { Reason::Timeout } else { Reason::Assertion };
            return Err(Failure::new(reason, "the peer did not say what was expected")
                .compared(matcher.show(), if heard.is_empty() { "nothing".into() } else { seen.show() })
                .waited(took)
                .at(*span));
        }
        return faster_than(check.faster_than.as_ref(), took);
    }
    ended.map_err(|_| out_of_time(timeout))??;
    faster_than(check.faster_than.as_ref(), took)
}

fn said(bytes: &[u8]) -> Seen {
    Seen::text(String::from_utf8_lossy(bytes))
}

fn broken(error: &std::io::Error) -> Failure {
    Failure::new(Reason::Protocol, format!("the connection broke: {error}"))
}
