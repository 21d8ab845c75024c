//! Exchange of DNS messages over UDP and over streams.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::outcome::Failure;
use crate::wire::udp::PacketSocket;

/// Sends a query and returns the first packet that `accept` accepts. If a time is given, the query is sent again each
/// time it has passed. `buffer` must have room for every response.
pub async fn over_udp<T>(
    socket: &PacketSocket,
    query: &[u8],
    retry_after: Option<Duration>,
    buffer: &mut [u8],
    accept: impl Fn(&[u8]) -> Option<T>,
) -> Result<T, Failure> {
    loop {
        socket.send(query).await?;
        let response = socket.receive(buffer, &accept);
        let Some(limit) = retry_after else { return response.await };
        if let Ok(response) = tokio::time::timeout(limit, response).await {
            return response;
        }
    }
}

/// Exchanges one message in each direction, prefixed with its length (RFC 1035, section 4.2.2).
pub async fn over_stream(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), query: &[u8]) -> io::Result<Vec<u8>> {
    let mut framed = u16::try_from(query.len()).map_err(io::Error::other)?.to_be_bytes().to_vec();
    framed.extend_from_slice(query);
    stream.write_all(&framed).await?;
    stream.flush().await?;
    let length = stream.read_u16().await?;
    let mut response = vec![0; usize::from(length)];
    stream.read_exact(&mut response).await?;
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_of_a_stream_have_their_length_before_them() {
        let (mut here, mut there) = tokio::io::duplex(64);
        let server = async {
            let mut query = [0; 5];
            there.read_exact(&mut query).await.unwrap();
            there.write_all(&[0, 2, 8, 9, 7]).await.unwrap();
            query
        };
        let (response, query) = tokio::join!(over_stream(&mut here, &[1, 2, 3]), server);
        assert_eq!((response.unwrap(), query), (vec![8, 9], [0, 3, 1, 2, 3]));
        drop(there);
        assert!(over_stream(&mut here, &[1]).await.is_err());
        assert!(over_stream(&mut here, &vec![0; 70_000]).await.is_err());
    }
}
