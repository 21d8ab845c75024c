//! Reader of requests, with the expectations on their responses and the values saved from them.

mod answer;
mod body;
mod login;
mod parts;

pub use super::headers::token;
pub use super::trust::{trust, trust_of};
pub use answer::{expectations, facts};

use super::headers;
use super::keys::{EVENTUALLY, HTTP_VERSIONS};
use super::model::{DEFAULT_POLL_EVERY, Eventually, HttpVersion, Request, ResponseFact};
use super::reader::{Fields, Reader};
use super::template::Template;
use super::tree::Node;
use super::url::{self, Use};
use crate::diagnostic::Spanned;
use parts::given;

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
        Some(node) => headers::headers(r, node),
        None => Some(Vec::new()),
    };
    let query = headers::fields(r, fields.get("query"), "`query`");
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
