//! Sentry, or a server with a compatible protocol: incidents as issues, scenarios as cron monitors, and the errors of
//! the agent itself.
//!
//! An incident that is opened, or whose failure fingerprint or severity changes, is an event. The fingerprint of the
//! event is the failure fingerprint, so that incidents with the same one form a single issue. The steps of the last bad
//! run are the breadcrumbs, and its screenshot is attached. When no open incident has the failure fingerprint any
//! longer, the issue is resolved through the API if one is configured. Of Sentry's own client only the protocol
//! (`sentry-types`) is used: its transport gives up events that a server does not accept, and adds the present time to
//! them.

mod api;
mod config;
mod item;
mod reply;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{TimeDelta, Utc};
use reqwest::StatusCode;
use reqwest::header::{self, HeaderMap};
use sentry_types::protocol::v7::{Attachment, Envelope, EnvelopeItem, Event as Report, MonitorCheckIn};
use sentry_types::{Auth, Dsn};
use tokio::time::Instant;

use super::{Absence, Context, Event, Finished, HttpSettings, Limits, Refusal, Scenarios, Sent, Sink, Size};
use crate::bounded::answer;
use crate::incident::{Change, Subject, Transition};
use crate::outcome::{EvidenceKind, Outcome, RunId, Verdict};
use crate::own_errors::{self, OwnError};
use crate::scenario::ScenarioId;
use crate::store::evidence::EvidenceFolder;
use item::Labels;
use reply::{retry_after, said};

pub use config::{Api, Config};

/// Maximum number of events sent in sequence before control returns to the driver.
const MAX_ROWS: usize = 50;
/// Timeout of a batch.
const DEADLINE: Duration = Duration::from_mins(2);
/// Timeout of one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// Maximum size of a response, in bytes.
const MAX_ANSWER: usize = 64 << 10;
/// Interval of checking for errors of the agent itself.
const OWN_ERRORS_INTERVAL: Duration = Duration::from_secs(5);
/// Maximum age of a check-in. An older one has been counted as missed by the server already.
const MAX_CHECK_IN_AGE: TimeDelta = TimeDelta::minutes(5);
/// Duration of a rate limit without a duration in the response.
const DEFAULT_LIMIT: Duration = Duration::from_secs(60);
/// Maximum size of an attached response, in bytes.
const MAX_RESPONSE: usize = 1 << 20;

struct Sentry {
    config: Config,
    client: reqwest::Client,
    labels: Labels,
    evidence: EvidenceFolder,
    /// Last bad run of each scenario.
    bad: HashMap<ScenarioId, Arc<Outcome>>,
    /// Events of the batch in progress that were accepted in an earlier attempt.
    taken: BTreeSet<u64>,
    /// Errors of the agent itself that are waiting to be sent.
    own_errors: Vec<OwnError>,
    own_errors_at: Instant,
    limits: ServerLimits,
}

/// End of the server's rate limit per kind of item.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct ServerLimits {
    errors: Option<Instant>,
    monitors: Option<Instant>,
}

/// Result of one request.
#[derive(Debug, PartialEq, Eq)]
enum Posted {
    Taken,
    TooLarge,
    Refused(String),
    Retry(Option<Duration>, String),
}

impl ServerLimits {
    /// Records `X-Sentry-Rate-Limits`, with entries such as `60:error;monitor:organization` whose categories are
    /// optional, and a status 429 without that header.
    fn note(&mut self, status: StatusCode, headers: &HeaderMap, now: Instant) {
        let value = headers.get("x-sentry-rate-limits").and_then(|value| value.to_str().ok());
        match value {
            Some(value) => {
                for entry in value.split(',') {
                    let mut parts = entry.trim().split(':');
                    let seconds = parts.next().and_then(|seconds| seconds.parse::<f64>().ok());
                    let length = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
                    let Some(until) = now.checked_add(length.unwrap_or(DEFAULT_LIMIT)) else { continue };
                    let categories: Vec<&str> = parts.next().unwrap_or_default().split(';').collect();
                    let covers =
                        |wanted: &[&str]| categories.iter().any(|name| name.is_empty() || wanted.contains(name));
                    if covers(&["error", "default"]) {
                        self.errors = self.errors.max(Some(until));
                    }
                    if covers(&["monitor"]) {
                        self.monitors = self.monitors.max(Some(until));
                    }
                }
            }
            None if status == StatusCode::TOO_MANY_REQUESTS => {
                let until = now.checked_add(retry_after(headers).unwrap_or(DEFAULT_LIMIT));
                (self.errors, self.monitors) = (until, until);
            }
            None => {}
        }
    }
}

/// Creates an envelope with this item.
fn envelope(item: impl Into<EnvelopeItem>) -> Envelope {
    let mut envelope = Envelope::new();
    envelope.add_item(item);
    envelope
}

/// Result of one step in sending a batch.
enum Step {
    Done,
    Refused(String),
    Retry(Option<Duration>, String),
}

