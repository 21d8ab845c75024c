//! The agent's file, `alerting:`.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::scenario::timing::Cron;

/// Who is told, and of what.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Alerting {
    /// Everyone who can be told. Empty: the log alone, under the name `log`.
    pub receivers: Vec<Receiver>,
    /// The first that matches, top down. No route at all: every receiver. None that matches: the log.
    pub routes: Vec<Route>,
    /// When nothing is told, and of what.
    pub maintenance: Vec<Window>,
}

/// A window of maintenance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// When it begins.
    pub begins: Begins,
    /// How long it lasts.
    pub length: std::time::Duration,
    /// Tags, or `severity`, `scenario`, `location`, `kind` and their values: all must be equal. Empty: everything.
    pub matches: BTreeMap<String, String>,
}

/// When a window begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begins {
    /// Over and over.
    Cron {
        /// The expression, which reads.
        expression: String,
        /// The zone its times are in.
        timezone: chrono_tz::Tz,
    },
    /// Once.
    At(DateTime<Utc>),
}

impl Window {
    /// When it begins for the first time strictly after a point in time.
    pub fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match &self.begins {
            Begins::Cron { expression, timezone } => Cron::parse(expression).ok()?.next_after(*timezone, after),
            Begins::At(at) => Some(*at).filter(|at| *at > after),
        }
    }
}

/// Someone who can be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receiver {
    /// The name that routes use.
    pub name: String,
    /// How.
    pub kind: ReceiverKind,
}

/// How a receiver is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReceiverKind {
    /// A POST of JSON.
    Webhook {
        /// Where to.
        url: url::Url,
    },
    /// A line in the agent's log.
    Log,
}

/// Which incidents go to whom.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Route {
    /// Tags, or `severity`, `scenario`, `location`, `kind` and their values: all must be equal. Empty: everything.
    pub matches: BTreeMap<String, String>,
    /// Names of receivers.
    pub to: Vec<String>,
    /// Tags, or `severity`, `scenario`, `location`, `kind`, whose values must be equal within a group. The cause
    /// always must.
    pub group_by: Vec<String>,
    /// How long a group gathers before it is told; none: 30 seconds, for critical ones none.
    pub group_wait: Option<std::time::Duration>,
}
