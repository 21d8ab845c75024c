//! Decodes bytes to text, and finds texts that differ although they have the same appearance.

use std::borrow::Cow;

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE};
use unicode_normalization::char::{decompose_canonical, decompose_compatible, is_combining_mark};

/// Number of bytes at the start of a document that are searched for its encoding (HTML standard, section 13.2.3.2).
const PRESCAN_BYTES: usize = 1024;
/// Maximum number of characters of a text that are searched for look-alikes.
const MAX_COMPARED: usize = 200_000;

/// Decodes a body. The encoding is taken from its byte order mark, otherwise from `content_type`, otherwise from the
/// HTML or XML document itself, otherwise it is UTF-8. Invalid bytes become U+FFFD. The byte order mark is not part of
/// the text.
pub fn decode<'b>(bytes: &'b [u8], content_type: Option<&str>) -> Cow<'b, str> {
    if let Some((encoding, length)) = Encoding::for_bom(bytes) {
        return encoding.decode_without_bom_handling(bytes.get(length..).unwrap_or_default()).0;
    }
    let said = content_type.and_then(charset_of).and_then(|label| Encoding::for_label(label.as_bytes()));
    let encoding = said.or_else(|| declared(bytes)).unwrap_or(UTF_8);
    encoding.decode_without_bom_handling(bytes).0
}

/// Returns the content of a file without its byte order mark.
pub fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

/// Returns the value of `charset` in a media type.
fn charset_of(content_type: &str) -> Option<&str> {
    content_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches(['"', '\'']).trim())
    })
}

/// Returns the encoding named in the XML declaration or a `meta` element.
fn declared(bytes: &[u8]) -> Option<&'static Encoding> {
    let head = &bytes[..bytes.len().min(PRESCAN_BYTES)];
    let start = head.iter().position(|byte| !byte.is_ascii_whitespace())?;
    if head[start] != b'<' {
        return None;
    }
    let text = String::from_utf8_lossy(head).to_ascii_lowercase();
    let text = text.trim_start();
    let declaration = text.strip_prefix("<?xml").and_then(|rest| rest.split_once("?>")).map(|(inside, _)| inside);
    let label = match declaration.and_then(|inside| value_after(inside, "encoding")) {
        Some(label) => label,
        None => meta_charset(text)?,
    };
    let encoding = Encoding::for_label(label.as_bytes())?;
    // A declaration that can be read as ASCII cannot be encoded in UTF-16.
    Some(if encoding == UTF_16LE || encoding == UTF_16BE { UTF_8 } else { encoding })
}

fn meta_charset(text: &str) -> Option<&str> {
    text.match_indices("<meta").find_map(|(at, _)| {
        let rest = &text[at..];
        // Markup inside a comment is not an element.
        if text[..at].matches("<!--").count() > text[..at].matches("-->").count() {
            return None;
        }
        value_after(&rest[..rest.find('>').unwrap_or(rest.len())], "charset")
    })
}

/// Returns the value after `name =`, with or without quotes.
fn value_after<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(name)?;
    let rest = rest.trim_start().strip_prefix('=')?.trim_start();
    let rest = rest.trim_start_matches(['"', '\'']);
    let end = rest.find(|c: char| matches!(c, '"' | '\'' | ';' | '>' | '/') || c.is_whitespace()).unwrap_or(rest.len());
    Some(&rest[..end]).filter(|value| !value.is_empty())
}

/// Searches `text` for a look-alike of `wanted` that is not equal to it. Returns both with every ambiguous character
/// written as its code point, or `None` if there is no look-alike.
pub fn look_alike(wanted: &str, text: &str) -> Option<(String, String)> {
    let wanted_folded: Vec<char> = folded(wanted).map(|(c, _)| c).collect();
    if wanted_folded.is_empty() {
        return None;
    }
    let folded: Vec<(char, (usize, usize))> = folded(text).take(MAX_COMPARED).collect();
    let found = folded.windows(wanted_folded.len()).find(|window| {
        window.iter().map(|(c, _)| *c).eq(wanted_folded.iter().copied())
            && text.get(window[0].1.0..window[window.len() - 1].1.1) != Some(wanted)
    })?;
    let seen = text.get(found[0].1.0..found[found.len() - 1].1.1)?;
    Some((revealed(wanted), revealed(seen)))
}

/// Returns a text in the form in which users see it, character by character, each with its byte range in the original.
/// Invisible characters are omitted, white space becomes a space, and look-alike letters of other scripts become Latin
/// ones.
fn folded(text: &str) -> impl Iterator<Item = (char, (usize, usize))> {
    text.char_indices().flat_map(|(at, c)| {
        let mut parts = Vec::new();
        decompose_compatible(c, |part| {
            if !is_unseen(part) {
                parts.push((
                    if part.is_whitespace() { ' ' } else { twin(part).unwrap_or(part) },
                    (at, at + c.len_utf8()),
                ));
            }
        });
        parts
    })
}

/// Returns whether a character is invisible.
fn is_unseen(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}'
    ) || (c.is_control() && !c.is_whitespace())
}

