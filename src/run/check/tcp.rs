//! A TCP check: connects and optionally starts TLS, sends data and checks the reply.

use std::time::Instant;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::connection::{Stream, broken, secure};
use super::context::{CheckContext, configuration, faster_than};
use super::starttls;
use crate::names::Reason;
use crate::outcome::Failure;
use crate::scenario::check::host_and_port;
use crate::scenario::check::tcp::TcpCheck;
use crate::values::expect::{Actual, ResolvedMatcher};

/// Maximum number of bytes of the peer's reply that are read.
const LARGEST_GREETING: usize = 64 << 10;

/// Runs the check.
pub async fn check(check: &TcpCheck, around: &CheckContext<'_>) -> Result<(), Failure> {
    let values = around.values;
    let began = Instant::now();
    let mut heard = Vec::new();
    let receive =
        check.receive.as_ref().map(|one| Ok((ResolvedMatcher::new(&one.matcher, values)?, one.span))).transpose()?;
    // Whether the connection got far enough that the reply itself is at fault.
    let mut listening = false;
    let dialogue = async {
        let mut stream = open(check, around).await?;
        if let Some(send) = &check.send {
            stream.write_all(values.fill(send)?.as_bytes()).await.map_err(|e| broken(&e))?;
            stream.flush().await.map_err(|e| broken(&e))?;
        }
        let Some((matcher, _)) = &receive else { return Ok(()) };
        listening = true;
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
        return faster_than(check.faster_than.as_ref(), took);
    }
    ended.map_err(|_| around.out_of_time())??;
    faster_than(check.faster_than.as_ref(), took)
}

async fn open(check: &TcpCheck, around: &CheckContext<'_>) -> Result<Stream, Failure> {
    let address = around.values.fill(&check.address)?;
    let bad = || configuration("`tcp`", &check.address, &format!("`{address}` is not `host:port`"));
    let (host, port) = host_and_port(&address, None).ok_or_else(bad)?;
    let Some(protocol) = check.starttls else { return Ok(Box::new(around.connect(&host, port).await?)) };
    let config = around.tools.tls.config(&check.trust, |path| around.values.file(path))?;
    let mut stream = around.connect(&host, port).await?;
    starttls::negotiate(&mut stream, protocol, &host).await?;
    Ok(Box::new(secure(stream, &host, config).await.map_err(|refused| refused.failure)?.stream))
}

fn said(bytes: &[u8]) -> Actual {
    Actual::text(String::from_utf8_lossy(bytes))
}
