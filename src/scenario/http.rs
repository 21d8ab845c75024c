//! Requests, and what is expected of and saved from their answers.

use super::expect::{On, json_path, matcher, pattern, strict_template, value};
use super::keys::{BODY_SOURCE, RESPONSE_FACTS, RESPONSE_SOURCES, TRUST};
use super::model::{Body, Request, ResponseExpectation, ResponseFact, ResponseSave, ResponseSource, Trust};
use super::reader::{Fields, Reader};
use super::template::Template;
use super::tree::{Entry, Node, Resolved};
use super::url::{self, Use};
use crate::diagnostic::At;

/// Reads a request: its URL, and the keys beside it.
pub fn request(
    r: &mut Reader,
    method: &str,
    url: &Node,
    fields: &Fields<'_>,
    base_url: Option<&At<Template>>,
) -> Option<Request> {
    let url = url::read(r, url, "the URL", base_url, Use::Request);
    let headers = match fields.get("headers") {
        Some(node) => headers(r, node),
        None => Some(Vec::new()),
    };
    let query = pairs(r, fields.get("query"), "`query`");
    let body = body(r, fields);
    let trust = trust(r, fields.get("trust"));
    let expect = match fields.get("expect") {
        Some(node) => expectations(r, node),
        None => Some(Vec::new()),
    };
    let save = match fields.get("save") {
        Some(node) => saves(r, node),
        None => Some(Vec::new()),
    };
    Some(Request {
        method: method.to_owned(),
        url: url?,
        headers: headers?,
        query: query?,
        body: body?,
        trust: trust?,
        expect: expect?,
        save: save?,
    })
}

fn pairs(r: &mut Reader, node: Option<&Node>, what: &str) -> Option<Vec<(String, At<Template>)>> {
    let Some(node) = node else { return Some(Vec::new()) };
    let entries = r.entries(node, what)?;
    let read: Vec<_> = entries
        .into_iter()
        .map(|entry| Some((entry.key.clone(), r.template(&entry.value, &format!("`{}`", entry.key))?)))
        .collect();
    read.into_iter().collect()
}

/// Reads headers: names that are tokens, values on one line.
pub fn headers(r: &mut Reader, node: &Node) -> Option<Vec<(String, At<Template>)>> {
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

/// Whether a text is a token (RFC 9110, section 5.6.2), as names of headers and of cookies are.
pub fn token(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c))
}

/// Whether the key is a header's name.
fn header_name(r: &mut Reader, entry: &Entry) -> bool {
    let good = token(&entry.key);
    if !good {
        r.fail(entry.key_span, format!("`{}` is not the name of a header", super::reader::cut(&entry.key)));
    }
    good
}

#[allow(clippy::option_option)] // The outer one says that an error was reported.
fn body(r: &mut Reader, fields: &Fields<'_>) -> Option<Option<Body>> {
    let bodies: Vec<_> = fields.iter().filter(|entry| matches!(entry.key.as_str(), "json" | "form" | "body")).collect();
    if let [first, second, ..] = bodies.as_slice() {
        let message = format!("a request has one body: `{}` and `{}` cannot stand together", first.key, second.key);
        r.fail_with(second.key_span, message, "keep one of them");
        return None;
    }
    let Some(entry) = bodies.first() else { return Some(None) };
    Some(Some(match entry.key.as_str() {
        "json" => Body::Json(value(r, &entry.value)?),
        "form" => Body::Form(pairs(r, Some(&entry.value), "`form`")?),
        _ => Body::Text(r.template(&entry.value, "`body`")?),
    }))
}

/// Reads `trust`.
pub fn trust(r: &mut Reader, node: Option<&Node>) -> Option<Trust> {
    let Some(node) = node else { return Some(Trust::default()) };
    let fields = r.fields(node, "`trust`", &[TRUST])?;
    Some(Trust {
        ca: match fields.get("ca") {
            Some(node) => Some(r.template(node, "`ca`")?),
            None => None,
        },
    })
}

