//! `--report json=FILE`: the outcomes as JSON.

use serde_json::json;

use crate::outcome::Outcome;

/// Formats all outcomes as one JSON object.
pub fn render(outcomes: &[Outcome]) -> String {
    let mut text =
        serde_json::to_string_pretty(&json!({ "version": 1, "outcomes": outcomes })).expect("outcomes become JSON");
    text.push('\n');
    text
}
