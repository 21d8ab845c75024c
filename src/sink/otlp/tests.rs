//! The sink against a receiver of both protocols that stores the decoded requests.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::Read as _;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::HeaderMap;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceResponse};
use serde_json::json;

use super::*;
use crate::bounded::credential::Credential;
use crate::sink::fixtures::{self, event};
use crate::sink::{Context, HttpSettings};

/// Response of a receiver: for HTTP a status, for gRPC a code; headers or trailers; and a message.
#[derive(Clone, Default)]
struct Answer {
    status: u32,
    headers: Vec<(&'static str, String)>,
    message: Vec<u8>,
}

/// Decoded request.
#[derive(Debug, Clone, PartialEq)]
enum Received {
    Traces(ExportTraceServiceRequest),
    Logs(ExportLogsServiceRequest),
}

/// Receiver with scripted responses, one per request, that accepts everything afterwards.
struct Receiver {
    endpoint: url::Url,
    received: Arc<Mutex<Vec<(String, HeaderMap, Received)>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Receiver {
    async fn start(protocol: Protocol, plan: Vec<Answer>) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = if protocol == Protocol::Http { "base/" } else { "" };
        let endpoint = format!("http://{}/{base}", listener.local_addr().unwrap()).parse().unwrap();
        let received = Arc::<Mutex<Vec<_>>>::default();
        let (log, plan) = (Arc::clone(&received), Arc::new(Mutex::new(VecDeque::from(plan))));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (log, plan) = (Arc::clone(&log), Arc::clone(&plan));
                let answer = move |request: Request<Incoming>| {
                    let (log, plan) = (Arc::clone(&log), Arc::clone(&plan));
                    async move {
                        let (head, body) = request.into_parts();
                        let body = body.collect().await.unwrap().to_bytes();
                        let message = decoded(protocol, &head.headers, &body);
                        let path = head.uri.path().to_owned();
                        let of_traces = path.ends_with("/v1/traces") || path.contains(".TraceService/");
                        let message = if of_traces {
                            Received::Traces(ExportTraceServiceRequest::decode(message.as_slice()).unwrap())
                        } else {
                            Received::Logs(ExportLogsServiceRequest::decode(message.as_slice()).unwrap())
                        };
                        log.lock().unwrap().push((path, head.headers, message));
                        let planned = plan.lock().unwrap().pop_front();
                        let planned = planned.unwrap_or(Answer {
                            status: if protocol == Protocol::Http { 200 } else { 0 },
                            ..Answer::default()
                        });
                        Ok::<_, Infallible>(response(protocol, planned))
                    }
                };
                let service = hyper::service::service_fn(answer);
                tokio::spawn(async move {
                    let io = TokioIo::new(stream);
                    // The connection ends when the client closes it.
                    let _ = match protocol {
                        Protocol::Http => {
                            hyper::server::conn::http1::Builder::new().serve_connection(io, service).await
                        }
                        Protocol::Grpc => {
                            hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                                .serve_connection(io, service)
                                .await
                        }
                    };
                });
            }
        });
        Self { endpoint, received, task }
    }

    /// Returns the requests since the last call.
    fn received(&self) -> Vec<(String, HeaderMap, Received)> {
        std::mem::take(&mut self.received.lock().unwrap())
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Returns the message of a request.
fn decoded(protocol: Protocol, headers: &HeaderMap, body: &[u8]) -> Vec<u8> {
    let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap());
    let (is_compressed, message) = match protocol {
        Protocol::Http => {
            assert_eq!(header("content-type"), Some("application/x-protobuf"));
            (header("content-encoding") == Some("gzip"), body)
        }
        Protocol::Grpc => {
            assert_eq!((header("content-type"), header("te")), (Some("application/grpc"), Some("trailers")));
            let (head, message) = body.split_first_chunk::<5>().unwrap();
            assert_eq!(u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize, message.len());
            assert_eq!(head[0] == 1, header("grpc-encoding") == Some("gzip"));
            (head[0] == 1, message)
        }
    };
    let mut plain = Vec::new();
    if is_compressed {
        flate2::read::GzDecoder::new(message).read_to_end(&mut plain).unwrap();
    } else {
        plain.extend_from_slice(message);
    }
    plain
}

