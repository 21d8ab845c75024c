//! Webhook receiver of notifications that passes them on.

use std::net::SocketAddr;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Listens on a free port of loopback. Every notification is passed on before the response is sent.
pub async fn listen(stop: &CancellationToken) -> std::io::Result<(SocketAddr, mpsc::UnboundedReceiver<Value>)> {
    let (sender, notifications) = mpsc::unbounded_channel();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let router = Router::new().route("/notifications", post(take)).with_state(sender);
    let until = stop.clone();
    tokio::spawn(async move {
        let served = axum::serve(listener, router).with_graceful_shutdown(until.cancelled_owned()).await;
        if let Err(error) = served {
            tracing::error!(%error, "the receiver of notifications ended");
        }
    });
    Ok((address, notifications))
}

async fn take(State(sender): State<mpsc::UnboundedSender<Value>>, Json(notification): Json<Value>) -> StatusCode {
    if sender.send(notification).is_ok() { StatusCode::NO_CONTENT } else { StatusCode::SERVICE_UNAVAILABLE }
}
