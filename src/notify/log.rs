//! Receiver `log`: a line in the agent's log.

use async_trait::async_trait;
use serde_json::Value as Json;

use super::message::MessageRenderer;
use super::{DeliveryResult, Notifier};
use crate::incident::{Event, Notification};

/// Writes notifications to the log.
pub(super) struct Log {
    pub(super) wording: MessageRenderer,
}

#[async_trait]
impl Notifier for Log {
    async fn notify(&self, notification: &Notification, _memo: Option<&Json>) -> DeliveryResult {
        let incident = &notification.key;
        let link = self.wording.links.incident(notification).unwrap_or_default();
        let repeat = notification.repeat;
        let line = self.wording.message(notification).title;
        match notification.event {
            Event::Resolved => tracing::info!(target: "wachta::notification", incident, repeat, link, "{line}"),
            Event::Opened | Event::Updated | Event::Reminder | Event::Digest => {
                tracing::warn!(target: "wachta::notification", incident, repeat, link, "{line}");
            }
        }
        DeliveryResult::sent("written to the log")
    }
}
