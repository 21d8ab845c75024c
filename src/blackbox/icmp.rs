//! The icmp prober: one echo request. Uses an unprivileged socket if the system allows it
//! (`net.ipv4.ping_group_range`), otherwise a raw socket.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::metric;
use super::module::Icmp;
use super::permit::Target;
use super::probe::{Probe, Verdict};

/// Payload that is sent without `payload_size`, of the same length as in `blackbox_exporter`.
const PAYLOAD: &[u8; 28] = b"wachta ICMP echo request 001";
/// Sizes of the IPv4 header without options and of the echo header, in bytes.
const IP_HEADER: usize = 20;
const ECHO_HEADER: usize = 8;

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
    let socket = match open(icmp, address) {
        Ok(socket) => socket,
        Err(error) => {
            let help = "give the right by net.ipv4.ping_group_range or CAP_NET_RAW";
            return Err(probe.stop("Error listening to socket", &[("err", &error), ("help", &help)]));
        }
    };
    let bytes = uuid::Uuid::now_v7().into_bytes();
    let (id, sequence) = ([bytes[12], bytes[13]], [bytes[14], bytes[15]]);
    let mut payload = PAYLOAD.to_vec();
    if icmp.payload_size > 0 {
        payload.resize(usize::from(icmp.payload_size), 0);
    }
    let mut packet = vec![if address.is_ipv4() { 8 } else { 128 }, 0, 0, 0, id[0], id[1], sequence[0], sequence[1]];
    packet.extend(&payload);
    if address.is_ipv4() {
        let sum = checksum(&packet);
        packet[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    if let (IpAddr::V4(destination), true) = (address, icmp.dont_fragment) {
        packet = unfragmented(icmp, destination, &packet);
    }
    probe.samples.add_phase(metric::ICMP_DURATION, metric::SETUP, began.elapsed().as_secs_f64());
    probe.log.info("Writing out packet", &[("raw", &socket.raw)]);
    let began = Instant::now();
    let sent = socket.socket.send_to(&packet, SocketAddr::new(address, 0)).await;
    sent.map_err(|error| probe.stop("Error writing to socket", &[("err", &error)]))?;
    let mut buffer = vec![0; 65_535];
    loop {
        let readable = Interest::READABLE;
        let received = socket.socket.async_io(readable, || receive(&socket.socket, &mut buffer)).await;
        let received = received.map_err(|error| probe.stop("Error reading from socket", &[("err", &error)]))?;
        let mut reply = buffer.get(..received.length).unwrap_or_default();
        if socket.raw && address.is_ipv4() {
            // A raw IPv4 socket also returns the IP header.
            let header = usize::from(reply.first().copied().unwrap_or(0) & 15) * 4;
            reply = reply.get(header..).unwrap_or_default();
        }
        let wanted = if address.is_ipv4() { 0 } else { 129 };
        let Some((head, echoed)) = reply.split_at_checked(ECHO_HEADER) else { continue };
        let own = head[0] == wanted && head[6..8] == sequence && (!socket.raw || head[4..6] == id);
        if !own || echoed != payload || received.from != Some(address) {
            continue;
        }
        probe.samples.add_phase(metric::ICMP_DURATION, metric::RTT, began.elapsed().as_secs_f64());
        if let Some(hops) = received.hops {
            probe.samples.set(metric::ICMP_REPLY_HOP_LIMIT, f64::from(hops));
        }
        probe.log.info("Found matching reply packet", &[]);
        return Ok(true);
    }
}

struct Open {
    /// An ICMP socket. The type is `UdpSocket` only because the standard library has no other type for datagram
    /// sockets.
    socket: UdpSocket,
    raw: bool,
}

fn open(icmp: &Icmp, address: IpAddr) -> io::Result<Open> {
    let (domain, protocol) =
        if address.is_ipv4() { (Domain::IPV4, Protocol::ICMPV4) } else { (Domain::IPV6, Protocol::ICMPV6) };
    let whole = icmp.dont_fragment && address.is_ipv4();
    // The IP header can only be set on a raw socket.
    let unprivileged = if whole { None } else { Socket::new(domain, Type::DGRAM, Some(protocol)).ok() };
    let raw = unprivileged.is_none();
    let socket = match unprivileged {
        Some(socket) => socket,
        None => Socket::new(domain, Type::RAW, Some(protocol))?,
    };
    socket.set_nonblocking(true)?;
    if whole {
        socket.set_header_included_v4(true)?;
    }
    if let Some(source) = icmp.source {
        socket.bind(&SockAddr::from(SocketAddr::new(source, 0)))?;
    }
    if address.is_ipv4() {
        setsockopt(&socket, sockopt::Ipv4RecvTtl, &true)?;
        if icmp.ttl > 0 {
            socket.set_ttl_v4(icmp.ttl.into())?;
        }
    } else {
        setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true)?;
        if icmp.ttl > 0 {
            socket.set_unicast_hops_v6(icmp.ttl.into())?;
        }
    }
    Ok(Open { socket: UdpSocket::from_std(socket.into())?, raw })
}

struct Received {
    length: usize,
    from: Option<IpAddr>,
    hops: Option<i32>,
}

fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Received> {
    let mut parts = [io::IoSliceMut::new(buffer)];
    let mut control = nix::cmsg_space!(libc_int, libc_int);
    let message =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::MSG_DONTWAIT)?;
    let hops = message.cmsgs()?.find_map(|part| match part {
        ControlMessageOwned::Ipv4Ttl(hops) | ControlMessageOwned::Ipv6HopLimit(hops) => Some(hops),
        _ => None,
    });
    let from = message.address.as_ref().and_then(|from| {
        let v4 = from.as_sockaddr_in().map(|from| IpAddr::V4(from.ip()));
        v4.or_else(|| from.as_sockaddr_in6().map(|from| IpAddr::V6(from.ip())))
    });
    Ok(Received { length: message.bytes, from, hops })
}

/// The C type that the kernel uses for hop limits.
#[expect(non_camel_case_types, reason = "as C calls it")]
type libc_int = i32;

/// Prepends an IPv4 header that forbids fragmentation (RFC 791). The kernel fills in the fields that are 0.
fn unfragmented(icmp: &Icmp, destination: Ipv4Addr, packet: &[u8]) -> Vec<u8> {
    let ttl = if icmp.ttl == 0 { 64 } else { icmp.ttl };
    let mut out = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, ttl, 1, 0, 0];
    let source = match icmp.source {
        Some(IpAddr::V4(source)) => source,
        _ => Ipv4Addr::UNSPECIFIED,
    };
    out.extend(source.octets());
    out.extend(destination.octets());
    debug_assert_eq!(out.len(), IP_HEADER);
    out.extend(packet);
    out
}

/// Computes the internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_those_of_the_protocol() {
        // The example of RFC 1071, section 3.
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
        assert_eq!(checksum(&[1]), !0x0100);
        let whole = unfragmented(&Icmp { ttl: 5, ..Icmp::default() }, Ipv4Addr::LOCALHOST, &[8]);
        assert_eq!(whole[6..10], [0x40, 0, 5, 1]);
        assert_eq!(whole[16..], [127, 0, 0, 1, 8]);
    }
}
