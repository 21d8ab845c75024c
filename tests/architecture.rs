//! The layer table of `lib.rs`, held against every file under `src`: imports point down only. And the share of comments
//! that break the rules of English in CONTRIBUTING.md.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Row by row, what may import only from rows below its own, and from itself.
const LAYERS: [&[&str]; 8] = [
    &["scenario", "outcome", "incident", "names", "diagnostic", "secret"],
    &["clock", "tasks", "bounded", "own_errors"],
    &["store", "wire", "values"],
    &["browser", "schedule", "sink", "notify", "demo"],
    &["run", "blackbox"],
    &["web", "alert"],
    &["app"],
    &["cli", "main"],
];

/// The arrows within row 0: who may use whom.
const WORDS: [(&str, &[&str]); 6] = [
    ("names", &[]),
    ("diagnostic", &["secret"]),
    ("secret", &[]),
    ("scenario", &["names", "diagnostic", "secret"]),
    ("outcome", &["scenario", "names", "diagnostic", "secret"]),
    ("incident", &["outcome", "scenario", "names", "diagnostic", "secret"]),
];

/// Files above row 0 that decide and therefore do nothing.
const PURE: [&str; 22] = [
    "alert/burn_rate.rs",
    "alert/fingerprint.rs",
    "alert/changes.rs",
    "alert/effects.rs",
    "alert/flapping.rs",
    "alert/group.rs",
    "alert/groups.rs",
    "alert/suppression.rs",
    "alert/state_machine.rs",
    "alert/mute.rs",
    "alert/pipeline.rs",
    "alert/pipeline/slo.rs",
    "alert/routing.rs",
    "alert/replay.rs",
    "alert/slo.rs",
    "schedule/diff.rs",
    "sink/queue.rs",
    "sink/remote_write/answer.rs",
    "sink/remote_write/message.rs",
    "sink/zabbix/dashboard.rs",
    "sink/zabbix/difference.rs",
    "sink/zabbix/template.rs",
];

/// What a pure file does not name.
const IMPURE: [&str; 9] =
    ["tokio", "reqwest", "fantoccini", "sqlx", "std::fs", "std::net", "Utc::now", "Instant::now", "SystemTime::now"];

/// Words that name nothing.
const EMPTY_NAMES: [&str; 5] = ["util", "utils", "common", "helper", "manager"];

/// The code of a file: comments and the contents of strings and characters are blanks, so that lines and columns stay.
fn code(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    let blank = |out: &mut String, c: char| out.push(if c == '\n' { '\n' } else { ' ' });
    let word = |c: char| c.is_alphanumeric() || c == '_';
    while at < chars.len() {
        let rest = &chars[at..];
        let before = at.checked_sub(1).map_or(' ', |i| chars[i]);
        let hashes = rest.iter().skip(1).take_while(|c| **c == '#').count();
        let end = if rest.starts_with(&['/', '/']) {
            at + rest.iter().position(|c| *c == '\n').unwrap_or(rest.len())
        } else if rest.starts_with(&['/', '*']) {
            let (mut depth, mut i) = (0_usize, 0);
            loop {
                match rest.get(i..i + 2) {
                    Some(['/', '*']) => (depth, i) = (depth + 1, i + 2),
                    Some(['*', '/']) => (depth, i) = (depth - 1, i + 2),
                    Some(_) => i += 1,
                    None => break at + rest.len(),
                }
                if depth == 0 {
                    break at + i;
                }
            }
        } else if rest[0] == 'r' && (!word(before) || before == 'b') && rest.get(1 + hashes) == Some(&'"') {
            let close: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
            let from = 2 + hashes;
            let length = rest[from..].windows(close.len()).position(|window| window == close).unwrap_or(rest.len());
            (at + from + length + close.len()).min(chars.len())
        } else if rest[0] == '"' {
            let mut i = 1;
            while i < rest.len() && rest[i] != '"' {
                i += if rest[i] == '\\' { 2 } else { 1 };
            }
            (at + i + 1).min(chars.len())
        } else if rest[0] == '\'' && rest.get(1) == Some(&'\\') {
            at + 3 + rest[3..].iter().position(|c| *c == '\'').map_or(0, |i| i + 1)
        } else if rest[0] == '\'' && rest.get(2) == Some(&'\'') {
            at + 3
        } else {
            out.push(rest[0]);
            at += 1;
            continue;
        };
        for c in &chars[at..end.min(chars.len())] {
            blank(&mut out, *c);
        }
        at = end;
    }
    out
}

/// Where a path of modules stands in code: (byte, the modules named after it).
fn paths<'a>(code: &'a str, root: &'a str) -> impl Iterator<Item = (usize, Vec<&'a str>)> {
    code.match_indices(root).filter_map(move |(at, _)| {
        let before = code[..at].chars().next_back().unwrap_or(' ');
        if before.is_alphanumeric() || before == '_' || before == ':' {
            return None;
        }
        let rest = code[at + root.len()..].trim_start();
        let name = |text: &'a str| {
            let text = text.trim_start();
            let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
            &text[..end]
        };
        let Some(list) = rest.strip_prefix('{') else { return Some((at, vec![name(rest)])) };
        // `use crate::{a::b, c::{d, e}}`: the first word of each element.
        let (mut depth, mut names, mut from) = (0_usize, Vec::new(), 0);
        for (i, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => {
                    names.push(name(&list[from..i]));
                    break;
                }
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    names.push(name(&list[from..i]));
                    from = i + 1;
                }
                _ => {}
            }
        }
        names.retain(|name| !name.is_empty());
        Some((at, names))
    })
}

