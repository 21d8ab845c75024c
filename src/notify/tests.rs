//! Webhooks and the courier against a receiver on loopback.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use chrono::{DateTime, Utc};
use serde_json::Value as Json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::webhook::{Webhook, body};
use super::*;
use crate::incident::{Incident, Subject};
use crate::names::Reason;
use crate::outcome::{RunId, Verdict};
use crate::scenario::Severity;
use crate::store::{Batch, Outbox as _, Runs as _, Sqlite};

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + second, 250_000_000).unwrap()
}

fn incident(opening: u64) -> Incident {
    Incident {
        subject: Subject("shop-checkout".into()),
        opening,
        name: "Shop checkout".into(),
        tags: [("service".to_owned(), "shop".to_owned()), ("team".to_owned(), "payments".to_owned())].into(),
        kind: "browser".into(),
        severity: Severity::Critical,
        location: "waw-1".into(),
        opened_at: at(0),
        opened_by: RunId(uuid::Uuid::from_u128(1)),
        resolved_at: None,
        resolved_by: None,
        verdict: Verdict::Failed,
        last_run: RunId(uuid::Uuid::from_u128(2)),
        reason: Some(Reason::NotFound),
        message: Some("no such element".into()),
        step: Some("click button \"Pay now\"".into()),
        place: Some("scenarios/shop-checkout.yaml:31:9".into()),
        screenshot: None,
        runbook: None,
        bad_runs: 3,
        events: 1,
        receivers: vec!["tickets".into()],
    }
}

fn notice(opening: u64) -> Notice {
    // Owed just now: what is older than two days is given up.
    Notice::new(&incident(opening), Event::Opened, "tickets", Utc::now())
}

/// What a receiver does with a request.
#[derive(Clone, Copy)]
enum Answer {
    Status(u16),
    /// Closes the connection without a word.
    HangUp,
    /// Says nothing, and lets time fly.
    Silence,
}

/// A receiver that answers as it is told, in order, and passes on what it heard: the header and the body.
async fn receiver(answers: &[Answer]) -> (SocketAddr, mpsc::UnboundedReceiver<(String, Json)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (heard, requests) = mpsc::unbounded_channel();
    let answers = Arc::new(Mutex::new(answers.iter().copied().collect::<VecDeque<_>>()));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (heard, answers) = (heard.clone(), Arc::clone(&answers));
            tokio::spawn(async move {
                let mut bytes = Vec::new();
                let request = loop {
                    let mut buffer = [0; 4096];
                    let n = stream.read(&mut buffer).await.unwrap_or(0);
                    bytes.extend_from_slice(&buffer[..n]);
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    let read = text.split_once("\r\n\r\n").and_then(|(head, body)| {
                        let key = head.lines().find_map(|line| line.strip_prefix("idempotency-key: "))?;
                        Some((key.to_owned(), serde_json::from_str(body).ok()?))
                    });
                    match read {
                        Some(request) => break request,
                        None if n == 0 => return,
                        None => {}
                    }
                };
                let _ = heard.send(request);
                let answer = answers.lock().unwrap().pop_front();
                match answer.expect("no more requests than answers") {
                    Answer::Status(status) => {
                        let text = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                        let _ = stream.write_all(text.as_bytes()).await;
                    }
                    Answer::HangUp => {}
                    Answer::Silence => {
                        tokio::time::pause();
                        std::future::pending::<()>().await;
                    }
                }
            });
        }
    });
    (address, requests)
}

