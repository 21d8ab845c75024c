//! Replay: sends past outcomes through the pipeline again with another configuration. Pure.
//!
//! Outcomes are fed in the order of their ends and gathered into commits like in the committer. Between them a tick
//! happens at every time at which the pipeline has something to do. A replay starts with an empty state some time
//! before the requested range, so that incidents open at its start are included; notifications before the range do not
//! count.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use super::burn_rate::HistoryRange;
use super::committer::{BATCH, GATHER};
use super::context::Scenarios;
use super::idle::Idle;
use super::pipeline::Pipeline;
use super::stages::flapping;
use crate::incident::{AlertCommand, Event, Incident, Mute, Notification, Subject};
use crate::notify::Alerting;
use crate::outcome::Outcome;
use crate::scenario::{Scenario, ScenarioId, Severity};
use crate::store::SlotCount;

/// Minimum time between the start of the replay and the start of the range, because rate limits and flapping depend on
/// hours of history.
const LEAD: TimeDelta = TimeDelta::days(1);
/// Maximum time difference of two notifications that count as the same one, because outcomes are always evaluated some
/// time after the end of the run.
const APART: TimeDelta = TimeDelta::minutes(1);

/// Returns the start of a replay: a day before the range or before the first incident that was open at its start.
/// Earlier if a scenario needs longer than that to open an incident and to resolve it.
pub fn begin<'a>(
    since: DateTime<Utc>,
    open: Option<DateTime<Utc>>,
    scenarios: impl IntoIterator<Item = &'a Scenario>,
) -> DateTime<Utc> {
    let cycles = scenarios.into_iter().map(|scenario| {
        let (policy, gap) = (&scenario.alert, scenario.schedule.shortest_gap(since));
        let runs = i32::try_from(policy.of.max(policy.after).saturating_add(policy.recover_after)).unwrap_or(i32::MAX);
        let by_gap = gap.and_then(|gap| TimeDelta::from_std(gap).ok()?.checked_mul(runs)).unwrap_or_default();
        by_gap.max(flapping::cycle(policy, gap))
    });
    let lead = cycles.fold(LEAD, TimeDelta::max);
    let first = open.map_or(since, |open| open.min(since));
    first.checked_sub_signed(lead).unwrap_or(DateTime::<Utc>::MIN_UTC)
}

/// Summary of a notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotificationSummary {
    /// Time when the notification was queued.
    pub at: DateTime<Utc>,
    /// Name of the receiver.
    pub receiver: String,
    /// Reported event.
    pub event: Event,
    /// Severity of the incident.
    pub severity: Severity,
    /// Subject of the incident that represents the group.
    pub subject: Subject,
    /// Subjects of the other listed incidents of the group.
    pub others: Vec<Subject>,
    /// Number of omitted incidents.
    pub uncounted: usize,
}

impl From<&Notification> for NotificationSummary {
    fn from(notification: &Notification) -> Self {
        let Notification { incident: Incident { severity, subject, .. }, .. } = notification;
        Self {
            at: notification.queued_at,
            receiver: notification.receiver.clone(),
            event: notification.event,
            severity: *severity,
            subject: subject.clone(),
            others: notification.others.iter().map(|other| other.subject.clone()).collect(),
            uncounted: notification.uncounted,
        }
    }
}

/// Result of a replay within its range.
#[derive(Debug, Default)]
pub struct ReplayResult {
    /// Notifications that would have been sent, in order.
    pub notifications: Vec<NotificationSummary>,
    /// Number of suppressed notifications by reason.
    pub suppressed: BTreeMap<&'static str, u64>,
    /// Number of runs of each scenario, including scenarios that the configuration lacks.
    pub runs: BTreeMap<ScenarioId, u64>,
}

/// A replay in progress.
#[derive(Debug)]
pub struct Replay {
    pipeline: Pipeline,
    since: DateTime<Utc>,
    /// Time of the last tick or commit.
    now: DateTime<Utc>,
    /// Outcomes of the next commit.
    gathered: Vec<Outcome>,
    /// Time of the next commit.
    commit_at: DateTime<Utc>,
    replayed: ReplayResult,
}

impl Replay {
    /// Starts a replay of the range that begins at `since`. Silences and maintenance windows by operators apply with
    /// their original times.
    pub fn new(
        location: &str,
        (alerting, scenarios): (Arc<Alerting>, Scenarios),
        mutes: impl IntoIterator<Item = Mute>,
        (begin, since): (DateTime<Utc>, DateTime<Utc>),
    ) -> Self {
        let mut pipeline = Pipeline::new(location);
        pipeline.set_alerting(alerting);
        pipeline.set_scenarios(scenarios, &Idle::default(), begin);
        for mute in mutes {
            // A mute that had already ended is rejected, which is correct here.
            let _ = pipeline.execute(AlertCommand::Mute(mute), begin);
        }
        Self { pipeline, since, now: begin, gathered: Vec::new(), commit_at: begin, replayed: ReplayResult::default() }
    }

