//! Frames: a step that acts in one enters it, and every step begins at the top.
//!
//! A frame is found by its targets, outermost first, each time it is entered; one that is replaced meanwhile is found
//! anew. Frames of other origins are no different for WebDriver.

use std::time::Duration;

use serde_json::{Value as Json, json};
use tokio::time::Instant;

use super::command::{Command, ElementId};
use super::locate::{Query, SCRIPT};
use super::page::{PROMPT, Page};
use super::verdict::Trouble;
use crate::names::Reason;
use crate::outcome::Failure;
use crate::scenario::Target;
use crate::values::Values;

/// How long frames may be looked into for what was not found.
const HINT: Duration = Duration::from_millis(400);

/// Where the step is, and where the driver is.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// The frames of the step, outermost first.
    pub(super) path: Vec<Query>,
    /// Whether the driver is in the innermost of them.
    pub(super) entered: bool,
    /// Whether the driver itself may be in any frame.
    pub(super) away: bool,
    /// The context of the frame that the step is in, where `BiDi` names it.
    pub(super) context: Option<String>,
    /// The frames that were entered, outermost first.
    pub(super) chain: Vec<Level>,
}

/// A frame that was entered.
#[derive(Debug, Clone)]
pub(super) struct Level {
    /// The context of the document that it is in.
    pub(super) outer: String,
    /// Its element.
    pub(super) element: ElementId,
    /// Whether both documents are of one origin.
    pub(super) same: bool,
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
        self.go_to_the_top().await
    }

    /// Goes into the frame of the step, where there is one and it is not there already.
    pub(super) async fn enter(&mut self, deadline: Instant) -> Result<(), Trouble> {
        if self.place.entered || self.place.path.is_empty() {
            return Ok(());
        }
        self.go_to_the_top().await?;
        for query in self.place.path.clone() {
            let Some(answer) = self.look_here(std::slice::from_ref(&query), deadline).await?.pop() else { continue };
            if let Some(failure) = query.wrong(&answer) {
                return Err(Trouble::Absent(Box::new(query.placed(failure))));
            }
            let Some(element) = answer.element() else {
                return Err(Trouble::Absent(Box::new(query.placed(query.refusal(&answer)))));
            };
            if !self.has_realms() {
                self.place.away = true;
                self.call(Command::post("frame", json!({"id": element.json()})), PROMPT).await?;
            } else if answer.frame().is_none() {
                return Err(Trouble::Again("the frame has no document".into()));
            }
            let outer = self.document();
            self.place.chain.push(Level { outer, element, same: answer.is("same") });
            self.place.context = answer.frame();
            self.note_drift(&query, &answer);
        }
        self.place.entered = true;
        Ok(())
    }

    async fn go_to_the_top(&mut self) -> Result<(), Trouble> {
        self.place.context = None;
        self.place.chain.clear();
        if self.place.away {
            self.call(Command::post("frame", json!({"id": Json::Null})), PROMPT).await?;
            self.place.away = false;
        }
        Ok(())
    }

    /// Runs a command that the driver carries out where it is. By `BiDi` it is in no frame until it must be: entering one
    /// takes time, and Chromium's driver does it by a script in the page's world.
    pub(super) async fn call_in_frame(&mut self, command: Command, limit: Duration) -> Result<Json, Trouble> {
        if !self.place.away {
            for level in self.place.chain.clone() {
                self.place.away = true;
                self.call(Command::post("frame", json!({"id": level.element.json()})), PROMPT).await?;
            }
        }
        self.call(command, limit).await
    }

    /// The context of the document that the driver is in.
    pub(super) fn document(&self) -> String {
        self.place.context.clone().unwrap_or_else(|| self.window.clone())
    }

    /// Says of what was not found in which frame of the document it is.
    pub(super) async fn look_into_frames(&mut self, query: &Query, failure: Failure) -> Failure {
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
            let hint = "another window is open that no step has gone to: add `window: {new: true}` before";
            let seen = failure.seen.map_or_else(|| hint.to_owned(), |seen| format!("{seen}; {hint}"));
            return Failure { seen: Some(seen), ..failure };
        }
        failure
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
        self.place.context = None;
        self.place.chain.clear();
        let top = self.raw(Command::post("frame", json!({"id": Json::Null}))).await.is_ok();
        top && self.raw(Command::get("url")).await.is_ok()
    }
}
