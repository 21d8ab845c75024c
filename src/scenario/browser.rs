//! Reader of page steps.

use super::expect::{ValueType, matcher, strict_template, value};
use super::keys::{
    DIALOG, DIALOG_ANSWERS, DOWNLOAD, ELEMENT_FACTS, MOUSE_BUTTONS, OPTION, PAGE_FACTS, PAGE_SOURCES, POSITION,
    REQUESTS, SCROLL, SENT, WINDOW,
};
use super::locator::target;
use super::model::{
    DialogAnswer, ElementFact, Locator, Matcher, MouseButton, PageAction, PageExpectation, PageFact, PageSave,
    PageSource, Scroll, SelectOption, SentRequest, Travel, WindowChange,
};
use super::reader::{Fields, Reader, cut};
use super::saved_name::{saved_as, saved_name};
use super::template::Template;
use super::tree::{Entry, Node, NodeKind, Resolved, Scalar};
use super::units;
use super::url::{self, Use};
use crate::diagnostic::{Diagnostic, Spanned, nearest};

/// Reads a page action. `fields` are the fields of the step, already checked against its table.
pub fn action(
    r: &mut Reader,
    action: &Entry,
    fields: &Fields<'_>,
    base_url: Option<&Spanned<Template>>,
) -> Option<PageAction> {
    let key = action.key.as_str();
    let value = &action.value;
    Some(match key {
        "goto" => {
            let url = url::read(r, value, "`goto`", base_url, Use::Page);
            let status = given(fields, "status", |node| matcher(r, node, "`status`", ValueType::Number));
            PageAction::Goto { url: url?, status: status? }
        }
        "back" | "forward" | "reload" => {
            if !r.boolean(value, &format!("`{key}`"))? {
                r.fail_with(value.span, format!("`{key}: false` does nothing"), "leave the step out");
                return None;
            }
            PageAction::Travel(match key {
                "back" => Travel::Back,
                "forward" => Travel::Forward,
                _ => Travel::Reload,
            })
        }
        "click" => {
            let target = target(r, value, key);
            let button = given(fields, "button", |node| mouse_button(r, node));
            let position = given(fields, "position", |node| position(r, node));
            let force = given(fields, "force", |node| r.boolean(node, "`force`"));
            PageAction::Click {
                target: target?,
                button: button?.unwrap_or_default(),
                position: position?,
                force: force?.unwrap_or(false),
            }
        }
        "double_click" => PageAction::DoubleClick(target(r, value, key)?),
        "hover" => PageAction::Hover(target(r, value, key)?),
        "clear" => PageAction::Clear(target(r, value, key)?),
        "check" | "uncheck" => PageAction::Check { target: target(r, value, key)?, on: key == "check" },
        "fill" => {
            let target = target(r, value, key);
            let with = sibling_keys(r, action, fields, "with").and_then(|node| r.template(node, "`with`"));
            let append = given(fields, "append", |node| r.boolean(node, "`append`"));
            let becomes = given(fields, "becomes", |node| matcher(r, node, "`becomes`", ValueType::Text));
            PageAction::Fill { target: target?, with: with?, append: append?.unwrap_or(false), becomes: becomes? }
        }
        "select" => {
            let target = target(r, value, key);
            let options = sibling_keys(r, action, fields, "option").and_then(|node| options(r, node));
            PageAction::Select { target: target?, options: options? }
        }
        "press" => {
            let keys = keys(r, value);
            let into = given(fields, "into", |node| target(r, node, "into"));
            PageAction::Press { keys: keys?, into: into? }
        }
        "upload" => {
            let target = target(r, value, key);
            let files = sibling_keys(r, action, fields, "file").and_then(|node| files(r, node));
            PageAction::Upload { target: target?, files: files? }
        }
        "drag" => {
            let from = target(r, value, key);
            let to = sibling_keys(r, action, fields, "to").and_then(|node| target(r, node, "to"));
            PageAction::Drag { target: from?, to: to? }
        }
        "scroll" => PageAction::Scroll(scroll(r, value)?),
        "dialog" => {
            let answer = dialog(r, value);
            let expect = given(fields, "expect", |node| matcher(r, node, "`expect`", ValueType::Text));
            PageAction::Dialog { answer: answer?, expect: expect? }
        }
        "window" => PageAction::Window(window(r, value)?),
        "script" => {
            let text = script(r, value);
            let args = given(fields, "args", |node| args(r, node));
            let save = given(fields, "save", |node| {
                let name = r.text(node, "`save`")?;
                saved_as(r, &name, name.span)
            });
            PageAction::Script { script: text?, args: args?.unwrap_or_default(), save: save? }
        }
        "expect" => PageAction::Expect(expectations(r, value, "expect")?),
        "save" => PageAction::Save(saves(r, value)?),
        _ => {
            let name = r.template(value, "`screenshot`");
            let of = given(fields, "of", |node| target(r, node, "of"));
            let full_page = given(fields, "full_page", |node| r.boolean(node, "`full_page`"));
            let (of, full_page) = (of?, full_page?.unwrap_or(false));
            if let (true, Some(entry)) = (full_page && of.is_some(), fields.entry("full_page")) {
                let message = "a screenshot is `of` one element or of the `full_page`, not both";
                r.fail_with(entry.key_span, message, "keep one of them");
                return None;
            }
            PageAction::Screenshot { name: name?, of, full_page }
        }
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

fn mouse_button(r: &mut Reader, node: &Node) -> Option<MouseButton> {
    if node.entries().is_some() {
        let help = "it selects the mouse button: left, middle or right; write the role of the element in the locator of `click`";
        r.fail_with(node.span, "`button` beside `click` is not a locator", help);
        return None;
    }
    Some(match r.word(node, "mouse button", MOUSE_BUTTONS)? {
        "middle" => MouseButton::Middle,
        "right" => MouseButton::Right,
        _ => MouseButton::Left,
    })
}

fn position(r: &mut Reader, node: &Node) -> Option<(f64, f64)> {
    let fields = r.fields(node, "`position`", &[POSITION])?;
    let mut read = |key: &str| {
        let Some(node) = fields.get(key) else {
            r.fail_with(fields.span, format!("`position` needs `{key}`"), "write it like {x: 10, y: 5}");
            return None;
        };
        r.number(node, &format!("`{key}`"), 0.0, f64::INFINITY)
    };
    let (x, y) = (read("x"), read("y"));
    Some((x?, y?))
}

fn files(r: &mut Reader, node: &Node) -> Option<Vec<Spanned<Template>>> {
    let items = one_or_many(node);
    if items.is_empty() {
        r.fail(node.span, "`file` is empty");
        return None;
    }
    let read: Vec<_> = items.into_iter().map(|item| r.template(item, "`file`")).collect();
    read.into_iter().collect()
}

fn one_or_many(node: &Node) -> Vec<&Node> {
    match &node.kind {
        NodeKind::List(items) => items.iter().collect(),
        _ => vec![node],
    }
}

fn scroll(r: &mut Reader, node: &Node) -> Option<Scroll> {
    if let Some(text) = node.scalar().map(|scalar| scalar.text.as_str()).filter(|text| units::pixels(text).is_ok()) {
        r.fail_with(node.span, "`scroll` takes a locator or {by: …}", format!("write `scroll: {{by: {text}}}`"));
        return None;
    }
    if node.get("by").is_none() && node.get("until").is_none() {
        return target(r, node, "scroll").map(Scroll::To);
    }
    let fields = r.fields(node, "`scroll`", &[SCROLL])?;
    let node = match (fields.get("by"), fields.get("until")) {
        (Some(node), None) => node,
        (None, until) => return target(r, until?, "until").map(Scroll::Until),
        (Some(_), Some(until)) => {
            r.fail_with(until.span, "`scroll` takes `by` or `until`, not both", "keep one of them");
            return None;
        }
    };
    let text = r.text(node, "`by`")?;
    match units::pixels(&text) {
        Ok(pixels) => Some(Scroll::By(pixels)),
        Err(message) => {
            let label = match text.parse::<f64>() {
                Ok(_) => format!("write `{}px`", text.value),
                Err(_) => "write it like 800px, or -800px to go up".into(),
            };
            r.fail_with(node.span, format!("`by`: {message}"), label);
            None
        }
    }
}

fn dialog(r: &mut Reader, node: &Node) -> Option<DialogAnswer> {
    if node.entries().is_none() {
        return Some(match r.word(node, "way to handle a dialog", DIALOG_ANSWERS)? {
            "accept" => DialogAnswer::Accept(None),
            _ => DialogAnswer::Dismiss,
        });
    }
    if let Some(entry) = node.entries().and_then(|entries| entries.iter().find(|entry| entry.key == "dismiss")) {
        r.fail_with(entry.key_span, "`dismiss` does not accept text", "write `dialog: dismiss`");
        return None;
    }
    let fields = r.fields(node, "`dialog`", &[DIALOG])?;
    match fields.get("accept") {
        Some(text) => r.template(text, "`accept`").map(|text| DialogAnswer::Accept(Some(text))),
        None => {
            if node.entries().is_some_and(<[Entry]>::is_empty) {
                r.fail_with(node.span, "unknown way to handle the dialog", "write accept or dismiss");
            }
            None
        }
    }
}

fn window(r: &mut Reader, node: &Node) -> Option<WindowChange> {
    if let Some(scalar) = node.scalar() {
        if matches!(scalar.text.as_str(), "new" | "title" | "url") {
            let label = if scalar.text == "new" { "{new: true}".into() } else { format!("{{{}: …}}", scalar.text) };
            r.fail_with(
                node.span,
                format!("`{}` is not written alone", scalar.text),
                format!("write `window: {label}`"),
            );
            return None;
        }
        return r.word(node, "window", &["close"]).map(|_| WindowChange::Close);
    }
    let fields = r.fields(node, "`window`", &[WINDOW])?;
    let all: Vec<_> = fields.iter().collect();
    let [entry] = all.as_slice() else {
        // Unknown keys have been reported already.
        if node.entries().is_some_and(|entries| entries.len() == all.len()) {
            let label = "write {new: true}, {title: …}, {url: …}, or close";
            r.fail_with(node.span, "`window` takes exactly one key", label);
        }
        return None;
    };
    Some(match entry.key.as_str() {
        "title" => WindowChange::Title(matcher(r, &entry.value, "`title`", ValueType::Text)?),
        "url" => WindowChange::Url(matcher(r, &entry.value, "`url`", ValueType::Text)?),
        _ => {
            if !r.boolean(&entry.value, "`new`")? {
                r.fail_with(entry.value.span, "`new: false` selects no window", "write {title: …} or {url: …}");
                return None;
            }
            WindowChange::New
        }
    })
}

/// Reads a script as plain text, since `${…}` in JavaScript is not a template.
fn script(r: &mut Reader, node: &Node) -> Option<Spanned<String>> {
    let text = r.text(node, "`script`")?;
    if text.trim().is_empty() {
        r.fail(node.span, "the script is empty");
        return None;
    }
    Some(text)
}

fn args(r: &mut Reader, node: &Node) -> Option<Vec<super::template::Value>> {
    let read: Vec<_> = r.list(node, "`args`")?.iter().map(|item| value(r, item)).collect();
    read.into_iter().collect()
}

/// Returns the value of a required sibling key of an action.
fn sibling_keys<'a>(r: &mut Reader, action: &Entry, fields: &Fields<'a>, key: &str) -> Option<&'a Node> {
    let found = fields.get(key);
    if found.is_none() {
        r.fail(action.key_span, format!("`{}` needs `{key}:` beside it", action.key));
    }
    found
}

fn options(r: &mut Reader, node: &Node) -> Option<Vec<SelectOption>> {
    let read: Vec<_> = one_or_many(node)
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

/// Names of keys that are not a single character, according to W3C UI Events.
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
/// Modifier keys, which are held while another key is pressed.
pub const MODIFIER_NAMES: &[&str] = &["Control", "Shift", "Alt", "Meta"];

fn keys(r: &mut Reader, node: &Node) -> Option<Spanned<Vec<String>>> {
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
    Some(Spanned::new(keys, node.span))
}

/// Common names of keys and the corresponding names in scenario files.
const ALIASES: [(&str, &str); 19] = [
    ("Ctrl", "Control"),
    ("Cmd", "Meta"),
    ("Command", "Meta"),
    ("Win", "Meta"),
    ("Windows", "Meta"),
    ("Super", "Meta"),
    ("Opt", "Alt"),
    ("Option", "Alt"),
    ("AltGr", "Alt"),
    ("Return", "Enter"),
    ("Esc", "Escape"),
    ("Del", "Delete"),
    ("Ins", "Insert"),
    ("Spacebar", "Space"),
    ("PgUp", "PageUp"),
    ("PgDn", "PageDown"),
    ("PgDown", "PageDown"),
    ("Back", "Backspace"),
    ("Bksp", "Backspace"),
];

/// Returns the key most likely meant by an unknown name, such as `Control` for `ctrl`.
fn meant<'a>(key: &str, known: &[&'a str]) -> Option<&'a str> {
    let named = |wanted: &str| known.iter().copied().find(|name| name.eq_ignore_ascii_case(wanted));
    let alias = ALIASES.iter().find(|(alias, _)| alias.eq_ignore_ascii_case(key));
    named(key).or_else(|| named(alias?.1)).or_else(|| nearest(key, known.iter().copied()))
}

