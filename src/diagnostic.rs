//! Source spans, and diagnostics of problems in files.
//!
//! Passwords and tokens contained in a file are masked in everything that is shown of it ([`credentials`]). Pure data
//! and rendering; the caller decides where a [`Diagnostic`] is shown and whether in color.

pub mod credentials;

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use crate::secret::Masker;

/// File as it was read. Spans refer to it, and it is kept until run time so that a failure can show the line.
#[derive(Debug)]
pub struct Source {
    /// Path to show, relative to the working directory.
    pub path: String,
    /// Complete text.
    pub text: String,
    /// Passwords and tokens contained in the text, which must not be shown.
    pub credentials: Masker,
}

impl PartialEq for Source {
    fn eq(&self, other: &Self) -> bool {
        (&self.path, &self.text) == (&other.path, &other.text)
    }
}

impl Eq for Source {}

impl Source {
    /// Creates a source, which is shared by everything read from it.
    pub fn new(path: impl Into<String>, text: impl Into<String>) -> Arc<Self> {
        Arc::new(Self { path: path.into(), text: text.into(), credentials: Masker::default() })
    }

    /// Returns the line with this number (starting at 1) without its line break.
    pub fn line(&self, line: u32) -> &str {
        self.text.lines().nth(line.saturating_sub(1) as usize).unwrap_or("")
    }

    /// Returns a part of the file in a form that can be shown, with passwords and tokens masked.
    pub fn shown(&self, part: &str) -> String {
        credentials::hide(&self.credentials.mask(part))
    }

    /// Returns the text of a span, or an empty text if the span is out of range.
    pub fn slice(&self, span: Span) -> &str {
        self.text.get(span.start as usize..span.end as usize).unwrap_or("")
    }

    /// Formats the start of a span as `file.yaml:LINE:COLUMN`.
    pub fn place(&self, span: Span) -> String {
        format!("{}:{}:{}", self.path, span.line, span.column)
    }
}

/// Range in a [`Source`]. `line` and `column` start at 1 (columns in characters); `start..end` are bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Span {
    /// Line, starting at 1; 0 for no particular line.
    pub line: u32,
    /// Column in characters, starting at 1.
    pub column: u32,
    /// Offset of the first byte.
    pub start: u32,
    /// Offset after the last byte.
    pub end: u32,
}

/// Value with its source span.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Spanned<T> {
    /// Value as written.
    pub value: T,
    /// Span of the value.
    pub span: Span,
}

impl<T> Spanned<T> {
    /// Creates a value with its span.
    pub fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }
}

impl<T> std::ops::Deref for Spanned<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

/// Level of a [`Diagnostic`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Valid, but probably not intended.
    Warning,
    /// A variable or file that is missing or not allowed on this machine: a warning for `check`, an error for `run`,
    /// and a reason for `serve` to reject that scenario only.
    Missing,
    /// The file cannot be used.
    Error,
}

/// Maximum number of reported errors of one file, and of warnings.
pub const MAX_REPORTED: usize = 50;

/// Maximum number of diagnostics shown for all files together.
pub const MAX_SHOWN: usize = 500;

/// Selects the diagnostics to show: the first [`MAX_REPORTED`] of each file and [`MAX_SHOWN`] in total. Returns them
/// with the number of the others.
pub fn shown(found: &[Diagnostic]) -> (Vec<&Diagnostic>, usize) {
    let mut of_file: HashMap<&str, usize> = HashMap::new();
    let mut shown = Vec::new();
    for one in found {
        let count = of_file.entry(one.source.path.as_str()).or_default();
        *count += 1;
        // In addition to errors and warnings, there is one diagnostic with the number of omitted ones.
        if *count <= 2 * MAX_REPORTED + 1 && shown.len() < MAX_SHOWN {
            shown.push(one);
        }
    }
    let others = found.len() - shown.len();
    (shown, others)
}

/// Problem in a file, with the information needed to correct it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Level of the diagnostic.
    pub severity: Severity,
    /// Message: lower case, concise, without a final period.
    pub message: String,
    /// File that contains the problem.
    pub source: Arc<Source>,
    /// Span of the problem.
    pub span: Span,
    /// Step with its number: `step 2, click button "Sign in"`.
    pub context: Option<String>,
    /// Text next to the caret, such as ``did you mean `timeout`?``.
    pub label: Option<String>,
    /// Additional lines: `allowed here: …`, `help: …`.
    pub notes: Vec<String>,
    /// Id of the scenario if the problem concerns a single one.
    pub scenario: Option<String>,
}

impl Diagnostic {
    /// Creates an error with a span.
    pub fn error(source: &Arc<Source>, span: Span, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, source, span, message)
    }

    /// Creates a warning with a span.
    pub fn warning(source: &Arc<Source>, span: Span, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, source, span, message)
    }

    /// Creates a diagnostic of any level with a span.
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

    /// Sets the step.
    #[must_use]
    pub fn context(mut self, context: impl Into<String>) -> Self {
        self.context = Some(context.into());
        self
    }

    /// Sets the text next to the caret.
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

    /// Returns the position as `file.yaml:LINE:COLUMN`, or only the path if the diagnostic concerns the whole file.
    pub fn place(&self) -> String {
        if self.span.line == 0 { self.source.path.clone() } else { self.source.place(self.span) }
    }

    /// Formats the diagnostic as text with the source line, a caret below the span, and the notes. The text ends with a
    /// line break.
    pub fn render(&self, color: bool) -> String {
        let word = match self.severity {
            Severity::Warning => "warning",
            Severity::Missing | Severity::Error => "error",
        };
        self.render_as(word, color)
    }

    /// Formats the diagnostic like [`Diagnostic::render`] with another first word: `failed`, or `warning` for a missing
    /// variable or file.
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
            // The text before the span may become shorter, if it contains a password.
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
            // Tabs are preserved in the indentation, so that the caret is below its span.
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

/// Escapes control characters (including line breaks) and characters that change the writing direction as their code
/// points, so that the text can neither move the cursor of a terminal nor forge a line. Every external text is passed
/// through this function before it becomes part of an outcome or a diagnostic, which are shown in reports, logs and
/// notifications.
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

/// Returns whether a character is a Unicode control character (C0 except the tab, DEL, C1), a line separator, or a mark
/// or override of the writing direction (UAX 9).
fn is_control(c: char) -> bool {
    (c.is_control() && c != '\t')
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Returns the word of `known` that `word` most likely stands for, if any is similar enough.
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
