//! What the newest `blackbox_exporter` exports and Debian's does not: a table of names and labels, kind by kind, and probes
//! that must give exactly that.

use std::collections::BTreeSet;
use std::io::Write as _;

use flate2::write::GzEncoder;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::UnixListener;
use tokio_tungstenite::tungstenite::Message;
use wachta::blackbox::Report;

use super::*;

/// Every probe.
const ALWAYS: &str = "probe_success probe_duration_seconds probe_timeout_seconds";
/// Every probe of something that has an address.
const RESOLVED: &str = "probe_dns_lookup_time_seconds probe_ip_protocol probe_ip_addr_hash";
const HTTP: &str = "\
    probe_http_duration_seconds{phase=resolve} probe_http_duration_seconds{phase=connect} \
    probe_http_duration_seconds{phase=tls} probe_http_duration_seconds{phase=processing} \
    probe_http_duration_seconds{phase=transfer} probe_http_content_length probe_http_uncompressed_body_length \
    probe_http_redirects probe_http_ssl probe_http_status_code probe_http_version probe_failed_due_to_regex";
const LAST_MODIFIED: &str = "probe_http_last_modified_timestamp_seconds";
const TLS: &str = "\
    probe_ssl_earliest_cert_expiry probe_tls_version_info{version} \
    probe_ssl_last_chain_info{fingerprint_sha256,issuer,serialnumber,subject,subjectalternative}";
/// Not of gRPC.
const CHAIN: &str = "probe_ssl_last_chain_expiry_timestamp_seconds";
/// Of HTTP alone.
const CIPHER: &str = "probe_tls_cipher_info{cipher}";
const DIALOGUE: &str = "probe_failed_due_to_regex probe_failed_due_to_bytes";
const DNS: &str = "\
    probe_dns_duration_seconds{phase=resolve} probe_dns_duration_seconds{phase=connect} \
    probe_dns_duration_seconds{phase=request} probe_dns_answer_rrs probe_dns_authority_rrs probe_dns_additional_rrs \
    probe_dns_query_succeeded";
const ICMP: &str = "\
    probe_icmp_duration_seconds{phase=resolve} probe_icmp_duration_seconds{phase=setup} \
    probe_icmp_duration_seconds{phase=rtt} probe_icmp_reply_hop_limit";
const GRPC: &str = "\
    probe_grpc_duration_seconds{phase=resolve} probe_grpc_duration_seconds{phase=check} probe_grpc_ssl \
    probe_grpc_status_code probe_grpc_healthcheck_response{serving_status=UNKNOWN} \
    probe_grpc_healthcheck_response{serving_status=SERVING} \
    probe_grpc_healthcheck_response{serving_status=NOT_SERVING} \
    probe_grpc_healthcheck_response{serving_status=SERVICE_UNKNOWN}";
/// Without a word on TLS, also of wss.
const WEBSOCKET: &str = "\
    probe_websocket_duration_seconds{phase=resolve} probe_websocket_duration_seconds{phase=connect} \
    probe_websocket_duration_seconds{phase=processing} probe_websocket_duration_seconds{phase=transfer} \
    probe_websocket_status_code probe_websocket_connection_upgraded probe_websocket_failed_due_to_regex";

const NEWEST: &str = r#"modules:
  http: {prober: http, timeout: 20s, http: {tls_config: {ca_file: ca.pem}}}
  gzip: {prober: http, http: {compression: gzip, fail_if_body_not_matches_regexp: ["a{100}"]}}
  tcp:
    prober: tcp
    tcp: {query_response: [{expect: "^220 ([^ ]+) (ESMTP)", labels: [{name: host, value: "${1}"}, {name: kind, value: "${2}"}]}]}
  tls: {prober: tcp, tcp: {tls: true, tls_config: {ca_file: ca.pem}}}
  unix: {prober: unix, unix: {query_response: [{expect: "^220 "}]}}
  dns: {prober: dns, dns: {query_name: example.com, query_type: SOA}}
  icmp: {prober: icmp}
  grpc: {prober: grpc, grpc: {service: good}}
  grpcs: {prober: grpc, grpc: {service: good, tls: true, tls_config: {ca_file: ca.pem}}}
  ws: {prober: websocket, websocket: {http_config: {tls_config: {ca_file: ca.pem}}}}
  ws_talk:
    prober: websocket
    websocket: {query_response: [{expect: "^hello (.+)$", send: "${1} again"}, {expect: "^you said world again$"}]}
  ws_fails: {prober: websocket, websocket: {query_response: [{expect: "^bye"}]}}
