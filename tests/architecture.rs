//! The layer table of `lib.rs`, held against every file under `src`: imports point down only, and files do not depend
//! on each other in a circle. And the share of comments that break the rules of English in CONTRIBUTING.md.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};
use syn::{Attribute, Item, UseTree, Visibility};

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
const PURE: [&str; 44] = [
    "alert/agent.rs",
    "alert/budgets.rs",
    "alert/burn_rate.rs",
    "alert/changes.rs",
    "alert/conclusive_verdict.rs",
    "alert/context.rs",
    "alert/effects.rs",
    "alert/escalation.rs",
    "alert/evaluation.rs",
    "alert/fingerprint.rs",
    "alert/idle.rs",
    "alert/pipeline.rs",
    "alert/pipeline/absence.rs",
    "alert/pipeline/clock.rs",
    "alert/pipeline/commands.rs",
    "alert/pipeline/objectives.rs",
    "alert/pipeline/receivers.rs",
    "alert/pipeline/upkeep.rs",
    "alert/receiver_names.rs",
    "alert/replay.rs",
    "alert/routing.rs",
    "alert/slo.rs",
    "alert/stages.rs",
    "alert/stages/evaluate.rs",
    "alert/stages/flapping.rs",
    "alert/stages/group.rs",
    "alert/stages/group/notification_group.rs",
    "alert/stages/group/notification_group/flush.rs",
    "alert/stages/group/notification_group/membership.rs",
    "alert/stages/limit.rs",
    "alert/stages/mute.rs",
    "alert/stages/quorum.rs",
    "alert/stages/suppress.rs",
    "alert/stages/suppression.rs",
    "alert/stages/threshold.rs",
    "alert/states.rs",
    "alert/timers.rs",
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

/// Circles that remain, each as the list of its files. The list only becomes shorter.
const CIRCLES: [&[&str]; 0] = [];

/// Path in the code of a file, such as `crate::store::Batch`.
struct CodePath {
    names: Vec<String>,
    /// Line of the first name.
    line: usize,
    /// Names of the inline modules around it.
    inside: Vec<String>,
    /// Whether it is compiled for tests only.
    is_test: bool,
    /// The name that an import gives it, and whether the import is public. `None` for any other path.
    import: Option<(String, bool)>,
}

/// Paths, items and modules of one file.
#[derive(Default)]
struct Code {
    paths: Vec<CodePath>,
    /// Items outside of functions: the inline modules around them, and their names.
    items: BTreeSet<(Vec<String>, String)>,
    /// Declared modules with their lines, and whether they are compiled for tests only.
    modules: Vec<(Vec<String>, usize, bool)>,
    inside: Vec<String>,
    in_test: bool,
    /// Number of blocks around the present position.
    blocks: usize,
}

impl Code {
    fn read(text: &str) -> syn::Result<Self> {
        let mut code = Self::default();
        code.visit_file(&syn::parse_file(text)?);
        Ok(code)
    }

    fn add(&mut self, names: Vec<String>, line: usize, import: Option<(String, bool)>) {
        let (inside, is_test) = (self.inside.clone(), self.in_test);
        self.paths.push(CodePath { names, line, inside, is_test, import });
    }

    /// Adds every path of an import: `use a::{b, c as d}` has `a::b` and `a::c`.
    fn add_import(&mut self, tree: &UseTree, mut names: Vec<String>, line: usize, is_public: bool) {
        match tree {
            UseTree::Path(path) => {
                names.push(path.ident.to_string());
                self.add_import(&path.tree, names, line, is_public);
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.add_import(tree, names.clone(), line, is_public);
                }
            }
            UseTree::Glob(_) => {
                names.push("*".into());
                self.add(names, line, Some(("*".into(), is_public)));
            }
            UseTree::Name(name) => {
                if name.ident != "self" {
                    names.push(name.ident.to_string());
                }
                let own = names.last().cloned().unwrap_or_default();
                self.add(names, line, Some((own, is_public)));
            }
            UseTree::Rename(rename) => {
                if rename.ident != "self" {
                    names.push(rename.ident.to_string());
                }
                self.add(names, line, Some((rename.rename.to_string(), is_public)));
            }
        }
    }

    /// Adds the paths in the tokens of a macro, which are not parsed.
    fn add_tokens(&mut self, tokens: TokenStream) {
        let (mut names, mut line, mut colons) = (Vec::new(), 0, 0);
        for token in tokens {
            if let TokenTree::Punct(punct) = &token
                && punct.as_char() == ':'
            {
                colons += 1;
                continue;
            }
            let goes_on = colons == 2 && matches!(token, TokenTree::Ident(_));
            colons = 0;
            if !goes_on {
                let path = std::mem::take(&mut names);
                if path.len() > 1 {
                    self.add(path, line, None);
                }
            }
            match token {
                TokenTree::Ident(name) => {
                    if names.is_empty() {
                        line = name.span().start().line;
                    }
                    names.push(name.to_string());
                }
                TokenTree::Group(group) => self.add_tokens(group.stream()),
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
        }
        if names.len() > 1 {
            self.add(names, line, None);
        }
    }
}

/// Returns whether an item is compiled for tests only.
fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let condition = attribute.meta.require_list().map(|list| list.tokens.to_string());
        attribute.path().is_ident("cfg") && condition.is_ok_and(|condition| condition == "test")
    })
}

