//! Connections of checks: names resolved, addresses tried in turn, TLS on top where it is asked for.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::names::Reason;
use crate::outcome::Failure;
use crate::run::tls;

/// What can be read from and written to.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection, over TLS or not.
pub type Stream = Box<dyn Duplex>;

/// The addresses of a host, at least one.
pub async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, Failure> {
    let found = tokio::net::lookup_host((host, port))
        .await
        .map_err(|error| Failure::new(Reason::Dns, format!("`{host}` did not resolve: {error}")))?;
    let addresses: Vec<_> = found.collect();
    if addresses.is_empty() {
        return Err(Failure::new(Reason::Dns, format!("`{host}` has no address")));
    }
    Ok(addresses)
}

/// Resolves and connects, each of the addresses in turn.
pub async fn connect(host: &str, port: u16) -> Result<TcpStream, Failure> {
    let mut last = String::new();
    for address in resolve(host, port).await? {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // What is not sent at once is only slower.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => last = format!("no connection to {address}: {error}"),
        }
    }
    Err(Failure::new(Reason::Connect, last))
}

/// Turns a connection to TLS; the certificate must be for this host.
pub async fn secure<S: Duplex>(stream: S, host: &str, config: Arc<ClientConfig>) -> Result<TlsStream<S>, Failure> {
    let name = ServerName::try_from(host.to_owned())
        .map_err(|e| Failure::new(Reason::Configuration, format!("`{host}` is not a name for TLS: {e}")))?;
    TlsConnector::from(config).connect(name, stream).await.map_err(|error| match tls::rustls_error(&error) {
        Some(error) => tls::failure(error),
        None => Failure::new(Reason::Tls, format!("the TLS handshake failed: {error}")),
    })
}

/// Connects, over TLS where there are settings for it.
pub async fn open(host: &str, port: u16, tls: Option<Arc<ClientConfig>>) -> Result<Stream, Failure> {
    let stream = connect(host, port).await?;
    Ok(match tls {
        Some(config) => Box::new(secure(stream, host, config).await?),
        None => Box::new(stream),
    })
}

/// What a broken connection means.
pub fn broken(error: &std::io::Error) -> Failure {
    Failure::new(Reason::Protocol, format!("the connection broke: {error}"))
}
