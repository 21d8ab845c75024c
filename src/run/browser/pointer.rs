//! What is done with the mouse, by pointer actions; a plain click is the driver's own where that is the better one.
//!
//! Pointer actions end when the page has seen the event. What the page does then may begin a moment later: it gets that
//! moment, since the driver keeps the next command back only from a navigation that has begun.
//!
//! Dragging is a press, several moves and a release, as by hand. Chromium turns them into the events of HTML5 drag and
//! drop itself, so that both kinds of pages are served; no events are made up.

use serde_json::{Value as Json, json};
use tokio::time::Instant;

use super::act::NOTHING;
use super::command::{Command, ElementId};
use super::engine;
use super::locate::{Answer, Query};
use super::page::{PROMPT, Page};
use super::verdict::{self, Trouble};
use crate::outcome::Failure;
use crate::run::Values;
use crate::scenario::{MouseButton, Scroll, Target};

/// Lets the page begin what an event has led to, and comes back after that.
const BEGUN: &str = "return new Promise(done => setTimeout(done));";

/// Scrolls what there is to scroll: the page, else the part of it that is in its middle.
const SCROLL: &str = "
    const by = arguments[0], root = document.scrollingElement || document.documentElement;
    const scrolls = element => element.scrollHeight > element.clientHeight + 1
      && (element === root || ['auto', 'scroll', 'overlay'].includes(getComputedStyle(element).overflowY));
    let part = root;
    if (!scrolls(root)) {
      part = document.elementFromPoint(innerWidth / 2, innerHeight / 2);
      while (part && !scrolls(part)) part = part.parentElement;
    }
    (part || root).scrollBy({top: by, behavior: 'instant'});
    return new Promise(done => { requestAnimationFrame(done); setTimeout(done, 250); });";

fn move_to(element: &ElementId, at: &Json, milliseconds: u64) -> Json {
    let (x, y) = (at[0].as_i64().unwrap_or(0), at[1].as_i64().unwrap_or(0));
    json!({"type": "pointerMove", "duration": milliseconds, "origin": element.json(), "x": x, "y": y})
}

fn move_onto(point: &Json) -> Json {
    json!({"type": "pointerMove", "duration": 0, "origin": "viewport", "x": point[0], "y": point[1]})
}

fn nudge(x: i32, y: i32) -> Json {
    json!({"type": "pointerMove", "duration": 20, "origin": "pointer", "x": x, "y": y})
}

fn press(button: u8) -> [Json; 2] {
    [json!({"type": "pointerDown", "button": button}), json!({"type": "pointerUp", "button": button})]
}

impl Page {
    /// Clicks an element.
    pub(super) async fn click(
        &mut self,
        target: &Target,
        button: MouseButton,
        position: Option<(f64, f64)>,
        values: &Values,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let position = position.map(|(x, y)| [x, y]);
        let query = Query::new(target, values)?.with(json!({"then": "click", "position": position}));
        self.patience(deadline).await.map_err(Trouble::failure)?;
        let number = match button {
            MouseButton::Left => 0,
            MouseButton::Middle => 1,
            MouseButton::Right => 2,
        };
        let plain = number == 0 && position.is_none();
        let own = plain && !engine::kind(self.session().engine).clicks_by_pointer;
        let at_the_top = self.place.path.is_empty();
        let answer = self
            .once(&query, deadline, &|answer, element| {
                if own || plain && answer.is("own") {
                    return Some(Command::element(element, "click", json!({})));
                }
                let [down, up] = press(number);
                // A point of the page needs no look at the element any more, but is the frame's own within one.
                let there =
                    if at_the_top { move_onto(&answer.0["point"]) } else { move_to(element, &answer.0["at"], 0) };
                Some(Command::mouse(&[there, down, up]))
            })
            .await?;
        if own || plain && answer.is("own") { Ok(()) } else { self.let_begin(deadline).await }
    }

    /// Lets the page begin what an event has led to: a form is sent, a link followed, a little after the event.
    pub(super) async fn let_begin(&mut self, deadline: Instant) -> Result<(), Failure> {
        // A page that shows a dialog does nothing else. One that is to show one is waited for by the next step, and left alone:
        // a driver may answer the question before a page is left when it is asked for something else.
        if self.dialog_is_awaited || self.watch.prompt.borrow().is_some() {
            return Ok(());
        }
        let since = Instant::now();
        match self.script(BEGUN, &Json::Null, deadline).await {
            Err(Trouble::Timeout(text)) => {
                let text = format!("the page was not ready in time: {text}");
                Err(verdict::hung(text, None).waited(since.elapsed()))
            }
            Err(trouble) if trouble.is_final() => Err(trouble.failure()),
            // The event was seen; a window that has closed, or a page that has gone on, is what it led to.
            Ok(_) | Err(_) => Ok(()),
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
        self.once(&query, deadline, &|_, element| {
            let [down, up] = press(0);
            Some(Command::mouse(&[move_to(element, &Json::Null, 0), down.clone(), up.clone(), down, up]))
        })
        .await?;
        self.let_begin(deadline).await
    }

    /// Moves the pointer over an element. It comes from beside it, so that the page sees it come.
    pub(super) async fn hover(&mut self, target: &Target, values: &Values, deadline: Instant) -> Result<(), Failure> {
        let query = Query::new(target, values)?.with(json!({"then": "hover"}));
        let over = |_: &Answer, element: &ElementId| {
            Some(Command::mouse(&[move_to(element, &json!([-2, -2]), 0), move_to(element, &Json::Null, 20)]))
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
        let from = Query::new(target, values)?.with(json!({"then": "hover"}));
        // What opened under the pointer closes when it leaves, and moves what is below: it is looked at again after that.
        self.once(&from, deadline, &|_, element| Some(Command::mouse(&[move_to(element, &Json::Null, 0)]))).await?;
        self.once(&from, deadline, &|_, element| {
            let [down, _] = press(0);
            Some(Command::mouse(&[move_to(element, &Json::Null, 0), down, nudge(3, 3), nudge(6, 6)]))
        })
        .await?;
        let onto = Query::new(to, values)?.with(json!({"then": "hover"}));
        let dropped = self
            .once(&onto, deadline, &|_, element| {
                let [_, up] = press(0);
                let near = move_to(element, &json!([-4, -4]), 100);
                Some(Command::mouse(&[near, move_to(element, &Json::Null, 50), nudge(1, 1), up]))
            })
            .await;
        if dropped.is_err() {
            // The button must not stay down for the steps that follow.
            let _ = self.call(Command::delete("actions"), PROMPT).await;
        }
        dropped.map(drop)
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
        }
    }
}
