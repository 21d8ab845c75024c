//! Values that must not be seen, and the one place where text is cleared of them.

use std::fmt;
use std::sync::{Arc, RwLock};

use aho_corasick::{AhoCorasick, MatchKind};
use base64::Engine as _;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What stands where a secret stood.
pub const MASK: &str = "***";

/// A secret shorter than this would blot out half of every text, and is refused.
pub const SHORTEST: usize = 4;

/// A value that prints as `***`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Hides a value.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself; the name makes each use easy to find.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl<T> fmt::Display for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// Replaces every known secret in a text by `***`, also where it is JSON-escaped, percent-encoded
/// or base64-encoded. One per run; cheap to clone; secrets saved during the run are added.
#[derive(Clone, Default)]
pub struct Masker(Arc<RwLock<Known>>);

#[derive(Default)]
struct Known {
    forms: Vec<String>,
    finder: Option<AhoCorasick>,
}

impl fmt::Debug for Masker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Masker")
    }
}

impl Masker {
    /// Learns a secret. False, and nothing learnt, when it is shorter than [`SHORTEST`] characters.
    pub fn add(&self, secret: &str) -> bool {
        let secret = secret.trim_end_matches(['\n', '\r']);
        if secret.chars().count() < SHORTEST {
            return false;
        }
        let mut known = self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        for form in forms(secret) {
            if !known.forms.contains(&form) {
                known.forms.push(form);
            }
        }
        known.finder = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&known.forms).ok();
        true
    }

    /// The text without secrets.
    pub fn mask(&self, text: &str) -> String {
        let known = self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        match &known.finder {
            Some(finder) => finder.replace_all(text, &vec![MASK; known.forms.len()]),
            None => text.to_owned(),
        }
    }

    /// Bytes without secrets; for evidence that is text in any encoding that contains ASCII.
    pub fn mask_bytes(&self, bytes: &[u8]) -> Vec<u8> {
        let known = self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        match &known.finder {
            Some(finder) => finder.replace_all_bytes(bytes, &vec![MASK.as_bytes(); known.forms.len()]),
            None => bytes.to_vec(),
        }
    }
}

/// Every way in which a secret may stand in a text.
fn forms(secret: &str) -> Vec<String> {
    let json = serde_json::Value::from(secret).to_string();
    let json = &json[1..json.len() - 1];
    let html = secret.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let quoted = html.replace('"', "&quot;");
    let mut forms = vec![
        secret.to_owned(),
        json.to_owned(),
        json.replace('/', "\\/"),
        ascii_json(json),
        ascii_json(json).replace('/', "\\/"),
        quoted.replace('\'', "&#39;"),
        quoted.replace('\'', "&#x27;"),
        html,
        quoted,
    ];
    for percent in percent_forms(secret) {
        forms.push(lower_hex(&percent));
        forms.push(percent);
    }
    // Inside a longer base64 text the secret may begin at any of three offsets; what surely belongs
    // to it is the middle, without the characters that its neighbours share.
    for engine in [&base64::engine::general_purpose::STANDARD_NO_PAD, &base64::engine::general_purpose::URL_SAFE_NO_PAD]
    {
        for offset in 0..3_usize {
            let mut padded = vec![0_u8; offset];
            padded.extend_from_slice(secret.as_bytes());
            let text = engine.encode(&padded);
            let from = [0, 2, 3][offset];
            let bits = padded.len() * 8;
            let upto = bits / 6;
            if upto > from + 3 {
                forms.push(text[from..upto].to_owned());
            }
        }
    }
    forms.retain(|form| form.len() >= SHORTEST);
    forms.sort();
    forms.dedup();
    forms
}

/// What programs leave as it is when they percent-encode: nothing but letters and digits; what RFC 3986 calls
/// unreserved; that and the slash; what `encodeURIComponent` leaves.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
const PATH: &AsciiSet = &UNRESERVED.remove(b'/');
const COMPONENT: &AsciiSet = &UNRESERVED.remove(b'!').remove(b'*').remove(b'\'').remove(b'(').remove(b')');

fn percent_forms(secret: &str) -> Vec<String> {
    let mut forms: Vec<String> = [NON_ALPHANUMERIC, UNRESERVED, PATH, COMPONENT]
        .map(|left| utf8_percent_encode(secret, left).to_string())
        .to_vec();
    forms.push(url::form_urlencoded::byte_serialize(secret.as_bytes()).collect());
    // Each part of a URL has its own set (URL Standard, percent-encode sets).
    if let Ok(mut url) = url::Url::parse("http://host/") {
        url.set_path(secret);
        forms.push(url.path().trim_start_matches('/').to_owned());
        url.set_query(Some(secret));
        url.set_fragment(Some(secret));
        forms.extend([url.query(), url.fragment()].into_iter().flatten().map(ToOwned::to_owned));
    }
    forms
}

/// `%C3` as `%c3`; the rest stays.
fn lower_hex(percent: &str) -> String {
    let mut out = percent.to_owned().into_bytes();
    for at in 0..out.len() {
        if out[at] == b'%' {
            for digit in out.iter_mut().skip(at + 1).take(2) {
                digit.make_ascii_lowercase();
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// JSON as programs write it that escape all but ASCII.
fn ascii_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_masked_in_every_form() {
        let masker = Masker::default();
        assert!(masker.add("pa\"ss wörd/1"));
        for text in [
            "say pa\"ss wörd/1 now".to_owned(),
            serde_json::json!({"p": "pa\"ss wörd/1"}).to_string(),
            format!("?p={}", utf8_percent_encode("pa\"ss wörd/1", NON_ALPHANUMERIC)),
            format!("?p={}", url::form_urlencoded::byte_serialize("pa\"ss wörd/1".as_bytes()).collect::<String>()),
        ] {
            let masked = masker.mask(&text);
            assert!(masked.contains(MASK) && !masked.contains("rd"), "{text} became {masked}");
        }
        for lead in ["", "u:", "us:", "use:"] {
            let text = base64::engine::general_purpose::STANDARD.encode(format!("{lead}pa\"ss wörd/1"));
            assert!(masker.mask(&text).contains(MASK), "{lead}: {text}");
        }
    }

    #[test]
    fn as_other_programs_write_it() {
        let masker = Masker::default();
        assert!(masker.add("Pä'ss w\"o/rd-1_<x>.~"));
        for text in [
            "Pä'ss w\\\"o/rd-1_<x>.~",
            r#"P\u00e4'ss w\"o\/rd-1_<x>.~"#,
            "P%C3%A4'ss%20w%22o/rd-1_%3Cx%3E.~",
            "P%c3%a4%27ss%20w%22o%2frd-1_%3cx%3e.~",
            "P%C3%A4'ss%20w%22o%2Frd-1_%3Cx%3E.~",
            "P%C3%A4%27ss+w%22o%2Frd-1_%3Cx%3E.%7E",
            "Pä&#39;ss w&quot;o/rd-1_&lt;x&gt;.~",
        ] {
            assert_eq!(masker.mask(&format!("a={text}&b")), "a=***&b");
        }
    }

    #[test]
    fn too_short_a_secret_is_refused() {
        let masker = Masker::default();
        assert!(!masker.add("abc"));
        assert_eq!(masker.mask("abc"), "abc");
    }

    #[test]
    fn a_secret_does_not_print() {
        assert_eq!(format!("{:?} {}", Secret::new("x"), Secret::new("y")), "*** ***");
    }
}
