//! What is done with the mouse. A plain click is the driver's own; everything else is its pointer actions.
//!
//! Dragging is a press, several moves and a release, as by hand. Chromium turns them into the events of HTML5 drag and
//! drop itself, so that both kinds of pages are served; no events are made up.

use serde_json::{Value as Json, json};
use tokio::time::Instant;

use super::act::NOTHING;
use super::command::{Command, ElementId};
use super::locate::{Answer, Query};
use super::page::{PROMPT, Page};
use super::verdict::Trouble;
use crate::outcome::Failure;
use crate::run::Values;
use crate::scenario::{MouseButton, Scroll, Target};

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
        self.once(&query, deadline, &|answer, element| {
            if plain {
                return Some(Command::element(element, "click", json!({})));
            }
            let [down, up] = press(number);
            Some(Command::mouse(&[move_to(element, &answer.0["at"], 0), down, up]))
        })
        .await
        .map(drop)
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
        .await
        .map(drop)
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
