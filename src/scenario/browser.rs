//! Steps on a page.

use super::expect::{On, matcher};
use super::keys::{ELEMENT_FACTS, OPTION, PAGE_FACTS, PAGE_SOURCES};
use super::model::{
    ElementFact, Matcher, MouseButton, PageAction, PageExpectation, PageFact, PageSave, PageSource, SelectOption,
    Target,
};
use super::reader::{Fields, Reader, cut};
use super::step::Scope;
use super::target::target;
use super::tree::{Entry, Node, NodeKind, Resolved};
use super::url::{self, Use};
use crate::diagnostic::{At, Diagnostic, nearest};

/// Reads an action on a page; `fields` are the step's, checked against its table.
pub fn action(r: &mut Reader, action: &Entry, fields: &Fields<'_>, scope: &Scope) -> Option<PageAction> {
    let key = action.key.as_str();
    let value = &action.value;
    Some(match key {
        "goto" => {
            PageAction::Goto { url: url::read(r, value, "`goto`", scope.base_url.as_ref(), Use::Page)?, status: None }
        }
        "click" => PageAction::Click { target: target(r, value, key)?, button: MouseButton::Left, position: None },
        "fill" => {
            let target = target(r, value, key);
            let with = beside(r, action, fields, "with").and_then(|node| r.template(node, "`with`"));
            PageAction::Fill { target: target?, with: with?, append: false }
        }
        "select" => {
            let target = target(r, value, key);
            let options = beside(r, action, fields, "option").and_then(|node| options(r, node));
            PageAction::Select { target: target?, options: options? }
        }
        "press" => {
            let keys = keys(r, value);
            let into = match fields.get("into") {
                Some(node) => Some(target(r, node, "into")?),
                None => None,
            };
            PageAction::Press { keys: keys?, into }
        }
        "expect" => PageAction::Expect(expectations(r, value)?),
        "save" => PageAction::Save(saves(r, value)?),
        _ => PageAction::Screenshot { name: r.template(value, "`screenshot`")?, of: None, full_page: false },
    })
}

/// The value of a key that an action cannot do without.
fn beside<'a>(r: &mut Reader, action: &Entry, fields: &Fields<'a>, key: &str) -> Option<&'a Node> {
    let found = fields.get(key);
    if found.is_none() {
        r.fail(action.key_span, format!("`{}` needs `{key}:` beside it", action.key));
    }
    found
}

fn options(r: &mut Reader, node: &Node) -> Option<Vec<SelectOption>> {
    let items = match &node.kind {
        NodeKind::List(items) => items.iter().collect(),
        _ => vec![node],
    };
    let read: Vec<_> = items
        .into_iter()
        .map(|item| {
            if item.entries().is_none() {
                return r.template(item, "`option`").map(SelectOption::Text);
            }
            let fields = r.fields(item, "`option`", &[OPTION])?;
            r.template(fields.get("value")?, "`value`").map(SelectOption::Value)
        })
        .collect();
    read.into_iter().collect()
}

/// Names of keys that are no single character, as W3C UI Events names them.
pub const KEY_NAMES: &[&str] = &[
    "Enter",
    "Tab",
    "Escape",
    "Backspace",
    "Delete",
    "Insert",
    "Space",
    "Home",
    "End",
    "PageUp",
    "PageDown",
    "ArrowUp",
    "ArrowDown",
    "ArrowLeft",
    "ArrowRight",
    "F1",
    "F2",
    "F3",
    "F4",
    "F5",
    "F6",
    "F7",
    "F8",
    "F9",
    "F10",
    "F11",
    "F12",
];
/// Keys that are held while another is pressed.
pub const MODIFIER_NAMES: &[&str] = &["Control", "Shift", "Alt", "Meta"];

fn keys(r: &mut Reader, node: &Node) -> Option<At<Vec<String>>> {
    let text = r.text(node, "`press`")?;
    let (held, last) = match text.strip_suffix("++") {
        Some(held) => (held, "+"),
        None if text.value == "+" => ("", "+"),
        None => text.rsplit_once('+').unwrap_or(("", &text.value)),
    };
    let mut keys: Vec<String> = held.split('+').filter(|key| !key.is_empty()).map(ToOwned::to_owned).collect();
    for key in &keys {
        if !MODIFIER_NAMES.contains(&key.as_str()) {
            unknown_key(r, node, key, MODIFIER_NAMES);
            return None;
        }
    }
    let is_modifier = keys.is_empty() && MODIFIER_NAMES.contains(&last);
    if last.chars().count() != 1 && !KEY_NAMES.contains(&last) && !is_modifier {
        unknown_key(r, node, last, KEY_NAMES);
        return None;
    }
    keys.push(last.to_owned());
    Some(At::new(keys, node.span))
}

