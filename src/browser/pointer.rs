//! What is done with the mouse, by pointer actions; a plain click is the driver's own where that is the better one.
//!
//! Pointer actions end when the page has seen the event. What the page does then may begin a moment later: it gets that
//! moment, since the driver keeps the next command back only from a navigation that has begun. Then it is asked who has
//! got the event: a click that somebody else got is a failure.
//!
//! Drivers place an element of a frame as if no frame were scaled or turned, so that its point is counted outward here,
//! frame by frame, to the page that the browser can be pointed at.
//!
//! Dragging is a press, several moves and a release, as by hand. Chromium turns them into the events of HTML5 drag and
//! drop itself, so that both kinds of pages are served; no events are made up.

use std::time::Duration;

use serde_json::{Value as Json, json};
use tokio::time::Instant;

use super::act::NOTHING;
use super::command::{Command, ElementId};
use super::engine;
use super::locate::{Answer, Query};
use super::page::{PROMPT, Page};
use super::verdict::{self, Trouble};
use crate::names::Reason;
use crate::outcome::Failure;
use crate::scenario::{Engine, MouseButton, Scroll, Target};
use crate::values::Values;

/// Lets the page begin what an event has led to, and comes back after that.
const BEGUN: &str = "return wachta.turn().then(() => wachta.received());";

/// Who has got the event.
const RECEIVED: &str = "return wachta.received();";

/// The point of a frame's page as one of the page around it.
const THROUGH: &str = "return wachta.through(...arguments[0]);";

/// Scrolls what there is to scroll: the page, else the part of it that is in its middle.
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

/// How long a frame may take to say who has got an event.
const FRAME_PATIENCE: Duration = Duration::from_secs(2);

/// Scrolls on by most of what can be seen.
const SCROLL_ON: &str = "return wachta.scrollOn();";

/// How long is looked for what was scrolled for before it is scrolled further.
const LOOK: Duration = Duration::from_millis(50);

/// How long what a page adds to its end may take to come before it is scrolled further.
const COMING: Duration = Duration::from_millis(400);

fn move_to(element: &ElementId, at: &Json, milliseconds: u64) -> Json {
    let (x, y) = (at[0].as_i64().unwrap_or(0), at[1].as_i64().unwrap_or(0));
    json!({"type": "pointerMove", "duration": milliseconds, "origin": element.json(), "x": x, "y": y})
}

