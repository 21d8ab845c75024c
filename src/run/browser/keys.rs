//! Names of keys, and the code points that W3C WebDriver gives them (section 17.4.2, "Keyboard actions").

use serde_json::{Value as Json, json};

use crate::names::Reason;
use crate::outcome::Failure;

/// Keys that are not characters.
const KEYS: [(&str, char); 37] = [
    ("Backspace", '\u{e003}'),
    ("Tab", '\u{e004}'),
    ("Clear", '\u{e005}'),
    ("Enter", '\u{e007}'),
    ("Shift", '\u{e008}'),
    ("Control", '\u{e009}'),
    ("Alt", '\u{e00a}'),
    ("Pause", '\u{e00b}'),
    ("Escape", '\u{e00c}'),
    ("Space", ' '),
    ("PageUp", '\u{e00e}'),
    ("PageDown", '\u{e00f}'),
    ("End", '\u{e010}'),
    ("Home", '\u{e011}'),
    ("ArrowLeft", '\u{e012}'),
    ("ArrowUp", '\u{e013}'),
    ("ArrowRight", '\u{e014}'),
    ("ArrowDown", '\u{e015}'),
    ("Insert", '\u{e016}'),
    ("Delete", '\u{e017}'),
    ("F1", '\u{e031}'),
    ("F2", '\u{e032}'),
    ("F3", '\u{e033}'),
    ("F4", '\u{e034}'),
    ("F5", '\u{e035}'),
    ("F6", '\u{e036}'),
    ("F7", '\u{e037}'),
    ("F8", '\u{e038}'),
    ("F9", '\u{e039}'),
    ("F10", '\u{e03a}'),
    ("F11", '\u{e03b}'),
    ("F12", '\u{e03c}'),
    ("Meta", '\u{e03d}'),
    ("Left", '\u{e012}'),
    ("Up", '\u{e013}'),
    ("Right", '\u{e014}'),
    ("Down", '\u{e015}'),
];

/// What goes to the end of a line.
pub(super) const END: &str = "\u{e010}";

/// What selects all of a field: Control, a, and Control let go.
pub(super) const SELECT_ALL: &str = "\u{e009}a\u{e000}";

/// What deletes a selection.
pub(super) const BACKSPACE: &str = "\u{e003}";

/// The code point of a key: a name, or one character that stands for itself.
pub fn code(key: &str) -> Option<char> {
    if let Some((_, code)) = KEYS.iter().find(|(name, _)| *name == key) {
        return Some(*code);
    }
    let mut characters = key.chars();
    characters.next().filter(|_| characters.next().is_none())
}

/// A chord as W3C actions: all keys down in order, then up in reverse.
pub(super) fn chord(keys: &[String]) -> Result<Json, Failure> {
    let codes = keys
        .iter()
        .map(|key| code(key).ok_or_else(|| Failure::new(Reason::Configuration, format!("`{key}` is not a key"))))
        .collect::<Result<Vec<_>, _>>()?;
    let down = codes.iter().map(|code| json!({"type": "keyDown", "value": code}));
    let up = codes.iter().rev().map(|code| json!({"type": "keyUp", "value": code}));
    Ok(json!({"actions": [{"type": "key", "id": "keyboard", "actions": down.chain(up).collect::<Vec<_>>()}]}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_single_characters_are_keys() {
        for (key, expected) in [
            ("Enter", Some('\u{e007}')),
            ("a", Some('a')),
            ("é", Some('é')),
            ("+", Some('+')),
            ("Return", None),
            ("", None),
        ] {
            assert_eq!(code(key), expected, "{key}");
        }
    }

    #[test]
    fn a_chord_is_released_in_reverse() {
        let chord = chord(&["Shift".into(), "Tab".into()]).unwrap();
        let order: Vec<_> = chord["actions"][0]["actions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|action| (action["type"].as_str().unwrap(), action["value"].as_str().unwrap()))
            .collect();
        assert_eq!(
            order,
            [("keyDown", "\u{e008}"), ("keyDown", "\u{e004}"), ("keyUp", "\u{e004}"), ("keyUp", "\u{e008}")]
        );
    }
}
