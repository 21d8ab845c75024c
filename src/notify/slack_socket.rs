//! Slack's Socket Mode: clicks on the button "Acknowledge" arrive over a WebSocket that the agent opens, so that the
//! agent does not have to be reachable (`docs.slack.dev`: Socket Mode, `apps.connections.open`, interactive payloads).
//!
//! Each envelope is confirmed as soon as it arrives, because Slack waits for three seconds only; its request is
//! processed concurrently. Slack closes connections from time to time with an announcement, after which a new one is
//! opened at once. After any other end, a new one follows at increasing intervals.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value as Json, json};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, client_async_tls_with_config};

use super::credential::Credential;
use super::exchange::exchange;
use super::feedback::{FeedbackChannel, OperatorAction};
use super::slack_answer::judge;
use super::{Resolve, truncate};
use crate::store::DeliveryStatus;

/// The `action_id` of the button.
pub(super) const ACKNOWLEDGE: &str = "wachta_acknowledge";
/// Delay after the first failed connection, doubled with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Maximum delay between two connections.
const MAX_PAUSE: Duration = Duration::from_mins(1);
/// Time without any message after which the agent sends a ping. After the same time again, the connection counts as
/// broken.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Duration of a connection after which the delay is reset.
const STABLE_AFTER: Duration = Duration::from_mins(1);
/// Maximum time to open a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum size of a message, in bytes.
const MAX_MESSAGE_BYTES: usize = 1 << 20;
/// Maximum number of clicks processed concurrently; further ones are dropped and logged.
const MAX_PRESSES: usize = 64;
/// Maximum number of characters of a user's name.
const MAX_NAME_CHARS: usize = 100;

type Connection = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Receiver of button clicks over a WebSocket.
pub(super) struct Socket<'a> {
    pub(super) client: &'a reqwest::Client,
    pub(super) resolve: &'a Resolve,
    pub(super) tls: &'a Arc<rustls::ClientConfig>,
    /// Base URL of the Web API methods.
    pub(super) url: &'a url::Url,
    /// Bot token, used to reply to the person who clicked the button.
    pub(super) token: &'a Credential,
    /// App-level token.
    pub(super) app_token: &'a Credential,
}

/// Reason for the end of a connection.
#[derive(Debug)]
enum End {
    /// Slack asked for a new connection.
    Refresh,
    /// Any other reason.
    Failed(String),
}

/// Message received over the connection.
#[derive(Debug, PartialEq, Eq)]
enum Received {
    /// Envelope to confirm under its id, with the click on the button if it contains one.
    Envelope(String, Option<Press>),
    /// Slack asks for a new connection.
    Refresh,
    /// Socket Mode was disabled for the app.
    Disabled,
    /// Any other message.
    Other,
}

/// Click on the button.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Press {
    /// Dedup key of the notification.
    key: String,
    /// Name of the user.
    author: String,
    /// Ids of the channel and the user, for the reply.
    place: Option<(String, String)>,
}

/// Parses a message.
fn read(text: &str) -> Received {
    let Ok(message) = serde_json::from_str::<Json>(text) else { return Received::Other };
    if message["type"] == "disconnect" {
        return if message["reason"] == "link_disabled" { Received::Disabled } else { Received::Refresh };
    }
    match message["envelope_id"].as_str() {
        Some(id) => Received::Envelope(id.to_owned(), press(&message["payload"])),
        None => Received::Other,
    }
}

/// Returns the click on the button from an interactive payload.
fn press(payload: &Json) -> Option<Press> {
    if payload["type"] != "block_actions" {
        return None;
    }
    let action = payload["actions"].as_array()?.iter().find(|action| action["action_id"] == ACKNOWLEDGE)?;
    let user = &payload["user"];
    let names = ["name", "username", "id"].into_iter().filter_map(|name| user[name].as_str());
    let author =
        names.map(|name| truncate::chars(&truncate::line(name), MAX_NAME_CHARS)).find(|name| !name.is_empty())?;
    let id = |of: &Json| of["id"].as_str().map(ToOwned::to_owned);
    Some(Press {
        key: action["value"].as_str()?.to_owned(),
        author: format!("{author} (Slack)"),
        place: id(&payload["channel"]).zip(id(user)),
    })
}