type Body = StreamBody<stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>;

fn response(protocol: Protocol, answer: Answer) -> Response<Body> {
    let mut headers = HeaderMap::new();
    for (name, value) in answer.headers {
        headers.insert(name, value.parse().unwrap());
    }
    let (head, frames) = match protocol {
        Protocol::Http => {
            let status = u16::try_from(answer.status).unwrap();
            let mut head = Response::builder().status(status).header("content-type", "application/x-protobuf");
            head.headers_mut().unwrap().extend(headers);
            (head, vec![Ok(Frame::data(answer.message.into()))])
        }
        Protocol::Grpc => {
            let mut message = vec![0];
            message.extend_from_slice(&u32::try_from(answer.message.len()).unwrap().to_be_bytes());
            message.extend_from_slice(&answer.message);
            headers.insert("grpc-status", answer.status.to_string().parse().unwrap());
            let head = Response::builder().header("content-type", "application/grpc");
            (head, vec![Ok(Frame::data(message.into())), Ok(Frame::trailers(headers))])
        }
    };
    head.body(StreamBody::new(stream::iter(frames))).unwrap()
}

fn config(endpoint: &url::Url, protocol: Protocol) -> Config {
    Config {
        endpoint: endpoint.clone(),
        protocol,
        signals: vec![Signal::Traces, Signal::Logs],
        headers: Vec::new(),
        ca: None,
        is_compressed: false,
        timeout: Duration::from_secs(10),
        resource: BTreeMap::new(),
    }
}

fn sink(config: &Config) -> Box<dyn Sink> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = |settings: HttpSettings<'_>| {
        let builder = reqwest::Client::builder();
        let builder = if settings.only_http2 { builder.http2_prior_knowledge() } else { builder };
        builder.build().map_err(|error| error.to_string())
    };
    let context = Context { location: "waw-1".into(), http_client: Arc::new(client), ..fixtures::context() };
    config.build(&context).unwrap()
}

const PROTOCOLS: [Protocol; 2] = [Protocol::Http, Protocol::Grpc];

/// Returns the runs of the spans in a request, or of its records, in order and without duplicates.
fn runs(received: &Received) -> Vec<Vec<u8>> {
    let mut ids: Vec<Vec<u8>> = match received {
        Received::Traces(request) => {
            let spans = request.resource_spans.iter().flat_map(|of| &of.scope_spans).flat_map(|of| &of.spans);
            spans.map(|span| span.trace_id.clone()).collect()
        }
        Received::Logs(request) => {
            let records = request.resource_logs.iter().flat_map(|of| &of.scope_logs).flat_map(|of| &of.log_records);
            records.map(|record| record.trace_id.clone()).collect()
        }
    };
    ids.dedup();
    ids
}

fn ids(batch: &[Event]) -> Vec<Vec<u8>> {
    batch.iter().map(|event| event.run().0.as_bytes().to_vec()).collect()
}

#[tokio::test]
async fn a_batch_is_a_request_of_spans_and_one_of_records_the_same_when_sent_again() {
    for (protocol, is_compressed) in PROTOCOLS.into_iter().flat_map(|protocol| [(protocol, false), (protocol, true)]) {
        let receiver = Receiver::start(protocol, Vec::new()).await;
        let mut config = config(&receiver.endpoint, protocol);
        config.is_compressed = is_compressed;
        config.headers = vec![
            ("X-Tenant".into(), Credential::text("acme")),
            ("authorization".into(), Credential::text("Bearer hidden")),
        ];
        config.resource = [("deployment.environment.name".to_owned(), "test".to_owned())].into();
        let mut sink = sink(&config);
        let batch = [event(1, "shop"), event(2, "cart")];
        assert_eq!(sink.send(&batch).await, Sent::Taken);
        let first = receiver.received();
        let paths: Vec<_> = first.iter().map(|(path, ..)| path.as_str()).collect();
        let expected = match protocol {
            Protocol::Http => ["/base/v1/traces", "/base/v1/logs"],
            Protocol::Grpc => [
                "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
                "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
            ],
        };
        assert_eq!(paths, expected);
        for (_, headers, received) in &first {
            assert_eq!(
                (&headers["x-tenant"], &headers["authorization"]),
                (&"acme".parse().unwrap(), &"Bearer hidden".parse().unwrap())
            );
            assert_eq!(runs(received), ids(&batch));
        }
        let Received::Traces(traces) = &first[0].2 else { panic!("{first:?}") };
        let of = &traces.resource_spans[0];
        assert_eq!(
            (of.schema_url.as_str(), of.scope_spans[0].scope.as_ref().unwrap().name.as_str()),
            (SCHEMA_URL, "wachta")
        );
        let names: Vec<_> = of.resource.as_ref().unwrap().attributes.iter().map(|pair| pair.key.as_str()).collect();
        assert_eq!(names, ["deployment.environment.name", "service.instance.id", "service.name", "service.version"]);
        // The same batch produces the same requests.
        assert_eq!(sink.send(&batch).await, Sent::Taken);
        let again = receiver.received();
        let messages =
            |all: &[(String, HeaderMap, Received)]| all.iter().map(|(.., message)| message.clone()).collect::<Vec<_>>();
        assert_eq!(messages(&again), messages(&first));
    }
}

