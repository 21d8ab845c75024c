//! PagerDuty in both directions, with a server that implements its REST API and its Events API.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::server::{Answer, Request, serve};
use super::*;
use crate::notify::feedback::{FEEDBACK, FeedbackChannel};
use crate::notify::pagerduty_poll::{Failure, pause, round};
use crate::store::{Batch, Outbox as _, Runs as _, Sqlite};
use crate::tasks::Tasks;

const TOKEN: &str = "hidden-token-1234";

/// Returns the dedup key of an incident's alert.
fn dedup_key(opening: u64) -> String {
    notification(opening).dedup_key()
}

/// Returns an incident of PagerDuty with one alert.
fn there(id: &str, alert: &str, status: &str) -> Json {
    json!({
        "id": id, "type": "incident", "incident_key": null, "status": status, "created_at": "2027-01-15T08:00:00Z",
        "acknowledgements": [], "alert_keys": [alert],
    })
}

fn person(name: &str) -> Json {
    json!({"id": "P1", "type": "user_reference", "summary": name})
}

fn integration() -> Json {
    json!({"id": "S1", "type": "service_reference", "summary": "Shop"})
}

fn acknowledged(id: &str, alert: &str, who: &Json) -> Json {
    let mut incident = there(id, alert, "acknowledged");
    incident["acknowledgements"] = json!([{"at": "2027-01-15T08:01:00Z", "acknowledger": who}]);
    incident
}

fn resolved_there(id: &str, alert: &str, who: &Json) -> Json {
    let mut incident = there(id, alert, "resolved");
    incident["last_status_change_by"] = who.clone();
    incident
}

/// State of the account, and the requests to it.
#[derive(Clone, Default)]
struct Account {
    incidents: Arc<Mutex<Vec<Json>>>,
    /// Response to all requests, if set.
    always: Arc<Mutex<Option<Answer>>>,
    asked: Arc<Mutex<Vec<String>>>,
    events: Arc<Mutex<Vec<String>>>,
}

impl Account {
    fn hold(&self, incidents: &[Json]) {
        *self.incidents.lock().unwrap() = incidents.to_vec();
    }

    fn answer(&self, request: &Request) -> Answer {
        let url = url::Url::parse(&format!("http://there{}", request.path)).unwrap();
        if url.path() == "/v2/enqueue" {
            let event = request.json();
            let (action, key) = (event["event_action"].as_str().unwrap(), event["dedup_key"].as_str().unwrap());
            self.events.lock().unwrap().push(format!("{action} {key}"));
            return Answer::Full(202, "", json!({"status": "success"}).to_string());
        }
        self.asked.lock().unwrap().push(url.path().to_owned());
        if let Some(always) = &*self.always.lock().unwrap() {
            return always.clone();
        }
        assert_eq!(request.header("authorization"), Some("Token token=hidden-token-1234"));
        assert_eq!(request.header("accept"), Some("application/vnd.pagerduty+json;version=2"));
        let query =
            |name: &str| url.query_pairs().find(|(known, _)| known == name).map(|(_, value)| value.into_owned());
        let page = |name: &str, all: Vec<Json>| {
            let number = |name: &str| query(name).and_then(|text| text.parse::<usize>().ok()).unwrap();
            let (limit, offset) = (number("limit"), number("offset"));
            let some: Vec<_> = all.iter().skip(offset).take(limit).cloned().collect();
            Answer::ok(&json!({name: some, "limit": limit, "offset": offset, "more": offset + limit < all.len()}))
        };
        let incidents = self.incidents.lock().unwrap().clone();
        let has = |incident: &Json, key: &str| incident["alert_keys"].as_array().unwrap().iter().any(|it| it == key);
        match url.path() {
            "/incidents" => {
                assert_eq!(query("date_range").as_deref(), Some("all"));
                let key = query("incident_key").unwrap();
                // `*` stands for an account that returns incidents of others.
                page("incidents", incidents.into_iter().filter(|it| has(it, &key) || has(it, "*")).collect())
            }
            path => {
                let id = path.strip_prefix("/incidents/").and_then(|rest| rest.strip_suffix("/alerts")).unwrap();
                let incident = incidents.iter().find(|incident| incident["id"] == id).unwrap();
                let keys = incident["alert_keys"].as_array().unwrap();
                page("alerts", keys.iter().map(|key| json!({"type": "alert", "alert_key": key})).collect())
            }
        }
    }
}

