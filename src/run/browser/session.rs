//! A browser session and the user context that a run gets in it: made ahead, removed afterwards.
//!
//! Classic commands and `BiDi` name the same things: a browsing context's id is a window handle. One run at a time uses
//! a session, since the current window is the session's, and a classic command blocks those of `BiDi` on Chromium.

use std::sync::Arc;
use std::time::Duration;

use fantoccini::Client;
use serde_json::{Value as Json, json};
use tokio::time::{Instant, timeout};
use url::Url;

use super::bidi::{Bidi, BidiError};
use super::command::Command;
use super::lease::Lease;
use super::observe;
use super::watch::{EVENTS, Watch};
use crate::scenario::{Engine, Viewport};

/// How long anything may take that no page has a part in.
pub(super) const BRISK: Duration = Duration::from_secs(5);

/// The size of the page when the scenario says nothing.
pub(super) const VIEWPORT: Viewport = Viewport { width: 1280, height: 800 };

/// A browser session: it lives as long as its lease.
pub(super) struct Session {
    pub(super) engine: Engine,
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
    /// Makes a user context for the next run, with one window that is the current one.
    pub(super) async fn prepare(&self, insecure: bool) -> Result<Context, BidiError> {
        let bidi = self.bidi.clone().ok_or(BidiError::Closed)?;
        let mut wanted = json!({"unhandledPromptBehavior": {"default": "ignore"}});
        if insecure {
            wanted["acceptInsecureCerts"] = true.into();
        }
        let made = bidi.call("browser.createUserContext", wanted, BRISK).await?;
        let user = made["userContext"].as_str().unwrap_or_default().to_owned();
        // Firefox shows all users in one window, where the last tab is the visible one; Chromium gives each a window.
        let window = json!({"type": "tab", "userContext": user});
        let top = bidi.call("browsingContext.create", window, BRISK).await?;
        let top = top["context"].as_str().unwrap_or_default().to_owned();
        let switched = self.client.issue_cmd(Command::post("window", json!({"handle": top})));
        match timeout(BRISK, switched).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(BidiError::Refused("no window".into(), error.to_string())),
            Err(_) => return Err(BidiError::Timeout),
        }
        self.furnish(user, top).await
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
        let subscribe = |events: &[&str]| json!({"events": events, "userContexts": users});
        match bidi.call("session.subscribe", subscribe(EVENTS), BRISK).await {
            Ok(made) => context.subscriptions.extend(made["subscription"].as_str().map(ToOwned::to_owned)),
            // A browser that does not know one of them refuses them all.
            Err(BidiError::Refused(..)) => {
                for event in EVENTS {
                    match bidi.call("session.subscribe", subscribe(&[event]), BRISK).await {
                        Ok(made) => context.subscriptions.extend(made["subscription"].as_str().map(ToOwned::to_owned)),
                        Err(BidiError::Refused(_, message)) => tracing::debug!(event, message, "no such event"),
                        Err(error) => return Err(error),
                    }
                }
            }
            Err(error) => return Err(error),
        }
        let preload = json!({
            "functionDeclaration": observe::SCRIPT,
            "arguments": [{"type": "channel", "value": {"channel": observe::CHANNEL, "ownership": "none"}}],
            "userContexts": users,
        });
        match bidi.call("script.addPreloadScript", preload, BRISK).await {
            Ok(made) => context.preload = made["script"].as_str().map(ToOwned::to_owned),
            Err(BidiError::Refused(_, message)) => tracing::debug!(message, "pages are not measured"),
            Err(error) => return Err(error),
        }
        if let Some(folder) = &self.folder {
            let allowed = json!({
                "downloadBehavior": {"type": "allowed", "destinationFolder": folder.join("downloads")},
                "userContexts": users,
            });
            match bidi.call("browser.setDownloadBehavior", allowed, BRISK).await {
                Ok(_) => {}
                Err(BidiError::Refused(_, message)) => tracing::debug!(message, "downloads are not kept"),
                Err(error) => return Err(error),
            }
        }
        Ok(context)
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

    /// Removes a user context and all that is of it.
    pub(super) async fn remove(&self, context: &Context) -> Result<(), BidiError> {
        let Some(bidi) = &self.bidi else { return Ok(()) };
        bidi.listen(None);
        for subscription in &context.subscriptions {
            bidi.call("session.unsubscribe", json!({"subscriptions": [subscription]}), BRISK).await?;
        }
        if let Some(intercept) = &context.intercept {
            bidi.call("network.removeIntercept", json!({"intercept": intercept}), BRISK).await?;
        }
        if let Some(script) = &context.preload {
            bidi.call("script.removePreloadScript", json!({"script": script}), BRISK).await?;
        }
        bidi.call("browser.removeUserContext", json!({"userContext": context.user}), BRISK).await?;
        if let Some(folder) = &self.folder {
            // Most runs have neither.
            for own in ["downloads", "upload"] {
                let _ = tokio::fs::remove_dir_all(folder.join(own)).await;
            }
        }
        Ok(())
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
    pub(super) fn watch(&self, context: &Context, tasks: &tokio_util::task::TaskTracker) -> Arc<Watch> {
        let watch = Arc::new(Watch::new(self.engine, &context.top));
        if let Some(bidi) = &self.bidi {
            bidi.listen(Some(watch.listener(bidi.clone(), tasks.clone())));
        }
        watch
    }
}
