//! Incidents, the notifications about them, the decisions that led to them, and what operators do about them: mutes and
//! commands. Plain data; the decisions are made in `alert`.

mod change;
mod command;
pub mod during;
mod matching;
mod mute;
mod subject;

use std::collections::BTreeMap;

use chrono::{DateTime, SubsecRound as _, Utc};
use serde::{Deserialize, Serialize};

use crate::names::Reason;
use crate::outcome::{Outcome, RunId, Verdict};
use crate::scenario::Severity;
use crate::secret::Masked;

pub use change::{Change, Transition};
pub use command::{AlertCommand, CommandResult};
pub use during::During;
pub use matching::{FORMS, Matcher, Matchers};
pub use mute::Mute;
pub use subject::Subject;

/// A problem with a scenario, its error budget or an agent, from opening to resolving.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// Subject of the incident. Also the id of its group, as long as every group has one incident.
    pub subject: Subject,
    /// Sequence number of this incident for its subject, starting at 1.
    #[serde(rename = "opening")]
    pub sequence: u64,
    /// Name of the scenario.
    pub name: String,
    /// Tags of the scenario.
    pub tags: BTreeMap<String, String>,
    /// Kind of the scenario (`browser`, `api`, `http` …), `agent` for an agent, `slo` for an error budget.
    pub kind: String,
    /// Severity of the incident.
    pub severity: Severity,
    /// Location of the outcomes: all locations that reported the problem when the incident opened, sorted and joined
    /// with `, `.
    pub location: String,
    /// Opening time: the end of the run that opened the incident.
    pub opened_at: DateTime<Utc>,
    /// End of the first bad run that led to the opening, if that was an earlier run than the one that opened it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began_at: Option<DateTime<Utc>>,
    /// Run that opened the incident.
    pub opened_by: RunId,
    /// Time of resolving; absent while the incident is open.
    pub resolved_at: Option<DateTime<Utc>>,
    /// Run that resolved the incident. Absent for an agent, and if the scenario was removed.
    pub resolved_by: Option<RunId>,
    /// Verdict of the last bad run.
    pub verdict: Verdict,
    /// Last bad run.
    pub last_run: RunId,
    /// Reason of the last bad run.
    pub reason: Option<Reason>,
    /// Message of the last bad run.
    pub message: Option<Masked>,
    /// Name of the step that determined the verdict of the last bad run.
    pub step: Option<String>,
    /// Source position of the failed step or expectation, as `file.yaml:LINE:COLUMN`.
    pub place: Option<String>,
    /// Difference between the last bad run and the last good one, in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difference: Option<Masked>,
    /// Screenshot of the failure in the last bad run, as a path relative to the evidence folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub screenshot: Option<String>,
    /// Runbook URL: `alert.runbook` of the scenario.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runbook: Option<String>,
    /// Number of bad runs since the first one that led to the opening, which is included.
    pub bad_runs: u64,
    /// Number of events that caused notifications.
    pub events: u32,
    /// Receivers notified of the opening; they also receive all further notifications.
    pub receivers: Vec<String>,
    /// URL of the step that determined the verdict of the last bad run, or the address that the check names, without
    /// credentials and query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Cause of the end if the incident was not resolved by good runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<Ending>,
    /// Author and reason of a manual resolution: `ania: known false alarm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending_reason: Option<String>,
    /// Reason why the scenario of the open incident is not monitored at present, and the time since when nothing is
    /// certain about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unwatched: Option<Unwatched>,
    /// Acknowledgement of the incident, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<Acknowledgement>,
}

/// Cause of the end of an incident that was not resolved by good runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// The scenario, objective or agent was removed and is no longer monitored.
    Removed,
    /// The scenario has `enabled: false` and is not monitored for now.
    Paused,
    /// An operator resolved the incident.
    ByHand,
}

impl Ending {
    /// Returns the name used in the API and in exports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Removed => "removed",
            Self::Paused => "paused",
            Self::ByHand => "by_hand",
        }
    }

    /// Returns an explanation for people.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Removed => "removed: no longer monitored",
            Self::Paused => "paused: not monitored",
            Self::ByHand => "resolved by hand",
        }
    }
}

