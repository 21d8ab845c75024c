//! Operator commands for alerting, from the API, the pages, receivers, or stored while no agent was running. Pure.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::matching::Matchers;
use super::mute::Mute;

/// Result of an operator command: a confirmation or an error message.
pub type CommandResult = Result<String, String>;

/// Operator command for alerting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertCommand {
    /// Adds a silence or maintenance window.
    Mute(Mute),
    /// Ends a mute now.
    Expire {
        /// Id of the mute.
        id: String,
    },
    /// Reports what a set of matchers matches at present.
    Preview {
        /// Matchers of the planned silence.
        matches: Matchers,
    },
    /// Acknowledges an incident.
    Acknowledge {
        /// Dedup key of the incident or of its notification.
        key: String,
        /// Name of the author.
        author: String,
        /// Duration of the acknowledgement; absent if it lasts until the incident resolves.
        #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
        length: Option<Duration>,
    },
    /// Withdraws the acknowledgement of an incident.
    Unacknowledge {
        /// Dedup key of the incident or of its notification.
        key: String,
        /// Name of the author.
        author: String,
        /// Author of the acknowledgement to withdraw; absent to withdraw any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        of: Option<String>,
    },
    /// Resolves an incident. It does not open again before its scenario had a good run.
    Resolve {
        /// Dedup key of the incident or of its notification.
        key: String,
        /// Name of the author.
        author: String,
        /// Reason given by the author.
        reason: String,
    },
    /// Resolves all open incidents of a notification.
    ResolveGroup {
        /// Dedup key of the notification.
        key: String,
        /// Name of the author.
        author: String,
        /// Reason given by the author.
        reason: String,
    },
}

impl AlertCommand {
    /// Returns the dedup key of the incident or notification that the command refers to, if it refers to one.
    pub fn key_mut(&mut self) -> Option<&mut String> {
        match self {
            Self::Acknowledge { key, .. }
            | Self::Unacknowledge { key, .. }
            | Self::Resolve { key, .. }
            | Self::ResolveGroup { key, .. } => Some(key),
            Self::Mute(_) | Self::Expire { .. } | Self::Preview { .. } => None,
        }
    }
}

impl fmt::Display for AlertCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mute(mute) => {
                let (id, until, author) = (&mute.id, mute.until.format("%F %TZ"), &mute.author);
                let what = if mute.maintenance { "maintenance" } else { "silence" };
                write!(f, "{what} {id} of {} until {until}", mute.matches)?;
                if let Some(during) = &mute.during {
                    write!(f, ", {during}")?;
                }
                write!(f, ", by {author}")
            }
            Self::Expire { id } => write!(f, "expire {id}"),
            Self::Preview { matches } => write!(f, "preview of {matches}"),
            Self::Acknowledge { key, author, .. } => write!(f, "acknowledge {key} by {author}"),
            Self::Unacknowledge { key, author, .. } => write!(f, "withdraw the acknowledgement of {key} by {author}"),
            Self::Resolve { key, author, reason } => write!(f, "resolve {key} by {author}: {reason}"),
            Self::ResolveGroup { key, author, reason } => {
                write!(f, "resolve all incidents of {key} by {author}: {reason}")
            }
        }
    }
}
