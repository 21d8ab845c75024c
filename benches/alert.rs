//! Outcomes a second through the pure pipeline of alerting, on one core: judged, and judged with what is written of it
//! as JSON. 5,000 scenarios with a run a minute each; 500 outcomes are one commit.
//!
//! No limits: a number that depends on the machine would fail by chance. The goal is 200,000 a second, judged.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use wachta::alert::Pipeline;
use wachta::names::Reason;
use wachta::notify::{Alerting, Receiver};
use wachta::outcome::{Failure, HttpResult, Outcome, RunId, StepResult, StepStatus, Verdict};
use wachta::scenario::{Lookup, LookupError, ScenarioKind, load};
use wachta::secret::Masked;

const SCENARIOS: usize = 5000;
const ROUNDS: usize = 40;
const COMMIT: usize = 500;
const GOAL: f64 = 200_000.0;

struct Nothing;

impl Lookup for Nothing {
    fn env(&self, name: &str) -> Result<String, LookupError> {
        Err(LookupError::Missing(name.to_owned()))
    }
    fn file(&self, path: &Path, _: &str) -> Result<Vec<u8>, LookupError> {
        Err(LookupError::Missing(path.display().to_string()))
    }
}

fn at(round: usize) -> DateTime<Utc> {
    let minutes = i64::try_from(round).expect("few rounds");
    DateTime::from_timestamp(1_800_000_000, 0).expect("a time") + TimeDelta::minutes(minutes)
}

/// Scenarios of one host, or each of its own.
fn pipeline(own_host: bool) -> Pipeline {
    let mut text = "checks:\n".to_owned();
    for n in 0..SCENARIOS {
        let host = if own_host { format!("shop-{n}") } else { "gateway".to_owned() };
        text.push_str(&format!("  s{n}: {{http: \"https://{host}.example.com/{n}\", tags: {{team: t{}}}}}\n", n % 10));
    }
    let loaded = load("checks.yaml", &text, &Nothing);
    assert_eq!((loaded.scenarios.len(), loaded.diagnostics.len()), (SCENARIOS, 0));
    let mut pipeline = Pipeline::new("here");
    let receivers = vec![Receiver { name: "team".into(), ..Receiver::default() }];
    pipeline.set_alerting(Arc::new(Alerting { receivers, ..Alerting::default() }));
    let scenarios = loaded.scenarios.into_iter().map(|scenario| (scenario.id.value.clone(), scenario));
    pipeline.set_scenarios(Arc::new(scenarios.collect()), &wachta::alert::Idle::default(), at(0));
    pipeline
}

fn outcome(n: usize, round: usize, bad: bool, own_host: bool) -> Outcome {
    let host = if own_host { format!("shop-{n}") } else { "gateway".to_owned() };
    let url = format!("https://{host}.example.com/{n}");
    // A gateway that answers for all is one cause; a status of the application's own is one for each of its URLs.
    let status = if own_host { 500 } else { 503 };
    let message = Masked::constant("the status is not 200");
    let failure = Failure {
        message: message.clone(),
        reason: Reason::Status,
        expected: None,
        seen: None,
        waited: None,
        span: None,
    };
    let step = StepResult {
        name: format!("GET {url}"),
        depth: 0,
        finally: false,
        optional: false,
        span_id: "0".repeat(16),
        offset: Duration::ZERO,
        duration: Duration::from_millis(12),
        status: if bad { StepStatus::Failed } else { StepStatus::Passed },
        place: "checks.yaml:2:3".into(),
        failure: bad.then_some(failure),
        http: Some(HttpResult { method: "GET".into(), url, status, bytes: 1, hops: Vec::new() }),
        certificate_expires_at: None,
        earlier_requests: Vec::new(),
        notes: Vec::new(),
        snippet: None,
        retried: false,
        page: None,
    };
    Outcome {
        run: RunId::new(),
        seq: 0,
        streak: None,
        scenario: format!("s{n}").as_str().into(),
        name: format!("s{n}"),
        kind: ScenarioKind::Http,
        location: "here".into(),
        due_at: at(round),
        started_at: at(round),
        ended_at: at(round),
        duration: Duration::from_millis(12),
        verdict: if bad { Verdict::Failed } else { Verdict::Passed },
        reason: bad.then_some(Reason::Status),
        message: bad.then_some(message),
        failed_step: bad.then_some(0),
        steps: vec![step],
        evidence: Vec::new(),
        browser: None,
        differences: Vec::new(),
    }
}

fn measure(what: &str, own_host: bool, bad: impl Fn(usize, usize) -> bool) {
    for written in [false, true] {
        let mut pipeline = pipeline(own_host);
        let (mut spent, mut slowest, mut notifications, mut bytes) = (Duration::ZERO, Duration::ZERO, 0, 0);
        for round in 1..=ROUNDS {
            let outcomes: Vec<Outcome> = (0..SCENARIOS).map(|n| outcome(n, round, bad(n, round), own_host)).collect();
            for commit in outcomes.chunks(COMMIT) {
                let began = Instant::now();
                for outcome in commit {
                    pipeline.process_outcome(outcome, at(round));
                }
                pipeline.tick(at(round));
                let effects = pipeline.effects();
                if written {
                    let open = effects.alert_states.iter().filter_map(|subject| pipeline.incident(subject).cloned());
                    bytes += open
                        .chain(effects.resolved_incidents.iter().cloned())
                        .map(|incident| serde_json::to_string(&incident).expect("plain data").len())
                        .sum::<usize>();
                    bytes += effects
                        .alert_states
                        .iter()
                        .map(|subject| pipeline.alert_state(subject).to_string().len())
                        .sum::<usize>();
                    let memory = pipeline.take_changes();
                    bytes +=
                        memory.iter().filter_map(|(_, body)| body.as_ref()).map(|b| b.to_string().len()).sum::<usize>();
                }
                notifications += effects.notifications.len();
                drop(effects);
                let took = began.elapsed();
                spent += took;
                slowest = slowest.max(took);
            }
        }
        let outcomes = (SCENARIOS * ROUNDS) as f64;
        let rate = outcomes / spent.as_secs_f64();
        let what = if written { format!("{what}, as JSON") } else { what.to_owned() };
        let per_outcome = bytes as f64 / outcomes;
        println!("{what:<52} {rate:>12.0} {:>8.2} {slowest:>12.3?} {notifications:>8} {per_outcome:>8.0}", rate / GOAL);
    }
}

fn main() {
    println!(
        "{:<52} {:>12} {:>8} {:>12} {:>8} {:>8}",
        "", "outcomes/s", "/ goal", "slowest 500", "notifications", "bytes"
    );
    measure("all good", false, |_, _| false);
    measure("1 % bad, each three times", false, |n, round| (n * 31 + round / 3 * 57) % 100 == 0);
    measure("a storm of 5,000 with one cause, and its end", false, |_, round| (round / 10) % 2 == 1);
    measure("a storm of 5,000, each its own cause, and its end", true, |_, round| (round / 10) % 2 == 1);
}
