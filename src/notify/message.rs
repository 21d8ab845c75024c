//! Text of a notification, which each receiver for people formats with its own markup.

use super::template::{CompiledTemplates, Templates};
use super::{Links, truncate};
use crate::incident::{Event, Incident, Notification};
use crate::outcome::RunId;
use crate::scenario::Severity;
use crate::store::evidence::EvidenceFolder;

/// Maximum length of a URL; longer ones are omitted.
const LONGEST_URL: usize = 2000;

/// Color scheme of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Critical,
    Warning,
    Info,
    Good,
}

/// Plain text of a notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    /// Headline.
    pub(super) title: String,
    /// Lines of text.
    pub(super) text: String,
    /// Names and URLs of links.
    pub(super) links: Vec<(&'static str, String)>,
    pub(super) tone: Tone,
}

/// Renders notifications as text.
pub(super) struct MessageRenderer {
    words: CompiledTemplates,
    pub(super) links: Links,
}

impl MessageRenderer {
    /// Creates a renderer with templates and links.
    pub(super) fn new(templates: &Templates, links: &Links) -> Self {
        Self { words: CompiledTemplates::new(templates), links: links.clone() }
    }

    /// Renders a message for a receiver that identifies notifications by dedup key.
    pub(super) fn message(&self, notification: &Notification) -> Message {
        let (title, text) = self.words.render(notification, &self.links);
        let links = [
            ("run", self.links.run(notification)),
            ("incident", self.links.incident(notification)),
            ("silence", self.links.silence(notification)),
            ("runbook", notification.incident.runbook.clone().filter(|_| notification.event != Event::Resolved)),
        ];
        let is_link = |url: &String| {
            url.len() <= LONGEST_URL && url::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
        };
        let links = links.into_iter().filter_map(|(name, url)| Some((name, url.filter(is_link)?)));
        let tone = match (notification.event, notification.incident.severity) {
            (Event::Resolved, _) => Tone::Good,
            (Event::Digest, _) if !notification.incident.is_open() => Tone::Good,
            (_, Severity::Critical) => Tone::Critical,
            (_, Severity::Warning) => Tone::Warning,
            (_, Severity::Info) => Tone::Info,
        };
        Message { title, text, links: links.collect(), tone }
    }

    /// Renders a message for a receiver that cannot identify notifications: a repeat is marked as such.
    pub(super) fn marked(&self, notification: &Notification, title_limit: usize) -> Message {
        const MARK: &str = " (repeated)";
        let message = self.message(notification);
        let title = if notification.repeat {
            format!("{}{MARK}", truncate::chars(&message.title, title_limit.saturating_sub(MARK.len())))
        } else {
            truncate::chars(&message.title, title_limit)
        };
        Message { title, ..message }
    }
}

impl Message {
    /// Returns the links for plain text, one per line.
    pub(super) fn link_lines(&self) -> String {
        self.links.iter().map(|(name, url)| format!("{name}: {url}\n")).collect()
    }
}

/// Reads the screenshot of an incident's failure, if it is stored.
pub(super) async fn screenshot(evidence: &EvidenceFolder, incident: &Incident) -> Option<Vec<u8>> {
    // The format is `<run>/<name>`; the evidence folder ensures that no path leads out of it.
    let (run, name) = incident.screenshot.as_deref()?.split_once('/')?;
    evidence.read(RunId(run.parse().ok()?), name).await
}
