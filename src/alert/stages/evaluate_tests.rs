//! Timelines as data: the events of the state machine, and no others.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::alert::agent::{AgentAlertState, Ticked};
use crate::alert::fixtures::{self, at, scenario_text};
use crate::incident::Event;
use crate::scenario::{AlertPolicy, Severity};

/// Creates a scenario with a policy in YAML: `after: 2 of 3, recover_after: 2`.
fn scenario(policy: &str) -> Scenario {
    scenario_text(&format!("checks:\n  shop: {{tcp: \"a:1\", alert: {{{policy}}}}}\n"))
}

fn run(number: u128) -> RunId {
    RunId(uuid::Uuid::from_u128(number))
}

/// Creates an outcome by letter, with a number as its run id.
fn outcome(scenario: &str, letter: char, number: u128, second: i64) -> Outcome {
    Outcome { run: run(number), ..fixtures::outcome(scenario, letter, second) }
}

fn event(result: &Evaluation) -> Option<String> {
    let (event, incident) = result.event.as_ref()?;
    Some(format!("{} {} #{}", event.as_str(), incident.severity, incident.sequence))
}

/// Plays a timeline: letters, `x` for the removal of the scenario, `{…}` for a reload with another policy. Returns the
/// events as `position event severity #opening`, with runs counted from 1.
fn sent(policy: &str, timeline: &str) -> Vec<String> {
    let mut scenario = scenario(policy);
    let mut watch = AlertState::default();
    let mut sent = Vec::new();
    let mut position: u32 = 0;
    for word in timeline.split_whitespace() {
        if let Some(policy) = word.strip_prefix('{').and_then(|word| word.strip_suffix('}')) {
            scenario = self::scenario(&policy.replace('_', " ").replace("recover after", "recover_after"));
            continue;
        }
        position += 1;
        let second = i64::from(position) * 60;
        let result = match word {
            "x" => watch.remove(crate::incident::Ending::Removed, at(second)),
            letter => {
                let letter = letter.chars().next().expect("a letter");
                let outcome = outcome("shop", letter, position.into(), second);
                let result = watch.advance(&scenario, &outcome, None);
                let after = watch.clone();
                assert_eq!(watch.advance(&scenario, &outcome, None), None, "evaluated twice");
                assert_eq!(watch, after, "an outcome that was judged changed the state");
                result
            }
        };
        // The state survives storing.
        let stored = serde_json::to_string(&watch).expect("plain data");
        watch = serde_json::from_str(&stored).expect("reads back");
        sent.extend(result.as_ref().and_then(event).map(|event| format!("{position} {event}")));
    }
    sent
}