/// Receiver with an account, and its feedback channel.
struct Bench {
    store: Sqlite,
    account: Account,
    api: PagerDutyApi,
    address: SocketAddr,
    channel: FeedbackChannel,
    feedback: mpsc::Receiver<Feedback>,
    position: usize,
}

impl Bench {
    async fn new() -> Self {
        let account = Account::default();
        let answering = account.clone();
        let (address, _requests) = serve(move |request| answering.answer(request)).await;
        let store = Sqlite::open("sqlite::memory:").await.unwrap();
        let (sender, feedback) = mpsc::channel(16);
        let channel = FeedbackChannel { receiver: "tickets".into(), store: Arc::new(store.clone()), sender };
        let api =
            PagerDutyApi { token: Credential::text(TOKEN), url: url(address, "/"), interval: Duration::from_millis(5) };
        Self { store, account, api, address, channel, feedback, position: 0 }
    }

    /// Stores the notifier's state of an incident.
    async fn open(&self, opening: u64) {
        let state = json!({"key": dedup_key(opening), "severity": "critical"});
        self.state(opening, Some(&state)).await;
    }

    async fn state(&self, opening: u64, state: Option<&Json>) {
        self.store.set_receiver_state("tickets", &notification(opening).key, state, Utc::now()).await.unwrap();
    }

    /// Runs one round. Returns the forwarded commands, each of which is executed.
    async fn round(&mut self) -> std::result::Result<Vec<String>, Failure> {
        let client = client();
        let mut commands = Vec::new();
        let asking = round(&client, &self.api, &self.channel, &mut self.position);
        tokio::pin!(asking);
        loop {
            tokio::select! {
                biased;
                Some(feedback) = self.feedback.recv() => {
                    let key = feedback.key.trim_start_matches("shop-checkout:");
                    commands.push(format!("{key} {:?} by {}", feedback.action, feedback.author));
                    let _ = feedback.answer.send(Ok("done".into()));
                }
                ended = &mut asking => return ended.map(|()| commands),
            }
        }
    }
}

