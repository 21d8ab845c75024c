//! Module files: what is loaded, what is rejected with which message, and what is never shown.

use std::path::Path;

use super::{Modules, read};
use crate::diagnostic::Severity;

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
