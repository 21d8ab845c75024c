//! A ping: an ICMP echo request, repeated every second until one is answered.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::connection::broken;
use super::context::{CheckContext, configuration, faster_than};
use crate::names::Reason;
use crate::outcome::{Failure, RunId};
use crate::scenario::check::ping::{PingCheck, host};
use crate::wire::icmp::{EchoOptions, EchoRequest, EchoSocket, lacks_permission};
use crate::wire::{DialOptions, of_io};

/// Time to wait for a reply before the next request.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Runs the check.
pub async fn check(check: &PingCheck, around: &CheckContext<'_>) -> Result<(), Failure> {
    let text = around.values.fill(&check.host)?;
    let host = host(&text).map_err(|problem| configuration("`ping`", &check.host, &problem))?;
    let (took, _) = around.bounded(around.first(&host, 0, &DialOptions::default(), echo)).await?;
    faster_than(check.faster_than.as_ref(), took)
}

/// Returns the time from the first request to the first reply.
async fn echo(address: SocketAddr) -> Result<Duration, Failure> {
    let address = address.ip();
    let mut socket = EchoSocket::open(address, &EchoOptions::default()).map_err(|error| {
        if !lacks_permission(&error) {
            return broken(&error);
        }
        let message = "this process is not permitted to ping; allow its group with `sysctl -w net.ipv4.ping_group_range=\"0 2147483647\"`, or give it CAP_NET_RAW";
        Failure::new(Reason::Configuration, message)
    })?;
    socket.connect().await.map_err(|error| unreachable(address, &error))?;
    let token = RunId::new().0.into_bytes();
    let request = EchoRequest { id: [token[14], token[15]], payload: token.to_vec() };
    let mut buffer = EchoSocket::buffer(&request);
    let began = Instant::now();
    for sequence in 0..=u16::MAX {
        match socket.send(&socket.packet(&request, sequence)).await {
            Ok(()) => {}
            // The previous request may have caused an error that the socket only reports now.
            Err(error) if has_no_route(&error) => return Err(unreachable(address, &error)),
            Err(error) => return Err(broken(&error)),
        }
        // The reply to an earlier request counts too.
        if let Ok(reply) = tokio::time::timeout(RETRY_AFTER, socket.receive(&request, &mut buffer)).await {
            return reply.map(|_| began.elapsed()).map_err(|error| unreachable(address, &error));
        }
    }
    Err(Failure::new(Reason::Timeout, format!("no response from {address}")))
}

fn has_no_route(error: &std::io::Error) -> bool {
    use std::io::ErrorKind as E;
    matches!(error.kind(), E::NetworkUnreachable | E::HostUnreachable | E::ConnectionRefused)
}

fn unreachable(address: IpAddr, error: &std::io::Error) -> Failure {
    of_io(error, Reason::Connect, format!("no route to {address}: {error}"))
}
