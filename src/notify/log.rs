//! A line in the agent's log.

use async_trait::async_trait;

use super::{Links, Notifier, headline};
use crate::incident::{Event, Notice};
use crate::store::Delivery;

/// Writes notices to the log.
pub(super) struct Log {
    pub(super) links: Links,
}

#[async_trait]
impl Notifier for Log {
    async fn notify(&self, notice: &Notice) -> Delivery {
        let incident = notice.incident.dedup_key();
        let link = self.links.incident(notice).unwrap_or_default();
        let repeat = notice.repeat;
        let line = headline(notice);
        match notice.event {
            Event::Resolved => tracing::info!(target: "wachta::notice", incident, repeat, link, "{line}"),
            Event::Opened | Event::Updated | Event::Reminder | Event::Digest => {
                tracing::warn!(target: "wachta::notice", incident, repeat, link, "{line}");
            }
        }
        Delivery::Sent
    }
}
