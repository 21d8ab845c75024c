//! Tunnels through an HTTP proxy (CONNECT, RFC 9110, section 9.3.6).

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::failure::of_io;
use super::proxy::status_failure;
use crate::names::Reason;
use crate::outcome::Failure;

/// Maximum size of the proxy's response head, in bytes.
const LARGEST_HEAD: usize = 16 << 10;

/// Requests a tunnel to `authority` (`host:port`) from the proxy. `authorization` is the value of
/// `Proxy-Authorization`; additional headers are sent unchanged.
pub async fn tunnel(
    stream: &mut TcpStream,
    authority: &str,
    authorization: Option<&str>,
    headers: &[(String, String)],
) -> Result<(), Failure> {
    let mut request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n");
    if let Some(authorization) = authorization {
        request.push_str(&format!("Proxy-Authorization: {authorization}\r\n"));
    }
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|error| broken(&error))?;
    // Reads single bytes, because what follows the head belongs to the server.
    let mut head = Vec::with_capacity(256);
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == LARGEST_HEAD {
            return Err(Failure::new(Reason::TooLarge, "the head of the proxy's response is larger than 16 KiB"));
        }
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(error) => return Err(broken(&error)),
        }
    }
    let line = String::from_utf8_lossy(head.split(|byte| *byte == b'\r').next().unwrap_or_default()).into_owned();
    let mut words = line.splitn(3, ' ');
    let version = words.next().unwrap_or_default();
    let status = words.next().and_then(|status| status.parse::<u16>().ok());
    match status {
        Some(200..300) if version.starts_with("HTTP/1.") => Ok(()),
        Some(status) if version.starts_with("HTTP/1.") => Err(status_failure(status, authority)),
        _ => Err(Failure::new(Reason::Protocol, "the proxy's response is not HTTP")),
    }
}

fn broken(error: &std::io::Error) -> Failure {
    of_io(error, Reason::Connect, format!("connection to the proxy lost: {error}"))
}