impl Sentry {
    fn new(config: Config, client: reqwest::Client, labels: Labels, evidence: EvidenceFolder) -> Self {
        Self {
            config,
            client,
            labels,
            evidence,
            bad: HashMap::new(),
            taken: BTreeSet::new(),
            own_errors: Vec::new(),
            own_errors_at: Instant::now(),
            limits: ServerLimits::default(),
        }
    }

    /// Returns the destination of envelopes and its credentials. The DSN is read each time, so that a renewed one takes
    /// effect at once.
    async fn project(&self) -> Result<(Dsn, Auth), String> {
        let text = self.config.dsn.read().await?;
        let dsn: Dsn = text
            .trim()
            .parse()
            .map_err(|_| format!("{} holds no DSN such as https://KEY@HOST/PROJECT", self.config.dsn.place()))?;
        let auth = dsn.to_auth(Some(concat!("wachta/", env!("CARGO_PKG_VERSION"))));
        Ok((dsn, auth))
    }

    async fn post(&mut self, envelope: &Envelope) -> Posted {
        let (dsn, auth) = match self.project().await {
            Ok(project) => project,
            Err(reason) => return Posted::Retry(None, reason),
        };
        let mut body = Vec::new();
        if let Err(error) = envelope.to_writer(&mut body) {
            return Posted::Refused(error.to_string());
        }
        let request = self.client.post(dsn.envelope_api_url()).timeout(REQUEST_TIMEOUT).body(body);
        let request = request.header("x-sentry-auth", auth.to_string());
        let request = request.header(header::CONTENT_TYPE, "application/x-sentry-envelope");
        let mut response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Posted::Retry(None, answer::root(&error.without_url())),
        };
        let status = response.status();
        self.limits.note(status, response.headers(), Instant::now());
        let after = retry_after(response.headers());
        if status.is_success() {
            return Posted::Taken;
        }
        let body = answer::body(&mut response, MAX_ANSWER).await.bytes;
        match status.as_u16() {
            413 => Posted::TooLarge,
            400 | 422 => Posted::Refused(said(status, &body)),
            _ => Posted::Retry(after, said(status, &body)),
        }
    }

    /// Sends an event with its attachments, or without those that are too large.
    async fn report(&mut self, report: Report<'static>, attachments: Vec<Attachment>) -> Step {
        let now = Instant::now();
        if let Some(until) = self.limits.errors.filter(|until| now < *until) {
            return Step::Retry(Some(until - now), "the server accepts no more errors for now (rate limit)".into());
        }
        let has_attachments = !attachments.is_empty();
        let mut envelope = envelope(report.clone());
        for attachment in attachments {
            envelope.add_item(attachment);
        }
        let posted = match self.post(&envelope).await {
            Posted::TooLarge if has_attachments => self.post(&self::envelope(report)).await,
            posted => posted,
        };
        match posted {
            Posted::Taken => Step::Done,
            Posted::TooLarge => Step::Refused("status 413: the event is too large".into()),
            Posted::Refused(reason) => Step::Refused(reason),
            Posted::Retry(after, reason) => Step::Retry(after, reason),
        }
    }

    async fn finished(&mut self, finished: &Finished) -> Step {
        let outcome = &finished.outcome;
        if outcome.verdict == Verdict::Passed {
            self.bad.remove(&outcome.scenario);
        } else {
            self.bad.insert(outcome.scenario.clone(), Arc::clone(outcome));
        }
        let is_late = Utc::now() - outcome.ended_at > MAX_CHECK_IN_AGE;
        let is_limited = self.limits.monitors.is_some_and(|until| Instant::now() < until);
        let check_in = self.check_in(finished).filter(|_| !is_late && !is_limited);
        let Some(check_in) = check_in else { return Step::Done };
        match self.post(&envelope(check_in)).await {
            Posted::Taken => Step::Done,
            // Rate limits of monitors do not delay anything: a check-in that is not sent counts as missed.
            Posted::Retry(..) if self.limits.monitors.is_some_and(|until| Instant::now() < until) => Step::Done,
            Posted::TooLarge => Step::Refused("status 413: the check-in is too large".into()),
            Posted::Refused(reason) => Step::Refused(reason),
            Posted::Retry(after, reason) => Step::Retry(after, reason),
        }
    }

    fn check_in(&self, finished: &Finished) -> Option<MonitorCheckIn> {
        let scenario = finished.scenario.as_deref().filter(|_| self.config.has_monitors)?;
        item::check_in(scenario, &finished.outcome, &self.labels)
    }

    async fn changed(&mut self, change: &Change) -> Step {
        match change.transition {
            Transition::Opened | Transition::Updated => {
                let last = match &change.incident.subject {
                    Subject::Scenario(id) => self.bad.get(id),
                    Subject::Objective(_) | Subject::Agent(_) | Subject::Test(_) => None,
                };
                let outcome = last.filter(|outcome| outcome.run == change.incident.last_run).cloned();
                let attachments = self.attachments(change, outcome.as_deref()).await;
                self.report(item::event(change, outcome.as_deref(), &self.labels), attachments).await
            }
            Transition::Resolved => self.resolve(change).await,
            Transition::Acknowledged | Transition::Unacknowledged => Step::Done,
        }
    }

    async fn resolve(&self, change: &Change) -> Step {
        let Some(api) = &self.config.api else { return Step::Done };
        for cause in &change.ended_causes {
            match api::resolve(&self.client, api, cause).await {
                Ok(issues) => tracing::debug!(issues, cause, "issues were resolved"),
                Err(problem) if problem.is_final => return Step::Refused(problem.reason),
                Err(problem) => return Step::Retry(problem.after, problem.reason),
            }
        }
        Step::Done
    }

    /// Returns the screenshot of the failure, and the beginning of the deciding response.
    async fn attachments(&self, change: &Change, outcome: Option<&Outcome>) -> Vec<Attachment> {
        let mut attachments = Vec::new();
        let shot = change.incident.screenshot.as_deref().and_then(|path| path.split_once('/'));
        if let Some((run, name)) = shot
            && let Ok(run) = run.parse()
            && let Some(buffer) = self.evidence.read(RunId(run), name).await
        {
            attachments.push(Attachment {
                buffer,
                filename: "screenshot.png".into(),
                content_type: Some("image/png".into()),
                ty: None,
            });
        }
        let response = outcome.and_then(|outcome| {
            let is_shown = |kind, step| kind == EvidenceKind::Response && step == outcome.failed_step;
            let piece = outcome.evidence.iter().find(|piece| is_shown(piece.kind, piece.step))?;
            Some((outcome.run, piece.name.clone()))
        });
        if let Some((run, name)) = response
            && let Some(buffer) = self.evidence.read(run, &name).await
            && buffer.len() <= MAX_RESPONSE
        {
            attachments.push(Attachment {
                buffer,
                filename: "response.txt".into(),
                content_type: Some("text/plain".into()),
                ty: None,
            });
        }
        attachments
    }
}

