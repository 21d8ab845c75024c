//! What outcomes mean: incidents, the notices that tell of them, and the decisions that led to them.
//! Plain data; who decides is `alert`.

mod change;
mod matching;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, SubsecRound as _, Utc};
use serde::{Deserialize, Serialize};

use crate::names::Reason;
use crate::outcome::{Outcome, RunId, Verdict};
use crate::scenario::{ScenarioId, Severity};
use crate::secret::Masked;

pub use change::{Change, Transition};
pub use matching::{FORMS, Matcher, Matchers};

/// What begins the subject of an error budget.
const SLO: &str = "slo/";

/// What an incident is about: a scenario's id, `slo/<scenario>` for its error budget, or `agent/<location>`. No scenario
/// id contains a slash.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Subject(pub Arc<str>);

impl Subject {
    /// The agent itself.
    pub fn agent(location: &str) -> Self {
        Self(format!("agent/{location}").into())
    }

    /// The error budget of a scenario.
    pub fn slo(scenario: &ScenarioId) -> Self {
        Self(format!("{SLO}{scenario}").into())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is an agent and not a scenario.
    pub fn is_agent(&self) -> bool {
        self.0.starts_with("agent/")
    }

    /// The scenario whose error budget it is, if it is one.
    pub fn slo_of(&self) -> Option<&str> {
        self.0.strip_prefix(SLO)
    }

    /// The id of the scenario that it is about, itself or by its error budget; of an agent all of it.
    pub fn scenario(&self) -> &str {
        self.slo_of().unwrap_or(&self.0)
    }
}

impl From<&ScenarioId> for Subject {
    fn from(id: &ScenarioId) -> Self {
        Self(Arc::clone(&id.0))
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Something is wrong with one scenario, or with one agent, from opening to resolving.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// What it is about. While every group has one incident this is the group's id as well.
    pub subject: Subject,
    /// The how-manieth incident of its subject this is, from 1.
    pub opening: u64,
    /// The name people gave the scenario.
    pub name: String,
    /// The scenario's tags.
    pub tags: BTreeMap<String, String>,
    /// What the scenario mainly is: `browser`, `api`, `http` …; `agent` for an agent, `slo` for an
    /// error budget.
    pub kind: String,
    /// How loud it is.
    pub severity: Severity,
    /// Where the outcomes came from: all locations that saw it when it opened, sorted, with `, ` between them.
    pub location: String,
    /// When it opened: the end of the run that opened it.
    pub opened_at: DateTime<Utc>,
    /// The run that opened it.
    pub opened_by: RunId,
    /// When it resolved.
    pub resolved_at: Option<DateTime<Utc>>,
    /// The run that resolved it; none when the scenario was removed, or for an agent.
    pub resolved_by: Option<RunId>,
    /// The verdict of the last bad run.
    pub verdict: Verdict,
    /// The last bad run.
    pub last_run: RunId,
    /// The reason of the last bad run.
    pub reason: Option<Reason>,
    /// The message of the last bad run.
    pub message: Option<Masked>,
    /// The name of the step that decided the last bad run.
    pub step: Option<String>,
    /// `file.yaml:LINE:COLUMN` of what did not hold.
    pub place: Option<String>,
    /// What the last bad run did otherwise than the last good one, in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difference: Option<Masked>,
    /// The screenshot of the last bad run's failure: its path, relative to the evidence folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub screenshot: Option<String>,
    /// Where to read on, from the scenario's `alert.runbook`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runbook: Option<String>,
    /// Bad runs while it has been open, the opening one included.
    pub bad_runs: u64,
    /// How many events it has had that are told.
    pub events: u32,
    /// Who was told that it opened, and is told what follows.
    pub receivers: Vec<String>,
    /// The URL of the deciding step of the last bad run, or what the check names; without credentials and query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// How it ended, if not by good runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<Ending>,
    /// Who resolved it by hand, and why: `ania: known false alarm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending_reason: Option<String>,
    /// Why its scenario is not watched at present, while it is open. Nothing is known since the time given there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unwatched: Option<Unwatched>,
    /// Who works on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<Acknowledgement>,
}

/// How an incident ended, if not by good runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// Its scenario, objective or agent is gone: nobody looks any longer.
    Removed,
    /// Its scenario has `enabled: false`: nobody looks for now.
    Paused,
    /// A person resolved it by hand.
    ByHand,
}

impl Ending {
    /// The name others see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Removed => "removed",
            Self::Paused => "paused",
            Self::ByHand => "by_hand",
        }
    }

    /// What it means, for people.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Removed => "removed: no longer monitored",
            Self::Paused => "paused: not monitored for now",
            Self::ByHand => "resolved by hand",
        }
    }
}

