//! Browsing contexts and their documents, to which requests and messages are assigned.

use std::collections::HashMap;

use serde_json::Value as Json;

use super::bounds::time;
use super::traffic::Answered;
use super::vitals::Message;
use crate::outcome::PageTiming;

/// Maximum number of stored documents.
const DOCUMENTS: usize = 500;
/// Maximum number of contexts that exist at the same time, as frames are created and removed.
const CONTEXTS: usize = 2000;
/// Maximum nesting depth of frames; anything deeper is a loop in the reported data.
const DEEPEST: usize = 32;

/// Result of a navigation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentStatus {
    /// The status of the final document, after redirects.
    pub status: Option<u16>,
    /// URL of the document, not masked.
    pub url: String,
    /// Error code of the browser if there was no response: `net::ERR_CONNECTION_REFUSED`, `NS_ERROR_NET_RESET`.
    pub error: Option<String>,
    /// Whether the navigation became a download instead of a document.
    pub download: bool,
}

/// A document of a top-level context, or the attempt to open one.
#[derive(Debug, Default)]
pub(super) struct Document {
    context: String,
    navigation: Option<String>,
    pub(super) step: usize,
    pub(super) url: String,
    pub(super) status: Option<u16>,
    error: Option<String>,
    /// Whether the content arrived and replaced the previous document.
    committed: bool,
    failed: bool,
    download: bool,
    /// Start of the navigation in milliseconds since 1970, the unit of the times below too.
    pub(super) started: f64,
    pub(super) content_loaded: Option<f64>,
    pub(super) loaded: Option<f64>,
    realm: Option<String>,
    pub(super) timing: PageTiming,
    pub(super) console_errors: u64,
}

impl Document {
    /// Updates the document from its main request.
    pub(super) fn answered(&mut self, seen: Answered) {
        if let Some(url) = seen.url {
            self.url = url;
        }
        (self.status, self.error) = (seen.status, seen.error);
    }

    fn is_opened(&self) -> bool {
        self.committed && !self.failed && !is_browsers_own(&self.url)
    }
}

/// Contexts and documents of a run.
#[derive(Debug, Default)]
pub(super) struct Documents {
    /// Parent of each context. `None` for a top-level one.
    parents: HashMap<String, Option<String>>,
    all: Vec<Document>,
    /// Current document of each top-level context.
    current: HashMap<String, usize>,
    /// Reported time origins, by script realm.
    origins: Vec<Origin>,
}

/// Time origin of a realm.
#[derive(Debug)]
struct Origin {
    context: String,
    realm: String,
    at: f64,
}

impl Documents {
    /// Processes an event of `browsingContext`.
    pub(super) fn event(&mut self, name: &str, context: &str, params: &Json, step: usize, received: f64) {
        let url = params["url"].as_str().unwrap_or_default();
        let navigation = params["navigation"].as_str();
        let at = time(&params["timestamp"]).unwrap_or(received);
        match name {
            "contextCreated" if self.parents.len() < CONTEXTS => {
                self.parents.insert(context.to_owned(), params["parent"].as_str().map(str::to_owned));
            }
            "contextDestroyed" => {
                self.parents.remove(context);
                self.current.remove(context);
            }
            _ if self.top(context) != context => {}
            "navigationStarted" => {
                self.begin(context, navigation, url, step, at);
            }
            "navigationCommitted" => {
                let known = self.find(navigation).or_else(|| self.begin(context, navigation, url, step, at));
                if let Some(index) = known {
                    let document = &mut self.all[index];
                    document.committed = true;
                    // Firefox commits its own error page.
                    document.failed |= is_error_page(url);
                    if !document.failed && !url.is_empty() {
                        url.clone_into(&mut document.url);
                    }
                    self.current.insert(context.to_owned(), index);
                }
            }
            "navigationFailed" => {
                if let Some(index) = self.find(navigation) {
                    let document = &mut self.all[index];
                    document.failed = true;
                    // A navigation that is cancelled for a download or another navigation leaves the current page
                    // unchanged.
                    if document.error.is_some() {
                        self.current.insert(context.to_owned(), index);
                    }
                }
            }
            "domContentLoaded" | "load" => {
                // After a failed navigation, the event refers to the browser's error page.
                let found = self.find(navigation).and_then(|index| self.all.get_mut(index));
                if let Some(document) = found.filter(|document| !document.failed) {
                    let slot = if name == "load" { &mut document.loaded } else { &mut document.content_loaded };
                    slot.get_or_insert(at);
                }
            }
            _ => {}
        }
    }

