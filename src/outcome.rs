//! Outcome of a run, as plain data. The sinks, the store and the web page are all views of it.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::names::Reason;
use crate::scenario::{ScenarioId, ScenarioKind};
use crate::secret::Masked;

/// Verdict of a run. It is defined in the scenario language because `alert.verdicts` uses its names.
pub use crate::scenario::Verdict;

/// Id of a run: a `UUIDv7`, whose 16 bytes also serve as the trace id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub Uuid);

impl RunId {
    /// Creates a new id.
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }
}

impl Default for RunId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Outcome of a run, complete enough to draw its waterfall.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Id of the run.
    pub run: RunId,
    /// Sequence number, assigned by the agent when the run ends: one more than that of the previous outcome, across
    /// restarts. 0 for an outcome without a number.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub seq: u64,
    /// Streak of the scenario after this run, set together with `seq`. `None` for an outcome without a number, and
    /// before the first conclusive run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub streak: Option<Streak>,
    /// Id of the scenario.
    pub scenario: ScenarioId,
    /// Display name of the scenario.
    pub name: String,
    /// Kind of the scenario as a whole.
    pub kind: ScenarioKind,
    /// Location of the agent.
    pub location: String,
    /// Due time of the run; for a run on request, the time of the request.
    pub due_at: DateTime<Utc>,
    /// Start of the run.
    pub started_at: DateTime<Utc>,
    /// End of the run; the timestamp of every value exported from this outcome.
    pub ended_at: DateTime<Utc>,
    /// Duration of the run.
    #[serde(with = "seconds")]
    pub duration: Duration,
    /// Verdict of the run.
    pub verdict: Verdict,
    /// Reason of a verdict other than `passed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Summary in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Masked>,
    /// Position in `steps` of the step that decided the verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_step: Option<usize>,
    /// Results of the steps, in the order in which they were reached. The steps of a group follow the group.
    pub steps: Vec<StepResult>,
    /// Evidence stored for the run.
    pub evidence: Vec<Evidence>,
    /// Browser of the run, if the scenario needs one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub browser: Option<BrowserResult>,
    /// Differences from the most recent stored good run, most significant first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<Difference>,
}

/// Difference between a run and a good one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Subject of the difference.
    pub kind: DifferenceKind,
    /// Description, such as `POST /api/orders answers 500, was 201`.
    pub text: Masked,
}

/// Subject of a difference between two runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DifferenceKind {
    /// A request with a different response, a new request or a missing one.
    Request,
    /// A console error.
    Console,
    /// A step that took much longer.
    Step,
    /// The content of the page.
    Page,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for this signature")]
fn is_first(attempt: &u32) -> bool {
    *attempt == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for this signature")]
fn is_zero(seq: &u64) -> bool {
    *seq == 0
}

impl Outcome {
    /// Returns the approximate memory use of the outcome in bytes, estimated from the number of its parts because the
    /// strings are short.
    pub fn approximate_bytes(&self) -> usize {
        1_024
            + self.steps.len() * 768
            + self.steps.iter().map(|step| step.earlier_requests.len() * 384).sum::<usize>()
            + self.steps.iter().flat_map(|step| &step.notes).map(|note| 64 + note.len()).sum::<usize>()
            + self
                .steps
                .iter()
                .filter_map(|step| step.snippet.as_ref())
                .map(|snippet| 64 + snippet.len())
                .sum::<usize>()
            + self.differences.iter().map(|difference| 64 + difference.text.len()).sum::<usize>()
            + self.evidence.len() * 256
            + self.message.as_ref().map_or(0, |message| message.len())
    }

    /// Returns the steps as defined in the scenario file, each once. Test cases added by a suite are left out because
    /// their names are unbounded and must not become time series; of a repeated group only the last attempt is
    /// returned.
    pub fn steps_of_file(&self) -> impl Iterator<Item = &StepResult> {
        self.steps.iter().filter(|step| !step.retried && (self.kind != ScenarioKind::Exec || step.depth == 0))
    }

    /// Returns whether the target was up (`passed`, `degraded`) or down (`failed`); `None` if the run did not test it.
    pub fn is_up(&self) -> Option<bool> {
        match self.verdict {
            Verdict::Passed | Verdict::Degraded => Some(true),
            Verdict::Failed => Some(false),
            Verdict::Unknown => None,
        }
    }

    /// Returns the step that decided the verdict.
    pub fn deciding_step(&self) -> Option<&StepResult> {
        self.failed_step.and_then(|index| self.steps.get(index))
    }
}

/// Consecutive conclusive runs of a scenario with the same state of the target, up or down. Runs that are `unknown`
/// neither end a streak nor count in it. The streak is stored with each outcome and survives restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Streak {
    /// Whether the target was up in these runs.
    pub is_up: bool,
    /// Id of the first run of the streak.
    pub first_run: RunId,
    /// Start of the first run.
    pub started_at: DateTime<Utc>,
    /// Number of conclusive runs so far, including the first one.
    pub runs: u64,
}

