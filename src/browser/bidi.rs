//! WebDriver `BiDi` (<https://w3c.github.io/webdriver-bidi/>): commands and events over one WebSocket per session.
//!
//! Invariants: every command has its own deadline, because a dead page neither responds nor closes the connection;
//! events are delivered in the order of arrival, before any response that arrived after them. There are deliberately no
//! typed structs for commands; the few that are used are built where they are used.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value as Json, json};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, connect_async_tls_with_config};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Maximum number of commands waiting to be written; further callers wait within their deadline.
const WAITING: usize = 32;

/// Maximum size of a message, in bytes: a screenshot of a long page.
const LARGEST: usize = 256 << 20;

/// Callback for events, with the method, the parameters and the time of arrival.
pub(super) type Listener = Arc<dyn Fn(&str, &Json, SystemTime) + Send + Sync>;

/// Cause of a command without a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BidiError {
    /// The connection is closed: the browser or its driver is gone.
    Closed,
    /// There was no response in time.
    Timeout,
    /// The browser rejected the command with an error code and a message.
    Refused(String, String),
}

impl std::fmt::Display for BidiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Closed => f.write_str("the connection to the browser is closed"),
            Self::Timeout => f.write_str("the browser does not respond"),
            Self::Refused(code, message) => write!(f, "{code}: {message}"),
        }
    }
}

type ReplySender = oneshot::Sender<Result<Json, BidiError>>;

/// A handle to the connection. Clones share it, and it closes when the last one is dropped.
#[derive(Clone)]
pub(super) struct Bidi {
    commands: mpsc::Sender<(u64, String, ReplySender)>,
    shared: Arc<Shared>,
}

struct Shared {
    numbers: AtomicU64,
    listener: Mutex<Option<Listener>>,
    closed: CancellationToken,
}

impl Bidi {
    /// Connects. A task of `tasks` owns the connection.
    pub(super) async fn connect(
        url: &str,
        tls: &Arc<rustls::ClientConfig>,
        tasks: &TaskTracker,
        limit: Duration,
    ) -> Result<Self, BidiError> {
        let config = WebSocketConfig::default().max_message_size(Some(LARGEST)).max_frame_size(Some(LARGEST));
        let connector = Connector::Rustls(Arc::clone(tls));
        let connecting = connect_async_tls_with_config(url, Some(config), true, Some(connector));
        let socket = match timeout(limit, connecting).await {
            Ok(Ok((socket, _))) => socket,
            Ok(Err(error)) => return Err(BidiError::Refused("no connection".into(), error.to_string())),
            Err(_) => return Err(BidiError::Timeout),
        };
        let (commands, received) = mpsc::channel(WAITING);
        let shared = Arc::new(Shared {
            numbers: AtomicU64::new(1),
            listener: Mutex::default(),
            closed: CancellationToken::new(),
        });
        tasks.spawn(own(socket, received, Arc::clone(&shared)));
        Ok(Self { commands, shared })
    }

    /// Sends a command and waits for its response for at most `limit`.
    pub(super) async fn call(&self, method: &str, params: Json, limit: Duration) -> Result<Json, BidiError> {
        let id = self.shared.numbers.fetch_add(1, Ordering::Relaxed);
        tracing::trace!(id, method, "command");
        let text = json!({"id": id, "method": method, "params": params}).to_string();
        let (answer, answered) = oneshot::channel();
        let asking = async {
            self.commands.send((id, text, answer)).await.map_err(|_| BidiError::Closed)?;
            answered.await.unwrap_or(Err(BidiError::Closed))
        };
        timeout(limit, asking).await.unwrap_or(Err(BidiError::Timeout))
    }

    /// Sets the callback for events.
    pub(super) fn listen(&self, listener: Option<Listener>) {
        *self.shared.listener.lock().unwrap_or_else(PoisonError::into_inner) = listener;
    }

    /// Returns whether the connection is closed.
    pub(super) fn is_closed(&self) -> bool {
        self.shared.closed.is_cancelled()
    }

    /// Returns a token that is cancelled when the connection is closed. Cancelling it closes the connection.
    pub(super) fn closing(&self) -> CancellationToken {
        self.shared.closed.clone()
    }
}

async fn own(
    mut socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    mut commands: mpsc::Receiver<(u64, String, ReplySender)>,
    shared: Arc<Shared>,
) {
    // Notifies all waiting callers however this task ends, even if it is dropped with its runtime.
    let _closed = shared.closed.clone().drop_guard();
    let mut waiting: HashMap<u64, ReplySender> = HashMap::new();
    loop {
        tokio::select! {
            // The end of the session must end this task too, because a Grid may leave its end of the connection open.
            () = shared.closed.cancelled() => break,
            command = commands.recv() => {
                let Some((id, text, answer)) = command else { break };
                // Remove commands whose callers have timed out.
                waiting.retain(|_, answer| !answer.is_closed());
                if socket.send(Message::text(text)).await.is_err() {
                    let _ = answer.send(Err(BidiError::Closed));
                    break;
                }
                waiting.insert(id, answer);
            }
            message = socket.next() => {
                let text = match message {
                    Some(Ok(Message::Text(text))) => text,
                    Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                    Some(Ok(_)) => continue,
                };
                let Ok(mut message) = serde_json::from_str::<Json>(&text) else { continue };
                if let Some(id) = message["id"].as_u64() {
                    if let Some(answer) = waiting.remove(&id) {
                        let _ = answer.send(read(&mut message));
                    }
                } else if let Some(method) = message["method"].as_str() {
                    let listener = shared.listener.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    if let Some(listener) = listener {
                        listener(method, &message["params"], SystemTime::now());
                    }
                }
            }
        }
    }
    let _ = timeout(Duration::from_millis(200), socket.close(None)).await;
}

fn read(message: &mut Json) -> Result<Json, BidiError> {
    if message["type"] == "error" || message.get("error").is_some() {
        let text = |key: &str| message[key].as_str().unwrap_or_default().to_owned();
        return Err(BidiError::Refused(text("error"), text("message")));
    }
    Ok(message["result"].take())
}
