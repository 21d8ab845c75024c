//! Prometheus remote write: the metrics of `/metrics`, pushed to a receiver, for agents that cannot be scraped.
//!
//! Each run produces samples with the time of its end ([`Pushed`]), so that samples sent after an outage have their
//! original times. At a receiver, a value expires after five minutes: between runs values are therefore repeated, with
//! a time that no waiting run can have. Version 2.0 of the protocol is tried first, and 1.0 if the receiver does not
//! support it; responses are interpreted in [`answer`] (pure). Native histograms are deliberately not sent, because a
//! receiver of version 1.0 may not support them.

mod answer;
mod config;
mod message;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use reqwest::header;
use tokio::time::Instant;

use super::http::header_map;
use super::prometheus::{Moment, Part, Pushed, Sample};
use super::{Absence, Context, Event, Finished, HttpSettings, Limits, Scenarios, Sent, Sink, Size};
use crate::bounded::answer::{self as bounded, root};
use answer::{Answer, Written};
use message::Version;

pub use config::{Authentication, Config};

/// Value of the label `job`, as it would be with a scrape.
const JOB: &str = "wachta";
/// Maximum number of events in a batch.
const MAX_ROWS: usize = 500;
/// Approximate maximum size of a batch before compression, in bytes.
const MAX_BYTES: usize = 2 << 20;
/// Approximate maximum number of repeated samples in one request.
const MAX_REPEATED: usize = 5_000;
/// Timeout of sending a batch.
const DEADLINE: Duration = Duration::from_secs(30);
/// Maximum size of a response, in bytes.
const MAX_ANSWER_BYTES: usize = 64 << 10;
/// Age of repeated values, so that the samples of a run that has just ended are newer.
const LAG: Duration = Duration::from_secs(5);
/// Pause between two requests with repeated values, in which events are sent.
const REPEAT_PAUSE: Duration = Duration::from_millis(50);

struct RemoteWrite {
    config: Config,
    client: reqwest::Client,
    pushed: Pushed,
    version: Version,
    /// Whether the receiver has confirmed the written samples, as version 2.0 requires.
    has_confirmed: bool,
    refresh_at: Instant,
    /// Whether the rejection of repeated values has been logged.
    is_refusal_logged: bool,
}

impl RemoteWrite {
    fn new(config: Config, client: reqwest::Client, pushed: Pushed) -> Self {
        Self {
            config,
            client,
            pushed,
            version: Version::V2,
            has_confirmed: false,
            // After this delay, the first values are newer than any sent by an earlier agent.
            refresh_at: Instant::now() + LAG + Duration::from_secs(1),
            is_refusal_logged: false,
        }
    }

    /// Sends samples in one version of the protocol.
    async fn post(&mut self, samples: &[&Sample], version: Version) -> Answer {
        match self.exchange(samples, version).await {
            Ok(answer) => answer,
            Err(reason) => Answer::Written(Written::Retry { after: None, reason }),
        }
    }

    async fn exchange(&mut self, samples: &[&Sample], version: Version) -> Result<Answer, String> {
        let request = self.client.post(self.config.url.clone()).headers(header_map(&self.config.headers).await?);
        let request = match &self.config.authentication {
            None => request,
            Some(Authentication::Token(token)) => request.bearer_auth(token.read().await?),
            Some(Authentication::Basic(user, password)) => request.basic_auth(user, Some(password.read().await?)),
        };
        let request = request
            .header(header::CONTENT_TYPE, version.content_type())
            .header(header::CONTENT_ENCODING, "snappy")
            .header("X-Prometheus-Remote-Write-Version", version.number())
            .body(message::body(samples, version));
        let mut response = request.send().await.map_err(|error| root(&error.without_url()))?;
        let status = response.status().as_u16();
        let head = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let after = head("retry-after").and_then(|text| bounded::retry_after(text, Utc::now()));
        self.has_confirmed |= head("x-prometheus-remote-write-samples-written").is_some();
        let is_confirmed = head("x-prometheus-remote-write-samples-written").is_some();
        let body = bounded::body(&mut response, MAX_ANSWER_BYTES).await.bytes;
        let has_confirmed = self.has_confirmed;
        Ok(answer::answer(&answer::Response { version, status, after, is_confirmed, has_confirmed, body: &body }))
    }

    /// Sends samples in the version that the receiver supports.
    async fn write(&mut self, samples: &[&Sample]) -> Written {
        if samples.is_empty() {
            return Written::Taken;
        }
        let other = self.version.other();
        let first = match self.post(samples, self.version).await {
            Answer::Written(written) => return written,
            Answer::OtherVersion(reason) => reason,
        };
        match self.post(samples, other).await {
            Answer::Written(written) => {
                if !matches!(written, Written::Retry { .. }) {
                    self.version = other;
                }
                written
            }
            Answer::OtherVersion(second) => {
                let reason = format!("the receiver supports no version of remote write: {first}; {second}");
                Written::Retry { after: None, reason }
            }
        }
    }

