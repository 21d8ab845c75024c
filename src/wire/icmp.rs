//! ICMP echo (RFC 792, RFC 4443): requests to one address and the replies to them.
//!
//! The socket is unprivileged if the kernel allows it (`net.ipv4.ping_group_range`), otherwise raw.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd as _;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Size of the echo header, in bytes.
const ECHO_HEADER: usize = 8;
/// Maximum size of an IPv4 header, in bytes.
const MAX_IP_HEADER: usize = 60;
/// Time to live of a packet whose header is written here, unless another one is set.
const DEFAULT_TTL: u8 = 64;

/// Settings of the packets that carry echo requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EchoOptions {
    /// Source address. `None` lets the system choose.
    pub source: Option<IpAddr>,
    /// Time to live, or hop limit. The system's default if 0.
    pub ttl: u8,
    /// Whether routers may not split the packet. Applies to IPv4 and needs a raw socket.
    pub dont_fragment: bool,
}

/// An echo request, sent once or several times with different sequence numbers.
#[derive(Debug)]
pub struct EchoRequest {
    /// Identifier. An unprivileged socket replaces it with its own.
    pub id: [u8; 2],
    /// Data that the reply repeats.
    pub payload: Vec<u8>,
}

/// A reply to an echo request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EchoReply {
    /// Sequence number of the request.
    pub sequence: u16,
    /// Time to live, or hop limit, with which the reply arrived.
    pub hops: Option<i32>,
}

/// A socket for echo requests to one address.
#[derive(Debug)]
pub struct EchoSocket {
    /// An ICMP socket. The type is `UdpSocket` only because the standard library has no other type for datagram
    /// sockets.
    socket: UdpSocket,
    address: IpAddr,
    raw: bool,
    is_connected: bool,
    /// IPv4 header before each request if fragmentation is forbidden.
    header: Option<[u8; 20]>,
}

impl EchoSocket {
    /// Opens a socket. Fails with an error that [`lacks_permission`] recognizes if this process may not send echo
    /// requests.
    pub fn open(address: IpAddr, options: &EchoOptions) -> io::Result<Self> {
        let (domain, protocol) =
            if address.is_ipv4() { (Domain::IPV4, Protocol::ICMPV4) } else { (Domain::IPV6, Protocol::ICMPV6) };
        let header = match address {
            IpAddr::V4(to) if options.dont_fragment => Some(unfragmented(options, to)),
            _ => None,
        };
        // The IP header can only be written on a raw socket.
        let unprivileged = match header {
            Some(_) => Err(io::ErrorKind::PermissionDenied.into()),
            None => Socket::new(domain, Type::DGRAM, Some(protocol)),
        };
        let (socket, raw) = match unprivileged {
            Err(error) if lacks_permission(&error) => (Socket::new(domain, Type::RAW, Some(protocol))?, true),
            unprivileged => (unprivileged?, false),
        };
        socket.set_nonblocking(true)?;
        if header.is_some() {
            socket.set_header_included_v4(true)?;
        }
        if let Some(source) = options.source {
            socket.bind(&SockAddr::from(SocketAddr::new(source, 0)))?;
        }
        if address.is_ipv4() {
            setsockopt(&socket, sockopt::Ipv4RecvTtl, &true)?;
            if options.ttl > 0 {
                socket.set_ttl_v4(options.ttl.into())?;
            }
        } else {
            setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true)?;
            if options.ttl > 0 {
                socket.set_unicast_hops_v6(options.ttl.into())?;
            }
        }
        Ok(Self { socket: UdpSocket::from_std(socket.into())?, address, raw, is_connected: false, header })
    }

    /// Restricts the socket to its address. From then on, it reports an unreachable address as an error.
    pub async fn connect(&mut self) -> io::Result<()> {
        self.socket.connect(SocketAddr::new(self.address, 0)).await?;
        self.is_connected = true;
        Ok(())
    }

    /// Returns whether the socket is raw, which needs a privilege.
    pub fn is_raw(&self) -> bool {
        self.raw
    }

    /// Encodes a request with a sequence number.
    pub fn packet(&self, request: &EchoRequest, sequence: u16) -> Vec<u8> {
        let start = self.header.map_or(0, |header| header.len());
        let mut packet = Vec::with_capacity(start + ECHO_HEADER + request.payload.len());
        packet.extend(self.header.iter().flatten());
        packet.extend([if self.address.is_ipv4() { 8 } else { 128 }, 0, 0, 0, request.id[0], request.id[1]]);
        packet.extend(sequence.to_be_bytes());
        packet.extend(&request.payload);
        if self.address.is_ipv4() {
            let sum = checksum(&packet[start..]).to_be_bytes();
            packet[start + 2..start + 4].copy_from_slice(&sum);
        }
        packet
    }

    /// Sends a packet.
    pub async fn send(&self, packet: &[u8]) -> io::Result<()> {
        let sent = if self.is_connected {
            self.socket.send(packet).await
        } else {
            self.socket.send_to(packet, SocketAddr::new(self.address, 0)).await
        };
        sent.map(drop)
    }

    /// Returns a buffer in which every reply to a request has room.
    pub fn buffer(request: &EchoRequest) -> Vec<u8> {
        // A reply with a longer payload must be longer than one that repeats the payload.
        vec![0; MAX_IP_HEADER + ECHO_HEADER + request.payload.len() + 1]
    }

    /// Receives the next reply to a request. All other packets are ignored.
    pub async fn receive(&self, request: &EchoRequest, buffer: &mut [u8]) -> io::Result<EchoReply> {
        loop {
            let readable = Interest::READABLE;
            let (length, from, hops) = self.socket.async_io(readable, || receive(&self.socket, buffer)).await?;
            let packet = buffer.get(..length).unwrap_or_default();
            // A connected socket receives only from its peer, which may have a different address, as 0.0.0.0 has.
            if (self.is_connected || from == Some(self.address))
                && let Some(sequence) = reply_to(request, packet, self.address.is_ipv4(), self.raw)
            {
                return Ok(EchoReply { sequence, hops });
            }
        }
    }
}

