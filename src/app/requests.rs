//! What people ask of alerting: of an agent that runs, or left in its store for the next start.

use std::path::Path;

use chrono::Utc;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::lock::FolderLock;
use crate::alert::{self, Intake};
use crate::names::{MUTES, REQUESTS};
use crate::store::{Batch, Incidents, Runs as _, Sqlite, StoreError};
use crate::web;

/// Hands on what is asked of alerting over HTTP.
pub(super) async fn serve(mut requests: mpsc::Receiver<web::AlertRequest>, intake: Intake, stop: CancellationToken) {
    loop {
        let request = tokio::select! {
            () = stop.cancelled() => return,
            request = requests.recv() => request,
        };
        let Some(request) = request else { return };
        let answer = intake.request(of(request.asked.clone())).await;
        request.answer(answer);
    }
}

fn of(asked: web::Asked) -> alert::Request {
    match asked {
        web::Asked::Mute { maintenance, matches, length, author, reason } => {
            let from = Utc::now();
            let until = from + chrono::TimeDelta::from_std(length).unwrap_or_default();
            // Short enough to be typed, and new.
            let id = Uuid::now_v7().simple().to_string().split_off(20);
            alert::Request::Mute(alert::Mute { id, maintenance, matches, from, until, author, reason })
        }
        web::Asked::Expire { id } => alert::Request::Expire { id },
        web::Asked::Acknowledge { key, author } => alert::Request::Acknowledge { key, author },
    }
}

/// Leaves a request in a store for the next start of its agent, whose folder is given. Gives what was left; an agent
/// that runs is to be asked itself.
pub async fn leave(url: &str, folder: &Path, asked: web::Asked) -> Result<String, String> {
    // Makes no store where there is none.
    Sqlite::open_to_read(url).await.map_err(|e| e.to_string())?.close().await;
    let lock = FolderLock::try_take(folder).map_err(|e| e.to_string())?;
    let lock = lock.ok_or_else(|| format!("an agent runs on {url}; ask it, without --store"))?;
    let store = Sqlite::open(url).await.map_err(|e| e.to_string())?;
    let left = write(&store, of(asked)).await;
    store.close().await;
    drop(lock);
    left
}

async fn write(store: &Sqlite, request: alert::Request) -> Result<String, String> {
    let told = |e: StoreError| e.to_string();
    match &request {
        alert::Request::Acknowledge { key, .. } if store.incident(key).await.map_err(told)?.is_none() => {
            return Err(format!("no incident has the key `{key}`"));
        }
        alert::Request::Expire { id } => {
            let key = format!("{MUTES}{id}");
            if !store.memory().await.map_err(told)?.iter().any(|(known, _)| *known == key) {
                return Err(format!("there is no silence or maintenance `{id}`"));
            }
        }
        _ => {}
    }
    // In the order of their keys they were asked for.
    let key = format!("{REQUESTS}{}", Uuid::now_v7());
    let body = serde_json::to_value(&request).expect("plain data becomes JSON");
    store.commit(&Batch { memory: vec![(key, Some(body))], ..Batch::default() }).await.map_err(told)?;
    Ok(request.to_string())
}

/// What was left in a store, in order.
pub async fn left(store: &impl Incidents) -> Result<Vec<alert::Request>, StoreError> {
    alert::requests(&store.memory().await?).map(|left| left.into_iter().map(|(_, request)| request).collect())
}
