//! Reader of headers and of other maps of texts.

use super::reader::{Reader, cut};
use super::template::Template;
use super::tree::{Entry, Node, NodeKind};
use crate::diagnostic::Spanned;

pub fn pairs(r: &mut Reader, node: Option<&Node>, what: &str) -> Option<Vec<(String, Spanned<Template>)>> {
    let Some(node) = node else { return Some(Vec::new()) };
    let entries = r.entries(node, what)?;
    let read: Vec<_> = entries
        .into_iter()
        .map(|entry| Some((entry.key.clone(), r.template(&entry.value, &format!("`{}`", entry.key))?)))
        .collect();
    read.into_iter().collect()
}

/// Reads the fields of a query or form: a list of values is one field for each value.
pub fn fields(r: &mut Reader, node: Option<&Node>, what: &str) -> Option<Vec<(String, Spanned<Template>)>> {
    let Some(node) = node else { return Some(Vec::new()) };
    let mut all = Some(Vec::new());
    for entry in r.entries(node, what)? {
        let of_field = match &entry.value.kind {
            NodeKind::List(items) => items.as_slice(),
            _ => std::slice::from_ref(&entry.value),
        };
        for value in of_field {
            match r.template(value, &format!("`{}`", entry.key)) {
                Some(value) => all.iter_mut().for_each(|all| all.push((entry.key.clone(), value.clone()))),
                None => all = None,
            }
        }
    }
    all
}

/// Reads headers: names must be tokens, values must be on one line.
pub fn headers(r: &mut Reader, node: &Node) -> Option<Vec<(String, Spanned<Template>)>> {
    let mut good = true;
    for entry in node.entries().unwrap_or_default() {
        good &= header_name(r, entry);
        if entry.value.scalar().is_some_and(|scalar| scalar.text.contains(['\n', '\r'])) {
            r.fail(entry.value.span, "a header cannot have a line end in it");
            good = false;
        }
    }
    pairs(r, Some(node), "`headers`").filter(|_| good)
}

/// Returns whether a text is a token (RFC 9110, section 5.6.2), which header and cookie names must be.
pub fn token(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c))
}

/// Checks whether the key is a valid header name, and reports an error otherwise.
pub(super) fn header_name(r: &mut Reader, entry: &Entry) -> bool {
    let good = token(&entry.key);
    if !good {
        r.fail(entry.key_span, format!("`{}` is not the name of a header", cut(&entry.key)));
    }
    good
}
