//! Matchers on quantities: `{less_than: 26h}` is compared in seconds, `{greater_than: 1GB}` in bytes.

use super::parts::Expected;
use crate::scenario::expect::{ValueType, matcher};
use crate::scenario::reader::{Fields, Reader};
use crate::scenario::tree::{Entry, Node, NodeKind, Resolved, Scalar};

/// Function that reads a quantity and returns its number as text.
type Read<'a> = dyn Fn(&mut Reader, &Node) -> Option<String> + 'a;

/// Reads a matcher on durations, which are compared in seconds.
#[allow(clippy::option_option)] // The outer `None` means that an error was reported.
pub fn durations(r: &mut Reader, fields: &Fields<'_>, key: &str) -> Option<Option<Expected>> {
    let what = format!("`{key}`");
    quantities(r, fields, key, &|r, node| r.duration(node, &what).map(|read| read.as_secs_f64().to_string()))
}

/// Reads a matcher on sizes, which are compared in bytes.
#[allow(clippy::option_option)]
pub fn sizes(r: &mut Reader, fields: &Fields<'_>, key: &str) -> Option<Option<Expected>> {
    let what = format!("`{key}`");
    quantities(r, fields, key, &|r, node| r.size(node, &what).map(|read| read.to_string()))
}

#[allow(clippy::option_option)]
fn quantities(r: &mut Reader, fields: &Fields<'_>, key: &str, read: &Read<'_>) -> Option<Option<Expected>> {
    let Some(entry) = fields.entry(key) else { return Some(None) };
    let node = plain(r, &entry.value, read)?;
    let matcher = matcher(r, &node, &format!("`{key}`"), ValueType::Number)?;
    Some(Some(Expected { matcher, span: entry.span() }))
}

/// Returns the node with plain numbers in place of quantities.
fn plain(r: &mut Reader, node: &Node, read: &Read<'_>) -> Option<Node> {
    let kind = match &node.kind {
        NodeKind::Scalar(scalar) if scalar.text.starts_with("${") || scalar.resolve() == Resolved::Null => {
            return Some(node.clone());
        }
        NodeKind::Scalar(_) => NodeKind::Scalar(Scalar { text: read(r, node)?, plain: true, binary: false }),
        NodeKind::List(items) => {
            let items: Vec<_> = items.iter().map(|item| plain(r, item, read)).collect();
            NodeKind::List(items.into_iter().collect::<Option<_>>()?)
        }
        NodeKind::Map(entries) => {
            let mut all = Vec::new();
            for entry in entries {
                // Keys without a quantity are left to the reader of the matcher.
                let quantity = matches!(
                    entry.key.as_str(),
                    "equals" | "less_than" | "greater_than" | "between" | "one_of" | "not"
                );
                let value = if quantity { plain(r, &entry.value, read) } else { Some(entry.value.clone()) };
                all.push(value.map(|value| Entry { value, ..entry.clone() }));
            }
            NodeKind::Map(all.into_iter().collect::<Option<_>>()?)
        }
    };
    Some(Node { kind, span: node.span })
}
