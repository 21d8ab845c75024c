//! The delivery service with queued notifications.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::server::{Answer, Request, script, serve};
use super::*;
use crate::store::{Batch, Outbox as _, Runs as _, Sqlite};
use crate::tasks::Tasks;

/// Delivery service with queued notifications.
struct Bench {
    store: Sqlite,
    delivery_service: DeliveryService,
    metrics: Metrics,
    tasks: Tasks,
    stop: CancellationToken,
}

impl Bench {
    async fn new(notifications: Vec<Notification>) -> Self {
        let store = Sqlite::open("sqlite::memory:").await.unwrap();
        store.commit(&Batch { notifications, ..Batch::default() }).await.unwrap();
        let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
        let (tasks, stop) = (Tasks::unregistered(CancellationToken::new()), CancellationToken::new());
        let delivery_service = DeliveryService::new(Arc::new(store.clone()), metrics.clone(), tools(), &tasks, &stop);
        Self { store, delivery_service, metrics, tasks, stop }
    }

    async fn serve(&mut self, receiver: Receiver) {
        self.delivery_service.serve(&[receiver], &Links::default()).await;
    }

    /// Stops once the attempts in progress are recorded, and returns the state of each notification.
    async fn states(&self, openings: std::ops::RangeInclusive<u64>) -> Vec<String> {
        self.stop.cancel();
        self.tasks.ended().await;
        let mut states = Vec::new();
        for opening in openings {
            for state in self.store.notifications(&incident(opening).dedup_key()).await.unwrap() {
                states.push(format!("{} {}", state.state, state.problem.unwrap_or_default()).trim().to_owned());
            }
        }
        states
    }
}

/// Returns the received requests: key, event, and whether it is marked as a repeat.
async fn heard(requests: &mut mpsc::UnboundedReceiver<Request>, count: usize) -> Vec<String> {
    let mut heard = Vec::new();
    for _ in 0..count {
        let body = requests.recv().await.unwrap().json();
        let repeat = if body["repeat"] == true { " again" } else { "" };
        let event = if body["event"] == "opened" { "" } else { " resolved" };
        heard.push(format!(
            "{}{event}{repeat}",
            body["dedup_key"].as_str().unwrap().trim_start_matches("shop-checkout:")
        ));
    }
    heard
}

#[tokio::test]
async fn an_outage_holds_all_and_a_refusal_for_good_holds_nothing() {
    let mut bench = Bench::new(vec![notification(1), notification(2), notification(3)]).await;
    // Notifications without an attempt go first afterwards.
    let (address, mut requests) = script([503, 200, 400, 200].map(Answer::Status)).await;
    bench.serve(webhook(address)).await;
    assert_eq!(heard(&mut requests, 4).await, ["1", "2", "3", "1"]);
    let given_up = "failed the receiver returned status 400 Bad Request";
    assert_eq!(bench.states(1..=3).await, ["sent", "sent", given_up]);
    assert_eq!(bench.metrics.sent.with_label_values(&["tickets"]).get(), 2);
    assert_eq!(bench.metrics.failed.with_label_values(&["tickets"]).get(), 2);
}

#[tokio::test]
async fn order_is_kept_per_incident_and_no_incident_holds_back_another() {
    let mut bench = Bench::new(vec![notification(1), notification(2), resolved(1), resolved(2)]).await;
    // The receiver rejects the first incident twice.
    let stumbles = std::sync::atomic::AtomicU32::new(2);
    let rule = move |request: &Request| {
        let is_first = request.json()["dedup_key"] == "shop-checkout:1";
        let stumbled = is_first
            && stumbles
                .fetch_update(std::sync::atomic::Ordering::SeqCst, std::sync::atomic::Ordering::SeqCst, |n| {
                    n.checked_sub(1)
                })
                .is_ok();
        Answer::Status(if stumbled { 500 } else { 200 })
    };
    let (address, mut requests) = serve(rule).await;
    bench.serve(webhook(address)).await;
    let heard = heard(&mut requests, 6).await;
    assert_eq!(heard, ["1", "2", "2 resolved", "1", "1", "1 resolved"]);
    assert_eq!(bench.states(1..=2).await, ["sent"; 4]);
}