"#;

/// Says hello, and repeats what it is told.
async fn websocket(stream: impl AsyncRead + AsyncWrite + Unpin) {
    let Ok(mut stream) = tokio_tungstenite::accept_async(stream).await else { return };
    let _ = stream.send(Message::text("hello world")).await;
    while let Some(Ok(message)) = stream.next().await {
        if let Message::Text(text) = message
            && stream.send(Message::text(format!("you said {text}"))).await.is_err()
        {
            break;
        }
    }
}

/// A page, compressed.
async fn gzip(mut stream: tokio::net::TcpStream) {
    let mut lines = BufReader::new(&mut stream).lines();
    while lines.next_line().await.is_ok_and(|line| line.is_some_and(|line| !line.is_empty())) {}
    let mut packed = GzEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(&[b'a'; 5000]).unwrap();
    let packed = packed.finish().unwrap();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", packed.len());
    let _ = stream.write_all(&[head.as_bytes(), &packed].concat()).await;
    let _ = stream.shutdown().await;
}

/// The series as the table writes them: what stands in two labels is of a closed set, other values are anybody's.
fn written(found: &Scrape) -> BTreeSet<String> {
    let label = |(name, value): (&String, &String)| match name.as_str() {
        "phase" | "serving_status" => format!("{name}={value}"),
        name => name.to_owned(),
    };
    let series = found.series.keys().map(|(name, labels)| {
        let labels: Vec<_> = labels.iter().map(label).collect();
        if labels.is_empty() { name.clone() } else { format!("{name}{{{}}}", labels.join(",")) }
    });
    series.collect()
}

fn value(found: &Scrape, name: &str) -> Option<f64> {
    found.series.iter().find(|((known, _), _)| known == name).map(|(_, value)| *value)
}

fn label<'a>(found: &'a Scrape, name: &str, label: &str) -> &'a str {
    found.series.keys().find(|(known, _)| known == name).map_or("", |(_, labels)| labels[label].as_str())
}

struct Probing {
    folder: Folder,
    modules: wachta::blackbox::Modules,
    prober: Prober,
}

impl Probing {
    fn new(folder: Folder) -> Self {
        let (modules, problems) = blackbox::read("blackbox.yml", NEWEST, folder.path());
        assert_eq!(problems, []);
        Self {
            modules: modules.unwrap(),
            prober: Prober::new(
                Trusted::system(),
                wachta::wire::Dialer::default(),
                wachta::wire::limits::Limits::default(),
            ),
            folder,
        }
    }

    async fn probe(&self, module: &str, target: &str) -> (Report, String) {
        let module = self.modules.get(module).unwrap();
        let request = blackbox::Request { target, hostname: None, timeout: LIMIT, permit: &TargetPolicy::Any };
        let report = self.prober.probe(module, request).await;
        let log = report.log.render(&module.masker);
        (report, log)
    }
}

