//! Values that must not be seen, and the one place where text is cleared of them.

use std::fmt;
use std::sync::{Arc, RwLock};

use aho_corasick::{AhoCorasick, MatchKind};
use base64::Engine as _;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// What stands where a secret stood.
pub const MASK: &str = "***";

/// A secret shorter than this would blot out half of every text, and is refused.
pub const SHORTEST: usize = 4;

/// A value that prints as `***`.
#[derive(Clone, PartialEq, Eq)]
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
    let percent = utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string();
    let form: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    let mut forms = vec![
        secret.to_owned(),
        json[1..json.len() - 1].to_owned(),
        percent.to_lowercase(),
        percent,
        form,
        secret.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;"),
    ];
    forms.push(forms[5].replace('"', "&quot;"));
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
