//! Checks other than HTTP, each against a server for its protocol.

use std::sync::Mutex;

use serde_json::json;
use tokio::io::BufReader;
use tokio::net::UdpSocket;

use super::*;

mod connections;

/// Runs one check and compares the start of its message.
async fn says(check: &str, expected: &str) {
    says_with(check, Given::default(), expected).await;
}

async fn says_with(check: &str, lookup: Given, expected: &str) {
    let began = Instant::now();
    let text = format!("checks:\n  a: {{{check}}}\n");
    let seen = shown(&run_with(&text, lookup).await);
    let fits = if expected == "passed" { seen == expected } else { seen.starts_with(expected) };
    assert!(fits, "{check}\n saw      {seen}\n expected {expected}");
    assert!(began.elapsed() < Duration::from_secs(20), "{check} took {:?}", began.elapsed());
}

/// Returns an address that refuses connections as long as the socket exists.
fn nobody() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// Returns the same for UDP: a socket that only receives from another address.
async fn deaf() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect("127.0.0.1:9").await.unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// Returns a certificate for `localhost` that expires in a number of days, and the authority to trust, which expires in
/// 400 days.
fn certificate(days: i64) -> (Arc<rustls::ServerConfig>, String) {
    certificate_for(&["localhost", "127.0.0.1"], days)
}

/// Returns a certificate for some names, as [`certificate`] does.
fn certificate_for(names: &[&str], days: i64) -> (Arc<rustls::ServerConfig>, String) {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    let day = |days: i64| {
        let at = Utc::now().timestamp() + days * 86_400;
        (std::time::UNIX_EPOCH + Duration::from_secs(at.unsigned_abs())).into()
    };
    let (ca_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name.push(DnType::CommonName, "Test Authority");
    (ca.not_before, ca.not_after) = (day(-30), day(400));
    let authority = ca.self_signed(&ca_key).unwrap();
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut leaf = CertificateParams::new(names).unwrap();
    leaf.distinguished_name.push(DnType::CommonName, "a test");
    (leaf.not_before, leaf.not_after) = (day(-30), day(days));
    let leaf = leaf.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone(), authority.der().clone()], key.serialize_der().try_into().unwrap())
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    (Arc::new(config), authority.pem())
}

fn trusting(pem: &str) -> Given {
    Given { files: HashMap::from([("ca.pem", pem.to_owned())]), ..Given::default() }
}

/// Starts a server that treats every connection in the same way. `serve` may own data.
async fn serving<F: Future<Output = ()> + Send>(serve: impl Fn(TcpStream) -> F + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let serve = Arc::clone(&serve);
            tokio::spawn(async move { serve(stream).await });
        }
    });
    address
}

/// Reads from a stream until it has received this text.
async fn heard(stream: &mut (impl tokio::io::AsyncRead + Unpin), wanted: &[u8]) -> bool {
    let mut said = Vec::new();
    while !said.ends_with(wanted) {
        match stream.read_u8().await {
            Ok(byte) => said.push(byte),
            Err(_) => return false,
        }
    }
    true
}