/// Returns the attributes of an item, and its name if other items can use it by name.
fn described(item: &Item) -> (&[Attribute], Option<String>) {
    match item {
        Item::Const(item) => (&item.attrs, Some(item.ident.to_string())),
        Item::Enum(item) => (&item.attrs, Some(item.ident.to_string())),
        Item::Fn(item) => (&item.attrs, Some(item.sig.ident.to_string())),
        Item::Macro(item) => (&item.attrs, item.ident.as_ref().map(ToString::to_string)),
        Item::Static(item) => (&item.attrs, Some(item.ident.to_string())),
        Item::Struct(item) => (&item.attrs, Some(item.ident.to_string())),
        Item::Trait(item) => (&item.attrs, Some(item.ident.to_string())),
        Item::Type(item) => (&item.attrs, Some(item.ident.to_string())),
        Item::Union(item) => (&item.attrs, Some(item.ident.to_string())),
        Item::Impl(item) => (&item.attrs, None),
        Item::Mod(item) => (&item.attrs, None),
        Item::Use(item) => (&item.attrs, None),
        _ => (&[], None),
    }
}

impl<'ast> Visit<'ast> for Code {
    fn visit_item(&mut self, item: &'ast Item) {
        let (attributes, name) = described(item);
        let before = self.in_test;
        self.in_test |= is_for_tests(attributes);
        if let (Some(name), 0) = (name, self.blocks) {
            self.items.insert((self.inside.clone(), name));
        }
        visit::visit_item(self, item);
        self.in_test = before;
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        let before = self.in_test;
        self.in_test |= is_for_tests(&item.attrs);
        visit::visit_impl_item_fn(self, item);
        self.in_test = before;
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.inside.push(item.ident.to_string());
        self.modules.push((self.inside.clone(), item.mod_token.span().start().line, self.in_test));
        visit::visit_item_mod(self, item);
        self.inside.pop();
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let is_public = !matches!(item.vis, Visibility::Inherited);
        self.add_import(&item.tree, Vec::new(), item.tree.span().start().line, is_public);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.add(names, path.span().start().line, None);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        self.add_tokens(item.tokens.clone());
        visit::visit_macro(self, item);
    }

    fn visit_block(&mut self, block: &'ast syn::Block) {
        self.blocks += 1;
        visit::visit_block(self, block);
        self.blocks -= 1;
    }

    /// The paths of `pub(in …)` are no dependencies.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}
}

/// The module at the top of the crate that a file under `src` belongs to.
fn top(file: &str) -> &str {
    file.split('/').next().unwrap_or(file).trim_end_matches(".rs")
}

/// The module of a file under `src`: `run/check/mod.rs` is `run::check`.
fn module(file: &str) -> Vec<String> {
    let names = file.trim_end_matches(".rs").trim_end_matches("/mod");
    names.split('/').filter(|name| *name != "lib").map(ToOwned::to_owned).collect()
}

