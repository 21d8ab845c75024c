//! `/probe`'s probers beside a real `blackbox_exporter`: one target of each kind that it knows, the same answers.

mod modules;
mod newest;
mod surface;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::HeaderMap;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use wachta::blackbox::{self, Prober, TargetPolicy};
use wachta::wire::tls::Trusted;

use crate::support::{Folder, until};

/// How long one probe may take.
const LIMIT: Duration = Duration::from_secs(20);

/// What both read. The exporter has no fallback to IPv4 for gRPC unless it is told so.
const MODULES: &str = r#"modules:
  http: {prober: http, timeout: 20s, http: {preferred_ip_protocol: ip4, tls_config: {ca_file: ca.pem}}}
  regex: {prober: http, timeout: 20s, http: {preferred_ip_protocol: ip4, fail_if_body_matches_regexp: ['{"ok":']}}
  headers:
    prober: http
    timeout: 20s
    http:
      preferred_ip_protocol: ip4
      method: POST
      body: "x"
      follow_redirects: false
      valid_status_codes: [302]
      fail_if_header_not_matches: [{header: Location, regexp: "^/plain$"}]
  ssl: {prober: http, timeout: 20s, http: {preferred_ip_protocol: ip4, fail_if_not_ssl: true}}
  tcp:
    prober: tcp
    timeout: 20s
    tcp:
      preferred_ip_protocol: ip4
      query_response:
        - expect: "^220 ([^ ]+) ESMTP"
          send: "EHLO ${1}"
        - expect: "^250 hello mail.example.com$"
  tcp_fails: {prober: tcp, timeout: 20s, tcp: {preferred_ip_protocol: ip4, query_response: [{expect: "^221 "}]}}
  tls: {prober: tcp, timeout: 20s, tcp: {preferred_ip_protocol: ip4, tls: true, tls_config: {ca_file: ca.pem}}}
  dns:
    prober: dns
    timeout: 20s
    dns:
      preferred_ip_protocol: ip4
      query_name: example.com
      query_type: SOA
      validate_answer_rrs:
        fail_if_not_matches_regexp: ["^example.com.\t300\tIN\tSOA\tns.example.com. root.example.com. 7 1 2 3 4$"]
  dns_fails: {prober: dns, timeout: 20s, dns: {preferred_ip_protocol: ip4, query_name: example.com, valid_rcodes: [NXDOMAIN]}}
  icmp: {prober: icmp, timeout: 20s, icmp: {preferred_ip_protocol: ip4}}
  grpc: {prober: grpc, timeout: 20s, grpc: {preferred_ip_protocol: ip4, service: good}}
  grpc_fails: {prober: grpc, timeout: 20s, grpc: {preferred_ip_protocol: ip4, service: bad}}
"#;

