//! Values that must not be seen, and the one place where text is cleared of them.

mod find;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, RwLock, RwLockWriteGuard};

use base64::Engine as _;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use find::{Finder, Form, Pattern};

/// What stands where a secret stood.
pub const MASK: &str = "***";

/// A secret shorter than this would blot out half of every text, and is refused.
pub const SHORTEST: usize = 4;

/// A part of a secret that is masked by itself has at least so many characters: words that are shorter are common.
pub const SHORTEST_PART: usize = 8;

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

/// Text without secrets. Only [`Masker::masked`] makes one out of text that is not the program's own, so that what
/// takes a `Masked` cannot be given anything else. It is cut here, after it was masked: half a secret is one as well.
/// What is read back from the store was masked before it was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Masked<T = String>(T);

impl Masked {
    /// Text of the program itself.
    pub fn constant(text: &'static str) -> Self {
        Self(text.to_owned())
    }

    /// What the program says in its own words, of ids, counts, times and places. Nothing that a target, a file or a person
    /// wrote belongs here but by way of a `Masked`; the name makes each use easy to find.
    pub fn own_words(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text with another one behind it, and words of the program between the two.
    #[must_use]
    pub fn followed_by(mut self, between: &'static str, next: &Self) -> Self {
        self.0.push_str(between);
        self.0.push_str(&next.0);
        self
    }

    /// The text, at most so many characters long, with `…` where it was cut.
    #[must_use]
    pub fn cut(self, characters: usize) -> Self {
        Self(cut(&self.0, characters))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Masked<Vec<u8>> {
    /// What is no text, such as a picture, in which no secret can be found. What is secret in it was hidden before it
    /// was made.
    pub fn picture(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// At most so many bytes of it.
    #[must_use]
    pub fn truncated(mut self, bytes: usize) -> Self {
        self.0.truncate(bytes);
        self
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl<T> Masked<T> {
    /// The text or the bytes.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl Deref for Masked {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Masked {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl<T: fmt::Display> fmt::Display for Masked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A text of at most so many characters, with `…` where it was cut.
fn cut(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// Replaces every known secret in a text by `***`, however it is written there (see `find.rs`), also in base64 and in
/// hexadecimal. One per run; cheap to clone; secrets that become known during the run are added.
///
/// Masked as well are the lines of a secret of several lines and the texts in one that is JSON, from
/// [`SHORTEST_PART`] characters on, and the beginning of a secret: from half of it on, but at least [`SHORTEST_PART`]
/// characters, and from [`typed_prefix`] characters on where it was typed into a page.
///
/// What cannot be found: a secret that was split by markup, reversed, encrypted or hashed, and a part of one that is
/// not its beginning.
#[derive(Clone, Default)]
pub struct Masker(Arc<RwLock<Known>>);

#[derive(Default)]
struct Known {
    /// Secrets as they were added.
    secrets: Vec<String>,
    finder: Finder,
}

impl fmt::Debug for Masker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Masker")
    }
}

impl Masker {
    /// Learns a secret. Returns false, and learns nothing, when it is shorter than [`SHORTEST`] characters.
    pub fn add(&self, secret: &str) -> bool {
        let secret = secret.trim();
        if secret.chars().count() < SHORTEST {
            return false;
        }
        let mut known = self.write();
        if !known.secrets.iter().any(|known| known == secret) {
            known.secrets.push(secret.to_owned());
            for pattern in patterns(secret) {
                known.finder.add(pattern);
            }
        }
        true
    }

    /// Learns every text and number in a value; returns false when there is none that is long enough.
    pub fn add_value(&self, value: &Json) -> bool {
        match value {
            Json::Null | Json::Bool(_) => false,
            Json::String(text) => self.add(text),
            Json::Number(number) => self.add(&number.to_string()),
            Json::Array(items) => items.iter().fold(false, |any, item| self.add_value(item) | any),
            Json::Object(fields) => fields.values().fold(false, |any, field| self.add_value(field) | any),
        }
    }

    /// A text with secrets in it is typed into a page, which may log each state of the field.
    pub fn typed(&self, text: &str) {
        let mut known = self.write();
        let typed: Vec<String> =
            known.secrets.iter().filter(|secret| text.contains(secret.as_str())).cloned().collect();
        for secret in typed {
            let from = secret.chars().take(typed_prefix(secret.chars().count())).map(char::len_utf8).sum();
            known.finder.add(Pattern::new(&secret, Form::Text).with_prefix(from));
        }
    }

    /// A text with secrets in it becomes a URL, in which `#`, `?` and `&` separate the secret into parts.
    pub fn in_url(&self, text: &str) {
        let secrets: Vec<String> = {
            let known = self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner);
            let is_split = |secret: &&String| text.contains(secret.as_str()) && secret.contains(['#', '?', '&']);
            known.secrets.iter().filter(is_split).cloned().collect()
        };
        for secret in secrets {
            for part in secret.split(['#', '?', '&']) {
                // The part that names a site is no secret by itself.
                if !part.contains("://") {
                    self.add(part);
                }
            }
        }
    }

    /// The text without secrets.
    pub fn mask(&self, text: &str) -> String {
        self.masked(text).into_inner()
    }

    /// The text without secrets, as what takes nothing else takes it.
    pub fn masked(&self, text: &str) -> Masked {
        let masked = self.replaced(text.as_bytes());
        Masked(masked.map_or_else(|| text.to_owned(), |masked| String::from_utf8_lossy(&masked).into_owned()))
    }

    /// Bytes without secrets, for text in any encoding that contains ASCII.
    pub fn masked_bytes(&self, bytes: Vec<u8>) -> Masked<Vec<u8>> {
        Masked(self.replaced(&bytes).unwrap_or(bytes))
    }

    /// Whether bytes contain a secret.
    pub fn is_secret_in(&self, bytes: &[u8]) -> bool {
        self.replaced(bytes).is_some()
    }

    /// Whether a text contains a secret.
    pub fn is_secret(&self, text: &str) -> bool {
        self.replaced(text.as_bytes()).is_some()
    }

    fn replaced(&self, text: &[u8]) -> Option<Vec<u8>> {
        let known = self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        if known.finder.is_empty() { None } else { known.finder.replace(text, MASK.as_bytes()) }
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// How many characters of a secret that was typed into a page are masked by themselves: half of it, at least 4 and at
/// most 8.
pub fn typed_prefix(characters: usize) -> usize {
    characters.div_ceil(2).clamp(SHORTEST, SHORTEST_PART)
}

/// Everything that is searched for because of one secret.
fn patterns(secret: &str) -> Vec<Pattern> {
    let half = secret.chars().count().div_ceil(2).max(SHORTEST_PART);
    let prefix = secret.chars().take(half).map(char::len_utf8).sum();
    let mut patterns = vec![Pattern::new(secret, Form::Text).with_prefix(prefix)];
    if !secret.is_ascii() {
        // Letters of ASCII are compared in both cases anyhow.
        patterns.extend([secret.to_uppercase(), secret.to_lowercase()].map(|text| Pattern::new(&text, Form::Text)));
    }
    let mut parts: Vec<String> = Vec::new();
    if secret.contains('\n') {
        let lines = secret.lines().map(str::trim).filter(|line| !line.starts_with("-----"));
        parts.extend(lines.map(ToOwned::to_owned));
    }
    if secret.starts_with(['{', '['])
        && let Ok(value) = serde_json::from_str(secret)
    {
        texts_in(&value, &mut parts);
    }
    parts.retain(|part| part.chars().count() >= SHORTEST_PART);
    patterns.extend(parts.iter().map(|part| Pattern::new(part, Form::Text)));
    // What is encoded as a whole may have been escaped before.
    let json = Json::from(secret).to_string();
    let percent = utf8_percent_encode(secret, UNRESERVED).to_string();
    let form: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    let mut whole = vec![secret, &json[1..json.len() - 1], &percent, &form];
    whole.sort_unstable();
    whole.dedup();
    for text in whole {
        patterns.extend(base64_parts(text).iter().map(|part| Pattern::new(part, Form::Base64)));
        let hex = text.bytes().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        patterns.push(Pattern::new(&hex, Form::Hex));
    }
    patterns
}

fn texts_in(value: &Json, texts: &mut Vec<String>) {
    match value {
        Json::String(text) => texts.push(text.clone()),
        Json::Array(items) => items.iter().for_each(|item| texts_in(item, texts)),
        Json::Object(fields) => fields.values().for_each(|field| texts_in(field, texts)),
        _ => {}
    }
}

/// The base64 forms of a text. Inside of a longer one it may begin at any of three offsets; what surely belongs to it
/// is the middle, without the characters that its neighbours share.
fn base64_parts(text: &str) -> Vec<String> {
    let mut parts = Vec::new();
    for engine in [&base64::engine::general_purpose::STANDARD_NO_PAD, &base64::engine::general_purpose::URL_SAFE_NO_PAD]
    {
        for offset in 0..3_usize {
            let mut padded = vec![0_u8; offset];
            padded.extend_from_slice(text.as_bytes());
            let encoded = engine.encode(&padded);
            let (from, upto) = ([0, 2, 3][offset], padded.len() * 8 / 6);
            if upto > from + 3 {
                parts.push(encoded[from..upto].to_owned());
            }
        }
    }
    parts.sort();
    parts.dedup();
    parts
}

/// What RFC 3986 calls unreserved.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
