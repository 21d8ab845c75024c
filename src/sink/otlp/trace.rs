//! Trace of a run: its spans, according to the outcome. Pure.
//!
//! The run is the root, a step is a child of its group, a request of its step, a phase of its request. The trace id is
//! the id of the run. Steps and requests have the span ids sent in `traceparent` headers; those of the run and of
//! phases are derived. A span is always within the time range of its parent.

use std::time::Duration;

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};
use opentelemetry_semantic_conventions::attribute as semconv;
use url::Url;

use super::attributes::{Attributes, after, derived_span_id, nanos, of_run, trace_id};
use crate::outcome::{Hop, Outcome, PageResult, RunId, StepResult, StepStatus, Verdict};
use crate::sink::Finished;

/// W3C trace flag of a sampled trace.
const SAMPLED: u32 = 1;

/// Methods defined by the semantic conventions.
const METHODS: [&str; 10] = ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE", "QUERY"];

/// Returns the span id of a run.
pub(super) fn root_id(run: RunId) -> [u8; 8] {
    derived_span_id(run, "run")
}

/// Returns the spans of a run. The span of the run comes first, and every other one follows its parent.
pub(super) fn spans(finished: &Finished) -> Vec<Span> {
    let outcome = &*finished.outcome;
    let start = nanos(outcome.started_at);
    let root = Frame { id: root_id(outcome.run), start, end: nanos(outcome.ended_at).max(start) };
    let mut attributes = of_run(outcome, finished.scenario.as_deref());
    attributes.text("wachta.span", "run");
    let mut spans = vec![Span {
        name: outcome.name.clone(),
        status: Some(of_verdict(outcome)),
        ..span(outcome.run, root, None, attributes)
    }];
    // Steps whose groups are open, from the outermost inward.
    let mut open: Vec<Frame> = Vec::new();
    for (index, step) in outcome.steps.iter().enumerate() {
        open.truncate(step.depth.into());
        let above = *open.last().unwrap_or(&root);
        let id = hexadecimal(&step.span_id).unwrap_or_else(|| derived_span_id(outcome.run, &format!("step {index}")));
        let began = after(start, step.offset);
        let frame = above.within(id, began, after(began, step.duration));
        let is_group = outcome.steps.get(index + 1).is_some_and(|next| next.depth > step.depth);
        let mut attributes = of_step(step, index);
        attributes.text("wachta.span", if is_group { "group" } else { "step" });
        spans.push(Span {
            name: step.name.clone(),
            status: Some(of_step_status(step)),
            ..span(outcome.run, frame, Some(above), attributes)
        });
        let mut resend = 0;
        let mut attempt = 0;
        for (number, hop) in step.requests().enumerate() {
            resend = if hop.attempt == attempt { resend } else { 0 };
            attempt = hop.attempt;
            request(outcome.run, step, hop, (number, resend), frame, began, &mut spans);
            resend += 1;
        }
        open.push(frame);
    }
    spans
}

/// Id and time range of a span.
#[derive(Debug, Clone, Copy)]
struct Frame {
    id: [u8; 8],
    start: u64,
    end: u64,
}

impl Frame {
    /// Creates a child span, limited to the time range of this one.
    fn within(self, id: [u8; 8], start: u64, end: u64) -> Self {
        let start = start.clamp(self.start, self.end);
        Self { id, start, end: end.clamp(start, self.end) }
    }
}

/// Creates the spans of a request and its phases. `number` is its position among those of the step, and among those of
/// its attempt.
fn request(
    run: RunId,
    step: &StepResult,
    hop: &Hop,
    (number, resend): (usize, usize),
    above: Frame,
    step_began: u64,
    spans: &mut Vec<Span>,
) {
    let part = format!("{} request {number}", step.span_id);
    let id = hexadecimal(&hop.span_id).unwrap_or_else(|| derived_span_id(run, &part));
    let began = after(step_began, hop.offset);
    let took: Duration = hop.phases.named().into_iter().filter_map(|(_, took)| took).sum();
    let frame = above.within(id, began, after(began, took));
    let (attributes, error) = of_request(step, hop, resend);
    let status = error.map(|_| Status { code: StatusCode::Error.into(), ..Status::default() });
    let method = METHODS.contains(&hop.method.as_str());
    spans.push(Span {
        name: if method { hop.method.clone() } else { "HTTP".to_owned() },
        kind: SpanKind::Client.into(),
        status: Some(status.unwrap_or_default()),
        ..span(run, frame, Some(above), attributes)
    });
    let mut at = began;
    for (name, took) in hop.phases.named() {
        let Some(took) = took.filter(|took| !took.is_zero()) else { continue };
        let end = after(at, took);
        let mut attributes = Attributes::default();
        attributes.text("wachta.span", "phase");
        let id = derived_span_id(run, &format!("{}/{name}", hop_key(hop, &part)));
        spans.push(Span { name: name.to_owned(), ..span(run, frame.within(id, at, end), Some(frame), attributes) });
        at = end;
    }
}

/// Returns the key from which the ids of a request's phases are derived.
fn hop_key<'a>(hop: &'a Hop, part: &'a str) -> &'a str {
    if hop.span_id.is_empty() { part } else { &hop.span_id }
}

fn span(run: RunId, frame: Frame, above: Option<Frame>, attributes: Attributes) -> Span {
    Span {
        trace_id: trace_id(run),
        span_id: frame.id.to_vec(),
        parent_span_id: above.map(|above| above.id.to_vec()).unwrap_or_default(),
        flags: SAMPLED,
        kind: SpanKind::Internal.into(),
        start_time_unix_nano: frame.start,
        end_time_unix_nano: frame.end,
        attributes: attributes.0,
        ..Span::default()
    }
}

