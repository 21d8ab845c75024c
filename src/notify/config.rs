//! The agent's file, `alerting:`.

use std::collections::BTreeMap;

/// Who is told, and of what.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Alerting {
    /// Everyone who can be told. Empty: the log alone, under the name `log`.
    pub receivers: Vec<Receiver>,
    /// The first that matches, top down. No route at all: every receiver. None that matches: the log.
    pub routes: Vec<Route>,
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
