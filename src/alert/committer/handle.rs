//! Handle that sends messages to the committer.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::alert::context::Scenarios;
use crate::alert::idle::Idle;
use crate::incident::{AlertCommand, CommandResult};
use crate::notify::Alerting;
use crate::outcome::{Outcome, RunId};
use crate::store::PlannedRun;

/// Message to the committer. Those with a sender notify it once they are processed and stored.
pub(super) enum Message {
    Plan(PlannedRun, oneshot::Sender<()>),
    Withdraw(RunId),
    Outcome(Arc<Outcome>, oneshot::Sender<()>),
    Scenarios(Scenarios, Idle),
    Alerting(Arc<Alerting>, BTreeMap<String, String>, oneshot::Sender<()>),
    Command(AlertCommand, oneshot::Sender<CommandResult>),
    Pulse(oneshot::Sender<()>),
    Trouble(String, Option<String>),
}

/// Handle that sends messages to the committer. Cheap to clone; when the last one is dropped, the committer stores
/// what is left and ends.
#[derive(Clone)]
pub struct CommitterHandle {
    pub(super) queue: mpsc::Sender<Message>,
    pub(super) dropped: prometheus::IntCounter,
}

impl CommitterHandle {
    /// Adds a planned run. The receiver is notified once it is stored.
    pub fn plan(&self, intent: PlannedRun) -> oneshot::Receiver<()> {
        let (done, stored) = oneshot::channel();
        self.push(Message::Plan(intent, done));
        stored
    }

    /// Cancels a planned run.
    pub fn withdraw(&self, run: RunId) {
        self.push(Message::Withdraw(run));
    }

    /// Adds the outcome of a run. The receiver is notified once it is evaluated and stored.
    pub fn outcome(&self, outcome: Arc<Outcome>) -> oneshot::Receiver<()> {
        let (done, stored) = oneshot::channel();
        self.push(Message::Outcome(outcome, done));
        stored
    }

    /// Sets the loaded scenarios. `idle` has the reasons why others do not run.
    pub async fn scenarios(&self, scenarios: Scenarios, idle: Idle) {
        let _ = self.queue.send(Message::Scenarios(scenarios, idle)).await;
    }

    /// Sets the alerting configuration. The receiver is notified once it is stored. By then, notifications for a
    /// renamed receiver are queued under its new name.
    pub async fn alerting(&self, alerting: Arc<Alerting>) -> oneshot::Receiver<()> {
        let of = async |receiver: &crate::notify::Receiver| (receiver.name.clone(), receiver.address().await);
        let addresses = futures_util::future::join_all(alerting.receivers.iter().map(of)).await;
        let addresses = addresses.into_iter().collect();
        let (done, stored) = oneshot::channel();
        let _ = self.queue.send(Message::Alerting(alerting, addresses, done)).await;
        stored
    }

    /// Executes an operator command. Returns once the result is stored.
    pub async fn request(&self, command: AlertCommand) -> CommandResult {
        let stopping = || Err("the agent stops".to_owned());
        let (reply, result) = oneshot::channel();
        match self.queue.send(Message::Command(command, reply)).await {
            Ok(()) => result.await.unwrap_or_else(|_| stopping()),
            Err(_) => stopping(),
        }
    }

    /// Checks whether the committer still works. The receiver is notified once all earlier messages are processed.
    pub fn pulse(&self) -> oneshot::Receiver<()> {
        let (done, stored) = oneshot::channel();
        self.push(Message::Pulse(done));
        stored
    }

    /// Reports a problem with the agent itself, or its end if `message` is `None`, for the agent's own incident.
    pub fn trouble(&self, about: &str, message: Option<String>) {
        self.push(Message::Trouble(about.to_owned(), message));
    }

    fn push(&self, message: Message) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.queue.try_send(message) {
            self.dropped.inc();
            tracing::error!("the queue to the store is full: outcome or planned run dropped");
        }
    }
}
