//! Connections to local servers with scripted behavior.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::names::Reason;
use crate::wire::tls::{Settings, Trusted};

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn get(path: &str) -> Request<Full<Bytes>> {
    Request::get(path).header("host", "here").body(Full::default()).unwrap()
}

/// Reads the head of one request.
async fn head(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => text.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(text).unwrap()
}

async fn connected(address: SocketAddr, protocol: Protocol) -> Connection {
    let dialed =
        Dialer::default().dial(&address.ip().to_string(), address.port(), &DialOptions::default()).await.unwrap();
    Connection::begin(Stream::Plain(dialed.stream), protocol).await.unwrap()
}

#[tokio::test]
async fn addresses_are_chosen_by_family_and_source() {
    let four: IpAddr = "127.0.0.1".parse().unwrap();
    let six: IpAddr = "::1".parse().unwrap();
    let check = |family, source, expected: &[IpAddr]| {
        let route = DialOptions { family, source, pinned: None };
        assert_eq!(route.choose(vec![six, four, four]), expected, "{family:?} {source:?}");
    };
    check(AddressFamily::Any, None, &[six, four]);
    check(AddressFamily::Prefer4, None, &[four, six]);
    check(AddressFamily::Prefer6, None, &[six, four]);
    check(AddressFamily::Only4, None, &[four]);
    check(AddressFamily::Only6, None, &[six]);
    check(AddressFamily::Any, Some(four), &[four]);
    check(AddressFamily::Only6, Some(four), &[]);
    let only6 = DialOptions { family: AddressFamily::Only6, ..DialOptions::default() };
    let failure = Dialer::default().resolve("127.0.0.1", &only6).await.map(drop).unwrap_err();
    assert_eq!((failure.reason, failure.message.as_str()), (Reason::Dns, "`127.0.0.1` has no IPv6 address"));
    assert_eq!(Dialer::default().resolve("[::1]", &DialOptions::default()).await.unwrap().addresses, [six]);
    let failure = Dialer::default().resolve("no such name", &DialOptions::default()).await.map(drop).unwrap_err();
    assert_eq!(failure.reason, Reason::Dns);
}

#[tokio::test]
async fn a_pinned_address_is_taken_whatever_the_name() {
    let (listener, address) = listener().await;
    let route = DialOptions { pinned: Some(address), ..DialOptions::default() };
    let dialed = Dialer::default().dial("no such name", 1, &route).await.unwrap();
    assert_eq!(dialed.peer, address);
    drop(listener);
    let failure = Dialer::default().dial("no such name", 1, &route).await.unwrap_err();
    assert_eq!(failure.reason, Reason::Connect);
    let elsewhere = DialOptions { source: Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))), ..DialOptions::default() };
    let failure = Dialer::default().dial("127.0.0.1", address.port(), &elsewhere).await.unwrap_err();
    assert_eq!(failure.reason, Reason::Configuration);
}

#[tokio::test]
async fn a_connection_is_used_again_until_the_server_closes_it() {
    let (listener, address) = listener().await;
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        for body in ["one", "two"] {
            assert!(head(&mut stream).await.starts_with("GET /x HTTP/1.1\r\n"));
            let answer = format!("HTTP/1.1 200 OK\r\nx-a: b\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let mut connection = connected(address, Protocol::Http1).await;
    for expected in ["one", "two"] {
        let mut answer = connection.exchange(get("/x")).await.unwrap();
        assert_eq!((answer.head.status.as_u16(), answer.head.headers["x-a"].to_str().unwrap()), (200, "b"));
        assert_eq!(answer.length(), Some(3));
        let mut body = Vec::new();
        answer.read(&mut body, 3).await.unwrap();
        assert_eq!(body, expected.as_bytes());
    }
    server.await.unwrap();
    let unanswered = connection.exchange(get("/x")).await.err().unwrap();
    assert_eq!(unanswered.failure.reason, Reason::Protocol);
    assert!(!connection.is_open());
}

#[tokio::test]
async fn a_body_is_read_up_to_its_limit_and_what_came_is_kept() {
    let (listener, address) = listener().await;
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
        while stream.write_all(b"4\r\nabcd\r\n").await.is_ok() {}
    });
    let mut connection = connected(address, Protocol::Http1).await;
    let mut answer = connection.exchange(get("/")).await.unwrap();
    let mut body = Vec::new();
    let failure = answer.read(&mut body, 1000).await.unwrap_err();
    assert_eq!(
        (failure.reason, failure.message.as_str()),
        (Reason::TooLarge, "the response body is larger than 1000 bytes")
    );
    assert!(body.starts_with(b"abcdabcd") && body.len() <= 1000);
    drop(connection);
    // The socket is closed with the connection, so the server's write ends.
    server.await.unwrap();
}

