//! Actions of operators at receivers: an incident that is acknowledged or resolved there is acknowledged or resolved
//! here as well.
//!
//! A notifier that receives such an action sends it through a [`FeedbackChannel`], and the application turns it into an
//! operator command. Each action is recorded beside the notifier's own state, before and after sending. So a crash in
//! between only sends it again, which changes nothing, and an action that came from a receiver is not sent back to it.

use std::sync::Arc;

use serde_json::Value as Json;
use tokio::sync::{mpsc, oneshot};

use crate::store::{Result, Store};

/// Prefix of the receiver state keys under which actions at the receiver are recorded.
pub(super) const FEEDBACK: &str = "feedback/";
/// Field of a notifier's state that contains the record under [`FEEDBACK`].
pub(super) const AT_RECEIVER: &str = "at_receiver";

/// Type of an operator's action at a receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OperatorAction {
    /// The operator acknowledged an incident.
    Acknowledge,
    /// The operator withdrew an acknowledgement, or it expired.
    Unacknowledge {
        /// Author of the withdrawn acknowledgement.
        of: String,
    },
    /// The operator resolved all incidents of a notification.
    Resolve,
}

/// An action of an operator at a receiver.
#[derive(Debug)]
pub struct Feedback {
    /// Dedup key of the notification, with or without the store's identity.
    pub key: String,
    /// Type of the action.
    pub action: OperatorAction,
    /// Author and receiver: `Ania Nowak (PagerDuty)`.
    pub author: String,
    /// Channel for the result of the action, or the reason why it was rejected.
    pub answer: oneshot::Sender<std::result::Result<String, String>>,
}

/// Channel through which a notifier sends and records the actions of operators.
pub(crate) struct FeedbackChannel {
    /// Name of the receiver.
    pub(super) receiver: String,
    pub(super) store: Arc<dyn Store>,
    pub(super) sender: mpsc::Sender<Feedback>,
}

impl FeedbackChannel {
    /// Sends an action. Returns its result or the reason why it was rejected, or `None` if the agent is stopping.
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

    /// Returns all receiver states, by key.
    pub(super) async fn stored(&self) -> Result<Vec<(String, Json)>> {
        self.store.receiver_states(&self.receiver).await
    }

    /// Records an action at the receiver for the incident with a dedup key. `None` deletes the record.
    pub(super) async fn note(&self, key: &str, note: Option<&Json>) -> Result<()> {
        self.store.set_receiver_state(&self.receiver, &format!("{FEEDBACK}{key}"), note, chrono::Utc::now()).await
    }
}