#[tokio::test]
async fn an_action_of_a_person_is_handed_over_once() {
    let key = dedup_key(1);
    let (ania, ola) = (person("Ania Nowak"), person("Ola"));
    let acknowledge = &["1 Acknowledge by Ania Nowak (PagerDuty)"][..];
    let back = &["1 Unacknowledge { of: \"Ania Nowak (PagerDuty)\" } by PagerDuty"][..];
    let resolve = &["1 Resolve by Ola (PagerDuty)"][..];
    let mut merged = resolved_there("A", &key, &ola);
    merged["resolve_reason"] = json!({"type": "merge_resolve_reason", "incident": {"id": "B"}});
    let later = |mut incident: Json| {
        incident["created_at"] = "2027-01-15T09:00:00Z".into();
        incident
    };
    // Contents of the account in each round, and the forwarded commands.
    let timelines: Vec<Vec<(Vec<Json>, &[&str])>> = vec![
        vec![(vec![], &[]), (vec![there("A", &key, "triggered")], &[])],
        vec![
            (vec![acknowledged("A", &key, &ania)], acknowledge),
            (vec![acknowledged("A", &key, &ania)], &[]),
            (vec![there("A", &key, "triggered")], back),
            (vec![there("A", &key, "triggered")], &[]),
            (vec![acknowledged("A", &key, &ania)], acknowledge),
            (vec![resolved_there("A", &key, &ola)], resolve),
            (vec![resolved_there("A", &key, &ola)], &[]),
        ],
        // Services and integrations are ignored.
        vec![
            (vec![acknowledged("A", &key, &integration())], &[]),
            (vec![resolved_there("A", &key, &integration())], &[]),
        ],
        // Two services have the alert: an acknowledgement of one is sufficient, a resolution requires both.
        vec![
            (vec![there("A", &key, "triggered"), acknowledged("B", &key, &ania)], acknowledge),
            (vec![resolved_there("A", &key, &ola), acknowledged("B", &key, &ania)], &[]),
            (vec![resolved_there("A", &key, &ania), later(resolved_there("B", &key, &ola))], resolve),
        ],
        // Merged: the other incident then has the alert.
        vec![
            (vec![merged.clone()], &[]),
            (vec![merged.clone(), there("B", &key, "triggered")], &[]),
            (vec![merged.clone(), acknowledged("B", &key, &ania)], acknowledge),
            (vec![merged, resolved_there("B", &key, &ola)], resolve),
        ],
        // Incidents of others.
        vec![
            (vec![acknowledged("A", "*", &ola)], &[]),
            (vec![resolved_there("A", "*", &ola), acknowledged("B", &key, &ania)], acknowledge),
        ],
    ];
    for (at, timeline) in timelines.into_iter().enumerate() {
        let mut bench = Bench::new().await;
        bench.open(1).await;
        for (held, expected) in timeline {
            bench.account.hold(&held);
            assert_eq!(bench.round().await.unwrap(), expected, "{at}: {held:?}");
        }
        // Resolved incidents are not checked, and their records are deleted.
        bench.state(1, Some(&json!({"key": key, "severity": "critical", "over": true}))).await;
        bench.account.asked.lock().unwrap().clear();
        assert_eq!(bench.round().await.unwrap(), &[] as &[&str]);
        assert!(bench.account.asked.lock().unwrap().is_empty(), "{at}");
        let stored = bench.store.receiver_states("tickets").await.unwrap();
        assert!(stored.iter().all(|(key, _)| !key.starts_with(FEEDBACK)), "{stored:?}");
    }
}

#[tokio::test]
async fn a_command_that_was_not_confirmed_is_handed_over_again() {
    let mut bench = Bench::new().await;
    bench.open(1).await;
    bench.account.hold(&[acknowledged("A", &dedup_key(1), &person("Ania"))]);
    // The agent stops after the command was received and before the response.
    let asking = async {
        let client = client();
        round(&client, &bench.api, &bench.channel, &mut bench.position).await.unwrap();
    };
    let stopping = async { drop(bench.feedback.recv().await.unwrap()) };
    tokio::join!(asking, stopping);
    assert_eq!(bench.round().await.unwrap(), ["1 Acknowledge by Ania (PagerDuty)"]);
    assert_eq!(bench.round().await.unwrap(), &[] as &[&str]);
}

#[tokio::test]
async fn many_alerts_are_asked_about_in_turn_and_long_lists_are_read_to_the_end() {
    let mut bench = Bench::new().await;
    let mut held = Vec::new();
    for opening in 1..=50 {
        bench.open(opening).await;
        held.push(acknowledged(&format!("A{opening}"), &dedup_key(opening), &person("Ania")));
    }
    bench.account.hold(&held);
    let mut commands = Vec::new();
    for _ in 0..3 {
        let round = bench.round().await.unwrap();
        assert!(round.len() <= 20, "{round:?}");
        commands.extend(round);
    }
    commands.sort_unstable();
    commands.dedup();
    assert_eq!(commands.len(), 50);
    // wachta's alert is on the third page of the incident's alerts.
    let mut bench = Bench::new().await;
    bench.open(1).await;
    let mut incident = acknowledged("A", &dedup_key(1), &person("Ania"));
    let others = (0..60).map(|at| json!(format!("another:{at}")));
    incident["alert_keys"] = others.chain([json!(dedup_key(1))]).collect();
    bench.account.hold(&[incident]);
    assert_eq!(bench.round().await.unwrap(), ["1 Acknowledge by Ania (PagerDuty)"]);
}

