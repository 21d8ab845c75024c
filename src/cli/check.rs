//! `wachta check`: loads and lints scenarios without running anything.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use serde_json::json;

use crate::app::files::scenario_files;
use crate::bounded;
use crate::diagnostic::{Diagnostic, Severity};
use crate::names::exit;
use crate::scenario::tree::MAX_BYTES;
use crate::scenario::{Catalog, Lookup, assemble, load};

/// Arguments of `wachta check`.
#[derive(Debug, Clone, clap::Args)]
pub struct CheckArgs {
    /// Scenario files, or folders of them
    #[arg(required = true)]
    pub paths: Vec<PathBuf>,
    /// Output format of the diagnostics
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Output format of diagnostics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// Readable text with source lines.
    #[default]
    Text,
    /// One JSON array.
    Json,
}

/// Checks files and writes every diagnostic. Variables and files that are missing on this machine are warnings.
pub fn check(args: &CheckArgs, lookup: &dyn Lookup, color: bool, out: &mut dyn io::Write) -> io::Result<u8> {
    let paths = match scenario_files(&args.paths) {
        Ok(paths) => paths,
        Err(error) => {
            writeln!(out, "error: {error}")?;
            return Ok(exit::USAGE);
        }
    };
    let mut files = Vec::new();
    let mut unreadable = Vec::new();
    let mut scenarios = 0;
    for path in &paths {
        let shown = path.display().to_string();
        match bounded::read_text(path, MAX_BYTES as u64) {
            Ok(text) => {
                let loaded = load(&shown, &text, lookup);
                scenarios += loaded.scenarios.len();
                files.push((shown, loaded));
            }
            Err(error) => {
                let source = crate::diagnostic::Source::new(shown, "");
                let message = format!("cannot read the file: {error}");
                unreadable.push(Diagnostic::error(&source, crate::diagnostic::Span::default(), message));
            }
        }
    }
    let (_, mut found) = assemble(&Catalog::default(), files);
    found.extend(unreadable);
    let order: BTreeMap<String, usize> =
        paths.iter().enumerate().map(|(at, path)| (path.display().to_string(), at)).collect();
    found.sort_by_key(|one| (order.get(&one.source.path).copied(), one.span.line, one.span.column));

    let errors = found.iter().filter(|one| one.severity == Severity::Error).count();
    match args.format {
        Format::Json => {
            let all: Vec<_> = found.iter().map(as_json).collect();
            writeln!(out, "{:#}", serde_json::Value::from(all))?;
        }
        Format::Text => {
            for one in &found {
                writeln!(out, "{}", one.render_as(word(one.severity), color))?;
            }
            let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
            let warnings = found.len() - errors;
            writeln!(
                out,
                "{}, {}, {}, {}",
                count(paths.len(), "file"),
                count(scenarios, "scenario"),
                count(errors, "error"),
                count(warnings, "warning")
            )?;
        }
    }
    Ok(if errors > 0 { exit::USAGE } else { exit::PASSED })
}

pub(super) fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Warning | Severity::Missing => "warning",
        Severity::Error => "error",
    }
}

fn as_json(one: &Diagnostic) -> serde_json::Value {
    json!({
        "file": one.source.path,
        "line": one.span.line,
        "column": one.span.column,
        "severity": word(one.severity),
        "message": one.message,
        "label": one.label,
        "context": one.context,
        "notes": one.notes,
        "scenario": one.scenario,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::lookup::Environment;

    #[test]
    fn a_folder_with_ten_mistakes_gives_ten_diagnostics() {
        let folder = std::env::temp_dir().join(format!("wachta-check-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("deep")).unwrap();
        std::fs::write(
            folder.join("a.yaml"),
            "checks:\n  a: {tcp: x}\n  b: {tsl: \"a:1\"}\n  c: {http: /x, evry: 1m}\n  d: {tcp: \"a:1\", every: 5}\n",
        )
        .unwrap();
        std::fs::write(
            folder.join("deep/b.yml"),
            "scenario: B\nid: B\nsteps:\n  - click: Go\n  - clik: {button: Go}\n  - goto: /x\n",
        )
        .unwrap();
        std::fs::write(folder.join("deep/c.yaml"), "scenario: {\n").unwrap();
        std::fs::write(folder.join("part.yaml"), "parameters: [a]\nsteps:\n  - click: {button: \"${a}\"}\n").unwrap();
        std::fs::write(folder.join("uses.yaml"), "scenario: U\nsteps:\n  - use: part.yaml\n    with: {a: Go}\n")
            .unwrap();
        std::fs::write(folder.join("good.yaml"), "checks:\n  good: {tcp: \"a:1\"}\n").unwrap();
        std::fs::write(folder.join("x.schema.json"), "{}").unwrap();
        let run = |format| {
            let mut out = Vec::new();
            let args = CheckArgs { paths: vec![folder.clone()], format };
            let code = check(&args, &Environment::everything(), false, &mut out).unwrap();
            (code, String::from_utf8(out).unwrap())
        };
        let (code, text) = run(Format::Text);
        assert_eq!((code, text.lines().last()), (2, Some("6 files, 2 scenarios, 10 errors, 0 warnings")), "{text}");
        let (_, text) = run(Format::Json);
        let all: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        assert_eq!(all.len(), 10);
        assert_eq!((all[0]["line"].as_u64(), all[0]["severity"].as_str()), (Some(2), Some("error")));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