/// Returns whether an error of a socket means that this process may not open it.
pub fn lacks_permission(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied || error.raw_os_error() == Some(nix::libc::EPROTONOSUPPORT)
}

/// Returns the sequence number of a packet if it is the reply to a request.
fn reply_to(request: &EchoRequest, packet: &[u8], is_ipv4: bool, raw: bool) -> Option<u16> {
    let mut reply = packet;
    if raw && is_ipv4 {
        // A raw IPv4 socket also returns the IP header.
        let first = packet.first().filter(|first| **first >> 4 == 4)?;
        reply = packet.get(usize::from(first & 15) * 4..)?;
    }
    let (head, payload) = reply.split_first_chunk::<ECHO_HEADER>()?;
    let is_reply = head[0] == if is_ipv4 { 0 } else { 129 };
    let is_own = (!raw || head[4..6] == request.id) && payload == request.payload;
    (is_reply && is_own).then(|| u16::from_be_bytes([head[6], head[7]]))
}

/// Receives a packet. Returns its length, its source and the hop limit.
fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, Option<IpAddr>, Option<i32>)> {
    let mut parts = [io::IoSliceMut::new(buffer)];
    // The kernel passes a hop limit as a C `int`.
    let mut control = nix::cmsg_space!(i32, i32);
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
    Ok((message.bytes, from, hops))
}

/// Encodes an IPv4 header that forbids fragmentation (RFC 791). The kernel fills in the fields that are 0.
fn unfragmented(options: &EchoOptions, to: Ipv4Addr) -> [u8; 20] {
    let ttl = if options.ttl == 0 { DEFAULT_TTL } else { options.ttl };
    let source = match options.source {
        Some(IpAddr::V4(source)) => source,
        _ => Ipv4Addr::UNSPECIFIED,
    };
    let mut header = [0x45, 0, 0, 0, 0, 0, 0x40, 0, ttl, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    header[12..16].copy_from_slice(&source.octets());
    header[16..].copy_from_slice(&to.octets());
    header
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
        let whole = unfragmented(&EchoOptions { ttl: 5, ..EchoOptions::default() }, Ipv4Addr::LOCALHOST);
        assert_eq!(whole[6..10], [0x40, 0, 5, 1]);
        assert_eq!(whole[16..], [127, 0, 0, 1]);
    }

    #[test]
    fn only_replies_to_the_request_are_accepted() {
        let request = EchoRequest { id: [1, 2], payload: vec![7; 16] };
        let reply =
            |kind: u8, id: [u8; 2], payload: &[u8]| [&[kind, 0, 0, 0, id[0], id[1], 0, 9][..], payload].concat();
        let good = reply(0, [1, 2], &[7; 16]);
        let framed = |packet: &[u8]| [&[0x45; 20][..], packet].concat();
        for (packet, is_ipv4, raw, expected) in [
            (good.clone(), true, false, Some(9)),
            (reply(129, [1, 2], &[7; 16]), false, false, Some(9)),
            (reply(129, [1, 2], &[7; 16]), false, true, Some(9)),
            // An unprivileged socket has its own identifier, and receives only replies with it.
            (reply(0, [3, 4], &[7; 16]), true, false, Some(9)),
            (reply(0, [3, 4], &[7; 16]), false, true, None),
            (reply(8, [1, 2], &[7; 16]), true, false, None),
            (reply(0, [1, 2], &[8; 16]), true, false, None),
            (reply(0, [1, 2], &[7; 17]), true, false, None),
            (good.clone(), true, true, None),
            (framed(&good), true, true, Some(9)),
            (framed(&reply(0, [3, 4], &[7; 16])), true, true, None),
            (vec![0x4f], true, true, None),
            (Vec::new(), true, true, None),
        ] {
            assert_eq!(reply_to(&request, &packet, is_ipv4, raw), expected, "{packet:?} {is_ipv4} {raw}");
        }
    }

    #[tokio::test]
    async fn an_echo_returns_with_its_sequence_number() {
        let request = EchoRequest { id: [1, 2], payload: b"an odd payload.".to_vec() };
        for (address, connect) in [("127.0.0.1", true), ("127.0.0.1", false), ("::1", true), ("::1", false)] {
            let mut socket = EchoSocket::open(address.parse().unwrap(), &EchoOptions::default()).unwrap();
            if connect {
                socket.connect().await.unwrap();
            }
            let packet = socket.packet(&request, 513);
            assert!(address.contains(':') || checksum(&packet) == 0);
            socket.send(&packet).await.unwrap();
            let reply = socket.receive(&request, &mut EchoSocket::buffer(&request)).await.unwrap();
            assert_eq!((reply.sequence, reply.hops), (513, Some(64)), "{address} {connect}");
        }
    }
}
