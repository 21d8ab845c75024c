//! What happened in one run. Plain data; every sink, the store and the page are views of it.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::names::Reason;
use crate::scenario::{Kind, ScenarioId};
use crate::secret::Masked;

/// How a run ended: a word of the scenario language, since `alert.verdicts` names it.
pub use crate::scenario::Verdict;

/// The id of a run: a `UUIDv7`, whose 16 bytes are also the trace id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub Uuid);

impl RunId {
    /// A new id.
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

/// What happened in one run. Complete enough to draw its waterfall.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The run.
    pub run: RunId,
    /// The number that the agent gave it when the run ended: one more than the outcome before it has, across restarts.
    /// 0 for an outcome that has no number.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub seq: u64,
    /// The streak that the scenario is in after this run, set with the number. `None` for an outcome that has no number,
    /// and before the first conclusive run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub streak: Option<Streak>,
    /// Of which scenario.
    pub scenario: ScenarioId,
    /// The scenario's name.
    pub name: String,
    /// What the scenario mainly is.
    pub kind: Kind,
    /// Where the agent looks from.
    pub location: String,
    /// When it was due; for a run that was asked for, when it was asked for.
    pub due_at: DateTime<Utc>,
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// When it ended; the time that goes with every value made from this outcome.
    pub ended_at: DateTime<Utc>,
    /// How long it took.
    #[serde(with = "seconds")]
    pub duration: Duration,
    /// How it ended.
    pub verdict: Verdict,
    /// Why it is not `passed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// One line for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Masked>,
    /// Position in `steps` of the step that decided the verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_step: Option<usize>,
    /// What the steps did, in the order they were reached; those of groups follow their group.
    pub steps: Vec<StepResult>,
    /// What was kept of the run.
    pub evidence: Vec<Evidence>,
    /// The browser, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub browser: Option<BrowserResult>,
    /// What it did otherwise than the last good run that was kept, the most telling first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<Difference>,
}

/// Something that a run did otherwise than a good one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// What it is about.
    pub kind: DifferenceKind,
    /// It, for people: `POST /api/orders answers 500, was 201`.
    pub text: Masked,
}

/// What a difference between two runs is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DifferenceKind {
    /// A request that was answered otherwise, is new or missing.
    Request,
    /// An error on the console.
    Console,
    /// A step that took much longer.
    Step,
    /// What the page shows.
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
    /// Roughly how many bytes the outcome takes in memory: its strings are short, so its parts are counted.
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

    /// Its steps as the scenario's file has them, each once: what a suite adds has names that nobody bounds and is no
    /// series, and of a group that was done again the last try counts.
    pub fn steps_of_file(&self) -> impl Iterator<Item = &StepResult> {
        self.steps.iter().filter(|step| !step.retried && (self.kind != Kind::Exec || step.depth == 0))
    }

    /// Returns whether the target was up (`passed`, `degraded`) or down (`failed`); `None` if the run did not test it.
    pub fn is_up(&self) -> Option<bool> {
        match self.verdict {
            Verdict::Passed | Verdict::Degraded => Some(true),
            Verdict::Failed => Some(false),
            Verdict::Unknown => None,
        }
    }

    /// The step that decided the verdict.
    pub fn deciding_step(&self) -> Option<&StepResult> {
        self.failed_step.and_then(|index| self.steps.get(index))
    }
}

/// The conclusive runs of a scenario, one after another, in which its target was up, or in which it was down. Runs that
/// are `unknown` neither end a streak nor count in it. It is stored with each outcome, so it survives restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Streak {
    /// Whether the target was up in these runs.
    pub is_up: bool,
    /// The first run of the streak.
    pub first_run: RunId,
    /// Start of the first run.
    pub started_at: DateTime<Utc>,
    /// Number of conclusive runs so far, the first one included.
    pub runs: u64,
}