fn unknown_key(r: &mut Reader, node: &Node, key: &str, known: &[&'static str]) {
    let found = Diagnostic::error(&r.source, node.span, format!("unknown key on the keyboard `{}`", cut(key)));
    let found = match nearest(key, known.iter().copied()) {
        Some(near) => found.label(format!("did you mean `{near}`?")),
        None => found,
    };
    let found = found.note(format!("known are any one character, {}", KEY_NAMES.join(", ")));
    r.report(found.note(format!("and before it, with +: {}", MODIFIER_NAMES.join(", "))));
}

fn expectations(r: &mut Reader, node: &Node) -> Option<Vec<PageExpectation>> {
    let maps = match &node.kind {
        NodeKind::List(items) => items.iter().collect(),
        _ => vec![node],
    };
    let read: Vec<_> = maps.into_iter().map(|map| facts(r, map)).collect();
    let all: Vec<_> = read.into_iter().collect::<Option<Vec<_>>>()?.into_iter().flatten().collect();
    if all.is_empty() {
        r.fail_with(node.span, "nothing is expected here", "say what must hold");
        return None;
    }
    Some(all)
}

fn facts(r: &mut Reader, map: &Node) -> Option<Vec<PageExpectation>> {
    let fields = r.fields(map, "`expect`", &[PAGE_FACTS, ELEMENT_FACTS])?;
    let mut out = Vec::new();
    let mut complete = true;
    let mut of_element = Vec::new();
    for entry in fields.iter() {
        let node = &entry.value;
        let fact = match entry.key.as_str() {
            "url" => matcher(r, node, "`url`", On::Text).map(PageFact::Url),
            "title" => matcher(r, node, "`title`", On::Text).map(PageFact::Title),
            "visible" => target(r, node, "visible").map(PageFact::Visible),
            "hidden" => target(r, node, "hidden").map(PageFact::Hidden),
            "element" => continue,
            _ => {
                of_element.push(entry);
                continue;
            }
        };
        complete &= fact.is_some();
        out.extend(fact.map(|what| PageExpectation { span: entry.span(), what }));
    }
    let mut facts = Vec::new();
    for entry in &of_element {
        match element_facts(r, entry) {
            Some(read) => facts.extend(read),
            None => complete = false,
        }
    }
    match (fields.entry("element"), of_element.first()) {
        (Some(element), Some(_)) => {
            let read = target(r, &element.value, "element");
            complete &= read.is_some();
            let what = read.map(|target| PageFact::Element { target, facts });
            out.extend(what.map(|what| PageExpectation { span: map.span, what }));
        }
        (Some(element), None) => {
            complete = false;
            let names: Vec<_> = ELEMENT_FACTS.iter().map(|key| key.name).collect();
            let found = Diagnostic::error(&r.source, element.key_span, "`element` says nothing of it");
            r.report(
                found
                    .label("did you mean `visible`?")
                    .note(format!("or put one of these beside it: {}", names.join(", "))),
            );
        }
        (None, Some(fact)) => {
            complete = false;
            let message = format!("`{}` is said of an element: `element:` is missing beside it", fact.key);
            r.fail(fact.key_span, message);
        }
        (None, None) => {}
    }
    complete.then_some(out)
}

fn element_facts(r: &mut Reader, entry: &Entry) -> Option<Vec<ElementFact>> {
    let node = &entry.value;
    let key = entry.key.as_str();
    let what = format!("`{key}`");
    Some(vec![match key {
        "text" => ElementFact::Text(matcher(r, node, &what, On::Text)?),
        "value" => ElementFact::Value(matcher(r, node, &what, On::Text)?),
        "count" => ElementFact::Count(matcher(r, node, &what, On::Number)?),
        "checked" => ElementFact::Checked(r.boolean(node, &what)?),
        "enabled" => ElementFact::Enabled(r.boolean(node, &what)?),
        "focused" => ElementFact::Focused(r.boolean(node, &what)?),
        _ => {
            let entries = r.entries(node, &what)?;
            let read: Vec<_> = entries
                .into_iter()
                .map(|entry| {
                    let what = format!("attribute `{}`", entry.key);
                    Some(ElementFact::Attribute(entry.key.clone(), matcher(r, &entry.value, &what, On::Text)?))
                })
                .collect();
            return read.into_iter().collect();
        }
    }])
}

fn saves(r: &mut Reader, node: &Node) -> Option<Vec<PageSave>> {
    let entries = r.entries(node, "`save`")?;
    let read: Vec<_> = entries.into_iter().map(|entry| save(r, entry)).collect();
    read.into_iter().collect()
}

fn save(r: &mut Reader, entry: &Entry) -> Option<PageSave> {
    let name = super::step::saved_name(r, entry);
    let fields = r.fields(&entry.value, "a source", &[PAGE_SOURCES])?;
    let secret = match fields.get("secret") {
        Some(node) => r.boolean(node, "`secret`")?,
        None => false,
    };
    let mut element = None;
    if let Some(node) = fields.get("element") {
        element = Some(target(r, node, "element")?);
    }
    let parts: Vec<_> =
        fields.iter().filter(|part| matches!(part.key.as_str(), "text" | "value" | "attribute" | "url")).collect();
    let (source, matcher) = match (element, parts.as_slice()) {
        (Some(element), []) => (PageSource::Text(element), None),
        (Some(element), [part]) if part.key != "url" => of_element(r, element, part)?,
        (None, [part]) if part.key == "url" => (PageSource::Url, whole_or_matcher(r, part)?),
        _ => {
            r.fail_with(
                entry.key_span,
                format!("`{}` needs one source", entry.key),
                "write {element: target, text: …}, or value, or attribute, or {url: …}",
            );
            return None;
        }
    };
    Some(PageSave { name: name?, source, matcher, secret })
}

fn of_element(r: &mut Reader, element: Target, part: &Entry) -> Option<(PageSource, Option<Matcher>)> {
    Some(match part.key.as_str() {
        "text" => (PageSource::Text(element), whole_or_matcher(r, part)?),
        "value" => (PageSource::Value(element), whole_or_matcher(r, part)?),
        _ => (PageSource::Attribute(element, r.text(&part.value, "`attribute`")?.value), None),
    })
}

/// `true` for the whole, or a matcher.
#[allow(clippy::option_option)] // The outer one says that an error was reported.
fn whole_or_matcher(r: &mut Reader, part: &Entry) -> Option<Option<Matcher>> {
    let whole = part.value.scalar().is_some_and(|scalar| scalar.resolve() == Resolved::Bool(true));
    if whole {
        return Some(None);
    }
    matcher(r, &part.value, &format!("`{}`", part.key), On::Text).map(Some)
}