#[tokio::test]
async fn hostile_answers_change_nothing() {
    let status = |status, head, body: &str| Answer::Full(status, head, body.to_owned());
    let echo = format!("{{\"error\": {{\"message\": \"no such token {TOKEN}\"}}}}");
    let forged = json!({"incidents": [
        7, null, {}, {"status": 7}, {"status": "acknowledged"}, {"status": "acknowledged", "acknowledgements": {"a": 1}},
        {"id": "../../users", "status": "resolved", "last_status_change_by": person("Eve")},
        {"id": {}, "status": "acknowledged", "acknowledgements": [{"acknowledger": person("Eve")}]},
    ], "more": false});
    let endless = json!({"incidents": [{"status": "triggered"}], "more": true});
    for (answer, problem, wait) in [
        (status(401, "", &echo), "the PagerDuty API returned status 401 Unauthorized: ", None),
        (status(403, "", ""), "the PagerDuty API returned status 403 Forbidden; check `api_token`", None),
        (status(429, "ratelimit-reset: 7\r\n", ""), "the PagerDuty API returned status 429 Too Many Requests", Some(7)),
        (status(429, "retry-after: 9\r\n", ""), "the PagerDuty API returned status 429 Too Many Requests", Some(9)),
        (
            status(429, "ratelimit-reset: 99999999\r\n", ""),
            "the PagerDuty API returned status 429 Too Many Requests",
            Some(3600),
        ),
        (status(429, "", ""), "the PagerDuty API returned status 429 Too Many Requests", Some(60)),
        (status(500, "", &echo), "the PagerDuty API returned status 500 Internal Server Error", None),
        (status(302, "location: http://127.0.0.1:1/\r\n", ""), "the PagerDuty API returned status 302 Found", None),
        (status(200, "", "<html>"), "the PagerDuty API did not return a JSON object of at most 2 MiB", None),
        (status(200, "", "[]"), "the PagerDuty API did not return a JSON object of at most 2 MiB", None),
        (status(200, "", "{\"incidents\": {}}"), "unexpected response of the PagerDuty API: no list", None),
        (status(200, "", &"[".repeat(100_000)), "the PagerDuty API did not return a JSON object", None),
        (
            status(200, "", &format!("{{\"incidents\": [\"{}\"]}}", "x".repeat(3 << 20))),
            "the PagerDuty API did not return a JSON object of at most 2 MiB",
            None,
        ),
        (Answer::Cut(200), "the PagerDuty API did not return a JSON object of at most 2 MiB", None),
        (Answer::HangUp, "no response: ", None),
        (Answer::ok(&forged), "", None),
        (Answer::ok(&endless), "", None),
    ] {
        let mut bench = Bench::new().await;
        bench.open(1).await;
        *bench.account.always.lock().unwrap() = Some(answer.clone());
        match bench.round().await {
            Ok(commands) => assert_eq!((commands, problem), (vec![], ""), "{answer:?}"),
            Err(failure) => {
                assert!(!problem.is_empty() && failure.problem.starts_with(problem), "{failure:?}, not {problem}");
                assert!(!failure.problem.contains(TOKEN) && failure.problem.len() < 600, "{failure:?}");
                assert_eq!(failure.wait.map(|wait| wait.as_secs()), wait, "{failure:?}");
            }
        }
        assert!(bench.account.asked.lock().unwrap().len() <= 10, "the number of requests is bounded");
    }
    // A name becomes one line of limited length.
    let mut bench = Bench::new().await;
    bench.open(1).await;
    let name = format!("Eve\r\n\u{1b}[31m{}", "x".repeat(10_000));
    bench.account.hold(&[acknowledged("A", &dedup_key(1), &person(&name))]);
    let commands = bench.round().await.unwrap();
    assert!(commands[0].starts_with("1 Acknowledge by Eve [31mxx") && commands[0].len() < 150, "{commands:?}");
}

