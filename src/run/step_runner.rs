//! Execution of one run, step by step.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;

use super::difference::RequestPrint;
use super::recorder::{RunRecorder, degraded_by_finally};
use super::{RunRequest, RunServices, check, http};
use crate::browser::{ContextOptions, Page};
use crate::diagnostic::Spanned;
use crate::names::{Reason, ReasonClass};
use crate::outcome::{EvidenceKind, Failure, StepStatus};
use crate::scenario::{
    Action, Budget, FINALLY_TIMEOUT, Group, HumanDuration, PageAction, ResponseFact, Scenario, Step,
};
use crate::secret::Masked;
use crate::values::Values;
use crate::wire::limits::Place;

/// Time by which a step may exceed its own timeout before it is aborted from outside. A step that detects its own
/// timeout reports more about what it found.
const GRACE: Duration = Duration::from_secs(2);

/// The same for steps of a page, where the cause has to be found if the browser does not respond.
const PAGE_GRACE: Duration = Duration::from_secs(7);

pub(super) struct StepRunner<'a> {
    scenario: &'a Arc<Scenario>,
    tools: &'a RunServices,
    ticket: &'a RunRequest,
    record: &'a RunRecorder,
    values: Values,
    session: http::Session,
    page: Option<Page>,
    /// Whether the browser must be one that no other run has used.
    fresh: bool,
    /// Whether the content of the pages is recorded for comparison with a later failed run.
    prints: bool,
}

/// Context of a list of steps in the scenario.
#[derive(Clone, Copy)]
struct StepListContext {
    depth: u8,
    finally: bool,
    deadline: Instant,
    /// Name and length of the limit that ends at the deadline.
    bound: (&'static str, Duration),
}

/// Failure that ended a list of steps, with the position of the step that caused it.
type StepFailure = (usize, Failure);

/// End of a step that does not stop the steps after it.
enum StepEnd {
    Passed,
    /// The condition in `when` did not hold.
    Skipped,
    /// The step contains a failed step with `continue`.
    Failed(StepFailure),
}

impl<'a> StepRunner<'a> {
    pub(super) fn new(
        scenario: &'a Arc<Scenario>,
        tools: &'a RunServices,
        ticket: &'a RunRequest,
        record: &'a RunRecorder,
        fresh: bool,
    ) -> Self {
        let values = Values::new(
            scenario,
            &tools.lookup,
            record.masker.clone(),
            record.run(),
            record.started_at(),
            &tools.location,
        )
        .reading_by(tools.limits.readers());
        let session = http::Session::new(tools, http::Trace { run: record.run(), is_sent: ticket.traceparent });
        let prints = tools.footprints.as_ref().is_some_and(|footprints| footprints.is_due(scenario));
        Self { scenario, tools, ticket, record, values, session, page: None, fresh, prints }
    }

    pub(super) async fn run(mut self) {
        let began = Instant::now();
        let files = async {
            self.values.read_secrets(self.scenario.timeout).await;
            self.values.read_files(self.scenario.browser.trust.files(), self.scenario.timeout).await;
        };
        if self.ticket.cancel.run_until_cancelled(files).await.is_none() {
            self.record.set_failure(None, stopped());
            return;
        }
        // Reading the files is time of the agent, not of the target.
        if began.elapsed() > Duration::from_millis(1) {
            self.record.start_clock();
        }
        if let Some(baseline) = &self.tools.baseline {
            self.record.compare_with(baseline.usual(self.scenario, self.record.started_at()).await);
            self.record.start_clock();
        }
        if self.scenario.needs_browser() {
            if let Err(failure) = self.open_page().await {
                self.record.set_failure(None, failure);
                return;
            }
            self.record.start_clock();
        }
        let timeout = self.scenario.timeout;
        // Browser runs are limited by the number of sessions and must not take a slot from other runs.
        let _place = if self.scenario.needs_browser() {
            None
        } else {
            match self.place(timeout).await {
                Ok(place) => Some(place),
                Err(failure) => {
                    self.record.set_failure(None, failure);
                    return;
                }
            }
        };
        let deadline = Instant::now() + timeout;
        let within = StepListContext { depth: 0, finally: false, deadline, bound: ("the scenario", timeout) };
        let scenario: &'a Scenario = self.scenario;
        if let Ok(Some((step, failure))) | Err((step, failure)) = self.steps(&scenario.steps, within).await {
            self.record.set_failure(Some(step), failure);
        }
        // A run that is aborted by a shutdown must end quickly; the next run cleans up what it left.
        if !scenario.finally.is_empty() && !self.ticket.cancel.is_cancelled() {
            let deadline = Instant::now() + FINALLY_TIMEOUT;
            let within = StepListContext { depth: 0, finally: true, deadline, bound: ("`finally`", FINALLY_TIMEOUT) };
            for step in &scenario.finally {
                let done = self.steps(std::slice::from_ref(step), within).await;
                if let Ok(Some((step, failure))) | Err((step, failure)) = done {
                    self.record.set_failure(Some(step), degraded_by_finally(&failure));
                }
            }
        }
        if let Some(page) = self.page.take() {
            self.conclude(&page).await;
            // The outcome does not wait until the browser is ready for the next run.
            page.release();
        }
    }

