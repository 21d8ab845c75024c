//! A filmstrip: small pictures of the current window, taken twice a second during a run.
//!
//! No more pictures are taken after a secret is typed into a field that displays it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::bidi::Bidi;
use super::command::decode;

const PAUSE: Duration = Duration::from_millis(500);

/// Maximum number of frames: two minutes.
const FRAMES: usize = 240;

/// Maximum time for one picture.
const PATIENCE: Duration = Duration::from_secs(2);

/// A picture, with the time since the start of the filmstrip.
pub(super) type Frame = (Duration, Vec<u8>);

/// A filmstrip that is being recorded until this is dropped.
pub(super) struct Filmstrip {
    shared: Arc<Shared>,
    _end: DropGuard,
}

struct Shared {
    window: Mutex<String>,
    frames: Mutex<Vec<Frame>>,
    private: AtomicBool,
}

impl Filmstrip {
    /// Starts a filmstrip.
    pub(super) fn begin(bidi: Bidi, window: &str, tasks: &TaskTracker) -> Self {
        let shared = Arc::new(Shared {
            window: Mutex::new(window.to_owned()),
            frames: Mutex::default(),
            private: AtomicBool::new(false),
        });
        let end = CancellationToken::new();
        let (ours, ended) = (Arc::clone(&shared), end.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = ended.cancelled() => {}
                () = take(&ours, &bidi) => {}
            }
        });
        Self { shared, _end: end.drop_guard() }
    }

    /// Sets the window that is recorded.
    pub(super) fn follow(&self, window: &str) {
        window.clone_into(&mut self.shared.window.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Returns a function that stops the filmstrip before a secret appears on the page.
    pub(super) fn blind(&self) -> impl Fn() + Send + Sync + use<> {
        let shared = Arc::clone(&self.shared);
        move || shared.private.store(true, Ordering::Release)
    }

    /// Takes the recorded frames.
    pub(super) fn frames(&self) -> Vec<Frame> {
        std::mem::take(&mut *self.shared.frames.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn take(shared: &Shared, bidi: &Bidi) {
    let since = Instant::now();
    let mut ticks = tokio::time::interval(PAUSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let window = shared.window.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let asked = json!({"context": window, "format": {"type": "image/jpeg", "quality": 0.4}});
        let at = since.elapsed();
        let Ok(answer) = bidi.call("browsingContext.captureScreenshot", asked, PATIENCE).await else { continue };
        // The picture was requested before the secret was typed, but may have been taken afterwards.
        if shared.private.load(Ordering::Acquire) {
            return;
        }
        let mut frames = shared.frames.lock().unwrap_or_else(PoisonError::into_inner);
        frames.extend(decode(&answer["data"]).map(|picture| (at, picture)));
        if frames.len() >= FRAMES {
            return;
        }
    }
}