#[tokio::test]
async fn probes_give_what_the_newest_exporter_gives() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = Folder::new("blackbox-newest");
    let (first, second, third) = (tls(&folder, b"http/1.1"), tls(&folder, b"h2"), tls(&folder, b"http/1.1"));
    let plain = serve(http1).await;
    let https = serve(secured(first, http1)).await;
    let h2 = serve(secured(second, http2)).await;
    let wss = serve(secured(third, websocket)).await;
    let (ws, zipped, mail) = (serve(websocket).await, serve(gzip).await, serve(smtp).await);
    let (grpc, dns) = (serve(http2).await, dns().await);
    let path = folder.path().join("mail.sock");
    let socket = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = socket.accept().await {
            tokio::spawn(tokio::time::timeout(LIMIT, smtp(stream)));
        }
    });
    let probing = Probing::new(folder);
    let cases: &[(&str, String, bool, &[&str])] = &[
        ("http", format!("http://{plain}/plain"), true, &[RESOLVED, HTTP, LAST_MODIFIED]),
        ("http", format!("http://{plain}/error"), false, &[RESOLVED, HTTP]),
        ("http", "http://127.0.0.1:1/".to_owned(), false, &[RESOLVED, HTTP]),
        ("http", format!("https://{https}/json"), true, &[RESOLVED, HTTP, TLS, CHAIN, CIPHER]),
        ("http", format!("https://{h2}/"), true, &[RESOLVED, HTTP, TLS, CHAIN, CIPHER]),
        ("gzip", format!("http://{zipped}/"), true, &[RESOLVED, HTTP]),
        ("tcp", mail.to_string(), true, &[RESOLVED, DIALOGUE, "probe_expect_info{host,kind}"]),
        ("tls", https.to_string(), true, &[RESOLVED, DIALOGUE, TLS, CHAIN]),
        ("unix", path.display().to_string(), true, &[DIALOGUE]),
        ("dns", dns.to_string(), true, &[RESOLVED, DNS, "probe_dns_serial"]),
        ("icmp", "127.0.0.1".to_owned(), true, &[RESOLVED, ICMP]),
        ("grpc", grpc.to_string(), true, &[RESOLVED, GRPC, "probe_ssl_earliest_cert_expiry"]),
        ("grpcs", h2.to_string(), true, &[RESOLVED, GRPC, TLS]),
        ("ws", format!("ws://{ws}/"), true, &[RESOLVED, WEBSOCKET]),
        ("ws", format!("wss://{wss}/"), true, &[RESOLVED, WEBSOCKET]),
        ("ws", format!("ws://{plain}/plain"), false, &[RESOLVED, WEBSOCKET]),
        ("ws_talk", format!("ws://{ws}/"), true, &[RESOLVED, WEBSOCKET]),
        ("ws_fails", format!("ws://{ws}/"), false, &[RESOLVED, WEBSOCKET]),
    ];
    let mut wrong = Vec::new();
    for (module, target, success, parts) in cases {
        let (report, log) = probing.probe(module, target).await;
        let found = scrape(&report.metrics);
        let parts = parts.iter().chain([&ALWAYS]).flat_map(|part| part.split_whitespace());
        let (expected, given): (BTreeSet<String>, _) = (parts.map(str::to_owned).collect(), written(&found));
        let missing: Vec<_> = expected.difference(&given).collect();
        let further: Vec<_> = given.difference(&expected).collect();
        let gauges = found
            .families
            .values()
            .all(|words| words.len() == 2 && words[0].starts_with("HELP ") && words[1] == "TYPE gauge");
        if !missing.is_empty() || !further.is_empty() || !gauges || report.success != *success {
            wrong
                .push(format!("{module} {target}: missing {missing:?}, too much {further:?}\n{}{log}", report.metrics));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[tokio::test]
async fn values_that_only_the_newest_exporter_has() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = Folder::new("blackbox-values");
    let acceptor = tls(&folder, b"http/1.1");
    let https = serve(secured(acceptor, http1)).await;
    let (plain, ws, zipped) = (serve(http1).await, serve(websocket).await, serve(gzip).await);
    let probing = Probing::new(folder);
    assert!(probing.folder.path().join("ca.pem").exists());
    let probe = async |module: &str, target: String| {
        let (report, log) = probing.probe(module, &target).await;
        (scrape(&report.metrics), log)
    };

    let (found, log) = probe("http", format!("https://{https}/plain")).await;
    assert_eq!(value(&found, "probe_timeout_seconds"), Some(LIMIT.as_secs_f64()), "{log}");
    assert_eq!(label(&found, "probe_tls_version_info", "version"), "TLS 1.3");
    // As the registry of ciphers names it, which is not how rustls does.
    assert_eq!(label(&found, "probe_tls_cipher_info", "cipher"), "TLS_AES_256_GCM_SHA384");
    assert_eq!(value(&found, "probe_http_uncompressed_body_length"), Some(5.0));

    let (found, log) = probe("gzip", format!("http://{zipped}/")).await;
    assert_eq!(value(&found, "probe_http_uncompressed_body_length"), Some(5000.0), "{log}");
    assert!(value(&found, "probe_http_content_length").is_some_and(|length| length < 100.0), "{found:?}");

    for (module, target, status, upgraded, regex) in [
        ("ws", format!("ws://{ws}/"), 101.0, 1.0, 0.0),
        ("ws_talk", format!("ws://{ws}/"), 101.0, 1.0, 0.0),
        ("ws_fails", format!("ws://{ws}/"), 101.0, 1.0, 1.0),
        ("ws", format!("ws://{plain}/plain"), 200.0, 0.0, 0.0),
        ("ws", format!("ws://{plain}/error"), 503.0, 0.0, 0.0),
        ("ws", "ws://127.0.0.1:1/".to_owned(), 0.0, 0.0, 0.0),
    ] {
        let (found, log) = probe(module, target.clone()).await;
        let values = ["status_code", "connection_upgraded", "failed_due_to_regex"];
        let values = values.map(|name| value(&found, &format!("probe_websocket_{name}")));
        assert_eq!(values, [status, upgraded, regex].map(Some), "{module} {target}\n{log}");
    }
}
