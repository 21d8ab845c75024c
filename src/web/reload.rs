//! Request for a reload, and its report.

use tokio::sync::oneshot;

/// Result of a reload.
#[derive(Debug, Clone, Default)]
pub struct ReloadReport {
    /// Whether everything was accepted.
    pub successful: bool,
    /// Number of scenarios that run now.
    pub scenarios: usize,
    /// Problems of the reload.
    pub problems: Vec<String>,
}

/// Request for a reload.
pub struct ReloadRequest(oneshot::Sender<ReloadReport>);

impl ReloadRequest {
    /// Creates a request and the receiver of its report.
    pub fn new() -> (Self, oneshot::Receiver<ReloadReport>) {
        let (sender, receiver) = oneshot::channel();
        (Self(sender), receiver)
    }

    /// Sends the report.
    pub fn answer(self, report: ReloadReport) {
        // The sender of the request may be gone.
        let _ = self.0.send(report);
    }
}
