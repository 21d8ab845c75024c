//! TLS on a connection.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CipherSuite, ClientConfig, ProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::failure::of_io;
use super::host;
use crate::names::Reason;
use crate::outcome::Failure;
use crate::wire::tls;

/// Protocols offered in the TLS handshake (ALPN, RFC 7301).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AlpnOffer {
    /// No protocol; the extension is not sent.
    #[default]
    Nothing,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// HTTP/2 or HTTP/1.1.
    Http,
}

impl AlpnOffer {
    fn names(self) -> Vec<Vec<u8>> {
        let names: &[&[u8]] = match self {
            Self::Nothing => &[],
            Self::Http1 => &[b"http/1.1"],
            Self::Http2 => &[b"h2"],
            Self::Http => &[b"h2", b"http/1.1"],
        };
        names.iter().map(|name| name.to_vec()).collect()
    }
}

/// Parameters of a TLS session.
#[derive(Debug, Clone)]
pub struct TlsSession {
    /// Duration of the handshake.
    pub took: Duration,
    /// Negotiated TLS version.
    pub version: Option<ProtocolVersion>,
    /// Negotiated cipher suite.
    pub cipher: Option<CipherSuite>,
    /// Certificates of the server as sent, its own first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Protocol selected by the server.
    pub alpn: Option<Vec<u8>>,
}

/// Returns the name of a TLS version: `TLS 1.2` or `TLS 1.3`. Other versions are never negotiated.
pub fn version_name(version: ProtocolVersion) -> Option<&'static str> {
    match version {
        ProtocolVersion::TLSv1_2 => Some("TLS 1.2"),
        ProtocolVersion::TLSv1_3 => Some("TLS 1.3"),
        _ => None,
    }
}

/// Returns the IANA name of a cipher suite.
pub fn cipher_name(cipher: CipherSuite) -> Option<String> {
    // rustls prefixes the suites of TLS 1.3 with the version.
    cipher.as_str().map(|name| name.replacen("TLS13_", "TLS_", 1))
}

/// A TLS connection with its parameters.
#[derive(Debug)]
pub struct TlsConnection<S = TcpStream> {
    /// The encrypted stream.
    pub stream: TlsStream<S>,
    /// Parameters of the session.
    pub session: TlsSession,
}

/// A failed handshake.
#[derive(Debug)]
pub struct HandshakeError {
    /// Failure for the outcome.
    pub failure: Failure,
    /// Certificates of the server, its own first, including rejected ones. Empty if the handshake failed before they
    /// were sent.
    pub chain: Vec<CertificateDer<'static>>,
}

/// Returns the name that the certificate must be valid for. An internationalized name is converted to ASCII.
pub fn server_name(host: &str) -> Result<ServerName<'static>, Failure> {
    let bare = host::ascii(host::bare(host))?;
    ServerName::try_from(bare.clone().into_owned())
        .map_err(|error| Failure::new(Reason::Configuration, format!("`{bare}` is not a name for TLS: {error}")))
}

/// Performs the handshake. The configuration must come from [`tls`], so that certificates are recorded whether or not
/// they are accepted.
pub async fn secure<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    offer: AlpnOffer,
) -> Result<TlsConnection<S>, HandshakeError> {
    let began = Instant::now();
    let connector = TlsConnector::from(config);
    let (done, chain) = tls::watched(connector.with_alpn(offer.names()).connect(name, stream)).await;
    let took = began.elapsed();
    let stream = match done {
        Ok(stream) => stream,
        Err(error) => return Err(HandshakeError { failure: refusal(&error, &chain), chain }),
    };
    let session = stream.get_ref().1;
    let (version, cipher) = (session.protocol_version(), session.negotiated_cipher_suite().map(|suite| suite.suite()));
    let alpn = session.alpn_protocol().map(<[u8]>::to_vec);
    let chain = if chain.is_empty() {
        session.peer_certificates().unwrap_or_default().iter().map(|der| der.clone().into_owned()).collect()
    } else {
        chain
    };
    Ok(TlsConnection { stream, session: TlsSession { took, version, cipher, chain, alpn } })
}

fn refusal(error: &std::io::Error, chain: &[CertificateDer<'_>]) -> Failure {
    match tls::rustls_error(error) {
        Some(error) => tls::rejection(error, chain),
        None if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            Failure::new(Reason::Tls, "the TLS handshake failed: the server closed the connection")
        }
        None => of_io(error, Reason::Tls, format!("the TLS handshake failed: {error}")),
    }
}
