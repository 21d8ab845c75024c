//! Module files: what is loaded, what is rejected with which message, and what is never shown; and what a proxy and a
//! token server receive from a probe.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::{Modules, Prober, Report, TargetPolicy, read};
use crate::diagnostic::Severity;
use crate::wire::Dialer;
use crate::wire::limits::Limits;
use crate::wire::tls::Trusted;

fn load(text: &str) -> (Option<Modules>, Vec<String>) {
    let (modules, found) = read("blackbox.yml", text, Path::new("/etc/blackbox"));
    let shown = found
        .iter()
        .map(|found| {
            let word = if found.severity == Severity::Warning { "warning" } else { "error" };
            let context = found.context.as_deref().unwrap_or("-");
            format!("{word} {} [{context}] {}", found.place().trim_start_matches("blackbox.yml:"), found.message)
        })
        .collect();
    (modules, shown)
}

#[test]
fn every_mistake_is_told_with_its_place_and_module() {
    let text = r#"modules:
  a:
    prober: http
    timeout: 5
    http:
      valid_status_codes: [200, 2xx]
      metod: GET
      body: x
      body_file: y
      fail_if_ssl: maybe
      fail_if_body_matches_regexp: ["a("]
      fail_if_header_matches: [{header: X}, {regexp: y}]
      basic_auth: {username: u, password: longpassword, password_file: f}
      bearer_token: abcdef
      compression: gzip
      headers: {Accept-Encoding: "br, identity"}
      body_size_limit: 10
      no_proxy: a
      http_headers: {Authorization: {values: [a]}}
  b:
    prober: tcp
    tcp:
      source_ip_address: localhost
      query_response:
        - expect: "["
        - labels: [{name: 1a, value: x}, {name: a}, {name: a}]
        - send: !!binary "%%%"
      tls_config: {cert_file: c, min_version: TLS13, max_version: TLS12}
  c: {prober: dns, dns: {query_type: AAAAA, query_class: XX, valid_rcodes: [NOPE], dns_over_tls: true}}
  d: {prober: icmp, icmp: {ttl: 256, payload_size: -1}}
  d: {prober: icmp}
  e: {prober: http, http: {enable_http3: true}}
  f: {prober: http, http: {preferred_ip_protocol: ip5, proxy_url: "http://p", proxy_from_environment: true, oauth2: {}}}
  g: [prober]
"#;
    let (modules, found) = load(text);
    assert!(modules.is_none());
    insta::assert_snapshot!(found.join("\n"));
}

#[test]
fn what_is_not_supported_refuses_its_module_alone() {
    let text = "\
modules:
  h3: {prober: http, http: {enable_http2: false, enable_http3: true, valid_http_versions: [HTTP/3.0]}}
  cel: {prober: http, http: {fail_if_body_json_matches_cel: 'body.a == 1'}}
  old: {prober: tcp, tcp: {tls_config: {max_version: TLS11}}}
  socks: {prober: http, http: {proxy_url: 'socks5://p:1080'}}
  good: {prober: http, timeout: 1m30s, http: {no_follow_redirects: yes}}
  none: {prober: ldap}
  empty: {prober: http, http: }
";
    let (modules, found) = load(text);
    let modules = modules.unwrap();
    let refused: Vec<_> =
        modules.iter().filter_map(|(name, module)| Some(format!("{name}: {}", module.refused.as_ref()?))).collect();
    assert_eq!(
        refused,
        [
            "cel: `fail_if_body_json_matches_cel` is not supported",
            "h3: HTTP/3 (`enable_http3`) is not supported",
            "old: TLS 1.0 and 1.1 is not supported",
            "socks: a proxy of `socks5://` is not supported",
        ]
    );
    assert!(found.iter().all(|line| line.starts_with("warning")), "{found:#?}");
    assert_eq!(found.len(), 5, "{found:#?}");
    let good = modules.get("good").unwrap();
    assert_eq!((good.timeout.unwrap().as_secs(), good.has_prober()), (90, true));
    assert!(good.effective().contains("follow_redirects: false"));
    assert!(!modules.get("none").unwrap().has_prober());
    assert!(modules.get("nobody").is_none());
}

#[test]
fn no_secret_is_shown() {
    let text = r#"modules:
  a:
    prober: http
    http:
      headers: {Host: shop.example.com, X-Api-Key: s3cret-header, Accept: text/html}
      http_headers: {X-Token: {values: [s3cret-value], secrets: [s3cret-hidden], files: [/run/token]}}
      basic_auth: {username: somebody, password: s3cret-password}
      body: s3cret-body
      proxy_url: http://proxy:s3cret-proxy@proxy:3128
      proxy_connect_header: {Proxy-Authorization: [s3cret-connect]}
      tls_config: {ca: s3cret-ca, cert: s3cret-cert, key: s3cret-key}
  b: {prober: http, http: {authorization: {credentials: s3cret-token}}}
  c: {prober: http, http: {bearer_token: s3cret-bearer}}
  d:
    prober: http
    http:
      oauth2:
        {client_id: us, client_secret: s3cret-client, token_url: "https://t/", scopes: [a], endpoint_params: {p: s3cret-p}}
  e:
    prober: tcp
    tcp: {query_response: [{expect: "^220 (.+)", send: "AUTH s3cret-send", labels: [{name: banner, value: "${1}"}]}]}
  f:
    prober: websocket
    websocket: {headers: {Cookie: s3cret-cookie}, query_response: [{send: s3cret-message}]}
"#;
    let (modules, found) = load(text);
    assert_eq!(found, Vec::<String>::new());
    let modules = modules.unwrap();
    let shown = modules.effective();
    assert!(!shown.contains("s3cret"), "{shown}");
    insta::assert_snapshot!(shown);
    // The rendered configuration can be loaded again, except that secrets are missing.
    let (again, problems) = load(&shown);
    assert!(again.is_some(), "{problems:#?}");
    // Secrets are masked in logs as well.
    for (name, secret) in [("a", "s3cret-header"), ("a", "s3cret-hidden"), ("d", "s3cret-p"), ("e", "AUTH s3cret-send")]
    {
        assert_eq!(modules.get(name).unwrap().masker.mask(&format!("it said {secret}")), "it said ***", "{name}");
    }
}

