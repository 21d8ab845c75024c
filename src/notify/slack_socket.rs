//! Slack's Socket Mode: presses of the button "Acknowledge" arrive over a WebSocket that the agent opens, so that nothing
//! has to reach the agent (`docs.slack.dev`: Socket Mode, `apps.connections.open`, interactive payloads).
//!
//! Each envelope is acknowledged as soon as it arrives, since Slack waits three seconds; what it asks for is done beside
//! that. Slack closes connections now and then and says so: then a new one is opened at once. After any other end a new
//! one follows at growing intervals.

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
use super::slack::judge;
use super::{Resolve, cut};
use crate::store::Delivery;

/// The `action_id` of the button.
pub(super) const ACKNOWLEDGE: &str = "wachta_acknowledge";
/// The pause after the first connection that failed; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause between two connections.
const MAX_PAUSE: Duration = Duration::from_mins(1);
/// The time without any message after which the agent pings, and after as long again takes the connection for dead.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// The duration of a connection after which the next pause is the first again.
const STABLE_AFTER: Duration = Duration::from_mins(1);
/// The time that a connection may take to be opened.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest message that is taken.
const MAX_MESSAGE_BYTES: usize = 1 << 20;
/// How many presses are worked on at once; what comes beyond is dropped with a line in the log.
const MAX_PRESSES: usize = 64;
/// How many characters of a user's name are kept.
const MAX_NAME_CHARS: usize = 100;

type Connection = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Receives presses of buttons over a WebSocket.
pub(super) struct Socket<'a> {
    pub(super) client: &'a reqwest::Client,
    pub(super) resolve: &'a Resolve,
    pub(super) tls: &'a Arc<rustls::ClientConfig>,
    /// The URL below which the Web API's methods are.
    pub(super) url: &'a url::Url,
    /// The bot's token, which sends the reply to the person who pressed the button.
    pub(super) token: &'a Credential,
    /// The app-level token.
    pub(super) app_token: &'a Credential,
}

/// Why a connection ended.
#[derive(Debug)]
enum End {
    /// Slack asked for a new one.
    Refresh,
    /// Anything else.
    Failed(String),
}

/// What arrived over the connection.
#[derive(Debug, PartialEq, Eq)]
enum Received {
    /// An envelope, to be acknowledged under its id, and the press of the button in it, if it is one.
    Envelope(String, Option<Press>),
    /// Slack asks for a new connection.
    Refresh,
    /// Socket Mode was turned off for the app.
    Disabled,
    /// Anything else.
    Other,
}

/// A press of the button.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Press {
    /// The dedup key of the notification.
    key: String,
    /// The name of the user.
    author: String,
    /// The ids of the channel and the user, to answer them.
    place: Option<(String, String)>,
}

/// Reads a message.
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

/// The press of the button in an interactive payload.
fn press(payload: &Json) -> Option<Press> {
    if payload["type"] != "block_actions" {
        return None;
    }
    let action = payload["actions"].as_array()?.iter().find(|action| action["action_id"] == ACKNOWLEDGE)?;
    let user = &payload["user"];
    let names = ["name", "username", "id"].into_iter().filter_map(|name| user[name].as_str());
    let author = names.map(|name| cut::chars(&cut::line(name), MAX_NAME_CHARS)).find(|name| !name.is_empty())?;
    let id = |of: &Json| of["id"].as_str().map(ToOwned::to_owned);
    Some(Press {
        key: action["value"].as_str()?.to_owned(),
        author: format!("{author} (Slack)"),
        place: id(&payload["channel"]).zip(id(user)),
    })
}

