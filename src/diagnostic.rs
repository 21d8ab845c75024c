//! Where something stands in a file, and how a problem there is told.
//!
//! Passwords and tokens that are written out in a file are hidden in everything that is shown of it
//! ([`credentials`]). Pure data and rendering; whoever shows a [`Diagnostic`] decides where to and with colour or not.

pub mod credentials;

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use crate::secret::Masker;

/// A file as it was read: what a span points into, kept to run time so that a failure can print its line.
#[derive(Debug)]
pub struct Source {
    /// The path as people know it, relative to where they started.
    pub path: String,
    /// The whole text.
    pub text: String,
    /// Passwords and tokens that are written out in it: what is shown of the file must not contain them.
    pub credentials: Masker,
}

impl PartialEq for Source {
    fn eq(&self, other: &Self) -> bool {
        (&self.path, &self.text) == (&other.path, &other.text)
    }
}

impl Eq for Source {}

impl Source {
    /// A source shared by everything that was read from it.
    pub fn new(path: impl Into<String>, text: impl Into<String>) -> Arc<Self> {
        Arc::new(Self { path: path.into(), text: text.into(), credentials: Masker::default() })
    }

    /// The line with this number (from 1), without its end.
    pub fn line(&self, line: u32) -> &str {
        self.text.lines().nth(line.saturating_sub(1) as usize).unwrap_or("")
    }

    /// A line of the file as it may be shown: without the passwords and tokens that are written out in it.
    pub fn shown(&self, part: &str) -> String {
        credentials::hide(&self.credentials.mask(part))
    }

    /// The text a span covers; empty when the span does not fit.
    pub fn slice(&self, span: Span) -> &str {
        self.text.get(span.start as usize..span.end as usize).unwrap_or("")
    }

    /// `file.yaml:LINE:COLUMN`.
    pub fn place(&self, span: Span) -> String {
        format!("{}:{}:{}", self.path, span.line, span.column)
    }
}

/// A place in a [`Source`]. `line` and `column` count from 1 (column in characters), `start..end` are bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Span {
    /// Line, from 1; 0 where there is no place.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// First byte.
    pub start: u32,
    /// The byte after the last.
    pub end: u32,
}

/// A value with the place it was written at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct At<T> {
    /// What was written.
    pub value: T,
    /// Where.
    pub span: Span,
}

impl<T> At<T> {
    /// A value at a place.
    pub fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }
}

impl<T> std::ops::Deref for At<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

/// How bad a [`Diagnostic`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Works, but is probably not what was meant.
    Warning,
    /// A variable or file that is not there (or not allowed) on this machine: a warning for
    /// `check`, an error for `run`, and `serve` refuses the one scenario.
    Missing,
    /// The file cannot be used.
    Error,
}

/// Maximum number of errors of one file that are reported, and of warnings.
pub const MAX_REPORTED: usize = 50;

/// Maximum number of diagnostics of all files together that are shown.
pub const MAX_SHOWN: usize = 500;

/// Of diagnostics of many files those that are shown: the first [`MAX_REPORTED`] of each file and [`MAX_SHOWN`] in all;
/// and how many others there are.
pub fn shown(found: &[Diagnostic]) -> (Vec<&Diagnostic>, usize) {
    let mut of_file: HashMap<&str, usize> = HashMap::new();
    let mut shown = Vec::new();
    for one in found {
        let count = of_file.entry(one.source.path.as_str()).or_default();
        *count += 1;
        // Beside errors and warnings there is the one that says how many were left out.
        if *count <= 2 * MAX_REPORTED + 1 && shown.len() < MAX_SHOWN {
            shown.push(one);
        }
    }
    let others = found.len() - shown.len();
    (shown, others)
}

/// One problem in one file, with all a person needs to mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad.
    pub severity: Severity,
    /// What is wrong: lower case, concise, no final period.
    pub message: String,
    /// The file.
    pub source: Arc<Source>,
    /// Where in it.
    pub span: Span,
    /// Which step, as people count it: `step 2, click button "Sign in"`.
    pub context: Option<String>,
    /// What stands beside the caret, such as ``did you mean `timeout`?``.
    pub label: Option<String>,
    /// Further lines: `allowed here: …`, `help: …`.
    pub notes: Vec<String>,
    /// The id of the scenario it belongs to, where it belongs to one.
    pub scenario: Option<String>,
}

