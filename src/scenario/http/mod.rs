//! Reader of requests, with the expectations on their responses and the values saved from them.

mod answer;
mod body;
mod login;

pub use answer::{expectations, facts};

use super::keys::{EVENTUALLY, HTTP_VERSIONS, TRUST};
use super::model::{DEFAULT_POLL_EVERY, Eventually, HttpVersion, Request, ResponseFact, Trust};
use super::reader::{Fields, Reader};
use super::template::Template;
use super::tree::{Entry, Node};
use super::url::{self, Use};
use crate::diagnostic::Spanned;

/// Reads a request: its URL and the sibling keys.
pub fn request(
    r: &mut Reader,
    method: &str,
    url: &Node,
    fields: &Fields<'_>,
    base_url: Option<&Spanned<Template>>,
) -> Option<Request> {
    let url = url::read(r, url, "the URL", base_url, Use::Request);
    let headers = match fields.get("headers") {
        Some(node) => headers(r, node),
        None => Some(Vec::new()),
    };
    let query = pairs(r, fields.get("query"), "`query`");
    let body = body::body(r, method, fields);
    let login = login::login(r, fields);
    let trust = trust(r, fields.get("trust"));
    let proxy = given(fields, "proxy", |node| url::proxy(r, node));
    let http_version = given(fields, "http_version", |node| r.word(node, "version of HTTP", HTTP_VERSIONS));
    let redirect = given(fields, "redirect", |node| r.boolean(node, "`redirect`"));
    let resolve = given(fields, "resolve", |node| url::pinned(r, node));
    let traceparent = given(fields, "traceparent", |node| r.boolean(node, "`traceparent`"));
    let eventually = given(fields, "eventually", |node| eventually(r, node));
    let expect = given(fields, "expect", |node| expectations(r, node));
    let give_up_if = given(fields, "give_up_if", |node| expectations(r, node));
    if let Some(Some(facts)) = &give_up_if {
        for fact in facts.iter().filter(|fact| matches!(fact.what, ResponseFact::SlowerThanUsual(_))) {
            let message =
                "`slower_than_usual` applies to the whole step, which has not ended when `give_up_if` is checked";
            r.fail_with(fact.span, message, "write it under `expect`");
        }
    }
    if let (Some(entry), None) = (fields.entry("give_up_if"), fields.get("eventually")) {
        r.fail_with(entry.key_span, "`give_up_if` needs `eventually`", "write `eventually` beside it");
        return None;
    }
    if let (Some(entry), Some(_)) = (fields.entry("resolve"), fields.get("proxy")) {
        r.fail_with(entry.key_span, "with a `proxy`, the proxy resolves names", "keep one of them");
        return None;
    }
    let save = given(fields, "save", |node| answer::saves(r, node));
    Some(Request {
        method: method.to_owned(),
        url: url?,
        headers: headers?,
        query: query?,
        body: body?,
        login: login?,
        trust: trust?,
        proxy: proxy?,
        http_version: http_version?.map(|version| if version == "2" { HttpVersion::Two } else { HttpVersion::One }),
        redirect: redirect?.unwrap_or(true),
        resolve: resolve?,
        traceparent: traceparent?,
        expect: expect?.unwrap_or_default(),
        save: save?.unwrap_or_default(),
        eventually: eventually?,
        give_up_if: give_up_if?.unwrap_or_default(),
    })
}

/// Reads an optional key. The outer `None` means that an error was reported.
#[allow(clippy::option_option)]
fn given<'a, T>(fields: &Fields<'a>, key: &str, read: impl FnOnce(&'a Node) -> Option<T>) -> Option<Option<T>> {
    match fields.get(key) {
        Some(node) => read(node).map(Some),
        None => Some(None),
    }
}

/// Reads a required template from a key of a map.
fn needed(r: &mut Reader, fields: &Fields<'_>, what: &str, key: &str) -> Option<Spanned<Template>> {
    match fields.get(key) {
        Some(node) => r.template(node, &format!("`{key}`")),
        None => {
            r.fail(fields.span, format!("{what} needs `{key}`"));
            None
        }
    }
}

fn eventually(r: &mut Reader, node: &Node) -> Option<Eventually> {
    let fields = r.fields(node, "`eventually`", &[EVENTUALLY])?;
    let every = given(&fields, "every", |node| r.duration(node, "`every`"));
    let within = given(&fields, "within", |node| r.duration(node, "`within`"));
    let (every, within) = (every?.unwrap_or(DEFAULT_POLL_EVERY), within?);
    let Some(within) = within else {
        r.fail_with(fields.span, "`eventually` needs `within`", "write {every: 2s, within: 60s}");
        return None;
    };
    if every >= within {
        r.fail(fields.span, "`every` must be below `within`, otherwise there is only one attempt");
        return None;
    }
    Some(Eventually { every, within })
}

pub(super) fn pairs(r: &mut Reader, node: Option<&Node>, what: &str) -> Option<Vec<(String, Spanned<Template>)>> {
    let Some(node) = node else { return Some(Vec::new()) };
    let entries = r.entries(node, what)?;
    let read: Vec<_> = entries
        .into_iter()
        .map(|entry| Some((entry.key.clone(), r.template(&entry.value, &format!("`{}`", entry.key))?)))
        .collect();
    read.into_iter().collect()
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
fn header_name(r: &mut Reader, entry: &Entry) -> bool {
    let good = token(&entry.key);
    if !good {
        r.fail(entry.key_span, format!("`{}` is not the name of a header", super::reader::cut(&entry.key)));
    }
    good
}

/// Reads `trust`.
pub fn trust(r: &mut Reader, node: Option<&Node>) -> Option<Trust> {
    let Some(node) = node else { return Some(Trust::default()) };
    let fields = r.fields(node, "`trust`", &[TRUST])?;
    trust_of(r, &fields)
}

/// Reads the keys of `trust`.
pub fn trust_of(r: &mut Reader, fields: &Fields<'_>) -> Option<Trust> {
    let mut file = |key: &str| match fields.get(key) {
        Some(node) => r.template(node, &format!("`{key}`")).map(Some),
        None => Some(None),
    };
    let (ca, cert, key) = (file("ca"), file("cert"), file("key"));
    let insecure = match fields.get("insecure") {
        Some(node) => r.boolean(node, "`insecure`"),
        None => Some(false),
    };
    let identity = match (cert?, key?) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        (Some(_), None) => {
            r.fail(fields.entry("cert").map_or(fields.span, Entry::span), "`cert` needs `key` beside it");
            return None;
        }
        (None, Some(_)) => {
            r.fail(fields.entry("key").map_or(fields.span, Entry::span), "`key` needs `cert` beside it");
            return None;
        }
    };
    Some(Trust { ca: ca?, identity, insecure: insecure? })
}
