//! Tracks the events of a run's browser: dialogs, windows, intercepted requests, and all recorded traffic. It receives
//! the events of one session, which has one run at a time.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde_json::{Value as Json, json};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::bidi::{Bidi, Listener};
use super::observe::Download;

/// Time within which the browser must continue an intercepted request.
const RELEASE: Duration = Duration::from_secs(5);

/// Events that a run subscribes to. They are subscribed to one by one if a browser does not support all of them.
pub(super) const EVENTS: &[&str] = &[
    "browsingContext.contextCreated",
    "browsingContext.contextDestroyed",
    "browsingContext.navigationStarted",
    "browsingContext.navigationCommitted",
    "browsingContext.navigationFailed",
    "browsingContext.domContentLoaded",
    "browsingContext.load",
    "browsingContext.userPromptOpened",
    "browsingContext.userPromptClosed",
    "browsingContext.downloadWillBegin",
    "browsingContext.downloadEnd",
    "log.entryAdded",
    "network.beforeRequestSent",
    "network.responseStarted",
    "network.responseCompleted",
    "network.fetchError",
    "network.authRequired",
    "script.message",
];

/// Returns whether a scenario may access a document, which is either part of the target or created by a page. Local
/// files and the browser's internal pages are neither. Browsers already block pages from opening them; this is an
/// additional check.
fn is_open(url: &str) -> bool {
    let scheme = url.split(':').next().unwrap_or_default().to_ascii_lowercase();
    match scheme.as_str() {
        // The last one is shown after a failed navigation.
        "http" | "https" | "data" | "blob" | "javascript" | "" | "chrome-error" => true,
        "about" => {
            let page = url.get("about:".len()..).unwrap_or_default();
            ["blank", "srcdoc", "neterror", "certerror", "httpsonlyerror", "blocked"]
                .iter()
                .any(|open| page.starts_with(open))
        }
        _ => false,
    }
}

/// An open dialog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Prompt {
    /// Window of the dialog.
    pub(super) context: String,
    /// `alert`, `confirm`, `prompt` or `beforeunload`.
    pub(super) kind: String,
    /// Message of the dialog.
    pub(super) message: String,
}

/// A file chooser that a page has opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chooser {
    /// Document of the file field.
    pub(super) context: String,
    /// The field, which need not be in the document.
    pub(super) field: Option<String>,
    /// Whether multiple files are accepted.
    pub(super) is_multiple: bool,
}

/// Additions to intercepted requests.
#[derive(Debug, Clone, Default)]
pub(super) struct Additions {
    /// Headers, each with the origin whose requests get it.
    pub(super) headers: Vec<(String, String, String)>,
    /// Origins whose requests get a `traceparent` header; `*` means all origins.
    pub(super) traceparent: Vec<String>,
    /// Trace id.
    pub(super) trace: String,
    /// User and password for HTTP authentication.
    pub(super) credentials: Option<(String, String)>,
}

impl Additions {
    /// Returns whether requests have to be intercepted at all.
    pub(super) fn of_requests(&self) -> bool {
        !self.headers.is_empty() || !self.traceparent.is_empty()
    }
}

/// Event tracker of one run.
pub(super) struct EventTracker {
    /// The open dialog.
    pub(super) prompt: watch::Sender<Option<Prompt>>,
    /// Windows of the run in the order of opening.
    windows: watch::Sender<Vec<String>>,
    /// Opener of each window, including closed ones.
    openers: Mutex<HashMap<String, String>>,
    /// Number of downloads that have started.
    downloads: watch::Sender<usize>,
    /// File choosers that have been opened.
    choosers: watch::Sender<Vec<Chooser>>,
    /// Folder of downloads on this machine, or `None` if the browser runs on another one.
    folder: Option<PathBuf>,
    observed: Mutex<super::observe::Observed>,
    additions: Mutex<Additions>,
    /// Span id of the current step.
    span: Mutex<String>,
    /// A local document to which a page has led, and which no scenario may access.
    trespass: Mutex<Option<String>>,
    /// Requests for which credentials were provided once.
    asked: Mutex<HashSet<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl EventTracker {
    /// Creates the tracker. `folder` is the session's folder on this machine.
    pub(super) fn new(engine: crate::scenario::Engine, top: &str, folder: Option<PathBuf>) -> Self {
        Self {
            prompt: watch::Sender::new(None),
            windows: watch::Sender::new(vec![top.to_owned()]),
            openers: Mutex::default(),
            downloads: watch::Sender::new(0),
            choosers: watch::Sender::new(Vec::new()),
            folder,
            observed: Mutex::new(super::observe::Observed::new(engine)),
            additions: Mutex::default(),
            span: Mutex::default(),
            asked: Mutex::default(),
            trespass: Mutex::default(),
        }
    }

    /// Returns the URL of a forbidden document to which a page has led, if any.
    pub(super) fn trespass(&self) -> Option<String> {
        lock(&self.trespass).clone()
    }

    /// Returns the recorded traffic, console messages and documents.
    pub(super) fn observed(&self) -> MutexGuard<'_, super::observe::Observed> {
        lock(&self.observed)
    }

