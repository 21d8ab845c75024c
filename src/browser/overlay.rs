//! What may get in the way of any step, such as a cookie banner: it is looked for when an element is not ready or something
//! does not hold, and clicked away then.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::locate::Query;
use super::page::Page;
use super::pointer::left_click;
use crate::outcome::Failure;
use crate::scenario::Overlay;
use crate::values::Values;

/// How long clicking one away may take.
const LIMIT: Duration = Duration::from_secs(5);

/// How often one is clicked away in a step: one that always comes back is not waited for.
const MOST: usize = 3;

/// The overlays of a scenario.
#[derive(Debug, Default)]
pub(super) struct Overlays {
    all: Vec<Prepared>,
    /// Whether one is being clicked away, and none is looked for meanwhile.
    busy: bool,
}

#[derive(Debug, Clone)]
struct Prepared {
    frames: Vec<Query>,
    when: Query,
    click: Query,
    /// How often it was clicked in this step.
    clicked: usize,
}

impl Overlays {
    /// A step begins.
    pub(super) fn begin_step(&mut self) {
        for overlay in &mut self.all {
            overlay.clicked = 0;
        }
    }
}

impl Page {
    /// Says what may get in the way from now on.
    ///
    /// # Errors
    ///
    /// When a value in a locator is missing.
    pub fn expect_overlays(&mut self, overlays: &[Overlay], values: &Values) -> Result<(), Failure> {
        let all = overlays.iter().map(|overlay| {
            let frame = |target| Ok(Query::new(target, values)?.with(json!({"then": "frame", "unseen": true})));
            Ok(Prepared {
                frames: overlay.within_frame.iter().map(frame).collect::<Result<_, Failure>>()?,
                when: Query::new(&overlay.when, values)?,
                click: Query::new(&overlay.click, values)?.with(json!({"then": "click"})),
                clicked: 0,
            })
        });
        self.overlays.all = all.collect::<Result<_, Failure>>()?;
        Ok(())
    }

    /// Clicks away what is in the way. What cannot be clicked is left for the step to fail at.
    pub(super) async fn clear_the_way(&mut self, deadline: Instant) {
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
        // A problem with the frame of an overlay must not count against the step.
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
            Ok(_) => format!("{} was in the way: {} was clicked", overlay.when.shown, overlay.click.shown),
            Err(failure) => {
                format!("{} was in the way and could not be clicked away: {}", overlay.when.shown, failure.message)
            }
        };
        self.remark(told);
        true
    }
}
