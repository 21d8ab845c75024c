//! A browser session and the user context of its run, which is created ahead and removed afterwards.
//!
//! Classic commands and `BiDi` use the same ids: a browsing context's id is a window handle. A session is used by one
//! run at a time, because the current window belongs to the session, and because a classic command blocks those of
//! `BiDi` on Chromium.

use std::sync::Arc;
use std::time::Duration;

use fantoccini::Client;
use serde_json::{Value as Json, json};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;
use url::Url;

use super::bidi::{Bidi, BidiError};
use super::command::Command;
use super::event_tracker::{EVENTS, EventTracker};
use super::lease::Lease;
use super::observe;
use super::trust::{LaunchOptions, Roots};
use crate::scenario::{Engine, Viewport};

/// Maximum time of operations that do not involve a page.
pub(super) const BRISK: Duration = Duration::from_secs(5);

/// Size of the page if the scenario does not set one.
pub(super) const VIEWPORT: Viewport = Viewport { width: 1280, height: 800 };

/// A browser session, which exists as long as its lease.
pub(super) struct Session {
    pub(super) engine: Engine,
    /// Browser program, if it is not the default of its driver.
    pub(super) program: Option<std::path::PathBuf>,
    /// Additional trusted roots for the whole session.
    pub(super) roots: Option<Roots>,
    pub(super) version: String,
    pub(super) client: Client,
    /// `BiDi` connection. `None` if the driver does not support it.
    pub(super) bidi: Option<Bidi>,
    pub(super) lease: Lease,
    /// URL of the driver's status.
    pub(super) status: Url,
    /// Process group, if the browser runs on this machine.
    pub(super) group: Option<i32>,
    /// Folder of its files, if the browser runs on this machine.
    pub(super) folder: Option<std::path::PathBuf>,
    pub(super) born: Instant,
    /// Number of runs so far.
    pub(super) runs: u32,
    /// Page load timeout that was last sent to the driver.
    pub(super) patience: Option<Duration>,
    /// User context for the next run.
    pub(super) next: Option<UserContext>,
    /// User context for the next run that is being created during this run.
    pub(super) ahead: Option<PendingContext>,
    /// Removal of the previous run's user context, if it is in progress.
    pub(super) removal: Option<JoinHandle<Result<(), BidiError>>>,
    /// Whether the next run is likely to follow at once.
    pub(super) hurried: bool,
    /// Time since which the session is idle.
    pub(super) idle_since: Option<Instant>,
}

/// A user context that is being created.
pub(super) type PendingContext = JoinHandle<Result<PreparedContext, BidiError>>;

/// A user context with its window, without the setup for a run.
#[derive(Debug)]
pub(super) struct PreparedContext {
    /// Id of the user context.
    id: String,
    /// Id of its window.
    top: String,
}

impl PreparedContext {
    /// Creates a user context. The expensive part is its window, which is a process of its own.
    async fn make(bidi: &Bidi, insecure: bool) -> Result<Self, BidiError> {
        let mut wanted = json!({"unhandledPromptBehavior": {"default": "ignore"}});
        if insecure {
            wanted["acceptInsecureCerts"] = true.into();
        }
        let made = bidi.call("browser.createUserContext", wanted, BRISK).await?;
        let id = made["userContext"].as_str().unwrap_or_default().to_owned();
        // Firefox shows all contexts in one window, where the last tab is visible; Chromium opens a window for each.
        let window = json!({"type": "tab", "userContext": id});
        let top = bidi.call("browsingContext.create", window, BRISK).await?;
        Ok(Self { id, top: top["context"].as_str().unwrap_or_default().to_owned() })
    }
}

/// Environment of a run: a user context with one window.
#[derive(Debug, Clone)]
pub(super) struct UserContext {
    /// Id of the user context; `default` is the one that a session starts with.
    pub(super) user: String,
    /// First window.
    pub(super) top: String,
    /// Subscriptions to remove after the run.
    subscriptions: Vec<String>,
    preload: Option<String>,
    /// Intercept that makes requests wait for the agent.
    pub(super) intercept: Option<String>,
}

/// User context that a session starts with.
pub(super) const DEFAULT_USER: &str = "default";

impl Session {
    /// Returns the options with which the session was started.
    pub(super) fn setup(&self) -> LaunchOptions {
        LaunchOptions { engine: self.engine, program: self.program.clone(), roots: self.roots.clone() }
    }

    /// Prepares a user context for the next run, with one window that becomes the current one.
    pub(super) async fn prepare(&self, insecure: bool) -> Result<UserContext, BidiError> {
        let bidi = self.bidi.clone().ok_or(BidiError::Closed)?;
        self.settle(PreparedContext::make(&bidi, insecure).await?).await
    }

