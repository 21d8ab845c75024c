//! Section `network` of the agent configuration: the connectivity check.

use super::shape::{TEXTS, key};
use crate::run::{Canary, NetworkConfig};
use crate::scenario::keys::Key;
use crate::scenario::reader::{Reader, cut};
use crate::scenario::tree::Node;
use crate::wire::NetworkPattern;

/// Maximum number of canaries, because all of them are contacted at the same time.
const MOST: usize = 10;

/// Keys of `network`.
pub(super) const NETWORK: &[Key] = &[key(
    "connectivity_targets",
    TEXTS,
    "canaries, such as `tcp://10.0.0.1:53`, at most 10; runs that fail while none responds are unknown (default: none)",
)];

/// Parses `network`.
pub(super) fn network(r: &mut Reader, node: &Node) -> NetworkConfig {
    let mut config = NetworkConfig::default();
    let Some(fields) = r.fields(node, "`network`", &[NETWORK]) else { return config };
    let Some(list) = fields.get("connectivity_targets") else { return config };
    let items = r.list(list, "`connectivity_targets`").unwrap_or_default();
    if items.len() > MOST {
        r.fail_with(
            list.span,
            format!("`connectivity_targets` must be at most {MOST}"),
            "two or three independent addresses are enough",
        );
    }
    config.canaries = items.iter().filter_map(|item| canary(r, item)).collect();
    config
}

/// Parses `allow.network`.
pub(super) fn patterns(r: &mut Reader, node: &Node) -> Vec<NetworkPattern> {
    let mut patterns = Vec::new();
    for item in r.list(node, "`network`").unwrap_or_default() {
        let Some(text) = r.text(item, "`network`") else { continue };
        match NetworkPattern::parse(&text) {
            Ok(pattern) => patterns.push(pattern),
            Err(why) => r.fail_with(item.span, format!("`{}` is not a pattern of addresses", cut(&text)), why),
        }
    }
    patterns
}

fn canary(r: &mut Reader, node: &Node) -> Option<Canary> {
    let text = r.text(node, "a connectivity target")?;
    if let Some((scheme @ ("http" | "https" | "icmp" | "udp" | "ping" | "dns"), _)) = text.split_once("://") {
        r.fail(node.span, format!("`{scheme}://` connectivity targets are not supported yet"));
        return None;
    }
    let url = text.strip_prefix("tcp://").and_then(|_| url::Url::parse(&text).ok());
    let plain = |url: &url::Url| {
        matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none() && url.username().is_empty()
    };
    let found = url.filter(plain).and_then(|url| {
        let host = url.host_str()?.trim_matches(['[', ']']).to_owned();
        Some(Canary { host, port: url.port().filter(|port| *port > 0)? })
    });
    if found.is_none() {
        let label = "write it like tcp://10.0.0.1:53";
        r.fail_with(node.span, format!("`{}` is not a connectivity target", cut(&text)), label);
    }
    found
}

#[cfg(test)]
mod tests {
    use crate::app::config::read;

    #[test]
    fn patterns_of_allow_network_are_read() {
        let text = |written: &str| format!("location: a\nscenarios: []\nallow: {{network: {written}}}\n");
        let (config, found) = read("wachta.yaml", &text("[\"127.0.0.1:80\", \"unix:/run/*\"]"));
        assert!(found.is_empty(), "{found:?}");
        let network = config.expect("reads").allow.network;
        assert_eq!(network.iter().map(ToString::to_string).collect::<Vec<_>>(), ["127.0.0.1:80", "unix:/run/*"]);
        let (_, found) = read("wachta.yaml", &text("[\"127.0.0.1\"]"));
        assert_eq!(found[0].message, "`127.0.0.1` is not a pattern of addresses");
        assert_eq!(found[0].place(), "wachta.yaml:3:19");
    }

    #[test]
    fn canaries_are_read() {
        let check = |written: &str, expected: Result<&[&str], &[&str]>| {
            let text = format!("location: a\nscenarios: []\nnetwork: {written}\n");
            let (config, found) = read("wachta.yaml", &text);
            let shown: Vec<_> = found.iter().map(|found| format!("{}: {}", found.place(), found.message)).collect();
            match expected {
                Err(problems) => assert_eq!(shown, problems, "{written}"),
                Ok(canaries) => {
                    assert_eq!(shown, [""; 0], "{written}");
                    let read = config.expect("reads").network.canaries;
                    assert_eq!(read.iter().map(ToString::to_string).collect::<Vec<_>>(), canaries, "{written}");
                }
            }
        };
        check("{}", Ok(&[]));
        check("{connectivity_targets: []}", Ok(&[]));
        check("{connectivity_targets: [\"tcp://10.0.0.1:53\"]}", Ok(&["tcp://10.0.0.1:53"]));
        check(
            "{connectivity_targets: [\"tcp://gate.lan:22\", \"tcp://[fd00::1]:53/\"]}",
            Ok(&["tcp://gate.lan:22", "tcp://fd00::1:53"]),
        );
        let wrong = |text: &str| format!("wachta.yaml:3:34: `{text}` is not a connectivity target");
        for text in [
            "10.0.0.1:53",
            "tcp://10.0.0.1",
            "tcp://10.0.0.1:0",
            "tcp://a:53/x",
            "tcp://u@a:53",
            "tcp://:53",
            "tcp://a:70000",
        ] {
            check(&format!("{{connectivity_targets: [\"{text}\"]}}"), Err(&[&wrong(text)]));
        }
        check(
            "{connectivity_targets: [https://example.com]}",
            Err(&["wachta.yaml:3:34: `https://` connectivity targets are not supported yet"]),
        );
        check(
            "{connectivity_targets: tcp://a:1}",
            Err(&["wachta.yaml:3:33: `connectivity_targets` must be a list, not text"]),
        );
        check("{canary: [\"tcp://a:1\"]}", Err(&["wachta.yaml:3:11: unknown key `canary`"]));
        let many = ["\"tcp://a:1\""; 11].join(", ");
        check(
            &format!("{{connectivity_targets: [{many}]}}"),
            Err(&["wachta.yaml:3:33: `connectivity_targets` must be at most 10"]),
        );
    }
}
