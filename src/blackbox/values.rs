//! Scalar values of a `blackbox.yml` in the way that Go's YAML parser reads them: any scalar is text, `yes` and `on`
//! are booleans, durations have Go's syntax, sizes are binary.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::regexp::{self, Regexp};
use crate::diagnostic::{Diagnostic, Span};
use crate::scenario::keys::Key;
use crate::scenario::reader::{Fields, Reader};
use crate::scenario::tree::{Entry, Node, NodeKind};
use crate::secret::{Masker, Secret};
use base64::Engine as _;

/// Maximum length of `expect_bytes` and `send`, in bytes.
const LONGEST: usize = 64 << 10;

/// Reads one module. Errors go to the reader; unsupported settings disable the module.
pub(super) struct Reading<'r> {
    pub(super) r: &'r mut Reader,
    pub(super) refused: Option<String>,
    pub(super) masker: Masker,
    /// Files named in the current section.
    pub(super) files: Vec<PathBuf>,
}

impl Reading<'_> {
    /// Reads the keys of a map. Null is a map without keys, as in `blackbox_exporter`.
    pub(super) fn map<'a>(&mut self, node: &'a Node, what: &str, tables: &[&[Key]]) -> Option<Fields<'a>> {
        if node.is_null() {
            return Some(Fields::of(Vec::new(), node.span));
        }
        self.r.fields(node, what, tables)
    }

    /// Reads the entries of a map with arbitrary keys.
    pub(super) fn entries<'a>(&mut self, node: &'a Node, what: &str) -> Vec<&'a Entry> {
        if node.is_null() { Vec::new() } else { self.r.entries(node, what).unwrap_or_default() }
    }

    /// Reads the items of a list. Null is an empty list.
    pub(super) fn list<'a>(&mut self, node: Option<&'a Node>, what: &str) -> &'a [Node] {
        match node {
            Some(node) if !node.is_null() => self.r.list(node, what).unwrap_or_default(),
            _ => &[],
        }
    }

    /// Reports an unsupported setting and disables the module.
    pub(super) fn refuse(&mut self, span: Span, what: &str) {
        let message = format!("{what} is not supported: this module cannot be used");
        let found = Diagnostic::warning(&self.r.source, span, message);
        self.r.report(found);
        self.refused.get_or_insert_with(|| format!("{what} is not supported"));
    }

    /// Disables the module if it has any of these unsupported keys.
    pub(super) fn refuse_keys(&mut self, fields: &Fields<'_>, names: &[&str]) {
        for name in names {
            if let Some(entry) = fields.entry(name).filter(|entry| !entry.value.is_null()) {
                self.refuse(entry.key_span, &format!("`{name}`"));
            }
        }
    }

    /// Reads bytes: text, or base64 with `!!binary`. Null gives `None`.
    pub(super) fn bytes(&mut self, node: &Node, what: &str) -> Option<Vec<u8>> {
        let NodeKind::Scalar(scalar) = &node.kind else {
            self.r.unexpected(node, what, "text");
            return None;
        };
        if node.is_null() {
            return None;
        }
        let bytes = if scalar.binary {
            match base64::engine::general_purpose::STANDARD.decode(&scalar.text) {
                Ok(bytes) => bytes,
                Err(error) => {
                    self.r.fail(node.span, format!("{what} is not base64: {error}"));
                    return None;
                }
            }
        } else {
            scalar.text.clone().into_bytes()
        };
        if bytes.len() > LONGEST {
            self.r.fail(node.span, format!("{what} is longer than {} KiB", LONGEST >> 10));
            return None;
        }
        (!bytes.is_empty()).then_some(bytes)
    }

    /// Reads text. Empty text gives `None`, as in `blackbox_exporter`.
    pub(super) fn text(&mut self, node: Option<&Node>, what: &str) -> Option<String> {
        let node = node?;
        let NodeKind::Scalar(scalar) = &node.kind else {
            self.r.unexpected(node, what, "text");
            return None;
        };
        if scalar.binary {
            self.r.fail(node.span, format!("{what} must be text, not `!!binary`"));
            return None;
        }
        (!node.is_null() && !scalar.text.is_empty()).then(|| scalar.text.clone())
    }

    /// Reads secret text and masks it.
    pub(super) fn secret(&mut self, node: Option<&Node>, what: &str) -> Option<Secret<String>> {
        let text = self.text(node, what)?;
        self.masker.add(&text);
        self.r.source.credentials.add(&text);
        Some(Secret::new(text))
    }

    /// Reads the path of a file and adds it to the files of the module, whose content is available to probes.
    pub(super) fn path(&mut self, node: Option<&Node>, what: &str) -> Option<PathBuf> {
        let path = PathBuf::from(self.text(node, what)?);
        self.files.push(path.clone());
        Some(path)
    }

    /// Reads a list of file paths.
    pub(super) fn paths(&mut self, node: Option<&Node>, what: &str) -> Vec<PathBuf> {
        self.list(node, what).iter().filter_map(|item| self.path(Some(item), what)).collect()
    }

    /// Reads a list of texts.
    pub(super) fn texts(&mut self, node: Option<&Node>, what: &str) -> Vec<String> {
        self.list(node, what).iter().filter_map(|item| self.text(Some(item), what)).collect()
    }

    /// Reads pairs of text: `name: value`.
    pub(super) fn pairs(&mut self, node: Option<&Node>, what: &str) -> Vec<(String, String)> {
        let Some(node) = node else { return Vec::new() };
        let entries = self.entries(node, what);
        entries
            .into_iter()
            .map(|entry| (entry.key.clone(), self.text(Some(&entry.value), what).unwrap_or_default()))
            .collect()
    }

    /// Reads a boolean: `true` or `false`, and the YAML 1.1 alternatives.
    pub(super) fn boolean(&mut self, node: Option<&Node>, what: &str, default: bool) -> bool {
        let Some(node) = node.filter(|node| !node.is_null()) else { return default };
        let plain = node.scalar().filter(|scalar| scalar.plain).map(|scalar| scalar.text.as_str());
        match plain {
            Some("true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "y" | "Y") => true,
            Some("false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "n" | "N") => false,
            _ => {
                self.r.unexpected_value(node, &format!("{what} must be `true` or `false`"));
                default
            }
        }
    }

    /// Reads a whole number up to a limit.
    pub(super) fn number(&mut self, node: Option<&Node>, what: &str, limit: u32) -> Option<u32> {
        let node = node.filter(|node| !node.is_null())?;
        let number = node.scalar().filter(|scalar| scalar.plain).and_then(|scalar| scalar.text.parse::<i64>().ok());
        match number.and_then(|number| u32::try_from(number).ok()).filter(|number| *number <= limit) {
            Some(number) => Some(number),
            None => {
                self.r.unexpected_value(node, &format!("{what} must be a whole number from 0 to {limit}"));
                None
            }
        }
    }

    /// Reads a duration in Go's syntax. 0 gives `None`.
    pub(super) fn duration(&mut self, node: Option<&Node>, what: &str) -> Option<Duration> {
        let node = node.filter(|node| !node.is_null())?;
        let text = self.text(Some(node), what)?;
        match go_duration(&text) {
            Some(duration) => (!duration.is_zero()).then_some(duration),
            None => {
                let message = format!("{what}: `{}` is not a duration", crate::scenario::reader::cut(&text));
                self.r.fail_with(node.span, message, "write it like 5s, 1m30s or 250ms");
                None
            }
        }
    }

    /// Reads a size, in bytes.
    pub(super) fn size(&mut self, node: Option<&Node>, what: &str) -> u64 {
        let Some(node) = node.filter(|node| !node.is_null()) else { return 0 };
        let Some(text) = self.text(Some(node), what) else { return 0 };
        binary_size(&text).unwrap_or_else(|| {
            let message = format!("{what}: `{}` is not a size", crate::scenario::reader::cut(&text));
            self.r.fail_with(node.span, message, "write it like 10MB or 512KiB; both count by 1024");
            0
        })
    }

    /// Reads an IP address.
    pub(super) fn address(&mut self, node: Option<&Node>, what: &str) -> Option<IpAddr> {
        let text = self.text(node, what)?;
        let address = text.parse().ok();
        if address.is_none() {
            self.r.unexpected_value(node?, &format!("{what} must be an IP address"));
        }
        address
    }

    /// Reads one of a set of words.
    pub(super) fn word<'w>(&mut self, node: Option<&Node>, what: &str, words: &[&'w str]) -> Option<&'w str> {
        let node = node.filter(|node| !node.is_null())?;
        self.text(Some(node), what)?;
        self.r.word(node, what, words)
    }

    /// Reads a regular expression.
    pub(super) fn regex(&mut self, node: &Node, what: &str) -> Option<Regexp> {
        let text = self.text(Some(node), what)?;
        match regexp::compile(&text) {
            Ok(regex) => Some(regex),
            Err(why) => {
                let message = format!("{what}: `{}` is not a regular expression", crate::scenario::reader::cut(&text));
                self.r.fail_with(node.span, message, why);
                None
            }
        }
    }

    /// Reads a list of regular expressions.
    pub(super) fn regexes(&mut self, node: Option<&Node>, what: &str) -> Vec<Regexp> {
        self.list(node, what).iter().filter_map(|item| self.regex(item, what)).collect()
    }
}

