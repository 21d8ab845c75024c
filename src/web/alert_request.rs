//! Request for an operator command.

use std::time::Duration;

use tokio::sync::oneshot;

use crate::incident::Matchers;
use crate::notify::During;

/// Operator command to alerting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AlertAction {
    /// Suppresses notifications of matching incidents for a limited time.
    Mute {
        /// Whether it is a maintenance window and not a silence.
        maintenance: bool,
        /// Matchers for the incidents.
        matches: Matchers,
        /// Duration from now.
        length: Duration,
        /// Recurring times to which the mute is limited within that duration.
        during: Option<During>,
        /// Author of the command.
        author: String,
        /// Reason given by the author.
        reason: String,
        /// Whether to create the mute even if it matches nothing at present.
        confirmed: bool,
    },
    /// Shows what a matcher would match at present.
    Preview {
        /// Matchers for the incidents.
        matches: Matchers,
    },
    /// Ends a silence or maintenance window now.
    Expire {
        /// Id of the silence or window.
        id: String,
    },
    /// Acknowledges an incident.
    Acknowledge {
        /// Dedup key of the incident, or of its notification.
        key: String,
        /// Author of the command.
        author: String,
        /// Duration of the acknowledgement. `None` until the incident is resolved.
        length: Option<Duration>,
    },
    /// Removes the acknowledgement of an incident.
    Unacknowledge {
        /// Dedup key of the incident, or of its notification.
        key: String,
        /// Author of the command.
        author: String,
    },
    /// Resolves an incident manually.
    Resolve {
        /// Dedup key of the incident, or of its notification.
        key: String,
        /// Author of the command.
        author: String,
        /// Reason given by the author.
        reason: String,
    },
}

/// Request for an operator command, with a channel for the reply.
pub struct AlertRequest {
    /// Command to carry out.
    pub asked: AlertAction,
    pub(super) answer: oneshot::Sender<Result<String, String>>,
}

impl AlertRequest {
    /// Sends the reply: what was done, or an error.
    pub fn answer(self, answer: Result<String, String>) {
        // The sender of the command may be gone.
        let _ = self.answer.send(answer);
    }
}
