//! `http` check: one request. Its keys are in `keys.rs`, together with those of a request step.

use crate::scenario::http;
use crate::scenario::key::METHODS;
use crate::scenario::model::Action;
use crate::scenario::reader::{Fields, Reader};
use crate::scenario::tree::Node;

/// Reads the check.
pub fn read(r: &mut Reader, target: &Node, fields: &Fields<'_>) -> Option<Action> {
    let method = match fields.get("method") {
        Some(node) => r.word(node, "method", METHODS),
        None => Some("GET"),
    };
    let request = http::request(r, method.unwrap_or("GET"), target, fields, None);
    let mut short = Some(Vec::new());
    for entry in fields.iter().filter(|e| matches!(e.key.as_str(), "status" | "contains" | "faster_than")) {
        let twice = fields.get("expect").and_then(|expect| expect.get(&entry.key)).is_some();
        if twice {
            let message = format!("`{}` is given here and under `expect`", entry.key);
            r.fail_with(entry.key_span, message, "keep one of them");
        }
        short = match (short, http::facts(r, entry)) {
            (Some(mut all), Some(facts)) => {
                all.extend(facts);
                Some(all)
            }
            _ => None,
        };
    }
    method?;
    let mut request = request?;
    request.expect.splice(0..0, short?);
    Some(Action::Request(Box::new(request)))
}
