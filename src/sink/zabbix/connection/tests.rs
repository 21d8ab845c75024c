//! Certificates with a TLS server on loopback.

use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

/// Returns a name of two components, each with a comma if `common` contains one.
fn name_of(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "Zabbix, SIA");
    name.push(DnType::CommonName, common);
    name
}

/// Certificate authority that signs certificates.
struct Authority {
    certificate: CertificateDer<'static>,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = name_of(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let made = params.self_signed(&key).unwrap();
        Self { certificate: made.der().clone(), pem: made.pem(), issuer: Issuer::new(params, key) }
    }

    /// Signs a certificate without a host name, and returns it with its key.
    fn sign(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let mut params = CertificateParams::default();
        params.distinguished_name = name_of(name);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }
}

/// Starts a server that requires a certificate of its authority and echoes five bytes. Returns its address.
async fn serve(authority: &Authority) -> String {
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate.clone()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    let (certificate, key) = authority.sign("server");
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut bytes = [0; 5];
            if stream.read_exact(&mut bytes).await.is_ok() {
                let _ = stream.write_all(&bytes).await;
            }
            // Waits until the client closes the connection.
            let _ = stream.read(&mut bytes).await;
        }
    });
    address
}

/// Returns the echo, or a description of the error.
async fn echo(address: &str, certificate: &Certificate) -> String {
    let mut connector = Connector::new(Security::Certificate(Box::new(certificate.clone())));
    let mut stream = match connector.open(address, Duration::from_secs(10)).await {
        Ok(stream) => stream,
        Err(error) => return error.to_string(),
    };
    let mut bytes = [0; 5];
    let exchange = async {
        stream.write_all(b"hello").await?;
        stream.read_exact(&mut bytes).await
    };
    match exchange.await {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        // With TLS 1.3, the rejection by the server arrives with the response.
        Err(error) => format!("refused: {error}"),
    }
}

#[tokio::test]
async fn the_authority_and_names_decide_and_the_host_does_not() {
    let folder = std::env::temp_dir().join(format!("wachta-zabbix-tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(folder.join(name), text).unwrap();
        folder.join(name)
    };
    let (ours, theirs) = (Authority::new("Signing, CA"), Authority::new("Other CA"));
    let (certificate, key) = ours.sign("agent");
    let good = Certificate {
        ca: file("ca.pem", &ours.pem),
        cert: file("agent.pem", &certificate.pem()),
        key: file("agent.key", &key.serialize_pem()),
        server_issuer: None,
        server_subject: None,
    };
    let address = serve(&ours).await;
    assert_eq!(echo(&address, &good).await, "hello");
    let issuer = Some(r"CN=Signing\, CA,O=Zabbix\, SIA".to_owned());
    let subject = Some(r"CN=server,O=Zabbix\, SIA".to_owned());
    let named = Certificate { server_issuer: issuer.clone(), server_subject: subject, ..good.clone() };
    assert_eq!(echo(&address, &named).await, "hello");

    let check = async |certificate: Certificate, expected: &str| {
        let actual = echo(&address, &certificate).await;
        assert!(actual.contains(expected), "{actual}");
    };
    let expected = r"TLS: unexpected error: the subject of the server's certificate is `CN=server,O=Zabbix\, SIA`: see";
    check(Certificate { server_subject: issuer, ..good.clone() }, expected).await;
    check(
        Certificate { ca: file("other.pem", &theirs.pem), ..good.clone() },
        "invalid peer certificate: UnknownIssuer",
    )
    .await;
    let (stranger, key) = theirs.sign("agent");
    let (cert, key) = (file("stranger.pem", &stranger.pem()), file("stranger.key", &key.serialize_pem()));
    check(Certificate { cert, key: key.clone(), ..good.clone() }, "refused: ").await;
    check(Certificate { key, ..good.clone() }, "TLS: the certificate and its key: ").await;
    check(Certificate { ca: folder.join("none.pem"), ..good.clone() }, "none.pem` cannot be read: ").await;
    let no_key = Certificate { key: good.cert.clone(), ..good.clone() };
    check(no_key, "agent.pem` has no private key: ").await;
    check(Certificate { cert: good.key.clone(), ..good.clone() }, "agent.key` has no certificate").await;
    std::fs::remove_dir_all(folder).unwrap();
}
