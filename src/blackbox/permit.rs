//! Policy for allowed targets. Without it, anyone with access to `/probe` could reach everything that this machine can
//! reach.

use std::net::IpAddr;

/// Policy for allowed targets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum TargetPolicy {
    /// Any target, for an agent that listens on loopback only.
    #[default]
    Any,
    /// Targets that match one of these patterns.
    Listed(Vec<Pattern>),
}

/// A pattern for targets: `https://*.example.com/*`, `tcp://db.internal:5432`, `*.example.com`, `10.0.0.0/8`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    scheme: Option<String>,
    host: Host,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    /// A host name, where `*` matches any characters.
    Name(String),
    /// A network: its address and prefix length.
    Network(IpAddr, u8),
}

impl Pattern {
    /// Parses a pattern. The error says what to write.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) if !scheme.is_empty() => (Some(scheme.to_ascii_lowercase()), rest),
            Some(_) => return Err("write it like https://*.example.com/*".into()),
            None => (None, text),
        };
        if let Some(scheme) = &scheme
            && !["http", "https", "tcp", "dns", "icmp", "grpc", "ws", "wss", "unix", "*"].contains(&scheme.as_str())
        {
            return Err("the schemes are http, https, tcp, dns, icmp, grpc, ws, wss and unix".into());
        }
        if scheme.as_deref() == Some("unix") {
            return Ok(Self { scheme, host: Host::Name(rest.to_owned()), port: None });
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if let Ok(address) = authority.trim_matches(['[', ']']).parse::<IpAddr>()
            && let Some(length) = path.strip_prefix('/').and_then(|length| length.parse::<u8>().ok())
        {
            let most = if address.is_ipv4() { 32 } else { 128 };
            if length > most {
                return Err(format!("a prefix of {address} has at most {most} bits"));
            }
            return Ok(Self { scheme, host: Host::Network(address, length), port: None });
        }
        if !matches!(path, "" | "/" | "/*") {
            return Err("a path is not supported: end it with /*".into());
        }
        let (host, port) = split_port(authority).ok_or("the port must be a number")?;
        if host.is_empty() {
            return Err("a host is missing".into());
        }
        let host = match host.parse::<IpAddr>() {
            Ok(address) => Host::Network(address, if address.is_ipv4() { 32 } else { 128 }),
            Err(_) => Host::Name(host.to_ascii_lowercase()),
        };
        let port = port.or(match scheme.as_deref() {
            _ if authority.ends_with(":*") => None,
            Some("http" | "ws") => Some(80),
            Some("https" | "wss") => Some(443),
            _ => None,
        });
        Ok(Self { scheme: scheme.filter(|scheme| scheme != "*"), host, port })
    }

    fn fits(&self, target: &Target<'_>) -> bool {
        self.scheme.as_deref().is_none_or(|scheme| scheme == target.scheme)
            && self.port.is_none_or(|port| target.port == Some(port))
            && match &self.host {
                Host::Name(pattern) => glob(pattern.as_bytes(), target.host.to_ascii_lowercase().as_bytes()),
                Host::Network(network, length) => {
                    target.host.parse().is_ok_and(|address| within(address, *network, *length))
                }
            }
    }

    /// Returns whether the pattern explicitly lists an address for this scheme and port.
    fn names(&self, target: &Target<'_>, address: IpAddr) -> bool {
        self.scheme.as_deref().is_none_or(|scheme| scheme == target.scheme)
            && self.port.is_none_or(|port| target.port == Some(port))
            && matches!(self.host, Host::Network(network, length) if within(address, network, length))
    }
}

/// Target of a probe.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'a> {
    /// URL scheme, or the name of the protocol.
    pub(super) scheme: &'a str,
    /// Host name or IP address, without brackets.
    pub(super) host: &'a str,
    /// Port, if the protocol has ports.
    pub(super) port: Option<u16>,
}

impl TargetPolicy {
    /// Returns whether a target may be probed.
    pub(super) fn allows(&self, target: &Target<'_>) -> bool {
        match self {
            Self::Any => true,
            Self::Listed(patterns) => match target.host.parse::<IpAddr>() {
                Ok(address) if is_inside(address) => patterns.iter().any(|pattern| pattern.names(target, address)),
                _ => patterns.iter().any(|pattern| pattern.fits(target)),
            },
        }
    }

    /// Returns whether a pattern explicitly lists a Unix socket. This is never the case if any target is allowed.
    pub(super) fn names_path(&self, path: &str) -> bool {
        let Self::Listed(patterns) = self else { return false };
        patterns.iter().any(|pattern| {
            pattern.scheme.as_deref() == Some("unix")
                && matches!(&pattern.host, Host::Name(name) if glob(name.as_bytes(), path.as_bytes()))
        })
    }

    /// Returns whether an allowed name may be probed at this address. A foreign name must not lead to this machine or
    /// to link-local services.
    pub(super) fn allows_address(&self, target: &Target<'_>, address: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::Listed(patterns) => {
                !is_inside(address) || patterns.iter().any(|pattern| pattern.names(target, address))
            }
        }
    }
}

