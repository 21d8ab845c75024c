//! Microsoft Teams: an adaptive card, sent to the webhook of a workflow (learn.microsoft.com, "Create incoming webhooks
//! with Workflows"). Messages cannot be changed later, and repeats are not recognized.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value as Json, json};

use super::config::Teams;
use super::exchange::exchange;
use super::message::{Message, MessageRenderer, Tone};
use super::{DeliveryResult, Notifier, truncate};
use crate::incident::Notification;

/// Maximum number of bytes of a message: 28 KB, minus some space for what the workflow adds to the card.
const LARGEST: usize = 27_000;
/// Maximum number of characters of a title.
const TITLE: usize = 500;
/// Minimum time between requests: at most four per second.
const GAP: Duration = Duration::from_millis(250);

/// Notifier that posts to a workflow.
pub(super) struct TeamsNotifier {
    pub(super) client: reqwest::Client,
    pub(super) config: Teams,
    pub(super) wording: MessageRenderer,
}

/// Escapes a text for a `TextBlock`, which interprets a subset of Markdown.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '\\' | '*' | '_' | '[' | ']' | '`' | '~') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// Returns the message with its card.
pub(super) fn card(message: &Message) -> Json {
    // Size without the text, which is always far below the limit.
    let around = card_of(message, "").to_string().len();
    let mut text = truncate::bytes(&message.text, LARGEST);
    loop {
        let card = card_of(message, &text);
        let size = card.to_string().len();
        if size <= LARGEST || text.is_empty() {
            return card;
        }
        // Escaping makes the text longer. It is shortened in proportion to the excess, and slightly more.
        let room = text.len() * LARGEST.saturating_sub(around) / (size - around);
        text = truncate::bytes(&message.text, room.saturating_sub(16));
    }
}

fn card_of(message: &Message, text: &str) -> Json {
    let colour = match message.tone {
        Tone::Critical => "Attention",
        Tone::Warning => "Warning",
        Tone::Info => "Accent",
        Tone::Good => "Good",
    };
    let mut body = vec![json!({
        "type": "TextBlock", "text": escape(&message.title), "weight": "Bolder", "size": "Medium", "wrap": true,
        "style": "heading", "color": colour,
    })];
    // Teams ignores single line ends in a block; two of them form a paragraph.
    if !text.is_empty() {
        body.push(json!({"type": "TextBlock", "text": escape(text).replace('\n', "\n\n"), "wrap": true}));
    }
    let actions: Vec<Json> =
        message.links.iter().map(|(name, url)| json!({"type": "Action.OpenUrl", "title": name, "url": url})).collect();
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard",
                "version": "1.2",
                "body": body,
                "actions": actions,
                "msteams": {"width": "full"},
            },
        }],
    })
}

#[async_trait]
impl Notifier for TeamsNotifier {
    async fn notify(&self, notification: &Notification, _memo: Option<&Json>) -> DeliveryResult {
        let url = match self.config.url.url().await {
            Ok(url) => url,
            Err(problem) => return DeliveryResult::retryable(problem),
        };
        let card = card(&self.wording.marked(notification, TITLE));
        match exchange(self.client.post(url).json(&card)).await {
            Ok(reply) => reply.judge(),
            Err(tried) => tried,
        }
    }

    fn min_interval(&self) -> Duration {
        GAP
    }
}