#[test]
fn defaults_are_those_of_the_original() {
    let text = "\
modules:
  http: {prober: http}
  tcp: {prober: tcp}
  unix: {prober: unix}
  dns: {prober: dns, dns: {query_name: example.com}}
  icmp: {prober: icmp}
  grpc: {prober: grpc}
  websocket: {prober: websocket}
";
    let (modules, found) = load(text);
    assert_eq!(found, Vec::<String>::new());
    insta::assert_snapshot!(modules.unwrap().effective());
}

/// The published examples of `blackbox_exporter` cannot be included here. If they are available (`BLACKBOX_EXAMPLES`
/// names the folder), they must load unchanged.
#[test]
fn published_examples_load() {
    let Some(folder) = std::env::var_os("BLACKBOX_EXAMPLES") else { return };
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let (modules, found) = load(&std::fs::read_to_string(&path).unwrap());
        let modules = modules.unwrap_or_else(|| panic!("{}: {found:#?}", path.display()));
        let refused: Vec<_> =
            modules.iter().filter(|(_, module)| module.refused.is_some()).map(|(name, _)| name).collect();
        assert!(refused.iter().all(|name| ["http_3xx", "http_json_cel_match"].contains(name)), "{refused:?}");
        assert!(modules.len() > 10 && modules.iter().all(|(_, module)| module.has_prober()), "{}", path.display());
    }
}

/// Starts a server that gives every connection the same response, and records the heads of the requests.
async fn recording(response: &'static str) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heads: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&heads);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let Ok(byte) = stream.read_u8().await else { break };
                head.push(byte);
            }
            seen.lock().unwrap().push(String::from_utf8(head).unwrap());
            let _ = stream.write_all(response.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    (address, heads)
}

async fn probe(module: &str, target: &str) -> (Report, String) {
    let (modules, found) = load(&format!("modules:\n  a: {module}\n"));
    assert_eq!(found, Vec::<String>::new());
    let modules = modules.unwrap();
    let module = modules.get("a").unwrap();
    let prober = Prober::new(Trusted::system(), Dialer::default(), Limits::default());
    let request =
        super::Request { target, hostname: None, timeout: Duration::from_secs(20), permit: &TargetPolicy::Any };
    let report = prober.probe(module, request).await;
    let log = report.log.render(&module.masker);
    (report, log)
}

#[tokio::test]
async fn a_proxy_gets_the_resolved_address() {
    let (proxy, heads) = recording("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let settings = format!("preferred_ip_protocol: ip4, proxy_url: \"http://u:pass%20word@{proxy}\"");
    let (report, log) = probe(&format!("{{prober: http, http: {{{settings}}}}}"), "http://localhost:1/a?b#c").await;
    assert!(report.success, "{log}");
    let head = std::mem::take(&mut *heads.lock().unwrap()).join("");
    assert!(head.starts_with("GET http://127.0.0.1:1/a?b HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nhost: localhost:1\r\n"), "{head}");
    assert!(head.contains("\r\nproxy-authorization: Basic dTpwYXNzIHdvcmQ=\r\n"), "{head}");
    for (module, target) in [
        (format!("{{prober: http, http: {{{settings}}}}}"), "https://localhost:1/"),
        (
            format!(
                "{{prober: websocket, websocket: {{preferred_ip_protocol: ip4, http_config: {{proxy_url: \"http://u:pass%20word@{proxy}\", proxy_connect_header: {{X-A: [b]}}}}}}}}"
            ),
            "ws://localhost:1/",
        ),
    ] {
        let (report, log) = probe(&module, target).await;
        assert!(!report.success, "{log}");
        let head = std::mem::take(&mut *heads.lock().unwrap()).join("");
        assert!(head.starts_with("CONNECT 127.0.0.1:1 HTTP/1.1\r\n"), "{target}: {head}\n{log}");
        assert!(head.contains("\r\nProxy-Authorization: Basic dTpwYXNzIHdvcmQ=\r\n"), "{head}");
        assert_eq!(head.contains("\r\nX-A: b\r\n"), target.starts_with("ws"), "{head}");
    }
}

#[tokio::test]
async fn a_failed_token_request_is_not_taken_for_the_probed_request() {
    let body = "{\"error\":\"invalid_client\"}";
    let response = format!("HTTP/1.1 400 Bad Request\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let (server, heads) = recording(response.leak()).await;
    let module = format!(
        "{{prober: http, http: {{oauth2: {{client_id: us, client_secret: s3cret, token_url: \"http://{server}/token\"}}}}}}"
    );
    let (report, log) = probe(&module, &format!("http://{server}/")).await;
    assert!(!report.success);
    let expected = format!("no token from `http://{server}/token`: status 400 (invalid_client)");
    assert!(log.contains(&expected), "{log}");
    let heads = std::mem::take(&mut *heads.lock().unwrap());
    assert!(heads.len() == 1 && heads[0].starts_with("POST /token HTTP/1.1\r\n"), "{heads:?}");
    assert!(heads[0].contains("\r\nauthorization: Basic dXM6czNjcmV0\r\n"), "{heads:?}");
}