/// Reason why a scenario is not monitored although it was not removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unwatched {
    /// Start of the last conclusive run of the scenario. If there was none, the time when the problem was found.
    pub since: DateTime<Utc>,
    /// File or folder, and the problem with it.
    pub reason: String,
}

/// Acknowledgement of an incident by a person who works on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// Person who works on the incident.
    pub author: String,
    /// Time of the acknowledgement.
    pub at: DateTime<Utc>,
    /// Expiry time; absent if the acknowledgement does not expire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
}

impl Incident {
    /// Creates an incident opened by `outcome`, with severity `warning` and without the details of the failure.
    pub fn opened(subject: Subject, sequence: u64, outcome: &Outcome) -> Self {
        Self {
            subject,
            sequence,
            name: outcome.name.clone(),
            tags: BTreeMap::new(),
            kind: outcome.kind.as_str().to_owned(),
            severity: Severity::Warning,
            location: outcome.location.clone(),
            opened_at: outcome.ended_at,
            began_at: None,
            opened_by: outcome.run,
            resolved_at: None,
            resolved_by: None,
            verdict: outcome.verdict,
            last_run: outcome.run,
            reason: None,
            message: None,
            step: None,
            place: None,
            difference: None,
            screenshot: None,
            runbook: None,
            bad_runs: 0,
            events: 0,
            receivers: Vec::new(),
            target: None,
            ending: None,
            ending_reason: None,
            unwatched: None,
            acknowledged: None,
        }
    }

    /// Creates an incident of an agent, which no run opened.
    pub fn of_agent(subject: Subject, sequence: u64, location: &str, now: DateTime<Utc>) -> Self {
        let none = RunId(uuid::Uuid::nil());
        Self {
            subject,
            sequence,
            name: format!("wachta at {location}"),
            tags: BTreeMap::new(),
            kind: "agent".into(),
            severity: Severity::Warning,
            location: location.to_owned(),
            opened_at: now,
            began_at: None,
            opened_by: none,
            resolved_at: None,
            resolved_by: None,
            verdict: Verdict::Unknown,
            last_run: none,
            reason: None,
            message: None,
            step: None,
            place: None,
            difference: None,
            screenshot: None,
            runbook: None,
            bad_runs: 0,
            events: 0,
            receivers: Vec::new(),
            target: None,
            ending: None,
            ending_reason: None,
            unwatched: None,
            acknowledged: None,
        }
    }

    /// Returns the dedup key without the identity of the store: `<group id>:<sequence>`.
    pub fn dedup_key(&self) -> String {
        format!("{}:{}", self.subject, self.sequence)
    }

    /// Returns a text like `open since 2027-01-15 08:00:00`. Called for every bad run, therefore without a format
    /// string that has to be parsed each time.
    pub fn since(&self) -> String {
        format!("open since {}", self.opened_at.naive_utc().trunc_subsecs(0))
    }

    /// Returns the time since which the subject is bad: the end of the first bad run.
    pub fn began(&self) -> DateTime<Utc> {
        self.began_at.unwrap_or(self.opened_at)
    }

    /// Returns whether the incident is still open.
    pub fn is_open(&self) -> bool {
        self.resolved_at.is_none()
    }
}

/// Event that a notification reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// The incident opened.
    Opened,
    /// The incident is still open, but changed: higher severity, another failure, flapping, or more incidents in its
    /// group.
    Updated,
    /// The incident is still open and unchanged, and a reminder is configured.
    Reminder,
    /// The incident resolved.
    Resolved,
    /// Summary of the notifications that the rate limit of the receiver suppressed.
    Digest,
}

impl Event {
    /// Returns the name used in the API and in exports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Updated => "updated",
            Self::Resolved => "resolved",
            Self::Reminder => "reminder",
            Self::Digest => "digest",
        }
    }
}