#[test]
fn timelines() {
    let check = |policy: &str, timeline: &str, expected: &[&str]| {
        assert_eq!(sent(policy, timeline), expected, "{policy}: {timeline}");
    };
    // Consecutive runs.
    check(
        "after: 1, recover_after: 1",
        "P F F P P F",
        &["2 opened warning #1", "4 resolved warning #1", "6 opened warning #2"],
    );
    check("", "P F P F P F F F P F P P P", &["7 opened warning #1", "12 resolved warning #1"]);
    check("after: 3", "F F P F F F", &["6 opened warning #1"]);
    check("severity: info", "F F", &["2 opened info #1"]);
    // n of m; fewer than m runs are enough.
    check("after: 2 of 3", "P F F P F F P P P", &["3 opened warning #1", "8 resolved warning #1"]);
    check("after: 2 of 3", "P F P F", &["4 opened warning #1"]);
    check("after: 2 of 3", "F P P F P P F", &[]);
    check("after: 2 of 5", "F F", &["2 opened warning #1"]);
    check("after: 3 of 5", "F P F P F", &["5 opened warning #1"]);
    check("after: 3 of 5", "F P P F P F P F", &["8 opened warning #1"]);
    // A bad run in between restarts the recovery.
    check("recover_after: 3", "F F P P F P P P", &["2 opened warning #1", "8 resolved warning #1"]);
    // `unknown` neither opens nor resolves, and keeps the window and the good runs.
    check("", "U U U U U U", &[]);
    check("", "F U U F U P U P", &["4 opened warning #1", "8 resolved warning #1"]);
    check("after: 2 of 3", "F U P L N F", &["6 opened warning #1"]);
    check("recover_after: 1", "F F U U U", &["2 opened warning #1"]);
    // Degraded is good unless the policy includes it.
    check("", "F F D D", &["2 opened warning #1", "4 resolved warning #1"]);
    check("", "D D D D", &[]);
    // Degraded runs alone lead to a warning at most; the first failed one raises it, once.
    let both = "verdicts: [failed, degraded], severity: critical";
    check(both, "D D D F F D P P", &["2 opened warning #1", "4 updated critical #1", "8 resolved critical #1"]);
    check(both, "D F", &["2 opened critical #1"]);
    check(both, "F D P P", &["2 opened critical #1", "4 resolved critical #1"]);
    check("verdicts: [failed, degraded], severity: info", "D D F", &["2 opened info #1"]);
    check("verdicts: [failed, degraded]", "D D F", &["2 opened warning #1"]);
    check("verdicts: [failed, degraded], severity: critical, after: 2 of 4", "F P D D", &["3 opened critical #1"]);
    // If the policy does not include failed runs, they are neither bad nor good.
    let only = "verdicts: [degraded], severity: critical";
    check(only, "F F F", &[]);
    check(only, "D D F F F", &["2 opened warning #1"]);
    check(only, "D D P F P P", &["2 opened warning #1", "6 resolved warning #1"]);
    check(only, "D F D", &[]);
    // Runs that led to an incident do not help to open the next one.
    check("after: 2 of 5, recover_after: 1", "F F P F P P P P", &["2 opened warning #1", "3 resolved warning #1"]);
    check(
        "after: 2 of 5, recover_after: 1",
        "F F P F F",
        &["2 opened warning #1", "3 resolved warning #1", "5 opened warning #2"],
    );
    // Removal.
    check("", "F F x", &["2 opened warning #1", "3 resolved warning #1"]);
    check("", "F x F x", &["3 opened warning #1", "4 resolved warning #1"]);
    check("", "F F P x F F", &["2 opened warning #1", "4 resolved warning #1", "6 opened warning #2"]);
    check("", "x x F x", &[]);
    // Another policy after a reload: the window shrinks or grows, and the new verdicts count.
    check("after: 3 of 5", "F F P {after:_2_of_2} F F", &["5 opened warning #1"]);
    check("after: 2 of 5", "F P P {after:_2_of_3} P F", &[]);
    check("after: 3 of 3", "F F {after:_1} P F", &["4 opened warning #1"]);
    check("after: 2, verdicts: [failed, degraded]", "D {verdicts:_[failed]} F", &[]);
    check("after: 2", "D {verdicts:_[failed,_degraded]} D", &["2 opened warning #1"]);
    check("", "F F {severity:_critical} F F", &["2 opened warning #1", "3 updated critical #1"]);
    check("severity: critical", "F F {severity:_info} F P P", &["2 opened critical #1", "5 resolved critical #1"]);
    check("", "F F P {recover_after:_1} P", &["2 opened warning #1", "4 resolved warning #1"]);
}

#[test]
fn a_decision_says_why() {
    let scenario = scenario("after: 2 of 3");
    let mut watch = AlertState::default();
    let mut shown = Vec::new();
    for (number, letter) in (1..).zip("PFUFFPFPP".chars()) {
        let result = watch.advance(&scenario, &outcome("shop", letter, number, 0), None).expect("evaluated");
        assert_eq!(result.decision.run, Some(run(number)));
        shown.push(format!("{} {}", result.decision.reason.as_str(), result.decision.detail));
    }
    assert_eq!(
        shown,
        [
            "good ",
            "below_threshold 1 bad of the last 2, 2 needed",
            "agent_fault the target could not be tested: browser",
            "opened 2 bad of the last 3, 2 needed",
            "already_open open since 2027-01-15 08:00:00",
            "recovering 1 good in a row, 2 needed",
            "already_open open since 2027-01-15 08:00:00",
            "recovering 1 good in a row, 2 needed",
            "resolved 2 good in a row, 2 needed",
        ]
    );
}

