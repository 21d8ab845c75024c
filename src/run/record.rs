//! What is written down while a run goes on, so that an outcome can be made of it whatever ends the run.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::expect::cut;
use super::{Progress, Stage, Ticket, Tools};
use crate::names::{Reason, ReasonClass};
use crate::outcome::{BrowserResult, Evidence, Failure, Outcome, RunId, StepResult, StepStatus, Verdict};
use crate::scenario::{Scenario, Step};
use crate::secret::Masker;

/// So much of what was expected and of what was seen is told, in characters.
const LONGEST: usize = 300;

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
    decided: Option<(Option<usize>, Failure)>,
    browser: Option<BrowserResult>,
}

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
        self.tell(Stage::Began { name: &step.name, depth });
        let mut state = self.state();
        let mut bytes = [0_u8; 8];
        // The random end of a fresh id: span ids need to be unique within the trace only.
        bytes.copy_from_slice(&RunId::new().0.as_bytes()[8..]);
        let span = u64::from_be_bytes(bytes);
        state.steps.push(StepResult {
            name: step.name.clone(),
            depth,
            finally,
            optional: step.optional,
            span_id: format!("{span:016x}"),
            offset: self.elapsed(),
            duration: Duration::ZERO,
            status: StepStatus::Unknown,
            place: step.source.as_ref().unwrap_or(&self.scenario.source).place(step.span),
            failure: None,
            http: None,
            certificate_expires_at: None,
            page: None,
        });
        state.steps.len() - 1
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

    /// The span of a step.
    pub(super) fn span_of(&self, step: usize) -> String {
        self.state().steps.get(step).map(|result| result.span_id.clone()).unwrap_or_default()
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

    fn masked(&self, failure: Failure) -> Failure {
        let mask = |text: String| self.masker.mask(&text);
        // Cut after masking: half a secret is one as well.
        let show = |text: String| cut(&mask(text), LONGEST);
        Failure {
            message: mask(failure.message),
            expected: failure.expected.map(show),
            seen: failure.seen.map(show),
            ..failure
        }
    }

    /// The outcome. What was begun and not ended (a panic, a cancelled run) counts as not tested.
    pub(super) fn finish(&self) -> Outcome {
        let elapsed = self.elapsed();
        let mut state = std::mem::take(&mut *self.state());
        for step in &mut state.steps {
            step.name = self.masker.mask(&step.name);
            if step.duration.is_zero() && step.status == StepStatus::Unknown {
                step.duration = elapsed.saturating_sub(step.offset);
            }
        }
        let (verdict, reason, message, failed_step) = match state.decided {
            None => (Verdict::Passed, None, None, None),
            Some((step, failure)) => {
                let verdict = match failure.reason.class() {
                    ReasonClass::Failed => Verdict::Failed,
                    ReasonClass::Unknown => Verdict::Unknown,
                    ReasonClass::Degraded => Verdict::Degraded,
                };
                (verdict, Some(failure.reason), Some(sentence(&failure)), step)
            }
        };
        let started_at = self.started_at();
        let ended_at = started_at + chrono::TimeDelta::from_std(elapsed).unwrap_or_default();
        Outcome {
            run: self.run,
            scenario: self.scenario.id.value.clone(),
            name: self.scenario.name.clone(),
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
        }
    }
}

/// One line for people.
fn sentence(failure: &Failure) -> String {
    let mut line = failure.message.clone();
    if let (Some(expected), Some(seen)) = (&failure.expected, &failure.seen) {
        line.push_str(&format!(": expected {expected}, saw {seen}"));
    }
    line
}

/// What a failure under `finally` makes of the run.
pub(super) fn degraded_by_finally(failure: &Failure) -> Failure {
    Failure { reason: Reason::Finally, message: format!("cleaning up failed: {}", failure.message), ..failure.clone() }
}