impl Streak {
    /// Returns the streak after a run, given the previous streak.
    #[must_use]
    pub fn after(before: Option<Self>, outcome: &Outcome) -> Option<Self> {
        let Some(is_up) = outcome.is_up() else { return before };
        let new = Self { is_up, first_run: outcome.run, started_at: outcome.started_at, runs: 0 };
        let streak = before.filter(|before| before.is_up == is_up).unwrap_or(new);
        Some(Self { runs: streak.runs + 1, ..streak })
    }
}

/// Result of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepStatus {
    /// The step succeeded.
    Passed,
    /// The step failed.
    Failed,
    /// The step could not be tried because of an agent fault.
    Unknown,
    /// The step was not run.
    Skipped,
}

/// Result of one step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepResult {
    /// Name, from the text of the template.
    pub name: String,
    /// Nesting depth in groups; 0 at the top level.
    #[serde(default)]
    pub depth: u8,
    /// Whether the step is listed under `finally`.
    #[serde(default)]
    pub finally: bool,
    /// Whether the verdict ignores a failure of the step.
    #[serde(default)]
    pub optional: bool,
    /// Span id for traces: 16 hexadecimal digits.
    pub span_id: String,
    /// Time from the start of the run to the start of the step.
    #[serde(with = "seconds")]
    pub offset: Duration,
    /// Duration of the step.
    #[serde(with = "seconds")]
    pub duration: Duration,
    /// Result of the step.
    pub status: StepStatus,
    /// Position of the step, or of the expectation that did not hold, as `file.yaml:LINE:COLUMN`.
    pub place: String,
    /// Cause of the failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure<Masked>>,
    /// Properties of the HTTP response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpResult>,
    /// Requests of the step that are not in `http`, in the order sent: those of earlier attempts, and those of a last
    /// attempt without a response. If there are very many attempts, the middle ones are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier_requests: Vec<Hop>,
    /// Remarkable events during the step, such as an unexpected dialog or an overlay that covered an element.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Masked>,
    /// Lines of the scenario file at which the step failed, in the version that was run, with the position marked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snippet: Option<Masked>,
    /// Whether the group of the step was repeated later, so that this result no longer counts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retried: bool,
    /// Expiry time of the certificate presented to the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_expires_at: Option<DateTime<Utc>>,
    /// Measurements of the document opened by the step, up to the end of the run or until the next document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<Box<PageResult>>,
}

impl StepResult {
    /// Returns every request of the step that the outcome contains, in the order sent.
    pub fn requests(&self) -> impl Iterator<Item = &Hop> {
        self.earlier_requests.iter().chain(self.http.iter().flat_map(|http| &http.hops))
    }
}

/// Totals over all pages of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PageTotals {
    /// Number of requests sent.
    pub requests: u64,
    /// Number of requests without a response or with a status of 400 or higher.
    pub failed_requests: u64,
    /// Bytes received over the network, including headers.
    pub bytes: u64,
    /// Number of console errors, including uncaught exceptions.
    pub console_errors: u64,
}

/// Measurements of one document, assigned to the step that opened it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct PageResult {
    /// URL with masked secrets.
    pub url: String,
    /// Status of the document, if the browser reports it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Web vitals and navigation timing, in seconds from the start of the navigation. A value that the browser does not
    /// report is absent, never 0.
    #[serde(default)]
    pub timing: PageTiming,
    /// Number of requests sent for the document, including its own.
    pub requests: u64,
    /// Number of requests without a response or with a status of 400 or higher.
    pub failed_requests: u64,
    /// Bytes received over the network, including headers.
    pub bytes: u64,
    /// Number of console errors, including uncaught exceptions.
    pub console_errors: u64,
}

