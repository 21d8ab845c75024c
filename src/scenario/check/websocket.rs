//! `websocket`: a WebSocket opens, perhaps with something said and something heard.

use std::time::Duration;

use super::Expected;
use crate::diagnostic::At;
use crate::scenario::expect::On;
use crate::scenario::http;
use crate::scenario::keys::{FASTER_THAN, Kind, MATCHER, Shape, key};
use crate::scenario::reader::{Fields, Reader};
use crate::scenario::template::Template;
use crate::scenario::tree::Node;

/// Its keys.
pub const KIND: Kind = Kind {
    key: key("websocket", Shape::Text, "a URL that begins with ws:// or wss://"),
    beside: &[
        key("headers", Shape::Map(&Shape::Text), "headers of the handshake"),
        key("send", Shape::Text, "a message to send once it is open"),
        key("receive", MATCHER, "a message that must come; what comes before is passed over"),
        FASTER_THAN,
    ],
};

/// A WebSocket check.
#[derive(Debug, Clone, PartialEq)]
pub struct WebsocketCheck {
    /// `ws://` or `wss://`.
    pub url: At<Template>,
    /// Headers of the handshake.
    pub headers: Vec<(String, At<Template>)>,
    /// What to send once it is open.
    pub send: Option<At<Template>>,
    /// What must come.
    pub receive: Option<Expected>,
    /// From the start to the expected message.
    pub faster_than: Option<At<Duration>>,
}

/// The URL of a WebSocket.
pub fn url(text: &str) -> Result<url::Url, String> {
    match url::Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "ws" | "wss") && url.has_host() => Ok(url),
        _ => Err("write a URL that begins with ws:// or wss://".to_owned()),
    }
}

/// Reads the check.
pub fn read(r: &mut Reader, target: &Node, fields: &Fields<'_>) -> Option<WebsocketCheck> {
    let url = super::target(r, target, "`websocket`", url);
    let headers = match fields.get("headers") {
        Some(node) => http::headers(r, node),
        None => Some(Vec::new()),
    };
    let send = super::given(fields, "send", |node| r.template(node, "`send`"));
    let receive = super::expected(r, fields, "receive", On::Text);
    let faster_than = super::limit(r, fields, "faster_than");
    Some(WebsocketCheck { url: url?, headers: headers?, send: send?, receive: receive?, faster_than: faster_than? })
}
