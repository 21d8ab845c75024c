//! `goto`: failures of navigations, including those that the driver reports as successful.

use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::*;
use crate::names::Reason;
use crate::scenario::Engine;

/// Larger than a request or a TLS greeting, because unread data turns the end of a connection into a reset.
const REQUEST: usize = 16 * 1024;

/// Starts a server that treats every connection in this way. Returns its port.
pub(super) async fn server<F: Future<Output = ()> + Send + 'static>(
    treat: impl Fn(TcpStream) -> F + Send + 'static,
) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(treat(stream));
        }
    });
    port
}

async fn self_signed() -> u16 {
    let key = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![key.cert.der().clone()], key.signing_key.serialize_der().try_into().unwrap())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    server(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx").await;
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_navigations_have_their_reason() {
    // The socket is bound but not listening, so that nothing else gets the port.
    let nobody = TcpSocket::new_v4().unwrap();
    nobody.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let refused = nobody.local_addr().unwrap().port();
    let empty = server(|mut stream| async move {
        let _ = stream.read(&mut [0; REQUEST]).await;
    })
    .await;
    let reset = server(|mut stream| async move {
        let _ = stream.read(&mut [0; REQUEST]).await;
        let _ = stream.set_zero_linger();
    })
    .await;
    let garbage = server(|mut stream| async move {
        let _ = stream.read(&mut [0; REQUEST]).await;
        let _ = stream.write_all(b"\x00\x01 nothing known\r\n\r\n").await;
    })
    .await;
    let certificate = self_signed().await;

    let mut bench = Bench::new(&[("/", "<title>home</title>")]).await;
    let cases: Vec<(String, Option<Reason>, &str)> = vec![
        ("/".into(), None, ""),
        ("/hang".into(), Some(Reason::Timeout), "did not load in time"),
        ("/".into(), None, ""),
        ("/404".into(), Some(Reason::Status), "returned status 404"),
        ("/500".into(), Some(Reason::Status), "returned status 500"),
        ("/503-empty".into(), Some(Reason::Status), "returned status 503"),
        ("/#part".into(), None, ""),
        ("/download".into(), None, ""),
        ("/no-content".into(), Some(Reason::Protocol), "no page"),
        (format!("http://127.0.0.1:{refused}/"), Some(Reason::Connect), "ERR_CONNECTION_REFUSED"),
        (format!("http://127.0.0.1:{empty}/"), Some(Reason::Connect), "ERR_EMPTY_RESPONSE"),
        (format!("http://127.0.0.1:{reset}/"), Some(Reason::Connect), "ERR_CONNECTION_RESET"),
        (format!("http://127.0.0.1:{garbage}/"), Some(Reason::Protocol), "ERR_INVALID_HTTP_RESPONSE"),
        (format!("https://localhost:{certificate}/"), Some(Reason::Certificate), "ERR_CERT_AUTHORITY_INVALID"),
        (format!("https://127.0.0.1:{garbage}/"), Some(Reason::Tls), "ERR_SSL_PROTOCOL_ERROR"),
        ("http://nowhere.invalid/".into(), Some(Reason::Dns), "ERR_NAME_NOT_RESOLVED"),
    ];
    for (url, reason, text) in cases {
        let result = bench.within(if url == "/hang" { 1.0 } else { PATIENCE }, &goto(&url)).await;
        match (result, reason) {
            (Ok(()), None) => {}
            (Err(failure), Some(reason)) if failure.reason == reason && failure.message.contains(text) => {}
            (result, reason) => panic!("{url}: expected {reason:?} {text:?}, got {result:?}"),
        }
    }
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_comes_to_a_page_holds_nobody_up() {
    let page = "<title>x</title><h1>Here</h1><img src=/hang><iframe src=/hang></iframe>";
    for engine in Engine::ALL {
        let mut bench = Bench::of(engine, &[("/", page), ("/next", "<h1>Next</h1>")]).await;
        for (url, heading) in [("/", "Here"), ("/next", "Next"), ("/", "Here")] {
            bench.within(PATIENCE, &goto(url)).await.unwrap_or_else(|failure| panic!("{engine}: {url}: {failure:?}"));
            let shown = PageFact::Visible(target(LocatorStrategy::Text(Matcher::text(heading))));
            bench.within(PATIENCE, &expect(shown)).await.unwrap();
        }
        bench.end().await;
    }
}
