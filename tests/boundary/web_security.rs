//! TLS and users of the web server, as `web.config_file` sets them: real handshakes, right and wrong passwords, clients
//! with and without certificates, and files that change while connections are open.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use base64::Engine as _;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;
use wachta::bounded::Readers;
use wachta::demo::Demo;
use wachta::web;

use crate::support::agent::Agent;
use crate::support::{Folder, until};

/// The hash of `open sesame`, as cheap as hashes can be.
fn hash() -> String {
    bcrypt::hash("open sesame", 4).unwrap().replacen("$2b$", "$2y$", 1)
}

fn basic(user: &str, password: &str) -> String {
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    format!("authorization: Basic {encoded}\r\n")
}

/// An authority, and certificates by it.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key, as PEM.
struct Identity {
    cert: String,
    key: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn identity(&self, names: Vec<SanType>) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = names;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        Identity { cert: cert.pem(), key: key.serialize_pem() }
    }

    fn server(&self) -> Identity {
        self.identity(vec![SanType::IpAddress("127.0.0.1".parse().unwrap()), dns("localhost")])
    }
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

/// What a client does by TLS.
#[derive(Clone)]
struct Client {
    versions: Vec<&'static SupportedProtocolVersion>,
    protocols: Vec<&'static str>,
    roots: RootCertStore,
    identity: Option<(Vec<CertificateDer<'static>>, Arc<PrivateKeyDer<'static>>)>,
}

impl Client {
    fn trusting(authority: &Authority) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
        let versions = vec![&rustls::version::TLS12, &rustls::version::TLS13];
        Self { versions, protocols: Vec::new(), roots, identity: None }
    }

    fn speaking(&self, version: &'static SupportedProtocolVersion) -> Self {
        Self { versions: vec![version], ..self.clone() }
    }

    fn offering(&self, protocols: &[&'static str]) -> Self {
        Self { protocols: protocols.to_vec(), ..self.clone() }
    }

    fn showing(&self, identity: &Identity) -> Self {
        let chain = vec![CertificateDer::from_pem_slice(identity.cert.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
        Self { identity: Some((chain, Arc::new(key))), ..self.clone() }
    }

    async fn connect(&self, address: SocketAddr) -> std::io::Result<TlsStream<TcpStream>> {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&self.versions)
            .unwrap()
            .with_root_certificates(self.roots.clone());
        let mut config = match &self.identity {
            Some((chain, key)) => builder.with_client_auth_cert(chain.clone(), key.clone_key()).unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = self.protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(address).await?;
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("127.0.0.1").unwrap(), stream).await
    }

    /// The status of an answer to one request; the error of the handshake otherwise. By TLS 1.3 a client learns that
    /// its certificate was not taken when it reads.
    async fn status(&self, address: SocketAddr, request: &str) -> Result<u16, String> {
        let mut stream = self.connect(address).await.map_err(|error| error.to_string())?;
        let answer = asked(&mut stream, request).await.map_err(|error| error.to_string())?;
        status_of(&answer).ok_or_else(|| format!("no response: {answer}"))
    }
}

fn status_of(answer: &str) -> Option<u16> {
    answer.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

/// Sends a request, and reads one answer with its body.
async fn asked<S>(stream: &mut S, request: &str) -> std::io::Result<String>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let exchange = async {
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&answer).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
                // What is streamed has no length: its last chunk is empty.
                let is_whole = head.contains("transfer-encoding: chunked") && body.ends_with("\r\n0\r\n\r\n");
                if is_whole || length.is_some_and(|length: usize| body.len() >= length) {
                    return Ok(text);
                }
            }
            if stream.read_buf(&mut answer).await? == 0 {
                return Ok(String::from_utf8_lossy(&answer).into_owned());
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), exchange).await.expect("it is answered")
}

fn get_of(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{headers}\r\n")
}

