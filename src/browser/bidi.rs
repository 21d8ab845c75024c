//! WebDriver `BiDi` (<https://w3c.github.io/webdriver-bidi/>): one WebSocket of a session, commands and events.
//!
//! Invariants: every command has a deadline of its own, since a dead page answers nothing and closes nothing; events
//! are handed over in the order in which they came, before the answer that came after them. Deliberately absent: typed
//! structs for every command; the few that are used are built where they are used.

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

/// So many commands may wait to be written; a caller beyond waits, within its deadline.
const WAITING: usize = 32;

/// The largest message: a screenshot of a long page.
const LARGEST: usize = 256 << 20;

/// Who is told of events: the method, its parameters, and when it came.
pub(super) type Listener = Arc<dyn Fn(&str, &Json, SystemTime) + Send + Sync>;

/// Why a command gave nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BidiError {
    /// The connection is closed: the browser or its driver is gone.
    Closed,
    /// No answer in time.
    Timeout,
    /// The browser's own word: its error code and message.
    Refused(String, String),
}

impl std::fmt::Display for BidiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Closed => f.write_str("the connection to the browser is closed"),
            Self::Timeout => f.write_str("the browser does not answer"),
            Self::Refused(code, message) => write!(f, "{code}: {message}"),
        }
    }
}

type Answer = oneshot::Sender<Result<Json, BidiError>>;

/// A handle to the connection; clones share it. It closes with the last one.
#[derive(Clone)]
pub(super) struct Bidi {
    commands: mpsc::Sender<(u64, String, Answer)>,
    shared: Arc<Shared>,
}

struct Shared {
    numbers: AtomicU64,
    listener: Mutex<Option<Listener>>,
    closed: CancellationToken,
}

impl Bidi {
    /// Connects; the connection is owned by a task of `tasks`.
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

    /// Sends a command and waits for its answer, `limit` at most.
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

    /// Who is told of events from now on.
    pub(super) fn listen(&self, listener: Option<Listener>) {
        *self.shared.listener.lock().unwrap_or_else(PoisonError::into_inner) = listener;
    }

    /// Whether the connection is gone.
    pub(super) fn is_closed(&self) -> bool {
        self.shared.closed.is_cancelled()
    }

    /// Cancelled when the connection is gone; cancelling it closes the connection.
    pub(super) fn closing(&self) -> CancellationToken {
        self.shared.closed.clone()
    }
}

async fn own(
    mut socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    mut commands: mpsc::Receiver<(u64, String, Answer)>,
    shared: Arc<Shared>,
) {
    // However this task ends, also when its runtime drops it, those who wait are told.
    let _closed = shared.closed.clone().drop_guard();
    let mut waiting: HashMap<u64, Answer> = HashMap::new();
    loop {
        tokio::select! {
            // Whoever ends the session ends this as well: a Grid may leave its end of the line open.
            () = shared.closed.cancelled() => break,
            command = commands.recv() => {
                let Some((id, text, answer)) = command else { break };
                // Those who lost patience are forgotten.
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
