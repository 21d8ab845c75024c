//! A browser session and the user context that a run gets in it: made ahead, removed afterwards.
//!
//! Classic commands and `BiDi` name the same things: a browsing context's id is a window handle. One run at a time uses
//! a session, since the current window is the session's, and a classic command blocks those of `BiDi` on Chromium.

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
use super::lease::Lease;
use super::observe;
use super::trust::{Roots, Setup};
use super::watch::{EVENTS, Watch};
use crate::scenario::{Engine, Viewport};

/// How long anything may take that no page has a part in.
pub(super) const BRISK: Duration = Duration::from_secs(5);

/// The size of the page when the scenario says nothing.
pub(super) const VIEWPORT: Viewport = Viewport { width: 1280, height: 800 };

/// A browser session: it lives as long as its lease.
pub(super) struct Session {
    pub(super) engine: Engine,
    /// The browser's program, where it is not the one that its driver finds.
    pub(super) program: Option<std::path::PathBuf>,
    /// What it trusts besides its own roots, from its start to its end.
    pub(super) roots: Option<Roots>,
    pub(super) version: String,
    pub(super) client: Client,
    /// Not where the driver has none.
    pub(super) bidi: Option<Bidi>,
    pub(super) lease: Lease,
    /// Where the driver says how it is.
    pub(super) status: Url,
    /// Its process group, where it runs on this machine.
    pub(super) group: Option<i32>,
    /// Where its files are, where it runs on this machine.
    pub(super) folder: Option<std::path::PathBuf>,
    pub(super) born: Instant,
    /// How many runs it had.
    pub(super) runs: u32,
    /// What the driver was last told to wait for pages.
    pub(super) patience: Option<Duration>,
    /// The user context for the next run.
    pub(super) next: Option<Context>,
    /// A user for the next run, on its way while this run goes on.
    pub(super) ahead: Option<Ahead>,
    /// The user of the run before, on its way out.
    pub(super) removal: Option<JoinHandle<Result<(), BidiError>>>,
    /// Whether the next run is likely to follow at once.
    pub(super) hurried: bool,
    /// Since when it waits for a run.
    pub(super) idle_since: Option<Instant>,
}

/// A user that is being made.
pub(super) type Ahead = JoinHandle<Result<User, BidiError>>;

/// A user with a window that nothing is asked of yet.
#[derive(Debug)]
pub(super) struct User {
    /// The user context.
    id: String,
    /// Its window.
    top: String,
}

impl User {
    /// Makes one. The window is the expensive part of a context: a process of its own.
    async fn make(bidi: &Bidi, insecure: bool) -> Result<Self, BidiError> {
        let mut wanted = json!({"unhandledPromptBehavior": {"default": "ignore"}});
        if insecure {
            wanted["acceptInsecureCerts"] = true.into();
        }
        let made = bidi.call("browser.createUserContext", wanted, BRISK).await?;
        let id = made["userContext"].as_str().unwrap_or_default().to_owned();
        // Firefox shows all users in one window, where the last tab is the visible one; Chromium gives each a window.
        let window = json!({"type": "tab", "userContext": id});
        let top = bidi.call("browsingContext.create", window, BRISK).await?;
        Ok(Self { id, top: top["context"].as_str().unwrap_or_default().to_owned() })
    }
}

/// Where a run takes place: a user of its own, with one window.
#[derive(Debug, Clone)]
pub(super) struct Context {
    /// The user context; `default` is the one that a session begins with.
    pub(super) user: String,
    /// The first window.
    pub(super) top: String,
    /// What to undo when the run is over.
    subscriptions: Vec<String>,
    preload: Option<String>,
    /// What makes requests wait for us.
    pub(super) intercept: Option<String>,
}

/// The user context that a session begins with.
pub(super) const DEFAULT_USER: &str = "default";

impl Session {
    /// What it was started as.
    pub(super) fn setup(&self) -> Setup {
        Setup { engine: self.engine, program: self.program.clone(), roots: self.roots.clone() }
    }

    /// Makes a user context for the next run, with one window that is the current one.
    pub(super) async fn prepare(&self, insecure: bool) -> Result<Context, BidiError> {
        let bidi = self.bidi.clone().ok_or(BidiError::Closed)?;
        self.settle(User::make(&bidi, insecure).await?).await
    }

    /// Begins to make a user for the next run while this one goes on. It hears nothing of it: events are asked for when
    /// the run is over.
    pub(super) fn make_ahead(&mut self, tasks: &TaskTracker) {
        let Some(bidi) = self.bidi.clone() else { return };
        self.ahead = Some(tasks.spawn(async move { User::make(&bidi, false).await }));
    }

