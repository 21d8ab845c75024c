//! The icmp prober: one echo request.

use std::time::{Duration, Instant};

use super::metric;
use super::module::Icmp;
use super::permit::Target;
use super::probe::{Probe, Verdict};
use crate::wire::icmp::{EchoOptions, EchoRequest, EchoSocket};

/// Payload that is sent without `payload_size`, of the same length as in `blackbox_exporter`.
const PAYLOAD: &[u8; 28] = b"wachta ICMP echo request 001";

/// Probes a host.
pub(super) async fn icmp(probe: &mut Probe<'_>, icmp: &Icmp, time: Duration) -> Verdict {
    for phase in [metric::RESOLVE, metric::SETUP, metric::RTT] {
        probe.samples.add_phase(metric::ICMP_DURATION, phase, 0.0);
    }
    let done = tokio::time::timeout(time, echo(probe, icmp)).await;
    done.unwrap_or_else(|_| Err(probe.stop("Timeout reading from socket", &[])))
}

async fn echo(probe: &mut Probe<'_>, icmp: &Icmp) -> Verdict {
    let host = probe.target.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(probe.target);
    let (address, took) = probe.choose(icmp.addresses, &Target { scheme: "icmp", host, port: None }).await?;
    probe.samples.add_phase(metric::ICMP_DURATION, metric::RESOLVE, took.as_secs_f64());
    let began = Instant::now();
    let options = EchoOptions { source: icmp.source, ttl: icmp.ttl, dont_fragment: icmp.dont_fragment };
    let socket = match EchoSocket::open(address, &options) {
        Ok(socket) => socket,
        Err(error) => {
            let help = "give the right by net.ipv4.ping_group_range or CAP_NET_RAW";
            return Err(probe.stop("Error listening to socket", &[("err", &error), ("help", &help)]));
        }
    };
    let [.., a, b, c, d] = uuid::Uuid::now_v7().into_bytes();
    let mut payload = PAYLOAD.to_vec();
    if icmp.payload_size > 0 {
        payload.resize(usize::from(icmp.payload_size), 0);
    }
    let (request, sequence) = (EchoRequest { id: [a, b], payload }, u16::from_be_bytes([c, d]));
    let packet = socket.packet(&request, sequence);
    probe.samples.add_phase(metric::ICMP_DURATION, metric::SETUP, began.elapsed().as_secs_f64());
    probe.log.info("Writing out packet", &[("raw", &socket.is_raw())]);
    let began = Instant::now();
    let sent = socket.send(&packet).await;
    sent.map_err(|error| probe.stop("Error writing to socket", &[("err", &error)]))?;
    let mut buffer = EchoSocket::buffer(&request);
    let reply = loop {
        let received = socket.receive(&request, &mut buffer).await;
        let reply = received.map_err(|error| probe.stop("Error reading from socket", &[("err", &error)]))?;
        if reply.sequence == sequence {
            break reply;
        }
    };
    probe.samples.add_phase(metric::ICMP_DURATION, metric::RTT, began.elapsed().as_secs_f64());
    if let Some(hops) = reply.hops {
        probe.samples.set(metric::ICMP_REPLY_HOP_LIMIT, f64::from(hops));
    }
    probe.log.info("Found matching reply packet", &[]);
    Ok(true)
}