    /// Creates a user context for the next run in the background during this one. The current run gets none of its
    /// events, because they are subscribed to when it is over.
    pub(super) fn make_ahead(&mut self, tasks: &TaskTracker) {
        let Some(bidi) = self.bidi.clone() else { return };
        self.ahead = Some(tasks.spawn(async move { PreparedContext::make(&bidi, false).await }));
    }

    /// Replaces the user context by the one that was created meanwhile. The previous one is removed during the next
    /// run, after that run is ready, because a browser does not respond while it closes a window.
    /// [`Session::is_removed`] waits for the removal.
    pub(super) async fn change_to(
        &mut self,
        ahead: PendingContext,
        before: &UserContext,
        tasks: &TaskTracker,
    ) -> Result<UserContext, BidiError> {
        let bidi = self.bidi.clone().ok_or(BidiError::Closed)?;
        let user = ahead.await.unwrap_or(Err(BidiError::Closed))?;
        // Downloads in progress must not end in the next run's folder.
        if self.folders().any(|folder| folder.exists()) {
            self.remove(before).await?;
            return self.settle(user).await;
        }
        let (left, next) = tokio::join!(leave(&bidi, before), self.settle(user));
        left?;
        let user = before.user.clone();
        self.removal = Some(tasks.spawn(async move { remove_user(&bidi, &user).await }));
        next
    }

    /// Makes the window of the context the current one and completes its setup for a run.
    async fn settle(&self, PreparedContext { id, top }: PreparedContext) -> Result<UserContext, BidiError> {
        let switched = async {
            let switched = self.client.issue_cmd(Command::post("window", json!({"handle": top})));
            match timeout(BRISK, switched).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(BidiError::Refused("no window".into(), error.to_string())),
                Err(_) => Err(BidiError::Timeout),
            }
        };
        let (switched, context) = tokio::join!(switched, self.furnish(id, top.clone()));
        switched.and(context)
    }

    /// Returns the default user context and window, for a run that has the session to itself.
    pub(super) async fn as_it_is(&self) -> Result<UserContext, BidiError> {
        let top = match timeout(BRISK, self.client.issue_cmd(Command::get("window"))).await {
            Ok(Ok(Json::String(handle))) => handle,
            Ok(Ok(_)) => String::new(),
            Ok(Err(error)) => return Err(BidiError::Refused("no window".into(), error.to_string())),
            Err(_) => return Err(BidiError::Timeout),
        };
        self.furnish(DEFAULT_USER.into(), top).await
    }

    async fn furnish(&self, user: String, top: String) -> Result<UserContext, BidiError> {
        let mut context = UserContext { user, top, subscriptions: Vec::new(), preload: None, intercept: None };
        let Some(bidi) = self.bidi.clone() else { return Ok(context) };
        let users = json!([context.user]);
        // These commands are independent of each other.
        let (subscriptions, preload, downloads, sized) = tokio::join!(
            subscribe(&bidi, &users),
            measure(&bidi, &users),
            self.keep_downloads(&bidi, &users),
            self.resize(&context, VIEWPORT, None),
        );
        context.subscriptions = subscriptions?;
        context.preload = preload?;
        downloads.and(sized)?;
        Ok(context)
    }

    async fn keep_downloads(&self, bidi: &Bidi, users: &Json) -> Result<(), BidiError> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let allowed = json!({
            "downloadBehavior": {"type": "allowed", "destinationFolder": folder.join("downloads")},
            "userContexts": users,
        });
        match bidi.call("browser.setDownloadBehavior", allowed, BRISK).await {
            Err(BidiError::Refused(_, message)) => tracing::debug!(message, "cannot store downloads"),
            done => drop(done?),
        }
        Ok(())
    }

    /// Sets the size of all pages of a run.
    pub(super) async fn resize(
        &self,
        context: &UserContext,
        size: Viewport,
        ratio: Option<f64>,
    ) -> Result<(), BidiError> {
        let Some(bidi) = &self.bidi else { return Ok(()) };
        let viewport = json!({"width": size.width, "height": size.height});
        let mut wanted = json!({"userContexts": [context.user], "viewport": viewport});
        if let Some(ratio) = ratio {
            wanted["devicePixelRatio"] = ratio.into();
        }
        match bidi.call("browsingContext.setViewport", wanted.clone(), BRISK).await {
            Err(BidiError::Refused(code, _)) if code == "invalid argument" || code == "unsupported operation" => {
                // Older browsers only support single windows.
                let Json::Object(map) = &mut wanted else { unreachable!("it is an object") };
                map.remove("userContexts");
                map.insert("context".into(), context.top.clone().into());
                bidi.call("browsingContext.setViewport", wanted, BRISK).await.map(drop)
            }
            other => other.map(drop),
        }
    }

    /// Removes a user context with everything in it, and stops its events.
    pub(super) async fn remove(&self, context: &UserContext) -> Result<(), BidiError> {
        let Some(bidi) = &self.bidi else { return Ok(()) };
        let (left, removed) = tokio::join!(leave(bidi, context), remove_user(bidi, &context.user));
        left.and(removed)?;
        for folder in self.folders() {
            let _ = tokio::fs::remove_dir_all(folder).await;
        }
        Ok(())
    }

    /// Returns the folders for files of a run; most runs have none.
    fn folders(&self) -> impl Iterator<Item = std::path::PathBuf> {
        self.folder.iter().flat_map(|folder| ["downloads", "upload"].map(|own| folder.join(own)))
    }

    /// Waits until the user context of an earlier run is removed.
    pub(super) async fn is_removed(&mut self) -> Result<(), BidiError> {
        match self.removal.take() {
            Some(removal) => removal.await.unwrap_or(Err(BidiError::Closed)),
            None => Ok(()),
        }
    }

    /// Returns whether the session responds. A browser that was stopped while idle does not.
    pub(super) async fn is_well(&self) -> bool {
        let Some(bidi) = &self.bidi else { return false };
        if self.lease.is_gone() || bidi.is_closed() {
            return false;
        }
        let Some(next) = &self.next else { return true };
        let look = json!({"root": next.top, "maxDepth": 0});
        bidi.call("browsingContext.getTree", look, Duration::from_secs(2)).await.is_ok()
    }

    /// Creates the tracker of a run's events.
    pub(super) fn watch(&self, context: &UserContext, tasks: &TaskTracker) -> Arc<EventTracker> {
        let watch = Arc::new(EventTracker::new(self.engine, &context.top, self.folder.clone()));
        if let Some(bidi) = &self.bidi {
            bidi.listen(Some(watch.listener(bidi.clone(), tasks.clone())));
        }
        watch
    }
}

