//! `wachta check`: loads and lints scenarios and agent configurations without running anything.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::scenario_paths::named_files;
use super::serve::folder_of;
use crate::app::config;
use crate::app::lookup::Environment;
use crate::app::scenario_source::{self, DiskSource, File, ScenarioSource as _};
use crate::diagnostic::{Diagnostic, Severity, Source, Span};
use crate::names::exit;
use crate::scenario::{Catalog, Lookup, assemble, load, parents, tree};

/// Arguments of `wachta check`.
#[derive(Debug, Clone, clap::Args)]
pub struct CheckArgs {
    /// Scenario files, agent configurations, or folders of them
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

/// Results for some files.
#[derive(Default)]
struct Checked {
    files: usize,
    scenarios: usize,
    found: Vec<Diagnostic>,
}

/// Checks files and writes every diagnostic. Variables and files that are missing on this machine are warnings. The
/// scenarios of an agent configuration are checked with what that configuration allows.
pub fn check(args: &CheckArgs, lookup: &dyn Lookup, color: bool, out: &mut dyn io::Write) -> io::Result<u8> {
    let paths = match named_files(&args.paths) {
        Ok(paths) => paths,
        Err(error) => {
            writeln!(out, "error: {error}")?;
            return Ok(exit::USAGE);
        }
    };
    let mut checked = Checked { files: paths.len(), ..Checked::default() };
    let (agents, scenarios): (Vec<_>, Vec<_>) =
        paths.into_iter().map(|path| scenario_source::read(&path)).partition(|(path, text)| is_agents(path, text));
    // Files that belong to an agent are checked once, with its configuration.
    let mut seen = HashSet::new();
    for (path, text) in agents {
        let (config, problems) = config::read(&path, &text.unwrap_or_default());
        checked.found.extend(problems);
        if let Some(config) = config {
            let files = DiskSource::new(folder_of(Path::new(&path))).read(&config.scenarios);
            checked.files += files.iter().filter(|(path, _)| seen.insert(real(path))).count();
            let lookup = Environment::allowed(config.allow);
            check_files(files, &lookup, true, &mut checked);
        }
    }
    let before = scenarios.len();
    let rest: Vec<File> = scenarios.into_iter().filter(|(path, _)| !seen.contains(&real(path))).collect();
    checked.files -= before - rest.len();
    check_files(rest, lookup, false, &mut checked);
    let Checked { files, scenarios, found } = checked;

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
                count(files, "file"),
                count(scenarios, "scenario"),
                count(errors, "error"),
                count(warnings, "warning")
            )?;
        }
    }
    Ok(if errors > 0 { exit::USAGE } else { exit::PASSED })
}

/// Returns whether a file is an agent configuration and not a scenario file.
fn is_agents(path: &str, text: &io::Result<String>) -> bool {
    let Ok(text) = text else { return false };
    let Ok(root) = tree::parse(&Source::new(path, text.as_str())) else { return false };
    let has = |key: &str| root.get(key).is_some();
    (has("scenarios") || has("location")) && !has("scenario") && !has("checks") && !has("steps")
}

/// Returns the path of a file without symbolic links, if it exists.
fn real(path: &str) -> PathBuf {
    Path::new(path).canonicalize().unwrap_or_else(|_| path.into())
}

/// Loads files and adds what is found, ordered by file and line. `is_whole`: whether these are all files of an agent,
/// so that every scenario that others depend on must be among them.
fn check_files(files: Vec<File>, lookup: &dyn Lookup, is_whole: bool, into: &mut Checked) {
    let order: BTreeMap<String, usize> = files.iter().enumerate().map(|(at, (path, _))| (path.clone(), at)).collect();
    let mut loaded = Vec::new();
    let mut found = Vec::new();
    for (path, text) in files {
        match text {
            Ok(text) => loaded.push((path.clone(), load(&path, &text, lookup))),
            Err(error) => {
                let message = format!("cannot read the file: {error}");
                found.push(Diagnostic::error(&Source::new(path, ""), Span::default(), message));
            }
        }
    }
    into.scenarios += loaded.iter().map(|(_, loaded)| loaded.scenarios.len()).sum::<usize>();
    let (catalog, problems) = assemble(&Catalog::default(), loaded);
    found.extend(problems);
    if is_whole && found.iter().all(|one| one.severity < Severity::Error) {
        let refused = |id: &str| catalog.paused.contains_key(id);
        found.extend(parents(&catalog.scenarios, refused).1);
    }
    found.sort_by_key(|one| (order.get(&one.source.path).copied(), one.span.line, one.span.column));
    into.found.extend(found);
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

    #[test]
    fn an_agent_configuration_is_checked_with_its_scenarios() {
        let folder = std::env::temp_dir().join(format!("wachta-check-agent-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("scenarios")).unwrap();
        let run = |paths: &[&str]| {
            let mut out = Vec::new();
            let paths = paths.iter().map(|path| folder.join(path)).collect();
            let args = CheckArgs { paths, format: Format::Text };
            let code = check(&args, &Environment::everything(), false, &mut out).unwrap();
            (code, String::from_utf8(out).unwrap())
        };
        assert_eq!(run(&["scenarios"]).0, 2, "an empty folder is an error");
        let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
        write("wachta.yaml", "location: here\nscenarios: [scenarios/]\nallow: {env: [SHOP_URL]}\n");
        write(
            "scenarios/a.yaml",
            "checks:\n  a: {http: \"${env.SHOP_URL}\"}\n  b: {tcp: \"${env.OTHER}:1\", alert: {depends_on: [nobody]}}\n",
        );
        let (code, text) = run(&["wachta.yaml"]);
        assert_eq!(code, 0, "{text}");
        assert!(text.contains("`OTHER` is not allowed; add it to `allow.env`"), "{text}");
        assert!(text.contains("scenarios/a.yaml:3:"), "{text}");
        // The folder has both, and the scenario file is checked once.
        let (_, text) = run(&["."]);
        assert!(text.ends_with("2 files, 2 scenarios, 0 errors, 2 warnings\n"), "{text}");
        write("scenarios/a.yaml", "checks:\n  b: {tcp: \"a:1\", alert: {depends_on: [nobody]}}\n");
        let (_, text) = run(&["wachta.yaml"]);
        assert!(text.contains("`nobody`"), "{text}");
        write("wachta.yaml", "location: here\nscenarios: [scenarios/]\nsotre: x\n");
        let (code, text) = run(&["wachta.yaml"]);
        assert!(code == 2 && text.contains("unknown key `sotre`"), "{text}");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
