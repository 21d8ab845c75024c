//! Slack. With the Web API, a message is updated in place, followed by the screenshot, and has a button to acknowledge
//! if there is an app-level token (`slack_socket`). With an incoming webhook, there are only messages
//! (`docs.slack.dev`: chat.postMessage, chat.update, files.getUploadURLExternal, rate limits).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value as Json, json};

use super::config::Slack;
use super::exchange::exchange;
use super::feedback::FeedbackChannel;
use super::message::{Message, MessageRenderer, Tone};
use super::slack_answer::judge;
use super::slack_socket::{ACKNOWLEDGE, Socket};
use super::{DeliveryResult, Notifier, Resolve, truncate};
use crate::incident::{Event, Notification};
use crate::scenario::Severity;
use crate::store::DeliveryStatus;
use crate::store::evidence::{EvidenceFolder, LARGEST};

/// Maximum number of characters of a section's text.
const SECTION: usize = 3000;
/// Maximum number of characters of a button's value.
const MAX_BUTTON_VALUE_CHARS: usize = 2000;
/// Maximum number of characters of a title: even with all of them escaped, the message stays short.
const TITLE: usize = 500;
/// Minimum time between messages: about one per second and channel.
const GAP: Duration = Duration::from_secs(1);

/// Notifier that posts to a channel.
pub(super) struct SlackNotifier {
    pub(super) client: reqwest::Client,
    pub(super) config: Slack,
    pub(super) wording: MessageRenderer,
    pub(super) evidence: EvidenceFolder,
    pub(super) resolve: Resolve,
    pub(super) tls: Arc<rustls::ClientConfig>,
}