#[tokio::test]
async fn spans_that_were_taken_are_not_sent_again_with_records_that_were_not() {
    for protocol in PROTOCOLS {
        let (taken, away) = match protocol {
            Protocol::Http => {
                (200, Answer { status: 503, headers: vec![("retry-after", "9".into())], ..Answer::default() })
            }
            Protocol::Grpc => {
                let info = answer::RetryInfo { retry_delay: Some(answer::Delay { seconds: 9, nanos: 0 }) };
                let info = answer::Any {
                    type_url: "type.googleapis.com/google.rpc.RetryInfo".into(),
                    value: info.encode_to_vec(),
                };
                let status = answer::Status { code: 14, message: String::new(), details: vec![info] };
                let details = base64::prelude::BASE64_STANDARD_NO_PAD.encode(status.encode_to_vec());
                (0, Answer { status: 14, headers: vec![("grpc-status-details-bin", details)], ..Answer::default() })
            }
        };
        let plan = vec![away.clone(), Answer { status: taken, ..Answer::default() }, away];
        let receiver = Receiver::start(protocol, plan).await;
        let mut sink = sink(&config(&receiver.endpoint, protocol));
        let batch = [event(1, "shop"), event(2, "cart")];
        let mut tries = Vec::new();
        for expected in ["traces", "traces logs", "logs", "traces logs"] {
            let sent = sink.send(&batch).await;
            let shown: Vec<_> = receiver
                .received()
                .iter()
                .map(|(.., received)| match received {
                    Received::Traces(_) => "traces",
                    Received::Logs(_) => "logs",
                })
                .collect();
            assert_eq!(shown.join(" "), expected, "{protocol:?}");
            tries.push(match sent {
                Sent::Retry { after, .. } => after,
                Sent::Taken => None,
                other => panic!("{other:?}"),
            });
        }
        let nine = Some(Duration::from_secs(9));
        assert_eq!(tries, [nine, nine, None, None]);
    }
}

