//! Failures with and without a common fingerprint.

use std::time::Duration;

use super::*;
use crate::alert::fixtures::{outcome, scenario_text};
use crate::outcome::{Failure, Hop, HttpResult, StepStatus};

#[test]
fn a_message_keeps_what_is_the_same_in_every_run() {
    let check = |message: &str, expected: &str| assert_eq!(normalised(message), expected, "{message}");
    check("", "");
    check("the status is 500", "the status is N");
    check("no response in time", "no response in time");
    // Numbers, durations, sizes.
    check("timed out after 1.5s", "timed out after N");
    check("timed out after 10 s, 3 tries.", "timed out after N s, N tries.");
    check("took 812ms, faster than 800ms wanted", "took N, faster than N wanted");
    check("the body is larger than 4 MiB", "the body is larger than N MiB");
    check("(os error 111)", "(os error N)");
    // Ids.
    check("order 0192f3c4-5b6a-7c8d-9e0f-112233445566 is gone", "order ID is gone");
    check("no row for ord_8fz2k1q9x", "no row for ID");
    check("`request-4711abcd` was lost", "`ID` was lost");
    // Quoted values, including those of several words.
    check("expected \"Thank you\", seen 'Sorry, try again'.", "expected \"…\" seen \"…\"");
    check("no element matches button \"Pay now\"", "no element matches button \"…\"");
    check("the title is “Shop — 3 items” (seen twice)", "the title is \"…\" (seen twice)");
    check("an open \"quote that never ends", "an open \"…\"");
    // Names of headers, paths and hosts are chosen by the author and kept.
    check("header `x-cache`: \"MISS\"", "header `x-cache`: \"…\"");
    check("`shop.example.com` did not resolve: no such host", "`shop.example.com` did not resolve: no such host");
    // Addresses identify the target and are kept.
    check(
        "no connection to 10.0.0.5:443: refused (os error 111)",
        "no connection to 10.0.0.5:443 refused (os error N)",
    );
    check("no response from 10.0.0.5", "no response from 10.0.0.5");
    check("no route to [2001:db8::1]:443: down", "no route to [2001:db8::1]:443 down");
    // Limited in length, and never truncated within a character.
    assert_eq!(normalised(&"ż ".repeat(1000)).chars().count(), LONGEST);
}

/// Creates the key of a failure: `kind | base URL | step | reason | message | status or none`.
fn key(line: &str) -> String {
    made(line).0
}

/// Creates the key and the quick hash of a failure.
fn made(line: &str) -> (String, u64) {
    let words: Vec<&str> = line.split('|').map(str::trim).collect();
    let [id, base, step, reason, message, status] = words[..] else { panic!("six words: {line}") };
    let text = match base {
        "" => format!("scenario: {id}\nsteps:\n  - GET: http://a/\n"),
        base => format!("scenario: {id}\nbase_url: {base}\nsteps:\n  - GET: /\n"),
    };
    let scenario = scenario_text(&text);
    let reason = *Reason::ALL.iter().find(|known| known.as_str() == reason).expect("a reason");
    let mut outcome = outcome(id, 'F', 0);
    outcome.kind = ScenarioKind::Api;
    outcome.reason = Some(reason);
    let url = format!("{base}{}", step.split_whitespace().nth(1).unwrap_or_default());
    let hop = Hop { method: "GET".into(), url: url.clone(), ..Hop::default() };
    outcome.failed_step = Some(1);
    let passed = StepResult {
        name: "GET /".into(),
        depth: 0,
        finally: false,
        optional: false,
        span_id: String::new(),
        offset: Duration::ZERO,
        duration: Duration::ZERO,
        status: StepStatus::Passed,
        place: String::new(),
        failure: None,
        http: None,
        certificate_expires_at: None,
        earlier_requests: Vec::new(),
        notes: Vec::new(),
        snippet: None,
        retried: false,
        page: None,
    };
    let failed = StepResult {
        name: step.into(),
        status: StepStatus::Failed,
        failure: Some(Failure::new(reason, message).into()),
        http: status.parse().ok().map(|status| HttpResult {
            method: "GET".into(),
            url,
            status,
            bytes: 0,
            hops: vec![hop],
        }),
        ..passed.clone()
    };
    outcome.steps = vec![passed, failed];
    let cause = FailureFingerprint::of(&scenario, &outcome);
    let with_status = if reason == Reason::Status { format!(" {status}").trim_end().to_owned() } else { String::new() };
    let with_status = if with_status.is_empty() { with_status } else { format!(" {}", with_status.trim_start()) };
    assert_eq!(cause.brief, format!("{}{with_status} at step 2", reason.as_str()));
    (cause.key, FailureFingerprint::quick_hash(&outcome))
}

