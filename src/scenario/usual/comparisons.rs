//! Comparisons of a scenario with its past durations.

use super::{FEWEST_RUNS, SlowerThanUsual};
use crate::diagnostic::{Diagnostic, Span};
use crate::scenario::model::{Action, Budget, HumanDuration, ResponseFact, Scenario, Step};
use crate::scenario::reader::Reader;
use crate::scenario::timing::reference;

impl Scenario {
    /// Returns every comparison with the baseline and its span: of the run as a whole (without a step) and of steps.
    pub fn comparisons(&self) -> Vec<(Option<&Step>, SlowerThanUsual, Span)> {
        let of_run = self.budget.iter().filter_map(|limit| match limit.value {
            Budget::SlowerThanUsual(usual) => Some((None, usual, limit.span)),
            _ => None,
        });
        let requests = self.steps_deep().filter_map(|at| match &at.step.action {
            Action::Request(request) => Some((at.step, request)),
            Action::Page(_) | Action::Check(_) | Action::Group(_) => None,
        });
        let of_steps = requests.flat_map(|(step, request)| {
            request.expect.iter().filter_map(move |one| match one.what {
                ResponseFact::SlowerThanUsual(usual) => Some((Some(step), usual, one.span)),
                _ => None,
            })
        });
        of_run.chain(of_steps).collect()
    }
}

/// Warns about comparisons whose period can never contain enough runs.
pub fn lint(r: &mut Reader, scenario: &Scenario) {
    let comparisons = scenario.comparisons();
    if comparisons.is_empty() {
        return;
    }
    let Some(gap) = scenario.schedule.shortest_gap(reference()) else { return };
    for (step, usual, span) in comparisons {
        let most = usual.over.as_secs() / gap.as_secs().max(1);
        if most >= FEWEST_RUNS {
            continue;
        }
        let source = step.and_then(|step| step.source.as_ref()).unwrap_or(&scenario.source);
        let message = format!(
            "in {} it runs at most {most} times, but at least {FEWEST_RUNS} runs are needed to compare with",
            HumanDuration(usual.over)
        );
        let mut found = Diagnostic::warning(source, span, message);
        if let Some(step) = step {
            found = found.context(step.name.clone());
        }
        found.label = Some("raise `over`".into());
        r.report(found);
    }
}