    /// Acquires one of the slots for concurrent runs before the scenario's clock starts, because the wait is caused by
    /// the agent.
    async fn place(&self, timeout: Duration) -> Result<Place, Failure> {
        let cancel = self.ticket.cancel.clone();
        let began = Instant::now();
        let place = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(stopped()),
            place = tokio::time::timeout(timeout, self.tools.limits.place()) => place,
        };
        let Ok(place) = place else {
            let message = format!(
                "no free slot within {}: too many runs for the file descriptors of this process; raise `LimitNOFILE`",
                HumanDuration(timeout)
            );
            return Err(Failure::new(Reason::Resources, message).waited(timeout));
        };
        // Most runs do not wait, so their clock is already correct.
        if began.elapsed() > Duration::from_millis(1) {
            self.record.start_clock();
        }
        Ok(place)
    }

    /// Runs steps in order up to the first failure that stops them. Returns the first failure that does not stop the
    /// list but still counts. The future is boxed because groups contain steps.
    fn steps<'s>(
        &'s mut self,
        steps: &'a [Step],
        within: StepListContext,
    ) -> BoxFuture<'s, Result<Option<StepFailure>, StepFailure>>
    where
        'a: 's,
    {
        Box::pin(async move {
            let mut first: Option<StepFailure> = None;
            for (at, step) in steps.iter().enumerate() {
                let index = self.record.begin_step(step, within.depth, within.finally);
                if let Some(page) = &mut self.page {
                    let next = steps.get(at + 1).map(|next| &next.action);
                    let dialog_next = matches!(next, Some(Action::Page(PageAction::Dialog { .. })));
                    page.step(index, &self.record.span_of(index), dialog_next);
                }
                let ((from, failure), goes_on) = match self.step(step, index, within).await {
                    Ok(StepEnd::Passed) => {
                        self.record.end_step(index, StepStatus::Passed, None);
                        if self.prints && matches!(step.action, Action::Page(_)) {
                            self.print_page(index, step.action.only_looks()).await;
                        }
                        continue;
                    }
                    Ok(StepEnd::Skipped) => {
                        self.record.end_step(index, StepStatus::Skipped, None);
                        continue;
                    }
                    Err((_, failure)) if within.finally && failure.reason == Reason::MissingValue => {
                        self.record.end_step(index, StepStatus::Skipped, Some((index, failure)));
                        continue;
                    }
                    Ok(StepEnd::Failed(left)) => (left, true),
                    Err(left) => (left, step.go_on),
                };
                if from == index {
                    self.collect_evidence(step, index).await;
                }
                let unknown = failure.reason.class() == ReasonClass::Unknown;
                let status = if unknown { StepStatus::Unknown } else { StepStatus::Failed };
                self.record.end_step(index, status, Some((from, failure.clone())));
                // A run that was stopped did not test the remaining steps, whatever this step allows.
                let stops = failure.reason == Reason::Lost || !(step.optional || goes_on);
                if stops {
                    return Err(first.unwrap_or((from, failure)));
                }
                if !step.optional {
                    first.get_or_insert((from, failure));
                }
            }
            Ok(first)
        })
    }

    async fn step(&mut self, step: &'a Step, index: usize, within: StepListContext) -> Result<StepEnd, StepFailure> {
        let left = within.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err((index, out_of_time(within)));
        }
        if !step.when.is_empty() && !self.holds(step, left).await.map_err(|failure| (index, failure))? {
            return Ok(StepEnd::Skipped);
        }
        let left = within.deadline.saturating_duration_since(Instant::now());
        if let Action::Group(group) = &step.action {
            let own = step.timeout.map(|timeout| (Instant::now() + timeout, timeout));
            let (deadline, bound) = match own {
                Some((deadline, timeout)) if deadline < within.deadline => (deadline, ("the group", timeout)),
                _ => (within.deadline, within.bound),
            };
            let inner = StepListContext { depth: within.depth + 1, deadline, bound, ..within };
            return self.group(group, index, inner).await;
        }
        let cancel = self.ticket.cancel.clone();
        let timeout = step.timeout().min(left);
        let polled = match &step.action {
            Action::Request(request) => request.eventually.map(|eventually| eventually.within),
            _ => None,
        };
        let wanted = polled.unwrap_or(step.timeout());
        let whole = wanted.min(left);
        let grace = if matches!(step.action, Action::Page(_)) { PAGE_GRACE } else { GRACE };
        let acting = async {
            // A page step reads the files that it uploads by itself.
            if !matches!(step.action, Action::Page(_)) {
                self.values.read_files(step.files(), whole).await;
            }
            self.act(step, index, timeout, whole).await
        };
        let done = tokio::select! {
            biased;
            () = cancel.cancelled() => Ok(Err(stopped())),
            done = tokio::time::timeout(whole + grace, acting) => done.map_err(|_| {
                Failure::new(Reason::Timeout, format!("timed out after {}", HumanDuration(whole))).waited(whole)
            }),
        };
        let done = match (done, &mut self.page) {
            (Err(late), Some(page)) if matches!(step.action, Action::Page(_)) => {
                Err(page.abandon().await.unwrap_or(late))
            }
            (done, _) => done.unwrap_or_else(Err),
        };
        done.map(|()| StepEnd::Passed).map_err(|failure| {
            // If the time of the scenario or group is over, that limit is the cause to report, not the step's own
            // timeout.
            let all_is_over = failure.reason == Reason::Timeout && whole < wanted;
            let failure = if all_is_over {
                Failure { message: format!("{} ({})", failure.message, out_of_time(within).message), ..failure }
            } else {
                failure
            };
            (index, failure.at(step.span))
        })
    }

    /// Runs the steps of a group, and repeats them from the first one if the group has retries left. Does not repeat
    /// them if the time is over, the run was stopped, or the failure is an agent fault.
    async fn group(&mut self, group: &'a Group, index: usize, within: StepListContext) -> Result<StepEnd, StepFailure> {
        let mut left = group.retry;
        loop {
            let first = self.record.steps();
            let done = self.steps(&group.steps, within).await;
            let (Ok(Some((from, failure))) | Err((from, failure))) = &done else { return Ok(StepEnd::Passed) };
            let is_final = left == 0
                || Instant::now() >= within.deadline
                || self.ticket.cancel.is_cancelled()
                || failure.reason.class() == ReasonClass::Unknown;
            if is_final {
                return done.map(|left| left.map_or(StepEnd::Passed, StepEnd::Failed));
            }
            let number = group.retry - left + 1;
            self.record.retry(index, first, number, &(*from, failure.clone()));
            left -= 1;
        }
    }

    /// Checks the condition of `when` once.
    async fn holds(&mut self, step: &Step, left: Duration) -> Result<bool, Failure> {
        let timeout = step.timeout().min(left);
        let cancel = self.ticket.cancel.clone();
        let page = self.page.as_mut().expect("opened before the first step");
        let held = tokio::select! {
            biased;
            () = cancel.cancelled() => Err(stopped()),
            held = tokio::time::timeout(timeout + GRACE, page.holds(&step.when, &self.values, timeout)) => held
                .unwrap_or_else(|_| {
                    let message = format!("`when` was not checked within {}", HumanDuration(timeout));
                    Err(Failure::new(Reason::Timeout, message).waited(timeout))
                }),
        };
        held.map_err(|failure| failure.at(step.span))
    }

    /// Executes the action of a step. `timeout` is for one attempt, `whole` for all attempts of a polled request.
    async fn act(&mut self, step: &'a Step, index: usize, timeout: Duration, whole: Duration) -> Result<(), Failure> {
        match &step.action {
            Action::Page(action) => self.page_action(step, action, index, timeout).await,
            Action::Request(request) => {
                let began = self.record.began(index);
                let (saved, mut held) = self.session.ask(request, &self.values, timeout, whole, began).await;
                for (name, value, secret) in saved {
                    held = held.and(self.values.save(&name, value, secret));
                }
                // Only after the values are saved, so that new secrets are masked here as well.
                self.record.note(index, |result| {
                    (result.http, result.earlier_requests) = self.session.result(&self.values);
                    result.certificate_expires_at = self.session.certificate_expires_at();
                });
                held?;
                request.expect.iter().try_for_each(|one| match one.what {
                    ResponseFact::SlowerThanUsual(wanted) => {
                        self.record.as_usual(index, step, wanted).map_err(|failure| failure.at(one.span))
                    }
                    _ => Ok(()),
                })
            }
            Action::Check(check) => {
                let due_at = self.record.due_at();
                let around = check::CheckContext::new(&self.values, self.tools, due_at, timeout);
                let found = check::check(check, &around).await;
                self.record.note(index, |result| result.certificate_expires_at = found.expires_at);
                self.record.add_cases(index, found.cases);
                if let Some((kind, name, bytes)) = found.evidence {
                    self.keep(index, kind, &format!("{index:03}-{name}"), bytes).await;
                }
                found.result
            }
            Action::Group(_) => unreachable!("groups are handled by `step`"),
        }
    }

    /// Starts a browser or waits for a free one before the scenario's clock starts, because this is time of the agent,
    /// not of the target.
    async fn open_page(&mut self) -> Result<(), Failure> {
        let Some(browsers) = &self.tools.browsers else {
            return Err(Failure::new(Reason::Browser, "browsers are disabled here"));
        };
        let spec =
            ContextOptions { fresh: self.fresh, ..ContextOptions::of(self.scenario, &self.values, self.record.run())? };
        let cancel = self.ticket.cancel.clone();
        self.page = Some(tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(stopped()),
            page = browsers.open(spec, Instant::now() + self.scenario.timeout) => page?,
        });
        if let Some(page) = &mut self.page {
            self.record.browser(page.browser());
            page.expect_overlays(&self.scenario.overlays, &self.values)?;
        }
        Ok(())
    }

    /// Records the observations of the pages.
    async fn conclude(&self, page: &Page) {
        let measured = |budget: &Spanned<Budget>| matches!(budget.value, Budget::Vital(..) | Budget::LayoutShift(_));
        if self.scenario.budget.iter().any(measured) {
            page.settle().await;
        }
        let account = page.account();
        self.record.pages(account.pages, account.totals);
        if self.tools.footprints.is_some() {
            let masker = self.values.masker();
            let requests = account.requests.into_iter().map(|(step, method, url, status)| RequestPrint {
                step,
                method,
                url: masker.masked(&url),
                status,
            });
            let console = account.console.iter().map(|error| masker.masked(&error.text)).collect();
            self.record.heard(requests.collect(), console);
        }
        let of_last_step = self.record.last_step();
        for (at, picture) in account.frames {
            let name = format!("frame-{:06}ms.jpg", at.as_millis());
            self.keep(of_last_step, EvidenceKind::Frame, &name, picture).await;
        }
        let wanted = self.scenario.evidence.har.unwrap_or_else(|| !self.record.is_clean());
        if wanted && let Some(har) = page.har(self.values.masker()) {
            self.keep(of_last_step, EvidenceKind::Har, "requests.har", har).await;
        }
    }

    async fn page_action(
        &mut self,
        step: &Step,
        action: &PageAction,
        index: usize,
        timeout: Duration,
    ) -> Result<(), Failure> {
        let page = self.page.as_mut().expect("opened before the first step");
        if let PageAction::Screenshot { name, of, full_page } = action {
            let name = self.values.fill(name)?;
            let png = page.screenshot(of.as_ref(), *full_page, &step.within_frame, &self.values, timeout).await?;
            self.keep(index, EvidenceKind::Screenshot, &format!("{index:03}-{}.png", file_name(&name)), png).await;
            return Ok(());
        }
        let done = page.act(action, &step.within_frame, &self.values, timeout).await;
        for remark in page.take_remarks() {
            self.record.remark(index, &remark);
        }
        for drift in page.take_drifts() {
            self.record.add_degradation(Some(index), Failure::new(Reason::Drift, drift).at(step.span));
        }
        for (name, value, secret) in done? {
            self.values.save(&name, value, secret)?;
        }
        if self.scenario.evidence.screenshots_of_steps {
            let page = self.page.as_mut().expect("opened before the first step");
            // A failed screenshot does not fail the step.
            if let Ok(png) = page.screenshot(None, false, &[], &self.values, timeout).await {
                self.keep(index, EvidenceKind::Screenshot, &format!("{index:03}-step.png"), png).await;
            }
        }
        Ok(())
    }

    /// Records the content of the page after a step.
    async fn print_page(&mut self, index: usize, looked: bool) {
        let began = Instant::now();
        let Some(page) = &mut self.page else { return };
        if let Some((title, tree, picture)) = page.print().await {
            self.record.print(index, looked, &title, &tree, picture);
        }
        self.record.exclude(began.elapsed());
    }

    /// Collects the evidence of a failed step.
    async fn collect_evidence(&mut self, step: &Step, index: usize) {
        let pieces: Vec<(EvidenceKind, String, Vec<u8>)> = match &step.action {
            Action::Page(_) => match &mut self.page {
                Some(page) => {
                    let seen = page.evidence().await;
                    seen.into_iter().map(|(kind, name, bytes)| (kind, name.to_owned(), bytes)).collect()
                }
                None => Vec::new(),
            },
            Action::Request(_) => self
                .session
                .evidence(&self.values)
                .map(|bytes| (EvidenceKind::Response, "response.txt".to_owned(), bytes))
                .into_iter()
                .collect(),
            _ => Vec::new(),
        };
        if let (Some(_), Some(page), Action::Page(_)) = (&self.tools.footprints, &mut self.page, &step.action) {
            let piece = |of| pieces.iter().find(|(kind, ..)| *kind == of).map(|(.., bytes)| bytes.clone());
            let tree = piece(EvidenceKind::Accessibility).unwrap_or_default();
            let title = page.title().await.unwrap_or_default();
            let picture = piece(EvidenceKind::Screenshot);
            self.record.print(index, step.action.only_looks(), &title, &String::from_utf8_lossy(&tree), picture);
        }
        for (kind, name, bytes) in pieces {
            self.keep(index, kind, &format!("{index:03}-{name}"), bytes).await;
        }
    }

    async fn keep(&self, index: usize, kind: EvidenceKind, name: &str, bytes: Vec<u8>) {
        let piece = match kind {
            EvidenceKind::Screenshot | EvidenceKind::Frame => Masked::picture(bytes),
            _ => self.values.masker().masked_bytes(bytes),
        };
        match self.tools.evidence.keep(self.record.run(), kind, name, piece).await {
            Ok(mut evidence) => {
                evidence.step = Some(index);
                self.record.add_evidence(evidence);
            }
            // Evidence that cannot be stored must not change the verdict.
            Err(error) => tracing::warn!(run = %self.record.run(), name, %error, "cannot store evidence"),
        }
    }
}

fn out_of_time(within: StepListContext) -> Failure {
    let (what, timeout) = within.bound;
    Failure::new(Reason::Timeout, format!("the {} timeout of {what} expired", HumanDuration(timeout))).waited(timeout)
}

fn stopped() -> Failure {
    Failure::new(Reason::Lost, "the agent was stopped during the run")
}

/// Converts a text into a valid file name.
fn file_name(text: &str) -> String {
    let clean: String = text
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '-' })
        .take(60)
        .collect();
    if clean.is_empty() { "screenshot".into() } else { clean }
}
