//! A notice in words: what every receiver for people shows in its own markup.

use super::template::{Templates, Words};
use super::{Links, cut};
use crate::incident::{Event, Incident, Notice};
use crate::outcome::RunId;
use crate::scenario::Severity;
use crate::store::evidence::EvidenceFolder;

/// No URL is longer; one that is, is left out.
const LONGEST_URL: usize = 2000;

/// How a notice looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Critical,
    Warning,
    Info,
    Good,
}

/// A notice in words, plain text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    /// One line.
    pub(super) title: String,
    /// Lines.
    pub(super) text: String,
    /// What they are called, and where they lead.
    pub(super) links: Vec<(&'static str, String)>,
    pub(super) tone: Tone,
}

/// Puts notices into words.
pub(super) struct Wording {
    words: Words,
    pub(super) links: Links,
}

impl Wording {
    /// With these templates and links.
    pub(super) fn new(templates: &Templates, links: &Links) -> Self {
        Self { words: Words::new(templates), links: links.clone() }
    }

    /// A message for a receiver that knows notices again by a key.
    pub(super) fn message(&self, notice: &Notice) -> Message {
        let (title, text) = self.words.render(notice, &self.links);
        let links = [
            ("run", self.links.run(notice)),
            ("incident", self.links.incident(notice)),
            ("silence", self.links.silence(notice)),
            ("runbook", notice.incident.runbook.clone().filter(|_| notice.event != Event::Resolved)),
        ];
        let is_link = |url: &String| {
            url.len() <= LONGEST_URL && url::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
        };
        let links = links.into_iter().filter_map(|(name, url)| Some((name, url.filter(is_link)?)));
        let tone = match (notice.event, notice.incident.severity) {
            (Event::Resolved, _) => Tone::Good,
            (Event::Digest, _) if !notice.incident.is_open() => Tone::Good,
            (_, Severity::Critical) => Tone::Critical,
            (_, Severity::Warning) => Tone::Warning,
            (_, Severity::Info) => Tone::Info,
        };
        Message { title, text, links: links.collect(), tone }
    }

    /// A message for a receiver that cannot know a notice again: a repeat says that it is one.
    pub(super) fn marked(&self, notice: &Notice, title_limit: usize) -> Message {
        const MARK: &str = " (repeated)";
        let message = self.message(notice);
        let title = if notice.repeat {
            format!("{}{MARK}", cut::chars(&message.title, title_limit.saturating_sub(MARK.len())))
        } else {
            cut::chars(&message.title, title_limit)
        };
        Message { title, ..message }
    }
}

impl Message {
    /// Links a line each, for plain text.
    pub(super) fn link_lines(&self) -> String {
        self.links.iter().map(|(name, url)| format!("{name}: {url}\n")).collect()
    }
}

/// The picture of an incident's failure, when it is kept.
pub(super) async fn screenshot(evidence: &EvidenceFolder, incident: &Incident) -> Option<Vec<u8>> {
    // `<run>/<name>`: the folder sees to it that nothing leads out of it.
    let (run, name) = incident.screenshot.as_deref()?.split_once('/')?;
    evidence.read(RunId(run.parse().ok()?), name).await
}
