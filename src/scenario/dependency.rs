//! `depends_on`: scenarios whose failure explains the failure of others. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::model::{Scenario, ScenarioId};
use crate::diagnostic::{Diagnostic, Spanned, nearest};

/// Scenarios that each scenario depends on. An id without brackets refers to all scenarios of a matrix.
pub type Parents = BTreeMap<ScenarioId, Vec<ScenarioId>>;

/// Finds the parents of all scenarios. A name that does not exist is an error unless `elsewhere` accepts it. A cycle is
/// an error as well and is cut at its last edge, because scenarios that explain each other would never cause a
/// notification.
pub fn parents(
    scenarios: &BTreeMap<ScenarioId, Arc<Scenario>>,
    elsewhere: impl Fn(&str) -> bool,
) -> (Parents, Vec<Diagnostic>) {
    let mut parents = Parents::new();
    let mut found = Vec::new();
    for (id, scenario) in scenarios.iter().filter(|(_, scenario)| !scenario.alert.depends_on.is_empty()) {
        let mut of = Vec::new();
        for name in &scenario.alert.depends_on {
            let family = family(scenarios, &name.value);
            if family.is_empty() && !elsewhere(&name.value) {
                found.push(unknown(scenarios, scenario, name));
            }
            of.extend(family.into_iter().filter(|parent| parent != id));
        }
        of.sort();
        of.dedup();
        parents.insert(id.clone(), of);
    }
    let mut done = BTreeSet::new();
    for id in parents.keys().cloned().collect::<Vec<_>>() {
        cut_circles(&id, &mut Vec::new(), &mut done, &mut parents, &mut |path| {
            found.extend(circle(scenarios, path));
        });
    }
    (parents, found)
}

/// Returns the scenario with this id, or all scenarios of the matrix with this id before the brackets.
fn family(scenarios: &BTreeMap<ScenarioId, Arc<Scenario>>, name: &str) -> Vec<ScenarioId> {
    if let Some((id, _)) = scenarios.get_key_value(&ScenarioId::from(name)) {
        return vec![id.clone()];
    }
    let begins = format!("{name}[");
    let from = ScenarioId::from(begins.as_str());
    scenarios.range(from..).map(|(id, _)| id).take_while(|id| id.as_str().starts_with(&begins)).cloned().collect()
}

fn unknown(scenarios: &BTreeMap<ScenarioId, Arc<Scenario>>, scenario: &Scenario, name: &Spanned<String>) -> Diagnostic {
    let message = format!("`depends_on`: no scenario with the id `{}`", name.value);
    let found = Diagnostic::error(&scenario.source, name.span, message);
    let mut found = match nearest(&name.value, scenarios.keys().map(ScenarioId::as_str)) {
        Some(near) => found.label(format!("did you mean `{near}`?")),
        None => found.label("write the id of a scenario"),
    };
    found.scenario = Some(scenario.id.value.to_string());
    found
}

/// Walks the dependencies depth-first, and cuts and reports every edge that leads back to the path.
fn cut_circles(
    id: &ScenarioId,
    path: &mut Vec<ScenarioId>,
    done: &mut BTreeSet<ScenarioId>,
    parents: &mut Parents,
    tell: &mut impl FnMut(&[ScenarioId]),
) {
    if !done.insert(id.clone()) {
        return;
    }
    path.push(id.clone());
    for parent in parents.get(id).cloned().unwrap_or_default() {
        if let Some(from) = path.iter().position(|on_path| *on_path == parent) {
            if let Some(of) = parents.get_mut(id) {
                of.retain(|kept| *kept != parent);
            }
            let mut circle = path[from..].to_vec();
            circle.push(parent);
            tell(&circle);
        } else {
            cut_circles(&parent, path, done, parents, tell);
        }
    }
    path.pop();
}

fn circle(scenarios: &BTreeMap<ScenarioId, Arc<Scenario>>, path: &[ScenarioId]) -> Option<Diagnostic> {
    let [.., last, closes] = path else { return None };
    let scenario = scenarios.get(last)?;
    let names = |name: &&Spanned<String>| {
        name.value == closes.as_str()
            || closes.as_str().strip_prefix(name.value.as_str()).is_some_and(|rest| rest.starts_with('['))
    };
    let place = scenario.alert.depends_on.iter().find(names)?;
    let shown: Vec<_> = path.iter().map(ScenarioId::as_str).collect();
    let message = format!("circular `depends_on`: {}", shown.join(" → "));
    let mut found = Diagnostic::error(&scenario.source, place.span, message).label("remove one of them");
    found.scenario = Some(last.to_string());
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::super::load::load;
    use super::super::model::{Lookup, LookupError};
    use super::*;

    struct Nothing;

    impl Lookup for Nothing {
        fn env(&self, name: &str) -> Result<String, LookupError> {
            Err(LookupError::Missing(name.to_owned()))
        }
        fn file(&self, path: &std::path::Path, _: &str) -> Result<Vec<u8>, LookupError> {
            Err(LookupError::Missing(path.display().to_string()))
        }
    }

    /// Checks the parents of scenarios written as `id < parent parent`, separated by `;`.
    fn check(lines: &str, expected: &str, problems: &[&str]) {
        let mut text = "checks:\n".to_owned();
        for line in lines.split(';') {
            let (id, on) = line.split_once('<').expect("id < parents");
            let on: Vec<&str> = on.split_whitespace().collect();
            text.push_str(&format!("  {}: {{tcp: \"a:1\", alert: {{depends_on: [{}]}}}}\n", id.trim(), on.join(", ")));
        }
        let loaded = load("a.yaml", &text, &Nothing);
        assert_eq!(loaded.diagnostics, [], "{text}");
        let scenarios = loaded.scenarios.into_iter().map(|scenario| (scenario.id.value.clone(), scenario)).collect();
        let (parents, found) = parents(&scenarios, |id| id == "refused");
        let shown: Vec<String> = parents
            .iter()
            .map(|(id, of)| format!("{id} < {}", of.iter().map(ScenarioId::as_str).collect::<Vec<_>>().join(" ")))
            .collect();
        assert_eq!(shown.join("; "), expected, "{lines}");
        let found: Vec<String> = found.iter().map(|found| format!("{}: {}", found.place(), found.message)).collect();
        assert_eq!(found, problems, "{lines}");
    }

    #[test]
    fn parents_are_found_and_circles_are_cut() {
        check("a <; b < a; c < a b", "b < a; c < a b", &[]);
        check("a <; b < refused a", "b < a", &[]);
        check("a < ; b < x", "b < ", &["a.yaml:3:40: `depends_on`: no scenario with the id `x`"]);
        let circle = "a.yaml:4:40: circular `depends_on`: a → b → c → a";
        check("a < b; b < c; c < a", "a < b; b < c; c < ", &[circle]);
        check("a < a b; b <", "a < b", &[]);
        let two = "a.yaml:3:40: circular `depends_on`: a → b → a";
        check("a < b; b < a; c < a", "a < b; b < ; c < a", &[two]);
    }
}
