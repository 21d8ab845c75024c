//! Data for the templates of a run and of a scenario: steps, evidence, source lines. Pure.

use std::time::Duration;

use chrono::{DateTime, Utc};
use percent_encoding::utf8_percent_encode;
use serde::Serialize;
use serde_json::Value as Json;

use super::svg;
use super::view::{PATH, TimeView, seconds_text, spent};
use crate::names::path;
use crate::outcome::{EvidenceKind, Outcome, StepStatus};
use crate::scenario::{Action, HumanDuration, PlacedStep, Scenario, Step};
use crate::secret::Masked;

/// Piece of evidence.
#[derive(Debug, Serialize)]
pub struct EvidenceView {
    kind: &'static str,
    what: &'static str,
    name: String,
    path: String,
    size: String,
    picture: bool,
}

/// Returns the evidence of a run, except the filmstrip.
pub fn evidence(outcome: &Outcome) -> Vec<EvidenceView> {
    outcome
        .evidence
        .iter()
        .filter(|piece| piece.kind != EvidenceKind::Frame)
        .map(|piece| EvidenceView {
            kind: piece.kind.as_str(),
            what: match piece.kind {
                EvidenceKind::Screenshot => "Screenshot",
                EvidenceKind::Source => "Page source",
                EvidenceKind::Page => "Page log",
                EvidenceKind::Response => "Response",
                EvidenceKind::Har => "HAR",
                EvidenceKind::Difference => "Differences from the last good run",
                EvidenceKind::Accessibility => "Accessibility tree",
                EvidenceKind::Frame => "Filmstrip frame",
                EvidenceKind::Output => "Output",
                EvidenceKind::Download => "Download",
            },
            name: piece.name.clone(),
            path: evidence_path(outcome, &piece.name),
            size: size(piece.bytes),
            picture: matches!(piece.kind, EvidenceKind::Screenshot | EvidenceKind::Difference),
        })
        .collect()
}

fn evidence_path(outcome: &Outcome, name: &str) -> String {
    format!("{}{}/{}", path::EVIDENCE, outcome.run, utf8_percent_encode(name, PATH))
}

/// Frame of the filmstrip.
#[derive(Debug, Serialize)]
pub struct FrameView {
    path: String,
    time: String,
    #[serde(skip)]
    millis: u64,
}

/// Returns the filmstrip in chronological order. Names such as `frame-001234ms.jpg` contain the time since the start of
/// the run.
pub fn filmstrip(outcome: &Outcome) -> Vec<FrameView> {
    let frames = outcome.evidence.iter().filter(|piece| piece.kind == EvidenceKind::Frame);
    let mut frames: Vec<FrameView> = frames
        .filter_map(|piece| {
            let millis = piece.name.strip_suffix("ms.jpg")?.rsplit_once("frame-")?.1.parse().ok()?;
            let time = seconds_text(Duration::from_millis(millis).as_secs_f64());
            Some(FrameView { path: evidence_path(outcome, &piece.name), time, millis })
        })
        .collect();
    frames.sort_by_key(|frame| frame.millis);
    frames
}

/// Console messages and failed requests of a page, from its evidence.
#[derive(Debug, Serialize, Default)]
pub struct PageFindings {
    path: String,
    console: Vec<String>,
    failed_requests: Vec<String>,
}

