//! Modules of a file that has a module for every prober and every key: all are read, none is read and ignored, and what
//! is not supported is refused by name.

use std::collections::BTreeSet;
use std::path::Path;

use regex::Regex;
use wachta::blackbox::{self, Modules};
use wachta::diagnostic::Severity;

const FILE: &str = include_str!("../../blackbox/modules.yml");

/// Every key that a module of the newest `blackbox_exporter` may have.
const KEYS: &str = "\
    prober timeout http tcp unix dns icmp grpc websocket \
    preferred_ip_protocol ip_protocol_fallback source_ip_address \
    valid_status_codes valid_http_versions method headers body body_file compression body_size_limit fail_if_ssl \
    fail_if_not_ssl fail_if_body_matches_regexp fail_if_body_not_matches_regexp fail_if_body_json_matches_cel \
    fail_if_body_json_not_matches_cel fail_if_header_matches fail_if_header_not_matches header regexp allow_missing \
    skip_resolve_phase_with_proxy no_follow_redirects follow_redirects enable_http2 enable_http3 \
    basic_auth username username_file username_ref password password_file password_ref \
    authorization type credentials credentials_file credentials_ref bearer_token bearer_token_file \
    oauth2 client_id client_secret client_secret_file client_secret_ref scopes token_url endpoint_params grant_type \
    tls_config insecure_skip_verify ca ca_file ca_ref cert cert_file cert_ref key key_file key_ref server_name \
    min_version max_version http_headers values secrets files proxy_url no_proxy proxy_from_environment \
    proxy_connect_header query_response expect expect_bytes labels name value send starttls tls \
    dns_over_tls transport_protocol query_name query_type query_class recursion_desired valid_rcodes \
    validate_answer_rrs validate_authority_rrs validate_additional_rrs fail_if_matches_regexp \
    fail_if_all_match_regexp fail_if_not_matches_regexp fail_if_none_matches_regexp \
    payload_size dont_fragment ttl service http_config";

/// Modules, and what was told of them: severity, module, message.
fn load(text: &str) -> (Option<Modules>, Vec<(bool, String, String)>) {
    let (modules, found) = blackbox::read("modules.yml", text, Path::new("/etc/blackbox"));
    let found = found.into_iter().map(|found| {
        let module = found.context.as_deref().unwrap_or_default().trim_start_matches("module ").to_owned();
        (found.severity == Severity::Warning, module, found.message.clone())
    });
    (modules, found.collect())
}

/// Lines with a key, the key, and where it stands in its line. Modules have names of their own.
fn keys() -> impl Iterator<Item = (usize, &'static str, std::ops::Range<usize>)> {
    let line_with_key = Regex::new("^ {4,}(?:- )?([a-z][a-z0-9_]*):").unwrap();
    FILE.lines().enumerate().filter_map(move |(number, line)| {
        let key = line_with_key.captures(line)?.get(1)?;
        Some((number, key.as_str(), key.range()))
    })
}

#[test]
fn a_module_with_every_key_loads_and_is_shown_with_its_values() {
    let there: BTreeSet<&str> = keys().map(|(_, key, _)| key).collect();
    let expected: BTreeSet<&str> = KEYS.split_whitespace().collect();
    assert_eq!(there, expected);
    let (modules, found) = load(FILE);
    let modules = modules.unwrap_or_else(|| panic!("{found:#?}"));
    for prober in ["http", "tcp", "unix", "dns", "icmp", "grpc", "websocket"] {
        let there = modules.iter().any(|(_, module)| module.prober == prober && module.refused.is_none());
        assert!(there, "no module of {prober}");
    }
    let usable = || modules.iter().filter(|(_, module)| module.refused.is_none() && module.has_prober());
    let shown: String = usable().map(|(name, module)| format!("--- {name}\n{}", module.effective())).collect();
    insta::assert_snapshot!(shown);
    // What is shown is what is in effect: it says the same when it is read.
    let (again, problems) = load(&modules.effective());
    let again = again.unwrap_or_else(|| panic!("{problems:#?}"));
    for (name, module) in usable() {
        assert_eq!(again.get(name).map(|again| again.effective()), Some(module.effective()), "{name}");
    }
}

#[test]
fn no_key_is_read_and_ignored() {
    let lines: Vec<&str> = FILE.lines().collect();
    let mut ignored = Vec::new();
    for (number, key, place) in keys() {
        // The module alone, with one of its keys misspelt.
        let begins = |line: &&str| line.starts_with("  ") && !line.starts_with("   ");
        let from = (0..number).rev().find(|at| begins(&lines[*at])).unwrap();
        let to = (number..lines.len()).find(|at| begins(&lines[*at])).unwrap_or(lines.len());
        let line = format!("{}{key}x{}", &lines[number][..place.start], &lines[number][place.end..]);
        let module = [&["modules:"], &lines[from..number], &[line.as_str()], &lines[number + 1..to]].concat();
        let (modules, found) = load(&module.join("\n"));
        // A value that is hidden, since its key might be that of a password, may be a part of the key.
        let shown = [format!("{key}x"), format!("{key}x").replace("password", "***")];
        let told = found.iter().any(|(warning, _, message)| !warning && shown.iter().any(|key| message.contains(key)));
        if modules.is_some() || !told {
            ignored.push(format!("{}: {line}", number + 1));
        }
    }
    assert_eq!(ignored, Vec::<String>::new());
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let (modules, found) = load(FILE);
    let modules = modules.unwrap();
    let refused: Vec<_> =
        modules.iter().filter_map(|(name, module)| Some((name, module.refused.as_deref()?))).collect();
    assert_eq!(
        refused,
        [
            ("refused_cel", "`fail_if_body_json_matches_cel` is not supported"),
            ("refused_cel_not", "`fail_if_body_json_not_matches_cel` is not supported"),
            ("refused_credentials_ref", "`credentials_ref` is not supported"),
            ("refused_grant", "a `grant_type` other than client_credentials is not supported"),
            ("refused_http3", "HTTP/3 (`enable_http3`) is not supported"),
            ("refused_oauth2", "`client_secret_ref` is not supported"),
            ("refused_password_ref", "`username_ref` is not supported"),
            ("refused_proxy_https", "a proxy of `https://` is not supported"),
            ("refused_proxy_socks", "a proxy of `socks5://` is not supported"),
            ("refused_tls10", "TLS 1.0 and 1.1 is not supported"),
            ("refused_tls11", "TLS 1.0 and 1.1 is not supported"),
            ("refused_tls_ref", "`ca_ref` is not supported"),
        ]
    );
    assert!(!modules.get("nobody").unwrap().has_prober());
    // Nothing is an error, and each of them is warned of.
    assert_eq!(
        found.iter().filter(|(warning, ..)| !warning).collect::<Vec<_>>(),
        Vec::<&(bool, String, String)>::new()
    );
    for (name, why) in refused {
        let warned = found.iter().any(|(_, module, message)| module == name && message.starts_with(why));
        assert!(warned, "{name}: {found:#?}");
    }
    let others: BTreeSet<&str> = found.iter().map(|(_, module, _)| module.as_str()).collect();
    let others: Vec<_> = others.into_iter().filter(|module| !module.starts_with("refused_")).collect();
    assert_eq!(others, ["http_files"], "`no_follow_redirects` alone is warned of: {found:#?}");
}