/// Returns the Latin letter or sign that has the same appearance as a character.
fn twin(c: char) -> Option<char> {
    const TWINS: &[(&str, &str)] = &[
        ("АВЕЅІЈКМНОРСТУХаеѕіјорсухԁһ", "ABESIJKMHOPCTYXaesijopcyxdh"),
        ("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧονν", "ABEZHIKMNOPTYXovv"),
        ("‐‑‒–—−’‘ʼ′“”″·", "------''''\"\"\"."),
    ];
    TWINS.iter().find_map(|(theirs, ours)| theirs.chars().zip(ours.chars()).find(|(one, _)| *one == c).map(|(_, l)| l))
}

/// Quotes a text and writes every ambiguous character as its code point.
fn revealed(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        let (mut canonical, mut compatible) = (Vec::new(), Vec::new());
        decompose_canonical(c, |part| canonical.push(part));
        decompose_compatible(c, |part| compatible.push(part));
        let is_canonical = canonical == compatible;
        let is_plain = c == ' ' || !(c.is_whitespace() || c.is_control());
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if is_plain && is_canonical && !is_unseen(c) && !is_combining_mark(c) && twin(c).is_none() => out.push(c),
            c => out.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_decoded_as_they_say() {
        let check = |bytes: &[u8], content_type: Option<&str>, expected: &str| {
            assert_eq!(decode(bytes, content_type), expected, "{content_type:?} {bytes:?}");
        };
        check("Schäfer".as_bytes(), None, "Schäfer");
        check(b"Sch\xe4fer", Some("text/plain; charset=ISO-8859-1"), "Schäfer");
        check(b"\x80", Some("text/html; Charset=\"windows-1252\""), "€");
        check(b"\xa3\xf3d\xbc", Some("text/plain;charset=iso-8859-2"), "Łódź");
        check(b"\x93\xfa\x96{", Some("text/plain; charset=Shift_JIS"), "日本");
        check(
            b"<html><meta charset=\"windows-1252\"><h1>5 \x80",
            Some("text/html"),
            "<html><meta charset=\"windows-1252\"><h1>5 €",
        );
        let equiv = b"<META http-equiv=Content-Type content='text/html; charset=latin1'>\xe4";
        assert!(decode(equiv, None).ends_with('ä'));
        assert!(
            decode(b"<?xml version='1.0' encoding='ISO-8859-1'?><a>\xe4</a>", Some("text/xml")).contains("<a>ä</a>")
        );
        // The header takes precedence over the document, and the byte order mark over both.
        assert!(decode("<meta charset=latin1>ä".as_bytes(), Some("text/html; charset=utf-8")).ends_with('ä'));
        check(b"\xef\xbb\xbf{}", Some("application/json; charset=latin1"), "{}");
        check(b"\xff\xfe{\0}\0", Some("application/json"), "{}");
        check(b"\xfe\xff\0{\0}", None, "{}");
        // Declarations in a comment, outside of a document, or with an unknown encoding do not count.
        assert!(decode("<!-- <meta charset=latin1> -->ä".as_bytes(), None).ends_with('ä'));
        check("charset=latin1 ä".as_bytes(), None, "charset=latin1 ä");
        check("<?xml encoding='utf-16'?>ä".as_bytes(), None, "<?xml encoding='utf-16'?>ä");
        check("ä".as_bytes(), Some("text/plain; charset=nonsense"), "ä");
        check(b"\xe4", None, "\u{fffd}");
        check(b"", Some("text/plain; charset"), "");
    }

    #[test]
    fn what_looks_the_same_is_told_apart() {
        let check = |wanted: &str, text: &str, expected: Option<(&str, &str)>| {
            let found = look_alike(wanted, text);
            let found = found.as_ref().map(|(wanted, seen)| (wanted.as_str(), seen.as_str()));
            assert_eq!(found, expected, "{wanted:?} {text:?}");
        };
        check("5 €", "costs 5\u{a0}€ now", Some(("\"5 €\"", "\"5\\u{a0}€\"")));
        check("basket", "bas\u{ad}ket", Some(("\"basket\"", "\"bas\\u{ad}ket\"")));
        check("paid", "pa\u{200b}id", Some(("\"paid\"", "\"pa\\u{200b}id\"")));
        check("é", "e\u{301}", Some(("\"é\"", "\"e\\u{301}\"")));
        check("e\u{301}", "é", Some(("\"e\\u{301}\"", "\"é\"")));
        check("Apple", "\u{410}pple", Some(("\"Apple\"", "\"\\u{410}pple\"")));
        check("fine", "\u{fb01}ne", Some(("\"fine\"", "\"\\u{fb01}ne\"")));
        check("a b", "a\tb", Some(("\"a b\"", "\"a\\u{9}b\"")));
        check("a-b", "a\u{2011}b", Some(("\"a-b\"", "\"a\\u{2011}b\"")));
        check("OK", "ok", None);
        check("OK", "fine", None);
        check("OK", "OK", None);
        check("", "x", None);
    }
}
