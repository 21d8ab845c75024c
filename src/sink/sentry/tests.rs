//! The requests sent to Sentry and the effects of its responses, with a scripted server.

use serde_json::json;

use super::*;
use crate::bounded::credential::Credential;
use crate::incident::{Incident, Subject};
use crate::scenario::{Lookup, LookupError, Scenario, load};
use crate::sink::HttpSettings;
use crate::sink::fixtures::{self, Answerer};
use serde_json::Value;

struct Nothing;

impl Lookup for Nothing {
    fn env(&self, name: &str) -> Result<String, LookupError> {
        Err(LookupError::Missing(name.to_owned()))
    }

    fn file(&self, path: &std::path::Path, _: &str) -> Result<Vec<u8>, LookupError> {
        Err(LookupError::Missing(path.display().to_string()))
    }
}

/// Returns a bad run of a flow whose second step decided the verdict.
fn outcome() -> Outcome {
    serde_json::from_value(json!({
        "run": "01935400-0000-7000-8000-000000000001", "scenario": "shop", "name": "Shop", "kind": "api",
        "location": "waw", "due_at": "2026-11-22T12:00:00Z", "started_at": "2026-11-22T12:00:00Z",
        "ended_at": "2026-11-22T12:00:02Z", "duration": 1.5, "verdict": "failed", "reason": "status",
        "message": "buy: returned status 500", "failed_step": 1,
        "steps": [
            {"name": "login", "span_id": "0123456789abcdef", "offset": 0.0, "duration": 0.5, "status": "passed",
             "place": "shop.yaml:3:5"},
            {"name": "buy", "span_id": "0123456789abcde0", "offset": 0.5, "duration": 1.0, "status": "failed",
             "place": "shop.yaml:4:7", "failure": {"reason": "status", "message": "returned status 500"}},
            {"name": "log out", "span_id": "0123456789abcde1", "offset": 1.5, "duration": 0.0, "status": "skipped",
             "place": "shop.yaml:5:5"},
        ],
        "evidence": [],
    }))
    .unwrap()
}

fn change(seq: u64, transition: Transition) -> Change {
    let outcome = outcome();
    let tags = [("service", "shop"), ("environment", "staging")];
    let incident = Incident {
        tags: tags.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        message: outcome.message.clone(),
        reason: outcome.reason,
        step: Some("buy".into()),
        place: Some("shop.yaml:4:7".into()),
        target: Some("http://shop.example.com/buy".into()),
        ..Incident::opened(Subject::from("shop"), 3, &outcome)
    };
    let at = incident.opened_at;
    let ended = if transition == Transition::Resolved { vec!["status · shop".to_owned()] } else { Vec::new() };
    Change { seq, transition, at, incident, cause: "status · shop".into(), ended_causes: ended }
}

fn changed(seq: u64, transition: Transition) -> Event {
    Event::Changed(Arc::new(change(seq, transition)))
}

fn finished(seq: u64, scenario: Option<Arc<Scenario>>) -> Event {
    Event::Finished(Finished { scenario, outcome: Arc::new(Outcome { seq, ended_at: Utc::now(), ..outcome() }) })
}

fn scenario(schedule: &str) -> Arc<Scenario> {
    let text = format!("scenario: Shop\n{schedule}\nsteps: [{{GET: \"http://shop/\"}}]\n");
    let loaded = load("shop.yaml", &text, &Nothing);
    loaded.scenarios.into_iter().next().unwrap_or_else(|| panic!("{:?}", loaded.diagnostics))
}

fn labels() -> Labels {
    Labels { location: "waw".into(), environment: "production".into(), release: Some("shop@1".into()) }
}

fn sink(server: &Answerer, api: Option<Api>) -> Box<dyn Sink> {
    let dsn = format!("http://key@{}/7", server.url.authority());
    let config = Config {
        dsn: Credential::text(dsn),
        environment: "production".into(),
        release: None,
        has_monitors: true,
        has_own_errors: false,
        ca: None,
        api,
    };
    config.build(&fixtures::context_with_http()).unwrap()
}

/// Returns the item types of each received envelope.
fn items(server: &Answerer) -> Vec<String> {
    let types = |(line, key, body): &fixtures::Asked| {
        assert_eq!(line, "POST /api/7/envelope/");
        assert!(key.contains("sentry_key=key") && key.contains("sentry_client=wachta/"), "{key}");
        let headers = body.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let types =
            headers.filter(|line| line.get("length").is_some()).map(|line| line["type"].as_str().unwrap().to_owned());
        types.collect::<Vec<_>>().join(" ")
    };
    server.asked().iter().map(types).collect()
}

