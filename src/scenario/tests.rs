//! The loader against golden files: `tests/golden/load/NAME.yaml` → `NAME.txt`, which contains the rendered
//! diagnostics, or the loaded scenarios if there are none. `WACHTA_BLESS=1` writes the latter.

use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::schema;
use super::{Action, Group, Lookup, LookupError, Scenario, Step, load, tree};
use crate::diagnostic::Source;

/// Lookup that has every variable and file, except those with `MISSING` or `missing` in their names.
struct Machine;

impl Lookup for Machine {
    fn env(&self, name: &str) -> Result<String, LookupError> {
        if name.contains("MISSING") {
            return Err(LookupError::Missing(format!("the variable `{name}` is not set")));
        }
        Ok("value".into())
    }

    fn file(&self, path: &Path, _: &str) -> Result<Vec<u8>, LookupError> {
        if path.to_string_lossy().contains("missing") {
            return Err(LookupError::Missing(format!("cannot read the file `{}`", path.display())));
        }
        if path.extension().is_some_and(|ending| ending == "yaml") {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/load");
            return std::fs::read(folder.join(path))
                .map_err(|_| LookupError::Missing(format!("cannot read the file `{}`", path.display())));
        }
        Ok(b"value".to_vec())
    }

    fn exec(&self, program: &str) -> Result<Vec<(String, String)>, LookupError> {
        if program.contains("missing") {
            return Err(LookupError::NotAllowed(format!("the program `{program}` is not allowed")));
        }
        Ok(Vec::new())
    }
}

fn golden() -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/load");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "yaml"));
    files.sort();
    files.into_iter().map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

fn shown(path: &Path, text: &str) -> String {
    let name = path.file_name().unwrap().to_string_lossy();
    let loaded = load(&name, text, &Machine);
    let mut out: Vec<String> =
        loaded.diagnostics.iter().map(|found| format!("{:?} {}", found.severity, found.render(false))).collect();
    for one in &loaded.scenarios {
        out.push(format!(
            "{} {:?} {} timeout {:?} {:?}\n",
            one.id.value, one.name, one.schedule, one.timeout, one.alert
        ));
        for step in one.steps.iter().chain(&one.finally) {
            steps(one, step, &mut out);
        }
    }
    out.concat()
}

fn steps(scenario: &Scenario, step: &Step, out: &mut Vec<String>) {
    let source = step.source.as_ref().unwrap_or(&scenario.source);
    let file = if step.source.is_some() { format!(" {}", source.path) } else { String::new() };
    out.push(format!("  {} {:?} {:?}{file}\n", step.name, step.timeout(), source.slice(step.span)));
    if let (Action::Group(Group { steps: inner, .. }), true) = (&step.action, scenario.name.starts_with("Use")) {
        for step in inner {
            steps(scenario, step, out);
        }
    }
}

