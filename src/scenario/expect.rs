//! Reader of matchers and of the values they compare with.

use serde_json::Value as Json;

use super::key::{Key, MATCHER, Shape, key};
use super::model::{InlineSchema, Matcher, Pattern, Schema};
use super::reader::{Reader, cut};
use super::template::{Template, Value};
use super::tree::{Node, NodeKind, Resolved};
use crate::diagnostic::{Diagnostic, Span, nearest};

/// Keys of matchers.
pub const MATCHERS: &[Key] = &[
    key("equals", Shape::Any, "equals the value; a scalar is short for it"),
    key("contains", Shape::Text, "contains the value"),
    key("starts_with", Shape::Text, "starts with the text"),
    key("ends_with", Shape::Text, "ends with the text"),
    key("matches", Shape::Text, "matches a regular expression"),
    key("less_than", Shape::Ref("number"), "is a number below the value"),
    key("greater_than", Shape::Ref("number"), "is a number above the value"),
    key("between", Shape::List(&Shape::Ref("number")), "is a number between two values, inclusive"),
    key("count", MATCHER, "has this number of elements"),
    key("exists", Shape::Bool, "exists (true) or does not exist (false)"),
    key("one_of", Shape::List(&Shape::Any), "equals one of the values"),
    key("not", MATCHER, "does not match the matcher"),
    key(
        "schema",
        Shape::Either(&[Shape::Text, Shape::Map(&Shape::Any)]),
        "conforms to a JSON Schema: inline, or a JSON file",
    ),
];

/// Type of the value that a matcher is compared with. Types are strict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueType {
    /// Text; `text: 1` can never match.
    Text,
    /// Number.
    Number,
    /// Any JSON value.
    Any,
}

/// Reads a matcher. `what` describes the compared value in messages.
pub fn matcher(r: &mut Reader, node: &Node, what: &str, on: ValueType) -> Option<Matcher> {
    match &node.kind {
        NodeKind::Scalar(_) => value_on(r, node, what, on).map(Matcher::Equals),
        NodeKind::List(_) if on == ValueType::Any => value(r, node).map(Matcher::Equals),
        NodeKind::List(_) => {
            r.fail_with(node.span, format!("{what} cannot be a list"), "for one of several values write {one_of: […]}");
            None
        }
        NodeKind::Map(entries) => {
            if let [only] = entries.as_slice()
                && !MATCHERS.iter().any(|key| key.name == only.key)
                && let Some(near) = nearest(&only.key, MATCHERS.iter().map(|key| key.name))
            {
                let found =
                    Diagnostic::error(&r.source, only.key_span, format!("unknown matcher `{}`", cut(&only.key)))
                        .label(format!("did you mean `{near}`?"));
                r.report(found.note(allowed()));
                return None;
            }
            let help =
                if on == ValueType::Any { "help: to compare with a whole map write {equals: {…}}" } else { "" };
            let known: Vec<_> = {
                let all = r.entries(node, what)?;
                all.into_iter().filter(|entry| r.known(entry, &[MATCHERS], help)).collect()
            };
            match known.as_slice() {
                [entry] if entries.len() == 1 => one(r, &entry.key, &entry.value, what, on),
                _ => {
                    // Unknown keys have been reported already; another error is needed only if all keys are known.
                    if known.len() == entries.len() {
                        let label = if entries.is_empty() { "write what must hold" } else { "keep one" };
                        let found =
                            Diagnostic::error(&r.source, node.span, format!("{what} takes exactly one matcher"));
                        r.report(found.label(label).note(allowed()));
                    }
                    None
                }
            }
        }
    }
}

fn allowed() -> String {
    let names: Vec<_> = MATCHERS.iter().filter(|key| key.shape.is_some()).map(|key| key.name).collect();
    format!("allowed here: {}", names.join(", "))
}

