//! Parser from YAML text to a tree with the span of every node.
//!
//! It is built from the events of the parser, so that the style and the exact text of each scalar are preserved: `007`,
//! `1_000` and `"1"` stay unchanged. Duplicate keys stay in the tree and are reported by the reader. Size, depth and
//! aliases are limited. Merge keys, tags (except `!!binary` in formats that have it) and multiple documents per file
//! are deliberately not supported.

// A file has at most one such error, so its size does not matter.
#![allow(clippy::result_large_err)]

use std::collections::HashMap;
use std::sync::Arc;

use serde_saphyr::granit_parser::{
    Event, Options, Parser, ScalarStyle, ScanError, Span as ParserSpan, StructureStyle, Tag,
};

use super::trap;
use crate::diagnostic::{Diagnostic, Source, Span, credentials};

/// Maximum size of a file, in bytes.
pub const MAX_BYTES: usize = 1 << 20;
/// Maximum number of nodes of a file, where an alias counts as much as the node that it refers to.
pub const MAX_NODES: usize = 100_000;
/// Maximum nesting depth of maps and lists.
pub const MAX_DEPTH: usize = 64;

/// Value with its span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Content of the node.
    pub kind: NodeKind,
    /// Span of the node.
    pub span: Span,
}

/// Content of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeKind {
    /// A single value.
    Scalar(Scalar),
    /// `- a` or `[a]`.
    List(Vec<Node>),
    /// `a: b` or `{a: b}`, including duplicate keys.
    Map(Vec<Entry>),
}

/// Key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Text of the key.
    pub key: String,
    /// Span of the key.
    pub key_span: Span,
    /// Value; an empty plain scalar if the file has no value.
    pub value: Node,
    /// Whether the map is written in braces.
    pub in_braces: bool,
}

impl Entry {
    /// Returns the span from the key to the end of the value.
    pub fn span(&self) -> Span {
        Span { end: self.value.span.end.max(self.key_span.end), ..self.key_span }
    }
}

/// Scalar as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scalar {
    /// Text without quotes and with resolved escapes.
    pub text: String,
    /// Whether the scalar is neither quoted nor a block scalar; only then can it be anything except text.
    pub plain: bool,
    /// Whether the scalar has the tag `!!binary`, in which case its text is base64.
    pub binary: bool,
}

/// Type of a scalar according to the core schema of YAML 1.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolved {
    /// An empty value, `~` or `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number,
    /// Any other value, and everything in quotes.
    Text,
}

impl Scalar {
    /// Returns the type of the scalar. Only `true` and `false` are booleans; `007` is text because it is not a JSON
    /// number.
    pub fn resolve(&self) -> Resolved {
        match self.text.as_str() {
            _ if !self.plain => Resolved::Text,
            "" | "~" | "null" => Resolved::Null,
            "true" => Resolved::Bool(true),
            "false" => Resolved::Bool(false),
            text if self.starts_like_a_number() && serde_json::from_str::<serde_json::Number>(text).is_ok() => {
                Resolved::Number
            }
            _ => Resolved::Text,
        }
    }

    fn starts_like_a_number(&self) -> bool {
        self.text.starts_with(|c: char| c.is_ascii_digit() || c == '-')
    }

    /// Returns the number if the scalar is one.
    pub fn number(&self) -> Option<serde_json::Number> {
        (self.resolve() == Resolved::Number).then(|| serde_json::from_str(&self.text).ok()).flatten()
    }
}