/// Moves to where an answer says that the element can be met; `by` is a distance from there.
fn move_there(answer: &Answer, element: &ElementId, by: [i64; 2], milliseconds: u64) -> Json {
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

/// Whether a plain click is better left to the driver: where it does as well, and where a mouse cannot do it.
pub(super) fn is_own(engine: Engine, answer: &Answer) -> bool {
    let as_well = !engine::kind(engine).clicks_by_pointer && !answer.is("odd") && answer.0["pointed"].is_null();
    as_well || answer.is("own")
}

/// A plain click.
pub(super) fn left_click(engine: Engine, answer: &Answer, element: &ElementId) -> Command {
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
        target: &Target,
        button: MouseButton,
        position: Option<(f64, f64)>,
        force: bool,
        values: &Values,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let position = position.map(|(x, y)| [x, y]);
        let query = Query::new(target, values)?.with(json!({"then": "click", "position": position, "force": force}));
        self.patience(deadline).await.map_err(Trouble::failure)?;
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

    /// Lets the page begin what a click has led to, and sees who has got it.
    pub(super) async fn see_who_got_it(
        &mut self,
        query: &Query,
        by_driver: bool,
        deadline: Instant,
    ) -> Result<(), Failure> {
        if !self.has_realms() {
            return if by_driver { Ok(()) } else { self.let_begin(deadline).await };
        }
        // Entering another frame asks other documents.
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
                Failure::new(Reason::Assertion, format!("{} did not get the click, but {other} did", query.shown))
                    .compared(format!("a click on {}", query.shown), format!("a click on {other}")),
            )),
            None => Ok(()),
        }
    }

    /// Counts the point of an answer outward from the frame of the step, as far as the browser can be pointed at; takes the
    /// element from an answer whose frame is not in reach.
    pub(super) async fn point_outward(&mut self, answer: &mut Answer, deadline: Instant) -> Result<(), Trouble> {
        let engine = engine::kind(self.session().engine);
        if answer.point().is_none() || !self.has_realms() {
            if !self.place.path.is_empty() {
                // The driver's own way is all there is.
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

    /// Runs a command on what an answer has found; the mouse goes where its point was counted to.
    pub(super) async fn point(&mut self, command: Command, answer: &Answer, limit: Duration) -> Result<(), Trouble> {
        // Keys go to whatever has the focus, in whichever frame of the window.
        let of_keys = self.types_by_keys().filter(|_| command.is_keys());
        match (command.actions(), of_keys.as_deref().or(answer.0["pointed"].as_str())) {
            (Some(actions), Some(context)) => {
                let params = json!({"context": context, "actions": actions});
                self.ask("input.performActions", params, limit).await.map(drop)
            }
            _ => self.call_in_frame(command, limit).await.map(drop),
        }
    }

    /// Lets the page begin what an event has led to: a form is sent, a link followed, a little after the event.
    pub(super) async fn let_begin(&mut self, deadline: Instant) -> Result<(), Failure> {
        self.ask_begun(BEGUN, deadline).await.map(drop)
    }

    async fn ask_begun(&mut self, script: &str, deadline: Instant) -> Result<Json, Failure> {
        // A page that shows a dialog does nothing else. One that is to show one is waited for by the next step, and left alone:
        // a driver may answer the question before a page is left when it is asked for something else.
        if self.dialog_is_awaited || self.watch.prompt.borrow().is_some() {
            return Ok(Json::Null);
        }
        let since = Instant::now();
        // A frame that goes with its page takes the answer along.
        let in_frame = !self.place.chain.is_empty();
        let until = if in_frame { deadline.min(since + FRAME_PATIENCE) } else { deadline };
        match self.script(script, &Json::Null, until).await {
            Err(Trouble::Timeout(_)) if in_frame => Ok(Json::Null),
            Err(Trouble::Timeout(text)) => {
                let text = format!("the page was not ready in time: {text}");
                Err(verdict::hung(text, None).waited(since.elapsed()))
            }
            Err(trouble) if trouble.is_final() => Err(trouble.failure()),
            Ok(seen) => Ok(seen),
            // The event was seen; a window that has closed, or a page that has gone on, is what it led to.
            Err(_) => Ok(Json::Null),
        }
    }

    /// Clicks an element twice.
    pub(super) async fn double_click(
        &mut self,
        target: &Target,
        values: &Values,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let query = Query::new(target, values)?.with(json!({"then": "click"}));
        self.patience(deadline).await.map_err(Trouble::failure)?;
        self.once(&query, deadline, &|answer, element| {
            let [down, up] = press(0);
            Some(Command::mouse(&[move_there(answer, element, [0, 0], 0), down.clone(), up.clone(), down, up]))
        })
        .await?;
        self.see_who_got_it(&query, false, deadline).await
    }

    /// Moves the pointer over an element. It comes from beside it, so that the page sees it come.
    pub(super) async fn hover(&mut self, target: &Target, values: &Values, deadline: Instant) -> Result<(), Failure> {
        let query = Query::new(target, values)?.with(json!({"then": "hover"}));
        let over = |answer: &Answer, element: &ElementId| {
            let beside = move_there(answer, element, [-2, -2], 0);
            Some(Command::mouse(&[beside, move_there(answer, element, [0, 0], 20)]))
        };
        self.once(&query, deadline, &over).await.map(drop)
    }

    /// Drags an element to another.
    pub(super) async fn drag(
        &mut self,
        target: &Target,
        to: &Target,
        values: &Values,
        deadline: Instant,
    ) -> Result<(), Failure> {
        // Nothing is taken before it is known where to put it.
        self.once(&Query::new(to, values)?.with(json!({"then": "scroll"})), deadline, NOTHING).await?;
        // A text that is selected would be dragged instead.
        let from = Query::new(target, values)?.with(json!({"then": "hover", "unselect": true}));
        // What opened under the pointer closes when it leaves, and moves what is below: it is looked at again after that.
        self.once(&from, deadline, &|answer, element| Some(Command::mouse(&[move_there(answer, element, [0, 0], 0)])))
            .await?;
        self.once(&from, deadline, &|answer, element| {
            let [down, _] = press(0);
            Some(Command::mouse(&[move_there(answer, element, [0, 0], 0), down, nudge(3, 3), nudge(6, 6)]))
        })
        .await?;
        let onto = Query::new(to, values)?.with(json!({"then": "hover"}));
        let dropped = self
            .once(&onto, deadline, &|answer, element| {
                let [_, up] = press(0);
                let near = move_there(answer, element, [-4, -4], 100);
                Some(Command::mouse(&[near, move_there(answer, element, [0, 0], 50), nudge(1, 1), up]))
            })
            .await;
        if dropped.is_err() {
            // The button must not stay down for the steps that follow.
            let _ = match self.bidi() {
                Some(_) => self.ask("input.releaseActions", json!({"context": self.window}), PROMPT).await,
                None => self.call(Command::delete("actions"), PROMPT).await,
            };
        }
        dropped.map(drop)
    }

    /// Scrolls on until an element has come. At the end of the page it waits for more of it.
    async fn scroll_until(&mut self, target: &Target, values: &Values, deadline: Instant) -> Result<(), Failure> {
        let query = Query::new(target, values)?;
        let mut patience = LOOK;
        loop {
            let near = deadline.min(Instant::now() + patience);
            match self.once(&query.clone().with(json!({"then": "scroll"})), near, NOTHING).await {
                Ok(_) => return Ok(()),
                Err(failure) if failure.reason != Reason::NotFound => return Err(failure),
                Err(failure) if Instant::now() >= deadline => return Err(failure),
                Err(_) => {}
            }
            self.enter(deadline).await.map_err(Trouble::failure)?;
            match self.script(SCROLL_ON, &Json::Null, deadline).await {
                // At the end more may come.
                Ok(went_on) => patience = if went_on == true { LOOK } else { COMING },
                Err(Trouble::Again(_)) => {}
                Err(trouble) => return Err(trouble.failure()),
            }
        }
    }

    /// Scrolls.
    pub(super) async fn scroll(&mut self, scroll: &Scroll, values: &Values, deadline: Instant) -> Result<(), Failure> {
        match scroll {
            Scroll::To(target) => {
                let query = Query::new(target, values)?.with(json!({"then": "scroll"}));
                self.once(&query, deadline, NOTHING).await.map(drop)
            }
            Scroll::By(pixels) => {
                if !self.place.path.is_empty() {
                    self.poll(&[Query::page()], deadline, |_| Ok(())).await?;
                }
                self.script(SCROLL, &json!(pixels), deadline).await.map(drop).map_err(Trouble::failure)
            }
            Scroll::Until(target) => self.scroll_until(target, values, deadline).await,
        }
    }
}