fn one(r: &mut Reader, key: &str, node: &Node, what: &str, on: ValueType) -> Option<Matcher> {
    let text_only = |r: &mut Reader| {
        if on == ValueType::Number {
            r.fail(node.span, format!("{what} is a number: `{key}` can never hold"));
        }
        on != ValueType::Number
    };
    Some(match key {
        "equals" => Matcher::Equals(value_on(r, node, what, on)?),
        "contains" | "starts_with" | "ends_with" => {
            if !text_only(r) {
                return None;
            }
            let template = strict_template(r, node, &format!("`{key}`"))?;
            match key {
                "contains" => Matcher::Contains(template),
                "starts_with" => Matcher::StartsWith(template),
                _ => Matcher::EndsWith(template),
            }
        }
        "matches" => {
            if !text_only(r) {
                return None;
            }
            Matcher::Matches(pattern(r, node)?)
        }
        "less_than" => Matcher::LessThan(number(r, node, "`less_than`")?),
        "greater_than" => Matcher::GreaterThan(number(r, node, "`greater_than`")?),
        "between" => {
            let [low, high] = r.list(node, "`between`")? else {
                r.fail_with(node.span, "`between` takes two numbers", "write [LOW, HIGH]");
                return None;
            };
            let (low_value, high_value) = (number(r, low, "`between`"), number(r, high, "`between`"));
            let (low_value, high_value) = (low_value?, high_value?);
            if let (Value::Number(a), Value::Number(b)) = (&low_value, &high_value)
                && a.as_f64() > b.as_f64()
            {
                r.fail(node.span, "`between` has its larger number first");
                return None;
            }
            Matcher::Between(low_value, high_value)
        }
        "count" => Matcher::Count(Box::new(matcher(r, node, "`count`", ValueType::Number)?)),
        "exists" => Matcher::Exists(r.boolean(node, "`exists`")?),
        "one_of" => {
            let items = r.list(node, "`one_of`")?;
            if items.is_empty() {
                r.fail(node.span, "an empty `one_of` can never hold");
                return None;
            }
            let read: Vec<_> = items.iter().map(|item| value_on(r, item, what, on)).collect();
            Matcher::OneOf(read.into_iter().collect::<Option<_>>()?)
        }
        "schema" => {
            if on != ValueType::Any {
                r.fail(node.span, format!("{what} is not JSON: use `schema` with `json`"));
                return None;
            }
            Matcher::Schema(schema(r, node)?)
        }
        _ => Matcher::Not(Box::new(matcher(r, node, what, on)?)),
    })
}

/// Reads a JSON Schema, either inline or the path of a file.
fn schema(r: &mut Reader, node: &Node) -> Option<Schema> {
    if node.entries().is_none() {
        return r.template(node, "`schema`").map(Schema::File);
    }
    let schema = plain(r, node)?;
    match InlineSchema::new(schema) {
        Ok(schema) => Some(Schema::Inline(schema)),
        Err(error) => {
            r.fail(node.span, format!("this is not a JSON Schema: {}", cut(&error)));
            None
        }
    }
}

/// Reads any JSON value literally, without resolving `${…}`.
fn plain(r: &mut Reader, node: &Node) -> Option<Json> {
    Some(match &node.kind {
        NodeKind::List(items) => {
            let read: Vec<_> = items.iter().map(|item| plain(r, item)).collect();
            Json::Array(read.into_iter().collect::<Option<_>>()?)
        }
        NodeKind::Map(_) => {
            let entries = r.entries(node, "this")?;
            let read: Vec<_> =
                entries.into_iter().map(|entry| Some((entry.key.clone(), plain(r, &entry.value)?))).collect();
            Json::Object(read.into_iter().collect::<Option<_>>()?)
        }
        NodeKind::Scalar(scalar) => match scalar.resolve() {
            Resolved::Null => Json::Null,
            Resolved::Bool(value) => Json::Bool(value),
            Resolved::Number => Json::Number(scalar.number()?),
            Resolved::Text => Json::String(scalar.text.clone()),
        },
    })
}

/// Reads a regular expression.
pub fn pattern(r: &mut Reader, node: &Node) -> Option<Pattern> {
    let template = strict_template(r, node, "`matches`")?;
    match Pattern::new(template.clone()) {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            let text = template.as_literal().unwrap_or_default();
            let (range, message) = told(text, &error);
            // With escapes such as `$${`, positions in the raw text differ, and the error refers to the entire value.
            let span = if template.raw() == text { r.within(node, range) } else { node.span };
            r.fail(span, format!("this is not a regular expression: {message}"));
            None
        }
    }
}

/// Returns the position and the message of an error in a regular expression.
fn told(text: &str, error: &regex::Error) -> (std::ops::Range<usize>, String) {
    // The message contains the pattern with carets below it, followed by a last line `error: …`.
    let shown = error.to_string();
    let message = shown.lines().last().unwrap_or("").trim_start_matches("error: ").to_owned();
    let carets = shown.lines().find(|line| line.trim_start().starts_with('^'));
    let column = carets.and_then(|line| line.find('^')).map_or(0, |at| at.saturating_sub(4));
    let length = carets.map_or(0, |line| line.matches('^').count());
    let start = text.char_indices().nth(column).map_or(text.len(), |(at, _)| at);
    let end = text[start..].char_indices().nth(length).map_or(text.len(), |(at, _)| start + at);
    (start..end, message)
}

