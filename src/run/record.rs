//! What is written down while a run goes on, so that an outcome can be made of it whatever ends the run.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::budget;
use super::check::{Case, CaseEnd};
use super::difference::{PagePrint, RequestPrint};
use super::{Progress, Stage, Ticket, Tools, Usuals};
use crate::diagnostic::{Diagnostic, Span, printable};
use crate::names::{Reason, ReasonClass};
use crate::outcome::PageTotals;
use crate::outcome::{BrowserResult, Evidence, Failure, Outcome, PageResult, RunId, StepResult, StepStatus, Verdict};
use crate::scenario::{Scenario, SlowerThanUsual, Step};
use crate::secret::{Masked, Masker};

/// So much of what was expected and of what was seen is told, in characters.
const LONGEST: usize = 300;

/// So many lines of a page are kept for the comparison with another run.
const MOST_LINES: usize = 400;

/// So much is told of all that is wrong with a run, in characters.
const LONGEST_MESSAGE: usize = 2000;

/// The growing account of one run.
pub(super) struct Record {
    scenario: Arc<Scenario>,
    location: String,
    run: RunId,
    due_at: DateTime<Utc>,
    clock: Mutex<Clock>,
    pub(super) masker: Masker,
    progress: Option<Progress>,
    state: Mutex<State>,
}

/// The start of the run, by both clocks.
#[derive(Clone, Copy)]
struct Clock {
    started_at: DateTime<Utc>,
    started: Instant,
}

#[derive(Default)]
struct State {
    steps: Vec<StepResult>,
    evidence: Vec<Evidence>,
    decided: Option<Finding>,
    /// What leaves a run degraded that passed otherwise.
    soft: Vec<Finding>,
    pages: Vec<(usize, PageResult)>,
    totals: PageTotals,
    browser: Option<BrowserResult>,
    usuals: Usuals,
    traces: Traces,
    /// Where the steps are written, by their position.
    spans: HashMap<usize, Span>,
}

/// What of a run is compared with another one, besides its outcome.
#[derive(Default)]
pub(super) struct Traces {
    pub(super) requests: Vec<RequestPrint>,
    pub(super) console: Vec<Masked>,
    /// Pages, each with its picture.
    pub(super) pages: Vec<(PagePrint, Option<Vec<u8>>)>,
}

/// What is wrong, and in which step.
type Finding = (Option<usize>, Failure<Masked>);

impl Record {
    pub(super) fn begin(scenario: &Arc<Scenario>, tools: &Tools, ticket: &Ticket) -> Self {
        let started_at = Utc::now();
        Self {
            scenario: Arc::clone(scenario),
            location: tools.location.clone(),
            run: ticket.run,
            due_at: ticket.due_at.unwrap_or(started_at),
            clock: Mutex::new(Clock { started_at, started: Instant::now() }),
            masker: Masker::default(),
            progress: ticket.progress.clone(),
            state: Mutex::default(),
        }
    }