impl Config {
    /// Creates the sink.
    ///
    /// # Errors
    ///
    /// The file with root certificates cannot be read or contains none.
    pub fn build(&self, context: &Context) -> Result<Box<dyn Sink>, String> {
        let client = (context.http_client)(HttpSettings { roots: self.ca.as_deref(), ..HttpSettings::default() })?;
        let labels = Labels {
            location: context.location.clone(),
            environment: self.environment.clone(),
            release: self.release.clone(),
        };
        Ok(Box::new(Sentry::new(self.clone(), client, labels, context.evidence.clone())))
    }
}

#[async_trait]
impl Sink for Sentry {
    fn limits(&self) -> Limits {
        Limits { rows: MAX_ROWS, bytes: 16 << 20, age: Duration::ZERO, deadline: DEADLINE }
    }

    fn measure(&self, event: &Event) -> Size {
        let rows = match event {
            Event::Finished(finished) => usize::from(self.check_in(finished).is_some()),
            Event::Changed(change) => usize::from(change.transition != Transition::Acknowledged),
        };
        Size { rows, bytes: rows * 4096 }
    }

    async fn send(&mut self, batch: &[Event]) -> Sent {
        let mut refusals = Vec::new();
        for (index, event) in batch.iter().enumerate() {
            if self.taken.contains(&event.seq()) {
                continue;
            }
            let step = match event {
                Event::Finished(finished) => self.finished(finished).await,
                Event::Changed(change) => self.changed(change).await,
            };
            match step {
                Step::Done => {
                    self.taken.insert(event.seq());
                }
                Step::Refused(reason) => refusals.push(Refusal { index, reason, for_now: false }),
                Step::Retry(after, reason) => return Sent::Retry { after, reason },
            }
        }
        self.taken.clear();
        if refusals.is_empty() { Sent::Taken } else { Sent::Partial(refusals) }
    }

    fn set_scenarios(&mut self, scenarios: &Scenarios, _: &[Absence]) {
        self.bad.retain(|id, _| scenarios.contains_key(id));
    }

    fn upkeep_at(&self) -> Option<Instant> {
        self.config.has_own_errors.then_some(self.own_errors_at)
    }

    async fn upkeep(&mut self) -> Sent {
        self.own_errors.extend(own_errors::take(Utc::now()));
        while let Some(error) = self.own_errors.first() {
            match self.report(item::own_error(error, &self.labels), Vec::new()).await {
                // Reporting an error about the rejection would be rejected as well.
                Step::Done | Step::Refused(_) => drop(self.own_errors.remove(0)),
                Step::Retry(after, reason) => return Sent::Retry { after, reason },
            }
        }
        self.own_errors_at = Instant::now() + OWN_ERRORS_INTERVAL;
        Sent::Taken
    }
}

#[cfg(test)]
mod tests;
