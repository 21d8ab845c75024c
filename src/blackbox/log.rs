//! Log of one probe: kept in memory, limited in size, and formatted only when it is requested.

use std::fmt::Write as _;
use std::ops::Range;
use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};

use crate::secret::Masker;

/// Maximum number of stored lines.
const LINES: usize = 200;
/// Maximum length of a displayed value, in characters. It is truncated after masking.
const LONGEST: usize = 400;
/// Maximum length of a stored value, in characters.
const KEPT: usize = 2 * LONGEST;

/// Severity of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// A detail.
    Debug,
    /// A step of the probe.
    Info,
    /// The cause of a failed probe.
    Error,
}

/// Log of one probe.
#[derive(Debug)]
pub struct Log {
    began: Instant,
    began_at: DateTime<Utc>,
    lines: Vec<Line>,
    /// Values of all lines, concatenated, because a probe writes many lines and few are ever read.
    values: Vec<(&'static str, Range<usize>)>,
    text: String,
    dropped: usize,
}

#[derive(Debug)]
struct Line {
    at: Instant,
    level: Level,
    message: &'static str,
    /// Range of the line's values in the log's values.
    values: Range<usize>,
}

impl Log {
    /// Starts a log at the current time.
    pub(super) fn begin() -> Self {
        Self {
            began: Instant::now(),
            began_at: Utc::now(),
            lines: Vec::with_capacity(12),
            values: Vec::with_capacity(16),
            text: String::with_capacity(512),
            dropped: 0,
        }
    }

    /// Returns the start of the log.
    pub fn began_at(&self) -> DateTime<Utc> {
        self.began_at
    }

    fn line(&mut self, level: Level, message: &'static str, values: &[(&'static str, &dyn std::fmt::Display)]) {
        if self.lines.len() == LINES {
            self.dropped += 1;
            return;
        }
        let first = self.values.len();
        for (name, value) in values {
            let from = self.text.len();
            let _ = write!(self.text, "{value}");
            if self.text.len() - from > KEPT
                && let Some((end, _)) = self.text[from..].char_indices().nth(KEPT)
            {
                // The mark lets the masker recognize that a truncated secret may precede it.
                self.text.truncate(from + end);
                self.text.push('…');
            }
            self.values.push((name, from..self.text.len()));
        }
        self.lines.push(Line { at: Instant::now(), level, message, values: first..self.values.len() });
    }

    pub(super) fn debug(&mut self, message: &'static str, values: &[(&'static str, &dyn std::fmt::Display)]) {
        self.line(Level::Debug, message, values);
    }

    pub(super) fn info(&mut self, message: &'static str, values: &[(&'static str, &dyn std::fmt::Display)]) {
        self.line(Level::Info, message, values);
    }

    pub(super) fn error(&mut self, message: &'static str, values: &[(&'static str, &dyn std::fmt::Display)]) {
        self.line(Level::Error, message, values);
    }

    /// Formats the lines in logfmt with secrets masked.
    pub fn render(&self, masker: &Masker) -> String {
        let mut out = String::with_capacity(160 * self.lines.len());
        for Line { at, level, message, values } in &self.lines {
            let since = TimeDelta::from_std(at.duration_since(self.began)).unwrap_or_default();
            let time = (self.began_at + since).format("%Y-%m-%dT%H:%M:%S%.6fZ");
            let level = match level {
                Level::Debug => "debug",
                Level::Info => "info",
                Level::Error => "error",
            };
            let mut shown = String::new();
            for (name, range) in &self.values[values.clone()] {
                let value = masker.masked(&self.text[range.clone()]).cut(LONGEST);
                let value = value.as_str();
                let plain = |c: char| c.is_alphanumeric() || "-_.:/[]?&=%+,;@*…".contains(c);
                let _ = if !value.is_empty() && value.chars().all(plain) {
                    write!(shown, " {name}={value}")
                } else {
                    write!(shown, " {name}={value:?}")
                };
            }
            let _ = writeln!(out, "ts={time} level={level} msg={message:?}{shown}");
        }
        if self.dropped > 0 {
            let _ = writeln!(out, "{} more lines were dropped", self.dropped);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_bounded_and_tells_no_secrets() {
        let masker = Masker::default();
        masker.add("hunter2x");
        let mut log = Log::begin();
        for _ in 0..LINES + 3 {
            log.info("Read line", &[("line", &"pass hunter2x"), ("long", &"x".repeat(5000)), ("n", &7)]);
        }
        let text = log.render(&masker);
        assert_eq!(text.lines().count(), LINES + 1);
        assert!(text.contains("level=info msg=\"Read line\" line=\"pass ***\" long=xxx"), "{text}");
        assert!(text.contains(" n=7\n") && text.ends_with("3 more lines were dropped\n"), "{text}");
        assert!(!text.contains("hunter2x") && text.len() < LINES * 600, "{}", text.len());
    }

    #[test]
    fn a_value_is_masked_before_it_is_cut() {
        let masker = Masker::default();
        masker.add("hunter2x");
        for cut in [LONGEST, KEPT] {
            for before in cut - 12..cut + 4 {
                let mut log = Log::begin();
                log.info("Read", &[("line", &format!("{}hunter2x tail", "-".repeat(before)))]);
                let text = log.render(&masker);
                assert!(!text.contains("hun"), "{cut} {before}: {text}");
            }
        }
    }
}