    /// Sets the current step.
    pub(super) fn step(&self, index: usize, span: &str) {
        span.clone_into(&mut lock(&self.span));
        self.observed().step(index);
    }

    /// Returns the open windows in the order of opening.
    pub(super) fn windows(&self) -> Vec<String> {
        self.windows.borrow().clone()
    }

    /// Returns the window that opened this one, if it is known.
    pub(super) fn opener(&self, window: &str) -> Option<String> {
        lock(&self.openers).get(window).cloned()
    }

    /// Returns whether a window is closed, now or before the deadline.
    pub(super) async fn closes(&self, window: &str, deadline: tokio::time::Instant) -> bool {
        let mut windows = self.windows.subscribe();
        let gone = windows.wait_for(|all| !all.iter().any(|one| one == window));
        tokio::time::timeout_at(deadline, gone).await.is_ok_and(|gone| gone.is_ok())
    }

    /// Returns the number of downloads that have started.
    pub(super) fn downloads(&self) -> usize {
        *self.downloads.borrow()
    }

    /// Returns the file of a download if it belongs to this session and is on this machine. The path that the browser
    /// reports is verified, because a browser on another machine may name any file.
    pub(super) fn file_of(&self, download: &Download) -> Option<PathBuf> {
        let folder = self.folder.as_ref()?.canonicalize().ok()?;
        let path = Path::new(download.path.as_deref()?).canonicalize().ok()?;
        (path.starts_with(folder) && path.is_file()).then_some(path)
    }

    /// Waits until there are more than `count` downloads.
    pub(super) async fn download_after(&self, count: usize, deadline: tokio::time::Instant) {
        let mut downloads = self.downloads.subscribe();
        let _ = tokio::time::timeout_at(deadline, downloads.wait_for(|now| *now > count)).await;
    }

    /// Returns the number of file choosers so far.
    pub(super) fn choosers(&self) -> usize {
        self.choosers.borrow().len()
    }

    /// Returns the first file chooser after the first `count` ones, if it opens before the deadline.
    pub(super) async fn chooser_after(&self, count: usize, deadline: tokio::time::Instant) -> Option<Chooser> {
        let mut choosers = self.choosers.subscribe();
        let all = tokio::time::timeout_at(deadline, choosers.wait_for(|all| all.len() > count)).await.ok()?.ok()?;
        all.get(count).cloned()
    }

    /// Sets the additions to requests.
    pub(super) fn add(&self, additions: Additions) {
        *lock(&self.additions) = additions;
    }

    /// Returns the listener for the session's events during this run.
    pub(super) fn listener(self: &Arc<Self>, bidi: Bidi, tasks: TaskTracker) -> Listener {
        let watch = Arc::clone(self);
        Arc::new(move |method, params, received| watch.event(method, params, received, &bidi, &tasks))
    }

