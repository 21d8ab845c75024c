//! Base of the typed readers of scenario files and of the agent configuration: walks a tree and collects every problem.
//!
//! A reader returns `None` after it has reported an error, and the rest of the file is read nevertheless.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::key::Key;
use super::template::{Reference, Template};
use super::tree::{Entry, Node, NodeKind, Resolved};
use super::units;
use crate::diagnostic::{Diagnostic, MAX_REPORTED, Severity, Source, Span, Spanned, nearest};

/// Names that `${…}` may reference at the present position.
#[derive(Debug, Default)]
pub struct Names {
    /// Names declared under `secrets`.
    pub secrets: BTreeSet<String>,
    /// Names declared under `totp`.
    pub totp: BTreeSet<String>,
    /// Names declared under `vars`.
    pub vars: BTreeSet<String>,
    /// Parameters of the fragment that is being read; they are replaced before it is read.
    pub parameters: BTreeSet<String>,
    /// Names saved by previous steps.
    pub saved: BTreeSet<String>,
    /// Names referenced so far, with their positions.
    pub used: Vec<Used>,
}

/// Reference to a name.
#[derive(Debug, Clone)]
pub struct Used {
    /// Name that is referenced.
    pub reference: Reference,
    /// File that contains the reference.
    pub source: Arc<Source>,
    /// Span in the file.
    pub span: Span,
}

/// Reader of one file.
pub struct Reader {
    /// File to read.
    pub source: Arc<Source>,
    /// Diagnostics so far, at most [`MAX_REPORTED`] errors and as many warnings.
    pub diagnostics: Vec<Diagnostic>,
    /// Number of errors and warnings that were left out.
    omitted: (usize, usize),
    /// Step or check that is being read.
    pub context: Option<String>,
    /// Names that `${…}` may reference.
    pub names: Names,
}

/// Position in the diagnostics of a reader.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    kept: usize,
    omitted: (usize, usize),
}

/// Known keys of a map.
pub struct Fields<'a> {
    entries: Vec<&'a Entry>,
    /// Span of the map.
    pub span: Span,
}

impl<'a> Fields<'a> {
    /// Creates the fields from entries that have been checked already.
    pub fn of(entries: Vec<&'a Entry>, span: Span) -> Self {
        Self { entries, span }
    }

    /// Returns the entry of a key.
    pub fn entry(&self, key: &str) -> Option<&'a Entry> {
        self.entries.iter().find(|entry| entry.key == key).copied()
    }

    /// Returns the value of a key.
    pub fn get(&self, key: &str) -> Option<&'a Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// Returns every entry in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &'a Entry> + '_ {
        self.entries.iter().copied()
    }
}

impl Reader {
    /// Creates a reader of a file.
    pub fn new(source: &Arc<Source>) -> Self {
        Self {
            source: Arc::clone(source),
            diagnostics: Vec::new(),
            omitted: (0, 0),
            context: None,
            names: Names::default(),
        }
    }

    /// Stores a diagnostic with the step that it belongs to. If there are too many, only the first ones are stored.
    pub fn report(&mut self, mut diagnostic: Diagnostic) {
        // Missing variables and files reject single scenarios, so all of them are stored.
        if diagnostic.severity != Severity::Missing && self.is_full(diagnostic.severity) {
            self.omit(diagnostic.severity);
            return;
        }
        if diagnostic.context.is_none() {
            diagnostic.context.clone_from(&self.context);
        }
        self.diagnostics.push(diagnostic);
    }

    fn is_full(&self, severity: Severity) -> bool {
        self.diagnostics.len() >= MAX_REPORTED
            && self.diagnostics.iter().filter(|found| found.severity == severity).count() >= MAX_REPORTED
    }

    fn omit(&mut self, severity: Severity) {
        let (errors, warnings) = &mut self.omitted;
        *(if severity == Severity::Warning { warnings } else { errors }) += 1;
    }

    /// Returns the present position in the diagnostics.
    pub fn mark(&self) -> Mark {
        Mark { kept: self.diagnostics.len(), omitted: self.omitted }
    }

