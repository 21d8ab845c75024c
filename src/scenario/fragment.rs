//! `use`: includes the steps of another file, with its parameters replaced.
//!
//! A fragment has `steps:` and optionally `parameters:`. Every `${name}` of a parameter is replaced in the tree before
//! the steps are read, as if the value from `with` had been written in its place. Problems of the fragment are reported
//! with its own lines. The numbers of files, values and bytes are limited, because a fragment can include others many
//! times.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::keys::FRAGMENT;
use super::model::Step;
use super::reader::{Fields, Reader, cut};
use super::scope::{Scope, UsedFile};
use super::template::Template;
use super::tree::{self, Entry, MAX_BYTES, MAX_DEPTH, MAX_NODES, Node, NodeKind, Scalar};
use crate::diagnostic::{Diagnostic, Source, Span, nearest};

/// Maximum number of files that one scenario may include, counted per use.
const MAX_USES: usize = 256;
/// Maximum depth of nested fragments.
const MAX_NESTED: usize = 16;

/// Returns whether a file is a fragment: it has steps but no key that only a scenario has.
pub fn is_one(root: &Node) -> bool {
    let known = |entry: &Entry| FRAGMENT.iter().any(|key| key.name == entry.key);
    root.get("steps").is_some() && root.entries().is_some_and(|entries| entries.iter().all(known))
}

/// Reader of a list of steps, which includes fragments itself. The text is the prefix of their numbers.
type ReadSteps = fn(&mut Reader, &Node, &mut Scope<'_>, &str) -> Vec<Step>;

/// Reads the steps that a `use` includes. `number` is the number of its step, `read_steps` reads the steps of the file.
pub fn used(
    r: &mut Reader,
    action: &Entry,
    fields: &Fields<'_>,
    scope: &mut Scope<'_>,
    number: &str,
    read_steps: ReadSteps,
) -> Option<Vec<Step>> {
    let arguments = arguments(r, fields.get("with"));
    let (file, root) = open(r, &action.value, scope)?;
    let outer = std::mem::replace(&mut r.source, Arc::clone(&file.source));
    let head = head(r, &root);
    r.source = outer;
    let (parameters, steps) = head?;
    let fits = fits(r, action, &file, &parameters, &arguments.given);

    let names: BTreeSet<String> = parameters.iter().map(|(name, _)| name.clone()).collect();
    let before = r.mark();
    let outer = std::mem::replace(&mut r.source, Arc::clone(&file.source));
    let outer_parameters = std::mem::replace(&mut r.names.parameters, names);
    let mut filler = Filler::new(&arguments.given);
    let filled = filler.steps(r, steps, 0);
    for (name, span) in &parameters {
        if !filler.used.contains(name.as_str()) {
            r.report(Diagnostic::warning(&r.source, *span, format!("parameter `{}` is never used", cut(name))));
        }
    }
    scope.files.push(file);
    let steps = if filler.refused { None } else { Some(read_steps(r, &filled, scope, &format!("{number}."))) };
    scope.files.pop();
    r.source = outer;
    r.names.parameters = outer_parameters;
    if !(arguments.good && fits) {
        // Problems of the file may be consequences of those reported for its parameters.
        r.forget_since(before);
        return None;
    }
    steps
}

/// Arguments given by `with`.
struct Arguments<'a> {
    given: BTreeMap<&'a str, &'a Entry>,
    /// Whether all arguments are valid.
    good: bool,
}

fn arguments<'a>(r: &mut Reader, node: Option<&'a Node>) -> Arguments<'a> {
    let mut arguments = Arguments { given: BTreeMap::new(), good: true };
    let Some(node) = node else { return arguments };
    let before = r.errors();
    for entry in r.entries(node, "`with`").unwrap_or_default() {
        templates(r, &entry.value);
        arguments.given.insert(&entry.key, entry);
    }
    arguments.good = r.errors() == before;
    arguments
}

