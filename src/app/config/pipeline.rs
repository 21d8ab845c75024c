//! The agent's file: what the pipeline makes of outcomes before anyone is told.

use std::time::Duration;

use crate::scenario::reader::{Fields, Reader};
use crate::scenario::tree::Node;

/// The longest that a group may gather: a notice that comes later helps nobody.
const LONGEST_WAIT: Duration = Duration::from_mins(15);

/// `group_by` and `group_wait` of a route.
pub(super) fn grouping(r: &mut Reader, fields: &Fields) -> (Vec<String>, Option<Duration>) {
    let by = fields.get("group_by").and_then(|node| super::texts(r, node, "`group_by`")).unwrap_or_default();
    let mut wait = None;
    let at_once = |node: &Node| node.scalar().is_some_and(|scalar| scalar.text == "0s");
    if fields.get("group_wait").is_some_and(at_once) {
        wait = Some(Duration::ZERO);
    } else if let Some(node) = fields.get("group_wait")
        && let Some(read) = r.duration(node, "`group_wait`")
    {
        if read > LONGEST_WAIT {
            r.fail_with(node.span, "`group_wait` must be at most 15m", "people wait for the notice");
        }
        wait = Some(read);
    }
    (by, wait)
}

#[cfg(test)]
mod tests {
    use crate::app::config::read;

    #[test]
    fn a_wait_is_bounded() {
        let check = |route: &str, expected: &[&str]| {
            let text = format!("location: a\nscenarios: []\nalerting:\n  routes:\n    - {{to: [log], {route}}}\n");
            let found = read("wachta.yaml", &text).1;
            let shown: Vec<_> = found.iter().map(|found| format!("{}: {}", found.place(), found.message)).collect();
            assert_eq!(shown, expected, "{route}");
        };
        check("group_wait: 0s", &[]);
        check("group_wait: 15m, group_by: []", &[]);
        check("group_wait: 16m", &["wachta.yaml:5:31: `group_wait` must be at most 15m"]);
        check("group_wait: 30", &["wachta.yaml:5:31: `group_wait`: `30` has no unit"]);
        check("group_by: team", &["wachta.yaml:5:29: `group_by` must be a list"]);
    }
}
