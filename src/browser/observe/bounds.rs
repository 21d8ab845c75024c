//! Bounds of values that a browser reports: the length of texts and the range of times.

use serde_json::Value as Json;

/// Truncates a text to a number of bytes. The cut is between words, because a part of a secret could not be masked.
pub(super) fn kept(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let head = &text[..text.floor_char_boundary(limit)];
    let whole = head.rfind(char::is_whitespace).map_or("", |at| &head[..at]);
    format!("{whole}…")
}

/// Returns a time in milliseconds since 1970 if it is in a plausible range, because a browser may send any value.
pub(super) fn time(millis: &Json) -> Option<f64> {
    millis.as_f64().filter(|millis| (1.0..=8e15).contains(millis))
}
