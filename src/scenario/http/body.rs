//! Reader of request bodies.

use super::parts::{given, needed};
use crate::scenario::expect::value;
use crate::scenario::headers::fields as fields_of;
use crate::scenario::keys::{GRAPHQL, PART};
use crate::scenario::model::{Body, GraphQl, Part, PartContent};
use crate::scenario::reader::{Fields, Reader, cut};
use crate::scenario::tree::{Entry, Node};

const BODIES: [&str; 5] = ["json", "form", "body", "multipart", "graphql"];

/// Reads the body if there is one.
#[allow(clippy::option_option)] // The outer `None` means that an error was reported.
pub(super) fn body(r: &mut Reader, method: &str, fields: &Fields<'_>) -> Option<Option<Body>> {
    let bodies: Vec<_> = fields.iter().filter(|entry| BODIES.contains(&entry.key.as_str())).collect();
    if let [first, second, ..] = bodies.as_slice() {
        let message = format!("a request has one body: `{}` and `{}` exclude each other", first.key, second.key);
        r.fail_with(second.key_span, message, "keep one of them");
        return None;
    }
    let Some(entry) = bodies.first() else { return Some(None) };
    Some(Some(match entry.key.as_str() {
        "json" => Body::Json(value(r, &entry.value)?),
        "form" => Body::Form(fields_of(r, Some(&entry.value), "`form`")?),
        "multipart" => Body::Multipart(parts(r, &entry.value)?),
        "graphql" => {
            if method != "POST" {
                r.fail_with(entry.key_span, format!("`graphql` is sent with POST, not with {method}"), "write POST");
                return None;
            }
            Body::GraphQl(Box::new(graphql(r, &entry.value)?))
        }
        _ => Body::Text(r.template(&entry.value, "`body`")?),
    }))
}

fn parts(r: &mut Reader, node: &Node) -> Option<Vec<Part>> {
    let entries = r.entries(node, "`multipart`")?;
    if entries.is_empty() {
        r.fail(node.span, "`multipart` is empty");
        return None;
    }
    let read: Vec<_> = entries.into_iter().map(|entry| part(r, entry)).collect();
    read.into_iter().collect()
}

fn part(r: &mut Reader, entry: &Entry) -> Option<Part> {
    let what = format!("`{}`", cut(&entry.key));
    let content = if entry.value.entries().is_some() {
        let fields = r.fields(&entry.value, &what, &[PART])?;
        let file = needed(r, &fields, &what, "file");
        let filename = given(&fields, "filename", |node| r.template(node, "`filename`"));
        let media_type = given(&fields, "type", |node| r.template(node, "`type`"));
        PartContent::File { file: file?, filename: filename?, media_type: media_type? }
    } else {
        PartContent::Text(r.template(&entry.value, &what)?)
    };
    Some(Part { name: entry.key.clone(), content })
}

fn graphql(r: &mut Reader, node: &Node) -> Option<GraphQl> {
    let fields = r.fields(node, "`graphql`", &[GRAPHQL])?;
    let query = needed(r, &fields, "`graphql`", "query");
    let variables = given(&fields, "variables", |node| {
        if node.entries().is_none() {
            r.unexpected(node, "`variables`", "a map");
            return None;
        }
        value(r, node)
    });
    let operation = given(&fields, "operation", |node| r.template(node, "`operation`"));
    Some(GraphQl { query: query?, variables: variables?, operation: operation? })
}
