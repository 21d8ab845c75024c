//! Timelines of error budgets: one run per minute in, notifications out, and no others.
//!
//! Each is played twice: without restarts, and with a restart after each run, where the counts are read back from the
//! outcomes.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use super::fixtures::{Nothing, at, outcome};
use super::pipeline::Pipeline;
use crate::incident::{AlertCommand, Mute, Subject};
use crate::notify::{Alerting, Receiver};
use crate::outcome::{Outcome, Verdict};
use crate::scenario::load;
use crate::store::SlotCount;

/// Minutes of good runs at the start: three days, so that all windows are full.
const WELL: i64 = 4320;
/// A policy with which the scenario's own incident does not open.
const QUIET: &str = "objective: 99.9% / after: 60";

struct Play {
    pipeline: Pipeline,
    restarts: bool,
    slo: String,
    alert: String,
    minute: i64,
    outcomes: Vec<Outcome>,
    alert_states: BTreeMap<Subject, serde_json::Value>,
    memory: BTreeMap<String, serde_json::Value>,
    sent: Vec<String>,
    messages: Vec<String>,
    headlines: Vec<String>,
    remaining: Option<f64>,
    /// Total change of the clock. Displayed times are elapsed time.
    set_by: TimeDelta,
}

impl Play {
    /// Creates a play from `objective / alert`.
    fn new(policy: &str, restarts: bool) -> Self {
        let (slo, alert) = policy.split_once('/').expect("objective / alert");
        let mut play = Self {
            pipeline: Pipeline::new("here"),
            restarts: false,
            slo: slo.trim().to_owned(),
            alert: alert.trim().to_owned(),
            minute: 0,
            outcomes: Vec::new(),
            alert_states: BTreeMap::new(),
            memory: BTreeMap::new(),
            sent: Vec::new(),
            messages: Vec::new(),
            headlines: Vec::new(),
            remaining: None,
            set_by: TimeDelta::zero(),
        };
        play.load(at(0));
        play.runs(&"P".repeat(usize::try_from(WELL).expect("it is small")));
        play.restarts = restarts;
        play.minute = 0;
        play
    }

    fn now(&self) -> DateTime<Utc> {
        let well = if i64::try_from(self.outcomes.len()).is_ok_and(|runs| runs < WELL) { 0 } else { WELL };
        at((well + self.minute) * 60) + self.set_by
    }

    fn load(&mut self, now: DateTime<Utc>) {
        let slo = if self.slo.is_empty() { String::new() } else { format!("slo: {{{}}}\n", self.slo) };
        let (alert, steps) = (&self.alert, "steps: [{GET: \"http://shop/\"}]");
        let text = format!("scenario: Shop\nid: shop\nevery: 1m\n{slo}alert: {{{alert}}}\n{steps}\n");
        let loaded = load("shop.yaml", &text, &Nothing);
        assert_eq!(loaded.diagnostics, [], "{text}");
        let all = loaded.scenarios.into_iter().map(|scenario| (scenario.id.value.clone(), scenario));
        let receiver = Receiver { name: "a".into(), ..Receiver::default() };
        self.pipeline.set_alerting(Arc::new(Alerting { receivers: vec![receiver], ..Alerting::default() }));
        self.pipeline.set_scenarios(Arc::new(all.collect()), &super::idle::Idle::default(), now);
        // Counted like the store does.
        while let Some((id, spans)) = self.pipeline.unread(now) {
            let mut history = Vec::new();
            for span in spans {
                let mut slots = BTreeMap::<i64, SlotCount>::new();
                let within = self.outcomes.iter().rev().take_while(|outcome| outcome.ended_at >= span.since);
                for outcome in within.filter(|outcome| outcome.verdict.is_conclusive()) {
                    let slot = outcome.ended_at.timestamp().div_euclid(span.slot);
                    let tally = slots.entry(slot).or_insert(SlotCount { slot, runs: 0, failed: 0 });
                    tally.runs += 1;
                    tally.failed += u64::from(outcome.verdict == Verdict::Failed);
                }
                history.push((span.window, slots.into_values().collect()));
            }
            self.remaining = self.pipeline.read(&id, &history);
        }
        assert!(!self.pipeline.is_unread());
    }

