//! Links to the pages of the agent.

use crate::incident::{Event, Notification};
use crate::outcome::RunId;

/// Links below `web.external_url`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Links {
    base: Option<url::Url>,
}

impl Links {
    /// Creates the links below `base`. If it is absent, all methods return `None`.
    pub fn new(base: Option<url::Url>) -> Self {
        Self { base }
    }

    /// Returns the URL of the incident page, for the incident that the dedup key belongs to.
    pub fn incident(&self, notification: &Notification) -> Option<String> {
        let key =
            percent_encoding::utf8_percent_encode(&notification.key, percent_encoding::NON_ALPHANUMERIC).to_string();
        self.to(crate::names::path::INCIDENT, &key)
    }

    /// Returns the URL where the incident can be silenced and acknowledged, while it is open.
    pub fn silence(&self, notification: &Notification) -> Option<String> {
        let is_over = notification.event == Event::Resolved || !notification.incident.is_open();
        (!is_over).then(|| self.incident(notification)).flatten().map(|page| format!("{page}#silence"))
    }

    /// Returns the URL of the run page of a notification.
    pub fn run(&self, notification: &Notification) -> Option<String> {
        self.run_of(notification.incident.last_run)
    }

    /// Returns the URL of a run page.
    pub fn run_of(&self, run: RunId) -> Option<String> {
        self.to(crate::names::path::RUN, &run.to_string())
    }

    /// Returns the URL of a notification's screenshot.
    pub fn screenshot(&self, notification: &Notification) -> Option<String> {
        self.to(crate::names::path::EVIDENCE, notification.incident.screenshot.as_deref()?)
    }

    /// Returns the base of all links.
    pub fn base(&self) -> Option<&url::Url> {
        self.base.as_ref()
    }

    fn to(&self, path: &str, id: &str) -> Option<String> {
        let base = self.base.as_ref()?.as_str().trim_end_matches('/');
        Some(format!("{base}{path}{id}"))
    }
}
