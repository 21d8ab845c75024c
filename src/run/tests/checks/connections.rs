//! Connection settings of checks: internationalized names, pinned addresses, proxies and trusted certificates.

use super::*;
use crate::wire::{Dialer, Reach, Resolver};

/// Returns services that resolve names by a hosts file only.
fn resolving(hosts: &str, lookup: Given, folder: &Folder) -> RunServices {
    std::fs::create_dir_all(&folder.0).unwrap();
    let path = folder.0.join("hosts");
    std::fs::write(&path, hosts).unwrap();
    std::fs::write(folder.0.join("resolv.conf"), "").unwrap();
    let resolver = Resolver::of_files(folder.0.join("resolv.conf"), path, 1);
    RunServices { dialer: Dialer::new(Reach::default(), resolver), ..tools(lookup, folder) }
}

/// Starts a TLS server that closes each connection after the handshake, unless `serve` keeps it.
async fn secure_server<F: Future<Output = ()> + Send>(
    config: Arc<rustls::ServerConfig>,
    serve: impl Fn(tokio_rustls::server::TlsStream<TcpStream>) -> F + Send + Sync + 'static,
) -> SocketAddr {
    let acceptor = tokio_rustls::TlsAcceptor::from(config);
    let serve = Arc::new(serve);
    serving(move |stream| {
        let (acceptor, serve) = (acceptor.clone(), Arc::clone(&serve));
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                serve(stream).await;
            }
        }
    })
    .await
}

/// Starts a proxy that connects every tunnel to one address and records the requested destinations.
async fn proxy_to(target: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let requested = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&requested);
    let address = serving(move |mut stream| {
        let record = Arc::clone(&record);
        async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let line = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
            record.lock().unwrap().push(line);
            let mut server = TcpStream::connect(target).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut stream, &mut server).await;
        }
    })
    .await;
    (address, requested)
}