    fn write(&mut self, now: DateTime<Utc>) {
        let effects = self.pipeline.effects();
        for notification in &effects.notifications {
            let (event, severity) = (notification.event.as_str(), notification.incident.severity);
            let minute = (now - self.set_by - at(0)).num_minutes() - WELL;
            self.sent.push(format!("{minute} {event} {} {severity}", notification.incident.dedup_key()));
            self.headlines.push(crate::notify::headline(notification));
            self.messages.push(notification.incident.message.clone().unwrap_or_default().into_inner());
        }
        self.remaining = effects.budgets.values().next().copied().or(self.remaining);
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
            self.pipeline = Pipeline::new("here");
            let (alert_states, memory) = (self.alert_states.clone().into_iter(), self.memory.clone().into_iter());
            self.pipeline.restore(alert_states.collect(), memory.collect()).expect("reads back");
            self.load(now);
            assert_eq!(*self.pipeline.open(), open, "open incidents are counted");
        }
    }

    fn until(&mut self, now: DateTime<Utc>) {
        while let Some(next) = self.pipeline.next().filter(|next| *next <= now) {
            self.pipeline.tick(next);
            self.write(next);
        }
    }

    /// Sets the clock, right after a run.
    fn jump(&mut self, by: TimeDelta) {
        let now = self.now() - TimeDelta::seconds(59);
        self.until(now);
        self.set_by += by;
        self.pipeline.clock_set(by, now + by);
    }

    /// Plays one run per minute; `.` for none.
    fn runs(&mut self, letters: &str) {
        for letter in letters.chars() {
            let now = self.now();
            self.until(now - TimeDelta::milliseconds(1));
            if letter != '.' {
                let outcome = Outcome { started_at: now, ended_at: now, ..outcome("shop", letter, 0) };
                self.pipeline.process_outcome(&outcome, now);
                // A repetition changes nothing.
                self.pipeline.process_outcome(&outcome, now);
                self.outcomes.push(outcome);
            }
            self.pipeline.tick(now);
            self.write(now);
            self.minute += 1;
        }
    }
}

/// Expands `FFF P*20 (F P*9)*6` into runs of a minute each.
fn letters(text: &str) -> String {
    let mut out = String::new();
    for word in text.split_whitespace() {
        match word.split_once('*') {
            Some((letters, count)) => out.push_str(&letters.repeat(count.parse().expect("a number"))),
            None => out.push_str(word),
        }
    }
    out
}

/// Checks all notifications of a timeline after three good days.
#[track_caller]
fn check(policy: &str, runs: &str, expected: &[&str]) {
    let runs = letters(runs);
    // A restart reads all runs again, so that long timelines are only played without restarts.
    for restarts in [false, true].into_iter().take(if runs.len() < 200 { 2 } else { 1 }) {
        let mut play = Play::new(policy, restarts);
        play.runs(&runs);
        assert_eq!(play.sent, expected, "with restarts: {restarts}\n{policy}\n{runs}");
    }
}

#[test]
fn one_failure_of_sixty_pages_nobody_and_three_do() {
    check(QUIET, "F P*60", &[]);
    check(QUIET, "FF P*60", &[]);
    // Ten minutes after the last failure: five in which the short window contains it, and five more.
    check(QUIET, "FFF P*60", &["2 opened slo/shop:1 critical", "12 resolved slo/shop:1 critical"]);
    check(QUIET, "F P*9 F P*9 F P*30", &["20 opened slo/shop:1 critical", "30 resolved slo/shop:1 critical"]);
    // The failures are too far apart.
    check(QUIET, "F P*39 F P*39 F P*39 F P*30", &[]);
    // A continuing problem is one incident.
    let often = format!("{} P*30", "FPPPP".repeat(12));
    check(QUIET, &often, &["10 opened slo/shop:1 critical"]);
    // If one percent may fail, more failures are required.
    check("objective: 99% / after: 60", "F*8 P*60", &[]);
    check("objective: 99% / after: 60", "F*9 P*3", &["8 opened slo/shop:1 critical"]);
}

#[test]
fn unknown_runs_count_for_neither() {
    check(QUIET, "F U*5 F U*5 F P", &["3 opened agent/here:1 warning", "12 opened slo/shop:1 critical"]);
    check(QUIET, "U*60", &["2 opened agent/here:1 warning"]);
    check(QUIET, "D*60", &[]);
}

#[test]
fn a_slow_burn_is_a_warning_and_an_end_is_told() {
    // One failure in eight hours. The runs in between are omitted, to keep the test fast.
    let eight = ["F P*30 .*449"; 8].join(" ");
    check(QUIET, &eight, &["3360 opened slo/shop:1 warning"]);
    let end = format!("{eight} P*60 .*300 P*60");
    check(QUIET, &end, &["3360 opened slo/shop:1 warning", "3840 resolved slo/shop:1 warning"]);
}

#[test]
fn what_an_outage_leaves_is_not_told_again() {
    // The slow rule holds for hours afterwards: ten failures within three days.
    let sent = ["2 opened slo/shop:1 critical", "69 resolved slo/shop:1 critical"];
    check(QUIET, "F*10 P*600", &sent);
    check(QUIET, "F*10 P*390 F P*60", &sent);
    // Eight more failures are notified, although they are too slow for the fast rules.
    let more = ["F P*119"; 8].join(" ");
    check(QUIET, &format!("F*10 P*390 {more} P*60"), &[sent[0], sent[1], "1240 opened slo/shop:2 warning"]);
}