/// The module at the top of the crate that a file under `src` belongs to.
fn top(file: &str) -> &str {
    file.split('/').next().unwrap_or(file).trim_end_matches(".rs")
}

/// How many modules deep a file stands below `src`: `run/check/mod.rs` is the module `run::check`, 2.
fn depth(file: &str) -> usize {
    file.trim_end_matches(".rs").trim_end_matches("/mod").split('/').count()
}

/// How many `mod name { … }` are open at the end of this code.
fn inline_modules(code: &str) -> usize {
    let mut open = Vec::new();
    for (at, brace) in code.match_indices(['{', '}']) {
        if brace == "}" {
            open.pop();
        } else {
            let mut words = code[..at].split_whitespace().rev();
            open.push(words.next().is_some() && words.next() == Some("mod"));
        }
    }
    open.into_iter().filter(|is_module| *is_module).count()
}

fn row(module: &str) -> Option<usize> {
    LAYERS.iter().position(|row| row.contains(&module))
}

fn may_use(user: &str, used: &str) -> bool {
    if user == used || user == "lib" {
        return true;
    }
    match (row(user), row(used)) {
        (Some(0), Some(0)) => WORDS.iter().any(|(word, uses)| *word == user && uses.contains(&used)),
        (Some(user_row), Some(used_row)) => used_row < user_row || (user, used) == ("main", "cli"),
        _ => false,
    }
}

/// Every import of a file that does not point down, and everything a pure file must not name.
fn faults(file: &str, text: &str) -> Vec<String> {
    let code = code(text);
    let user = top(file);
    let is_test = file.ends_with("tests.rs") || file.contains("/tests/");
    let mut faults = Vec::new();
    let mut fault = |at: usize, what: String| {
        let line = code[..at].matches('\n').count() + 1;
        faults.push(format!("src/{file}:{line}: {what}"));
    };
    if user != "lib" && row(user).is_none() {
        fault(0, format!("`{user}` is in no row of the table"));
    }
    let own_name = if user == "main" { "wachta::" } else { "crate::" };
    for (at, names) in paths(&code, own_name) {
        for name in names {
            // What is no module is an item that `lib.rs` would have to export; it exports none.
            // The shop is the tests' site: an engine's tests may visit it, the engine may not.
            let visits_the_shop = is_test && name == "demo";
            if !visits_the_shop && !may_use(user, name) {
                fault(at, format!("`{user}` must not use `{name}`"));
            }
        }
    }
    // From a module `super` leads one up; code in an inline module stands deeper than its file.
    for (at, _) in code.match_indices("super::").filter(|(at, _)| !code[..*at].ends_with("super::")) {
        let mut ups = 0;
        let mut rest = &code[at..];
        while let Some(next) = rest.strip_prefix("super::") {
            (ups, rest) = (ups + 1, next);
        }
        let levels = depth(file) + inline_modules(&code[..at]);
        if user != "lib" && ups >= levels {
            let used: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if ups > levels || !may_use(user, &used) {
                fault(at, format!("`super` leads out of `{user}`"));
            }
        }
    }
    if (row(user) == Some(0) || PURE.contains(&file)) && !is_test {
        let own = code.find("#[cfg(test)]").unwrap_or(code.len());
        for name in IMPURE {
            for (at, _) in code[..own].match_indices(name) {
                fault(at, format!("a pure file must not name `{name}`"));
            }
        }
    }
    for name in EMPTY_NAMES {
        for (at, _) in code.match_indices("mod ") {
            let named = code[at + 4..].trim_start();
            if named.strip_prefix(name).is_some_and(|rest| rest.starts_with([';', ' ', '{'])) {
                fault(at, format!("a module named `{name}` says nothing"));
            }
        }
    }
    if !text.starts_with("//!") {
        fault(0, "a module begins with `//!`".into());
    }
    faults
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("the sources are there").flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn imports_point_down_only() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    files(&src, &mut found);
    found.sort();
    assert!(found.len() > 80, "only {} files were found", found.len());
    let mut all = String::new();
    for path in found {
        let name = path.strip_prefix(&src).expect("below src").to_string_lossy().replace('\\', "/");
        for fault in faults(&name, &std::fs::read_to_string(&path).expect("the file reads")) {
            let _ = writeln!(all, "{fault}");
        }
    }
    assert!(all.is_empty(), "\n{all}");
}

