//! Optional and required keys of a request.

use crate::diagnostic::Spanned;
use crate::scenario::reader::{Fields, Reader};
use crate::scenario::template::Template;
use crate::scenario::tree::Node;

/// Reads an optional key. The outer `None` means that an error was reported.
#[allow(clippy::option_option)]
pub(super) fn given<'a, T>(
    fields: &Fields<'a>,
    key: &str,
    read: impl FnOnce(&'a Node) -> Option<T>,
) -> Option<Option<T>> {
    match fields.get(key) {
        Some(node) => read(node).map(Some),
        None => Some(None),
    }
}

/// Reads a required template from a key of a map.
pub(super) fn needed(r: &mut Reader, fields: &Fields<'_>, what: &str, key: &str) -> Option<Spanned<Template>> {
    match fields.get(key) {
        Some(node) => r.template(node, &format!("`{key}`")),
        None => {
            r.fail(fields.span, format!("{what} needs `{key}`"));
            None
        }
    }
}
