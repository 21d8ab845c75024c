//! Pictures of the visible part of a page, of an element or of the whole page, without secrets that the scenario has
//! typed.
//!
//! Before a picture is taken, the text of every field into which a secret was typed is hidden, and shown again
//! afterwards. If that is impossible, no picture is taken.

use std::time::Duration;

use serde_json::{Value as Json, json};
use tokio::time::Instant;
use url::Url;

use super::command::{Command, ElementId, decode};
use super::errors::CommandError;
use super::locate::LocatorQuery;
use super::page::{PROMPT, Page};
use super::typed::SecretField;
use crate::names::Reason;
use crate::outcome::Failure;
use crate::scenario::{Engine, Locator};
use crate::values::Values;

/// Maximum height of a picture of a whole page, in CSS pixels. Taller pictures take seconds, and those above 16384
/// pixels are impossible.
const TALLEST: f64 = 8_000.0;

/// Hides the text of a field and of others with the same text, and returns their previous styles. Password fields do
/// not display text.
const HIDE: &str = "
    const {get, all} = wachta;
    const [known, text] = arguments[0], found = new Set(known ? [known] : []);
    const walk = root => { for (const one of all(root, '*')) {
      const shadow = get(one, 'shadowRoot'), kind = get(one, 'localName'), value = get(one, 'value');
      if (shadow) walk(shadow);
      const holds = typeof value === 'string' ? value.includes(text) : get(one, 'isContentEditable') && get(one, 'textContent').includes(text);
      if (holds && (kind === 'input' || kind === 'textarea' || get(one, 'isContentEditable'))) found.add(one);
    } };
    walk(document);
    return [...found].filter(one => get(one, 'type') !== 'password').map(one => {
      const before = wachta.call(one, 'getAttribute', 'style');
      const style = {'-webkit-text-security': 'disc', color: 'transparent', 'text-shadow': 'none', transition: 'none'};
      if (typeof get(one, 'value') !== 'string') style.opacity = '0';
      for (const [name, value] of Object.entries(style)) get(one, 'style').setProperty(name, value, 'important');
      return [one, before];
    });";

/// Restores the styles of the fields.
const UNHIDE: &str = "
    for (const [one, before] of arguments[0]) before === null ? wachta.call(one, 'removeAttribute', 'style') : wachta.call(one, 'setAttribute', 'style', before);";

/// Hidden fields: their frames, and the elements with their styles.
type HiddenFields = Vec<(Vec<LocatorQuery>, Json)>;

impl Page {
    /// Takes a PNG picture of an element, of the whole page, or of its visible part.
    pub async fn screenshot(
        &mut self,
        of: Option<&Locator>,
        full_page: bool,
        within_frame: &[Locator],
        values: &Values,
        timeout: Duration,
    ) -> Result<Vec<u8>, Failure> {
        let deadline = Instant::now() + timeout;
        self.go_into(within_frame, values).await?;
        let picture = self.picture(of, full_page, values, deadline).await;
        let back = self.leave_frames().await.map_err(CommandError::failure);
        let picture = picture?;
        back.map(|()| picture)
    }

    pub(super) async fn picture(
        &mut self,
        of: Option<&Locator>,
        full_page: bool,
        values: &Values,
        deadline: Instant,
    ) -> Result<Vec<u8>, Failure> {
        match of {
            Some(target) => self.screenshot_of(target, values, deadline).await,
            None => self.of_the_page(full_page).await.map_err(CommandError::failure),
        }
    }

    /// Takes a picture of one element.
    async fn screenshot_of(
        &mut self,
        target: &Locator,
        values: &Values,
        deadline: Instant,
    ) -> Result<Vec<u8>, Failure> {
        let query = LocatorQuery::new(target, values)?.with(json!({"then": "scroll"}));
        let path = self.place.path.clone();
        let hidden = self.hide().await.map_err(CommandError::failure)?;
        self.place.path = path;
        let answer = self.once(&query, deadline, &|_, _| None).await;
        let picture = match answer.map(|answer| answer.element()) {
            Ok(Some(element)) => self
                .call_in_frame(Command::of(&element, "screenshot"), PROMPT)
                .await
                .map_err(CommandError::failure)
                .and_then(|answer| png(&answer)),
            Ok(None) => Err(Failure::new(Reason::NotFound, format!("no element matches {}", query.shown))),
            Err(failure) => Err(failure),
        };
        self.unhide(hidden).await;
        picture
    }

    /// Takes a picture of the whole page or its visible part.
    pub(super) async fn of_the_page(&mut self, full: bool) -> Result<Vec<u8>, CommandError> {
        let hidden = self.hide().await?;
        let picture = if full { self.whole().await } else { self.call(Command::get("screenshot"), PROMPT).await };
        self.unhide(hidden).await;
        picture.and_then(|answer| png(&answer).map_err(|failure| CommandError::Other(failure.message)))
    }