impl Socket<'_> {
    /// Receives as long as it is polled; never returns.
    pub(super) async fn receive(&self, channel: &FeedbackChannel) {
        let mut pause = FIRST_PAUSE;
        loop {
            let begun = Instant::now();
            match self.connection(channel).await {
                End::Refresh => {
                    tracing::debug!(receiver = channel.receiver, "Slack asks for a new connection");
                    pause = FIRST_PAUSE;
                    // Not over and over, in case Slack never wants one for long.
                    tokio::time::sleep_until(begun + FIRST_PAUSE).await;
                }
                End::Failed(problem) => {
                    if begun.elapsed() >= STABLE_AFTER {
                        pause = FIRST_PAUSE;
                    }
                    tracing::warn!(
                        receiver = channel.receiver,
                        problem,
                        "cannot receive presses of buttons from Slack"
                    );
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(MAX_PAUSE);
                }
            }
        }
    }

    /// Asks for the address of a connection.
    async fn address(&self) -> Result<url::Url, String> {
        let token = self.app_token.read().await?;
        let url = self.url.join("apps.connections.open").map_err(|_| "`url` leads nowhere".to_owned())?;
        let reply = exchange(self.client.post(url).bearer_auth(&token).form(&[("", ""); 0])).await;
        let reply = reply.map_err(|tried| tried.said)?;
        let said = judge(&reply);
        if said.delivery != Delivery::Sent {
            return Err(format!("apps.connections.open: {}", said.said.replace(&token, crate::secret::MASK)));
        }
        let address = reply.json().and_then(|answer| answer["url"].as_str()?.parse::<url::Url>().ok());
        // In the clear only where the API is as well.
        let is_good = |address: &url::Url| match address.scheme() {
            "wss" => true,
            "ws" => self.url.scheme() == "http",
            _ => false,
        };
        address.filter(is_good).ok_or_else(|| "apps.connections.open gave no address of a WebSocket".into())
    }

    /// Opens a connection. Errors do not repeat the address, which holds a ticket.
    async fn open(&self) -> Result<Connection, String> {
        let address = self.address().await?;
        let opening = async {
            let host = match address.host() {
                Some(url::Host::Domain(name)) => name.to_owned(),
                Some(url::Host::Ipv4(address)) => address.to_string(),
                Some(url::Host::Ipv6(address)) => address.to_string(),
                None => return Err("the address of the WebSocket has no host".to_owned()),
            };
            let port = address.port_or_known_default().unwrap_or(443);
            let found: Vec<IpAddr> = (self.resolve)(host).await?;
            let found: Vec<_> = found.into_iter().map(|address| (address, port).into()).collect();
            let stream = TcpStream::connect(&found[..] as &[std::net::SocketAddr]).await;
            let stream = stream.map_err(|error| format!("no connection: {error}"))?;
            let request = address.as_str().into_client_request();
            let request = request.map_err(|_| "the address of the WebSocket cannot be asked for".to_owned())?;
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
        tracing::info!(receiver = channel.receiver, "presses of buttons are received from Slack");
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
                    return End::Failed("nothing has arrived for a minute".into());
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
                    // A pong that is due goes out.
                    if let Err(error) = connection.flush().await {
                        return broken(error);
                    }
                    continue;
                }
            };
            match read(&text) {
                Received::Refresh => {
                    // Presses that were acknowledged are worked off first.
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
                            tracing::warn!(receiver, key, "too many presses of buttons at once: one is dropped");
                        }
                        None => {}
                    }
                }
                Received::Other => {}
            }
        }
    }

    /// Acknowledges the incident. If that is refused, sends the reason to the person who pressed the button.
    async fn carry_out(&self, press: Press, channel: &FeedbackChannel) {
        let receiver = &channel.receiver;
        let problem = match channel.send(&press.key, OperatorAction::Acknowledge, press.author).await {
            None => return,
            Some(Ok(done)) => return tracing::info!(receiver, done, "taken over from Slack"),
            Some(Err(problem)) => problem,
        };
        tracing::info!(receiver, problem, "not taken over from Slack");
        let (Some((place, user)), Ok(token)) = (press.place, self.token.read().await) else { return };
        let Ok(url) = self.url.join("chat.postEphemeral") else { return };
        let body = json!({"channel": place, "user": user, "text": problem});
        let said = match exchange(self.client.post(url).bearer_auth(&token).json(&body)).await {
            Ok(reply) => judge(&reply),
            Err(tried) => tried,
        };
        if said.delivery != Delivery::Sent {
            let problem = said.said.replace(&token, crate::secret::MASK);
            tracing::warn!(receiver, problem, "the user who pressed could not be answered");
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
