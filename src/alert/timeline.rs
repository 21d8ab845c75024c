//! Player of timelines of the whole pipeline, as tables: outcomes in, notifications out, and no others.
//!
//! The time is that of the table. Every timeline is run twice: without restarts, and with a restart after every outcome
//! and tick, which reveals state that is not stored.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::fixtures::{Nothing, at, outcome};
use super::idle::Idle;
use super::pipeline::Pipeline;
use crate::incident::{AlertCommand, Mute, Notification, Subject};
use crate::names::suppressed;
use crate::notify::{Alerting, Receiver, Route};
use crate::outcome::Outcome;
use crate::scenario::load;

/// Parses routes given as `match > receivers / group_by / wait`: `severity=critical > a,b / team / 0`.
pub(super) fn alerting(routes: &[&str]) -> Alerting {
    let words = |text: &str| text.split(',').map(str::trim).filter(|w| !w.is_empty()).map(str::to_owned).collect();
    let route = |line: &&str| {
        let (matches, rest) = line.split_once('>').expect("match > …");
        let mut parts = rest.split('/').map(str::trim);
        let matches: Vec<String> = words(matches);
        let pair = |pair: String| pair.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())).expect("k=v");
        Route {
            matches: matches.into_iter().map(pair).collect(),
            to: words(parts.next().expect("receivers")),
            group_by: words(parts.next().unwrap_or_default()),
            group_wait: parts.next().map(|seconds| Duration::from_secs(seconds.parse().expect("seconds"))),
            ..Route::default()
        }
    };
    let receivers = if routes.is_empty() { &["a"][..] } else { &[] };
    let receiver = |name: &&str| Receiver { name: (*name).to_owned(), ..Receiver::default() };
    Alerting {
        receivers: receivers.iter().map(receiver).collect(),
        routes: routes.iter().map(route).collect(),
        ..Alerting::default()
    }
}

/// Parses a time: `90s`, `3m`, `1h`.
pub(super) fn second(text: &str) -> i64 {
    let (number, unit) = text.split_at(text.len() - 1);
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        other => panic!("no unit is called {other}"),
    };
    number.parse::<i64>().expect("a number") * unit
}

