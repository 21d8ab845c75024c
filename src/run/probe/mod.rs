//! Checks below HTTP, one file each.

use std::time::Duration;

use tokio::net::TcpStream;

use crate::names::Reason;
use crate::outcome::Failure;
use crate::scenario::Pretty;

pub(super) mod tcp;
pub(super) mod tls;

/// `host:port`, taken apart; an IPv6 address stands in brackets.
fn host_and_port(address: &str) -> Result<(String, u16), Failure> {
    let bad = || Failure::new(Reason::Configuration, format!("`{address}` is not `host:port`"));
    let (host, port) = address.rsplit_once(':').ok_or_else(bad)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() {
        return Err(bad());
    }
    Ok((host.to_owned(), port.parse().map_err(|_| bad())?))
}

/// Resolves and connects, each of the addresses in turn.
async fn connect(host: &str, port: u16) -> Result<TcpStream, Failure> {
    let addresses = tokio::net::lookup_host((host, port))
        .await
        .map_err(|error| Failure::new(Reason::Dns, format!("`{host}` did not resolve: {error}")))?;
    let mut last = None;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some(format!("no connection to {address}: {error}")),
        }
    }
    Err(match last {
        Some(message) => Failure::new(Reason::Connect, message),
        None => Failure::new(Reason::Dns, format!("`{host}` has no address")),
    })
}

fn out_of_time(timeout: Duration) -> Failure {
    Failure::new(Reason::Timeout, format!("not done within {}", Pretty(timeout))).waited(timeout)
}

fn faster_than(limit: Option<&crate::diagnostic::At<Duration>>, took: Duration) -> Result<(), Failure> {
    match limit {
        Some(limit) if took >= limit.value => Err(Failure::new(Reason::Slow, "the answer was slow")
            .compared(format!("faster than {}", Pretty(limit.value)), Pretty(took).to_string())
            .waited(took)
            .at(limit.span)),
        _ => Ok(()),
    }
}