/// Returns whether a file contains tests only.
fn is_test(file: &str) -> bool {
    file.ends_with("tests.rs") || file.contains("/tests/")
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

/// Returns whether a path contains a name such as `tokio` or `std::fs`.
fn contains(path: &[String], name: &str) -> bool {
    let wanted: Vec<&str> = name.split("::").collect();
    path.windows(wanted.len()).any(|names| {
        let (last, before) = names.split_last().expect("a name is not empty");
        let (wanted_last, wanted_before) = wanted.split_last().expect("a name is not empty");
        before.iter().eq(wanted_before) && last.starts_with(wanted_last)
    })
}

/// Every import of a file that does not point down, and everything a pure file must not name.
fn faults(file: &str, text: &str) -> Vec<String> {
    let code = match Code::read(text) {
        Ok(code) => code,
        Err(error) => return vec![format!("src/{file}:{}: {error}", error.span().start().line)],
    };
    let user = top(file);
    let mut faults = Vec::new();
    let mut fault = |line: usize, what: String| {
        let fault = format!("src/{file}:{line}: {what}");
        if !faults.contains(&fault) {
            faults.push(fault);
        }
    };
    if user != "lib" && row(user).is_none() {
        fault(1, format!("`{user}` is in no row of the table"));
    }
    let own_name = if user == "main" { "wachta" } else { "crate" };
    for CodePath { names, line, .. } in &code.paths {
        if let [first, name, ..] = names.as_slice()
            && first == own_name
        {
            // What is no module is an item that `lib.rs` would have to export; it exports none.
            // The shop is the tests' site: an engine's tests may visit it, the engine may not.
            let visits_the_shop = is_test(file) && name == "demo";
            if !visits_the_shop && !may_use(user, name) {
                fault(*line, format!("`{user}` must not use `{name}`"));
            }
        }
    }
    // From a module `super` leads one up; code in an inline module stands deeper than its file.
    for CodePath { names, line, inside, .. } in &code.paths {
        let names = names.strip_prefix(&["self".to_owned()]).unwrap_or(names);
        let ups = names.iter().take_while(|name| *name == "super").count();
        let levels = module(file).len() + inside.len();
        if user != "lib" && ups > 0 && ups >= levels {
            let used = names.get(ups).map_or("", String::as_str);
            if ups > levels || !may_use(user, used) {
                fault(*line, format!("`super` leads out of `{user}`"));
            }
        }
    }
    if (row(user) == Some(0) || PURE.contains(&file)) && !is_test(file) {
        for name in IMPURE {
            for path in code.paths.iter().filter(|path| !path.is_test && contains(&path.names, name)) {
                fault(path.line, format!("a pure file must not name `{name}`"));
            }
        }
    }
    for (path, line, _) in &code.modules {
        if let Some(name) = path.last().filter(|name| EMPTY_NAMES.contains(&name.as_str())) {
            fault(*line, format!("a module named `{name}` says nothing"));
        }
    }
    if !text.starts_with("//!") {
        fault(1, "a module begins with `//!`".into());
    }
    faults
}

/// What one module makes available, and the file that it is in.
#[derive(Default)]
struct Names {
    file: usize,
    items: BTreeSet<String>,
    /// Imported names with their paths from the top of the crate, and whether other modules can use them.
    imports: BTreeMap<String, (Vec<String>, bool)>,
    /// Modules all of whose names other modules can use here.
    globs: Vec<Vec<String>>,
}

/// Modules of the crate, by their paths.
struct Crate(BTreeMap<Vec<String>, Names>);

impl Crate {
    /// Returns a path from the top of the crate, or `None` for a path that leads out of it.
    fn absolute(&self, module: &[String], path: &[String]) -> Option<Vec<String>> {
        let (first, rest) = path.split_first()?;
        if first == "crate" {
            return Some(rest.to_vec());
        }
        if first == "self" || first == "super" {
            let ups = path.iter().filter(|name| *name == "super").count();
            let rest = path.iter().skip_while(|name| *name == "self" || *name == "super");
            let base = module.get(..module.len().checked_sub(ups)?)?;
            return Some(base.iter().chain(rest).cloned().collect());
        }
        let inner: Vec<String> = module.iter().chain(path).cloned().collect();
        self.0.contains_key(&inner[..=module.len()]).then_some(inner)
    }

    /// Returns the file that defines what a path from the top of the crate names. Re-exports are followed; the name of
    /// a module alone is not a dependency.
    fn definer(&self, path: &[String], depth: usize) -> Option<usize> {
        let length = (0..=path.len()).rev().find(|length| self.0.contains_key(&path[..*length]))?;
        let (module, rest) = path.split_at(length);
        let (names, name) = (&self.0[module], rest.first()?);
        if depth > 8 || names.items.contains(name) {
            return Some(names.file);
        }
        if let Some((target, true)) = names.imports.get(name) {
            let target: Vec<String> = target.iter().chain(&rest[1..]).cloned().collect();
            return self.definer(&target, depth + 1);
        }
        for glob in &names.globs {
            let path: Vec<String> = glob.iter().chain(rest).cloned().collect();
            let has = |names: &Names| names.items.contains(name) || names.imports.contains_key(name);
            if self.0.get(glob).is_some_and(has) {
                return self.definer(&path, depth + 1);
            }
        }
        Some(names.file)
    }
}

/// Files that depend on each other, in the order of their names, with the dependencies between them.
#[derive(Debug, PartialEq)]
struct Circle {
    files: Vec<String>,
    uses: Vec<(String, String)>,
}

/// Returns all circles between the files of a crate, given as (name, text). Tests are left out.
fn circles(files: &[(String, String)]) -> Vec<Circle> {
    let files: Vec<_> = files.iter().filter(|(file, _)| !is_test(file) && file != "main.rs").collect();
    let codes: Vec<_> =
        files.iter().map(|(file, text)| (module(file), Code::read(text).expect("it is parsed"))).collect();
    let own: BTreeSet<_> = codes.iter().map(|(module, _)| module.clone()).collect();
    let mut tests = BTreeSet::new();
    let mut all = Crate(BTreeMap::new());
    for (at, (module, code)) in codes.iter().enumerate() {
        all.0.entry(module.clone()).or_default().file = at;
        for (inner, _, is_test) in &code.modules {
            let path: Vec<String> = module.iter().chain(inner).cloned().collect();
            if *is_test {
                tests.insert(path);
            } else if !own.contains(&path) {
                all.0.entry(path).or_default().file = at;
            }
        }
    }
    let is_for_tests = |module: &[String]| (0..=module.len()).any(|length| tests.contains(&module[..length]));
    for (module, code) in &codes {
        for (inside, name) in &code.items {
            let path: Vec<String> = module.iter().chain(inside).cloned().collect();
            if let Some(names) = all.0.get_mut(&path) {
                names.items.insert(name.clone());
            }
        }
        for path in &code.paths {
            let Some((name, is_public)) = &path.import else { continue };
            let here: Vec<String> = module.iter().chain(&path.inside).cloned().collect();
            let Some(mut target) = all.absolute(&here, &path.names) else { continue };
            let Some(names) = all.0.get_mut(&here).filter(|_| !path.is_test) else { continue };
            if name != "*" {
                names.imports.insert(name.clone(), (target, *is_public));
            } else if *is_public {
                target.pop();
                names.globs.push(target);
            }
        }
    }
    let mut uses: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); codes.len()];
    for (at, (module, code)) in codes.iter().enumerate().filter(|(_, (module, _))| !is_for_tests(module)) {
        for path in code.paths.iter().filter(|path| !path.is_test) {
            if path.import.as_ref().is_some_and(|(_, is_public)| *is_public) {
                continue;
            }
            let here: Vec<String> = module.iter().chain(&path.inside).cloned().collect();
            let imported = || {
                let (target, _) = all.0.get(&here)?.imports.get(path.names.first()?)?;
                Some(target.iter().chain(&path.names[1..]).cloned().collect())
            };
            let target = all.absolute(&here, &path.names).or_else(imported);
            uses[at].extend(target.and_then(|target| all.definer(&target, 0)).filter(|used| *used != at));
        }
    }
    let reached: Vec<BTreeSet<usize>> = (0..uses.len())
        .map(|from| {
            let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
            while let Some(at) = next.pop() {
                next.extend(uses[at].iter().filter(|used| seen.insert(**used)));
            }
            seen
        })
        .collect();
    let circle = |at: usize| -> Vec<usize> {
        reached[at].iter().copied().filter(|other| reached[*other].contains(&at)).collect()
    };
    let found: BTreeSet<Vec<usize>> = (0..uses.len()).map(circle).filter(|files| !files.is_empty()).collect();
    let name = |at: &usize| files[*at].0.clone();
    let described = |circle: &Vec<usize>| Circle {
        files: circle.iter().map(name).collect(),
        uses: circle
            .iter()
            .flat_map(|user| uses[*user].iter().map(move |used| (user, used)))
            .filter(|(_, used)| circle.contains(used))
            .map(|(user, used)| (name(user), name(used)))
            .collect(),
    };
    found.iter().map(described).collect()
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

