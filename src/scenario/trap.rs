//! Detection of common YAML pitfalls that the syntax errors of the parser do not explain.
//!
//! Applied only to a file that cannot be parsed, from its first line to the position of the error.

use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Source, Span};

/// Returns the most likely cause of a syntax error at `error`: the first pitfall before it.
pub fn behind(source: &Arc<Source>, error: Span) -> Option<Diagnostic> {
    Scanner { source, characters: source.text.char_indices().collect(), at: 0, depth: 0 }.find(error)
}

struct Scanner<'a> {
    source: &'a Arc<Source>,
    characters: Vec<(usize, char)>,
    at: usize,
    depth: usize,
}

impl Scanner<'_> {
    fn find(mut self, error: Span) -> Option<Diagnostic> {
        let mut key_before = String::new();
        while let Some(c) = self.peek(0) {
            if self.characters[self.at].0 > error.start as usize && self.depth == 0 {
                return None;
            }
            match c {
                '#' if self.at == 0 || self.peek_back().is_some_and(char::is_whitespace) => {
                    if let Some(found) = self.comment(&key_before) {
                        return Some(found);
                    }
                    self.skip_line();
                }
                '"' | '\'' => self.skip_quoted(c),
                '{' | '[' => {
                    self.depth += 1;
                    self.at += 1;
                    key_before.clear();
                }
                '}' | ']' => {
                    self.depth = self.depth.saturating_sub(1);
                    self.at += 1;
                }
                '|' | '>' if self.depth == 0 && !key_before.is_empty() => self.skip_block(),
                '*' | '@' if key_before == "cron" => {
                    let message = format!("a cron expression that begins with `{c}` must be quoted");
                    return Some(self.trap(self.at, message));
                }
                ',' | ':' | '\n' | ' ' | '\t' | '\r' => {
                    if c == '\n' || c == ',' {
                        key_before.clear();
                    }
                    self.at += 1;
                }
                '-' | '?' if self.peek(1).is_none_or(char::is_whitespace) => self.at += 1,
                _ => {
                    let start = self.at;
                    if let Some(found) = self.plain() {
                        return Some(found);
                    }
                    key_before.clear();
                    if self.peek(0) == Some(':') {
                        key_before = self.characters[start..self.at].iter().map(|(_, c)| c).collect();
                    }
                }
            }
        }
        None
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.characters.get(self.at + ahead).map(|(_, c)| *c)
    }

    fn peek_back(&self) -> Option<char> {
        self.at.checked_sub(1).map(|before| self.characters[before].1)
    }

    /// Reports a `#` right before a word inside braces, which is rarely intended as a comment.
    fn comment(&self, key_before: &str) -> Option<Diagnostic> {
        let word_follows = self.peek(1).is_some_and(|c| !c.is_whitespace() && c != '#');
        let value_before = !key_before.is_empty() || {
            let before = self.characters[..self.at].iter().rev().map(|(_, c)| *c).find(|c| !c.is_whitespace());
            before.is_some_and(char::is_alphanumeric)
        };
        (self.depth > 0 && word_follows && value_before)
            .then(|| self.trap(self.at, "a `#` after a space starts a comment, so the braces never close"))
    }

    /// Skips an unquoted text; inside braces some characters end it.
    fn plain(&mut self) -> Option<Diagnostic> {
        let start = self.at;
        while let Some(c) = self.peek(0) {
            let ends = match c {
                '\n' => true,
                '#' => self.peek_back().is_some_and(char::is_whitespace),
                ':' => self.peek(1).is_none_or(|c| c.is_whitespace() || (self.depth > 0 && ",[]{}".contains(c))),
                '$' if self.depth > 0 && self.peek(1) == Some('{') => {
                    return Some(self.trap(start, "`${…}` inside `{…}` must be quoted"));
                }
                '{' | '[' if self.depth > 0 => {
                    return Some(self.trap(start, format!("an unquoted value in braces must not have `{c}` in it")));
                }
                ',' | '}' | ']' => self.depth > 0,
                _ => false,
            };
            if ends {
                return None;
            }
            self.at += 1;
        }
        None
    }

    fn skip_line(&mut self) {
        while self.peek(0).is_some_and(|c| c != '\n') {
            self.at += 1;
        }
    }

    fn skip_quoted(&mut self, quote: char) {
        self.at += 1;
        while let Some(c) = self.peek(0) {
            self.at += 1;
            if c == '\\' && quote == '"' {
                self.at += 1;
            } else if c == quote {
                if quote == '\'' && self.peek(0) == Some('\'') {
                    self.at += 1;
                } else {
                    return;
                }
            }
        }
    }

    /// Skips a block scalar: empty lines and every line indented more than its first one.
    fn skip_block(&mut self) {
        let line_start = self.characters[..self.at].iter().rposition(|(_, c)| *c == '\n').map_or(0, |at| at + 1);
        let indent = self.characters[line_start..].iter().take_while(|(_, c)| *c == ' ').count();
        loop {
            self.skip_line();
            self.at += 1;
            let line = self.characters.get(self.at..).unwrap_or_default();
            let deeper = line.iter().take_while(|(_, c)| *c == ' ').count();
            match line.get(deeper) {
                Some((_, '\n')) => {}
                Some(_) if deeper > indent => {}
                _ => return,
            }
        }
    }

    /// Creates a diagnostic that spans from this character to the end of the value, as far as it can be determined.
    fn trap(&self, start: usize, message: impl Into<String>) -> Diagnostic {
        let (first, _) = self.characters[start];
        let before = &self.source.text[..first];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let rest = self.source.text[first..].lines().next().unwrap_or("");
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let span = Span {
            line: number(before.matches('\n').count() + 1),
            column: number(before[line_start..].chars().count() + 1),
            start: number(first),
            end: number(first + rest.trim_end().trim_end_matches('}').len()),
        };
        Diagnostic::error(self.source, span, message).label("quote it")
    }
}