/// Timing of one document, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Default)]
pub struct PageTiming {
    /// Time to first byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttfb: Option<f64>,
    /// First contentful paint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fcp: Option<f64>,
    /// Largest contentful paint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lcp: Option<f64>,
    /// Interaction to next paint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inp: Option<f64>,
    /// Cumulative layout shift; a score without a unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cls: Option<f64>,
    /// End of the name resolution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved: Option<f64>,
    /// End of the connection setup, including TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connected: Option<f64>,
    /// `DOMContentLoaded` event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interactive: Option<f64>,
    /// End of the `load` event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loaded: Option<f64>,
}

impl PageTiming {
    /// Returns a duration web vital, in seconds.
    pub fn vital(&self, vital: crate::scenario::Vital) -> Option<f64> {
        use crate::scenario::Vital;
        match vital {
            Vital::Ttfb => self.ttfb,
            Vital::Fcp => self.fcp,
            Vital::Lcp => self.lcp,
            Vital::Inp => self.inp,
        }
    }
}

/// Browser of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrowserResult {
    /// Browser engine.
    pub engine: crate::scenario::Engine,
    /// Version as reported by the driver.
    pub version: String,
    /// Whether the run used a user context of a browser that was already running; otherwise the browser was started for
    /// this run.
    pub warm: bool,
}

/// Cause of a failed step, in readable form. The texts are unmasked during the run; an outcome accepts only masked
/// ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure<T = String> {
    /// Reason, one of a bounded set.
    pub reason: Reason,
    /// Error message: lower case, concise, without a final period.
    pub message: T,
    /// Expected value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<T>,
    /// Last actual value.
    #[serde(rename = "actual", alias = "seen", default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<T>,
    /// Time spent waiting.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "seconds_option")]
    pub waited: Option<Duration>,
    /// Span that caused the failure, if it is narrower than that of the step.
    #[serde(skip)]
    pub span: Option<crate::diagnostic::Span>,
}

impl Failure {
    /// Creates a failure with a reason and a message.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), expected: None, seen: None, waited: None, span: None }
    }

    /// Sets the expected and the actual value.
    #[must_use]
    pub fn compared(mut self, expected: impl Into<String>, seen: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self.seen = Some(seen.into());
        self
    }

    /// Sets the time spent waiting.
    #[must_use]
    pub fn waited(mut self, waited: Duration) -> Self {
        self.waited = Some(waited);
        self
    }

    /// Sets the span of the condition that did not hold.
    #[must_use]
    pub fn at(mut self, span: crate::diagnostic::Span) -> Self {
        self.span.get_or_insert(span);
        self
    }
}

/// Allows tests to build outcomes from literal texts, which contain no secrets.
#[cfg(test)]
impl From<Failure> for Failure<Masked> {
    fn from(failure: Failure) -> Self {
        let Failure { reason, message, expected, seen, waited, span } = failure;
        let (message, expected) = (Masked::own_words(message), expected.map(Masked::own_words));
        Self { reason, message, expected, seen: seen.map(Masked::own_words), waited, span }
    }
}

/// Properties of an HTTP response.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HttpResult {
    /// HTTP method.
    pub method: String,
    /// URL of the response, after redirects and with masked secrets.
    pub url: String,
    /// Status code.
    pub status: u16,
    /// Size of the decoded body in bytes.
    pub bytes: u64,
    /// Requests that led to the response, in the order sent: first the redirects, then the final request. With
    /// `eventually`, only those of the last attempt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hops: Vec<Hop>,
}

impl HttpResult {
    /// Returns the sum of the phases of all hops.
    pub fn phases(&self) -> Phases {
        let mut all = Phases::default();
        for hop in &self.hops {
            all += hop.phases;
        }
        all
    }
}