    /// Removes the diagnostics reported since that position.
    pub fn forget_since(&mut self, mark: Mark) {
        self.diagnostics.truncate(mark.kept);
        self.omitted = mark.omitted;
    }

    /// Returns an additional diagnostic with the number of omitted ones, if there are any.
    pub fn omitted(&self) -> Option<Diagnostic> {
        let (errors, warnings) = self.omitted;
        let message = format!("{} more problems in this file are not shown", errors + warnings);
        match (errors, warnings) {
            (0, 0) => None,
            (0, _) => Some(Diagnostic::warning(&self.source, Span::default(), message)),
            _ => Some(Diagnostic::error(&self.source, Span::default(), message)),
        }
    }

    /// Reports an error.
    pub fn fail(&mut self, span: Span, message: impl Into<String>) {
        self.report(Diagnostic::error(&self.source, span, message));
    }

    /// Reports an error with a label next to the caret.
    pub fn fail_with(&mut self, span: Span, message: impl Into<String>, label: impl Into<String>) {
        self.report(Diagnostic::error(&self.source, span, message).label(label));
    }

    /// Reports a warning with a label next to the caret.
    pub fn warn(&mut self, span: Span, message: impl Into<String>, label: impl Into<String>) {
        self.report(Diagnostic::warning(&self.source, span, message).label(label));
    }

    /// Returns the number of errors so far.
    pub fn errors(&self) -> usize {
        self.diagnostics.iter().filter(|found| found.severity == Severity::Error).count() + self.omitted.0
    }

