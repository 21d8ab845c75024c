//! Parameters of one run, and the events of its progress.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use crate::outcome::{RunId, StepResult};

/// Parameters of one run.
#[derive(Clone, Default)]
pub struct RunRequest {
    /// Id of the run.
    pub run: RunId,
    /// Due time of the run (default: now).
    pub due_at: Option<DateTime<Utc>>,
    /// Ends the run early, as `unknown (lost)`.
    pub cancel: CancellationToken,
    /// Callback that is invoked when a step starts and when it ends.
    pub progress: Option<Progress>,
    /// Whether requests of steps carry a `traceparent` header unless the scenario decides otherwise. Set where traces
    /// are exported.
    pub traceparent: bool,
}

/// Callback for the progress of the steps of a run.
pub type Progress = Arc<dyn Fn(ProgressEvent<'_>) + Send + Sync>;

/// Event passed to a [`Progress`] callback.
#[derive(Debug, Clone, Copy)]
pub enum ProgressEvent<'a> {
    /// A step starts.
    StepStarted {
        /// Name of the step.
        name: &'a str,
        /// Nesting depth of the step in groups.
        depth: u8,
    },
    /// A step ended.
    StepFinished(&'a StepResult),
}