#[tokio::test]
async fn every_way_to_tls() {
    type Talk = &'static [(&'static [u8], &'static [u8])];
    let ldap: &[u8] = b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00";
    let ldap_no: &[u8] = b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x02\x04\x00\x04\x00";
    // Messages of the server, each with the expected reply.
    let good: [(&str, Talk); 7] = [
        ("smtp", &[
            (b"220-mail\r\n220 ready\r\n", b"EHLO wachta.invalid\r\n"),
            (b"250-mail\r\n250-SIZE 1\r\n250 STARTTLS\r\n", b"STARTTLS\r\n"),
            (b"220 go on\r\n", b""),
        ]),
        ("imap", &[(b"* OK [CAPABILITY IMAP4rev1 STARTTLS] hi\r\n", b"a1 STARTTLS\r\n"), (b"* x\r\na1 OK now\r\n", b"")]),
        ("pop3", &[(b"+OK hi\r\n", b"STLS\r\n"), (b"+OK\r\n", b"")]),
        ("ftp", &[(b"220-hi\r\n there\r\n220 ready\r\n", b"AUTH TLS\r\n"), (b"234 go\r\n", b"")]),
        ("xmpp", &[
            (b"", b"streams'>"),
            (b"<?xml version='1.0'?><stream:stream id='1'><stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>", b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"),
            (b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>", b""),
        ]),
        ("ldap", &[(b"", b"1.3.6.1.4.1.1466.20037"), (b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00", b"")]),
        ("postgres", &[(b"", &[0, 0, 0, 8, 4, 210, 22, 47]), (b"S", b"")]),
    ];
    assert_eq!(good[5].1[1].0, ldap);
    let (config, pem) = certificate(20);
    for (protocol, talk) in good {
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::clone(&config));
        let address = serving(move |mut stream| {
            let acceptor = acceptor.clone();
            async move {
                for (say, wait) in talk {
                    if stream.write_all(say).await.is_err() || !heard(&mut stream, wait).await {
                        return;
                    }
                }
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                if heard(&mut stream, b"hello").await {
                    let _ = stream.write_all(b"secure world").await;
                    let _ = stream.shutdown().await;
                }
            }
        })
        .await;
        let check = |more: &str| format!("tcp: \"localhost:{}\", starttls: {protocol}{more}", address.port());
        let trust = ", trust: {ca: ca.pem}";
        says_with(&check(&format!("{trust}, send: hello, receive: secure world")), trusting(&pem), "passed").await;
        says_with(&check(trust), trusting(&pem), "passed").await;
        says(
            &check(""),
            "failed certificate: the certificate is not trusted: its root `CN=Test Authority` is not trusted",
        )
        .await;
    }
    let bad: [(&str, &[u8], &str); 8] = [
        (
            "smtp",
            b"220 hi\r\n250 SIZE 1\r\n",
            "failed protocol: the server does not offer TLS; expected STARTTLS, got 250 SIZE 1",
        ),
        ("smtp", b"554 go away\r\n", "failed protocol: the server rejected STARTTLS; expected 220 …, got 554 go away"),
        (
            "imap",
            b"* OK hi\r\na1 BAD no\r\n",
            "failed protocol: the server rejected STARTTLS; expected a1 OK …, got a1 BAD no",
        ),
        (
            "pop3",
            b"+OK hi\r\n-ERR no\r\n",
            "failed protocol: the server rejected STARTTLS; expected +OK …, got -ERR no",
        ),
        ("ftp", b"220 hi\r\n500 no\r\n", "failed protocol: the server rejected STARTTLS; expected 234 …, got 500 no"),
        (
            "xmpp",
            b"<stream:stream><stream:features></stream:features>",
            "failed protocol: the server does not offer TLS",
        ),
        ("ldap", ldap_no, "failed protocol: the server does not offer TLS"),
        ("postgres", b"N", "failed protocol: the server does not offer TLS; expected STARTTLS, got N"),
    ];
    for (protocol, say, expected) in bad {
        let address = server(move |mut stream| async move {
            let _ = stream.write_all(say).await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        })
        .await;
        says(&format!("tcp: \"{address}\", starttls: {protocol}"), expected).await;
    }
    // Endless data is limited.
    let endless = server(|mut stream| async move { while stream.write_all(&[b'x'; 4096]).await.is_ok() {} }).await;
    says(&format!("tcp: \"{endless}\", starttls: smtp"), "failed protocol: the server does not offer TLS").await;
}

#[tokio::test]
async fn certificates_are_what_they_should_be() {
    let (config, pem) = certificate(20);
    let acceptor = tokio_rustls::TlsAcceptor::from(config);
    let address = serving(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let _ = stream.read(&mut [0; 16]).await;
            }
        }
    })
    .await;
    let check = async |expect: &str, expected: &str| {
        let text =
            format!("tls: \"localhost:{}\", trust: {{ca: ca.pem}}, expect: {{certificate: {expect}}}", address.port());
        says_with(&text, trusting(&pem), expected).await;
    };
    check("{expires_after: 19d}", "passed").await;
    check("{expires_after: 21d}", "failed certificate: the certificate of CN=a test is about to expire; expected valid for more than 21d, got 19d23h left").await;
    check("{names: {contains: localhost}}", "passed").await;
    check("{names: [localhost, 127.0.0.1]}", "passed").await;
    check("{names: {contains: a.example}}", r#"failed certificate: the names of the certificate; expected contains "a.example", got ["localhost","127.0.0.1"]"#).await;
    check("{subject: CN=a test, issuer: {contains: Test Authority}}", "passed").await;
    check(
        "{issuer: {contains: Nobody}}",
        r#"failed certificate: the issuer of the certificate; expected contains "Nobody", got "CN=Test Authority""#,
    )
    .await;
    check("{protocol: TLS 1.3, cipher: {starts_with: TLS_AES_}}", "passed").await;
    check("{protocol: TLS 1.2}", r#"failed tls: the version of TLS; expected "TLS 1.2", got "TLS 1.3""#).await;
    let limit = format!("tls: \"localhost:{}\", trust: {{ca: ca.pem}}, faster_than: 1ms", address.port());
    let outcome = run_with(&format!("checks:\n  a: {{{limit}}}\n"), trusting(&pem)).await;
    assert!(outcome.steps[0].certificate_expires_at.is_some());
}

#[tokio::test]
async fn certificates_of_answers_are_what_they_should_be() {
    let (config, pem) = certificate(20);
    let mut config = (*config).clone();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let address = serving(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            while heard(&mut stream, b"\r\n\r\n").await {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
            }
        }
    })
    .await;
    let url = format!("https://localhost:{}/", address.port());
    let check = async |expect: &str, expected: &str| {
        let text = format!("http: \"{url}\", trust: {{ca: ca.pem}}, expect: {{certificate: {expect}}}");
        says_with(&text, trusting(&pem), expected).await;
    };
    check("{expires_after: 19d, protocol: TLS 1.3, names: {contains: localhost}, issuer: {contains: Test}}", "passed")
        .await;
    check("{expires_after: 21d}", "failed certificate: the certificate of CN=a test is about to expire; expected valid for more than 21d, got 19d23h left").await;
    check("{cipher: X}", r#"failed tls: the cipher suite; expected "X", got "TLS_"#).await;
    check("{subject: CN=b}", r#"failed certificate: the subject of the certificate; expected "CN=b", got "CN=a test""#)
        .await;
    // The certificate is available on a reused connection too, and absent without TLS.
    let step = format!("  - GET: {url}\n    trust: {{ca: ca.pem}}\n    expect:\n      certificate: {{subject: CN=");
    let twice = format!("scenario: T\nsteps:\n{step}a test}}\n{step}b}}\n");
    let outcome = run_with(&twice, trusting(&pem)).await;
    assert_eq!(steps(&outcome), "PF");
    assert!(outcome.steps[1].http.as_ref().unwrap().hops[0].phases.tls.is_none());
    assert_eq!(outcome.steps[1].place, "t.yaml:10:21");
    let plain = Site::open().await.address;
    says(
        &format!(
            "http: \"http://{plain}/\", status: {{less_than: 600}}, expect: {{certificate: {{expires_after: 1d}}}}"
        ),
        "failed tls: the response was received without TLS: there is no certificate",
    )
    .await;
}

/// Records of a name, by UDP or TCP.
type Zone = fn(&str, bool) -> (u16, Vec<Vec<u8>>);

/// Starts a name server that responds over UDP and TCP at one address. `make` returns header flags, and the data of
/// records of the requested type.
async fn name_server(make: Zone) -> SocketAddr {
    let answer = move |question: &[u8], tcp: bool| {
        let end = 12 + question[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
        let mut labels = Vec::new();
        let mut at = 12;
        while question[at] > 0 {
            let length = usize::from(question[at]);
            labels.push(String::from_utf8_lossy(&question[at + 1..=at + length]).into_owned());
            at += 1 + length;
        }
        let (flags, records) = make(&labels.join("."), tcp);
        let mut bytes = question[..2].to_vec();
        bytes.extend_from_slice(&(0x8180 | flags).to_be_bytes());
        bytes.extend_from_slice(&[0, 1, 0, u8::try_from(records.len()).unwrap(), 0, 0, 0, 0]);
        bytes.extend_from_slice(&question[12..end]);
        for data in records {
            bytes.extend_from_slice(&[0xc0, 12, question[end - 4], question[end - 3], 0, 1, 0, 0, 0, 60]);
            bytes.extend_from_slice(&u16::try_from(data.len()).unwrap().to_be_bytes());
            bytes.extend_from_slice(&data);
        }
        bytes
    };
    // Both need the same port, which another test may be using for one of them.
    let (udp, tcp) = loop {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            break (udp, tcp);
        }
    };
    let address = udp.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = udp.recv_from(&mut buffer).await {
            // A response to another query comes first.
            let mut other = answer(&buffer[..length], false);
            other[0] ^= 0xff;
            let _ = udp.send_to(&other, from).await;
            let _ = udp.send_to(&answer(&buffer[..length], false), from).await;
        }
    });
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = tcp.accept().await {
            let length = usize::from(stream.read_u16().await.unwrap());
            let mut question = vec![0; length];
            stream.read_exact(&mut question).await.unwrap();
            let answer = answer(&question, true);
            stream.write_u16(u16::try_from(answer.len()).unwrap()).await.unwrap();
            stream.write_all(&answer).await.unwrap();
        }
    });
    address
}

