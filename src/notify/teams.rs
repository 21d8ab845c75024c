//! Microsoft Teams: an adaptive card to a workflow's webhook (learn.microsoft.com, "Create incoming webhooks with
//! Workflows"). Messages cannot be changed afterwards, and nothing is known again.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value as Json, json};

use super::config::Teams;
use super::exchange::exchange;
use super::message::{Message, Tone, Wording};
use super::{Notifier, Tried, cut};
use crate::incident::Notice;

/// Bytes of a message: 28 KB, and some room for what the workflow puts around the card.
const LARGEST: usize = 27_000;
/// Characters of a title.
const TITLE: usize = 500;
/// At most four requests a second.
const GAP: Duration = Duration::from_millis(250);

/// Posts to a workflow.
pub(super) struct Workflow {
    pub(super) client: reqwest::Client,
    pub(super) config: Teams,
    pub(super) wording: Wording,
}

/// Text as a `TextBlock` takes it, which reads a little Markdown.
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

/// The message with its card.
pub(super) fn card(message: &Message) -> Json {
    // What goes around the text: it is bounded by itself, far below the limit.
    let around = card_of(message, "").to_string().len();
    let mut text = cut::bytes(&message.text, LARGEST);
    loop {
        let card = card_of(message, &text);
        let size = card.to_string().len();
        if size <= LARGEST || text.is_empty() {
            return card;
        }
        // Escapes make it longer than it is: as much shorter as it is too long, and a little more.
        let room = text.len() * LARGEST.saturating_sub(around) / (size - around);
        text = cut::bytes(&message.text, room.saturating_sub(16));
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
    // A line end within a block is none to Teams, and two make a paragraph.
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
impl Notifier for Workflow {
    async fn notify(&self, notice: &Notice, _memo: Option<&Json>) -> Tried {
        let url = match self.config.url.url().await {
            Ok(url) => url,
            Err(problem) => return Tried::refused(problem),
        };
        let card = card(&self.wording.marked(notice, TITLE));
        match exchange(self.client.post(url).json(&card)).await {
            Ok(reply) => reply.judge(),
            Err(tried) => tried,
        }
    }

    fn gap(&self) -> Duration {
        GAP
    }
}
