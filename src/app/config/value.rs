//! Readers of values that several sections of the agent configuration share: texts, URLs, names of receivers.

use crate::diagnostic::{Diagnostic, Spanned, nearest};
use crate::scenario::reader::Reader;
use crate::scenario::tree::Node;

pub(super) fn texts(r: &mut Reader, node: &Node, what: &str) -> Option<Vec<String>> {
    let items = r.list(node, what)?;
    let read: Vec<_> = items.iter().map(|item| r.text(item, what).map(|text| text.value)).collect();
    read.into_iter().collect()
}

pub(super) fn http_url(r: &mut Reader, node: &Node, what: &str) -> Option<url::Url> {
    let text = r.text(node, what)?;
    match url::Url::parse(&text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Some(url),
        _ => {
            r.fail_with(node.span, format!("{what} is not a URL"), "write it like https://wachta.example.com");
            None
        }
    }
}

/// Returns whether a receiver exists, and reports an error if it does not.
pub(super) fn known_receiver(r: &mut Reader, name: &Spanned<String>, receivers: &[&str]) -> bool {
    if receivers.contains(&name.value.as_str()) {
        return true;
    }
    let found = Diagnostic::error(&r.source, name.span, format!("unknown receiver `{}`", name.value));
    let found = match nearest(name, receivers.iter().copied()) {
        Some(near) => found.label(format!("did you mean `{near}`?")),
        None => found,
    };
    r.report(found.note(format!("known receivers: {}", receivers.join(", "))));
    false
}

/// Parses names of existing receivers.
pub(super) fn receiver_names(r: &mut Reader, node: &Node, receivers: &[&str]) -> Option<Vec<String>> {
    let mut names = Vec::new();
    for item in r.list(node, "`to`")? {
        let Some(name) = r.text(item, "`to`") else { continue };
        if known_receiver(r, &name, receivers) {
            names.push(name.value);
        }
    }
    Some(names)
}
