//! Fields and boxes: `fill`, `clear`, `check`, `uncheck`.
//!
//! Text is typed, so that the page sees keys; only fields that a picker or a locale stands before get their value from
//! the script. A field that a secret was typed into is remembered, so that no picture shows it.

use serde_json::json;
use tokio::time::Instant;

use super::act::NOTHING;
use super::command::Command;
use super::filmstrip::Filmstrip;
use super::keys::{BACKSPACE, END, SELECT_ALL};
use super::locate::Query;
use super::page::Page;
use super::picture::Typed;
use super::pointer::{is_own, left_click};
use super::verdict::Trouble;
use crate::diagnostic::At;
use crate::outcome::Failure;
use crate::run::Values;
use crate::scenario::{Target, Template};
use crate::secret::Secret;

impl Page {
    /// Replaces the content of a field, or adds to it.
    pub(super) async fn fill(
        &mut self,
        target: &Target,
        with: &At<Template>,
        append: bool,
        values: &Values,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let text = values.fill(with).map_err(|failure| failure.at(with.span))?;
        self.type_into(target, &text, append, values, deadline).await
    }

    /// Empties a field.
    pub(super) async fn clear(&mut self, target: &Target, values: &Values, deadline: Instant) -> Result<(), Failure> {
        self.type_into(target, "", false, values, deadline).await
    }

    async fn type_into(
        &mut self,
        target: &Target,
        text: &str,
        append: bool,
        values: &Values,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let query = Query::new(target, values)?.with(json!({"then": "type", "text": text, "append": append}));
        let secret = values.masker().is_secret(text);
        if secret {
            values.masker().typed(text);
        }
        let blind = self.filmstrip.as_ref().filter(|_| secret).map(Filmstrip::blind);
        let answer = self
            .once(&query, deadline, &|answer, element| {
                // A password field shows nothing of it.
                if let Some(blind) = &blind
                    && !answer.is("password")
                {
                    blind();
                }
                let keys = match (text, append) {
                    ("", true) => return None,
                    ("", false) if answer.is("empty") => return None,
                    ("", false) if answer.is("shadow") => format!("{SELECT_ALL}{BACKSPACE}"),
                    ("", false) => BACKSPACE.to_owned(),
                    (text, false) if answer.is("shadow") && !answer.is("empty") => format!("{SELECT_ALL}{text}"),
                    // Where a script may not move the caret, a key does.
                    (text, true) if !answer.is("caret") => format!("{END}{text}"),
                    (text, _) => text.to_owned(),
                };
                Some(Command::element(element, "value", json!({"text": keys})))
            })
            .await?;
        let (frames, element) = (self.place.path.clone(), answer.element());
        if !append {
            self.typed.retain(|typed| typed.element != element);
        }
        if secret {
            let origin = match answer.origin() {
                Some(origin) if frames.is_empty() => Some(origin),
                // A page that has gone on meanwhile is not asked twice.
                _ => self.origin_of_page().await.unwrap_or_default(),
            };
            self.typed.push(Typed { frames, element, text: Secret::new(text.to_owned()), origin });
        }
        Ok(())
    }

    /// Sees to it that a box is checked, or is not: clicks it at most once, and looks whether that helped.
    pub(super) async fn check(
        &mut self,
        target: &Target,
        on: bool,
        values: &Values,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let query = Query::new(target, values)?.with(json!({"then": "check", "on": on, "unseen": true}));
        self.patience(deadline).await.map_err(Trouble::failure)?;
        let engine = self.session().engine;
        let answer = self.once(&query, deadline, &|answer, element| Some(left_click(engine, answer, element))).await?;
        if answer.done() {
            return Ok(());
        }
        self.see_who_got_it(&query, is_own(engine, &answer), deadline).await?;
        self.once(&query.with(json!({"look": true})), deadline, NOTHING).await.map(drop)
    }
}
