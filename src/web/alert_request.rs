//! Request for an operator command.

use tokio::sync::oneshot;

use crate::incident::{AlertCommand, CommandResult};

/// Request for an operator command, with a channel for the reply.
pub struct AlertRequest {
    /// Command to carry out.
    pub asked: AlertCommand,
    pub(super) answer: oneshot::Sender<CommandResult>,
}

impl AlertRequest {
    /// Sends the reply: what was done, or an error.
    pub fn answer(self, answer: CommandResult) {
        // The sender of the command may be gone.
        let _ = self.answer.send(answer);
    }
}
