//! Observations of a browser run: documents, requests, console, web vitals, downloads. Pure: receives events of
//! WebDriver `BiDi` (<https://w3c.github.io/webdriver-bidi/>) and is queried afterwards.
//!
//! Invariants: no data from a page or browser causes a panic or unbounded growth (data beyond the limits is counted);
//! values that were not measured are absent. Texts are stored unmasked, so callers must mask them before display; only
//! [`Observed::har`] masks by itself.
//!
//! ```text
//! Observed ─ documents   contexts and navigations, to which requests and messages are assigned
//!          ├ traffic     requests and responses, in a common form for both engines
//!          ├ console     messages and uncaught exceptions
//!          ├ vitals      measurements of vitals.js in the page
//!          ├ downloads
//!          └ har         everything as HAR 1.2
//! ```

mod bounds;
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

/// Maximum number of messages and failed requests in the evidence of a page; the last ones.
const SHOWN: usize = 200;

/// Observations of one run.
#[derive(Debug)]
pub struct Observed {
    step: usize,
    documents: documents::Documents,
    traffic: traffic::Traffic,
    console: console::Console,
    downloads: downloads::Downloads,
}

impl Observed {
    /// Creates an empty set of observations.
    pub fn new(engine: Engine) -> Self {
        Self {
            step: 0,
            documents: documents::Documents::default(),
            traffic: traffic::Traffic::new(engine),
            console: console::Console::default(),
            downloads: downloads::Downloads::default(),
        }
    }

    /// Sets the current step by its position in `Outcome.steps`. Later observations are assigned to it.
    pub fn step(&mut self, index: usize) {
        self.step = index;
    }

    /// Processes one event of this run. Irrelevant events are ignored.
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
        let Some(stage) = traffic::NetworkEvent::of(name) else { return };
        let (navigation, context) = (params["navigation"].as_str(), params["context"].as_str());
        let document = self.documents.of_request(navigation, context);
        let is_its_own = document.is_some_and(|index| self.documents.is_navigation(index, navigation));
        let Some(seen) = self.traffic.event(stage, params, document, self.step, received) else { return };
        if is_its_own && let Some(document) = document.and_then(|index| self.documents.get_mut(index)) {
            document.answered(seen);
        }
    }

    /// Returns the errors on the console, including uncaught exceptions and unhandled rejections, oldest first.
    pub fn console_errors(&self) -> Vec<ConsoleError> {
        self.console.errors()
    }

    /// Returns the failed requests, oldest first. Excludes cancelled and pending ones, and those that the browser sends
    /// on its own.
    pub fn failed_requests(&self) -> Vec<FailedRequest> {
        self.traffic.failed()
    }

    /// Returns the requests of pages in their current state, oldest first.
    pub fn asked(&self) -> impl Iterator<Item = Asked<'_>> {
        self.traffic.asked()
    }

    /// Returns the downloads, oldest first.
    pub fn downloads(&self) -> &[Download] {
        self.downloads.all()
    }

    /// Returns the result of a navigation, after redirects. `None` if it is not known, as for a navigation within a
    /// document.
    pub fn status_of(&self, navigation: &str) -> Option<DocumentStatus> {
        self.documents.status_of(navigation)
    }

    /// Returns the result of the last navigation that opened a document or failed to.
    pub fn last_document(&self) -> Option<DocumentStatus> {
        self.documents.last()
    }

    /// Returns the measurements of each document that a step opened in a tab of its own. If there are several in one
    /// step, returns the last one.
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

    /// Returns the totals of the whole run, including documents that are not listed.
    pub fn totals(&self) -> PageTotals {
        PageTotals { console_errors: self.console.count_of_errors(), ..self.traffic.totals() }
    }

    /// Returns a HAR 1.2 document of all requests. Values of headers and cookies that grant access are hidden, and all
    /// texts are masked.
    pub fn har(&self, browser: &BrowserResult, masker: &Masker) -> Json {
        har::render(&self.documents, &self.traffic, browser, masker)
    }

    /// Returns URL, title, console messages and failed requests of a page as evidence. Not masked.
    pub fn page_json(&self, url: Option<&str>, title: Option<&str>) -> Json {
        let failed = self.failed_requests();
        let failed: Vec<Json> =
            failed.iter().skip(failed.len().saturating_sub(SHOWN)).map(FailedRequest::json).collect();
        json!({"url": url, "title": title, "console": self.console.last(SHOWN), "failed_requests": failed})
    }
}
