//! Shared fixtures of the alerting tests: scenarios from YAML, outcomes by letter, points in time.

use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::names::Reason;
use crate::outcome::{Outcome, RunId, Verdict};
use crate::scenario::{Lookup, LookupError, Scenario, ScenarioKind, load};

/// Empty environment.
pub struct Nothing;

impl Lookup for Nothing {
    fn env(&self, name: &str) -> Result<String, LookupError> {
        Err(LookupError::Missing(name.to_owned()))
    }
    fn file(&self, path: &Path, _: &str) -> Result<Vec<u8>, LookupError> {
        Err(LookupError::Missing(path.display().to_string()))
    }
}

/// Returns the first scenario of a file.
pub fn scenario_text(text: &str) -> Scenario {
    let loaded = load("shop.yaml", text, &Nothing);
    assert_eq!(loaded.diagnostics, [], "{text}");
    (*loaded.scenarios[0]).clone()
}

/// Returns a time in seconds after the start of the tests' time.
pub fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + second, 0).expect("a time")
}

/// Creates an outcome by letter at a second of the tests' time.
pub fn outcome(scenario: &str, letter: char, second: i64) -> Outcome {
    outcome_at(scenario, letter, at(second))
}

/// Creates an outcome by letter: P passed, D degraded, F failed, T failed with a timeout, C without a connection, X
/// with a failure of its own, U unknown, L lost, N not seen.
pub fn outcome_at(scenario: &str, letter: char, at: DateTime<Utc>) -> Outcome {
    let (verdict, reason, message) = match letter {
        'P' => (Verdict::Passed, None, None),
        'D' => (Verdict::Degraded, Some(Reason::Budget), None),
        'F' => (Verdict::Failed, Some(Reason::Status), Some("the status is 500")),
        'T' => (Verdict::Failed, Some(Reason::Timeout), Some("no response in time")),
        'C' => (Verdict::Failed, Some(Reason::Connect), Some("no connection to 10.0.0.1:80: refused")),
        'X' => (Verdict::Failed, Some(Reason::Assertion), Some("the page is broken: ")),
        'U' => (Verdict::Unknown, Some(Reason::Browser), None),
        'L' => (Verdict::Unknown, Some(Reason::Lost), None),
        'N' => (Verdict::Unknown, Some(Reason::NotSeen), None),
        other => panic!("no outcome is called {other}"),
    };
    Outcome {
        run: RunId::new(),
        seq: 0,
        streak: None,
        scenario: scenario.into(),
        name: scenario.into(),
        kind: ScenarioKind::Tcp,
        location: "here".into(),
        due_at: at,
        started_at: at,
        ended_at: at,
        duration: Duration::ZERO,
        verdict,
        reason,
        // The message of X is different for each scenario.
        message: message
            .map(|text| if letter == 'X' { format!("{text}{scenario}").as_str().into() } else { text.into() }),
        failed_step: None,
        steps: Vec::new(),
        evidence: Vec::new(),
        browser: None,
        differences: Vec::new(),
    }
}