/// Parses a duration in the same way as Go's `time.ParseDuration`, but without signs.
fn go_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (mut rest, mut seconds) = (text, 0.0_f64);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        seconds += number
            * match &rest[..letters] {
                "ns" => 1e-9,
                "us" | "µs" | "μs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return None,
            };
        rest = &rest[letters..];
    }
    // A day is far above any timeout and far below any overflow.
    (seconds <= 86_400.0).then(|| Duration::from_secs_f64(seconds))
}

/// Parses a size as in `blackbox_exporter`, where `10MB` and `10MiB` are the same.
fn binary_size(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..digits].parse().ok()?;
    let shift = match &text[digits..] {
        "B" => 0,
        "KB" | "KiB" => 10,
        "MB" | "MiB" => 20,
        "GB" | "GiB" => 30,
        "TB" | "TiB" => 40,
        _ => return None,
    };
    let bytes = number * (1_u64 << shift) as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be in between")]
    (bytes < 1e18).then_some(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_those_of_the_original() {
        for (text, expected) in [
            ("5s", Some(5.0)),
            ("1m30s", Some(90.0)),
            ("1.5h", Some(5400.0)),
            ("250ms", Some(0.25)),
            ("0", Some(0.0)),
            ("5", None),
            ("5d", None),
            ("", None),
            ("s", None),
            ("25h", None),
        ] {
            assert_eq!(go_duration(text).map(|duration| duration.as_secs_f64()), expected, "{text}");
        }
        for (text, expected) in [
            ("0", Some(0)),
            ("10MB", Some(10 << 20)),
            ("10MiB", Some(10 << 20)),
            ("1.5KB", Some(1536)),
            ("10", None),
            ("10Mb", None),
        ] {
            assert_eq!(binary_size(text), expected, "{text}");
        }
    }
}
