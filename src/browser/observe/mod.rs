//! What a browser run sees: documents, requests, console, web vitals, downloads. Pure: it is fed with `WebDriver BiDi`
//! events (<https://w3c.github.io/webdriver-bidi/>) and asked afterwards.
//!
//! Invariants: nothing that a page or a browser sends makes it panic, and nothing makes it grow without bound (what is
//! beyond is counted); what was not measured is absent. Texts are kept as they came: whoever shows them masks them
//! first, only [`Observed::har`] masks by itself.
//!
//! ```text
//! Observed ─ documents   contexts, navigations, and whose a request or a message is
//!          ├ traffic     requests and their answers, alike for both engines
//!          ├ console     messages and uncaught exceptions
//!          ├ vitals      what vitals.js measures in the page
//!          ├ downloads
//!          └ har         all of it as HAR 1.2
//! ```

mod console;
mod documents;
mod downloads;
mod har;
#[cfg(test)]
mod tests;
mod traffic;
mod vitals;

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value as Json, json};

pub use self::console::ConsoleError;
pub use self::documents::DocumentStatus;
pub use self::downloads::{Download, DownloadStatus};
pub use self::traffic::{Asked, FailedRequest};
pub use self::vitals::{CHANNEL, SCRIPT};
use crate::outcome::PageTotals;
use crate::outcome::{BrowserResult, PageResult};
use crate::scenario::Engine;
use crate::secret::Masker;

/// How many messages and failed requests the evidence of a page names: the last ones.
const SHOWN: usize = 200;

/// What was seen so far in one run.
#[derive(Debug)]
pub struct Observed {
    step: usize,
    documents: documents::Documents,
    traffic: traffic::Traffic,
    console: console::Console,
    downloads: downloads::Downloads,
}

impl Observed {
    /// Nothing was seen yet.
    pub fn new(engine: Engine) -> Self {
        Self {
            step: 0,
            documents: documents::Documents::default(),
            traffic: traffic::Traffic::new(engine),
            console: console::Console::default(),
            downloads: downloads::Downloads::default(),
        }
    }

    /// The step that begins now: its position in `Outcome.steps`. What is seen from now on is its own.
    pub fn step(&mut self, index: usize) {
        self.step = index;
    }

    /// One event of this run. Events that mean nothing here are passed over.
    pub fn event(&mut self, method: &str, params: &Json, received: SystemTime) {
        let received = received.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64() * 1000.0);
        let context = params["context"].as_str();
        let (family, name) = method.split_once('.').unwrap_or_default();
        match (family, name) {
            ("network", _) => self.network(name, params, received),
            ("log", "entryAdded") => {
                let document = params["source"]["context"].as_str().and_then(|context| self.documents.current(context));
                if self.console.entry(params, self.step, received)
                    && let Some(document) = document.and_then(|index| self.documents.get_mut(index))
                {
                    document.console_errors += 1;
                }
            }
            ("script", "message") if params["channel"].as_str() == Some(CHANNEL) => {
                if let Some(message) = vitals::read(params) {
                    self.documents.vitals(&message);
                }
            }
            ("browsingContext", "downloadWillBegin") => {
                self.documents.became_download(params["navigation"].as_str());
                self.downloads.begin(params, self.step);
            }
            ("browsingContext", "downloadEnd") => self.downloads.end(params, self.step),
            ("browsingContext", _) => {
                if let Some(context) = context {
                    self.documents.event(name, context, params, self.step, received);
                }
            }
            _ => {}
        }
    }

    fn network(&mut self, name: &str, params: &Json, received: f64) {
        let Some(stage) = traffic::Stage::of(name) else { return };
        let (navigation, context) = (params["navigation"].as_str(), params["context"].as_str());
        let document = self.documents.of_request(navigation, context);
        let is_its_own = document.is_some_and(|index| self.documents.is_navigation(index, navigation));
        let Some(seen) = self.traffic.event(stage, params, document, self.step, received) else { return };
        if is_its_own && let Some(document) = document.and_then(|index| self.documents.get_mut(index)) {
            document.answered(seen);
        }
    }

    /// Errors on the console, uncaught exceptions and unhandled rejections among them, oldest first.
    pub fn console_errors(&self) -> Vec<ConsoleError> {
        self.console.errors()
    }

    /// Requests that did not get what they asked for, oldest first. Not among them: those that were cancelled or are
    /// still under way, and what the browser asks for by itself.
    pub fn failed_requests(&self) -> Vec<FailedRequest> {
        self.traffic.failed()
    }

    /// Requests of pages, oldest first, each as it stands.
    pub fn asked(&self) -> impl Iterator<Item = Asked<'_>> {
        self.traffic.asked()
    }

    /// Downloads, oldest first.
    pub fn downloads(&self) -> &[Download] {
        self.downloads.all()
    }

    /// What became of a navigation, after redirects. None when it is not known, as for one within a document.
    pub fn status_of(&self, navigation: &str) -> Option<DocumentStatus> {
        self.documents.status_of(navigation)
    }

    /// What became of the last navigation that opened a document, or failed to.
    pub fn last_document(&self) -> Option<DocumentStatus> {
        self.documents.last()
    }

    /// What is known of each document that a step opened in a tab of its own; of several in one step, the last one.
    pub fn pages(&self) -> Vec<(usize, PageResult)> {
        let mut pages: std::collections::BTreeMap<usize, PageResult> = std::collections::BTreeMap::new();
        let counts = self.traffic.counts();
        for (index, document) in self.documents.opened() {
            let counts = counts.get(&index).copied().unwrap_or_default();
            let page = PageResult {
                url: document.url.clone(),
                status: document.status,
                timing: document.timing,
                requests: counts.requests,
                failed_requests: counts.failed_requests,
                bytes: counts.bytes,
                console_errors: document.console_errors,
            };
            pages.insert(document.step, page);
        }
        pages.into_iter().collect()
    }

    /// Sums over the whole run, those of documents that no step kept included.
    pub fn totals(&self) -> PageTotals {
        PageTotals { console_errors: self.console.count_of_errors(), ..self.traffic.totals() }
    }

    /// HAR 1.2 of all requests. Values of headers and cookies that carry a right are hidden, and every text is masked.
    pub fn har(&self, browser: &BrowserResult, masker: &Masker) -> Json {
        har::render(&self.documents, &self.traffic, browser, masker)
    }

    /// URL, title, console and failed requests of a page, as evidence. Not masked.
    pub fn page_json(&self, url: Option<&str>, title: Option<&str>) -> Json {
        let failed = self.failed_requests();
        let failed: Vec<Json> =
            failed.iter().skip(failed.len().saturating_sub(SHOWN)).map(FailedRequest::json).collect();
        json!({"url": url, "title": title, "console": self.console.last(SHOWN), "failed_requests": failed})
    }
}

/// At most so much of a text, in bytes. What is cut is cut between words, since half a secret could not be masked.
fn kept(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let head = &text[..text.floor_char_boundary(limit)];
    let whole = head.rfind(char::is_whitespace).map_or("", |at| &head[..at]);
    format!("{whole}…")
}

/// Milliseconds since 1970 that may be told as a time: a browser could send anything.
fn time(millis: &Json) -> Option<f64> {
    millis.as_f64().filter(|millis| (1.0..=8e15).contains(millis))
}
