//! `websocket` check: a WebSocket connection opens, with optional messages sent and received.

use std::time::Duration;

use super::connection::{self, ConnectionSettings, NEEDS_TLS, PROXY, RESOLVE, TRUST_KEY};
use super::parts::{self, Expected};
use crate::diagnostic::Spanned;
use crate::scenario::expect::ValueType;
use crate::scenario::headers;
use crate::scenario::key::{ActionSpec, FASTER_THAN, MATCHER, Shape, key};
use crate::scenario::reader::{Fields, Reader};
use crate::scenario::template::Template;
use crate::scenario::tree::Node;

/// Keys of the check.
pub const KIND: ActionSpec = ActionSpec {
    key: key("websocket", Shape::Text, "URL starting with ws:// or wss://"),
    sibling_keys: &[
        key("headers", Shape::Map(&Shape::Text), "headers of the handshake"),
        TRUST_KEY,
        RESOLVE,
        PROXY,
        key("send", Shape::Text, "message to send after the connection is open"),
        key("receive", MATCHER, "message that must be received; earlier messages are ignored"),
        FASTER_THAN,
    ],
};

/// WebSocket check.
#[derive(Debug, Clone, PartialEq)]
pub struct WebsocketCheck {
    /// WebSocket URL: `ws://` or `wss://`.
    pub url: Spanned<Template>,
    /// Headers of the handshake.
    pub headers: Vec<(String, Spanned<Template>)>,
    /// Settings of the connection; `trust` applies to `wss://`.
    pub connection: ConnectionSettings,
    /// Message to send after the connection is open.
    pub send: Option<Spanned<Template>>,
    /// Expected message.
    pub receive: Option<Expected>,
    /// Maximum time from the start to the expected message.
    pub faster_than: Option<Spanned<Duration>>,
}

/// Parses the URL of a WebSocket.
pub fn url(text: &str) -> Result<url::Url, String> {
    match url::Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "ws" | "wss") && url.has_host() => Ok(url),
        _ => Err("write a URL that begins with ws:// or wss://".to_owned()),
    }
}

/// Reads the check.
pub fn read(r: &mut Reader, target: &Node, fields: &Fields<'_>) -> Option<WebsocketCheck> {
    let url = parts::target(r, target, "`websocket`", url);
    let is_plain = |url: &Spanned<Template>| url.value.as_literal().is_some_and(|text| text.starts_with("ws://"));
    if url.as_ref().is_some_and(is_plain) {
        connection::refuse(r, fields, &["trust"], NEEDS_TLS, "write wss:// in the URL");
    }
    let connection = connection::settings(r, fields);
    let headers = match fields.get("headers") {
        Some(node) => headers::headers(r, node),
        None => Some(Vec::new()),
    };
    let send = parts::given(fields, "send", |node| r.template(node, "`send`"));
    let receive = parts::expected(r, fields, "receive", ValueType::Text);
    let faster_than = parts::limit(r, fields, "faster_than");
    Some(WebsocketCheck {
        url: url?,
        headers: headers?,
        connection: connection?,
        send: send?,
        receive: receive?,
        faster_than: faster_than?,
    })
}
