//! What operators do at receivers: an incident that is acknowledged or resolved there is acknowledged or resolved here.
//!
//! A notifier that learns of such an action hands it over a [`FeedbackChannel`]; the assembly makes an operator command of
//! it. What was handed over is noted beside the notifier's own state, before and after, so that a crash in between hands
//! it over again, which changes nothing, and what came from a receiver is not sent back to it.

use std::sync::Arc;

use serde_json::Value as Json;
use tokio::sync::{mpsc, oneshot};

use crate::store::{Result, Store};

/// Prefix of the keys under which actions at the receiver are noted, among all that is stored for it.
pub(super) const FEEDBACK: &str = "feedback/";
/// Field of a notifier's state in which it finds what is noted under [`FEEDBACK`].
pub(super) const AT_RECEIVER: &str = "at_receiver";

/// What an operator did at a receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OperatorAction {
    /// Acknowledged an incident.
    Acknowledge,
    /// Took an acknowledgement back, or let it expire.
    Unacknowledge {
        /// The author of the acknowledgement that is no longer.
        of: String,
    },
    /// Resolved all incidents of a notification.
    Resolve,
}

/// An action of an operator at a receiver.
#[derive(Debug)]
pub struct Feedback {
    /// The dedup key of the notification, with or without the store's identity.
    pub key: String,
    /// What was done.
    pub action: OperatorAction,
    /// Who did it, and where: `Ania Nowak (PagerDuty)`.
    pub author: String,
    /// Takes what became of it, or why nothing did.
    pub answer: oneshot::Sender<std::result::Result<String, String>>,
}

/// Where a notifier hands over what operators did, and what is noted of it.
pub(crate) struct FeedbackChannel {
    /// The receiver's name.
    pub(super) receiver: String,
    pub(super) store: Arc<dyn Store>,
    pub(super) sender: mpsc::Sender<Feedback>,
}

impl FeedbackChannel {
    /// Hands over an action. Returns what became of it or why it was refused, or `None` when the agent stops.
    pub(super) async fn send(
        &self,
        key: &str,
        action: OperatorAction,
        author: String,
    ) -> Option<std::result::Result<String, String>> {
        let (answer, answered) = oneshot::channel();
        self.sender.send(Feedback { key: key.to_owned(), action, author, answer }).await.ok()?;
        answered.await.ok()
    }

    /// Returns all that is stored for the receiver, by key.
    pub(super) async fn stored(&self) -> Result<Vec<(String, Json)>> {
        self.store.memos(&self.receiver).await
    }

    /// Notes what was done at the receiver to the incident with a key; `None` removes the note.
    pub(super) async fn note(&self, key: &str, note: Option<&Json>) -> Result<()> {
        self.store.keep_memo(&self.receiver, &format!("{FEEDBACK}{key}"), note, chrono::Utc::now()).await
    }
}