fn zone(name: &str, tcp: bool) -> (u16, Vec<Vec<u8>>) {
    match name {
        "two.test" => (0, vec![vec![192, 0, 2, 2], vec![192, 0, 2, 1]]),
        "signed.test" => (0x20, vec![vec![192, 0, 2, 9]]),
        "large.test" if !tcp => (0x200, vec![]),
        "large.test" => (0, vec![vec![192, 0, 2, 7]]),
        "xn--grn-ioa.test" => (0, vec![vec![192, 0, 2, 8]]),
        "mail.test" => (0, vec![[&[0, 10][..], b"\x02mx\xc0\x0c"].concat()]),
        "text.test" => (0, vec![b"\x06v=spf1".to_vec()]),
        "1.2.0.192.in-addr.arpa" => (0, vec![b"\x04host\x04test\x00".to_vec()]),
        "empty.test" => (0, vec![]),
        "broken.test" => (2, vec![]),
        _ => (3, vec![]),
    }
}

#[tokio::test]
async fn names_resolve_to_what_they_should() {
    let address = name_server(zone).await;
    let check = async |name: &str, more: &str, expected: &str| {
        says(&format!("dns: {name}, server: \"{address}\"{more}"), expected).await;
    };
    check("two.test", "", "passed").await;
    check("two.test", ", expect: {answer: [192.0.2.1, 192.0.2.2]}", "passed").await;
    check("two.test", ", expect: {answer: {contains: 192.0.2.1}}, faster_than: 1m", "passed").await;
    check(
        "two.test",
        ", expect: {answer: 192.0.2.1}",
        r#"failed assertion: the A records; expected "192.0.2.1", got ["192.0.2.2","192.0.2.1"]"#,
    )
    .await;
    check("mail.test", ", record: MX, expect: {answer: 10 mx.mail.test}", "passed").await;
    check("text.test", ", record: TXT, expect: {answer: {starts_with: v=spf1}}", "passed").await;
    check("192.0.2.1", ", record: PTR, expect: {answer: host.test.}", "passed").await;
    check("large.test", ", expect: {answer: 192.0.2.7}", "passed").await;
    check("signed.test", ", expect: {dnssec: true}", "passed").await;
    check(
        "two.test",
        ", expect: {dnssec: true}",
        "failed assertion: DNSSEC validation reported by the server; expected verified (AD), got not verified",
    )
    .await;
    check("gone.test", "", "failed dns: the name did not resolve; expected NOERROR, got NXDOMAIN").await;
    check("gone.test", ", expect: {rcode: NXDOMAIN}", "passed").await;
    check(
        "gone.test",
        ", expect: {rcode: REFUSED}",
        r#"failed assertion: the response code; expected "REFUSED", got "NXDOMAIN""#,
    )
    .await;
    check("broken.test", "", "failed dns: the name did not resolve; expected NOERROR, got SERVFAIL").await;
    check("empty.test", ", record: AAAA", "failed dns: the name has no AAAA records").await;
    check("empty.test", ", record: CAA, expect: {answer: {exists: false}}", "passed").await;
    // With TLS, the certificate must be valid for the name and signed by a trusted authority.
    let (config, _) = certificate(20);
    let acceptor = tokio_rustls::TlsAcceptor::from(config);
    let secure = serving(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let _ = acceptor.accept(stream).await;
        }
    })
    .await;
    says(&format!("dns: two.test, server: \"tls://localhost:{}\"", secure.port()), "failed certificate: ").await;
    says(&format!("dns: two.test, server: \"https://localhost:{}/dns-query\"", secure.port()), "failed certificate: ")
        .await;
    // No response, and a response to another query.
    let (_socket, closed) = deaf().await;
    says(&format!("dns: two.test, server: \"{closed}\""), "failed connect: no response from 127.0.0.1:").await;
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let silent = silent.local_addr().map(|address| (address, silent)).unwrap();
    says(&format!("dns: two.test, server: \"{}\", timeout: 200ms", silent.0), "failed timeout: timed out after ").await;
}

