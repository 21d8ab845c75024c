//! What servers do wrong, and what a run says of it: the table is the test. Every row ends within its time, and what a
//! server that sends without end gets rid of is bounded.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_compression::Level;
use async_compression::tokio::bufread::{BrotliEncoder, GzipEncoder, ZlibEncoder, ZstdEncoder};
use futures_util::future::{BoxFuture, join_all};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use wachta::run::{RunRequest, RunServices, Tokens, run};
use wachta::scenario::{Lookup, LookupError, load};
use wachta::store::evidence::EvidenceFolder;
use wachta::wire::tls;

use super::support::Folder;

/// More than this no server may get rid of: the largest body, and what lies in the buffers of the system.
const MOST_SENT: u64 = 64 << 20;
/// More than enough for whatever does not wait, on however busy a machine.
const LONG: &str = "10m";
/// So short that waiting for it is not noticed.
const SHORT: &str = "400ms";

type Behaviour = Arc<dyn Fn(TcpStream) -> BoxFuture<'static, ()> + Send + Sync>;

/// One row: what the server does, what is asked, and what the run must say.
struct Row {
    name: &'static str,
    behaviour: Behaviour,
    /// `http`, `https`, or `h2` for HTTP/2 with prior knowledge.
    scheme: &'static str,
    keys: &'static str,
    timeout: &'static str,
    expected: &'static str,
}

fn row(name: &'static str, expected: &'static str, behaviour: Behaviour) -> Row {
    let timeout = if expected == "timeout" { SHORT } else { LONG };
    Row { name, behaviour, scheme: "http", keys: "", timeout, expected }
}

fn over(scheme: &'static str, row: Row) -> Row {
    Row { scheme, ..row }
}

fn with(keys: &'static str, row: Row) -> Row {
    Row { keys, ..row }
}

fn behaviour<F: Future<Output = ()> + Send + 'static>(
    serve: impl Fn(TcpStream) -> F + Send + Sync + 'static,
) -> Behaviour {
    Arc::new(move |stream| Box::pin(serve(stream)))
}

/// Reads the head of a request.
async fn asked(stream: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
}

/// Waits until the other end is gone.
async fn hold(mut stream: TcpStream) {
    let mut rest = [0; 1024];
    while stream.read(&mut rest).await.is_ok_and(|n| n > 0) {}
}

/// Says this and closes.
fn say(bytes: impl AsRef<[u8]>) -> Behaviour {
    let bytes = Arc::new(bytes.as_ref().to_vec());
    behaviour(move |mut stream| {
        let bytes = Arc::clone(&bytes);
        async move {
            asked(&mut stream).await;
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
            hold(stream).await;
        }
    })
}

/// Says this and then nothing more.
fn say_and_wait(bytes: &'static str) -> Behaviour {
    behaviour(move |mut stream| async move {
        asked(&mut stream).await;
        let _ = stream.write_all(bytes.as_bytes()).await;
        hold(stream).await;
    })
}

/// Says this and resets the connection.
fn say_and_reset(bytes: &'static str) -> Behaviour {
    behaviour(move |mut stream| async move {
        asked(&mut stream).await;
        let _ = stream.write_all(bytes.as_bytes()).await;
        let _ = stream.flush().await;
        let _ = stream.set_zero_linger();
    })
}

/// Says the first, then the second again and again.
fn endless(head: &'static str, again: impl AsRef<[u8]>, sent: &Arc<AtomicU64>) -> Behaviour {
    let (again, sent) = (Arc::new(again.as_ref().to_vec()), Arc::clone(sent));
    behaviour(move |mut stream| {
        let (again, sent) = (Arc::clone(&again), Arc::clone(&sent));
        async move {
            asked(&mut stream).await;
            let _ = stream.write_all(head.as_bytes()).await;
            let mut own = 0;
            while stream.write_all(&again).await.is_ok() {
                own += again.len() as u64;
                sent.fetch_max(own, Ordering::Relaxed);
            }
        }
    })
}