/// Reads what must hold of an answer.
pub fn expectations(r: &mut Reader, node: &Node) -> Option<Vec<ResponseExpectation>> {
    let fields = r.fields(node, "`expect`", &[RESPONSE_FACTS])?;
    let read: Vec<_> = fields.iter().map(|entry| facts(r, entry)).collect();
    Some(read.into_iter().collect::<Option<Vec<_>>>()?.into_iter().flatten().collect())
}

/// Reads one fact; `headers` and `json` hold several.
pub fn facts(r: &mut Reader, entry: &Entry) -> Option<Vec<ResponseExpectation>> {
    let node = &entry.value;
    let what = match entry.key.as_str() {
        "status" => ResponseFact::Status(matcher(r, node, "`status`", On::Number)?),
        "body" => ResponseFact::Body(matcher(r, node, "`body`", On::Text)?),
        "contains" => ResponseFact::Contains(strict_template(r, node, "`contains`")?),
        "faster_than" => ResponseFact::FasterThan(r.duration(node, "`faster_than`")?),
        many => {
            let entries = r.entries(node, &format!("`{many}`"))?;
            let read: Vec<_> = entries.into_iter().map(|inner| fact_of(r, many, inner)).collect();
            return read.into_iter().collect();
        }
    };
    Some(vec![ResponseExpectation { span: entry.span(), what }])
}

fn fact_of(r: &mut Reader, many: &str, entry: &Entry) -> Option<ResponseExpectation> {
    let what = format!("`{}`", super::reader::cut(&entry.key));
    let what = if many == "headers" {
        let named = header_name(r, entry);
        let matcher = matcher(r, &entry.value, &what, On::Text)?;
        named.then(|| ResponseFact::Header(entry.key.to_ascii_lowercase(), matcher))?
    } else {
        let path = json_path(r, &entry.key, entry.key_span);
        let matcher = matcher(r, &entry.value, &what, On::Any)?;
        ResponseFact::Json(path?, matcher)
    };
    Some(ResponseExpectation { span: entry.span(), what })
}

fn saves(r: &mut Reader, node: &Node) -> Option<Vec<ResponseSave>> {
    let entries = r.entries(node, "`save`")?;
    let read: Vec<_> = entries.into_iter().map(|entry| save(r, entry)).collect();
    read.into_iter().collect()
}

fn save(r: &mut Reader, entry: &Entry) -> Option<ResponseSave> {
    let name = super::step::saved_name(r, entry);
    let fields = r.fields(&entry.value, "a source", &[RESPONSE_SOURCES])?;
    let secret = match fields.get("secret") {
        Some(node) => r.boolean(node, "`secret`")?,
        None => false,
    };
    let sources: Vec<_> = fields.iter().filter(|part| part.key != "secret").collect();
    let [part] = sources.as_slice() else {
        r.fail_with(
            entry.key_span,
            format!("`{}` needs one source", entry.key),
            "write {json: path}, {header: name} or {body: {matches: …}}",
        );
        return None;
    };
    let node = &part.value;
    let source = match part.key.as_str() {
        "json" => {
            let path = r.text(node, "`json`")?;
            ResponseSource::Json(json_path(r, &path, node.span)?)
        }
        "header" => ResponseSource::Header(r.text(node, "`header`")?.to_ascii_lowercase()),
        _ if node.scalar().is_some_and(|scalar| scalar.resolve() == Resolved::Bool(true)) => ResponseSource::Body(None),
        _ => {
            let fields = r.fields(node, "`body`", &[BODY_SOURCE])?;
            match fields.get("matches") {
                Some(node) => ResponseSource::Body(Some(pattern(r, node)?)),
                None => ResponseSource::Body(None),
            }
        }
    };
    Some(ResponseSave { name: name?, source, secret })
}