/// Another incident in the group of a notification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelatedIncident {
    /// Subject of the incident.
    pub subject: Subject,
    /// Name of the scenario.
    pub name: String,
    /// Severity of the incident.
    pub severity: Severity,
    /// Location of the outcomes.
    pub location: String,
    /// Name of the step that determined the verdict of the last bad run.
    pub step: Option<String>,
    /// Message of the last bad run.
    pub message: Option<Masked>,
    /// Opening time.
    pub opened_at: DateTime<Utc>,
    /// Time of resolving; absent while the incident is open.
    pub resolved_at: Option<DateTime<Utc>>,
    /// Last bad run.
    pub last_run: RunId,
    /// Cause of the end if the incident was not resolved by good runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<Ending>,
}

/// Notification of one event of a group to one receiver, queued by the commit that decided it until it is delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notification {
    /// `<dedup key>#<number of the event>@<receiver>`, the same after any crash.
    pub id: String,
    /// Name of the receiver.
    pub receiver: String,
    /// Reported event.
    pub event: Event,
    /// Dedup key of the group without the identity of the store: `<group id>:<sequence>`.
    pub key: String,
    /// Incident that represents the group, as of the event: the open incident with the highest severity, the first one
    /// among equals. For a resolved group, the incident that the dedup key belongs to.
    pub incident: Incident,
    /// Other incidents of the group, or those that a digest summarizes, highest severity first. Limited in number.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<RelatedIncident>,
    /// Number of further incidents of the group that are omitted from `others`.
    #[serde(default)]
    pub uncounted: usize,
    /// Change in a few words: `was timeout`, `warning became critical`, `is flapping: 6 changes in 10m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Dedup keys of the open incidents of which this digest is the first notification to its receiver.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub opens: Vec<String>,
    /// Time when the notification was queued.
    #[serde(alias = "owed_at")]
    pub queued_at: DateTime<Utc>,
    /// Identity of the originating store, a part of the dedup keys. Empty for keys that receivers have without it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub store: String,
    /// Whether an earlier attempt may have reached the receiver.
    #[serde(skip)]
    pub repeat: bool,
}

impl RelatedIncident {
    /// Creates the summary of an incident.
    pub fn of(incident: &Incident) -> Self {
        Self {
            subject: incident.subject.clone(),
            name: incident.name.clone(),
            severity: incident.severity,
            location: incident.location.clone(),
            step: incident.step.clone(),
            message: incident.message.clone(),
            opened_at: incident.opened_at,
            resolved_at: incident.resolved_at,
            last_run: incident.last_run,
            ending: incident.ending,
        }
    }
}

impl Notification {
    /// Creates a notification of the latest event of an incident.
    pub fn new(incident: &Incident, event: Event, receiver: &str, queued_at: DateTime<Utc>) -> Self {
        Self {
            id: format!("{}#{}@{receiver}", incident.dedup_key(), incident.events),
            receiver: receiver.to_owned(),
            event,
            key: incident.dedup_key(),
            incident: incident.clone(),
            others: Vec::new(),
            uncounted: 0,
            note: None,
            opens: Vec::new(),
            queued_at,
            store: String::new(),
            repeat: false,
        }
    }

    /// Sets the identity of the originating store, unless it is already set. The id of the notification is then unique
    /// among all stores.
    pub fn qualify(&mut self, store: &str) {
        if self.store.is_empty() && !store.is_empty() {
            store.clone_into(&mut self.store);
            self.id = format!("{store}/{}", self.id);
        }
    }

    /// Returns the keys of which this is the first notification to its receiver.
    pub fn opened_keys(&self) -> impl Iterator<Item = &str> {
        let own = (self.event == Event::Opened).then_some(self.key.as_str());
        own.into_iter().chain(self.opens.iter().map(String::as_str))
    }

    /// Returns the dedup key of the group as receivers have it: `<group id>:<sequence>@<store>`.
    pub fn dedup_key(&self) -> String {
        if self.store.is_empty() { self.key.clone() } else { format!("{}@{}", self.key, self.store) }
    }
}

