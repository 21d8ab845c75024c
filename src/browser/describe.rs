//! Describes elements for users from the data of the scripts.
//!
//! The scripts return texts in full and in pieces. Invariant: a text is masked before it is truncated, because a part
//! of a secret would not be found.

use serde_json::Value as Json;

use crate::secret::Masker;
use crate::values::expect::cut;

/// Maximum length of a displayed name, in characters.
const NAME: usize = 60;

/// Maximum length of a displayed attribute, in characters.
const ATTRIBUTE: usize = 30;

/// Describes the data of a script.
#[derive(Debug, Clone, Copy)]
pub(super) struct ElementDescriber<'a>(pub(super) &'a Masker);

impl ElementDescriber<'_> {
    /// Shortens a text after masking it.
    fn text(self, text: &Json, longest: usize) -> String {
        cut(&self.0.mask(text.as_str().unwrap_or("")), longest)
    }

    fn quoted(self, text: &Json, longest: usize) -> String {
        Json::from(self.text(text, longest)).to_string()
    }

    /// Describes an element: `button "Sign in" <button id="go">`.
    pub(super) fn element(self, element: &Json) -> String {
        let mut shown = String::new();
        if let Some(role) = element["role"].as_str().filter(|role| !role.is_empty()) {
            shown.push_str(&self.0.mask(role));
            shown.push(' ');
            if element["name"].as_str().is_some_and(|name| !name.is_empty()) {
                shown.push_str(&self.quoted(&element["name"], NAME));
                shown.push(' ');
            }
        }
        shown.push('<');
        shown.push_str(&self.text(&element["tag"], NAME));
        for attribute in element["attributes"].as_array().into_iter().flatten() {
            shown.push_str(&format!(
                " {}=\"{}\"",
                attribute[0].as_str().unwrap_or_default(),
                self.text(&attribute[1], ATTRIBUTE)
            ));
        }
        shown.push('>');
        shown
    }

    /// Builds a sentence from its pieces: fixed words, elements and texts of the page.
    pub(super) fn sentence(self, pieces: &Json) -> String {
        let mut sentence = String::new();
        for piece in pieces.as_array().into_iter().flatten() {
            if let Some(words) = piece.as_str() {
                sentence.push_str(words);
            } else if let Some(element) = piece.get("element") {
                sentence.push_str(&self.element(element));
            } else if let Some(text) = piece.get("text") {
                sentence.push_str(&self.quoted(text, NAME));
            } else if let Some(texts) = piece["texts"].as_array() {
                let texts: Vec<String> = texts.iter().map(|text| self.quoted(text, NAME)).collect();
                sentence.push_str(&texts.join(", "));
                if piece["more"] == true {
                    sentence.push_str(", …");
                }
            }
        }
        sentence
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_text_is_masked_before_it_is_cut() {
        let masker = Masker::default();
        let secret = "s3cret-".repeat(20);
        masker.add(&secret);
        let words = ElementDescriber(&masker);
        let element = json!({"tag": "a", "role": "link", "name": format!("go {secret}"), "attributes": [["href", format!("/?t={secret}")]]});
        assert_eq!(words.element(&element), r#"link "go ***" <a href="/?t=***">"#);
        let pieces = json!(["1 label: ", {"texts": [secret, "x".repeat(70)], "more": true}]);
        assert_eq!(words.sentence(&pieces), format!(r#"1 label: "***", "{}…", …"#, "x".repeat(60)));
    }
}
