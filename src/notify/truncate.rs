//! Truncation of texts: at character boundaries, with an ellipsis, and always before markup is added.

use sha2::{Digest as _, Sha256};

/// Character that replaces the truncated part.
const ELLIPSIS: char = '…';

/// Truncates a text to a total `weight` of at most `limit`, including the ellipsis. Whitespace before the ellipsis is
/// removed.
fn fit(text: &str, limit: usize, weight: impl Fn(char) -> usize) -> String {
    let mut total = 0;
    // Position of the truncation, if it is necessary.
    let mut keep = 0;
    let room = limit.saturating_sub(weight(ELLIPSIS));
    for (at, c) in text.char_indices() {
        total += weight(c);
        if total <= room {
            keep = at + c.len_utf8();
        }
        if total > limit {
            let mut short = text[..keep].trim_end().to_owned();
            if room > 0 || weight(ELLIPSIS) <= limit {
                short.push(ELLIPSIS);
            }
            return short;
        }
    }
    text.to_owned()
}

/// Truncates a text to a number of characters.
pub(super) fn chars(text: &str, limit: usize) -> String {
    fit(text, limit, |_| 1)
}

/// Truncates a text to a number of UTF-8 bytes.
pub(super) fn bytes(text: &str, limit: usize) -> String {
    fit(text, limit, char::len_utf8)
}

/// Truncates a text to a number of UTF-16 units, as counted by `escaped` for each character.
pub(super) fn escaped(text: &str, limit: usize, escaped: impl Fn(char) -> usize) -> String {
    fit(text, limit, escaped)
}

/// Joins a text into one line.
pub(super) fn line(text: &str) -> String {
    text.split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Returns a dedup key that fits the limit of the receiver: the key itself, or its digest if it is too long. Always the
/// same for one key.
pub(super) fn key(key: &str, limit: usize) -> String {
    if key.chars().count() <= limit && key.len() <= limit { key.to_owned() } else { digest(key) }
}

/// Returns the SHA-256 digest of a text as 64 hexadecimal digits.
pub(super) fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_inside_a_character_and_never_longer() {
        for (text, limit, expected) in [
            ("abc", 3, "abc"),
            ("abcd", 3, "ab…"),
            ("ab cd", 4, "ab…"),
            ("żółw", 4, "żółw"),
            ("żółwik", 4, "żół…"),
            ("abc", 1, "…"),
            ("abc", 0, ""),
            ("", 0, ""),
        ] {
            assert_eq!(chars(text, limit), expected, "{text} {limit}");
        }
        for (text, limit, expected) in [
            ("żółw", 7, "żółw"),
            ("żółw", 6, "ż…"),
            ("żółw", 5, "ż…"),
            ("żółw", 2, ""),
            ("🐢🐢", 7, "🐢…"),
            ("🐢", 4, "🐢"),
        ] {
            assert_eq!(bytes(text, limit), expected, "{text} {limit}");
            assert!(bytes(text, limit).len() <= limit);
        }
        let html = |c: char| if c == '&' { 5 } else { c.len_utf16() };
        assert_eq!(escaped("a&b&c", 13, html), "a&b&c");
        assert_eq!(escaped("a&b&c", 12, html), "a&b…");
        assert_eq!(line(" a\n\tb\u{0} c "), "a b c");
    }

    #[test]
    fn a_long_key_is_a_digest_and_stays_the_same() {
        assert_eq!(key("shop:1", 255), "shop:1");
        let long = "x".repeat(256);
        assert_eq!((key(&long, 255).len(), key(&long, 255)), (64, key(&long, 255)));
        assert_ne!(key(&long, 255), key(&format!("{long}y"), 255));
    }
}
