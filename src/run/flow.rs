//! One run, step by step.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;

use super::browser::{Page, Spec};
use super::record::{Record, degraded_by_finally};
use super::{Ticket, Tools, Values, http, probe};
use crate::names::{Reason, ReasonClass};
use crate::outcome::{EvidenceKind, Failure, StepStatus};
use crate::scenario::{Action, FINALLY_TIMEOUT, PageAction, Pretty, Scenario, Step};

/// What a step's own timeout may be overrun by before it is cut off from outside: a step that keeps its own time
/// says more about what it saw.
const GRACE: Duration = Duration::from_secs(2);

pub(super) struct Flow<'a> {
    scenario: &'a Arc<Scenario>,
    tools: &'a Tools,
    ticket: &'a Ticket,
    record: &'a Record,
    values: Values,
    session: http::Session,
    page: Option<Page>,
}

/// Where in the scenario a list of steps stands.
#[derive(Clone, Copy)]
struct Within {
    depth: u8,
    finally: bool,
    deadline: Instant,
    /// Whose time ends at the deadline, and how long that was.
    bound: (&'static str, Duration),
}

/// Why a list of steps was left: a failure, and the step it came from.
type Left = (usize, Failure);

impl<'a> Flow<'a> {
    pub(super) fn new(scenario: &'a Arc<Scenario>, tools: &'a Tools, ticket: &'a Ticket, record: &'a Record) -> Self {
        let values = Values::new(
            scenario,
            &tools.lookup,
            record.masker.clone(),
            record.run(),
            record.started_at(),
            &tools.location,
        );
        Self { scenario, tools, ticket, record, values, session: http::Session::new(tools.tls.clone()), page: None }
    }

    pub(super) async fn run(mut self) {
        if self.scenario.needs_browser() {
            if let Err(failure) = self.open_page().await {
                self.record.decide(None, failure);
                return;
            }
            self.record.start_clock();
        }
        let timeout = self.scenario.timeout;
        let deadline = Instant::now() + timeout;
        let within = Within { depth: 0, finally: false, deadline, bound: ("the scenario", timeout) };
        let scenario: &'a Scenario = self.scenario;
        if let Err((step, failure)) = self.steps(&scenario.steps, within).await {
            self.record.decide(Some(step), failure);
        }
        // A run that is cut off by a shutdown must be quick; what it left is cleaned up by the next one.
        if !scenario.finally.is_empty() && !self.ticket.cancel.is_cancelled() {
            let deadline = Instant::now() + FINALLY_TIMEOUT;
            let within = Within { depth: 0, finally: true, deadline, bound: ("`finally`", FINALLY_TIMEOUT) };
            for step in &scenario.finally {
                if let Err((step, failure)) = self.steps(std::slice::from_ref(step), within).await {
                    self.record.decide(Some(step), degraded_by_finally(&failure));
                }
            }
        }
        if let Some(page) = self.page.take() {
            page.close().await;
        }
    }

    /// Does steps in order up to the first failure that counts. Boxed, since groups hold steps.
    fn steps<'s>(&'s mut self, steps: &'a [Step], within: Within) -> BoxFuture<'s, Result<(), Left>>
    where
        'a: 's,
    {
        Box::pin(async move {
            for step in steps {
                let index = self.record.begin_step(step, within.depth, within.finally);
                match self.step(step, index, within).await {
                    Ok(()) => self.record.end_step(index, StepStatus::Passed, None),
                    Err((_, failure)) if within.finally && failure.reason == Reason::MissingValue => {
                        self.record.end_step(index, StepStatus::Skipped, Some(failure));
                    }
                    Err((from, failure)) => {
                        if from == index {
                            self.collect_evidence(step, index).await;
                        }
                        let status = if failure.reason.class() == ReasonClass::Unknown {
                            StepStatus::Unknown
                        } else {
                            StepStatus::Failed
                        };
                        self.record.end_step(index, status, Some(failure.clone()));
                        // A run that was stopped did not test the rest, however optional this step was.
                        if !step.optional || failure.reason == Reason::Lost {
                            return Err((from, failure));
                        }
                    }
                }
            }
            Ok(())
        })
    }

