//! Interpretation of the responses of an OTLP receiver. Pure.
//!
//! Source: the OTLP specification, "OTLP/gRPC Response" and "OTLP/HTTP Response"
//! (<https://opentelemetry.io/docs/specs/otlp/>).

use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message as _;
use serde_json::Value;

use super::config::Signal;

/// Maximum length of the part of a response that is stored as a reason, in characters.
const MAX_REASON: usize = 300;

/// Result of exporting one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Export {
    /// The receiver has accepted everything, possibly with a warning.
    Taken { warning: Option<String> },
    /// The receiver has rejected this number of spans or records without identifying them, and accepted the others.
    Rejected { count: u64, reason: String },
    /// The receiver may have accepted nothing, a part, or everything.
    Retry { after: Option<Duration>, reason: String },
    /// The receiver has rejected everything because of its content.
    Refused(String),
}

/// HTTP response.
#[derive(Debug, Clone, Default)]
pub(super) struct HttpAnswer {
    pub(super) status: u16,
    pub(super) content_type: String,
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Vec<u8>,
}

/// gRPC response.
#[derive(Debug, Clone, Default)]
pub(super) struct GrpcAnswer {
    /// Status of the underlying HTTP response.
    pub(super) http_status: u16,
    /// `grpc-status`, or `None` if the response has none, for example one from a proxy.
    pub(super) code: Option<u32>,
    /// `grpc-message`, decoded.
    pub(super) message: String,
    /// `grpc-status-details-bin`, decoded.
    pub(super) details: Vec<u8>,
    /// Message without its frame.
    pub(super) body: Vec<u8>,
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Status {
    #[prost(int32, tag = "1")]
    pub(super) code: i32,
    #[prost(string, tag = "2")]
    pub(super) message: String,
    #[prost(message, repeated, tag = "3")]
    pub(super) details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Any {
    #[prost(string, tag = "1")]
    pub(super) type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) value: Vec<u8>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    pub(super) retry_delay: Option<Delay>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Delay {
    #[prost(int64, tag = "1")]
    pub(super) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(super) nanos: i32,
}

/// Interprets an HTTP response. Only 400, 413 and 422 are caused by the content of the request. A problem that affects
/// every request (a wrong URL, no permission, an overloaded receiver) leads to a retry, even where the specification
/// permits a client to give up, because an operator will correct it.
pub(super) fn of_http(signal: Signal, answer: &HttpAnswer) -> Export {
    let status = answer.status;
    let reason = || match in_words(&answer.content_type, &answer.body) {
        Some(text) => format!("status {status}: {text}"),
        None => format!("status {status}"),
    };
    match status {
        200..=299 if answer.body.is_empty() => Export::Taken { warning: None },
        200..=299 if is(&answer.content_type, "application/json") => of_json(signal, &answer.body),
        200..=299 if is(&answer.content_type, "application/x-protobuf") => of_message(signal, &answer.body),
        200..=299 => {
            let shown = short(&answer.content_type);
            Export::Retry { after: None, reason: format!("the response is not OTLP: its content type is `{shown}`") }
        }
        400 | 413 | 422 => Export::Refused(reason()),
        _ => Export::Retry { after: answer.retry_after, reason: reason() },
    }
}

/// Interprets a gRPC response.
pub(super) fn of_grpc(signal: Signal, answer: &GrpcAnswer) -> Export {
    let retry = |after, reason| Export::Retry { after, reason };
    let Some(code) = answer.code else {
        return match answer.http_status {
            200 => retry(None, "the response has no grpc-status".to_owned()),
            status => retry(None, format!("the response is not gRPC: status {status}")),
        };
    };
    let details = Status::decode(answer.details.as_slice()).unwrap_or_default();
    let after = details.details.iter().find(|any| any.type_url.ends_with("/google.rpc.RetryInfo"));
    let after = after.map(|any| delay(&any.value).unwrap_or_default());
    let name = code_name(code);
    let reason = if answer.message.is_empty() { name } else { format!("{name}: {}", short(&answer.message)) };
    match code {
        0 => of_message(signal, &answer.body),
        // INVALID_ARGUMENT, and a message that is too large for the receiver.
        3 => Export::Refused(reason),
        8 if after.is_none() && answer.message.contains("larger than max") => Export::Refused(reason),
        _ => retry(after, reason),
    }
}

/// Returns the delay requested by `RetryInfo`.
fn delay(bytes: &[u8]) -> Option<Duration> {
    let delay = RetryInfo::decode(bytes).ok()?.retry_delay?;
    Some(Duration::new(u64::try_from(delay.seconds).ok()?, u32::try_from(delay.nanos).ok()?.min(999_999_999)))
}

/// Interprets the response message of a receiver that has accepted a request entirely or partially.
fn of_message(signal: Signal, body: &[u8]) -> Export {
    let partial = match signal {
        Signal::Traces => ExportTraceServiceResponse::decode(body)
            .map(|response| response.partial_success.map(|partial| (partial.rejected_spans, partial.error_message))),
        Signal::Logs => ExportLogsServiceResponse::decode(body).map(|response| {
            response.partial_success.map(|partial| (partial.rejected_log_records, partial.error_message))
        }),
    };
    match partial {
        Ok(partial) => of_partial(partial),
        Err(error) => Export::Retry { after: None, reason: format!("the response is not OTLP: {error}") },
    }
}

/// Interprets a response message in JSON.
fn of_json(signal: Signal, body: &[u8]) -> Export {
    let Ok(answer) = serde_json::from_slice::<Value>(body) else {
        return Export::Retry { after: None, reason: "the response is not OTLP: not JSON".into() };
    };
    let partial = &answer["partialSuccess"];
    let rejected = match signal {
        Signal::Traces => &partial["rejectedSpans"],
        Signal::Logs => &partial["rejectedLogRecords"],
    };
    // 64-bit numbers are strings in this JSON format.
    let count = rejected.as_i64().or_else(|| rejected.as_str()?.parse().ok()).unwrap_or_default();
    of_partial(Some((count, partial["errorMessage"].as_str().unwrap_or_default().to_owned())))
}

fn of_partial(partial: Option<(i64, String)>) -> Export {
    let (count, message) = partial.unwrap_or_default();
    match u64::try_from(count) {
        Ok(count) if count > 0 => {
            let reason = if message.is_empty() { "no reason is given".to_owned() } else { short(&message) };
            Export::Rejected { count, reason }
        }
        _ => Export::Taken { warning: Some(short(&message)).filter(|message| !message.is_empty()) },
    }
}

/// Returns the error message of the receiver: a `google.rpc.Status` in the format of the request, or text.
fn in_words(content_type: &str, body: &[u8]) -> Option<String> {
    let text = if is(content_type, "application/x-protobuf") {
        Status::decode(body).ok()?.message
    } else if is(content_type, "application/json") {
        serde_json::from_slice::<Value>(body).ok()?["message"].as_str()?.to_owned()
    } else if is(content_type, "text/plain") {
        String::from_utf8_lossy(body).into_owned()
    } else {
        String::new()
    };
    Some(short(text.trim())).filter(|text| !text.is_empty())
}

fn is(content_type: &str, media_type: &str) -> bool {
    content_type.split(';').next().is_some_and(|own| own.trim().eq_ignore_ascii_case(media_type))
}

fn short(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_REASON).collect()
}

/// Returns the name of a gRPC status code.
fn code_name(code: u32) -> String {
    let name = match code {
        1 => "CANCELLED",
        2 => "UNKNOWN",
        3 => "INVALID_ARGUMENT",
        4 => "DEADLINE_EXCEEDED",
        5 => "NOT_FOUND",
        6 => "ALREADY_EXISTS",
        7 => "PERMISSION_DENIED",
        8 => "RESOURCE_EXHAUSTED",
        9 => "FAILED_PRECONDITION",
        10 => "ABORTED",
        11 => "OUT_OF_RANGE",
        12 => "UNIMPLEMENTED",
        13 => "INTERNAL",
        14 => "UNAVAILABLE",
        15 => "DATA_LOSS",
        16 => "UNAUTHENTICATED",
        _ => return format!("gRPC status {code}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests;
