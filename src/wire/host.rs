//! Host names as they are sent: internationalized names in ASCII (IDNA, RFC 5891).

use std::borrow::Cow;

use url::Host;

use crate::names::Reason;
use crate::outcome::Failure;

/// Returns a host name in ASCII. A name in ASCII, and an IP address, is returned unchanged.
pub fn ascii(name: &str) -> Result<Cow<'_, str>, Failure> {
    if name.is_ascii() {
        return Ok(name.into());
    }
    match Host::parse(name) {
        Ok(Host::Domain(domain)) => Ok(domain.into()),
        _ => Err(Failure::new(Reason::Configuration, format!("`{name}` is not a host name"))),
    }
}

/// Removes the brackets around an IPv6 address.
pub fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// Returns `host:port`, with brackets around an IPv6 address.
pub fn authority(host: &str, port: u16) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sent_in_ascii() {
        for (name, expected) in [
            ("grün.test", Some("xn--grn-ioa.test")),
            ("例え.テスト", Some("xn--r8jz45g.xn--zckzah")),
            ("a_b.example", Some("a_b.example")),
            ("192.0.2.1", Some("192.0.2.1")),
            ("grün test", None),
        ] {
            assert_eq!(ascii(name).ok().as_deref(), expected, "{name}");
        }
        assert_eq!((bare("[::1]"), authority("::1", 443)), ("::1", "[::1]:443".to_owned()));
    }
}