    async fn step(&mut self, step: &'a Step, index: usize, within: Within) -> Result<(), Left> {
        let left = within.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err((index, out_of_time(within)));
        }
        if let Action::Group(steps) = &step.action {
            let own = step.timeout.map(|timeout| (Instant::now() + timeout, timeout));
            let (deadline, bound) = match own {
                Some((deadline, timeout)) if deadline < within.deadline => (deadline, ("the group", timeout)),
                _ => (within.deadline, within.bound),
            };
            return self.steps(steps, Within { depth: within.depth + 1, deadline, bound, ..within }).await;
        }
        let cancel = self.ticket.cancel.clone();
        let timeout = step.timeout().min(left);
        let done = tokio::select! {
            biased;
            () = cancel.cancelled() => Err(stopped()),
            done = tokio::time::timeout(timeout + GRACE, self.act(step, index, timeout)) => done.unwrap_or_else(|_| {
                Err(Failure::new(Reason::Timeout, format!("not done within {}", Pretty(timeout))).waited(timeout))
            }),
        };
        done.map_err(|failure| {
            // When the scenario's or group's time is up, that is what is to be mended, not the step's own timeout.
            let all_is_over = failure.reason == Reason::Timeout && timeout < step.timeout();
            let failure = if all_is_over {
                Failure { message: format!("{} ({})", failure.message, out_of_time(within).message), ..failure }
            } else {
                failure
            };
            (index, failure.at(step.span))
        })
    }

    async fn act(&mut self, step: &'a Step, index: usize, timeout: Duration) -> Result<(), Failure> {
        match &step.action {
            Action::Page(action) => self.page_action(step, action, index, timeout).await,
            Action::Request(request) => {
                let answer = self.session.send(request, &self.values, timeout).await;
                self.record.note(index, |result| {
                    result.http = self.session.result(&self.values);
                    result.certificate_expires_at = self.session.certificate_expires_at();
                });
                answer?;
                let (saved, mut held) = self.session.check(request, &self.values);
                for (name, value, secret) in saved {
                    held = held.and(self.values.save(&name, value, secret));
                }
                held
            }
            Action::Tcp(check) => probe::tcp::check(check, &self.values, timeout).await,
            Action::Tls(check) => {
                let seen = probe::tls::check(check, &self.values, &self.tools.tls, timeout).await;
                self.record.note(index, |result| result.certificate_expires_at = seen.expires_at);
                seen.result
            }
            Action::Group(_) => unreachable!("groups are handled by `step`"),
        }
    }

    /// Starts a browser, or waits for a free one, before the scenario's clock starts: it is our time, not the target's.
    async fn open_page(&mut self) -> Result<(), Failure> {
        let Some(browsers) = &self.tools.browsers else {
            return Err(Failure::new(Reason::Browser, "browsers are switched off here"));
        };
        let spec = Spec { viewport: self.scenario.browser.viewport };
        let cancel = self.ticket.cancel.clone();
        self.page = Some(tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(stopped()),
            page = browsers.open(spec, Instant::now() + self.scenario.timeout) => page?,
        });
        Ok(())
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
        for (name, value, secret) in page.act(action, &step.within_frame, &self.values, timeout).await? {
            self.values.save(&name, value, secret)?;
        }
        Ok(())
    }

    /// What is there to see when a step failed.
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
        for (kind, name, bytes) in pieces {
            self.keep(index, kind, &format!("{index:03}-{name}"), bytes).await;
        }
    }

    async fn keep(&self, index: usize, kind: EvidenceKind, name: &str, bytes: Vec<u8>) {
        match self.tools.evidence.keep(self.record.run(), kind, name, bytes, self.values.masker()).await {
            Ok(mut evidence) => {
                evidence.step = Some(index);
                self.record.add_evidence(evidence);
            }
            // Evidence that cannot be kept must not change the verdict.
            Err(error) => tracing::warn!(run = %self.record.run(), name, %error, "evidence was not kept"),
        }
    }
}

fn out_of_time(within: Within) -> Failure {
    let (what, timeout) = within.bound;
    Failure::new(Reason::Timeout, format!("the {} of {what} are over", Pretty(timeout))).waited(timeout)
}

fn stopped() -> Failure {
    Failure::new(Reason::Lost, "the agent was stopped during the run")
}

/// A text made fit for a file name.
fn file_name(text: &str) -> String {
    let clean: String = text
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '-' })
        .take(60)
        .collect();
    if clean.is_empty() { "screenshot".into() } else { clean }
}