    fn event(&self, method: &str, params: &Json, received: SystemTime, bidi: &Bidi, tasks: &TaskTracker) {
        let text = |key: &str| params[key].as_str().unwrap_or_default().to_owned();
        match method {
            "browsingContext.contextCreated" if params["parent"].is_null() => {
                let context = text("context");
                if let Some(opener) = params["originalOpener"].as_str() {
                    lock(&self.openers).insert(context.clone(), opener.to_owned());
                }
                self.windows.send_if_modified(|windows| {
                    let is_new = !windows.contains(&context);
                    if is_new {
                        windows.push(context);
                    }
                    is_new
                });
            }
            "browsingContext.navigationCommitted" | "browsingContext.domContentLoaded" | "browsingContext.load"
                if !is_open(&text("url")) =>
            {
                lock(&self.trespass).get_or_insert_with(|| text("url"));
            }
            "browsingContext.contextDestroyed" => {
                let context = text("context");
                self.windows.send_modify(|windows| windows.retain(|window| *window != context));
            }
            "browsingContext.userPromptOpened" => {
                let prompt = Prompt { context: text("context"), kind: text("type"), message: text("message") };
                self.prompt.send_replace(Some(prompt));
            }
            "browsingContext.userPromptClosed" => {
                self.prompt.send_replace(None);
            }
            "input.fileDialogOpened" => {
                let field = params["element"]["sharedId"].as_str().map(ToOwned::to_owned);
                let chooser = Chooser { context: text("context"), field, is_multiple: params["multiple"] == true };
                self.choosers.send_modify(|all| all.push(chooser));
            }
            "browsingContext.downloadWillBegin" => self.downloads.send_modify(|count| *count += 1),
            "network.beforeRequestSent" | "network.authRequired" if params["isBlocked"] == true => {
                let (command, parameters) = self.go_on(method, params);
                let bidi = bidi.clone();
                tasks.spawn(async move {
                    if let Err(error) = bidi.call(command, parameters, RELEASE).await {
                        tracing::debug!(%error, command, "cannot continue an intercepted request");
                    }
                });
            }
            _ => {}
        }
        self.observed().event(method, params, received);
    }

    /// Returns the command that continues an intercepted request.
    fn go_on(&self, method: &str, params: &Json) -> (&'static str, Json) {
        let request = &params["request"]["request"];
        let additions = lock(&self.additions);
        if method == "network.authRequired" {
            let first = lock(&self.asked).insert(request.as_str().unwrap_or_default().to_owned());
            return match &additions.credentials {
                // A server that asks again has rejected these credentials.
                Some((user, password)) if first => (
                    "network.continueWithAuth",
                    json!({"request": request, "action": "provideCredentials",
                           "credentials": {"type": "password", "username": user, "password": password}}),
                ),
                // There is nobody to enter credentials, so the response is shown without them.
                _ => ("network.continueWithAuth", json!({"request": request, "action": "cancel"})),
            };
        }
        let url = params["request"]["url"].as_str().unwrap_or_default();
        let origin = url::Url::parse(url).map(|url| url.origin().ascii_serialization()).unwrap_or_default();
        let mut headers: Vec<Json> = params["request"]["headers"].as_array().cloned().unwrap_or_default();
        let mut set = |name: &str, value: &str| {
            headers.retain(|header| !header["name"].as_str().is_some_and(|other| other.eq_ignore_ascii_case(name)));
            headers.push(json!({"name": name, "value": {"type": "string", "value": value}}));
        };
        for (of, name, value) in &additions.headers {
            if *of == origin {
                set(name, value);
            }
        }
        if additions.traceparent.iter().any(|of| of == "*" || *of == origin) {
            // W3C Trace Context: version, trace id, parent span id, sampled flag.
            set("traceparent", &format!("00-{}-{}-01", additions.trace, lock(&self.span)));
        }
        ("network.continueRequest", json!({"request": request, "headers": headers}))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_of_this_machine_are_not_open() {
        for open in [
            "http://a/",
            "https://a/",
            "about:blank",
            "about:srcdoc",
            "data:text/html,x",
            "blob:http://a/1",
            "chrome-error://chromewebdata/",
            "about:neterror?e=x",
            "",
        ] {
            assert!(is_open(open), "{open}");
        }
        for closed in [
            "file:///etc/passwd",
            "FILE:///etc",
            "chrome://version/",
            "view-source:http://a/",
            "devtools://x",
            "filesystem:http://a/",
            "about:config",
            "about:support",
            "chrome-untrusted://x",
            "resource://x",
            "ftp://a/",
            "moz-extension://x",
        ] {
            assert!(!is_open(closed), "{closed}");
        }
    }
}
