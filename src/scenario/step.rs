//! Reader of steps, each with one action and its options.

use std::sync::Arc;

use super::keys::{GROUP, Key, METHODS, MODIFIERS, PAGE_ACTIONS, PAGE_MODIFIERS, REQUEST, USE};
use super::locator::target;
use super::model::{Action, Group, Request, Step};
use super::naming;
use super::reader::{Reader, cut};
use super::tree::{Entry, Node, NodeKind};
use super::{browser, fragment, http};
use crate::diagnostic::{Diagnostic, nearest};

pub use super::scope::Scope;

/// Reads a list of steps. `ahead` is the prefix of their numbers: `step `, `step 3.`, `finally step `.
pub fn steps(r: &mut Reader, node: &Node, scope: &mut Scope<'_>, ahead: &str) -> Vec<Step> {
    let Some(items) = r.list(node, "steps") else { return Vec::new() };
    if items.is_empty() {
        r.fail(node.span, "no steps");
    }
    let before = r.context.clone();
    let read: Vec<_> =
        items.iter().enumerate().map(|(at, item)| step(r, item, scope, &format!("{ahead}{}", at + 1))).collect();
    r.context = before;
    read.into_iter().flatten().collect()
}

/// Finds the action among the entries of a step. `expect` and `save` are the action only if there is no other, because
/// they may also accompany a request, a dialog or a script.
fn find_action(entries: &[Entry]) -> Option<&Entry> {
    let actions = || entries.iter().filter(|entry| is_action(&entry.key));
    let is_method = |entry: &&Entry| METHODS.contains(&entry.key.as_str());
    let stands_alone = |entry: &&Entry| !matches!(entry.key.as_str(), "expect" | "save");
    actions().find(is_method).or_else(|| actions().find(stands_alone)).or_else(|| actions().next())
}

fn is_action(key: &str) -> bool {
    action_names().any(|name| name == key)
}

fn action_names() -> impl Iterator<Item = &'static str> {
    let pages = PAGE_ACTIONS.iter().map(|action| action.key.name);
    pages.chain(METHODS.iter().copied()).chain([GROUP.key.name, USE.key.name])
}

fn step(r: &mut Reader, node: &Node, scope: &mut Scope<'_>, number: &str) -> Option<Step> {
    r.context = Some(number.to_owned());
    let Some(entries) = node.entries() else {
        let text = node.scalar().map(|scalar| scalar.text.clone()).unwrap_or_default();
        if is_action(text.split_whitespace().next().unwrap_or("")) {
            r.fail_with(node.span, "a step must be a map", format!("write `{}: …`", cut(&text)));
        } else {
            r.unexpected(node, "a step", "a map");
        }
        return None;
    };
    let Some(action) = find_action(entries) else {
        no_action(r, node, entries);
        return None;
    };
    let key = action.key.as_str();
    let automatic = naming::step(key, &action.value);
    r.context = Some(format!("{number}, {automatic}"));

    let method = METHODS.contains(&key);
    let kind = PAGE_ACTIONS.iter().chain([&GROUP, &USE]).find(|kind| kind.key.name == key);
    if kind.is_some_and(|kind| kind.key.shape.is_none()) {
        r.fail(action.key_span, format!("`{key}` is not supported yet"));
        return None;
    }
    if let Some(second) = entries.iter().find(|entry| entry.key != key && is_second(entry, kind, method)) {
        let message = format!("two actions in one step: `{key}` and `{}`", second.key);
        r.fail_with(second.key_span, message, "start a new step with `- `");
        return None;
    }
    let own = kind.map_or(REQUEST, |kind| kind.sibling_keys);
    let of_page = kind.is_some() && !matches!(key, "group" | "use");
    let page: &[Key] = if of_page { PAGE_MODIFIERS } else { &[] };
    let fields = {
        let mut entries = r.entries(node, "a step")?;
        entries.retain(|entry| entry.key == key || r.known(entry, &[MODIFIERS, page, own], ""));
        super::reader::Fields::of(entries, node.span)
    };

    let name = match fields.get("name") {
        Some(node) => r.text(node, "`name`").map(|name| cut(&name)).filter(|name| !name.is_empty()),
        None => None,
    };
    let name = scope.names.name(name.as_deref().unwrap_or(if automatic.is_empty() { key } else { &automatic }));
    let own_timeout = fields.get("timeout").and_then(|node| r.duration(node, "`timeout`"));
    let timeout = if matches!(key, "group" | "use") { own_timeout } else { own_timeout.or(scope.timeout) };
    let optional = fields.get("optional").is_some_and(|node| r.boolean(node, "`optional`").unwrap_or(false));
    let go_on = fields.get("continue").is_some_and(|node| r.boolean(node, "`continue`").unwrap_or(false));
    if let (true, true, Some(entry)) = (optional, go_on, fields.entry("continue")) {
        let message = "`optional` and `continue` exclude each other";
        r.fail_with(entry.key_span, message, "keep one of them: with `optional` the next steps run as well");
    }
    let when = match fields.get("when") {
        Some(node) => browser::expectations(r, node, "when"),
        None => Some(Vec::new()),
    };
    let within_frame = match fields.entry("within_frame") {
        Some(entry) => frames(r, key, entry),
        None => Some(Vec::new()),
    };
    let action = if method {
        http::request(r, key, &action.value, &fields, scope.base_url.as_ref()).map(|request| {
            let traceparent = request.traceparent.or(scope.traceparent);
            Action::Request(Box::new(Request { traceparent, ..request }))
        })
    } else if key == "group" {
        r.text(&action.value, "`group`");
        if let Some(node) = fields.get("steps") {
            let retry = fields.get("retry").map(|node| r.count(node, "`retry`"));
            let steps = steps(r, node, scope, &format!("{number}."));
            retry.unwrap_or(Some(0)).map(|retry| Action::Group(Group { steps, retry }))
        } else {
            r.fail(action.key_span, "`group` needs `steps:` beside it");
            None
        }
    } else if key == "use" {
        fragment::used(r, action, &fields, scope, number, steps).map(|steps| Action::Group(Group { steps, retry: 0 }))
    } else {
        browser::action(r, action, &fields, scope.base_url.as_ref()).map(Action::Page)
    }
    .map(|read| (read, action.span()));
    let (action, span) = action?;
    let source = scope.files.last().map(|file| Arc::clone(&file.source));
    Some(Step { name, span, source, timeout, optional, go_on, when: when?, within_frame: within_frame?, action })
}