fn client() -> reqwest::Client {
    // Plain HTTP, but the client wants to know how it would do TLS.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

fn hook(address: SocketAddr) -> url::Url {
    format!("http://{address}/hook?token=hidden").parse().unwrap()
}

fn golden(name: &str, text: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("WACHTA_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap_or_default(), "{name}");
}

#[test]
fn the_body_is_documented() {
    let links = Links::new(Some("https://wachta.example.com/".parse().unwrap()));
    let body = body(&Notice { owed_at: at(0), ..notice(7) }, &links);
    golden("webhook.json", &format!("{body:#}\n"));
    let docs =
        std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/webhook.md")).unwrap();
    for key in body.as_object().unwrap().keys() {
        assert!(docs.contains(&format!("| `{key}` |")), "`{key}` is not documented");
    }
}

#[tokio::test]
async fn how_a_try_ends() {
    let check = async |answer: Answer, expected: &str| {
        let (address, mut requests) = receiver(&[answer]).await;
        let webhook = Webhook { client: client(), url: hook(address), links: Links::default() };
        let notice = notice(1);
        let shown = match webhook.notify(&notice).await {
            Delivery::Sent => "sent".to_owned(),
            Delivery::Refused(problem) => format!("refused: {problem}"),
            Delivery::Unsure(problem) => format!("unsure: {problem}"),
            Delivery::Failed(problem) => format!("failed: {problem}"),
        };
        assert!(shown.starts_with(expected), "{shown}");
        assert!(!shown.contains("hidden"), "{shown}");
        let (key, body) = requests.recv().await.unwrap();
        assert_eq!((key.as_str(), body["notice"].as_str()), (notice.id.as_str(), Some(notice.id.as_str())));
    };
    for status in [200, 201, 204] {
        check(Answer::Status(status), "sent").await;
    }
    for status in [400, 401, 404, 410, 422] {
        check(Answer::Status(status), &format!("failed: the receiver answered {status}")).await;
    }
    for status in [408, 429, 500, 502, 503] {
        check(Answer::Status(status), &format!("refused: the receiver answered {status}")).await;
    }
    check(Answer::HangUp, "unsure: no answer: ").await;
    check(Answer::Silence, "unsure: no answer: ").await;
}

#[tokio::test]
async fn without_a_connection_nothing_can_have_arrived() {
    // Nobody listens on a socket that is bound and does not listen.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let webhook = Webhook { client: client(), url: hook(socket.local_addr().unwrap()), links: Links::default() };
    let delivery = webhook.notify(&notice(1)).await;
    assert!(matches!(&delivery, Delivery::Refused(problem) if !problem.contains("hidden")), "{delivery:?}");
}

/// A courier over what is owed.
struct Bench {
    store: Sqlite,
    courier: Courier,
    metrics: Metrics,
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Bench {
    async fn new(notices: Vec<Notice>) -> Self {
        let store = Sqlite::open("sqlite::memory:").await.unwrap();
        store.commit(&Batch { notices, ..Batch::default() }).await.unwrap();
        let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
        let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
        let courier = Courier::new(Arc::new(store.clone()), metrics.clone(), client(), &tracker, &stop);
        Self { store, courier, metrics, tracker, stop }
    }

    async fn serve(&mut self, address: SocketAddr) {
        let receiver = Receiver { name: "tickets".into(), kind: ReceiverKind::Webhook { url: hook(address) } };
        self.courier.serve(&[receiver], &Links::default()).await;
    }

    /// Stops once what is under way is noted; gives how each notice stands.
    async fn states(&self, openings: std::ops::RangeInclusive<u64>) -> Vec<String> {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
        let mut states = Vec::new();
        for opening in openings {
            for state in self.store.notices(&incident(opening).dedup_key()).await.unwrap() {
                states.push(format!("{} {}", state.state, state.problem.unwrap_or_default()).trim().to_owned());
            }
        }
        states
    }
}

/// The requests that were heard: the opening, and whether it is marked as a repeat.
async fn heard(requests: &mut mpsc::UnboundedReceiver<(String, Json)>, count: usize) -> Vec<String> {
    let mut heard = Vec::new();
    for _ in 0..count {
        let (_, body) = requests.recv().await.unwrap();
        let repeat = if body["repeat"] == true { " again" } else { "" };
        heard.push(format!("{}{repeat}", body["dedup_key"].as_str().unwrap()));
    }
    heard
}

#[tokio::test]
async fn in_order_and_until_taken() {
    let mut bench = Bench::new(vec![notice(1), notice(2), notice(3)]).await;
    // A server that is down for a moment holds back what follows; one that refuses for good does not.
    let answers = [503, 200, 400, 200].map(Answer::Status);
    let (address, mut requests) = receiver(&answers).await;
    bench.serve(address).await;
    let expected = ["shop-checkout:1", "shop-checkout:1", "shop-checkout:2", "shop-checkout:3"];
    assert_eq!(heard(&mut requests, 4).await, expected);
    assert_eq!(bench.states(1..=3).await, ["sent", "failed the receiver answered 400 Bad Request", "sent"]);
    assert_eq!(bench.metrics.sent.with_label_values(&["tickets"]).get(), 2);
    assert_eq!(bench.metrics.failed.with_label_values(&["tickets"]).get(), 2);
}

#[tokio::test]
async fn what_may_have_arrived_is_marked() {
    let mut bench = Bench::new(vec![notice(1)]).await;
    let (address, mut requests) = receiver(&[Answer::HangUp, Answer::Status(200)]).await;
    bench.serve(address).await;
    assert_eq!(heard(&mut requests, 2).await, ["shop-checkout:1", "shop-checkout:1 again"]);
    assert_eq!(bench.states(1..=1).await, ["sent"]);
}

#[tokio::test]
async fn what_comes_later_is_delivered_when_woken() {
    let mut bench = Bench::new(vec![notice(1)]).await;
    let (address, mut requests) = receiver(&[Answer::Status(200), Answer::Status(200)]).await;
    bench.serve(address).await;
    assert_eq!(heard(&mut requests, 1).await, ["shop-checkout:1"]);
    bench.store.commit(&Batch { notices: vec![notice(2)], ..Batch::default() }).await.unwrap();
    (bench.courier.waker())();
    assert_eq!(heard(&mut requests, 1).await, ["shop-checkout:2"]);
    assert_eq!(bench.states(1..=2).await, ["sent", "sent"]);
}

#[tokio::test]
async fn what_is_owed_to_nobody_is_given_up() {
    let mut bench = Bench::new(vec![notice(1)]).await;
    bench.courier.serve(&[], &Links::default()).await;
    assert_eq!(bench.states(1..=1).await, ["failed the receiver is no longer there"]);
}