#[tokio::test]
async fn a_host_answers_an_echo() {
    for host in ["127.0.0.1", "\"::1\"", "localhost"] {
        says(&format!("ping: {host}, faster_than: 10s"), "passed").await;
    }
    // Broadcast pings are not allowed.
    says("ping: 255.255.255.255", "failed connect: no route to 255.255.255.255: ").await;
    says("ping: nobody.invalid", "failed dns: ").await;
}

/// Runs a gRPC server in which `good` is serving, `bad` is not, and `lost` has an unknown state.
async fn health(stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static) {
    use http_body_util::{BodyExt as _, Full};
    use hyper::body::{Bytes, Incoming};
    use hyper::{Request, Response};
    let service = hyper::service::service_fn(|request: Request<Incoming>| async move {
        let path = request.uri().path().to_owned();
        let asked = request.into_body().collect().await.unwrap().to_bytes();
        let name = String::from_utf8_lossy(asked.get(7..).unwrap_or_default()).into_owned();
        let (state, code, told) = match (path.as_str(), name.as_str()) {
            ("/grpc.health.v1.Health/Check", "" | "good") => (Some(1), "0", ""),
            (_, "bad") => (Some(2), "0", ""),
            (_, "denied") => (None, "7", "not%20you"),
            (_, "garbage") => (Some(0xff), "0", ""),
            _ => (None, "5", ""),
        };
        let message = state.map(|state| vec![0, 0, 0, 0, 2, 8, state]).unwrap_or_default();
        let mut trailers = hyper::HeaderMap::new();
        trailers.insert("grpc-status", code.parse().unwrap());
        trailers.insert("grpc-message", told.parse().unwrap());
        let body = Full::new(Bytes::from(message)).with_trailers(async move { Some(Ok(trailers)) });
        Ok::<_, std::convert::Infallible>(
            Response::builder().header("content-type", "application/grpc").body(body).unwrap(),
        )
    });
    let executor = hyper_util::rt::TokioExecutor::new();
    let stream = hyper_util::rt::TokioIo::new(stream);
    let _ = hyper::server::conn::http2::Builder::new(executor).serve_connection(stream, service).await;
}

/// Starts a proxy whose tunnels all lead to one address.
async fn tunnelling(to: SocketAddr) -> SocketAddr {
    serving(move |mut stream| async move {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(byte) = stream.read_u8().await else { return };
            head.push(byte);
        }
        assert!(head.starts_with(b"CONNECT "), "{}", String::from_utf8_lossy(&head));
        let mut server = TcpStream::connect(to).await.unwrap();
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        let _ = tokio::io::copy_bidirectional(&mut stream, &mut server).await;
    })
    .await
}

#[tokio::test]
async fn a_grpc_service_is_well() {
    let plain = serving(health).await;
    let check = async |service: &str, expected: &str| {
        says(&format!("grpc: \"{plain}\"{service}"), expected).await;
    };
    check("", "passed").await;
    check(", service: good, faster_than: 1m", "passed").await;
    check(", service: bad", "failed assertion: service is not SERVING; expected SERVING, got NOT_SERVING").await;
    check(", service: othe", "failed status: unknown service; expected OK, got NOT_FOUND").await;
    check(
        ", service: denied",
        "failed status: the health service returned an error; expected OK, got PERMISSION_DENIED: not you",
    )
    .await;
    check(", service: garbage", "failed protocol: the response is not a HealthCheckResponse").await;
    let (config, pem) = certificate(20);
    let acceptor = tokio_rustls::TlsAcceptor::from(config);
    let secure = serving(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                health(stream).await;
            }
        }
    })
    .await;
    let port = secure.port();
    says_with(&format!("grpc: \"localhost:{port}\", trust: {{ca: ca.pem}}"), trusting(&pem), "passed").await;
    says(&format!("grpc: \"https://localhost:{port}\""), "failed certificate: ").await;
    // The address and the proxy replace the resolution of the name, which may be internationalized.
    let pinned = format!("resolve: \"{plain}\"");
    says(&format!("grpc: \"grün.invalid:1\", {pinned}"), "passed").await;
    let proxy = tunnelling(plain).await;
    says(&format!("grpc: \"grün.invalid:9000\", proxy: \"http://{proxy}\""), "passed").await;
    let old = server(|mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    says(&format!("grpc: \"{old}\""), "failed protocol: HTTP/2 error: ").await;
    let closes = server(|stream| async move { drop(stream) }).await;
    says(&format!("grpc: \"{closes}\""), "failed protocol: ").await;
}

#[tokio::test]
async fn a_websocket_says_what_it_should() {
    use futures_util::{SinkExt as _, StreamExt as _};
    use tokio_tungstenite::tungstenite::Message;
    use tokio_tungstenite::tungstenite::protocol::CloseFrame;
    use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
    let address = server(|stream| async move {
        let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
        while let Some(Ok(message)) = socket.next().await {
            match message.to_text().unwrap_or_default() {
                "ping" => {
                    let _ = socket.send(Message::text("wait")).await;
                    let _ = socket.send(Message::binary(b"pong".to_vec())).await;
                }
                "bye" => {
                    let (code, reason) = (CloseCode::Policy, "Schlüssel fehlt".into());
                    drop(socket.close(Some(CloseFrame { code, reason })).await);
                }
                "end" => drop(socket.close(None).await),
                "large" => drop(socket.send(Message::text("x".repeat(2 << 20))).await),
                _ => {}
            }
        }
    })
    .await;
    let check = async |more: &str, expected: &str| {
        says(&format!("websocket: \"ws://{address}/feed\"{more}"), expected).await;
    };
    check("", "passed").await;
    check(", headers: {X-A: b}, send: ping, receive: pong, faster_than: 1m", "passed").await;
    check(", send: ping, receive: {starts_with: wa}", "passed").await;
    check(
        ", send: bye, receive: pong",
        r#"failed assertion: the server closed the WebSocket with 1008 (policy violation): Schlüssel fehlt; expected "pong", got nothing"#,
    )
    .await;
    check(
        ", send: end, receive: pong",
        r#"failed assertion: the server closed the WebSocket; expected "pong", got nothing"#,
    )
    .await;
    says(
        &format!("websocket: \"ws://feed.invalid/feed\", resolve: \"{address}\", send: ping, receive: pong"),
        "passed",
    )
    .await;
    let proxy = tunnelling(address).await;
    says(
        &format!("websocket: \"ws://feed.invalid/feed\", proxy: \"http://{proxy}\", send: ping, receive: pong"),
        "passed",
    )
    .await;
    check(
        ", headers: {Sec-WebSocket-Protocol: \"chat, echo\"}",
        "failed protocol: the server selected none of the offered subprotocols (chat, echo)",
    )
    .await;
    check(", send: ping, receive: gong, timeout: 300ms", "failed timeout: the expected message was not received").await;
    check(", send: large, receive: pong", "failed too_large: a message is larger than 1 MiB").await;
    let site = Site::open().await;
    says(
        &format!("websocket: \"ws://{}/text\"", site.address),
        "failed status: the server did not open a WebSocket; expected status 101, got 200",
    )
    .await;
    let (_socket, closed) = nobody();
    says(&format!("websocket: \"ws://{closed}/\""), "failed connect: no connection to ").await;
}

