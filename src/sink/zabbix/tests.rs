//! The sink, run by its driver, against a misbehaving trapper.

use std::collections::VecDeque;
use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::items::tests::outcome;
use super::*;
use crate::bounded::credential::Credential;
use crate::outcome::{StepStatus, Verdict};
use crate::sink::fixtures::{self, Shelf};
use crate::sink::{self, Destination, Metrics, Sinks};
use crate::tasks::Tasks;

/// Response of the trapper to a request.
enum Do {
    /// Accepts the rows whose keys do not contain this.
    TakeBut(&'static str),
    /// Sends these bytes.
    Say(&'static [u8]),
    /// Never responds.
    Hang,
}

/// Trapper with scripted responses, one per request, that accepts everything afterwards.
struct Trapper {
    address: String,
    requests: mpsc::UnboundedReceiver<Vec<String>>,
}

impl Trapper {
    async fn start(plan: Vec<Do>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (told, requests) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut plan = VecDeque::from(plan);
            let mut hanging = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let keys = read(&mut stream).await;
                match plan.pop_front().unwrap_or(Do::TakeBut("nothing")) {
                    Do::Say(bytes) => stream.write_all(bytes).await.unwrap(),
                    Do::Hang => hanging.push(stream),
                    Do::TakeBut(unknown) => {
                        let processed = keys.iter().filter(|key| !key.contains(unknown)).count();
                        let (failed, total) = (keys.len() - processed, keys.len());
                        let info = format!("processed: {processed}; failed: {failed}; total: {total}");
                        let answer = json!({"response": "success", "info": info}).to_string();
                        let mut frame = b"ZBXD\x01".to_vec();
                        frame.extend_from_slice(&u64::try_from(answer.len()).unwrap().to_le_bytes());
                        frame.extend_from_slice(answer.as_bytes());
                        stream.write_all(&frame).await.unwrap();
                    }
                }
                if told.send(keys).is_err() {
                    return;
                }
            }
        });
        Self { address, requests }
    }

    /// Returns the keys of the next requests, without those of the agent itself.
    async fn see(&mut self, requests: usize) -> Vec<String> {
        let mut seen = Vec::new();
        for _ in 0..requests {
            let keys = tokio::time::timeout(Duration::from_secs(10), self.requests.recv()).await.unwrap().unwrap();
            seen.push(keys.join(" ").replace("wachta.", "").replace('"', ""));
        }
        seen
    }
}

async fn read(stream: &mut TcpStream) -> Vec<String> {
    let mut header = [0; 13];
    stream.read_exact(&mut header).await.unwrap();
    let length = u32::from_le_bytes([header[5], header[6], header[7], header[8]]);
    let mut payload = vec![0; length.try_into().unwrap()];
    stream.read_exact(&mut payload).await.unwrap();
    if header[4] == 3 {
        let mut decoded = Vec::new();
        flate2::read::ZlibDecoder::new(payload.as_slice()).read_to_end(&mut decoded).unwrap();
        payload = decoded;
    }
    let request: Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(request["request"], "sender data");
    let rows = request["data"].as_array().unwrap();
    rows.iter().map(|row| row["key"].as_str().unwrap().to_owned()).collect()
}

struct Running {
    sinks: Sinks,
    metrics: Metrics,
}

impl Running {
    async fn start(address: &str) -> Self {
        Self::with(&[address]).await
    }

    async fn with(servers: &[&str]) -> Self {
        let servers = servers.iter().map(|server| (*server).to_owned()).collect();
        Self::configured(Config { servers, host: "waw-1".into(), ..Config::default() }).await
    }

    async fn configured(config: Config) -> Self {
        let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
        let sinks = Sinks::open(sink::Parts {
            store: Arc::<Shelf>::default(),
            is_durable: false,
            context: fixtures::context_with_http(),
            metrics: metrics.clone(),
            tasks: Tasks::unregistered(CancellationToken::new()),
            timing: sink::Timing {
                retry_first: Duration::from_millis(1),
                retry_most: Duration::from_millis(1),
                flush: Duration::from_millis(500),
                ..sink::Timing::default()
            },
        });
        let sinks = sinks.await.unwrap();
        sinks.load(&[Destination::from(config)], &Scenarios::default(), &[]).await;
        Self { sinks, metrics }
    }

    fn push(&self, scenario: &str) {
        let steps = [("open", StepStatus::Passed)];
        self.sinks.outcome(outcome(scenario, chrono::Utc::now(), Verdict::Passed, &steps), None, |_| {});
    }

    async fn stop(self) -> String {
        tokio::time::timeout(Duration::from_secs(5), self.sinks.stop()).await.expect("the task keeps its deadline");
        let counts = self.metrics.of("zabbix");
        let (sent, failed, dropped) = (counts.sent.get(), counts.failed.get(), counts.dropped.get());
        format!("sent {sent}, failed {failed}, dropped {dropped}, queued {}", counts.queue_length.get())
    }
}