impl Socket<'_> {
    /// Receives clicks while it is polled. Never returns.
    pub(super) async fn receive(&self, channel: &FeedbackChannel) {
        let mut pause = FIRST_PAUSE;
        loop {
            let begun = Instant::now();
            match self.connection(channel).await {
                End::Refresh => {
                    tracing::debug!(receiver = channel.receiver, "Slack requested a new connection");
                    pause = FIRST_PAUSE;
                    // Limits the rate, in case Slack closes every connection early.
                    tokio::time::sleep_until(begun + FIRST_PAUSE).await;
                }
                End::Failed(problem) => {
                    if begun.elapsed() >= STABLE_AFTER {
                        pause = FIRST_PAUSE;
                    }
                    tracing::warn!(receiver = channel.receiver, problem, "cannot receive button presses from Slack");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(MAX_PAUSE);
                }
            }
        }
    }

    /// Requests the URL of a connection.
    async fn address(&self) -> Result<url::Url, String> {
        let token = self.app_token.read().await?;
        let url = self.url.join("apps.connections.open").map_err(|_| "`url` cannot be a base URL".to_owned())?;
        let reply = exchange(self.client.post(url).bearer_auth(&token).form(&[("", ""); 0])).await;
        let reply = reply.map_err(|tried| tried.response)?;
        let response = judge(&reply);
        if response.delivery != DeliveryStatus::Delivered {
            return Err(format!("apps.connections.open: {}", response.response.replace(&token, crate::secret::MASK)));
        }
        let address = reply.json().and_then(|answer| answer["url"].as_str()?.parse::<url::Url>().ok());
        // Without encryption only if the API is not encrypted either.
        let is_good = |address: &url::Url| match address.scheme() {
            "wss" => true,
            "ws" => self.url.scheme() == "http",
            _ => false,
        };
        address.filter(is_good).ok_or_else(|| "apps.connections.open returned no WebSocket address".into())
    }

    /// Opens a connection. Errors do not contain the URL, which includes a ticket.
    async fn open(&self) -> Result<Connection, String> {
        let address = self.address().await?;
        let opening = async {
            let host = match address.host() {
                Some(url::Host::Domain(name)) => name.to_owned(),
                Some(url::Host::Ipv4(address)) => address.to_string(),
                Some(url::Host::Ipv6(address)) => address.to_string(),
                None => return Err("the WebSocket address has no host".to_owned()),
            };
            let port = address.port_or_known_default().unwrap_or(443);
            let found: Vec<IpAddr> = (self.resolve)(host).await?;
            let found: Vec<_> = found.into_iter().map(|address| (address, port).into()).collect();
            let stream = TcpStream::connect(&found[..] as &[std::net::SocketAddr]).await;
            let stream = stream.map_err(|error| format!("no connection: {error}"))?;
            let request = address.as_str().into_client_request();
            let request = request.map_err(|_| "the WebSocket address is invalid".to_owned())?;
            let config = WebSocketConfig::default()
                .max_message_size(Some(MAX_MESSAGE_BYTES))
                .max_frame_size(Some(MAX_MESSAGE_BYTES));
            let connector = Connector::Rustls(Arc::clone(self.tls));
            let opened = client_async_tls_with_config(request, stream, Some(config), Some(connector)).await;
            opened.map(|(connection, _)| connection).map_err(|error| format!("no WebSocket: {error}"))
        };
        let opened = tokio::time::timeout(CONNECT_TIMEOUT, opening).await;
        opened.unwrap_or_else(|_| Err("no WebSocket within 10 s".into()))
    }

    /// Receives over one connection until it ends.
    async fn connection(&self, channel: &FeedbackChannel) -> End {
        let mut connection = match self.open().await {
            Ok(connection) => connection,
            Err(problem) => return End::Failed(problem),
        };
        tracing::info!(receiver = channel.receiver, "receiving button presses from Slack");
        let broken = |error| End::Failed(format!("the connection is broken: {error}"));
        let mut work = FuturesUnordered::new();
        let mut is_quiet = false;
        loop {
            let message = tokio::select! {
                Some(()) = work.next() => continue,
                message = tokio::time::timeout(IDLE_TIMEOUT, connection.next()) => message,
            };
            let Ok(message) = message else {
                if is_quiet {
                    return End::Failed("no message received for a minute".into());
                }
                is_quiet = true;
                if let Err(error) = connection.send(Message::Ping(Vec::new().into())).await {
                    return broken(error);
                }
                continue;
            };
            is_quiet = false;
            let text = match message {
                None | Some(Ok(Message::Close(_))) => return End::Failed("the connection was closed".into()),
                Some(Err(error)) => return broken(error),
                Some(Ok(Message::Text(text))) => text,
                Some(Ok(_)) => {
                    // Sends a pending pong.
                    if let Err(error) = connection.flush().await {
                        return broken(error);
                    }
                    continue;
                }
            };
            match read(&text) {
                Received::Refresh => {
                    // Confirmed clicks are processed first.
                    while work.next().await.is_some() {}
                    let _ = connection.close(None).await;
                    return End::Refresh;
                }
                Received::Disabled => return End::Failed("Socket Mode is off for the app".into()),
                Received::Envelope(id, press) => {
                    let taken = json!({"envelope_id": id}).to_string();
                    if let Err(error) = connection.send(Message::text(taken)).await {
                        return broken(error);
                    }
                    match press {
                        Some(press) if work.len() < MAX_PRESSES => work.push(self.carry_out(press, channel)),
                        Some(press) => {
                            let (receiver, key) = (&channel.receiver, press.key);
                            tracing::warn!(receiver, key, "too many button presses at once: one dropped");
                        }
                        None => {}
                    }
                }
                Received::Other => {}
            }
        }
    }

    /// Acknowledges the incident. If this is rejected, the reason is sent to the person who clicked the button.
    async fn carry_out(&self, press: Press, channel: &FeedbackChannel) {
        let receiver = &channel.receiver;
        let problem = match channel.send(&press.key, OperatorAction::Acknowledge, press.author).await {
            None => return,
            Some(Ok(done)) => return tracing::info!(receiver, done, "applied button press from Slack"),
            Some(Err(problem)) => problem,
        };
        tracing::info!(receiver, problem, "cannot apply button press from Slack");
        let (Some((place, user)), Ok(token)) = (press.place, self.token.read().await) else { return };
        let Ok(url) = self.url.join("chat.postEphemeral") else { return };
        let body = json!({"channel": place, "user": user, "text": problem});
        let response = match exchange(self.client.post(url).bearer_auth(&token).json(&body)).await {
            Ok(reply) => judge(&reply),
            Err(tried) => tried,
        };
        if response.delivery != DeliveryStatus::Delivered {
            let problem = response.response.replace(&token, crate::secret::MASK);
            tracing::warn!(receiver, problem, "cannot reply to the user who pressed the button");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_presses_of_the_button_are_taken() {
        let payload = |kind: &str, action: &str, user: Json| {
            json!({"type": kind, "user": user, "channel": {"id": "C1"},
                "actions": [{"action_id": "other", "value": "x"}, {"action_id": action, "value": "shop:1@abc"}]})
        };
        let user = || json!({"id": "U1", "username": "ania.n", "name": "ania"});
        let pressed = |who: &str| {
            let place = Some(("C1".to_owned(), "U1".to_owned()));
            Some(Press { key: "shop:1@abc".into(), author: format!("{who} (Slack)"), place })
        };
        for (payload, expected) in [
            (payload("block_actions", ACKNOWLEDGE, user()), pressed("ania")),
            (payload("block_actions", ACKNOWLEDGE, json!({"id": "U1", "name": "a\u{1b}\nb"})), pressed("a b")),
            (payload("block_actions", ACKNOWLEDGE, json!({"id": "U1", "name": " "})), pressed("U1")),
            (payload("block_actions", "another", user()), None),
            (payload("view_submission", ACKNOWLEDGE, user()), None),
            (payload("block_actions", ACKNOWLEDGE, json!({})), None),
            (payload("block_actions", ACKNOWLEDGE, json!({"id": 7})), None),
            (json!({"type": "block_actions", "user": user(), "actions": {"action_id": ACKNOWLEDGE}}), None),
            (
                json!({"type": "block_actions", "user": user(), "actions": [{"action_id": ACKNOWLEDGE, "value": 7}]}),
                None,
            ),
            (json!({}), None),
        ] {
            assert_eq!(press(&payload), expected, "{payload}");
        }
    }

    #[test]
    fn messages_are_read_by_their_kind() {
        for (text, expected) in [
            ("{\"type\": \"hello\", \"num_connections\": 1}", Received::Other),
            ("{\"type\": \"disconnect\", \"reason\": \"refresh_requested\"}", Received::Refresh),
            ("{\"type\": \"disconnect\", \"reason\": \"warning\"}", Received::Refresh),
            ("{\"type\": \"disconnect\", \"reason\": \"link_disabled\"}", Received::Disabled),
            (
                "{\"type\": \"events_api\", \"envelope_id\": \"e1\", \"payload\": {}}",
                Received::Envelope("e1".into(), None),
            ),
            ("{\"envelope_id\": 7}", Received::Other),
            ("[]", Received::Other),
            ("nothing", Received::Other),
            ("", Received::Other),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }
}