/// Request and its response.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Hop {
    /// Span id, 16 hexadecimal digits, as sent in the `traceparent` header. Empty in outcomes of older agents, which
    /// did not store it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub span_id: String,
    /// Time from the start of the step to the start of the request.
    #[serde(with = "seconds", default, skip_serializing_if = "Duration::is_zero")]
    pub offset: Duration,
    /// Attempt of the step that the request belongs to, starting at 0.
    #[serde(default, skip_serializing_if = "is_first")]
    pub attempt: u32,
    /// HTTP method.
    pub method: String,
    /// URL with masked secrets.
    pub url: String,
    /// Status code, or `None` without a response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Address that the request was sent to, or `None` without a connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<core::net::SocketAddr>,
    /// HTTP version of the response: `1.0`, `1.1` or `2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_version: Option<String>,
    /// Duration of each phase.
    pub phases: Phases,
    /// Reason for a missing, incomplete or unusable response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Secret parts left out of this request after a redirect to another origin: header names in backquotes, or `the
    /// body`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub withheld: Vec<String>,
}

/// Durations of the phases of a request. On a reused connection the phases that are not needed are zero, and `tls` is
/// absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Phases {
    /// Name resolution.
    #[serde(with = "seconds", default)]
    pub resolve: Duration,
    /// Connection setup, including that of a tunnel through a proxy.
    #[serde(with = "seconds", default)]
    pub connect: Duration,
    /// TLS handshake, if there was one.
    #[serde(with = "seconds_option", default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Duration>,
    /// Time from sending the request to the head of the response.
    #[serde(with = "seconds", default)]
    pub processing: Duration,
    /// Time from the head of the response to the end of the body.
    #[serde(with = "seconds", default)]
    pub transfer: Duration,
}

impl Phases {
    /// Returns every phase with its name, in chronological order.
    pub fn named(&self) -> [(&'static str, Option<Duration>); 5] {
        [
            ("resolve", Some(self.resolve)),
            ("connect", Some(self.connect)),
            ("tls", self.tls),
            ("processing", Some(self.processing)),
            ("transfer", Some(self.transfer)),
        ]
    }
}

impl std::ops::AddAssign for Phases {
    fn add_assign(&mut self, other: Self) {
        self.resolve += other.resolve;
        self.connect += other.connect;
        self.tls = match (self.tls, other.tls) {
            (Some(a), Some(b)) => Some(a + b),
            (a, b) => a.or(b),
        };
        self.processing += other.processing;
        self.transfer += other.transfer;
    }
}

/// Description of a stored piece of evidence, without its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Kind of evidence.
    pub kind: EvidenceKind,
    /// File name within the folder of the run.
    pub name: String,
    /// Path, relative to the evidence folder.
    pub path: String,
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256 of the content, in hexadecimal.
    pub sha256: String,
    /// Position in `steps` of the step that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<usize>,
}

/// Kind of a piece of evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EvidenceKind {
    /// Screenshot as PNG.
    Screenshot,
    /// HTML of the page.
    Source,
    /// URL, title and console messages, as JSON.
    Page,
    /// Requests of the run as HAR 1.2.
    Har,
    /// Screenshot as PNG with a frame around each part that differs from the last good run.
    Difference,
    /// Accessibility tree of the page, as text.
    Accessibility,
    /// Frame of a filmstrip, as JPEG.
    Frame,
    /// Head of a response and the beginning of its body.
    Response,
    /// End of the output of a command.
    Output,
    /// Beginning of a downloaded file.
    Download,
}

impl EvidenceKind {
    /// Returns the external name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Screenshot => "screenshot",
            Self::Source => "source",
            Self::Page => "page",
            Self::Har => "har",
            Self::Difference => "difference",
            Self::Accessibility => "accessibility",
            Self::Frame => "frame",
            Self::Response => "response",
            Self::Output => "output",
            Self::Download => "download",
        }
    }
}

/// Serialization of durations as seconds in JSON.
mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64((duration.as_secs_f64() * 1e6).round() / 1e6)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        Duration::try_from_secs_f64(seconds).map_err(serde::de::Error::custom)
    }
}

/// Serialization of optional durations as seconds in JSON.
mod seconds_option {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::ref_option, reason = "serde asks for this signature")]
    pub fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::seconds::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<f64>::deserialize(deserializer)?.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()))
    }
}
