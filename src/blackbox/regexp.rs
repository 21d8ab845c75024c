//! Translates Go's regular expressions (RE2) to those of the `regex` crate.
//!
//! Both engines have the same features, so only the syntax differs: in Go, `{` is a literal unless it starts a
//! repetition, `[` is a literal within a class, classes such as `\d` and `\b` are ASCII-only, and `\Q…\E` quotes. The
//! rest (octal escapes, `\C`) is rejected at load.

use std::fmt;
use std::iter::Peekable;
use std::ops::Deref;
use std::str::Chars;

use regex::bytes::{Regex, RegexBuilder};

/// Maximum size of a compiled expression, in bytes.
const LARGEST: usize = 4 << 20;

/// A compiled Go expression. It is displayed in its original form.
#[derive(Debug, Clone)]
pub struct Regexp {
    written: String,
    compiled: Regex,
}

impl Regexp {
    /// Returns the expression in its original form.
    pub fn as_str(&self) -> &str {
        &self.written
    }
}

impl Deref for Regexp {
    type Target = Regex;

    fn deref(&self) -> &Regex {
        &self.compiled
    }
}

impl fmt::Display for Regexp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

/// Compiles a Go expression.
pub fn compile(go: &str) -> Result<Regexp, String> {
    let compiled = RegexBuilder::new(&translate(go)).size_limit(LARGEST).build().map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => "the expression takes more than 4 MiB".to_owned(),
        other => other.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned(),
    })?;
    Ok(Regexp { written: go.to_owned(), compiled })
}

/// Translates an expression to the syntax of the `regex` crate.
fn translate(go: &str) -> String {
    let mut out = String::with_capacity(go.len() + 8);
    let mut rest = go.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\\' => escape(&mut rest, &mut out, false),
            '[' => class(&mut rest, &mut out),
            '{' if !counts(rest.clone()) => out.push_str("\\{"),
            c => out.push(c),
        }
    }
    out
}

/// Returns whether the text after a `{` makes it a repetition: `2}`, `2,}` or `2,3}`.
fn counts(rest: Peekable<Chars<'_>>) -> bool {
    let inside: String = rest.take_while(|c| c.is_ascii_digit() || ",}".contains(*c)).collect();
    let Some((inside, _)) = inside.split_once('}') else { return false };
    let (from, to) = inside.split_once(',').unwrap_or((inside, ""));
    !from.is_empty() && !to.contains(',')
}

fn escape(rest: &mut Peekable<Chars<'_>>, out: &mut String, in_class: bool) {
    let Some(c) = rest.next() else {
        out.push('\\');
        return;
    };
    let set = match c {
        'd' => "0-9",
        'w' => "0-9A-Za-z_",
        's' => r"\t\n\x0C\r ",
        'D' => "^0-9",
        'W' => "^0-9A-Za-z_",
        'S' => r"^\t\n\x0C\r ",
        'b' | 'B' if !in_class => {
            out.push_str(if c == 'b' { r"(?-u:\b)" } else { r"(?-u:\B)" });
            return;
        }
        '<' | '>' => {
            out.push(c);
            return;
        }
        'Q' if !in_class => {
            let mut quoted = String::new();
            while let Some(c) = rest.next() {
                if c == '\\' && rest.peek() == Some(&'E') {
                    rest.next();
                    break;
                }
                quoted.push(c);
            }
            out.push_str(&regex::escape(&quoted));
            return;
        }
        c => {
            out.push('\\');
            out.push(c);
            // In `\x{…}` and `\p{…}`, the brace is part of the escape.
            if "xpP".contains(c) && rest.peek() == Some(&'{') {
                for c in rest.by_ref() {
                    out.push(c);
                    if c == '}' {
                        break;
                    }
                }
            }
            return;
        }
    };
    if in_class && !set.starts_with('^') {
        out.push_str(set);
    } else {
        out.push('[');
        out.push_str(set);
        out.push(']');
    }
}

/// Translates a class, from the character after its `[` to its `]`.
fn class(rest: &mut Peekable<Chars<'_>>, out: &mut String) {
    out.push('[');
    if rest.peek() == Some(&'^') {
        rest.next();
        out.push('^');
    }
    let mut first = true;
    while let Some(c) = rest.next() {
        match c {
            ']' if !first => {
                out.push(']');
                return;
            }
            ']' => out.push_str("\\]"),
            '[' if rest.peek() == Some(&':') => {
                out.push('[');
                for c in rest.by_ref() {
                    out.push(c);
                    if c == ']' {
                        break;
                    }
                }
            }
            '[' => out.push_str("\\["),
            '\\' => escape(rest, out, true),
            // Two of them in a row would be a set operation.
            '&' | '~' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
        first = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_of_go_mean_the_same() {
        let check = |go: &str, matches: &[&str], others: &[&str]| {
            let compiled = compile(go).unwrap_or_else(|error| panic!("{go}: {error}"));
            for text in matches {
                assert!(compiled.is_match(text.as_bytes()), "{go} must match {text:?}");
            }
            for text in others {
                assert!(!compiled.is_match(text.as_bytes()), "{go} must not match {text:?}");
            }
        };
        check(r#"{"status":"ok"}"#, &[r#"x {"status":"ok"} y"#], &[r#""status":"ok""#]);
        check("^a{2,3}$", &["aa", "aaa"], &["a", "aaaa", "a{2,3}"]);
        check("a{,3}", &["a{,3}"], &["aaa"]);
        check("x{}", &["x{}"], &["x"]);
        check("[[a]", &["[", "a"], &["]", "b"]);
        check("[]a]", &["]", "a"], &["["]);
        check("[a&&b]", &["&", "a", "b"], &["c"]);
        check("[^[:digit:]x]", &["y"], &["1", "x"]);
        check(r"^\d\w\s$", &["1_ ", "2a\t"], &["٣a ", "1é ", "1a\u{a0}"]);
        check(r"^[\d.]+$", &["1.2"], &["1a"]);
        check(r"^[^\D]$", &["1"], &["a"]);
        check(r"\bok\b", &["it is ok."], &["token"]);
        check(r"\Qa.b{1}\E+", &["a.b{1}", "a.b{1}}"], &["axb1"]);
        check(r"\<html\>", &["<html>"], &["html"]);
        check(r"\x{41}\pL{2}", &["Abc"], &["A12"]);
        check("(?i)^ok", &["OK then"], &["not ok"]);
        check("^SSH-2.0-([^ -]+)(?: (.*))?$", &["SSH-2.0-OpenSSH_9.2p1 Debian-2"], &["SSH-1.99-x"]);
        assert_eq!(compile("a(").unwrap_err(), "unclosed group");
        assert!(compile("(a{1000}){1000}").unwrap_err().contains("4 MiB"));
    }
}