#[test]
fn an_incident_remembers_its_last_bad_run() {
    let scenario = scenario("verdicts: [failed, degraded]");
    let mut watch = AlertState::default();
    let last = ('D', 'D', 'F', 'P');
    let mut evaluation = |letter, number: u128| {
        let minute = i64::try_from(number).expect("small") * 60;
        let result = watch.advance(&scenario, &outcome("shop", letter, number, minute), None).expect("evaluated");
        result.event.map(|(_, incident)| incident).or_else(|| watch.open().cloned())
    };
    assert_eq!(evaluation(last.0, 1), None);
    let opened = evaluation(last.1, 2).expect("opened");
    assert_eq!((opened.opened_at, opened.opened_by, opened.bad_runs, opened.events), (at(120), run(2), 2, 1));
    assert_eq!(opened.began(), at(60), "it began with the first bad run");
    let later = evaluation(last.2, 3).expect("open");
    assert_eq!((later.verdict, later.reason, later.last_run), (Verdict::Failed, Some(Reason::Status), run(3)));
    assert_eq!((later.bad_runs, later.events, later.opened_by), (3, 1, run(2)));
    let still = evaluation(last.3, 4).expect("open");
    assert_eq!((still.last_run, still.is_open()), (run(3), true));
    let resolved = evaluation('P', 5).expect("resolved");
    assert_eq!((resolved.resolved_at, resolved.resolved_by, resolved.events), (Some(at(300)), Some(run(5)), 2));
}

/// Plays `second scenario letter` lines on the agent's own state and returns its events; `second` alone lets time pass.
fn agent(scenarios: usize, timeline: &str) -> Vec<String> {
    let mut agent = AgentAlertState::default();
    let mut in_a_row: BTreeMap<String, u32> = BTreeMap::new();
    let mut sent = Vec::new();
    for (number, line) in (1..).zip(timeline.split(',')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let second: i64 = words[0].parse().expect("a second");
        let evaluation = |ticked| match ticked {
            Ticked::Evaluated(result) => *result,
            Ticked::Also(news) => panic!("nothing else is wrong: {news}"),
        };
        let mut results = vec![agent.tick("waw-1", at(second)).map(evaluation)];
        if let [_, name, letter] = words[..] {
            let outcome = outcome(name, letter.chars().next().expect("a letter"), number, second);
            let unknown = in_a_row.entry(name.to_owned()).or_default();
            *unknown = match letter {
                "U" => *unknown + 1,
                "L" | "N" => *unknown,
                _ => 0,
            };
            results.push(agent.advance(&outcome, *unknown, scenarios));
            let after = agent.clone();
            assert_eq!(agent.advance(&outcome, *unknown, scenarios), None, "{line}: evaluated twice");
            assert_eq!(agent, after);
        }
        let stored = serde_json::to_string(&agent).expect("plain data");
        agent = serde_json::from_str(&stored).expect("reads back");
        sent.extend(results.iter().flatten().filter_map(event).map(|event| format!("{second} {event}")));
    }
    sent
}

#[test]
fn the_agent_itself() {
    let check = |scenarios: usize, timeline: &str, expected: &[&str]| {
        assert_eq!(agent(scenarios, timeline), expected, "{scenarios}: {timeline}");
    };
    // Three consecutive ones of one scenario, regardless of the time between them.
    check(100, "0 a U, 900 a U, 1800 a U", &["1800 opened warning #1"]);
    check(100, "0 a U, 60 a U, 120 a P, 180 a U, 240 a U", &[]);
    check(100, "0 a U, 60 a L, 120 a U, 180 a N, 240 a U", &["240 opened warning #1"]);
    // A tenth of all scenarios, and at least three.
    check(20, "0 a U, 1 b U", &[]);
    check(20, "0 a U, 1 b U, 2 c U", &["2 opened warning #1"]);
    check(2, "0 a U, 1 b U", &[]);
    check(40, "0 a U, 1 b U, 2 c U", &[]);
    check(40, "0 a U, 1 b U, 2 c U, 3 d U", &["3 opened warning #1"]);
    check(31, "0 a U, 1 b U, 2 c U", &[]);
    // Within five minutes.
    check(20, "0 a U, 1 b U, 300 c U", &[]);
    check(20, "0 a U, 1 b U, 299 c U", &["299 opened warning #1"]);
    check(20, "0 a U, 1 a U, 2 b U", &[]);
    // Runs that do not count.
    check(20, "0 a L, 1 b L, 2 c L, 3 d N, 4 e N, 5 f N", &[]);
    // Five minutes without unknown runs resolve the incident; a lost run does not extend them, an unknown one does.
    check(20, "0 a U, 1 b U, 2 c U, 301, 302", &["2 opened warning #1", "302 resolved warning #1"]);
    check(20, "0 a U, 1 b U, 2 c U, 200 a L, 302", &["2 opened warning #1", "302 resolved warning #1"]);
    check(20, "0 a U, 1 b U, 2 c U, 200 d U, 499, 500, 900", &["2 opened warning #1", "500 resolved warning #1"]);
    check(
        20,
        "0 a U, 1 b U, 2 c U, 302, 400 a U, 401 b U, 402 c U",
        &["2 opened warning #1", "302 resolved warning #1", "402 opened warning #2"],
    );
}