#[tokio::test]
async fn retry_after_is_honoured() {
    let mut bench = Bench::new(vec![notification(1), notification(2)]).await;
    let busy = Answer::Full(429, "retry-after: 2\r\n", String::new());
    let (address, mut requests) = script([busy, Answer::Status(200), Answer::Status(200)]).await;
    bench.serve(webhook(address)).await;
    assert_eq!(heard(&mut requests, 1).await, ["1"]);
    let since = std::time::Instant::now();
    assert_eq!(heard(&mut requests, 2).await, ["2", "1"]);
    // Not earlier; the additional delay depends on the machine.
    assert!(since.elapsed() >= Duration::from_millis(1900), "{:?}", since.elapsed());
}

#[tokio::test]
async fn what_may_have_arrived_is_marked() {
    let mut bench = Bench::new(vec![notification(1)]).await;
    let (address, mut requests) = script([Answer::HangUp, Answer::Status(200)]).await;
    bench.serve(webhook(address)).await;
    assert_eq!(heard(&mut requests, 2).await, ["1", "1 again"]);
    assert_eq!(bench.states(1..=1).await, ["sent"]);
}

#[tokio::test]
async fn what_comes_later_is_delivered_when_woken() {
    let mut bench = Bench::new(vec![notification(1)]).await;
    let (address, mut requests) = script([Answer::Status(200), Answer::Status(200)]).await;
    bench.serve(webhook(address)).await;
    assert_eq!(heard(&mut requests, 1).await, ["1"]);
    bench.store.commit(&Batch { notifications: vec![notification(2)], ..Batch::default() }).await.unwrap();
    (bench.delivery_service.waker())();
    assert_eq!(heard(&mut requests, 1).await, ["2"]);
    assert_eq!(bench.states(1..=2).await, ["sent", "sent"]);
}

#[tokio::test]
async fn what_is_owed_to_nobody_is_given_up() {
    let mut bench = Bench::new(vec![notification(1)]).await;
    bench.delivery_service.serve(&[], &Links::default()).await;
    assert_eq!(bench.states(1..=1).await, ["failed the receiver was removed from the configuration"]);
}

#[tokio::test]
async fn a_receiver_that_changes_goes_on_where_it_was() {
    let mut bench = Bench::new(vec![notification(1)]).await;
    let (old, mut at_old) = script([Answer::Status(503)]).await;
    let (new, mut at_new) = script([Answer::Status(200)]).await;
    bench.serve(webhook(old)).await;
    assert_eq!(heard(&mut at_old, 1).await, ["1"]);
    bench.serve(webhook(new)).await;
    assert_eq!(heard(&mut at_new, 1).await, ["1"]);
    assert_eq!(bench.states(1..=1).await, ["sent"]);
}

#[tokio::test]
async fn a_message_is_found_again_after_a_restart() {
    let slack = |address| {
        let token = Credential::text("xoxb-hidden-token");
        receiver(ReceiverKind::Slack(Slack::Token {
            token,
            channel: "#shop".into(),
            url: url(address, "/api/"),
            app_token: None,
        }))
    };
    let mut bench = Bench::new(vec![notification(1)]).await;
    let rule = |_: &Request| Answer::ok(&json!({"ok": true, "channel": "C1", "ts": "17.5"}));
    let (address, mut requests) = serve(rule).await;
    bench.serve(slack(address)).await;
    assert_eq!(requests.recv().await.unwrap().path, "/api/chat.postMessage");
    assert_eq!(bench.states(1..=1).await, ["sent"]);

    bench.store.commit(&Batch { notifications: vec![resolved(1)], ..Batch::default() }).await.unwrap();
    let (tasks, stop) = (Tasks::unregistered(CancellationToken::new()), CancellationToken::new());
    let store = Arc::new(bench.store.clone());
    let mut second = DeliveryService::new(store, bench.metrics.clone(), tools(), &tasks, &stop);
    second.serve(&[slack(address)], &Links::default()).await;
    let request = requests.recv().await.unwrap();
    assert_eq!((request.path.as_str(), &request.json()["ts"]), ("/api/chat.update", &json!("17.5")));
    stop.cancel();
    tasks.ended().await;
}

