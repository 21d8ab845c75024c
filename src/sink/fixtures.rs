//! Fixtures shared by the tests of sinks: events, a store in memory, and a scripted sink.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderName, StatusCode};
use axum::response::IntoResponse as _;
use http_body_util::BodyExt as _;
use serde_json::json;
use tokio::sync::mpsc;

use super::prometheus::Prometheus;
use super::{Context, Event, Finished, HttpSettings, Limits, Sent, Sink, Size};
use crate::outcome::{Outcome, RunId};
use crate::store::evidence::EvidenceFolder;
use crate::store::{Numbered, Positions, Recorded, Result, StoreError};

/// Returns an outcome of `scenario` without a number.
pub fn outcome(scenario: &str) -> Outcome {
    serde_json::from_value(json!({
        "run": RunId::new(), "scenario": scenario, "name": scenario, "kind": "api", "location": "here",
        "due_at": "2026-11-22T12:00:00Z", "started_at": "2026-11-22T12:00:00Z", "ended_at": "2026-11-22T12:00:01Z",
        "duration": 1.0, "verdict": "passed", "steps": [], "evidence": []
    }))
    .expect("this is an outcome")
}

/// Returns the context for sinks that need no HTTP client.
pub fn context() -> Context {
    Context {
        location: "here".into(),
        agent_state: Arc::new(|| json!({})),
        http_client: Arc::new(|_| Err("there is no HTTP client here".into())),
        evidence: EvidenceFolder::new(std::env::temp_dir().join("wachta-no-evidence")),
        prometheus: Arc::new(Prometheus::new(::prometheus::Registry::new(), "here")),
    }
}

/// Returns the context for sinks that use HTTP.
pub fn context_with_http() -> Context {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http_client =
        Arc::new(|_: HttpSettings<'_>| reqwest::Client::builder().build().map_err(|error| error.to_string()));
    Context { http_client, ..context() }
}

/// Received request: request line, credentials and body.
pub type Asked = (String, String, String);

/// Server with scripted responses, one per request (status, one header as `NAME: VALUE`, body), followed by 200 with
/// the same body.
pub struct Answerer {
    pub url: url::Url,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Answerer {
    pub async fn start(path: &str, plan: Vec<(u16, &'static str, &'static str)>, then: &'static str) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/{path}", listener.local_addr().unwrap()).parse().unwrap();
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let (plan, log) = (Arc::new(Mutex::new(VecDeque::from(plan))), Arc::clone(&asked));
        let router = Router::new().fallback(move |request: Request| async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let header = |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
            let credentials = header("authorization").or_else(|| header("x-sentry-auth"));
            let line = format!("{} {}", head.method, head.uri);
            let body = String::from_utf8_lossy(&body).into_owned();
            log.lock().unwrap().push((line, credentials.unwrap_or_default(), body));
            let (status, header, body) = plan.lock().unwrap().pop_front().unwrap_or((200, "", then));
            let mut response = (StatusCode::from_u16(status).unwrap(), body).into_response();
            if let Some((name, value)) = header.split_once(": ") {
                response.headers_mut().insert(HeaderName::try_from(name).unwrap(), value.parse().unwrap());
            }
            response
        });
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, asked, task }
    }

    /// Returns the requests since the last call.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

impl Drop for Answerer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Returns an event with this number.
pub fn event(seq: u64, scenario: &str) -> Event {
    let outcome = Arc::new(Outcome { seq, ..outcome(scenario) });
    Event::Finished(Finished { scenario: None, outcome })
}

/// Formats the numbers of a batch.
pub fn numbers(batch: &[Event]) -> String {
    batch.iter().map(|event| event.seq().to_string()).collect::<Vec<_>>().join(" ")
}

/// Store in memory that can be made unavailable.
#[derive(Default)]
pub struct Shelf {
    pub outcomes: Mutex<BTreeMap<u64, Arc<Outcome>>>,
    pub positions: Mutex<BTreeMap<String, u64>>,
    pub is_away: Mutex<bool>,
}

impl Shelf {
    pub fn put(&self, outcome: &Arc<Outcome>) {
        self.outcomes.lock().unwrap().insert(outcome.seq, Arc::clone(outcome));
    }

    pub fn set_away(&self, is_away: bool) {
        *self.is_away.lock().unwrap() = is_away;
    }
}

#[async_trait]
impl Positions for Shelf {
    async fn numbered(&self, from: u64, to: u64, limit: u32) -> Result<Numbered> {
        if *self.is_away.lock().unwrap() {
            return Err(StoreError::unavailable("away"));
        }
        let known = self.outcomes.lock().unwrap();
        let records = known.range(from..=to).take(limit as usize);
        let records: Vec<_> = records.map(|(_, outcome)| Recorded::Outcome(outcome.clone())).collect();
        let is_whole = records.len() < limit as usize;
        let through = records.last().filter(|_| !is_whole).map_or(to, Recorded::seq);
        Ok(Numbered { records, through })
    }

    async fn positions(&self) -> Result<BTreeMap<String, u64>> {
        Ok(self.positions.lock().unwrap().clone())
    }

    async fn last_seq(&self) -> Result<u64> {
        Ok(self.outcomes.lock().unwrap().keys().last().copied().unwrap_or_default())
    }

    async fn set_positions(&self, changed: BTreeMap<String, Option<u64>>) -> Result<()> {
        let mut positions = self.positions.lock().unwrap();
        for (sink, seq) in changed {
            match seq {
                Some(seq) => drop(positions.insert(sink, seq)),
                None => drop(positions.remove(&sink)),
            }
        }
        Ok(())
    }
}

/// Action of a [`Puppet`] for a batch.
pub enum Do {
    /// Returns this result.
    Say(Sent),
    /// Never returns.
    Hang,
    /// Panics.
    Panic,
}

/// Sink that follows a script with one action per batch, accepts everything afterwards, and reports the batches that it
/// receives.
pub struct Puppet {
    pub plan: Arc<Mutex<VecDeque<Do>>>,
    pub given: mpsc::UnboundedSender<String>,
}

#[async_trait]
impl Sink for Puppet {
    fn limits(&self) -> Limits {
        Limits { rows: 4, bytes: usize::MAX, age: Duration::ZERO, deadline: Duration::from_secs(10) }
    }

    fn measure(&self, _: &Event) -> Size {
        Size { rows: 1, bytes: 1 }
    }

    async fn send(&mut self, batch: &[Event]) -> Sent {
        // The receiver is gone when a test has ended.
        let _ = self.given.send(numbers(batch));
        let next = self.plan.lock().unwrap().pop_front();
        match next {
            None => Sent::Taken,
            Some(Do::Say(sent)) => sent,
            Some(Do::Hang) => std::future::pending().await,
            Some(Do::Panic) => panic!("as planned"),
        }
    }
}
