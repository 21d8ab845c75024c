//! Writer of plain data as YAML in block style. Pure.

use serde_json::Value;

/// Formats a document. Texts that could be read as another type are quoted.
pub fn write(value: &Value) -> String {
    let mut out = String::new();
    block(value, 0, &mut out);
    out
}

fn block(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                pad(indent, out);
                entry(key, value, indent, out);
            }
        }
        Value::Array(list) => {
            for value in list {
                pad(indent, out);
                out.push_str("- ");
                match value {
                    Value::Object(map) if !map.is_empty() => {
                        // The first key follows the dash, the others are on the lines below.
                        for (n, (key, value)) in map.iter().enumerate() {
                            if n > 0 {
                                pad(indent + 2, out);
                            }
                            entry(key, value, indent + 2, out);
                        }
                    }
                    other => line(other, out),
                }
            }
        }
        other => line(other, out),
    }
}

fn entry(key: &str, value: &Value, indent: usize, out: &mut String) {
    out.push_str(key);
    out.push(':');
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push('\n');
            block(value, indent + 2, out);
        }
        Value::Array(list) if !list.is_empty() => {
            out.push('\n');
            block(value, indent + 2, out);
        }
        other => {
            out.push(' ');
            line(other, out);
        }
    }
}

fn pad(indent: usize, out: &mut String) {
    out.extend(std::iter::repeat_n(' ', indent));
}

fn line(value: &Value, out: &mut String) {
    match value {
        Value::String(text) if is_plain(text) => out.push_str(text),
        // In single quotes, only the quote itself must be escaped.
        Value::String(text) => out.push_str(&format!("'{}'", text.replace('\'', "''"))),
        other => out.push_str(&other.to_string()),
    }
    out.push('\n');
}

/// Returns whether a text needs no quotes: a word that begins with a letter and is not a keyword.
fn is_plain(text: &str) -> bool {
    let is_word = text.chars().all(|c| c.is_ascii_alphabetic() || c == '_' || c == '.' || c == '/');
    let keywords = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
    is_word && text.starts_with(|c: char| c.is_ascii_alphabetic()) && !keywords.contains(&text.to_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn texts_stay_texts() {
        let value = json!({"a": [{"b": "0", "c": ["YES", "it's: {#X}"]}, {"b": "word"}], "d": {"e": "", "f": []}});
        let text = "a:\n  - b: '0'\n    c:\n      - 'YES'\n      - 'it''s: {#X}'\n  - b: word\nd:\n  e: ''\n  f: []\n";
        assert_eq!(super::write(&value), text);
        assert_eq!(serde_saphyr::from_str::<serde_json::Value>(text).unwrap(), value);
    }
}