#[test]
fn failures_of_one_cause_have_one_key() {
    let same = |one: &str, other: &str| assert_eq!(key(one), key(other), "{one}\n{other}");
    let other = |one: &str, other: &str| {
        let (one_is, other_is) = (made(one), made(other));
        assert_ne!(one_is.0, other_is.0, "{one}\n{other}");
        // Both within one scenario, where equal hashes would hide the change.
        assert_ne!(one_is.1, other_is.1, "{one}\n{other}");
        assert_eq!(made(one), one_is);
    };
    // Forty flows that fail at one login.
    same(
        "a | http://shop | POST /login | status | POST http://shop/login returned status 500 | 500",
        "b | http://shop | POST /login (2) | status | POST http://shop/login?id=7 returned status 500 | 500",
    );
    same(
        "a | http://shop | click button \"Sign in\" | not_found | no element matches button \"Sign in\" |",
        "b | http://shop | click button \"Sign in\" | not_found | no element matches button \"Sign in\" |",
    );
    other("a | http://shop | POST /login | status | m | 500", "a | http://shop | POST /orders | status | m | 500");
    other("a | http://shop | POST /login | status | m | 500", "a | http://shop | POST /login | status | m | 404");
    other("a | http://shop | POST /login | status | m | 500", "a | http://blog | POST /login | status | m | 500");
    // A gateway that responds for every application, and an unreachable host.
    same("a | http://shop | GET /a | status | a | 502", "b | http://shop | GET /b | status | b | 502");
    other("a | http://shop | GET /a | status | a | 502", "b | http://shop | GET /a | status | a | 503");
    let refused = "connect | no connection to 10.0.0.5:80: refused (os error 111)";
    same(&format!("a | http://shop | GET /a | {refused} |"), &format!("b | http://shop | POST /b | {refused} |"));
    other(
        &format!("a | http://shop | GET /a | {refused} |"),
        "b | http://shop | GET /a | connect | no connection to 10.0.0.6:80: refused |",
    );
    same(
        "a | http://shop | GET /a | timeout | no response in time |",
        "b | http://shop | GET /b | timeout | timed out after 5s |",
    );
    // Content that is missing on a page is specific to the page.
    other(
        "a | http://shop | GET /a | assertion | `$.id` in the body: 7 |",
        "a | http://shop | GET /b | assertion | `$.id` in the body: 7 |",
    );
    same(
        "a | http://shop | GET /a | assertion | `$.id` in the body: 7 |",
        "b | http://shop | GET /a | assertion | `$.id` in the body: 8 |",
    );
    other("a | http://shop | GET /a | timeout | m |", "a | http://shop | GET /a | connect | m |");
    assert_eq!(key("a | http://shop:8080 | POST /login | status | m | 500"), "status · shop:8080 · POST /login · 500");
    assert_eq!(key("a | http://shop | GET /a | dns | `shop` did not resolve |"), "dns · shop · `shop` did not resolve");
}

#[test]
fn a_missed_budget_is_the_scenarios_own() {
    let scenario = scenario_text("scenario: a\nbase_url: http://shop\nsteps:\n  - GET: /\n");
    let of = |id: &str| FailureFingerprint::of(&scenario, &outcome(id, 'D', 0)).key;
    assert_eq!(of("a"), "budget · shop · a");
    assert_ne!(of("a"), of("b"));
}