/// Checks the references in the arguments at the place where they are written.
fn templates(r: &mut Reader, node: &Node) {
    match &node.kind {
        NodeKind::Scalar(scalar) => {
            r.template_of(node, &scalar.text);
        }
        NodeKind::List(items) => items.iter().for_each(|item| templates(r, item)),
        NodeKind::Map(entries) => entries.iter().for_each(|entry| templates(r, &entry.value)),
    }
}

/// Opens and parses the file. Paths are relative to the file that contains the `use`.
fn open(r: &mut Reader, node: &Node, scope: &mut Scope<'_>) -> Option<(UsedFile, Node)> {
    let text = r.text(node, "`use`")?;
    if Template::parse(&text).is_ok_and(|template| template.as_literal().is_none()) {
        r.fail(node.span, "`${…}` in the name of a fragment is not supported");
        return None;
    }
    let folder = scope.files.last().and_then(|file| file.path.parent()).unwrap_or(Path::new(""));
    let path = normal(&folder.join(&text.value));
    if let Some(at) = scope.files.iter().position(|file| file.path == path) {
        let shown = |path: &Path| path.display().to_string();
        let way: Vec<_> = scope.files[at..].iter().map(|file| shown(&file.path)).chain([shown(&path)]).collect();
        r.fail_with(node.span, format!("`{}` uses itself", cut(&text)), way.join(" → "));
        return None;
    }
    // Reported once, because everything that follows would only repeat it.
    if scope.uses > MAX_USES {
        return None;
    }
    scope.uses += 1;
    if scope.uses > MAX_USES {
        r.fail(node.span, format!("more than {MAX_USES} files are used by one scenario"));
        return None;
    }
    if scope.files.len() >= MAX_NESTED {
        r.fail(node.span, format!("fragments are nested more than {MAX_NESTED} levels deep"));
        scope.uses = MAX_USES + 1;
        return None;
    }
    // Read permission depends on the location of the scenario file, regardless of the depth of the fragment.
    let of = &scope.scenario.path;
    let bytes = match scope.lookup.file(&path, of) {
        Ok(bytes) => bytes,
        Err(error) => {
            r.fail(node.span, error.to_string());
            return None;
        }
    };
    let Ok(content) = String::from_utf8(bytes) else {
        r.fail(node.span, format!("the file `{}` is not UTF-8 text", cut(&text)));
        return None;
    };
    let beside = Path::new(of).parent().unwrap_or(Path::new("")).join(&path);
    let source = Source::new(normal(&beside).display().to_string(), content);
    let root = match tree::parse(&source) {
        Ok(root) => root,
        Err(found) => {
            r.report(found);
            return None;
        }
    };
    if let Some(kind) = ["scenario", "checks"].into_iter().find(|key| root.get(key).is_some()) {
        let what = if kind == "scenario" { "a scenario of its own" } else { "a table of checks" };
        let label = "a fragment has `steps:` and optionally `parameters:`";
        r.fail_with(node.span, format!("`{}` is {what}", cut(&text)), label);
        return None;
    }
    Some((UsedFile { path, source }, root))
}

/// Normalizes a path: removes `.` and resolves `..` except at the beginning.
fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if matches!(out.components().next_back(), Some(Component::Normal(_))) => {
                out.pop();
            }
            part => out.push(part),
        }
    }
    out
}

type Head<'a> = (Vec<(String, Span)>, &'a Node);

/// Reads the parameters and the steps of the file.
fn head<'a>(r: &mut Reader, root: &'a Node) -> Option<Head<'a>> {
    let fields = r.fields(root, "a fragment", &[FRAGMENT])?;
    let mut parameters: Vec<(String, Span)> = Vec::new();
    if let Some(node) = fields.get("parameters") {
        for item in r.list(node, "`parameters`")? {
            let name = r.text(item, "a parameter")?;
            let plain = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
            if name.is_empty() || !name.chars().all(plain) {
                let message = format!("`{}` is not a name", cut(&name));
                r.fail_with(item.span, message, "allowed are letters, digits, _ and -");
            } else if parameters.iter().any(|(known, _)| *known == name.value) {
                r.fail(item.span, format!("duplicate parameter `{}`", cut(&name)));
            } else {
                parameters.push((name.value, item.span));
            }
        }
    }
    let Some(steps) = fields.get("steps") else {
        let start = Span { end: root.span.start + 1, ..root.span };
        r.fail(start, "a fragment needs `steps:`");
        return None;
    };
    Some((parameters, steps))
}

