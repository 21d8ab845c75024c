//! Timelines of resolutions: they are sent to the receivers that were notified of the opening, and no others.

use std::time::Duration;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::server::{Answer, Request, serve};
use super::*;
use crate::notify::delivery_task::{DeliveryTask, Progress};
use crate::notify::retry::RetryScheduler;
use crate::store::{Batch, Outbox as _, Runs as _, Sqlite};

/// Two receivers, the second of which is the fallback of the first.
struct Bench {
    store: Sqlite,
    receivers: Vec<DeliveryTask>,
    /// Response of each receiver, by its name.
    answers: Arc<Mutex<BTreeMap<String, u16>>>,
    taken: Arc<Mutex<Vec<String>>>,
    queued: usize,
}

impl Bench {
    async fn new() -> Self {
        let store = Sqlite::open("sqlite::memory:").await.unwrap();
        let (answers, taken) = (Arc::new(Mutex::new(BTreeMap::new())), Arc::<Mutex<Vec<String>>>::default());
        let (by_name, list) = (Arc::clone(&answers), Arc::clone(&taken));
        let rule = move |request: &Request| {
            let name = request.path.trim_start_matches('/');
            let status = by_name.lock().unwrap().get(name).copied().unwrap_or(200);
            if status < 300 {
                let body = request.json();
                let key = body["dedup_key"].as_str().unwrap().trim_start_matches("shop-checkout:").to_owned();
                list.lock().unwrap().push(format!("{name} {} {key}", body["event"].as_str().unwrap()));
            }
            Answer::Status(status)
        };
        let (address, _requests) = serve(rule).await;
        let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
        let receivers = [("pager", Some("mail")), ("mail", None)].map(|(name, fallback)| {
            let hook = Webhook {
                url: Credential::text(url(address, &format!("/{name}"))),
                headers: Vec::new(),
                format: WebhookFormat::Wachta,
            };
            let receiver = Receiver {
                name: name.into(),
                kind: ReceiverKind::Webhook(hook),
                fallback: fallback.map(ToOwned::to_owned),
                ..Receiver::default()
            };
            DeliveryTask {
                notifier: notifier(&receiver, &Links::default(), &tools()),
                receiver,
                store: Arc::new(store.clone()),
                metrics: metrics.clone(),
                wake: watch::Sender::new(0).subscribe(),
                stop: CancellationToken::new(),
                failing: Arc::default(),
                wake_all: Box::new(|| {}),
                seed: 1,
            }
        });
        Self { store, receivers: receivers.into(), answers, taken, queued: 0 }
    }

    /// Queues notifications: `opened 1` of one incident, `digest 1 2` of several.
    async fn queue(&mut self, event: &str, openings: &[u64]) {
        let opening = openings[0];
        let (event, incident) = match event {
            "opened" => (Event::Opened, incident(opening)),
            "updated" => (Event::Updated, incident(opening)),
            "reminder" => (Event::Reminder, incident(opening)),
            "digest" => (Event::Digest, incident(opening)),
            "resolved" => (Event::Resolved, Incident { resolved_at: Some(at(60)), ..incident(opening) }),
            other => panic!("no such event: {other}"),
        };
        self.queued += 1;
        let opens = openings.iter().map(|opening| format!("shop-checkout:{opening}"));
        let opens = if event == Event::Digest { opens.collect() } else { Vec::new() };
        let id = format!("notification {}", self.queued);
        let notification = Notification { id, opens, ..Notification::new(&incident, event, "pager", Utc::now()) };
        self.store.commit(&Batch { notifications: vec![notification], ..Batch::default() }).await.unwrap();
    }

    async fn play(&mut self, script: &str) {
        for line in script.split(", ") {
            let words: Vec<&str> = line.split(' ').collect();
            match words.as_slice() {
                ["deliver"] => {
                    for receiver in &self.receivers {
                        // A first attempt, without the delays after earlier ones.
                        receiver.deliver(&mut RetryScheduler::new(1, Duration::ZERO), &mut Progress::new()).await;
                    }
                }
                ["hand-over"] => self.receivers[0].hand_over("mail", Utc::now()).await,
                [name @ ("pager" | "mail"), status] => {
                    self.answers.lock().unwrap().insert((*name).to_owned(), status.parse().unwrap());
                }
                [event, openings @ ..] => {
                    let openings: Vec<u64> = openings.iter().map(|opening| opening.parse().unwrap()).collect();
                    self.queue(event, &openings).await;
                }
                [] => {}
            }
        }
    }
}