/// Returns the files under `src`, sorted by name, with their text.
fn sources() -> Vec<(String, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    files(&src, &mut found);
    assert!(found.len() > 80, "only {} files were found", found.len());
    let read = |path: PathBuf| {
        let name = path.strip_prefix(&src).expect("below src").to_string_lossy().replace('\\', "/");
        (name, std::fs::read_to_string(&path).expect("the file reads"))
    };
    let mut sources: Vec<_> = found.into_iter().map(read).collect();
    sources.sort();
    sources
}

#[test]
fn imports_point_down_only() {
    let mut all = String::new();
    for (name, text) in sources() {
        for fault in faults(&name, &text) {
            let _ = writeln!(all, "{fault}");
        }
    }
    assert!(all.is_empty(), "\n{all}");
}

#[test]
fn no_circles_between_files() {
    let mut all = String::new();
    let found = circles(&sources());
    for circle in found.iter().filter(|circle| !CIRCLES.iter().any(|known| circle.files == *known)) {
        let _ = writeln!(all, "these files depend on each other: move what both sides need to a file of its own");
        for (user, used) in &circle.uses {
            let _ = writeln!(all, "    src/{user} uses src/{used}");
        }
    }
    for known in CIRCLES.iter().filter(|known| !found.iter().any(|circle| circle.files == **known)) {
        let _ = writeln!(all, "this is no circle any longer: remove it from the list\n    {}", known.join(" "));
    }
    assert!(all.is_empty(), "\n{all}");
}