impl Node {
    /// Returns the scalar if the node is one.
    pub fn scalar(&self) -> Option<&Scalar> {
        match &self.kind {
            NodeKind::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }

    /// Returns the entries if the node is a map.
    pub fn entries(&self) -> Option<&[Entry]> {
        match &self.kind {
            NodeKind::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// Returns the value of a key if the node is a map that contains it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries()?.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// Returns whether the value is empty or null.
    pub fn is_null(&self) -> bool {
        self.scalar().is_some_and(|scalar| scalar.resolve() == Resolved::Null)
    }

    /// Describes the type of the node in words.
    pub fn describe(&self) -> &'static str {
        match &self.kind {
            NodeKind::List(_) => "a list",
            NodeKind::Map(_) => "a map",
            NodeKind::Scalar(scalar) => match scalar.resolve() {
                Resolved::Null => "nothing",
                Resolved::Bool(_) => "a boolean",
                Resolved::Number => "a number",
                Resolved::Text => "text",
            },
        }
    }
}

/// Parses a file. An error in its YAML is a single diagnostic, after which the rest of the file is not read.
pub fn parse(source: &Arc<Source>) -> Result<Node, Diagnostic> {
    parse_tagged(source, false)
}

/// Parses a file like [`parse`], for a format in which values may have the tag `!!binary`.
pub fn parse_with_binary(source: &Arc<Source>) -> Result<Node, Diagnostic> {
    parse_tagged(source, true)
}

fn parse_tagged(source: &Arc<Source>, binary: bool) -> Result<Node, Diagnostic> {
    let text = source.text.as_str();
    if text.len() > MAX_BYTES {
        let message = format!("the file is larger than {} KiB", MAX_BYTES >> 10);
        return Err(Diagnostic::error(source, Span::default(), message));
    }
    let mut options = Options::default();
    options.set_emit_comments(false);
    let parser = Parser::new_from_str_with_options(text, options);
    let root = Builder { source, parser, anchors: HashMap::new(), nodes: 0, binary }.document()?;
    note_credentials(source, &root, false);
    Ok(root)
}

/// Marks the passwords and tokens contained in a file, so that they are masked everywhere.
fn note_credentials(source: &Source, node: &Node, is_credential: bool) {
    match &node.kind {
        NodeKind::Scalar(scalar) => {
            let is_value = matches!(scalar.resolve(), Resolved::Text | Resolved::Number);
            if is_credential && is_value && !credentials::is_reference(&scalar.text) {
                // An authentication scheme before the token, as in `Bearer …`, is not part of it.
                let text = scalar.text.trim();
                source.credentials.add(text.split_once(' ').map_or(text, |(_, rest)| rest));
                source.credentials.add(text);
            }
            for part in credentials::in_url(&scalar.text) {
                source.credentials.add(&part);
            }
        }
        NodeKind::List(items) => items.iter().for_each(|item| note_credentials(source, item, is_credential)),
        NodeKind::Map(entries) => {
            // `{env: NAME}` and `{file: PATH}` only refer to the value.
            let is_place = |entry: &Entry| matches!(entry.key.as_str(), "env" | "file");
            let names_a_place = entries.len() == 1 && entries.iter().all(is_place);
            for entry in entries {
                // The value is the name of a secret, not the secret itself.
                if entry.key != "totp" {
                    // A map has its own keys, which are examined separately.
                    let is_credential =
                        !names_a_place && credentials::is_name(&entry.key) && entry.value.entries().is_none();
                    note_credentials(source, &entry.value, is_credential);
                }
            }
        }
    }
}

struct Builder<'a, P> {
    source: &'a Arc<Source>,
    parser: P,
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
    binary: bool,
}

type Parsed<'a> = Result<(Event<'a>, ParserSpan), ScanError>;

