//! What a run hears of its browser while it drives it: dialogs, windows, requests that wait for our word, and all that
//! is kept of the traffic. Fed by the events of one session, which has one run at a time.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde_json::{Value as Json, json};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::bidi::{Bidi, Listener};
use super::observe::Download;

/// How long the browser may take to go on with a request that waited for us.
const RELEASE: Duration = Duration::from_secs(5);

/// The events that a run asks for. Each is asked for by itself where a browser does not know them all.
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

/// Whether a scenario may see a document: one of the target, or one that a page made. Files and the browser's own pages
/// are neither; browsers keep pages from them, and this is the second lock.
fn is_open(url: &str) -> bool {
    let scheme = url.split(':').next().unwrap_or_default().to_ascii_lowercase();
    match scheme.as_str() {
        // The last one is what a navigation that failed shows.
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

/// A dialog that is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Prompt {
    /// The window it is of.
    pub(super) context: String,
    /// `alert`, `confirm`, `prompt` or `beforeunload`.
    pub(super) kind: String,
    /// What it says.
    pub(super) message: String,
}

/// A question for files that a page has asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chooser {
    /// The document of its field.
    pub(super) context: String,
    /// The field, which need not be in the document.
    pub(super) field: Option<String>,
    /// Whether it takes more than one file.
    pub(super) is_multiple: bool,
}

/// What is said to requests that wait for us.
#[derive(Debug, Clone, Default)]
pub(super) struct Additions {
    /// Headers, each with the origin whose requests get it.
    pub(super) headers: Vec<(String, String, String)>,
    /// Origins whose requests get a `traceparent`; `*` is every one.
    pub(super) traceparent: Vec<String>,
    /// The trace.
    pub(super) trace: String,
    /// The user and password for whoever asks.
    pub(super) credentials: Option<(String, String)>,
}

impl Additions {
    /// Whether requests need to wait for us at all.
    pub(super) fn of_requests(&self) -> bool {
        !self.headers.is_empty() || !self.traceparent.is_empty()
    }
}

/// The account of one run.
pub(super) struct Watch {
    /// The dialog that is open.
    pub(super) prompt: watch::Sender<Option<Prompt>>,
    /// Windows of the run, in the order they were opened.
    windows: watch::Sender<Vec<String>>,
    /// The window that each was opened by, also of those that have closed.
    openers: Mutex<HashMap<String, String>>,
    /// How many downloads have begun.
    downloads: watch::Sender<usize>,
    /// The questions for files so far.
    choosers: watch::Sender<Vec<Chooser>>,
    /// The folder of downloads on this machine, or `None` when the browser runs on another one.
    folder: Option<PathBuf>,
    observed: Mutex<super::observe::Observed>,
    additions: Mutex<Additions>,
    /// The span of the step that runs.
    span: Mutex<String>,
    /// A document of this machine that a page has led to, and that no scenario may see.
    trespass: Mutex<Option<String>>,
    /// Requests to which credentials were given once.
    asked: Mutex<HashSet<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watch {
    /// `folder`: the session's folder on this machine.
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

    /// The URL of a document that no scenario may see, where a page has led to one.
    pub(super) fn trespass(&self) -> Option<String> {
        lock(&self.trespass).clone()
    }

    /// What is kept of the traffic, the console and the documents.
    pub(super) fn observed(&self) -> MutexGuard<'_, super::observe::Observed> {
        lock(&self.observed)
    }

    /// A step begins.
    pub(super) fn step(&self, index: usize, span: &str) {
        span.clone_into(&mut lock(&self.span));
        self.observed().step(index);
    }

    /// Windows that are open, in the order they were opened.
    pub(super) fn windows(&self) -> Vec<String> {
        self.windows.borrow().clone()
    }

    /// The window that opened this one, where it is known.
    pub(super) fn opener(&self, window: &str) -> Option<String> {
        lock(&self.openers).get(window).cloned()
    }

    /// Whether a window is gone, or goes until then.
    pub(super) async fn closes(&self, window: &str, deadline: tokio::time::Instant) -> bool {
        let mut windows = self.windows.subscribe();
        let gone = windows.wait_for(|all| !all.iter().any(|one| one == window));
        tokio::time::timeout_at(deadline, gone).await.is_ok_and(|gone| gone.is_ok())
    }

    /// How many downloads have begun.
    pub(super) fn downloads(&self) -> usize {
        *self.downloads.borrow()
    }

    /// The file of a download, where it is one of this session on this machine. What a browser says of its files is not
    /// taken at its word: one that runs elsewhere may name any.
    pub(super) fn file_of(&self, download: &Download) -> Option<PathBuf> {
        let folder = self.folder.as_ref()?.canonicalize().ok()?;
        let path = Path::new(download.path.as_deref()?).canonicalize().ok()?;
        (path.starts_with(folder) && path.is_file()).then_some(path)
    }

    /// Waits until there are more downloads than that.
    pub(super) async fn download_after(&self, count: usize, deadline: tokio::time::Instant) {
        let mut downloads = self.downloads.subscribe();
        let _ = tokio::time::timeout_at(deadline, downloads.wait_for(|now| *now > count)).await;
    }

    /// How many questions for files there were.
    pub(super) fn choosers(&self) -> usize {
        self.choosers.borrow().len()
    }

    /// The first question for files after so many, where one comes in time.
    pub(super) async fn chooser_after(&self, count: usize, deadline: tokio::time::Instant) -> Option<Chooser> {
        let mut choosers = self.choosers.subscribe();
        let all = tokio::time::timeout_at(deadline, choosers.wait_for(|all| all.len() > count)).await.ok()?.ok()?;
        all.get(count).cloned()
    }

    /// What is added to requests from now on.
    pub(super) fn add(&self, additions: Additions) {
        *lock(&self.additions) = additions;
    }

    /// Who listens to the session's events for this run.
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
                        tracing::debug!(%error, command, "a request that waited for us did not go on");
                    }
                });
            }
            _ => {}
        }
        self.observed().event(method, params, received);
    }

    /// What is said to a request that waits for us.
    fn go_on(&self, method: &str, params: &Json) -> (&'static str, Json) {
        let request = &params["request"]["request"];
        let additions = lock(&self.additions);
        if method == "network.authRequired" {
            let first = lock(&self.asked).insert(request.as_str().unwrap_or_default().to_owned());
            return match &additions.credentials {
                // A server that asks again does not want these.
                Some((user, password)) if first => (
                    "network.continueWithAuth",
                    json!({"request": request, "action": "provideCredentials",
                           "credentials": {"type": "password", "username": user, "password": password}}),
                ),
                // Nobody is there to be asked; the answer is shown as it is.
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
            // W3C Trace Context: version, trace, the span that asks, sampled.
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
