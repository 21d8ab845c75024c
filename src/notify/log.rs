//! A line in the agent's log.

use async_trait::async_trait;
use serde_json::Value as Json;

use super::message::Wording;
use super::{Notifier, Tried};
use crate::incident::{Event, Notice};

/// Writes notices to the log.
pub(super) struct Log {
    pub(super) wording: Wording,
}

#[async_trait]
impl Notifier for Log {
    async fn notify(&self, notice: &Notice, _memo: Option<&Json>) -> Tried {
        let incident = &notice.key;
        let link = self.wording.links.incident(notice).unwrap_or_default();
        let repeat = notice.repeat;
        let line = self.wording.message(notice).title;
        match notice.event {
            Event::Resolved => tracing::info!(target: "wachta::notice", incident, repeat, link, "{line}"),
            Event::Opened | Event::Updated | Event::Reminder | Event::Digest => {
                tracing::warn!(target: "wachta::notice", incident, repeat, link, "{line}");
            }
        }
        Tried::sent("written to the log")
    }
}
