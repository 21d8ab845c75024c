//! UDP with one peer.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::UdpSocket;

use super::failure::of_io;
use crate::names::Reason;
use crate::outcome::Failure;

/// A UDP socket that exchanges packets with one address only.
#[derive(Debug)]
pub struct PacketSocket {
    socket: UdpSocket,
    peer: SocketAddr,
}

impl PacketSocket {
    /// Opens a socket. `source` is its local address; `None` lets the system choose.
    pub async fn connect(peer: SocketAddr, source: Option<IpAddr>) -> Result<Self, Failure> {
        let any = if peer.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind(SocketAddr::new(source.unwrap_or(any), 0)).await.map_err(|error| {
            // No specific port was requested, so all of them are taken.
            let taken = error.kind() == io::ErrorKind::AddrInUse;
            let message = format!("cannot send a packet to {peer}: {error}");
            if taken { Failure::new(Reason::Resources, message) } else { no_response(peer, &error) }
        })?;
        // A connected socket only receives packets from its peer.
        socket.connect(peer).await.map_err(|error| no_response(peer, &error))?;
        Ok(Self { socket, peer })
    }

    /// Sends a packet.
    pub async fn send(&self, packet: &[u8]) -> Result<(), Failure> {
        self.socket.send(packet).await.map(drop).map_err(|error| no_response(self.peer, &error))
    }

    /// Receives packets until `accept` accepts one. Fails if the peer is unreachable.
    pub async fn receive<T>(
        &self,
        buffer: &mut [u8],
        mut accept: impl FnMut(&[u8]) -> Option<T>,
    ) -> Result<T, Failure> {
        loop {
            let length = self.socket.recv(buffer).await.map_err(|error| no_response(self.peer, &error))?;
            if let Some(accepted) = accept(&buffer[..length]) {
                return Ok(accepted);
            }
        }
    }
}

/// Returns the failure for an error of a socket.
fn no_response(peer: SocketAddr, error: &io::Error) -> Failure {
    of_io(error, Reason::Connect, format!("no response from {peer}: {error}"))
}
