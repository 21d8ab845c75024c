//! Records the progress of a run, so that an outcome can be created whatever ends the run.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::budget;
use super::check::{Case, CaseEnd};
use super::difference::{PagePrint, RequestPrint};
use super::{Progress, ProgressEvent, RunBaselines, RunRequest, RunServices};
use crate::diagnostic::{Diagnostic, Span, printable};
use crate::names::{Reason, ReasonClass};
use crate::outcome::PageTotals;
use crate::outcome::{BrowserResult, Evidence, Failure, Outcome, PageResult, RunId, StepResult, StepStatus, Verdict};
use crate::scenario::{Scenario, SlowerThanUsual, Step};
use crate::secret::{Masked, Masker};

/// Maximum length of reported expected and actual values, in characters.
const LONGEST: usize = 300;

/// Maximum number of lines of a page that are kept for comparison with another run.
const MOST_LINES: usize = 400;

/// Maximum length of the message that lists everything wrong with a run, in characters.
const LONGEST_MESSAGE: usize = 2000;

/// Recorder of one run.
pub(super) struct RunRecorder {
    scenario: Arc<Scenario>,
    location: String,
    run: RunId,
    due_at: DateTime<Utc>,
    clock: Mutex<Clock>,
    pub(super) masker: Masker,
    progress: Option<Progress>,
    state: Mutex<State>,
}

/// Start of the run in wall-clock and monotonic time.
#[derive(Clone, Copy)]
struct Clock {
    started_at: DateTime<Utc>,
    /// Later than `started_at` by the excluded time.
    started: Instant,
    /// Time that is not part of the duration.
    excluded: Duration,
}

impl Clock {
    fn start() -> Self {
        Self { started_at: Utc::now(), started: Instant::now(), excluded: Duration::ZERO }
    }
}

#[derive(Default)]
struct State {
    steps: Vec<StepResult>,
    evidence: Vec<Evidence>,
    decided: Option<Finding>,
    /// Findings that make a run degraded if it passed otherwise.
    soft: Vec<Finding>,
    pages: Vec<(usize, PageResult)>,
    totals: PageTotals,
    browser: Option<BrowserResult>,
    usuals: RunBaselines,
    traces: Traces,
    /// Source span of each step, by position.
    spans: HashMap<usize, Span>,
}

/// Observations of a run that are compared with another run, in addition to its outcome.
#[derive(Default)]
pub(super) struct Traces {
    pub(super) requests: Vec<RequestPrint>,
    pub(super) console: Vec<Masked>,
    /// Pages, each with its picture.
    pub(super) pages: Vec<(PagePrint, Option<Vec<u8>>)>,
}

/// A failure, with the position of its step if it belongs to one.
type Finding = (Option<usize>, Failure<Masked>);

impl RunRecorder {
    pub(super) fn begin(scenario: &Arc<Scenario>, tools: &RunServices, ticket: &RunRequest) -> Self {
        let started_at = Utc::now();
        Self {
            scenario: Arc::clone(scenario),
            location: tools.location.clone(),
            run: ticket.run,
            due_at: ticket.due_at.unwrap_or(started_at),
            clock: Mutex::new(Clock { started_at, ..Clock::start() }),
            masker: Masker::default(),
            progress: ticket.progress.clone(),
            state: Mutex::default(),
        }
    }