/// Says the first, then a little every twenty milliseconds.
fn drip(head: &'static str, drop: &'static str) -> Behaviour {
    behaviour(move |mut stream| async move {
        asked(&mut stream).await;
        let _ = stream.write_all(head.as_bytes()).await;
        let mut beat = tokio::time::interval(Duration::from_millis(20));
        loop {
            beat.tick().await;
            if stream.write_all(drop.as_bytes()).await.is_err() {
                return;
            }
        }
    })
}

async fn packed(mut encoder: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut bytes = Vec::new();
    encoder.read_to_end(&mut bytes).await.unwrap();
    bytes
}

fn encoded(encoding: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: {encoding}\r\ncontent-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

async fn encodings() -> Vec<Row> {
    let zeros = vec![0_u8; (10 << 20) + 1];
    let gzip = packed(GzipEncoder::with_quality(zeros.as_slice(), Level::Fastest)).await;
    let twice = packed(GzipEncoder::with_quality(gzip.as_slice(), Level::Fastest)).await;
    let zlib = packed(ZlibEncoder::with_quality(zeros.as_slice(), Level::Fastest)).await;
    let brotli = packed(BrotliEncoder::with_quality(zeros.as_slice(), Level::Fastest)).await;
    let zstd = packed(ZstdEncoder::with_quality(zeros.as_slice(), Level::Fastest)).await;
    for bomb in [&gzip, &twice, &zlib, &brotli, &zstd] {
        assert!(bomb.len() < 1 << 20, "a bomb is small until it goes off: {}", bomb.len());
    }
    let small = packed(GzipEncoder::new(&b"small enough"[..])).await;
    let mut wrong_sum = small.clone();
    let at = wrong_sum.len() - 6;
    wrong_sum[at] ^= 0xff;
    vec![
        row("a bomb of gzip", "too_large", say(encoded("gzip", &gzip))),
        row("a bomb of gzip in gzip", "too_large", say(encoded("gzip, gzip", &twice))),
        row("a bomb of deflate", "too_large", say(encoded("deflate", &zlib))),
        row("a bomb of Brotli", "too_large", say(encoded("br", &brotli))),
        row("a bomb of Zstandard", "too_large", say(encoded("zstd", &zstd))),
        row("gzip that ends early", "protocol", say(encoded("gzip", &small[..small.len() / 2]))),
        row("gzip with a wrong sum", "protocol", say(encoded("gzip", &wrong_sum))),
        row("gzip that is none", "protocol", say(encoded("gzip", b"not gzip at all"))),
        row("deflate that is none", "protocol", say(encoded("deflate", b"\xff\xff\xff\xff\xff"))),
        row("Brotli that is none", "protocol", say(encoded("br", b"\xff\xff\xff\xff not Brotli"))),
        row("Zstandard that is none", "protocol", say(encoded("zstd", b"not Zstandard"))),
        row("more encodings than make sense", "protocol", say(encoded("gzip, gzip, gzip, gzip, gzip", &small))),
    ]
}

fn connections() -> Vec<Row> {
    let length = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n";
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    vec![
        row("closes at once", "protocol", behaviour(|stream| async move { drop(stream) })),
        row("resets at once", "protocol", say_and_reset("")),
        row("closes without a word", "protocol", say("")),
        row("says nothing", "timeout", say_and_wait("")),
        row("closes in the status line", "protocol", say("HTTP/1.1 20")),
        row("closes after the status line", "protocol", say("HTTP/1.1 200 OK\r\n")),
        row("closes in a header", "protocol", say("HTTP/1.1 200 OK\r\ncontent-le")),
        row("closes after the head", "protocol", say(length)),
        row("closes in the body", "protocol", say(format!("{length}half"))),
        row("resets in the body", "protocol", say_and_reset("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")),
        row("closes in a chunk's size", "protocol", say(format!("{chunked}1"))),
        row("closes in a chunk", "protocol", say(format!("{chunked}10\r\nhalf"))),
        row("closes before the last chunk", "protocol", say(format!("{chunked}4\r\nhalf\r\n"))),
        row("stops in the status line", "timeout", say_and_wait("HTTP/1.1 2")),
        row("stops in the head", "timeout", say_and_wait("HTTP/1.1 200 OK\r\nx: y\r\n")),
        row("stops after the head", "timeout", say_and_wait("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n")),
        row(
            "stops in a chunk",
            "timeout",
            say_and_wait("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n10\r\nx"),
        ),
        row("drips its head", "timeout", drip("HTTP/1.1 200 OK\r\nx: ", "y")),
        row("drips its body", "timeout", drip("HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n", "x")),
        row("drips chunks", "timeout", drip("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "1\r\nx\r\n")),
    ]
}

fn heads(sent: &Arc<AtomicU64>) -> Vec<Row> {
    let many: String = (0..300).map(|n| format!("x-{n}: y\r\n")).collect();
    vec![
        row("is an SSH server", "protocol", say("SSH-2.0-OpenSSH\r\n\r\n")),
        row("says what is no text", "protocol", say([0, 159, 146, 150, 13, 10, 13, 10])),
        row("speaks HTTP/0.9", "protocol", say("<html>hello</html>\r\n\r\n")),
        row("speaks HTTP/9.9", "protocol", say("HTTP/9.9 200 OK\r\n\r\n")),
        row("has a status of letters", "protocol", say("HTTP/1.1 abc OK\r\n\r\n")),
        row("has a status of four digits", "protocol", say("HTTP/1.1 2000 OK\r\n\r\n")),
        row("has a header without a colon", "protocol", say("HTTP/1.1 200 OK\r\nnonsense\r\n\r\n")),
        row("has a header with a NUL", "protocol", say("HTTP/1.1 200 OK\r\nx: a\0b\r\n\r\n")),
        row("has a header without a name", "protocol", say("HTTP/1.1 200 OK\r\n: x\r\n\r\n")),
        row("has three hundred headers", "too_large", say(format!("HTTP/1.1 200 OK\r\n{many}\r\n"))),
        row("has headers without end", "too_large", endless("HTTP/1.1 200 OK\r\n", "x: y\r\n".repeat(1000), sent)),
        row("has a header without end", "too_large", endless("HTTP/1.1 200 OK\r\nx: ", "y".repeat(8192), sent)),
        row("has a status line without end", "too_large", endless("HTTP/1.1 200 ", "y".repeat(8192), sent)),
        row(
            "says Continue without end",
            "timeout",
            endless("", "HTTP/1.1 100 Continue\r\n\r\n".repeat(100), &Arc::default()),
        ),
        row("has a length of letters", "protocol", say("HTTP/1.1 200 OK\r\ncontent-length: ten\r\n\r\nbody")),
        row("has a length below zero", "protocol", say("HTTP/1.1 200 OK\r\ncontent-length: -4\r\n\r\nbody")),
        row(
            "has two lengths",
            "protocol",
            say("HTTP/1.1 200 OK\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nbody"),
        ),
        row(
            "has a length that nothing has",
            "protocol",
            say("HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999999\r\n\r\n"),
        ),
    ]
}

fn bodies(sent: &Arc<AtomicU64>) -> Vec<Row> {
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let piece = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    vec![
        row("has a chunk's size of letters", "protocol", say(format!("{chunked}xyz\r\n\r\n"))),
        row("has a chunk that nothing has", "protocol", say(format!("{chunked}fffffffffffffffffff\r\n"))),
        row("has a chunk without its end", "protocol", say(format!("{chunked}4\r\nbodybody\r\n0\r\n\r\n"))),
        row(
            "has a chunk's extension without end",
            "protocol",
            endless("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4;", "x".repeat(8192), sent),
        ),
        row(
            "has trailers without end",
            "protocol",
            endless("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", "x: y\r\n".repeat(1000), sent),
        ),
        row("has a body without end", "too_large", endless("HTTP/1.1 200 OK\r\n\r\n", vec![b'x'; 1 << 16], sent)),
        row(
            "has chunks without end",
            "too_large",
            endless("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", piece, sent),
        ),
        row(
            "has a length of a terabyte",
            "too_large",
            endless("HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n", vec![b'x'; 1 << 16], sent),
        ),
        row("is broken", "status", say("HTTP/1.1 500 X\r\ncontent-length: 4\r\n\r\nbody")),
        row("is not there", "status", say("HTTP/1.1 404 X\r\ncontent-length: 0\r\n\r\n")),
        with(", status: 200", row("says something else", "status", say("HTTP/1.1 204 X\r\n\r\n"))),
        with(
            ", expect: {json: {$.a: 1}}",
            row("says half of a JSON", "assertion", say("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n{\"a\":1")),
        ),
    ]
}

fn redirects(refused: SocketAddr) -> Vec<Row> {
    let to =
        |to: &str| say(format!("HTTP/1.1 302 X\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"));
    vec![
        row("redirects to itself", "protocol", to("/")),
        row("redirects to elsewhere for ever", "protocol", to("?x=1")),
        row("redirects to another scheme", "protocol", to("ftp://localhost/")),
        row("redirects to no URL", "protocol", to("http://[::")),
        row("redirects to a script", "protocol", to("javascript:alert(1)")),
        row("redirects to where nobody is", "connect", to(&format!("http://{refused}/"))),
        row(
            "redirects to TLS where there is none",
            "tls",
            behaviour(|mut stream| async move {
                let address = stream.local_addr().unwrap();
                let mut first = [0; 1];
                let _ = stream.peek(&mut first).await;
                if first[0] == b'G' {
                    asked(&mut stream).await;
                }
                let text = format!("HTTP/1.1 302 X\r\nlocation: https://{address}/\r\ncontent-length: 0\r\n\r\n");
                let _ = stream.write_all(text.as_bytes()).await;
                let _ = stream.shutdown().await;
                hold(stream).await;
            }),
        ),
    ]
}

/// A certificate for `localhost`, signed by an authority or by itself.
struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
}

fn identity(
    authority: Option<&Issuer<'static, KeyPair>>,
    names: &[&str],
    days: (i64, i64),
    usage: Option<ExtendedKeyUsagePurpose>,
) -> Identity {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let day = |days: i64| {
        let seconds = i64::try_from(now.as_secs()).unwrap() + days * 86_400;
        (std::time::UNIX_EPOCH + Duration::from_secs(seconds.unsigned_abs())).into()
    };
    (params.not_before, params.not_after) = (day(days.0), day(days.1));
    params.extended_key_usages.extend(usage);
    let certificate = match authority {
        Some(authority) => params.signed_by(&key, authority).unwrap(),
        None => params.self_signed(&key).unwrap(),
    };
    Identity { chain: vec![certificate.der().clone()], key }
}

fn authority() -> (Issuer<'static, KeyPair>, CertificateDer<'static>, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).unwrap();
    (Issuer::new(params, key), certificate.der().clone(), certificate.pem())
}

/// Shakes hands and answers.
fn shakes_hands(identity: &Identity, clients: Option<&CertificateDer<'static>>) -> Behaviour {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        rustls::ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let builder = match clients {
        None => builder.unwrap().with_no_client_auth(),
        Some(ca) => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(ca.clone()).unwrap();
            let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.unwrap().with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let key = PrivateKeyDer::try_from(identity.key.serialize_der()).unwrap();
    let acceptor =
        tokio_rustls::TlsAcceptor::from(Arc::new(builder.with_single_cert(identity.chain.clone(), key).unwrap()));
    behaviour(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let mut request = [0; 4096];
            if stream.read(&mut request).await.is_ok_and(|n| n > 0) {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
            }
            let _ = stream.shutdown().await;
        }
    })
}