/// Starts a server of a protocol in which the server greets first.
async fn greeter() -> SocketAddr {
    server(|mut stream| async move {
        let _ = stream.write_all(b"220 ready\r\n").await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await
}

/// Responds to one DNS query over a stream with one address.
async fn one_record(mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin) {
    let Ok(length) = stream.read_u16().await else { return };
    let mut query = vec![0; usize::from(length)];
    stream.read_exact(&mut query).await.unwrap();
    let response = record(&query);
    stream.write_u16(u16::try_from(response.len()).unwrap()).await.unwrap();
    stream.write_all(&response).await.unwrap();
    let _ = stream.shutdown().await;
}

/// Returns a response to a DNS query: the address 192.0.2.1.
fn record(query: &[u8]) -> Vec<u8> {
    let end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
    let head: &[u8] = &[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
    [&query[..2], head, &query[12..end], &[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1]].concat()
}

#[tokio::test]
async fn internationalized_names_are_sent_in_ascii() {
    let plain = greeter().await;
    let (config, pem) = certificate_for(&["xn--grn-ioa.test"], 20);
    let secure = secure_server(config, |_| async {}).await;
    let names = name_server(zone).await;
    let folder = Folder::new();
    let hosts = "127.0.0.1 xn--grn-ioa.test\n";
    for (check, expected) in [
        (format!("tcp: \"grün.test:{}\", receive: {{contains: ready}}", plain.port()), "passed"),
        (format!("tls: \"grün.test:{}\", trust: {{ca: ca.pem}}", secure.port()), "passed"),
        (format!("tls: \"xn--grn-ioa.test:{}\", trust: {{ca: ca.pem}}", secure.port()), "passed"),
        ("ping: grün.test".to_owned(), "passed"),
        (format!("dns: grün.test, server: \"{names}\", expect: {{answer: 192.0.2.8}}"), "passed"),
        (format!("dns: two.test, server: \"grün.test:{}\"", names.port()), "passed"),
        (format!("redis: \"redis://grün.test:{}\"", plain.port()), "failed protocol: not a response of a Redis server"),
        ("tcp: \"a\u{fffd}b:1\"".to_owned(), "unknown configuration: `a\u{fffd}b` is not a host name"),
        ("dns: \"a\u{fffd}b\"".to_owned(), "unknown configuration: `a\u{fffd}b` is not a host name"),
    ] {
        let scenario = &scenarios(&format!("checks:\n  a: {{{check}}}\n"))[0];
        let tools = resolving(hosts, trusting(&pem), &folder);
        let seen = shown(&run(scenario, &tools, RunRequest::default()).await);
        assert!(seen.starts_with(expected), "{check}\n saw      {seen}\n expected {expected}");
    }
    // A proxy gets the name in ASCII too.
    let (proxy, requested) = proxy_to(plain).await;
    says(&format!("tcp: \"grün.test:25\", proxy: \"http://{proxy}\", receive: {{contains: ready}}"), "passed").await;
    assert_eq!(*requested.lock().unwrap(), ["CONNECT xn--grn-ioa.test:25 HTTP/1.1"]);
}

#[tokio::test]
async fn certificates_after_starttls_are_what_they_should_be() {
    let (config, pem) = certificate(20);
    let acceptor = tokio_rustls::TlsAcceptor::from(config);
    let address = serving(move |mut stream| {
        let acceptor = acceptor.clone();
        async move {
            let _ = stream.write_all(b"+OK hi\r\n").await;
            if heard(&mut stream, b"STLS\r\n").await
                && stream.write_all(b"+OK\r\n").await.is_ok()
                && let Ok(mut stream) = acceptor.accept(stream).await
            {
                let _ = stream.read(&mut [0; 16]).await;
            }
        }
    })
    .await;
    let target = format!("tcp: \"localhost:{}\", starttls: pop3", address.port());
    let check = async |more: &str, expected: &str| {
        let text = format!("checks:\n  a: {{{target}{more}}}\n");
        let outcome = run_with(&text, trusting(&pem)).await;
        let seen = shown(&outcome);
        assert!(seen.starts_with(expected), "{more}\n saw      {seen}\n expected {expected}");
        // A certificate that is not accepted is a result as well.
        let left = outcome.steps[0].certificate_expires_at.map(|at| (at - Utc::now()).num_hours() / 24);
        assert_eq!(left, Some(19), "{more}");
    };
    let trust = ", trust: {ca: ca.pem}";
    check(trust, "passed").await;
    check(&format!("{trust}, expires_after: 19d"), "passed").await;
    check(&format!("{trust}, expires_after: 21d"), "failed certificate: the certificate of CN=a test is about to expire; expected valid for more than 21d, got 19d23h left").await;
    check(
        &format!("{trust}, expect: {{certificate: {{subject: CN=b}}}}"),
        r#"failed certificate: the subject of the certificate; expected "CN=b", got "CN=a test""#,
    )
    .await;
    check("", "failed certificate: the certificate is not trusted: ").await;
    check(&format!("{trust}, timeout: 300ms, receive: x"), "failed timeout: the expected data was not received").await;
}

#[tokio::test]
async fn a_rejected_certificate_has_an_expiry() {
    let (config, _) = certificate(20);
    let address = secure_server(config, |_| async {}).await;
    let outcome = run_text(&format!("checks:\n  a: {{tls: \"localhost:{}\"}}\n", address.port())).await;
    assert!(shown(&outcome).starts_with("failed certificate: the certificate is not trusted: "), "{}", shown(&outcome));
    let left = outcome.steps[0].certificate_expires_at.unwrap() - Utc::now();
    assert_eq!(left.num_hours() / 24, 19, "the earliest of the chain");
}

#[tokio::test]
async fn checks_connect_to_a_pinned_address() {
    let (config, pem) = certificate(20);
    let secure = secure_server(Arc::clone(&config), |mut stream| async move {
        let _ = stream.write_all(b"+PONG\r\n").await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let names = secure_server(config, one_record).await;
    let (plain, queried) = (greeter().await, name_server(zone).await);
    let trust = "trust: {ca: ca.pem}";
    for check in [
        format!("tcp: \"nobody.invalid:25\", resolve: \"{plain}\", receive: {{contains: ready}}"),
        // Without a port in it, the port of the target is used.
        format!("tcp: \"nobody.invalid:{}\", resolve: 127.0.0.1, receive: {{contains: ready}}", plain.port()),
        format!("tls: \"localhost:443\", resolve: \"{secure}\", {trust}"),
        format!("redis: \"rediss://localhost\", resolve: \"{secure}\", {trust}"),
        format!("dns: two.test, server: nobody.invalid, resolve: \"{queried}\""),
        format!("dns: two.test, server: \"tls://localhost\", resolve: \"{names}\", {trust}"),
    ] {
        says_with(&check, trusting(&pem), "passed").await;
    }
    let (_socket, closed) = deaf().await;
    let pinned = format!("failed connect: no response from {closed}: ");
    says(&format!("ntp: nobody.invalid, resolve: \"{closed}\""), &pinned).await;
    let wrong = "unknown configuration: `resolve`: not an IP address, perhaps with a port";
    let named = Given { env: HashMap::from([("NAME", "localhost".to_owned())]), ..Given::default() };
    let text = "secrets: {name: {env: NAME}}\nchecks:\n  a: {tcp: \"a:1\", resolve: \"${secret.name}\"}\n";
    assert_eq!(shown(&run_with(text, named).await), wrong);
}

#[tokio::test]
async fn checks_connect_through_a_proxy() {
    let (config, pem) = certificate(20);
    let mut http = (*config).clone();
    http.alpn_protocols = vec![b"http/1.1".to_vec()];
    let https = secure_server(Arc::new(http), |mut stream| async move {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let mut query = vec![0; 512];
        let length = stream.read(&mut query).await.unwrap();
        let body = record(&query[..length]);
        let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len()).as_bytes()).await;
        let _ = stream.write_all(&body).await;
        let _ = stream.shutdown().await;
    })
    .await;
    let pong = secure_server(Arc::clone(&config), |mut stream| async move {
        let _ = stream.write_all(b"+PONG\r\n").await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let names = secure_server(config, one_record).await;
    let smtp = greeter().await;
    let trust = "trust: {ca: ca.pem}";
    for (target, check, tunnel, expected) in [
        (smtp, "tcp: \"mail.test:25\", receive: {contains: ready}".to_owned(), "mail.test:25", "passed"),
        (
            smtp,
            "tcp: \"mail.test:25\", starttls: imap".to_owned(),
            "mail.test:25",
            "failed protocol: the server rejected STARTTLS; expected * OK …, got 220 ready",
        ),
        (pong, format!("tls: \"localhost:443\", {trust}"), "localhost:443", "passed"),
        (pong, format!("redis: \"rediss://localhost\", {trust}"), "localhost:6379", "passed"),
        (names, format!("dns: two.test, server: \"tls://localhost\", {trust}"), "localhost:853", "passed"),
        (https, format!("dns: two.test, server: \"https://localhost/q\", {trust}"), "localhost:443", "passed"),
        (smtp, "postgres: \"postgres://me:abcdefgh@db.test/a\"".to_owned(), "db.test:5432", "failed protocol: "),
    ] {
        let (proxy, requested) = proxy_to(target).await;
        says_with(&format!("{check}, proxy: \"http://u:abcdefgh@{proxy}\""), trusting(&pem), expected).await;
        assert_eq!(*requested.lock().unwrap(), [format!("CONNECT {tunnel} HTTP/1.1")], "{check}");
    }
    let (_socket, closed) = nobody();
    let expected = format!("failed connect: proxy {closed}: no connection to {closed}: ");
    says(&format!("tcp: \"mail.test:25\", proxy: \"http://{closed}\""), &expected).await;
}

#[tokio::test]
async fn a_database_may_have_a_private_authority() {
    let (config, pem) = certificate(20);
    let acceptor = tokio_rustls::TlsAcceptor::from(config);
    let address = serving(move |mut stream| {
        let acceptor = acceptor.clone();
        async move {
            if !heard(&mut stream, &[4, 210, 22, 47]).await || stream.write_all(b"S").await.is_err() {
                return;
            }
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let length = stream.read_u32().await.unwrap() as usize;
            stream.read_exact(&mut vec![0; length - 4]).await.unwrap();
            let fields = b"SFATAL\0VFATAL\0C28000\0Mnot you\0\0";
            let _ = stream.write_all(b"E").await;
            let _ = stream.write_u32(u32::try_from(fields.len()).unwrap() + 4).await;
            let _ = stream.write_all(fields).await;
            let _ = stream.shutdown().await;
        }
    })
    .await;
    let url = format!("postgres: \"postgres://me:abcdefgh@localhost:{}/a?sslmode=verify-full\"", address.port());
    let refused = "failed assertion: the server returned an error: not you";
    says_with(&format!("{url}, trust: {{ca: ca.pem}}"), trusting(&pem), refused).await;
    says(&url, "failed certificate: the certificate is not trusted: ").await;
}
