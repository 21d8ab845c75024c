//! Frames: a step that acts in one enters it, and every step begins at the top.
//!
//! A frame is found by its targets, outermost first, each time it is entered; one that is replaced meanwhile is found
//! anew. Frames of other origins are no different for WebDriver.

use serde_json::{Value as Json, json};
use tokio::time::Instant;

use super::command::Command;
use super::locate::Query;
use super::page::{PROMPT, Page};
use super::verdict::Trouble;
use crate::outcome::Failure;
use crate::run::Values;
use crate::scenario::Target;

/// Where the driver is, and where the step wants it to be.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// The frames of the step, outermost first.
    pub(super) path: Vec<Query>,
    /// Whether the driver is in the innermost of them.
    pub(super) entered: bool,
    /// Whether the driver may be in any frame.
    pub(super) away: bool,
}

impl Page {
    /// Says in which frame the step acts. It is entered with the first look.
    pub(super) async fn go_into(&mut self, frames: &[Target], values: &Values) -> Result<(), Failure> {
        self.leave_frames().await.map_err(Trouble::failure)?;
        self.place.path = frames
            .iter()
            .map(|target| Ok(Query::new(target, values)?.with(json!({"then": "frame", "unseen": true}))))
            .collect::<Result<_, Failure>>()?;
        Ok(())
    }

    /// Goes to the page itself.
    pub(super) async fn leave_frames(&mut self) -> Result<(), Trouble> {
        self.place.path.clear();
        self.place.entered = false;
        if self.place.away {
            self.call(Command::post("frame", json!({"id": Json::Null})), PROMPT).await?;
            self.place.away = false;
        }
        Ok(())
    }

    /// Goes into the frame of the step, where there is one and it is not there already.
    pub(super) async fn enter(&mut self, deadline: Instant) -> Result<(), Trouble> {
        if self.place.entered || self.place.path.is_empty() {
            return Ok(());
        }
        if self.place.away {
            self.call(Command::post("frame", json!({"id": Json::Null})), PROMPT).await?;
            self.place.away = false;
        }
        for query in self.place.path.clone() {
            let Some(answer) = self.look_here(std::slice::from_ref(&query), deadline).await?.pop() else { continue };
            if let Some(failure) = query.wrong(&answer) {
                return Err(Trouble::Absent(Box::new(query.placed(failure))));
            }
            let Some(element) = answer.element() else {
                return Err(Trouble::Absent(Box::new(query.placed(query.refusal(&answer)))));
            };
            self.place.away = true;
            self.call(Command::post("frame", json!({"id": element.json()})), PROMPT).await?;
            self.note_drift(&query, &answer);
        }
        self.place.entered = true;
        Ok(())
    }

    /// What was looked for was not there: the frame is entered anew for the next look. A frame that was entered before its
    /// document came may have got it from another process since, and `ChromeDriver` stays in the empty one.
    pub(super) fn look_anew(&mut self) {
        self.place.entered = false;
    }

    /// Whether the frame is gone and the page still there: what the driver calls a window that is closed.
    pub(super) async fn only_the_frame_is_gone(&mut self) -> bool {
        if !std::mem::take(&mut self.place.away) {
            return false;
        }
        self.place.entered = false;
        let top = self.raw(Command::post("frame", json!({"id": Json::Null}))).await.is_ok();
        top && self.raw(Command::get("url")).await.is_ok()
    }
}