#[test]
fn while_the_scenario_itself_is_down_as_loudly_its_budget_is_not_told() {
    let critical = "objective: 99.9% / after: 2, recover_after: 2, severity: critical";
    check(critical, "F*10 P*90", &["1 opened shop:1 critical", "11 resolved shop:1 critical"]);
    // Later failures are notified with the next failed run.
    check(
        critical,
        "F*10 P*2 P*4 F P*3",
        &["1 opened shop:1 critical", "11 resolved shop:1 critical", "16 opened slo/shop:1 critical"],
    );
    // A warning does not suppress a critical incident.
    check(
        "objective: 99.9% / after: 2, recover_after: 2",
        "F*10 P*9",
        &["1 opened shop:1 warning", "2 opened slo/shop:1 critical", "11 resolved shop:1 warning"],
    );
}

#[test]
fn it_goes_through_the_other_stages() {
    // Reminders.
    check(
        "objective: 99.9% / after: 60, remind: 1h",
        &"FPP".repeat(50),
        &["6 opened slo/shop:1 critical", "66 reminder slo/shop:1 critical", "126 reminder slo/shop:1 critical"],
    );
    // A silence of the scenario.
    for restarts in [false, true] {
        let mut play = Play::new(QUIET, restarts);
        let matches = [("scenario".to_owned(), "shop".to_owned())].into();
        let (from, until) = (play.now(), play.now() + TimeDelta::minutes(5));
        let (id, author, reason) = ("quiet".into(), "ann".into(), "tests".into());
        let mute = Mute { id, maintenance: false, matches, from, until, during: None, author, reason, confirmed: true };
        play.pipeline.execute(AlertCommand::Mute(mute), from).expect("taken");
        play.write(from);
        play.runs("FFFFFPPFP");
        assert_eq!(play.sent, ["7 opened slo/shop:1 critical"], "{restarts}");
    }
    // The objective is removed from the file.
    for restarts in [false, true] {
        let mut play = Play::new(QUIET, restarts);
        play.runs("FFFP");
        play.slo.clear();
        let now = play.now();
        play.load(now);
        play.pipeline.tick(now);
        play.write(now);
        assert_eq!(play.sent, ["2 opened slo/shop:1 critical", "4 resolved slo/shop:1 critical"], "{restarts}");
        assert!(play.pipeline.open().values().all(|count| *count == 0));
    }
}

#[test]
fn the_notification_says_what_is_used_and_when_the_rest_is_gone() {
    let mut play = Play::new(QUIET, false);
    play.runs("FFFP");
    assert!((play.remaining.expect("sent") - (1.0 - 3.0 / 43.2)).abs() < 1e-9, "{:?}", play.remaining);
    let rest = letters("F*45 P*120");
    play.runs(&rest);
    assert_eq!(
        play.messages,
        [
            "3 of 61 runs failed within 1h (3 of 6 within 5m), 49 times the rate that 99.9% allows; 7% of the error budget of 30d is \
             used, at this rate it is exhausted in 13h24m",
            "burn rate is back to normal; 111% of the error budget of 30d is used",
        ]
    );
    let opened = format!("[CRITICAL] Shop: error budget is burning too fast: {}", play.messages[0]);
    let resolved = format!("[RESOLVED] Shop: error budget burn is back to normal after 1h46m; {}", play.messages[1]);
    assert_eq!(play.headlines, [opened, resolved]);
    assert!(play.remaining.is_some_and(|remaining| remaining < -0.1), "{:?}", play.remaining);
}

#[test]
fn a_clock_that_is_set_neither_opens_nor_resolves_an_incident_of_a_budget() {
    let timelines = [
        (QUIET, "FFF P*20"),
        (QUIET, "F P*9 F P*9 F P*30"),
        ("objective: 99.9%, window: 3d / after: 3", "FFFFF P*40 FF P*20"),
    ];
    for (policy, runs) in timelines {
        let runs = letters(runs);
        let mut calm = Play::new(policy, false);
        calm.runs(&runs);
        for by in [TimeDelta::days(1), TimeDelta::hours(-1)] {
            let mut jumping = Play::new(policy, false);
            for (minute, letter) in runs.chars().enumerate() {
                jumping.runs(&letter.to_string());
                if minute < 12 || minute % 7 == 0 {
                    jumping.jump(by);
                }
            }
            assert_eq!(jumping.sent, calm.sent, "{policy}: {runs}, over and over by {by}");
            assert_eq!(jumping.messages, calm.messages);
        }
    }
}
