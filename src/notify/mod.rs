//! Telling people: one file per kind of receiver, and the courier that delivers what is owed.
//!
//! A notifier says only how a try ended; whether and when to try again is the courier's.

mod config;
mod courier;
mod log;
mod webhook;

use async_trait::async_trait;

use crate::incident::{Event, Notice};
use crate::store::Delivery;

pub use config::{Alerting, Begins, Receiver, ReceiverKind, Route, Window};
pub use courier::{Courier, Metrics};

/// The name of the receiver that is always there.
pub const LOG: &str = "log";

/// One way to tell people.
#[async_trait]
pub trait Notifier: Send + Sync {
    /// Tries once.
    async fn notify(&self, notice: &Notice) -> Delivery;
}

/// Links that begin with `web.external_url`.
#[derive(Debug, Clone, Default)]
pub struct Links {
    base: Option<url::Url>,
}

impl Links {
    /// Without a base there are no links.
    pub fn new(base: Option<url::Url>) -> Self {
        Self { base }
    }

    /// The page of the incident that a notice is about.
    pub fn incident(&self, notice: &Notice) -> Option<String> {
        let key =
            percent_encoding::utf8_percent_encode(&notice.incident.dedup_key(), percent_encoding::NON_ALPHANUMERIC)
                .to_string();
        self.to(crate::names::path::INCIDENT, &key)
    }

    /// The page of the run that a notice is about.
    pub fn run(&self, notice: &Notice) -> Option<String> {
        self.to(crate::names::path::RUN, &notice.incident.last_run.to_string())
    }

    fn to(&self, path: &str, id: &str) -> Option<String> {
        let base = self.base.as_ref()?.as_str().trim_end_matches('/');
        Some(format!("{base}{path}{id}"))
    }
}

/// One line for people: `[CRITICAL] Shop checkout failed at waw-1: click button "Pay now": …`.
pub fn headline(notice: &Notice) -> String {
    let incident = &notice.incident;
    let severity = incident.severity.as_str().to_uppercase();
    let place = &incident.location;
    let mut line = match notice.event {
        Event::Resolved => return format!("[RESOLVED] {} works again at {place}", incident.name),
        Event::Opened | Event::Updated | Event::Reminder | Event::Digest if incident.subject.is_agent() => {
            return format!(
                "[{severity}] {} cannot test: {}",
                incident.name,
                incident.message.as_deref().unwrap_or("unknown")
            );
        }
        Event::Opened | Event::Reminder | Event::Digest => {
            format!("[{severity}] {} {} at {place}", incident.name, incident.verdict)
        }
        Event::Updated => format!("[{severity}] {} {} at {place}, was a warning", incident.name, incident.verdict),
    };
    for part in [&incident.step, &incident.message].into_iter().flatten() {
        line.push_str(": ");
        line.push_str(part);
    }
    line
}

#[cfg(test)]
mod tests;