    /// Takes a picture of the whole page in the way of Chromium or Firefox, or of its visible part if neither is
    /// available.
    async fn whole(&mut self) -> Result<Json, CommandError> {
        if self.session().engine == Engine::Firefox {
            return match self.call(Command::get("moz/screenshot/full"), PROMPT).await {
                Err(CommandError::Other(_)) => self.call(Command::get("screenshot"), PROMPT).await,
                answer => answer,
            };
        }
        let metrics = Command::cdp("Page.getLayoutMetrics", &json!({}));
        match self.call(metrics, PROMPT).await {
            Ok(metrics) => {
                let size = &metrics["cssContentSize"];
                let (width, height) = (size["width"].as_f64(), size["height"].as_f64());
                if let (Some(width), Some(height)) = (width, height) {
                    let height = height.clamp(1.0, TALLEST);
                    let clip = json!({"x": 0, "y": 0, "width": width.max(1.0), "height": height, "scale": 1});
                    let asked = json!({"format": "png", "captureBeyondViewport": true, "clip": clip});
                    match self.call(Command::cdp("Page.captureScreenshot", &asked), PROMPT).await {
                        Ok(answer) => return Ok(answer["data"].clone()),
                        Err(CommandError::Other(_)) => {}
                        Err(trouble) => return Err(trouble),
                    }
                }
            }
            Err(CommandError::Other(_)) => {}
            Err(trouble) => return Err(trouble),
        }
        self.call(Command::get("screenshot"), PROMPT).await
    }

    /// Hides all texts that must not be seen. The driver is in the page itself afterwards.
    async fn hide(&mut self) -> Result<HiddenFields, CommandError> {
        let mut hidden = Vec::new();
        let typed = std::mem::take(&mut self.typed);
        let mut result = Ok(());
        for (at, mut one) in typed.iter().cloned().enumerate() {
            if result.is_ok() {
                match self.hide_one(&mut one).await {
                    Ok(Some(fields)) => hidden.push((one.frames.clone(), fields)),
                    // The frame or document of the field is gone.
                    Ok(None) | Err(CommandError::Absent(_) | CommandError::Again(_)) => {}
                    Err(trouble) => result = Err(trouble),
                }
            }
            let known = typed[..at].iter().any(|other| other.element == one.element && other.text == one.text);
            if !known {
                self.typed.push(one);
            }
        }
        let back = self.leave_frames().await;
        if let Err(trouble) = result.and(back) {
            self.unhide(hidden).await;
            return Err(trouble);
        }
        Ok(hidden)
    }

    /// Returns the origin of the page in the current window.
    pub(super) async fn origin_of_page(&mut self) -> Result<Option<String>, CommandError> {
        let url = self.call(Command::get("url"), PROMPT).await?;
        let url = url.as_str().and_then(|url| Url::parse(url).ok());
        Ok(url.map(|url| url.origin().ascii_serialization()))
    }

    async fn hide_one(&mut self, typed: &mut SecretField) -> Result<Option<Json>, CommandError> {
        if typed.origin.is_some() && typed.origin != self.origin_of_page().await? {
            return Ok(None);
        }
        self.stand_in(&typed.frames).await?;
        let deadline = Instant::now() + PROMPT;
        let element = typed.element.as_ref().map_or(Json::Null, ElementId::json);
        let fields = match self.script(HIDE, &json!([element, typed.text.expose()]), deadline).await {
            // The field is gone, but another one with the same text may have replaced it.
            Err(CommandError::Again(_)) if typed.element.take().is_some() => {
                self.stand_in(&typed.frames).await?;
                self.script(HIDE, &json!([Json::Null, typed.text.expose()]), deadline).await?
            }
            answer => answer?,
        };
        Ok(fields.as_array().is_some_and(|fields| !fields.is_empty()).then_some(fields))
    }

    /// Shows the hidden texts again, in reverse order. Fields that are gone are ignored.
    async fn unhide(&mut self, hidden: HiddenFields) {
        let path = self.place.path.clone();
        for (frames, fields) in hidden.into_iter().rev() {
            if self.stand_in(&frames).await.is_ok() {
                let _ = self.script(UNHIDE, &fields, Instant::now() + PROMPT).await;
            }
        }
        let _ = self.leave_frames().await;
        self.place.path = path;
    }

    async fn stand_in(&mut self, frames: &[LocatorQuery]) -> Result<(), CommandError> {
        self.leave_frames().await?;
        self.place.path = frames.to_vec();
        self.enter(Instant::now() + PROMPT).await
    }
}

fn png(answer: &Json) -> Result<Vec<u8>, Failure> {
    decode(answer).ok_or_else(|| Failure::new(Reason::Driver, "the screenshot of the driver is not an image"))
}
