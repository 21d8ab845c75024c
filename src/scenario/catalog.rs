//! Catalog of all scenarios from all files, by id, and its update by a reload.
//!
//! Pure: the caller reads the files and swaps the catalogs.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use super::load::Loaded;
use super::model::{Scenario, ScenarioId};
use crate::diagnostic::{Diagnostic, Severity};

/// All scenarios that can run, and the rejected ones.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Catalog {
    /// Scenarios by id.
    pub scenarios: BTreeMap<ScenarioId, Arc<Scenario>>,
    /// Scenarios with `enabled: false`, by id.
    pub paused: BTreeMap<ScenarioId, Arc<Scenario>>,
    /// Rejected files and scenarios: path or id, and the first reason.
    pub refused: Vec<(String, String)>,
}

/// Creates a catalog from the files, in their order. Scenarios of files that are not listed are removed.
///
/// A file with an error keeps the scenarios that it has in `previous`; so does an unreadable folder. A scenario that
/// requires a missing variable or file is rejected, even if it has run before. If two scenarios have the same id, the
/// one already running is kept, otherwise the first one.
pub fn assemble(previous: &Catalog, files: Vec<(String, Loaded)>) -> (Catalog, Vec<Diagnostic>) {
    let mut catalog = Catalog::default();
    let mut diagnostics = Vec::new();
    let mut candidates: Vec<Arc<Scenario>> = Vec::new();
    let mut told = HashSet::new();
    for (path, loaded) in files {
        let first_error = loaded.diagnostics.iter().find(|found| found.severity == Severity::Error);
        if let Some(error) = first_error {
            catalog.refused.push((path.clone(), error.message.clone()));
            // For an unreadable folder, the scenarios of all files below it are kept.
            let of = |known: &&Arc<Scenario>| Path::new(&known.source.path).starts_with(&path);
            candidates.extend(previous.scenarios.values().chain(previous.paused.values()).filter(of).cloned());
        }
        for scenario in loaded.scenarios {
            let id = scenario.id.as_str();
            let missing = loaded
                .diagnostics
                .iter()
                .find(|found| found.severity == Severity::Missing && found.scenario.as_deref() == Some(id));
            match missing {
                Some(missing) => catalog.refused.push((id.to_owned(), missing.message.clone())),
                // An unchanged scenario keeps its value, so that a reload does not affect it.
                None => candidates.push(match previous.scenarios.get(&scenario.id.value) {
                    Some(running) if *running == scenario => Arc::clone(running),
                    _ => scenario,
                }),
            }
        }
        // A problem in a fragment used by several files is reported once.
        let mut news = |found: &Diagnostic| {
            told.insert((found.source.path.clone(), found.span, found.message.clone(), found.scenario.clone()))
        };
        diagnostics.extend(loaded.diagnostics.into_iter().filter(|found| news(found)));
    }
    // The sort is stable: running scenarios come first, the others in the order of the files.
    candidates.sort_by_key(|candidate| {
        let running = previous.scenarios.get(&candidate.id.value);
        running.is_none_or(|running| running.source.path != candidate.source.path)
    });
    for candidate in candidates {
        let known = catalog.scenarios.get(&candidate.id.value).or_else(|| catalog.paused.get(&candidate.id.value));
        match known {
            None => {
                let those = if candidate.enabled { &mut catalog.scenarios } else { &mut catalog.paused };
                those.insert(candidate.id.value.clone(), candidate);
            }
            Some(stays) => {
                let id = candidate.id.value.to_string();
                let message = format!("duplicate scenario id `{id}`");
                let mut found = Diagnostic::error(&candidate.source, candidate.id.span, &message)
                    .label(format!("the other one is at {}", stays.source.place(stays.id.span)))
                    .note("give one of them a unique `id:`");
                found.scenario = Some(id.clone());
                catalog.refused.push((id, message));
                diagnostics.push(found);
            }
        }
    }
    (catalog, diagnostics)
}

#[cfg(test)]
mod tests {
    use super::super::load::load;
    use super::super::model::{Lookup, LookupError};
    use super::*;

    struct Nothing;

    impl Lookup for Nothing {
        fn env(&self, name: &str) -> Result<String, LookupError> {
            Err(LookupError::Missing(format!("the variable {name} is not set")))
        }
        fn file(&self, path: &std::path::Path, _: &str) -> Result<Vec<u8>, LookupError> {
            Err(LookupError::Missing(format!("{} is not there", path.display())))
        }
    }