/// Escapes a text for mrkdwn (docs.slack.dev, formatting: only these three characters are escaped).
fn escape(text: &str, limit: usize) -> String {
    let weight = |c: char| match c {
        '&' => 5,
        '<' | '>' => 4,
        c => c.len_utf16(),
    };
    truncate::escaped(text, limit, weight).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Returns the text, color and blocks of a message.
pub(super) fn content(message: &Message) -> Json {
    let colour = match message.tone {
        Tone::Critical => "#d40e0d",
        Tone::Warning => "#e8a317",
        Tone::Info => "#439fe0",
        Tone::Good => "#2eb67d",
    };
    let section = |text: String| json!({"type": "section", "text": {"type": "mrkdwn", "text": text, "verbatim": true}});
    let mut blocks = Vec::new();
    if !message.text.is_empty() {
        blocks.push(section(escape(&message.text, SECTION)));
    }
    if !message.links.is_empty() {
        // A `|` or `>` would end the link.
        let safe = |url: &str| url.replace('&', "&amp;").replace('|', "%7C").replace('<', "%3C").replace('>', "%3E");
        let links: Vec<String> = message.links.iter().map(|(name, url)| format!("<{}|{name}>", safe(url))).collect();
        // Four links of at most 2,000 characters fit as separate elements.
        let elements: Vec<Json> = links.iter().map(|link| json!({"type": "mrkdwn", "text": link})).collect();
        blocks.push(json!({"type": "context", "elements": elements}));
    }
    let title = title(message);
    // The title is also used for push notifications and screen readers.
    json!({"text": title, "attachments": [{"color": colour, "fallback": title, "blocks": blocks}]})
}

/// Returns the button to acknowledge, or `None` if there is nothing to acknowledge.
pub(super) fn button(notification: &Notification) -> Option<Json> {
    let key = notification.dedup_key();
    let is_open = notification.event != Event::Resolved && notification.incident.is_open();
    if !is_open || notification.incident.acknowledged.is_some() || key.chars().count() > MAX_BUTTON_VALUE_CHARS {
        return None;
    }
    let text = json!({"type": "plain_text", "text": "Acknowledge"});
    let button = json!({"type": "button", "action_id": ACKNOWLEDGE, "text": text, "value": key});
    Some(json!({"type": "actions", "elements": [button]}))
}

/// Returns the title in bold. Asterisks are replaced, because they would end the bold text.
fn title(message: &Message) -> String {
    format!("*{}*", escape(&message.title, SECTION).replace('*', "∗"))
}

/// Errors after which a message can no longer be changed, so that a new one is posted.
const GONE: [&str; 4] = ["message_not_found", "cant_update_message", "edit_window_closed", "channel_not_found"];

impl SlackNotifier {
    /// Calls a method of the Web API.
    async fn call(&self, url: &url::Url, token: &str, method: &str, body: &Json) -> (DeliveryResult, Json) {
        let Ok(url) = url.join(method) else {
            return (DeliveryResult::failed("`url` cannot be a base URL"), Json::Null);
        };
        match exchange(self.client.post(url).bearer_auth(token).json(body)).await {
            Ok(reply) => (judge(&reply), reply.json().unwrap_or_default()),
            Err(tried) => (tried, Json::Null),
        }
    }

    async fn tell(
        &self,
        notification: &Notification,
        receiver_state: Option<&Json>,
        url: &url::Url,
        token: &str,
        channel: &str,
    ) -> DeliveryResult {
        let message = self.wording.marked(notification, TITLE);
        let mut content = content(&message);
        if self.has_feedback()
            && let Some(button) = button(notification)
            && let Some(blocks) = content["attachments"][0]["blocks"].as_array_mut()
        {
            blocks.push(button);
        }
        let known = receiver_state
            .and_then(|receiver_state| Some((receiver_state["channel"].as_str()?, receiver_state["ts"].as_str()?)));
        if let Some((channel, ts)) = known {
            let mut update = content.clone();
            update["channel"] = channel.into();
            update["ts"] = ts.into();
            let (tried, answer) = self.call(url, token, "chat.update", &update).await;
            let is_gone = answer["error"].as_str().is_some_and(|error| GONE.contains(&error));
            let severity =
                receiver_state.and_then(|receiver_state| receiver_state["severity"].as_str()).and_then(Severity::named);
            let louder = notification.event != Event::Resolved
                && severity.is_some_and(|was| was < notification.incident.severity);
            if tried.delivery == DeliveryStatus::Delivered && (notification.event == Event::Reminder || louder) {
                // An update in place is easily overlooked. Therefore reminders and raised severities are posted as
                // replies as well.
                let text = title(&message);
                let body = json!({"channel": channel, "thread_ts": ts, "reply_broadcast": true, "text": text});
                let response = self.call(url, token, "chat.postMessage", &body).await.0;
                if response.delivery == DeliveryStatus::Delivered && louder {
                    let screenshot = receiver_state.map(|receiver_state| receiver_state["screenshot"].clone());
                    return response.remember(json!({
                        "channel": channel, "ts": ts, "screenshot": screenshot,
                        "severity": notification.incident.severity.as_str(),
                    }));
                }
                return response;
            }
            if !is_gone {
                return tried;
            }
        }
        content["channel"] = channel.into();
        content["unfurl_links"] = false.into();
        let (tried, answer) = self.call(url, token, "chat.postMessage", &content).await;
        if tried.delivery == DeliveryStatus::Delivered {
            let shown = notification.incident.screenshot.clone().filter(|_| known.is_none());
            return tried.remember(json!({
                "channel": answer["channel"], "ts": answer["ts"], "screenshot": shown,
                "severity": notification.incident.severity.as_str(),
            }));
        }
        tried
    }

    /// Uploads the screenshot as a reply to a message.
    async fn upload(
        &self,
        url: &url::Url,
        token: &str,
        receiver_state: &Json,
        picture: Vec<u8>,
    ) -> Result<(), DeliveryResult> {
        let name = "screenshot.png";
        let form = [("filename", name.to_owned()), ("length", picture.len().to_string())];
        let place =
            url.join("files.getUploadURLExternal").map_err(|_| DeliveryResult::failed("`url` cannot be a base URL"))?;
        let reply = exchange(self.client.post(place).bearer_auth(token).form(&form)).await?;
        let answer = reply.json().unwrap_or_default();
        let result = judge(&reply);
        let (DeliveryStatus::Delivered, Some(to), Some(file)) =
            (&result.delivery, answer["upload_url"].as_str(), answer["file_id"].as_str())
        else {
            return Err(result);
        };
        let reply = exchange(self.client.post(to).body(picture)).await?;
        if !reply.status.is_success() {
            return Err(reply.judge());
        }
        let body = json!({
            "files": [{"id": file, "title": "the page when it failed"}],
            "channel_id": receiver_state["channel"], "thread_ts": receiver_state["ts"],
        });
        let (tried, _) = self.call(url, token, "files.completeUploadExternal", &body).await;
        if tried.delivery == DeliveryStatus::Delivered { Ok(()) } else { Err(tried) }
    }
}

#[async_trait]
impl Notifier for SlackNotifier {
    async fn notify(&self, notification: &Notification, receiver_state: Option<&Json>) -> DeliveryResult {
        match &self.config {
            Slack::Token { token, channel, url, .. } => match token.read().await {
                Ok(token) => self.tell(notification, receiver_state, url, &token, channel).await,
                Err(problem) => DeliveryResult::retryable(problem),
            },
            Slack::Hook { url } => {
                let url = match url.url().await {
                    Ok(url) => url,
                    Err(problem) => return DeliveryResult::retryable(problem),
                };
                let body = content(&self.wording.marked(notification, TITLE));
                match exchange(self.client.post(url).json(&body)).await {
                    Ok(reply) => judge(&reply),
                    Err(tried) => tried,
                }
            }
        }
    }

    fn keeps_state(&self) -> bool {
        matches!(self.config, Slack::Token { .. })
    }

    fn has_feedback(&self) -> bool {
        matches!(self.config, Slack::Token { app_token: Some(_), .. })
    }

    async fn receive(&self, channel: &FeedbackChannel) {
        let (client, resolve, tls) = (&self.client, &self.resolve, &self.tls);
        match &self.config {
            Slack::Token { url, token, app_token: Some(app_token), .. } => {
                Socket { client, resolve, tls, url, token, app_token }.receive(channel).await;
            }
            _ => std::future::pending().await,
        }
    }

    /// Uploads the screenshot, once per message. The message is already posted, so that a failure is only logged.
    async fn after_delivery(&self, notification: &Notification, receiver_state: Option<&Json>) {
        let (Slack::Token { token, url, .. }, Some(receiver_state)) = (&self.config, receiver_state) else { return };
        let (Event::Opened, Some(_)) = (notification.event, receiver_state["screenshot"].as_str()) else { return };
        let picture = super::message::screenshot(&self.evidence, &notification.incident).await;
        let (Ok(token), Some(picture)) = (token.read().await, picture.filter(|picture| picture.len() <= LARGEST))
        else {
            return;
        };
        if let Err(tried) = self.upload(url, &token, receiver_state, picture).await {
            let problem = tried.response.replace(&token, crate::secret::MASK);
            tracing::warn!(receiver = notification.receiver, problem, "cannot upload the screenshot");
        }
    }

    fn min_interval(&self) -> Duration {
        GAP
    }
}
