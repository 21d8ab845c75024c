//! Reader of the name of a time zone.

use super::reader::{Reader, cut};
use super::tree::Node;
use crate::diagnostic::{Diagnostic, nearest};

/// Reads the name of a time zone.
pub fn timezone(r: &mut Reader, node: &Node) -> Option<chrono_tz::Tz> {
    let text = r.text(node, "`timezone`")?;
    if let Ok(zone) = text.parse() {
        return Some(zone);
    }
    let found = Diagnostic::error(&r.source, node.span, format!("unknown time zone `{}`", cut(&text)));
    let lower = text.to_lowercase();
    let zones = || chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name());
    let near = zones().find(|zone| zone.to_lowercase() == lower).or_else(|| nearest(&text, zones()));
    r.report(match near {
        Some(near) => found.label(format!("did you mean `{near}`?")),
        None => found.label("write it like Europe/Warsaw"),
    });
    None
}
