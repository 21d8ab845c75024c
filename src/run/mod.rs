//! The run engine: one scenario in, one outcome out, whatever breaks.
//!
//! [`run`] cannot fail: what the target does wrong is `failed`, what we do wrong is `unknown`, a panic inside
//! included. It needs neither scheduler nor store.

pub mod browser;
pub mod budget;
pub mod expect;
mod flow;
mod http;
mod probe;
mod record;
pub mod tls;
pub mod values;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures_util::FutureExt as _;
use tokio_util::sync::CancellationToken;

use crate::names::Reason;
use crate::outcome::{Failure, Outcome, RunId, StepResult};
use crate::scenario::{Lookup, Scenario};
use crate::store::evidence::EvidenceFolder;

pub use values::Values;

/// What a run may use.
#[derive(Clone)]
pub struct Tools {
    /// TLS settings shared by requests and probes.
    pub tls: tls::Trusted,
    /// Browser sessions; none where no scenario may need one.
    pub browsers: Option<browser::Browsers>,
    /// The environment and files that scenarios may use.
    pub lookup: Arc<dyn Lookup>,
    /// Where evidence is kept.
    pub evidence: EvidenceFolder,
    /// Where the agent looks from.
    pub location: String,
}

/// What is particular to one run.
#[derive(Clone, Default)]
pub struct Ticket {
    /// Its id.
    pub run: RunId,
    /// When it was due; now when nothing is said.
    pub due_at: Option<DateTime<Utc>>,
    /// Ends the run early, as `unknown (lost)`.
    pub cancel: CancellationToken,
    /// Is told of each step as it begins and ends.
    pub progress: Option<Progress>,
}

/// A listener to the steps of a run.
pub type Progress = Arc<dyn Fn(Stage<'_>) + Send + Sync>;

/// What a [`Progress`] is told.
#[derive(Debug, Clone, Copy)]
pub enum Stage<'a> {
    /// A step begins.
    Began {
        /// Its name.
        name: &'a str,
        /// How deep it is in groups.
        depth: u8,
    },
    /// A step ended.
    Ended(&'a StepResult),
}

/// Runs a scenario once. Every started run yields exactly one outcome.
pub async fn run(scenario: &Arc<Scenario>, tools: &Tools, ticket: Ticket) -> Outcome {
    let record = record::Record::begin(scenario, tools, &ticket);
    let flow = flow::Flow::new(scenario, tools, &ticket, &record);
    if let Err(panic) = AssertUnwindSafe(flow.run()).catch_unwind().await {
        let text =
            panic.downcast_ref::<&str>().map(ToString::to_string).or_else(|| panic.downcast_ref::<String>().cloned());
        record.decide(None, Failure::new(Reason::Panic, format!("wachta itself failed: {}", text.unwrap_or_default())));
    }
    record.finish()
}

#[cfg(test)]
mod tests;