/// A server that is ended with the test.
struct Server {
    address: SocketAddr,
    stop: CancellationToken,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A server by a `web.yml` in a folder; what is wrong with the file otherwise.
async fn server(folder: &Folder, text: &str, limits: web::Limits) -> Result<Server, Vec<String>> {
    folder.write("web.yml", text);
    let loaded = web::Loaded::read(&Readers::default(), folder.path().join("web.yml"), false).await;
    let is_good = loaded.is_good();
    let security = web::Security::default();
    let found = security.load(loaded);
    if !is_good {
        return Err(found.iter().map(|found| found.message.clone()).collect());
    }
    let guard = web::Guard::default();
    guard.load(&web::Config::default());
    let large = || async { vec![b'a'; 64 << 20] };
    let router = Router::new()
        .route("/", get(|| async { "ok" }))
        .route("/large", get(large))
        .route("/medium", get(|| async { vec![b'a'; 300 << 10] }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let server = web::Server { router, guard, security, limits };
    tokio::spawn(server.serve(listener, stop.clone()));
    Ok(Server { address, stop })
}

/// A folder with a server's certificate by this authority.
fn certified(name: &str, authority: &Authority) -> Folder {
    let folder = Folder::new(name);
    let own = authority.server();
    folder.write("cert.pem", &own.cert);
    folder.write("key.pem", &own.key);
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_suites_curves_and_protocols_are_as_the_file_says() {
    let authority = Authority::new("server");
    let folder = certified("web-tls", &authority);
    let client = Client::trusting(&authority);
    let (only12, only13) = (client.speaking(&rustls::version::TLS12), client.speaking(&rustls::version::TLS13));
    let suite = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256";
    // Settings of TLS, and what clients get: version, suite, group and protocol where the handshake succeeds.
    let serve = async |tls: &str, http: &str| {
        let text = format!("tls_server_config: {{cert_file: cert.pem, key_file: key.pem{tls}}}\n{http}");
        server(&folder, &text, web::Limits::default()).await.unwrap()
    };
    let seen = async |client: &Client, server: &Server| {
        let stream = client.connect(server.address).await.ok()?;
        let (_, session) = stream.get_ref();
        Some((
            session.protocol_version()?.as_str()?.to_owned(),
            session.negotiated_cipher_suite()?.suite().as_str()?.to_owned(),
            session.negotiated_key_exchange_group().map(|group| format!("{:?}", group.name())).unwrap_or_default(),
            session.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()).unwrap_or_default(),
        ))
    };
    let plain = serve("", "").await;
    assert_eq!(seen(&only12, &plain).await.unwrap().0, "TLSv1_2");
    assert_eq!(seen(&only13, &plain).await.unwrap().0, "TLSv1_3");
    let newest = serve(", min_version: TLS13", "").await;
    assert_eq!((seen(&only12, &newest).await, seen(&only13, &newest).await.unwrap().0), (None, "TLSv1_3".into()));
    let older = serve(", max_version: TLS12", "").await;
    assert_eq!((seen(&only13, &older).await, seen(&only12, &older).await.unwrap().0), (None, "TLSv1_2".into()));
    let chosen = serve(&format!(", cipher_suites: [{suite}], curve_preferences: [CurveP384]"), "").await;
    let found = seen(&only12, &chosen).await.unwrap();
    assert_eq!((found.1.as_str(), found.2.as_str()), (suite, "secp384r1"));
    let newer = serve(", cipher_suites: [TLS_CHACHA20_POLY1305_SHA256]", "").await;
    assert_eq!(seen(&only13, &newer).await.unwrap().1, "TLS13_CHACHA20_POLY1305_SHA256");
    // Clients prefer AES with 256 bits here.
    let order = "cipher_suites: [TLS_AES_128_GCM_SHA256, TLS_AES_256_GCM_SHA384]";
    let own = serve(&format!(", {order}"), "").await;
    assert_eq!(seen(&only13, &own).await.unwrap().1, "TLS13_AES_128_GCM_SHA256");
    let theirs = serve(&format!(", {order}, prefer_server_cipher_suites: false"), "").await;
    assert_eq!(seen(&only13, &theirs).await.unwrap().1, "TLS13_AES_256_GCM_SHA384");
    let both = client.offering(&["h2", "http/1.1"]);
    assert_eq!(seen(&both, &plain).await.unwrap().3, "h2");
    let only1 = serve("", "http_server_config: {http2: false}\n").await;
    assert_eq!(seen(&both, &only1).await.unwrap().3, "http/1.1");
    // Who speaks HTTP to it learns why there is no answer.
    let mut stream = TcpStream::connect(plain.address).await.unwrap();
    let answer = asked(&mut stream, &get_of("/", "")).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("https://"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_get_in_by_the_certificates_that_are_asked_for() {
    let (authority, clients, others) = (Authority::new("server"), Authority::new("clients"), Authority::new("others"));
    let folder = certified("web-clients", &authority);
    folder.write("clients.pem", &clients.pem);
    let nobody = Client::trusting(&authority);
    let named = |names: Vec<SanType>| nobody.showing(&clients.identity(names));
    let known = named(vec![dns("prometheus.lan"), SanType::IpAddress("192.0.2.7".parse().unwrap())]);
    let by_uri = named(vec![SanType::URI("spiffe://lan/wachta".try_into().unwrap())]);
    let by_mail = named(vec![SanType::Rfc822Name("ops@example.com".try_into().unwrap())]);
    let other_name = named(vec![dns("grafana.lan")]);
    let stranger = nobody.showing(&others.identity(vec![dns("prometheus.lan")]));
    let of = |kind: &str| format!(", client_auth_type: {kind}");
    let verified = |kind: &str| format!("{}, client_ca_file: clients.pem", of(kind));
    let sans = |names: &str| format!("{}, client_allowed_sans: [{names}]", verified("RequireAndVerifyClientCert"));
    // What is asked for, and which of these get in: nobody, a known one, one with another name, a stranger.
    for (tls, expected) in [
        (of("NoClientCert"), [true, true, true, true]),
        (of("RequestClientCert"), [true, true, true, true]),
        (of("RequireAnyClientCert"), [false, true, true, true]),
        (of("RequireClientCert"), [false, true, true, true]),
        (verified("VerifyClientCertIfGiven"), [true, true, true, false]),
        (verified("RequireAndVerifyClientCert"), [false, true, true, false]),
        (sans("prometheus.lan"), [false, true, false, false]),
        (sans("\"192.0.2.7\""), [false, true, false, false]),
        (format!("{}, client_allowed_sans: [grafana.lan]", of("RequireAnyClientCert")), [false, false, true, false]),
    ] {
        let text = format!("tls_server_config: {{cert_file: cert.pem, key_file: key.pem{tls}}}\n");
        let server = server(&folder, &text, web::Limits::default()).await.unwrap();
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let mut found = Vec::new();
            for client in [&nobody, &known, &other_name, &stranger] {
                let status = client.speaking(version).status(server.address, &get_of("/", "")).await;
                found.push(status == Ok(200));
            }
            assert_eq!(found, expected, "{tls} {:?}", version.version);
        }
    }
    for (name, client) in [("spiffe://lan/wachta", by_uri), ("ops@example.com", by_mail)] {
        let tls = sans(&format!("\"{name}\""));
        let text = format!("tls_server_config: {{cert_file: cert.pem, key_file: key.pem{tls}}}\n");
        let server = server(&folder, &text, web::Limits::default()).await.unwrap();
        assert_eq!(client.status(server.address, &get_of("/", "")).await, Ok(200), "{name}");
        assert!(known.status(server.address, &get_of("/", "")).await.is_err(), "{name}");
    }
}

fn quick() -> web::Limits {
    let quick = Duration::from_millis(300);
    web::Limits { handshake: quick, head: quick, stall: quick, farewell: quick, ..web::Limits::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_never_end_are_ended_and_leave_room() {
    let authority = Authority::new("server");
    let folder = certified("web-slow", &authority);
    let client = Client::trusting(&authority);
    let text = "tls_server_config: {cert_file: cert.pem, key_file: key.pem}\n";
    let hurried = server(&folder, text, quick()).await.unwrap();
    for (what, sent) in [
        ("nothing", &b""[..]),
        ("the beginning of a record", b"\x16\x03\x01"),
        ("half a hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    ] {
        let mut stream = TcpStream::connect(hurried.address).await.unwrap();
        stream.write_all(sent).await.unwrap();
        let mut answer = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
        assert!(ended.is_ok(), "{what} is held open");
    }
    // By HTTP/2 no request, and an answer that nobody takes.
    let h2 = client.offering(&["h2"]);
    let mut idle = h2.connect(hurried.address).await.unwrap();
    idle.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(20), idle.read_to_end(&mut answer)).await;
    assert!(ended.is_ok(), "an idle connection is held open");
    let stream = h2.connect(hurried.address).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    let connection = tokio::spawn(connection);
    let request =
        |path: &str| hyper::Request::get(format!("https://127.0.0.1{path}")).body(axum::body::Body::empty()).unwrap();
    let medium = sender.send_request(request("/medium")).await.unwrap();
    let whole = axum::body::to_bytes(axum::body::Body::new(medium.into_body()), 1 << 20).await.unwrap();
    assert_eq!(whole.len(), 300 << 10);
    let held = sender.send_request(request("/large")).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(20), connection).await;
    assert!(ended.is_ok(), "an answer that nobody takes is held open");
    drop(held);
    // Their number is bounded.
    let patient = server(&folder, text, web::Limits { connections: 8, ..web::Limits::default() }).await.unwrap();
    let mut held = Vec::new();
    for _ in 0..100 {
        let mut stream = TcpStream::connect(patient.address).await.unwrap();
        let _ = stream.write_all(b"\x16\x03\x01").await;
        held.push(stream);
    }
    assert_eq!(client.status(patient.address, &get_of("/", "")).await, Ok(200));
}

/// Writes the files of an agent that serves with this `web.yml`.
fn agents_folder(name: &str, authority: &Authority, listen: &str, web: &str) -> Folder {
    let folder = certified(name, authority);
    folder.write("authority.pem", &authority.pem);
    folder.write("password", "open sesame\n");
    folder.write("scenarios/a.yaml", "checks: {job: {heartbeat: job, every: 1h}}\n");
    folder.write("web.yml", web);
    folder.write("blackbox.yml", "modules: {up: {prober: tcp}}\n");
    folder.write(
        "wachta.yaml",
        &format!(
            "location: here\nscenarios: [scenarios/]\nstore: sqlite:wachta.db\nprobe: {{modules: blackbox.yml, targets: ['127.0.0.1:*']}}\n\
             web: {{listen: \"{listen}\", config_file: web.yml, beat_token: word-of-mouth}}\n"
        ),
    );
    folder
}

fn users(tls: bool) -> String {
    let tls = if tls { "tls_server_config: {cert_file: cert.pem, key_file: key.pem}\n" } else { "" };
    format!(
        "{tls}http_server_config: {{headers: {{Strict-Transport-Security: max-age=60, X-Frame-Options: sameorigin}}}}\n\
         basic_auth_users: {{alice: '{}', bob: '{}'}}\n",
        hash(),
        hash()
    )
}

/// Runs `wachta alerts list` against an agent; gives its exit code, and what it printed.
fn listed(folder: &Path, arguments: &[&str], password: Option<&str>) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wachta"));
    command.args(["alerts", "list"]).args(arguments).current_dir(folder);
    command.env_remove("WACHTA_PASSWORD").env_remove("WACHTA_USER");
    if let Some(password) = password {
        command.env("WACHTA_PASSWORD", password);
    }
    let ran = command.output().unwrap();
    let text = String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
    (ran.status.code(), text)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_path_asks_for_a_user_and_commands_can_name_one() {
    let authority = Authority::new("server");
    let folder = agents_folder("web-users", &authority, "127.0.0.1:0", &users(true));
    let shop = Demo::open(0, 0, &CancellationToken::new()).await.unwrap();
    let agent = Agent::serve(folder.path(), &shop).await;
    let address: SocketAddr = agent.url("").trim_start_matches("http://").parse().unwrap();
    let client = Client::trusting(&authority);
    let (right, wrong, unknown) =
        (basic("alice", "open sesame"), basic("alice", "open says me"), basic("mallory", "open sesame"));
    let run = "0192f0c1-2d3e-7a4b-8c5d-6e7f8091a2b3";
    let covered = [
        "GET /",
        "GET /metrics",
        "GET /config",
        "GET /api/v1/incidents",
        "GET /api/v1/silences",
        "GET /api/v1/why/job",
        "POST /api/v1/silences",
        "POST /-/reload",
        "GET /scenario/job",
        "GET /beat/job",
        "POST /beat/job/0",
        "GET /beat/unknown",
        "GET /probe?module=up&target=127.0.0.1:1",
        "GET /logs?id=1",
        "GET /nothing",
        "HEAD /",
        "OPTIONS /",
        "GET http://127.0.0.1/",
        &format!("GET /evidence/{run}/page.png"),
        "GET /-/ready/",
        "GET //-/ready",
    ];
    let mut found = Vec::new();
    for line in covered {
        for (who, headers, refused) in [
            ("nobody", "", true),
            ("a wrong password", wrong.as_str(), true),
            ("an unknown user", &unknown, true),
            ("two at once", &format!("{right}{right}"), true),
            ("another scheme", "authorization: Bearer b3BlbiBzZXNhbWU=\r\n", true),
            ("no base64", "authorization: Basic a:b\r\n", true),
            ("an empty one", "authorization: Basic Og==\r\n", true),
            ("alice", &right, false),
            ("bob", &basic("bob", "open sesame"), false),
        ] {
            let request = format!(
                "{line} HTTP/1.1\r\nhost: 127.0.0.1\r\n{headers}content-length: 0\r\nconnection: close\r\n\r\n"
            );
            let mut stream = client.connect(address).await.unwrap();
            let answer = asked(&mut stream, &request).await.unwrap();
            let status = status_of(&answer);
            if (status == Some(401)) != refused || !answer.contains("strict-transport-security: max-age=60") {
                found.push(format!("{line} by {who}: {}", answer.lines().next().unwrap_or_default()));
            }
            if refused && !answer.contains("www-authenticate: Basic realm=\"wachta\"") {
                found.push(format!("{line} by {who} is not asked for a password"));
            }
        }
    }
    assert!(found.is_empty(), "{} wrong:\n{}", found.len(), found.join("\n"));
    // What may be asked for without one, and by the token of heartbeats.
    for (path, expected) in [
        ("/-/healthy", 200),
        ("/-/ready", 200),
        ("/beat/job?token=word-of-mouth", 200),
        ("/beat/job?token=word-of-mouse", 401),
        ("/metrics?token=word-of-mouth", 401),
    ] {
        assert_eq!(client.status(address, &get_of(path, "")).await, Ok(expected), "{path}");
    }
    let mut stream = client.connect(address).await.unwrap();
    let answer = asked(&mut stream, &get_of("/", &right)).await.unwrap();
    assert!(answer.contains("x-frame-options: sameorigin") && answer.contains("nosniff"), "{answer}");
    // A page of somebody else does not act with a person's password either.
    let foreign = format!("{right}origin: http://evil.test\r\ncontent-length: 0\r\n");
    let request = format!("POST /-/reload HTTP/1.1\r\nhost: 127.0.0.1\r\n{foreign}\r\n");
    assert_eq!(client.status(address, &request).await, Ok(403));

    // Commands.
    let url = format!("https://{address}");
    let trusted = ["--url", &url, "--ca", "authority.pem"];
    let with = |more: &[&'static str]| trusted.iter().copied().chain(more.iter().copied()).collect::<Vec<_>>();
    for (arguments, password, code, said) in [
        (with(&["--user", "alice", "--password-file", "password"]), None, Some(0), "no open incident"),
        (with(&["--user", "alice"]), Some("open sesame"), Some(0), "no open incident"),
        (with(&["--user", "alice"]), None, Some(2), "--password-file"),
        (with(&["--user", "alice"]), Some("open says me"), Some(2), "--user and --password-file"),
        (with(&[]), None, Some(2), "--user and --password-file"),
        (vec!["--url", url.as_str()], None, Some(2), "its issuer is not trusted"),
    ] {
        let (found, text) = listed(folder.path(), &arguments, password);
        assert!(found == code && text.contains(said), "{arguments:?}: {found:?} {text}");
        assert!(!text.contains("open says me"), "{text}");
    }
    let log = agent.log().join("\n");
    assert!(!log.contains("open sesame") && !log.contains("$2y$"), "{log}");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_counts_without_dropping_connections() {
    let authority = Authority::new("server");
    let folder = agents_folder("web-renewed", &authority, "127.0.0.1:0", &users(true));
    let shop = Demo::open(0, 0, &CancellationToken::new()).await.unwrap();
    let agent = Agent::serve(folder.path(), &shop).await;
    let address: SocketAddr = agent.url("").trim_start_matches("http://").parse().unwrap();
    let client = Client::trusting(&authority);
    let right = basic("alice", "open sesame");
    let shown = async || {
        let stream = client.connect(address).await.unwrap();
        let certificate = stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned();
        drop(stream);
        certificate
    };
    let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().into_owned();
    let mut kept = client.connect(address).await.unwrap();
    assert_eq!(status_of(&asked(&mut kept, &get_of("/metrics", &right)).await.unwrap()), Some(200));
    // It is noticed by itself. Between the two files the pair does not fit, and the one before stays.
    let first = shown().await;
    let second = authority.server();
    folder.write("cert.pem", &second.cert);
    folder.write("key.pem", &second.key);
    let renewed = async || (shown().await == der(&second.cert)).then_some(());
    until("the renewed certificate is shown", Duration::from_secs(30), renewed).await;
    assert_ne!(first, der(&second.cert));
    assert_eq!(status_of(&asked(&mut kept, &get_of("/metrics", &right)).await.unwrap()), Some(200), "it is still open");
    // Bad ones keep the old in force, and the reload says where the mistake is.
    let post = format!("POST /-/reload HTTP/1.1\r\nhost: 127.0.0.1\r\n{right}content-length: 0\r\n\r\n");
    let others = Authority::new("others").server();
    for (file, text, said) in [
        ("cert.pem", "no certificate", "web.yml:1:32: no certificate in the file"),
        ("cert.pem", others.cert.as_str(), "web.yml:1:52: the key does not belong to the certificate"),
        (
            "web.yml",
            "basic_auth_users: {alice: secret-in-the-clear}\n",
            "web.yml:1:27: the password of `alice` is not a",
        ),
        ("web.yml", "basic_auth_user: {}\n", "web.yml:1:1: unknown key `basic_auth_user`"),
        ("web.yml", "basic_auth_users: {alice: secret-in-the-clear\n", "web.yml:"),
    ] {
        let before = std::fs::read_to_string(folder.path().join(file)).unwrap();
        folder.write(file, text);
        let answer = asked(&mut kept, &post).await.unwrap();
        assert!(status_of(&answer) == Some(500), "{answer}");
        let place = said.split(": ").next().unwrap();
        assert!(answer.contains(place) && answer.contains(said.trim_start_matches(place)), "{said}: {answer}");
        assert!(!answer.contains("in-the-clear"), "{answer}");
        assert!(shown().await == der(&second.cert), "{file}: the certificate before is not in force");
        assert_eq!(client.status(address, &get_of("/metrics", "")).await, Ok(401), "{file}: {text}");
        folder.write(file, &before);
        assert_eq!(status_of(&asked(&mut kept, &post).await.unwrap()), Some(200));
    }
    std::fs::remove_file(folder.path().join("web.yml")).unwrap();
    let answer = asked(&mut kept, &post).await.unwrap();
    assert!(answer.contains("web.yml") && answer.contains("cannot be read"), "{answer}");
    assert_eq!(client.status(address, &get_of("/metrics", "")).await, Ok(401));
    // A user who is gone is gone at once, on open connections as well.
    folder.write("web.yml", &users(true).replace("alice", "carol"));
    assert_eq!(status_of(&asked(&mut kept, &post).await.unwrap()), Some(200));
    assert_eq!(status_of(&asked(&mut kept, &get_of("/metrics", &right)).await.unwrap()), Some(401));
    let log = agent.log().join("\n");
    assert!(!log.contains("in-the-clear"), "{log}");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_opens_an_agent_to_others_by_accident() {
    let authority = Authority::new("server");
    let shop = Demo::open(0, 0, &CancellationToken::new()).await.unwrap();
    let tls = "tls_server_config: {cert_file: cert.pem, key_file: key.pem}\n";
    for (what, web, said) in [
        ("TLS alone", tls, "this file requires no authentication"),
        ("nothing", "{}\n", "this file requires no authentication"),
        ("no users", &format!("{tls}basic_auth_users: {{}}\n"), "this file requires no authentication"),
        ("a mistake", "basic_auth_users: {alice: x}\n", "is not a bcrypt hash"),
    ] {
        let folder = agents_folder("web-open", &authority, "0.0.0.0:0", web);
        let mut command = Command::new(env!("CARGO_BIN_EXE_wachta"));
        command.args(["serve", "--config", "wachta.yaml"]);
        let log = Agent::try_start(command, folder.path(), &shop).await.err().expect(what).join("\n");
        assert!(log.contains(said) && log.contains("web.yml:"), "{what}: {log}");
    }
    let folder = agents_folder("web-open", &authority, "0.0.0.0:0", &users(true));
    let agent = Agent::serve(folder.path(), &shop).await;
    let port = agent.url("").rsplit(':').next().unwrap().to_owned();
    let address: SocketAddr = format!("127.0.0.1:{port}").parse().unwrap();
    let client = Client::trusting(&authority);
    let right = basic("bob", "open sesame");
    assert_eq!(client.status(address, &get_of("/metrics", "")).await, Ok(401));
    assert_eq!(client.status(address, &get_of("/metrics", &right)).await, Ok(200));
    // Neither does a reload: what was asked for before is asked for until the next start.
    let config = std::fs::read_to_string(folder.path().join("wachta.yaml")).unwrap();
    for changed in [
        config.replace(", config_file: web.yml", ""),
        config.replace(", config_file: web.yml", "").replace("0.0.0.0:0", "127.0.0.1:0"),
    ] {
        folder.write("wachta.yaml", &changed);
        let post = format!("POST /-/reload HTTP/1.1\r\nhost: 127.0.0.1\r\n{right}content-length: 0\r\n\r\n");
        assert_eq!(client.status(address, &post).await, Ok(500));
        assert_eq!(client.status(address, &get_of("/metrics", "")).await, Ok(401));
    }
    agent.stop().await;
}