    fn begin(&mut self, context: &str, navigation: Option<&str>, url: &str, step: usize, at: f64) -> Option<usize> {
        if self.all.len() >= DOCUMENTS {
            return None;
        }
        self.all.push(Document {
            context: context.to_owned(),
            navigation: navigation.map(str::to_owned),
            step,
            url: url.to_owned(),
            started: at,
            ..Document::default()
        });
        let index = self.all.len() - 1;
        self.current.entry(context.to_owned()).or_insert(index);
        Some(index)
    }

    fn find(&self, navigation: Option<&str>) -> Option<usize> {
        let navigation = navigation?;
        self.all.iter().rposition(|document| document.navigation.as_deref() == Some(navigation))
    }

    fn top<'a>(&'a self, context: &'a str) -> &'a str {
        let mut at = context;
        for _ in 0..DEEPEST {
            match self.parents.get(at) {
                Some(Some(parent)) => at = parent,
                _ => break,
            }
        }
        at
    }

    /// Returns the document shown in the tab that contains a context.
    pub(super) fn current(&self, context: &str) -> Option<usize> {
        self.current.get(self.top(context)).copied()
    }

    /// Returns the document that a request belongs to: the one it opens, otherwise the current one.
    pub(super) fn of_request(&self, navigation: Option<&str>, context: Option<&str>) -> Option<usize> {
        self.find(navigation).or_else(|| context.and_then(|context| self.current(context)))
    }

    /// Returns whether a document is opened by this navigation.
    pub(super) fn is_navigation(&self, index: usize, navigation: Option<&str>) -> bool {
        navigation.is_some() && self.all.get(index).is_some_and(|found| found.navigation.as_deref() == navigation)
    }

    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut Document> {
        self.all.get_mut(index)
    }

    pub(super) fn became_download(&mut self, navigation: Option<&str>) {
        if let Some(document) = self.find(navigation).and_then(|index| self.all.get_mut(index)) {
            (document.download, document.failed) = (true, true);
        }
    }

    /// Stores the measurements of a document. The script runs before the commit is reported, so the document is found
    /// by realm, otherwise by URL.
    pub(super) fn vitals(&mut self, message: &Message) {
        let mine = |document: &Document| document.context == message.context;
        let bound = |document: &Document| document.realm.as_deref() == Some(message.realm.as_str());
        let index = self.all.iter().rposition(|document| mine(document) && bound(document)).or_else(|| {
            let url = without_fragment(&message.url);
            let fits = |document: &Document| document.realm.is_none() && without_fragment(&document.url) == url;
            self.all.iter().rposition(|document| mine(document) && !document.failed && fits(document))
        });
        // Firefox: after an internal error page, the next document may be assigned that page's time origin.
        let same_origin =
            |other: &&Origin| other.context == message.context && other.at.to_bits() == message.origin.to_bits();
        let stale = self.origins.iter().find(same_origin).is_some_and(|first| first.realm != message.realm);
        if self.origins.len() < DOCUMENTS && !self.origins.iter().any(|known| known.realm == message.realm) {
            let (context, realm) = (message.context.clone(), message.realm.clone());
            self.origins.push(Origin { context, realm, at: message.origin });
        }
        let Some(index) = index else { return };
        let document = &mut self.all[index];
        document.realm = Some(message.realm.clone());
        document.timing =
            if stale { PageTiming { cls: message.timing.cls, ..PageTiming::default() } } else { message.timing };
        if !document.failed {
            self.current.insert(message.context.clone(), index);
        }
    }

    /// Returns the documents that were opened, with their positions, in the order in which they started.
    pub(super) fn opened(&self) -> impl Iterator<Item = (usize, &Document)> {
        self.all.iter().enumerate().filter(|(_, document)| document.is_opened())
    }

    /// Returns every document and every attempt to open one.
    pub(super) fn all(&self) -> &[Document] {
        &self.all
    }

    pub(super) fn status_of(&self, navigation: &str) -> Option<DocumentStatus> {
        self.find(Some(navigation)).map(|index| status(&self.all[index]))
    }

    pub(super) fn last(&self) -> Option<DocumentStatus> {
        let found = self.all.iter().rev().find(|document| document.committed || document.error.is_some());
        found.map(status)
    }
}

fn status(document: &Document) -> DocumentStatus {
    DocumentStatus {
        status: document.status,
        url: document.url.clone(),
        error: document.error.clone(),
        download: document.download,
    }
}

fn without_fragment(url: &str) -> &str {
    url.split('#').next().unwrap_or(url)
}

/// Returns whether a URL is an internal page of the browser.
fn is_browsers_own(url: &str) -> bool {
    ["about:", "chrome:", "chrome-error:"].iter().any(|scheme| url.starts_with(scheme))
}

fn is_error_page(url: &str) -> bool {
    ["about:neterror", "about:certerror", "about:httpsonlyerror", "about:blocked", "chrome-error:"]
        .iter()
        .any(|page| url.starts_with(page))
}
