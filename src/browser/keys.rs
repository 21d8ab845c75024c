//! Names of keys and their code points in W3C WebDriver (section 17.4.2, "Keyboard actions").

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

/// Moves to the end of a line.
pub(super) const END: &str = "\u{e010}";

/// Moves to the end of a text of several lines.
pub(super) const TO_THE_END: &str = "\u{e009}\u{e010}\u{e000}";

/// Selects all content of a field: press Control, a, release Control.
pub(super) const SELECT_ALL: &str = "\u{e009}a\u{e000}";

/// Deletes a selection.
pub(super) const BACKSPACE: &str = "\u{e003}";

/// Returns the code point of a key: a name, or a single character that stands for itself.
pub fn code(key: &str) -> Option<char> {
    if let Some((_, code)) = KEYS.iter().find(|(name, _)| *name == key) {
        return Some(*code);
    }
    let mut characters = key.chars();
    characters.next().filter(|_| characters.next().is_none())
}

/// Encodes a chord as W3C actions: all keys down in order, then up in reverse. In a chord, a letter means the key:
/// `Control+A` does not include Shift.
pub(super) fn chord(keys: &[String]) -> Result<Json, Failure> {
    let codes = keys
        .iter()
        .map(|key| code(key).ok_or_else(|| Failure::new(Reason::Configuration, format!("`{key}` is not a key"))))
        .collect::<Result<Vec<_>, _>>()?;
    let letter =
        |code: char| if codes.len() > 1 && code.is_ascii_uppercase() { code.to_ascii_lowercase() } else { code };
    let codes: Vec<char> = codes.iter().map(|code| letter(*code)).collect();
    let down = codes.iter().map(|code| json!({"type": "keyDown", "value": code}));
    let up = codes.iter().rev().map(|code| json!({"type": "keyUp", "value": code}));
    Ok(keyboard(&down.chain(up).collect::<Vec<_>>()))
}

fn keyboard(actions: &[Json]) -> Json {
    json!({"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})
}

const SHIFT: char = '\u{e008}';
const ENTER: char = '\u{e007}';

/// Characters that need Shift on a US keyboard, which most scripts of pages assume.
const SHIFTED: &str = "~!@#$%^&*()_+{}|:\"<>?";

/// Encodes a text as W3C actions, key by key, in the same way as manual typing. Modifier keys ([`SELECT_ALL`]) are held
/// until they are released. Each code point is a separate key, because browsers do not accept longer texts for one.
pub(super) fn typed(text: &str) -> Json {
    let mut actions = Vec::new();
    let mut held: Vec<char> = Vec::new();
    let down = |key: char| json!({"type": "keyDown", "value": key});
    let up = |key: char| json!({"type": "keyUp", "value": key});
    for key in text.chars() {
        match key {
            '\u{e000}' => actions.extend(held.drain(..).rev().map(up)),
            '\u{e008}'..='\u{e00a}' | '\u{e03d}' => {
                held.push(key);
                actions.push(down(key));
            }
            '\n' | '\r' => actions.extend([down(ENTER), up(ENTER)]),
            _ if key.is_ascii_uppercase() || SHIFTED.contains(key) => {
                actions.extend([down(SHIFT), down(key), up(key), up(SHIFT)]);
            }
            _ => actions.extend([down(key), up(key)]),
        }
    }
    actions.extend(held.drain(..).rev().map(up));
    keyboard(&actions)
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

    /// Formats key actions: `v` before a key that goes down, `^` before one that goes up.
    fn told(actions: &Json) -> String {
        let all = actions["actions"][0]["actions"].as_array().unwrap();
        let one = |action: &Json| {
            let (way, key) = (action["type"].as_str().unwrap(), action["value"].as_str().unwrap());
            let name = KEYS.iter().find(|(_, code)| key.chars().eq([*code])).map_or(key, |(name, _)| name);
            format!("{}{name}", if way == "keyDown" { "v" } else { "^" })
        };
        all.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_chord_is_released_in_reverse_and_sends_no_shift_of_its_own() {
        for (keys, expected) in [
            (&["Shift", "Tab"][..], "vShift vTab ^Tab ^Shift"),
            (&["Control", "A"], "vControl va ^a ^Control"),
            (&["A"], "vA ^A"),
            (&["Control", "Shift", "K"], "vControl vShift vk ^k ^Shift ^Control"),
        ] {
            let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
            assert_eq!(told(&chord(&keys).unwrap()), expected);
        }
    }

    #[test]
    fn a_text_is_typed_as_hands_do() {
        for (text, expected) in [
            ("aB", "va ^a vShift vB ^B ^Shift"),
            ("!\n", "vShift v! ^! ^Shift vEnter ^Enter"),
            ("ę\u{301}👩", "vę ^ę v\u{301} ^\u{301} v👩 ^👩"),
            ("\u{e009}a\u{e000}x", "vControl va ^a ^Control vx ^x"),
            ("\u{e009}a", "vControl va ^a ^Control"),
        ] {
            assert_eq!(told(&typed(text)), expected, "{text:?}");
        }
    }
}