#[test]
fn a_circle_is_found_and_a_re_export_is_none() {
    let check = |texts: &[(&str, &str)], expected: &[&[&str]]| {
        let files: Vec<_> = texts.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect();
        let found: Vec<_> = circles(&files).into_iter().map(|circle| circle.files).collect();
        assert_eq!(found, expected, "{texts:?}");
    };
    // Two files, by imports and by paths.
    let parent = ("a.rs", "mod b; mod c;");
    check(
        &[parent, ("a/b.rs", "use super::c::C;"), ("a/c.rs", "struct C; fn f() { crate::a::b::f() }")],
        &[&["a/b.rs", "a/c.rs"]],
    );
    check(&[parent, ("a/b.rs", "use super::c::C; struct B;"), ("a/c.rs", "struct C;")], &[]);
    // A file and its child; a parent that only re-exports is none.
    check(
        &[("a.rs", "mod b; struct A; fn f() { b::f() }"), ("a/b.rs", "use super::A; fn f() {}")],
        &[&["a.rs", "a/b.rs"]],
    );
    let parent = ("a.rs", "mod b; mod c; pub use c::C; fn f() { b::f() }");
    check(&[parent, ("a/b.rs", "use super::C; fn f() {}"), ("a/c.rs", "pub struct C;")], &[]);
    // A glob, an alias, a module under another name, and a macro.
    let parent = ("a.rs", "mod b; mod c; pub use c::*; fn f() { b::f() }");
    check(&[parent, ("a/b.rs", "use super::C; fn f() {}"), ("a/c.rs", "pub struct C;")], &[]);
    let parent = ("a.rs", "mod b; mod c;");
    check(
        &[parent, ("a/b.rs", "use super::c::C as D;"), ("a/c.rs", "struct C; use super::b as d; fn f() { d::f() }")],
        &[&["a/b.rs", "a/c.rs"]],
    );
    check(
        &[parent, ("a/b.rs", "use super::c::C;"), ("a/c.rs", "struct C; fn f() { g!(1, {super::b::B}) }")],
        &[&["a/b.rs", "a/c.rs"]],
    );
    // Tests and names of modules are none.
    let tested = "struct C; #[cfg(test)] mod tests { use super::super::b::B; }";
    check(&[parent, ("a/b.rs", "use super::c::C;"), ("a/c.rs", tested)], &[]);
    check(
        &[("a.rs", "mod b; #[cfg(test)] mod c; fn f() { b::f() }"), ("a/b.rs", ""), ("a/c.rs", "use super::f;")],
        &[],
    );
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