#[test]
fn an_incident_is_an_event_with_what_led_to_it() {
    let event = item::event(&change(1, Transition::Opened), Some(&outcome()), &labels());
    let body = serde_json::to_value(&event).unwrap();
    let check =
        |pointer: &str, expected: Value| assert_eq!(body.pointer(pointer), Some(&expected), "{pointer} of {body:#}");
    check("/level", json!("warning"));
    check("/fingerprint", json!(["status · shop"]));
    check("/transaction", json!("shop"));
    check("/timestamp", json!(1_795_348_802));
    // A tag of the scenario overrides the configuration.
    check("/environment", json!("staging"));
    check("/release", json!("shop@1"));
    check("/exception/values/0/type", json!("status"));
    check("/exception/values/0/value", json!("buy: returned status 500"));
    check("/exception/values/0/stacktrace/frames/0/filename", json!("shop.yaml"));
    check("/exception/values/0/stacktrace/frames/0/lineno", json!(4));
    check("/exception/values/0/stacktrace/frames/0/colno", json!(7));
    check("/exception/values/0/stacktrace/frames/0/function", json!("buy"));
    check("/request/url", json!("http://shop.example.com/buy"));
    check("/contexts/trace/trace_id", json!("01935400000070008000000000000001"));
    check("/contexts/trace/span_id", json!("0123456789abcde0"));
    check("/tags/service", json!("shop"));
    check("/tags/wachta.run", json!("01935400-0000-7000-8000-000000000001"));
    check("/tags/wachta.incident", json!("shop:3"));
    let crumbs = body["breadcrumbs"]["values"].as_array().unwrap();
    let crumbs: Vec<_> = crumbs.iter().map(|crumb| (crumb["message"].as_str().unwrap(), &crumb["timestamp"])).collect();
    assert_eq!(crumbs, [("login", &json!(1_795_348_800.5)), ("buy: returned status 500", &json!(1_795_348_801.5))]);
    // The event has the same id when it is sent again; another change has another id.
    let again = item::event(&change(9, Transition::Opened), None, &labels());
    assert_eq!(again.event_id, event.event_id);
    assert_ne!(item::event(&change(1, Transition::Updated), None, &labels()).event_id, event.event_id);
}

#[test]
fn schedules_are_monitors_where_sentry_knows_them() {
    let check = |schedule: &str, expected: Option<Value>| {
        let check_in = item::check_in(&scenario(schedule), &outcome(), &labels());
        let config = check_in.map(|check_in| serde_json::to_value(check_in.monitor_config.unwrap().schedule).unwrap());
        assert_eq!(config, expected, "{schedule}");
    };
    check("every: 5m", Some(json!({"type": "interval", "value": 5, "unit": "minute"})));
    check("every: 2h", Some(json!({"type": "interval", "value": 120, "unit": "minute"})));
    check("every: 30s", None);
    check("every: 90s", None);
    let cron = json!({"type": "crontab", "value": "*/15 8-18 * * 1-5"});
    check("cron: \"*/15 8-18 * * 1-5\"\ntimezone: Europe/Warsaw", Some(cron));
    let check_in = item::check_in(&scenario("every: 5m\ntimeout: 90s"), &outcome(), &labels()).unwrap();
    let body = serde_json::to_value(check_in).unwrap();
    assert_eq!(
        body,
        json!({
            "check_in_id": "01935400000070008000000000000001", "monitor_slug": "shop-waw", "status": "error",
            "environment": "production", "duration": 1.5,
            "monitor_config": {
                "schedule": {"type": "interval", "value": 5, "unit": "minute"}, "checkin_margin": 3,
                "failure_issue_threshold": 2, "recovery_threshold": 2,
            },
        })
    );
    let unknown = Outcome { verdict: Verdict::Unknown, ..outcome() };
    assert_eq!(item::check_in(&scenario("every: 5m"), &unknown, &labels()), None);
    let odd = Outcome { scenario: "Shop.Checkout/ä".into(), ..outcome() };
    let slug = item::check_in(&scenario("every: 5m"), &odd, &labels()).unwrap().monitor_slug;
    assert!(slug.starts_with("shop-checkout---waw-") && slug.len() == 28, "{slug}");
}

#[tokio::test]
async fn events_and_check_ins_are_sent_once_each() {
    let server = Answerer::start("", vec![(200, "", "{}"), (503, "retry-after: 7", "{}")], "{}").await;
    let mut sink = sink(&server, None);
    let batch = [
        finished(1, Some(scenario("every: 5m"))),
        changed(2, Transition::Opened),
        changed(3, Transition::Acknowledged),
    ];
    let after = Some(Duration::from_secs(7));
    assert_eq!(sink.send(&batch).await, Sent::Retry { after, reason: "status 503: {}".into() });
    assert_eq!(items(&server), ["check_in", "event"]);
    // Only the items that were not accepted are sent again.
    assert_eq!(sink.send(&batch).await, Sent::Taken);
    assert_eq!(items(&server), ["event"]);
    // A late check-in would only confuse.
    let Event::Finished(late) = finished(4, Some(scenario("every: 5m"))) else { unreachable!() };
    let late = Outcome { ended_at: Utc::now() - TimeDelta::minutes(6), ..Outcome::clone(&late.outcome) };
    let late = Finished { scenario: Some(scenario("every: 5m")), outcome: Arc::new(late) };
    assert_eq!(sink.send(&[Event::Finished(late), finished(5, None)]).await, Sent::Taken);
    assert_eq!(items(&server), Vec::<String>::new());
}

