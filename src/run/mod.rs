//! The run engine: takes one scenario and returns one outcome, whatever breaks.
//!
//! [`run`] cannot fail: a failure of the target makes the run `failed`, an agent fault makes it `unknown`, and a panic
//! inside the engine counts as an agent fault. The engine needs neither scheduler nor store.

mod baseline;
pub mod budget;
pub mod check;
mod connectivity;
mod difference;
pub mod duration_baseline;
mod footprints;
mod http;
mod marked;
mod recorder;
mod request;
mod services;
mod step_runner;
mod xpath;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;

use crate::browser;
use crate::clock;
use crate::names::Reason;
use crate::outcome::{EvidenceKind, Failure, Outcome, RunId, StepStatus, Verdict};
use crate::scenario::{HumanDuration, Scenario, ScenarioKind};
use crate::secret::Masked;

use difference::Footprint;
use recorder::Traces;

pub use baseline::{BaselineStore, RunBaselines};
pub use connectivity::{Canary, CanaryCheck, Config as NetworkConfig, ConnectivityMonitor};
pub use footprints::Footprints;
pub use http::Tokens;
pub use request::{Progress, ProgressEvent, RunRequest};
pub use services::RunServices;

/// Runs a scenario once. Every started run yields exactly one outcome.
///
/// When the process of the page dies for no known reason, the scenario is run once more in a fresh browser. A target
/// that crashes the page crashes it again at the same step; any other result makes the crash an agent fault. A failure
/// that is due to missing connectivity is an agent fault as well.
pub async fn run(scenario: &Arc<Scenario>, tools: &RunServices, ticket: RunRequest) -> Outcome {
    let began = tokio::time::Instant::now();
    let started = clock::elapsed();
    let (outcome, traces) = retry_page_crash(scenario, tools, ticket).await;
    let paused = tools.clock.as_ref().map(|clock| clock.paused_since(started)).unwrap_or_default();
    if !paused.is_zero() {
        return asleep(outcome, paused);
    }
    match tools.line.explain_failure(&outcome, began).await {
        Some(why) => as_agent_fault(outcome, Reason::Network, &Masked::own_words(why)),
        None => compared(scenario, tools, outcome, traces).await,
    }
}

/// Completes the outcome of a failed flow with the differences from the last good run. For a good run, stores its
/// footprint.
async fn compared(scenario: &Scenario, tools: &RunServices, mut outcome: Outcome, traces: Traces) -> Outcome {
    let Some(footprints) =
        tools.footprints.as_ref().filter(|_| matches!(outcome.kind, ScenarioKind::Browser | ScenarioKind::Api))
    else {
        return outcome;
    };
    let Traces { requests, console, mut pages } = traces;
    let is_good = outcome.verdict == Verdict::Passed;
    if outcome.verdict == Verdict::Unknown || is_good && !footprints.is_due(scenario) {
        return outcome;
    }
    let mut pictures = Vec::new();
    for (at, (page, picture)) in pages.iter_mut().enumerate() {
        if let Some(picture) = picture.take() {
            let name = format!("{at:03}.png");
            page.picture = Some(name.clone());
            pictures.push((name, picture));
        }
    }
    let pages = pages.into_iter().map(|(page, _)| page).collect();
    let footprint = Footprint::new(&outcome, requests, console, pages);
    if is_good {
        footprints.keep(scenario, &footprint, pictures).await;
        return outcome;
    }
    let Some(good) = footprints.last(scenario).await else { return outcome };
    outcome.differences = difference::between(&good, &footprint, outcome.failed_step);
    let before = outcome.failed_step.and_then(|failed| good.page_for(&footprint, failed)?.picture.clone());
    if let (Some(before), Some((_, now)), Some(step)) = (before, pictures.pop(), outcome.failed_step)
        && let Some(before) = footprints.picture(scenario, &before).await
    {
        let marked = tokio::task::spawn_blocking(move || marked::marked(&before, &now)).await.ok().flatten();
        let name = format!("{step:03}-difference.png");
        if let Some(picture) = marked
            && let Ok(mut kept) =
                tools.evidence.keep(outcome.run, EvidenceKind::Difference, &name, Masked::picture(picture)).await
        {
            kept.step = Some(step);
            outcome.evidence.push(kept);
        }
    }
    outcome
}

