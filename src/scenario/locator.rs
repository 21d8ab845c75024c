//! Reader of locators.

use super::expect::{ValueType, matcher, strict_template};
use super::keys::{HOW, ROLE_KEYS, ROLES, TARGET_BESIDE};
use super::model::{Locator, LocatorStrategy};
use super::reader::{Reader, cut};
use super::tree::{Entry, Node};
use crate::diagnostic::Diagnostic;

/// Reads a locator. `key` is the key whose value it is.
pub fn target(r: &mut Reader, node: &Node, key: &str) -> Option<Locator> {
    if let Some(scalar) = node.scalar().filter(|scalar| !scalar.text.is_empty()) {
        let how = match key {
            "fill" | "select" | "into" | "clear" | "upload" => "label",
            "check" | "uncheck" => "checkbox",
            "within_frame" => "title",
            "within" => "row",
            "visible" | "hidden" | "element" | "hover" | "drag" | "to" | "scroll" | "of" => "text",
            _ => "button",
        };
        let text = cut(&scalar.text);
        let quoted = if text.contains(['{', '[', ',', '#', ':', '"', '}', ']', '\\']) || !scalar.plain {
            serde_json::Value::from(text).to_string()
        } else {
            text
        };
        r.fail_with(
            node.span,
            format!("`{key}` takes a locator, not plain text"),
            format!("write `{key}: {{{how}: {quoted}}}`"),
        );
        return None;
    }
    let what = format!("`{key}`");
    let fields = r.fields(node, &what, &[&ROLE_KEYS, HOW, TARGET_BESIDE])?;
    let hows: Vec<_> =
        fields.iter().filter(|entry| !TARGET_BESIDE.iter().any(|beside| beside.name == entry.key)).collect();
    let entry = match hows.as_slice() {
        [entry] => *entry,
        [] => {
            let whole = node.entries().is_some_and(|entries| entries.len() == fields.iter().count());
            if whole {
                let found = Diagnostic::error(&r.source, node.span, "this locator has no strategy");
                r.report(found.note("allowed here: a role word such as button or link, label, placeholder, text, alt, title, testid, id, css, xpath, role, any_of"));
            }
            return None;
        }
        [first, second, ..] => {
            let message =
                format!("a locator has one strategy: `{}` and `{}` exclude each other", first.key, second.key);
            r.fail_with(second.key_span, message, "keep one of them");
            return None;
        }
    };
    let name = entry.key.as_str();
    if name != "role"
        && let Some(beside) = fields.entry("name")
    {
        r.fail_with(
            beside.key_span,
            "`name` is only allowed beside `role`",
            format!("write `{{{name}: …}}` without it"),
        );
        return None;
    }
    let value = &entry.value;
    let what = format!("`{name}`");
    if name == "any_of" || name == "one_of" {
        let beside: Vec<_> = fields.iter().filter(|other| other.key != name).collect();
        for other in &beside {
            r.fail_with(
                other.key_span,
                format!("`{}` cannot be combined with `{name}`", other.key),
                "put it into each of the locators",
            );
        }
        let alternatives = alternatives(r, name, value)?;
        let how =
            if name == "any_of" { LocatorStrategy::AnyOf(alternatives) } else { LocatorStrategy::OneOf(alternatives) };
        return beside.is_empty().then_some(Locator { how, nth: None, within: None, span: node.span });
    }
    let nth = match fields.get("nth") {
        Some(node) => r.count(node, "`nth`").map(Some),
        None => Some(None),
    };
    let within = match fields.get("within") {
        Some(node) => target(r, node, "within").map(|within| Some(Box::new(within))),
        None => Some(None),
    };
    let how = match name {
        role if ROLES.contains(&role) => {
            LocatorStrategy::Role { role: role.to_owned(), name: Some(matcher(r, value, &what, ValueType::Text)?) }
        }
        "label" => LocatorStrategy::Label(matcher(r, value, &what, ValueType::Text)?),
        "placeholder" => LocatorStrategy::Placeholder(matcher(r, value, &what, ValueType::Text)?),
        "text" => LocatorStrategy::Text(matcher(r, value, &what, ValueType::Text)?),
        "alt" => LocatorStrategy::Alt(matcher(r, value, &what, ValueType::Text)?),
        "title" => LocatorStrategy::Title(matcher(r, value, &what, ValueType::Text)?),
        "testid" => LocatorStrategy::TestId(matcher(r, value, &what, ValueType::Text)?),
        "id" => LocatorStrategy::Id(strict_template(r, value, &what)?),
        "css" => LocatorStrategy::Css(strict_template(r, value, &what)?),
        "xpath" => LocatorStrategy::Xpath(strict_template(r, value, &what)?),
        _ => {
            let role = strict_template(r, value, &what)?;
            let Some(role) = role.as_literal() else {
                r.fail(value.span, "`${…}` in a role is not supported yet");
                return None;
            };
            let name = match fields.get("name") {
                Some(node) => Some(matcher(r, node, "`name`", ValueType::Text)?),
                None => None,
            };
            LocatorStrategy::Role { role: role.to_owned(), name }
        }
    };
    Some(Locator { how, nth: nth?, within: within?, span: node.span })
}

/// Reads the list of `any_of` or `one_of`.
fn alternatives(r: &mut Reader, key: &str, node: &Node) -> Option<Vec<Locator>> {
    let items = r.list(node, &format!("`{key}`"))?;
    if items.is_empty() {
        r.fail(node.span, format!("`{key}` has no locator"));
        return None;
    }
    let read: Vec<_> = items
        .iter()
        .map(|item| {
            let inner = |entry: &&Entry| entry.key == "any_of" || entry.key == "one_of";
            if let Some(inner) = item.entries().and_then(|all| all.iter().find(inner)) {
                let message = format!("`{}` is not allowed in `{key}`", inner.key);
                r.fail_with(inner.key_span, message, "put its locators into the outer list");
                return None;
            }
            target(r, item, key)
        })
        .collect();
    read.into_iter().collect()
}