#[tokio::test]
async fn what_is_refused_is_told_apart_from_what_may_be_taken_later() {
    let check = async |status: u16, expected: Sent| {
        let server = Answerer::start("", vec![(status, "", r#"{"detail":"no\nway"}"#)], "{}").await;
        assert_eq!(sink(&server, None).send(&[changed(1, Transition::Opened)]).await, expected, "{status}");
    };
    let refused = |reason: &str| Sent::Partial(vec![Refusal { index: 0, reason: reason.into(), for_now: false }]);
    let retry = |reason: &str| Sent::Retry { after: None, reason: reason.into() };
    check(400, refused("status 400: no way")).await;
    check(413, refused("status 413: the event is too large")).await;
    for status in [401, 403, 404, 500] {
        check(status, retry(&format!("status {status}: no way"))).await;
    }
}

#[tokio::test]
async fn limits_of_the_server_are_obeyed_by_kind() {
    let plan = vec![(200, "x-sentry-rate-limits: 60:monitor:organization, 1:transaction:key", "{}")];
    let server = Answerer::start("", plan, "{}").await;
    let mut limited = sink(&server, None);
    let run = |seq| finished(seq, Some(scenario("every: 5m")));
    assert_eq!(limited.send(&[run(1), run(2), changed(3, Transition::Opened)]).await, Sent::Taken);
    assert_eq!(items(&server), ["check_in", "event"], "further check-ins are left out");
    let server = Answerer::start("", vec![(429, "x-sentry-rate-limits: 60::organization", "{}")], "{}").await;
    let mut limited = sink(&server, None);
    assert!(matches!(limited.send(&[changed(1, Transition::Opened)]).await, Sent::Retry { after: None, .. }));
    let Sent::Retry { after: Some(after), .. } = limited.send(&[changed(1, Transition::Opened)]).await else {
        panic!("it is left alone")
    };
    assert!(after <= Duration::from_secs(60) && after > Duration::from_secs(50), "{after:?}");
    assert_eq!(items(&server), ["event"]);
}

#[tokio::test]
async fn issues_are_resolved_with_the_last_incident_of_their_cause() {
    let id = item::cause_id("status · shop");
    let issues = r#"[{"id": "11"}, {"id": "12"}]"#;
    let server = Answerer::start("", vec![(200, "", issues), (502, "", "")], "[]").await;
    let api = Api {
        url: server.url.clone(),
        token: Credential::text("a token"),
        organization: Some("acme".into()),
        project: "shop".into(),
    };
    let mut sink = sink(&server, Some(api));
    let batch = [changed(1, Transition::Resolved)];
    let reason = "cannot resolve the issue: status 502".to_owned();
    assert_eq!(sink.send(&batch).await, Sent::Retry { after: None, reason });
    let asked = server.asked();
    let lines: Vec<&str> = asked.iter().map(|(line, ..)| line.as_str()).collect();
    let base = "/api/0/projects/acme/shop/issues/";
    assert_eq!(
        lines,
        [&format!("GET {base}?query=is%3Aunresolved+wachta.cause%3A{id}"), &format!("PUT {base}?id=11&id=12")]
    );
    assert_eq!((asked[1].1.as_str(), asked[1].2.as_str()), ("Bearer a token", r#"{"status":"resolved"}"#));
    assert_eq!(sink.send(&batch).await, Sent::Taken);
    assert_eq!(server.asked().len(), 1, "there is none any longer");
}

#[tokio::test]
async fn own_errors_are_reported() {
    let server = Answerer::start("", Vec::new(), "{}").await;
    let error = OwnError {
        at: Utc::now(),
        target: "wachta::store",
        message: "the store does not answer".into(),
        values: "error=locked".into(),
        count: 3,
    };
    let event = item::own_error(&error, &labels());
    let body = serde_json::to_value(&event).unwrap();
    assert_eq!(body["fingerprint"], json!(["wachta", "wachta::store", "the store does not answer"]));
    assert_eq!(body["extra"], json!({"count": 3, "values": "error=locked"}));
    assert_eq!(body["release"], format!("wachta@{}", env!("CARGO_PKG_VERSION")));
    let panic = item::own_error(&OwnError { target: own_errors::PANIC, ..error.clone() }, &labels());
    assert_eq!(serde_json::to_value(&panic).unwrap()["level"], "fatal");
    let dsn = Credential::text(format!("http://key@{}/7", server.url.authority()));
    let config = Config {
        dsn,
        environment: "production".into(),
        release: None,
        has_monitors: false,
        has_own_errors: true,
        ca: None,
        api: None,
    };
    let client = (fixtures::context_with_http().http_client)(HttpSettings::default()).unwrap();
    let mut sink = Sentry::new(config, client, labels(), fixtures::context().evidence);
    sink.own_errors = vec![error];
    assert!(sink.upkeep_at().is_some());
    assert_eq!(sink.upkeep().await, Sent::Taken);
    assert!(items(&server).contains(&"event".to_owned()));
    assert!(sink.own_errors.is_empty());
}
