//! Mouse actions with pointer commands. A plain click uses the driver's own command if that is better.
//!
//! Pointer commands return when the page has received the event. The page may react shortly afterwards, so it gets time
//! to do so, because the driver only delays the next command if a navigation has begun. Then the page is queried for
//! the element that received the event; a click that another element received is a failure.
//!
//! Drivers compute the position of an element in a frame as if no frame were scaled or rotated. Therefore its point is
//! converted here from frame to frame, up to the page in which the browser accepts pointer commands.
//!
//! Dragging consists of a press, several moves and a release, as with a mouse. Chromium converts these into HTML5 drag
//! and drop events itself, so both kinds of pages work; no synthetic events are created.

use std::time::Duration;

use serde_json::{Value as Json, json};
use tokio::time::Instant;

use super::command::{Command, ElementId};
use super::element_command::NOTHING;
use super::engine;
use super::errors::{self, CommandError};
use super::locate::{LocatorQuery, LocatorResult};
use super::page::{PROMPT, Page};
use crate::names::Reason;
use crate::outcome::Failure;
use crate::scenario::{Engine, Locator, MouseButton, Scroll};
use crate::values::Values;

/// Lets the page react to an event, and then returns which element received it.
const BEGUN: &str = "return wachta.turn().then(() => wachta.received());";

/// Returns which element received the event.
const RECEIVED: &str = "return wachta.received();";

/// Converts a point of a frame's page into one of the surrounding page.
const THROUGH: &str = "return wachta.through(...arguments[0]);";

/// Scrolls the page, or the scrollable part in its middle if the page itself cannot be scrolled.
const SCROLL: &str = "
    const {get, frame} = wachta, by = arguments[0], root = get(document, 'scrollingElement') || get(document, 'documentElement');
    const scrolls = element => get(element, 'scrollHeight') > get(element, 'clientHeight') + 1
      && (element === root || ['auto', 'scroll', 'overlay'].includes(getComputedStyle(element).overflowY));
    let part = root;
    if (!scrolls(root)) {
      part = wachta.call(document, 'elementFromPoint', innerWidth / 2, innerHeight / 2);
      while (part && !scrolls(part)) part = get(part, 'parentElement');
    }
    wachta.call(part || root, 'scrollBy', {top: by, behavior: 'instant'});
    return frame();";

/// Time within which a frame must report which element received an event.
const FRAME_PATIENCE: Duration = Duration::from_secs(2);

/// Scrolls by most of the visible height.
const SCROLL_ON: &str = "return wachta.scrollOn();";

/// Time to search for the element before scrolling further.
const LOOK: Duration = Duration::from_millis(50);

/// Time for a page to append more content before scrolling further.
const COMING: Duration = Duration::from_millis(400);

fn move_to(element: &ElementId, at: &Json, milliseconds: u64) -> Json {
    let (x, y) = (at[0].as_i64().unwrap_or(0), at[1].as_i64().unwrap_or(0));
    json!({"type": "pointerMove", "duration": milliseconds, "origin": element.json(), "x": x, "y": y})
}

/// Moves the pointer to the point of a query result at which the element can be hit; `by` is an offset.
fn move_there(answer: &LocatorResult, element: &ElementId, by: [i64; 2], milliseconds: u64) -> Json {
    let Some(point) = answer.point() else { return move_to(element, &json!(by), milliseconds) };
    let (x, y) = (point[0] + by[0], point[1] + by[1]);
    json!({"type": "pointerMove", "duration": milliseconds, "origin": "viewport", "x": x.max(0), "y": y.max(0)})
}

fn nudge(x: i32, y: i32) -> Json {
    json!({"type": "pointerMove", "duration": 20, "origin": "pointer", "x": x, "y": y})
}

fn press(button: u8) -> [Json; 2] {
    [json!({"type": "pointerDown", "button": button}), json!({"type": "pointerUp", "button": button})]
}

/// Returns whether a plain click should use the driver's command, because it is as good or because a mouse cannot do
/// it.
pub(super) fn is_own(engine: Engine, answer: &LocatorResult) -> bool {
    let as_well = !engine::kind(engine).clicks_by_pointer && !answer.is("odd") && answer.0["pointed"].is_null();
    as_well || answer.is("own")
}

/// Returns the command for a plain click.
pub(super) fn left_click(engine: Engine, answer: &LocatorResult, element: &ElementId) -> Command {
    if is_own(engine, answer) {
        return Command::element(element, "click", json!({}));
    }
    let [down, up] = press(0);
    Command::mouse(&[move_there(answer, element, [0, 0], 0), down, up])
}

