//! TLS of the shop: a certificate authority, and a certificate that can be about to expire.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::{Fault, Shop};

/// Certificate authority that is trusted for this shop only.
#[derive(Clone)]
pub struct Authority {
    issuer: Arc<Issuer<'static, KeyPair>>,
    pem: String,
}

impl Authority {
    /// Creates a new authority.
    pub fn new() -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, "wachta demo authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Arc::new(Issuer::new(params, key)), pem })
    }

    /// Returns the certificate of the authority, as PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Creates a server configuration with a certificate for `localhost` and `127.0.0.1` of this validity.
    fn server(&self, valid: Duration) -> Result<rustls::ServerConfig, Box<dyn std::error::Error + Send + Sync>> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?;
        let now = std::time::SystemTime::now();
        params.not_before = (now - Duration::from_hours(1)).into();
        params.not_after = (now + valid).into();
        let certificate = params.signed_by(&key, &self.issuer)?;
        let key = PrivateKeyDer::try_from(key.serialize_der())?;
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![CertificateDer::from(certificate.der().to_vec())], key)?;
        Ok(config)
    }
}

/// Serves a short response over TLS until `stop` is cancelled.
pub(super) async fn serve(listener: TcpListener, authority: Authority, shop: Arc<Shop>, stop: CancellationToken) {
    let acceptor =
        |days: u64| authority.server(Duration::from_hours(24 * days)).map(|config| TlsAcceptor::from(Arc::new(config)));
    let (good, short) = match (acceptor(90), acceptor(3)) {
        (Ok(good), Ok(short)) => (good, short),
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(%error, "the shop has no certificate");
            return;
        }
    };
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(_) => continue,
            },
        };
        let acceptor = if shop.has(Fault::Certificate) { short.clone() } else { good.clone() };
        tokio::spawn(tokio::time::timeout(Duration::from_secs(10), async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let mut request = [0_u8; 2048];
            if stream.read(&mut request).await.is_ok_and(|n| n > 0) {
                let _ =
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\nok\n").await;
            }
            let _ = stream.shutdown().await;
        }));
    }
}
