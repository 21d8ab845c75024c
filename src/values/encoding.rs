//! Encoding of values in a URL, so that they do not change its structure.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Everything but the unreserved characters of RFC 3986, section 2.3.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Encodes a value that follows `before` in a URL. A value in a path segment or in the value of a query field is
/// encoded. Anything else is a part of the URL itself and stays as it is: the beginning of a URL, a host, a path that
/// begins with `/`, a whole query and a fragment.
pub(super) fn encode(before: &str, value: String) -> String {
    let is_data = match before.split_once('?') {
        _ if before.is_empty() || before.contains('#') => false,
        Some((_, query)) => query.rsplit('&').next().is_some_and(|field| field.contains('=')),
        None => {
            let path = before.split_once("://").map_or(Some(before), |(_, rest)| rest.find('/').map(|at| &rest[at..]));
            path.is_some_and(|path| path.ends_with('/') || !value.starts_with('/'))
        }
    };
    if is_data { utf8_percent_encode(&value, RESERVED).to_string() } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_do_not_change_the_structure_of_a_url() {
        let value = "a b/c?d=1&e#f%ü";
        let encoded = "a%20b%2Fc%3Fd%3D1%26e%23f%25%C3%BC";
        for (before, value, expected) in [
            ("/items/", value, encoded),
            ("items/", value, encoded),
            ("https://a.example/items-", value, encoded),
            ("/search?q=", value, encoded),
            ("/search?x=1&q=", value, encoded),
            // Parts of the URL itself.
            ("", "https://a.example/x?y=1", "https://a.example/x?y=1"),
            ("https://", "a.example:8443", "a.example:8443"),
            ("https://a.example", "/x/y", "/x/y"),
            ("/base", "/x/y?z=1", "/x/y?z=1"),
            ("/search?", "q=1&r=2", "q=1&r=2"),
            ("/app#", "/route/1", "/route/1"),
        ] {
            assert_eq!(encode(before, value.to_owned()), expected, "{before} {value}");
        }
    }
}