impl<'a, P: Iterator<Item = Parsed<'a>>> Builder<'a, P> {
    fn document(mut self) -> Result<Node, Diagnostic> {
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamStart | Event::DocumentStart(..) => {}
                Event::StreamEnd => return Err(self.error(Span::default(), "the file is empty")),
                _ => {
                    let node = self.node(event, span, 0)?;
                    return match self.next()? {
                        (Event::DocumentEnd, _) => self.end(node),
                        (_, span) => Err(self.error(place(&span), "unexpected content after the end")),
                    };
                }
            }
        }
    }

    fn end(&mut self, node: Node) -> Result<Node, Diagnostic> {
        match self.next()? {
            (Event::StreamEnd, _) => Ok(node),
            (_, span) => {
                Err(self.error(place(&span), "a second document in one file").label("put it into a separate file"))
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'a>, ParserSpan), Diagnostic> {
        match self.parser.next() {
            Some(Ok(found)) => Ok(found),
            Some(Err(error)) => {
                let mark = error.marker();
                let start = byte(mark.byte_offset());
                let span =
                    Span { line: byte(Some(mark.line())), column: byte(Some(mark.col() + 1)), start, end: start };
                Err(trap::behind(self.source, span)
                    .unwrap_or_else(|| self.error(span, format!("this is not YAML: {}", error.info().to_lowercase()))))
            }
            None => Err(self.error(Span::default(), "the file ends too early")),
        }
    }

    fn error(&self, span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(self.source, span, message)
    }

    fn node(&mut self, event: Event<'a>, span: ParserSpan, depth: usize) -> Result<Node, Diagnostic> {
        let mut at = place(&span);
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(self.error(at, format!("more than {MAX_NODES} values in one file")));
        }
        if depth > MAX_DEPTH {
            return Err(self.error(at, format!("nested more than {MAX_DEPTH} deep")));
        }
        let before = self.nodes;
        let (kind, anchor, tag) = match event {
            Event::Scalar(text, _, anchor, Some(tag)) if self.binary && is_binary(&tag) => {
                let text: String = text.split_whitespace().collect();
                (NodeKind::Scalar(Scalar { text, plain: false, binary: true }), anchor, None)
            }
            Event::Scalar(text, style, anchor, tag) => {
                // The parser represents an empty value as `~`.
                let text = if at.start == at.end { String::new() } else { text.into_owned() };
                let scalar = Scalar { text, plain: style == ScalarStyle::Plain, binary: false };
                (NodeKind::Scalar(scalar), anchor, tag)
            }
            Event::SequenceStart(_, anchor, tag) => {
                let mut items = Vec::new();
                loop {
                    let (event, span) = self.next()?;
                    if event == Event::SequenceEnd {
                        at.end = at.end.max(place(&span).end);
                        break;
                    }
                    items.push(self.node(event, span, depth + 1)?);
                }
                self.shrink(&mut at, items.last().map(|item| item.span.end));
                (NodeKind::List(items), anchor, tag)
            }
            Event::MappingStart(style, anchor, tag) => {
                let mut entries = Vec::new();
                loop {
                    let (event, span) = self.next()?;
                    if event == Event::MappingEnd {
                        at.end = at.end.max(place(&span).end);
                        break;
                    }
                    entries.push(self.entry(event, span, style == StructureStyle::Flow, depth)?);
                }
                self.shrink(&mut at, entries.last().map(|entry| entry.span().end));
                (NodeKind::Map(entries), anchor, tag)
            }
            Event::Alias(anchor) => {
                let Some((node, size)) = self.anchors.get(&anchor) else {
                    return Err(self.error(at, "an alias within its own anchor"));
                };
                self.nodes += size;
                if self.nodes > MAX_NODES {
                    return Err(self.error(at, format!("aliases make more than {MAX_NODES} values of this file")));
                }
                return Ok(Node { kind: node.kind.clone(), span: at });
            }
            _ => return Err(self.error(at, "not allowed here")),
        };
        if tag.is_some() {
            return Err(self.error(at, "a tag (`!…`) has no meaning here").label("remove it, or quote the text"));
        }
        let node = Node { kind, span: at };
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), self.nodes - before + 1));
        }
        Ok(node)
    }

    fn entry(
        &mut self,
        event: Event<'a>,
        span: ParserSpan,
        in_braces: bool,
        depth: usize,
    ) -> Result<Entry, Diagnostic> {
        let key = self.node(event, span, depth + 1)?;
        let Some(Scalar { text, plain, .. }) = key.scalar() else {
            return Err(trap::behind(self.source, key.span)
                .unwrap_or_else(|| self.error(key.span, format!("a key must be text, not {}", key.describe()))));
        };
        if *plain && text == "<<" {
            return Err(self.error(key.span, "merge keys are not supported").label("write the keys out"));
        }
        let (event, span) = self.next()?;
        let value = self.node(event, span, depth + 1)?;
        Ok(Entry { key: text.clone(), key_span: key.span, value, in_braces })
    }

    /// Limits the span of a block to the end of its last value, instead of the beginning of the next line.
    fn shrink(&self, at: &mut Span, last: Option<u32>) {
        let Some(last) = last else { return };
        let text = self.source.text.get(at.start as usize..at.end as usize).unwrap_or("");
        if !text.starts_with(['{', '[']) {
            at.end = last;
        }
    }
}