/// Starts another agent with the same store, after the first one has stopped.
async fn restarted(bench: &Bench, receiver: Receiver) -> (DeliveryService, Tasks, CancellationToken) {
    let (tasks, stop) = (Tasks::unregistered(CancellationToken::new()), CancellationToken::new());
    let mut delivery_service =
        DeliveryService::new(Arc::new(bench.store.clone()), bench.metrics.clone(), tools(), &tasks, &stop);
    delivery_service.serve(&[receiver], &Links::default()).await;
    (delivery_service, tasks, stop)
}

/// Returns an update of the incident.
fn updated(opening: u64) -> Notification {
    let incident = Incident { events: 2, ..incident(opening) };
    Notification::new(&incident, Event::Updated, "tickets", Utc::now())
}

#[tokio::test]
async fn the_end_of_what_was_never_delivered_is_not_sent_either() {
    for restart in [false, true] {
        let mut bench = Bench::new(vec![notification(1), notification(2), notification(3)]).await;
        // The receiver only accepts the second incident. The update of the third one is sent first, as an opening.
        let rule = |request: &Request| {
            let (key, event) = (request.json()["dedup_key"].clone(), request.json()["event"].clone());
            let takes = key == "shop-checkout:2" || key == "shop-checkout:3" && request.json()["severity"] == "info";
            assert!(event == "opened" || key != "shop-checkout:1", "an end of what it does not know");
            Answer::Status(if takes || event == "resolved" { 200 } else { 400 })
        };
        let (address, mut requests) = serve(rule).await;
        bench.serve(webhook(address)).await;
        assert_eq!(heard(&mut requests, 3).await, ["1", "2", "3"]);
        let mut third = updated(3);
        third.incident.severity = Severity::Info;
        let end_of_third = Notification { id: "3 is over".into(), ..resolved(3) };
        let notifications = vec![resolved(1), resolved(2), third, end_of_third];
        let again = if restart {
            bench.states(1..=1).await;
            let again = restarted(&bench, webhook(address)).await;
            bench.store.commit(&Batch { notifications, ..Batch::default() }).await.unwrap();
            (again.0.waker())();
            Some(again)
        } else {
            bench.store.commit(&Batch { notifications, ..Batch::default() }).await.unwrap();
            (bench.delivery_service.waker())();
            None
        };
        assert_eq!(heard(&mut requests, 3).await, ["2 resolved", "3", "3 resolved"], "{restart}");
        if let Some((_, tasks, stop)) = again {
            stop.cancel();
            tasks.ended().await;
        }
        let refused = "failed the receiver returned status 400 Bad Request";
        let not_sent = "failed not sent: no notification of the incident was delivered to this receiver";
        assert_eq!(bench.states(1..=3).await, [refused, not_sent, "sent", "sent", refused, "sent", "sent"]);
        // The failed attempts; skipped notifications do not count.
        assert_eq!(bench.metrics.failed.with_label_values(&["tickets"]).get(), 2);
        assert!(bench.store.receiver_states("tickets").await.unwrap().is_empty(), "nothing is kept");
    }
}

#[tokio::test]
async fn what_may_have_arrived_has_an_end() {
    let mut bench = Bench::new(vec![notification(1), resolved(1)]).await;
    // The first attempt is cut off and the second one is rejected permanently, so that the delivery is uncertain.
    let (address, mut requests) = script([Answer::HangUp, Answer::Status(400), Answer::Status(200)]).await;
    bench.serve(webhook(address)).await;
    assert_eq!(heard(&mut requests, 3).await, ["1", "1 again", "1 resolved"]);
}