const FIRST: &str = "agent discovery discovery.steps";

#[tokio::test]
async fn a_batch_outlives_everything_that_is_not_an_answer() {
    let plan = vec![
        Do::TakeBut("nothing"),
        Do::Say(b""),
        Do::Say(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        Do::Say(b"ZBXD\x01\xff\xff\xff\xff\0\0\0\0"),
        Do::Say(b"ZBXD\x01\x08\0\0\0\0\0\0\0nonsense"),
        Do::Say(b"ZBXD\x01\x28\0\0\0\0\0\0\0{\"response\":\"failed\",\"info\":\"too early\"}"),
    ];
    let mut trapper = Trapper::start(plan).await;
    let running = Running::start(&trapper.address).await;
    assert_eq!(trapper.see(1).await, [FIRST]);
    running.push("shop");
    let batch = "run[shop] step.success[shop,open] step.duration[shop,open]";
    assert_eq!(trapper.see(6).await, [batch; 6]);
    assert_eq!(running.stop().await, "sent 1, failed 5, dropped 0, queued 0");
}

#[tokio::test]
async fn a_batch_that_is_taken_in_part_is_sent_again_in_halves() {
    let plan = (0..5).map(|_| Do::TakeBut("run[\"new")).collect();
    let mut trapper = Trapper::start(plan).await;
    let running = Running::start(&trapper.address).await;
    assert_eq!(trapper.see(1).await, [FIRST]);
    running.push("new");
    let rows = ["run[new]", "step.success[new,open]", "step.duration[new,open]"];
    let batch = rows.join(" ");
    // The run was rejected, so it is sent again as a whole until it is accepted.
    let halves = rows[1..].join(" ");
    assert_eq!(trapper.see(5).await, [&batch, rows[0], &halves, &batch, rows[0]]);
    assert_eq!(trapper.see(1).await, [halves.as_str()]);
    assert_eq!(running.stop().await, "sent 1, failed 1, dropped 0, queued 0");
}

#[tokio::test]
async fn a_detail_that_is_refused_holds_up_nothing() {
    let plan = (0..6).map(|_| Do::TakeBut("success")).collect();
    let mut trapper = Trapper::start(plan).await;
    let running = Running::start(&trapper.address).await;
    assert_eq!(trapper.see(1).await, [FIRST]);
    running.push("shop");
    let rows = ["run[shop]", "step.success[shop,open]", "step.duration[shop,open]"];
    let batch = rows.join(" ");
    let halves = rows[1..].join(" ");
    assert_eq!(trapper.see(5).await, [&batch, rows[0], &halves, rows[1], rows[2]]);
    // Later values of the item wait behind it.
    running.push("shop");
    assert_eq!(trapper.see(1).await, [[rows[0], rows[2]].join(" ")]);
    assert_eq!(running.stop().await, "sent 2, failed 0, dropped 0, queued 0");
}

#[tokio::test]
async fn the_next_node_is_tried_where_one_has_no_connection() {
    // A port that was closed again.
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let mut trapper = Trapper::start(Vec::new()).await;
    let running = Running::with(&[&closed, &trapper.address]).await;
    assert_eq!(trapper.see(1).await, [FIRST]);
    running.push("shop");
    trapper.see(1).await;
    assert_eq!(running.stop().await, "sent 1, failed 0, dropped 0, queued 0");
}

#[tokio::test]
async fn a_redirect_is_followed_and_remembered() {
    let mut member = Trapper::start(Vec::new()).await;
    let answer = json!({"response": "failed", "redirect": {"revision": 17, "address": member.address}}).to_string();
    let length = u64::try_from(answer.len()).unwrap().to_le_bytes();
    let redirect = [b"ZBXD\x01".as_slice(), &length, answer.as_bytes()].concat().leak();
    let mut first = Trapper::start(vec![Do::Say(redirect)]).await;
    let running = Running::start(&first.address).await;
    assert_eq!((first.see(1).await, member.see(1).await), (vec![FIRST.to_owned()], vec![FIRST.to_owned()]));
    running.push("shop");
    assert_eq!(member.see(1).await, ["run[shop] step.success[shop,open] step.duration[shop,open]"]);
    assert_eq!(running.stop().await, "sent 1, failed 0, dropped 0, queued 0");
    assert!(first.requests.try_recv().is_err(), "the second batch goes to the member at once");
}

#[tokio::test]
async fn a_batch_of_thousands_is_one_request() {
    let mut trapper = Trapper::start(Vec::new()).await;
    let running = Running::start(&trapper.address).await;
    assert_eq!(trapper.see(1).await, [FIRST]);
    for scenario in 0..1_000 {
        running.push(&format!("shop-{scenario}"));
    }
    assert_eq!(trapper.see(1).await[0].split(' ').count(), 3_000);
    running.stop().await;
}

#[tokio::test]
async fn stopping_takes_no_longer_than_it_may() {
    let trapper = Trapper::start((0..100).map(|_| Do::Hang).collect()).await;
    let running = Running::start(&trapper.address).await;
    running.push("shop");
    let counts = running.stop().await;
    assert!(counts.starts_with("sent 0, ") && counts.ends_with(", dropped 1, queued 0"), "{counts}");
}

#[test]
fn runs_that_ended_together_get_times_of_their_own() {
    let at: chrono::DateTime<Utc> = "2026-11-22T12:00:00Z".parse().unwrap();
    let run = |at| Outcome { run: RunId::new(), ..outcome("shop", at, Verdict::Passed, &[]) };
    let runs = [run(at), run(at), run(at), run(at + TimeDelta::seconds(1))];
    let mut stamps = Stamps::default();
    let mut times = || runs.each_ref().map(|run| (stamps.of(run) - at).num_nanoseconds().unwrap());
    assert_eq!(times(), [0, 1, 2, 1_000_000_000]);
    // A run that is sent again keeps its time.
    assert_eq!(times(), [0, 1, 2, 1_000_000_000]);
}

/// Starts a frontend of this version whose `history.push` has no item with `unknown` in its key. Returns the values
/// sent to it.
async fn frontend(version: &'static str, unknown: &'static str) -> (api::Config, mpsc::UnboundedReceiver<String>) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (told, pushed) = mpsc::unbounded_channel();
    let answer = move |text: String| async move {
        let call: Value = serde_json::from_str(&text).unwrap();
        if call["method"] == "apiinfo.version" {
            return json!({"result": version}).to_string();
        }
        assert_eq!(call["method"], "history.push");
        let rows = call["params"].as_array().unwrap();
        assert!(rows.iter().all(|row| row["host"] == "waw-1"));
        let keys = rows.iter().map(|row| row["key"].as_str().unwrap());
        let answers = keys.clone().map(|key| {
            if key.contains(unknown) { json!({"error": "Item is disabled."}) } else { json!({"itemid": 1}) }
        });
        let answer = json!({"result": {"response": "success", "data": answers.collect::<Vec<_>>()}});
        let _ = told.send(keys.collect::<Vec<_>>().join(" ").replace("wachta.", "").replace('"', ""));
        answer.to_string()
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = api::url_of(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let router = axum::Router::new().route("/api_jsonrpc.php", axum::routing::post(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let login = api::Login::Token(Credential::text("0123456789abcdef"));
    (api::Config { url, login, ca: None }, pushed)
}

async fn next(pushed: &mut mpsc::UnboundedReceiver<String>) -> String {
    tokio::time::timeout(Duration::from_secs(10), pushed.recv()).await.unwrap().unwrap()
}

#[tokio::test]
async fn history_push_says_of_each_value_why_it_is_refused() {
    let (api, mut pushed) = frontend("7.0.22", "run[\"new").await;
    let config = Config { host: "waw-1".into(), api: Some(api), via: Via::Api, ..Config::default() };
    let running = Running::configured(config).await;
    assert_eq!(next(&mut pushed).await, FIRST);
    running.push("new");
    // The run is sent again as a whole, and the events behind it continue.
    let batch = "run[new] step.success[new,open] step.duration[new,open]";
    assert_eq!((next(&mut pushed).await, next(&mut pushed).await), (batch.into(), batch.into()));
    running.push("shop");
    while next(&mut pushed).await == batch {}
    let error = running.sinks.status()[0].last_error.clone().unwrap().1;
    assert_eq!(error, r#"values of `wachta.run["new"]` are rejected: Item is disabled"#);
    let counts = running.stop().await;
    assert!(counts.starts_with("sent 1, ") && counts.ends_with(", dropped 1, queued 0"), "{counts}");
}

#[tokio::test]
async fn the_api_is_used_where_the_server_has_the_method() {
    for (version, is_pushed) in [("7.0.22", true), ("6.0.14", false)] {
        let (api, mut pushed) = frontend(version, "nothing").await;
        let mut trapper = Trapper::start(Vec::new()).await;
        let (servers, api) = (vec![trapper.address.clone()], Some(api));
        let config = Config { servers, host: "waw-1".into(), api, via: Via::Auto, ..Config::default() };
        let running = Running::configured(config).await;
        let first = if is_pushed { next(&mut pushed).await } else { trapper.see(1).await.remove(0) };
        assert_eq!(first, FIRST, "{version}");
        assert!(running.stop().await.starts_with("sent 0, failed 0, "));
        let is_other = if is_pushed { trapper.requests.try_recv().is_ok() } else { pushed.try_recv().is_ok() };
        assert!(!is_other, "{version}");
    }
}