    /// Sends the samples of parts. If some are rejected, the parts are halved to deliver the others.
    async fn write_parts(&mut self, parts: &[Part]) -> Result<(), Sent> {
        let mut rest = vec![parts];
        while let Some(parts) = rest.pop() {
            let samples: Vec<&Sample> = parts.iter().flat_map(|part| &part.samples).collect();
            match self.write(&samples).await {
                Written::Late(_) | Written::Refused(_) if parts.len() > 1 => {
                    let (first, second) = parts.split_at(parts.len() / 2);
                    rest.extend([second, first]);
                }
                // If a sample is late, the receiver has a newer value already.
                Written::Taken | Written::Late(_) => {}
                Written::Refused(reason) => {
                    if !std::mem::replace(&mut self.is_refusal_logged, true) {
                        tracing::warn!(sink = "remote_write", reason, "the receiver rejects repeated values");
                    }
                }
                Written::Retry { after, reason } => return Err(Sent::Retry { after, reason }),
            }
        }
        Ok(())
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
        let mut labels = BTreeMap::from([
            ("job".to_owned(), JOB.to_owned()),
            ("instance".to_owned(), machine().unwrap_or_else(|| context.location.clone())),
            ("location".to_owned(), context.location.clone()),
        ]);
        labels.extend(self.labels.clone());
        // An empty value removes a label.
        let labels = labels.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        let pushed = Pushed::new(Arc::clone(&context.prometheus), self.detail, labels);
        Ok(Box::new(RemoteWrite::new(self.clone(), client, pushed)))
    }
}

/// Returns the host name of this machine.
fn machine() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?.trim().to_owned();
    (!name.is_empty()).then_some(name)
}

#[async_trait]
impl Sink for RemoteWrite {
    fn limits(&self) -> Limits {
        Limits { rows: MAX_ROWS, bytes: MAX_BYTES, age: Duration::ZERO, deadline: DEADLINE }
    }

    fn measure(&self, event: &Event) -> Size {
        let size = |run: &Finished| Size { rows: 1, bytes: 4_000 + 800 * run.outcome.steps.len() };
        event.finished().map_or(Size::default(), size)
    }

    async fn send(&mut self, batch: &[Event]) -> Sent {
        let runs: Vec<&Finished> = batch.iter().filter_map(Event::finished).collect();
        let advance = self.pushed.advance(runs.iter().map(|run| &*run.outcome));
        let samples: Vec<&Sample> = advance.samples.iter().collect();
        let mut written = self.write(&samples).await;
        if matches!(written, Written::Late(_)) && runs.len() == 1 {
            // The initial values of counters may be the late ones, for example if two runs of a scenario ended at the
            // same time.
            let plain: Vec<&Sample> = samples.iter().copied().filter(|sample| !sample.is_origin).collect();
            if plain.len() < samples.len() {
                written = self.write(&plain).await;
            }
        }
        match (written, &runs[..]) {
            (Written::Taken, _) => {
                self.pushed.commit(advance);
                Sent::Taken
            }
            // The receiver has this run because events are sent in order: it was sent and counted before a crash.
            (Written::Late(_), [run]) => {
                self.pushed.pass_over(&run.outcome, false);
                Sent::Taken
            }
            (Written::Late(reason) | Written::Refused(reason), runs) => {
                // A single event is not sent again; a larger batch is split in halves.
                if let ([run], 1) = (runs, batch.len()) {
                    self.pushed.pass_over(&run.outcome, true);
                }
                Sent::Refused(reason)
            }
            (Written::Retry { after, reason }, _) => Sent::Retry { after, reason },
        }
    }

    fn set_scenarios(&mut self, scenarios: &Scenarios, _: &[Absence]) {
        self.pushed.load(scenarios, Utc::now());
    }

    fn refresh_at(&self) -> Option<Instant> {
        Some(self.refresh_at)
    }

    async fn refresh(&mut self, until: DateTime<Utc>) -> Sent {
        let now = Utc::now().min(until);
        let before = |span: Duration| (now - TimeDelta::from_std(span).unwrap_or_default()).timestamp_millis();
        let moment = Moment { now: now.timestamp_millis(), at: before(LAG), since: before(self.config.repeat) };
        let repeat = self.pushed.due(moment, MAX_REPEATED);
        if let Err(retry) = self.write_parts(&repeat.parts).await {
            return retry;
        }
        // Checked four times per interval, so that no value becomes much older than permitted.
        self.refresh_at = Instant::now() + if repeat.is_whole { self.config.repeat / 4 } else { REPEAT_PAUSE };
        self.pushed.repeated(repeat);
        Sent::Taken
    }
}

#[cfg(test)]
mod tests;
