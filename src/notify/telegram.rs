//! Telegram: `sendMessage` of the Bot API (core.telegram.org/bots/api). Later notifications are replies to the message
//! of the opening.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value as Json, json};

use super::config::Telegram;
use super::exchange::{Reply, bounded, exchange};
use super::message::{Message, MessageRenderer};
use super::{DeliveryResult, Notifier, truncate};
use crate::incident::{Event, Notification};
use crate::store::DeliveryStatus;

/// Maximum number of UTF-16 units of a message. The markup is included, although Telegram does not count it, so that a
/// message is never too long.
const LARGEST: usize = 4096;
/// Maximum number of characters of a title: even with all of them escaped, it fits.
const TITLE: usize = 500;
/// Minimum time between messages to a group: at most 20 per minute (core.telegram.org/bots/faq) …
const GROUP_GAP: Duration = Duration::from_secs(3);
/// … and between messages to a person: one per second.
const PERSON_GAP: Duration = Duration::from_secs(1);

/// Notifier that writes to a chat.
pub(super) struct Bot {
    pub(super) client: reqwest::Client,
    pub(super) config: Telegram,
    pub(super) wording: MessageRenderer,
}

fn weight(c: char) -> usize {
    match c {
        '&' => 5,
        '<' | '>' => 4,
        '"' => 6,
        c => c.len_utf16(),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Returns the message as Telegram's HTML, truncated before escaping and markup.
pub(super) fn html(message: &Message) -> String {
    let units = |text: &str| text.encode_utf16().count();
    let title = format!("<b>{}</b>", escape(&truncate::escaped(&message.title, 1000, weight)));
    let links: Vec<String> =
        message.links.iter().map(|(name, url)| format!("<a href=\"{}\">{name}</a>", escape(url))).collect();
    // Links that are too long in total are omitted instead of truncated.
    let mut links = links.join(" · ");
    if units(&links) > 2000 {
        links.clear();
    }
    let room = LARGEST - units(&title) - units(&links) - 2;
    let text = escape(&truncate::escaped(&message.text, room, weight));
    [title, text, links].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n")
}

/// Interprets a response; `parameters.retry_after` is the delay that Telegram asks for.
pub(super) fn judge(reply: &Reply) -> DeliveryResult {
    let body = reply.json();
    let response = |body: &Json| body["parameters"]["retry_after"].as_u64().map(Duration::from_secs).map(bounded);
    let wait = reply.retry_after.max(body.as_ref().and_then(response));
    if reply.status == 429 {
        return DeliveryResult::retryable(format!("the receiver returned status {}", reply.response()))
            .blocks_receiver(wait);
    }
    match body {
        // Ends as soon as a person starts the bot or corrects the chat.
        Some(body) if body["description"].as_str().is_some_and(|response| response.contains("chat not found")) => {
            DeliveryResult::retryable(format!("the receiver returned status {}; check `chat`", reply.response()))
                .blocks_receiver(None)
        }
        _ if !reply.status.is_success() => reply.judge(),
        Some(body) if body["ok"] == true => DeliveryResult::sent(reply.response()),
        Some(body) if body["ok"] == false => {
            DeliveryResult::failed(format!("the receiver returned status {}", reply.response()))
        }
        _ => reply.taken(),
    }
}

#[async_trait]
impl Notifier for Bot {
    async fn notify(&self, notification: &Notification, receiver_state: Option<&Json>) -> DeliveryResult {
        let token = match self.config.token.read().await {
            Ok(token) => token,
            Err(problem) => return DeliveryResult::retryable(problem),
        };
        let base = self.config.url.as_str().trim_end_matches('/');
        let mut body = json!({
            "chat_id": self.config.chat,
            "text": html(&self.wording.marked(notification, TITLE)),
            "parse_mode": "HTML",
            "link_preview_options": {"is_disabled": true},
            // Resolutions are delivered silently.
            "disable_notification": notification.event == Event::Resolved,
        });
        if let Some(thread) = self.config.thread {
            body["message_thread_id"] = thread.into();
        }
        if let Some(first) = receiver_state.and_then(|receiver_state| receiver_state["message_id"].as_i64()) {
            body["reply_parameters"] = json!({"message_id": first, "allow_sending_without_reply": true});
        }
        match exchange(self.client.post(format!("{base}/bot{token}/sendMessage")).json(&body)).await {
            Ok(reply) => {
                let tried = judge(&reply);
                let written = reply.json().and_then(|body| body["result"]["message_id"].as_i64());
                match (tried.delivery == DeliveryStatus::Delivered && receiver_state.is_none(), written) {
                    (true, Some(written)) => tried.remember(json!({"message_id": written})),
                    _ => tried,
                }
            }
            Err(tried) => tried,
        }
    }

    fn keeps_state(&self) -> bool {
        true
    }

    fn min_interval(&self) -> Duration {
        // Ids of groups are negative; channels have names.
        if self.config.chat.starts_with(['-', '@']) { GROUP_GAP } else { PERSON_GAP }
    }
}