    fn files(files: &[(&str, &str)]) -> Vec<(String, Loaded)> {
        files.iter().map(|(path, text)| ((*path).to_owned(), load(path, text, &Nothing))).collect()
    }

    fn shown(catalog: &Catalog) -> (Vec<String>, Vec<&str>) {
        let scenarios = catalog.scenarios.values().map(|s| format!("{}@{}", s.id.value, s.source.path)).collect();
        (scenarios, catalog.refused.iter().map(|(what, _)| what.as_str()).collect())
    }

    /// Lookup of one file next to the scenario.
    struct Beside(&'static str);

    impl Lookup for Beside {
        fn env(&self, name: &str) -> Result<String, LookupError> {
            Nothing.env(name)
        }
        fn file(&self, _: &std::path::Path, _: &str) -> Result<Vec<u8>, LookupError> {
            Ok(self.0.as_bytes().to_vec())
        }
    }

    #[test]
    fn a_scenario_whose_used_file_changed_is_another_one() {
        let text = "scenario: A\nsteps:\n  - use: b.yaml\n";
        let (good, bad) = ("steps:\n  - GET: http://a/\n", "steps:\n  - GIT: http://a/\n");
        let with = |previous: &Catalog, part: &'static str| {
            let of = |path: &str, text: &str| (path.to_owned(), load(path, text, &Beside(part)));
            assemble(
                previous,
                vec![of("s/a.yaml", text), of("s/b.yaml", part), of("s/c.yaml", &text.replace('A', "C"))],
            )
        };
        let (first, found) = with(&Catalog::default(), good);
        assert_eq!((shown(&first), found.len()), ((vec!["a@s/a.yaml".into(), "c@s/c.yaml".into()], vec![]), 0));
        let (same, _) = with(&first, good);
        assert!(Arc::ptr_eq(&first.scenarios[&ScenarioId::from("a")], &same.scenarios[&ScenarioId::from("a")]));
        let (changed, _) = with(&first, "steps:\n  - GET: http://b/\n");
        assert!(first.scenarios[&ScenarioId::from("a")] != changed.scenarios[&ScenarioId::from("a")]);
        // A problem in the fragment is reported once, and both scenarios keep their last valid version.
        let (kept, found) = with(&first, bad);
        assert_eq!((kept.scenarios == first.scenarios, found.len()), (true, 1), "{found:?}");
        assert_eq!(found[0].place(), "s/b.yaml:2:5");
    }

    const ONE: &str = "checks:\n  one: {tcp: \"a:1\"}\n";
    const TWO: &str = "checks:\n  two: {tcp: \"a:1\"}\n";
    const ONE_AND_TWO: &str = "checks:\n  two: {tcp: \"a:1\"}\n  one: {tcp: \"a:2\"}\n";
    const NEEDS: &str = "checks:\n  one: {http: \"http://a/${env.X}\"}\n  three: {tcp: \"a:1\"}\n";

    #[test]
    fn a_bad_file_keeps_its_last_good_version_as_a_whole() {
        let (first, _) = assemble(&Catalog::default(), files(&[("a", ONE_AND_TWO)]));
        let (second, found) = assemble(&first, files(&[("a", "checks:\n  one: {tcp: \"a:1\"}\n  two: {tpc: x}\n")]));
        assert_eq!(shown(&second), (vec!["one@a".into(), "two@a".into()], vec!["a"]));
        assert_eq!(second.scenarios, first.scenarios);
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn of_two_with_one_id_the_running_one_stays() {
        let (first, found) = assemble(&Catalog::default(), files(&[("a", ONE), ("b", ONE_AND_TWO)]));
        assert_eq!(shown(&first), (vec!["one@a".into(), "two@b".into()], vec!["one"]));
        assert_eq!(found[0].label.as_deref(), Some("the other one is at a:2:3"));
        let (running, _) = assemble(&Catalog::default(), files(&[("b", ONE_AND_TWO)]));
        let (second, found) = assemble(&running, files(&[("a", ONE), ("b", ONE_AND_TWO)]));
        assert_eq!(shown(&second), (vec!["one@b".into(), "two@b".into()], vec!["one"]));
        assert_eq!(found[0].source.path, "a");
    }

    #[test]
    fn what_misses_something_is_refused_alone_and_a_file_that_is_gone_is_gone() {
        let (first, _) = assemble(&Catalog::default(), files(&[("a", ONE), ("b", TWO)]));
        let (second, _) = assemble(&first, files(&[("a", NEEDS)]));
        assert_eq!(shown(&second), (vec!["three@a".into()], vec!["one"]));
    }
}