/// Reads the frame in which a step acts: one locator, or a list from the outermost frame inward.
pub fn frames(r: &mut Reader, action: &str, entry: &Entry) -> Option<Vec<super::model::Locator>> {
    if matches!(action, "goto" | "dialog" | "window") {
        r.fail(entry.key_span, format!("`{action}` applies to the whole page, not to a frame"));
        return None;
    }
    let items = match &entry.value.kind {
        NodeKind::List(items) => items.iter().collect(),
        _ => vec![&entry.value],
    };
    if items.is_empty() {
        r.fail(entry.value.span, "`within_frame` is empty");
        return None;
    }
    let read: Vec<_> = items.into_iter().map(|item| target(r, item, "within_frame")).collect();
    read.into_iter().collect()
}

/// Returns whether a key is a second action and not an option of the first.
fn is_second(entry: &Entry, kind: Option<&super::keys::ActionSpec>, method: bool) -> bool {
    let sibling_keys = if method { REQUEST } else { kind.map_or(&[] as &[Key], |kind| kind.sibling_keys) };
    is_action(&entry.key) && !sibling_keys.iter().any(|key| key.name == entry.key)
}

/// Names of actions in other tools that wait for a fixed time or an element.
const WAITS: [&str; 6] = ["wait", "sleep", "pause", "delay", "wait_for", "waitfor"];

fn no_action(r: &mut Reader, node: &Node, entries: &[Entry]) {
    let modifier = |entry: &&Entry| MODIFIERS.iter().any(|key| key.name == entry.key);
    let names: Vec<_> = action_names().collect();
    match entries.iter().find(|entry| !modifier(entry)) {
        Some(entry) => {
            let lower = entry.key.to_lowercase();
            let near = names
                .iter()
                .copied()
                .find(|name| name.to_lowercase() == lower)
                .or_else(|| nearest(&entry.key, names.iter().copied()));
            let message = format!("unknown action `{}`", cut(&entry.key));
            let found = Diagnostic::error(&r.source, entry.key_span, message);
            let found = match near {
                _ if WAITS.contains(&lower.as_str()) => found
                    .label("leave it out: every step waits for its element or expectation until its timeout")
                    .note("to wait for more, use `expect` with a `timeout`, or `eventually` with a request"),
                Some(near) => found.label(format!("did you mean `{near}`?")),
                None => found,
            };
            let supported = PAGE_ACTIONS.iter().filter(|a| a.key.shape.is_some()).map(|a| a.key.name);
            let supported: Vec<_> =
                supported.chain(METHODS.iter().copied()).chain([GROUP.key.name, USE.key.name]).collect();
            r.report(found.note(format!("allowed here: {}", supported.join(", "))));
        }
        None => r.fail(node.span, "a step needs an action"),
    }
}