impl Streak {
    /// Returns the streak after a run, given the one before it.
    #[must_use]
    pub fn after(before: Option<Self>, outcome: &Outcome) -> Option<Self> {
        let Some(is_up) = outcome.is_up() else { return before };
        let new = Self { is_up, first_run: outcome.run, started_at: outcome.started_at, runs: 0 };
        let streak = before.filter(|before| before.is_up == is_up).unwrap_or(new);
        Some(Self { runs: streak.runs + 1, ..streak })
    }
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepStatus {
    /// It did what it should.
    Passed,
    /// It did not.
    Failed,
    /// We could not try.
    Unknown,
    /// It was passed over.
    Skipped,
}

/// What one step did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepResult {
    /// Its name, from the template text.
    pub name: String,
    /// How deep it is in groups; 0 at the top.
    #[serde(default)]
    pub depth: u8,
    /// Whether it stands under `finally`.
    #[serde(default)]
    pub finally: bool,
    /// Whether its failure leaves the verdict alone.
    #[serde(default)]
    pub optional: bool,
    /// Its span id, as in a trace; 16 hexadecimal digits.
    pub span_id: String,
    /// From the start of the run to its own.
    #[serde(with = "seconds")]
    pub offset: Duration,
    /// How long it took.
    #[serde(with = "seconds")]
    pub duration: Duration,
    /// How it ended.
    pub status: StepStatus,
    /// `file.yaml:LINE:COLUMN` of the step, or of the expectation that did not hold.
    pub place: String,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure<Masked>>,
    /// What its answer was like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpResult>,
    /// The requests that it sent and that are not in `http`, in order: those of earlier tries, and those of a last try
    /// that has no answer. Of very many tries those in the middle are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier_requests: Vec<Hop>,
    /// What happened besides, for people: a dialog that nobody asked for, an overlay that was in the way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Masked>,
    /// The lines of the scenario's file that it failed at, as they were when it ran, with the place marked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snippet: Option<Masked>,
    /// Whether its group was done again later: what it did counts no longer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retried: bool,
    /// When the certificate that it saw expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_expires_at: Option<DateTime<Utc>>,
    /// What is known of the document that it opened, up to the end of the run or to the next document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<Box<PageResult>>,
}

impl StepResult {
    /// Every request that it sent, in order, as far as the outcome has them.
    pub fn requests(&self) -> impl Iterator<Item = &Hop> {
        self.earlier_requests.iter().chain(self.http.iter().flat_map(|http| &http.hops))
    }
}

/// Totals over all pages of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PageTotals {
    /// Number of requests sent.
    pub requests: u64,
    /// Number of requests without an answer, or answered with a status of 400 or more.
    pub failed_requests: u64,
    /// Bytes received over the wire, headers included.
    pub bytes: u64,
    /// Number of errors on the console, uncaught exceptions included.
    pub console_errors: u64,
}

/// What is known of one document: it belongs to the step that opened it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct PageResult {
    /// Its URL; secrets masked.
    pub url: String,
    /// The document's status, where the browser said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Web vitals and navigation timing, in seconds from the start of the navigation. What the browser does not give is
    /// absent, never 0.
    #[serde(default)]
    pub timing: PageTiming,
    /// Requests that were sent for it, the document's own included.
    pub requests: u64,
    /// Those without an answer, or with a status of 400 and more.
    pub failed_requests: u64,
    /// Bytes that came over the wire, heads included.
    pub bytes: u64,
    /// Errors on its console, uncaught exceptions included.
    pub console_errors: u64,
}

/// Times of one document, in seconds.
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
    /// Cumulative layout shift; no time, a score.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cls: Option<f64>,
    /// The end of the name's resolution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved: Option<f64>,
    /// The end of connecting, TLS included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connected: Option<f64>,
    /// `DOMContentLoaded`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interactive: Option<f64>,
    /// The end of `load`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loaded: Option<f64>,
}

impl PageTiming {
    /// A web vital that is a time, in seconds.
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

/// Which browser a run was done with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrowserResult {
    /// The engine.
    pub engine: crate::scenario::Engine,
    /// Its version, as the driver says it.
    pub version: String,
    /// Whether the browser ran already and gave the run a user of its own; else it was started for this run.
    pub warm: bool,
}

/// Why a step failed, for a person. While a run goes on its texts are as they came; an outcome takes masked ones alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure<T = String> {
    /// The bounded reason.
    pub reason: Reason,
    /// What is wrong: lower case, concise, no final period.
    pub message: T,
    /// What was expected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<T>,
    /// What was seen last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<T>,
    /// How long it was waited for.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "seconds_option")]
    pub waited: Option<Duration>,
    /// The place that did not hold, when it is finer than the step's.
    #[serde(skip)]
    pub span: Option<crate::diagnostic::Span>,
}