/// Removes the subscriptions of a run.
async fn leave(bidi: &Bidi, context: &UserContext) -> Result<(), BidiError> {
    bidi.listen(None);
    let undo = async |method: &str, params: Option<Json>| match params {
        Some(params) => bidi.call(method, params, BRISK).await.map(drop),
        None => Ok(()),
    };
    let subscriptions = (!context.subscriptions.is_empty()).then(|| json!({"subscriptions": context.subscriptions}));
    let (unsubscribed, passes, unmeasured) = tokio::join!(
        undo("session.unsubscribe", subscriptions),
        undo("network.removeIntercept", context.intercept.as_ref().map(|id| json!({"intercept": id}))),
        undo("script.removePreloadScript", context.preload.as_ref().map(|id| json!({"script": id}))),
    );
    unsubscribed.and(passes).and(unmeasured)
}

async fn remove_user(bidi: &Bidi, user: &str) -> Result<(), BidiError> {
    bidi.call("browser.removeUserContext", json!({"userContext": user}), BRISK).await.map(drop)
}

/// Requests the events of pages in these user contexts and returns the subscriptions.
async fn subscribe(bidi: &Bidi, users: &Json) -> Result<Vec<String>, BidiError> {
    let ask = async |events: &[&str]| {
        let made = bidi.call("session.subscribe", json!({"events": events, "userContexts": users}), BRISK).await?;
        Ok(made["subscription"].as_str().map(ToOwned::to_owned))
    };
    match ask(EVENTS).await {
        Ok(made) => return Ok(made.into_iter().collect()),
        // A browser that does not support one of the events rejects all of them.
        Err(BidiError::Refused(..)) => {}
        Err(error) => return Err(error),
    }
    let mut subscriptions = Vec::new();
    for event in EVENTS {
        match ask(&[event]).await {
            Ok(made) => subscriptions.extend(made),
            Err(BidiError::Refused(_, message)) => tracing::debug!(event, message, "no such event"),
            Err(error) => return Err(error),
        }
    }
    Ok(subscriptions)
}

/// Adds the script that measures the pages of these user contexts. Returns its id.
async fn measure(bidi: &Bidi, users: &Json) -> Result<Option<String>, BidiError> {
    let preload = json!({
        "functionDeclaration": observe::SCRIPT,
        "arguments": [{"type": "channel", "value": {"channel": observe::CHANNEL, "ownership": "none"}}],
        "userContexts": users,
    });
    match bidi.call("script.addPreloadScript", preload, BRISK).await {
        Ok(made) => Ok(made["script"].as_str().map(ToOwned::to_owned)),
        Err(BidiError::Refused(_, message)) => {
            tracing::debug!(message, "cannot measure pages");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