/// Checks whether the arguments match the parameters of the file.
fn fits(
    r: &mut Reader,
    action: &Entry,
    file: &UsedFile,
    parameters: &[(String, Span)],
    given: &BTreeMap<&str, &Entry>,
) -> bool {
    let name = cut(&file.path.display().to_string());
    let known = || parameters.iter().map(|(name, _)| name.as_str());
    let mut good = true;
    for (key, entry) in given {
        if known().any(|known| known == *key) {
            continue;
        }
        good = false;
        let message = format!("`{name}` has no parameter `{}`", cut(key));
        let found = Diagnostic::error(&r.source, entry.key_span, message);
        let found = match nearest(key, known()) {
            Some(near) => found.label(format!("did you mean `{near}`?")),
            None => found,
        };
        let list: Vec<_> = known().collect();
        let note = if list.is_empty() { "it has none".into() } else { format!("its parameters: {}", list.join(", ")) };
        r.report(found.note(note));
    }
    let missing: Vec<_> = known().filter(|name| !given.contains_key(name)).collect();
    if !missing.is_empty() {
        let with: Vec<_> = missing.iter().map(|name| format!("{name}: …")).collect();
        let names: Vec<_> = missing.iter().map(|name| format!("`{name}`")).collect();
        let message = format!("`{name}` needs {}", names.join(", "));
        r.fail_with(action.value.span, message, format!("write `with: {{{}}}` beside it", with.join(", ")));
        good = false;
    }
    good
}

/// Replaces parameters in a tree.
struct Filler<'a> {
    given: &'a BTreeMap<&'a str, &'a Entry>,
    /// Parameters that occur in the file.
    used: BTreeSet<String>,
    nodes: usize,
    bytes: usize,
    /// Whether an error was reported after which the tree must not be read.
    refused: bool,
}

impl<'a> Filler<'a> {
    fn new(given: &'a BTreeMap<&'a str, &'a Entry>) -> Self {
        Self { given, used: BTreeSet::new(), nodes: 0, bytes: 0, refused: false }
    }

    /// Replaces parameters in a list of steps, except in JavaScript, which has its own `${…}`.
    fn steps(&mut self, r: &mut Reader, node: &Node, depth: usize) -> Node {
        let NodeKind::List(items) = &node.kind else { return self.any(r, node, depth) };
        let items = items
            .iter()
            .map(|item| {
                self.map(r, item, depth + 1, |this, r, entry| match entry.key.as_str() {
                    "script" => entry.value.clone(),
                    "steps" => this.steps(r, &entry.value, depth + 2),
                    "save" => this.map(r, &entry.value, depth + 2, |this, r, saved| {
                        this.map(r, &saved.value, depth + 3, |this, r, source| {
                            if source.key == "script" {
                                source.value.clone()
                            } else {
                                this.any(r, &source.value, depth + 4)
                            }
                        })
                    }),
                    _ => this.any(r, &entry.value, depth + 2),
                })
            })
            .collect();
        Node { kind: NodeKind::List(items), span: node.span }
    }

    /// Replaces parameters in a map with the function `value`; any other node is processed as usual.
    fn map(
        &mut self,
        r: &mut Reader,
        node: &Node,
        depth: usize,
        mut value: impl FnMut(&mut Self, &mut Reader, &Entry) -> Node,
    ) -> Node {
        let NodeKind::Map(entries) = &node.kind else { return self.any(r, node, depth) };
        let entries = entries.iter().map(|entry| Entry { value: value(self, r, entry), ..entry.clone() }).collect();
        Node { kind: NodeKind::Map(entries), span: node.span }
    }