    /// Reads the entries of a map with arbitrary keys. Duplicates are reported.
    pub fn entries<'a>(&mut self, node: &'a Node, what: &str) -> Option<Vec<&'a Entry>> {
        let NodeKind::Map(entries) = &node.kind else {
            self.unexpected(node, what, "a map");
            return None;
        };
        let mut known: Vec<&Entry> = Vec::with_capacity(entries.len());
        let mut first_at: HashMap<&str, Span> = HashMap::with_capacity(entries.len());
        for entry in entries {
            if let Some(first) = first_at.get(entry.key.as_str()) {
                let first = self.source.place(*first);
                let message = format!("duplicate key `{}`", cut(&entry.key));
                self.fail_with(entry.key_span, message, format!("first written at {first}"));
            } else {
                first_at.insert(&entry.key, entry.key_span);
                known.push(entry);
            }
        }
        Some(known)
    }

    /// Reads a map whose keys are in the tables. Duplicate, unknown and unsupported keys are reported and left out.
    pub fn fields<'a>(&mut self, node: &'a Node, what: &str, tables: &[&[Key]]) -> Option<Fields<'a>> {
        let mut entries = self.entries(node, what)?;
        entries.retain(|entry| self.known(entry, tables, ""));
        Some(Fields { entries, span: node.span })
    }

    /// Checks whether a key is in these tables and supported, and reports an error otherwise. `after` is an additional
    /// note.
    pub fn known(&mut self, entry: &Entry, tables: &[&[Key]], after: &str) -> bool {
        let all = || tables.iter().flat_map(|table| table.iter());
        let name = entry.key.as_str();
        match all().find(|key| key.name == name) {
            Some(Key { shape: Some(_), .. }) => return true,
            Some(_) => {
                self.fail(entry.key_span, format!("`{name}` is not supported yet"));
                return false;
            }
            None => {}
        }
        if self.is_full(Severity::Error) {
            self.omit(Severity::Error);
            return false;
        }
        let supported: Vec<_> = all().filter(|key| key.shape.is_some()).map(|key| key.name).collect();
        let mut found = Diagnostic::error(&self.source, entry.key_span, format!("unknown key `{}`", cut(name)));
        if entry.in_braces && !self.has_colon(entry) {
            found = found.label("quote the value before it: a `,` ends an unquoted value in braces");
        } else if let Some(near) = nearest(name, all().map(|key| key.name)) {
            found = found.label(format!("did you mean `{near}`?"));
        }
        if !after.is_empty() {
            found = found.note(after);
        }
        let found = found.note(format!("allowed here: {}", supported.join(", ")));
        self.report(found);
        false
    }

    fn has_colon(&self, entry: &Entry) -> bool {
        let rest = self.source.text.get(entry.key_span.end as usize..).unwrap_or("");
        rest.trim_start().starts_with(':')
    }

    /// Reports an unexpected type, and finds the comment that may have hidden the value.
    pub fn unexpected(&mut self, node: &Node, what: &str, wanted: &str) {
        if node.is_null() && self.comment_trap(node) {
            return;
        }
        self.fail(node.span, format!("{what} must be {wanted}, not {}", node.describe()));
    }

    /// Reports a `#` right before a word after an unquoted value: it begins a comment, which is rarely intended.
    pub fn comment_trap(&mut self, node: &Node) -> bool {
        let Some(scalar) = node.scalar().filter(|scalar| scalar.plain) else { return false };
        let end = node.span.end as usize;
        let rest = self.source.text.get(end..).unwrap_or("").lines().next().unwrap_or("");
        let before = rest.len() - rest.trim_start_matches([' ', ':']).len();
        let comment = rest[before..].trim_end();
        let meant =
            comment.strip_prefix('#').is_some_and(|text| text.starts_with(|c: char| !c.is_whitespace() && c != '#'));
        if !meant || (before == 0 && !scalar.text.is_empty()) {
            return false;
        }
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let line_start = self.source.text[..end].rfind('\n').map_or(0, |at| at + 1);
        let span = Span {
            line: number(self.source.text[..end].matches('\n').count() + 1),
            column: number(self.source.text[line_start..end].chars().count() + before + 1),
            start: number(end + before),
            end: number(end + before + comment.len()),
        };
        self.fail_with(span, "a `#` after a space starts a comment", "quote it, or put a space behind the `#`");
        true
    }

    /// Reads the items of a list.
    pub fn list<'a>(&mut self, node: &'a Node, what: &str) -> Option<&'a [Node]> {
        if let NodeKind::List(items) = &node.kind {
            return Some(items);
        }
        self.unexpected(node, what, "a list");
        None
    }

    /// Reads a text. A plain number is accepted as written, so that `007` is not changed.
    pub fn text(&mut self, node: &Node, what: &str) -> Option<Spanned<String>> {
        if let Some(scalar) = node.scalar() {
            match scalar.resolve() {
                Resolved::Text | Resolved::Number => return Some(Spanned::new(scalar.text.clone(), node.span)),
                Resolved::Bool(value) => {
                    let message = format!("{what} must be text, not a boolean");
                    self.fail_with(node.span, message, format!("quote it: \"{value}\""));
                    return None;
                }
                Resolved::Null => {}
            }
        }
        self.unexpected(node, what, "text");
        None
    }

    /// Reads a text with `${…}` and checks the names in it.
    pub fn template(&mut self, node: &Node, what: &str) -> Option<Spanned<Template>> {
        let text = self.text(node, what)?;
        self.template_of(node, &text)
    }

    /// Parses a text that has been read already as a template.
    pub fn template_of(&mut self, node: &Node, text: &str) -> Option<Spanned<Template>> {
        match Template::parse(text) {
            Ok(template) => {
                for reference in template.references() {
                    self.use_name(reference, node.span);
                }
                Some(Spanned::new(template, node.span))
            }
            Err(bad) => {
                let span = self.within(node, bad.range);
                let mut found = Diagnostic::error(&self.source, span, bad.message);
                found.label = bad.help;
                self.report(found);
                None
            }
        }
    }

    /// Returns the span of a part of a scalar's text if it can be determined, otherwise that of the whole scalar.
    pub fn within(&self, node: &Node, part: Range<usize>) -> Span {
        let written = self.source.slice(node.span);
        let text = node.scalar().map_or("", |scalar| scalar.text.as_str());
        let quote = usize::from(written.starts_with(['"', '\'']));
        let fits = written.get(quote..).is_some_and(|rest| rest.starts_with(text)) && !written.contains('\n');
        let (Some(before), Some(inner)) = (text.get(..part.start), text.get(part.clone())) else { return node.span };
        if !fits || inner.is_empty() {
            return node.span;
        }
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let start = node.span.start + number(quote + before.len());
        Span {
            line: node.span.line,
            column: node.span.column + number(quote + before.chars().count()),
            start,
            end: start + number(inner.len()),
        }
    }

    fn use_name(&mut self, reference: &Reference, span: Span) {
        let (message, near, help) = match reference {
            Reference::Secret(name) if !self.names.secrets.contains(name) => (
                format!("unknown secret `{name}`"),
                nearest(name, self.names.secrets.iter().map(String::as_str)).map(|near| format!("secret.{near}")),
                "declare it: `secrets: {NAME: {env: VARIABLE}}`",
            ),
            Reference::Totp(name) if !self.names.totp.contains(name) => (
                format!("unknown one-time password `{name}`"),
                nearest(name, self.names.totp.iter().map(String::as_str)).map(|near| format!("totp.{near}")),
                "declare it: `totp: {NAME: {secret: NAME OF A SECRET}}`",
            ),
            Reference::Var(name) if !self.names.vars.contains(name) => (
                format!("unknown name `vars.{name}`"),
                nearest(name, self.names.vars.iter().map(String::as_str)).map(|near| format!("vars.{near}")),
                "declare it: `vars: {NAME: value}`",
            ),
            Reference::SavedValue(name) if !self.names.saved.contains(name) => {
                let near = if self.names.secrets.contains(name) {
                    Some(format!("secret.{name}"))
                } else if self.names.vars.contains(name) {
                    Some(format!("vars.{name}"))
                } else if self.names.totp.contains(name) {
                    Some(format!("totp.{name}"))
                } else {
                    let known = self.names.saved.iter().chain(&self.names.parameters);
                    nearest(name, known.map(String::as_str)).map(ToOwned::to_owned)
                };
                (format!("`${{{name}}}` is not saved before this step"), near, "save it in an earlier step: `save`")
            }
            _ => {
                let (reference, source) = (reference.clone(), Arc::clone(&self.source));
                self.names.used.push(Used { reference, source, span });
                return;
            }
        };
        let found = Diagnostic::error(&self.source, span, message);
        self.report(match near {
            Some(near) => found.label(format!("did you mean `${{{near}}}`?")),
            None => found.note(format!("help: {help}")),
        });
    }

    /// Reads `true` or `false`.
    pub fn boolean(&mut self, node: &Node, what: &str) -> Option<bool> {
        if let Some(scalar) = node.scalar() {
            if let Resolved::Bool(value) = scalar.resolve() {
                return Some(value);
            }
            let meant = match scalar.text.to_lowercase().as_str() {
                "yes" | "on" | "y" | "true" => "true",
                "no" | "off" | "n" | "false" => "false",
                _ => "",
            };
            if !meant.is_empty() {
                let message = format!("{what} must be `true` or `false`");
                self.fail_with(node.span, message, format!("write `{meant}`"));
                return None;
            }
        }
        self.unexpected(node, what, "`true` or `false`");
        None
    }

    /// Reads a positive integer.
    pub fn count(&mut self, node: &Node, what: &str) -> Option<u32> {
        let number = node.scalar().filter(|s| s.resolve() == Resolved::Number).and_then(|s| s.text.parse().ok());
        match number {
            Some(number) if number > 0 => Some(number),
            _ => {
                self.unexpected_value(node, &format!("{what} must be a whole number above 0"));
                None
            }
        }
    }

    /// Reads a non-negative integer.
    pub fn whole(&mut self, node: &Node, what: &str) -> Option<u64> {
        let number = node.scalar().filter(|s| s.resolve() == Resolved::Number).and_then(|s| s.text.parse().ok());
        if number.is_none() {
            self.unexpected_value(node, &format!("{what} must be a whole number"));
        }
        number
    }

    /// Reads a number within an inclusive range.
    pub fn number(&mut self, node: &Node, what: &str, from: f64, to: f64) -> Option<f64> {
        let number = node.scalar().and_then(super::tree::Scalar::number).and_then(|number| number.as_f64());
        match number {
            Some(number) if (from..=to).contains(&number) => Some(number),
            _ => {
                let range = match (from, to) {
                    (from, f64::INFINITY) => format!("a number of at least {from}"),
                    _ => format!("a number from {from} to {to}"),
                };
                self.unexpected_value(node, &format!("{what} must be {range}"));
                None
            }
        }
    }

    /// Reads a size in bytes.
    pub fn size(&mut self, node: &Node, what: &str) -> Option<u64> {
        let text = self.text(node, what)?;
        match units::size(&text) {
            Ok(bytes) => Some(bytes),
            Err(message) => {
                let label = match text.parse::<f64>() {
                    Ok(_) => format!("write `{}B`, or another unit: KB, MB, GB, KiB, MiB, GiB", text.value),
                    Err(_) => "write it like 500B, 10KB or 2MB".into(),
                };
                self.fail_with(node.span, format!("{what}: {message}"), label);
                None
            }
        }
    }

    /// Reports an unexpected value, which is part of the message if it is a scalar.
    pub fn unexpected_value(&mut self, node: &Node, message: &str) {
        match node.scalar() {
            Some(scalar) if !scalar.text.is_empty() => {
                self.fail(node.span, format!("{message}, not `{}`", cut(&scalar.text)));
            }
            _ => self.fail(node.span, format!("{message}, not {}", node.describe())),
        }
    }

    /// Reads a positive duration.
    pub fn duration(&mut self, node: &Node, what: &str) -> Option<Duration> {
        let text = self.text(node, what)?;
        match units::duration(&text) {
            Ok(duration) if duration.is_zero() => {
                self.fail(node.span, format!("{what} must be above 0"));
                None
            }
            Ok(duration) => Some(duration),
            Err(message) => {
                let label = match text.parse::<f64>() {
                    // Large numbers, and limits of response times from 10 on, are usually meant in milliseconds.
                    Ok(number) => {
                        let is_response_time = what.contains("faster_than") || what.contains("slower_than");
                        let unit = if number >= 1000.0 || is_response_time && number >= 10.0 { "ms" } else { "s" };
                        format!("write `{}{unit}`, or another unit: ms, s, m, h, d, w", text.value)
                    }
                    Err(_) => "write it like 90s, 1m30s or 250ms".into(),
                };
                self.fail_with(node.span, format!("{what}: {message}"), label);
                None
            }
        }
    }

    /// Reads one word of a list.
    pub fn word<'w>(&mut self, node: &Node, what: &str, words: &[&'w str]) -> Option<&'w str> {
        let text = self.text(node, what)?;
        if let Some(word) = words.iter().find(|word| **word == text.value) {
            return Some(word);
        }
        let mut found = Diagnostic::error(&self.source, node.span, format!("unknown {what} `{}`", cut(&text)));
        let same = words.iter().copied().find(|word| word.eq_ignore_ascii_case(&text));
        if let Some(near) = same.or_else(|| nearest(&text, words.iter().copied())) {
            found = found.label(format!("did you mean `{near}`?"));
        }
        let found = found.note(format!("allowed here: {}", words.join(", ")));
        self.report(found);
        None
    }
}

/// Shortens a text for a message and puts it on one line.
pub fn cut(text: &str) -> String {
    let mut line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((at, _)) = line.char_indices().nth(80) {
        line.truncate(at);
        line.push('…');
    }
    line
}

/// Checks whether a key is a name that `${…}` can reference, and reports an error otherwise.
pub fn plain_name(r: &mut Reader, entry: &Entry) -> bool {
    let good = !entry.key.is_empty() && entry.key.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-');
    if !good {
        let message = format!("`{}` is not a name", cut(&entry.key));
        r.fail_with(entry.key_span, message, "allowed are letters, digits, _ and -");
    }
    good
}
