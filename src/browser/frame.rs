//! Frames: a step that acts in a frame enters it, and every step starts in the page itself.
//!
//! A frame is located by its locators, outermost first, each time it is entered; if it is replaced meanwhile, it is
//! located again. WebDriver treats frames of other origins in the same way.

use std::time::Duration;

use serde_json::{Value as Json, json};
use tokio::time::Instant;

use super::command::Command;
use super::errors::CommandError;
use super::locate::{LocatorQuery, SCRIPT};
use super::page::{PROMPT, Page};
use super::place::Level;
use crate::names::Reason;
use crate::outcome::Failure;
use crate::scenario::Locator;
use crate::values::Values;

/// Maximum time to search other frames for an element that was not found.
const HINT: Duration = Duration::from_millis(400);

impl Page {
    /// Sets the frame in which the step acts. It is entered with the first query.
    pub(super) async fn go_into(&mut self, frames: &[Locator], values: &Values) -> Result<(), Failure> {
        self.leave_frames().await.map_err(CommandError::failure)?;
        self.place.path = frames
            .iter()
            .map(|target| Ok(LocatorQuery::new(target, values)?.with(json!({"then": "frame", "unseen": true}))))
            .collect::<Result<_, Failure>>()?;
        Ok(())
    }

    /// Leaves all frames.
    pub(super) async fn leave_frames(&mut self) -> Result<(), CommandError> {
        self.place.path.clear();
        self.place.entered = false;
        self.go_to_the_top().await
    }

    /// Enters the frame of the step, if there is one and it has not been entered yet.
    pub(super) async fn enter(&mut self, deadline: Instant) -> Result<(), CommandError> {
        if self.place.entered || self.place.path.is_empty() {
            return Ok(());
        }
        self.go_to_the_top().await?;
        for query in self.place.path.clone() {
            let Some(answer) = self.query_document(std::slice::from_ref(&query), deadline).await?.pop() else {
                continue;
            };
            if let Some(failure) = query.wrong(&answer) {
                return Err(CommandError::Absent(Box::new(query.placed(failure))));
            }
            let Some(element) = answer.element() else {
                return Err(CommandError::Absent(Box::new(query.placed(query.refusal(&answer)))));
            };
            if !self.has_realms() {
                self.place.away = true;
                self.call(Command::post("frame", json!({"id": element.json()})), PROMPT).await?;
            } else if answer.frame().is_none() {
                return Err(CommandError::Again("the frame has no document".into()));
            }
            let outer = self.document();
            self.place.chain.push(Level { outer, element, same: answer.is("same") });
            self.place.context = answer.frame();
            self.note_drift(&query, &answer);
        }
        self.place.entered = true;
        Ok(())
    }

    async fn go_to_the_top(&mut self) -> Result<(), CommandError> {
        self.place.context = None;
        self.place.chain.clear();
        if self.place.away {
            self.call(Command::post("frame", json!({"id": Json::Null})), PROMPT).await?;
            self.place.away = false;
        }
        Ok(())
    }

    /// Runs a command in the current frame of the driver. With `BiDi`, the driver enters a frame only if it must,
    /// because that takes time and Chromium's driver uses a script in the page's world for it.
    pub(super) async fn call_in_frame(&mut self, command: Command, limit: Duration) -> Result<Json, CommandError> {
        if !self.place.away {
            for level in self.place.chain.clone() {
                self.place.away = true;
                self.call(Command::post("frame", json!({"id": level.element.json()})), PROMPT).await?;
            }
        }
        self.call(command, limit).await
    }

    /// Returns the context of the document that the driver is in.
    pub(super) fn document(&self) -> String {
        self.place.context.clone().unwrap_or_else(|| self.window.clone())
    }

    /// Extends the failure of a missing element with the frames of the document in which it exists.
    pub(super) async fn look_into_frames(&mut self, query: &LocatorQuery, failure: Failure) -> Failure {
        let deadline = Instant::now() + HINT;
        let Some(bare) = query.bare().filter(|_| failure.reason == Reason::NotFound && self.has_realms()) else {
            return failure;
        };
        let document = self.document();
        let Ok(frames) = self.in_document(&document, "return wachta.frames();", &Json::Null, deadline).await else {
            return failure;
        };
        let beside = self.watch.windows().into_iter().find(|one| *one != self.window && !self.before.contains(one));
        for frame in frames.as_array().into_iter().flatten() {
            let Some(context) = frame["element"]["context"].as_str() else { continue };
            let question = json!({"queries": [bare], "budget": 200});
            let Ok(answer) = self.in_document(context, SCRIPT, &question, deadline).await else { continue };
            if answer[0]["visible"].as_u64().unwrap_or(0) > 0 {
                let text = |key: &str| frame[key].as_str().filter(|text| !text.is_empty());
                let how = match (text("title"), text("id"), text("name")) {
                    (Some(title), ..) => format!("{{title: {}}}", Json::from(query.masked(title))),
                    (_, Some(id), _) => format!("{{id: {}}}", Json::from(query.masked(id))),
                    (.., Some(name)) => format!("{{css: {}}}", Json::from(query.masked(&format!("[name=\"{name}\"]")))),
                    _ => "{css: iframe}".to_owned(),
                };
                let called = text("title").or(text("name")).or(text("id")).unwrap_or("without a title");
                let hint = format!("it is in frame {}: add `within_frame: {how}`", query.masked(called));
                let seen = failure.seen.map_or_else(|| hint.clone(), |seen| format!("{seen}; {hint}"));
                return Failure { seen: Some(seen), ..failure };
            }
        }
        if beside.is_some() {
            let hint = "another window is open that no step has switched to: add `window: {new: true}` before";
            let seen = failure.seen.map_or_else(|| hint.to_owned(), |seen| format!("{seen}; {hint}"));
            return Failure { seen: Some(seen), ..failure };
        }
        failure
    }

    /// Makes the next query enter the frame again after an element was not found. A frame that was entered before its
    /// document was loaded may since be in another process, while `ChromeDriver` stays in the empty one.
    pub(super) fn reenter_frame(&mut self) {
        self.place.entered = false;
    }

    /// Returns whether the frame is gone but the page still exists, which the driver reports as a closed window.
    pub(super) async fn only_the_frame_is_gone(&mut self) -> bool {
        if !std::mem::take(&mut self.place.away) {
            return false;
        }
        self.place.entered = false;
        self.place.context = None;
        self.place.chain.clear();
        let top = self.raw(Command::post("frame", json!({"id": Json::Null}))).await.is_ok();
        top && self.raw(Command::get("url")).await.is_ok()
    }
}
