//! An NTP check: one request to a time server, repeated until a response arrives.

use std::net::SocketAddr;
use std::time::Duration;

use chrono::TimeDelta;

use super::connection_plan::ConnectionPlan;
use super::context::{CheckContext, configuration, faster_than};
use crate::outcome::{Failure, RunId};
use crate::scenario::check::ntp::{NtpCheck, address};
use crate::values::expect::Actual;
use crate::wire::ntp::NtpRequest;
use crate::wire::udp::PacketSocket;

/// Time to wait for a response before the request is sent again.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Runs the check.
pub async fn check(check: &NtpCheck, around: &CheckContext<'_>) -> Result<(), Failure> {
    let text = around.values.fill(&check.address)?;
    let (host, port) = address(&text).map_err(|problem| configuration("`ntp`", &check.address, &problem))?;
    let dial = ConnectionPlan::new(&check.connection, around)?.dial_options(port);
    let (offset, took) = around.bounded(around.first(&host, port, &dial, ask)).await?;
    let seconds = (offset.abs().as_seconds_f64() * 1e6).round() / 1e6;
    around.held(check.offset.as_ref(), "the offset of its clock, in seconds", &Actual::One(seconds.into()))?;
    faster_than(check.faster_than.as_ref(), took)
}

/// Returns the offset by which the server's clock is ahead of the local one.
async fn ask(address: SocketAddr) -> Result<TimeDelta, Failure> {
    let socket = PacketSocket::connect(address, None).await?;
    let mut buffer = [0_u8; 512];
    loop {
        let token = RunId::new().0.as_bytes()[8..].try_into().expect("half of sixteen bytes");
        let request = NtpRequest::new(token);
        socket.send(&request.packet()).await?;
        let response = socket.receive(&mut buffer, |packet| request.offset(packet));
        if let Ok(offset) = tokio::time::timeout(RETRY_AFTER, response).await {
            return offset?;
        }
    }
}
