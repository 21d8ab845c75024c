//! What works and is probably not meant.

use super::model::{Action, Scenario, Step};
use super::reader::{Fields, Reader, cut};
use super::template::{Reference, Template};
use crate::diagnostic::{At, Diagnostic};

/// Secrets and constants that nothing uses.
pub fn unused(r: &mut Reader, fields: &Fields<'_>) {
    let used: Vec<Reference> = {
        let mut all: Vec<_> = r.names.used.iter().map(|(reference, _)| reference.clone()).collect();
        // Constants may use secrets and other constants.
        for entry in fields.get("vars").and_then(|node| node.entries()).unwrap_or_default() {
            let text = entry.value.scalar().map(|scalar| scalar.text.as_str()).unwrap_or_default();
            all.extend(Template::parse(text).iter().flat_map(Template::references).cloned());
        }
        all
    };
    for (key, space) in [("secrets", "secret"), ("vars", "vars")] {
        for entry in fields.get(key).and_then(|node| node.entries()).unwrap_or_default() {
            let reference =
                if key == "secrets" { Reference::Secret(entry.key.clone()) } else { Reference::Var(entry.key.clone()) };
            if !used.contains(&reference) {
                let message = format!("`{space}.{}` is never used", cut(&entry.key));
                r.report(Diagnostic::warning(&r.source, entry.key_span, message));
            }
        }
    }
}

/// Timeouts that can never be reached, because a larger one ends first.
pub fn timeouts(r: &mut Reader, scenario: &Scenario) {
    let all = scenario.timeout;
    walk(&scenario.steps, &mut |step| {
        if step.timeout.is_some_and(|timeout| timeout > all) {
            let message = format!(
                "this step may take {}, but all steps together {}",
                super::model::Pretty(step.timeout()),
                super::model::Pretty(all)
            );
            let mut found = Diagnostic::warning(&r.source, step.span, message).context(step.name.clone());
            found.label = Some("raise the scenario's `timeout`, or lower this one".into());
            r.report(found);
        }
    });
}

/// Every file with roots that a scenario trusts.
pub fn trusted(scenario: &Scenario) -> Vec<At<Template>> {
    let mut found = Vec::new();
    let mut visit = |step: &Step| match &step.action {
        Action::Request(request) => found.extend(request.trust.ca.clone()),
        Action::Tls(check) => found.extend(check.trust.ca.clone()),
        Action::Page(_) | Action::Group(_) | Action::Tcp(_) => {}
    };
    walk(&scenario.steps, &mut visit);
    walk(&scenario.finally, &mut visit);
    found
}

fn walk(steps: &[Step], visit: &mut dyn FnMut(&Step)) {
    for step in steps {
        visit(step);
        if let Action::Group(inner) = &step.action {
            walk(inner, visit);
        }
    }
}