impl Diagnostic {
    /// An error at a place.
    pub fn error(source: &Arc<Source>, span: Span, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, source, span, message)
    }

    /// A warning at a place.
    pub fn warning(source: &Arc<Source>, span: Span, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, source, span, message)
    }

    /// A diagnostic of any severity at a place.
    pub fn new(severity: Severity, source: &Arc<Source>, span: Span, message: impl Into<String>) -> Self {
        Self {
            severity,
            message: source.credentials.mask(&message.into()),
            source: Arc::clone(source),
            span,
            context: None,
            label: None,
            notes: Vec::new(),
            scenario: None,
        }
    }

    /// Names the step.
    #[must_use]
    pub fn context(mut self, context: impl Into<String>) -> Self {
        self.context = Some(context.into());
        self
    }

    /// Puts words beside the caret.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(self.source.credentials.mask(&label.into()));
        self
    }

    /// Adds a line below the snippet.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(self.source.credentials.mask(&note.into()));
        self
    }

    /// `file.yaml:LINE:COLUMN`, or the path alone when it is about the whole file.
    pub fn place(&self) -> String {
        if self.span.line == 0 { self.source.path.clone() } else { self.source.place(self.span) }
    }

    /// The text form, with the line, a caret below the place, and the notes; ends with a newline.
    pub fn render(&self, color: bool) -> String {
        let word = match self.severity {
            Severity::Warning => "warning",
            Severity::Missing | Severity::Error => "error",
        };
        self.render_as(word, color)
    }

    /// As [`Diagnostic::render`], with another first word: `failed`, or `warning` for what is missing.
    pub fn render_as(&self, word: &str, color: bool) -> String {
        let paint = |code: &str, text: &str| {
            if color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
        };
        let hue = if word == "warning" { "1;33" } else { "1;31" };
        let mut out = String::new();
        let _ = writeln!(out, "{}: {}", paint(hue, word), printable(&self.message));
        let width = self.span.line.to_string().len();
        let pad = " ".repeat(width);
        let bar = paint("34", "|");
        let _ = write!(out, "{pad} {} {}", paint("34", "-->"), printable(&self.place()));
        if let Some(context) = &self.context {
            let _ = write!(out, "   {}", printable(context));
        }
        out.push('\n');
        if self.span.line > 0 {
            let whole = self.source.line(self.span.line);
            // What stands before the place may be shorter when it is shown: a password in it is.
            let at = whole.char_indices().nth(self.span.column.saturating_sub(1) as usize);
            let (before, from) = whole.split_at(at.map_or(whole.len(), |(at, _)| at));
            let line = self.source.shown(whole);
            let before = if line == whole { before.to_owned() } else { self.source.shown(before) };
            let _ = writeln!(out, "{pad} {bar}");
            let _ = writeln!(out, "{} {bar} {}", paint("34", &self.span.line.to_string()), printable(&line));
            let column = before.chars().count();
            let rest = line.chars().count().saturating_sub(column).max(1);
            let covered = self.source.slice(self.span).lines().next().unwrap_or("").trim_end();
            let covered = if line == whole {
                covered.to_owned()
            } else {
                self.source.shown(covered.get(..from.len()).unwrap_or(covered))
            };
            let covered = covered.chars().count();
            let carets = "^".repeat(covered.clamp(1, rest));
            // Tabs are kept in the indentation, so that the caret stands below its place.
            let indent: String = before.chars().map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
            let _ = write!(out, "{pad} {bar} {indent}{}", paint(hue, &carets));
            if let Some(label) = &self.label {
                let _ = write!(out, " {}", paint(hue, &printable(label)));
            }
            out.push('\n');
        } else if let Some(label) = &self.label {
            let _ = writeln!(out, "{pad} {} {}", paint("34", "="), printable(label));
        }
        for note in &self.notes {
            let _ = writeln!(out, "{pad} {} {}", paint("34", "="), printable(note));
        }
        out
    }
}

/// A text that neither moves a terminal's cursor nor forges a line: control characters, line ends among them, and those
/// that turn the direction of writing are written as their code points. Every text of somebody else's goes through this
/// before it becomes part of an outcome or a diagnostic, and with that of a report, a log or a notification.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_control) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            c if is_control(c) => {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Control characters of Unicode (C0 but for the tab, DEL, C1), separators of lines, and marks and overrides of direction
/// (UAX 9).
fn is_control(c: char) -> bool {
    (c.is_control() && c != '\t')
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The word out of `known` that `word` was most likely meant to be, if any is near enough.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = match word.chars().count() {
        0..=2 => 1,
        3..=5 => 2,
        _ => 3,
    };
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= limit && *distance < candidate.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caret_stands_below_its_place() {
        let source = Source::new("a.yaml", "steps:\n  - click: {button: Go}\n    timout: 2s\n");
        let span = Span { line: 3, column: 5, start: 39, end: 45 };
        let shown = Diagnostic::error(&source, span, "unknown key `timout`")
            .context("step 1, click button \"Go\"")
            .label("did you mean `timeout`?")
            .note("allowed here: name, timeout")
            .render(false);
        assert_eq!(
            shown,
            "error: unknown key `timout`\n  --> a.yaml:3:5   step 1, click button \"Go\"\n  |\n3 |     timout: 2s\n  |     ^^^^^^ did you mean `timeout`?\n  = allowed here: name, timeout\n"
        );
    }

    #[test]
    fn what_others_write_moves_no_cursor_and_forges_no_line() {
        for (text, expected) in [
            ("plain, Größe 5\u{a0}€ 👍\tx", "plain, Größe 5\u{a0}€ 👍\tx"),
            ("\u{1b}[2J\u{1b}]0;x\u{7}", "\\u{1b}[2J\\u{1b}]0;x\\u{7}"),
            ("a\r\nfailed b", "a\\r\\nfailed b"),
            ("\u{9b}31m\u{7f}\0", "\\u{9b}31m\\u{7f}\\u{0}"),
            ("\u{202e}gpj\u{2066}\u{200f}\u{2028}", "\\u{202e}gpj\\u{2066}\\u{200f}\\u{2028}"),
        ] {
            assert_eq!(printable(text), expected, "{text:?}");
        }
        let source = Source::new("a.yaml", "name: \u{1b}[31mred\n");
        let span = Span { line: 1, column: 1, start: 0, end: 4 };
        let shown = Diagnostic::error(&source, span, "bad \u{1b}[0m").label("x\u{202e}").note("y\u{7}").render(false);
        assert!(!shown.contains(|c| is_control(c) && c != '\n'), "{shown:?}");
        assert_eq!(shown.lines().count(), 6);
    }

    #[test]
    fn nearest_prefers_the_closest_and_gives_up_on_strangers() {
        assert_eq!(nearest("timout", ["name", "timeout"]), Some("timeout"));
        assert_eq!(nearest("clik", ["click", "fill"]), Some("click"));
        assert_eq!(nearest("banana", ["click", "fill"]), None);
    }
}
