//! Names under which values are saved.

use super::reader::{Reader, cut};
use super::tree::Entry;
use crate::diagnostic::{Span, Spanned};

/// Reads the name under which a value is saved, and makes it available to the following steps.
pub fn saved_name(r: &mut Reader, entry: &Entry) -> Option<Spanned<String>> {
    saved_as(r, &entry.key, entry.key_span)
}

/// Reads a name to save under like [`saved_name`], for a name that is not a key.
pub fn saved_as(r: &mut Reader, name: &str, span: Span) -> Option<Spanned<String>> {
    let plain = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    if name.is_empty() || !name.chars().all(plain) {
        let message = format!("`{}` is not a valid name to save under", cut(name));
        r.fail_with(span, message, "allowed are letters, digits, _ and -");
        return None;
    }
    if r.names.parameters.contains(name) {
        r.fail_with(span, format!("`{name}` is a parameter of this file"), "save it under another name");
        return None;
    }
    r.names.saved.insert(name.to_owned());
    Some(Spanned::new(name.to_owned(), span))
}
