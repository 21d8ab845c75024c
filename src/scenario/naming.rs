//! Generated names of steps, and ids derived from names.
//!
//! Names are generated from the text as written, including `${…}`, so that the number of label values is bounded.

use std::collections::BTreeMap;

use super::keys::{HOW, METHODS, ROLES};
use super::reader::cut;
use super::tree::{Entry, Node, NodeKind};

pub use super::id::bad_id;

/// Generates the name of a step from its action key and value, such as `click button "Sign in"`.
pub fn step(action: &str, value: &Node) -> String {
    match action {
        "group" => text(value),
        "script" => action.to_owned(),
        "scroll" if value.get("by").is_some() => format!("scroll by {}", value.get("by").map(text).unwrap_or_default()),
        "dialog" | "window" => format!("{action} {}", answer(value)),
        "expect" => format!("expect {}", expectations(value)),
        "save" => {
            let names: Vec<_> = value.entries().unwrap_or_default().iter().map(|entry| entry.key.as_str()).collect();
            format!("save {}", first_three(&names))
        }
        _ if METHODS.contains(&action) => format!("{action} {}", text(value)),
        _ => format!("{action} {}", target(value)),
    }
    .trim()
    .to_owned()
}

/// Formats the response to a dialog or a window change: `accept`, `accept "text"`, `new`, `title "Terms"`.
fn answer(node: &Node) -> String {
    match node.entries().and_then(<[Entry]>::first) {
        Some(entry) if entry.key == "new" => "new".to_owned(),
        Some(entry) => format!("{} {}", cut(&entry.key), matcher(&entry.value)),
        None => text(node),
    }
}

/// Formats a locator in readable form: `button "Sign in"`, `button "Remove" 2 in row "Mug"`.
pub fn target(node: &Node) -> String {
    let mut shown = how(node);
    if let Some(nth) = node.get("nth") {
        shown.push_str(&format!(" {}", text(nth)));
    }
    if let Some(within) = node.get("within") {
        shown.push_str(&format!(" in {}", target(within)));
    }
    shown
}

fn how(node: &Node) -> String {
    let NodeKind::Map(entries) = &node.kind else { return text(node) };
    if let Some(NodeKind::List(all)) = node.get("any_of").map(|all| &all.kind) {
        let first = all.first().map(target).unwrap_or_default();
        return if all.len() > 1 { format!("{first} or …") } else { first };
    }
    if let Some(role) = node.get("role") {
        return match node.get("name") {
            Some(name) => format!("{} {}", text(role), matcher(name)),
            None => text(role),
        };
    }
    let is_how = |entry: &&Entry| ROLES.contains(&entry.key.as_str()) || HOW.iter().any(|key| key.name == entry.key);
    match entries.iter().find(is_how).or(entries.first()) {
        Some(how) => format!("{} {}", cut(&how.key), matcher(&how.value)),
        None => String::new(),
    }
}

fn matcher(node: &Node) -> String {
    match &node.kind {
        NodeKind::Scalar(scalar) => format!("\"{}\"", cut(&scalar.text)),
        NodeKind::Map(entries) => match entries.first() {
            Some(entry) => format!("{} {}", cut(&entry.key), matcher(&entry.value)),
            None => String::new(),
        },
        NodeKind::List(_) => "[…]".into(),
    }
}

fn text(node: &Node) -> String {
    node.scalar().map(|scalar| cut(&scalar.text)).unwrap_or_default()
}

fn expectations(node: &Node) -> String {
    let maps = match &node.kind {
        NodeKind::List(items) => items.iter().collect(),
        _ => vec![node],
    };
    let mut facts = Vec::new();
    for map in maps {
        for entry in map.entries().unwrap_or_default() {
            match entry.key.as_str() {
                "element" => facts.push(target(&entry.value)),
                "visible" | "hidden" => facts.push(format!("{} {}", entry.key, target(&entry.value))),
                "url" | "title" | "console" | "requests" | "download" => facts.push(entry.key.clone()),
                "cookie" => {
                    let names = entry.value.entries().unwrap_or_default().iter();
                    facts.extend(names.map(|cookie| format!("cookie {}", cut(&cookie.key))));
                }
                _ => {}
            }
        }
    }
    first_three(&facts)
}

fn first_three<S: AsRef<str>>(names: &[S]) -> String {
    let mut shown = names.iter().take(3).map(|name| cut(name.as_ref())).collect::<Vec<_>>().join(", ");
    if names.len() > 3 {
        shown.push_str(", …");
    }
    shown
}

/// Makes names unique within a scenario: a repeated name gets a suffix such as ` (2)`.
#[derive(Debug, Default)]
pub struct Unique(BTreeMap<String, u32>);

impl Unique {
    /// Returns the name, with the first number that makes it unique if it is taken.
    pub fn name(&mut self, name: &str) -> String {
        let mut unique = name.to_owned();
        loop {
            if !self.0.contains_key(&unique) {
                self.0.insert(unique.clone(), 1);
                return unique;
            }
            let count = self.0.entry(name.to_owned()).or_insert(1);
            *count += 1;
            unique = format!("{name} ({count})");
        }
    }
}

/// Derives an id from a name: transliterates it to ASCII, converts it to lower case, replaces runs of all other
/// characters with one `-`, and trims it. Returns an empty text if nothing remains.
pub fn slug(name: &str) -> String {
    let mut slug = String::new();
    for c in deunicode::deunicode(name).to_lowercase().chars() {
        if c.is_ascii_alphanumeric() {
            slug.push(c);
        } else if !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.trim_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_are_ascii_and_bounded() {
        for (name, id) in [
            ("Shop checkout", "shop-checkout"),
            ("  Żółć — e2e! ", "zolc-e2e"),
            ("Köln/Straße", "koln-strasse"),
            ("北京", "bei-jing"),
            ("!!!", ""),
            ("a--b__c", "a-b-c"),
        ] {
            assert_eq!(slug(name), id, "{name}");
        }
        assert_eq!(bad_id("a-1"), None);
        assert!(bad_id("A").is_some() && bad_id("").is_some() && bad_id(&"a".repeat(65)).is_some());
    }

    #[test]
    fn repeats_are_counted() {
        let mut unique = Unique::default();
        let names = ["a", "a", "a (2)", "a", "b"].map(|name| unique.name(name));
        assert_eq!(names, ["a", "a (2)", "a (2) (2)", "a (3)", "b"]);
    }
}
