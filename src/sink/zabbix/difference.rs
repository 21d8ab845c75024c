//! Changes that an import or an update would make, computed from the results of `configuration.importcompare` and `get`
//! methods. Pure.
//!
//! Zabbix reports an object as changed even if only the order of its parts differs, or if a default is written
//! explicitly. The values are therefore compared again here: a desired value is present if each of its parts is, in any
//! order.

use serde_json::{Map, Value};

use super::api;

/// Maximum length of a value in a line, in characters.
const MAX_VALUE_CHARS: usize = 60;

/// Returns whether the existing value contains every part of the desired one.
pub fn covers(there: &Value, wanted: &Value) -> bool {
    match (there, wanted) {
        (Value::Object(there), Value::Object(wanted)) => {
            wanted.iter().all(|(key, wanted)| covers(there.get(key).unwrap_or(&Value::Null), wanted))
        }
        (Value::Array(there), Value::Array(wanted)) => {
            let mut left: Vec<_> = there.iter().collect();
            there.len() == wanted.len()
                && wanted.iter().all(|wanted| {
                    let found = left.iter().position(|there| covers(there, wanted));
                    found.map(|found| left.swap_remove(found)).is_some()
                })
        }
        // Zabbix does not store an empty text or list.
        (Value::Null, wanted) => *wanted == "" || *wanted == Value::Array(Vec::new()),
        (there, wanted) => api::text(there).replace("\r\n", "\n") == api::text(wanted),
    }
}

/// Lists the changes of an import, one line per object: added, or the values that change.
pub fn lines(compared: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    if let Value::Object(kinds) = compared {
        of_kinds(kinds, &mut lines);
    }
    lines
}

fn of_kinds(kinds: &Map<String, Value>, lines: &mut Vec<String>) {
    for (kind, changes) in kinds.iter().filter(|(kind, _)| !matches!(kind.as_str(), "before" | "after")) {
        let kind = kind.trim_end_matches('s').replace('_', " ");
        let entries = |how: &str| changes[how].as_array().cloned().unwrap_or_default();
        for entry in entries("added") {
            lines.push(format!("+ {kind} `{}`", name(&entry["after"])));
            inner(&entry, lines);
        }
        for entry in entries("removed") {
            lines.push(format!("- {kind} `{}`", name(&entry["before"])));
        }
        for entry in entries("updated") {
            let (before, after) = (&entry["before"], &entry["after"]);
            let changed: Vec<_> = after
                .as_object()
                .into_iter()
                .flatten()
                .filter(|(key, wanted)| !covers(&before[key.as_str()], wanted))
                .map(|(key, wanted)| format!("{key}: {}", change(&before[key.as_str()], wanted)))
                .collect();
            if !changed.is_empty() {
                lines.push(format!("~ {kind} `{}`: {}", name(after), changed.join("; ")));
            }
            inner(&entry, lines);
        }
    }
}

/// Lists the changes below an object.
fn inner(entry: &Value, lines: &mut Vec<String>) {
    if let Value::Object(kinds) = entry {
        of_kinds(kinds, lines);
    }
}

fn name(object: &Value) -> String {
    let keys = ["name", "template", "key", "uuid"];
    keys.iter().find_map(|key| object[*key].as_str()).unwrap_or("?").to_owned()
}

/// Formats a value before and after; for a list, the added and removed elements.
fn change(before: &Value, after: &Value) -> String {
    let (Value::Array(there), Value::Array(wanted)) = (before, after) else {
        return format!("{} → {}", shown(before), shown(after));
    };
    let only = |these: &[Value], those: &[Value], sign: &str| {
        let missing = these.iter().filter(|this| !those.iter().any(|that| covers(that, this) || covers(this, that)));
        missing.map(|one| format!("{sign}{}", shown(one))).collect::<Vec<_>>()
    };
    let mut all = only(wanted, there, "+");
    all.extend(only(there, wanted, "-"));
    if all.is_empty() { "other parts".to_owned() } else { all.join(", ") }
}

fn shown(value: &Value) -> String {
    let text = match value {
        Value::Null => return "nothing".to_owned(),
        Value::Object(object) if object.contains_key("tag") => {
            format!("{}:{}", api::text(&value["tag"]), api::text(&value["value"]))
        }
        Value::Object(object) if object.contains_key("macro") => api::text(&value["macro"]),
        Value::Object(object) if object.contains_key("name") => api::text(&value["name"]),
        other => api::text(other).split_whitespace().collect::<Vec<_>>().join(" "),
    };
    if text.chars().count() <= MAX_VALUE_CHARS {
        return text;
    }
    text.chars().take(MAX_VALUE_CHARS - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn order_and_written_defaults_are_no_difference() {
        let there = json!({"a": [{"x": "1", "id": "7"}, {"x": "2"}], "text": "one\r\ntwo", "more": "0"});
        let check = |wanted: Value, expected| assert_eq!(covers(&there, &wanted), expected, "{wanted}");
        check(json!({"a": [{"x": "2"}, {"x": 1}], "text": "one\ntwo", "empty": "", "none": []}), true);
        check(json!({"a": [{"x": "2"}, {"x": "2"}]}), false);
        check(json!({"a": [{"x": "2"}]}), false);
        check(json!({"more": "1"}), false);
        check(json!({"missing": "x"}), false);
    }

    #[test]
    fn changes_are_lines() {
        let compared = json!({"templates": {"updated": [{
            "before": {"name": "wachta", "macros": [{"macro": "A"}, {"macro": "B"}]},
            "after": {"name": "wachta", "macros": [{"macro": "B"}, {"macro": "A"}]},
            "discovery_rules": {"updated": [{
                "before": {"name": "Scenarios", "lifetime": "7d", "tags": [{"tag": "a", "value": "1"}]},
                "after": {"name": "Scenarios", "lifetime": "9d", "filter": {"x": "y"}, "tags": [{"tag": "a", "value": "2"}]},
                "item_prototypes": {
                    "added": [{"after": {"name": "new", "key": "k"}, "trigger_prototypes": {"added": [{"after": {"name": "t"}}]}}],
                    "removed": [{"before": {"name": "old"}}]
                }
            }]}
        }]}});
        let expected = [
            "~ discovery rule `Scenarios`: lifetime: 7d → 9d; filter: nothing → {\"x\":\"y\"}; tags: +a:2, -a:1",
            "+ item prototype `new`",
            "+ trigger prototype `t`",
            "- item prototype `old`",
        ];
        assert_eq!(lines(&compared), expected);
        assert!(lines(&json!([])).is_empty());
    }
}
