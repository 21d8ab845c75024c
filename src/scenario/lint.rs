//! Warnings about scenarios that are valid but probably not intended.

use std::sync::Arc;

use super::check::Check;
use super::model::{Action, Budget, FINALLY_TIMEOUT, Scenario, Step};
use super::reader::{Fields, Reader, cut};
use super::template::{Reference, Template};
use crate::diagnostic::{Diagnostic, Source, Spanned};

/// Warns about unused secrets, one-time passwords and constants.
pub fn unused(r: &mut Reader, fields: &Fields<'_>) {
    let used: Vec<Reference> = {
        let mut all: Vec<_> = r.names.used.iter().map(|used| used.reference.clone()).collect();
        // Constants may refer to secrets and to other constants.
        for entry in fields.get("vars").and_then(|node| node.entries()).unwrap_or_default() {
            let text = entry.value.scalar().map(|scalar| scalar.text.as_str()).unwrap_or_default();
            all.extend(Template::parse(text).iter().flat_map(Template::references).cloned());
        }
        // A one-time password refers to its secret, even if it is not used itself.
        for entry in fields.get("totp").and_then(|node| node.entries()).unwrap_or_default() {
            let seed = entry.value.get("secret").and_then(|node| node.scalar());
            all.extend(seed.map(|scalar| Reference::Secret(scalar.text.clone())));
        }
        all
    };
    for (key, space) in [("secrets", "secret"), ("totp", "totp"), ("vars", "vars")] {
        for entry in fields.get(key).and_then(|node| node.entries()).unwrap_or_default() {
            let name = entry.key.clone();
            let reference = match key {
                "secrets" => Reference::Secret(name),
                "totp" => Reference::Totp(name),
                _ => Reference::Var(name),
            };
            if !used.contains(&reference) {
                let message = format!("`{space}.{}` is never used", cut(&entry.key));
                r.report(Diagnostic::warning(&r.source, entry.key_span, message));
            }
        }
    }
}

/// Warns about timeouts that can never expire because a surrounding one expires first.
pub fn timeouts(r: &mut Reader, scenario: &Scenario) {
    let all = scenario.timeout;
    for at in scenario.steps_deep() {
        let (limit, whose) = if at.is_finally { (FINALLY_TIMEOUT, "`finally`") } else { (all, "all steps together") };
        polled(r, scenario, at.step, limit, whose);
    }
    for step in scenario.steps_deep().filter(|at| !at.is_finally).map(|at| at.step) {
        if step.timeout.is_some_and(|timeout| timeout > all) {
            let message = format!(
                "this step may take {}, but all steps together {}",
                super::model::HumanDuration(step.timeout()),
                super::model::HumanDuration(all)
            );
            let source = step.source.as_ref().unwrap_or(&r.source);
            let mut found = Diagnostic::warning(source, step.span, message).context(step.name.clone());
            found.label = Some("raise the scenario's `timeout`, or lower this one".into());
            r.report(found);
        }
    }
}

/// Warns about a polling time limit that exceeds the timeout of the whole list of steps.
fn polled(r: &mut Reader, scenario: &Scenario, step: &Step, all: std::time::Duration, whose: &str) {
    let Action::Request(request) = &step.action else { return };
    let Some(eventually) = request.eventually.filter(|eventually| eventually.within >= all) else { return };
    let message = format!(
        "`eventually` may take {}, but {whose} only {}",
        super::model::HumanDuration(eventually.within),
        super::model::HumanDuration(all)
    );
    let source = step.source.as_ref().unwrap_or(&scenario.source);
    let mut found = Diagnostic::error(source, step.span, message).context(step.name.clone());
    found.label = Some("lower `within`, or raise the timeout".into());
    r.report(found);
}

/// Warns about page settings in a scenario without page steps.
pub fn pages(r: &mut Reader, fields: &Fields<'_>, scenario: &Scenario) {
    if scenario.needs_browser() {
        return;
    }
    let mut warn = |span, what: &str| {
        let message = format!("{what} applies to pages, but no step of this scenario opens one");
        r.report(Diagnostic::warning(&r.source, span, message));
    };
    for key in ["browser", "evidence", "overlays"] {
        if let Some(entry) = fields.entry(key) {
            warn(entry.key_span, &format!("`{key}`"));
        }
    }
    for limit in
        scenario.budget.iter().filter(|limit| !matches!(limit.value, Budget::Duration(_) | Budget::SlowerThanUsual(_)))
    {
        warn(limit.span, "this limit");
    }
}

/// Returns every file referenced by the browser settings and steps of a scenario, with the source of the reference.
pub fn files(scenario: &Scenario) -> Vec<(Spanned<Template>, Arc<Source>)> {
    let of_browser = scenario.browser.trust.files().into_iter();
    let mut found: Vec<_> = of_browser.map(|file| (file.clone(), Arc::clone(&scenario.source))).collect();
    for at in scenario.steps_deep() {
        let source = at.step.source.as_ref().unwrap_or(&scenario.source);
        found.extend(at.step.files().into_iter().map(|file| (file.clone(), Arc::clone(source))));
    }
    found
}

/// Returns every program that a scenario runs, with the source of the reference.
pub fn programs(scenario: &Scenario) -> Vec<(Spanned<String>, Arc<Source>)> {
    let run = |step: &Step| match &step.action {
        Action::Check(check) => match &**check {
            Check::Exec(exec) => {
                Some((exec.program.clone(), Arc::clone(step.source.as_ref().unwrap_or(&scenario.source))))
            }
            _ => None,
        },
        _ => None,
    };
    scenario.steps_deep().filter_map(|at| run(at.step)).collect()
}
