//! Received check-ins of heartbeats.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::sync::watch;

use crate::store;

/// Received check-ins, and the time since which the agent has been running without a pause.
#[derive(Clone)]
pub struct CheckIns {
    pub(super) store: Arc<dyn store::CheckIns>,
    pub(super) awake_since: watch::Receiver<DateTime<Utc>>,
}

impl CheckIns {
    /// Creates check-ins backed by the store. `awake_since` comes from the agent's [`crate::clock::ClockWatch`].
    pub fn new(store: Arc<dyn store::CheckIns>, awake_since: watch::Receiver<DateTime<Utc>>) -> Self {
        Self { store, awake_since }
    }
}