impl Failure {
    /// A failure with a reason and a message.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), expected: None, seen: None, waited: None, span: None }
    }

    /// Says what was expected and what was seen.
    #[must_use]
    pub fn compared(mut self, expected: impl Into<String>, seen: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self.seen = Some(seen.into());
        self
    }

    /// Says how long it was waited for.
    #[must_use]
    pub fn waited(mut self, waited: Duration) -> Self {
        self.waited = Some(waited);
        self
    }

    /// Says what exactly did not hold.
    #[must_use]
    pub fn at(mut self, span: crate::diagnostic::Span) -> Self {
        self.span.get_or_insert(span);
        self
    }
}

/// Texts that tests make up hold no secrets.
#[cfg(test)]
impl From<Failure> for Failure<Masked> {
    fn from(failure: Failure) -> Self {
        let Failure { reason, message, expected, seen, waited, span } = failure;
        let (message, expected) = (Masked::own_words(message), expected.map(Masked::own_words));
        Self { reason, message, expected, seen: seen.map(Masked::own_words), waited, span }
    }
}

/// What an HTTP answer was like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HttpResult {
    /// The method.
    pub method: String,
    /// The URL that answered, after redirects; secrets masked.
    pub url: String,
    /// The status code.
    pub status: u16,
    /// Bytes of the body, decoded.
    pub bytes: u64,
    /// Every request that led to it, in order: redirects first, this answer last. With `eventually` those of the last try.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hops: Vec<Hop>,
}

impl HttpResult {
    /// How long each part took, over all hops.
    pub fn phases(&self) -> Phases {
        let mut all = Phases::default();
        for hop in &self.hops {
            all += hop.phases;
        }
        all
    }
}

/// One request and what came back.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Hop {
    /// Its span id, 16 hexadecimal digits: the one in the `traceparent` that went with it. Empty in outcomes of agents
    /// that did not keep it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub span_id: String,
    /// From the start of the step to its own.
    #[serde(with = "seconds", default, skip_serializing_if = "Duration::is_zero")]
    pub offset: Duration,
    /// Which try of the step it belongs to, counted from 0.
    #[serde(default, skip_serializing_if = "is_first")]
    pub attempt: u32,
    /// The method.
    pub method: String,
    /// The URL; secrets masked.
    pub url: String,
    /// The status code; none when there was no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The address that it was sent to; none when there was no connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<core::net::SocketAddr>,
    /// The version of HTTP of the answer: `1.0`, `1.1`, `2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_version: Option<String>,
    /// How long each part took.
    pub phases: Phases,
    /// Why it has no complete answer, or why nothing could be made of its answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// What a redirect to another origin left out of this request, since it is secret: headers in backquotes, `the body`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub withheld: Vec<String>,
}

/// How long the parts of a request took. What a kept connection did not need again is zero, `tls` absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Phases {
    /// The name's resolution.
    #[serde(with = "seconds", default)]
    pub resolve: Duration,
    /// Connecting, that of a tunnel through a proxy included.
    #[serde(with = "seconds", default)]
    pub connect: Duration,
    /// The TLS handshake, where there was one.
    #[serde(with = "seconds_option", default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Duration>,
    /// From the sending of the request to the head of the answer.
    #[serde(with = "seconds", default)]
    pub processing: Duration,
    /// From the head to the end of the body.
    #[serde(with = "seconds", default)]
    pub transfer: Duration,
}

impl Phases {
    /// Every phase by its name, in the order in which they happen.
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

/// Something kept of a run. Never the bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// What it is.
    pub kind: EvidenceKind,
    /// File name within the run's folder.
    pub name: String,
    /// Path, relative to the evidence folder.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of the bytes, hexadecimal.
    pub sha256: String,
    /// Position in `steps` of the step it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<usize>,
}

/// What a piece of evidence is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EvidenceKind {
    /// A PNG.
    Screenshot,
    /// The page's HTML.
    Source,
    /// URL, title and console messages, as JSON.
    Page,
    /// HAR 1.2: the run's requests.
    Har,
    /// A PNG with a frame around each part that differs from the picture of the last good run.
    Difference,
    /// What a screen reader would say of the page, as text.
    Accessibility,
    /// A picture of a filmstrip: JPEG.
    Frame,
    /// An answer's head and the beginning of its body.
    Response,
    /// The end of what a command wrote.
    Output,
    /// The beginning of a file that was downloaded.
    Download,
}

impl EvidenceKind {
    /// The name others see.
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

/// Durations as seconds in JSON.
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

/// Durations as seconds in JSON, where there may be none.
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
