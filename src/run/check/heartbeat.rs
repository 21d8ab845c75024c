//! A heartbeat: expects a check-in within the window that ends now.
//!
//! The result is unknown, not failed, if there was never a check-in, and if the agent was not running during the whole
//! window, because the check-in may have been missed.

use chrono::{DateTime, Utc};

use super::context::CheckContext;
use crate::names::Reason;
use crate::outcome::Failure;
use crate::scenario::check::heartbeat::HeartbeatCheck;
use crate::scenario::{HumanDuration, Schedule};
use crate::store;

/// Runs the check.
pub async fn check(check: &HeartbeatCheck, around: &CheckContext<'_>) -> Result<(), Failure> {
    let Some(beats) = &around.tools.beats else {
        return Err(Failure::new(Reason::Configuration, "check-ins are received by `wachta serve` only"));
    };
    let asked = tokio::time::timeout(around.timeout, beats.store.check_in_state(&check.name)).await;
    let known = match asked {
        Ok(Ok(known)) => known,
        Ok(Err(error)) => return Err(Failure::new(Reason::Store, error.to_string())),
        Err(_) => return Err(Failure::new(Reason::Store, "the store did not respond in time")),
    };
    let awake_since = *beats.awake_since.borrow();
    judge(check, &around.values.scenario().schedule, known.as_ref(), awake_since, around.due_at)
}

/// Evaluates the check-ins; a pure function.
fn judge(
    check: &HeartbeatCheck,
    schedule: &Schedule,
    known: Option<&store::CheckInState>,
    awake_since: DateTime<Utc>,
    judged_at: DateTime<Utc>,
) -> Result<(), Failure> {
    let name = &check.name.value;
    let from = check.window(schedule, judged_at);
    let ended = known.and_then(|known| known.ended.as_ref());
    if let Some(ended) = ended.filter(|ended| ended.at >= from) {
        return match ended.code {
            0 => Ok(()),
            code => {
                let how = if code == store::FAILED { "failed".to_owned() } else { format!("exit code {code}") };
                Err(Failure::new(Reason::Heartbeat, format!("`{name}` reported a failure"))
                    .compared("success", format!("{how}, {}", ended.at.format("%F %T UTC"))))
            }
        };
    }
    let Some(known) = known else {
        let message = format!("no check-in from `{name}` yet; it checks in with a request to /beat/{name}");
        return Err(Failure::new(Reason::NotSeen, message));
    };
    if awake_since > from {
        let message = format!(
            "no check-in from `{name}`, but the agent receives check-ins only since {}",
            awake_since.format("%F %T UTC")
        );
        return Err(Failure::new(Reason::Asleep, message));
    }
    let window = HumanDuration((judged_at - from).to_std().unwrap_or_default());
    let last = match (ended, known.started_at.filter(|at| *at >= from)) {
        (_, Some(started)) => format!("started at {}, not finished", started.format("%F %T UTC")),
        (Some(ended), None) => format!("last check-in at {}", ended.at.format("%F %T UTC")),
        (None, None) => "none".to_owned(),
    };
    Err(Failure::new(Reason::Heartbeat, format!("no check-in from `{name}`"))
        .compared(format!("a check-in within the {window} before {}", judged_at.format("%F %T UTC")), last))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::diagnostic::{Span, Spanned};

    #[test]
    fn a_table_of_calls_and_what_they_mean() {
        let at = |clock: &str| -> DateTime<Utc> { format!("2026-11-23T{clock}:00Z").parse().unwrap() };
        let minutes = |n: u64| Duration::from_secs(n * 60);
        let nightly = Schedule::Cron { expression: "0 3 * * *".into(), timezone: chrono_tz::UTC };
        let hourly = Schedule::Every(minutes(60));
        let judged = |schedule: &Schedule, end: Option<(&str, u8)>, start: Option<&str>, awake: &str| {
            let check = HeartbeatCheck { name: Spanned::new("job".into(), Span::default()), grace: minutes(60) };
            let known = store::CheckInState {
                started_at: start.map(at),
                ended: end.map(|(clock, code)| store::CheckInEnd { at: at(clock), code }),
            };
            let known = (end.is_some() || start.is_some()).then_some(&known);
            match judge(&check, schedule, known, at(awake), at("04:00")) {
                Ok(()) => "passed".to_owned(),
                Err(failure) => failure.reason.to_string(),
            }
        };
        for (schedule, end, start, awake, expected) in [
            // The job is due at 3:00 and evaluated at 4:00; check-ins count from 2:00 on.
            (&nightly, Some(("03:20", 0)), None, "00:00", "passed"),
            (&nightly, Some(("02:59", 0)), None, "00:00", "passed"),
            (&nightly, Some(("01:59", 0)), None, "00:00", "heartbeat"),
            (&nightly, Some(("03:20", 3)), None, "00:00", "heartbeat"),
            (&nightly, Some(("03:20", store::FAILED)), None, "00:00", "heartbeat"),
            (&nightly, None, Some("03:00"), "00:00", "heartbeat"),
            (&nightly, None, None, "00:00", "not_seen"),
            // A check-in counts regardless of how long the agent has been running.
            (&nightly, Some(("03:20", 0)), None, "03:10", "passed"),
            (&nightly, Some(("03:20", 1)), None, "03:10", "heartbeat"),
            (&nightly, Some(("01:00", 0)), None, "03:10", "asleep"),
            (&nightly, Some(("01:00", 1)), None, "02:00", "heartbeat"),
            (&nightly, None, None, "03:10", "not_seen"),
            // Once per hour at any minute: one interval plus the grace.
            (&hourly, Some(("02:01", 0)), None, "00:00", "passed"),
            (&hourly, Some(("01:59", 0)), None, "00:00", "heartbeat"),
        ] {
            assert_eq!(judged(schedule, end, start, awake), expected, "{schedule} {end:?} {start:?} {awake}");
        }
    }
}