fn unknown_key(r: &mut Reader, node: &Node, key: &str, known: &[&'static str]) {
    let found = Diagnostic::error(&r.source, node.span, format!("unknown key on the keyboard `{}`", cut(key)));
    let found = match meant(key, known) {
        Some(near) => found.label(format!("did you mean `{near}`?")),
        None => found,
    };
    let found = found.note(format!("known are any one character, {}", KEY_NAMES.join(", ")));
    r.report(found.note(format!("and before it, with +: {}", MODIFIER_NAMES.join(", "))));
}

/// Reads expectations on a page. `key` is the key whose value they are.
pub fn expectations(r: &mut Reader, node: &Node, key: &str) -> Option<Vec<PageExpectation>> {
    let what = format!("`{key}`");
    let before = r.errors();
    let read: Vec<_> = one_or_many(node).into_iter().map(|map| facts(r, map, &what)).collect();
    let all: Vec<_> = read.into_iter().collect::<Option<Vec<_>>>()?.into_iter().flatten().collect();
    if all.is_empty() {
        if r.errors() == before {
            r.fail_with(node.span, "no expectation", "write what must hold");
        }
        return None;
    }
    Some(all)
}

fn facts(r: &mut Reader, map: &Node, what: &str) -> Option<Vec<PageExpectation>> {
    let fields = r.fields(map, what, &[PAGE_FACTS, ELEMENT_FACTS])?;
    let mut out = Vec::new();
    let mut complete = true;
    let mut of_element = Vec::new();
    for entry in fields.iter() {
        let node = &entry.value;
        let fact = match entry.key.as_str() {
            "url" => matcher(r, node, "`url`", ValueType::Text).map(PageFact::Url),
            "title" => matcher(r, node, "`title`", ValueType::Text).map(PageFact::Title),
            "visible" => target(r, node, "visible").map(PageFact::Visible),
            "hidden" => target(r, node, "hidden").map(PageFact::Hidden),
            "console" => r.word(node, "expectation of the console", &["no_errors"]).map(|_| PageFact::Console),
            "requests" => requests(r, node),
            "request" => sent(r, node, "`request`").map(PageFact::Request),
            "script" => script(r, node).map(PageFact::Script),
            "download" => download(r, node),
            "cookie" => {
                let read = cookies(r, node);
                complete &= read.is_some();
                out.extend(read.unwrap_or_default());
                continue;
            }
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
            let found =
                Diagnostic::error(&r.source, element.key_span, "`element` needs a property to check, such as `text`");
            r.report(
                found
                    .label("did you mean `visible`?")
                    .note(format!("or put one of these beside it: {}", names.join(", "))),
            );
        }
        (None, Some(fact)) => {
            complete = false;
            let message = format!("`{}` is a property of an element: `element:` is missing beside it", fact.key);
            r.fail(fact.key_span, message);
        }
        (None, None) => {}
    }
    complete.then_some(out)
}

fn requests(r: &mut Reader, node: &Node) -> Option<PageFact> {
    if node.entries().is_none() {
        let word = r.word(node, "expectation of requests", &["no_failures"]);
        return word.map(|_| PageFact::Requests { except: Vec::new() });
    }
    let fields = r.fields(node, "`requests`", &[REQUESTS])?;
    let Some(list) = fields.get("except") else {
        r.fail_with(node.span, "`requests` is empty", "write no_failures, or {except: [{url: {contains: …}}]}");
        return None;
    };
    let read: Vec<_> = r.list(list, "`except`")?.iter().map(|item| sent(r, item, "`except`")).collect();
    Some(PageFact::Requests { except: read.into_iter().collect::<Option<_>>()? })
}

fn sent(r: &mut Reader, node: &Node, what: &str) -> Option<SentRequest> {
    let fields = r.fields(node, what, &[SENT])?;
    if fields.iter().next().is_none() {
        r.fail_with(
            node.span,
            format!("{what} has no property of a request"),
            "write it like {method: POST, url: {contains: /orders}}",
        );
        return None;
    }
    let method = given(&fields, "method", |node| {
        let text = r.text(node, "`method`")?;
        if text.is_empty() || !text.chars().all(|c| c.is_ascii_alphabetic()) {
            r.fail_with(node.span, format!("`{}` is not a method", cut(&text)), "write it like POST");
            return None;
        }
        Some(text.to_ascii_uppercase())
    });
    let url = given(&fields, "url", |node| matcher(r, node, "`url`", ValueType::Text));
    let status = given(&fields, "status", |node| matcher(r, node, "`status`", ValueType::Number));
    Some(SentRequest { method: method?, url: url?, status: status? })
}

fn download(r: &mut Reader, node: &Node) -> Option<PageFact> {
    let fields = r.fields(node, "`download`", &[DOWNLOAD])?;
    let name = given(&fields, "name", |node| matcher(r, node, "`name`", ValueType::Text));
    let size = given(&fields, "size", |node| {
        let node = in_bytes(r, node)?;
        matcher(r, &node, "`size`", ValueType::Number)
    });
    let contains = given(&fields, "contains", |node| strict_template(r, node, "`contains`"));
    Some(PageFact::Download { name: name?, size: size?, contains: contains? })
}

/// Converts a matcher on sizes to a matcher on numbers of bytes.
fn in_bytes(r: &mut Reader, node: &Node) -> Option<Node> {
    let kind = match &node.kind {
        NodeKind::Scalar(scalar) if scalar.text.starts_with("${") || scalar.resolve() == Resolved::Null => {
            return Some(node.clone());
        }
        NodeKind::Scalar(_) => {
            let text = r.size(node, "`size`")?.to_string();
            NodeKind::Scalar(Scalar { text, plain: true, binary: false })
        }
        NodeKind::List(items) => {
            let read: Vec<_> = items.iter().map(|item| in_bytes(r, item)).collect();
            NodeKind::List(read.into_iter().collect::<Option<_>>()?)
        }
        NodeKind::Map(entries) => {
            let mut read = Vec::new();
            for entry in entries {
                // Keys without a quantity are left to the reader of the matcher.
                let quantity = matches!(
                    entry.key.as_str(),
                    "equals" | "less_than" | "greater_than" | "between" | "one_of" | "not"
                );
                let value = if quantity { in_bytes(r, &entry.value) } else { Some(entry.value.clone()) };
                read.push(value.map(|value| Entry { value, ..entry.clone() }));
            }
            NodeKind::Map(read.into_iter().collect::<Option<_>>()?)
        }
    };
    Some(Node { kind, span: node.span })
}

fn cookies(r: &mut Reader, node: &Node) -> Option<Vec<PageExpectation>> {
    if node.scalar().is_some_and(|scalar| !scalar.text.is_empty()) {
        r.fail_with(node.span, "`cookie` takes a map of names", "write `cookie: {NAME: {exists: true}}`");
        return None;
    }
    let entries = r.entries(node, "`cookie`")?;
    if entries.is_empty() {
        r.fail(node.span, "`cookie` is empty");
        return None;
    }
    let read: Vec<_> = entries
        .into_iter()
        .map(|entry| {
            let matcher = matcher(r, &entry.value, &format!("cookie `{}`", cut(&entry.key)), ValueType::Text)?;
            Some(PageExpectation { span: entry.span(), what: PageFact::Cookie(entry.key.clone(), matcher) })
        })
        .collect();
    read.into_iter().collect()
}

fn element_facts(r: &mut Reader, entry: &Entry) -> Option<Vec<ElementFact>> {
    let node = &entry.value;
    let key = entry.key.as_str();
    let what = format!("`{key}`");
    Some(vec![match key {
        "text" => ElementFact::Text(matcher(r, node, &what, ValueType::Text)?),
        "value" => ElementFact::Value(matcher(r, node, &what, ValueType::Text)?),
        "count" => ElementFact::Count(matcher(r, node, &what, ValueType::Number)?),
        "checked" => ElementFact::Checked(r.boolean(node, &what)?),
        "enabled" => ElementFact::Enabled(r.boolean(node, &what)?),
        "focused" => ElementFact::Focused(r.boolean(node, &what)?),
        _ => {
            let entries = r.entries(node, &what)?;
            let read: Vec<_> = entries
                .into_iter()
                .map(|entry| {
                    let what = format!("attribute `{}`", entry.key);
                    Some(ElementFact::Attribute(entry.key.clone(), matcher(r, &entry.value, &what, ValueType::Text)?))
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
    let name = saved_name(r, entry);
    let fields = r.fields(&entry.value, "a source", &[PAGE_SOURCES])?;
    let secret = match fields.get("secret") {
        Some(node) => r.boolean(node, "`secret`")?,
        None => false,
    };
    let mut element = None;
    if let Some(node) = fields.get("element") {
        element = Some(target(r, node, "element")?);
    }
    let parts: Vec<_> = fields.iter().filter(|part| !matches!(part.key.as_str(), "element" | "secret")).collect();
    let of_page = |part: &Entry| matches!(part.key.as_str(), "url" | "cookie" | "script");
    let (source, matcher) = match (element, parts.as_slice()) {
        (Some(element), []) => (PageSource::Text(element), None),
        (Some(element), [part]) if !of_page(part) => of_element(r, element, part)?,
        (None, [part]) if part.key == "url" => (PageSource::Url, whole_or_matcher(r, part)?),
        (None, [part]) if part.key == "cookie" => (PageSource::Cookie(r.text(&part.value, "`cookie`")?.value), None),
        (None, [part]) if part.key == "script" => (PageSource::Script(script(r, &part.value)?), None),
        _ => {
            r.fail_with(
                entry.key_span,
                format!("`{}` needs one source", entry.key),
                "write {element: target, text: …}, or value, or attribute, or {url: …}, {cookie: …}, {script: …}",
            );
            return None;
        }
    };
    Some(PageSave { name: name?, source, matcher, secret })
}

fn of_element(r: &mut Reader, element: Locator, part: &Entry) -> Option<(PageSource, Option<Matcher>)> {
    Some(match part.key.as_str() {
        "text" => (PageSource::Text(element), whole_or_matcher(r, part)?),
        "value" => (PageSource::Value(element), whole_or_matcher(r, part)?),
        _ => (PageSource::Attribute(element, r.text(&part.value, "`attribute`")?.value), None),
    })
}

/// Reads `true`, which selects the entire value, or a matcher.
#[allow(clippy::option_option)] // The outer `None` means that an error was reported.
fn whole_or_matcher(r: &mut Reader, part: &Entry) -> Option<Option<Matcher>> {
    let whole = part.value.scalar().is_some_and(|scalar| scalar.resolve() == Resolved::Bool(true));
    if whole {
        return Some(None);
    }
    matcher(r, &part.value, &format!("`{}`", part.key), ValueType::Text).map(Some)
}