impl Page {
    /// Clicks an element.
    pub(super) async fn click(
        &mut self,
        target: &Locator,
        button: MouseButton,
        position: Option<(f64, f64)>,
        force: bool,
        values: &Values,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let position = position.map(|(x, y)| [x, y]);
        let query =
            LocatorQuery::new(target, values)?.with(json!({"then": "click", "position": position, "force": force}));
        self.patience(deadline).await.map_err(CommandError::failure)?;
        let number = match button {
            MouseButton::Left => 0,
            MouseButton::Middle => 1,
            MouseButton::Right => 2,
        };
        let plain = number == 0 && position.is_none();
        let engine = self.session().engine;
        let answer = self
            .once(&query, deadline, &|answer, element| {
                if plain {
                    return Some(left_click(engine, answer, element));
                }
                let [down, up] = press(number);
                let there = match answer.point() {
                    Some(_) => move_there(answer, element, [0, 0], 0),
                    None => move_to(element, &answer.0["at"], 0),
                };
                Some(Command::mouse(&[there, down, up]))
            })
            .await?;
        let seen = self.see_who_got_it(&query, plain && is_own(engine, &answer), deadline).await;
        if !force {
            return seen;
        }
        let got = seen.err().map(|failure| format!("; {}", failure.message));
        self.remark(format!("{} was clicked by force{}", query.shown, got.unwrap_or_default()));
        Ok(())
    }

    /// Lets the page react to a click, and checks which element received it.
    pub(super) async fn see_who_got_it(
        &mut self,
        query: &LocatorQuery,
        by_driver: bool,
        deadline: Instant,
    ) -> Result<(), Failure> {
        if !self.has_realms() {
            return if by_driver { Ok(()) } else { self.wait_for_effects(deadline).await };
        }
        // Entering another frame changes the documents that are queried.
        let chain = self.place.chain.clone();
        let (script, document) = (if by_driver { RECEIVED } else { BEGUN }, self.document());
        let mut seen = self.ask_begun(script, deadline).await?;
        if seen.is_null() && document == self.document() {
            for level in chain.iter().rev() {
                seen = self.in_document(&level.outer, RECEIVED, &Json::Null, deadline).await.unwrap_or_default();
                if !seen.is_null() {
                    break;
                }
            }
        }
        match query.element(&seen["other"]) {
            Some(other) => Err(query.placed(
                Failure::new(Reason::Assertion, format!("{} did not receive the click, but {other} did", query.shown))
                    .compared(format!("a click on {}", query.shown), format!("a click on {other}")),
            )),
            None => Ok(()),
        }
    }

    /// Converts the point of a query result from the frame of the step outward, to the outermost document that accepts
    /// pointer commands. Removes the point if the frame cannot be reached.
    pub(super) async fn point_outward(
        &mut self,
        answer: &mut LocatorResult,
        deadline: Instant,
    ) -> Result<(), CommandError> {
        let engine = engine::kind(self.session().engine);
        if answer.point().is_none() || !self.has_realms() {
            if !self.place.path.is_empty() {
                // Only the driver's own command is possible here.
                answer.forget("point");
            }
            return Ok(());
        }
        if self.place.chain.is_empty() && !engine.clicks_by_pointer {
            return Ok(());
        }
        let reaches = engine.points_into_other_origins;
        let mut context = self.document();
        for level in self.place.chain.clone().iter().rev() {
            if !reaches && !level.same {
                break;
            }
            let argument = json!([level.element.json(), answer.0["point"]]);
            let found = self.in_document(&level.outer, THROUGH, &argument, deadline).await?;
            if found["why"].is_array() {
                answer.0["why"] = found["why"].clone();
                answer.forget("element");
                return Ok(());
            }
            answer.0["point"] = found["point"].clone();
            context.clone_from(&level.outer);
        }
        answer.0["pointed"] = context.into();
        Ok(())
    }

    /// Runs a command on the element of a query result. Mouse actions use the document to which its point was
    /// converted.
    pub(super) async fn point(
        &mut self,
        command: Command,
        answer: &LocatorResult,
        limit: Duration,
    ) -> Result<(), CommandError> {
        // Keys go to the focused element in any frame of the window.
        let of_keys = self.types_by_keys().filter(|_| command.is_keys());
        match (command.actions(), of_keys.as_deref().or(answer.0["pointed"].as_str())) {
            (Some(actions), Some(context)) => {
                let params = json!({"context": context, "actions": actions});
                self.ask("input.performActions", params, limit).await.map(drop)
            }
            _ => self.call_in_frame(command, limit).await.map(drop),
        }
    }

    /// Lets the page react to an event: a form is submitted or a link followed shortly after it.
    pub(super) async fn wait_for_effects(&mut self, deadline: Instant) -> Result<(), Failure> {
        self.ask_begun(BEGUN, deadline).await.map(drop)
    }

    async fn ask_begun(&mut self, script: &str, deadline: Instant) -> Result<Json, Failure> {
        // A page with an open dialog does nothing else. If the next step expects a dialog, it waits for it, and the
        // page is left alone until then: a driver may answer the dialog before a page is left when it gets another
        // command.
        if self.dialog_is_awaited || self.watch.prompt.borrow().is_some() {
            return Ok(Json::Null);
        }
        let since = Instant::now();
        // The response is lost if the frame is removed with its page.
        let in_frame = !self.place.chain.is_empty();
        let until = if in_frame { deadline.min(since + FRAME_PATIENCE) } else { deadline };
        match self.script(script, &Json::Null, until).await {
            Err(CommandError::Timeout(_)) if in_frame => Ok(Json::Null),
            Err(CommandError::Timeout(text)) => {
                let text = format!("the page was not ready in time: {text}");
                Err(errors::hung(text, None).waited(since.elapsed()))
            }
            Err(trouble) if trouble.is_final() => Err(trouble.failure()),
            Ok(seen) => Ok(seen),
            // The event was received; it has closed the window or led to another page.
            Err(_) => Ok(Json::Null),
        }
    }