async fn retry_page_crash(scenario: &Arc<Scenario>, tools: &RunServices, ticket: RunRequest) -> (Outcome, Traces) {
    let kills = scenario.needs_browser().then(browser::out_of_memory_kills);
    let (outcome, traces) = attempt(scenario, tools, &ticket, false).await;
    if outcome.reason != Some(Reason::Crash) {
        return (outcome, traces);
    }
    (look_again(scenario, tools, ticket, outcome, kills).await, traces)
}

/// Repeats a run whose page has crashed in a fresh browser.
async fn look_again(
    scenario: &Arc<Scenario>,
    tools: &RunServices,
    ticket: RunRequest,
    outcome: Outcome,
    kills: Option<u64>,
) -> Outcome {
    if kills.is_some_and(|kills| browser::out_of_memory_kills() > kills) {
        return as_agent_fault(
            outcome,
            Reason::Resources,
            &Masked::constant("the kernel killed a process because memory ran out"),
        );
    }
    if ticket.cancel.is_cancelled() {
        return as_agent_fault(
            outcome,
            Reason::Browser,
            &Masked::constant("the agent was stopped before the run could be repeated"),
        );
    }
    // Only the trace of the first attempt is exported.
    let again = RunRequest { run: RunId::new(), progress: None, traceparent: false, ..ticket };
    let (second, _) = attempt(scenario, tools, &again, true).await;
    tools.evidence.forget(second.run).await;
    if second.reason == Some(Reason::Crash) && second.failed_step == outcome.failed_step {
        let again = Masked::constant("and crashed again in a fresh browser");
        let message = outcome.message.map(|message| message.followed_by(", ", &again));
        return Outcome { message, ..outcome };
    }
    let word = second.verdict.as_str();
    let why = format!("the crash did not recur when the run was repeated in a fresh browser, which {word}");
    as_agent_fault(outcome, Reason::Browser, &Masked::own_words(why))
}

/// Marks a run during which the agent was suspended: neither its durations nor its failures say anything about the
/// target.
fn asleep(outcome: Outcome, paused: Duration) -> Outcome {
    let why = Masked::own_words(format!("the agent was suspended for {} during the run", HumanDuration(paused)));
    let outcome =
        if outcome.verdict == Verdict::Unknown { outcome } else { as_agent_fault(outcome, Reason::Asleep, &why) };
    Outcome { message: Some(outcome.message.unwrap_or(why)), ..outcome }
}

/// Turns a failed outcome into an agent fault.
fn as_agent_fault(mut outcome: Outcome, reason: Reason, why: &Masked) -> Outcome {
    let was = outcome.reason;
    outcome.verdict = Verdict::Unknown;
    outcome.reason = Some(reason);
    outcome.message = outcome.message.map(|message| message.followed_by("; ", why));
    for step in outcome.steps.iter_mut().filter(|step| step.status == StepStatus::Failed) {
        let Some(failure) = step.failure.as_mut().filter(|failure| Some(failure.reason) == was) else { continue };
        failure.reason = reason;
        step.status = StepStatus::Unknown;
    }
    outcome
}

async fn attempt(scenario: &Arc<Scenario>, tools: &RunServices, ticket: &RunRequest, fresh: bool) -> (Outcome, Traces) {
    let record = recorder::RunRecorder::begin(scenario, tools, ticket);
    let flow = step_runner::StepRunner::new(scenario, tools, ticket, &record, fresh);
    if let Err(panic) = AssertUnwindSafe(Box::pin(flow.run())).catch_unwind().await {
        let text =
            panic.downcast_ref::<&str>().map(ToString::to_string).or_else(|| panic.downcast_ref::<String>().cloned());
        record.set_failure(
            None,
            Failure::new(Reason::Panic, format!("wachta itself failed: {}", text.unwrap_or_default())),
        );
    }
    let traces = record.take_traces();
    (record.finish(), traces)
}

#[cfg(test)]
mod tests;