/// Why a scenario is not watched although nobody removed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unwatched {
    /// The start of its last conclusive run; without one, when it was found not to be watched.
    pub since: DateTime<Utc>,
    /// The file or folder, and what is wrong with it.
    pub reason: String,
}

/// Somebody works on an incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// Who.
    pub author: String,
    /// Since when.
    pub at: DateTime<Utc>,
    /// When it expires, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
}

impl Incident {
    /// One that an outcome opens: a warning of its scenario, of which nothing is known yet.
    pub fn opened(subject: Subject, opening: u64, outcome: &Outcome) -> Self {
        Self {
            subject,
            opening,
            name: outcome.name.clone(),
            tags: BTreeMap::new(),
            kind: outcome.kind.as_str().to_owned(),
            severity: Severity::Warning,
            location: outcome.location.clone(),
            opened_at: outcome.ended_at,
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

    /// The incident of an agent that no run led to.
    pub fn of_agent(subject: Subject, opening: u64, location: &str, now: DateTime<Utc>) -> Self {
        let none = RunId(uuid::Uuid::nil());
        Self {
            subject,
            opening,
            name: format!("wachta at {location}"),
            tags: BTreeMap::new(),
            kind: "agent".into(),
            severity: Severity::Warning,
            location: location.to_owned(),
            opened_at: now,
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

    /// The key under which receivers know it: `<group id>:<opening>`.
    pub fn dedup_key(&self) -> String {
        format!("{}:{}", self.subject, self.opening)
    }

    /// `open since 2027-01-15 08:00:00`: said of every bad run, so it does without a format that is read each time.
    pub fn since(&self) -> String {
        format!("open since {}", self.opened_at.naive_utc().trunc_subsecs(0))
    }

    /// Whether it is still open.
    pub fn is_open(&self) -> bool {
        self.resolved_at.is_none()
    }
}

/// What a notice tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// The incident opened.
    Opened,
    /// It is still open, but otherwise than before: louder, another failure, flapping, more in its group.
    Updated,
    /// It is still open, unchanged, and somebody asked to be reminded.
    Reminder,
    /// It resolved.
    Resolved,
    /// What was held back because the receiver had had enough notices.
    Digest,
}

impl Event {
    /// The name others see.
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

/// Another incident of a notice's group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Affected {
    /// What it is about.
    pub subject: Subject,
    /// The name people gave the scenario.
    pub name: String,
    /// How loud it is.
    pub severity: Severity,
    /// Where the outcomes came from.
    pub location: String,
    /// The name of the step that decided its last bad run.
    pub step: Option<String>,
    /// The message of its last bad run.
    pub message: Option<Masked>,
    /// When it opened.
    pub opened_at: DateTime<Utc>,
    /// When it resolved.
    pub resolved_at: Option<DateTime<Utc>>,
    /// Its last bad run.
    pub last_run: RunId,
    /// How it ended, if not by good runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<Ending>,
}

/// One event of one group to one receiver: owed from the commit that decided it until it is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// `<dedup key>#<number of the event>@<receiver>`: the same after any crash.
    pub id: String,
    /// To whom.
    pub receiver: String,
    /// What happened.
    pub event: Event,
    /// The key under which the receiver knows the group: `<group id>:<opening>`.
    pub key: String,
    /// The incident that speaks for the group, as it was then: the loudest that is open, of equals the first; of a
    /// group that is over, the one that its key is of.
    pub incident: Incident,
    /// The other incidents of the group, of a digest those that were held, the loudest first. Bounded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Affected>,
    /// How many incidents of the group are not in `others`, because they are too many.
    #[serde(default)]
    pub uncounted: usize,
    /// What is new, in a few words: `was timeout`, `warning became critical`, `is flapping: 6 changes in 10m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The keys of the open incidents of which a digest is the first notice that its receiver gets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub opens: Vec<String>,
    /// Since when it is owed.
    pub owed_at: DateTime<Utc>,
    /// The identity of the store that it comes from, which its keys carry; empty for what receivers know without one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub store: String,
    /// Whether an earlier try may have reached the receiver.
    #[serde(skip)]
    pub repeat: bool,
}

impl Affected {
    /// An incident in few words.
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

impl Notice {
    /// A notice of the incident's latest event.
    pub fn new(incident: &Incident, event: Event, receiver: &str, owed_at: DateTime<Utc>) -> Self {
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
            owed_at,
            store: String::new(),
            repeat: false,
        }
    }

    /// Notes the identity of the store that it comes from, once. Its id is that of no other store's notice then.
    pub fn qualify(&mut self, store: &str) {
        if self.store.is_empty() && !store.is_empty() {
            store.clone_into(&mut self.store);
            self.id = format!("{store}/{}", self.id);
        }
    }

    /// Returns the keys of which it is the first notice that its receiver gets.
    pub fn opened_keys(&self) -> impl Iterator<Item = &str> {
        let own = (self.event == Event::Opened).then_some(self.key.as_str());
        own.into_iter().chain(self.opens.iter().map(String::as_str))
    }

    /// The dedup key under which receivers know the group: `<group id>:<opening>@<store>`.
    pub fn dedup_key(&self) -> String {
        if self.store.is_empty() { self.key.clone() } else { format!("{}@{}", self.key, self.store) }
    }
}

/// Why something was told, or why not. Kept when its reason changes; otherwise the last one counts up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// About what.
    pub subject: Subject,
    /// The bounded reason.
    pub why: Why,
    /// The figures behind it: `1 bad of the last 2, 2 needed`.
    pub detail: String,
    /// The run that it was decided for.
    pub run: Option<RunId>,
    /// When.
    pub at: DateTime<Utc>,
}

/// The bounded reason of a [`Decision`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Good, and nothing was wrong.
    Good,
    /// Bad, but at fewer locations than have to agree.
    Quorum,
    /// Bad, but not as often as `alert.after` asks for.
    Count,
    /// Bad often enough: opened.
    Opened,
    /// Bad, and open already.
    Repeat,
    /// A failed run made a warning louder.
    Raised,
    /// Good, but not as often as `alert.recover_after` asks for.
    Recovering,
    /// Good often enough: resolved.
    Resolved,
    /// The scenario was removed while its incident was open: resolved.
    Removed,
    /// The scenario was paused while its incident was open: resolved.
    Paused,
    /// Its file cannot be used: nobody looks, and what is open stays open.
    Unwatched,
    /// `unknown`: says nothing of the target.
    OwnFault,
    /// Failed, where only degraded runs are to alert: neither good nor bad.
    Ignored,
    /// Opened, and its group gathers others before it is told.
    Waiting,
    /// Queued, in a notice of its own. Whether it has arrived is what the notice says.
    Told,
    /// Told in the notice of another incident with the same cause, or to be.
    Grouped,
    /// Over before anyone was told.
    Brief,
    /// Opens and resolves over and over: told once, then quiet until it is steady.
    Flapping,
    /// A scenario that it depends on fails as well, or is looked at first.
    Dependency,
    /// A window of maintenance is open.
    Maintenance,
    /// Somebody silenced it.
    Silence,
    /// What held it is over: told if it is bad once more.
    Released,
    /// Somebody has taken it over: no reminders.
    Acknowledged,
    /// Nobody has acknowledged it in time: others are told as well.
    Escalated,
    /// A person resolved it by hand.
    ByHand,
    /// Still open, but otherwise than before: told as an update.
    Changed,
    /// Its receiver was told as often as it wants to be within an hour: in its digest.
    Limited,
    /// Still open, unchanged, and told again because `alert.remind` asks for it.
    Reminded,
}

impl Why {
    /// The name others see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Quorum => "quorum",
            Self::Count => "count",
            Self::Opened => "opened",
            Self::Repeat => "repeat",
            Self::Raised => "raised",
            Self::Recovering => "recovering",
            Self::Resolved => "resolved",
            Self::Removed => "removed",
            Self::Paused => "paused",
            Self::Unwatched => "unwatched",
            Self::OwnFault => "own_fault",
            Self::Ignored => "ignored",
            Self::Waiting => "waiting",
            Self::Told => "queued",
            Self::Grouped => "grouped",
            Self::Brief => "brief",
            Self::Flapping => "flapping",
            Self::Dependency => "dependency",
            Self::Maintenance => "maintenance",
            Self::Silence => "silence",
            Self::Released => "released",
            Self::Acknowledged => "acknowledged",
            Self::Escalated => "escalated",
            Self::ByHand => "by_hand",
            Self::Changed => "changed",
            Self::Limited => "limited",
            Self::Reminded => "reminded",
        }
    }
}