#[tokio::test]
async fn the_end_goes_to_who_got_the_beginning() {
    for (script, expected) in [
        // The receiver is unreachable: the fallback gets the opening, and the resolution goes to both.
        (
            "pager 503, opened 1, deliver, hand-over, deliver, pager 200, deliver, resolved 1, deliver",
            "mail opened 1, pager opened 1, pager resolved 1, mail resolved 1",
        ),
        (
            "pager 503, opened 1, hand-over, hand-over, resolved 1, hand-over, hand-over, deliver, pager 200, deliver",
            "mail opened 1, mail resolved 1, pager opened 1, pager resolved 1",
        ),
        // The receiver got the opening itself: the fallback was not notified of the incident, and gets no resolution.
        (
            "opened 1, deliver, pager 503, resolved 1, hand-over, deliver, pager 200, deliver",
            "pager opened 1, pager resolved 1",
        ),
        // The first notification to the fallback is an opening.
        (
            "opened 1, deliver, pager 503, updated 1, hand-over, reminder 1, hand-over, deliver, pager 200, resolved 1, deliver",
            "pager opened 1, mail opened 1, mail reminder 1, pager updated 1, pager reminder 1, pager resolved 1, mail resolved 1",
        ),
        // The fallback rejected the opening permanently: it gets no resolution either.
        (
            "pager 503, mail 400, opened 1, hand-over, deliver, pager 200, mail 200, resolved 1, deliver, deliver",
            "pager opened 1, pager resolved 1",
        ),
        // The receiver rejected the opening permanently after it was passed to the fallback: the resolution goes to the
        // fallback only.
        (
            "pager 503, opened 1, hand-over, deliver, pager 400, deliver, pager 200, resolved 1, deliver, deliver",
            "mail opened 1, mail resolved 1",
        ),
        // The receiver rejects the resolution permanently: the fallback still gets it.
        (
            "pager 503, opened 1, hand-over, deliver, pager 200, deliver, pager 400, resolved 1, deliver",
            "mail opened 1, pager opened 1, mail resolved 1",
        ),
        // A digest that was given up opened none of its incidents; a digest that was delivered opened all of them.
        ("pager 400, digest 1 2, deliver, pager 200, resolved 1, resolved 2, deliver", ""),
        (
            "pager 400, digest 1 2, deliver, pager 200, updated 2, resolved 1, resolved 2, deliver",
            "pager opened 2, pager resolved 2",
        ),
        ("digest 1 2, deliver, resolved 1, resolved 2, deliver", "pager digest 1, pager resolved 1, pager resolved 2"),
        (
            "pager 400, opened 1, deliver, pager 200, digest 1 2, resolved 1, resolved 2, deliver",
            "pager digest 1, pager resolved 1, pager resolved 2",
        ),
        (
            "pager 503, digest 1 2, hand-over, deliver, pager 200, deliver, resolved 2, resolved 1, deliver",
            "mail digest 1, pager digest 1, pager resolved 2, pager resolved 1, mail resolved 2, mail resolved 1",
        ),
    ] {
        let mut bench = Bench::new().await;
        bench.play(script).await;
        assert_eq!(bench.taken.lock().unwrap().join(", "), expected, "{script}");
        // After the resolution, only the marks of passed notifications are left.
        for receiver in ["pager", "mail"] {
            let notes = bench.store.receiver_states(receiver).await.unwrap();
            assert!(notes.iter().all(|(key, _)| key.starts_with("fallback/")), "{script}: {notes:?}");
        }
    }
}

#[tokio::test]
async fn what_was_queued_for_a_receiver_that_is_gone_has_no_end() {
    let mut bench = Bench::new().await;
    bench.queue("opened", &[1]).await;
    let tasks = crate::tasks::Tasks::unregistered(CancellationToken::new());
    let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
    let stop = CancellationToken::new();
    let mut delivery_service = DeliveryService::new(Arc::new(bench.store.clone()), metrics, tools(), &tasks, &stop);
    delivery_service.serve(&[], &Links::default()).await;
    stop.cancel();
    // The receiver is configured again.
    bench.play("resolved 1, deliver, opened 2, deliver").await;
    assert_eq!(bench.taken.lock().unwrap().join(", "), "pager opened 2");
}
