//! Interpretation of the responses of OTLP receivers, including partial success.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsPartialSuccess;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTracePartialSuccess;
use serde_json::json;

use super::*;

fn shown(export: Export) -> String {
    match export {
        Export::Taken { warning: None } => "taken".to_owned(),
        Export::Taken { warning: Some(warning) } => format!("taken: {warning}"),
        Export::Rejected { count, reason } => format!("{count} rejected: {reason}"),
        Export::Retry { after, reason } => match after {
            Some(after) => format!("retry after {after:?}: {reason}"),
            None => format!("retry: {reason}"),
        },
        Export::Refused(reason) => format!("refused: {reason}"),
    }
}

fn traces(rejected_spans: i64, message: &str) -> Vec<u8> {
    let partial = ExportTracePartialSuccess { rejected_spans, error_message: message.into() };
    ExportTraceServiceResponse { partial_success: Some(partial) }.encode_to_vec()
}

fn logs(rejected_log_records: i64, message: &str) -> Vec<u8> {
    let partial = ExportLogsPartialSuccess { rejected_log_records, error_message: message.into() };
    ExportLogsServiceResponse { partial_success: Some(partial) }.encode_to_vec()
}

#[test]
fn answers_in_http_are_understood() {
    let check = |signal, status, content_type: &str, body: Vec<u8>, expected: &str| {
        let retry_after = (status == 429 || status == 503).then(|| Duration::from_secs(7));
        let answer = HttpAnswer { status, content_type: content_type.into(), retry_after, body };
        assert_eq!(shown(of_http(signal, &answer)), expected, "{status} {content_type}");
    };
    let (proto, json_type) = ("application/x-protobuf", "application/json; charset=utf-8");
    let tell = |status, content_type: &str, body: Vec<u8>, expected: &str| {
        check(Signal::Traces, status, content_type, body, expected);
    };
    tell(200, proto, Vec::new(), "taken");
    tell(200, "", Vec::new(), "taken");
    tell(202, proto, ExportTraceServiceResponse::default().encode_to_vec(), "taken");
    tell(200, proto, traces(0, ""), "taken");
    tell(200, proto, traces(0, "attributes\nwere cut"), "taken: attributes were cut");
    tell(200, proto, traces(3, "too old"), "3 rejected: too old");
    tell(200, proto, traces(3, ""), "3 rejected: no reason is given");
    tell(200, proto, traces(-3, ""), "taken");
    check(Signal::Logs, 200, proto, logs(2, "too old"), "2 rejected: too old");
    let body = json!({"partialSuccess": {"rejectedSpans": "3", "errorMessage": "too old"}}).to_string().into_bytes();
    tell(200, json_type, body, "3 rejected: too old");
    let body = json!({"partialSuccess": {"rejectedLogRecords": 2}}).to_string().into_bytes();
    check(Signal::Logs, 200, json_type, body, "2 rejected: no reason is given");
    tell(200, json_type, b"{}".to_vec(), "taken");
    // Another kind of server responds.
    tell(200, "text/html", b"<p>Welcome".to_vec(), "retry: the response is not OTLP: its content type is `text/html`");
    tell(200, json_type, b"<p>".to_vec(), "retry: the response is not OTLP: not JSON");
    tell(301, "", Vec::new(), "retry: status 301");
    // Problems of the data, and problems that affect every request.
    let status = |message: &str| Status { code: 3, message: message.into(), details: Vec::new() }.encode_to_vec();
    tell(400, proto, status("no trace id"), "refused: status 400: no trace id");
    tell(413, "", Vec::new(), "refused: status 413");
    tell(401, "text/plain", b"who are you\n".to_vec(), "retry: status 401: who are you");
    tell(403, json_type, br#"{"message":"no"}"#.to_vec(), "retry: status 403: no");
    tell(404, "text/html", b"<p>".to_vec(), "retry: status 404");
    tell(415, "", Vec::new(), "retry: status 415");
    tell(429, "", Vec::new(), "retry after 7s: status 429");
    tell(500, proto, status("down"), "retry: status 500: down");
    tell(502, "", Vec::new(), "retry: status 502");
    tell(503, "", Vec::new(), "retry after 7s: status 503");
}

#[test]
fn answers_in_grpc_are_understood() {
    let check = |answer: GrpcAnswer, expected: &str| {
        assert_eq!(shown(of_grpc(Signal::Traces, &answer)), expected, "{answer:?}");
    };
    let of = |code, message: &str| GrpcAnswer {
        http_status: 200,
        code: Some(code),
        message: message.into(),
        ..GrpcAnswer::default()
    };
    check(of(0, ""), "taken");
    check(GrpcAnswer { body: traces(3, "too old"), ..of(0, "") }, "3 rejected: too old");
    check(of(3, "no trace id"), "refused: INVALID_ARGUMENT: no trace id");
    check(
        of(8, "grpc: received message larger than max (5 vs. 4)"),
        "refused: RESOURCE_EXHAUSTED: grpc: received message larger than max (5 vs. 4)",
    );
    check(of(8, "quota"), "retry: RESOURCE_EXHAUSTED: quota");
    let retry_info = RetryInfo { retry_delay: Some(Delay { seconds: 2, nanos: 500_000_000 }) }.encode_to_vec();
    let retry_info = Any { type_url: "type.googleapis.com/google.rpc.RetryInfo".into(), value: retry_info };
    let details = Status { code: 8, message: String::new(), details: vec![retry_info] }.encode_to_vec();
    check(GrpcAnswer { details: details.clone(), ..of(8, "quota") }, "retry after 2.5s: RESOURCE_EXHAUSTED: quota");
    check(GrpcAnswer { details, ..of(14, "") }, "retry after 2.5s: UNAVAILABLE");
    check(of(14, "later"), "retry: UNAVAILABLE: later");
    check(of(16, "who"), "retry: UNAUTHENTICATED: who");
    check(of(12, "unknown service"), "retry: UNIMPLEMENTED: unknown service");
    check(of(13, ""), "retry: INTERNAL");
    check(of(99, ""), "retry: gRPC status 99");
    let bare = |http_status| GrpcAnswer { http_status, ..GrpcAnswer::default() };
    check(bare(200), "retry: the response has no grpc-status");
    check(bare(404), "retry: the response is not gRPC: status 404");
}