    fn clock(&self) -> Clock {
        *self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What came before was preparation: the run starts now.
    pub(super) fn start_clock(&self) {
        *self.clock.lock().unwrap_or_else(PoisonError::into_inner) =
            Clock { started_at: Utc::now(), started: Instant::now() };
    }

    /// When the run started.
    pub(super) fn started_at(&self) -> DateTime<Utc> {
        self.clock().started_at
    }

    fn elapsed(&self) -> Duration {
        self.clock().started.elapsed()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere must not cost the account of what was done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the run was due.
    pub(super) fn due_at(&self) -> DateTime<Utc> {
        self.due_at
    }

    /// What a suite did that a step ran, as steps within it: they are drawn one after the other, as suites report.
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

    fn tell(&self, stage: Stage<'_>) {
        if let Some(progress) = &self.progress {
            progress(stage);
        }
    }

    /// A step begins; gives its position.
    pub(super) fn begin_step(&self, step: &Step, depth: u8, finally: bool) -> usize {
        self.tell(Stage::Began { name: &printable(&step.name), depth });
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

    /// What was done for later comparison is no part of what is measured.
    pub(super) fn exclude(&self, spent: Duration) {
        let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        clock.started = clock.started.checked_add(spent).map_or(clock.started, |later| later.min(Instant::now()));
    }

    /// Keeps what was asked and told by the pages for the comparison with another run.
    pub(super) fn heard(&self, requests: Vec<RequestPrint>, console: Vec<Masked>) {
        let mut state = self.state();
        (state.traces.requests, state.traces.console) = (requests, console);
    }

    /// Keeps what a page looked like after a step, with a picture.
    pub(super) fn print(&self, step: usize, looked: bool, title: &str, tree: &str, picture: Option<Vec<u8>>) {
        let line = |line: &str| Masked::own_words(printable(&self.masker.masked(line))).cut(LONGEST);
        let tree = tree.lines().take(MOST_LINES).map(line).collect();
        let page = PagePrint { step, looked, title: line(title), tree, picture: None };
        self.state().traces.pages.push((page, picture));
    }

    /// What was kept for the comparison with another run.
    pub(super) fn take_traces(&self) -> Traces {
        std::mem::take(&mut self.state().traces)
    }

    /// How many steps have begun.
    pub(super) fn steps(&self) -> usize {
        self.state().steps.len()
    }

    /// A group is done again: what its steps from `first` on did counts no longer, and the group says why.
    pub(super) fn retry(&self, group: usize, first: usize, number: u32, (from, failure): &(usize, Failure)) {
        let mut state = self.state();
        for step in state.steps.iter_mut().skip(first) {
            step.retried = true;
        }
        let name = state.steps.get(*from).map_or("a step", |step| &step.name);
        let note = self.shown(&format!("try {number} failed at {name}: {}", failure.message));
        if let Some(group) = state.steps.get_mut(group) {
            group.notes.push(note);
        }
    }

    /// Notes something for people at a step.
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

    /// Changes what is known of a step.
    pub(super) fn note(&self, step: usize, change: impl FnOnce(&mut StepResult)) {
        if let Some(result) = self.state().steps.get_mut(step) {
            change(result);
        }
    }

    /// A step ended. Its failure is its own, or that of the step within it whose position is given.
    pub(super) fn end_step(&self, step: usize, status: StepStatus, failure: Option<(usize, Failure)>) {
        let ended = {
            let mut state = self.state();
            let elapsed = self.elapsed();
            let place = failure.as_ref().and_then(|(from, failure)| {
                let place = &state.steps.get(*from)?.place;
                match failure.span {
                    // The step's file, whichever it is.
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
        self.tell(Stage::Ended(&ended));
    }

    /// What is usual for this scenario.
    pub(super) fn compare_with(&self, usuals: Usuals) {
        self.state().usuals = usuals;
    }

    /// Whether a step that is about to pass took no longer than is usual.
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

    /// When a step began.
    pub(super) fn began(&self, step: usize) -> Instant {
        let offset = self.state().steps.get(step).map(|result| result.offset).unwrap_or_default();
        self.clock().started + offset
    }

    /// The span of a step.
    pub(super) fn span_of(&self, step: usize) -> String {
        self.state().steps.get(step).map(|result| result.span_id.clone()).unwrap_or_default()
    }

    /// The step that was begun last.
    pub(super) fn last_step(&self) -> usize {
        self.state().steps.len().saturating_sub(1)
    }

    /// Which browser it is.
    pub(super) fn browser(&self, browser: BrowserResult) {
        self.state().browser = Some(browser);
    }

    pub(super) fn add_evidence(&self, evidence: Evidence) {
        self.state().evidence.push(evidence);
    }

    /// What decides the verdict; the first decision stands.
    pub(super) fn decide(&self, step: Option<usize>, failure: Failure) {
        let failure = self.masked(failure);
        self.state().decided.get_or_insert((step, failure));
    }

    /// Whether nothing was found so far, soft or not.
    pub(super) fn is_clean(&self) -> bool {
        let state = self.state();
        state.decided.is_none() && state.soft.is_empty()
    }

    /// A soft finding: a run that passed otherwise is degraded, for the reason of the first one.
    pub(super) fn soften(&self, step: Option<usize>, failure: Failure) {
        debug_assert!(failure.reason.class() == ReasonClass::Degraded, "{} is not soft", failure.reason);
        let failure = self.masked(failure);
        self.state().soft.push((step, failure));
    }

    /// What the browser's pages did: each with the step that opened it, and the sums over all of them.
    pub(super) fn pages(&self, pages: Vec<(usize, PageResult)>, totals: PageTotals) {
        let masked = pages.into_iter().map(|(step, page)| {
            (step, PageResult { url: printable(&self.masker.mask(&page.url)).into_owned(), ..page })
        });
        let pages = masked.collect();
        let mut state = self.state();
        (state.pages, state.totals) = (pages, totals);
    }

    fn masked(&self, failure: Failure) -> Failure<Masked> {
        // What a server says must not steer a terminal nor forge a line, wherever it is shown.
        let mask = |text: String| Masked::own_words(printable(&self.masker.masked(&text)));
        let show = |text: String| mask(text).cut(LONGEST);
        let Failure { reason, message, expected, seen, waited, span } = failure;
        let (message, expected, seen) = (mask(message), expected.map(show), seen.map(show));
        Failure { reason, message, expected, seen, waited, span }
    }

    /// The outcome. What was begun and not ended (a panic, a cancelled run) counts as not tested.
    pub(super) fn finish(&self) -> Outcome {
        let elapsed = self.elapsed();
        let missed = {
            let state = self.state();
            budget::missed(&self.scenario.budget, elapsed, &state.pages, &state.totals, &state.usuals)
        };
        for (step, failure) in missed {
            self.soften(step, failure);
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
            // The step did what it should; what it was too slow for stands with it all the same.
            if let Some(result) = step.and_then(|step| state.steps.get_mut(step))
                && result.failure.is_none()
            {
                if let Some(span) = failure.span {
                    // The step's file, whichever it is.
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
                .context(format!("step {}, {}", index + 1, step.name))
                .render_as(verdict.as_str(), false);
            step.snippet = Some(self.masker.masked(&shown));
        }
        for (step, page) in state.pages {
            if let Some(result) = state.steps.get_mut(step) {
                result.page = Some(Box::new(page));
            }
        }
        let started_at = self.started_at();
        let ended_at = started_at + chrono::TimeDelta::from_std(elapsed).unwrap_or_default();
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

/// The random end of a fresh id: span ids need to be unique within the trace only.
pub(super) fn span_id() -> String {
    RunId::new().0.as_bytes()[8..].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The verdict, why, in words, and the step that decided. A failure goes before anything soft, which then says nothing;
/// a run that is degraded by what `finally` left is so for that reason.
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

/// One line for people.
fn sentence(failure: &Failure<Masked>) -> Masked {
    let line = failure.message.clone();
    match (&failure.expected, &failure.seen) {
        // A missed budget says both already.
        (Some(expected), Some(seen)) if failure.reason != Reason::Budget => {
            line.followed_by(": expected ", expected).followed_by(", saw ", seen)
        }
        _ => line,
    }
}

/// What a failure under `finally` makes of the run.
pub(super) fn degraded_by_finally(failure: &Failure) -> Failure {
    Failure { reason: Reason::Finally, message: format!("cleaning up failed: {}", failure.message), ..failure.clone() }
}

#[cfg(test)]
mod tests;
