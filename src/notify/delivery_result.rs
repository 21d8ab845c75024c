//! Result of a delivery attempt.

use std::time::Duration;

use serde_json::Value as Json;

use crate::secret::Masker;
use crate::store::DeliveryStatus;

/// Result of a delivery attempt, with the consequences for the next one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DeliveryResult {
    /// Result of the attempt.
    pub(super) delivery: DeliveryStatus,
    /// Delay that the receiver asked for.
    pub(super) wait: Option<Duration>,
    /// Whether the problem affects all notifications to the receiver and not only this one.
    pub(super) blocks_receiver: bool,
    /// New receiver state for the dedup key, or `None` to keep the current one.
    pub(super) receiver_state: Option<Json>,
    /// Response of the receiver, for people.
    pub(super) response: String,
}

impl DeliveryResult {
    fn new(delivery: DeliveryStatus, response: String) -> Self {
        Self { delivery, wait: None, blocks_receiver: false, receiver_state: None, response }
    }

    /// Creates the result for a notification that the receiver accepted, with its response.
    pub(super) fn sent(response: impl Into<String>) -> Self {
        Self::new(DeliveryStatus::Delivered, response.into())
    }

    /// Creates the result for a notification that the receiver surely did not accept, but may accept later.
    pub(super) fn retryable(problem: impl Into<String>) -> Self {
        let problem = problem.into();
        Self::new(DeliveryStatus::Retryable(problem.clone()), problem)
    }

    /// Creates the result for a notification that the receiver may have accepted.
    pub(super) fn uncertain(problem: impl Into<String>) -> Self {
        let problem = problem.into();
        Self::new(DeliveryStatus::Uncertain(problem.clone()), problem)
    }

    /// Creates the result for a notification that can never be delivered.
    pub(super) fn failed(problem: impl Into<String>) -> Self {
        let problem = problem.into();
        Self::new(DeliveryStatus::Failed(problem.clone()), problem)
    }

    /// Marks the problem as affecting all notifications, because the receiver is unreachable or limits their rate.
    pub(super) fn blocks_receiver(mut self, wait: Option<Duration>) -> Self {
        self.blocks_receiver = true;
        self.wait = wait;
        self
    }

    pub(super) fn remember(mut self, receiver_state: Json) -> Self {
        self.receiver_state = Some(receiver_state);
        self
    }

    /// Masks the secrets in all texts.
    pub(super) fn masked(mut self, masker: &Masker) -> Self {
        for text in [&mut self.response].into_iter().chain(match &mut self.delivery {
            DeliveryStatus::Delivered => None,
            DeliveryStatus::Retryable(problem)
            | DeliveryStatus::Uncertain(problem)
            | DeliveryStatus::Failed(problem) => Some(problem),
        }) {
            *text = masker.mask(text);
        }
        self
    }
}