    fn clock(&self) -> Clock {
        *self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Restarts the clock of the run; everything before was preparation.
    pub(super) fn start_clock(&self) {
        *self.clock.lock().unwrap_or_else(PoisonError::into_inner) = Clock::start();
    }

    /// Returns the start of the run.
    pub(super) fn started_at(&self) -> DateTime<Utc> {
        self.clock().started_at
    }

    fn elapsed(&self) -> Duration {
        self.clock().started.elapsed()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere must not lose the record of the run.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the due time of the run.
    pub(super) fn due_at(&self) -> DateTime<Utc> {
        self.due_at
    }

    /// Adds the cases of a suite as steps within the step that ran it. They are placed one after the other, because
    /// reports contain no start times.
    pub(super) fn add_cases(&self, step: usize, cases: Vec<Case>) {
        let mut state = self.state();
        let Some(parent) = state.steps.get(step).cloned() else { return };
        let mut offset = parent.offset;
        for case in cases {
            let (status, failure) = match case.end {
                CaseEnd::Passed => (StepStatus::Passed, None),
                CaseEnd::Skipped => (StepStatus::Skipped, None),
                CaseEnd::Failed(why) => (StepStatus::Failed, Some(self.masked(Failure::new(Reason::Exec, why)))),
            };
            state.steps.push(StepResult {
                name: printable(&case.name).into_owned(),
                depth: parent.depth + 1,
                span_id: span_id(),
                offset,
                duration: case.took,
                status,
                failure,
                ..parent.clone()
            });
            offset += case.took;
        }
    }

    pub(super) fn run(&self) -> RunId {
        self.run
    }

    fn tell(&self, stage: ProgressEvent<'_>) {
        if let Some(progress) = &self.progress {
            progress(stage);
        }
    }

    /// Starts a step and returns its position.
    pub(super) fn begin_step(&self, step: &Step, depth: u8, finally: bool) -> usize {
        self.tell(ProgressEvent::StepStarted { name: &printable(&step.name), depth });
        let mut state = self.state();
        state.steps.push(StepResult {
            name: printable(&step.name).into_owned(),
            depth,
            finally,
            optional: step.optional,
            span_id: span_id(),
            offset: self.elapsed(),
            duration: Duration::ZERO,
            status: StepStatus::Unknown,
            place: step.source.as_ref().unwrap_or(&self.scenario.source).place(step.span),
            failure: None,
            http: None,
            certificate_expires_at: None,
            earlier_requests: Vec::new(),
            notes: Vec::new(),
            snippet: None,
            retried: false,
            page: None,
        });
        let index = state.steps.len() - 1;
        state.spans.insert(index, step.span);
        index
    }

    /// Excludes the time spent on data for later comparisons from the measured duration.
    pub(super) fn exclude(&self, spent: Duration) {
        let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        let later = clock.started.checked_add(spent).map_or(clock.started, |later| later.min(Instant::now()));
        let excluded = later.saturating_duration_since(clock.started);
        clock.excluded += excluded;
        clock.started = later;
    }

    /// Stores the requests and console errors of the pages for comparison with another run.
    pub(super) fn heard(&self, requests: Vec<RequestPrint>, console: Vec<Masked>) {
        let mut state = self.state();
        (state.traces.requests, state.traces.console) = (requests, console);
    }

    /// Stores the content and picture of a page after a step.
    pub(super) fn print(&self, step: usize, looked: bool, title: &str, tree: &str, picture: Option<Vec<u8>>) {
        let line = |line: &str| Masked::own_words(printable(&self.masker.masked(line))).cut(LONGEST);
        let tree = tree.lines().take(MOST_LINES).map(line).collect();
        let page = PagePrint { step, looked, title: line(title), tree, picture: None };
        self.state().traces.pages.push((page, picture));
    }

    /// Takes the data for comparison with another run.
    pub(super) fn take_traces(&self) -> Traces {
        std::mem::take(&mut self.state().traces)
    }

    /// Returns the number of steps that have started.
    pub(super) fn steps(&self) -> usize {
        self.state().steps.len()
    }

    /// Records a retry of a group: steps from `first` on no longer count, and the group gets a note with the cause.
    pub(super) fn retry(&self, group: usize, first: usize, number: u32, (from, failure): &(usize, Failure)) {
        let mut state = self.state();
        for step in state.steps.iter_mut().skip(first) {
            step.retried = true;
        }
        let name = state.steps.get(*from).map_or("a step", |step| &step.name);
        let note = self.shown(&format!("attempt {number} failed at {name}: {}", failure.message));
        if let Some(group) = state.steps.get_mut(group) {
            group.notes.push(note);
        }
    }

    /// Adds a note for users to a step.
    pub(super) fn remark(&self, step: usize, note: &str) {
        let note = self.shown(note);
        self.note(step, |result| {
            if !result.notes.contains(&note) {
                result.notes.push(note);
            }
        });
    }

    fn shown(&self, text: &str) -> Masked {
        Masked::own_words(printable(&self.masker.masked(text))).cut(LONGEST)
    }

    /// Modifies the result of a step.
    pub(super) fn note(&self, step: usize, change: impl FnOnce(&mut StepResult)) {
        if let Some(result) = self.state().steps.get_mut(step) {
            change(result);
        }
    }

    /// Ends a step. The failure is that of the step itself, or of the nested step at the given position.
    pub(super) fn end_step(&self, step: usize, status: StepStatus, failure: Option<(usize, Failure)>) {
        let ended = {
            let mut state = self.state();
            let elapsed = self.elapsed();
            let place = failure.as_ref().and_then(|(from, failure)| {
                let place = &state.steps.get(*from)?.place;
                match failure.span {
                    // The span belongs to the file that contains the step, which may be a fragment.
                    Some(span) if *from == step => Some(self.scenario.source_of(place).place(span)),
                    Some(_) => Some(place.clone()),
                    None => None,
                }
            });
            let Some(result) = state.steps.get_mut(step) else { return };
            result.duration = elapsed.saturating_sub(result.offset);
            result.status = status;
            result.place = place.unwrap_or_else(|| std::mem::take(&mut result.place));
            result.failure = failure.map(|(_, failure)| self.masked(failure));
            result.clone()
        };
        self.tell(ProgressEvent::StepFinished(&ended));
    }

    /// Sets the duration baselines of the scenario.
    pub(super) fn compare_with(&self, usuals: RunBaselines) {
        self.state().usuals = usuals;
    }

    /// Returns a failure if a step that is about to pass was slower than usual.
    pub(super) fn as_usual(&self, index: usize, step: &Step, wanted: SlowerThanUsual) -> Result<(), Failure> {
        let state = self.state();
        let Some(usual) = state.usuals.of(Some(&step.name), wanted.over) else { return Ok(()) };
        let Some(began) = state.steps.get(index).map(|result| result.offset) else { return Ok(()) };
        let took = self.elapsed().saturating_sub(began);
        match usual.judge(took, wanted) {
            None => Ok(()),
            Some(slow) => {
                let failure = Failure::new(Reason::Slow, format!("the step {}", slow.message));
                Err(failure.compared(slow.expected, slow.seen).waited(took))
            }
        }
    }

    /// Returns the start of a step.
    pub(super) fn began(&self, step: usize) -> Instant {
        let offset = self.state().steps.get(step).map(|result| result.offset).unwrap_or_default();
        self.clock().started + offset
    }

    /// Returns the span id of a step.
    pub(super) fn span_of(&self, step: usize) -> String {
        self.state().steps.get(step).map(|result| result.span_id.clone()).unwrap_or_default()
    }

    /// Returns the position of the step that started last.
    pub(super) fn last_step(&self) -> usize {
        self.state().steps.len().saturating_sub(1)
    }

    /// Stores the properties of the browser.
    pub(super) fn browser(&self, browser: BrowserResult) {
        self.state().browser = Some(browser);
    }

    pub(super) fn add_evidence(&self, evidence: Evidence) {
        self.state().evidence.push(evidence);
    }

    /// Sets the failure that decides the verdict, unless there already is one.
    pub(super) fn set_failure(&self, step: Option<usize>, failure: Failure) {
        let failure = self.masked(failure);
        self.state().decided.get_or_insert((step, failure));
    }

    /// Returns whether nothing has been found so far, neither a failure nor a degradation.
    pub(super) fn is_clean(&self) -> bool {
        let state = self.state();
        state.decided.is_none() && state.soft.is_empty()
    }

    /// Adds a finding that degrades a run that passed otherwise. The first one gives the reason.
    pub(super) fn add_degradation(&self, step: Option<usize>, failure: Failure) {
        debug_assert!(failure.reason.class() == ReasonClass::Degraded, "{} is not soft", failure.reason);
        let failure = self.masked(failure);
        self.state().soft.push((step, failure));
    }

    /// Stores the results of the pages, each with the step that opened it, and the totals of all pages.
    pub(super) fn pages(&self, pages: Vec<(usize, PageResult)>, totals: PageTotals) {
        let masked = pages.into_iter().map(|(step, page)| {
            (step, PageResult { url: printable(&self.masker.mask(&page.url)).into_owned(), ..page })
        });
        let pages = masked.collect();
        let mut state = self.state();
        (state.pages, state.totals) = (pages, totals);
    }

    fn masked(&self, failure: Failure) -> Failure<Masked> {
        // Text from a server must not control a terminal or forge a line wherever it is displayed.
        let mask = |text: String| Masked::own_words(printable(&self.masker.masked(&text)));
        let show = |text: String| mask(text).cut(LONGEST);
        let Failure { reason, message, expected, seen, waited, span } = failure;
        let (message, expected, seen) = (mask(message), expected.map(show), seen.map(show));
        Failure { reason, message, expected, seen, waited, span }
    }

    /// Creates the outcome. Steps that have started but not ended, because of a panic or a cancelled run, count as not
    /// tested.
    pub(super) fn finish(&self) -> Outcome {
        let elapsed = self.elapsed();
        let missed = {
            let state = self.state();
            budget::missed(&self.scenario.budget, elapsed, &state.pages, &state.totals, &state.usuals)
        };
        for (step, failure) in missed {
            self.add_degradation(step, failure);
        }
        let mut state = std::mem::take(&mut *self.state());
        for step in &mut state.steps {
            step.name = printable(&self.masker.mask(&step.name)).into_owned();
            if step.duration.is_zero() && step.status == StepStatus::Unknown {
                step.duration = elapsed.saturating_sub(step.offset);
            }
        }
        let (verdict, reason, message, failed_step) = conclude(state.decided.as_ref(), &state.soft);
        for (step, failure) in state.soft {
            // The step did what it should, but still carries the finding that it was too slow.
            if let Some(result) = step.and_then(|step| state.steps.get_mut(step))
                && result.failure.is_none()
            {
                if let Some(span) = failure.span {
                    // The span belongs to the file that contains the step, which may be a fragment.
                    result.place = self.scenario.source_of(&result.place).place(span);
                }
                result.failure = Some(failure);
            }
        }
        for (index, step) in state.steps.iter_mut().enumerate() {
            let Some(failure) = step.failure.as_ref().filter(|_| step.status != StepStatus::Skipped) else { continue };
            let Some(span) = failure.span.or_else(|| state.spans.get(&index).copied()) else { continue };
            let source = self.scenario.source_of(&step.place);
            let shown = Diagnostic::error(source, span, format!("{} ({})", failure.message, failure.reason))
                .context(format!("{}, {}", self.scenario.step_number(&step.name, index), step.name))
                .render_as(verdict.as_str(), false);
            step.snippet = Some(self.masker.masked(&shown));
        }
        for (step, page) in state.pages {
            if let Some(result) = state.steps.get_mut(step) {
                result.page = Some(Box::new(page));
            }
        }
        let started_at = self.started_at();
        // The end is that by the clock on the wall, so what happened before it happened during the run.
        let lasted = elapsed + self.clock().excluded;
        let ended_at = started_at + chrono::TimeDelta::from_std(lasted).unwrap_or_default();
        Outcome {
            run: self.run,
            seq: 0,
            streak: None,
            scenario: self.scenario.id.value.clone(),
            name: printable(&self.scenario.name).into_owned(),
            kind: self.scenario.kind,
            location: self.location.clone(),
            due_at: self.due_at,
            started_at,
            ended_at,
            duration: elapsed,
            verdict,
            reason,
            message,
            failed_step,
            steps: state.steps,
            evidence: state.evidence,
            browser: state.browser,
            differences: Vec::new(),
        }
    }
}

/// Returns the random part of a fresh id, as span ids have to be unique only within the trace.
pub(super) fn span_id() -> String {
    RunId::new().0.as_bytes()[8..].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Determines the verdict, reason, message and deciding step. A failure takes precedence over degradations and hides
/// them. A run that is degraded by `finally` has that as its reason.
fn conclude(decided: Option<&Finding>, soft: &[Finding]) -> (Verdict, Option<Reason>, Option<Masked>, Option<usize>) {
    let is_degraded = decided.is_none_or(|(_, failure)| failure.reason.class() == ReasonClass::Degraded);
    let soft = if is_degraded { soft } else { &[] };
    let mut findings = decided.into_iter().chain(soft);
    let Some((step, first)) = findings.next() else { return (Verdict::Passed, None, None, None) };
    let verdict = match first.reason.class() {
        ReasonClass::Failed => Verdict::Failed,
        ReasonClass::Unknown => Verdict::Unknown,
        ReasonClass::Degraded => Verdict::Degraded,
    };
    let message = findings.fold(sentence(first), |line, (_, next)| line.followed_by("; ", &sentence(next)));
    (verdict, Some(first.reason), Some(message.cut(LONGEST_MESSAGE)), *step)
}

/// Formats a failure as one line for users.
fn sentence(failure: &Failure<Masked>) -> Masked {
    let line = failure.message.clone();
    match (&failure.expected, &failure.seen) {
        // The message of a missed budget contains both values already.
        (Some(expected), Some(seen)) if failure.reason != Reason::Budget => {
            line.followed_by(": expected ", expected).followed_by(", got ", seen)
        }
        _ => line,
    }
}

/// Converts a failure under `finally` into a degradation of the run.
pub(super) fn degraded_by_finally(failure: &Failure) -> Failure {
    Failure { reason: Reason::Finally, message: format!("cleaning up failed: {}", failure.message), ..failure.clone() }
}

#[cfg(test)]
mod tests;