struct Exporter {
    child: Child,
    address: String,
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Exporter {
    async fn start(folder: &Path) -> Self {
        let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = free.local_addr().unwrap().to_string();
        drop(free);
        let child = Command::new("prometheus-blackbox-exporter")
            .args(["--config.file=blackbox.yml", &format!("--web.listen-address={address}")])
            .current_dir(folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let exporter = Self { child, address };
        let client = reqwest::Client::new();
        let healthy = format!("http://{}/-/healthy", exporter.address);
        until("the exporter listens", Duration::from_secs(60), async || client.get(&healthy).send().await.ok()).await;
        exporter
    }

    async fn probe(&self, module: &str, target: &str) -> String {
        let url = format!("http://{}/probe", self.address);
        let query = [("module", module), ("target", target)];
        reqwest::Client::new().get(url).query(&query).send().await.unwrap().text().await.unwrap()
    }
}

/// A scrape: type and help by name, value by series.
#[derive(Debug, Default)]
struct Scrape {
    families: BTreeMap<String, Vec<String>>,
    series: BTreeMap<(String, BTreeMap<String, String>), f64>,
}

fn scrape(text: &str) -> Scrape {
    let mut found = Scrape::default();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# ") {
            let (kind, rest) = rest.split_once(' ').unwrap();
            let (name, what) = rest.split_once(' ').unwrap();
            found.families.entry(name.to_owned()).or_default().push(format!("{kind} {what}"));
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        found.series.insert((name.to_owned(), labels_of(labels)), value.parse().unwrap());
    }
    found
}

/// Labels as they are written, escapes included.
fn labels_of(written: &str) -> BTreeMap<String, String> {
    let (mut labels, mut rest) = (BTreeMap::new(), written.trim_end_matches('}'));
    while let Some((name, after)) = rest.split_once("=\"") {
        let mut escaped = false;
        let end = after.find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        let (value, after) = after.split_at(end.unwrap());
        labels.insert(name.to_owned(), value.to_owned());
        rest = after.trim_start_matches('"').trim_start_matches(',');
    }
    labels
}

/// Where theirs and ours differ: everything of theirs must be there, and equal where it is no time.
fn differences(theirs: &Scrape, ours: &Scrape) -> Vec<String> {
    let mut found = Vec::new();
    for (name, words) in &theirs.families {
        match ours.families.get(name) {
            Some(own) if own == words => {}
            own => found.push(format!("{name}: {words:?}, ours {own:?}")),
        }
    }
    for ((name, labels), value) in &theirs.series {
        let own = ours.series.iter().find(|((other, own), _)| {
            other == name && labels.iter().all(|(label, value)| own.get(label) == Some(value))
        });
        let Some((_, own)) = own else {
            found.push(format!("{name}{labels:?} is not there"));
            continue;
        };
        let time = name.ends_with("_duration_seconds") || name == "probe_dns_lookup_time_seconds";
        let fits = if time { *own >= 0.0 && *own < LIMIT.as_secs_f64() } else { own.to_bits() == value.to_bits() };
        if !fits {
            found.push(format!("{name}{labels:?} is {value}, ours {own}"));
        }
    }
    found
}

/// HTTP/1.1 by hand: a page, a redirect to it, an error, JSON.
async fn http1(stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut stream = BufReader::new(stream);
    let (mut line, mut first) = (String::new(), String::new());
    while stream.read_line(&mut line).await.is_ok_and(|read| read > 0) && line != "\r\n" {
        if first.is_empty() {
            first.clone_from(&line);
        }
        line.clear();
    }
    let answer = match first.split(' ').nth(1).unwrap_or_default() {
        "/plain" => "200 OK\r\nLast-Modified: Mon, 02 Jan 2006 15:04:05 GMT\r\nContent-Length: 5\r\n\r\nhello",
        "/redirect" => "302 Found\r\nLocation: /plain\r\nContent-Length: 0\r\n\r\n",
        "/json" => "200 OK\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n{\"ok\":true}\r\n0\r\n\r\n",
        _ => "503 Service Unavailable\r\nContent-Length: 4\r\n\r\ndown",
    };
    let text = answer.replacen("\r\n", "\r\nConnection: close\r\n", 1);
    let _ = stream.write_all(format!("HTTP/1.1 {text}").as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// A page and a health check over HTTP/2.
async fn http2(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
    let answer = async |request: Request<Incoming>| {
        let grpc = request.uri().path() == "/grpc.health.v1.Health/Check";
        let asked = request.into_body().collect().await?.to_bytes();
        if !grpc {
            return Ok::<_, hyper::Error>(Response::new(Full::new(Bytes::from("hello")).boxed()));
        }
        let state = if asked.ends_with(b"good") { 1 } else { 2 };
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        let frames = [Ok(Frame::data(Bytes::from(vec![0, 0, 0, 0, 2, 8, state]))), Ok(Frame::trailers(trailers))];
        let body = StreamBody::new(futures_util::stream::iter(frames)).boxed();
        Ok(Response::builder().header("content-type", "application/grpc").body(body).unwrap())
    };
    let service = hyper::service::service_fn(answer);
    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn smtp(stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut stream = BufReader::new(stream);
    let _ = stream.write_all(b"220 mail.example.com ESMTP ready\r\n").await;
    let mut line = String::new();
    if stream.read_line(&mut line).await.is_ok_and(|read| read > 0) {
        let answer = format!("250-more\r\n250 hello {}\r\n", line.trim().trim_start_matches("EHLO "));
        let _ = stream.write_all(answer.as_bytes()).await;
    }
    let _ = stream.shutdown().await;
}

/// Serves connections in one way until the test ends.
async fn serve<F: Future<Output = ()> + Send + 'static>(way: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(tokio::time::timeout(LIMIT, way(stream)));
        }
    });
    address
}

/// The same way behind TLS.
fn secured<F: Future<Output = ()> + Send + 'static>(
    acceptor: TlsAcceptor,
    way: impl Fn(TlsStream<TcpStream>) -> F + Copy + Send + Sync + 'static,
) -> impl Fn(TcpStream) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + 'static {
    move |stream| {
        let accept = acceptor.accept(stream);
        Box::pin(async move {
            if let Ok(stream) = accept.await {
                way(stream).await;
            }
        })
    }
}

