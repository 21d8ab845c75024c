//! What holds an incident back although it is open: a dependency, or a mute. Pure.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::cause::Cause;
use super::timers::{Timer, Timers};
use crate::incident::{Subject, Why};
use crate::names::suppressed;

/// What keys of held incidents begin with, among all that alerting remembers.
pub const PREFIX: &str = "held/";

/// How long a child is held while its parents are looked at.
pub const LOOK: TimeDelta = TimeDelta::seconds(30);

/// Why an incident is not told now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hold {
    /// A parent has not been looked at since; it is run at once, and waited for until then.
    Look {
        /// The parent.
        parent: Subject,
        /// Then it is told whatever the parent does.
        until: DateTime<Utc>,
    },
    /// A parent fails as well, and explains it.
    Down {
        /// The parent.
        parent: Subject,
    },
    /// A mute, until it ends.
    Muted {
        /// Its id.
        mute: String,
        /// Its end.
        until: DateTime<Utc>,
    },
    /// What held it is over; a bad run that begins after this is told.
    Since {
        /// When it was over.
        at: DateTime<Utc>,
    },
}

impl Hold {
    /// When it is to be looked at again whatever happens.
    pub fn until(&self) -> Option<DateTime<Utc>> {
        match self {
            Self::Look { until, .. } | Self::Muted { until, .. } => Some(*until),
            Self::Down { .. } | Self::Since { .. } => None,
        }
    }

    /// The parent whose next run decides.
    pub fn parent(&self) -> Option<&Subject> {
        match self {
            Self::Look { parent, .. } | Self::Down { parent } => Some(parent),
            Self::Muted { .. } | Self::Since { .. } => None,
        }
    }
}

/// A hold with what is said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The hold.
    pub hold: Hold,
    /// The reason of the decision.
    pub why: Why,
    /// The figures behind it.
    pub detail: String,
}

impl Held {
    /// The reason under which it is counted.
    pub fn suppressed(&self) -> &'static str {
        match self.why {
            Why::Maintenance => suppressed::MAINTENANCE,
            Why::Silence => suppressed::SILENCE,
            _ => suppressed::DEPENDENCY,
        }
    }
}

/// An incident that is held: what is needed to tell of it later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// What holds it.
    pub hold: Hold,
    /// When the run began that its parents must have been looked at since.
    pub began: DateTime<Utc>,
    /// What it is taken for.
    pub cause: Cause,
    /// `alert.remind`.
    pub remind: Option<std::time::Duration>,
    /// What is to be said of it.
    pub note: Option<String>,
}

impl Timers for Waiting {
    fn timers(&mut self, visit: &mut dyn FnMut(Timer<'_>)) {
        visit(Timer::Since(&mut self.began));
        match &mut self.hold {
            Hold::Look { until, .. } => visit(Timer::Due(until)),
            Hold::Since { at } => visit(Timer::Since(at)),
            // A mute ends as the mute says.
            Hold::Down { .. } | Hold::Muted { .. } => {}
        }
    }
}