/// Reads the beginning of a handshake, says this and closes.
fn in_handshake(bytes: &'static [u8]) -> Behaviour {
    behaviour(move |mut stream| async move {
        let mut hello = [0; 64];
        let _ = stream.read(&mut hello).await;
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        hold(stream).await;
    })
}

fn handshakes() -> (Vec<Row>, String) {
    let (issuer, ca, pem) = authority();
    let (other, ..) = authority();
    let good = (-1, 30);
    let one = |issuer: Option<&Issuer<'static, KeyPair>>, names: &[&str], days, usage| {
        shakes_hands(&identity(issuer, names, days, usage), None)
    };
    let local = &["localhost"];
    // A ServerHello of TLS 1.0, without extensions.
    let old: &[u8] = &[
        0x16, 3, 1, 0, 42, 2, 0, 0, 38, 3, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20,
        21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 0, 0, 0x2f, 0,
    ];
    let rows = vec![
        row("is as it should be", "passed", one(Some(&issuer), local, good, None)),
        row("has a certificate that has expired", "certificate", one(Some(&issuer), local, (-30, -1), None)),
        row("has a certificate that is not valid yet", "certificate", one(Some(&issuer), local, (1, 30), None)),
        row("has a certificate for another name", "certificate", one(Some(&issuer), &["other.test"], good, None)),
        row("has a certificate without a name", "certificate", one(Some(&issuer), &[], good, None)),
        row("has signed its certificate itself", "certificate", one(None, local, good, None)),
        row("has a certificate of an unknown authority", "certificate", one(Some(&other), local, good, None)),
        row(
            "has a certificate for clients",
            "certificate",
            one(Some(&issuer), local, good, Some(ExtendedKeyUsagePurpose::ClientAuth)),
        ),
        row(
            "wants a certificate of the client",
            "tls",
            shakes_hands(&identity(Some(&issuer), local, good, None), Some(&ca)),
        ),
        row("speaks HTTP without TLS", "tls", in_handshake(b"HTTP/1.1 400 Bad Request\r\n\r\n")),
        row("says nonsense in the handshake", "tls", in_handshake(&[0x16, 3, 3, 0, 4, 99, 0, 0, 0])),
        row("says an alert in the handshake", "tls", in_handshake(&[0x15, 3, 3, 0, 2, 2, 40])),
        row("closes in the handshake", "tls", in_handshake(&[])),
        row("closes in its hello", "tls", in_handshake(&[0x16, 3, 3, 0, 42, 2, 0, 0, 38])),
        row("speaks TLS 1.0 alone", "tls", in_handshake(old)),
        row("stops in the handshake", "timeout", behaviour(hold)),
    ];
    (rows.into_iter().map(|row| over("https", row)).collect(), pem)
}