/// Parses a `page.json`. Returns `None` if it contains no problems, because its link is sufficient then.
pub fn findings(outcome: &Outcome, name: &str, bytes: &[u8]) -> Option<PageFindings> {
    /// The file itself contains the rest.
    const SHOWN: usize = 20;
    let page: Json = serde_json::from_slice(bytes).ok()?;
    let list = |name: &str| page[name].as_array().map_or(&[][..], Vec::as_slice).iter();
    let text = |value: &Json| value.as_str().map(|text| crate::values::expect::cut(text, 300));
    let is_error = |entry: &&Json| {
        entry["level"].as_str().is_some_and(|level| matches!(level.to_lowercase().as_str(), "error" | "severe"))
    };
    let console: Vec<String> = list("console").filter(is_error).filter_map(|entry| text(&entry["message"])).collect();
    let failed: Vec<String> = list("failed_requests")
        .filter_map(|request| {
            let what = format!("{} {}", text(&request["method"])?, text(&request["url"])?);
            let why = request["status"].as_u64().map(|status| format!("status {status}"));
            Some(format!("{what}: {}", why.or_else(|| text(&request["error"])).unwrap_or_else(|| "no response".into())))
        })
        .collect();
    let last = |mut lines: Vec<String>| lines.split_off(lines.len().saturating_sub(SHOWN));
    (!console.is_empty() || !failed.is_empty()).then(|| PageFindings {
        path: evidence_path(outcome, name),
        console: last(console),
        failed_requests: last(failed),
    })
}

/// Measurements of a page opened by a step.
#[derive(Debug, Serialize)]
pub struct PageView {
    step: usize,
    name: String,
    url: String,
    status: Option<u16>,
    /// Times in the order of the columns; `None` if a time was not measured.
    times: Vec<Option<String>>,
    shift: Option<String>,
    requests: u64,
    failed: u64,
    bytes: String,
    errors: u64,
}

/// Column titles of [`PageView::times`].
pub const TIMES: [&str; 6] = ["TTFB", "FCP", "LCP", "INP", "DOM ready", "Loaded"];

/// Returns every page opened in a run.
pub fn pages(outcome: &Outcome) -> Vec<PageView> {
    let opened = outcome.steps.iter().enumerate().filter_map(|(index, step)| Some((index, step, step.page.as_ref()?)));
    opened
        .map(|(index, step, page)| {
            let t = &page.timing;
            let times = [t.ttfb, t.fcp, t.lcp, t.inp, t.interactive, t.loaded];
            PageView {
                step: index + 1,
                name: step.name.clone(),
                url: page.url.clone(),
                status: page.status,
                times: times.map(|time| time.map(seconds_text)).into(),
                shift: t.cls.map(|score| format!("{score:.3}")),
                requests: page.requests,
                failed: page.failed_requests,
                bytes: size(page.bytes),
                errors: page.console_errors,
            }
        })
        .collect()
}

fn size(bytes: u64) -> String {
    match bytes {
        n @ 0..1024 => format!("{n} B"),
        n @ 1024..1_048_576 => format!("{} KiB", n / 1024),
        n => format!("{:.1} MiB", n as f64 / 1_048_576.0),
    }
}

/// Step of a run.
#[derive(Debug, Serialize)]
pub struct StepView {
    number: usize,
    name: String,
    depth: u8,
    marks: Vec<&'static str>,
    status: &'static str,
    offset: String,
    duration: String,
    bar: String,
    place: String,
    http: Option<String>,
    certificate: Option<TimeView>,
    notes: Vec<Masked>,
    decided: bool,
    failure: Option<FailureView>,
}

/// Failure of a step with the expected and the actual value.
#[derive(Debug, Serialize)]
pub struct FailureView {
    reason: &'static str,
    message: Masked,
    expected: Option<Masked>,
    seen: Option<Masked>,
    waited: Option<String>,
    snippet: Option<Masked>,
}