/// Reads a text with references. A plain number is rejected and must be quoted.
pub fn strict_template(r: &mut Reader, node: &Node, what: &str) -> Option<Template> {
    if let Some(scalar) = node.scalar().filter(|scalar| scalar.resolve() == Resolved::Number) {
        r.fail_with(node.span, format!("{what} must be text, not a number"), format!("quote it: \"{}\"", scalar.text));
        return None;
    }
    let template = r.template(node, what)?;
    r.comment_trap(node);
    Some(template.value)
}

fn value_on(r: &mut Reader, node: &Node, what: &str, on: ValueType) -> Option<Value> {
    match on {
        ValueType::Any => value(r, node),
        ValueType::Text => strict_template(r, node, what).map(Value::Text),
        ValueType::Number => number(r, node, what),
    }
}

/// Reads a number, or a single `${…}` that is resolved to one at run time.
fn number(r: &mut Reader, node: &Node, what: &str) -> Option<Value> {
    let scalar = node.scalar();
    if let Some(number) = scalar.and_then(super::tree::Scalar::number) {
        return Some(Value::Number(number));
    }
    match scalar {
        Some(scalar) if scalar.text.starts_with("${") => {
            let text = scalar.text.clone();
            r.template_of(node, &text).map(|template| Value::Text(template.value))
        }
        Some(scalar) if !scalar.plain && scalar.text.parse::<f64>().is_ok() => {
            r.fail_with(node.span, format!("{what} must be a number, not text"), "remove the quotes");
            None
        }
        _ => {
            r.unexpected_value(node, &format!("{what} must be a number"));
            None
        }
    }
}

/// Reads any JSON value whose strings are templates.
pub fn value(r: &mut Reader, node: &Node) -> Option<Value> {
    Some(match &node.kind {
        NodeKind::List(items) => {
            let read: Vec<_> = items.iter().map(|item| value(r, item)).collect();
            Value::List(read.into_iter().collect::<Option<_>>()?)
        }
        NodeKind::Map(_) => {
            let entries = r.entries(node, "this")?;
            let read: Vec<_> = entries
                .into_iter()
                .map(|entry| {
                    if entry.key.contains("${") && !entry.key.contains("$${") {
                        r.fail(entry.key_span, "`${…}` in a key is not supported yet");
                    }
                    value(r, &entry.value).map(|value| (entry.key.clone(), value))
                })
                .collect();
            Value::Map(read.into_iter().collect::<Option<_>>()?)
        }
        NodeKind::Scalar(scalar) => match scalar.resolve() {
            Resolved::Null => Value::Null,
            Resolved::Bool(value) => Value::Bool(value),
            Resolved::Number => Value::Number(scalar.number()?),
            Resolved::Text => {
                norway(r, node);
                let text = scalar.text.clone();
                Value::Text(r.template_of(node, &text)?.value)
            }
        },
    })
}

/// Warns about a plain word such as `no`, which is text in YAML 1.2 and a boolean in YAML 1.1.
fn norway(r: &mut Reader, node: &Node) {
    let Some(scalar) = node.scalar().filter(|scalar| scalar.plain) else { return };
    if matches!(scalar.text.to_lowercase().as_str(), "yes" | "no" | "on" | "off" | "true" | "false") {
        let message = format!("`{}` is text here, and a boolean elsewhere", scalar.text);
        r.warn(node.span, message, format!("quote it: \"{}\", or write `true` or `false`", scalar.text));
    }
}

/// Checks a `JSONPath`, which is the value of `node` or, if it is a key, has the span `span`.
pub fn json_path(r: &mut Reader, path: &str, span: Span) -> Option<String> {
    if path.contains("${") {
        r.fail(span, "`${…}` in a JSONPath is not supported yet");
        return None;
    }
    match serde_json_path::JsonPath::parse(path) {
        Ok(_) => Some(path.to_owned()),
        Err(error) => {
            let message =
                format!("`{}` is not a JSONPath: wrong from character {} on", cut(path), error.position() + 1);
            if path.starts_with('$') {
                r.fail(span, message);
            } else {
                r.fail_with(span, message, format!("did you mean `$.{}`?", cut(path)));
            }
            None
        }
    }
}
