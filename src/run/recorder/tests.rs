//! Effects of degradations on the outcome, and the data of browser pages in it.

use std::path::Path;

use super::*;
use crate::diagnostic::{Span, Spanned};
use crate::outcome::PageTiming;
use crate::scenario::{Budget, Engine, Lookup, LookupError, Vital, load};
use crate::store::evidence::EvidenceFolder;

struct Nothing;

impl Lookup for Nothing {
    fn env(&self, name: &str) -> Result<String, LookupError> {
        Err(LookupError::Missing(name.into()))
    }
    fn file(&self, path: &Path, _: &str) -> Result<Vec<u8>, LookupError> {
        Err(LookupError::Missing(path.display().to_string()))
    }
}

/// Creates a recorder with two passed steps, and a budget for an LCP of 2.5 s and two requests.
fn record() -> RunRecorder {
    let loaded = load("t.yaml", "scenario: T\nsteps:\n  - GET: http://a/\n  - GET: http://b/\n", &Nothing);
    let mut scenario = Scenario::clone(&loaded.scenarios[0]);
    let at = |value, line| Spanned { value, span: Span { line, column: 3, start: 0, end: 0 } };
    scenario.budget = vec![at(Budget::Vital(Vital::Lcp, Duration::from_millis(2500)), 8), at(Budget::Requests(2), 9)];
    let tools = RunServices {
        dialer: crate::wire::Dialer::default(),
        limits: crate::wire::limits::Limits::default(),
        tokens: crate::run::Tokens::default(),
        line: crate::run::ConnectivityMonitor::default(),
        tls: crate::wire::tls::Trusted::system(),
        browsers: None,
        lookup: Arc::new(Nothing),
        evidence: EvidenceFolder::new("nowhere"),
        beats: None,
        baseline: None,
        footprints: None,
        clock: None,
        location: "here".into(),
    };
    let record = RunRecorder::begin(&Arc::new(scenario), &tools, &RunRequest::default());
    for step in &record.scenario.steps {
        let index = record.begin_step(step, 0, false);
        record.end_step(index, StepStatus::Passed, None);
    }
    record
}

fn page(lcp: f64) -> PageResult {
    let timing = PageTiming { lcp: Some(lcp), ..PageTiming::default() };
    PageResult { url: "http://a/?key=hunter2".into(), timing, requests: 3, ..PageResult::default() }
}

fn told(outcome: &Outcome) -> (Verdict, Option<Reason>, Option<&str>, Option<usize>) {
    (outcome.verdict, outcome.reason, outcome.message.as_deref(), outcome.failed_step)
}

/// What happens while a page is recorded for later comparisons happens during the run.
#[test]
fn excluded_time_is_before_the_end_and_not_in_the_duration() {
    let record = record();
    let since = Instant::now();
    record.exclude(Duration::from_secs(1));
    let least = chrono::TimeDelta::from_std(since.elapsed()).unwrap();
    let outcome = record.finish();
    let lasted = outcome.ended_at - outcome.started_at;
    assert!(lasted >= least, "{lasted} {least}");
    assert!(chrono::TimeDelta::from_std(outcome.duration).unwrap() < lasted);
}

#[test]
fn missed_budgets_degrade_a_run_that_passed() {
    let record = record();
    assert!(record.masker.add("hunter2"));
    record.browser(BrowserResult { engine: Engine::Firefox, version: "1".into(), warm: true });
    record.pages(vec![(1, page(3.1))], PageTotals { requests: 3, ..PageTotals::default() });
    let outcome = record.finish();
    let message = "lcp 3.1s is above the budget of 2.5s; requests 3 is above the budget of 2";
    assert_eq!(told(&outcome), (Verdict::Degraded, Some(Reason::Budget), Some(message), Some(1)));
    let step = &outcome.steps[1];
    assert_eq!((step.status, step.place.as_str()), (StepStatus::Passed, "t.yaml:8:3"));
    let failure = step.failure.as_ref().unwrap();
    assert_eq!((failure.expected.as_deref(), failure.seen.as_deref()), (Some("at most 2.5s"), Some("3.1s")));
    assert_eq!(step.page.as_ref().unwrap().url, "http://a/?key=***");
    assert_eq!((outcome.steps[0].page.is_none(), outcome.browser.unwrap().version.as_str()), (true, "1"));
}

#[test]
fn what_was_kept_or_not_measured_changes_nothing() {
    let record = record();
    record.pages(vec![(0, page(2.5)), (1, PageResult::default())], PageTotals { requests: 2, ..PageTotals::default() });
    let outcome = record.finish();
    assert_eq!(told(&outcome), (Verdict::Passed, None, None, None));
    assert!(outcome.steps.iter().all(|step| step.page.is_some() && step.failure.is_none()));
}

#[test]
fn a_failure_goes_first_and_finally_keeps_its_place() {
    let failed = record();
    failed.add_degradation(Some(0), Failure::new(Reason::Drift, "another target was needed"));
    failed.set_failure(Some(1), Failure::new(Reason::Status, "the status is 500").compared("200", "500"));
    let message = "the status is 500: expected 200, got 500";
    assert_eq!(told(&failed.finish()), (Verdict::Failed, Some(Reason::Status), Some(message), Some(1)));

    let degraded = record();
    degraded.add_degradation(Some(0), Failure::new(Reason::Drift, "another target was needed"));
    degraded.set_failure(Some(1), degraded_by_finally(&Failure::new(Reason::Status, "the status is 500")));
    let message = "cleaning up failed: the status is 500; another target was needed";
    assert_eq!(told(&degraded.finish()), (Verdict::Degraded, Some(Reason::Finally), Some(message), Some(1)));

    let drifted = record();
    drifted.add_degradation(Some(0), Failure::new(Reason::Drift, "another target was needed"));
    let outcome = drifted.finish();
    assert_eq!(told(&outcome), (Verdict::Degraded, Some(Reason::Drift), Some("another target was needed"), Some(0)));
    assert_eq!(outcome.steps[0].place, "t.yaml:3:5");
}