/// Decision of the alert pipeline to notify or not. Stored if the reason differs from that of the last decision;
/// otherwise the count of the last one is increased.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Subject of the decision.
    pub subject: Subject,
    /// Bounded reason.
    #[serde(alias = "why")]
    pub reason: DecisionReason,
    /// Figures behind the reason: `1 bad of the last 2, 2 needed`.
    pub detail: String,
    /// Run that led to the decision; absent if no single run did.
    pub run: Option<RunId>,
    /// Time of the decision.
    pub at: DateTime<Utc>,
}

/// Bounded reason of a [`Decision`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecisionReason {
    /// A good run without an open incident.
    Good,
    /// A bad run, but at fewer locations than the quorum.
    Quorum,
    /// A bad run, but fewer than the threshold `alert.after`.
    #[serde(alias = "count")]
    BelowThreshold,
    /// The threshold of bad runs was reached and the incident opened.
    Opened,
    /// A bad run while the incident is already open.
    #[serde(alias = "repeat")]
    AlreadyOpen,
    /// A failed run raised the severity from `warning`.
    #[serde(alias = "raised")]
    SeverityRaised,
    /// A good run, but fewer than the recovery threshold `alert.recover_after`.
    Recovering,
    /// The recovery threshold of good runs was reached and the incident resolved.
    Resolved,
    /// The scenario was removed while its incident was open, which resolved the incident.
    Removed,
    /// The scenario was paused while its incident was open, which resolved the incident.
    Paused,
    /// The scenario file is unusable: the scenario is not monitored, and an open incident stays open.
    Unwatched,
    /// An `unknown` run: agent fault, without information about the target.
    #[serde(alias = "own_fault")]
    AgentFault,
    /// A failed run of a scenario that alerts on degraded runs only: neither good nor bad.
    Ignored,
    /// The incident opened; its group wait delays the notification.
    #[serde(alias = "waiting")]
    GroupWait,
    /// A notification of its own was queued. Whether it arrived is recorded with the notification.
    #[serde(alias = "told")]
    Notified,
    /// Included in a present or future notification of another incident with the same failure fingerprint.
    Grouped,
    /// Resolved before a notification was sent.
    #[serde(alias = "brief")]
    ResolvedEarly,
    /// The incident opens and resolves repeatedly: notified once, then suppressed until it is steady.
    Flapping,
    /// A dependency fails as well, or has to run first.
    Dependency,
    /// A maintenance window is active.
    Maintenance,
    /// A silence is active.
    Silence,
    /// The suppression ended; the next bad run causes a notification.
    Released,
    /// The incident is acknowledged: no reminders.
    Acknowledged,
    /// The incident was not acknowledged in time: further receivers are notified.
    Escalated,
    /// An operator resolved the incident.
    ByHand,
    /// The incident is still open, but changed, which causes an update.
    Changed,
    /// The rate limit of the receiver is exhausted: reported in its digest.
    #[serde(alias = "limited")]
    RateLimited,
    /// The incident is still open and unchanged: `alert.remind` causes a reminder.
    Reminded,
}

impl DecisionReason {
    /// Returns the name used in the API and in exports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Quorum => "quorum",
            Self::BelowThreshold => "below_threshold",
            Self::Opened => "opened",
            Self::AlreadyOpen => "already_open",
            Self::SeverityRaised => "severity_raised",
            Self::Recovering => "recovering",
            Self::Resolved => "resolved",
            Self::Removed => "removed",
            Self::Paused => "paused",
            Self::Unwatched => "unwatched",
            Self::AgentFault => "agent_fault",
            Self::Ignored => "ignored",
            Self::GroupWait => "group_wait",
            Self::Notified => "queued",
            Self::Grouped => "grouped",
            Self::ResolvedEarly => "resolved_early",
            Self::Flapping => "flapping",
            Self::Dependency => "dependency",
            Self::Maintenance => "maintenance",
            Self::Silence => "silence",
            Self::Released => "released",
            Self::Acknowledged => "acknowledged",
            Self::Escalated => "escalated",
            Self::ByHand => "by_hand",
            Self::Changed => "changed",
            Self::RateLimited => "rate_limited",
            Self::Reminded => "reminded",
        }
    }
}
