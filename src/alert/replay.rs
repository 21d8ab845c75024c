//! A replay: runs that were judged before go through the pipeline once more, with other files. Pure.
//!
//! Runs come in the order of their ends and are gathered into commits as the committer does it, and between them time
//! passes: at every point in time at which the pipeline has something to do there is a tick. It begins with an empty
//! memory some time before the span that is looked at, so that what was open then is known; what it would have told
//! before the span counts for nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use super::burn::Span;
use super::committer::{BATCH, GATHER};
use super::flapping;
use super::mute::Mute;
use super::pipeline::{Idle, Pipeline, Request, Scenarios};
use crate::incident::{Event, Incident, Notice, Subject};
use crate::notify::Alerting;
use crate::outcome::Outcome;
use crate::scenario::{Scenario, ScenarioId, Severity};
use crate::store::Tally;

/// How long before the span it begins at least: limits and flapping look back for hours.
const LEAD: TimeDelta = TimeDelta::days(1);
/// Notices at most so far apart are the same one: runs never end at exactly the time at which they are judged.
const APART: TimeDelta = TimeDelta::minutes(1);

/// When a replay of a span begins: a day before it, or before the first incident that was open when it began; earlier
/// where a scenario takes longer than that to open an incident and to resolve it.
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

/// A notice in few words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// When it became owed.
    pub at: DateTime<Utc>,
    /// To whom.
    pub receiver: String,
    /// What happened.
    pub event: Event,
    /// How loud it is.
    pub severity: Severity,
    /// What speaks for the group.
    pub subject: Subject,
    /// The others of the group that are listed.
    pub others: Vec<Subject>,
    /// How many are not listed.
    pub uncounted: usize,
}

impl From<&Notice> for Told {
    fn from(notice: &Notice) -> Self {
        let Notice { incident: Incident { severity, subject, .. }, .. } = notice;
        Self {
            at: notice.owed_at,
            receiver: notice.receiver.clone(),
            event: notice.event,
            severity: *severity,
            subject: subject.clone(),
            others: notice.others.iter().map(|other| other.subject.clone()).collect(),
            uncounted: notice.uncounted,
        }
    }
}

/// What a replay led to within its span.
#[derive(Debug, Default)]
pub struct Replayed {
    /// What would have been told, in order.
    pub told: Vec<Told>,
    /// What would not have been told, by reason.
    pub suppressed: BTreeMap<&'static str, u64>,
    /// How many runs there were of each scenario, also of those that the files do not have.
    pub runs: BTreeMap<ScenarioId, u64>,
}

/// A replay that goes on.
#[derive(Debug)]
pub struct Replay {
    pipeline: Pipeline,
    since: DateTime<Utc>,
    /// The time of the last tick or commit.
    now: DateTime<Utc>,
    /// What goes into the next commit.
    gathered: Vec<Outcome>,
    /// When that is.
    commit_at: DateTime<Utc>,
    replayed: Replayed,
}

impl Replay {
    /// Begins one, for the span that begins at `since`. Silences and maintenance that people asked for hold from the
    /// times they were asked for with.
    pub fn new(
        location: &str,
        (alerting, scenarios): (Arc<Alerting>, Scenarios),
        mutes: impl IntoIterator<Item = Mute>,
        (begin, since): (DateTime<Utc>, DateTime<Utc>),
    ) -> Self {
        let mut pipeline = Pipeline::new(location);
        pipeline.alerting(alerting);
        pipeline.scenarios(scenarios, &Idle::default(), begin);
        for mute in mutes {
            // One that was over by then says nothing.
            let _ = pipeline.request(Request::Mute(mute), begin);
        }
        Self { pipeline, since, now: begin, gathered: Vec::new(), commit_at: begin, replayed: Replayed::default() }
    }

    /// A scenario with an objective whose runs before the beginning are still to be read, and which.
    pub fn unread(&self) -> Option<(ScenarioId, Vec<Span>)> {
        self.pipeline.unread(self.now)
    }