#[tokio::test]
async fn heads_are_limited() {
    for (line, times) in [("x: y\r\n".to_owned(), 100_000), (format!("x: {}\r\n", "y".repeat(1000)), 100_000)] {
        let (listener, address) = listener().await;
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            head(&mut stream).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
            for _ in 0..times {
                if stream.write_all(line.as_bytes()).await.is_err() {
                    break;
                }
            }
        });
        let mut connection = connected(address, Protocol::Http1).await;
        let failure = connection.exchange(get("/")).await.err().unwrap().failure;
        assert_eq!(failure.reason, Reason::TooLarge, "{}", failure.message);
        drop(connection);
        server.await.unwrap();
    }
}

#[tokio::test]
async fn http2_is_spoken_on_one_task() {
    let (listener, address) = listener().await;
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let service = hyper::service::service_fn(|request: Request<hyper::body::Incoming>| async move {
            let body = Full::new(Bytes::from(format!("{} {:?}", request.uri(), request.version())));
            Ok::<_, std::convert::Infallible>(hyper::Response::new(body))
        });
        let io = hyper_util::rt::TokioIo::new(stream);
        hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new())
            .serve_connection(io, service)
            .await
    });
    let mut connection = connected(address, Protocol::Http2).await;
    for path in ["/one", "/two"] {
        let uri = format!("http://{address}{path}");
        let request = Request::get(&uri).body(Full::default()).unwrap();
        let mut answer = connection.exchange(request).await.unwrap();
        assert_eq!(answer.head.version, hyper::Version::HTTP_2);
        let mut body = Vec::new();
        answer.read(&mut body, 1000).await.unwrap();
        assert_eq!(String::from_utf8(body).unwrap(), format!("{uri} HTTP/2.0"));
        assert!(connection.is_open());
    }
    drop(connection);
    let _ = server.await.unwrap();
}

#[tokio::test]
async fn certificates_are_seen_whether_or_not_they_are_accepted() {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".into()]).unwrap().self_signed(&key).unwrap();
    let der = certificate.der().clone();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![der.clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap());
    let mut config = config.unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let (listener, address) = listener().await;
    let server = tokio::spawn(async move {
        for _ in 0..3 {
            let (stream, _) = listener.accept().await.unwrap();
            let _ = acceptor.accept(stream).await;
        }
    });
    let trusted = Trusted::system();
    let insecure = trusted.build(Settings { insecure: true, ..Settings::default() }).unwrap();
    let route = DialOptions::default();
    let name = || server_name("localhost").unwrap();
    let stream = Dialer::default().dial("127.0.0.1", address.port(), &route).await.unwrap().stream;
    let refused = secure(stream, trusted.client_config(), name(), AlpnOffer::Http).await.unwrap_err();
    assert_eq!((refused.failure.reason, refused.chain.as_slice()), (Reason::Certificate, &[der.clone()][..]));
    for (offer, alpn) in [(AlpnOffer::Http, Some(&b"h2"[..])), (AlpnOffer::Nothing, None)] {
        let stream = Dialer::default().dial("127.0.0.1", address.port(), &route).await.unwrap().stream;
        let secured = secure(stream, Arc::clone(&insecure), name(), offer).await.unwrap();
        assert_eq!((secured.session.alpn.as_deref(), secured.session.chain.as_slice()), (alpn, &[der.clone()][..]));
        assert_eq!(secured.session.version, Some(rustls::ProtocolVersion::TLSv1_3));
    }
    server.await.unwrap();
}

#[tokio::test]
async fn why_a_connection_has_broken_is_known_to_who_comes_later() {
    let (listener, address) = listener().await;
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"SSH-2.0-x\r\n\r\n").await.unwrap();
        stream
    });
    let mut connection = connected(address, Protocol::Http1).await;
    let _stream = server.await.unwrap();
    // Until the data of the server has been read.
    while connection.is_open() {
        tokio::task::yield_now().await;
    }
    let unanswered = connection.exchange(get("/")).await.err().unwrap();
    assert!(unanswered.unsent);
    let failure = unanswered.failure;
    assert_eq!(failure.reason, Reason::Protocol);
    assert!(!failure.message.contains("channel closed"), "{}", failure.message);
}

#[tokio::test]
async fn a_proxy_opens_a_tunnel_or_says_why_not() {
    for (answer, expected) in [
        ("HTTP/1.1 200 Connection established\r\nx: y\r\n\r\nhello", Ok(())),
        ("HTTP/1.0 407 Proxy Authentication Required\r\n\r\n", Err(Reason::Connect)),
        ("SSH-2.0-x\r\n\r\n", Err(Reason::Protocol)),
        ("HTTP/1.1 2", Err(Reason::Connect)),
    ] {
        let (listener, address) = listener().await;
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let asked = head(&mut stream).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
            asked
        });
        let mut stream =
            Dialer::default().dial("127.0.0.1", address.port(), &DialOptions::default()).await.unwrap().stream;
        let opened = tunnel(&mut stream, "example.com:443", Some("Basic eDp5"), &[]).await;
        assert_eq!(opened.map_err(|failure| failure.reason), expected, "{answer}");
        let asked = server.await.unwrap();
        let head =
            "CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\nProxy-Authorization: Basic eDp5\r\n\r\n";
        assert_eq!(asked, head);
        if expected.is_ok() {
            let mut rest = String::new();
            stream.read_to_string(&mut rest).await.unwrap();
            assert_eq!(rest, "hello");
        }
    }
}