/// Returns the steps for the waterfall of a run.
pub fn steps(outcome: &Outcome, now: DateTime<Utc>) -> Vec<StepView> {
    let total = outcome.duration.as_secs_f64();
    outcome
        .steps
        .iter()
        .enumerate()
        .map(|(index, step)| StepView {
            number: index + 1,
            name: step.name.clone(),
            depth: step.depth,
            notes: step.notes.clone(),
            marks: [(step.optional, "optional"), (step.finally, "finally"), (step.retried, "repeated")]
                .into_iter()
                .filter_map(|(holds, mark)| holds.then_some(mark))
                .collect(),
            status: status_text(step.status),
            offset: seconds_text(step.offset.as_secs_f64()),
            duration: spent(step.duration),
            bar: svg::bar(step.offset.as_secs_f64(), step.duration.as_secs_f64(), total, step.status),
            place: step.place.clone(),
            http: step.http.as_ref().map(|http| format!("{} {} → {}", http.method, http.url, http.status)),
            certificate: step.certificate_expires_at.map(|at| TimeView::new(at, now)),
            decided: outcome.failed_step == Some(index),
            // A failed group and skipped steps only repeat the failure of the deciding step.
            failure: step.failure.as_ref().filter(|_| tells_something_new(outcome, index)).map(|failure| FailureView {
                reason: failure.reason.as_str(),
                message: failure.message.clone(),
                expected: failure.expected.clone(),
                seen: failure.seen.clone(),
                waited: failure.waited.map(spent),
                snippet: step.snippet.clone(),
            }),
        })
        .collect()
}

/// Returns whether the failure of a step differs from that of the deciding step.
fn tells_something_new(outcome: &Outcome, index: usize) -> bool {
    let (step, decided) = (&outcome.steps[index], outcome.deciding_step());
    outcome.failed_step == Some(index)
        || step.status != StepStatus::Skipped && decided.is_none_or(|decided| decided.failure != step.failure)
}

/// Returns the external name.
fn status_text(status: StepStatus) -> &'static str {
    match status {
        StepStatus::Passed => "passed",
        StepStatus::Failed => "failed",
        StepStatus::Unknown => "unknown",
        StepStatus::Skipped => "skipped",
    }
}

/// Line of a scenario file.
#[derive(Debug, Serialize)]
pub struct Line {
    number: usize,
    text: String,
    own: bool,
}

/// Returns the lines of the scenario's file. The lines of the scenario itself are marked, from its name or id to the
/// end of its last step.
pub fn source(scenario: &Scenario) -> Vec<Line> {
    fn last(steps: &[Step]) -> u32 {
        steps
            .iter()
            // Steps of a fragment do not extend the range in this file.
            .filter(|step| step.source.is_none())
            .map(|step| match &step.action {
                Action::Group(group) => step.span.end.max(last(&group.steps)),
                _ => step.span.end,
            })
            .max()
            .unwrap_or(0)
    }
    let text = &scenario.source.text;
    let end = last(&scenario.steps).max(last(&scenario.finally)).max(scenario.id.span.end) as usize;
    let end = text.get(..end).map_or(usize::MAX, |before| before.trim_end().lines().count());
    let start = scenario.id.span.line.max(1) as usize;
    text.lines()
        .enumerate()
        .map(|(index, text)| Line {
            number: index + 1,
            text: scenario.source.shown(text),
            own: (start..=end.max(start)).contains(&(index + 1)),
        })
        .collect()
}

/// Step of a scenario as defined in its file.
#[derive(Debug, Serialize)]
pub struct PlannedStep {
    name: String,
    depth: usize,
    marks: Vec<&'static str>,
    timeout: String,
    place: String,
}

/// Returns all steps of a scenario; the steps of a group follow the group.
pub fn planned(scenario: &Scenario) -> Vec<PlannedStep> {
    let planned = |at: PlacedStep<'_>| {
        let step = at.step;
        let is_group = matches!(step.action, Action::Group(_));
        PlannedStep {
            name: step.name.clone(),
            depth: at.depth,
            marks: [(step.optional, "optional"), (step.go_on, "continue"), (at.is_finally, "finally")]
                .into_iter()
                .filter_map(|(holds, mark)| holds.then_some(mark))
                .collect(),
            timeout: match (is_group, step.timeout) {
                (true, None) => String::new(),
                _ => HumanDuration(step.timeout()).to_string(),
            },
            place: step.source.as_ref().unwrap_or(&scenario.source).place(step.span),
        }
    };
    scenario.steps_deep().map(planned).collect()
}