#[test]
fn pauses_grow_while_rounds_fail() {
    let seconds = Duration::from_secs;
    for (failures, wait, expected) in [
        (0, None, 30),
        (1, None, 60),
        (2, None, 120),
        (9, None, 600),
        (u32::MAX, None, 600),
        (1, Some(7), 60),
        (1, Some(3600), 3600),
    ] {
        assert_eq!(pause(seconds(30), failures, wait.map(seconds)), seconds(expected), "{failures} {wait:?}");
    }
    // The delay is never shorter than the configured interval.
    assert_eq!(pause(seconds(3600), 1, None), seconds(3600));
}

/// Returns an update with an acknowledgement.
fn updated_by(author: &str, opening: u64) -> Notification {
    let acknowledged = crate::incident::Acknowledgement { author: author.into(), at: at(30), until: None };
    let incident = Incident { acknowledged: Some(acknowledged), ..incident(opening) };
    let id = format!("{opening} is acknowledged");
    Notification { id, ..Notification::new(&incident, Event::Updated, "tickets", Utc::now()) }
}

#[tokio::test]
async fn acknowledgements_go_both_ways_and_never_back() {
    let mut bench = Bench::new().await;
    let (tasks, stop) = (Tasks::unregistered(CancellationToken::new()), CancellationToken::new());
    let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
    let delivery_service = DeliveryService::new(Arc::new(bench.store.clone()), metrics, tools(), &tasks, &stop);
    let mut delivery_service = delivery_service.with_feedback(bench.channel.sender.clone());
    let wake = delivery_service.waker();
    let pagerduty = PagerDuty {
        routing_key: Credential::text("hidden-routing-key"),
        url: url(bench.address, "/v2/enqueue"),
        api: Some(bench.api.clone()),
    };
    // The first is acknowledged at PagerDuty, the second in wachta.
    bench.account.hold(&[acknowledged("A", &dedup_key(1), &person("Ania")), there("B", &dedup_key(2), "triggered")]);
    bench
        .store
        .commit(&Batch { notifications: vec![notification(1), notification(2)], ..Batch::default() })
        .await
        .unwrap();
    delivery_service.serve(&[receiver(ReceiverKind::PagerDuty(pagerduty))], &Links::default()).await;

    let feedback = bench.feedback.recv().await.unwrap();
    assert_eq!((feedback.key.as_str(), &feedback.action), ("shop-checkout:1", &OperatorAction::Acknowledge));
    assert_eq!(feedback.author, "Ania (PagerDuty)");
    let notifications = vec![updated_by(&feedback.author, 1), updated_by("bob", 2)];
    bench.store.commit(&Batch { notifications, ..Batch::default() }).await.unwrap();
    bench
        .account
        .hold(&[acknowledged("A", &dedup_key(1), &person("Ania")), acknowledged("B", &dedup_key(2), &integration())]);
    wake();
    feedback.answer.send(Ok("done".into())).unwrap();
    // Both resolutions are sent last, because one receiver's events are in order; polling continues until then.
    bench.store.commit(&Batch { notifications: vec![resolved(1), resolved(2)], ..Batch::default() }).await.unwrap();
    wake();
    let delivered = async {
        loop {
            let states = [
                bench.store.notifications("shop-checkout:1").await,
                bench.store.notifications("shop-checkout:2").await,
            ];
            if states.iter().flatten().flatten().all(|state| state.done_at.is_some()) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    delivered.await;
    stop.cancel();
    tasks.ended().await;
    let mut events = bench.account.events.lock().unwrap().clone();
    events.sort_unstable();
    let (first, second) = (dedup_key(1), dedup_key(2));
    let mut expected = vec![
        format!("trigger {first}"),
        format!("trigger {first}"),
        format!("resolve {first}"),
        format!("trigger {second}"),
        format!("trigger {second}"),
        format!("acknowledge {second}"),
        format!("resolve {second}"),
    ];
    expected.sort_unstable();
    assert_eq!(events, expected);
    assert!(bench.feedback.try_recv().is_err(), "it is handed over once");
}
