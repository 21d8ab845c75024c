//! ntfy: a message as JSON to the root of the server (docs.ntfy.sh/publish, "Publish as JSON").

use async_trait::async_trait;
use serde_json::{Value as Json, json};

use super::config::Ntfy;
use super::exchange::exchange;
use super::message::{Message, MessageRenderer, Tone};
use super::{DeliveryResult, Notifier, truncate};
use crate::incident::Notification;

/// Maximum number of bytes of a message; ntfy converts longer ones to file attachments.
const LARGEST: usize = 4096;
/// Maximum number of bytes of a title, well below the header limit of all servers.
const TITLE: usize = 250;
/// Maximum number of actions.
const ACTIONS: usize = 3;

/// Notifier that publishes to a topic.
pub(super) struct NtfyNotifier {
    pub(super) client: reqwest::Client,
    pub(super) config: Ntfy,
    pub(super) wording: MessageRenderer,
}

/// Returns the request body without the topic.
pub(super) fn body(message: &Message) -> Json {
    let (priority, tag) = match message.tone {
        Tone::Critical => (5, "rotating_light"),
        Tone::Warning => (4, "warning"),
        Tone::Info => (3, "information_source"),
        Tone::Good => (3, "white_check_mark"),
    };
    let actions: Vec<Json> = message
        .links
        .iter()
        .take(ACTIONS)
        .map(|(name, url)| json!({"action": "view", "label": name, "url": url}))
        .collect();
    let mut body = json!({
        "title": truncate::bytes(&message.title, TITLE),
        // Without a message, ntfy shows "triggered".
        "message": truncate::bytes(if message.text.is_empty() { &message.title } else { &message.text }, LARGEST),
        "priority": priority,
        "tags": [tag],
        "actions": actions,
    });
    if let Some((_, url)) = message.links.iter().find(|(name, _)| *name == "incident") {
        body["click"] = url.as_str().into();
    }
    body
}

#[async_trait]
impl Notifier for NtfyNotifier {
    async fn notify(&self, notification: &Notification, _memo: Option<&Json>) -> DeliveryResult {
        let topic = match self.config.topic.read().await {
            Ok(topic) => topic,
            Err(problem) => return DeliveryResult::retryable(problem),
        };
        // The limit is in bytes. If characters take more than one byte, half as many characters are kept.
        let message = self.wording.marked(notification, TITLE);
        let is_short = message.title.len() <= TITLE;
        let message = if is_short { message } else { self.wording.marked(notification, TITLE / 2) };
        let mut body = body(&message);
        body["topic"] = topic.into();
        let mut request = self.client.post(self.config.url.clone()).json(&body);
        if let Some(token) = &self.config.token {
            match token.read().await {
                Ok(token) => request = request.bearer_auth(token),
                Err(problem) => return DeliveryResult::retryable(problem),
            }
        }
        match exchange(request).await {
            Ok(reply) => reply.judge(),
            Err(tried) => tried,
        }
    }
}