#[tokio::test]
async fn an_address_that_does_not_answer_costs_a_moment_and_nothing_else() {
    let address = |number: u8| SocketAddr::new(Ipv4Addr::new(192, 0, 2, number).into(), 80);
    // Hangs, fails or succeeds, depending on the last number of the address.
    let attempt = |hangs: &'static [u8], fails: &'static [u8]| {
        move |address: SocketAddr| async move {
            let IpAddr::V4(four) = address.ip() else { unreachable!("only IPv4 is given") };
            let number = four.octets()[3];
            if hangs.contains(&number) {
                std::future::pending::<()>().await;
            }
            if fails.contains(&number) {
                let reason = if number == 9 { Reason::Resources } else { Reason::Connect };
                return Err(crate::outcome::Failure::new(reason, format!("{number}")));
            }
            Ok(number)
        }
    };
    let check = async |hangs, fails, expected: Result<u8, Reason>| {
        let resolved = Resolved::of("name.test", [1, 9, 3].map(|number| address(number).ip()));
        let done = Dialer::default().first(resolved, 80, attempt(hangs, fails)).await;
        let done = done.map(|(number, at)| {
            assert_eq!(at, address(number));
            number
        });
        assert_eq!(done.map_err(|failure| failure.reason), expected, "{hangs:?} {fails:?}");
    };
    tokio::time::pause();
    check(&[], &[], Ok(1)).await;
    check(&[1], &[], Ok(9)).await;
    check(&[1, 9], &[], Ok(3)).await;
    check(&[1], &[9], Ok(3)).await;
    check(&[], &[1, 9], Ok(3)).await;
    // A lack of local resources is more informative than the error of the last address.
    check(&[], &[1, 9, 3], Err(Reason::Resources)).await;
    let began = tokio::time::Instant::now();
    check(&[1], &[], Ok(9)).await;
    // The clock of tests has a resolution of one millisecond.
    assert!((250..=251).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_closed_port_is_not_connected_to_by_any_of_its_names() {
    let (listener, address) = listener().await;
    let dialer = Dialer::new(Reach::of_agent(), Resolver::default());
    let _closed = dialer.reach().closed().close(address.port(), "a driver");
    let pinned = DialOptions { pinned: Some(address), ..DialOptions::default() };
    for (host, route) in [
        ("127.0.0.1", DialOptions::default()),
        ("localhost", DialOptions::default()),
        ("0.0.0.0", DialOptions::default()),
        ("x", pinned),
    ] {
        let failure = dialer.dial(host, address.port(), &route).await.unwrap_err();
        assert_eq!(failure.reason, Reason::Configuration, "{host}");
        assert!(failure.message.contains("`allow.network`"), "{}", failure.message);
    }
    dialer.reach().allow(vec![NetworkPattern::parse(&address.to_string()).unwrap()]);
    dialer.dial("127.0.0.1", address.port(), &DialOptions::default()).await.unwrap();
    drop(listener);
}

#[test]
fn what_ran_out_here_is_ours_however_it_is_wrapped() {
    use std::io::{Error, ErrorKind};

    use nix::errno::Errno;
    let os = |code: Errno| Error::from_raw_os_error(code as i32);
    let ours = [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM, Errno::ENOBUFS];
    for code in ours {
        for error in [os(code), Error::other(os(code)), Error::new(ErrorKind::InvalidData, Error::other(os(code)))] {
            assert_eq!(of_io(&error, Reason::Connect, "x").reason, Reason::Resources, "{code}");
        }
        assert_eq!(of_spawn(&os(code), Reason::Configuration, "x").reason, Reason::Resources, "{code}");
    }
    for code in [Errno::ECONNREFUSED, Errno::ETIMEDOUT, Errno::ECONNRESET, Errno::EAGAIN, Errno::EPIPE] {
        assert_eq!(of_io(&os(code), Reason::Connect, "x").reason, Reason::Connect, "{code}");
    }
    assert_eq!(of_spawn(&os(Errno::EAGAIN), Reason::Configuration, "x").reason, Reason::Resources);
    assert_eq!(of_spawn(&os(Errno::ENOENT), Reason::Configuration, "x").reason, Reason::Configuration);
}