    fn any(&mut self, r: &mut Reader, node: &Node, depth: usize) -> Node {
        let kind = match &node.kind {
            NodeKind::Scalar(scalar) => return self.scalar(r, node, scalar, depth),
            NodeKind::List(items) => NodeKind::List(items.iter().map(|item| self.any(r, item, depth + 1)).collect()),
            NodeKind::Map(_) => return self.map(r, node, depth, |this, r, entry| this.any(r, &entry.value, depth + 1)),
        };
        Node { kind, span: node.span }
    }

    fn scalar(&mut self, r: &mut Reader, node: &Node, scalar: &Scalar, depth: usize) -> Node {
        let whole = scalar.text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')).map(str::trim);
        if let Some(name) = whole.filter(|name| r.names.parameters.contains(*name)) {
            self.used.insert(name.to_owned());
            // A missing argument has been reported already.
            return self
                .given
                .get(name)
                .map_or_else(|| node.clone(), |entry| self.place(r, &entry.value, node.span, depth));
        }
        let mut text = String::new();
        let mut at = 0;
        let raw = scalar.text.as_str();
        while let Some(start) = raw[at..].find("${").map(|offset| at + offset) {
            let Some(end) = raw[start..].find('}').map(|offset| start + offset + 1) else { break };
            let literal = start > at && raw[..start].ends_with('$');
            let name = raw[start + 2..end - 1].trim();
            let next = if literal { start + 2 } else { end };
            if literal || !r.names.parameters.contains(name) {
                text.push_str(&raw[at..next]);
            } else {
                text.push_str(&raw[at..start]);
                self.used.insert(name.to_owned());
                match self.given.get(name).map(|entry| &entry.value) {
                    Some(Node { kind: NodeKind::Scalar(given), .. }) => text.push_str(&given.text),
                    Some(other) => {
                        let what = other.describe();
                        let span = r.within(node, start..end);
                        let message = format!("`{}` is {what} and cannot be part of a text", cut(name));
                        r.fail_with(span, message, "write it alone");
                        text.push('…');
                    }
                    None => {}
                }
            }
            at = next;
        }
        if at == 0 {
            return node.clone();
        }
        text.push_str(&raw[at..]);
        self.bytes += text.len();
        self.bound(r, node.span, 0);
        Node { kind: NodeKind::Scalar(Scalar { text, plain: scalar.plain, binary: false }), span: node.span }
    }

    /// Returns a copy of an argument with the span of the place where it is inserted.
    fn place(&mut self, r: &mut Reader, node: &Node, span: Span, depth: usize) -> Node {
        self.nodes += 1;
        self.bound(r, span, depth);
        if self.refused {
            return Node { kind: NodeKind::List(Vec::new()), span };
        }
        let kind = match &node.kind {
            NodeKind::Scalar(scalar) => {
                self.bytes += scalar.text.len();
                NodeKind::Scalar(scalar.clone())
            }
            NodeKind::List(items) => {
                NodeKind::List(items.iter().map(|item| self.place(r, item, span, depth + 1)).collect())
            }
            NodeKind::Map(entries) => NodeKind::Map(
                entries
                    .iter()
                    .map(|entry| Entry {
                        key: entry.key.clone(),
                        key_span: span,
                        value: self.place(r, &entry.value, span, depth + 1),
                        in_braces: false,
                    })
                    .collect(),
            ),
        };
        Node { kind, span }
    }

    fn bound(&mut self, r: &mut Reader, span: Span, depth: usize) {
        if !self.refused && (self.nodes > MAX_NODES || self.bytes > MAX_BYTES || depth > MAX_DEPTH) {
            r.fail(span, "the parameters expand this file too much");
            self.refused = true;
        }
    }
}