/// Answers every question with one SOA.
async fn dns() -> SocketAddr {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let mut answer = buffer[..length].to_vec();
            (answer[2], answer[3], answer[7]) = (0x81, 0x80, 1);
            answer.extend([0xc0, 12, 0, 6, 0, 1, 0, 0, 1, 44, 0, 32]);
            answer.extend(b"\x02ns\xc0\x0c\x04root\xc0\x0c");
            for number in [7_u32, 1, 2, 3, 4] {
                answer.extend(number.to_be_bytes());
            }
            let _ = socket.send_to(&answer, from).await;
        }
    });
    address
}

/// A server's settings with a certificate of an authority that only this test knows.
fn tls(folder: &Folder, alpn: &[u8]) -> TlsAcceptor {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "Test, authority");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let mut pem = std::fs::read_to_string(folder.path().join("ca.pem")).unwrap_or_default();
    pem.push_str(&params.self_signed(&key).unwrap().pem());
    folder.write("ca.pem", &pem);
    let issuer = rcgen::Issuer::new(params, key);
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned(), "www.example.com".to_owned(), "127.0.0.1".to_owned()];
    let mut params = rcgen::CertificateParams::new(names).unwrap();
    for (kind, value) in [
        (rcgen::DnType::CountryName, "PL"),
        (rcgen::DnType::OrganizationName, "A + B, \"C\""),
        (rcgen::DnType::CommonName, "localhost"),
    ] {
        params.distinguished_name.push(kind, value);
    }
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![alpn.to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

#[tokio::test]
async fn answers_are_those_of_blackbox_exporter() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = Folder::new("blackbox");
    let (first, second) = (tls(&folder, b"http/1.1"), tls(&folder, b"h2"));
    folder.write("blackbox.yml", MODULES);
    let plain = serve(http1).await;
    let https = serve(secured(first, http1)).await;
    let h2 = serve(secured(second, http2)).await;
    let bye = serve(|mut stream| async move {
        let _ = stream.write_all(b"220 mail.example.com ESMTP ready\r\n").await;
        let _ = stream.shutdown().await;
    })
    .await;
    let (grpc, smtp, dns) = (serve(http2).await, serve(smtp).await, dns().await);
    let cases = [
        ("http", format!("http://{plain}/plain"), true),
        ("http", format!("{plain}/plain"), true),
        ("http", format!("http://{plain}/redirect"), true),
        ("http", format!("http://{plain}/error"), false),
        ("http", "http://127.0.0.1:1/".to_owned(), false),
        ("regex", format!("http://{plain}/plain"), true),
        ("regex", format!("http://{plain}/json"), false),
        ("headers", format!("http://{plain}/redirect"), true),
        ("headers", format!("http://{plain}/plain"), false),
        ("ssl", format!("http://{plain}/plain"), false),
        ("ssl", format!("https://{https}/plain"), false),
        ("http", format!("https://{https}/redirect"), true),
        ("http", format!("https://{h2}/"), true),
        ("tcp", smtp.to_string(), true),
        ("tcp_fails", bye.to_string(), false),
        ("tls", https.to_string(), true),
        ("tls", plain.to_string(), false),
        ("dns", dns.to_string(), true),
        ("dns_fails", dns.to_string(), false),
        ("icmp", "127.0.0.1".to_owned(), true),
        ("grpc", grpc.to_string(), true),
        ("grpc_fails", grpc.to_string(), false),
        ("grpc", "127.0.0.1:1".to_owned(), false),
    ];
    let (modules, problems) = blackbox::read("blackbox.yml", MODULES, folder.path());
    assert_eq!(problems, []);
    let modules = modules.unwrap();
    let prober =
        Prober::new(Trusted::system(), wachta::wire::Dialer::default(), wachta::wire::limits::Limits::default());
    let exporter = Exporter::start(folder.path()).await;
    let mut wrong = Vec::new();
    for (name, target, success) in cases {
        let theirs = exporter.probe(name, &target).await;
        let module = modules.get(name).unwrap();
        let request = blackbox::Request { target: &target, hostname: None, timeout: LIMIT, permit: &TargetPolicy::Any };
        let ours = prober.probe(module, request).await;
        let found = differences(&scrape(&theirs), &scrape(&ours.metrics));
        if !found.is_empty() || ours.success != success {
            let log = ours.log.render(&module.masker);
            wrong.push(format!("{name} {target}: {}\n{}\n{log}", ours.success, found.join("\n")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
