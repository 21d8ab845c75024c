//! Browsing contexts and the documents opened in them: whose a request or a message is.

use std::collections::HashMap;

use serde_json::Value as Json;

use super::time;
use super::traffic::Answered;
use super::vitals::Message;
use crate::outcome::PageTiming;

/// How many documents are kept.
const DOCUMENTS: usize = 500;
/// How many contexts are known at a time: frames come and go.
const CONTEXTS: usize = 2000;
/// Frames in frames: deeper than this is a loop in what was sent.
const DEEPEST: usize = 32;

/// What became of a navigation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentStatus {
    /// The status of the final document, after redirects.
    pub status: Option<u16>,
    /// Its URL; not masked.
    pub url: String,
    /// Why there was no answer, as the browser says it: `net::ERR_CONNECTION_REFUSED`, `NS_ERROR_NET_RESET`.
    pub error: Option<String>,
    /// Whether it became a download instead of a document.
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
    /// Its content came, so that it replaced the one before.
    committed: bool,
    failed: bool,
    download: bool,
    /// Milliseconds since 1970, as those below.
    pub(super) started: f64,
    pub(super) content_loaded: Option<f64>,
    pub(super) loaded: Option<f64>,
    realm: Option<String>,
    pub(super) timing: PageTiming,
    pub(super) console_errors: u64,
}

impl Document {
    /// Its own request went on.
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

/// Contexts and documents.
#[derive(Debug, Default)]
pub(super) struct Documents {
    /// The parent of each context; none of a top-level one.
    parents: HashMap<String, Option<String>>,
    all: Vec<Document>,
    /// What is shown in each top-level context.
    current: HashMap<String, usize>,
    /// Time origins that were told, by script realm.
    origins: Vec<Origin>,
}

/// The time origin of a realm.
#[derive(Debug)]
struct Origin {
    context: String,
    realm: String,
    at: f64,
}

impl Documents {
    /// An event of `browsingContext`.
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
                    // Firefox commits a page of its own that tells of the error.
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
                    // What is given up for a download or for another navigation leaves the page as it is.
                    if document.error.is_some() {
                        self.current.insert(context.to_owned(), index);
                    }
                }
            }
            "domContentLoaded" | "load" => {
                // One that failed tells of the browser's own page.
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

    /// The document shown in the tab that a context belongs to.
    pub(super) fn current(&self, context: &str) -> Option<usize> {
        self.current.get(self.top(context)).copied()
    }

    /// The document that a request is sent for: the one it opens, else the one that is shown.
    pub(super) fn of_request(&self, navigation: Option<&str>, context: Option<&str>) -> Option<usize> {
        self.find(navigation).or_else(|| context.and_then(|context| self.current(context)))
    }

    /// Whether a document is what this navigation opens.
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

    /// What a document measured of itself. The script runs before a commit is told, hence by realm, then by URL.
    pub(super) fn vitals(&mut self, message: &Message) {
        let mine = |document: &Document| document.context == message.context;
        let bound = |document: &Document| document.realm.as_deref() == Some(message.realm.as_str());
        let index = self.all.iter().rposition(|document| mine(document) && bound(document)).or_else(|| {
            let url = without_fragment(&message.url);
            let fits = |document: &Document| document.realm.is_none() && without_fragment(&document.url) == url;
            self.all.iter().rposition(|document| mine(document) && !document.failed && fits(document))
        });
        // Firefox: after an error page of its own the next document may be given that page's time origin.
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

    /// The documents that were opened, with their positions, in the order in which that began.
    pub(super) fn opened(&self) -> impl Iterator<Item = (usize, &Document)> {
        self.all.iter().enumerate().filter(|(_, document)| document.is_opened())
    }

    /// Every document and every attempt.
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

/// A page that the browser itself shows.
fn is_browsers_own(url: &str) -> bool {
    ["about:", "chrome:", "chrome-error:"].iter().any(|scheme| url.starts_with(scheme))
}

fn is_error_page(url: &str) -> bool {
    ["about:neterror", "about:certerror", "about:httpsonlyerror", "about:blocked", "chrome-error:"]
        .iter()
        .any(|page| url.starts_with(page))
}