/// Reads HTTP/2 up to the head of the first request, says its settings and then this.
fn in_http2(frames: &'static [u8], then_wait: bool) -> Behaviour {
    behaviour(move |mut stream| async move {
        let mut preface = [0; 24];
        let _ = stream.read_exact(&mut preface).await;
        let mut kind = 0;
        while kind != 1 {
            let mut head = [0; 9];
            if stream.read_exact(&mut head).await.is_err() {
                return;
            }
            kind = head[3];
            let mut payload = vec![0; usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2])];
            let _ = stream.read_exact(&mut payload).await;
        }
        let _ = stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await;
        let _ = stream.write_all(frames).await;
        if !then_wait {
            let _ = stream.shutdown().await;
        }
        hold(stream).await;
    })
}

fn http2() -> Vec<Row> {
    // Frames: length (3), type, flags, stream (4).
    let go_away: &[u8] = &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
    let reset: &[u8] = &[0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 2];
    let too_long: &[u8] = &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1];
    let bad_headers: &[u8] = &[0, 0, 3, 1, 4, 0, 0, 0, 1, 0xff, 0xff, 0xff];
    let on_stream_zero: &[u8] = &[0, 0, 1, 0, 0, 0, 0, 0, 0, 1];
    let half: &[u8] = &[0, 0, 1, 1, 4, 0, 0, 0, 1, 0x88];
    let rows = vec![
        row("goes away at once", "protocol", in_http2(go_away, true)),
        row("resets the stream", "protocol", in_http2(reset, true)),
        row("has a frame that is too long", "protocol", in_http2(too_long, true)),
        row("has headers that do not read", "protocol", in_http2(bad_headers, true)),
        row("has data on no stream", "protocol", in_http2(on_stream_zero, true)),
        row("closes after its settings", "protocol", in_http2(&[], false)),
        row("closes in the body of HTTP/2", "protocol", in_http2(half, false)),
        row("stops after its settings", "timeout", in_http2(&[], true)),
        row("stops in the body of HTTP/2", "timeout", in_http2(half, true)),
        row(
            "speaks HTTP/1.1 where HTTP/2 is asked for",
            "protocol",
            say("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
        ),
    ];
    rows.into_iter().map(|row| over("h2", row)).collect()
}