    /// The runs of a scenario before the beginning, by the position of the window.
    pub fn read(&mut self, scenario: &ScenarioId, history: &[(usize, Vec<Tally>)]) {
        self.pipeline.read(scenario, history);
    }

    /// A run. They come in the order of their ends.
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

    /// Lets the rest of the time pass. Gives what it led to.
    pub fn finish(mut self, until: DateTime<Utc>) -> Replayed {
        self.commit();
        self.pass(until);
        self.replayed
    }

    /// What is gathered is judged, and then told: as one.
    fn commit(&mut self) {
        let Some(first) = self.gathered.first() else { return };
        self.pass(first.ended_at);
        self.now = self.commit_at;
        for outcome in std::mem::take(&mut self.gathered) {
            self.pipeline.outcome(&outcome, self.now);
        }
        self.pipeline.tick(self.now);
        self.take();
    }

    /// Time passes, with a tick whenever the pipeline has something to do.
    fn pass(&mut self, until: DateTime<Utc>) {
        while let Some(next) = self.pipeline.next().filter(|next| *next <= until) {
            self.now = self.now.max(next);
            self.pipeline.tick(self.now);
            self.take();
        }
    }

    fn take(&mut self) {
        let effects = self.pipeline.effects();
        // What is to be kept of it is kept by the pipeline itself.
        drop(self.pipeline.memory());
        if self.now < self.since {
            return;
        }
        self.replayed.told.extend(effects.notices.iter().map(Told::from));
        for (reason, count) in effects.suppressed {
            *self.replayed.suppressed.entry(reason).or_default() += count;
        }
    }
}

/// Who told a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// It was told, and would be.
    Same,
    /// It was told, and would not be.
    Then,
    /// It was not told, and would be.
    Now,
}

/// A notice of either.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Of which.
    pub mark: Mark,
    /// The notice, where both have it as it was told.
    pub told: Told,
    /// How much later it would be told.
    pub later: TimeDelta,
}

/// Puts what was told beside what would be, in order of time. The same are notices of the same event about the same
/// incidents to the same receiver, equally loud and at most a minute apart.
pub fn compare(then: Vec<Told>, now: Vec<Told>) -> Vec<Line> {
    let key = |told: &Told| {
        let subjects: BTreeSet<Subject> = told.others.iter().chain([&told.subject]).cloned().collect();
        (told.receiver.clone(), told.event, told.severity.as_str(), subjects, told.uncounted)
    };
    let mut wanted: HashMap<_, VecDeque<Told>> = HashMap::new();
    for told in now {
        wanted.entry(key(&told)).or_default().push_back(told);
    }
    let line = |mark, told, later| Line { mark, told, later };
    let mut lines = Vec::new();
    for told in then {
        let same = wanted.entry(key(&told)).or_default();
        // Those that are too early for this one are too early for all that follow.
        while same.front().is_some_and(|early| early.at < told.at - APART) {
            lines.extend(same.pop_front().map(|early| line(Mark::Now, early, TimeDelta::zero())));
        }
        let found = if same.front().is_some_and(|found| found.at <= told.at + APART) { same.pop_front() } else { None };
        match found {
            Some(found) => {
                let later = found.at - told.at;
                lines.push(line(Mark::Same, told, later));
            }
            None => lines.push(line(Mark::Then, told, TimeDelta::zero())),
        }
    }
    lines.extend(wanted.into_values().flatten().map(|told| line(Mark::Now, told, TimeDelta::zero())));
    lines.sort_by(|a, b| {
        let order = |line: &Line| (line.told.at, line.mark == Mark::Now);
        let words = |line: &Line| (line.told.receiver.clone(), line.told.subject.clone(), line.told.event.as_str());
        order(a).cmp(&order(b)).then_with(|| words(a).cmp(&words(b)))
    });
    lines
}
