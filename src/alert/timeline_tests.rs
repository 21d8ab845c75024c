//! Timelines of the whole pipeline as tables: outcomes in, notifications out, and no others.
//!
//! The time is that of the table. Every timeline is run twice: without restarts, and with a restart after every outcome
//! and tick, which reveals state that is not stored.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::fixtures::{Nothing, at, outcome};
use super::pipeline::{Idle, Pipeline};
use crate::incident::{AlertCommand, Matchers, Mute, Notification, Subject};
use crate::names::suppressed;
use crate::notify::{Alerting, Begins, Receiver, Route, Window};
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
    restarts: bool,
    location: String,
    alert_states: BTreeMap<Subject, serde_json::Value>,
    pub(super) memory: BTreeMap<String, serde_json::Value>,
    pub(super) alerting: Alerting,
    pub(super) checks: String,
    pub(super) idle: Idle,
    pub(super) told: Vec<String>,
    pub(super) notifications: Vec<Notification>,
    ids: Vec<String>,
    pub(super) suppressed: BTreeMap<&'static str, u64>,
    looked: Vec<String>,
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
            told: Vec::new(),
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
        self.pipeline.alerting(Arc::new(self.alerting.clone()));
        self.pipeline.scenarios(Arc::new(scenarios.collect()), &self.idle, now);
    }

    /// Stores the effects, and restarts from the stored state if configured.
    pub(super) fn write(&mut self, now: DateTime<Utc>) {
        let effects = self.pipeline.effects();
        for notification in &effects.notifications {
            self.told.push(format!("{} {}", clock(now - self.set_by), shown(notification)));
            assert!(!self.ids.contains(&notification.id), "{} was owed twice", notification.id);
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
        self.looked.extend(effects.look.iter().map(|id| format!("{} {id}", clock(now - self.set_by))));
        for subject in effects.alert_states {
            self.alert_states.insert(subject.clone(), self.pipeline.watch(&subject));
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
        let answer = self.pipeline.request(request, now);
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
                self.pipeline.outcome(&outcome, now);
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
        assert_eq!(run.told, expected, "with restarts: {restarts}\n{lines}");
    }
}

pub(super) const WAIT: &str = "> a / / 30";
pub(super) const AT_ONCE: &str = "> a / / 0";

#[test]
fn one_incident_is_told_once() {
    let shop = checks("shop", "after: 3");
    check(&shop, &[AT_ONCE], "1m shop FFF", "5h", &["3:00 a opened shop:1 warning"]);
    check(&shop, &[WAIT], "1m shop FFFFFF", "5h", &["3:30 a opened shop:1 warning"]);
    // Default group wait: half a minute, none for critical incidents.
    check(&shop, &[], "1m shop FFF", "1h", &["3:30 a opened shop:1 warning"]);
    let critical = checks("shop", "after: 3, severity: critical");
    check(&critical, &[], "1m shop FFF", "1h", &["3:00 a opened shop:1 critical"]);
    check(&critical, &["> a"], "1m shop FFF", "1h", &["3:00 a opened shop:1 critical"]);
    // Repeated failures are one incident; after it resolved, a second one has another key.
    let twice = &["2:00 a opened shop:1 warning", "6:00 a resolved shop:1 warning", "8:00 a opened shop:2 warning"];
    check(
        &checks("shop", ""),
        &[AT_ONCE],
        "1m shop FFFFPPFF",
        "1h",
        &[twice[0], "6:00 a resolved shop:1 warning", twice[2]],
    );
    // Resolved within the group wait: no notification.
    check(&checks("shop", "after: 1, recover_after: 1"), &["> a / / 90"], "1m shop FPPPFP", "1h", &[]);
}

#[test]
fn a_burst_is_one_notification() {
    let three = checks("shop,blog,news", "after: 1, recover_after: 1");
    // Within the group wait: one notification, and one for the resolution of all of them.
    check(
        &three,
        &[WAIT],
        "60s shop FFP\n70s blog FFFP\n80s news FFP",
        "1h",
        &["1:30 a opened shop:1 warning +blog,news", "4:10 a resolved shop:1 warning +blog,news"],
    );
    // An incident that resolves within the group wait is not notified; the others are.
    check(&three, &["> a / / 90"], "60s shop FPP\n70s blog FFF", "1h", &["2:30 a opened shop:1 warning by blog:1"]);
    // Later incidents are collected: half a minute after the first notification, then every five minutes.
    check(
        &checks("shop,blog,news,docs,jobs", "after: 1"),
        &[AT_ONCE],
        "60s shop F\n61s blog F\n80s news F\n100s docs F\n110s jobs F",
        "1h",
        &[
            "1:00 a opened shop:1 warning",
            "1:30 a updated shop:1 warning +blog,news (2 more, 3 in all)",
            "6:30 a updated shop:1 warning +blog,news,docs,jobs (2 more, 5 in all)",
        ],
    );
    // An incident that joined and resolved before its notification is not notified.
    check(&three, &[AT_ONCE], "60s shop FFF\n61s blog F\n80s blog P", "1h", &["1:00 a opened shop:1 warning"]);
    // In one commit, at once.
    check(
        &checks("shop,blog,news", "after: 1, severity: critical"),
        &[],
        "60s shop,blog,news F\n120s shop,blog,news PP",
        "1h",
        &["1:00 a opened shop:1 critical +blog,news", "3:00 a resolved shop:1 critical +blog,news"],
    );
}

#[test]
fn five_thousand_at_once_are_one_notification_for_each_receiver() {
    let ids: Vec<String> = (0..5000).map(|n| format!("s{n:04}")).collect();
    let all = ids.join(",");
    for (policy, opened, rest) in [
        ("after: 1, recover_after: 1", "1:30", None),
        ("after: 1, recover_after: 1, severity: critical", "1:00", None),
        ("after: 1, recover_after: 1, severity: critical", "1:00", Some("61s")),
    ] {
        let mut run = Run::new(&checks(&all, policy), &["> a,b"], false);
        match rest {
            None => run.play(&format!("60s {all} FFFFP"), "1h"),
            // The storm is split into two commits.
            Some(time) => {
                let (first, second) = (ids[..500].join(","), ids[500..].join(","));
                run.play(&format!("60s {first} FFFFP\n{time} {second} FFFFP"), "1h");
            }
        }
        let events: Vec<String> =
            run.told.iter().map(|line| line.split(" +").next().unwrap_or_default().into()).collect();
        let severity = if policy.contains("critical") { "critical" } else { "warning" };
        let mut expected = Vec::new();
        for (time, event) in [(opened, "opened"), ("1:30", "updated"), ("5:00", "resolved")] {
            if event == "updated" && rest.is_none() {
                continue;
            }
            let time = if rest.is_some() && event == "resolved" { "5:01" } else { time };
            expected.extend(["a", "b"].map(|to| format!("{time} {to} {event} s0000:1 {severity}")));
        }
        assert_eq!(events, expected);
        assert!(
            run.told[0].ends_with(if rest.is_some() { "s0050 and 449" } else { "s0050 and 4949" }),
            "{}",
            run.told[0]
        );
        assert_eq!(run.suppressed[suppressed::GROUPED], 4999, "{:?}", run.suppressed);
        run.memory.remove("location");
        assert_eq!(run.memory, BTreeMap::new(), "nothing is left of what is over");
    }
}

#[test]
fn a_cause_of_its_own_is_a_notification_of_its_own() {
    let two = checks("shop,blog,news", "after: 1, recover_after: 1");
    check(
        &two,
        &[AT_ONCE],
        "60s shop FFF\n70s blog CCC\n80s news F",
        "2m",
        &[
            "1:00 a opened shop:1 warning",
            "1:10 a opened blog:1 warning",
            "1:30 a updated shop:1 warning +news (1 more, 2 in all)",
        ],
    );
    // Other values of `group_by`, or other receivers, form another group.
    let teams = "  shop: {http: \"http://shop/\", tags: {team: web}, alert: {after: 1}}\n  \
                 blog: {http: \"http://shop/\", tags: {team: docs}, alert: {after: 1}}\n  \
                 news: {http: \"http://shop/\", alert: {after: 1}}\n";
    let lines = "60s shop,blog,news F";
    check(teams, &["> a / / 0"], lines, "1h", &["1:00 a opened shop:1 warning +blog,news"]);
    let apart = &["1:00 a opened news:1 warning", "1:00 a opened blog:1 warning", "1:00 a opened shop:1 warning"];
    check(teams, &["> a / team / 0"], lines, "1h", apart);
    let apart = &["1:00 a opened shop:1 warning", "1:00 b opened blog:1 warning +news"];
    check(teams, &["team=web > a / / 0", "> b / / 0"], lines, "1h", apart);
}

#[test]
fn louder_pages_and_reaches_those_who_were_not_told() {
    // An incident of higher severity joins: notified at once.
    let mixed = format!("{}{}", checks("shop,blog", "after: 1"), checks("pay", "after: 1, severity: critical"));
    check(
        &mixed,
        &["> a / / 0"],
        "60s shop F\n65s blog F\n70s pay F",
        "1h",
        &[
            "1:00 a opened shop:1 warning",
            "1:10 a updated shop:1 critical by pay:1 +shop,blog (severity raised from warning to critical; 2 more, 3 in all)",
        ],
    );
    // A critical incident ends the group wait of the others.
    check(&mixed, &[], "60s shop F\n65s pay F", "1h", &["1:05 a opened shop:1 critical by pay:1 +shop"]);
    // A warning raised to critical matches the route of critical incidents, whose receivers get an opening.
    let raised = checks("shop", "after: 1, severity: critical, verdicts: [failed, degraded], recover_after: 1");
    check(
        &raised,
        &["severity=critical > pager,team", "> team / / 0"],
        "60s shop DDFFP",
        "1h",
        &[
            "1:00 team opened shop:1 warning",
            "3:00 team updated shop:1 critical (severity raised from warning to critical; changed from budget to status)",
            "3:00 pager opened shop:1 critical (severity raised from warning to critical; changed from budget to status)",
            "5:00 team resolved shop:1 critical",
            "5:00 pager resolved shop:1 critical",
        ],
    );
}

#[test]
fn another_failure_is_an_update_and_the_same_one_is_quiet() {
    let shop = checks("shop", "");
    let opened = "2:00 a opened shop:1 warning";
    check(&shop, &[AT_ONCE], "1m shop TTTTTTTT", "5h", &[opened]);
    // Confirmed by as many runs as a failure.
    check(
        &shop,
        &[AT_ONCE],
        "1m shop TTTFF",
        "5h",
        &[opened, "5:00 a updated shop:1 warning (changed from timeout to status)"],
    );
    check(&shop, &[AT_ONCE], "1m shop TTTFTFTFT", "5h", &[opened]);
    check(
        &checks("shop", "after: 1"),
        &[AT_ONCE],
        "1m shop TFT",
        "5h",
        &["1:00 a opened shop:1 warning", "2:00 a updated shop:1 warning (changed from timeout to status)"],
    );
    // Each failure fingerprint once: alternating between them is no news.
    check(
        &shop,
        &[AT_ONCE],
        "1m shop TTFFTTFFTTCC",
        "5h",
        &[
            opened,
            "4:00 a updated shop:1 warning (changed from timeout to status)",
            "12:00 a updated shop:1 warning (changed from status to connect)",
        ],
    );
    // The same change of many incidents is one update.
    check(
        &checks("shop,blog,news", ""),
        &[AT_ONCE],
        "1m shop,blog,news TTTFFF",
        "5h",
        &["2:00 a opened shop:1 warning +blog,news", "5:00 a updated shop:1 warning +blog,news (causes: 3 × status)"],
    );
}

#[test]
fn what_stays_open_is_told_again_only_when_asked_for() {
    let shop = checks("shop", "remind: 1h, recover_after: 1");
    let opened = "2:00 a opened shop:1 warning";
    check(&shop, &[AT_ONCE], "1m shop FF", "2h", &[opened, "62:00 a reminder shop:1 warning"]);
    check(
        &shop,
        &[AT_ONCE],
        "1m shop FF\n100m shop P",
        "9h",
        &[opened, "62:00 a reminder shop:1 warning", "100:00 a resolved shop:1 warning"],
    );
    // An update restarts the hour.
    check(
        &shop,
        &[AT_ONCE],
        "1m shop FF\n30m shop TT",
        "92m",
        &[opened, "31:00 a updated shop:1 warning (changed from status to timeout)", "91:00 a reminder shop:1 warning"],
    );
    // The shortest interval of a group counts, and there is one reminder.
    let both = format!("{}{}", checks("shop", "after: 1, remind: 4h"), checks("blog", "after: 1, remind: 1h"));
    let twice = &["1:00 a opened shop:1 warning +blog", "61:00 a reminder shop:1 warning +blog"];
    check(&both, &[AT_ONCE], "1m shop,blog F", "2h", twice);
}

#[test]
fn a_group_survives_restarts_reloads_and_removals() {
    // A stop notifies groups in their group wait; the next agent notifies the resolution.
    let mut run = Run::new(&checks("shop,blog", "after: 1"), &[WAIT], true);
    run.play("60s shop,blog F", "61s");
    assert_eq!(run.told, [""; 0]);
    run.pipeline.stop(at(62));
    run.write(at(62));
    assert_eq!(run.told, ["1:02 a opened shop:1 warning +blog"]);
    // After a reload, other routes apply to new incidents, and nothing is notified twice.
    run.alerting = alerting(&["> b / / 0"]);
    run.load(at(90));
    run.play("120s shop FFF", "10m");
    run.play("11m blog,shop PP", "20m");
    run.play("30m shop FF", "1h");
    assert_eq!(run.told[1..], ["12:00 a resolved shop:1 warning +blog", "30:00 b opened shop:2 warning"]);
    // A removed scenario resolves; the group is resolved with its last incident.
    let mut run = Run::new(&checks("shop,blog", "after: 1"), &[AT_ONCE], true);
    run.play("60s shop,blog F", "90s");
    run.checks = checks("blog", "after: 1");
    run.load(at(100));
    run.write(at(100));
    assert_eq!(run.told, ["1:00 a opened shop:1 warning +blog"]);
    run.play("120s blog PP", "1h");
    assert_eq!(run.told[1..], ["3:00 a resolved shop:1 warning +blog"]);
}

#[test]
fn what_was_not_told_is_counted() {
    let counted = |lines: &str, wait: &str| {
        let mut run = Run::new(&checks("shop,blog", "after: 2, recover_after: 1"), &[wait], false);
        run.play(lines, "1h");
        run.suppressed.into_iter().filter(|(_, count)| *count > 0).collect::<Vec<_>>()
    };
    assert_eq!(counted("1m shop FFFFP", AT_ONCE), [("already_open", 2), ("below_threshold", 1)]);
    assert_eq!(counted("1m shop FP", AT_ONCE), [("below_threshold", 1)]);
    assert_eq!(counted("1m shop UFF", AT_ONCE), [("agent_fault", 1), ("below_threshold", 1)]);
    assert_eq!(counted("1m shop FFP", "> a / / 600"), [("below_threshold", 1), ("resolved_early", 1)]);
    assert_eq!(counted("1m shop,blog FF", AT_ONCE), [("below_threshold", 2), ("grouped", 1)]);
}

#[test]
fn what_flaps_is_told_once_until_it_is_steady() {
    let shop = checks("shop", "after: 1, recover_after: 1");
    let begin = [
        "1:00 a opened shop:1 warning",
        "2:00 a resolved shop:1 warning",
        "3:00 a opened shop:2 warning",
        "4:00 a resolved shop:2 warning",
        "5:00 a opened shop:3 warning (is flapping: 5 changes in 4m; no notifications until stable for 4m)",
    ];
    let with = |end: &[&'static str]| [&begin[..], end].concat();
    // A cycle is two minutes: steady four minutes after the last change.
    check(&shop, &[AT_ONCE], "1m shop FPFPFPFPPPPP", "5h", &with(&["12:00 a resolved shop:3 warning"]));
    check(
        &shop,
        &[AT_ONCE],
        &format!("1m shop {}P", "FP".repeat(30)),
        "5h",
        &with(&["64:00 a resolved shop:3 warning"]),
    );
    let still = "9:00 a updated shop:3 warning (no longer flapping, still failing)";
    check(&shop, &[AT_ONCE], "1m shop FPFPFFFFFFF", "5h", &with(&[still]));
    check(&shop, &[AT_ONCE], "1m shop FPFPFFFFFFFFFP", "5h", &with(&[still, "14:00 a resolved shop:3 warning"]));
    let anew = "11:00 a updated shop:3 warning by shop:4 (no longer flapping, still failing)";
    check(&shop, &[AT_ONCE], "1m shop FPFPFPFFFFFF", "5h", &with(&[anew]));
    // At less than half of the fastest pace, each change is notified.
    check(
        &shop,
        &[AT_ONCE],
        "1m shop F....P....F....P....F",
        "5h",
        &[
            "1:00 a opened shop:1 warning",
            "6:00 a resolved shop:1 warning",
            "11:00 a opened shop:2 warning",
            "16:00 a resolved shop:2 warning",
            "21:00 a opened shop:3 warning",
        ],
    );
    // n of m uses the fastest possible cycle: these never open, or never resolve.
    check(&checks("shop", "after: 2"), &[AT_ONCE], &format!("1m shop {}", "FP".repeat(40)), "2h", &[]);
    let once = &["3:00 a opened shop:1 warning"];
    check(&checks("shop", "after: 2 of 3"), &[AT_ONCE], &format!("1m shop {}", "FP".repeat(40)), "2h", once);
    // After a quiet time, flapping may start again.
    let again = format!("1m shop FPFPFPPPPPPPPP{}", "FP".repeat(3));
    let later = [
        "10:00 a resolved shop:3 warning",
        "15:00 a opened shop:4 warning",
        "16:00 a resolved shop:4 warning",
        "17:00 a opened shop:5 warning",
        "18:00 a resolved shop:5 warning",
        "19:00 a opened shop:6 warning (is flapping: 5 changes in 4m; no notifications until stable for 4m)",
        "24:00 a resolved shop:6 warning",
    ];
    check(&shop, &[AT_ONCE], &again, "2h", &with(&later));
    // Removed while it flaps.
    let mut run = Run::new(&shop, &[AT_ONCE], true);
    run.play("1m shop FPFPFP", "6m");
    run.checks = checks("blog", "");
    run.load(at(400));
    run.write(at(400));
    assert_eq!(run.told[5..], ["6:40 a resolved shop:3 warning"]);
}

/// A gateway, and a shop behind it.
pub(super) const BEHIND: &str = "  gate: {tcp: \"gate:1\", alert: {after: 1, recover_after: 1}}\n  \
                      shop: {http: \"http://shop/\", alert: {after: 1, recover_after: 1, depends_on: [gate]}}\n";

#[test]
fn a_child_is_not_told_while_its_parent_explains_it() {
    let (down, well) = ("1:00 a opened gate:1 warning", "5:00 a resolved gate:1 warning");
    let at_once = &[AT_ONCE];
    check(BEHIND, at_once, "60s gate CCCCP\n70s shop FFFFP", "5h", &[down, well]);
    // If it still fails after the parent has recovered, it is notified then.
    check(BEHIND, at_once, "60s gate CCCCP\n70s shop FFFFFF", "5h", &[down, well, "5:10 a opened shop:1 warning"]);
    let both = [down, well, "5:10 a opened shop:1 warning", "6:10 a resolved shop:1 warning"];
    check(BEHIND, at_once, "60s gate CCCCP\n70s shop FFFFFP", "5h", &both);
    // The child fails first: its parent is run at once, and explains it.
    let first = ["1:15 a opened gate:1 warning", "2:15 a resolved gate:1 warning", "3:10 a opened shop:1 warning"];
    check(BEHIND, at_once, "60s gate P\n70s shop FFF\n75s gate CP", "5h", &first);
    check(BEHIND, at_once, "60s gate P\n70s shop FFP\n75s gate CP", "5h", &first[..2]);
    // If the parent is good, the child is notified at once; if it does not respond, after half a minute.
    check(BEHIND, at_once, "60s gate P\n70s shop FFF\n75s gate P", "5h", &["1:15 a opened shop:1 warning"]);
    check(BEHIND, at_once, "60s gate P\n70s shop F", "5h", &["1:40 a opened shop:1 warning"]);
    check(BEHIND, at_once, "70s shop F\n80s gate U", "5h", &["1:40 a opened shop:1 warning"]);
    // Both in the same second.
    check(
        BEHIND,
        at_once,
        "60s shop,gate FP",
        "5h",
        &["1:00 a opened gate:1 warning", "2:00 a resolved gate:1 warning"],
    );
    // A bad run of the parent that opens no incident suppresses the child until the next run.
    let patient = BEHIND.replacen("after: 1", "after: 2", 1);
    check(&patient, at_once, "60s gate CPP\n70s shop FFFF", "5h", &["2:10 a opened shop:1 warning"]);
    // Each child requests one run.
    let mut run = Run::new(BEHIND, &[AT_ONCE], true);
    run.play("60s gate P\n70s shop FFF", "2m");
    assert_eq!(run.looked, ["1:10 gate"]);
    assert_eq!(run.suppressed[suppressed::DEPENDENCY], 1);
}

#[test]
fn dependencies_go_over_several_levels() {
    let three = format!(
        "  net: {{ping: net, alert: {{after: 1, recover_after: 1}}}}\n{}",
        BEHIND.replacen("recover_after: 1", "recover_after: 1, depends_on: [net]", 1)
    );
    let (down, well) = ("1:00 a opened net:1 warning", "5:00 a resolved net:1 warning");
    check(&three, &[AT_ONCE], "60s net CCCCP\n65s gate CCCCP\n70s shop FFFFP", "5h", &[down, well]);
    // `net` explains `shop` although `gate` is good.
    check(&three, &[AT_ONCE], "60s net CCCCP\n65s gate PPPPP\n70s shop FFFFP", "5h", &[down, well]);
    // `gate` opens when `net` has recovered.
    let gate = [down, well, "5:05 a opened gate:1 warning", "6:05 a resolved gate:1 warning"];
    check(&three, &[AT_ONCE], "60s net CCCCP\n65s gate CCCCCP\n70s shop FFFFFP", "5h", &gate);
    // A storm behind one gateway is one notification.
    let ids: Vec<String> = (0..300).map(|n| format!("s{n}")).collect();
    let many: String = ids
        .iter()
        .map(|id| {
            format!("  {id}: {{http: \"http://{id}/\", alert: {{after: 1, recover_after: 1, depends_on: [gate]}}}}\n")
        })
        .collect();
    let gateway = format!("{}{many}", BEHIND.lines().next().map(|line| format!("{line}\n")).unwrap_or_default());
    let storm = format!("60s {} FFFFP\n62s gate CCCP", ids.join(","));
    let mut run = Run::new(&gateway, &["> a / / 0"], false);
    run.play(&storm, "1h");
    assert_eq!(run.told, ["1:02 a opened gate:1 warning", "4:02 a resolved gate:1 warning"]);
    assert_eq!(run.looked, ["1:00 gate"]);
}

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

/// Checks the notifications of a timeline with operator commands.
#[track_caller]
fn muted(policy: &str, requests: &[(&str, AlertCommand)], lines: &str, until: &str, expected: &[&str]) {
    for restarts in [false, true] {
        let mut run = Run::new(&checks("shop", policy), &[AT_ONCE], restarts);
        let mut rest: Vec<&str> = lines.split('|').map(str::trim).collect();
        for (time, request) in requests {
            run.play(rest.remove(0), "0s");
            run.ask(time, request.clone()).expect("is done");
        }
        run.play(rest[0], until);
        assert_eq!(run.told, expected, "with restarts: {restarts}\n{lines}");
        assert!(!run.memory.keys().any(|key| key.starts_with("mute/")), "{:?}", run.memory);
    }
}

#[test]
fn a_silence_may_hold_at_some_times_only() {
    let policy = "after: 1, recover_after: 1";
    // The timeline starts on a Friday at 8:00 UTC.
    let silence = |during: &str| match mute(&[("scenario", "shop")], "2m", "1h") {
        AlertCommand::Mute(mute) => AlertCommand::Mute(Mute { during: Some(during.parse().expect("reads")), ..mute }),
        other => other,
    };
    for (during, expected) in [
        ("fri 08:05-08:10", "11:00 a opened shop:1 warning"),
        ("09:05-09:10 Europe/Warsaw", "11:00 a opened shop:1 warning"),
        ("fri 08:05-23:00", "62:00 a opened shop:1 warning"),
        ("sat 08:05-08:10", "6:00 a opened shop:1 warning"),
        ("fri 08:10-08:20", "6:00 a opened shop:1 warning"),
    ] {
        let lines = "1m shop P | 6m shop F....F\n62m shop F";
        muted(policy, &[("2m", silence(during))], lines, "2h", &[expected]);
    }
    // The same as a permanent window in the configuration.
    for restarts in [false, true] {
        let mut run = Run::new(&checks("shop", policy), &[AT_ONCE], restarts);
        run.alerting.maintenance = vec![Window {
            begins: Begins::Always,
            length: Duration::ZERO,
            during: Some("fri 08:05-08:10".parse().expect("reads")),
            matches: Matchers::default(),
        }];
        run.load(at(0));
        run.play("6m shop F....F", "1h");
        assert_eq!(run.told, ["11:00 a opened shop:1 warning"], "with restarts: {restarts}");
    }
}

#[test]
fn what_is_silenced_is_told_when_it_still_fails_afterwards() {
    let policy = "after: 1, recover_after: 1";
    let silence = || mute(&[("team", "web")], "0s", "5m");
    let opened = "1:00 a opened shop:1 warning";
    muted(policy, &[("0s", silence())], "| 1m shop FFFFFFFF", "5h", &["6:00 a opened shop:1 warning"]);
    // Resolved before the end of the silence: no notification.
    muted(policy, &[("0s", silence())], "| 1m shop FFFP", "5h", &[]);
    muted(policy, &[("0s", silence())], "| 1m shop FFFFFP", "5h", &[]);
    // A silence does not affect other incidents.
    muted(policy, &[("0s", mute(&[("team", "db")], "0s", "5m"))], "| 1m shop F", "5h", &[opened]);
    muted(policy, &[("0s", mute(&[("scenario", "shop")], "0s", "5m"))], "| 1m shop FF", "5h", &[]);
    muted(policy, &[("0s", mute(&[], "0s", "5m"))], "| 1m shop FF", "5h", &[]);
    muted(policy, &[("0s", mute(&[], "3m", "5m"))], "| 1m shop FF", "5h", &[opened]);
    // The resolution is notified if the opening was, even if it is silenced in the meantime.
    let both = &[opened, "4:00 a resolved shop:1 warning"];
    muted(policy, &[("2m", silence())], "1m shop F | 2m shop FFP", "5h", both);
    // Updates and reminders wait for the end of the silence.
    let later = &[opened, "5:00 a updated shop:1 warning (changed from status to timeout)"];
    muted(policy, &[("90s", silence())], "1m shop F | 2m shop TTTTTT", "1h", later);
    let later = &[opened, "120:00 a reminder shop:1 warning", "180:00 a reminder shop:1 warning"];
    let night = mute(&[], "90s", "2h");
    muted("after: 1, remind: 1h", &[("90s", night)], "1m shop F | 2m shop F", "190m", later);
    // Expired by an operator.
    let end = AlertCommand::Expire { id: "m1".into() };
    let early = &["3:00 a opened shop:1 warning"];
    muted(policy, &[("0s", silence()), ("150s", end.clone())], "| 1m shop FF | 3m shop F", "1h", early);
    let mut run = Run::new(&checks("shop", policy), &[AT_ONCE], false);
    assert_eq!(run.ask("1m", end), Err("no silence or maintenance with the id `m1`".into()));
    assert_eq!(run.ask("6m", silence()), Err("end time is not in the future".into()));
}

#[test]
fn who_takes_it_over_is_not_reminded() {
    let ack = |key: &str| AlertCommand::Acknowledge { key: key.into(), author: "ania".into(), length: None };
    let policy = "after: 1, recover_after: 1, remind: 1h";
    let told = &[
        "1:00 a opened shop:1 warning",
        "61:00 a reminder shop:1 warning",
        "62:00 a updated shop:1 warning (acknowledged by ania)",
        "200:00 a resolved shop:1 warning",
    ];
    muted(policy, &[("62m", ack("shop:1"))], "1m shop F | 200m shop P", "9h", told);
    // Changes are still notified.
    let changed = &[
        "1:00 a opened shop:1 warning",
        "2:00 a updated shop:1 warning (acknowledged by ania)",
        "3:00 a updated shop:1 warning (changed from status to timeout)",
    ];
    muted(policy, &[("2m", ack("shop:1"))], "1m shop F | 3m shop T", "5h", changed);
    let mut run = Run::new(&checks("shop", policy), &[AT_ONCE], false);
    assert!(
        run.ask("1m", ack("shop:1"))
            .is_err_and(|problem| problem.starts_with("no open incident with the key `shop:1`"))
    );
}

#[test]
fn windows_of_maintenance_come_by_themselves() {
    // The tables start at 08:00 UTC, 09:00 in Warsaw.
    let cron = |expression: &str| Begins::Cron { expression: expression.into(), timezone: chrono_tz::Europe::Warsaw };
    let check = |begins: Begins, minutes: u64, lines: &str, expected: &[&str]| {
        for restarts in [false, true] {
            let mut run = Run::new(&checks("shop", "after: 1, recover_after: 1"), &[AT_ONCE], restarts);
            let length = Duration::from_secs(minutes * 60);
            run.alerting.maintenance =
                vec![Window { begins: begins.clone(), length, during: None, matches: Matchers::default() }];
            run.load(at(0));
            run.play(lines, "5h");
            assert_eq!(run.told, expected, "{lines}");
        }
    };
    check(cron("2 9 * * *"), 3, "1m shop .FFP", &[]);
    check(cron("2 9 * * *"), 3, "1m shop .FFFFF", &["6:00 a opened shop:1 warning"]);
    check(cron("2 8 * * *"), 3, "1m shop .FF", &["2:00 a opened shop:1 warning"]);
    check(cron("2 9 * * *"), 3, "1m shop ....F", &["5:00 a opened shop:1 warning"]);
    // Overlapping windows are one.
    check(cron("2,4 9 * * *"), 3, "4m shop FFFFF", &["8:00 a opened shop:1 warning"]);
    check(Begins::Once(at(120)), 3, "2m shop FFP", &[]);
    check(
        Begins::Once(at(120)),
        3,
        "1m shop FFFFFFP",
        &["1:00 a opened shop:1 warning", "7:00 a resolved shop:1 warning"],
    );
}
