//! Parts of checks that several kinds share: targets, limits and expected values.

use std::time::Duration;

use percent_encoding::percent_decode_str;

use crate::diagnostic::{Span, Spanned};
use crate::scenario::expect::{ValueType, matcher};
use crate::scenario::key::Key;
use crate::scenario::model::Matcher;
use crate::scenario::reader::{Fields, Reader};
use crate::scenario::template::Template;
use crate::scenario::tree::Node;

/// Matcher with its span.
#[derive(Debug, Clone, PartialEq)]
pub struct Expected {
    /// Condition that must hold.
    pub matcher: Matcher,
    /// Span of the matcher in the file.
    pub span: Span,
}

/// Splits `host:port` and adds the default port if the text has none. An IPv6 address with a port must be enclosed in
/// brackets. Returns `None` if the text is not valid, or has no port and there is no default.
pub fn host_and_port(text: &str, default: Option<u16>) -> Option<(String, u16)> {
    let port_of = |port: &str| port.parse::<u16>().ok().filter(|port| *port > 0);
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        match rest.strip_prefix(':') {
            Some(port) => (host, port_of(port)?),
            None if rest.is_empty() => (host, default?),
            None => return None,
        }
    } else {
        match text.split_once(':') {
            // More than one colon: an IPv6 address without a port.
            Some((_, rest)) if rest.contains(':') => (text, default?),
            Some((host, port)) => (host, port_of(port)?),
            None => (text, default?),
        }
    };
    let plain = !host.is_empty() && !host.contains(['/', '@', '[', ']']) && !host.contains(char::is_whitespace);
    plain.then(|| (host.to_owned(), port))
}

/// Returns the host of a URL in the form used for name resolution: an IPv6 address without its brackets, and a name
/// without percent-encoding, which URLs of unknown schemes use for internationalized names.
pub fn host_of(url: &url::Url) -> Option<String> {
    let host = url.host_str().filter(|host| !host.is_empty())?;
    Some(percent_decode_str(host.trim_matches(['[', ']'])).decode_utf8_lossy().into_owned())
}

/// Reads an optional value. The outer `None` means that an error was reported.
#[allow(clippy::option_option)]
pub(super) fn given<T>(fields: &Fields<'_>, key: &str, read: impl FnOnce(&Node) -> Option<T>) -> Option<Option<T>> {
    match fields.get(key) {
        Some(node) => read(node).map(Some),
        None => Some(None),
    }
}

/// Reads an optional time limit.
#[allow(clippy::option_option)]
pub(super) fn limit(r: &mut Reader, fields: &Fields<'_>, key: &str) -> Option<Option<Spanned<Duration>>> {
    given(fields, key, |node| r.duration(node, &format!("`{key}`")).map(|limit| Spanned::new(limit, node.span)))
}

/// Reads an optional matcher from a sibling key, or from a key under `expect`.
#[allow(clippy::option_option)]
pub(super) fn expected(r: &mut Reader, fields: &Fields<'_>, key: &str, on: ValueType) -> Option<Option<Expected>> {
    let Some(entry) = fields.entry(key) else { return Some(None) };
    let matcher = matcher(r, &entry.value, &format!("`{key}`"), on)?;
    Some(Some(Expected { matcher, span: entry.span() }))
}

/// Reads the fields under `expect`. They are empty if there is no such key.
pub(super) fn under_expect<'a>(r: &mut Reader, fields: &Fields<'a>, table: &[Key]) -> Option<Fields<'a>> {
    match fields.get("expect") {
        Some(node) => r.fields(node, "`expect`", &[table]),
        None => Some(Fields::of(Vec::new(), fields.span)),
    }
}

/// Reads the target of a check. A literal target must be accepted by `parse`, whose error describes the accepted forms.
pub(super) fn target<T>(
    r: &mut Reader,
    node: &Node,
    what: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Option<Spanned<Template>> {
    let template = r.template(node, what)?;
    if let Some(Err(problem)) = template.as_literal().map(parse) {
        r.fail(node.span, format!("{what}: {problem}"));
        return None;
    }
    Some(template)
}
