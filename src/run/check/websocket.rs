//! A WebSocket check: opens the connection and optionally sends a message and checks a received one.

use std::time::Instant;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::context::{CheckContext, configuration, faster_than};
use crate::names::Reason;
use crate::outcome::Failure;
use crate::scenario::check;
use crate::scenario::check::websocket::{WebsocketCheck, url};
use crate::values::expect::{Actual, ResolvedMatcher, cut};
use crate::wire::{AlpnOffer, Route, Stream};

/// Maximum size of a message, in bytes.
const LARGEST: usize = 1 << 20;

/// Runs the check.
pub async fn check(check: &WebsocketCheck, around: &CheckContext<'_>) -> Result<(), Failure> {
    let began = Instant::now();
    let receive = check
        .receive
        .as_ref()
        .map(|one| Ok((ResolvedMatcher::new(&one.matcher, around.values)?, one.span)))
        .transpose()?;
    let mut heard = None;
    let mut listening = false;
    let conversation = async {
        let mut socket = connect(check, around).await?;
        if let Some(send) = &check.send {
            socket.send(Message::text(around.values.fill(send)?)).await.map_err(|error| failure(&error))?;
        }
        let Some((matcher, _)) = &receive else { return Ok(()) };
        listening = true;
        while let Some(message) = socket.next().await {
            let seen = match message {
                Ok(Message::Text(text)) => Actual::text(text.as_str()),
                Ok(Message::Binary(bytes)) => Actual::text(String::from_utf8_lossy(&bytes)),
                Ok(Message::Close(_)) | Err(Error::ConnectionClosed) => break,
                Ok(_) => continue,
                Err(error) => return Err(failure(&error)),
            };
            let fits = matcher.holds(&seen);
            heard = Some(seen);
            if fits {
                return Ok(());
            }
        }
        Ok(())
    };
    let ended = tokio::time::timeout(around.timeout, conversation).await;
    let took = began.elapsed();
    if let (Some((matcher, span)), true, Ok(Ok(())) | Err(_)) = (&receive, listening, &ended) {
        if !heard.as_ref().is_some_and(|heard| matcher.holds(heard)) {
            let reason = if ended.is_err() { Reason::Timeout } else { Reason::Assertion };
            return Err(Failure::new(reason, "the expected message was not received")
                .compared(matcher.show(), heard.map_or("nothing".to_owned(), |heard| heard.show()))
                .waited(took)
                .at(*span));
        }
        return faster_than(check.faster_than.as_ref(), took);
    }
    ended.map_err(|_| around.out_of_time())??;
    faster_than(check.faster_than.as_ref(), took)
}

async fn connect(check: &WebsocketCheck, around: &CheckContext<'_>) -> Result<WebSocketStream<Stream>, Failure> {
    let text = around.values.fill(&check.url)?;
    let url = url(&text).map_err(|problem| configuration("`websocket`", &check.url, &problem))?;
    let bad = |problem: &dyn std::fmt::Display| configuration("`websocket`", &check.url, &problem.to_string());
    let mut request = url.as_str().into_client_request().map_err(|error| bad(&error))?;
    for (name, value) in &check.headers {
        let problem =
            |error: &dyn std::fmt::Display| configuration(&format!("header `{name}`"), value, &error.to_string());
        let filled = around.values.fill(value)?;
        let name = HeaderName::try_from(name.as_str()).map_err(|error| problem(&error))?;
        request.headers_mut().insert(name, HeaderValue::try_from(filled).map_err(|error| problem(&error))?);
    }
    let host = check::host_of(&url).expect("checked when the URL was read");
    let port = url.port_or_known_default().expect("ws and wss have one");
    let tls = (url.scheme() == "wss").then(|| around.tools.tls.client_config());
    let route = Route::to(&host, port).with_tls(tls, AlpnOffer::Http1);
    let stream = around.open(&route).await.map_err(|refused| refused.failure)?.stream;
    let config = WebSocketConfig::default().max_message_size(Some(LARGEST)).max_frame_size(Some(LARGEST));
    let (socket, _) = client_async_with_config(request, stream, Some(config)).await.map_err(|error| failure(&error))?;
    Ok(socket)
}

fn failure(error: &Error) -> Failure {
    match error {
        Error::Http(answer) => Failure::new(Reason::Status, "the server did not open a WebSocket")
            .compared("status 101", answer.status().as_str()),
        Error::Capacity(_) => Failure::new(Reason::TooLarge, "a message is larger than 1 MiB"),
        Error::Io(error) => super::connection::broken(error),
        other => Failure::new(Reason::Protocol, cut(&other.to_string(), 200)),
    }
}
