//! Interface of all kinds of receivers.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::Value as Json;

use super::delivery_result::DeliveryResult;
use super::feedback::FeedbackChannel;
use crate::incident::Notification;

/// Implementation of a kind of receiver.
#[async_trait]
pub(crate) trait Notifier: Send + Sync {
    /// Makes one delivery attempt. `receiver_state` is the receiver state of the notification's dedup key.
    async fn notify(&self, notification: &Notification, receiver_state: Option<&Json>) -> DeliveryResult;

    /// Returns whether the notifier keeps receiver state.
    fn keeps_state(&self) -> bool {
        false
    }

    /// Adds optional details after a notification was delivered and recorded. Errors are handled by the notifier
    /// itself.
    async fn after_delivery(&self, _notice: &Notification, _memo: Option<&Json>) {}

    /// Returns the minimum time between two attempts, according to the receiver's own rules.
    fn min_interval(&self) -> Duration {
        Duration::ZERO
    }

    /// Returns the interval at which open incidents are sent again, or `None` if they are not.
    fn resend_interval(&self) -> Option<Duration> {
        None
    }

    /// Returns whether the notifier receives the actions of operators at the receiver.
    fn has_feedback(&self) -> bool {
        false
    }

    /// Forwards the actions of operators at the receiver while it is polled. Never returns.
    async fn receive(&self, _channel: &FeedbackChannel) {
        std::future::pending::<()>().await;
    }

    /// Sends all open incidents again, given by their receiver states. Returns the keys to delete.
    async fn resend(&self, _memos: &[(String, Json)], _now: DateTime<Utc>) -> Vec<String> {
        Vec::new()
    }
}
