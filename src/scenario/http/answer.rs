//! Reader of the expectations on a response and of the values saved from it.

use crate::scenario::check::certificate::{self, CertificateExpectation};
use crate::scenario::expect::{ValueType, json_path, matcher, pattern, strict_template};
use crate::scenario::headers::header_name;
use crate::scenario::keys::{BODY_SOURCE, RESPONSE_FACTS, RESPONSE_SOURCES};
use crate::scenario::model::{ResponseExpectation, ResponseFact, ResponseSave, ResponseSource};
use crate::scenario::reader::{Reader, cut};
use crate::scenario::saved_name::saved_name;
use crate::scenario::tree::{Entry, Node, Resolved};
use crate::scenario::usual;
use crate::scenario::xpath::{self, XPathResultType};

/// Reads expectations on a response.
pub fn expectations(r: &mut Reader, node: &Node) -> Option<Vec<ResponseExpectation>> {
    let fields = r.fields(node, "`expect`", &[RESPONSE_FACTS])?;
    let read: Vec<_> = fields.iter().map(|entry| facts(r, entry)).collect();
    Some(read.into_iter().collect::<Option<Vec<_>>>()?.into_iter().flatten().collect())
}

/// Reads one key of `expect`; `headers`, `json`, `xpath` and `certificate` contain several conditions.
pub fn facts(r: &mut Reader, entry: &Entry) -> Option<Vec<ResponseExpectation>> {
    let node = &entry.value;
    let what = match entry.key.as_str() {
        "status" => ResponseFact::Status(matcher(r, node, "`status`", ValueType::Number)?),
        "body" => ResponseFact::Body(matcher(r, node, "`body`", ValueType::Text)?),
        "contains" => ResponseFact::Contains(strict_template(r, node, "`contains`")?),
        "faster_than" => ResponseFact::FasterThan(r.duration(node, "`faster_than`")?),
        "slower_than_usual" => ResponseFact::SlowerThanUsual(usual::read(r, node)?),
        "certificate" => {
            let facts = certificate::read(r, node)?.into_iter();
            let fact = |fact: CertificateExpectation| (fact.span, ResponseFact::Certificate(fact.what));
            return Some(facts.map(fact).map(|(span, what)| ResponseExpectation { span, what }).collect());
        }
        many => {
            let entries = r.entries(node, &format!("`{many}`"))?;
            let read: Vec<_> = entries.into_iter().map(|inner| fact_of(r, many, inner)).collect();
            return read.into_iter().collect();
        }
    };
    Some(vec![ResponseExpectation { span: entry.span(), what }])
}

fn fact_of(r: &mut Reader, many: &str, entry: &Entry) -> Option<ResponseExpectation> {
    let what = format!("`{}`", cut(&entry.key));
    let what = match many {
        "headers" => {
            let named = header_name(r, entry);
            let matcher = matcher(r, &entry.value, &what, ValueType::Text)?;
            named.then(|| ResponseFact::Header(entry.key.to_ascii_lowercase(), matcher))?
        }
        "xpath" => {
            let path = xpath::read(r, &entry.key, entry.key_span);
            let on = path.as_ref().map_or(ValueType::Any, |path| match path.gives() {
                XPathResultType::Nodes | XPathResultType::Text => ValueType::Text,
                XPathResultType::Number => ValueType::Number,
                XPathResultType::Boolean => ValueType::Any,
            });
            let matcher = matcher(r, &entry.value, &what, on)?;
            ResponseFact::Xpath(path?, matcher)
        }
        _ => {
            let path = json_path(r, &entry.key, entry.key_span);
            let matcher = matcher(r, &entry.value, &what, ValueType::Any)?;
            ResponseFact::Json(path?, matcher)
        }
    };
    Some(ResponseExpectation { span: entry.span(), what })
}

pub(super) fn saves(r: &mut Reader, node: &Node) -> Option<Vec<ResponseSave>> {
    let entries = r.entries(node, "`save`")?;
    let read: Vec<_> = entries.into_iter().map(|entry| save(r, entry)).collect();
    read.into_iter().collect()
}

fn save(r: &mut Reader, entry: &Entry) -> Option<ResponseSave> {
    let name = saved_name(r, entry);
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
            "write {json: path}, {xpath: …}, {header: name}, {cookie: name} or {body: {matches: …}}",
        );
        return None;
    };
    let node = &part.value;
    let source = match part.key.as_str() {
        "json" => {
            let path = r.text(node, "`json`")?;
            ResponseSource::Json(json_path(r, &path, node.span)?)
        }
        "xpath" => {
            let path = r.text(node, "`xpath`")?;
            ResponseSource::Xpath(xpath::read(r, &path, node.span)?)
        }
        "cookie" => ResponseSource::Cookie(r.text(node, "`cookie`")?.value),
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
