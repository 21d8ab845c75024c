//! `exec` check: a command on the agent's machine and the JUnit report that it writes.

use std::time::Duration;

use super::parts;
use crate::diagnostic::Spanned;
use crate::scenario::key::{ActionSpec, FASTER_THAN, Shape, key};
use crate::scenario::reader::{Fields, Reader};
use crate::scenario::template::Template;
use crate::scenario::tree::Node;

/// Keys of the check.
pub const KIND: ActionSpec = ActionSpec {
    key: key(
        "exec",
        Shape::List(&Shape::Text),
        "program listed in `allow.exec` of the agent configuration, and its arguments",
    ),
    sibling_keys: &[
        key("junit", Shape::Text, "JUnit report that it writes, relative to this file; its test cases become steps"),
        FASTER_THAN,
    ],
};

/// Command check.
#[derive(Debug, Clone, PartialEq)]
pub struct ExecCheck {
    /// Program, as listed in `allow.exec`.
    pub program: Spanned<String>,
    /// Arguments of the program.
    pub arguments: Vec<Spanned<Template>>,
    /// JUnit report written by the program, relative to the scenario file.
    pub junit: Option<Spanned<String>>,
    /// Maximum time from start to exit.
    pub faster_than: Option<Spanned<Duration>>,
}

/// Reads the check.
pub fn read(r: &mut Reader, target: &Node, fields: &Fields<'_>) -> Option<ExecCheck> {
    let items = r.list(target, "`exec`")?;
    let Some((first, rest)) = items.split_first() else {
        r.fail_with(target.span, "`exec` is empty", "write it like [pytest, -q, e2e/]");
        return None;
    };
    let program = r.text(first, "the program").filter(|program| {
        let fits = !program.is_empty() && !program.contains("${");
        if !fits {
            r.fail_with(
                first.span,
                "the program must be written out",
                "list it under `allow.exec` in the agent configuration",
            );
        }
        fits
    });
    let arguments: Vec<_> = rest.iter().map(|item| r.template(item, "an argument")).collect();
    let junit = parts::given(fields, "junit", |node| {
        let path = r.text(node, "`junit`")?;
        let sibling_keys = !path.is_empty() && !path.starts_with('/') && !path.split('/').any(|part| part == "..");
        if sibling_keys && !path.contains("${") {
            return Some(path);
        }
        r.fail_with(node.span, "`junit` must be a file beside this one", "write it like report.xml");
        None
    });
    let faster_than = parts::limit(r, fields, "faster_than");
    Some(ExecCheck {
        program: program?,
        arguments: arguments.into_iter().collect::<Option<_>>()?,
        junit: junit?,
        faster_than: faster_than?,
    })
}
