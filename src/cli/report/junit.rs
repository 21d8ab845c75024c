//! `--report junit=FILE`: a suite per scenario, a test case per step. `failed` becomes a `<failure>`, `unknown` an
//! `<error>`.

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use crate::names::ReasonClass;
use crate::outcome::{Outcome, StepResult, StepStatus, Verdict};

/// Formats the outcomes as XML.
pub fn render(outcomes: &[Outcome]) -> Result<String, quick_junit::SerializeError> {
    let mut report = Report::new("wachta");
    for outcome in outcomes {
        let mut suite = TestSuite::new(outcome.scenario.as_str());
        suite.set_timestamp(outcome.started_at.fixed_offset()).set_time(outcome.duration);
        suite.add_property(("run", outcome.run.to_string().as_str()));
        suite.add_property(("verdict", outcome.verdict.as_str()));
        for (index, step) in outcome.steps.iter().enumerate() {
            // A group adds no information to its steps.
            if outcome.steps.get(index + 1).is_some_and(|next| next.depth > step.depth) {
                continue;
            }
            suite.add_test_case(case(outcome, index, step));
        }
        // A cause other than the failure of a step (a panic, a lost run) must not be omitted.
        if outcome.verdict == Verdict::Degraded && outcome.failed_step.is_none() {
            suite.add_property(("degraded", outcome.message.as_deref().unwrap_or_default()));
        } else if outcome.failed_step.is_none() && outcome.verdict != Verdict::Passed {
            let kind = match outcome.reason.map(crate::names::Reason::class) {
                Some(ReasonClass::Failed) => NonSuccessKind::Failure,
                _ => NonSuccessKind::Error,
            };
            let mut status = TestCaseStatus::non_success(kind);
            status.set_message(outcome.message.clone().unwrap_or_default());
            suite.add_test_case(TestCase::new("run", status));
        }
        report.add_test_suite(suite);
    }
    report.to_string()
}

fn case(outcome: &Outcome, index: usize, step: &StepResult) -> TestCase {
    let status = match (&step.failure, step.status) {
        (Some(failure), StepStatus::Failed | StepStatus::Unknown) if !step.optional && !step.finally => {
            let kind = if step.status == StepStatus::Unknown { NonSuccessKind::Error } else { NonSuccessKind::Failure };
            let mut status = TestCaseStatus::non_success(kind);
            status.set_message(failure.message.clone()).set_type(failure.reason.as_str());
            let mut text = step.place.clone();
            for (word, value) in [("expected", &failure.expected), ("actual", &failure.seen)] {
                if let Some(value) = value {
                    text.push_str(&format!("\n{word}: {value}"));
                }
            }
            for evidence in outcome.evidence.iter().filter(|evidence| evidence.step == Some(index)) {
                text.push_str(&format!("\n{}: {}", evidence.kind.as_str(), evidence.path));
            }
            status.set_description(text);
            status
        }
        (_, StepStatus::Passed) => TestCaseStatus::success(),
        (failure, _) => {
            let mut status = TestCaseStatus::skipped();
            if let Some(failure) = failure {
                status.set_message(failure.message.clone());
            }
            status
        }
    };
    let mut case = TestCase::new(step.name.as_str(), status);
    case.set_classname(outcome.scenario.as_str()).set_time(step.duration);
    case
}