    /// Double-clicks an element.
    pub(super) async fn double_click(
        &mut self,
        target: &Locator,
        values: &Values,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let query = LocatorQuery::new(target, values)?.with(json!({"then": "click"}));
        self.patience(deadline).await.map_err(CommandError::failure)?;
        self.once(&query, deadline, &|answer, element| {
            let [down, up] = press(0);
            Some(Command::mouse(&[move_there(answer, element, [0, 0], 0), down.clone(), up.clone(), down, up]))
        })
        .await?;
        self.see_who_got_it(&query, false, deadline).await
    }

    /// Moves the pointer over an element. The pointer starts outside of it, so that the page receives the events of
    /// entering.
    pub(super) async fn hover(&mut self, target: &Locator, values: &Values, deadline: Instant) -> Result<(), Failure> {
        let query = LocatorQuery::new(target, values)?.with(json!({"then": "hover"}));
        let over = |answer: &LocatorResult, element: &ElementId| {
            let beside = move_there(answer, element, [-2, -2], 0);
            Some(Command::mouse(&[beside, move_there(answer, element, [0, 0], 20)]))
        };
        self.once(&query, deadline, &over).await.map(drop)
    }

    /// Drags an element to another one.
    pub(super) async fn drag(
        &mut self,
        target: &Locator,
        to: &Locator,
        values: &Values,
        deadline: Instant,
    ) -> Result<(), Failure> {
        // The target is located before anything is dragged.
        self.once(&LocatorQuery::new(to, values)?.with(json!({"then": "scroll"})), deadline, NOTHING).await?;
        // Selected text would be dragged instead.
        let from = LocatorQuery::new(target, values)?.with(json!({"then": "hover", "unselect": true}));
        // Menus that opened under the pointer close when it leaves, which may move other elements. Therefore the
        // element is located again afterwards.
        self.once(&from, deadline, &|answer, element| Some(Command::mouse(&[move_there(answer, element, [0, 0], 0)])))
            .await?;
        self.once(&from, deadline, &|answer, element| {
            let [down, _] = press(0);
            Some(Command::mouse(&[move_there(answer, element, [0, 0], 0), down, nudge(3, 3), nudge(6, 6)]))
        })
        .await?;
        let onto = LocatorQuery::new(to, values)?.with(json!({"then": "hover"}));
        let dropped = self
            .once(&onto, deadline, &|answer, element| {
                let [_, up] = press(0);
                let near = move_there(answer, element, [-4, -4], 100);
                Some(Command::mouse(&[near, move_there(answer, element, [0, 0], 50), nudge(1, 1), up]))
            })
            .await;
        if dropped.is_err() {
            // The button must not stay pressed for the following steps.
            let _ = match self.bidi() {
                Some(_) => self.ask("input.releaseActions", json!({"context": self.window}), PROMPT).await,
                None => self.call(Command::delete("actions"), PROMPT).await,
            };
        }
        dropped.map(drop)
    }

    /// Scrolls until an element appears. At the end of the page, waits for more content.
    async fn scroll_until(&mut self, target: &Locator, values: &Values, deadline: Instant) -> Result<(), Failure> {
        let query = LocatorQuery::new(target, values)?;
        let mut patience = LOOK;
        loop {
            let near = deadline.min(Instant::now() + patience);
            match self.once(&query.clone().with(json!({"then": "scroll"})), near, NOTHING).await {
                Ok(_) => return Ok(()),
                Err(failure) if failure.reason != Reason::NotFound => return Err(failure),
                Err(failure) if Instant::now() >= deadline => return Err(failure),
                Err(_) => {}
            }
            self.enter(deadline).await.map_err(CommandError::failure)?;
            match self.script(SCROLL_ON, &Json::Null, deadline).await {
                // At the end of the page, more content may be loaded.
                Ok(went_on) => patience = if went_on == true { LOOK } else { COMING },
                Err(CommandError::Again(_)) => {}
                Err(trouble) => return Err(trouble.failure()),
            }
        }
    }

    /// Scrolls the page.
    pub(super) async fn scroll(&mut self, scroll: &Scroll, values: &Values, deadline: Instant) -> Result<(), Failure> {
        match scroll {
            Scroll::To(target) => {
                let query = LocatorQuery::new(target, values)?.with(json!({"then": "scroll"}));
                self.once(&query, deadline, NOTHING).await.map(drop)
            }
            Scroll::By(pixels) => {
                if !self.place.path.is_empty() {
                    self.poll(&[LocatorQuery::page()], deadline, |_| Ok(())).await?;
                }
                self.script(SCROLL, &json!(pixels), deadline).await.map(drop).map_err(CommandError::failure)
            }
            Scroll::Until(target) => self.scroll_until(target, values, deadline).await,
        }
    }
}