fn clock(now: DateTime<Utc>) -> String {
    let seconds = (now - at(0)).num_seconds();
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

/// Formats a notification: `receiver event key severity +others (note)`.
fn shown(notification: &Notification) -> String {
    let mut line = format!(
        "{} {} {} {}",
        notification.receiver,
        notification.event.as_str(),
        notification.key,
        notification.incident.severity.as_str()
    );
    if notification.incident.dedup_key() != notification.key {
        let _ = write!(line, " by {}", notification.incident.dedup_key());
    }
    if !notification.others.is_empty() {
        let names: Vec<String> = notification.others.iter().map(|other| other.subject.to_string()).collect();
        let _ = write!(line, " +{}", names.join(","));
    }
    if notification.uncounted > 0 {
        let _ = write!(line, " and {}", notification.uncounted);
    }
    if let Some(note) = &notification.note {
        let _ = write!(line, " ({note})");
    }
    line
}

/// The pipeline, its clock, and the store for restarts.
pub(super) struct Run {
    pub(super) pipeline: Pipeline,
    pub(super) restarts: bool,
    location: String,
    alert_states: BTreeMap<Subject, serde_json::Value>,
    pub(super) memory: BTreeMap<String, serde_json::Value>,
    pub(super) alerting: Alerting,
    pub(super) checks: String,
    pub(super) idle: Idle,
    pub(super) sent: Vec<String>,
    pub(super) notifications: Vec<Notification>,
    ids: Vec<String>,
    pub(super) suppressed: BTreeMap<&'static str, u64>,
    pub(super) looked: Vec<String>,
    /// Decisions: `time subject reason: figures`.
    pub(super) decided: Vec<String>,
    /// Changes of the wall clock, next one first: elapsed time and amount.
    pub(super) jumps: Vec<(DateTime<Utc>, TimeDelta)>,
    /// Total change of the clock so far. Displayed times are elapsed time.
    set_by: TimeDelta,
}

impl Run {
    pub(super) fn new(checks: &str, routes: &[&str], restarts: bool) -> Self {
        let mut run = Self {
            pipeline: Pipeline::new("here"),
            restarts,
            location: "here".to_owned(),
            alert_states: BTreeMap::new(),
            memory: BTreeMap::new(),
            alerting: alerting(routes),
            checks: checks.to_owned(),
            idle: Idle::default(),
            sent: Vec::new(),
            notifications: Vec::new(),
            ids: Vec::new(),
            suppressed: BTreeMap::new(),
            looked: Vec::new(),
            decided: Vec::new(),
            jumps: Vec::new(),
            set_by: TimeDelta::zero(),
        };
        run.load(at(0));
        run
    }

    pub(super) fn load(&mut self, now: DateTime<Utc>) {
        let loaded = load("checks.yaml", &format!("checks:\n{}", self.checks), &Nothing);
        assert_eq!(loaded.diagnostics, [], "{}", self.checks);
        let scenarios = loaded.scenarios.into_iter().map(|scenario| (scenario.id.value.clone(), scenario));
        self.pipeline.set_alerting(Arc::new(self.alerting.clone()));
        self.pipeline.set_scenarios(Arc::new(scenarios.collect()), &self.idle, now);
    }

    /// Stores the effects, and restarts from the stored state if configured.
    pub(super) fn write(&mut self, now: DateTime<Utc>) {
        let effects = self.pipeline.effects();
        for notification in &effects.notifications {
            self.sent.push(format!("{} {}", clock(now - self.set_by), shown(notification)));
            assert!(!self.ids.contains(&notification.id), "{} was queued twice", notification.id);
            self.ids.push(notification.id.clone());
            self.notifications.push(notification.clone());
        }
        for decision in effects.decisions {
            let (subject, why) = (&decision.subject, decision.reason.as_str());
            self.decided.push(format!("{} {subject} {why}: {}", clock(now - self.set_by), decision.detail));
        }
        for (reason, count) in effects.suppressed {
            assert!(suppressed::ALL.contains(&reason), "{reason}");
            *self.suppressed.entry(reason).or_default() += count;
        }
        self.looked.extend(effects.run_now.iter().map(|id| format!("{} {id}", clock(now - self.set_by))));
        for subject in effects.alert_states {
            self.alert_states.insert(subject.clone(), self.pipeline.alert_state(&subject));
        }
        for (key, body) in self.pipeline.take_changes() {
            match body {
                Some(body) => self.memory.insert(key, body),
                None => self.memory.remove(&key),
            };
        }
        if self.restarts {
            let open = self.pipeline.open().clone();
            self.restart(now);
            assert_eq!(*self.pipeline.open(), open, "open incidents are counted");
        }
    }

    /// Restarts from the stored state.
    pub(super) fn restart(&mut self, now: DateTime<Utc>) {
        self.pipeline = Pipeline::new(&self.location);
        let (alert_states, memory) = (self.alert_states.clone().into_iter(), self.memory.clone().into_iter());
        self.pipeline.restore(alert_states.collect(), memory.collect()).expect("reads back");
        assert_eq!(self.pipeline.restored(now), None, "nothing that happened lies in the future: {:#?}", self.pipeline);
        self.load(now);
    }

    /// Restarts with a clock that was set back.
    pub(super) fn restart_at(&mut self, now: DateTime<Utc>) {
        self.pipeline = Pipeline::new(&self.location);
        let (alert_states, memory) = (self.alert_states.clone().into_iter(), self.memory.clone().into_iter());
        self.pipeline.restore(alert_states.collect(), memory.collect()).expect("reads back");
        self.pipeline.restored(now).expect("what happened lies in the future");
        self.load(now);
    }

    /// Restarts under another name of the location.
    pub(super) fn rename(&mut self, location: &str, now: DateTime<Utc>) {
        location.clone_into(&mut self.location);
        self.restart(now);
        self.write(now);
    }

    /// Advances the elapsed time, with a tick whenever the pipeline requests one.
    pub(super) fn until(&mut self, passing: DateTime<Utc>) {
        while let Some((at, by)) = self.jumps.first().copied().filter(|(at, _)| *at <= passing) {
            self.jumps.remove(0);
            self.ticks(at - TimeDelta::milliseconds(1) + self.set_by);
            self.set_by += by;
            self.pipeline.clock_set(by, at + self.set_by);
            self.write(at + self.set_by);
        }
        self.ticks(passing + self.set_by);
    }

    /// Advances the clock, with a tick whenever the pipeline requests one.
    pub(super) fn ticks(&mut self, now: DateTime<Utc>) {
        while let Some(next) = self.pipeline.next().filter(|next| *next <= now) {
            self.pipeline.tick(next);
            self.write(next);
            assert!(self.pipeline.next().is_none_or(|after| after > next), "a tick leaves nothing behind");
        }
    }

    /// Executes an operator command.
    pub(super) fn ask(&mut self, time: &str, request: AlertCommand) -> Result<String, String> {
        let now = at(second(time));
        self.until(now - TimeDelta::milliseconds(1));
        let now = now + self.set_by;
        let request = match request {
            AlertCommand::Mute(mute) => {
                AlertCommand::Mute(Mute { from: mute.from + self.set_by, until: mute.until + self.set_by, ..mute })
            }
            other => other,
        };
        let answer = self.pipeline.execute(request, now);
        self.pipeline.tick(now);
        self.write(now);
        answer
    }

    /// Plays lines of `time scenarios letters`: one run of each scenario per minute, `.` for none. Outcomes of the same
    /// second are one commit.
    pub(super) fn play(&mut self, lines: &str, until: &str) {
        let mut events: BTreeMap<i64, Vec<(String, char)>> = BTreeMap::new();
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [time, ids, letters] = words[..] else { panic!("time scenarios letters: {line}") };
            for (n, letter) in (0..).zip(letters.chars()).filter(|(_, letter)| *letter != '.') {
                let at = second(time) + n * 60;
                events.entry(at).or_default().extend(ids.split(',').map(|id| (id.to_owned(), letter)));
            }
        }
        for (time, outcomes) in events {
            let now = at(time);
            self.until(now - TimeDelta::milliseconds(1));
            let now = now + self.set_by;
            for (id, letter) in outcomes {
                let outcome = Outcome { started_at: now, ended_at: now, ..outcome(&id, letter, time) };
                self.pipeline.process_outcome(&outcome, now);
            }
            self.pipeline.tick(now);
            self.write(now);
        }
        self.until(at(second(until)));
    }
}