    /// Goes over to the user that was made meanwhile. The one before is removed while the next run goes on, not before
    /// the next is ready: a browser that closes a window answers nothing. [`Session::is_removed`] tells when it is done.
    pub(super) async fn change_to(
        &mut self,
        ahead: Ahead,
        before: &Context,
        tasks: &TaskTracker,
    ) -> Result<Context, BidiError> {
        let bidi = self.bidi.clone().ok_or(BidiError::Closed)?;
        let user = ahead.await.unwrap_or(Err(BidiError::Closed))?;
        // What is still being downloaded must not end in the next run's folder.
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

    /// Makes the user's window the current one, and all that a run needs in it.
    async fn settle(&self, User { id, top }: User) -> Result<Context, BidiError> {
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

    /// The user and the window that a session begins with, for a run that has the session to itself.
    pub(super) async fn as_it_is(&self) -> Result<Context, BidiError> {
        let top = match timeout(BRISK, self.client.issue_cmd(Command::get("window"))).await {
            Ok(Ok(Json::String(handle))) => handle,
            Ok(Ok(_)) => String::new(),
            Ok(Err(error)) => return Err(BidiError::Refused("no window".into(), error.to_string())),
            Err(_) => return Err(BidiError::Timeout),
        };
        self.furnish(DEFAULT_USER.into(), top).await
    }

    async fn furnish(&self, user: String, top: String) -> Result<Context, BidiError> {
        let mut context = Context { user, top, subscriptions: Vec::new(), preload: None, intercept: None };
        let Some(bidi) = self.bidi.clone() else { return Ok(context) };
        let users = json!([context.user]);
        // None of them needs another one's answer.
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
            Err(BidiError::Refused(_, message)) => tracing::debug!(message, "downloads are not kept"),
            done => drop(done?),
        }
        Ok(())
    }

    /// Sets the size of all pages of a run.
    pub(super) async fn resize(&self, context: &Context, size: Viewport, ratio: Option<f64>) -> Result<(), BidiError> {
        let Some(bidi) = &self.bidi else { return Ok(()) };
        let viewport = json!({"width": size.width, "height": size.height});
        let mut wanted = json!({"userContexts": [context.user], "viewport": viewport});
        if let Some(ratio) = ratio {
            wanted["devicePixelRatio"] = ratio.into();
        }
        match bidi.call("browsingContext.setViewport", wanted.clone(), BRISK).await {
            Err(BidiError::Refused(code, _)) if code == "invalid argument" || code == "unsupported operation" => {
                // Older browsers know windows only.
                let Json::Object(map) = &mut wanted else { unreachable!("it is an object") };
                map.remove("userContexts");
                map.insert("context".into(), context.top.clone().into());
                bidi.call("browsingContext.setViewport", wanted, BRISK).await.map(drop)
            }
            other => other.map(drop),
        }
    }

    /// Removes a user context and all that is of it. Nobody is told of events any more.
    pub(super) async fn remove(&self, context: &Context) -> Result<(), BidiError> {
        let Some(bidi) = &self.bidi else { return Ok(()) };
        let (left, removed) = tokio::join!(leave(bidi, context), remove_user(bidi, &context.user));
        left.and(removed)?;
        for folder in self.folders() {
            let _ = tokio::fs::remove_dir_all(folder).await;
        }
        Ok(())
    }

    /// Where a run keeps files; most have none.
    fn folders(&self) -> impl Iterator<Item = std::path::PathBuf> {
        self.folder.iter().flat_map(|folder| ["downloads", "upload"].map(|own| folder.join(own)))
    }

    /// Whether the user context of an earlier run is gone; waits for that.
    pub(super) async fn is_removed(&mut self) -> Result<(), BidiError> {
        match self.removal.take() {
            Some(removal) => removal.await.unwrap_or(Err(BidiError::Closed)),
            None => Ok(()),
        }
    }

    /// Whether it answers: a browser that was stopped while it was idle does not.
    pub(super) async fn is_well(&self) -> bool {
        let Some(bidi) = &self.bidi else { return false };
        if self.lease.is_gone() || bidi.is_closed() {
            return false;
        }
        let Some(next) = &self.next else { return true };
        let look = json!({"root": next.top, "maxDepth": 0});
        bidi.call("browsingContext.getTree", look, Duration::from_secs(2)).await.is_ok()
    }

    /// Begins to write the account of a run.
    pub(super) fn watch(&self, context: &Context, tasks: &TaskTracker) -> Arc<Watch> {
        let watch = Arc::new(Watch::new(self.engine, &context.top, self.folder.clone()));
        if let Some(bidi) = &self.bidi {
            bidi.listen(Some(watch.listener(bidi.clone(), tasks.clone())));
        }
        watch
    }
}

/// Takes back what was asked for a run.
async fn leave(bidi: &Bidi, context: &Context) -> Result<(), BidiError> {
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

/// Asks for what happens in the pages of these users; gives what to undo.
async fn subscribe(bidi: &Bidi, users: &Json) -> Result<Vec<String>, BidiError> {
    let ask = async |events: &[&str]| {
        let made = bidi.call("session.subscribe", json!({"events": events, "userContexts": users}), BRISK).await?;
        Ok(made["subscription"].as_str().map(ToOwned::to_owned))
    };
    match ask(EVENTS).await {
        Ok(made) => return Ok(made.into_iter().collect()),
        // A browser that does not know one of them refuses them all.
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

/// Has the pages of these users measured; gives what to undo.
async fn measure(bidi: &Bidi, users: &Json) -> Result<Option<String>, BidiError> {
    let preload = json!({
        "functionDeclaration": observe::SCRIPT,
        "arguments": [{"type": "channel", "value": {"channel": observe::CHANNEL, "ownership": "none"}}],
        "userContexts": users,
    });
    match bidi.call("script.addPreloadScript", preload, BRISK).await {
        Ok(made) => Ok(made["script"].as_str().map(ToOwned::to_owned)),
        Err(BidiError::Refused(_, message)) => {
            tracing::debug!(message, "pages are not measured");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