/// Returns whether a tag is `!!binary`.
fn is_binary(tag: &Tag) -> bool {
    tag.suffix_in_namespace("tag:yaml.org,2002:").is_some_and(|name| name == "binary")
}

fn byte(n: Option<usize>) -> u32 {
    u32::try_from(n.unwrap_or(0)).unwrap_or(u32::MAX)
}

fn place(span: &ParserSpan) -> Span {
    Span {
        line: byte(Some(span.start.line())),
        column: byte(Some(span.start.col() + 1)),
        start: byte(span.start.byte_offset()),
        end: byte(span.end.byte_offset()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> Result<Node, Diagnostic> {
        parse(&Source::new("a.yaml", text))
    }

    #[test]
    fn scalars_keep_their_text() {
        let node = tree("a: 007\nb: 1_000\nc: \"1\"\nd: 1\ne: yes\nf: 1.50\ng:\n").unwrap();
        let seen: Vec<_> = node
            .entries()
            .unwrap()
            .iter()
            .map(|entry| (entry.value.scalar().unwrap().text.as_str(), entry.value.scalar().unwrap().resolve()))
            .collect();
        assert_eq!(
            seen,
            [
                ("007", Resolved::Text),
                ("1_000", Resolved::Text),
                ("1", Resolved::Text),
                ("1", Resolved::Number),
                ("yes", Resolved::Text),
                ("1.50", Resolved::Number),
                ("", Resolved::Null),
            ]
        );
    }

    #[test]
    fn spans_cover_what_was_written() {
        let source = Source::new("a.yaml", "ä: {b: \"ü x\"}\nlist:\n  - one\n  - two\n\nend: 1\n");
        let node = parse(&source).unwrap();
        let slices: Vec<_> = node.entries().unwrap().iter().map(|e| source.slice(e.span())).collect();
        assert_eq!(slices, ["ä: {b: \"ü x\"}", "list:\n  - one\n  - two", "end: 1"]);
        let inner = &node.get("ä").unwrap().entries().unwrap()[0];
        assert_eq!((inner.value.span.line, inner.value.span.column), (1, 8));
        assert_eq!(source.slice(inner.value.span), "\"ü x\"");
    }

    #[test]
    fn bombs_do_not_go_off() {
        let mut bomb = String::from("a: &a [x, x, x, x, x, x, x, x, x]\n");
        for (one, two) in ('b'..='j').zip('a'..='i') {
            let alias = format!("*{two}, ").repeat(8);
            bomb.extend([&format!("{one}: &{one} [{alias}]"), "\n"]);
        }
        assert!(tree(&bomb).unwrap_err().message.contains("aliases"));
        assert!(tree(&"[".repeat(100_000)).is_err());
        assert!(tree(&"- ".repeat(10_000)).is_err());
        assert!(tree("a: &a [*a]").is_err());
        assert!(tree("a: 1\n---\nb: 2\n").unwrap_err().message.contains("second document"));
        assert!(tree("<<: {a: 1}").unwrap_err().message.contains("merge"));
        assert!(tree("").unwrap_err().message.contains("empty"));
    }
}