#[test]
fn a_wrong_import_is_found_and_a_right_one_is_not() {
    let check = |file: &str, text: &str, expected: &[&str]| {
        assert_eq!(faults(file, &format!("//! A module.\n{text}")), expected, "{file}: {text}");
    };
    // Down, within itself, and along the arrows of row 0.
    check("alert/committer.rs", "use crate::store::Batch;\nuse crate::{names::metric, notify};", &[]);
    check("run/http.rs", "use super::flow;\nuse crate::values::expect;", &[]);
    check("incident.rs", "use crate::outcome::RunId;\nuse crate::scenario::Severity;", &[]);
    check("browser/tests.rs", "use crate::demo::Demo;", &[]);
    check("browser/page.rs", "use crate::demo::Demo;", &["src/browser/page.rs:2: `browser` must not use `demo`"]);
    check("main.rs", "fn main() { wachta::cli::main() }", &[]);
    // Up, sideways, and against the arrows.
    check("store/mod.rs", "\nuse crate::alert::Committer;", &["src/store/mod.rs:3: `store` must not use `alert`"]);
    check("browser/page.rs", "use crate::sink::Metrics;", &["src/browser/page.rs:2: `browser` must not use `sink`"]);
    check(
        "scenario/model.rs",
        "use crate::outcome::Verdict;",
        &["src/scenario/model.rs:2: `scenario` must not use `outcome`"],
    );
    check("names.rs", "use crate::secret;", &["src/names.rs:2: `names` must not use `secret`"]);
    check("web/mod.rs", "fn f() { crate::alert::route() }", &["src/web/mod.rs:2: `web` must not use `alert`"]);
    check("app/mod.rs", "use crate::cli;", &["src/app/mod.rs:2: `app` must not use `cli`"]);
    check("cli/run.rs", "use crate::main;", &["src/cli/run.rs:2: `cli` must not use `main`"]);
    let nested = "use crate::{\n    names::{Reason, metric},\n    web,\n};";
    check("notify/log.rs", nested, &["src/notify/log.rs:2: `notify` must not use `web`"]);
    check("extra/mod.rs", "", &["src/extra/mod.rs:1: `extra` is in no row of the table"]);
    // Out by `super`.
    check("browser/mod.rs", "use super::sink;", &["src/browser/mod.rs:2: `super` leads out of `browser`"]);
    check("browser/act.rs", "use super::super::sink;", &["src/browser/act.rs:2: `super` leads out of `browser`"]);
    check("run/http.rs", "mod tests {\n    use super::super::tls;\n}", &[]);
    check(
        "names.rs",
        "pub mod metric {\n    use super::Metric;\n}\nuse super::web;",
        &["src/names.rs:5: `super` leads out of `names`"],
    );
    check("run/check/tcp.rs", "use super::super::flow::Flow;", &[]);
    // What stands in comments and strings is no import.
    check("store/mod.rs", "// use crate::alert;\n/* crate::web:: */ const A: &str = \"crate::cli::\";", &[]);
    check("store/mod.rs", "const A: &str = r#\"\"crate::cli::\"#; const Q: char = '\"'; // crate::app::", &[]);
    let after = "const A: &str = \"a\\\"b\"; const Q: char = '\\''; fn f<'a>(_: &'a u8) { crate::web::f() }";
    check("store/mod.rs", after, &["src/store/mod.rs:2: `store` must not use `web`"]);
    // Purity.
    check(
        "schedule/diff.rs",
        "fn f() { Utc::now(); }",
        &["src/schedule/diff.rs:2: a pure file must not name `Utc::now`"],
    );
    check("scenario/load.rs", "use std::fs::File;", &["src/scenario/load.rs:2: a pure file must not name `std::fs`"]);
    check("scenario/load.rs", "#[cfg(test)]\nmod tests { use std::fs; }", &[]);
    // Names and words.
    check("run/mod.rs", "pub mod util;\nmod utility;", &["src/run/mod.rs:2: a module named `util` says nothing"]);
    assert_eq!(faults("run/mod.rs", "use std::fmt;"), ["src/run/mod.rs:1: a module begins with `//!`"]);
}

#[test]
fn comments_stand_alone() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let counted = std::process::Command::new("python3")
        .args(["tests/support/comments.py", "--max", "5", "src"])
        .current_dir(folder)
        .output()
        .expect("python3 runs; tests/support/packages.sh installs it");
    let said = String::from_utf8_lossy(&counted.stdout);
    assert!(counted.status.success(), "{said}see them with tests/support/comments.py --list src");
    // The script finds what it is meant to find.
    let bad = std::env::temp_dir().join(format!("wachta-comments-{}.rs", std::process::id()));
    let text = "/// Who asks.\nstruct A {\n    /// None: the name is none.\n    b: Option<u8>,\n}\n/// A question.\nfn ask() {}\n";
    std::fs::write(&bad, text).expect("the temporary folder takes a file");
    let counted = std::process::Command::new("python3")
        .args(["tests/support/comments.py", "--max", "5"])
        .arg(&bad)
        .current_dir(folder)
        .output()
        .expect("python3 runs");
    let _ = std::fs::remove_file(&bad);
    let said = String::from_utf8_lossy(&counted.stdout);
    assert!(!counted.status.success() && said.starts_with("3 of 3 "), "{said}");
}
