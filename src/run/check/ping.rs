//! A ping: an ICMP echo request (RFC 792, RFC 4443), repeated every second until one is answered.
//!
//! The socket is unprivileged if the kernel allows it (`net.ipv4.ping_group_range`), otherwise raw.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use super::connection::broken;
use super::context::{CheckContext, configuration, faster_than};
use crate::names::Reason;
use crate::outcome::{Failure, RunId};
use crate::scenario::check::ping::{PingCheck, host};
use crate::wire::of_io;

/// Time to wait for a reply before the next request.
const PATIENCE: Duration = Duration::from_secs(1);

/// Runs the check.
pub async fn check(check: &PingCheck, around: &CheckContext<'_>) -> Result<(), Failure> {
    let text = around.values.fill(&check.host)?;
    let host = host(&text).map_err(|problem| configuration("`ping`", &check.host, &problem))?;
    let (took, _) = around.bounded(around.first(&host, 0, echo)).await?;
    faster_than(check.faster_than.as_ref(), took)
}

/// Returns the time from the first request to the first reply.
async fn echo(address: SocketAddr) -> Result<Duration, Failure> {
    let address = address.ip();
    let echo = Echo::open(address)?;
    let socket = echo.connect().await?;
    let began = Instant::now();
    let mut buffer = [0_u8; 1500];
    for sequence in 0..=u16::MAX {
        let sent = Instant::now();
        match socket.send(&echo.request(sequence)).await {
            Ok(_) => {}
            // The previous request may have caused an error that the socket only reports now.
            Err(error) if no_way(&error) => return Err(unreachable(address, &error)),
            Err(error) => return Err(broken(&error)),
        }
        while let Ok(received) =
            tokio::time::timeout(PATIENCE.saturating_sub(sent.elapsed()), socket.recv(&mut buffer)).await
        {
            match received {
                Ok(length) if echo.is_answer(&buffer[..length]) => return Ok(began.elapsed()),
                Ok(_) => {}
                Err(error) => return Err(unreachable(address, &error)),
            }
        }
    }
    Err(Failure::new(Reason::Timeout, format!("no response from {address}")))
}

/// ICMP echo requests to one address.
struct Echo {
    address: IpAddr,
    raw: bool,
    /// Token that distinguishes replies to this check from other replies.
    token: [u8; 16],
}

impl Echo {
    fn open(address: IpAddr) -> Result<Self, Failure> {
        let echo = Self { address, raw: false, token: *RunId::new().0.as_bytes() };
        match echo.socket() {
            Ok(_) => return Ok(echo),
            Err(error) if !no_right(&error) => return Err(broken(&error)),
            Err(_) => {}
        }
        let echo = Self { raw: true, ..echo };
        match echo.socket() {
            Ok(_) => Ok(echo),
            Err(error) if no_right(&error) => Err(Failure::new(
                Reason::Configuration,
                "this process is not permitted to ping; allow its group with `sysctl -w net.ipv4.ping_group_range=\"0 2147483647\"`, or give it CAP_NET_RAW",
            )),
            Err(error) => Err(broken(&error)),
        }
    }

    fn socket(&self) -> std::io::Result<Socket> {
        let (domain, protocol) = match self.address {
            IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
            IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
        };
        let kind = if self.raw { Type::from(nix::libc::SOCK_RAW) } else { Type::DGRAM };
        Socket::new(domain, kind, Some(protocol))
    }

    async fn connect(&self) -> Result<UdpSocket, Failure> {
        let made = || {
            let socket = self.socket()?;
            socket.set_nonblocking(true)?;
            UdpSocket::from_std(socket.into())
        };
        let socket = made().map_err(|error| broken(&error))?;
        let address = SocketAddr::new(self.address, 0);
        socket.connect(address).await.map_err(|error| unreachable(self.address, &error))?;
        Ok(socket)
    }

    fn request(&self, sequence: u16) -> Vec<u8> {
        let kind = if self.address.is_ipv4() { 8 } else { 128 };
        // An unprivileged socket fills in its own identifier.
        let mut packet = vec![kind, 0, 0, 0, self.token[14], self.token[15]];
        packet.extend_from_slice(&sequence.to_be_bytes());
        packet.extend_from_slice(&self.token);
        if self.address.is_ipv4() {
            let sum = checksum(&packet).to_be_bytes();
            packet[2..4].copy_from_slice(&sum);
        }
        packet
    }

    /// Returns whether a packet is the reply to a request of this check.
    fn is_answer(&self, packet: &[u8]) -> bool {
        // A raw IPv4 socket also returns the IP header.
        let packet = match packet.first() {
            Some(first) if self.raw && self.address.is_ipv4() => {
                let header = if first >> 4 == 4 { usize::from(first & 0x0f) * 4 } else { packet.len() };
                packet.get(header..).unwrap_or_default()
            }
            _ => packet,
        };
        let kind = if self.address.is_ipv4() { 0 } else { 129 };
        packet.first() == Some(&kind) && packet.get(8..24) == Some(&self.token[..])
    }
}

/// Computes the checksum of RFC 1071.
fn checksum(packet: &[u8]) -> u16 {
    let mut sum: u32 =
        packet.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

fn no_right(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::PermissionDenied || error.raw_os_error() == Some(nix::libc::EPROTONOSUPPORT)
}

fn no_way(error: &std::io::Error) -> bool {
    use std::io::ErrorKind as E;
    matches!(error.kind(), E::NetworkUnreachable | E::HostUnreachable | E::ConnectionRefused)
}

fn unreachable(address: IpAddr, error: &std::io::Error) -> Failure {
    of_io(error, Reason::Connect, format!("no route to {address}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_rfc_1071() {
        // The example of section 3, and a packet whose checksum is included, so that the result is 0.
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
        let echo = Echo { address: "127.0.0.1".parse().unwrap(), raw: false, token: [7; 16] };
        assert_eq!(checksum(&echo.request(5)), 0);
    }

    #[test]
    fn only_our_own_answers_count() {
        let echo = Echo { address: "127.0.0.1".parse().unwrap(), raw: false, token: [7; 16] };
        let mut answer = echo.request(0);
        assert!(!echo.is_answer(&answer), "a request is no answer");
        answer[0] = 0;
        assert!(echo.is_answer(&answer));
        let raw = Echo { raw: true, ..echo };
        assert!(!raw.is_answer(&answer));
        assert!(raw.is_answer(&[&[0x45; 20][..], &answer].concat()));
        let other = Echo { address: "127.0.0.1".parse().unwrap(), raw: false, token: [8; 16] };
        assert!(!other.is_answer(&answer));
        assert!(!raw.is_answer(&[0x4f]));
    }
}