    /// Returns a scenario with an objective whose history before the start has yet to be read, with the ranges to read.
    pub fn unread(&self) -> Option<(ScenarioId, Vec<HistoryRange>)> {
        self.pipeline.unread(self.now)
    }

    /// Adds the history of a scenario before the start, by the position of the window.
    pub fn read(&mut self, scenario: &ScenarioId, history: &[(usize, Vec<SlotCount>)]) {
        self.pipeline.read(scenario, history);
    }

    /// Adds an outcome. Outcomes have to be added in the order of their ends.
    pub fn outcome(&mut self, outcome: Outcome) {
        if outcome.ended_at >= self.since {
            *self.replayed.runs.entry(outcome.scenario.clone()).or_default() += 1;
        }
        if outcome.ended_at > self.commit_at || self.gathered.len() >= BATCH {
            self.commit();
        }
        if self.gathered.is_empty() {
            self.commit_at = self.now.max(outcome.ended_at) + GATHER;
        }
        self.gathered.push(outcome);
    }

    /// Processes the rest of the range and returns the result.
    pub fn finish(mut self, until: DateTime<Utc>) -> ReplayResult {
        self.commit();
        self.pass(until);
        self.replayed
    }

    /// Evaluates the gathered outcomes, then sends the notifications of all of them.
    fn commit(&mut self) {
        let Some(first) = self.gathered.first() else { return };
        self.pass(first.ended_at);
        self.now = self.commit_at;
        for outcome in std::mem::take(&mut self.gathered) {
            self.pipeline.process_outcome(&outcome, self.now);
        }
        self.pipeline.tick(self.now);
        self.take();
    }

    /// Advances the time, with a tick whenever the pipeline has something to do.
    fn pass(&mut self, until: DateTime<Utc>) {
        while let Some(next) = self.pipeline.next().filter(|next| *next <= until) {
            self.now = self.now.max(next);
            self.pipeline.tick(self.now);
            self.take();
        }
    }

    fn take(&mut self) {
        let effects = self.pipeline.effects();
        // Nothing is stored during a replay; the pipeline keeps its own state.
        drop(self.pipeline.take_changes());
        if self.now < self.since {
            return;
        }
        self.replayed.notifications.extend(effects.notifications.iter().map(NotificationSummary::from));
        for (reason, count) in effects.suppressed {
            *self.replayed.suppressed.entry(reason).or_default() += count;
        }
    }
}

/// Origin of a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiffKind {
    /// Sent with both configurations.
    Unchanged,
    /// Only sent with the original configuration.
    Removed,
    /// Only sent with the new configuration.
    Added,
}

/// Notification in the comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotificationDiff {
    /// Origin of the notification.
    pub mark: DiffKind,
    /// The notification. If both configurations have it, the one that was sent.
    pub notification: NotificationSummary,
    /// Additional delay with the new configuration.
    pub later: TimeDelta,
}

/// Compares the sent notifications with those of the replay, in order of time. Two are the same if they report the same
/// event of the same incidents to the same receiver with the same severity, at most a minute apart.
pub fn compare(then: Vec<NotificationSummary>, now: Vec<NotificationSummary>) -> Vec<NotificationDiff> {
    let key = |notification: &NotificationSummary| {
        let subjects: BTreeSet<Subject> = notification.others.iter().chain([&notification.subject]).cloned().collect();
        (
            notification.receiver.clone(),
            notification.event,
            notification.severity.as_str(),
            subjects,
            notification.uncounted,
        )
    };
    let mut wanted: HashMap<_, VecDeque<NotificationSummary>> = HashMap::new();
    for notification in now {
        wanted.entry(key(&notification)).or_default().push_back(notification);
    }
    let line = |mark, notification, later| NotificationDiff { mark, notification, later };
    let mut lines = Vec::new();
    for notification in then {
        let same = wanted.entry(key(&notification)).or_default();
        // Notifications too early for this one are too early for all that follow.
        while same.front().is_some_and(|early| early.at < notification.at - APART) {
            lines.extend(same.pop_front().map(|early| line(DiffKind::Added, early, TimeDelta::zero())));
        }
        let found =
            if same.front().is_some_and(|found| found.at <= notification.at + APART) { same.pop_front() } else { None };
        match found {
            Some(found) => {
                let later = found.at - notification.at;
                lines.push(line(DiffKind::Unchanged, notification, later));
            }
            None => lines.push(line(DiffKind::Removed, notification, TimeDelta::zero())),
        }
    }
    lines.extend(
        wanted.into_values().flatten().map(|notification| line(DiffKind::Added, notification, TimeDelta::zero())),
    );
    lines.sort_by(|a, b| {
        let order = |line: &NotificationDiff| (line.notification.at, line.mark == DiffKind::Added);
        let words = |line: &NotificationDiff| {
            (line.notification.receiver.clone(), line.notification.subject.clone(), line.notification.event.as_str())
        };
        order(a).cmp(&order(b)).then_with(|| words(a).cmp(&words(b)))
    });
    lines
}