/// Parses a hexadecimal span id. Returns `None` if it is not valid.
fn hexadecimal(text: &str) -> Option<[u8; 8]> {
    let is_plain = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let id = u64::from_str_radix(text, 16).ok().filter(|id| is_plain && *id != 0)?;
    Some(id.to_be_bytes())
}

/// Returns the span status of a verdict: failed is an error with the message, degraded is success, and unknown leaves
/// the status unset.
fn of_verdict(outcome: &Outcome) -> Status {
    match outcome.verdict {
        Verdict::Passed | Verdict::Degraded => Status { code: StatusCode::Ok.into(), ..Status::default() },
        Verdict::Failed => Status {
            code: StatusCode::Error.into(),
            message: outcome.message.as_ref().map(ToString::to_string).unwrap_or_default(),
        },
        Verdict::Unknown => Status::default(),
    }
}

fn of_step_status(step: &StepResult) -> Status {
    match step.status {
        StepStatus::Passed => Status { code: StatusCode::Ok.into(), ..Status::default() },
        StepStatus::Failed => Status {
            code: StatusCode::Error.into(),
            message: step.failure.as_ref().map(|failure| failure.message.to_string()).unwrap_or_default(),
        },
        StepStatus::Unknown | StepStatus::Skipped => Status::default(),
    }
}

fn of_step(step: &StepResult, index: usize) -> Attributes {
    let mut all = Attributes::default();
    all.number("wachta.step.index", index);
    let status = match step.status {
        StepStatus::Passed => "passed",
        StepStatus::Failed => "failed",
        StepStatus::Unknown => "unknown",
        StepStatus::Skipped => "skipped",
    };
    all.text("wachta.step.status", status);
    all.text("wachta.step.place", step.place.as_str());
    all.flag("wachta.step.optional", step.optional);
    all.flag("wachta.step.finally", step.finally);
    if let Some(failure) = &step.failure {
        all.text("wachta.reason", failure.reason.as_str());
        if step.status == StepStatus::Failed {
            all.text(semconv::ERROR_TYPE, failure.reason.as_str());
        }
        all.text("wachta.message", failure.message.to_string());
        for (key, value) in [("wachta.expected", &failure.expected), ("wachta.actual", &failure.seen)] {
            if let Some(value) = value {
                all.text(key, value.to_string());
            }
        }
    }
    if let Some(expires_at) = step.certificate_expires_at {
        let expires_at = expires_at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        all.text(semconv::TLS_SERVER_NOT_AFTER, expires_at);
    }
    if let Some(page) = &step.page {
        of_page(page, &mut all);
    }
    all
}

fn of_page(page: &PageResult, all: &mut Attributes) {
    all.text(semconv::URL_FULL, page.url.as_str());
    if let Some(status) = page.status {
        all.number(semconv::HTTP_RESPONSE_STATUS_CODE, status);
    }
    all.number("wachta.page.requests", page.requests);
    all.number("wachta.page.failed_requests", page.failed_requests);
    all.number("wachta.page.bytes", page.bytes);
    all.number("wachta.page.console_errors", page.console_errors);
    let timing = &page.timing;
    let times = [
        ("wachta.page.ttfb", timing.ttfb),
        ("wachta.page.fcp", timing.fcp),
        ("wachta.page.lcp", timing.lcp),
        ("wachta.page.inp", timing.inp),
        ("wachta.page.cls", timing.cls),
        ("wachta.page.interactive", timing.interactive),
        ("wachta.page.loaded", timing.loaded),
    ];
    for (key, value) in times {
        if let Some(value) = value {
            all.seconds(key, value);
        }
    }
}

/// Returns the attributes of a request, and the error type if it failed. A status expected by the step is not an error.
fn of_request(step: &StepResult, hop: &Hop, resend: usize) -> (Attributes, Option<String>) {
    let mut all = Attributes::default();
    all.text("wachta.span", "request");
    if METHODS.contains(&hop.method.as_str()) {
        all.text(semconv::HTTP_REQUEST_METHOD, hop.method.as_str());
    } else {
        all.text(semconv::HTTP_REQUEST_METHOD, "_OTHER");
        all.text(semconv::HTTP_REQUEST_METHOD_ORIGINAL, hop.method.as_str());
    }
    all.text(semconv::URL_FULL, hop.url.as_str());
    if let Ok(url) = Url::parse(&hop.url) {
        if let Some(host) = url.host_str() {
            all.text(semconv::SERVER_ADDRESS, host.trim_matches(['[', ']']));
        }
        if let Some(port) = url.port_or_known_default() {
            all.number(semconv::SERVER_PORT, port);
        }
    }
    if let Some(address) = hop.address {
        all.text(semconv::NETWORK_PEER_ADDRESS, address.ip().to_string());
        all.number(semconv::NETWORK_PEER_PORT, address.port());
    }
    if let Some(version) = &hop.http_version {
        all.text(semconv::NETWORK_PROTOCOL_VERSION, version.as_str());
    }
    if let Some(status) = hop.status {
        all.number(semconv::HTTP_RESPONSE_STATUS_CODE, status);
    }
    if resend > 0 {
        all.number(semconv::HTTP_REQUEST_RESEND_COUNT, resend);
    }
    all.number("wachta.attempt", hop.attempt + 1);
    let status = hop.status.filter(|status| *status >= 400 && step.status != StepStatus::Passed);
    let error = hop.reason.map(|reason| reason.as_str().to_owned()).or(status.map(|status| status.to_string()));
    if let Some(error) = &error {
        all.text(semconv::ERROR_TYPE, error.as_str());
    }
    (all, error)
}

#[cfg(test)]
mod tests;
