//! Receiver `log`: a line in the agent's log.

use async_trait::async_trait;
use serde_json::Value as Json;

use super::message::Wording;
use super::{Notifier, Tried};
use crate::incident::{Event, Notification};

/// Writes notifications to the log.
pub(super) struct Log {
    pub(super) wording: Wording,
}

#[async_trait]
impl Notifier for Log {
    async fn notify(&self, notification: &Notification, _memo: Option<&Json>) -> Tried {
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
        Tried::sent("written to the log")
    }
}