struct Surroundings(HashMap<&'static str, String>);

impl Lookup for Surroundings {
    fn env(&self, name: &str) -> Result<String, LookupError> {
        Err(LookupError::Missing(name.to_owned()))
    }
    fn file(&self, path: &Path, _: &str) -> Result<Vec<u8>, LookupError> {
        let text = path.to_str().and_then(|path| self.0.get(path));
        text.map(|text| text.clone().into_bytes()).ok_or_else(|| LookupError::Missing(path.display().to_string()))
    }
}

/// A server that does the same with every connection; gives its address.
async fn serve(behaviour: Behaviour) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(behaviour(stream));
        }
    });
    address
}

/// What a run says: its reason, or its verdict when there is none; its message.
async fn said(tools: &RunServices, check: &str) -> (String, String) {
    let loaded = load("t.yaml", &format!("checks:\n  a: {{{check}}}\n"), &*tools.lookup);
    assert!(!loaded.is_refused(), "{check}: {:#?}", loaded.diagnostics);
    let outcome = run(&loaded.scenarios[0], tools, RunRequest::default()).await;
    let word = outcome.reason.map_or(outcome.verdict.as_str(), |reason| reason.as_str());
    (word.to_owned(), outcome.message.unwrap_or_default().into_inner())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_servers_do_wrong_is_told_as_what_it_is() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let refused = socket.local_addr().unwrap();
    let sent = Arc::new(AtomicU64::new(0));
    let (handshakes, pem) = handshakes();
    let mut rows = connections();
    rows.extend(heads(&sent));
    rows.extend(bodies(&sent));
    rows.extend(encodings().await);
    rows.extend(redirects(refused));
    rows.extend(handshakes);
    rows.extend(http2());
    let folder = Folder::new("bad-servers");
    let tools = RunServices {
        dialer: wachta::wire::Dialer::default(),
        limits: wachta::wire::limits::Limits::default(),
        tls: tls::Trusted::system(),
        browsers: None,
        lookup: Arc::new(Surroundings(HashMap::from([("ca.pem", pem)]))),
        evidence: EvidenceFolder::new(folder.path()),
        tokens: Tokens::default(),
        line: wachta::run::ConnectivityMonitor::default(),
        beats: None,
        baseline: None,
        footprints: None,
        clock: None,
        location: "here".into(),
    };
    let mut wrong = Vec::new();
    let mut told = 0;
    // Some at a time: a row that waits must not make another one late.
    for some in rows.chunks(16) {
        let runs = some.iter().map(async |row| {
            let address = serve(Arc::clone(&row.behaviour)).await;
            let url = match row.scheme {
                "https" => format!("http: \"https://localhost:{}/\", trust: {{ca: ca.pem}}", address.port()),
                "h2" => format!("http: \"http://{address}/\", http_version: \"2\""),
                _ => format!("http: \"http://{address}/\""),
            };
            (row, said(&tools, &format!("{url}, timeout: {}{}", row.timeout, row.keys)).await)
        });
        for (row, (seen, message)) in join_all(runs).await {
            told += 1;
            if seen != row.expected {
                wrong.push(format!("{}: {} expected, {seen}: {message}", row.name, row.expected));
            }
        }
    }
    let name = "a".repeat(64);
    for (check, expected) in [
        (format!("http: \"http://{refused}/\""), "connect"),
        (format!("http: \"http://localhost:{}/\"", refused.port()), "connect"),
        (format!("http: \"http://{name}.invalid/\""), "dns"),
        (format!("http: \"http://shop.test/\", resolve: \"{refused}\""), "connect"),
        (format!("http: \"http://shop.test/\", proxy: \"http://{refused}\""), "connect"),
    ] {
        told += 1;
        let (seen, message) = said(&tools, &check).await;
        if seen != expected {
            wrong.push(format!("{check}: {expected} expected, {seen}: {message}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(told >= 60, "only {told} rows");
    let sent = sent.load(Ordering::Relaxed);
    assert!(sent < MOST_SENT, "{sent} bytes were taken of a server that sends without end");
}