#[test]
fn golden_files() {
    let bless = std::env::var_os("WACHTA_BLESS").is_some();
    let mut wrong = Vec::new();
    for (path, text) in golden() {
        let shown = shown(&path, &text);
        let expected = path.with_extension("txt");
        if bless {
            std::fs::write(&expected, &shown).unwrap();
        } else if std::fs::read_to_string(&expected).unwrap_or_default() != shown {
            wrong.push(format!("{}\n{shown}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn good_files_fit_the_schema() {
    let schema = schema::scenario_files();
    let mut seen = 0;
    for (path, text) in golden() {
        let source = Source::new("a.yaml", text.as_str());
        let good = path.file_name().unwrap().to_string_lossy().starts_with("good");
        if good {
            seen += 1;
            let loaded = load("a.yaml", &text, &Machine);
            assert!(!loaded.scenarios.is_empty(), "{}: {:?}", path.display(), loaded.diagnostics);
            let root = tree::parse(&source).unwrap();
            assert_eq!(schema::tests::fits(&schema, &schema, &root), Ok(()), "{}", path.display());
        }
    }
    assert!(seen >= 4);
}

/// Lookup of files by name, defined by a test.
struct Files<F>(F);

impl<F: Fn(&str) -> Option<String> + Send + Sync> Lookup for Files<F> {
    fn env(&self, _: &str) -> Result<String, LookupError> {
        Ok("value".into())
    }

    fn file(&self, path: &Path, _: &str) -> Result<Vec<u8>, LookupError> {
        let text = path.to_str().and_then(&self.0);
        text.map(String::into_bytes).ok_or_else(|| LookupError::Missing(format!("no `{}`", path.display())))
    }
}

/// Returns the problems of a scenario that uses `0.yaml` with an argument `x`. The content of the files depends on
/// their numbers.
fn wrong_with(x: &str, file: impl Fn(u32) -> String + Send + Sync) -> Vec<String> {
    let files = Files(|path: &str| path.strip_suffix(".yaml")?.parse().ok().map(&file));
    let text = format!("scenario: A\nsteps:\n  - use: 0.yaml\n    with: {{x: {x}}}\n");
    load("a.yaml", &text, &files).diagnostics.into_iter().map(|found| found.message).collect()
}

#[test]
fn used_files_do_not_multiply_without_end() {
    let head = "parameters: [x]\nsteps:\n";
    let next = |n: u32, x: &str| format!("{head}  - use: {}.yaml\n    with: {{x: {x}}}\n", n + 1);
    let wide = |n: u32| {
        let again = "  - use: 1.yaml\n    with: {x: a}\n".repeat(300);
        let rest = if n == 0 { again } else { String::new() };
        format!("{head}  - click: {{css: \"${{x}}\"}}\n{rest}")
    };
    assert_eq!(wrong_with("a", wide), ["more than 256 files are used by one scenario"]);
    assert_eq!(wrong_with("a", |n| next(n, "\"${x}\"")), ["fragments are nested more than 16 levels deep"]);
    let text = |n| next(n, &format!("\"{}\"", "${x}".repeat(8)));
    let list = |n| next(n, &format!("[{}]", "\"${x}\", ".repeat(8)));
    let deep = |n| next(n, &format!("{}\"${{x}}\"{}", "[".repeat(20), "]".repeat(20)));
    for wrong in [wrong_with("abcd", text), wrong_with("abcd", list), wrong_with("[a]", deep)] {
        assert_eq!(wrong, ["the parameters expand this file too much"]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn load_never_panics(which in any::<prop::sample::Index>(), edits in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..6, "[-{}:#,\\[\\]*&!|>'\"$ \nxä0]{0,4}"), 1..6)) {
        let all = golden();
        let mut text: Vec<char> = all[which.index(all.len())].1.chars().collect();
        for (at, remove, insert) in edits {
            let at = at.index(text.len() + 1);
            let end = (at + remove).min(text.len());
            text.splice(at..end, insert.chars());
        }
        let text: String = text.into_iter().collect();
        for found in load("a.yaml", &text, &Machine).diagnostics {
            found.render(false);
        }
    }

    #[test]
    fn used_files_never_panic(edits in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..6, "[-{}:#,\\[\\]*&!|>'\"$ \nxä0]{0,4}"), 1..6), argument in "[-{}:,\\[\\]'\"$ xä0]{0,8}") {
        let mut text: Vec<char> = include_str!("../../tests/golden/load/parts/login.yaml").chars().collect();
        for (at, remove, insert) in edits {
            let at = at.index(text.len() + 1);
            let end = (at + remove).min(text.len());
            text.splice(at..end, insert.chars());
        }
        let text: String = text.into_iter().collect();
        let files = Files(|path: &str| path.ends_with("login.yaml").then(|| text.clone()));
        let scenario = format!("scenario: A\nsteps:\n  - use: login.yaml\n    with: {{user: {argument}, password: a, greeting: {{contains: b}}}}\n");
        for found in load("a.yaml", &scenario, &files).diagnostics {
            found.render(false);
        }
    }
}
