//! Dismissal of overlays that are present.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::Prepared;
use crate::browser::locate::LocatorQuery;
use crate::browser::page::Page;
use crate::browser::pointer::left_click;
use crate::outcome::Failure;
use crate::scenario::Overlay;
use crate::values::Values;

/// Maximum time for clicking one overlay away.
const LIMIT: Duration = Duration::from_secs(5);

/// Maximum number of times an overlay is clicked away in a step, because one may reappear each time.
const MOST: usize = 3;

impl Page {
    /// Sets the overlays that may appear from now on.
    ///
    /// # Errors
    ///
    /// Fails if a value in a locator is missing.
    pub fn expect_overlays(&mut self, overlays: &[Overlay], values: &Values) -> Result<(), Failure> {
        let all = overlays.iter().map(|overlay| {
            let frame = |target| Ok(LocatorQuery::new(target, values)?.with(json!({"then": "frame", "unseen": true})));
            Ok(Prepared {
                frames: overlay.within_frame.iter().map(frame).collect::<Result<_, Failure>>()?,
                when: LocatorQuery::new(&overlay.when, values)?,
                click: LocatorQuery::new(&overlay.click, values)?.with(json!({"then": "click"})),
                clicked: 0,
            })
        });
        self.overlays.all = all.collect::<Result<_, Failure>>()?;
        Ok(())
    }

    /// Clicks away overlays that are present. If one cannot be clicked, the step fails by itself.
    pub(in crate::browser) async fn clear_the_way(&mut self, deadline: Instant) {
        if self.overlays.all.is_empty() || self.overlays.busy || Instant::now() >= deadline {
            return;
        }
        self.overlays.busy = true;
        let path = self.place.path.clone();
        for at in 0..self.overlays.all.len() {
            let overlay = self.overlays.all[at].clone();
            if overlay.clicked < MOST && Box::pin(self.click_away(&overlay, deadline)).await {
                self.overlays.all[at].clicked += 1;
            }
        }
        // A problem with the frame of an overlay must not fail the step.
        let _ = self.leave_frames().await;
        self.place.path = path;
        self.overlays.busy = false;
    }

    async fn click_away(&mut self, overlay: &Prepared, limit: Instant) -> bool {
        let deadline = limit.min(Instant::now() + LIMIT);
        if self.leave_frames().await.is_err() {
            return false;
        }
        self.place.path.clone_from(&overlay.frames);
        match self.look(std::slice::from_ref(&overlay.when), deadline).await {
            Ok(answers) if answers.first().is_some_and(|answer| answer.visible() > 0) => {}
            _ => return false,
        }
        let engine = self.session().engine;
        let clicked =
            self.once(&overlay.click, deadline, &|answer, element| Some(left_click(engine, answer, element))).await;
        let told = match &clicked {
            Ok(_) => format!("{} covered the element: {} was clicked", overlay.when.shown, overlay.click.shown),
            Err(failure) => {
                format!("{} covered the element and could not be dismissed: {}", overlay.when.shown, failure.message)
            }
        };
        self.remark(told);
        true
    }
}