#[tokio::test]
async fn what_a_receiver_rejects_is_found_and_set_aside_with_its_reason() {
    for protocol in PROTOCOLS {
        let ok = if protocol == Protocol::Http { 200 } else { 0 };
        let bad_data = if protocol == Protocol::Http { 400 } else { 3 };
        let rejected = |rejected_spans| {
            let partial = ExportTracePartialSuccess { rejected_spans, error_message: "too old".into() };
            let message = ExportTraceServiceResponse { partial_success: Some(partial) }.encode_to_vec();
            Answer { status: ok, message, ..Answer::default() }
        };
        let taken =
            Answer { status: ok, message: ExportLogsServiceResponse::default().encode_to_vec(), ..Answer::default() };
        let refused = Answer { status: bad_data, ..Answer::default() };
        let (one, two) = (vec![event(1, "shop")], vec![event(1, "shop"), event(2, "cart")]);
        let refusal = |index, reason: &str| Refusal { index, reason: reason.into(), for_now: false };
        let reason = if protocol == Protocol::Http { "traces: status 400" } else { "traces: INVALID_ARGUMENT" };
        let check = async |plan: Vec<Answer>, batch: &[Event], expected: Sent, requests: usize| {
            let receiver = Receiver::start(protocol, plan).await;
            let mut sink = sink(&config(&receiver.endpoint, protocol));
            assert_eq!(sink.send(batch).await, expected, "{protocol:?}");
            assert_eq!(receiver.received().len(), requests, "{protocol:?} {expected:?}");
        };
        // Splitting the batch identifies the rejected run, and the record of a run whose spans are rejected is sent
        // nevertheless.
        check(vec![rejected(1)], &two, Sent::Refused("traces: 1 of 2 rejected: too old".into()), 1).await;
        let why = "traces: 1 of 1 rejected: too old";
        check(vec![rejected(1), taken.clone()], &one, Sent::Partial(vec![refusal(0, why)]), 2).await;
        let both = "traces: 2 of 2 rejected: too old";
        check(vec![rejected(2), taken.clone()], &two, Sent::Partial(vec![refusal(0, both), refusal(1, both)]), 2).await;
        check(vec![refused.clone()], &two, Sent::Refused(reason.into()), 1).await;
        check(vec![refused.clone(), taken.clone()], &one, Sent::Partial(vec![refusal(0, reason)]), 2).await;
        // A warning does not affect acceptance.
        check(vec![rejected(0)], &one, Sent::Taken, 2).await;

        // A rejection is preserved while the records wait.
        let away = Answer { status: if protocol == Protocol::Http { 503 } else { 14 }, ..Answer::default() };
        let receiver = Receiver::start(protocol, vec![refused, away, taken]).await;
        let mut sink = sink(&config(&receiver.endpoint, protocol));
        assert!(matches!(sink.send(&one).await, Sent::Retry { .. }));
        assert_eq!(sink.send(&one).await, Sent::Partial(vec![refusal(0, reason)]));
    }
}

#[tokio::test]
async fn a_run_with_very_many_spans_is_sent_in_parts() {
    let receiver = Receiver::start(Protocol::Http, Vec::new()).await;
    let mut sink = sink(&config(&receiver.endpoint, Protocol::Http));
    let mut finished = event(1, "suite").finished().unwrap().clone();
    let outcome = Arc::make_mut(&mut finished.outcome);
    let step: crate::outcome::StepResult = serde_json::from_value(json!({
        "name": "case", "span_id": "", "offset": 0.1, "duration": 0.1, "status": "passed", "place": "a.yaml:1:1"
    }))
    .unwrap();
    outcome.steps = vec![step; 2 * MAX_SPANS];
    assert_eq!(sink.send(&[Event::Finished(finished)]).await, Sent::Taken);
    let counts: Vec<_> = receiver
        .received()
        .iter()
        .map(|(.., received)| match received {
            Received::Traces(request) => request.resource_spans[0].scope_spans[0].spans.len(),
            Received::Logs(request) => request.resource_logs[0].scope_logs[0].log_records.len(),
        })
        .collect();
    assert_eq!(counts, [MAX_SPANS, MAX_SPANS, 1, 1]);
}

#[tokio::test]
async fn one_signal_alone_can_be_sent_and_nobody_there_is_tried_again() {
    let receiver = Receiver::start(Protocol::Http, Vec::new()).await;
    let mut config = config(&receiver.endpoint, Protocol::Http);
    for (signal, path) in [(Signal::Traces, "/base/v1/traces"), (Signal::Logs, "/base/v1/logs")] {
        config.signals = vec![signal];
        assert_eq!(sink(&config).send(&[event(1, "shop")]).await, Sent::Taken);
        let paths: Vec<_> = receiver.received().into_iter().map(|(path, ..)| path).collect();
        assert_eq!(paths, [path]);
    }
    for protocol in PROTOCOLS {
        let nobody = self::config(&"http://127.0.0.1:1/".parse().unwrap(), protocol);
        let Sent::Retry { after: None, reason } = sink(&nobody).send(&[event(1, "shop")]).await else { panic!() };
        assert!(reason.starts_with("traces: ") && reason.contains("refused"), "{reason}");
    }
}