/// Returns whether an address belongs to this machine or its link, where clouds provide credentials.
fn is_inside(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            v4.is_loopback() || v4.is_link_local() || v4.is_unspecified() || v4.is_broadcast() || v4.is_multicast()
        }
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => is_inside(IpAddr::V4(v4)),
            None => v6.is_loopback() || v6.is_unspecified() || v6.is_multicast() || v6.is_unicast_link_local(),
        },
    }
}

pub(super) fn within(address: IpAddr, network: IpAddr, length: u8) -> bool {
    let same = |a: u128, b: u128, bits: u32| length == 0 || (a ^ b) >> (bits - u32::from(length)) == 0;
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => same(a.to_bits().into(), b.to_bits().into(), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => same(a.to_bits(), b.to_bits(), 128),
        _ => false,
    }
}

/// Splits an authority into the host, without brackets, and the port.
pub(super) fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None if authority.matches(':').count() > 1 => (authority, None),
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    match port {
        None | Some("*") => Some((host, None)),
        Some(port) => Some((host, Some(port.parse().ok()?))),
    }
}

/// Returns whether a text matches a pattern where `*` stands for any characters.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p) == Some(&text[t]) {
            (p, t) = (p + 1, t + 1);
        } else if let Some((star_p, star_t)) = star {
            star = Some((star_p, star_t + 1));
            (p, t) = (star_p + 1, star_t + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target<'a>(scheme: &'a str, host: &'a str, port: u16) -> Target<'a> {
        Target { scheme, host, port: (port > 0).then_some(port) }
    }

    #[test]
    fn patterns_allow_what_they_name() {
        let check = |pattern: &str, good: &[(&str, &str, u16)], bad: &[(&str, &str, u16)]| {
            let permit = TargetPolicy::Listed(vec![Pattern::parse(pattern).unwrap()]);
            for (scheme, host, port) in good {
                assert!(permit.allows(&target(scheme, host, *port)), "{pattern} must allow {scheme} {host} {port}");
            }
            for (scheme, host, port) in bad {
                assert!(
                    !permit.allows(&target(scheme, host, *port)),
                    "{pattern} must not allow {scheme} {host} {port}"
                );
            }
        };
        check(
            "https://*.example.com/*",
            &[("https", "a.example.com", 443), ("https", "A.b.Example.com", 443)],
            &[("http", "a.example.com", 80), ("https", "example.com", 443), ("https", "a.example.com", 8443)],
        );
        check("https://example.com:*", &[("https", "example.com", 8443)], &[("https", "xexample.com", 443)]);
        check("tcp://db.internal:5432", &[("tcp", "db.internal", 5432)], &[("tcp", "db.internal", 22)]);
        check("*.internal", &[("icmp", "a.internal", 0), ("dns", "b.internal", 53)], &[("icmp", "internal.evil", 0)]);
        check("10.0.0.0/8", &[("tcp", "10.1.2.3", 1)], &[("tcp", "11.1.2.3", 1), ("tcp", "name", 1)]);
        check("[fd00::]/8", &[("tcp", "fd12::1", 1)], &[("tcp", "fe80::1", 1)]);
        check("tcp://[::1]:80", &[("tcp", "::1", 80)], &[("tcp", "::1", 81), ("tcp", "::2", 80)]);
        // Internal addresses are only reachable if they are listed explicitly.
        check(
            "*",
            &[("tcp", "10.0.0.1", 1), ("http", "name", 80)],
            &[("tcp", "127.0.0.1", 1), ("tcp", "169.254.1.1", 1)],
        );
        check("127.0.0.1", &[("tcp", "127.0.0.1", 1)], &[("tcp", "::ffff:127.0.0.1", 1)]);
        for (wrong, why) in [
            ("https://a/admin", "a path"),
            ("ftp://a", "the schemes"),
            ("a:b", "the port"),
            ("10.0.0.0/33", "a prefix"),
            ("https://", "a host"),
            ("://a", "write it"),
        ] {
            assert!(Pattern::parse(wrong).unwrap_err().starts_with(why), "{wrong}");
        }
    }

    #[test]
    fn a_name_does_not_lead_inside() {
        let permit = |pattern: &str| TargetPolicy::Listed(vec![Pattern::parse(pattern).unwrap()]);
        let name = target("http", "a.example.com", 80);
        let check = |pattern: &str, address: &str, expected: bool| {
            let allowed = permit(pattern).allows_address(&name, address.parse().unwrap());
            assert_eq!(allowed, expected, "{pattern} {address}");
        };
        check("*.example.com", "93.184.216.34", true);
        check("*.example.com", "10.0.0.1", true);
        check("*.example.com", "127.0.0.1", false);
        check("*.example.com", "169.254.169.254", false);
        check("*.example.com", "::1", false);
        check("*.example.com", "::ffff:127.0.0.1", false);
        check("127.0.0.0/8", "127.0.0.1", true);
        assert!(TargetPolicy::Any.allows_address(&name, "127.0.0.1".parse().unwrap()));
    }
}
