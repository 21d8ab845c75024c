//! Operator commands: executed by a running agent, or stored for its next start.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::lock::FolderLock;
use crate::alert::{self, CommitterHandle};
use crate::incident::AlertCommand;
use crate::names::{MUTES, REQUESTS};
use crate::notify::{Feedback, OperatorAction};
use crate::store::{Batch, Incidents, NotificationRecord, Runs as _, Sqlite, Store, StoreError};
use crate::web;

/// Passes the operator commands from HTTP requests to alerting.
pub(super) async fn serve(
    mut requests: mpsc::Receiver<web::AlertRequest>,
    intake: CommitterHandle,
    store: Arc<dyn Store>,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    loop {
        let request = tokio::select! {
            () = stop.cancelled() => return,
            request = requests.recv() => request,
        };
        // The web server has ended, so that no further commands can arrive.
        let Some(request) = request else { return stop.cancelled().await };
        let asked = request.asked.clone();
        let answer = intake.request(asked.clone()).await;
        match (asked, answer) {
            (AlertCommand::Acknowledge { key, .. }, Ok(done)) => {
                let store = Arc::clone(&store);
                tasks.spawn(
                    async move { request.answer(Ok(format!("{done}{}", notified_receivers(&*store, &key).await))) },
                );
            }
            (_, answer) => request.answer(answer),
        }
    }
}

/// Converts the actions of operators at receivers into operator commands.
pub(super) async fn take_feedback(
    mut feedback: mpsc::Receiver<Feedback>,
    intake: CommitterHandle,
    stop: CancellationToken,
) {
    loop {
        let next = tokio::select! {
            () = stop.cancelled() => return,
            next = feedback.recv() => next,
        };
        // The delivery service has ended, which happens when the agent stops.
        let Some(Feedback { key, action, author, answer }) = next else { return stop.cancelled().await };
        let request = match action {
            OperatorAction::Acknowledge => AlertCommand::Acknowledge { key, author, length: None },
            OperatorAction::Unacknowledge { of } => AlertCommand::Unacknowledge { key, author, of: Some(of) },
            OperatorAction::Resolve => {
                AlertCommand::ResolveGroup { key, author, reason: "resolved in the receiver".into() }
            }
        };
        // The task of the receiver may have ended in the meantime.
        let _ = answer.send(intake.request(request).await);
    }
}

/// Lists the receivers notified of the latest event of an incident, once all of them are, or after a short time. A
/// person who acknowledges an incident can see whether the others were informed.
async fn notified_receivers(store: &dyn Store, key: &str) -> String {
    let begun = tokio::time::Instant::now();
    // Keys at receivers include the identity of the store.
    let own = key.rsplit_once('@').map(|(own, _)| own);
    let is_own = own.is_some() && store.notifications(key).await.is_ok_and(|notifications| notifications.is_empty());
    let key = own.filter(|_| is_own).unwrap_or(key);
    loop {
        let notifications = store.notifications(key).await.unwrap_or_default();
        let Some(last) = notifications.last().map(|last| last.notification.queued_at) else { return String::new() };
        let latest = notifications.iter().filter(|state| state.notification.queued_at == last);
        let (notified, waiting): (Vec<_>, Vec<_>) = latest.partition(|state| state.done_at.is_some());
        let names = |states: &[&NotificationRecord]| {
            states.iter().map(|state| state.notification.receiver.as_str()).collect::<Vec<_>>().join(", ")
        };
        if waiting.is_empty() {
            return format!("; notified: {}", names(&notified));
        }
        if begun.elapsed() >= NOTIFIED_TIMEOUT {
            return format!("; not notified yet: {}", names(&waiting));
        }
        tokio::time::sleep(NOTIFIED_POLL_INTERVAL).await;
    }
}

/// Maximum time that a response waits for the notifications.
const NOTIFIED_TIMEOUT: Duration = Duration::from_secs(2);
/// Interval at which the state of the notifications is checked.
const NOTIFIED_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Stores a command for the next start of the agent with the given folder. Returns a description of the command. A
/// running agent has to receive commands directly.
pub async fn leave(url: &str, folder: &Path, command: AlertCommand) -> Result<String, String> {
    // Fails if the store does not exist, instead of creating one.
    Sqlite::open_to_read(url).await.map_err(|e| e.to_string())?.close().await;
    let lock = FolderLock::try_take(folder).map_err(|e| e.to_string())?;
    let lock = lock.ok_or_else(|| format!("an agent is running on {url}; leave out --store"))?;
    let store = Sqlite::open(url).await.map_err(|e| e.to_string())?;
    let left = write(&store, command).await;
    store.close().await;
    drop(lock);
    left
}

async fn write(store: &Sqlite, request: AlertCommand) -> Result<String, String> {
    let message = |e: StoreError| e.to_string();
    match &request {
        AlertCommand::Acknowledge { key, .. }
        | AlertCommand::Unacknowledge { key, .. }
        | AlertCommand::Resolve { key, .. }
        | AlertCommand::ResolveGroup { key, .. }
            if store.incident(key).await.map_err(message)?.is_none() =>
        {
            return Err(format!("no incident with the key `{key}`"));
        }
        AlertCommand::Expire { id } => {
            let key = format!("{MUTES}{id}");
            if !store.alerting_entries().await.map_err(message)?.iter().any(|(known, _)| *known == key) {
                return Err(format!("no silence or maintenance with the id `{id}`"));
            }
        }
        _ => {}
    }
    // The order of the keys is the order of the commands.
    let key = format!("{REQUESTS}{}", Uuid::now_v7());
    let body = serde_json::to_value(&request).expect("plain data becomes JSON");
    store.commit(&Batch { alerting_entries: vec![(key, Some(body))], ..Batch::default() }).await.map_err(message)?;
    Ok(request.to_string())
}

/// Returns the deferred commands of a store, in order.
pub async fn left(store: &impl Incidents) -> Result<Vec<AlertCommand>, StoreError> {
    alert::deferred_commands(&store.alerting_entries().await?)
        .map(|left| left.into_iter().map(|(_, request)| request).collect())
}