/// Model that evaluates the whole history each time.
#[derive(Default)]
struct Naive {
    since: usize,
    history: Vec<char>,
    open: Option<Severity>,
}

impl Naive {
    fn advance(&mut self, policy: &AlertPolicy, letter: char) -> Option<Event> {
        if letter == 'U' {
            return None;
        }
        self.history.push(letter);
        let bad = |letter: &char| match letter {
            'F' => policy.verdicts.contains(&Verdict::Failed),
            'D' => policy.verdicts.contains(&Verdict::Degraded),
            _ => false,
        };
        let good = |letter: &char| *letter != 'F' && !bad(letter);
        let recent: Vec<char> = self.history[self.since..].iter().rev().take(policy.of as usize).copied().collect();
        let failed = recent.iter().any(|letter| *letter == 'F' && bad(letter));
        let severity = if failed { policy.severity } else { policy.severity.min(Severity::Warning) };
        match self.open {
            None if bad(&letter) && recent.iter().filter(|letter| bad(letter)).count() >= policy.after as usize => {
                self.open = Some(severity);
                Some(Event::Opened)
            }
            Some(was) if bad(&letter) && severity > was => {
                self.open = Some(severity);
                Some(Event::Updated)
            }
            Some(_) => {
                let in_a_row = self.history[self.since..].iter().rev().take_while(|letter| good(letter)).count();
                let over = in_a_row >= policy.recover_after as usize;
                if over {
                    self.open = None;
                    self.since = self.history.len();
                }
                over.then_some(Event::Resolved)
            }
            None => None,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn as_the_naive_model_says(
        letters in proptest::collection::vec(proptest::sample::select(vec!['P', 'D', 'F', 'U']), 0..60),
        (after, of) in (1_u32..5).prop_flat_map(|of| (1..=of, Just(of))),
        recover_after in 1_u32..4,
        severity in proptest::sample::select(Severity::ALL.to_vec()),
        verdicts in proptest::sample::select(vec![
            vec![Verdict::Failed], vec![Verdict::Failed, Verdict::Degraded], vec![Verdict::Degraded],
        ]),
    ) {
        let mut scenario = scenario("");
        scenario.alert = AlertPolicy { after, of, recover_after, severity, verdicts, ..AlertPolicy::default() };
        let (mut watch, mut naive) = (AlertState::default(), Naive::default());
        let mut is_open = false;
        for (number, letter) in (1..).zip(&letters) {
            let result = watch.advance(&scenario, &outcome("shop", *letter, number, 0), None).expect("evaluated");
            let sent = result.event.as_ref().map(|(event, _)| *event);
            prop_assert_eq!(sent, naive.advance(&scenario.alert, *letter), "run {} of {:?}", number, letters);
            match sent {
                Some(Event::Opened) => { prop_assert!(!is_open); is_open = true; }
                Some(Event::Updated) => prop_assert!(is_open),
                Some(Event::Resolved) => { prop_assert!(is_open); is_open = false; }
                Some(Event::Reminder | Event::Digest) | None => {}
            }
            prop_assert_eq!(watch.open().is_some(), is_open);
        }
    }
}