#[tokio::test]
async fn redis_answers_what_it_should() {
    let address = server(|stream| async move {
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        loop {
            // A command is a list of strings, as sent by every client.
            line.clear();
            if tokio::io::AsyncBufReadExt::read_line(&mut stream, &mut line).await.unwrap_or(0) == 0 {
                return;
            }
            let mut words = Vec::new();
            for _ in 0..line[1..].trim().parse::<usize>().unwrap() {
                let mut length = String::new();
                tokio::io::AsyncBufReadExt::read_line(&mut stream, &mut length).await.unwrap();
                let mut word = vec![0; length[1..].trim().parse::<usize>().unwrap() + 2];
                stream.read_exact(&mut word).await.unwrap();
                words.push(String::from_utf8_lossy(&word[..word.len() - 2]).into_owned());
            }
            let answer = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
                ["AUTH", "p ss"] | ["AUTH", "me", "p ss"] | ["SELECT", "3"] => "+OK\r\n",
                ["AUTH", ..] => "-WRONGPASS invalid username-password pair\r\n",
                ["PING"] => "+PONG\r\n",
                ["LLEN", "queue"] => ":7\r\n",
                ["GET", "gone"] => "$-1\r\n",
                ["GET", "word"] => "$9\r\nit: p ss!\r\n",
                ["LRANGE", "queue", "0", "-1"] => "*2\r\n$1\r\na\r\n:2\r\n",
                ["BAD"] => "HTTP/1.1 400\r\n",
                _ => "-ERR unknown command\r\n",
            };
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await;
    let check = async |more: &str, expected: &str| {
        says(&format!("redis: \"redis://{address}\"{more}"), expected).await;
    };
    check("", "passed").await;
    check(", command: [LLEN, queue], expect: {value: {less_than: 10}}, faster_than: 1m", "passed").await;
    check(", command: [LLEN, queue], expect: {value: 8}", "failed assertion: the response; expected 8, got 7").await;
    check(", command: [GET, gone], expect: {value: {exists: false}}", "passed").await;
    check(", command: [LRANGE, queue, 0, -1], expect: {value: {count: 2}}", "passed").await;
    check(", command: [LRANGE, queue, 0, -1], expect: {value: [a, 2]}", "passed").await;
    check(
        ", command: [NOPE]",
        "failed assertion: the server rejected `NOPE`; expected a response, got ERR unknown command",
    )
    .await;
    check(", command: [BAD]", "failed protocol: not a response of a Redis serve").await;
    says(&format!("redis: \"redis://:p%20ss@{address}/3\""), "passed").await;
    says(&format!("redis: \"redis://me:p%20ss@{address}\""), "passed").await;
    // A password in an address is masked wherever it is repeated.
    let text = format!(
        "checks:\n  a: {{redis: \"redis://me:wrong@{address}\", command: [GET, word], expect: {{value: x}}}}\n"
    );
    let outcome = run_text(&text).await;
    assert!(shown(&outcome).starts_with("failed assertion: the server rejected `AUTH`"), "{}", shown(&outcome));
    let told = serde_json::to_string(&outcome).unwrap();
    assert!(!told.contains("wrong@") && told.contains("redis://***@127.0.0.1"), "{told}");
    let text =
        format!("checks:\n  a: {{redis: \"redis://:p%20ss@{address}\", command: [GET, word], expect: {{value: x}}}}\n");
    assert!(shown(&run_text(&text).await).ends_with(r#"got "it: ***!""#));
    let (_socket, closed) = nobody();
    says(&format!("redis: \"redis://{closed}\""), "failed connect: no connection to ").await;
}

#[tokio::test]
async fn a_clock_is_near_enough() {
    /// Seconds from 1900 to 1970.
    const EPOCH: i64 = 2_208_988_800;
    let time = |ahead: i64, stratum: u8, leap: u8| async move {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((48, from)) = socket.recv_from(&mut buffer).await {
                assert_eq!(buffer[0], 0b00_100_011, "version 4, a client");
                let now = Utc::now();
                let seconds = u32::try_from((now.timestamp() + EPOCH + ahead) % (1 << 32)).unwrap();
                let fraction = u32::try_from((u64::from(now.timestamp_subsec_nanos()) << 32) / 1_000_000_000).unwrap();
                let stamp = [seconds.to_be_bytes(), fraction.to_be_bytes()].concat();
                let mut answer = [0; 48];
                (answer[0], answer[1]) = (leap << 6 | 0b100_100, stratum);
                answer[12..16].copy_from_slice(b"RATE");
                answer[24..32].copy_from_slice(&buffer[40..48]);
                answer[32..40].copy_from_slice(&stamp);
                answer[40..48].copy_from_slice(&stamp);
                // A response to another request comes first.
                let mut other = answer;
                other[24] ^= 1;
                let _ = socket.send_to(&other, from).await;
                let _ = socket.send_to(&answer, from).await;
            }
        });
        address
    };
    let check = async |address: SocketAddr, expect: &str, expected: &str| {
        says(&format!("ntp: \"{address}\"{expect}"), expected).await;
    };
    let exact = time(0, 2, 0).await;
    check(exact, "", "passed").await;
    check(exact, ", expect: {offset: {less_than: 2s}}, faster_than: 1m", "passed").await;
    for ahead in [100, -100] {
        let off = time(ahead, 2, 0).await;
        check(off, ", expect: {offset: {between: [98s, 1m42s]}}", "passed").await;
        check(
            off,
            ", expect: {offset: {less_than: 100ms}}",
            "failed assertion: the offset of its clock, in seconds; expected less than 0.1, got ",
        )
        .await;
    }
    check(time(0, 0, 0).await, "", "failed assertion: server sent kiss-o'-death; expected the time, got `RATE`").await;
    check(time(0, 2, 3).await, "", "failed assertion: the clock of the server is not synchronized").await;
    check(time(0, 16, 0).await, "", "failed assertion: the clock of the server is not synchronized").await;
    let (_socket, closed) = deaf().await;
    check(closed, "", "failed connect: no response from 127.0.0.1:").await;
}

/// Lookup that allows every program.
struct Programs;

impl Lookup for Programs {
    fn env(&self, name: &str) -> Result<String, LookupError> {
        Ok(if name == "PW" { "a long secret" } else { "" }.to_owned())
    }
    fn file(&self, path: &Path, beside: &str) -> Result<Vec<u8>, LookupError> {
        let file = Path::new(beside).parent().unwrap().join(path);
        std::fs::read(file).map_err(|error| LookupError::Missing(error.to_string()))
    }
    fn exec(&self, _: &str) -> Result<Vec<(String, String)>, LookupError> {
        Ok(vec![("PATH".into(), std::env::var("PATH").unwrap()), ("GIVEN".into(), "yes".into())])
    }
}

/// Runs a shell script as a check in its own folder.
async fn exec(script: &str, more: &str, ticket: RunRequest) -> (Outcome, String) {
    let folder = Folder::new();
    std::fs::create_dir_all(&folder.0).unwrap();
    let script = json!(script);
    let text = format!(
        "secrets: {{pw: {{env: PW}}}}\nchecks:\n  a: {{exec: [sh, -c, {script}, sh, \"${{secret.pw}}\"]{more}}}\n"
    );
    let loaded = load(&folder.0.join("t.yaml").to_string_lossy(), &text, &Programs);
    assert!(loaded.diagnostics.is_empty(), "{text}\n{:#?}", loaded.diagnostics);
    let outcome = run(&loaded.scenarios[0], &tools(Programs, &folder), ticket).await;
    let kept = outcome.evidence.first().map(|kept| std::fs::read_to_string(folder.0.join(&kept.path)).unwrap());
    (outcome, kept.unwrap_or_default())
}

#[tokio::test]
async fn a_command_ends_well() {
    let check = async |script: &str, more: &str, expected: &str, output: &str| {
        let (outcome, kept) = exec(script, more, RunRequest::default()).await;
        assert!(shown(&outcome).starts_with(expected), "{script}: {}", shown(&outcome));
        assert_eq!(kept, output, "{script}");
    };
    check("exit 0", ", faster_than: 1m", "passed", "").await;
    check("test \"$GIVEN\" = yes && test -z \"$HOME\" && test -d .", "", "passed", "").await;
    check(
        "echo one; echo two >&2; exit 3",
        "",
        "failed exec: `sh` failed; expected exit code 0, got exit code 3: ",
        "one\ntwo\n",
    )
    .await;
    check("echo $1; exit 1", "", "failed exec: `sh` failed; expected exit code 0, got exit code 1: ***", "***\n").await;
    check("kill -9 $$", "", "failed exec: `sh` failed; expected exit code 0, got signal 9", "").await;
    let (outcome, kept) = exec("yes | head -c 1000000; echo end; exit 1", "", RunRequest::default()).await;
    assert!(kept.ends_with("y\nend\n") && kept.len() <= 128 << 10, "{} {}", kept.len(), shown(&outcome));
    // A program that was not allowed does not run, and neither does a missing one.
    let loaded = load("t.yaml", "checks:\n  a: {exec: [sh]}\n", &Given::default());
    assert_eq!(loaded.diagnostics[0].message, "the program `sh` is not allowed here");
    let outcome = run(&loaded.scenarios[0], &tools(Given::default(), &Folder::new()), RunRequest::default()).await;
    assert_eq!(shown(&outcome), "unknown configuration: the program `sh` is not allowed here");
    let missing = load("t.yaml", "checks:\n  a: {exec: [wachta-no-such-program]}\n", &Programs);
    let outcome = run(&missing.scenarios[0], &tools(Programs, &Folder::new()), RunRequest::default()).await;
    assert!(shown(&outcome).starts_with("unknown configuration: `wachta-no-such-program` did not start: "));
}

/// Returns whether a process is running.
fn runs(id: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", id.trim())).unwrap_or_default();
    // A zombie process has ended.
    !stat.is_empty() && !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z')
}

async fn gone(id: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while runs(id) {
        assert!(Instant::now() < deadline, "process {id} runs on");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_command_ends_with_all_of_its_processes() {
    // At the timeout, with a child that ignores SIGTERM.
    let script = "(trap '' TERM; sleep 600) & echo $! >&2; wait";
    let (outcome, kept) = exec(script, ", timeout: 300ms", RunRequest::default()).await;
    assert!(shown(&outcome).starts_with("failed timeout: timed out after "), "{}", shown(&outcome));
    gone(&kept).await;
    // When the command exits by itself and leaves a process that holds its output.
    let (outcome, kept) = exec("sleep 600 & echo $!; exit 1", "", RunRequest::default()).await;
    assert_eq!(outcome.verdict, Verdict::Failed);
    assert!(outcome.duration < Duration::from_secs(60));
    gone(&kept).await;
    // When the run is cancelled.
    let ticket = RunRequest::default();
    let cancel = ticket.cancel.clone();
    let mark = std::env::temp_dir().join(format!("wachta-exec-{}", RunId::new()));
    let script = format!("sleep 600 & echo $! > {0}.new; mv {0}.new {0}; wait", mark.display());
    let (outcome, id) = tokio::join!(exec(&script, "", ticket), async {
        let deadline = Instant::now() + Duration::from_secs(60);
        let id = loop {
            match std::fs::read_to_string(&mark) {
                Ok(id) => break id,
                Err(_) => assert!(Instant::now() < deadline, "the command never began"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        cancel.cancel();
        id
    });
    let _ = std::fs::remove_file(&mark);
    assert_eq!(shown(&outcome.0), "unknown lost: the agent was stopped during the run");
    gone(&id).await;
}

#[tokio::test]
async fn the_cases_of_a_suite_are_steps() {
    let report = |cases: &str| format!("printf '%s' '<testsuite name=\"s\">{cases}</testsuite>' > report.xml");
    let bad = r#"<testcase name="one" time="0.25"/><testcase name="two"><failure message="no a long secret"/></testcase><testcase name="three"><skipped/></testcase>"#;
    let check = async |script: &str, expected: &str, ended: &str| {
        let (outcome, _) = exec(script, ", junit: report.xml", RunRequest::default()).await;
        assert_eq!((shown(&outcome).as_str(), steps(&outcome).as_str()), (expected, ended), "{script}");
        outcome
    };
    let failed = "failed exec: 1 of 3 tests failed; expected all pass, got two: no ***";
    let outcome = check(&format!("{}; exit 1", report(bad)), failed, "FPFS").await;
    let names: Vec<_> = outcome.steps.iter().map(|step| (step.name.as_str(), step.depth)).collect();
    assert_eq!(names[1..], [("one", 1), ("two", 1), ("three", 1)]);
    assert_eq!(outcome.steps[1].duration, Duration::from_millis(250));
    assert_eq!(outcome.steps_of_file().count(), 1);
    assert_eq!(outcome.steps[2].failure.as_ref().unwrap().message.as_str(), "no ***");
    // A successful command does not override its report.
    check(&report(bad), failed, "FPFS").await;
    check(&report("<testcase name=\"one\"/>"), "passed", "PP").await;
    check("true", "failed exec: the command wrote no `report.xml`", "F").await;
    check("echo no > report.xml", "failed exec: `report.xml` is not a JUnit report: there is no test suite in it", "F")
        .await;
    check("exit 2", "failed exec: `sh` failed; expected exit code 0, got exit code 2", "F").await;
}

/// Requests to an object store: host, path and query, without the signature, which is verified.
type Asked = Arc<Mutex<Vec<String>>>;

/// Computes the AWS version 4 signature of a presigned URL from the canonical request.
fn signature(method: &str, host: &str, path: &str, query: &str, secret: &str) -> String {
    use hmac::{Hmac, KeyInit as _, Mac as _};
    use sha2::{Digest as _, Sha256};
    let hmac = |key: &[u8], text: &str| {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
        mac.update(text.as_bytes());
        mac.finalize().into_bytes().to_vec()
    };
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let pairs: HashMap<String, String> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let scope = pairs["X-Amz-Credential"].split_once('/').unwrap().1.to_owned();
    let mut signed: Vec<&str> = query.split('&').filter(|pair| !pair.starts_with("X-Amz-Signature=")).collect();
    signed.sort_unstable();
    let request = format!("{method}\n{path}\n{}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD", signed.join("&"));
    let digest = hex(Sha256::digest(request.as_bytes()).as_slice());
    let text = format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{digest}", pairs["X-Amz-Date"]);
    let mut key = format!("AWS4{secret}").into_bytes();
    for part in scope.split('/') {
        key = hmac(&key, part);
    }
    hex(&hmac(&key, &text))
}

async fn objects(
    State(asked): State<Asked>,
    method: axum::http::Method,
    headers: HeaderMap,
    uri: axum::http::Uri,
) -> axum::response::Response {
    let (host, query) = (headers[header::HOST].to_str().unwrap(), uri.query().unwrap_or_default());
    let pairs: HashMap<String, String> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    if let Some(given) = pairs.get("X-Amz-Signature") {
        let expected = signature(method.as_str(), host, uri.path(), query, "a long secret");
        if *given != expected || !pairs["X-Amz-Credential"].contains("/eu-central-1/s3/aws4_request") {
            let body = "<Error><Code>SignatureDoesNotMatch</Code><Message>no</Message></Error>";
            return (StatusCode::FORBIDDEN, body).into_response();
        }
    }
    asked.lock().unwrap().push(format!("{method} {}", uri.path()));
    let ago = |seconds: i64| Utc::now() - chrono::TimeDelta::seconds(seconds);
    if pairs.contains_key("list-type") {
        let object = |key: &str, seconds: i64, size: u64| {
            let at = ago(seconds).to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
            format!(
                "<Contents><Key>{key}</Key><LastModified>{at}</LastModified><ETag>e</ETag><Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            )
        };
        let (objects, next) = match (pairs["prefix"].as_str(), pairs.get("continuation-token").map(String::as_str)) {
            ("backups/", None) => (object("backups/1", 90_000, 5), "<NextContinuationToken>t</NextContinuationToken>"),
            ("backups/", Some("t")) => (object("backups/2", 3600, 2_000_000) + &object("backups/0", 180_000, 9), ""),
            _ => (String::new(), ""),
        };
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>bucket</Name><Prefix></Prefix><MaxKeys>1000</MaxKeys><KeyCount>1</KeyCount><IsTruncated>{}</IsTruncated>{objects}{next}</ListBucketResult>",
            !next.is_empty()
        );
        return body.into_response();
    }
    match uri.path() {
        "/bucket/daily/orders.dump" => {
            let at = ago(7200).format("%a, %d %b %Y %H:%M:%S GMT").to_string();
            ([(header::LAST_MODIFIED, at), (header::CONTENT_LENGTH, "12345".to_owned())], ()).into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

#[tokio::test]
async fn objects_are_young_and_large_enough() {
    let asked = Asked::default();
    let router = Router::new().fallback(any(objects)).with_state(Arc::clone(&asked));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    let check = async |key: &str, secret: &str, expect: &str, expected: &str| {
        let given = Given { env: HashMap::from([("KEY", secret.to_owned())]), ..Given::default() };
        let text = format!(
            "secrets: {{key: {{env: KEY}}}}\nchecks:\n  a: {{s3: \"http://{address}/bucket\", key: \"{key}\", region: eu-central-1, credentials: {{access_key: AKIA, secret_key: \"${{secret.key}}\"}}, expect: {expect}}}\n"
        );
        let seen = shown(&run_with(&text, given).await);
        assert!(seen.starts_with(expected), "{key} {expect}: {seen}");
    };
    let good = "a long secret";
    check("daily/orders.dump", good, "{age: {less_than: 3h}, size: {greater_than: 12KB}, count: 1}", "passed").await;
    check(
        "daily/orders.dump",
        good,
        "{age: {less_than: 1h}}",
        "failed assertion: the age of the newest object in seconds, written ",
    )
    .await;
    check(
        "daily/orders.dump",
        good,
        "{size: {greater_than: 1MB}}",
        "failed assertion: the size of the newest object in bytes; expected greater than 1000000, got 12345",
    )
    .await;
    check("gone", good, "{age: {less_than: 1h}}", "failed assertion: no such object; expected gone, got nothing").await;
    check("backups/*", good, "{count: 3, age: {less_than: 2h}, size: 2MB}", "passed").await;
    check(
        "backups/*",
        good,
        "{count: {greater_than: 3}}",
        "failed assertion: the number of objects; expected greater than 3, got 3",
    )
    .await;
    check("none/*", good, "{count: 0}", "passed").await;
    check("none/*", good, "{age: {less_than: 1h}}", "failed assertion: no such object").await;
    assert!(asked.lock().unwrap().len() >= 10);
    let before = asked.lock().unwrap().len();
    check(
        "backups/*",
        "another secret",
        "{count: 3}",
        "failed status: the storage service rejected the request; expected status 200, got 403 SignatureDoesNotMatch: no",
    )
    .await;
    assert_eq!(asked.lock().unwrap().len(), before, "a wrong signature was taken");
    says(&format!("s3: \"http://{address}/bucket\", key: daily/orders.dump"), "passed").await;
    let pinned = format!("resolve: \"{address}\"");
    says(&format!("s3: \"http://store.invalid/bucket\", key: daily/orders.dump, {pinned}"), "passed").await;
    // Without TLS, a proxy reads the requests itself.
    let proxy = format!("proxy: \"http://{address}\"");
    says(&format!("s3: \"http://store.invalid/bucket\", key: daily/orders.dump, {proxy}"), "passed").await;
    let (_socket, closed) = nobody();
    says(&format!("s3: \"http://{closed}/bucket\", key: a"), "failed connect: no connection to ").await;
}

#[tokio::test]
async fn someone_calls_in() {
    use crate::store::{CheckIn, CheckIns as _, Sqlite};
    says("heartbeat: job", "unknown configuration: check-ins are received by `wachta serve` only").await;
    let store = Arc::new(Sqlite::open("sqlite::memory:").await.unwrap());
    let long_ago = Utc::now() - chrono::TimeDelta::days(1);
    let (awake_since, since) = tokio::sync::watch::channel(long_ago);
    let folder = Folder::new();
    let mut tools = tools(Given::default(), &folder);
    tools.beats = Some(check::CheckIns::new(Arc::clone(&store) as _, since));
    let scenario = &scenarios("checks:\n  a: {heartbeat: job, every: 1h, grace: 5m}\n")[0];
    assert_eq!((scenario.alert.after, scenario.alert.of), (1, 1));
    // The heartbeat is evaluated after its due time plus the grace.
    let now = Utc::now();
    let due = scenario.schedule.next_after(&scenario.id, now - chrono::TimeDelta::minutes(5)).unwrap();
    assert_eq!(scenario.next_after(now), Some(due + chrono::TimeDelta::minutes(5)));
    let check = async |expected: &str| {
        let seen = shown(&run(scenario, &tools, RunRequest::default()).await);
        assert!(seen.starts_with(expected), "saw {seen}, expected {expected}");
    };
    check("unknown not_seen: no check-in from `job` yet; it checks in with a request to /beat/job").await;
    store.check_in("othe", CheckIn::CheckInEnd(0), now).await.unwrap();
    check("unknown not_seen").await;
    store.check_in("job", CheckIn::Started, now).await.unwrap();
    check("failed heartbeat: no check-in from `job`; expected a check-in within the 1h5m before ").await;
    store.check_in("job", CheckIn::CheckInEnd(0), now).await.unwrap();
    check("passed").await;
    store.check_in("job", CheckIn::CheckInEnd(3), now).await.unwrap();
    check("failed heartbeat: `job` reported a failure; expected success, got exit code 3, ").await;
    store.check_in("job", CheckIn::CheckInEnd(0), long_ago).await.unwrap();
    store.check_in("job", CheckIn::Started, long_ago).await.unwrap();
    check("failed heartbeat: no check-in from `job`").await;
    awake_since.send_replace(now);
    check("unknown asleep: no check-in from `job`, but the agent receives check-ins only since ").await;
    // The store is gone, which is an agent fault.
    store.close().await;
    check("unknown store: ").await;
}