/// Returns checks with one policy each, all of one host: `shop, blog` and `after: 2`.
pub(super) fn checks(ids: &str, policy: &str) -> String {
    ids.split(',')
        .map(|id| format!("  {}: {{http: \"http://shop/\", tags: {{team: web}}, alert: {{{policy}}}}}\n", id.trim()))
        .collect()
}

/// Checks all notifications of a timeline.
#[track_caller]
pub(super) fn check(checks: &str, routes: &[&str], lines: &str, until: &str, expected: &[&str]) {
    for restarts in [false, true] {
        let mut run = Run::new(checks, routes, restarts);
        run.play(lines, until);
        assert_eq!(run.sent, expected, "with restarts: {restarts}\n{lines}");
    }
}

pub(super) const WAIT: &str = "> a / / 30";
pub(super) const AT_ONCE: &str = "> a / / 0";

/// A gateway, and a shop behind it.
pub(super) const BEHIND: &str = "  gate: {tcp: \"gate:1\", alert: {after: 1, recover_after: 1}}\n  \
                      shop: {http: \"http://shop/\", alert: {after: 1, recover_after: 1, depends_on: [gate]}}\n";

/// Returns the command that adds a silence.
pub(super) fn mute(matches: &[(&str, &str)], from: &str, until: &str) -> AlertCommand {
    AlertCommand::Mute(Mute {
        id: "m1".into(),
        maintenance: false,
        matches: matches.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        from: at(second(from)),
        until: at(second(until)),
        during: None,
        author: "ania".into(),
        reason: "known".into(),
        confirmed: true,
    })
}
